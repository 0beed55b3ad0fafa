"""Schedules: a learning rate that depends on the step, by PyTorch's names.

Every schedule is a file of its own; what its `__all__` names is found here.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

_modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
_public = {name: getattr(module, name) for module in _modules for name in module.__all__}
globals().update(_public)
__all__ = sorted(_public)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
