"""Lazy Numba: a decorated function is compiled at its first call, never at import.

    @kernel                          # a serial function; kernels may call each other by name
    def area(h, w): ...

    @parallel                        # the body of a loop over range(n); call it as  scale(n, grain, x, y)
    def scale(start, stop, x, y):
        for i in range(start, stop): ...

`scale(n, grain, *args)` runs the body on [0, grain), [grain, 2 grain), ... The cuts depend on `n` and `grain` alone, never on
the number of threads, so results have the same bits on any machine load.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any


class Kernel:
    """A Python function that becomes a Numba dispatcher at its first call."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options

    @functools.cached_property
    def dispatcher(self) -> Any:
        import numba  # lazy: costs a quarter of a second

        function = self.function
        names = {name: _compiled(value) for name, value in function.__globals__.items()}
        cells = tuple(types.CellType(_compiled(cell.cell_contents)) for cell in function.__closure__ or ())
        bound = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
        bound.__qualname__, bound.__module__ = function.__qualname__, function.__module__
        return numba.njit(nogil=True, error_model="numpy", **self.options)(bound)

    def __call__(self, *args: Any) -> Any:
        return self.dispatcher(*args)


class Parallel(Kernel):
    """A loop body over [start, stop); calling it runs the body over all of range(n) in pieces of `grain`."""

    def __call__(self, n: int, grain: int, *args: Any) -> None:
        for start in range(0, n, grain):
            self.dispatcher(start, min(n, start + grain), *args)


def _compiled(value: Any) -> Any:
    return value.dispatcher if isinstance(value, Kernel) else value


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile `function` with Numba at its first call. Options go to `numba.njit`."""
    return functools.partial(kernel, **options) if function is None else Kernel(function, **options)


def parallel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile the loop body `function(start, stop, *args)`; the result is called as `f(n, grain, *args)`."""
    return functools.partial(parallel, **options) if function is None else Parallel(function, **options)
