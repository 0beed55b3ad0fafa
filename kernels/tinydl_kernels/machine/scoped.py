"""Values that each thread has for itself and that a scope replaces: the backend, the allocator's source, the
mode of the tape, the source of random numbers.

    class _Here(Scoped):
        backend: str | None = None          # outside of all scopes

    here = _Here()
    with here.replaced(backend="cpu"):      # inside, on this thread: here.backend == "cpu"
        ...
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Make = Callable[[], AbstractContextManager[Any]]


class Scope(AbstractContextManager[None]):
    """A scope, or a decorator of a function, each time as `make` makes it."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._entered: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> None:
        scope = self._make()
        scope.__enter__()
        self._entered.append(scope)

    def __exit__(self, *error: Any) -> None:
        self._entered.pop().__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return decorated(function, self._make)


def decorated(function: Callable[..., Any], make: Make) -> Callable[..., Any]:
    """The function, run in a scope of its own at each call. The body of a generator is in one while it runs;
    who iterates over it is not.
    """
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **settings: Any) -> Any:
            return _resumed(function(*args, **settings), make)

        return generator

    @functools.wraps(function)
    def called(*args: Any, **settings: Any) -> Any:
        with make():
            return function(*args, **settings)

    return called


def _resumed(generator: Any, make: Make) -> Iterator[Any]:
    """The same generator, each piece of whose body runs in a scope."""

    def step(resume: Callable[..., Any], *args: Any) -> Any:
        with make():
            return resume(*args)

    try:
        value = step(next, generator)
        while True:
            try:
                sent = yield value
            except GeneratorExit:
                step(generator.close)
                raise
            except BaseException as error:
                value = step(generator.throw, error)
            else:
                value = step(generator.send, sent)
    except StopIteration as end:
        return end.value


class Scoped(threading.local):
    """Subclasses name the values and what they are outside of all scopes."""

    def replaced(self, **values: Any) -> Scope:
        """A scope, or a decorator, in which this thread sees `values`; they end with it, whatever happens."""
        return Scope(lambda: self._replaced(values))

    @contextmanager
    def _replaced(self, values: dict[str, Any]) -> Iterator[None]:
        mine = self.__dict__
        outer = {name: getattr(self, name) for name in values}
        mine.update(values)
        try:
            yield
        finally:
            mine.update(outer)
