"""NumPy's `axis` for PyTorch's `dim`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def axis_accepted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, to which `dim` may be given as `axis` too. One without that parameter stays as it is."""
    if not inspect.isfunction(function) or "dim" not in inspect.signature(function).parameters:
        return function

    @functools.wraps(function)
    def accepting(*args: Any, **settings: Any) -> Any:
        if "axis" in settings:
            if "dim" in settings:
                raise TypeError(f"{function.__name__}: expected dim or axis, got both")
            settings["dim"] = settings.pop("axis")
        return function(*args, **settings)

    return accepting
