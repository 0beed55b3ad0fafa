"""Pooling. With its indices fixed, max pooling is a linear pair: gather takes, scatter puts back. So is average pooling."""

from __future__ import annotations

from typing import Any

from tinydl_kernels import pool as kernels
from tinydl_kernels.errors import ShapeError
from tinydl_kernels.window import Window

from ..core import Array, Tensor, primitive
from .indexing import getitem
from .reduce import mean
from .shape import cat


@primitive(floating=True, outputs=("values", "indices"), constant=("indices",))
def _max_pool(x: Array, *, window: Window) -> tuple[Array, Array]:
    return kernels.max_forward(x, window)


@primitive(constant=("indices",))
def _gather(x: Array, indices: Array) -> Array:
    """x at `indices` of its flattened planes."""
    return kernels.gather(x, indices)


@primitive(constant=("indices",))
def _scatter(g: Array, indices: Array, *, plane: tuple[int, ...]) -> Array:
    """Planes of zeros with g added at `indices`."""
    return kernels.scatter(g, indices, plane)


@primitive(floating=True)
def _avg_pool(x: Array, *, window: Window, count_include_pad: bool) -> Array:
    return kernels.avg_forward(x, window, count_include_pad)


@primitive(floating=True)
def _avg_pool_dx(g: Array, *, window: Window, count_include_pad: bool) -> Array:
    return kernels.avg_backward(g, window, count_include_pad)


_max_pool.rule(x=lambda g, indices, x_shape: _scatter(g, indices, plane=x_shape[2:]))
_scatter.rule(g=lambda h, indices: _gather(h, indices))
_gather.rule(x=lambda g, indices, x_shape: _scatter(g, indices, plane=x_shape[2:]))
_avg_pool.rule(x=lambda g, *, window, count_include_pad: _avg_pool_dx(g, window=window, count_include_pad=count_include_pad))
_avg_pool_dx.rule(g=lambda h, *, window, count_include_pad: _avg_pool(h, window=window, count_include_pad=count_include_pad))


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

    With `return_indices` also the winners' positions (int64) in the flattened H · W plane. As torch.nn.functional.max_pool2d.
    """
    _require_planes("max_pool2d", input, 2)
    values, indices = _max_pool(
        input, window=Window.pool("max_pool2d", input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    )
    return (values, indices) if return_indices else values


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, H, W). As torch.nn.functional.avg_pool2d."""
    _require_planes("avg_pool2d", input, 2)
    window = Window.pool("avg_pool2d", input.shape, kernel_size, stride, padding, 1, ceil_mode)
    return _avg_pool(input, window=window, count_include_pad=count_include_pad)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Mean pooling of (N, C, H, W) to `output_size` (an int, or one an axis; None keeps the size)."""
    _require_planes("adaptive_avg_pool2d", input, 2)
    wanted = (output_size,) * 2 if output_size is None or isinstance(output_size, int) else tuple(output_size)
    wanted = tuple(n if m is None else m for n, m in zip(input.shape[2:], wanted, strict=True))
    if all(m and n % m == 0 for n, m in zip(input.shape[2:], wanted, strict=True)):
        kernel = tuple(n // m for n, m in zip(input.shape[2:], wanted, strict=True))
        return avg_pool2d(input, kernel)
    if any(m < 1 for m in wanted):
        raise ShapeError(f"adaptive_avg_pool2d: expected output sizes of at least 1, got {output_size}")
    rows = _adaptive(input, wanted[0], 2)
    return _adaptive(rows, wanted[1], 3)


def _adaptive(x: Tensor, m: int, dim: int) -> Tensor:
    """Mean over windows floor(i n / m) .. ceil((i + 1) n / m) along one dim."""
    n = x.shape[dim]
    spans = [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
    return cat([mean(getitem(x, (slice(None),) * dim + (span,)), dim, keepdim=True) for span in spans], dim)


def _require_planes(who: str, x: Tensor, spatial: int) -> None:
    if x.ndim != spatial + 2:
        raise ShapeError(f"{who}: expected input (N, C, {', '.join('DHW'[-spatial:])}), got {x.shape}")
