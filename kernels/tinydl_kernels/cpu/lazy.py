"""Numba without its import: modules, intrinsics and functions that cost nothing until they are first used.

`import numba` takes a quarter of a second and each kernel a tenth, so nothing is imported or compiled when it
is defined. Numba asks each object that a compiled function names for its `_numba_type_`; the objects below
come to life when they are asked. So kernels find each other through globals, closures and module attributes,
and only what runs is compiled.

A kernel that another kernel calls is linked into it and optimized there. It exists twice then: as a *draft*,
LLVM code that is never made machine code, and, if Python calls it too, by itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

from . import internals
from .cache import Cacheable
from .internals import Module, compiler_lock, importing
from .internals import nb as nb


class Intrinsic(Cacheable):
    @functools.cached_property
    def _numba_type_(self) -> Any:
        declare = Module("numba.extending").intrinsic
        function = declare(**self.options)(self.function) if self.options else declare(self.function)
        return internals.type_of_intrinsic(function)


def intrinsic(define: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`numba.extending.intrinsic`: define(typing_context, *types) returns a signature and a
    function that emits the code.
    """
    return functools.partial(intrinsic, **options) if define is None else Intrinsic(define, **options)


kernels: weakref.WeakSet[Kernel] = weakref.WeakSet()
"""Every kernel there is, compiled or not."""


symbols: dict[str, int] = {}
"""Addresses of this process that compiled code, fresh or from the disk, finds by name."""


class Kernel(Cacheable):
    """A Python function that becomes a Numba dispatcher at its first call."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(function, **options)
        self._dispatchers: dict[bool, Any] = {}  # by "is it a draft?"
        self._run: Callable[..., Any] = self._first_run
        kernels.add(self)

    def __call__(self, *args: Any) -> Any:
        return self._run(*args)

    def _first_run(self, *args: Any) -> Any:
        if jit_disabled() or not internals.works("compiler"):
            self._run = self.interpreted
        else:
            with compiler_lock():  # Numba imports modules for the types of arguments, too: no fork meanwhile
                if internals.works("threads"):
                    for arg in args:
                        internals.type_of(self.dispatcher, arg)
            self._run = self.dispatcher
        return self._run(*args)

    def interpreted(self, *args: Any) -> Any:
        """The same in plain Python."""
        return self.function(*args)

    @property
    def dispatcher(self) -> Any:
        """The Numba dispatcher, which compiles once for each combination of argument types that it meets."""
        return self._made(draft=False)

    @property
    def _numba_type_(self) -> Any:
        whole = self._dispatchers.get(False)
        calls_itself = whole is not None and internals.works("threads") and internals.being_compiled(whole)
        return self._made(draft=internals.works("drafts") and not calls_itself)._numba_type_

    def _made(self, draft: bool) -> Any:
        if draft not in self._dispatchers:
            with compiler_lock():
                if draft not in self._dispatchers:
                    self._dispatchers[draft] = self._make_dispatcher(drafting() if draft else {})
        return self._dispatchers[draft]

    def _make_dispatcher(self, options: dict[str, Any]) -> Any:
        return self._finish(self._jit(self.function, **options), options)

    def _jit(self, function: Callable[..., Any], **options: Any) -> Any:
        return internals.jit(function, self.options | options)

    def _finish(self, dispatcher: Any, options: dict[str, Any]) -> Any:
        """Give a dispatcher its addresses and, if it makes no drafts, its files on disk."""
        for name, address in symbols.items():
            Module("llvmlite.binding").add_symbol(name, address)
        if not options and internals.works("cache") and (store := self.store()):
            internals.keep_in(dispatcher, store)
        if internals.works("threads"):
            internals.compile_once_per_kind(dispatcher)
        return dispatcher

    def __reduce__(self) -> str:
        return self.function.__qualname__  # pickled and copied by name, as functions are


@functools.cache
def drafting() -> dict[str, Any]:
    """The option that makes a Numba dispatcher compile drafts."""
    return internals.draft_options()


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile `function` with Numba at its first call. Options go to `numba.njit`."""
    return functools.partial(kernel, **options) if function is None else Kernel(function, **options)


def jit_disabled() -> bool:
    """TINYDL_DISABLE_JIT=1 runs every kernel as plain Python, to step through it with a debugger."""
    return os.environ.get("TINYDL_DISABLE_JIT", "0") not in ("", "0")


_over_fork = contextlib.ExitStack()


def _before_fork() -> None:
    """A lock that another thread holds would stay locked in the child for ever, and so
    would a module that it imports.

    Numba that is not there yet cannot come, nor compile, while `importing` is held. If it is there, its lock
    must be taken first, for modules are imported while it compiles.
    """
    _over_fork.enter_context(importing)
    if "numba.core.compiler_lock" in sys.modules:
        _over_fork.close()
        _over_fork.enter_context(compiler_lock())
        _over_fork.enter_context(importing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_over_fork.close, after_in_child=_over_fork.close
    )
