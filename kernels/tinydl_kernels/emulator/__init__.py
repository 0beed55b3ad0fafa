"""Runs .cu files on the CPU: the "cuda-emulated" backend. Needs Linux and g++.

    with emulator.mode(order="reversed"): ...    # or "random" with a seed: a right kernel does not depend on the order
    with emulator.mode(check=True): ...          # races, out-of-bounds, uninitialized shared memory: EmulatorError with file:line

g++ compiles an unchanged .cu into a shared library (cuda_emu.h gives it CUDA's words), another one is the runtime: fibers and
scheduler (fiber.h, runtime.cpp) and the checker (checker.cpp). Both lie in the cache directory under a hash of all that went
into them. Caught in every mode: divergent barriers, deadlocks, lanes missing from a warp operation; in check mode also races
within a block, within a warp, and between blocks, accesses outside the argument arrays, and what g++'s sanitizers for bounds,
alignment, shifts and signed overflow find. Not modelled: waiting for another thread in a loop, weak memory order, flush to zero,
the last bits of CUDA's math functions, time.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import cache
from ..errors import BackendError, ShapeError

if TYPE_CHECKING:
    from ..cuda import Module, Parameter

ORDERS = ("forward", "reversed", "random")
_HERE = Path(__file__).parent
_FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti")
_RUNTIME_FLAGS = (*_FLAGS, "-O2", "-Wall")
_KERNEL_FLAGS = (*_FLAGS, "-fno-strict-aliasing", "-ffp-contract=off", "-Wno-unknown-pragmas", "-Wno-attributes")
_FAST = ("-O2",)
# -fsanitize while compiling, not linking: the call-outs are answered by the runtime. -Og, since -O1 drops loads that race.
# DWARF 4, since g++ 12 mislabels the files of `#line` in DWARF 5.
_CHECKED = ("-Og", "-g1", "-gdwarf-4", "-fsanitize=thread")
_CHECKED += ("-fsanitize=bounds,alignment,shift,signed-integer-overflow,integer-divide-by-zero",)
_DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s+)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_MAX_DYNAMIC_SHARED = 227 * 1024


class EmulatorError(BackendError):
    """A kernel did what it must not do: `file:line: what [kernel, block, thread]`."""


@dataclass(frozen=True)
class Mode:
    """How kernels run: the order of their threads and blocks, and whether each memory access is checked (4 to 20 times slower)."""

    order: str = "forward"
    check: bool = False
    seed: int = 0


class _Local(threading.local):
    mode = Mode()


_local = _Local()
_lock = threading.Lock()  # the runtime has one launch at a time


@contextlib.contextmanager
def mode(order: str = "forward", check: bool = False, seed: int = 0) -> Iterator[None]:
    """Within the scope, launches of this thread run in that mode. BackendError for an order outside `ORDERS`."""
    if order not in ORDERS:
        raise BackendError(f"emulator.mode: expected order {', '.join(map(repr, ORDERS))}, got {order!r}")
    outer, _local.mode = _local.mode, Mode(order, check, seed)
    try:
        yield
    finally:
        _local.mode = outer


def unavailable() -> str | None:
    """Why the emulator cannot run here, or None."""
    if sys.platform != "linux":
        return f"the CUDA emulator needs Linux, got {sys.platform}"
    return None if shutil.which("g++") else "the CUDA emulator needs g++, which is not on the PATH"


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
    module: Module, kernel: str, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int = 0
) -> None:
    """Run a kernel on NumPy arrays that fit its signature (cuda.Function checks that).

    ShapeError for a grid, block or shared memory beyond CUDA's limits, EmulatorError for what the kernel does wrong.
    """
    grid, block = _three(grid), _three(block)
    if not 1 <= block[0] * block[1] * block[2] <= 1024 or block[2] > 64:
        raise ShapeError(f"{kernel}: expected a block of 1 to 1024 threads, at most 64 of them deep, got {block}")
    if min(grid) < 1 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
        raise ShapeError(f"{kernel}: expected a grid of 1 to (2^31 - 1, 65535, 65535) blocks, got {grid}")
    if not 0 <= shared_mem <= _MAX_DYNAMIC_SHARED:
        raise ShapeError(f"{kernel}: expected at most {_MAX_DYNAMIC_SHARED} bytes of dynamic shared memory, got {shared_mem}")
    mode = _local.mode
    path, library = _library(module, mode.check)
    arguments, _alive = _arguments(module.signatures[kernel], args)
    wanted = _Launch(
        call=_address(library, f"emu_call_{kernel}"),
        shared_bounds=_address(library, "emu_shared_bounds"),
        arguments=arguments,
        count=len(args),
        dynamic_shared=shared_mem,
        seed=mode.seed,
        grid=grid,
        block=block,
        order=ORDERS.index(mode.order),
        checked=mode.check,
    )
    with _lock:
        runtime = _runtime()[1]
        if runtime.emu_launch(ctypes.byref(wanted)):
            raise EmulatorError(_explain(runtime, path, library, kernel))


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1)[:3]
    return int(x), int(y), int(z)


def _address(library: ctypes.CDLL, name: str) -> int | None:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def _arguments(parameters: Sequence[Parameter], args: Sequence[Any]) -> tuple[Any, list[np.ndarray]]:
    """The arguments as the runtime wants them, and the storage of their values, to be kept while the kernel runs."""
    described = (_Argument * max(len(args), 1))()
    values = []
    for slot, parameter, argument in zip(described, parameters, args):
        if parameter.pointer:
            value = np.array(0 if argument is None else argument.ctypes.data, np.uintp)
            slot.bytes = 0 if argument is None else argument.nbytes
        else:
            value = np.array(argument)
        slot.value, slot.name, slot.read_only = value.ctypes.data, parameter.name.encode(), parameter.const
        values.append(value)
    return described, values


def _explain(runtime: ctypes.CDLL, path: Path, library: ctypes.CDLL, kernel: str) -> str:
    """The runtime's complaint with its place in the source in front."""
    file, line, pc = ctypes.c_char_p(), ctypes.c_int(), ctypes.c_void_p()
    message = runtime.emu_error(ctypes.byref(file), ctypes.byref(line), ctypes.byref(pc)).decode()
    if pc.value:
        offset = pc.value - 1 - (_base(path) or 0)
        found = subprocess.run(["addr2line", "-e", str(path), hex(offset)], capture_output=True, text=True, check=False).stdout
        where = Path(found.split(" (")[0].strip()).name
    else:
        where = f"{Path((file.value or b'').decode()).name}:{line.value}"
    return f"{where}: {message.replace('[', f'[kernel {kernel} ', 1)}"


def _base(path: Path) -> int | None:
    """Where the library is loaded: its first mapping."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next((int(entry.split("-")[0], 16) for entry in maps if entry.rstrip().endswith(str(path))), None)


# ---- Building


@functools.cache
def _runtime() -> tuple[Path, ctypes.CDLL]:
    sources = [_HERE / "runtime.cpp", _HERE / "checker.cpp"]
    headers = [_HERE / "fiber.h", _HERE / "runtime.h"]
    path = _build("emulator", _RUNTIME_FLAGS, sources, [], [file.read_bytes() for file in (*sources, *headers)])
    library = ctypes.CDLL(str(path))
    library.emu_error.restype = ctypes.c_char_p
    return path, library


@functools.cache
def _library(module: Module, checked: bool) -> tuple[Path, ctypes.CDLL]:
    """The module's shared library in one of its two flavours."""
    runtime = _runtime()[0]
    source = _translate(module)
    flags = (*_KERNEL_FLAGS, *(_CHECKED if checked else _FAST))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, f"{module.name}.cpp")
        file.write_text(source, encoding="utf-8")
        name = f"{module.name}-{'checked' if checked else 'fast'}"
        path = _build(name, flags, [file], [runtime], [source.encode(), runtime.name.encode()])
    return path, ctypes.CDLL(str(path))


def _translate(module: Module) -> str:
    """The .cu behind cuda_emu.h, with dynamic shared memory as a pointer, and the exports of its kernels.

    Lines are named by the file's name alone, so that a build does not depend on where the file lies.
    """
    body = _DYNAMIC_SHARED.sub(r"\1* \2 = static_cast<\1*>(emu_dynamic_shared());", module.source)
    exports = (f"EMU_KERNEL({', '.join([name, *map(_c_type, signature)])})" for name, signature in module.signatures.items())
    header = (_HERE / "cuda_emu.h").read_text(encoding="utf-8")
    return "\n".join(['#line 1 "cuda_emu.h"', header, f'#line 1 "{module.path.name}"', body, *exports, ""])


def _c_type(parameter: Parameter) -> str:
    return f"const {parameter.type}*" if parameter.pointer and parameter.const else parameter.type + "*" * parameter.pointer


def _build(name: str, flags: Sequence[str], sources: Sequence[Path], libraries: Sequence[Path], contents: Sequence[bytes]) -> Path:
    """Compile and link into the cache, unless it is there: `contents` is all that the result depends on besides the flags.

    Several processes may do so at once: the file appears whole, by a rename.
    """
    reason = unavailable()
    if reason:
        raise BackendError(reason)
    digest = hashlib.sha256(repr((_compiler(), flags)).encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    path = _directory() / f"{name}-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            objects = [f"{scratch}/{source.stem}.o" for source in sources]
            for source, compiled in zip(sources, objects, strict=True):
                _gxx(name, *flags, "-c", str(source), "-o", compiled)
            output = f"{scratch}/{path.name}"
            _gxx(name, "-shared", *objects, *map(str, libraries), f"-Wl,-soname,{path.name}", "-Wl,-rpath,$ORIGIN", "-o", output)
            os.replace(output, path)
    return path


def _gxx(name: str, *arguments: str) -> None:
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"g++ could not build {name}:\n{done.stderr}")


@functools.cache
def _compiler() -> str:
    version = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=False).stdout.splitlines()[:1]
    return f"{platform.machine()} {version}"


@functools.cache
def _directory() -> Path:
    """Where the builds are kept: the first cache directory that can be written. Those that are older than a month are removed."""
    for candidate in cache._candidates():
        directory = candidate / "emulator"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError:
            continue
        oldest = time.time() - cache.KEEP_DAYS * 24 * 3600
        for build in directory.glob("*.so"):
            with contextlib.suppress(OSError):  # another process was faster
                if build.stat().st_mtime < oldest:
                    build.unlink()
        return directory
    raise BackendError("the CUDA emulator found no directory to keep its builds in; set TINYDL_CACHE_DIR to a writable one")
