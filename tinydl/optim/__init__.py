"""Optimizers, parameter groups, schedules: the `__all__` of each module beside this one.

optimizer.py says how to write an optimizer; its file with `__all__` is all that this package needs.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from .lr_scheduler import MultiStepLR, PiecewiseConstant

__all__ = ["MultiStepLR", "PiecewiseConstant"]

for _module in (
    importlib.import_module(f".{found.name}", __name__) for found in pkgutil.iter_modules(__path__)
):
    if not hasattr(_module, "__path__"):
        globals().update({name: getattr(_module, name) for name in _module.__all__})
        __all__ += _module.__all__

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
