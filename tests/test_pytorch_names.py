"""Names that no test of their own family holds against PyTorch's: values, first and
second derivatives, in float64.

With them every counterpart that tests/surface.txt lists is in a test that compares with PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from test_surface import PAIRS

import tinydl as td

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
P, Q = rng.uniform(0.3, 2.0, (3, 4)), rng.uniform(0.3, 2.0, (3, 4))
SIGN, CLASS = np.sign(rng.standard_normal((3, 4))), rng.integers(0, 4, 3)
IMAGES, VOLUMES = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((2, 3, 5, 4, 6))
MAPS, ONES = rng.standard_normal((2, 3, 8)), np.sign(rng.standard_normal(3))

# The same expression of `t`, tinydl or torch, with its `nn` and its `F`, of the arrays.
Expression = Callable[..., Any]
EXPRESSIONS: dict[str, tuple[Expression, tuple[np.ndarray, ...]]] = {
    "matmul": (lambda t, nn, F, x, y: t.matmul(x, y), (X, rng.standard_normal((2, 4, 5)))),
    "sub": (lambda t, nn, F, x, y: t.sub(x, y) * x, (X, Y[0])),
    "div": (lambda t, nn, F, x, y: t.div(x, y), (X, P[0])),
    "pow": (lambda t, nn, F, x, y: t.pow(x, y), (P, Y)),
    "pow of a number": (lambda t, nn, F, x: t.pow(x, 3.0), (X,)),
    "clip": (lambda t, nn, F, x: t.clip(x, -0.5, 0.7), (X,)),
    "clamp": (lambda t, nn, F, x: t.clamp(x, min=-0.2), (X,)),
    "transpose": (lambda t, nn, F, x: t.transpose(x, 0, 1) * 2.0, (X,)),
    "cat": (lambda t, nn, F, x, y: t.cat([x, y, x], 1), (X, Y)),
    "conv_transpose3d": (
        lambda t, nn, F, x, w: F.conv_transpose3d(x, w, stride=2, padding=1, output_padding=1),
        (VOLUMES, rng.standard_normal((3, 2, 3, 2, 2))),
    ),
    "lp_pool3d": (lambda t, nn, F, x: F.lp_pool3d(x, 3.0, 2), (np.abs(VOLUMES) + 0.1,)),
    "adaptive_max_pool3d": (lambda t, nn, F, x: F.adaptive_max_pool3d(x, (2, 3, 4)), (VOLUMES,)),
    "max_unpool3d": (
        lambda t, nn, F, x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2),
        (VOLUMES[..., :4, :, :],),
    ),
    "MaxUnpool1d": (lambda t, nn, F, x: nn.MaxUnpool1d(2)(*nn.MaxPool1d(2, return_indices=True)(x)), (MAPS,)),
    "MaxUnpool2d": (
        lambda t, nn, F, x: nn.MaxUnpool2d(2)(*nn.MaxPool2d(2, return_indices=True)(x)),
        (IMAGES[..., :4],),
    ),
    "MaxUnpool3d": (
        lambda t, nn, F, x: nn.MaxUnpool3d(2)(*nn.MaxPool3d(2, return_indices=True)(x)),
        (VOLUMES[..., :4, :, :],),
    ),
    "BatchNorm3d": (
        lambda t, nn, F, x: nn.BatchNorm3d(3, affine=False, track_running_stats=False)(x),
        (VOLUMES,),
    ),
    "InstanceNorm2d": (lambda t, nn, F, x: nn.InstanceNorm2d(3)(x), (IMAGES,)),
    "InstanceNorm3d": (lambda t, nn, F, x: nn.InstanceNorm3d(3)(x), (VOLUMES,)),
    "RMSNorm": (lambda t, nn, F, x: nn.RMSNorm(4, eps=1e-5, elementwise_affine=False)(x), (X,)),
    "LocalResponseNorm": (lambda t, nn, F, x: nn.LocalResponseNorm(2, alpha=0.1)(x), (IMAGES,)),
    "HingeEmbeddingLoss": (lambda t, nn, F, x, y: nn.HingeEmbeddingLoss(0.7)(x, y.detach()), (P, SIGN)),
    "MultiMarginLoss": (lambda t, nn, F, x, y: nn.MultiMarginLoss(p=2)(x, y), (X, CLASS)),
    "CosineSimilarity": (lambda t, nn, F, x, y: nn.CosineSimilarity(1)(x, y), (X, Y)),
    "CosineEmbeddingLoss": (
        lambda t, nn, F, x, y, z: nn.CosineEmbeddingLoss(0.1)(x, y, z.detach()),
        (X, Y, ONES),
    ),
    "TripletMarginLoss": (lambda t, nn, F, x, y, z: nn.TripletMarginLoss()(x, y, z), (X, Y, P)),
    "GaussianNLLLoss": (lambda t, nn, F, x, y, z: nn.GaussianNLLLoss(full=True)(x, y, z), (X, Y, P)),
    "PoissonNLLLoss": (lambda t, nn, F, x, y: nn.PoissonNLLLoss(full=True)(x, y.detach()), (X, P + 1.2)),
    "CTCLoss": (
        lambda t, nn, F, x, y: nn.CTCLoss()(t.log_softmax(x, 2), y, t.tensor([6, 5]), t.tensor([2, 2])),
        (rng.standard_normal((6, 2, 4)), rng.integers(1, 4, (2, 2))),
    ),
}
ORDER = {"MultiMarginLoss": 1, "CTCLoss": 1}
"""Where PyTorch has no second derivative."""


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_derivatives(name: str) -> None:
    torch = pytest.importorskip("torch")
    expression, arrays = EXPRESSIONS[name]
    assert_agree(
        lambda *x: expression(td, td.nn, td, *x),
        lambda *x: expression(torch, torch.nn, torch.nn.functional, *x),
        arrays,
        order=ORDER.get(name, 2),
    )


QUERIES = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or")


@pytest.mark.parametrize("name", [*QUERIES, "logical_not", "argmax"])
def test_queries(name: str) -> None:
    torch = pytest.importorskip("torch")
    x, y = (np.array(rows, float) for rows in ([[0, 1, 2], [3, 0, 1]], [[0, 2, 1], [3, 1, 0]]))
    given = (x, y) if name in QUERIES else (x,)
    ours = getattr(td, name)(*map(td.tensor, given)).numpy()
    theirs = getattr(torch, name)(*map(torch.tensor, given)).numpy()
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


DRAWN = {"uniform_", "xavier_uniform_", "kaiming_uniform_"}
"""Random: their distributions are tested."""
SAVING = {"checkpoint"}
"""Changes no value."""


def test_every_counterpart_is_compared() -> None:
    paths = [path for path in Path(__file__).parent.rglob("test_*.py") if path.name != "test_signatures.py"]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    words = {
        word
        for text in texts
        if "assert_agree" in text or "(torch" in text
        for word in re.findall(r"\w+", text)
    }
    counterparts = {other.rpartition(".")[2] for _, other in PAIRS if other != "-"}
    assert sorted(counterparts - words - DRAWN - SAVING) == []
