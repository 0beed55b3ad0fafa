"""Kernels: Python functions compiled by Numba at their first call, never at import.

    @kernel                          # a serial function; kernels may call each other
    def area(h, w): ...

    @parallel                        # the body of a loop over range(n); call it as  scale(n, grain, x, y)
    def scale(start, stop, x, y):
        for i in range(start, stop): ...

`scale(n, grain, *args)` runs the body on [0, grain), [grain, 2 grain), ...; a grain below 1 counts as
1. The cuts depend on `n` and `grain` alone, never on the number of threads, so results have the same
bits on any machine load. With n <= grain it is one serial call. An exception in the body reaches the
caller when all pieces have been tried; of several, one. Called from another kernel it means the same,
but does not start the pool.

A loop is compiled as any serial function is, with no `prange`: an entry takes the arguments from Python,
packs them into a frame on its stack, and hands the frame and the address of a C function that runs one
piece to the pool (threads.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import internals, jobs, threads
from .internals import cgutils
from .lazy import Kernel, Module, drafting, intrinsic, kernel, kernels, nb

__all__ = ["Kernel", "Parallel", "kernel", "kernels", "parallel", "share"]

ir = Module("llvmlite.ir")


SHARED = """
    piece, frame, size = pack(body, ({names}))
    if noted:
        note(piece, frame, size, n, grain)
    drive(piece, frame, n, grain)
    reraise(frame)
"""
"""A loop, which the pool runs, from one call of a body to all; kernels leave `noted` out."""
SERIAL = """
    step = max(grain, 1)
    for start in range(0, n, step):
        body(start, min(n, start + step), {names})
"""
"""The same without a pool."""


class Parallel(Kernel):
    """A loop body over [start, stop); calling it runs the body over all of range(n) in pieces of `grain`."""

    def __call__(self, n: int, grain: int, *args: Any) -> None:
        if n > grain and not threads.running:
            threads.start()
        if jobs.capturing and (capture := jobs.captured()) and internals.works("threads"):
            capture.arguments.append((self, args))
            self._run(n, grain, *args, 1)
        else:
            self._run(n, grain, *args, 0)

    def interpreted(self, n: int, grain: int, *args: Any) -> None:
        """The same in plain Python, serially; nothing is written down."""
        grain = max(grain, 1)
        for start in range(0, n, grain):
            self.function(start, min(n, start + grain), *args[:-1])

    def _make_dispatcher(self, options: dict[str, Any]) -> Any:
        # Numba's call is much faster with named arguments than with *args.
        names = "".join(f"a{i}, " for i in range(self.function.__code__.co_argcount - 2))
        shared, drafts = internals.works("threads"), internals.works("drafts")
        lines = SHARED if shared else SERIAL
        source = f"def loop(n, grain, {names}noted=0):\n" + lines.format(names=names)
        body = self._jit(self.function, no_cpython_wrapper=True, **(drafting() if drafts else {}))
        namespace = {
            "__name__": self.function.__module__,
            "body": body,
            "pack": pack,
            "drive": threads.drive,
            "reraise": jobs.reraise,
            "note": jobs.note,
        }
        exec(compile(source, f"<parallel {self.function.__qualname__}>", "exec"), namespace)
        loop = namespace["loop"]
        loop.__name__, loop.__qualname__ = self.function.__name__, self.function.__qualname__
        return self._finish(self._jit(loop, **options), options)


def parallel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile the loop body `function(start, stop, *args)`; the result is called as `f(n, grain, *args)`."""
    return functools.partial(parallel, **options) if function is None else Parallel(function, **options)


@intrinsic
def pack(typing, body, args):
    """(piece, frame, size): addresses of a C function piece(frame, start, stop) that calls `body`, and of its
    frame on the stack, and how many words of 64 bits that has.

    The frame is {error, args}; error is the address of Numba's description of an exception, or 0.
    """
    dispatcher = body.dispatcher
    bounds = (nb.int64, nb.int64)
    call = typing.resolve_function_type(body, (*bounds, *args.types), {})

    def code(context, builder, signature, values):
        linked = internals.linked(context, dispatcher, call)
        int64 = ir.IntType(64)
        frame_type = ir.LiteralStructType([int64, values[1].type])

        function = ir.Function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [frame_type.as_pointer(), int64, int64]),
            builder.module.get_unique_name(f"{linked.llvm_func_name}.piece"),
        )
        function.linkage = "internal"
        frame, start, stop = function.args
        inner = ir.IRBuilder(function.append_basic_block())
        zero, one = (ir.Constant(ir.IntType(32), i) for i in (0, 1))
        packed = inner.load(inner.gep(frame, [zero, one]))
        unpacked = [inner.extract_value(packed, i) for i in range(len(args))]
        failed, error = internals.call_linked(context, inner, linked, call, [start, stop, *unpacked])
        with inner.if_then(failed, likely=False):
            error = inner.ptrtoint(error, int64)
            inner.cmpxchg(inner.gep(frame, [zero, zero]), ir.Constant(int64, 0), error, "seq_cst")
        inner.ret_void()

        frame = cgutils.alloca_once(builder, frame_type)
        builder.store(ir.Constant(int64, 0), builder.gep(frame, [zero, zero]))
        builder.store(_borrowed(builder, args, values[1]), builder.gep(frame, [zero, one]))
        size = ir.Constant(int64, -(-context.get_abi_sizeof(frame_type) // 8))
        found = [builder.ptrtoint(function, int64), builder.ptrtoint(frame, int64), size]
        return context.make_tuple(builder, signature.return_type, found)

    return nb.types.UniTuple(nb.int64, 3)(body, args), code


@kernel
def share(index, count, n):
    """The share [first, last) of range(n) that falls to one of `count`."""
    return index * n // count, (index + 1) * n // count


def _borrowed(builder: Any, kind: Any, value: Any) -> Any:
    """The value with arrays that nobody counts references to: the entry holds them until the loop is over.

    Threads that count references to one array wait for each other at each slice of it.
    """
    if isinstance(kind, nb.types.Array):
        return builder.insert_value(value, ir.Constant(value.type.elements[0], None), 0)  # its owner
    if isinstance(kind, nb.types.BaseTuple):
        for i, part in enumerate(kind):
            value = builder.insert_value(value, _borrowed(builder, part, builder.extract_value(value, i)), i)
    return value
