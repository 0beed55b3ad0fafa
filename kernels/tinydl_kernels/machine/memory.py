"""The one allocator. Every kernel takes its outputs and its scratch from `empty`, so that a recorder can plan
them.

Eager calls get fresh arrays. While a step is recorded or replayed, a *source* stands in: it notes what is
asked for, or hands the planned buffers out again in the same order.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import operator
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..cpu import jobs
from . import device
from .scoped import Scoped

Array = Any  # numpy.ndarray or cupy.ndarray
Source = Callable[[tuple[int, ...], np.dtype, Array], Array]


LARGEST = 1 << 25
"""Bytes of the largest arrays whose memory is reused: as much as glibc can."""
KEPT = 1 << 29
"""Bytes of dead arrays that are kept for new ones."""
ALIGNED, CACHE_LINE = 1 << 14, 64
"""Bytes from which on scratch is aligned, and to what: a line of the cache."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


class _Here(Scoped):
    source: Source | None = None


here = _Here()


def array_module(array: Array) -> Any:
    """numpy for a NumPy array, cupy for a CuPy array."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    import cupy  # optional package

    return cupy


def fresh(shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
    """An uninitialized C-contiguous array on the device of `like`, whatever source is in charge."""
    if isinstance(like, (np.ndarray, np.generic)):
        return np.empty(shape, dtype)
    try:
        return array_module(like).empty(shape, dtype)
    except MemoryError as error:
        raise device.exhausted(error, math.prod(shape) * np.dtype(dtype).itemsize) from error


def empty(shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
    """An uninitialized C-contiguous array on the device of `like`: planned while a step is recorded, else
    fresh.
    """
    source = here.source
    if source is None:
        return np.empty(shape, dtype) if type(like) is np.ndarray else fresh(shape, dtype, like)
    jobs.allocated()
    return source(shape, np.dtype(dtype), like)


def scratch(shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
    """`empty` for what no other kernel sees: on the processor it begins with a line of the cache.

    A register that crosses two lines takes twice as long to load. (An array cut out of another cannot be
    told from a view: no result is.)
    """
    if here.source is not None or not isinstance(like, (np.ndarray, np.generic)):
        return empty(shape, dtype, like)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < ALIGNED:
        return np.empty(shape, dtype)
    block = np.empty(size + CACHE_LINE, np.uint8)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block.data))  # the fastest way
    return np.ndarray(shape, dtype, block, -address % CACHE_LINE)


def empty_like(array: Array) -> Array:
    """`empty` with the shape, dtype and device of `array`."""
    return empty(array.shape, array.dtype, array)


def zeros(shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
    """`empty`, filled with zeros."""
    jobs.spoil()
    array = empty(shape, dtype, like)
    array[...] = 0
    return array


@functools.lru_cache(maxsize=256)
def constant(shape: tuple[int, ...], dtype: np.dtype, value: float) -> np.ndarray:
    """A NumPy array filled with a value, the same at each call, so it cannot be written to."""
    array = np.full(shape, value, dtype)
    array.flags.writeable = False
    return array


def scalar(value: Any, dtype: Any, like: Array) -> Array:
    """A number as a 0-d array on the device of `like`; on a GPU written there, not copied."""
    if isinstance(like, (np.ndarray, np.generic)):
        return np.asarray(value, dtype)
    array = empty((), dtype, like)
    array.fill(value)
    return array


line: Callable[[Array], Array] = operator.methodcaller("ravel")
"""A contiguous array as one line of numbers."""


def planned() -> bool:
    """Is a recorder in charge of this thread's allocations?"""
    return here.source is not None


def supplied_by(source: Source) -> AbstractContextManager[None]:
    """Within the scope, `empty` on this thread is answered by `source(shape, dtype, like)`."""
    return here.replaced(source=source)


def _keep() -> None:
    """Let glibc reuse the memory of dead arrays for new ones: in the whole process, from the import on.

    By itself it asks the system for most arrays anew, a page fault each 4 KB: an eager step spends a fifth of
    its time there. The environment variables that glibc reads for this come first; on other systems nothing
    happens.
    """
    if (
        "MALLOC_TRIM_THRESHOLD_" in os.environ
        or "MALLOC_MMAP_THRESHOLD_" in os.environ
        or "GLIBC_TUNABLES" in os.environ
    ):
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGEST)
        mallopt(_M_TRIM_THRESHOLD, KEPT)


def release() -> None:
    """Give the system back the memory of dead arrays, as far as `_keep` has kept it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


_keep()


def diagonal(x: Any, offset: int, axis1: int, axis2: int) -> Any:
    """x.diagonal(...), which may be written where x may: NumPy marks it as read-only."""
    view = x.diagonal(offset, axis1, axis2)
    if isinstance(view, np.ndarray):
        view.flags.writeable = x.flags.writeable
    return view
