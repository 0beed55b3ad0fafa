"""Loops kept as jobs: a step that runs the same loops on the same arrays again needs no Python between them.

    parts = compiled(calls)             # calls each
    for part in parts: part()           # does the same again, with one compiled call for all loops in a row

A loop (compiler.py) comes down to a C function, a frame with its arguments, n and grain. While a call is
looked at, each loop of its thread writes these down in a log before it runs. The frame holds addresses, so a
job keeps the arrays alive. Which calls do nothing else is known of the implementations that are registered as
`loops` (dispatch.py); the others, what takes memory outside of them, and what NumPy writes to arrays within
them `spoil` a call: it stays a call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import internals, threads
from .internals import cgutils
from .lazy import Module, intrinsic, jit_disabled, kernel, nb

ir = Module("llvmlite.ir")

HEAD = 4
"""Words of a job before its frame: the address of the C function, n, grain, words of the frame."""
LOG = 1 << 17
"""Words that the loops of one call may take."""


class Capture:
    """What is known so far of a call that is being added to jobs."""

    def __init__(self) -> None:
        self.whole = True  # has it done nothing but run loops?
        self.depth = 0  # how many implementations that do nothing else it is within
        self.arguments: list[Any] = []  # those of its loops


capturing: dict[int, Capture] = {}
"""By thread. At most one, as there is one log."""
_turn = threading.Lock()
_log = np.zeros(0, np.int64)  # the words that are used, and then the jobs


def _after_fork_in_child() -> None:
    """Another thread of the parent may have been at it."""
    global _turn
    _turn = threading.Lock()
    capturing.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def captured() -> Capture | None:
    """The capture of this thread, if there is one."""
    return capturing.get(threading.get_ident()) if capturing else None


def spoil() -> None:
    """Something other than a loop writes to arrays, or hides from loops what they depend on."""
    if capture := captured():
        capture.whole = False


def looping(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that does nothing to arrays but run loops."""
    capture = captured()
    if capture is None:
        return function(*args)
    capture.depth += 1
    try:
        return function(*args)
    finally:
        capture.depth -= 1


def allocated() -> None:
    """An array was taken from the allocator: by whom?"""
    if (capture := captured()) and not capture.depth:
        capture.whole = False


def logged(call: Callable[[], Any]) -> tuple[Any, np.ndarray | None, list[Any]]:
    """(what `call` returns, the jobs of its loops, the loops with their arguments); None in place of the jobs
    if it has done something else as well.
    """
    global _log
    me = threading.get_ident()
    with _turn:
        if not _log.size:
            _log = np.zeros(1 + LOG, np.int64)
            threads.words[threads.LOG] = _log.ctypes.data
        _log[0] = 0
        capture = capturing[me] = Capture()
        try:
            result = call()
        finally:
            del capturing[me]
        whole = capture.whole and capture.arguments and _log[0] <= LOG
        return result, _log[1 : 1 + _log[0]].copy() if whole else None, capture.arguments


class Jobs:
    """Loops to be run in order."""

    def __init__(self) -> None:
        self._words = np.zeros(0, np.int64)
        self._arguments: list[Any] = []  # what the frames hold the addresses of

    def add(self, call: Callable[[], Any]) -> bool:
        """Call `call` and keep its loops; keep nothing and return False if it has done something else as
        well.
        """
        if jit_disabled():
            call()
            return False
        _, words, arguments = logged(call)
        if words is None:
            return False
        self._words = np.append(self._words, words)
        self._arguments.append(arguments)
        return True

    def __call__(self) -> None:
        """Run the loops. An exception in one ends the run."""
        if not threads.running:
            threads.start()
        run_jobs(self._words.ctypes.data, self._words.size)


def compiled(calls: Iterable[Any]) -> list[Callable[[], Any]]:
    """Call each, and return what does the same again: jobs for calls in a row that are nothing but loops,
    else the calls.
    """
    parts: list[Any] = []
    for call in calls:
        jobs = parts[-1] if parts and isinstance(parts[-1], Jobs) else Jobs()
        if not jobs.add(call):
            parts.append(call)
        elif not parts or jobs is not parts[-1]:
            parts.append(jobs)
    return parts


@intrinsic
def word(typing, address):
    """The 64 bits at an address."""

    def code(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return nb.int64(nb.int64), code


@intrinsic
def set_word(typing, address, value):
    """Write 64 bits to an address."""

    def code(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], ir.IntType(64).as_pointer()))
        return context.get_dummy_value()

    return nb.void(nb.int64, nb.int64), code


@intrinsic
def note(typing, piece, frame, size, n, grain):
    """Write a job down in the log, whose frame has so many words; one that does not fit leaves the log too
    long.

    LLVM code, as each loop has it: what Numba makes of a function takes longer to compile.
    """

    def code(context, builder, signature, args):
        piece, frame, size, n, grain = args
        int64 = ir.IntType(64)
        words = int64.as_pointer()

        def number(value):
            return ir.Constant(int64, value)

        log = builder.inttoptr(threads.load_word(context, builder, number(threads.LOG)), words)
        used = builder.load(log)
        after = builder.add(used, builder.add(size, number(HEAD)))
        fits = builder.icmp_signed("<=", after, number(LOG))
        with builder.if_then(fits):
            job = builder.gep(log, [builder.add(used, number(1))])
            for i, value in enumerate((piece, n, grain, size)):
                builder.store(value, builder.gep(job, [number(i)]))
            to, source = builder.gep(job, [number(HEAD)]), builder.inttoptr(frame, words)
            cgutils.raw_memcpy(builder, to, source, size, 8, align=8)
        builder.store(builder.select(fits, after, number(LOG + 1)), log)
        return context.get_dummy_value()

    return nb.void(*[nb.int64] * 5), code


@kernel
def run_jobs(jobs, size):
    """Run the jobs that lie from address `jobs` on in so many words."""
    at, end = jobs, jobs + 8 * size
    while at < end:
        frame = at + 8 * HEAD
        set_word(frame, 0)  # no error
        threads.drive(word(at), frame, word(at + 8), word(at + 16))
        reraise(frame)
        at = frame + 8 * word(at + 24)


@intrinsic
def reraise(typing, frame):
    """Raise the exception that a piece has left in its frame."""

    def code(context, builder, signature, values):
        int64 = ir.IntType(64)
        error = builder.load(builder.inttoptr(values[0], int64.as_pointer()))
        with builder.if_then(builder.icmp_unsigned("!=", error, ir.Constant(int64, 0)), likely=False):
            internals.raise_described(context, builder, error)
        return context.get_dummy_value()

    return nb.void(nb.int64), code
