"""What the programs of examples/ share: the recorded loop, differences, runs as dots."""

from __future__ import annotations

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.data import Batches
from tinydl.optim.lr_scheduler import ExponentialLR
from tinydl.study import differences, draw_runs, train


def _case():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 4, 40)
    td.manual_seed(0)
    model = nn.Linear(3, 4)
    return x, y, model, td.optim.SGD(model.parameters(), lr=0.5)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_train_is_the_plain_loop(clip):
    x, y, model, sgd = _case()
    losses = train(model, sgd, Batches(x, y, batch_size=8), 6, schedule=ExponentialLR(sgd, 0.5), clip=clip)
    _, _, plain, descent = _case()
    batches, expected = Batches(x, y, batch_size=8), []
    for k in range(6):
        descent.param_groups[0]["lr"] = 0.5 * 0.5**k
        descent.zero_grad()
        xs, ys = batches.next_batch()
        loss = td.cross_entropy(plain(td.tensor(xs)), td.tensor(ys))
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        descent.step()
        expected.append(loss.item())
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    np.testing.assert_allclose(model.weight.numpy(), plain.weight.numpy(), rtol=1e-5)


def test_differences_are_paired_and_told(capsys):
    values = {"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [0.0, 1.1, 1.9, 3.0, 4.0]}
    found = differences(values, [("a", "b")])
    assert found["a - b"].mean == pytest.approx(1.0)
    assert "a - b  +1.00" in capsys.readouterr().out


def test_runs_are_drawn_as_dots_and_a_mean():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    draw_runs(axes, {"a": [1.0, 3.0], "b": [5.0, 6.0]}, {"a": "red"})
    dots, mean, *_ = axes.lines
    assert list(dots.get_xdata()) == [1.0, 3.0]
    assert list(mean.get_xdata()) == [2.0, 2.0]
    assert dots.get_color() == "red"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.yaxis_inverted()
