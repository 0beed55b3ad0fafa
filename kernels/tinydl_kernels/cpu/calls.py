"""Eager calls kept: what a call of an operation comes down to, by the kinds of its arguments.

    product = Calls(implementation)     # one that does nothing to arrays but run loops
    y = product(a, b)                   # as implementation(a, b)

What such an implementation hands to its loops depends on shapes, dtypes and settings alone (dispatch.py), so
Python need not find it out each time. The second call of a kind is written down as jobs (jobs.py), with the
words of their frames that are addresses: of an input, of an output, of scratch. Each later call of that kind
makes its outputs, and one compiled function copies the jobs, writes the addresses of this call into them, and
runs them. The copy and the scratch lie in a block that the thread keeps, which the caches know.

Whatever does not fit this description (arrays that are not contiguous, settings that cannot be hashed, an
implementation that spoils its jobs, a recorder in charge) is called as ever.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..machine import memory
from ..machine.memory import CACHE_LINE
from . import internals, jobs, threads
from .lazy import jit_disabled, kernel

Array = Any

KINDS = 1 << 10
"""Kinds of calls that an operation keeps at most; then it begins anew."""
LARGEST = 1 << 25
"""Bytes of scratch up to which a call is kept: a thread's block is as large as the largest it has met."""
SCRATCH = -1
"""In the place of an array's number: the thread's block."""
ITEMS, DATA = tuple.__basicsize__, object.__basicsize__
"""Where CPython keeps the items of a tuple, and NumPy the address of an array's data: right after their
heads. `_readable` looks whether that is so."""
SEEN, NEVER = "seen", "never"
"""What is known of a kind that has been met once, and of one that cannot be kept."""


class _Block(threading.local):
    """Memory that calls of this thread use one after the other."""

    array = np.empty(0, np.uint8)
    size = start = 0

    def of(self, size: int) -> int:
        """The address of so many bytes at least."""
        if size > self.size:
            self.size = max(size, memory.ALIGNED)
            self.array = memory.scratch((self.size,), np.uint8, self.array)
            self.start = _address(self.array)
        return self.start


_block = _Block()


class Calls:
    """Calls of an implementation that does nothing to arrays but run loops."""

    def __init__(self, implementation: Callable[..., Any]) -> None:
        self.implementation = implementation
        self.known: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        kind: list[Any] = [threads.get_num_threads()]  # cuts may depend on it
        arrays: list[Array] = []
        if memory.here.source is not None or not _describe(args, kind, arrays):
            return self.implementation(*args)
        key = tuple(kind)
        try:
            found = self.known.get(key)
        except TypeError:  # a setting that cannot be hashed
            return self.implementation(*args)
        if type(found) is not Call:
            return self._met(key, found, args, arrays)
        for shape, dtype in found.outputs:
            arrays.append(np.empty(shape, dtype))
        if found.starts and not threads.running:
            threads.start()
        held = tuple(arrays)
        block = _block.start if found.size <= _block.size else _block.of(found.size)
        found.run(found.address, id(held) + ITEMS, block)
        form = found.form
        if type(form) is int:
            return held[form]
        return form if form is None else tuple([None if i is None else held[i] for i in form])

    def _met(self, key: Any, found: Any, args: tuple[Any, ...], arrays: list[Array]) -> Any:
        """A call of a kind that is not kept: not yet, or never."""
        if found is SEEN and _readable() and _apart(arrays):
            return self._kept(key, args, arrays)
        if found is None:
            if len(self.known) >= KINDS:
                self.known.clear()
            self.known[key] = SEEN
        return self.implementation(*args)

    def _kept(self, key: Any, args: tuple[Any, ...], arrays: list[Array]) -> Any:
        """Call the implementation and keep what it does, if that can be."""
        taken: list[Array] = []

        def source(shape: tuple[int, ...], dtype: np.dtype, like: Array) -> Array:
            taken.append(np.empty(shape, dtype))
            return taken[-1]

        with memory.supplied_by(source):
            result, words, arguments = jobs.logged(lambda: jobs.looping(self.implementation, *args))
        call = None if words is None else Call.of(words, arguments, arrays, taken, result)
        self.known[key] = call or NEVER
        return result


def _describe(args: Any, kind: list[Any], arrays: list[Array]) -> bool:
    """Add what decides the work of a call with these arguments, and their arrays; False if it is not kept."""
    for x in args:
        of = type(x)
        if of is np.ndarray:
            if not x.flags.carray:  # contiguous, aligned and writeable
                return False
            kind += x.shape, x.dtype
            arrays.append(x)
        elif x is None:
            kind.append(None)
        elif of is tuple or of is list:
            kind += of, len(x)
            if not _describe(x, kind, arrays):
                return False
        elif isinstance(x, (float, np.floating)):
            kind += of, x or str(x)  # 0.0 is -0.0 to a dictionary
        else:
            kind += of, x
    return True


class Call:
    """Jobs, and where the addresses go: of the arrays that are given, the outputs after them, of scratch."""

    def __init__(
        self, program: np.ndarray, size: int, starts: bool, outputs: list[Any], form: Any, kept: list[Array]
    ) -> None:
        self.program, self.address, self.kept = program, _address(program), kept
        self.size = size  # bytes of the block
        self.starts = starts  # is it worth starting the pool?
        self.outputs = outputs  # shapes and dtypes
        self.form = form  # the numbers of what is returned
        self.run = replay.dispatcher

    @classmethod
    def of(
        cls, words: np.ndarray, arguments: list[Any], arrays: list[Array], taken: list[Array], result: Any
    ) -> Call | None:
        """The call that has run these jobs on these arrays and has taken these from the allocator; None if
        that is not all that there is to it.
        """
        results = result if type(result) is tuple else (result,)
        returned = [x for x in results if x is not None and not any(x is y for y in arrays)]
        whole = {_span(x) for x in taken}
        spans = [_span(x) for x in returned if type(x) is np.ndarray and x.flags.c_contiguous]
        if len(set(spans) & whole) < len(returned):  # a part of an array, or one from elsewhere
            return None
        places = {id(x): i for i, x in enumerate([*arrays, *returned])}
        numbers = [None if x is None else places[id(x)] for x in results]
        form = tuple(numbers) if type(result) is tuple else numbers[0]
        bases = [(*_span(x), places[id(x)], 0) for x in (*arrays, *returned)]
        scratch = 0
        for x in taken:
            if _span(x) not in spans:
                bases.append((*_span(x), SCRATCH, scratch))
                scratch += x.nbytes + -x.nbytes % CACHE_LINE
        patches: list[int] = []
        starts, at, kept = False, 0, []
        for _, given in arguments:
            _, n, grain, size = words[at : at + jobs.HEAD].tolist()
            starts = starts or n > grain
            frame = words[at + jobs.HEAD : at + jobs.HEAD + size].tolist()
            inside = list(_arrays(given))
            wanted = [_address(x) for x in inside]
            if sum(word in wanted for word in frame) != len(inside):  # a number that looks like an address
                return None
            for k, word in enumerate(frame):
                if word not in wanted:
                    continue
                for base, nbytes, number, before in bases:
                    if base <= word < base + nbytes:
                        patches += at + jobs.HEAD + k, number, before + word - base
            kept += [x for x in inside if not any(base <= _address(x) < base + n for base, n, _, _ in bases)]
            at += jobs.HEAD + size
        if at != words.size or scratch > LARGEST:
            return None
        program = np.array([len(patches) // 3, words.size, DATA, *patches, *words.tolist()])
        block = -(-8 * words.size // CACHE_LINE) * CACHE_LINE + scratch
        outputs = [(x.shape, x.dtype) for x in returned]
        return cls(program, block, starts, outputs, form, kept)


def _arrays(given: Any) -> Iterator[Array]:
    """The arrays among the arguments of a loop."""
    for x in given:
        if isinstance(x, np.ndarray):
            yield x
        elif isinstance(x, (tuple, list)):
            yield from _arrays(x)


def _address(array: Array) -> int:
    return int(array.ctypes.data)


def _span(array: Array) -> tuple[int, int]:
    """Where its data begin, and how many bytes they are."""
    return _address(array), array.nbytes


def _apart(arrays: list[Array]) -> bool:
    """Do no two arrays share memory? Else an address would not tell whose it is."""
    spans = sorted(map(_span, arrays))
    return all(n for _, n in spans) and all(a + n <= b for (a, n), (b, _) in itertools.pairwise(spans))


@kernel
def replay(program, items, block):
    """Run the jobs of a program on the arrays that the items of a tuple point to, in this block.

    program     patches, words of the jobs, where an array keeps the address of its data; for each patch a
                word, an array's number, bytes; the jobs
    """
    patches, size, data = jobs.word(program), jobs.word(program + 8), jobs.word(program + 16)
    patch = program + 24
    source = patch + 24 * patches
    scratch = block + (8 * size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    for k in range(size):
        jobs.set_word(block + 8 * k, jobs.word(source + 8 * k))
    while patch < source:
        number = jobs.word(patch + 8)
        start = scratch
        if number >= 0:
            start = jobs.word(jobs.word(items + 8 * number) + data)
        jobs.set_word(block + 8 * jobs.word(patch), start + jobs.word(patch + 16))
        patch += 24
    jobs.run_jobs(block, size)


_verdict: bool | None = None


def _readable() -> bool:
    """Can calls be kept in this process?"""
    global _verdict
    if _verdict is None:
        _verdict = not jit_disabled() and internals.works("threads") and _lies_as_thought()
        if _verdict:
            nothing = np.zeros(3, np.int64)
            replay(_address(nothing), 0, 0)  # it is compiled, as any kernel is
    return _verdict


def _lies_as_thought() -> bool:
    """Does a tuple have its items, and an array its data, where ITEMS and DATA say?"""
    held = np.arange(3.0), np.arange(4)
    items = (ctypes.c_int64 * 2).from_address(id(held) + ITEMS)
    if list(items) != [id(x) for x in held]:
        return False
    return all(ctypes.c_int64.from_address(id(x) + DATA).value == _address(x) for x in held)
