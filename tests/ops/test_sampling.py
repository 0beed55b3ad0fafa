"""Draws of classes: their frequencies, what is never drawn, and the gradient of a hard choice."""

from __future__ import annotations

import numpy as np
import pytest

import tinydl as td

WEIGHTS = np.array([[0.0, 1.0, 2.0, 1.0], [3.0, 0.0, 1.0, 0.0]])


def test_frequencies_with_replacement() -> None:
    n = 20_000
    drawn = td.multinomial(td.tensor(WEIGHTS), n, True, generator=td.Generator(1))
    assert (drawn.shape, drawn.dtype) == ((2, n), np.int64)
    for row, weights in zip(drawn.numpy(), WEIGHTS, strict=True):
        p = weights / weights.sum()
        counts = np.bincount(row, minlength=4)
        assert (counts[p == 0] == 0).all()
        assert (np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p))).all()


def test_without_replacement_none_comes_twice_and_the_first_is_drawn_by_weight() -> None:
    n = 5000
    drawn = td.multinomial(td.tensor(np.tile(WEIGHTS[0], (n, 1))), 3, generator=td.Generator(2)).numpy()
    assert (np.sort(drawn, 1) == [1, 2, 3]).all()
    first = np.bincount(drawn[:, 0], minlength=4) / n
    np.testing.assert_allclose(first, [0, 0.25, 0.5, 0.25], atol=5 * np.sqrt(0.25 / n))


def test_a_vector_of_weights() -> None:
    assert td.multinomial(td.tensor([0.0, 5.0]), 3, True).tolist() == [1, 1, 1]
    assert td.tensor([0.0, 5.0]).multinomial(1).tolist() == [1]
    for bad in ([-1.0, 2.0], [np.nan, 1.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="multinomial: expected finite weights of at least 0"):
            td.multinomial(td.tensor(bad), 1, True)


def test_a_hard_choice_has_the_gradient_of_the_soft_one() -> None:
    x = td.randn(500, 3, generator=td.Generator(0), dtype="float64").requires_grad_()
    c = td.randn(500, 3, generator=td.Generator(5), dtype="float64")
    soft = td.gumbel_softmax(x, 0.5, generator=td.Generator(4))
    hard = td.gumbel_softmax(x, 0.5, True, generator=td.Generator(4))
    ordered = np.sort(hard.detach().numpy(), 1)
    np.testing.assert_allclose(ordered, np.tile([0.0, 0.0, 1.0], (500, 1)), atol=1e-15)
    assert hard.argmax(1).tolist() == soft.argmax(1).tolist()
    (of_soft,), (of_hard,) = (td.grad((y * c).sum(), [x]) for y in (soft, hard))
    np.testing.assert_allclose(of_hard.numpy(), of_soft.numpy(), rtol=1e-12)


def test_a_choice_is_made_with_the_probability_of_the_softmax() -> None:
    n = 20_000
    x = td.tensor(np.tile(np.log([0.2, 0.5, 0.3]), (n, 1)))
    counts = td.gumbel_softmax(x, hard=True, generator=td.Generator(6)).sum(0).numpy() / n
    np.testing.assert_allclose(counts, [0.2, 0.5, 0.3], atol=5 * np.sqrt(0.25 / n))
