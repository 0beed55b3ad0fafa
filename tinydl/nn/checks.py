"""What the constructors of layers check, so that a wrong setting is an error where it is
given and not where it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.promotion import floating, is_scalar
from .module import Module


def require_sizes(layer: Module, least: int = 1, **settings: Any) -> None:
    """A ShapeError unless every setting is an integer of at least `least` or a sequence
    of such; None is passed over.
    """
    for name, setting in settings.items():
        for size in setting if isinstance(setting, (tuple, list)) else (setting,):
            if size is not None and (not isinstance(size, (int, np.integer)) or size < least):
                raise ShapeError(
                    f"{type(layer).__name__}: expected {name} of at least {least}, got {setting!r}"
                )


def require_real(layer: Module, least: float | None = None, **settings: Any) -> None:
    """A TypeError unless every setting is a number, a ValueError unless it is at least
    `least`; None is passed over.
    """
    for name, setting in settings.items():
        if setting is not None and not is_scalar(setting):
            raise TypeError(f"{type(layer).__name__}: expected {name} a number, got {setting!r}")
        if setting is not None and least is not None and setting < least:
            raise ValueError(f"{type(layer).__name__}: expected {name} of at least {least}, got {setting}")


def layer_dtype(layer: Module, dtype: Any) -> np.dtype:
    """The floating dtype of a layer's parameters, float32 for None."""
    return floating(dtype, type(layer).__name__)


def require_instance(who: str, kind: type, value: Any) -> None:
    """A TypeError unless the value is an instance of `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{who}: expected a {kind.__name__}, got {type(value).__name__}")
