"""The loop of the short programs, against one by hand."""

from __future__ import annotations

import numpy as np
import pytest

import tinydl as td
from tinydl.data import Batches
from tinydl.optim.lr_scheduler import ExponentialLR
from tinydl.regularizers import DataGrad, MaxNorm, Objective
from tinydl.study import descend, error_rate


def made():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 6)), random.integers(0, 3, 40)
    with td.random_from(td.Generator(1)):
        model = td.models.MLP(6, (5,), 3, dropout=0.5, dtype=np.float64)
    return model, x, y, Batches(x, y, batch_size=8, seed=3)


def test_against_a_loop_by_hand():
    both = []
    for by_hand in (True, False):
        td.manual_seed(0)
        model, _, _, batches = made()
        objective = Objective(model, td.cross_entropy, [DataGrad(0.1, every=2), MaxNorm(0.5)])
        sgd = td.optim.SGD(model.parameters(), lr=0.5)
        schedule = ExponentialLR(sgd, 0.9)
        model.eval()
        if by_hand:
            model.train()
            losses = []
            for _ in range(9):
                sgd.zero_grad()
                terms = objective(*map(td.tensor, batches.next_batch()))
                terms.total.backward()
                sgd.step()
                objective.after(sgd)
                schedule.step()
                losses.append(terms.loss.item())
        else:
            losses = np.concatenate([descend(objective, sgd, batches, n, schedule) for n in (5, 4)])
        both.append((np.array(losses), [p.numpy().copy() for p in model.parameters()]))
    (expected, weights), (found, own) = both
    assert np.array_equal(found, expected)
    assert all(np.array_equal(a, b) for a, b in zip(own, weights, strict=True))


def test_error_rate_is_of_evaluation():
    model, x, y, _ = made()
    expected = 100 * np.mean(model.eval()(td.tensor(x)).numpy().argmax(1) != y)
    model.train()
    assert error_rate(model, np.tile(x, (60, 1)), np.tile(y, 60)) == pytest.approx(expected)
    assert model.training
