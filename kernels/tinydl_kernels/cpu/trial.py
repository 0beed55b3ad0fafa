"""Small kernels with known answers: whether this Numba does what all others need is seen on them first."""

from __future__ import annotations

import numpy as np

from . import internals, simd
from .compiler import kernel, parallel


def _check(answer: bool, what: str) -> None:
    if not answer:
        raise ArithmeticError(f"a kernel of the trial has got {what} wrong")


def loops() -> None:
    """A loop in pieces that calls a kernel, on writable and on read-only arrays, and raises."""

    @kernel
    def cube(v, n):
        return v if n == 1 else v * cube(v, n - 1)

    @parallel
    def cubes(start, stop, x, y):
        for i in range(start, stop):
            if x[i] < 0:
                raise OverflowError("trial")
            y[i] = cube(x[i], 3)

    x, y = np.arange(5.0), np.zeros(5)
    for writable in (True, False):
        x.flags.writeable, y[:] = writable, 0
        cubes._run(5, 2, x, y, 0)  # its pieces in order: the pool is not needed for it
        _check(np.array_equal(y, x**3), "a loop")
    _check(cube(2.0, 3) == 8, "a call")
    for signature, result in cube.dispatcher.overloads.items():
        store = cube.store() if internals.works("cache") else None
        if store and store.holds(signature):
            again = store.load_overload(signature, result.target_context)
            _check(again is not None, "its way to the disk and back")
        elif store:  # not written: is it for the disk?
            internals.to_bytes(result)
    x = np.array([1.0, 2.0, 3.0, -1.0])
    try:
        cubes._run(4, 2, x, y, 0)
    except OverflowError:
        return
    _check(False, "an exception")


def tiles() -> None:
    """An outer product in registers, of fewer columns than they hold."""

    @kernel
    def product(w, x, y):
        w, columns, x, y = simd.pointer(w, 0), x.size, simd.pointer(x, 0), simd.pointer(y, 0)
        tile = simd.multiply_add(simd.column(2, 1, w), w, 0, 1, x, 0, columns)
        simd.store(tile, y, 0, columns, 0, columns)

    try:
        for dtype in ("float32", "float64"):
            w, x, y = np.array([2, 3], dtype), np.array([5], dtype), np.zeros((2, 1), dtype)
            product(w, x, y.reshape(-1))
            _check(np.array_equal(y, w[:, None] * x + w[:, None]), "a tile")
    except Exception:
        simd.lanes.cache_clear()  # they were counted as if there were tiles
        raise
