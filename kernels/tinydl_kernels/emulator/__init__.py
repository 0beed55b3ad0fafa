"""Runs .cu files on the CPU: the "cuda-emulated" backend. Needs Linux and g++.

    with emulator.mode(order="reversed"): ...    # or "random" with a seed: right kernels do not mind
    with emulator.mode(check=True): ...         # EmulatorError for races, bounds, uninitialized shared memory

g++ compiles an unchanged .cu into a shared library (build.py), for which cuda_emu.h is CUDA; another
library is the runtime: fibers and scheduler (fiber.h, runtime.cpp) and the checker (checker.cpp). An error
names file and line, block and thread.

Caught in every mode: divergent barriers, deadlocks, lanes missing from a warp operation. In check mode also
races within a warp, within a block and between blocks, accesses outside the argument arrays, writes through
pointers to const, and what g++'s sanitizers find of array bounds, alignment, shifts and signed overflow.
Not modelled: a loop that waits for another thread, weak memory order, flush to zero, the last bits of
CUDA's math functions, time.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cuda.launching import PARAMETER_BYTES, parameter_bytes, pointers
from ..machine.errors import BackendError, ShapeError
from ..machine.scoped import Scoped
from . import build
from .build import unavailable

if TYPE_CHECKING:
    from ..cuda.launching import Module
    from ..cuda.signatures import Parameter

__all__ = ["ORDERS", "EmulatorError", "Mode", "launch", "launched", "mode", "unavailable"]

ORDERS = ("forward", "reversed", "random")
MAX_DYNAMIC_SHARED = 227 * 1024


class EmulatorError(BackendError):
    """A kernel did what it must not do: `file:line: what [kernel, block, thread]`."""


@dataclass(frozen=True)
class Mode:
    """The order of threads and blocks, and whether each memory access is checked, which takes about ten times
    as long.
    """

    order: str = "forward"
    check: bool = False
    seed: int = 0


class _Here(Scoped):
    mode = Mode()


_here = _Here()
launched: Counter[tuple[str, str]] = Counter()
"""How often each kernel has run to its end in this process, by module and name."""
_lock = threading.Lock()  # the runtime has one launch at a time


def mode(order: str = "forward", check: bool = False, seed: int = 0) -> AbstractContextManager[None]:
    """Within the scope, launches of this thread run in that mode. BackendError for
    an order outside `ORDERS`.
    """
    if order not in ORDERS:
        raise BackendError(f"emulator.mode: expected order {', '.join(map(repr, ORDERS))}, got {order!r}")
    return _here.replaced(mode=Mode(order, check, seed))


class _Argument(ctypes.Structure):  # runtime.h
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("read_only", ctypes.c_int32),
    )


class _Launch(ctypes.Structure):  # runtime.h
    _fields_ = (
        ("call", ctypes.c_void_p),
        ("shared_bounds", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(_Argument)),
        ("count", ctypes.c_uint64),
        ("dynamic_shared", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("order", ctypes.c_int32),
        ("checked", ctypes.c_int32),
    )


def launch(
    module: Module,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    args: Sequence[Any],
    shared_mem: int,
) -> None:
    """Run a kernel on NumPy arrays that fit its signature (cuda.Function checks that).

    ShapeError for a grid, block, parameters or shared memory beyond CUDA's limits, EmulatorError
    for what the kernel does wrong.
    """
    grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
    if not 1 <= block[0] * block[1] * block[2] <= 1024 or block[2] > 64:
        raise ShapeError(
            f"{kernel}: expected a block of 1 to 1024 threads, at most 64 of them deep, got {block}"
        )
    if min(grid) < 1 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
        raise ShapeError(f"{kernel}: expected a grid of 1 to (2^31 - 1, 65535, 65535) blocks, got {grid}")
    if not 0 <= shared_mem <= MAX_DYNAMIC_SHARED:
        raise ShapeError(
            f"{kernel}: expected at most {MAX_DYNAMIC_SHARED} bytes of dynamic shared memory, got "
            f"{shared_mem}"
        )
    if (taken := parameter_bytes(module.signatures[kernel])) > PARAMETER_BYTES:
        raise ShapeError(f"{kernel}: expected at most {PARAMETER_BYTES} bytes of parameters, got {taken}")
    mode = _here.mode
    library, runtime = build.library(module, mode.check), build.runtime()
    arguments, _alive = _describe(module.signatures[kernel], args)
    wanted = _Launch(
        call=_address(library, f"emu_call_{kernel}"),
        shared_bounds=_address(library, "emu_shared_bounds"),
        arguments=arguments,
        count=len(arguments),
        dynamic_shared=shared_mem,
        seed=mode.seed,
        grid=grid,
        block=block,
        order=ORDERS.index(mode.order),
        checked=mode.check,
    )
    with _lock:
        if runtime.emu_launch(ctypes.byref(wanted)):
            raise EmulatorError(_complaint(runtime, library, kernel))
        launched[module.name, kernel] += 1


def _address(library: ctypes.CDLL, name: str) -> int | None:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def _describe(parameters: Sequence[Parameter], args: Sequence[Any]) -> tuple[Any, list[np.ndarray]]:
    """The arguments as the runtime wants them, and their values, which must live as long as the launch.

    Behind the arguments stand the arrays of lists, so that the checker knows them.
    """
    slots: list[tuple[Parameter, Any, int]] = []
    for parameter, argument in zip(parameters, args):
        if parameter.many:
            slots.append((parameter, pointers([_pointer(array)[0] for array in argument]), 0))
        elif parameter.pointer:
            slots.append((parameter, *_pointer(argument)))
        else:
            slots.append((parameter, argument, 0))
    for parameter, argument in zip(parameters, args):
        slots += [(parameter, *_pointer(array)) for array in argument] if parameter.many else []
    described = (_Argument * max(len(slots), 1))()
    values = [np.array(value) for _, value, _ in slots]
    for slot, value, (parameter, _, size) in zip(described, values, slots):
        slot.value, slot.bytes, slot.name, slot.read_only = (
            value.ctypes.data,
            size,
            parameter.name.encode(),
            parameter.const,
        )
    return described, values


def _pointer(array: np.ndarray | None) -> tuple[Any, int]:
    """The address and the bytes of an array."""
    return (np.uintp(0), 0) if array is None else (np.uintp(array.ctypes.data), array.nbytes)


def _complaint(runtime: ctypes.CDLL, library: ctypes.CDLL, kernel: str) -> str:
    """What the runtime says went wrong, with its place in the source in front."""
    file, line, offset = ctypes.c_char_p(), ctypes.c_int(), ctypes.c_uint64()
    message = runtime.emu_error(ctypes.byref(file), ctypes.byref(line), ctypes.byref(offset)).decode()
    place = f"{(file.value or b'?').decode()}:{line.value}"
    if offset.value:
        # the call before the address it returns to
        command = ["addr2line", "-e", library._name, hex(offset.value - 1)]
        place = (
            subprocess.run(command, capture_output=True, text=True, check=False).stdout.split(" (")[0].strip()
        )
    return f"{Path(place).name}: {message.replace('[', f'[kernel {kernel} ')}"
