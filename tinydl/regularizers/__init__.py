"""Regularizers: the objective, its contract, and a family of penalties in each other file.

The public names are those of the files' `__all__`, and the packages (`attack`).
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

__all__: list[str] = []
for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f".{_found.name}", __name__)
    if _found.ispkg:  # a room of its own
        __all__.append(_found.name)
        continue
    globals().update({name: getattr(_module, name) for name in _module.__all__})
    __all__ += _module.__all__

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
