"""Consistency penalties: what their rows cannot show, since a linear model has no dropout and a single call
no history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, M, assert_close, batch, grads, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    UDA,
    VAT,
    MeanTeacher,
    Objective,
    Pass,
    PiModel,
    RDrop,
    TemporalEnsemble,
    TrainingSignalAnnealing,
)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def dropped_linear() -> tuple[nn.Module, td.Generator]:
    """Dropout and then a linear layer, and the dropout's generator."""
    td.manual_seed(2)
    generator = td.Generator(4)
    return nn.Sequential(nn.Dropout(0.5, generator=generator), nn.Linear(D, M)).double(), generator


def masked(x: td.Tensor, generator: td.Generator) -> np.ndarray:
    return td.dropout(x, 0.5, generator=generator).numpy()


# Two passes with masks of their own
# ------------------------------------------------------------------------------------------------------------


def two_passes(penalty: Any) -> tuple[Any, nn.Module, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The answer, the model, and of both passes the inputs behind dropout and p."""
    model, _ = dropped_linear()
    x, y = batch()
    terms = Objective(model, td.cross_entropy, [penalty])(x, y)
    first, second = masked(x, td.Generator(4)), masked(x, td.Generator(8))
    W, c = (np.array(p) for p in model[1].parameters())
    return terms, model, first, second, softmax(first @ W.T + c), softmax(second @ W.T + c)


def assert_gradients(terms: Any, model: nn.Module, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    terms.penalties[0].backward()
    expected = [sum(dz.T @ x for x, dz in parts), sum(dz.sum(0) for _, dz in parts)]
    assert_close(grads(model), expected)


def test_r_drop_of_two_masks() -> None:
    terms, model, x1, x2, p, q = two_passes(RDrop(1.0, generator=td.Generator(8)))
    h = np.log(p) - np.log(q)
    assert_close([terms.penalties[0].item()], [((p - q) * h).sum(1).mean() / 2])
    dz = (p * (h - (p * h).sum(1, keepdims=True)) + p - q) / (2 * B)
    dz2 = (q * (-h + (q * h).sum(1, keepdims=True)) + q - p) / (2 * B)
    assert_gradients(terms, model, [(x1, dz), (x2, dz2)])


def test_pi_model_of_two_masks_is_a_mean_over_classes_too() -> None:
    """The sources' weight belongs to the mean over classes: against a sum it is off by m."""
    terms, model, x1, x2, p, q = two_passes(PiModel(1.0, generator=td.Generator(8)))
    assert_close([terms.penalties[0].item()], [((p - q) ** 2).sum(1).mean() / M])
    by = lambda p, d: 2 / (B * M) * p * (d - (p * d).sum(1, keepdims=True))  # noqa: E731
    assert_gradients(terms, model, [(x1, by(p, p - q)), (x2, by(q, q - p))])


def test_r_drop_as_the_loss_takes_half_of_both_losses() -> None:
    """As the authors' code: the paper adds both losses whole."""
    model, _ = dropped_linear()
    x, y = batch()
    objective = Objective(model, RDrop(0.7, td.cross_entropy, generator=td.Generator(8)))
    terms = objective(x, y)
    W, c = (np.array(p) for p in model[1].parameters())
    p, q = (softmax(masked(x, td.Generator(seed)) @ W.T + c) for seed in (4, 8))
    own = lambda p: -np.log(p[np.arange(B), y.numpy()]).mean()  # noqa: E731
    h = np.log(p) - np.log(q)
    assert_close([terms.total.item()], [(own(p) + own(q)) / 2 + 0.7 * ((p - q) * h).sum(1).mean() / 2])


@pytest.mark.parametrize(
    "penalty", [lambda: RDrop(1.0), lambda: PiModel(1.0), lambda: VAT(1.0, 0.0)], ids=["RDrop", "Pi", "VAT"]
)
def test_exactly_zero_where_nothing_differs(penalty: Callable[[], Any]) -> None:
    """No dropout; for VAT r = 0 on the dropout mask of the clean pass (another mask would not give 0)."""
    model = network(nn.Dropout(0.5)) if isinstance(penalty(), VAT) else network()
    terms = Objective(model, td.cross_entropy, [penalty()])(*batch())
    assert terms.penalties[0].item() == 0


# VAT
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xi", [1e-3, 0.1, 10.0])
def test_vat_of_two_logits_moves_along_their_difference(xi: float) -> None:
    """Whatever d and ξ: r = ±ε w/‖w‖, so the value is one of two."""
    r = np.random.default_rng(1)
    W, c, x = r.standard_normal((2, D)), r.standard_normal(2), r.standard_normal((B, D))
    model = nn.Linear(D, 2).double()
    model.load_state_dict({"weight": W, "bias": c})
    penalty = VAT(1.0, 0.3, xi)
    terms = Objective(model, td.cross_entropy, [penalty])(td.tensor(x), td.tensor(np.zeros(B, np.int64)))
    w = (W[1] - W[0]) / np.linalg.norm(W[1] - W[0])
    p = softmax(x @ W.T + c)
    values = []
    for sign in (1, -1):
        q = softmax((x + sign * 0.3 * w) @ W.T + c)
        values.append((p * np.log(p / q)).sum(1))
    chosen = [np.array(values)[list(s), range(B)].mean() for s in np.ndindex(*[2] * B)]
    assert min(abs(terms.penalties[0].item() / v - 1) for v in chosen) < 1e-10


def test_vat_of_a_small_radius_is_the_largest_curvature() -> None:
    """½ε²λ_max(WᵀSW), which the power iteration finds."""
    model = nn.Linear(D, M).double()
    x, y = batch()
    value = Objective(model, td.cross_entropy, [VAT(1.0, 1e-3, 1e-3, iterations=200)])(x, y).penalties[0]
    W, c = (np.array(p) for p in model.parameters())
    p = softmax(x.numpy() @ W.T + c)
    tops = [np.linalg.eigvalsh(W.T @ (np.diag(q) - np.outer(q, q)) @ W)[-1] for q in p]
    np.testing.assert_allclose(value.item(), np.mean(tops) * 0.5e-6, rtol=1e-3)


def test_vat_in_float32_finds_the_direction_at_its_default_xi() -> None:
    """At the sources' ξ = 1e-6 float32 finds none: the cosine is about 0."""
    td.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10)).double()
    x, y = td.randn(40, 100, dtype="float64"), td.randint(0, 10, (40,))
    found: dict[Any, np.ndarray] = {}
    for key, dtype, xi in (
        ("exact", "float64", 1e-6),
        ("default", "float32", 0.1),
        ("1e-6", "float32", 1e-6),
    ):
        model = model.double() if dtype == "float64" else model.float()
        penalty = VAT(1.0, 1.0, xi)
        start = td.randn(40, 100, generator=td.Generator(5), dtype="float64")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "tinydl.regularizers.consistency.randn", lambda shape, dtype, s=start, **_: td.cast(s, dtype)
            )
            clean = Pass(model, td.cast(x, dtype), y)
            moved = penalty.adversary(clean, penalty.target(clean))
        found[key] = moved.numpy() - clean.x.numpy()
    cosine = lambda name: (found[name] * found["exact"]).sum(1).mean()  # noqa: E731
    assert cosine("default") > 0.99
    assert abs(cosine("1e-6")) < 0.9


def test_logits_far_apart_give_finite_numbers() -> None:
    """KL out of log-softmax: the log of a softmax is -inf there."""
    model = nn.Linear(D, M).double()
    model.load_state_dict(
        {"weight": np.full((M, D), 1.0) * np.array([[0], [2000], [-2000]]), "bias": np.zeros(M)}
    )
    x, y = batch()
    for penalty in (VAT(1.0, 0.1), RDrop(1.0), UDA(1.0, lambda x: -x)):
        terms = Objective(model, td.cross_entropy, [penalty])(x, y)
        terms.total.backward()
        assert np.isfinite(terms.total.item())
        assert all(np.isfinite(g).all() for g in grads(model))


@pytest.mark.parametrize(
    "make",
    [
        lambda **on: VAT(1.0, 0.5, **on),
        lambda **on: PiModel(1.0, **on),
        lambda **on: UDA(1.0, lambda x: x * 0.9, threshold=0.0, **on),
        lambda **on: MeanTeacher(1.0, network(nn.Dropout(0.5)), **on),
    ],
    ids=["VAT", "Pi", "UDA", "teacher"],
)
def test_on_unlabeled_samples_of_another_number(make: Callable[..., Any]) -> None:
    """The value is that of a model in train mode on them, and of the labeled ones there is nothing in it."""
    values = []
    for seed in (0, 1):
        model, unlabeled = (
            network(nn.Dropout(0.5)),
            td.tensor(np.random.default_rng(9).standard_normal((9, D))),
        )
        td.manual_seed(3)
        terms = Objective(model, td.cross_entropy, [make(on="unlabeled", generator=td.Generator(2))])(
            *batch(seed), unlabeled=unlabeled
        )
        values.append(terms.penalties[0].item())
    assert values[0] == values[1] > 0


# The ensemble of a sample's predictions
# ------------------------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """Logits that do not depend on x."""

    def __init__(self, z: np.ndarray) -> None:
        super().__init__()
        self.z = nn.Parameter(z)

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.z + 0 * x[:, :1]


def visit(objective: Objective, indices: list[int], calls: int = 1) -> float:
    n = len(indices)
    x, y = td.zeros(n, 1, dtype="float64"), td.tensor(np.zeros(n, np.int64))
    for _ in range(calls):
        value = objective(x, y, index=td.tensor(indices)).penalties[0].item()
    objective.after()
    return value


def test_a_constant_prediction_is_its_own_target() -> None:
    """Z/(1 − α^t) is p exactly, whatever t; before the first visit there is no target."""
    ensemble = TemporalEnsemble(1.0, 5, classes=M)
    objective = Objective(Fixed(np.array([[0.3, -1.0, 2.0]])), td.cross_entropy, [ensemble])
    for _ in range(4):
        assert visit(objective, [0, 3]) < 1e-30
    assert ensemble.visits.tolist() == [3, 0, 0, 3, 0]  # the last one waits


def test_a_target_is_the_decayed_mean_of_earlier_visits() -> None:
    """Several calls before `after` are one visit; another sample's visits are its own."""
    r = np.random.default_rng(0)
    model = Fixed(np.zeros((1, M)))
    ensemble = TemporalEnsemble(1.0, 5, classes=M, alpha=0.7)
    objective = Objective(model, td.cross_entropy, [ensemble])
    history: list[np.ndarray] = []
    for epoch in range(4):
        z = r.standard_normal((1, M))
        model.load_state_dict({"z": z})
        p, expected = softmax(z), 0.0
        if history:
            target = sum(0.3 * 0.7 ** (len(history) - 1 - i) * q for i, q in enumerate(history))
            expected = ((p - target / (1 - 0.7**epoch)) ** 2).mean()
        np.testing.assert_allclose(visit(objective, [1, 4], calls=2), expected, rtol=1e-12)
        history.append(p)
    assert visit(objective, [0, 2]) == 0


# The teacher
# ------------------------------------------------------------------------------------------------------------


def test_a_teacher_is_the_decayed_mean_of_the_student() -> None:
    """a^t θ′₀ + (1 − a^t) θ of a student that stands still, once the decay has risen to a."""
    model = nn.Sequential(nn.Linear(D, 6), nn.BatchNorm1d(6), nn.Linear(6, M)).double()
    teacher = MeanTeacher(1.0, model, decay=0.75)
    objective = Objective(model, td.cross_entropy, [teacher])
    start = [np.array(p) for p in model.parameters()]
    for p in model.parameters():
        with td.no_grad():
            td.ops.update.assign(p, p * 3)
    share = 1.0
    for t in range(1, 7):
        objective(*batch(t))
        objective.after()
        share *= min(t / (t + 1), 0.75)
        expected = [share * p + (1 - share) * 3 * p for p in start]
        assert_close([np.array(p) for p in teacher.teacher.parameters()], expected)
    for own, theirs in zip(teacher.teacher.buffers(), model.buffers(), strict=True):
        np.testing.assert_array_equal(np.array(own), np.array(theirs))
    assert model[1].num_batches_tracked.item() == 6
    assert not any(p.requires_grad for p in teacher.teacher.parameters())
    assert not {id(p) for p in teacher.teacher.parameters()} & {id(p) for p in objective.parameters()}


def test_uda_counts_all_samples_in_its_mean_and_draws_from_its_own_stream() -> None:
    model, (x, y) = network(), batch()
    with td.no_grad():
        z = model(x).numpy()
    top = np.sort(softmax(z).max(1))
    threshold = float(top[2:4].mean())
    before = td.default_generator.state_dict()
    penalty = UDA(1.0, lambda x: x + 0.3 * td.randn(x.shape, dtype=x.dtype), 0.5, threshold)
    penalty.generator = td.Generator(6)
    value = Objective(model, td.cross_entropy, [penalty])(x, y).penalties[0].item()
    assert td.default_generator.state_dict() == before
    with td.no_grad():
        q = softmax(model(x + 0.3 * td.randn(B, D, generator=td.Generator(6), dtype="float64")).numpy())
    p = softmax(z / 0.5)
    sure = softmax(z).max(1) > threshold
    assert sure.sum() == B - 3
    assert_close([value], [(sure * (p * np.log(p / q)).sum(1)).sum() / B])


def test_augmentations_that_change_the_number_of_samples_are_refused() -> None:
    with pytest.raises(td.ShapeError, match="again: expected the 6 samples"):
        Objective(network(), td.cross_entropy, [UDA(1.0, lambda x: x[1:])])(*batch())


@pytest.mark.parametrize("form", ["linear", "exp", "log"])
def test_the_bound_of_signal_annealing_rises_from_1_by_m_to_1(form: str) -> None:
    """Of two samples, p_y = .5 and .9; where none counts the loss is 0."""
    p = np.array([[0.5, 0.3, 0.2], [0.05, 0.05, 0.9]])
    annealed = TrainingSignalAnnealing(20, form)
    objective = Objective(Fixed(np.log(p)), annealed)
    for step in range(25):
        total = objective(td.zeros(2, 1, dtype="float64"), td.tensor([0, 2])).total.item()
        t = min(step / 20, 1)
        a = {"linear": t, "exp": np.exp(5 * (t - 1)), "log": 1 - np.exp(-5 * t)}[form]
        counted = [-np.log(q) for q in (0.5, 0.9) if q < a * (1 - 1 / 3) + 1 / 3]
        np.testing.assert_allclose(total, np.mean(counted) if counted else 0.0, rtol=1e-12)
        objective.after()
