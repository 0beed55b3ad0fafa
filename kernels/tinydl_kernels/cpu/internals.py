"""What is used of Numba beyond its documented interfaces: all of it stands here, and what is done without it.

A future Numba may be made differently inside. So before the first kernel runs, small ones with known answers
are tried (trial.py); what fails is done without, and one warning says so:

    drafts    code that is made only to be linked (lazy.py)     without: it is compiled in full
    cache     compiled code on disk (cache.py)                  without: each process compiles anew
    threads   loops shared by threads, kept as jobs             without: `numba.njit` alone, loops are serial
    tiles     register tiles (simd.py)                          without: their plain twins
    compiler  Numba itself                                      without: the NumPy references (dispatch.py)

Names of LLVM and of `numba.extending` that intrinsics use where they stand are covered by the trials.
"""

from __future__ import annotations

import importlib
import itertools
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

importing = threading.RLock()
"""Held by the thread that imports Numba, so that no other thread forks meanwhile: the
child could never import it.
"""


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
callconv = Module("numba.core.callconv")
cgutils = Module("numba.core.cgutils")
registry = Module("numba.core.registry")
trial = Module(f"{__package__}.trial")


def compiler_lock() -> Any:
    """Numba's own, reentrant. Dispatchers are made while it compiles, so with a second
    lock two threads could deadlock.
    """
    try:
        return Module("numba.core.compiler_lock").global_compiler_lock
    except (AttributeError, ImportError):
        return importing


# ---- what works

MEANING = {
    "compiler": "NumPy stands in for all kernels",
    "threads": "loops run on one thread",
    "tiles": "kernels run without register tiles",
    "cache": "compiled kernels are not kept on disk",
    "drafts": "kernels take longer to compile",
}
LADDER: list[tuple[str, ...]] = [
    (),
    ("drafts",),
    ("cache",),
    ("threads", "drafts"),
    ("threads", "drafts", "cache"),
    ("compiler", "threads", "tiles", "drafts", "cache"),
]
"""What is given up in turn until the loops of the trial come out right; the last needs none."""

_lost: set[str] = set()
_settled = _trying = False


def works(part: str) -> bool:
    """Does this Numba do that part (above)? The first question is answered by a trial of all."""
    if not _settled:
        _settle()
    return part not in _lost


def state() -> str:
    """What is done without: code on disk is for one state."""
    return " ".join(sorted(_lost))


def _settle() -> None:
    global _settled, _trying
    with compiler_lock():
        if _settled or _trying:  # the kernels of the trial ask too
            return
        _trying = True
        reason = None
        try:
            for given_up in LADDER:
                _lost.clear()
                _lost.update(given_up)
                failure = "compiler" not in given_up and _failure(trial.loops)
                reason = reason or failure
                if not failure:
                    break
            if "tiles" not in _lost and (failure := _failure(trial.tiles)):
                reason = reason or failure
                _lost.add("tiles")
        finally:
            _trying = False
        _settled = True
    if _lost:
        shown = [meaning for part, meaning in MEANING.items() if part in _lost]
        shown = shown[:1] if "compiler" in _lost else shown
        who = f"tinydl: {_numba_and_version()} does not do what its kernels need"
        warnings.warn(f"{who} ({reason}): {', '.join(shown)}", stacklevel=2)


def _failure(attempt: Callable[[], None]) -> str | None:
    """How a trial ends that does not end well."""
    try:
        attempt()
    except Exception as error:  # whatever a future Numba thinks of
        first = (str(error).strip() or "no message").splitlines()[0]
        return f"{type(error).__name__}: {first}"
    return None


def version(package: str) -> str:
    """Of a package that is imported for it."""
    return str(Module(package)._module().__version__)


def _numba_and_version() -> str:
    try:
        return f"Numba {version('numba')}"
    except ImportError:
        return "Numba"


# ---- dispatchers


def jit(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """`numba.njit` with the settings of the house; nothing is compiled yet."""
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    if works("threads"):
        settings["no_cfunc_wrapper"] = True
    else:
        options = {name: value for name, value in options.items() if name != "no_cpython_wrapper"}
    return nb.njit(**settings | options)(function)


def type_of(dispatcher: Any, value: Any) -> Any:
    """Numba's type of an argument."""
    return dispatcher.typeof_pyval(value)


def keep_in(dispatcher: Any, store: Any) -> None:
    """Let a dispatcher find its compiled code in a store and put it there."""
    dispatcher._cache = store


def compile_once_per_kind(dispatcher: Any) -> None:
    """Let a dispatcher compile only once for values and arrays of one kind.

    A constant that another kernel passes is taken for any number, and a read-only array
    for a writable one. What a caller holds read-only must be an input: the compiled code
    would not refuse to write to it.
    """
    compile_for = dispatcher._compile_for_args

    def compile_for_writable(*args: Any, **keywords: Any) -> Any:
        with compiler_lock():
            given = [type_of(dispatcher, arg) for arg in args]
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


def being_compiled(dispatcher: Any) -> bool:
    return bool(dispatcher.is_compiling)


def type_of_intrinsic(function: Any) -> Any:
    """Numba's type of what `numba.extending.intrinsic` has made."""
    context = registry.cpu_target.typing_context
    context.refresh()
    return context.resolve_value_type(function)


def draft_options() -> dict[str, Any]:
    """The option that makes a dispatcher compile drafts: LLVM code that is never made machine code."""
    compiler, codegen = Module("numba.core.compiler"), Module("numba.core.codegen")

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

    return {"pipeline_class": DraftCompiler}


# ---- in the code of intrinsics


def linked(context: Any, dispatcher: Any, call: Any) -> Any:
    """The description of the function that a call goes to, whose code is linked into what is being
    compiled.
    """
    result = dispatcher.get_compile_result(call)
    context.active_code_library.add_linking_library(result.library)
    return result.fndesc


def call_linked(context: Any, builder: Any, description: Any, call: Any, args: Any) -> tuple[Any, Any]:
    """Call it: (has it raised?, Numba's description of the exception)."""
    status, _ = context.call_internal_no_propagate(builder, description, call, args)
    return status.is_error, status.excinfoptr


def raise_described(context: Any, builder: Any, error: Any) -> None:
    """Leave the function that is being compiled with the exception described at an address."""
    error = builder.inttoptr(error, callconv.excinfo_ptr_t)
    status = context.call_conv._get_return_status(builder, callconv.RETCODE_USEREXC, error)
    context.call_conv.return_status_propagate(builder, status)


def symbol(context: Any, builder: Any, kind: Any, name: str) -> Any:
    """What lies at the address of that name."""
    return context.get_c_value(builder, kind, name)


# ---- the processor, and code on disk


def target() -> tuple[Any, ...]:
    """The processor that Numba compiles for: (triple, name, features)."""
    return registry.cpu_target.target_context.codegen().magic_tuple()


def distinguish_names() -> None:
    """Let Numba number the functions that it compiles from a random start.

    The number is part of a function's name in machine code. Counted from 1 in each process, namesakes
    (closures, say) in files that two processes have left would meet in a third, and there one would silently
    run in the place of the other.
    """
    identity = Module("numba.core.bytecode").FunctionIdentity
    identity._unique_ids.__next__  # noqa: B018  an AttributeError if there is none
    identity._unique_ids = itertools.count(int.from_bytes(os.urandom(6)))


def portable(result: Any) -> bool:
    """Is compiled code free of addresses of this process?"""
    return not (result.library.has_dynamic_globals or result.lifted)


def to_bytes(result: Any) -> bytes:
    return Module("numba.core.serialize").dumps(result._reduce())


def from_reduced(context: Any, reduced: Any) -> Any:
    context.refresh()
    return Module("numba.core.compiler").CompileResult._rebuild(context, *reduced)
