"""Layers that give images another size: interpolation, channels as pixels, margins."""

from __future__ import annotations

from typing import Any

from ..engine.core import Tensor
from ..ops.padding import pad
from ..ops.resample import interpolate, pixel_shuffle, pixel_unshuffle
from .checks import require_real
from .function_layer import FunctionLayer, layer_of
from .module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Resizing(FunctionLayer):
    pass


Upsample = layer_of(_Resizing, "Upsample", interpolate, without="antialias")
PixelShuffle = layer_of(_Resizing, "PixelShuffle", pixel_shuffle)
PixelUnshuffle = layer_of(_Resizing, "PixelUnshuffle", pixel_unshuffle)


class _Upsampling2d(Module):
    mode: str
    align_corners: bool | None = None

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__()
        self.size, self.scale_factor = size, scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        given = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{given}, mode={self.mode!r}"


class UpsamplingNearest2d(_Upsampling2d):
    """`Upsample` of (N, C, H, W) in mode "nearest"."""

    mode = "nearest"


class UpsamplingBilinear2d(_Upsampling2d):
    """`Upsample` of (N, C, H, W) in mode "bilinear" with align_corners, which are kept where they are."""

    mode, align_corners = "bilinear", True


# ---- Margins


class _Pad(Module):
    """Pads the last `axes` dims: `padding` is a number for all sides, or (low, high) of the last dim, then of
    the one before, ... The input may come without N.
    """

    axes = 0
    mode = "constant"
    value = 0.0

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__()
        sides = (padding,) * (2 * self.axes) if isinstance(padding, int) else tuple(padding)
        if len(sides) != 2 * self.axes or not all(isinstance(n, int) for n in sides):
            name = type(self).__name__
            raise ValueError(f"{name}: expected padding an integer or {2 * self.axes} of them, got {padding}")
        self.padding = sides

    def forward(self, input: Tensor) -> Tensor:
        return pad(input, self.padding, self.mode, self.value if self.mode == "constant" else None)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    __doc__ = f"`value` around the input. {_Pad.__doc__}"

    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        require_real(self, value=value)
        self.value = value

    def extra_repr(self) -> str:
        return f"{self.padding}, value={self.value}"


def _pads(kind: str, base: type[_Pad], mode: str, what: str) -> list[type[_Pad]]:
    """The layers of a kind of margin along one, two and three axes."""
    return [
        type(
            f"{kind}{axes}d",
            (base,),
            {"axes": axes, "mode": mode, "__doc__": f"{what} {_Pad.__doc__}", "__module__": __name__},
        )
        for axes in (1, 2, 3)
    ]


ConstantPad1d, ConstantPad2d, ConstantPad3d = _pads(
    "ConstantPad", _ConstantPad, "constant", "`value` around the input."
)
ZeroPad1d, ZeroPad2d, ZeroPad3d = _pads("ZeroPad", _Pad, "constant", "Zeros around the input.")
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = _pads(
    "ReflectionPad", _Pad, "reflect", "The mirror image around the input, without its edge."
)
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = _pads(
    "ReplicationPad", _Pad, "replicate", "The edge around the input."
)
CircularPad1d, CircularPad2d, CircularPad3d = _pads(
    "CircularPad", _Pad, "circular", "The other end of the input around it."
)
