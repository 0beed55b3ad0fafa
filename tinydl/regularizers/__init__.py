"""Regularizers: the objective, its contract, and a family of penalties in each other file.

The public names are those of the files' `__all__`, and the packages (`attack`).
"""

from ..rooms import collect
from . import attack

__all__ = ["attack", *collect(__name__)]
