"""The losses of several tasks, and gradients that are put together: what their rows cannot show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import assert_close, batch, grads, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L2,
    ConfidencePenalty,
    GradNorm,
    Objective,
    PCGrad,
    UncertaintyWeighting,
)

TASKS = (lambda z, y: td.cross_entropy(z, y), lambda z, y: (z * z).mean())


def test_uncertainties_find_their_losses() -> None:
    """At the optimum e^s = 2L for classification, L for regression; value ½(1 + log 2L), ½(1 + log L)."""
    model, (x, y) = network().requires_grad_(False), batch()
    weighting = UncertaintyWeighting(TASKS, ("classification", "regression"))
    objective = Objective(model, weighting)
    optimizer = td.optim.SGD(list(objective.parameters()), lr=0.5)
    assert [p.shape for p in objective.parameters()] == [(2,)]
    for _ in range(400):
        optimizer.zero_grad()
        terms = objective(x, y)
        terms.total.backward()
        optimizer.step()
    own, square = (task(model(x), y).item() for task in TASKS)
    np.testing.assert_allclose(np.exp(np.array(weighting.s)), [2 * own, square], rtol=1e-6)
    np.testing.assert_allclose(terms.total.item(), (2 + np.log(2 * own) + np.log(square)) / 2, rtol=1e-6)


def test_grad_norm_moves_its_shares_down_the_papers_slope() -> None:
    """sign(G_i − mean G · r_i^α)·‖∇L_i‖, then Σw = the number of tasks; L⁰ is of the first step."""
    model, (x, y) = network(), batch()
    balance = GradNorm(TASKS, "2.weight", alpha=1.5, lr=0.1)
    objective = Objective(model, balance)
    optimizer = td.optim.SGD(model.parameters(), lr=0.2)
    shares, first = np.ones(2), None
    for _ in range(4):
        losses = [task(model(x), y) for task in TASKS]
        length = np.array([np.linalg.norm(td.grad(loss, [model[2].weight])[0].numpy()) for loss in losses])
        value = np.array([task(model(x), y).item() for task in TASKS])
        first = value if first is None else first
        optimizer.zero_grad()
        terms = objective(x, y)
        objective(x, y)  # a second call before `after` changes nothing
        assert_close([terms.total.item()], [(shares * value).sum()])
        terms.total.backward()
        optimizer.step()
        objective.after()
        ratio = value / first / (value / first).mean()
        size = shares * length
        shares = shares - 0.1 * np.sign(size - size.mean() * ratio**1.5) * length
        shares = shares / shares.sum() * 2
        assert_close([np.array(balance.shares)], [shares])
    assert abs(shares[0] - 1) > 0.01


def flat(model: nn.Module) -> np.ndarray:
    return np.concatenate([g.ravel() for g in grads(model)])


def by_part(model: nn.Module, terms: Any, weights: list[float]) -> list[np.ndarray]:
    rows = []
    for value, weight in zip((terms.loss, *terms.penalties), weights, strict=True):
        found = td.grad(value, list(model.parameters()), retain_graph=True, allow_unused=True)
        each = zip(found, model.parameters(), strict=True)
        rows.append(
            np.concatenate([(np.zeros(p.shape) if g is None else g.numpy()).ravel() for g, p in each])
            * weight
        )
    return rows


def against(g: np.ndarray, other: np.ndarray) -> np.ndarray:
    return g - min(0, g @ other / (other @ other)) * other


def test_pc_grad_of_a_pair() -> None:
    """Where two gradients oppose each other, what is left of each stands upright on the other."""
    model, (x, _) = network(), batch()
    y = td.argmax(model(x).detach(), 1)  # the loss asks for more confidence
    terms = Objective(model, td.cross_entropy, [ConfidencePenalty(3.0)], combine=PCGrad())(x, y)
    one, two = by_part(model, terms, [1.0, 3.0])
    assert one @ two < 0
    terms.backward()
    assert_close([flat(model)], [against(one, two) + against(two, one)], rtol=1e-9)
    assert abs(against(one, two) @ two) < 1e-12


def test_pc_grad_of_parts_that_agree_is_their_sum_and_adds_up() -> None:
    model, (x, y) = network(), batch()
    terms = Objective(model, td.cross_entropy, [L2(1e-9)], combine=PCGrad())(x, y)
    one, two = by_part(model, terms, [1.0, 1e-9])
    terms.backward()
    once = flat(model)
    assert_close([once], [against(one, two) + against(two, one)], rtol=1e-9)
    terms = Objective(model, td.cross_entropy, combine=PCGrad())(x, y)
    terms.backward()  # one part: its gradient, beside what is there
    assert_close([flat(model)], [once + one], rtol=1e-9)


class Towards(L2):
    """A linear function of the parameters: its gradient is a constant."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(1.0, **options)
        self.seed = seed

    def __call__(self, seen: Any) -> td.Tensor:
        r = np.random.default_rng(self.seed)
        return sum((p * td.tensor(r.standard_normal(p.shape))).sum() for p in seen.model.parameters())


def test_pc_grad_projects_on_the_others_as_they_were_in_an_order_of_its_own() -> None:
    """Also in a recorded step; the order is drawn anew for each part and each step."""
    model, (x, y) = network(), batch()
    terms = [Towards(seed, name=f"to{seed}") for seed in range(3)]

    def run(wrap: Callable[[Any], Any]) -> tuple[list[np.ndarray], td.Generator]:
        surgery = PCGrad(td.Generator(7))
        objective = Objective(model, td.cross_entropy, terms, combine=surgery)

        def step(x: td.Tensor, y: td.Tensor) -> Any:
            model.zero_grad()
            found = objective(x, y)
            found.backward()
            return found.total

        play, found = wrap(step), []
        for _ in range(3):
            play(x, y)
            found.append(flat(model))
        return found, surgery.generator

    eager, generator = run(lambda step: step)
    recorded, other = run(td.record)
    assert [g.tobytes() for g in eager] == [g.tobytes() for g in recorded]
    assert generator.state_dict() == other.state_dict()
    assert not np.array_equal(eager[0], eager[1])
    rows = by_part(model, Objective(model, td.cross_entropy, terms)(x, y), [1.0] * 4)
    again = td.Generator(7)
    for found in eager:
        total = 0.0
        for i, row in enumerate(rows):
            others = [g for j, g in enumerate(rows) if j != i]
            for k in td.randperm(3, again).tolist():
                row = against(row, others[k])
            total = total + row
        assert_close([found], [total], rtol=1e-9)


def test_pc_grad_keeps_the_dtypes_of_parameters() -> None:
    model, (x, y) = network().float(), batch()
    weighting = UncertaintyWeighting(TASKS, ("classification", "regression"))
    objective = Objective(model, weighting, [L2(0.1)], combine=PCGrad())
    objective(td.cast(x, "float32"), y).backward()
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype("float32")}
    assert weighting.s.grad.dtype == np.float64


def test_the_order_of_surgery_is_in_the_state() -> None:
    def made() -> Objective:
        td.manual_seed(3)
        return Objective(
            nn.Linear(4, 3), td.cross_entropy, [L2(0.1), ConfidencePenalty(1.0)], combine=PCGrad()
        )

    objective, other = made(), made()
    x, y = td.ones(2, 4), td.tensor([0, 1])
    objective(x, y).backward()
    moved = objective.state_dict()
    assert "combine" in moved
    other.load_state_dict(moved)
    assert other.combine.generator.state_dict() == objective.combine.generator.state_dict()
    assert made().combine.generator.state_dict() != objective.combine.generator.state_dict()


def test_an_evaluation_moves_no_weights_of_tasks() -> None:
    model = nn.Linear(4, 2).double()
    loss = GradNorm([lambda z, y: (z[:, 0] ** 2).mean(), lambda z, y: (z[:, 1] ** 2).mean()], "weight")
    objective, x = Objective(model, loss), td.ones(3, 4, dtype="float64")
    objective(x)
    before = {name: value.tolist() for name, value in loss.state().items() if isinstance(value, td.Tensor)}
    with td.no_grad():
        found = objective(2 * x)
    assert found.loss.item() == pytest.approx(float((model(2 * x) ** 2).mean(0).sum()))
    assert {n: v.tolist() for n, v in loss.state().items() if isinstance(v, td.Tensor)} == before
