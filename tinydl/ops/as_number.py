"""What Python asks of a tensor as of a number or a sequence."""

from __future__ import annotations

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from .creation import _read

__all__: list[str] = []


def formatted(x: Tensor, spec: str) -> str:
    """f"{x:.3g}": a 0-d tensor is formatted as its number; another as `str` has it, and takes no spec."""
    if spec and x.ndim:
        raise ShapeError(f"format: expected a 0-d tensor for {spec!r}, got {x.shape}")
    return str(x) if x.ndim else format(_read(x, "format").item(), spec)


def index(x: Tensor) -> int:
    """For `range(x)` and `values[x]`: the value of an integer tensor of one element."""
    if x.array.size != 1 or x.dtype.kind not in "biu":
        raise TypeError(f"index: expected one integer, got {x.shape} {x.dtype}")
    return int(_read(x, "index").item())


def truth(x: Tensor) -> bool:
    """The truth of a tensor of one element."""
    if x.array.size != 1:
        raise ValueError(f"bool: expected a tensor of one element, got {x.shape}: use any() or all()")
    return bool(_read(x, "bool").item())


def length(x: Tensor) -> int:
    """The size of the first dim."""
    if not x.ndim:
        raise TypeError("len: expected at least one dim, got a 0-d tensor")
    return x.shape[0]
