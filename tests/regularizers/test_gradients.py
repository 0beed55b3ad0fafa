"""Gradient penalties against their definitions: closed forms, differences, enumerated
expectations; and every misuse.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import GraphError, ShapeError

import tinydl as td
from tinydl import nn
from tinydl.regularizers import DataGrad, Objective, Pass, Penalty, SpectReg, data_grad, spect_reg

B, D, M = 5, 4, 3  # samples, inputs, logits


def network(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(D, 6), *middle, nn.Tanh(), nn.Linear(6, M)).double()


def batch() -> tuple[td.Tensor, td.Tensor]:
    random = np.random.default_rng(0)
    return td.tensor(random.standard_normal((B, D))), td.tensor(random.integers(0, M, B))


def losses_of(model: nn.Module, x: td.Tensor, target: td.Tensor) -> td.Tensor:
    return td.cross_entropy(model(x), target, reduction="none")


def jacobians(model: nn.Module, x: td.Tensor) -> np.ndarray:
    """(B, M, D), each from a pass of its own."""
    return np.stack([td.jacobian(model)(x[b : b + 1]).detach().numpy()[0, :, 0] for b in range(B)])


# Definitions
# ------------------------------------------------------------------------------------------------------------


def test_closed_forms_of_a_linear_model(backend: str) -> None:
    """∂CE_b/∂x_b = (softmax - onehot) W and r_bᵀJ_b = r_b W."""
    model, (x, target) = nn.Linear(D, M).double(), batch()
    weight = model.weight.numpy()
    x = x.requires_grad_()
    residual = td.softmax(model(x)).detach().numpy() - np.eye(M)[target.numpy()]
    r = np.random.default_rng(1).standard_normal((B, M))
    data, spect = data_grad(losses_of(model, x, target), x), spect_reg(model(x), x, td.tensor(r))
    for penalty, rows in ((data, residual @ weight), (spect, r @ weight)):
        np.testing.assert_allclose(penalty.item(), (rows**2).sum(1).mean(), rtol=1e-13)


@pytest.mark.parametrize("middle", [(), (nn.BatchNorm1d,)], ids=["plain", "batchnorm"])
def test_data_grad_is_the_gradient_of_the_summed_losses(backend: str, middle: Any) -> None:
    """Entry by entry against differences of the sum; under batch statistics that is not
    each loss by its own sample.
    """
    model, (x, target) = network(*[layer(6) for layer in middle]), batch()
    h, summed, own = 1e-5, np.empty((B, D)), np.empty((B, D))
    for b, i in np.ndindex(B, D):
        step = np.zeros((B, D))
        step[b, i] = h
        ahead, behind = (
            losses_of(model, td.tensor(x.numpy() + s), target).detach().numpy() for s in (step, -step)
        )
        summed[b, i], own[b, i] = (ahead - behind).sum() / (2 * h), (ahead - behind)[b] / (2 * h)
    x = x.requires_grad_()
    value = data_grad(losses_of(model, x, target), x).item()
    np.testing.assert_allclose(value, (summed**2).sum(1).mean(), rtol=1e-8)
    assert np.isclose(value, (own**2).sum(1).mean(), rtol=1e-6) == (not middle)


def test_expectation_of_spect_reg_is_the_squared_norm_of_the_jacobian(backend: str) -> None:
    """Exactly: a sum over unit r, and a mean over all r of signs, per batch or per sample."""
    model, (x, _) = network(), batch()
    wanted = (jacobians(model, x) ** 2).sum((1, 2)).mean()
    x = x.requires_grad_()
    logits = model(x)

    def value(r: np.ndarray) -> float:
        return spect_reg(logits, x, td.tensor(np.broadcast_to(r, (B, M)).copy())).item()

    np.testing.assert_allclose(sum(value(r) for r in np.eye(M)), wanted, rtol=1e-12)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=M)))
    np.testing.assert_allclose(np.mean([value(r) for r in signs]), wanted, rtol=1e-12)
    turning = [signs[(k + np.arange(B)) % len(signs)] for k in range(len(signs))]  # another r for each sample
    np.testing.assert_allclose(np.mean([value(r) for r in turning]), wanted, rtol=1e-12)


@pytest.mark.parametrize("forward", ["shared", "second"])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_the_penalty_draws_what_it_says(backend: str, per: str, forward: str) -> None:
    model, (x, target) = network(), batch()
    jacobian = jacobians(model, x)
    objective = Objective(model, td.cross_entropy, [SpectReg(0.5, per, forward, td.Generator(3))])
    r = td.randn((B if per == "sample" else 1), M, generator=td.Generator(3), dtype="float64").numpy()
    expected = (np.einsum("bm,bmd->bd", np.broadcast_to(r, (B, M)), jacobian) ** 2).sum(1).mean()
    np.testing.assert_allclose(objective(x, target).penalties[0].item(), expected, rtol=1e-12)
    values = np.array([objective(x, target).penalties[0].item() for _ in range(400)])
    mean, error = values.mean(), values.std() / np.sqrt(len(values))
    assert abs(mean - (jacobian**2).sum((1, 2)).mean()) < 4 * error


def test_one_r_a_sample_has_less_variance() -> None:
    model, (x, target) = network(), batch()
    spread = {}
    for per in ("sample", "batch"):
        objective = Objective(model, td.cross_entropy, [SpectReg(1.0, per, generator=td.Generator(3))])
        spread[per] = np.std([objective(x, target).penalties[0].item() for _ in range(300)])
    assert spread["sample"] < 0.8 * spread["batch"]


@pytest.mark.parametrize(
    "penalties",
    [
        lambda: [DataGrad(0.7)],
        lambda: [SpectReg(0.3)],
        lambda: [SpectReg(0.3, "batch", "second")],
        lambda: [DataGrad(2.0), SpectReg(0.1), DataGrad(0.5)],
    ],
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradients_of_the_penalized_loss_against_differences(backend: str, penalties: Any, mode: str) -> None:
    """Every parameter along a random direction, with BatchNorm and dropout, random numbers repeated."""
    model, (x, target) = network(nn.BatchNorm1d(6), nn.Dropout(0.4)).train(mode == "train"), batch()
    objective = Objective(model, td.cross_entropy, penalties())

    def total() -> td.Tensor:
        with td.repeat(draws):
            return objective(x, target).total

    with td.remember() as draws:
        objective(x, target)
    parameters = dict(model.named_parameters())
    gradients = td.grad(total(), list(parameters.values()))
    start = {name: np.array(p) for name, p in parameters.items()}
    for i, (name, p) in enumerate(parameters.items()):
        direction = np.random.default_rng(i).standard_normal(p.shape)
        ends = []
        for h in (1e-5, -1e-5):
            model.load_state_dict({name: start[name] + h * direction}, strict=False)
            ends.append(total().item())
        model.load_state_dict({name: start[name]}, strict=False)
        slope = float((gradients[i].numpy() * direction).sum())
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-8, err_msg=name)


# The objective
# ------------------------------------------------------------------------------------------------------------


def test_terms_add_up_and_the_input_stays_as_it_is() -> None:
    model, (x, target) = network(), batch()
    objective = Objective(model, td.cross_entropy, [DataGrad(0.7), SpectReg(0.2), DataGrad(0.0)])
    terms = objective(x, target)
    penalties = [p.item() for p in terms.penalties]
    np.testing.assert_allclose(
        terms.total.item(), terms.loss.item() + 0.7 * penalties[0] + 0.2 * penalties[1], rtol=1e-14
    )
    np.testing.assert_allclose(terms.loss.item(), td.cross_entropy(model(x), target).item(), rtol=1e-14)
    np.testing.assert_array_equal(terms.logits.detach().numpy(), model(x).detach().numpy())
    assert not x.requires_grad
    assert x.grad is None
    terms.total.backward()
    assert x.grad is None
    assert all(p.grad is not None for p in model.parameters())
    assert [penalties[0], penalties[0]] == [penalties[0], penalties[2]]
    assert sorted(objective.generators()) == ["penalty0", "penalty1", "penalty2"]
    assert objective.generators()["penalty1"] is objective.penalties[1].generator


def test_without_penalties_it_is_the_mean_loss_also_under_no_grad() -> None:
    model, (x, target) = network(), batch()
    objective = Objective(model, td.cross_entropy)
    assert objective(x, target).total.item() == objective(x, target).loss.item()
    with td.no_grad():
        assert not objective(x, target).total.requires_grad


def test_data_grad_shares_the_dropout_mask_of_the_loss() -> None:
    """With a linear model behind the mask the penalty is a function of the very logits that the loss had."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(D, M)).double()
    x, target = batch()
    with td.remember() as draws:
        terms = Objective(model, td.cross_entropy, [DataGrad(1.0)])(x, target)
    assert len(draws) == 1
    with td.repeat(draws):
        mask = td.dropout(td.ones(B, D, dtype="float64"), 0.5).numpy()
    residual = td.softmax(terms.logits).detach().numpy() - np.eye(M)[target.numpy()]
    rows = mask * (residual @ model[1].weight.numpy())
    np.testing.assert_allclose(terms.penalties[0].item(), (rows**2).sum(1).mean(), rtol=1e-12)


def test_second_forward_has_a_dropout_mask_of_its_own() -> None:
    model, (x, target) = (
        nn.Sequential(nn.Linear(D, 200), nn.Dropout(0.5), nn.Linear(200, M)).double(),
        batch(),
    )
    seen: list[np.ndarray] = []
    objective = Objective(model, td.cross_entropy, [SpectReg(1.0, forward="second")])
    with nn.intercept(model, "1", lambda h: seen.append(h.detach().numpy() == 0)):
        objective(x, target)
    main, second = seen
    assert 0.4 < (main == second).mean() < 0.6


def test_penalty_at_an_inner_layer() -> None:
    """x may be the result of an operation: here a feature of a network before."""
    first, second, (x, target) = nn.Linear(D, D).double(), network(), batch()
    h = first(x)
    inner = data_grad(losses_of(second, h, target), h)
    leaf = td.tensor(h.detach().numpy(), requires_grad=True)
    np.testing.assert_allclose(
        inner.item(), data_grad(losses_of(second, leaf, target), leaf).item(), rtol=1e-14
    )
    assert td.grad(inner, first.weight)[0].numpy().any()


def test_images_and_empty_batches() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, M))
    objective = Objective(model, td.cross_entropy, [DataGrad(1.0), SpectReg(1.0)])
    terms = objective(td.randn(2, 1, 4, 4), td.tensor([0, 1]))
    assert all(p.shape == () for p in terms.penalties)
    assert [
        p.item() for p in objective(td.zeros(0, 1, 4, 4), td.tensor(np.zeros(0, np.int64))).penalties
    ] == [0, 0]


def test_penalties_repeat_with_their_generator() -> None:
    model, (x, target) = network(nn.Dropout(0.5)), batch()

    def values(seed: int) -> list[float]:
        objective = Objective(
            model, td.cross_entropy, [SpectReg(1.0, forward="second", generator=td.Generator(seed, 4))]
        )
        return [objective(x, target).penalties[0].item() for _ in range(3)]

    assert values(1) == values(1)  # although the main stream has moved on
    assert values(1) != values(2)


def test_a_penalty_of_ones_own() -> None:
    class Norm(Penalty):
        follows = True

        def __call__(self, seen: Pass) -> td.Tensor:
            assert seen.x.requires_grad
            return seen.logits.square().mean()

    model, (x, target) = network(), batch()
    terms = Objective(model, td.cross_entropy, [Norm(0.1)])(x, target)
    assert terms.penalties[0].item() == model(x).square().mean().item()
    assert repr(Norm(0.1)) == "Norm(0.1)"
    with pytest.raises(NotImplementedError, match=r"Penalty\.__call__"):
        Objective(model, td.cross_entropy, [Penalty(1.0)])(x, target)


# Misuse
# ------------------------------------------------------------------------------------------------------------


def prepared() -> tuple[nn.Module, td.Tensor, td.Tensor]:
    x, target = batch()
    return network(), x.requires_grad_(), target


def forward_before_requires_grad() -> td.Tensor:
    model, (x, target) = network(), batch()
    losses = losses_of(model, x, target)
    return data_grad(losses, x.requires_grad_())


def input_without_grad() -> td.Tensor:
    model, (x, target) = network(), batch()
    return data_grad(losses_of(model, x, target), x)


def input_detached_on_the_way() -> td.Tensor:
    model, x, target = prepared()
    return data_grad(losses_of(model, x.detach(), target), x)


def logits_detached() -> td.Tensor:
    model, x, _ = prepared()
    return spect_reg(model(x).detach(), x, td.ones(B, M, dtype="float64"))


def losses_detached() -> td.Tensor:
    model, x, target = prepared()
    return data_grad(td.cross_entropy(model(x).detach(), target, reduction="none"), x)


def under_no_grad() -> td.Tensor:
    model, x, target = prepared()
    losses = losses_of(model, x, target)
    with td.no_grad():
        return data_grad(losses, x)


def forward_under_no_grad() -> td.Tensor:
    model, x, target = prepared()
    with td.no_grad():
        losses = losses_of(model, x, target)
    return data_grad(losses, x)


def objective_under_no_grad() -> Any:
    model, (x, target) = network(), batch()
    with td.no_grad():
        return Objective(model, td.cross_entropy, [DataGrad(1.0)])(x, target)


def mean_loss() -> td.Tensor:
    model, x, target = prepared()
    return data_grad(td.cross_entropy(model(x), target), x)


def loss_of_each_pixel() -> Any:
    model, x = nn.Conv2d(1, M, 1), td.ones(2, 1, 3, 3).requires_grad_()
    target = td.tensor(np.zeros((2, 3, 3), np.int64))
    return data_grad(td.cross_entropy(model(x), target, reduction="none"), x)


def logits_of_an_image() -> Any:
    model = nn.Conv2d(1, M, 1)
    return Objective(model, td.cross_entropy, [SpectReg(1.0)])(
        td.ones(2, 1, 3, 3), td.tensor(np.zeros((2, 3, 3), np.int64))
    )


def r_of_another_shape() -> td.Tensor:
    model, x, _ = prepared()
    return spect_reg(model(x), x, td.ones(1, M, dtype="float64"))


def logits_of_other_samples() -> td.Tensor:
    model, x, _ = prepared()
    return spect_reg(model(x)[:2], x, td.ones(2, M, dtype="float64"))


def frozen_model() -> Any:
    model, (x, target) = network().requires_grad_(False), batch()
    return Objective(model, td.cross_entropy, [DataGrad(1.0)])(x, target)


def without_parameters() -> Any:
    x, target = batch()
    return Objective(nn.Identity(), td.cross_entropy, [SpectReg(1.0)])(x[:, :M], target)


def only_parameters_that_do_not_matter() -> td.Tensor:
    """A trainable bias on a frozen linear map: it moves the logits, and their derivative not at all."""
    model, x, _ = nn.Linear(D, M).double(), batch()[0].requires_grad_(), None
    model.weight.requires_grad_(False)
    return spect_reg(model(x), x, td.ones(B, M, dtype="float64"))


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (
            input_without_grad,
            GraphError,
            r"data_grad: expected an input x that requires grad before the forward pass",
        ),
        (
            forward_before_requires_grad,
            GraphError,
            r"data_grad: expected outputs computed from x on the tape",
        ),
        (input_detached_on_the_way, GraphError, r"data_grad: expected outputs computed from x on the tape"),
        (
            logits_detached,
            GraphError,
            r"spect_reg: expected outputs computed from x on the tape, got \(5, 3\)",
        ),
        (losses_detached, GraphError, r"data_grad: expected outputs computed from x on the tape"),
        (under_no_grad, GraphError, r"data_grad: expected a forward pass on the tape, got no_grad"),
        (forward_under_no_grad, GraphError, r"data_grad: expected outputs computed from x on the tape"),
        (
            objective_under_no_grad,
            GraphError,
            r"Objective: expected grad mode for DataGrad\(1.0\), got no_grad",
        ),
        (
            mean_loss,
            ShapeError,
            r"data_grad: expected one loss a sample \(5,\) \(reduction='none'\), got \(\)",
        ),
        (loss_of_each_pixel, ShapeError, r"data_grad: expected one loss a sample \(2,\) .*, got \(2, 3, 3\)"),
        (logits_of_an_image, ShapeError, r"SpectReg: expected logits \(B, m\), got \(2, 3, 3, 3\)"),
        (
            r_of_another_shape,
            ShapeError,
            r"spect_reg: expected r shaped as the logits \(5, 3\), got \(1, 3\)",
        ),
        (
            logits_of_other_samples,
            ShapeError,
            r"spect_reg: expected logits \(B, m\) of the 5 samples of x, got \(2, 3\)",
        ),
        (frozen_model, GraphError, r"data_grad: expected a penalty that parameters can change"),
        (without_parameters, GraphError, r"spect_reg: expected a penalty that parameters can change"),
        (
            only_parameters_that_do_not_matter,
            GraphError,
            r"spect_reg: expected a penalty that parameters can change",
        ),
        (lambda: DataGrad(-1.0), ValueError, r"DataGrad: expected a weight of at least 0, got -1.0"),
        (lambda: SpectReg(float("nan")), ValueError, r"SpectReg: expected a weight of at least 0, got nan"),
        (
            lambda: SpectReg(1.0, per="pixel"),
            ValueError,
            r"SpectReg: expected per in \('sample', 'batch'\), got 'pixel'",
        ),
        (
            lambda: SpectReg(1.0, forward="none"),
            ValueError,
            r"SpectReg: expected forward in \('shared', 'second'\), got",
        ),
    ],
)
def test_misuse_is_an_error(misuse: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        misuse()
