"""The window that a convolution or a pooling slides over its input, for any number of spatial axes.

Per axis, with k taps d apart, s positions from window to window, and `low` and `high` pads:

            low        input          high
          . . . | x x x x x x x x x | . .          out = 1 + (low + input + high - (d (k - 1) + 1)) // s
          ^   ^   ^                           window i reads the padded positions  i s + t d,  t = 0 ... k - 1
          taps of window 0 (k = 3, d = 2)

`Window.out` is the only size formula of the project, but for the spans of adaptive pooling, which are as even
as can be. A window is immutable and hashable, so that plans can be cached by it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .errors import ShapeError

Sizes: TypeAlias = tuple[int, ...]
Setting: TypeAlias = int | Sequence[int]
"""One int for every spatial axis, or one per axis."""
Padding: TypeAlias = int | str | Sequence[int] | Sequence[Sequence[int]]
"""One int, one per axis, a (low, high) pair per axis, or the words "same" and "valid"."""

_AXES = "DHW"


class Geometry(NamedTuple):
    """A window's sizes on three axes (D, H, W), as compiled kernels take them."""

    input: Sizes
    kernel: Sizes
    stride: Sizes
    low: Sizes
    dilation: Sizes
    out: Sizes


STRUCT = np.dtype(
    [(name, np.int32, 3) for name in ("input", "kernel", "stride", "low", "high", "dilation", "out")]
)
"""A window's sizes on three axes (D, H, W), as CUDA kernels take them: `Window` of window.cuh."""


@dataclass(frozen=True)
class Window:
    """Sizes per spatial axis; build it with `Window.conv`, `transposed` or `pool`, which check what a user
    passes.
    """

    input: Sizes
    kernel: Sizes
    stride: Sizes
    low: Sizes
    high: Sizes
    dilation: Sizes
    groups: int = 1
    ceil_mode: bool = False

    @cached_property
    def span(self) -> Sizes:
        """Positions from the first tap of a window to its last, both included: the dilated kernel."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @cached_property
    def out(self) -> Sizes:
        """Number of windows per axis. In `ceil_mode` a partial last one counts if it starts inside the input
        or its low pad.
        """
        sizes = []
        for size, span, stride, low, high in zip(
            self.input, self.span, self.stride, self.low, self.high, strict=True
        ):
            room = low + size + high - span
            out = 1 + (-(-room // stride) if self.ceil_mode else room // stride)
            if self.ceil_mode and (out - 1) * stride >= size + low:
                out -= 1
            sizes.append(out)
        return tuple(sizes)

    @cached_property
    def extent(self) -> Sizes:
        """Positions that windows reach: fewer than low + input + high where the stride leaves a rest, or more
        (`ceil_mode`).
        """
        return tuple((o - 1) * s + span for o, s, span in zip(self.out, self.stride, self.span, strict=True))

    @cached_property
    def geometry(self) -> Geometry:
        """The window on three axes: leading ones of size one are added, so that one kernel serves one to
        three.
        """
        ones, zeros = (1,) * (3 - len(self.input)), (0,) * (3 - len(self.input))
        return Geometry(
            ones + self.input,
            ones + self.kernel,
            ones + self.stride,
            zeros + self.low,
            ones + self.dilation,
            ones + self.out,
        )

    @cached_property
    def struct(self) -> np.void:
        """The same for CUDA kernels, with the high pads: a scalar of dtype `STRUCT`."""
        return _struct(self.input, self.kernel, self.stride, self.low, self.high, self.dilation, self.out)

    @cached_property
    def turned(self) -> Window | None:
        """The window of the transposed convolution, which takes the output to the input; None if it is not
        one of stride 1.
        """
        low, high = (
            tuple(s - 1 - p for s, p in zip(self.span, pads, strict=True)) for pads in (self.low, self.high)
        )
        if max(self.stride) > 1 or min(low + high) < 0:
            return None
        return Window(self.out, self.kernel, self.stride, low, high, self.dilation, self.groups)

    def counts(self, include_pad: bool) -> tuple[np.ndarray, ...]:
        """Per axis, how many taps of each window lie in the input (or in the input and its pads, but never
        beyond them).
        """
        result = []
        for axis, size in enumerate(self.input):
            starts = np.arange(self.out[axis])[:, None] * self.stride[axis] - self.low[axis]
            positions = starts + np.arange(self.kernel[axis]) * self.dilation[axis]
            first, stop = (-self.low[axis], size + self.high[axis]) if include_pad else (0, size)
            result.append(((positions >= first) & (positions < stop)).sum(axis=1))
        return tuple(result)

    def flops(self, batch: int, in_channels: int, out_channels: int) -> int:
        """Floating-point operations of a convolution, forward or either gradient; a multiply and an add count
        as two.
        """
        taps = math.prod(self.kernel) * in_channels // self.groups
        return 2 * batch * out_channels * taps * math.prod(self.out)

    @staticmethod
    def conv(
        op: str,
        x_shape: Sizes,
        w_shape: Sizes,
        stride: Setting = 1,
        padding: Padding = 0,
        dilation: Setting = 1,
        groups: int = 1,
        axes: int = 2,
    ) -> Window:
        """The window of a convolution of x (N, C, *input) with w (O, C / groups,
        *kernel) over `axes` spatial axes.

        Arguments mean what they mean in PyTorch. `padding` also takes a (low, high) pair per axis; "same"
        keeps the size at stride 1 and puts the odd one on the high side. `op` is the name that errors speak
        under.

        Raises ShapeError.
        """
        strides = per_axis(op, "stride", stride, axes)
        dilations = per_axis(op, "dilation", dilation, axes)
        pads = padding if isinstance(padding, str) else _pads(op, padding, axes)
        return _conv(op, tuple(x_shape), tuple(w_shape), strides, pads, dilations, groups, axes)

    @staticmethod
    def transposed(
        op: str,
        x_shape: Sizes,
        w_shape: Sizes,
        stride: Setting = 1,
        padding: Padding = 0,
        output_padding: Setting = 0,
        dilation: Setting = 1,
        groups: int = 1,
        axes: int = 2,
    ) -> Window:
        """The window whose `grad_input` is the transposed convolution of x (N, C, *out) with w (C, O /
        groups, *kernel).

        It lies in the result (N, O, *input), with input = (out - 1) stride + span - pads +
        output_padding. Arguments mean what they mean in PyTorch; what output_padding adds is taken off
        the high pad, which may so become negative.

        Raises ShapeError.
        """
        strides = per_axis(op, "stride", stride, axes)
        more = per_axis(op, "output_padding", output_padding, axes)
        dilations = per_axis(op, "dilation", dilation, axes)
        if isinstance(padding, str):
            raise ShapeError(f"{op}: padding expected sizes, got {padding!r}")
        return _transposed(
            op,
            tuple(x_shape),
            tuple(w_shape),
            strides,
            _pads(op, padding, axes),
            more,
            dilations,
            groups,
            axes,
        )

    @staticmethod
    def pool(
        op: str,
        x_shape: Sizes,
        kernel_size: Setting,
        stride: Setting | None = None,
        padding: Padding = 0,
        dilation: Setting = 1,
        ceil_mode: bool = False,
        axes: int = 2,
    ) -> Window:
        """The window of a pooling of x (N, C, *input) over `axes` spatial axes; the stride defaults to the
        kernel.

        Arguments mean what they mean in PyTorch. `padding` also takes a (low, high) pair per axis;
        each side is at most half the kernel. Every window must have a tap inside the input. `op` is
        the name that errors speak under.

        Raises ShapeError.
        """
        kernel = per_axis(op, "kernel_size", kernel_size, axes)
        strides = kernel if stride is None else per_axis(op, "stride", stride, axes)
        dilations = per_axis(op, "dilation", dilation, axes)
        pads = padding if isinstance(padding, str) else _pads(op, padding, axes)
        return _pool(op, tuple(x_shape), kernel, strides, pads, dilations, bool(ceil_mode), axes)


def adaptive_spans(size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the past-last position of each of `out` spans that cover `size` positions, overlapping by
    one at most.
    """
    steps = np.arange(out)
    return steps * size // out, -(-(steps + 1) * size // out)


@lru_cache(maxsize=1024)
def adaptive_struct(input: Sizes, out: Sizes) -> np.void:
    """A `STRUCT` of which only the input and the number of spans on each axis matter."""
    ones, zeros = (1,) * len(input), (0,) * len(input)
    return _struct(input, ones, ones, zeros, zeros, ones, out)


def _struct(*fields: Sizes) -> np.void:
    rows = [
        (int(name not in ("low", "high")),) * (3 - len(sizes)) + sizes
        for name, sizes in zip(STRUCT.fields or (), fields)
    ]
    return np.array(rows, np.int32).reshape(-1).view(STRUCT)[0]


def taps(kernel: Sizes) -> Iterator[Sizes]:
    """The positions in a kernel in row-major order, one index per axis."""
    return itertools.product(*map(range, kernel))


def padded(x: Any, window: Window, fill: float) -> Any:
    """x (..., *input) with pads of `fill`, as (..., *extent): a copy in which every tap of every window
    exists.
    """
    lead = x.shape[: x.ndim - len(window.input)]
    result: Any = np.full(lead + window.extent, fill, x.dtype)
    inner, outer = _overlap(window)
    result[(..., *outer)] = x[(..., *inner)]
    return result


def unpadded(planes: Any, window: Window) -> Any:
    """The transpose of zero padding: (..., *extent) cut to (..., *input), zero where no window reaches."""
    lead = planes.shape[: planes.ndim - len(window.input)]
    result: Any = np.zeros(lead + window.input, planes.dtype)
    inner, outer = _overlap(window)
    result[(..., *inner)] = planes[(..., *outer)]
    return result


def seen_by(tap: Sizes, window: Window) -> tuple[Any, ...]:
    """The index of `planes` (..., *extent) that gives what one tap reads in every window: (..., *out)."""
    settings = zip(tap, window.out, window.stride, window.dilation, strict=True)
    return (..., *(slice(t * d, t * d + (o - 1) * s + 1, s) for t, o, s, d in settings))


def _overlap(window: Window) -> tuple[list[slice], list[slice]]:
    """Where the input lies in the extent: the slices of the input and those of the extent, per axis."""
    inner, outer = [], []
    for size, low, extent in zip(window.input, window.low, window.extent, strict=True):
        reached = max(0, min(size, extent - low))
        inner.append(slice(0, reached))
        outer.append(slice(low, low + reached))
    return inner, outer


@lru_cache(maxsize=1024)
def _conv(
    op: str,
    x_shape: Sizes,
    w_shape: Sizes,
    stride: Sizes,
    pads: str | tuple[Sizes, Sizes],
    dilation: Sizes,
    groups: int,
    axes: int,
) -> Window:
    shapes = _checked(op, x_shape, w_shape, "(O, C / groups, {})", stride, dilation, groups, axes)
    (C, O), kernel = (x_shape[1], w_shape[0]), w_shape[2:]
    if O % groups:
        raise ShapeError(f"{op}: weight has O={O}, expected a multiple of groups {groups}: {shapes}")
    if w_shape[1] * groups != C:
        raise ShapeError(
            f"{op}: x has C={C}, weight expects C={w_shape[1] * groups} (groups {groups}): {shapes}"
        )
    if pads == "same" and any(s != 1 for s in stride):
        raise ShapeError(f'{op}: padding "same" expected stride 1, got stride {stride}')
    window = Window(x_shape[2:], kernel, stride, *_sides(op, pads, kernel, dilation), dilation, groups)
    _fits(op, window)
    return window


@lru_cache(maxsize=1024)
def _transposed(
    op: str,
    x_shape: Sizes,
    w_shape: Sizes,
    stride: Sizes,
    pads: tuple[Sizes, Sizes],
    output_padding: Sizes,
    dilation: Sizes,
    groups: int,
    axes: int,
) -> Window:
    shapes = _checked(op, x_shape, w_shape, "(C, O / groups, {})", stride, dilation, groups, axes)
    if w_shape[0] != x_shape[1]:
        raise ShapeError(f"{op}: x has C={x_shape[1]}, weight expects C={w_shape[0]}: {shapes}")
    if w_shape[0] % groups:
        raise ShapeError(f"{op}: weight has C={w_shape[0]}, expected a multiple of groups {groups}: {shapes}")
    kernel, (low, high) = w_shape[2:], _sides(op, pads, w_shape[2:], dilation)
    _at_least(op, "output_padding", output_padding, 0)
    if any(more >= max(s, d) for more, s, d in zip(output_padding, stride, dilation, strict=True)):
        raise ShapeError(
            f"{op}: output_padding expected below the stride {stride} or the dilation {dilation}, got "
            f"{output_padding}"
        )
    high = tuple(pad - more for pad, more in zip(high, output_padding, strict=True))
    settings = zip(x_shape[2:], kernel, stride, dilation, low, high, strict=True)
    input = tuple((n - 1) * s + d * (k - 1) + 1 - before - after for n, k, s, d, before, after in settings)
    if min(*x_shape[2:], *input) < 1:
        raise ShapeError(f"{op}: expected sizes of at least 1, got a result of {input}: {shapes}")
    return Window(input, kernel, stride, low, high, dilation, groups)


def _checked(
    op: str,
    x_shape: Sizes,
    w_shape: Sizes,
    weight: str,
    stride: Sizes,
    dilation: Sizes,
    groups: int,
    axes: int,
) -> str:
    """Both shapes in words, after what conv and transposed ask for alike."""
    shapes = f"x {x_shape}, weight {w_shape}"
    names = ", ".join(_AXES[-axes:])
    if len(x_shape) != axes + 2:
        raise ShapeError(f"{op}: x expected {axes + 2} axes (N, C, {names}), got {len(x_shape)}: {shapes}")
    if len(w_shape) != axes + 2:
        wanted = weight.format(", ".join("K" + name for name in names.split(", ")))
        raise ShapeError(f"{op}: weight expected {axes + 2} axes {wanted}, got {len(w_shape)}: {shapes}")
    _at_least(op, "stride", stride, 1)
    _at_least(op, "dilation", dilation, 1)
    _at_least(op, "kernel size", w_shape[2:], 1)
    if groups < 1:
        raise ShapeError(f"{op}: groups expected at least 1, got {groups}")
    return shapes


@lru_cache(maxsize=1024)
def _pool(
    op: str,
    x_shape: Sizes,
    kernel: Sizes,
    stride: Sizes,
    pads: str | tuple[Sizes, Sizes],
    dilation: Sizes,
    ceil_mode: bool,
    axes: int,
) -> Window:
    if len(x_shape) != axes + 2:
        names = ", ".join(_AXES[-axes:])
        raise ShapeError(f"{op}: x expected {axes + 2} axes (N, C, {names}), got {len(x_shape)}: x {x_shape}")
    _at_least(op, "kernel_size", kernel, 1)
    _at_least(op, "stride", stride, 1)
    _at_least(op, "dilation", dilation, 1)
    if pads == "same":
        raise ShapeError(f'{op}: padding expected sizes or "valid", got "same"')
    window = Window(x_shape[2:], kernel, stride, *_sides(op, pads, kernel, dilation), dilation, 1, ceil_mode)
    if any(2 * pad > k for pads in (window.low, window.high) for pad, k in zip(pads, kernel, strict=True)):
        raise ShapeError(
            f"{op}: padding expected at most half the kernel {kernel}, got low {window.low}, high "
            f"{window.high}"
        )
    _fits(op, window)
    gaps = max(dilation) > 1 or min(window.input) == 0  # otherwise the limit on the padding is enough
    if gaps and any((count == 0).any() for count in window.counts(include_pad=False)):
        raise ShapeError(
            f"{op}: expected a tap in the input for every window, got one that lies wholly in the padding: "
            f"{window}"
        )
    return window


def per_axis(op: str, name: str, setting: Setting, axes: int) -> Sizes:
    """An int, or a sequence of one, for all axes or a sequence of one per axis, as a tuple."""
    if isinstance(setting, (int, np.integer)):
        return (int(setting),) * axes
    sizes = tuple(setting) if isinstance(setting, Iterable) else (setting,)
    sizes = sizes * axes if len(sizes) == 1 else sizes
    if len(sizes) != axes or any(not isinstance(size, (int, np.integer)) for size in sizes):
        raise ShapeError(f"{op}: {name} expected an int or {axes} of them, got {setting!r}")
    return tuple(map(int, sizes))


def _pads(op: str, padding: int | Sequence[int] | Sequence[Sequence[int]], axes: int) -> tuple[Sizes, Sizes]:
    """Numbers given as padding as (low, high), each with one size per axis."""
    if isinstance(padding, Sequence) and any(isinstance(side, Sequence) for side in padding):
        if len(padding) != axes or any(not isinstance(side, Sequence) or len(side) != 2 for side in padding):
            raise ShapeError(f"{op}: padding expected {axes} pairs (low, high), got {padding}")
        low, high = zip(*padding, strict=True)
        return tuple(map(int, low)), tuple(map(int, high))
    sizes = per_axis(op, "padding", padding, axes)  # type: ignore[arg-type]
    return sizes, sizes


def _sides(op: str, pads: str | tuple[Sizes, Sizes], kernel: Sizes, dilation: Sizes) -> tuple[Sizes, Sizes]:
    """The low and the high pads, the words "same" and "valid" resolved."""
    if isinstance(pads, str):
        if pads not in ("same", "valid"):
            raise ShapeError(f'{op}: padding expected sizes, "same" or "valid", got {pads!r}')
        total = tuple(d * (k - 1) if pads == "same" else 0 for k, d in zip(kernel, dilation, strict=True))
        low = tuple(size // 2 for size in total)
        return low, tuple(size - half for size, half in zip(total, low, strict=True))
    for sizes in pads:
        _at_least(op, "padding", sizes, 0)
    return pads


def _at_least(op: str, name: str, sizes: Sizes, least: int) -> None:
    if any(size < least for size in sizes):
        raise ShapeError(f"{op}: {name} expected at least {least} on every axis, got {sizes}")


def _fits(op: str, window: Window) -> None:
    if min(window.out) < 1:
        available = tuple(
            low + size + high for size, low, high in zip(window.input, window.low, window.high, strict=True)
        )
        raise ShapeError(
            f"{op}: expected a padded input at least as large as the dilated kernel {window.span}, "
            f"got {available}: input {window.input}, low pads {window.low}, high pads {window.high}"
        )
