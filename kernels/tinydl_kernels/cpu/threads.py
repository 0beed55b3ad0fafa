"""One pool of threads for all kernels: how many, how they share a loop, how they sleep, what
they do at a fork and at exit.

A loop over range(n) in pieces of `grain` is shared like this (`drive`, `work`). The caller claims the pool,
writes the job down, opens it, wakes who sleeps and takes pieces. To wake one takes microseconds: the caller
wakes two, each of them two more, and so on. Workers that see a new epoch enter and take pieces too: each
first those of a share of its own, the same part of every loop, which its core's caches may still hold from
the loop before, then what others have left of theirs. When no piece is left the caller closes the job and
waits for those who are inside, and for nobody else: a short loop is over before a sleeper has woken, who then
finds the door closed. Who finds the pool claimed (another Python thread, a loop inside a loop) runs all its
pieces itself. The cuts depend on none of this, and so the results do not either.

The number of threads is part of the job: workers may start and end under it, and nobody sees other shares for
that. To end them, `stop` claims the pool as a loop does, so that the job that is open is done first.

Workers are Python threads that stay inside one compiled function without the interpreter's lock. They look
for work for a few milliseconds, as long as an eager step may go without a loop that is worth sharing (to
wake one takes its caller longer than a small loop does), then sleep on one of Python's own low-level locks,
which exist on every platform.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import sys
import threading
import warnings
from typing import Any

import numpy as np

from ..machine.errors import ShapeError
from . import blas, internals
from .lazy import Module, intrinsic, jit_disabled, kernel, nb, symbols
from .processors import available_cpus, one_of_many

ir = Module("llvmlite.ir")

MAX_THREADS = 256

# ---- the memory that the threads share: words of 64 bits, one cache line for those
# that different threads write

LINE = 16
# the job: piece(frame, start, stop) is to be called for all pieces of range(n)
PIECE, FRAME, N, GRAIN = 0, 1, 2, 3
THREADS = 4  # into how many shares the pieces of the job fall
HELPERS = 5  # the workers that there are pieces for
INSIDE = 1 * LINE  # workers inside the job, plus CLOSED while there is none
EPOCH = 2 * LINE  # counts the jobs
CLAIMED = 3 * LINE  # 1 while a caller uses the pool, STOPPED while its workers end
WORKERS = 4 * LINE  # how many there are
TERM = WORKERS + 1  # counts the ends of the pool: workers of an earlier term leave
LOG = WORKERS + 2  # the address of the log of loops (jobs.py)
NEXT = 5 * LINE  # + LINE * thread: the piece of this thread's share to be taken next; the caller is thread 0
ASLEEP = (5 + MAX_THREADS) * LINE  # + LINE * worker: 1 while this worker sleeps or is about to
LOCK = ASLEEP + 1  # + LINE * worker: the lock it sleeps on
CLOSED = -(1 << 32)
STOPPED = 2

words = np.zeros((5 + 2 * MAX_THREADS) * LINE, np.int64)
words[INSIDE] = CLOSED
SYMBOL = "tinydl_threads"
symbols[SYMBOL] = words.ctypes.data

ROUNDS, LOOKS = 2000, 32
"""A worker looks for work ROUNDS * LOOKS times, giving way to other processes after
each round, before it sleeps.
"""


def _word(context: Any, builder: Any, index: Any) -> Any:
    array = internals.symbol(context, builder, ir.ArrayType(ir.IntType(64), words.size), SYMBOL)
    return builder.gep(array, [ir.Constant(ir.IntType(64), 0), index], inbounds=True)


def load_word(context: Any, builder: Any, index: Any) -> Any:
    """The code of `load`."""
    return builder.load_atomic(_word(context, builder, index), "seq_cst", 8)


@intrinsic
def load(typing, index):
    return nb.int64(nb.int64), lambda context, builder, signature, args: load_word(context, builder, args[0])


@intrinsic
def store(typing, index, value):
    def code(context, builder, signature, args):
        builder.store_atomic(args[1], _word(context, builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return nb.void(nb.int64, nb.int64), code


@intrinsic
def add(typing, index, value):
    """Atomic addition; returns the value before."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(context, builder, args[0]), args[1], "seq_cst")

    return nb.int64(nb.int64, nb.int64), code


@intrinsic
def swap(typing, index, expected, value):
    """Put `value` in the place of `expected`; False if something else was there."""

    def code(context, builder, signature, args):
        place = _word(context, builder, args[0])
        return builder.extract_value(builder.cmpxchg(place, args[1], args[2], "seq_cst"), 1)

    return nb.boolean(nb.int64, nb.int64, nb.int64), code


@intrinsic
def pause(typing):
    """Tell the processor that this is a waiting loop."""

    def code(context, builder, signature, args):
        triple = builder.module.triple
        if triple.startswith(("x86_64", "i")):
            _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
        elif triple.startswith(("aarch64", "arm64")):
            _call(builder, "llvm.aarch64.hint", ir.VoidType(), ir.Constant(ir.IntType(32), 1))
        return context.get_dummy_value()

    return nb.void(), code


@intrinsic
def give_way(typing):
    """Let another thread have the processor if one wants it."""

    def code(context, builder, signature, args):
        _call(builder, "SwitchToThread" if sys.platform == "win32" else "sched_yield", ir.IntType(32))
        return context.get_dummy_value()

    return nb.void(), code


@intrinsic
def acquire(typing, lock):
    """Sleep until `release(lock)` has been called."""

    def code(context, builder, signature, args):
        _call(builder, "PyThread_acquire_lock", ir.IntType(32), args[0], ir.Constant(ir.IntType(32), 1))
        return context.get_dummy_value()

    return nb.void(nb.int64), code


@intrinsic
def release(typing, lock):
    def code(context, builder, signature, args):
        _call(builder, "PyThread_release_lock", ir.VoidType(), args[0])
        return context.get_dummy_value()

    return nb.void(nb.int64), code


@intrinsic
def run(typing, piece, frame, start, stop):
    """Call the C function at address `piece`."""

    def code(context, builder, signature, args):
        function = ir.FunctionType(ir.VoidType(), [a.type for a in args[1:]])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])
        return context.get_dummy_value()

    return nb.void(nb.int64, nb.int64, nb.int64, nb.int64), code


def _call(builder: Any, name: str, result: Any, *args: Any) -> None:
    """Call a function of the C library, of Python or of LLVM."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    builder.call(function, args)


# ---- the protocol


@kernel
def share(pieces, thread, threads):
    """The first piece of a thread's share of so many."""
    return pieces * thread // threads


@kernel
def take_pieces(thread):
    """Run pieces of the job that is open until none is left: those of the thread's own
    share, then those of the others.
    """
    piece, frame, n, grain, threads = load(PIECE), load(FRAME), load(N), load(GRAIN), load(THREADS)
    pieces = -(-n // grain)
    for i in range(threads):
        owner = (thread + i) % threads
        counter, end = NEXT + LINE * owner, share(pieces, owner + 1, threads)
        number = add(counter, 1)
        while number < end:
            run(piece, frame, number * grain, min(number * grain + grain, n))
            number = add(counter, 1)


@kernel(no_cpython_wrapper=True)
def drive(piece, frame, n, grain):
    """Run piece(frame, start, stop) for all pieces of range(n), with the pool's
    help where it is to be had.
    """
    n, grain = max(n, 0), max(grain, 1)
    if n > grain and load(WORKERS) > 0 and swap(CLAIMED, 0, 1):
        threads = load(WORKERS) + 1
        store(PIECE, piece)
        store(FRAME, frame)
        store(N, n)
        store(GRAIN, grain)
        store(THREADS, threads)
        store(HELPERS, min(threads - 1, (n - 1) // grain))
        for thread in range(threads):
            store(NEXT + LINE * thread, share(-(-n // grain), thread, threads))
        add(INSIDE, -CLOSED)
        add(EPOCH, 1)
        wake_below(0)
        take_pieces(0)
        add(INSIDE, CLOSED)
        looks = 0
        while load(INSIDE) != CLOSED:
            looks = wait(looks)
        store(CLAIMED, 0)
    else:
        for start in range(0, n, grain):
            run(piece, frame, start, min(start + grain, n))


@kernel
def wait(looks):
    """Wait a moment after so many looks for something; return one more."""
    looks += 1
    if looks % LOOKS:
        pause()
    else:
        give_way()
    return looks


@kernel
def wake(worker):
    """Wake a worker if it sleeps. The epoch has changed before."""
    if swap(ASLEEP + LINE * worker, 1, 0):
        release(load(LOCK + LINE * worker))


@kernel
def wake_below(thread):
    """Wake the two workers below a thread in the tree of those that are to help: threads 1 and 2 are below
    the caller, 3 and 4 below 1, 5 and 6 below 2, and so on.
    """
    for below in range(2 * thread + 1, min(2 * thread + 2, load(HELPERS)) + 1):
        wake(below - 1)


@kernel
def next_epoch(worker, seen):
    """Wait until the epoch is another than `seen`; return it."""
    for _ in range(ROUNDS):
        for _ in range(LOOKS):
            if load(EPOCH) != seen:
                return load(EPOCH)
            pause()
        give_way()
    asleep = ASLEEP + LINE * worker
    store(asleep, 1)
    # Either this sees the new epoch or `wake` sees the flag; if both did, `wake` has released the
    # lock and it must be taken.
    if load(EPOCH) == seen or not swap(asleep, 1, 0):
        acquire(load(LOCK + LINE * worker))
    return load(EPOCH)


@kernel
def work(worker, term):
    """The life of a worker."""
    seen = 0
    while load(TERM) == term:
        seen = next_epoch(worker, seen)
        if add(INSIDE, 1) >= 0:
            wake_below(worker + 1)
            take_pieces(worker + 1)
        add(INSIDE, -1)


@kernel
def dismiss(workers):
    """Tell so many workers to leave, once the job that is open is done. The pool stays
    claimed; another call is safe.
    """
    store(WORKERS, 0)  # the loops that follow do not compete for the pool
    looks = 0
    while not swap(CLAIMED, 0, STOPPED) and load(CLAIMED) != STOPPED:
        looks = wait(looks)
    add(TERM, 1)
    add(EPOCH, 1)
    for worker in range(workers):
        wake(worker)


# ---- the pool

running = False
"""Has the pool been started, with as many workers as could be had? A loop that is worth sharing starts it."""

_lock = threading.RLock()
_count: int | None = None
_workers: list[threading.Thread] = []


def get_num_threads() -> int:
    """How many threads run a loop: set_num_threads, else TINYDL_NUM_THREADS, else one in a worker of
    multiprocessing or joblib and in a process of MPI, else the processors this process may use.
    """
    global _count
    if _count is None:
        text = os.environ.get("TINYDL_NUM_THREADS")
        if text is None:
            _count = 1 if one_of_many() else min(available_cpus(), MAX_THREADS)
        else:
            _count = _checked("TINYDL_NUM_THREADS", int(text) if text.strip().isdecimal() else text)
    return _count


def set_num_threads(count: int) -> None:
    """Run loops on `count` threads, the calling one included, 1 <= count <= 256.
    Results do not depend on it.
    """
    global _count
    count = _checked("set_num_threads", count)
    with _lock:
        stop()
        _count = count


def _checked(who: str, count: Any) -> int:
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or not 1 <= count <= MAX_THREADS:
        raise ShapeError(f"{who}: expected a whole number from 1 to {MAX_THREADS}, got {count!r}")
    return int(count)


def start() -> None:
    """Start the workers, unless they run. With too few of them loops take longer; a warning says so.

    While another thread starts or ends them this does nothing: who waited for that thread with a lock in hand
    that a fork takes could wait for ever, and a loop can do without them.
    """
    global running
    if not _lock.acquire(blocking=False):
        return
    try:
        if running:
            return
        _end()  # what an interrupted start or stop has left
        wanted = 0 if jit_disabled() or not internals.works("threads") else get_num_threads() - 1
        if wanted:
            work.dispatcher.compile((nb.int64, nb.int64))
            dismiss.dispatcher.compile((nb.int64,))
        for worker in range(wanted):
            words[ASLEEP + LINE * worker] = 0
            if not words[LOCK + LINE * worker]:
                words[LOCK + LINE * worker] = _new_lock()
            arguments = worker, int(words[TERM])
            thread = threading.Thread(target=work, args=arguments, name=f"tinydl-{worker + 1}", daemon=True)
            _workers.append(thread)  # before it starts: whatever interrupts this, `_end` finds it
            try:
                thread.start()
            except RuntimeError as error:
                _workers.pop()
                warnings.warn(
                    f"tinydl: kernels run on {worker + 1} of {wanted + 1} threads: {error}", stacklevel=2
                )
                break
        words[WORKERS] = len(_workers)
        running = True
    finally:
        _lock.release()


def stop() -> None:
    """End the workers when they have finished what they are at. The next loop that
    is worth it starts them again.
    """
    global running
    with _lock:
        running = False  # first: if this is interrupted, the next loop brings it to its end
        _end()


def _end() -> None:
    """End the workers. It may be interrupted anywhere and called again."""
    if _workers:
        dismiss(len(_workers))
    while _workers:
        if _workers[-1].is_alive():
            _workers[-1].join()
        _workers.pop()
    if words[CLAIMED] == STOPPED:
        words[CLAIMED] = 0


def _new_lock() -> int:
    """A lock of Python's C interface, taken, as it is while its worker is awake. It
    is kept for the next worker.
    """
    allocate = ctypes.pythonapi.PyThread_allocate_lock
    allocate.restype = ctypes.c_void_p
    lock = allocate()
    ctypes.pythonapi.PyThread_acquire_lock(ctypes.c_void_p(lock), 1)
    return lock


def _at_exit() -> None:
    """No thread may be inside compiled code when the interpreter takes it away."""
    global running
    with _lock:
        stop()
        running = True  # never again


atexit.register(_at_exit)


# A fork copies only the thread that calls it: the workers end before it. The parent's start again when they
# are needed. The child has one thread, as it is most often one worker of many; it may ask for more.


def _before_fork() -> None:
    _lock.acquire()
    stop()


def _after_fork_in_parent() -> None:
    with contextlib.suppress(RuntimeError):  # not acquired: Ctrl-C, which does not keep Python from the fork
        _lock.release()


def _after_fork_in_child() -> None:
    """Nothing of the parent's pool is here, whatever other threads were at and even if
    Ctrl-C came before the fork.
    """
    global _count, _lock, running
    _count, _lock, running = 1, threading.RLock(), False
    _workers.clear()
    words[WORKERS], words[CLAIMED], words[INSIDE] = 0, 0, CLOSED
    words[LOCK::LINE] = 0
    blas.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
