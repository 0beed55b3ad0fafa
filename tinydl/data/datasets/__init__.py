"""Data sets as NumPy arrays. One data set is a file here with `__all__`, and its row in
tests/catalogue/datasets.py.
"""

from ...rooms import collect

__all__ = collect(__name__)
