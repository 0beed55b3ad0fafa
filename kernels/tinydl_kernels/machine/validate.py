"""Every backend against the reference, and how long each takes: for the families' `main` and for the
tests.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..cuda import launching
from .dispatch import Operation, use

TOLERANCE = {"f4": 2e-5, "f8": 1e-11}
EMULATED = 200_000_000
"""Floating-point operations that the emulator does in about a second."""


def backends(op: Operation) -> list[str]:
    """The backends that run `op` on NumPy arrays by code of their own, the emulator where there is a C++
    compiler.
    """
    from .. import emulator  # only when it is used

    reference = op.implementations["reference"]
    runnable = ["cpu", "cuda-emulated"] if emulator.unavailable() is None else ["cpu"]
    return [name for name in runnable if op.implementations.get(name, reference) is not reference]


def agree(op: Operation, *args: Any, tolerance: float | None = None, only: str | None = None) -> Any:
    """The reference's result, after every other backend, or one, has given the same and has left the same in
    the arguments.

    `tolerance` is relative to the value, and to 1 for values below 1. Raises AssertionError. Effects are
    undone.
    """
    expected, expected_args = _run(op, "reference", args)
    for backend in backends(op) if only is None else (only,):
        got, got_args = _run(op, backend, args)
        for a, b in zip(leaves((got, got_args)), leaves((expected, expected_args)), strict=True):
            _require_close(f"{op.name} on {backend}", a, b, tolerance)
    return expected


def _run(op: Operation, backend: str, args: Any) -> tuple[Any, Any]:
    """The result, and what the arguments were afterwards; effects on the arguments are undone."""
    before = copy.deepcopy(args)
    with use(backend):
        result = op(*args)
    after = copy.deepcopy(args)
    for a, b in zip(leaves(args), leaves(before), strict=True):
        if isinstance(a, np.ndarray) and a.flags.writeable:
            a[...] = b
    return result, after


def _require_close(who: str, got: Any, expected: Any, tolerance: float | None) -> None:
    if not isinstance(expected, np.ndarray):
        if type(got) is not type(expected):
            raise AssertionError(f"{who}: expected {expected!r}, got {got!r}")
        return
    if not isinstance(got, np.ndarray) or got.shape != expected.shape or got.dtype != expected.dtype:
        raise AssertionError(f"{who}: expected {expected.dtype} {expected.shape}, got {got!r}")
    limit = TOLERANCE.get(expected.dtype.str[1:], 0) if tolerance is None else tolerance
    np.testing.assert_allclose(got, expected, rtol=limit, atol=limit, err_msg=who)


def report(op: Operation, *args: Any, flops: int = 0, tolerance: float | None = None) -> None:
    """Validate `op` on these arguments, then print the best time of several on each backend, with GFLOP/s or
    else GB/s.

    The GPU takes part if there is one. The emulator, whose time says nothing, is validated where that takes
    about a second.
    """
    chosen = [name for name in backends(op) if name != "cuda-emulated" or flops <= EMULATED]
    for backend in chosen or ["reference"]:
        result = agree(op, *args, tolerance=tolerance, only=backend)
    arrays = [x for x in leaves((args, result)) if isinstance(x, np.ndarray)]
    work, unit = (flops, "GFLOP/s") if flops else (sum(x.nbytes for x in arrays), "GB/s")
    largest = max(arrays, key=lambda x: x.size)
    for backend in ("reference", *chosen, *["cuda"] * launching.is_available()):
        line = f"{op.name.rpartition('.')[2]:18} {largest.dtype!s:8} {largest.shape!s:20} {backend:14}"
        if backend == "cuda-emulated":
            print(f"{line} agrees")
            continue
        best = _best_on_gpu(op, args, result, tolerance) if backend == "cuda" else _best(op, backend, args)
        print(f"{line} {best * 1e6:10.1f} us {work / best * 1e-9:8.2f} {unit}")


def _best(op: Operation, backend: str, args: Any) -> float:
    """Seconds of the fastest of several calls."""
    times = []
    with use(backend):
        for _ in range(7):
            begin = time.perf_counter()
            op(*args)
            times.append(time.perf_counter() - begin)
    return min(times)


def _best_on_gpu(op: Operation, args: Any, expected: Any, tolerance: float | None) -> float:
    """The same on the GPU, ten calls between two events of the stream; the first result must be the expected
    one.
    """
    import cupy  # optional package

    copies = _to_gpu(args)
    for got, wanted in zip(leaves(op(*copies)), leaves(expected), strict=True):
        _require_close(
            f"{op.name} on cuda",
            cupy.asnumpy(got) if isinstance(got, cupy.ndarray) else got,
            wanted,
            tolerance,
        )
    times, begin, end = [], cupy.cuda.Event(), cupy.cuda.Event()
    for _ in range(7):
        begin.record()
        for _ in range(10):
            op(*copies)
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) * 1e-4)
    return min(times)


def _to_gpu(tree: Any) -> Any:
    """The arguments with copies on the GPU for arrays."""
    import cupy  # optional package

    if type(tree) in (tuple, list):
        return type(tree)(map(_to_gpu, tree))
    return cupy.asarray(tree) if isinstance(tree, np.ndarray) else tree


def leaves(tree: Any) -> Iterator[Any]:
    """What tuples and lists hold, however deep."""
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from leaves(part)
    else:
        yield tree
