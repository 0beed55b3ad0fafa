"""Padding and cropping at the ends of dims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels import indexing
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Array, Tensor, contiguous, expand, primitive
from ..engine.promotion import is_scalar, number
from ..engine.public import public
from .elementwise import to_dtype, where
from .shape import _index, _slice, cat, flip

__all__ = ["pad"]


@primitive
def _pad(x: Array, *, low: tuple[int, ...], high: tuple[int, ...], value: float) -> Array:
    return indexing.pad(x, low, high, value)


_pad.rule(
    x=lambda g, x_shape, *, low: _index(
        g, index=tuple(slice(before, before + n) for before, n in zip(low, x_shape, strict=True))
    )
)


@public
def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Tensor:
    """Pad by `value` (None: 0; a number, or a 0-d tensor, whose gradient is carried), by the mirror image
    ("reflect"), the edge ("replicate") or the other end ("circular").

    `pad` is PyTorch's: (low, high) of the last dim, then of the one before, ... Negative sizes crop. A mirror
    image leaves the edge out and needs pads below the size; "circular" needs pads up to the size.
    """
    if not isinstance(pad, Sequence) or len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError(f"pad: expected pairs for at most {input.ndim} dims, got {pad}")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(f"pad: expected mode 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    if not pad:
        return contiguous(input)
    low, high = ([0] * (input.ndim - len(pad) // 2) + [*reversed(pad[k::2])] for k in (0, 1))
    if any(
        max(-before, 0) + max(-after, 0) > n for before, after, n in zip(low, high, input.shape, strict=True)
    ):
        raise ShapeError(f"pad: expected sizes that stay positive for {input.shape}, got {tuple(pad)}")
    crop = tuple(slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(low, high, input.shape, strict=True))
    input = _index(input, index=crop) if min(*low, *high, 0) < 0 else input
    low, high = ([max(n, 0) for n in side] for side in (low, high))
    if mode == "constant":
        given = is_scalar(value)
        fill = number("pad", value, input.dtype) if given else 0.0
        padded = _pad(input, low=tuple(low), high=tuple(high), value=fill)
        return padded if given or value is None else _around(padded, input.shape, low, value)
    for dim, (before, after) in enumerate(zip(low, high, strict=True)):
        if before or after:
            limit = {
                "reflect": input.shape[dim] - 1,
                "circular": input.shape[dim],
                "replicate": math.inf if input.shape[dim] else 0,
            }[mode]
            if max(before, after) > limit:
                raise ShapeError(
                    f"pad: expected at most {limit} along dim {dim} of {input.shape} in mode {mode!r}, got "
                    f"{tuple(pad)}"
                )
            input = cat(
                [_margin(input, dim, before, mode, True), input, _margin(input, dim, after, mode, False)], dim
            )
    return input


def _around(padded: Tensor, shape: Sequence[int], low: Sequence[int], value: Any) -> Tensor:
    """A tensor that was padded by 0, with `value` in place of what was added."""
    if not isinstance(value, Tensor) or value.ndim:
        got = value.shape if isinstance(value, Tensor) else type(value).__name__
        raise ShapeError(f"pad: expected value a number or a 0-d tensor, got {got}")
    inside = np.zeros(padded.shape, np.bool_)
    inside[tuple(slice(before, before + n) for before, n in zip(low, shape, strict=True))] = True
    return where(constant(padded, inside), padded, to_dtype(value, padded.dtype))


def _margin(x: Tensor, dim: int, count: int, mode: str, front: bool) -> Tensor:
    """What stands before (or behind) x along `dim`: `count` elements."""
    n = x.shape[dim]
    if mode == "replicate":
        edge = _slice(x, dim, 0, 1) if front else _slice(x, dim, n - 1, n)
        return expand(edge, shape=(*x.shape[:dim], count, *x.shape[dim + 1 :]))
    if mode == "circular":
        return _slice(x, dim, n - count, n) if front else _slice(x, dim, 0, count)
    return flip(_slice(x, dim, 1, count + 1) if front else _slice(x, dim, n - 1 - count, n - 1), dim)
