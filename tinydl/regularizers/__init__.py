"""Regularizers: the objective, its contract, and a family of penalties in each other file.

The public names are those of the files' `__all__`, and the packages (`attack`).
"""

from typing import TYPE_CHECKING, Any

from ..rooms import collect
from . import attack

__all__ = ["attack", *collect(__name__)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
