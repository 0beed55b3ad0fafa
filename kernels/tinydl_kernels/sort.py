"""Order along one axis.

    argsort   indices that sort x; equal elements keep their order, NaN counts as larger than everything
    unique    the different elements in order, where each of x is among them, and how often

NumPy's stable sort does the work, O(n log n) a line.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import operation
from .memory import array_module
from .validate import report

Array = Any


@operation(portable=True)
def argsort(x, dim, descending):
    """int64 indices that sort x along `dim`. Descending order is stable too: the first of equals comes first."""
    if not descending:
        return x.argsort(dim, kind="stable")
    back = (slice(None),) * dim + (slice(None, None, -1),)
    return x.shape[dim] - 1 - x[back].argsort(dim, kind="stable")[back]


@operation(portable=True)
def unique(x, dim):
    """(values, inverse, counts): the different elements of x, or its different slices along `dim`, in ascending order.

    How many there are depends on the values. Every NaN is different from every other.
    """
    kept = {} if dim is None else {"axis": dim}
    values, inverse, counts = array_module(x).unique(x, return_inverse=True, return_counts=True, equal_nan=False, **kept)
    return values, inverse.reshape(x.shape if dim is None else -1).astype(np.int64), counts.astype(np.int64)


def main() -> None:
    """Time the references: there is no other implementation."""
    x = np.random.default_rng(0).standard_normal((1000, 1000)).astype(np.float32)
    for dim in (0, 1):
        report(argsort, x, dim, True)
    report(unique, np.round(x, 2), None)


if __name__ == "__main__":
    main()
