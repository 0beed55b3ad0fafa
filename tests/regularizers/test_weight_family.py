"""What the terms on weights do after a step and over several, and errors that are known from other codes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import assert_close, batch, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L1,
    L2,
    L2SP,
    SRIP,
    ElasticNet,
    ElasticNetProx,
    GroupLasso,
    GroupLassoProx,
    L1Prox,
    LayerwiseL2,
    MaxNorm,
    MeanTeacher,
    Objective,
    Orthogonality,
    Penalty,
    SpectralNormPenalty,
    Term,
    layerwise_groups,
    measured_ratios,
    predicted_ratios,
)
from tinydl.training import checkpoint


def weight_of(model: nn.Module) -> np.ndarray:
    return np.array(model.weight.detach())


def linear(W: np.ndarray) -> nn.Module:
    model = nn.Linear(W.shape[1], W.shape[0], bias=False).double()
    model.load_state_dict({"weight": W})
    return model


def value(penalty: Penalty, model: nn.Module) -> td.Tensor:
    inputs = next(iter(model.parameters())).shape[1]
    loss = lambda z, y, reduction: z.sum(1)  # noqa: E731
    return Objective(model, loss, [penalty])(td.ones(2, inputs).double()).penalties[0]


def after(term: Term, model: nn.Module, lr: float = 0.25) -> np.ndarray:
    """The weight when the term has acted on it, by an optimizer of that rate."""
    loss = lambda z, y, reduction: z  # noqa: E731
    Objective(model, loss, [term]).after(td.optim.SGD(model.parameters(), lr))
    return weight_of(model)


NORMAL = np.random.default_rng(0).standard_normal


# Proximal steps and constraints
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_proximal_steps_minimize_what_they_say(ratio: float) -> None:
    """0 is in (w - v)/η + λρ ∂|w| + λ(1-ρ) w, element by element."""
    v, lr, weight = NORMAL((4, 5)), 0.25, 2.0
    term = L1Prox(weight) if ratio == 1 else ElasticNetProx(weight, ratio)
    w = after(term, linear(v), lr)
    smooth = (w - v) / lr + weight * (1 - ratio) * w
    zero = w == 0
    assert 0 < zero.sum() < w.size
    np.testing.assert_allclose(smooth[~zero], -weight * ratio * np.sign(w[~zero]), rtol=1e-12)
    assert (np.abs(smooth[zero]) <= weight * ratio).all()


def test_only_proximal_steps_reach_zero() -> None:
    """Subgradient steps of L1 and GroupLasso jump over it."""

    def train(terms: Callable[[], list[Term]]) -> np.ndarray:
        model = network()
        objective, optimizer = (
            Objective(model, td.cross_entropy, terms()),
            td.optim.SGD(model.parameters(), 0.1),
        )
        for _ in range(30):
            optimizer.zero_grad()
            objective(*batch()).total.backward()
            optimizer.step()
            objective.after(optimizer)
        return np.array(model[0].weight.detach())

    assert (train(lambda: [L1(0.1)]) == 0).sum() == 0
    assert (train(lambda: [L1Prox(0.1)]) == 0).sum() > 3
    assert (train(lambda: [GroupLasso(0.1)]) == 0).sum() == 0
    rows = train(lambda: [GroupLassoProx(0.1)])
    pruned = (rows == 0).all(1)
    assert 0 < pruned.sum() < len(rows)
    assert (rows[~pruned] != 0).all()


@pytest.mark.parametrize("groups", ["out", "in", "layer"])
def test_proximal_steps_of_groups(groups: str) -> None:
    """w_g · max(0, 1 - ηλ √|g|/‖w_g‖), and a group of zeros stays one."""
    v = NORMAL((4, 5)) * np.array([1.0, 0.1, 2.0, 0.0])[:, None]
    axis: Any = {"out": 1, "in": 0, "layer": (0, 1)}[groups]
    norms = np.sqrt((v**2).sum(axis, keepdims=True))
    scale = 0.25 * 0.4 * np.sqrt(v.size / norms.size)
    expected = v * np.maximum(0, 1 - scale / np.where(norms > 0, norms, 1))
    np.testing.assert_allclose(after(GroupLassoProx(0.4, groups), linear(v)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("penalty", "step"),
    [
        (lambda: L1(0.4, prox=True), lambda: L1Prox(0.4)),
        (lambda: L2(0.4, prox=True), lambda: ElasticNetProx(0.4, 0.0)),
        (lambda: ElasticNet(0.4, 0.3, prox=True), lambda: ElasticNetProx(0.4, 0.3)),
        (lambda: GroupLasso(0.4, "in", prox=True), lambda: GroupLassoProx(0.4, "in")),
    ],
    ids=["L1", "L2", "ElasticNet", "GroupLasso"],
)
def test_with_prox_a_penalty_is_its_step_and_has_no_value(penalty: Any, step: Any) -> None:
    v = NORMAL((4, 5))
    np.testing.assert_array_equal(after(penalty(), linear(v)), after(step(), linear(v)))
    model = network()
    objective = Objective(model, td.cross_entropy, [penalty()])
    terms = objective(*batch())
    assert terms.penalties == ()
    assert terms.total.item() == terms.loss.item()
    assert objective.penalties == ()
    optimizer = td.optim.SGD(model.parameters(), 0.1)
    terms.backward()
    optimizer.step()
    with pytest.raises(td.GraphError, match=r"^Objective: expected objective.after\(\) after each step"):
        objective(*batch())
    with pytest.raises(ValueError, match=r"expected a number as its weight with prox=True"):
        type(penalty())(lambda t: t, prox=True)


def test_rates_are_those_of_the_groups_and_biases_stay() -> None:
    model = network()
    before = {name: np.array(p.detach()) for name, p in model.named_parameters()}
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters(), "lr": 0.1}]
    Objective(model, td.cross_entropy, [L1Prox(0.2)]).after(td.optim.SGD(groups, 1.0))
    for name, p in model.named_parameters():
        amount = 0.2 * (0.5 if name.startswith("0") else 0.1) * (p.ndim > 1)
        expected = np.sign(before[name]) * np.maximum(np.abs(before[name]) - amount, 0)
        np.testing.assert_allclose(np.array(p.detach()), expected, rtol=1e-12)


def test_rows_are_projected_on_the_ball_and_momentum_stays() -> None:
    v = NORMAL((4, 5))
    norms = np.linalg.norm(v, axis=1, keepdims=True)
    limit = float(np.median(norms))
    w = after(MaxNorm(limit), linear(v))
    np.testing.assert_allclose(w, v * np.minimum(1, limit / norms), rtol=1e-14)
    assert (w == v).all(1).sum() == 2  # those inside, bit for bit
    assert (after(MaxNorm(limit), linear(np.zeros((4, 5)))) == 0).all()

    model = network()
    optimizer = td.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    objective = Objective(model, td.cross_entropy, [MaxNorm(0.1)])
    objective(*batch()).total.backward()
    optimizer.step()
    state = [np.array(s) for p in model.parameters() for s in optimizer.state[p].values()]
    objective.after(optimizer)
    assert_close([np.array(s) for p in model.parameters() for s in optimizer.state[p].values()], state, 0)


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_filter_of_a_transposed_convolution_is_on_axis_1(layer: Any) -> None:
    model = layer(4, 3, 2).double()
    w = np.array(model.weight.detach())
    rows = (w if layer is nn.Conv2d else w.swapaxes(0, 1)).reshape(3, 16)
    columns = (w.swapaxes(0, 1) if layer is nn.Conv2d else w).reshape(4, 12)
    loss = lambda z, y, reduction: z.sum((1, 2, 3))  # noqa: E731

    def of(penalty: Penalty) -> float:
        return Objective(model, loss, [penalty])(td.ones(1, 4, 3, 3).double()).penalties[0].item()

    np.testing.assert_allclose(of(GroupLasso(1.0)), 4 * np.linalg.norm(rows, axis=1).sum(), rtol=1e-12)
    expected = np.sqrt(12) * np.linalg.norm(columns, axis=1).sum()
    np.testing.assert_allclose(of(GroupLasso(1.0, "in")), expected, rtol=1e-12)
    gram = rows @ rows.T - np.eye(3)
    np.testing.assert_allclose(of(Orthogonality(1.0)), (gram**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(of(SRIP(1.0, 300)), np.abs(np.linalg.eigvalsh(gram)).max(), rtol=1e-9)
    sigma = np.linalg.svd(rows)[1][0]
    np.testing.assert_allclose(of(SpectralNormPenalty(1.0)), sigma**2 / 2, rtol=1e-12)
    limit = float(np.median(np.linalg.norm(rows, axis=1)))
    Objective(model, loss, [MaxNorm(limit)]).after()
    changed = np.array(model.weight.detach())
    rows = (changed if layer is nn.Conv2d else changed.swapaxes(0, 1)).reshape(3, 16)
    assert np.linalg.norm(rows, axis=1).max() <= limit * (1 + 1e-14)


@pytest.mark.parametrize("make", [lambda: MaxNorm(0.5), lambda: L1Prox(0.1), lambda: GroupLassoProx(0.1)])
def test_after_a_recorded_step_as_after_an_eager_one(make: Callable[[], Term]) -> None:
    """A new rate is seen by replays."""
    found = []
    for wrap in (lambda step: step, td.record):
        model = network()
        objective, optimizer = (
            Objective(model, td.cross_entropy, [make()]),
            td.optim.SGD(model.parameters(), 1.0),
        )

        def step(x: td.Tensor, y: td.Tensor, objective: Any = objective, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            objective(x, y).total.backward()
            optimizer.step()
            objective.after(optimizer)

        play = wrap(step)
        for i in range(4):
            optimizer.param_groups[0]["lr"] = 1.0 / (i + 1)
            play(*batch(i))
        found.append([np.array(p.detach()).tobytes() for p in model.parameters()])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (
            lambda: Objective(network(), td.cross_entropy, [L1Prox(1.0)]).after(
                td.optim.SGD(network().parameters(), 1.0)
            ),
            ValueError,
            "L1Prox: expected an optimizer of its parameters, got one of others",
        ),
        (
            lambda: Objective(network(), td.cross_entropy, [MaxNorm(1.0, params="5.weight")]).after(),
            ValueError,
            r"max_norm: expected parameters out of \[.*\], got \['5.weight'\]",
        ),
    ],
)
def test_misuse_is_refused_by_name(misuse: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        misuse()


# Singular values
# ------------------------------------------------------------------------------------------------------------


def test_only_the_smaller_gram_matrix_can_be_the_identity() -> None:
    """The larger one's value is |out - rest| more, with the same derivative."""
    tall = NORMAL((5, 3))
    for W in (tall, tall.T):
        model = linear(W)
        found = value(Orthogonality(1.0), model)
        larger = (W @ W.T if len(W) == 5 else W.T @ W) - np.eye(5)
        np.testing.assert_allclose(found.item() + 2, (larger**2).sum(), rtol=1e-12)
        np.testing.assert_allclose(
            td.grad(found, model.weight)[0].numpy(), 4 * (W @ W.T - np.eye(len(W))) @ W, rtol=1e-11
        )
    np.testing.assert_allclose(value(Orthogonality(1.0), linear(np.linalg.qr(tall)[0])).item(), 0, atol=1e-28)


def test_srip_is_alive_where_the_larger_gram_matrix_is_dead_and_is_not_squared() -> None:
    """The authors' code takes the larger one here: σ is 1 with no derivative as long as all s² ≤ 2."""
    left, _, right = np.linalg.svd(NORMAL((3, 5)), full_matrices=False)
    W = left @ np.diag([1.3, 1.1, 0.8]) @ right
    model = linear(W)
    assert np.abs(np.linalg.eigvalsh(W.T @ W - np.eye(5))).max() == pytest.approx(1)
    found = value(SRIP(1.0, iterations=200), model)
    np.testing.assert_allclose(found.item(), 1.3**2 - 1, rtol=1e-12)
    expected = 2 * 1.3 * np.outer(left[:, 0], right[0])
    np.testing.assert_allclose(td.grad(found, model.weight)[0].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_the_spectral_norm_is_followed_by_one_iteration_a_step_and_from_below() -> None:
    normal = np.random.default_rng(1).standard_normal
    model, W = linear(normal((4, 6))), normal((4, 6)) * 2
    loss = lambda z, y, reduction: z.sum(1)  # noqa: E731
    penalty = SpectralNormPenalty(1.0)
    objective, x = Objective(model, loss, [penalty]), td.ones(2, 6).double()

    def sigma() -> float:
        return float(np.sqrt(2 * objective(x).penalties[0].item()))

    exact = np.linalg.svd(weight_of(model))[1][0]
    np.testing.assert_allclose(sigma(), exact, rtol=1e-12)
    model.load_state_dict({"weight": W})
    exact, values = np.linalg.svd(W)[1][0], []
    for _ in range(200):
        values.append(sigma())
        assert sigma() == values[-1]  # calls do not move u
        objective.after()
    assert values[0] < 0.95 * exact
    assert max(values) <= exact * (1 + 1e-14)
    assert (np.diff(values) >= -1e-14).all()
    np.testing.assert_allclose(values[-1], exact, rtol=1e-9)


# Away from a start
# ------------------------------------------------------------------------------------------------------------


def test_the_start_is_a_copy_and_travels_with_the_checkpoint(tmp_path: Any) -> None:
    model = network()
    term = L2SP(1.0, 0.0, model)
    objective = Objective(model, td.cross_entropy, [term])
    assert objective(*batch()).penalties[0].item() == 0
    with td.no_grad():
        for p in model.parameters():
            td.ops.update.assign(p, p * 2)
    moved = objective(*batch()).penalties[0].item()
    np.testing.assert_allclose(
        moved,
        sum((np.array(p.detach()) ** 2).sum() / 8 for p in model.parameters() if p.ndim > 1),
        rtol=1e-12,
    )
    checkpoint.save(tmp_path / "run.safetensors", objective=objective)
    other = Objective(model, td.cross_entropy, [L2SP(1.0, 0.0, model)])
    assert other(*batch()).penalties[0].item() == 0
    checkpoint.load(tmp_path / "run.safetensors", objective=other)
    assert other(*batch()).penalties[0].item() == moved


def test_a_head_of_another_shape_is_new() -> None:
    model, before = network(), network()
    start = dict(before.named_parameters()) | {"2.weight": np.zeros((9, 6))}
    found = Objective(model, td.cross_entropy, [L2SP(1.0, 0.5, start)])(*batch()).penalties[0].item()
    np.testing.assert_allclose(found, 0.25 * (np.array(model[2].weight.detach()) ** 2).sum(), rtol=1e-12)


# A decay for each layer
# ------------------------------------------------------------------------------------------------------------


def relu_net(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, ahead in itertools.pairwise(widths):
        layers += [nn.Linear(before, ahead), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)
        nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


def adjacent(ratios: dict[str, float]) -> np.ndarray:
    values = np.array(list(ratios.values()))
    assert values[-1] == 1
    return values[:-1] / values[1:]


def test_predicted_ratios_of_known_nets() -> None:
    """Those of METHODS' formula on an MLP 100-300-200-50-10 and on the small-data LeNet."""
    np.testing.assert_allclose(
        adjacent(predicted_ratios(relu_net(100, 300, 200, 50, 10), (100,))), [0.471, 0.612, 0.894], atol=5e-4
    )
    lenet = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.Flatten(), nn.Linear(120, 84), nn.Linear(84, 10)),
    )
    np.testing.assert_allclose(
        adjacent(predicted_ratios(lenet, (1, 28, 28))), [0.667, 1.677, 1.528, 0.412], atol=5e-4
    )
    # A map of 5 x 5 that is flattened is what a convolution of 5 x 5 sees.
    whole = nn.Sequential(
        *list(lenet)[:4], nn.Flatten(), nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
    )
    np.testing.assert_allclose(
        adjacent(predicted_ratios(whole, (1, 28, 28))), adjacent(predicted_ratios(lenet, (1, 28, 28)))
    )
    with pytest.raises(
        ValueError, match=r"^predicted_ratios: expected 2.weight \(3, 5\) to follow 4 channels"
    ):
        predicted_ratios(nn.Sequential(nn.Linear(2, 4), Beside(), nn.Linear(5, 3)), (2,))


class Beside(nn.Module):
    def forward(self, x: td.Tensor) -> td.Tensor:
        return td.cat([x, x[:, :1]], 1)


class Reversed(nn.Module):
    """Lists its layers in another order than it calls them in."""

    def __init__(self, first: nn.Module, last: nn.Module, spare: bool) -> None:
        super().__init__()
        self.last, self.norm, self.first = last, nn.BatchNorm1d(4), first
        self.spare = nn.Linear(2, 2) if spare else None

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.last(td.relu(self.norm(self.first(x))))


def test_predicted_ratios_go_by_the_order_of_the_calls_and_leave_no_trace() -> None:
    first, last = nn.Linear(6, 4), nn.Linear(4, 3)
    found = predicted_ratios(Reversed(first, last, False), (6,))
    wanted = predicted_ratios(nn.Sequential(first, nn.ReLU(), last), (6,))
    assert found == {"first.weight": wanted["0.weight"], "last.weight": 1}
    model = Reversed(first, last, False)
    before = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    predicted_ratios(model, (6,))
    assert {name: value.numpy().tobytes() for name, value in model.state_dict().items()} == before
    assert model.training
    assert not first._forward_pre_hooks
    with pytest.raises(ValueError, match=r"^predicted_ratios: expected a pass that calls .*'spare.weight'"):
        predicted_ratios(Reversed(first, last, True), (6,))


def test_measured_ratios_are_those_of_the_gradients_and_near_the_predicted() -> None:
    td.manual_seed(0)
    model = relu_net(60, 80, 40, 10)
    r = np.random.default_rng(0)
    samples = [
        (td.tensor(r.standard_normal((1, 60)).astype("f4")), td.tensor(r.integers(0, 10, 1)))
        for _ in range(60)
    ]
    found = measured_ratios(model, td.cross_entropy, samples)
    np.testing.assert_allclose(adjacent(found), adjacent(predicted_ratios(model, (60,))), rtol=0.15)
    weights = [model[i].weight for i in (0, 2, 4)]
    rates = []
    for x, y in samples[:2]:
        slopes = td.grad(td.cross_entropy(model(x), y), weights)
        rates.append(
            [
                np.sqrt((g.numpy() ** 2).mean() / (w.detach().numpy() ** 2).mean())
                for g, w in zip(slopes, weights, strict=True)
            ]
        )
    expected = np.mean(rates, 0) / np.mean(rates, 0)[-1]
    np.testing.assert_allclose(
        list(measured_ratios(model, td.cross_entropy, samples[:2]).values()), expected, rtol=1e-5
    )


def test_measuring_leaves_no_trace() -> None:
    model = network(nn.BatchNorm1d(6), nn.Dropout(0.5)).eval()
    td.cross_entropy(model(batch()[0]), batch()[1]).backward()
    before = [np.array(b) for b in model.buffers()], [np.array(p.grad) for p in model.parameters()]
    streams = [td.noise_generator.state_dict(), td.default_generator.state_dict()]
    first = measured_ratios(model, td.cross_entropy, [batch(0), batch(1)])
    with td.no_grad():
        assert measured_ratios(model, td.cross_entropy, [batch(0), batch(1)]) == first
    assert not any(module.training for module in model.modules())
    assert streams == [td.noise_generator.state_dict(), td.default_generator.state_dict()]
    assert_close([np.array(b) for b in model.buffers()], before[0], 0)
    assert_close([np.array(p.grad) for p in model.parameters()], before[1], 0)
    with pytest.raises(ValueError, match=r"^measured_ratios: expected batches, got none"):
        measured_ratios(model, td.cross_entropy, [])


def test_as_a_term_and_as_groups_it_is_one_decay() -> None:
    """In SGD, which is coupled: the same step."""
    ratios, found = {"0.weight": 2.0, "2.weight": 1.0}, []
    for as_term in (True, False):
        model = network()
        groups = layerwise_groups(model, 0.0 if as_term else 0.1, ratios)
        assert sorted(len(group["params"]) for group in groups) == [1, 1, 2]
        optimizer = td.optim.SGD(groups, 0.5)
        Objective(model, td.cross_entropy, [LayerwiseL2(0.1, ratios)] if as_term else [])(
            *batch()
        ).total.backward()
        optimizer.step()
        found.append([np.array(p.detach()) for p in model.parameters()])
    assert_close(*found)
    with pytest.raises(
        ValueError, match=r"^layerwise_groups: expected a last weight decay of at least 0, got -1"
    ):
        layerwise_groups(network(), -1, ratios)


def test_the_elastic_net_contains_both() -> None:
    model = linear(NORMAL((3, 4)))
    assert value(ElasticNet(1.0, 1.0), model).item() == value(L1(1.0), model).item()


def test_the_spectral_penalty_holds_u_and_v_constant_where_u_has_not_converged() -> None:
    model = nn.Linear(4, 3).double()
    W, u = model.weight.numpy().copy(), np.array([0.6, -0.8, 0.0])
    penalty = SpectralNormPenalty(1.0)
    penalty.attach(model)
    with td.no_grad():
        penalty.u["weight"].copy_(td.tensor(u))
    found = Objective(model, td.cross_entropy, [penalty])(td.ones(2, 4, dtype="float64"), td.tensor([0, 1]))
    v = W.T @ u / np.linalg.norm(W.T @ u)
    sigma = u @ W @ v
    assert found.penalties[0].item() == pytest.approx(sigma**2 / 2, rel=1e-12)
    (slope,) = td.grad(found.penalties[0], model.weight)
    np.testing.assert_allclose(slope.numpy(), sigma * np.outer(u, v), rtol=1e-12)


def test_copies_of_weights_see_what_constraints_leave() -> None:
    model = nn.Sequential(nn.Linear(4, 3)).double()
    terms = [MeanTeacher(1.0, copy.deepcopy(model), decay=0.0), MaxNorm(0.01)]
    optimizer = td.optim.SGD(model.parameters(), lr=0.1)
    objective = Objective(model, td.cross_entropy, terms)
    objective(td.ones(2, 4, dtype="float64"), td.tensor([0, 1])).backward()
    optimizer.step()
    objective.after(optimizer)
    assert terms[0].teacher[0].weight.tolist() == model[0].weight.tolist()
    assert np.linalg.norm(model[0].weight.numpy(), axis=1) == pytest.approx(0.01 * np.ones(3))


def test_of_a_normalized_weight_the_length_decays_and_not_the_direction() -> None:
    """For which decay would only change the rate: (0.9 v)/‖0.9 v‖ is the same weight."""
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))
    decayed, rest = td.optim.decay_groups(model, 0.1)
    assert [name for name, _ in decayed["params"]] == ["0.weight_g", "1.weight"]
    assert [name for name, _ in rest["params"]] == ["0.bias", "0.weight_v", "1.bias"]
    objective = Objective(model, td.cross_entropy, [L2(1.0)])
    found = objective(td.ones(2, 4), td.tensor([0, 1])).penalties[0].item()
    expected = sum((p.numpy() ** 2).sum() / 2 for p in (model[0].weight_g, model[1].weight))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
