"""What functions over D, H and W have in common: images without a batch axis,
and how their axes are named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..engine.promotion import require_floating
from .shape import squeeze, unsqueeze


def batched(axes: int, function: Callable[..., Any], *inputs: Tensor) -> Any:
    """function(*inputs), each (N, C, *spatial); where the first one has no N, neither
    have the others and the results.
    """
    if inputs[0].ndim != axes + 1:
        return function(*inputs)
    results = function(*(unsqueeze(x, 0) for x in inputs))
    return tuple(squeeze(y, 0) for y in results) if isinstance(results, tuple) else squeeze(results, 0)


def require_planes(who: str, x: Tensor, axes: int) -> None:
    """An error unless x is (N, C, *spatial), of a floating dtype."""
    if x.ndim != axes + 2:
        names = ", ".join(("C", *"DHW"[-axes:]))
        raise ShapeError(f"{who}: expected input (N, {names}) or ({names}), got {x.shape}")
    require_floating(who, x)
