"""Windows of an image as columns, their transpose, and what a product with them gives."""

from __future__ import annotations

from math import prod
from typing import Any

from tinydl_kernels import unfold as kernels
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.window import Window, per_axis

from ..engine.core import Array, Tensor, add, primitive
from ..engine.public import public
from .matmul import _matmul
from .shape import permute, reshape
from .spatial import batched, require_planes

__all__ = [
    "fold",
    "unfold",
]


@primitive(floating=True)
def _unfold(x: Array, *, window: Window) -> Array:
    return kernels.unfold(x, window)


@primitive(floating=True)
def _fold(y: Array, *, window: Window) -> Array:
    return kernels.fold(y, window)


_unfold.rule(x=lambda g, *, window: _fold(g, window=window))
_fold.rule(y=lambda h, *, window: _unfold(h, window=window))


def _window(
    who: str, shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Window:
    kernel = per_axis(who, "kernel_size", kernel_size, 2)
    return Window.conv(who, shape, (1, shape[1], *kernel), stride, padding, dilation)


@public
def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of (N, C, H, W) as columns (N, C·KH·KW, L), L = OH·OW of them; N may be missing.

    Settings as in `conv2d`: conv2d(x, w) is w.reshape(O, -1) @ unfold(x, ...). As
    torch.nn.functional.unfold (im2col).
    """

    def run(x: Tensor) -> Tensor:
        require_planes("unfold", x, 2)
        return _unfold(x, window=_window("unfold", x.shape, kernel_size, dilation, padding, stride))

    return batched(2, run, input)


@public
def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The transpose of `unfold`: columns (N, C·KH·KW, L) are added up where they
    stand in (N, C, *output_size).

    N may be missing. As torch.nn.functional.fold (col2im).
    """
    size, kernel = (
        per_axis("fold", "output_size", output_size, 2),
        per_axis("fold", "kernel_size", kernel_size, 2),
    )
    K = max(prod(kernel), 1)

    def run(y: Tensor) -> Tensor:
        if y.ndim != 3 or y.shape[1] % K:
            raise ShapeError(f"fold: expected input (N, C·{K}, L) for kernel_size {kernel}, got {y.shape}")
        shape = (y.shape[0], y.shape[1] // K, *size)
        window = _window("fold", shape, kernel, dilation, padding, stride)
        if y.shape[2] != prod(window.out):
            raise ShapeError(
                f"fold: expected {prod(window.out)} columns for output_size {size}, got {y.shape}"
            )
        return _fold(y, window=window)

    return batched(1, run, input)


def locally_connected2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    kernel_size: Any = 1,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
) -> Tensor:
    """A convolution with weights of its own at each position: (N, C, H, W) to (N,
    O, OH, OW); N may be missing.

    weight (OH, OW, O, C·KH·KW), bias (O, OH, OW). LeCun 1989; Keras: LocallyConnected2D.
    """

    def run(x: Tensor) -> Tensor:
        require_planes("locally_connected2d", x, 2)
        window = _window("locally_connected2d", x.shape, kernel_size, dilation, padding, stride)
        K, shapes = x.shape[1] * prod(window.kernel), f"input {x.shape}, weight {weight.shape}"
        if weight.ndim != 4 or (*weight.shape[:2], weight.shape[3]) != (*window.out, K):
            raise ShapeError(f"locally_connected2d: expected weight {(*window.out, 'O', K)}, got {shapes}")
        O = weight.shape[2]
        if bias is not None and bias.shape != (O, *window.out):
            raise ShapeError(f"locally_connected2d: expected bias {(O, *window.out)}, got {bias.shape}")
        columns = permute(_unfold(x, window=window), 2, 1, 0)  # (L, K, N)
        products = _matmul(reshape(weight, (prod(window.out), O, K)), columns)  # (L, O, N)
        y = reshape(permute(products, 2, 1, 0), (x.shape[0], O, *window.out))
        return y if bias is None else add(y, bias)

    return batched(2, run, input)
