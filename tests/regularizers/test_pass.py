"""What a term sees of a pass: inputs, targets and losses of all kinds, derivatives, extra passes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, M, Mixup, assert_close, batch, network
from tinydl_kernels.machine.errors import GraphError, ShapeError

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L2,
    ConfidencePenalty,
    DataGrad,
    FrobeniusJacobian,
    Objective,
    Pass,
    Penalty,
    SpectReg,
)

# Inputs, targets and losses of other kinds
# ------------------------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(D, M).double(), nn.Linear(2, M).double()

    def forward(self, x: td.Tensor, extra: td.Tensor) -> td.Tensor:
        return self.a(x) + self.b(extra)


def test_several_inputs() -> None:
    """Rows of the derivative by all of them."""
    model, (x, y) = TwoInputs(), batch()
    extra = td.tensor(np.random.default_rng(5).standard_normal((B, 2)))
    terms = Objective(model, td.cross_entropy, [DataGrad(1.0), FrobeniusJacobian(1.0)])((x, extra), y)
    delta = td.softmax(terms.logits, 1).detach().numpy() - np.eye(M)[y.numpy()]
    weights = np.concatenate([np.array(model.a.weight), np.array(model.b.weight)], 1)
    expected = [((delta @ weights) ** 2).sum(1).mean(), (weights**2).sum()]
    assert_close([p.item() for p in terms.penalties], expected)

    class Slopes(Penalty):
        follows = True

        def __call__(self, seen: Pass) -> td.Tensor:
            rows = seen.slopes(seen.losses)
            assert rows.shape == (B, D + 2)
            assert seen.slopes(seen.losses) is not None
            return (rows * rows).sum() / B

    terms = Objective(model, td.cross_entropy, [Slopes(1.0)])((x, extra), y)
    assert_close([terms.penalties[0].item()], expected[:1])


class Tokens(nn.Module):
    """Integer tokens (B, 2), and numbers beside them."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        td.manual_seed(4)
        self.embedding, self.head = nn.Embedding(5, 3).double(), nn.Linear(6, M).double()
        self.embedding.requires_grad_(not frozen)

    def forward(self, tokens: td.Tensor, *more: td.Tensor) -> td.Tensor:
        z = self.head(self.embedding(tokens).reshape(tokens.shape[0], -1))
        return z + sum(m for m in more) if more else z


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_integer_inputs_are_penalized_at_a_layer(frozen: bool) -> None:
    """Where nothing trainable stands before the layer, too."""
    model, (_, y) = Tokens(frozen), batch()
    tokens = td.tensor(np.random.default_rng(6).integers(0, 5, (B, 2)))
    terms = Objective(model, td.cross_entropy, [DataGrad(1.0, wrt="embedding"), ConfidencePenalty(0.1)])(
        tokens, y
    )
    delta = td.softmax(terms.logits, 1).detach().numpy() - np.eye(M)[y.numpy()]
    assert_close([terms.penalties[0].item()], [((delta @ np.array(model.head.weight)) ** 2).sum(1).mean()])
    terms.total.backward()
    assert (model.embedding.weight.grad is None) is frozen
    numbers = td.tensor(np.random.default_rng(7).standard_normal((B, M)))
    mixed = Objective(model, td.cross_entropy, [FrobeniusJacobian(1.0)])
    with pytest.raises(GraphError, match="frobenius_jacobian: expected a penalty that parameters can change"):
        mixed((tokens, numbers), y)  # the derivative by the numbers alone: the identity


@pytest.mark.parametrize("forward", ["shared", "second"])
def test_spect_reg_at_a_layer(forward: str) -> None:
    """Of a linear head behind it: ‖Wᵀr‖²."""
    model, drawing = network(), {"per": "batch", "forward": forward, "generator": td.Generator(3)}
    objective = Objective(model, td.cross_entropy, [SpectReg(1.0, wrt="1", **drawing)])
    value = objective(*batch()).penalties[0].item()
    r = td.randn(1, M, generator=td.Generator(3), dtype="float64").numpy()
    assert_close([value], [((r @ np.array(model[2].weight)) ** 2).sum()])


def test_the_input_is_followed_only_where_a_term_asks() -> None:
    seen = []

    class Look(L2):
        def __call__(self, at: Pass) -> td.Tensor:
            seen.append(at.x.requires_grad)
            return super().__call__(at)

    x, y = batch()
    for terms in ([Look(1.0)], [Look(1.0), DataGrad(1.0)]):
        Objective(network(), td.cross_entropy, terms)(x, y)
    assert seen == [False, True]
    assert not x.requires_grad

    class Forgot(Penalty):
        def __call__(self, at: Pass) -> td.Tensor:
            return at.slopes(at.losses).sum()

    objective = Objective(network(), td.cross_entropy, [Forgot(1.0)])
    with pytest.raises(GraphError, match="slopes: expected an input to follow, got none of float64; a term"):
        objective(x, y)


def test_an_input_with_a_graph_of_its_own_keeps_it() -> None:
    """A generator's output: the derivative goes on into the generator."""
    generator, critic = nn.Linear(2, D).double(), network()
    z = td.tensor(np.random.default_rng(3).standard_normal((B, 2)))
    for terms in ([], [DataGrad(0.5)]):
        generator.zero_grad()
        objective = Objective(critic, td.cross_entropy, terms)
        objective(generator(z), batch()[1]).total.backward()
        assert np.abs(np.array(generator.weight.grad)).max() > 0


def test_weights_of_samples_weigh_the_loss() -> None:
    """Σ w l / Σ w, whole numbers as if the samples were there so often; penalties stay means."""
    x, y = batch()
    w = np.array([1.0, 2.0, 0.0, 1.0, 3.0, 1.0])
    objective = Objective(network(), td.cross_entropy, [DataGrad(0.1)])
    terms = objective(x, y, weights=td.tensor(w))
    again = np.repeat(np.arange(B), w.astype(int))
    many = objective(td.tensor(x.numpy()[again]), td.tensor(y.numpy()[again]))
    assert_close([terms.loss.item()], [many.loss.item()])
    assert_close([terms.penalties[0].item()], [objective(x, y).penalties[0].item()])
    with pytest.raises(ShapeError, match=r"Objective: expected weights of the samples \(6,\), got \(5,\)"):
        objective(x, y, weights=td.tensor(w[:5]))


def test_a_regression() -> None:
    """Losses (B, k): the loss is the mean of all, a sample's the mean over its outputs."""
    model, (x, _) = nn.Linear(D, M).double(), batch()
    target = td.tensor(np.random.default_rng(2).standard_normal((B, M)))
    terms = Objective(model, td.mse_loss, [DataGrad(1.0)])(x, target)
    residual = terms.logits.detach().numpy() - target.numpy()
    assert_close([terms.loss.item()], [(residual**2).mean()])
    rows = 2 / M * residual @ np.array(model.weight)
    assert_close([terms.penalties[0].item()], [(rows**2).sum(1).mean()])


def test_mixed_targets_through_before() -> None:
    """The penalty sees the mixed batch, and its loss is the mixture of two."""
    x, y = batch()
    objective = Objective(
        network(), td.cross_entropy, [Mixup(generator=td.Generator(3)), DataGrad(0.1), Weights(1.0)]
    )
    terms = objective(x, y)
    share = td.rand(1, generator=(again := td.Generator(3)), dtype="float64").item()
    order = td.randperm(B, generator=again).numpy()
    mixed = share * x.numpy() + (1 - share) * x.numpy()[order]
    hot = np.eye(M)[y.numpy()]
    soft = share * hot + (1 - share) * hot[order]
    plain = Objective(objective.model, td.cross_entropy, [DataGrad(0.1), Weights(1.0)])(
        td.tensor(mixed), td.tensor(soft)
    )
    assert_close([t.item() for t in terms.penalties], [t.item() for t in plain.penalties])
    assert_close([terms.total.item()], [plain.total.item()])


class Weights(Penalty):
    """Cross-entropy from the pass's own target weights."""

    def __call__(self, seen: Pass) -> td.Tensor:
        assert seen.target_weights.dtype == seen.logits.dtype
        return -(seen.target_weights * seen.log_probabilities).sum() / seen.samples


def test_target_weights_of_classes() -> None:
    terms = Objective(network(), td.cross_entropy, [Weights(1.0)])(*batch())
    assert_close([terms.penalties[0].item()], [terms.loss.item()])


class Wasserstein(Penalty):
    """A critic's loss, of real x and of fakes that are given."""

    def __call__(self, seen: Pass) -> td.Tensor:
        fake = seen.again(seen.given["fake"], draws="own", generator=self.generator)
        return fake.logits.mean() - seen.logits.mean()


def test_a_penalty_as_the_loss() -> None:
    critic, (x, _) = network(nn.BatchNorm1d(6)), batch()
    objective = Objective(critic, Wasserstein(2.0), [L2(0.1)])
    fake = td.tensor(np.random.default_rng(8).standard_normal((2 * B, D)))
    terms = objective(x, fake=fake)
    with nn.extra_forward():
        expected = critic(fake).mean().item() - critic(x).mean().item()
    assert_close([terms.loss.item()], [expected])
    assert_close([terms.total.item()], [2 * expected + 0.1 * terms.penalties.l2.item()])
    assert list(objective.state_dict()["terms"]) == ["loss", "l2"]
    with pytest.raises(
        ValueError, match=r"expected a loss on every step, got Wasserstein\(1.0\) with every=2"
    ):
        Objective(critic, Wasserstein(1.0, every=2))
    with pytest.raises(GraphError, match="Pass: expected a loss that gives one value per sample, got none"):
        Objective(critic, Wasserstein(1.0), [DataGrad(0.1)])(x, fake=fake)


# Extra passes
# ------------------------------------------------------------------------------------------------------------


class Probe(Penalty):
    """L2, with whatever is to be tried on the pass."""

    follows = True

    def __init__(self, probe: Callable[[Probe, Pass], Any], layers: tuple[str, ...] = (), **options: Any):
        super().__init__(1.0, **options)
        self.probe, self.layers, self.answer = probe, layers, None

    def __call__(self, seen: Pass) -> td.Tensor:
        self.answer = self.probe(self, seen)
        return sum((p * p).sum() for p in seen.model.parameters())


def probed(model: nn.Module, probe: Callable[[Probe, Pass], Any], **options: Any) -> Any:
    penalty = Probe(probe, **options)
    Objective(model, td.cross_entropy, [penalty])(*batch())
    return penalty.answer


def test_again_repeats_the_draws_or_makes_its_own() -> None:
    model = network(nn.Dropout(0.5), nn.BatchNorm1d(6))
    before = [np.array(b) for b in model.buffers()]

    def probe(penalty: Probe, seen: Pass) -> None:
        moved = [np.array(b).tobytes() for b in model.buffers()]
        stream = td.noise_generator.state_dict()
        same = seen.again()
        np.testing.assert_array_equal(same.logits.detach().numpy(), seen.logits.detach().numpy())
        own = seen.again(draws="own", generator=penalty.generator)
        assert np.abs(own.logits.detach().numpy() - seen.logits.detach().numpy()).max() > 0.01
        assert penalty.generator.state_dict()["counter"] > 0
        np.testing.assert_array_equal(  # of an extra pass its own draws again
            own.again().logits.detach().numpy(), own.logits.detach().numpy()
        )
        assert [np.array(b).tobytes() for b in model.buffers()] == moved
        assert td.noise_generator.state_dict() == stream

    probed(model, probe)
    assert any(np.any(np.array(b) != was) for b, was in zip(model.buffers(), before, strict=True))


def test_again_in_another_mode_with_another_model_and_a_layer_replaced() -> None:
    model, teacher = network(nn.Dropout(0.5), nn.BatchNorm1d(6)), network()
    model[2].eval()
    modes = [m.training for m in model.modules()]

    def probe(penalty: Probe, seen: Pass) -> None:
        evaluated = seen.again(mode="eval")
        assert [m.training for m in model.modules()] == modes
        model.eval()
        np.testing.assert_array_equal(evaluated.logits.detach().numpy(), model(seen.x).detach().numpy())
        for module, training in zip(model.modules(), modes, strict=True):
            object.__setattr__(module, "training", training)
        taught = seen.again(model=teacher).logits
        np.testing.assert_array_equal(taught.detach().numpy(), teacher(seen.x).detach().numpy())
        zeroed = seen.again(replace={"3": lambda h: h * 0}, layers=["3"])
        assert not zeroed.outputs["3"].detach().numpy().any()
        np.testing.assert_array_equal(
            zeroed.logits.detach().numpy(), np.broadcast_to(np.array(model[4].bias), (B, M))
        )
        assert seen.outputs["3"].detach().numpy().any()

    probed(model, probe, layers=("3",))


def test_modes_come_back_after_an_exception() -> None:
    model = network(nn.Dropout(0.5))
    model[1].eval()
    modes = [m.training for m in model.modules()]

    def probe(penalty: Probe, seen: Pass) -> None:
        with pytest.raises(ShapeError):
            seen.again(seen.x[:, :2], mode="eval")
        assert [m.training for m in model.modules()] == modes
        assert not any(m._forward_hooks for m in model.modules())

    probed(model, probe, layers=())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda s: s.again(s.x[:2]),
            ShapeError,
            "again: expected the 6 samples whose draws are repeated, got 2",
        ),
        (lambda s: s.again(draws="own"), ValueError, "again: expected a generator to draw from, got None"),
        (
            lambda s: s.again(draws="other"),
            ValueError,
            r"again: expected draws in \('same', 'own'\), got 'other'",
        ),
        (lambda s: s.again(mode="test"), ValueError, r"again: expected mode in .*, got 'test'"),
    ],
)
def test_extra_passes_that_are_refused(
    call: Callable[[Pass], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        probed(network(nn.Dropout(0.5)), lambda _, seen: call(seen))


def test_a_derivative_is_computed_once() -> None:
    def probe(penalty: Probe, seen: Pass) -> None:
        first = seen.gradients(seen.losses)
        assert seen.gradients(seen.losses) is first
        assert seen.gradients(seen.logits) is not first
        assert seen.losses is seen.losses
        assert seen.log_probabilities is seen.log_probabilities

    probed(network(), probe)


def test_a_leaf_of_an_extra_pass_is_no_parameter() -> None:
    """Of a frozen critic only the interpolated input is a leaf: the penalty would train nothing."""

    class Between(Penalty):
        def __call__(self, seen: Pass) -> td.Tensor:
            extra = seen.again(seen.x.detach().requires_grad_())
            rows = extra.slopes(extra.logits.sum(1))
            return (rows * rows).sum()

    with pytest.raises(GraphError, match="between: expected a penalty that parameters can change"):
        Objective(network().requires_grad_(False), td.cross_entropy, [Between(1.0)])(*batch())
    terms = Objective(network(), td.cross_entropy, [Between(1.0)])(*batch())
    assert terms.penalties[0].item() > 0


def test_a_batchnorm_on_the_logits_is_warned_of() -> None:
    model, (x, y) = nn.Sequential(nn.Linear(D, M), nn.BatchNorm1d(M)).double(), batch()
    for penalty in (FrobeniusJacobian(1.0), SpectReg(1.0, per="batch")):
        objective = Objective(model.train(), td.cross_entropy, [penalty])
        with pytest.warns(UserWarning, match=f"{type(penalty).__name__}: .* BatchNorm .* identically zero"):
            value = objective(x, y).penalties[0].item()
        assert abs(value) < 1e-25
        model.eval()
        assert objective(x, y).penalties[0].item() > 0.01
    model.train()
    assert Objective(model, td.cross_entropy, [SpectReg(1.0)])(x, y).penalties[0].item() > 1e-3


def test_nothing_is_left_of_a_step() -> None:
    """Graphs die by reference counting, whatever the pass has kept."""
    gc.collect()
    gc.disable()
    try:
        model = network(nn.Dropout(0.5))
        terms = [DataGrad(0.1, wrt="1"), SpectReg(0.1, forward="second"), FrobeniusJacobian(0.1)]
        objective = Objective(model, td.cross_entropy, [*terms, ConfidencePenalty(0.1)])
        counts = []
        for i in range(6):
            objective(*batch(i)).total.backward()
            model.zero_grad()
            counts.append(sum(issubclass(type(o), (td.engine.tape.Node, Pass)) for o in gc.get_objects()))
        assert counts[-1] == counts[1]
    finally:
        gc.enable()
