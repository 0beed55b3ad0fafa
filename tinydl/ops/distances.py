"""Distances between points."""

from __future__ import annotations

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..engine.promotion import require_floating
from ..engine.public import public
from .elementwise import floated, sub
from .shape import common_shape, unsqueeze
from .statistics import norm

__all__ = [
    "cdist",
    "pairwise_distance",
]


@public
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0) -> Tensor:
    """‖x1_i - x2_j‖_p for points (*, n, d) and (*, m, d): (*, n, m). At distance 0 the derivatives are 0."""
    require_floating("cdist", x1, x2)
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(f"cdist: expected points (*, n, d) and (*, m, d), got {x1.shape} and {x2.shape}")
    if not p >= 0:
        raise ValueError(f"cdist: expected p of at least 0, got {p}")
    return norm(sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), p, -1)


@public
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x1 - x2 + eps‖_p over the last dim, of points that broadcast."""
    common_shape("pairwise_distance", x1, x2)
    x1, x2 = floated(x1, x2)
    return norm(add(sub(x1, x2), eps), p, -1, keepdim)
