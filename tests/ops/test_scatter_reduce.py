"""scatter_reduce beside PyTorch: ties, zeros, NaN, integers, parts of the input, without the input itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from agreement import assert_agree

import tinydl as td

RANDOM = np.random.default_rng(0)
X, SRC, INDEX = RANDOM.standard_normal((3, 4)), RANDOM.standard_normal((5, 4)), RANDOM.integers(0, 3, (5, 4))
INDEX[:, 0] = 1  # places 0 and 2 of this column get nothing
TIES = np.round(SRC * 1.5)
REDUCTIONS = ["sum", "prod", "mean", "amax", "amin"]
pytestmark = pytest.mark.usefixtures("reference")

every = pytest.mark.parametrize(("reduce", "include_self"), [*product(REDUCTIONS, [True, False])])


def agree(
    reduce: str, include_self: bool, dim: int, index: np.ndarray, *arrays: np.ndarray, order: int = 1
) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(
        lambda x, s: td.scatter_reduce(x, dim, td.tensor(index), s, reduce, include_self=include_self),
        lambda x, s: torch.scatter_reduce(x, dim, torch.tensor(index), s, reduce, include_self=include_self),
        arrays,
        order=order,
    )


@every
def test_along_a_dim(reduce: str, include_self: bool) -> None:
    agree(reduce, include_self, 0, INDEX, X, SRC)
    agree(reduce, include_self, -1, INDEX.T.copy(), X.T.copy(), SRC.T.copy())


@every
def test_an_index_of_a_part(reduce: str, include_self: bool) -> None:
    """PyTorch has no gradient there."""
    index = INDEX[:2, :3].copy()
    agree(reduce, include_self, 0, index, X, SRC, order=0)
    x, s = (td.tensor(a, requires_grad=True) for a in (X, SRC))
    assert td.gradcheck(
        lambda x, s: td.scatter_reduce(x, 0, td.tensor(index), s, reduce, include_self=include_self), [x, s]
    )


@every
def test_ties(reduce: str, include_self: bool) -> None:
    """Where the input takes no part but equals the best, PyTorch counts it among those that share."""
    if reduce != "prod":
        agree(reduce, include_self, 0, INDEX, np.round(X) if include_self else X, TIES)


@every
def test_integers(reduce: str, include_self: bool) -> None:
    agree(
        reduce, include_self, 0, INDEX, RANDOM.integers(1, 9, (3, 4)), RANDOM.integers(-5, 9, (5, 4)), order=0
    )


@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_what_is_not_a_number_or_finite(reduce: str) -> None:
    source = SRC.copy()
    source[1, 1], source[2, 2], source[3, 3] = np.nan, np.inf, -np.inf
    for include_self in (True, False):
        agree(reduce, include_self, 0, INDEX, X, source, order=0)


def test_zeros_of_a_product_to_the_second_order() -> None:
    source = SRC.copy()
    source[[0, 1, 3], [0, 0, 2]] = 0.0
    x = td.tensor(X, requires_grad=True)
    s = td.tensor(source, requires_grad=True)
    assert td.gradcheck(lambda x, s: td.scatter_reduce(x, 0, td.tensor(INDEX), s, "prod"), [x, s], order=2)


def test_numbers_and_nothing() -> None:
    for reduce in REDUCTIONS:
        agree(reduce, True, 0, np.zeros((), int), np.array(2.0), np.array(3.0))
        agree(reduce, True, 0, np.zeros((0, 4), int), X, SRC[:0], order=0)
