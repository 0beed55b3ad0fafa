"""OpenBLAS on one thread: its own pool would spin against ours, and its bits depend on its threads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np


class _Blas:
    """Sets OpenBLAS to one thread while at least one scope is open, and back to the user's number after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scopes = 0
        self._outer = 1

    @functools.cached_property
    def _functions(self) -> tuple[Any, Any]:
        """get_num_threads and set_num_threads of the library that NumPy has loaded; without
        OpenBLAS, one thread for ever.
        """
        for path in _openblas_files():
            with contextlib.suppress(OSError):
                library = ctypes.CDLL(path)
                for name in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads",
                             "openblas_{}_num_threads64_", "openblas_{}_num_threads"):  # fmt: skip
                    if hasattr(library, name.format("set")):
                        return library[name.format("get")], library[name.format("set")]
        return (lambda: 1), (lambda count: None)

    def __enter__(self) -> None:
        with self._lock:
            if self._scopes == 0:
                get, put = self._functions
                self._outer = get()
                if self._outer != 1:
                    put(1)
            self._scopes += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._scopes -= 1
            if self._scopes == 0 and self._outer != 1:
                self._functions[1](self._outer)

    def after_fork(self) -> None:
        """Scopes of other threads do not exist in the child."""
        self._lock = threading.Lock()
        if self._scopes and self._outer != 1:
            self._functions[1](self._outer)
        self._scopes = 0


_blas = _Blas()


def after_fork() -> None:
    """The child has none of the scopes that other threads of its parent were in."""
    _blas.after_fork()


def single_threaded_blas() -> contextlib.AbstractContextManager[None]:
    """A scope in which NumPy's OpenBLAS runs on one thread; scopes nest, and may
    overlap in several Python threads.
    """
    return _blas


def _openblas_files() -> list[str]:
    """Where NumPy's OpenBLAS may be: bundled with NumPy, else among the files
    that this process has mapped.
    """
    home = Path(np.__file__).parent
    bundled = [*home.parent.glob("numpy.libs/*openblas*"), *home.glob(".dylibs/*openblas*")]
    maps = Path("/proc/self/maps")
    if bundled or not maps.exists():
        return [str(path) for path in bundled]
    return sorted({line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if "openblas" in line})
