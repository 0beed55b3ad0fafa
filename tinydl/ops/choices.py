"""Functions that choose: by order (median, quantile), by closeness, by place; and logarithms of sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.indexing import check_index
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..devices import constant
from ..engine.core import Tensor, add
from ..engine.promotion import is_scalar, number, require_floating, require_one_dtype
from ..engine.public import public
from .arithmetic import div
from .elementwise import (
    abs,
    clip,
    eq,
    exp,
    floated,
    isfinite,
    le,
    log,
    logical_and,
    logical_not,
    logical_or,
    lt,
    maximum,
    mul,
    ne,
    neg,
    sub,
    to_dtype,
    where,
)
from .functions import isinf, isnan, log1p
from .indexing import gather, places, take_along_dim
from .reduce import Picked, any, mean, sum
from .shape import common_shape, narrow, normalize_dim, reshape, squeeze, stack, unsqueeze
from .sort import sort

__all__ = [
    "isclose",
    "isin",
    "kthvalue",
    "logaddexp",
    "logit",
    "median",
    "nan_to_num",
    "nanmedian",
    "quantile",
    "searchsorted",
    "take",
    "xlogy",
]


@public
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """|input - other| <= atol + rtol |other|, element by element; infinities are close to themselves."""
    require_one_dtype("isclose", input.dtype, other.dtype)
    common_shape("isclose", input, other)
    if rtol < 0 or atol < 0:
        raise ValueError(f"isclose: expected rtol and atol of at least 0, got {rtol} and {atol}")
    input, other = input.detach(), other.detach()
    close = eq(input, other)
    if input.dtype.kind == "f":
        near = le(abs(sub(input, other)), add(mul(abs(other), rtol), atol))
        close = logical_or(close, logical_and(near, isfinite(other)))
        if equal_nan:
            close = logical_or(close, logical_and(isnan(input), isnan(other)))
    elif rtol or atol:
        a, b = to_dtype(input, np.float64), to_dtype(other, np.float64)
        close = logical_or(close, le(abs(sub(a, b)), add(mul(abs(b), rtol), atol)))
    return close


@public
def nan_to_num(
    input: Tensor, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """The input with numbers for NaN (0), inf and -inf (the largest and least of the dtype), to which no
    gradient flows.
    """
    if input.dtype.kind != "f":
        return input
    limits = np.finfo(input.dtype)
    kind = input.dtype.type
    input = where(isnan(input), kind(0.0 if nan is None else nan), input)
    input = where(eq(input, math.inf), kind(limits.max if posinf is None else posinf), input)
    return where(eq(input, -math.inf), kind(limits.min if neginf is None else neginf), input)


@public
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)), without overflow. Where it is infinite the larger has the gradient."""
    common_shape("logaddexp", input, other)
    input, other = floated(input, other)
    larger = maximum(input, other)
    high = larger.detach()
    infinite = isinf(high)
    near, far = (where(infinite, 0.0, sub(x, where(infinite, x.detach(), high))) for x in (input, other))
    return where(infinite, larger, add(log(add(exp(near), exp(far))), where(infinite, 0.0, high)))


@public
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(p / (1 - p)), of p limited to [eps, 1 - eps] if eps is given; else NaN outside of [0, 1]."""
    (input,) = floated(input)
    if eps is not None:
        input = clip(input, eps, 1 - eps)
    return sub(log(input), log1p(neg(input)))


@public
def xlogy(input: Any, other: Any) -> Tensor:
    """input · log(other), and 0 where input is 0, unless other is NaN. In derivatives too 0 · log 0 is 0."""
    input, other = floated(input, other)
    if is_scalar(other):
        other = constant(input, np.asarray(other, input.dtype))  # whose logarithm is not rounded to float32
    common_shape("xlogy", input, other)
    nothing = logical_and(eq(input, 0.0), logical_or(le(other, 0.0), eq(other, math.inf)))
    return where(nothing, mul(input, 0.0), mul(input, log(where(nothing, 1.0, other))))


# ---- By place, and by value


@public
def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements at the places `index` (*) of the flattened input; those below 0 count from its end."""
    line, index = reshape(input, (-1,)), places("take", index, input)
    size = line.shape[0]
    check_index("take", index.array, -size, size)
    found = gather(line, 0, reshape(where(lt(index, 0), add(index, size), index), (-1,)))
    return reshape(found, index.shape)


@public
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Is each of the elements equal to one of the others, or, with `invert`, to none? One of both may be a
    number. `assume_unique` is taken for PyTorch's sake and has no meaning.
    """
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        got = f"{type(elements).__name__} and {type(test_elements).__name__}"
        raise DtypeError(f"isin: expected at least one tensor, got {got}")
    if is_scalar(elements):
        elements = constant(test_elements, np.asarray(elements))
    if is_scalar(test_elements):
        test_elements = constant(elements, np.asarray(test_elements))
    found = any(eq(unsqueeze(elements.detach(), -1), reshape(test_elements.detach(), (-1,))), -1)
    return logical_not(found) if invert else found


# ---- By order


@public
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Picked:
    """(values, indices) of the k-th smallest elements along `dim`, counted from 1. NaN is the largest."""
    size = input.shape[normalize_dim("kthvalue", dim, input.ndim)] if input.ndim else 1
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= size:
        raise ShapeError(f"kthvalue: expected k from 1 to {size} for {input.shape} along {dim}, got {k}")
    return _at(sort(input, dim), k - 1, dim, keepdim, input.ndim)


def _at(ordered: Picked, place: int, dim: int, keepdim: bool, ndim: int) -> Picked:
    if not ndim:
        return ordered
    picked = (narrow(x, dim, place, 1) for x in ordered)
    return Picked(*(x if keepdim else squeeze(x, dim) for x in picked))


@public
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower of the two middle values, NaN if there is one or nothing; with `dim` (values, indices)."""
    return _median("median", input, dim, keepdim, False)


@public
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median` of all that is not NaN; NaN where there is nothing else."""
    return _median("nanmedian", input, dim, keepdim, True)


def _median(who: str, input: Tensor, dim: int | None, keepdim: bool, of_known: bool) -> Any:
    if dim is None:
        if not input.array.size and input.dtype.kind == "f":
            return mean(input)
        if not input.array.size:
            raise ShapeError(f"{who}: expected at least one element, got {input.shape}")
        return _median(who, reshape(input, (-1,)), 0, False, of_known)[0]
    d = normalize_dim(who, dim, input.ndim)
    size = input.shape[d] if input.ndim else 1
    if not size:
        raise ShapeError(f"{who}: expected at least one element along dim {d}, got {input.shape}")
    ordered = sort(input, d)
    middle = _at(ordered, (size - 1) // 2, d, keepdim, input.ndim)
    if input.dtype.kind != "f" or not input.ndim:
        return middle
    # NaN is last in the order; the first of them stands for all
    last = ne(ordered[0].detach(), ordered[0].detach())
    known = size - sum(to_dtype(last, np.int64), d, keepdim=True)
    if of_known:
        place = div(clip(sub(known, 1), min=0), 2, rounding_mode="floor")
    else:
        place = where(lt(known, size), clip(known, max=size - 1), (size - 1) // 2)
    picked = (gather(x, d, place) for x in ordered)
    return Picked(*(x if keepdim else squeeze(x, d) for x in picked))


@public
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, interpolation: str = "linear"
) -> Tensor:
    """The q-quantiles along `dim`, or of all elements: at the place q (n - 1) of the n sorted ones, between
    two by "linear", "lower", "higher", "midpoint" or "nearest" interpolation. A row with NaN gives NaN.

    q: a number in [0, 1], or a vector of them, whose results stand in front.
    """
    require_floating("quantile", input)
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(
            "quantile: expected interpolation 'linear', 'lower', 'higher', 'midpoint' or 'nearest', got "
            f"{interpolation!r}"
        )
    wanted = np.asarray(q.detach().numpy() if isinstance(q, Tensor) else q, np.float64)
    if wanted.ndim > 1 or ((wanted < 0) | (wanted > 1)).any():
        raise ValueError(f"quantile: expected q in [0, 1], a number or a vector, got {q}")
    x, d = (reshape(input, (-1,)), 0) if dim is None else (input, normalize_dim("quantile", dim, input.ndim))
    x = x if x.ndim else reshape(x, (1,))
    if not x.shape[d]:
        raise ShapeError(f"quantile: expected at least one element along dim {d}, got {input.shape}")
    ordered = sort(x, d)[0]
    found = [_between(ordered, d, float(p) * (x.shape[d] - 1), interpolation) for p in wanted.reshape(-1)]
    poisoned = any(isnan(x), d, keepdim=True)
    shape = x.shape[:d] + (1,) * keepdim + x.shape[d + 1 :]
    if dim is None or not input.ndim:
        shape = (1,) * (input.ndim * keepdim)
    rows = [reshape(where(poisoned, math.nan, y), shape) for y in found]
    return rows[0] if not wanted.ndim else stack(rows)


def _between(ordered: Tensor, dim: int, place: float, interpolation: str) -> Tensor:
    low, high = math.floor(place), math.ceil(place)
    share = place - low
    if interpolation == "nearest":
        low = high = round(place)
    if interpolation in ("lower", "higher", "nearest"):
        return narrow(ordered, dim, high if interpolation == "higher" else low, 1)
    share = share if interpolation == "linear" else 0.5 * (high > low)
    below, above = narrow(ordered, dim, low, 1), narrow(ordered, dim, high, 1)
    if not share:
        return below
    step = sub(above, below)
    infinite = add(mul(below, 1 - share), mul(above, share))  # where the step is no number
    return where(isfinite(step), add(below, mul(step, share)), infinite)


@public
def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where the values of the input go into a sorted sequence (n,), or row by row into (*, n): before equal
    ones, or behind them with `right` or side="right". int64, or int32. NaN is the largest. `sorter`: indices
    that sort a sequence which is not.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ValueError(f"searchsorted: expected side 'left' or 'right', as right says, got {side!r}")
    if not isinstance(input, Tensor):
        dtype = sorted_sequence.dtype
        given = number("searchsorted", input, dtype) if is_scalar(input) else input
        input = constant(sorted_sequence, np.asarray(given, dtype))
    rows = sorted_sequence.shape[:-1]
    if not sorted_sequence.ndim or (rows and input.shape[:-1] != rows):
        raise ShapeError(
            f"searchsorted: expected a sequence (n,), or (*, n) and an input (*, m), got "
            f"{sorted_sequence.shape} and {input.shape}"
        )
    if sorter is not None:
        sorted_sequence = take_along_dim(sorted_sequence, sorter, -1)
    values = unsqueeze(input.detach(), -1)
    line = sorted_sequence.detach()
    line = unsqueeze(line, -2) if rows else line
    before = le(line, values) if right or side == "right" else lt(line, values)
    if values.dtype.kind == "f":  # no number is less than NaN
        known = eq(line, line)
        before = logical_or(
            before, logical_and(ne(values, values), logical_or(known, right or side == "right"))
        )
    return to_dtype(sum(to_dtype(before, np.int64), -1), np.int32 if out_int32 else np.int64)
