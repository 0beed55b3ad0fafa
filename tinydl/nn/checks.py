"""What the constructors of layers check, so that a wrong setting is an error where it is given and not where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.errors import ShapeError

from .module import Module


def require_sizes(layer: Module, least: int = 1, **settings: Any) -> None:
    """A ShapeError unless every setting is an integer of at least `least` or a sequence of such; None is passed over."""
    for name, setting in settings.items():
        for size in setting if isinstance(setting, (tuple, list)) else (setting,):
            if size is not None and (not isinstance(size, (int, np.integer)) or size < least):
                raise ShapeError(f"{type(layer).__name__}: expected {name} of at least {least}, got {setting!r}")
