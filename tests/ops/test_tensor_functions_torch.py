"""Shapes, indexing, reductions, order and products as PyTorch has them: values and
two derivatives, in float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree

import tinydl as td

torch = pytest.importorskip("torch")

# what it is; function of the library and the inputs; shapes, or arrays
Case = tuple[str, Callable[..., Any], list[Any]]
random = np.random.default_rng(7)
ZEROS = np.array([[1.5, 0.0, -2.0, 0.5], [0.0, 3.0, 0.0, 1.0], [2.0, -1.0, 0.5, 4.0]])
TIES = np.array([[1.0, 3.0, 3.0, -1.0], [2.0, 2.0, 2.0, 0.0]])
PLACES = np.array([[0, 2, 1, 0], [2, 1, 0, 1]])
MASK = np.array([[True, False, True, False], [False, False, True, True], [True, True, True, False]])


def named(m: Any) -> Any:
    """Where functions of torch.nn.functional are."""
    return m if m is td else torch.nn.functional


SHAPES: list[Case] = [
    ("view", lambda m, x: x.view(4, -1), [(2, 3, 2)]),
    ("movedim", lambda m, x: m.movedim(x, (0, 2), (-1, 0)), [(2, 3, 4)]),
    ("movedim one", lambda m, x: m.movedim(x, -1, 1), [(2, 3, 4)]),
    ("flip", lambda m, x: m.flip(x, (0, 2)), [(2, 3, 4)]),
    ("roll", lambda m, x: m.roll(x, (1, -2), (0, 1)), [(3, 4)]),
    ("roll flat", lambda m, x: m.roll(x, 5), [(3, 4)]),
    ("roll round", lambda m, x: m.roll(x, -9, 1), [(3, 4)]),
    *[(f"rot90 {k}", lambda m, x, k=k: m.rot90(x, k, (2, 0)), [(2, 3, 4)]) for k in range(-1, 5)],
    ("tile", lambda m, x: m.tile(x, (2, 3)), [(2, 1, 4)]),
    ("tile more", lambda m, x: m.tile(x, (2, 1, 3)), [(2, 3)]),
    ("repeat", lambda m, x: x.repeat(2, 1, 3), [(2, 3)]),
    ("split", lambda m, x: m.split(x, 2, 1), [(2, 5)]),
    ("split sizes", lambda m, x: m.split(x, [1, 0, 4], -1)[::2], [(2, 5)]),
    ("split zero", lambda m, x: m.split(x, 3), [(0, 5)]),
    ("chunk", lambda m, x: m.chunk(x, 3, 0), [(7, 2)]),
    ("chunk fewer", lambda m, x: m.chunk(x, 4), [(6, 2)]),
    ("unbind", lambda m, x: m.unbind(x, 1), [(2, 3, 2)]),
    ("narrow", lambda m, x: m.narrow(x, 1, -3, 2), [(2, 5)]),
    ("meshgrid", lambda m, x, y: m.meshgrid(x, y, indexing="ij"), [(3,), (4,)]),
    ("meshgrid xy", lambda m, x, y, z: m.meshgrid(x, y, z, indexing="xy"), [(3,), (4,), (2,)]),
    ("tril", lambda m, x: m.tril(x, 1), [(2, 3, 4)]),
    ("triu", lambda m, x: m.triu(x, -1), [(4, 3)]),
    ("diag", lambda m, x: m.diag(x, -1), [(3,)]),
    ("diag of", lambda m, x: m.diag(x, 1), [(3, 4)]),
    ("diagonal", lambda m, x: m.diagonal(x, 1, 2, 0), [(3, 2, 4)]),
    ("pad reflect", lambda m, x: named(m).pad(x, (2, 1, 1, 2), "reflect"), [(2, 3, 4)]),
    ("pad replicate", lambda m, x: named(m).pad(x, (2, 5), "replicate"), [(2, 3, 4)]),
    ("pad circular", lambda m, x: named(m).pad(x, (4, 1, 0, 2), "circular"), [(2, 2, 3, 4)]),
    ("pad crop", lambda m, x: named(m).pad(x, (-1, 2, 1, -1), value=3.0), [(2, 3, 4)]),
    ("pixel_shuffle", lambda m, x: named(m).pixel_shuffle(x, 2), [(2, 8, 3, 2)]),
    ("pixel_unshuffle", lambda m, x: named(m).pixel_unshuffle(x, 3), [(2, 6, 3)]),
    ("broadcast_tensors", lambda m, x, y: m.broadcast_tensors(x, y), [(3, 1), (2, 1, 4)]),
]
INDEXING: list[Case] = [
    ("index_select", lambda m, x: m.index_select(x, 1, m.tensor([2, 0, 2])), [(2, 3, 2)]),
    ("gather", lambda m, x, i: m.gather(x, 0, i), [(3, 5), PLACES]),
    ("gather last", lambda m, x, i: m.gather(x, 1, i), [(3, 4), PLACES]),
    ("scatter", lambda m, x, y: m.scatter(x, 1, m.tensor([[0, 3, 1], [2, 1, 0]]), y), [(3, 4), (2, 3)]),
    ("scatter number", lambda m, x, i: m.scatter(x, 1, i, 7.0), [(3, 4), PLACES]),
    ("scatter_add", lambda m, x, y, i: m.scatter_add(x, 0, i, y), [(3, 5), (2, 4), PLACES]),
    ("scatter_add last", lambda m, x, y, i: m.scatter_add(x, 1, i, y), [(2, 3), (2, 4), PLACES]),
    ("take_along_dim", lambda m, x: m.take_along_dim(x, m.tensor([[[1], [0], [1]]]), 0), [(2, 3, 4)]),
    ("take_along_dim flat", lambda m, x, i: m.take_along_dim(x, i), [(3, 4), PLACES]),
    ("masked_fill", lambda m, x, k: m.masked_fill(x, k, -1.5), [(2, 3, 4), MASK]),
    ("masked_select", lambda m, x, k: m.masked_select(x, k), [(2, 3, 4), MASK]),
    ("repeat_interleave", lambda m, x: m.repeat_interleave(x, 3, 1), [(2, 3, 2)]),
    ("repeat_interleave flat", lambda m, x: m.repeat_interleave(x, 2), [(2, 3)]),
    ("repeat_interleave counts", lambda m, x: m.repeat_interleave(x, m.tensor([2, 0, 1]), 1), [(2, 3, 2)]),
    ("index arrays", lambda m, x, i: x[i, :, i], [(3, 2, 4), PLACES]),
    ("index mask", lambda m, x, k: x[k], [(3, 4, 2), MASK]),
    ("bincount", lambda m, i: m.bincount(i, minlength=6), [PLACES.reshape(-1)]),
    ("nonzero", lambda m, k: m.nonzero(k), [MASK]),
    ("one_hot", lambda m, i: named(m).one_hot(i, 4), [PLACES]),
    ("one_hot counted", lambda m, i: named(m).one_hot(i), [PLACES]),
]
REDUCTIONS: list[Case] = [
    ("prod", lambda m, x: m.prod(x, 1), [ZEROS]),
    ("prod all", lambda m, x: m.prod(x), [ZEROS[2]]),
    ("prod keepdim", lambda m, x: m.prod(x, 0, True), [ZEROS]),
    ("prod int", lambda m, i: m.prod(i, 1), [PLACES]),
    ("cumsum", lambda m, x: m.cumsum(x, 0), [(3, 4)]),
    ("cumprod", lambda m, x: m.cumprod(x, 1), [ZEROS]),
    ("cumprod deep", lambda m, x: m.cumprod(x, 1), [(2, 5, 3)]),
    ("var", lambda m, x: m.var(x, (0, 2)), [(2, 3, 4)]),
    ("var biased", lambda m, x: m.var(x, False), [(3, 4)]),
    ("var correction", lambda m, x: m.var(x, 1, correction=2, keepdim=True), [(3, 4)]),
    ("std", lambda m, x: m.std(x, 1), [(3, 4)]),
    ("std all", lambda m, x: m.std(x), [(3, 4)]),
    ("var_mean", lambda m, x: m.var_mean(x, 1), [(3, 4)]),
    *[
        (
            f"norm {p}",
            lambda m, x, p=p: m.norm(x, p, 1),
            [np.abs(ZEROS) + 0.1 if p in (0.5, 2.5, -1) else ZEROS],
        )
        for p in (0, 0.5, 1, 2, 2.5, 3, 4, -1, float("inf"), float("-inf"))
    ],
    ("norm fro", lambda m, x: m.norm(x), [(2, 3, 4)]),
    ("norm dims", lambda m, x: m.norm(x, dim=(0, 2), keepdim=True), [(2, 3, 4)]),
    ("argmin", lambda m, x: m.argmin(x, 0), [(3, 4)]),
    ("argmin all", lambda m, x: m.argmin(x), [(3, 4)]),
    ("any", lambda m, k: m.any(k, 1), [MASK]),
    ("any all", lambda m, k: m.any(k), [MASK]),
    ("all", lambda m, k: m.all(k, 1, keepdim=True), [MASK]),
    ("all dims", lambda m, k: m.all(k, (0, 1)), [MASK]),
]
ORDER: list[Case] = [
    ("sort", lambda m, x: m.sort(x), [(3, 4)]),
    ("sort descending", lambda m, x: m.sort(x, dim=0, descending=True), [(5, 2)]),
    ("sort stable", lambda m, x: m.sort(x, dim=1, descending=True, stable=True), [TIES]),
    ("argsort", lambda m, x: m.argsort(x, dim=1, stable=True), [TIES]),
    ("sort nan", lambda m, x: m.sort(x, descending=True)[1], [np.array([1.0, np.nan, 2.0])]),
    ("topk", lambda m, x: m.topk(x, 2, 0), [(4, 3)]),
    ("topk smallest", lambda m, x: m.topk(x, 3, largest=False), [(2, 5)]),
    ("unique", lambda m, x: m.unique(x.detach(), return_inverse=True, return_counts=True), [TIES]),
    ("unique dim", lambda m, i: m.unique(i, return_inverse=True, return_counts=True, dim=1), [PLACES]),
]
PRODUCTS: list[Case] = [
    ("mm", lambda m, x, y: m.mm(x, y), [(2, 3), (3, 4)]),
    ("bmm", lambda m, x, y: m.bmm(x, y), [(2, 2, 3), (2, 3, 4)]),
    ("mv", lambda m, x, y: m.mv(x, y), [(2, 3), (3,)]),
    ("dot", lambda m, x, y: m.dot(x, y), [(3,), (3,)]),
    ("outer", lambda m, x, y: m.outer(x, y), [(3,), (4,)]),
    ("cross", lambda m, x, y: m.cross(x, y, dim=1), [(2, 3, 4), (1, 3, 4)]),
    ("kron", lambda m, x, y: m.kron(x, y), [(2, 3), (2, 2, 2)]),
    *[
        (f"einsum {equation}", lambda m, *xs, equation=equation: m.einsum(equation, *xs), list(shapes))
        for equation, *shapes in [
            ("ij,jk->ik", (2, 3), (3, 4)),
            ("ij,jk", (2, 3), (3, 4)),
            ("ba", (2, 3)),
            ("ii->i", (3, 3)),
            ("ii", (3, 3)),
            ("iij->j", (3, 3, 2)),
            ("iii->i", (2, 2, 2)),
            ("ii,i->", (3, 3), (3,)),
            ("...ij,...jk->...ik", (2, 2, 3), (3, 4)),
            ("...i->...", (2, 3, 4)),
            ("i...,i...->...", (3, 2, 1), (3, 4)),
            ("...,...->...", (2, 3), ()),
            ("bij,bik->bjk", (2, 3, 2), (2, 3, 4)),
            ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 2, 4)),
            ("i,j,k->kij", (2,), (3,), (4,)),
            ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 2), (2, 3)),
            ("ab,bc,ca->", (2, 3), (3, 4), (4, 2)),
            ("ij,ij->", (2, 3), (2, 3)),
            ("ij,kj->", (2, 3), (2, 3)),
            ("ij,->ij", (2, 3), ()),
            ("i,i->i", (1,), (4,)),
            ("aBc,cB -> aB", (2, 3, 4), (4, 3)),
            ("->", ()),
        ]
    ],
]


CASES = [*SHAPES, *INDEXING, *REDUCTIONS, *ORDER, *PRODUCTS]


@pytest.mark.parametrize(
    ("function", "inputs"), [pytest.param(f, i, id=n.replace(" ", "-")) for n, f, i in CASES]
)
def test_agrees_with_torch(function: Callable[..., Any], inputs: list[Any]) -> None:
    arrays = [random.standard_normal(x) if isinstance(x, tuple) else np.array(x) for x in inputs]
    assert_agree(functools.partial(function, td), functools.partial(function, torch), arrays)
