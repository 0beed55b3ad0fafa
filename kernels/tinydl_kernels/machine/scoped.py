"""Values that each thread has for itself and that a scope replaces: the backend, the allocator's source, the
mode of the tape, the source of random numbers.

    class _Here(Scoped):
        backend: str | None = None          # outside of all scopes

    here = _Here()
    with here.replaced(backend="cpu"):      # inside, on this thread: here.backend == "cpu"
        ...
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Scoped(threading.local):
    """Subclasses name the values and what they are outside of all scopes."""

    @contextmanager
    def replaced(self, **values: Any) -> Iterator[None]:
        """A scope, or a decorator, in which this thread sees `values`; they end with it, whatever happens."""
        mine = self.__dict__
        outer = {name: getattr(self, name) for name in values}
        mine.update(values)
        try:
            yield
        finally:
            mine.update(outer)
