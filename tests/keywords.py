"""Which keywords of functions and layers a comparison with PyTorch gave a value other than the default.

comparisons.py sees the calls; a layer is known by what it was made with, and what forward takes besides.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from pytorch_differences import OWN, WITHOUT_MEANING

Signature = inspect.Signature
Use = tuple[Any, str]  # the code of a function or the class of a layer, and a keyword

made_with: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""Of each layer, the keywords that its constructor was given another value than the default."""


def remember_constructors(module: type) -> None:
    """From now on layers, subclasses of `module`, are in `made_with`."""
    plain = module.__init__

    def noted(self: Any) -> None:
        frame: types.FrameType | None = sys._getframe(1)
        outermost = None
        while frame is not None and frame.f_locals.get("self") is self:
            outermost, frame = frame if frame.f_code.co_name == "__init__" else outermost, frame.f_back
        plain(self)
        if outermost is not None and type(self).__module__.startswith("tinydl."):
            made_with[self] = other_than_defaults(inspect.signature(type(self)), outermost)

    module.__init__ = noted


def keywords(signature: Signature) -> list[str]:
    """Those that have a default and a meaning."""
    return [
        name
        for name, p in signature.parameters.items()
        if p.default is not p.empty and name not in WITHOUT_MEANING | OWN
    ]


def other_than_defaults(signature: Signature, frame: types.FrameType) -> set[str]:
    """The keywords to which a call, by its frame, gave another value than the default."""
    values: Mapping[str, Any] = frame.f_locals
    if "kwargs" in values and "args" in values:
        values = signature.bind_partial(*values["args"], **values["kwargs"]).arguments
    parameters = signature.parameters
    return {
        name
        for name in keywords(signature)
        if name in values and _differs(values[name], parameters[name].default)
    }


def _differs(value: Any, default: Any) -> bool:
    if value is default:
        return False
    try:
        return not bool(value == default)
    except (TypeError, ValueError, RuntimeError):  # arrays
        return True
