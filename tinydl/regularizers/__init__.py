"""Regularizers: the objective, its contract, and a family of penalties in each other file.

The public names are those of the files' `__all__`.
"""

from typing import TYPE_CHECKING, Any

from ..rooms import collect

__all__ = collect(__name__)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
