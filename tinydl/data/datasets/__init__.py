"""Data sets as NumPy arrays. One data set is a file here with `__all__`, and its row in
tests/catalogue/datasets.py.
"""

from typing import TYPE_CHECKING, Any

from ...rooms import collect

__all__ = collect(__name__)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
