"""Functions of choices.py, joining.py, margins.py and products with a sum: values and both derivatives are
PyTorch's, at ties, NaN, infinities, 0-d and empty tensors too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparisons import comparison
from test_pytorch_samples import check, drawn

import tinydl as td

pytestmark = pytest.mark.torch

INF, NAN = np.inf, np.nan
SPECIAL = np.array([0.0, 1.0, -2.0, INF, -INF, NAN])


@pytest.fixture(autouse=True)
def reference() -> Any:
    with td.backend("reference"):
        yield


@pytest.mark.parametrize("equal_nan", [False, True])
def test_isclose(equal_nan: bool) -> None:
    a, b = (x.reshape(-1) for x in np.meshgrid(SPECIAL, [*SPECIAL, 1.0 + 1e-6, 1.1]))
    check(lambda t, F, a, b: t.isclose(a, b, equal_nan=equal_nan), a, b, order=0)
    check(lambda t, F, a, b: t.isclose(a, b, rtol=0.2, atol=0.5), a, b, order=0)
    check(lambda t, F, a, b: t.isclose(a, b, atol=1), np.array([1, 5]), np.array([2, 7]), order=0)


def test_nan_to_num() -> None:
    check(lambda t, F, x: t.nan_to_num(x) * 1e-200, SPECIAL)
    check(lambda t, F, x: t.nan_to_num(x, 0.5, 7.0, -8.0) ** 2, SPECIAL)
    check(lambda t, F, x: t.nan_to_num(x), np.array([1, 2]), order=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda t, F, x, y: t.logaddexp(x, y),
        lambda t, F, x, y: t.logaddexp(40 * x, y),
        lambda t, F, x, y: t.xlogy(x, y * y),
        lambda t, F, x, y: t.xlogy(2.0, x * x + y * y),
        lambda t, F, x, y: t.xlogy(x * y, 3.0),
        lambda t, F, x, y: t.logit(t.sigmoid(x)) * y,
        lambda t, F, x, y: t.logit(x, 0.3) * y,
        lambda t, F, x, y: t.hstack([x, y]) ** 2,
        lambda t, F, x, y: t.vstack((x, y)) ** 2,
    ],
)
@pytest.mark.parametrize("shape", [(3, 4), (3,), (), (0, 2)])
def test_of_two(call: Callable[..., Any], shape: tuple[int, ...]) -> None:
    check(call, drawn(*shape), drawn(*shape, seed=1))


def test_logarithms_at_their_ends() -> None:
    a, b = (x.reshape(-1) for x in np.meshgrid(SPECIAL, SPECIAL))
    check(
        lambda t, F, a, b: (t.logaddexp(a.detach(), b.detach()), t.xlogy(a.detach(), b.detach())),
        a,
        b,
        order=0,
    )
    check(lambda t, F, a, b: t.xlogy(a, b), np.array([0.0, 2.0]), np.array([2.0, 3.0]))
    check(lambda t, F, p: t.logit(p.detach()), np.array([0.0, 1.0, -1.0, 2.0, 0.5, NAN]), order=0)
    check(lambda t, F, p: t.logit(p.detach(), 1e-3), np.array([0.0, 1.0, 0.5]), order=0)


APART = np.random.default_rng(0).permutation(np.linspace(-1, 1, 24)).reshape(2, 3, 4)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [False, True])
def test_order(dim: int, keepdim: bool) -> None:
    check(lambda t, F, x: t.kthvalue(x, 2, dim, keepdim)[0] ** 2, APART)
    check(lambda t, F, x: t.median(x, dim, keepdim)[0] ** 2, APART)
    check(lambda t, F, x: t.median(x, dim, keepdim)[1], APART, order=0)
    for how in ("linear", "lower", "higher", "midpoint", "nearest"):
        check(lambda t, F, x, how=how: t.quantile(x, 0.3, dim, keepdim, interpolation=how) ** 2, APART)
    check(lambda t, F, x: t.quantile(x, t.tensor([0.0, 0.6, 1.0]).double(), dim, keepdim) ** 2, APART)


def test_order_of_all_of_0_d_and_of_nan() -> None:
    check(lambda t, F, x: (t.median(x) ** 2, t.quantile(x, 0.45) ** 2), APART)
    check(
        lambda t, F, x: (t.median(x), t.median(x, 0)[0], t.kthvalue(x, 1)[0], t.quantile(x, 0.5)),
        np.array(2.0),
    )
    rows = np.array([[1.0, NAN, 0.0], [3.0, 2.0, 1.0], [NAN, NAN, 1.0]])
    check(lambda t, F, x: (*t.median(x, 1), t.median(x), t.quantile(x, 0.2, 1)), rows, order=0)
    check(lambda t, F, x: t.quantile(x, 0.2, keepdim=True), rows, order=0)
    check(lambda t, F, x: t.median(x, 1)[0], np.array([[3, 1, 2], [5, 9, 7]]), order=0)


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted(right: bool) -> None:
    line = np.array([1.0, 2.0, 2.0, 5.0])
    values = np.array([[0.0, 1.0, 2.0], [3.0, 5.0, INF]])
    check(lambda t, F, x, v: t.searchsorted(x, v, right=right), line, values, order=0)
    check(lambda t, F, x, v: t.searchsorted(x, v, side="right" if right else "left"), line, values, order=0)
    order = np.array([3, 0, 1, 2])
    mixed = line[order.argsort()]
    check(lambda t, F, x, v, o: t.searchsorted(x, v, sorter=o, out_int32=True), mixed, values, order, order=0)
    rows = np.sort(drawn(2, 5), 1)
    check(lambda t, F, x, v: t.searchsorted(x, v, right=right), rows, values, order=0)
    check(lambda t, F, x: t.searchsorted(x, 2, right=right), np.array([1, 2, 2, 4]), order=0)


def test_slices_by_places() -> None:
    x, s, i = drawn(3, 4), drawn(3, 2, seed=1), np.array([3, 0])
    check(lambda t, F, x, i, s: t.index_add(x, 1, i, s, alpha=2) ** 2, x, i, s)
    check(lambda t, F, x, i, s: x.index_add(-1, i, s) ** 2, x, np.array([1, 1]), s)
    check(lambda t, F, x, i, s: t.index_copy(x, 1, i, s) ** 2, x, i, s)
    check(lambda t, F, x, i: t.index_fill(x, 1, i, 2.5) * x, x, i)
    check(lambda t, F, x, i, v: t.index_fill(x, 0, i, v) ** 2, x, np.array([2]), np.array(1.5))
    check(lambda t, F, x, i, s: t.index_add(x, 0, i, s) ** 2, np.array(2.0), np.array(0), np.array(3.0))


def test_products() -> None:
    a, b = drawn(3, 4), drawn(4, 2)
    for shape in ((3, 2), (2,), (3, 1), ()):
        check(lambda t, F, x, a, b: t.addmm(x, a, b, beta=0.5, alpha=-2) ** 2, drawn(*shape), a, b)
    check(lambda t, F, x, a, b: t.addmm(x, a, b, beta=0) ** 2, np.full((3, 2), NAN), a, b)
    check(lambda t, F, x, a, b: t.baddbmm(x, a, b, alpha=0.3) ** 2, drawn(2), drawn(2, 3, 4), drawn(2, 4, 2))
    check(lambda t, F, a, b: t.tensordot(a, b, 1) ** 2, a, b)
    check(lambda t, F, a, b: t.tensordot(a, b, dims=0) ** 2, a, b)
    check(lambda t, F, a, b: t.tensordot(a, b, ([1], [0])) ** 2, a, b)
    check(lambda t, F, a, b: t.tensordot(a, b, ((0, 2), (1, -1))), drawn(2, 3, 4), drawn(5, 2, 4))


LABELS = np.array([[2, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3]])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_margins(reduction: str) -> None:
    x, y, signs = drawn(3, 4), drawn(3, 4, seed=1), np.sign(drawn(3, 4, seed=2))
    r = reduction
    check(lambda t, F, x, y: F.margin_ranking_loss(x, y, t.tensor(signs), 0.4, reduction=r), x, y)
    check(lambda t, F, x, y: F.margin_ranking_loss(x, y, t.tensor(signs[:1]), reduction=r) ** 2, x, y[:1])
    check(lambda t, F, x: F.soft_margin_loss(x, t.tensor(signs), reduction=r), x)
    parts, weight = 1 / (1 + np.exp(-y)), np.abs(drawn(4))
    check(lambda t, F, x, p: F.multilabel_soft_margin_loss(x, p, reduction=r), x, parts)
    check(lambda t, F, x, p, w: F.multilabel_soft_margin_loss(x, p, w, reduction=r), x, parts, weight)
    check(lambda t, F, x, n: F.multilabel_margin_loss(x, n, reduction=r), x, LABELS, order=1)
    check(lambda t, F, x, n: F.multilabel_margin_loss(x, n, reduction=r), x[0], LABELS[0], order=1)
    check(lambda t, F, x, y: t.nn.MarginRankingLoss(0.3, reduction=r)(x, y, t.tensor(signs)), x, y)
    check(lambda t, F, x: t.nn.SoftMarginLoss(reduction=r)(x, t.tensor(signs)), x)
    check(lambda t, F, x: t.nn.MultiLabelSoftMarginLoss(reduction=r)(x, t.tensor(parts)), x)
    check(lambda t, F, x: t.nn.MultiLabelMarginLoss(reduction=r)(x, t.tensor(LABELS)), x, order=1)


# ---- Layers that give images another size


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("kind", ["ConstantPad", "ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad"])
def test_margins_of_images(kind: str, axes: int) -> None:
    sides = (1, 2, 0, 1, 2, 1)[: 2 * axes]
    more = (0.5,) if kind == "ConstantPad" else ()
    shape = (2, 2, 4, 3, 5)[: axes + 2]
    for padding in (1, sides):
        check(lambda t, F, x, p=padding: getattr(t.nn, f"{kind}{axes}d")(p, *more)(x) ** 2, drawn(*shape))
    check(lambda t, F, x: getattr(t.nn, f"{kind}{axes}d")(1, *more)(x) ** 2, drawn(*shape[1:]))
    with pytest.raises(ValueError, match=rf"{kind}{axes}d: expected padding an integer"):
        getattr(td.nn, f"{kind}{axes}d")((1,), *more)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: n.Upsample(scale_factor=2),
        lambda n: n.Upsample((5, 4), mode="bilinear", align_corners=True),
        lambda n: n.Upsample(scale_factor=(1.5, 2.0), mode="bicubic"),
        lambda n: n.UpsamplingNearest2d(scale_factor=2),
        lambda n: n.UpsamplingNearest2d((5, 4)),
        lambda n: n.UpsamplingBilinear2d(scale_factor=2),
        lambda n: n.PixelShuffle(2),
        lambda n: n.PixelUnshuffle(2),
    ],
)
def test_resized_images(make: Callable[..., Any]) -> None:
    check(lambda t, F, x: make(t.nn)(x) ** 2, drawn(2, 4, 4, 2))


@pytest.mark.parametrize("p", [0.0, 1.0, 1.5, 2.0, 3.0, INF])
def test_distances(p: float) -> None:
    x, y = drawn(2, 3, 4), drawn(2, 5, 4, seed=1)
    check(lambda t, F, x, y: t.cdist(x, y, p) ** 2, x, y, order=1 if p else 0)
    order = 2 if p else 0
    check(lambda t, F, x, y: F.pairwise_distance(x, y, p, keepdim=True) ** 2, x, y[:, :3], order=order)


def test_draws_of_classes_have_the_same_frequencies() -> None:
    torch = pytest.importorskip("torch")
    n, p = 20_000, np.array([0.2, 0.0, 0.5, 0.3])
    bound = 5 * np.sqrt(0.25 / n)
    torch.manual_seed(0)
    td.manual_seed(0)
    with comparison():
        for t, F in ((td, td.nn.functional), (torch, torch.nn.functional)):
            classes = np.asarray(t.multinomial(t.tensor(p), n, True))
            np.testing.assert_allclose(np.bincount(classes, minlength=4) / n, p, atol=bound)
            two = np.asarray(t.multinomial(t.tensor(np.tile(p, (n, 1))), 2))
            assert (two[:, 0] != two[:, 1]).all()
            np.testing.assert_allclose(np.bincount(two[:, 0], minlength=4) / n, p, atol=bound)
            logits = t.tensor(np.tile(np.log(p + 1e-300), (n, 1)))
            chosen = F.gumbel_softmax(logits, 0.3, True)
            np.testing.assert_allclose(np.asarray(chosen.sum(0)) / n, p, atol=bound)
            soft = np.asarray(F.gumbel_softmax(logits, tau=0.5, hard=False, dim=1))
            np.testing.assert_allclose(soft.sum(1), 1)
