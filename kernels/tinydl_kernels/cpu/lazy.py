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
import importlib
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .cache import Cacheable, importing


class Module:
    """A module that is imported when one of its attributes is first read."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = self.__module__ = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by introspection, which should not import anything
            raise AttributeError(name)
        return getattr(self._module(), name)

    def _module(self) -> Any:
        with importing:
            return importlib.import_module(self.__name__)

    @property
    def _numba_type_(self) -> Any:
        return nb.types.Module(self._module())


nb = Module("numba")


class Intrinsic(Cacheable):
    @functools.cached_property
    def _numba_type_(self) -> Any:
        declare = Module("numba.extending").intrinsic
        function = declare(**self.options)(self.function) if self.options else declare(self.function)
        context = Module("numba.core.registry").cpu_target.typing_context
        context.refresh()
        return context.resolve_value_type(function)


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
        if jit_disabled():
            self._run = self.interpreted
        else:
            with compiler_lock():  # Numba imports modules for the types of arguments, too: no fork meanwhile
                for arg in args:
                    self.dispatcher.typeof_pyval(arg)
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
        if whole is not None and whole.is_compiling:  # it calls itself
            return whole._numba_type_
        return self._made(draft=True)._numba_type_

    def _made(self, draft: bool) -> Any:
        if draft not in self._dispatchers:
            with compiler_lock():
                if draft not in self._dispatchers:
                    self._dispatchers[draft] = self._make_dispatcher(drafting() if draft else {})
        return self._dispatchers[draft]

    def _make_dispatcher(self, options: dict[str, Any]) -> Any:
        return self._finish(self._jit(self.function, **options), options)

    def _jit(self, function: Callable[..., Any], **options: Any) -> Any:
        """`numba.njit` with the settings of the house; nothing is compiled yet."""
        settings = {"nogil": True, "error_model": "numpy", "boundscheck": False, "no_cfunc_wrapper": True}
        return nb.njit(**settings | self.options | options)(function)

    def _finish(self, dispatcher: Any, options: dict[str, Any]) -> Any:
        """Give a dispatcher its disk cache, if it makes no drafts; let it compile only once for
        values and arrays of one kind.

        A constant that another kernel passes is taken for any number, and a read-only array
        for a writable one. What a caller holds read-only must be an input: the compiled code
        would not refuse to write to it.
        """
        for name, address in symbols.items():
            Module("llvmlite.binding").add_symbol(name, address)
        if not options and hasattr(dispatcher, "_cache") and (store := self.store()):
            dispatcher._cache = store
        compile_for = dispatcher._compile_for_args

        def compile_for_writable(*args: Any, **keywords: Any) -> Any:
            with compiler_lock():
                given = [dispatcher.typeof_pyval(arg) for arg in args]
                wanted = [
                    t.copy(readonly=False) if isinstance(t, nb.types.Array) and not t.mutable else t
                    for t in given
                ]
                if wanted == given:
                    return compile_for(*args, **keywords)
                entry = dispatcher.compile(tuple(wanted))
                dispatcher._insert([t._code for t in given], entry, objectmode=False)
                return entry

        dispatcher._compile_for_args = compile_for_writable
        template_for = dispatcher.get_call_template

        def template_for_any_value(args: Any, keywords: Any) -> Any:
            return template_for(tuple(map(nb.types.unliteral, args)), keywords)

        dispatcher.get_call_template = template_for_any_value
        return dispatcher

    def __reduce__(self) -> str:
        return self.function.__qualname__  # pickled and copied by name, as functions are


@functools.cache
def drafting() -> dict[str, Any]:
    """The option that makes a Numba dispatcher compile drafts; none with a Numba
    that is made differently inside.
    """
    compiler, codegen = Module("numba.core.compiler"), Module("numba.core.codegen")
    try:

        class NoEnvironment:
            @staticmethod
            def set_env(name: str, environment: Any) -> None:
                """The environment of a draft is that of the code it is linked into."""

        class DraftLibrary(codegen.JITCodeLibrary):  # type: ignore[name-defined]
            codegen = NoEnvironment

            def _optimize_final_module(self) -> None:
                pass

            def _finalize_final_module(self) -> None:
                self._finalized = True

            def get_pointer_to_function(self, name: str) -> int:
                return 0

        class DraftCompiler(compiler.Compiler):  # type: ignore[name-defined]
            def __init__(self, typing: Any, target: Any, library: Any, *more: Any) -> None:
                super().__init__(typing, target, DraftLibrary(target.codegen(), "draft"), *more)

    except AttributeError:
        return {}
    return {"pipeline_class": DraftCompiler}


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile `function` with Numba at its first call. Options go to `numba.njit`."""
    return functools.partial(kernel, **options) if function is None else Kernel(function, **options)


def jit_disabled() -> bool:
    """TINYDL_DISABLE_JIT=1 runs every kernel as plain Python, to step through it with a debugger."""
    return os.environ.get("TINYDL_DISABLE_JIT", "0") not in ("", "0")


def compiler_lock() -> Any:
    """Numba's own, reentrant. Dispatchers are made while it compiles, so with a second
    lock two threads could deadlock.
    """
    return Module("numba.core.compiler_lock").global_compiler_lock


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
