"""Pooling. With its indices fixed, max pooling is a linear pair: gather takes, scatter puts
back. So is average pooling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinydl_kernels import pool as kernels
from tinydl_kernels import resample
from tinydl_kernels.indexing import check_index
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.window import Window, per_axis

from ..engine.core import Array, Tensor, primitive
from ..engine.public import public
from .indexing import _filled, places, scatter
from .resample import _resample
from .shape import reshape
from .spatial import batched, require_planes

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


@primitive(floating=True, outputs=("values", "indices"), constant=("indices",))
def _max_pool(x: Array, *, window: Window) -> tuple[Array, Array]:
    return kernels.max_forward(x, window)


@primitive(floating=True, outputs=("values", "indices"), constant=("indices",))
def _adaptive_max_pool(x: Array, *, out: tuple[int, ...]) -> tuple[Array, Array]:
    return kernels.adaptive_max_forward(x, out)


@primitive(constant=("indices",))
def _gather(x: Array, indices: Array, *, window: Window | None) -> Array:
    """x at `indices` of its flattened planes, each of which lies in its window, or
    for None in its adaptive span.
    """
    return kernels.gather(x, indices)


@primitive(constant=("indices",))
def _scatter(g: Array, indices: Array, *, plane: tuple[int, ...], window: Window | None) -> Array:
    """Planes of zeros with g added at `indices`, which are as those of `_gather`."""
    return kernels.scatter(g, indices, plane, window)


@primitive(floating=True)
def _avg_pool(x: Array, *, window: Window, count_include_pad: bool, divisor: int | None = None) -> Array:
    return kernels.avg_forward(x, window, count_include_pad, divisor)


@primitive(floating=True)
def _avg_pool_dx(g: Array, *, window: Window, count_include_pad: bool, divisor: int | None = None) -> Array:
    return kernels.avg_backward(g, window, count_include_pad, divisor)


_max_pool.rule(
    x=lambda g, indices, x_shape, *, window: _scatter(g, indices, plane=x_shape[2:], window=window)
)
_adaptive_max_pool.rule(x=lambda g, indices, x_shape: _scatter(g, indices, plane=x_shape[2:], window=None))
_scatter.rule(g=lambda h, indices, *, window: _gather(h, indices, window=window))
_gather.rule(x=lambda g, indices, x_shape, *, window: _scatter(g, indices, plane=x_shape[2:], window=window))
_avg_pool.rule(
    x=lambda g, *, window, count_include_pad, divisor: _avg_pool_dx(
        g, window=window, count_include_pad=count_include_pad, divisor=divisor
    )
)
_avg_pool_dx.rule(
    g=lambda h, *, window, count_include_pad, divisor: _avg_pool(
        h, window=window, count_include_pad=count_include_pad, divisor=divisor
    )
)


# ---- Over any number of axes


def _max(
    who: str,
    axes: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    def run(x: Tensor) -> Any:
        require_planes(who, x, axes)
        return _max_pool(
            x, window=Window.pool(who, x.shape, kernel_size, stride, padding, dilation, ceil_mode, axes)
        )

    values, indices = batched(axes, run, input)
    return (values, indices) if return_indices else values


def _avg(
    who: str,
    axes: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    if divisor == 0:
        raise ValueError(f"{who}: expected divisor_override other than 0, got 0")

    def run(x: Tensor) -> Tensor:
        require_planes(who, x, axes)
        window = Window.pool(who, x.shape, kernel_size, stride, padding, 1, ceil_mode, axes)
        return _avg_pool(x, window=window, count_include_pad=count_include_pad, divisor=divisor)

    return batched(axes, run, input)


def _unpool(
    who: str,
    axes: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Tensor:
    kernel = per_axis(who, "kernel_size", kernel_size, axes)
    strides = kernel if stride is None else per_axis(who, "stride", stride, axes)
    pads = per_axis(who, "padding", padding, axes)
    if indices.shape != input.shape:
        raise ShapeError(f"{who}: expected indices {input.shape} as the input, got {indices.shape}")

    def run(x: Tensor, where_to: Tensor) -> Tensor:
        require_planes(who, x, axes)
        usual = tuple(
            (n - 1) * s + k - 2 * pad for n, k, s, pad in zip(x.shape[2:], kernel, strides, pads, strict=True)
        )
        plane = usual if output_size is None else tuple(output_size)[-axes:]
        if len(plane) != axes or any(abs(m - n) >= s for m, n, s in zip(plane, usual, strides, strict=True)):
            raise ShapeError(
                f"{who}: expected output_size less than a stride {strides} from {usual}, got {output_size}"
            )
        if min(plane) < 1:
            raise ShapeError(f"{who}: expected an output of at least 1 along each axis, got {plane}")
        where_to = places(who, where_to, x)
        check_index(who, where_to.array, 0, math.prod(plane))
        lead, rows = x.shape[:2], (*x.shape[:2], math.prod(x.shape[2:]))
        zeros = _filled(x, (*lead, math.prod(plane)), 0.0)
        return reshape(scatter(zeros, 2, reshape(where_to, rows), reshape(x, rows)), (*lead, *plane))

    return batched(axes, run, input, indices)


def _adaptive_size(who: str, x: Tensor, axes: int, output_size: Any) -> tuple[int, ...]:
    """The output's sizes: an int for all axes or one per axis, None for the input's."""
    require_planes(who, x, axes)
    given = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * axes
    if len(given) != axes:
        raise ShapeError(f"{who}: expected output_size an int or {axes} of them, got {output_size}")
    wanted = tuple(n if m is None else m for n, m in zip(x.shape[2:], given, strict=True))
    if min(wanted) < 1:
        raise ShapeError(f"{who}: expected output sizes of at least 1, got {output_size}")
    if min(x.shape[2:]) < 1:
        raise ShapeError(f"{who}: expected input sizes of at least 1, got {x.shape}")
    return wanted


def _adaptive_avg(who: str, axes: int, input: Tensor, output_size: Any) -> Tensor:
    def run(x: Tensor) -> Tensor:
        wanted = _adaptive_size(who, x, axes, output_size)
        if all(n % m == 0 for n, m in zip(x.shape[2:], wanted, strict=True)):
            kernel = tuple(n // m for n, m in zip(x.shape[2:], wanted, strict=True))
            return _avg(who, axes, x, kernel, None, 0, False, True, None)
        for dim, m in enumerate(wanted, 2):  # the mean of a box is the mean of means along its axes
            x = x if x.shape[dim] == m else _resample(x, rows=resample.means(x.shape[dim], m), dim=dim)
        return x

    return batched(axes, run, input)


def _adaptive_max(who: str, axes: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    def run(x: Tensor) -> Any:
        return _adaptive_max_pool(x, out=_adaptive_size(who, x, axes, output_size))

    values, indices = batched(axes, run, input)
    return (values, indices) if return_indices else values


# ---- Over one, two and three


@public
def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of (N, C, W); of equal ones the first wins. Padding never wins.

    Settings as in `max_pool2d`; indices count in the flattened W. As torch.nn.functional.max_pool1d.
    """
    return _max("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@public
def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of (N, C, H, W); of equal ones the first wins. Padding never wins.

    kernel_size, stride (default: the kernel), padding, dilation: an int or one per axis. With
    `return_indices` also where the winners stand (int64) in the flattened H·W plane. N may be missing. As
    torch.nn.functional.max_pool2d.
    """
    return _max("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@public
def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of (N, C, D, H, W); of equal ones the first wins. Padding never wins.

    Settings as in `max_pool2d`; indices count in the flattened D·H·W. As torch.nn.functional.max_pool3d.
    """
    return _max("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@public
def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, W).

    Settings as in `avg_pool2d`, without divisor_override. As torch.nn.functional.avg_pool1d.
    """
    return _avg("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@public
def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, H, W).

    kernel_size, stride (default: the kernel), padding: an int or one per axis. The pads are counted with
    `count_include_pad`; `divisor_override` replaces the count. N may be missing. As
    torch.nn.functional.avg_pool2d.
    """
    return _avg(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@public
def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, D, H, W).

    Settings as in `avg_pool2d`. As torch.nn.functional.avg_pool3d.
    """
    return _avg(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@public
def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros with the values of (N, C, W) at `indices` of each flattened line of W, which `max_pool1d` gave.

    As `max_unpool2d` and torch.nn.functional.max_unpool1d.
    """
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@public
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros with the values of (N, C, H, W) at `indices` of each flattened H·W
    plane, which `max_pool2d` gave.

    Its size is `output_size` (all of its axes, or the last two), or what max_pool2d with these settings needs
    at least. Where several come to one place the last one wins, and it alone has a gradient. As
    torch.nn.functional.max_unpool2d.
    """
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@public
def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros with the values of (N, C, D, H, W) at `indices` of each flattened D·H·W
    volume, which `max_pool3d` gave.

    As `max_unpool2d` and torch.nn.functional.max_unpool3d.
    """
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


@public
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Mean pooling of (N, C, W) to `output_size`.

    As `adaptive_avg_pool2d` and torch.nn.functional.adaptive_avg_pool1d.
    """
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


@public
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Mean pooling of (N, C, H, W) to `output_size`.

    output_size: an int or one per axis; None keeps a size. Output i is the mean of floor(i n / m) ... ceil((i
    + 1) n / m). N may be missing. As torch.nn.functional.adaptive_avg_pool2d.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


@public
def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Mean pooling of (N, C, D, H, W) to `output_size`.

    As `adaptive_avg_pool2d` and torch.nn.functional.adaptive_avg_pool3d.
    """
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


@public
def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Max pooling of (N, C, W) to `output_size`; with `return_indices` (values, indices).

    As `adaptive_max_pool2d` and torch.nn.functional.adaptive_max_pool1d.
    """
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


@public
def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Max pooling of (N, C, H, W) to `output_size`; with `return_indices` (values, indices).

    The spans are those of `adaptive_avg_pool2d`, winners and indices those of `max_pool2d`. N may be missing.
    As torch.nn.functional.adaptive_max_pool2d.
    """
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


@public
def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Max pooling of (N, C, D, H, W) to `output_size`; with `return_indices` (values, indices).

    As `adaptive_max_pool2d` and torch.nn.functional.adaptive_max_pool3d.
    """
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)
