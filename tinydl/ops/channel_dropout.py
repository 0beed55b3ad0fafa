"""Dropout of whole channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Tensor
from ..engine.public import public
from .elementwise import eq, mul, where
from .random import Generator, dropout, require_probability
from .shape import reshape, unsqueeze

__all__ = ["dropout1d", "dropout2d", "dropout3d"]


def feature_dropout(
    who: str, input: Tensor, p: float, training: bool, spatial: int, inplace: Any, generator: Generator | None
) -> Tensor:
    """Zero whole channels of (N, C, *spatial) with probability p and scale the others by 1/(1 - p).

    As in PyTorch N may be missing with one or three spatial dims, and two may be fewer: (N, C), (N, C, L).
    """
    require_probability(who, p, inplace)
    if input.ndim not in ((2, 3, 4) if spatial == 2 else (spatial + 1, spatial + 2)):
        raise ShapeError(f"{who}: expected input (N, C) and {spatial} spatial dims, got {input.shape}")
    if not training or p == 0:
        return input
    if spatial != 2 and input.ndim == spatial + 1:
        return reshape(
            feature_dropout(who, unsqueeze(input, 0), p, training, spatial, inplace, generator), input.shape
        )
    ones = constant(input, np.ones((*input.shape[:2], *(1,) * (input.ndim - 2)), input.dtype))
    kept = dropout(ones, p, True, generator=generator)
    return where(eq(kept, 0.0), 0.0, mul(input, kept))


@public
def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout of whole channels of (N, C, L) or (C, L). Tompson et al., arXiv 1411.4280."""
    return feature_dropout("dropout1d", input, p, training, 1, inplace, generator)


@public
def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout of whole channels of (N, C, H, W), (N, C, L) or (N, C). Tompson et al., arXiv 1411.4280."""
    return feature_dropout("dropout2d", input, p, training, 2, inplace, generator)


@public
def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W). Tompson et al., arXiv 1411.4280."""
    return feature_dropout("dropout3d", input, p, training, 3, inplace, generator)
