"""The real CuPy without a GPU: a CUDA runtime and driver made of host memory. `pytest -m
gpu -p host_driver` runs on it.

CuPy's modules call CUDA through functions that two of them export to the others ("__pyx_capi__"). Those are
exchanged here before `import cupy` binds to them; what stands above them is CuPy's own code: arrays, pools,
streams, graphs, the passing of arguments. Kernels of the package go to the emulator, the few that CuPy makes
for itself (copies, fills, arithmetic) to NumPy. While a stream is captured, work is noted and done when the
graph is launched, and what CUDA refuses then is a `problem`, which fails the test. Nothing is compiled:
test_nvrtc.py does that. Made for CuPy 14; fresh memory is poisoned.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cupy_backends.cuda.api.driver as driver
import cupy_backends.cuda.api.runtime as runtime
import numpy as np
import pytest
from tinydl_kernels import emulator
from tinydl_kernels.cuda import launching as sources
from tinydl_kernels.cuda.signatures import Parameter

MEMORY = 8 << 30
"""Bytes of the GPU."""
ATTRIBUTES = {75: 9, 76: 0, 8: 48 << 10, 97: 227 << 10, 16: 132}
"""Of the GPU, by cudaDeviceAttr: compute capability, shared memory, multiprocessors."""
OUT_OF_MEMORY, TO_DEVICE, FROM_DEVICE, DEVICE, MAX_DYNAMIC_SHARED = 2, 1, 2, 2, 8

problems: list[str] = []
"""What a GPU would not have done."""
_kept: list[Any] = []  # C code that must stay

# ---- Exchanging C functions

_C = {
    "PyObject *": ctypes.py_object,
    "int": ctypes.c_int,
    "intptr_t": ctypes.c_ssize_t,
    "size_t": ctypes.c_size_t,
    "unsigned int": ctypes.c_uint,
    "float": ctypes.c_float,
}


def _capsule(module: Any, name: str, address: int | None) -> None:
    """Let `module` export the function at an address, under the signature that it has."""
    signature = _signature(module, name).encode()
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    _kept.append(signature)
    module.__pyx_capi__[name] = make(address, signature, None)


def _signature(module: Any, name: str) -> str:
    return re.search(r'capsule object "(.*)" at', repr(module.__pyx_capi__[name]))[1]  # type: ignore[index]


def exchange(module: Any, **functions: Callable[..., Any]) -> None:
    """Let functions of `module` be these, for C and for Python."""
    for name, function in functions.items():
        result, parameters = re.match(r"(.*?) ?\((.*)\)$", _signature(module, name)).groups()  # type: ignore[union-attr]
        types = [t.strip() for t in parameters.split(",") if t != "void"]
        given = [t for t in types if "__pyx" not in t]  # the others say how it was called

        def call(*args: Any, count: int = len(given), function: Any = function, result: str = result) -> Any:
            try:
                found = function(*args[:count])
            except Exception:  # cannot go up through C
                problems.append(traceback.format_exc())
                found = None
            return found if result.startswith("Py") or found is not None else 0

        made = ctypes.PYFUNCTYPE(
            _C["PyObject *" if result.startswith("PyObject") else result],
            *[_C[t] if t in given else ctypes.c_void_p if "*" in t else ctypes.c_int for t in types],
        )(call)
        _kept.append(made)
        _capsule(module, name, ctypes.cast(made, ctypes.c_void_p).value)
        if hasattr(module, name):
            setattr(module, name, lambda *args, call=call, **settings: call(*args, *settings.values()))


# ---- Memory

blocks: dict[int, tuple[int, np.ndarray]] = {}
"""Address -> bytes, and the memory."""


def malloc(size: int) -> int:
    if sum(held for held, _ in blocks.values()) + size > MEMORY:
        return 0
    room = np.full(size + 512, 0xFF, np.uint8)
    address = room.ctypes.data + -room.ctypes.data % 512
    blocks[address] = size, room
    return address


def _seen(address: int, dtype: np.dtype) -> np.ndarray | None:
    """What lies at an address, up to the end of its block."""
    if not address:
        return None
    for start, (size, _) in blocks.items():
        if start <= address < start + max(size, 1):
            count = (start + size - address) // dtype.itemsize
            return _array((count,), dtype, (dtype.itemsize,), address)
    raise ValueError(f"cudaErrorIllegalAddress: {address:#x}")


def _array(shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...], address: int) -> np.ndarray:
    """An array at an address, of which nothing is checked."""
    if 0 in shape:
        return np.empty(shape, dtype)
    ends = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    first, size = sum(min(end, 0) for end in ends), sum(map(abs, ends)) + dtype.itemsize
    return np.ndarray(shape, dtype, (ctypes.c_uint8 * size).from_address(address + first), -first, strides)


def copy(to: int, source: int, size: int, kind: int, stream: int | None = None) -> None:
    if kind in (TO_DEVICE, FROM_DEVICE):
        host("a copy from or to the host")
    do(lambda: ctypes.memmove(to, source, size))


_RAISING = """
#include <stddef.h>
extern void PyErr_SetObject(void*, void*);
static long (*ask)(size_t);
static void *kind, *error;
void raise_this(long (*function)(size_t), void* type, void* value) {
    ask = function; kind = type; error = value;
}
long allocate(size_t size, int) { long at = ask(size); if (!at) PyErr_SetObject(kind, error); return at; }
"""


def _raising() -> int | None:
    """`malloc` in C, which raises CuPy's error where there is no memory: Python's
    errors do not get through ctypes.
    """
    folder = tempfile.mkdtemp()
    source, made = Path(folder, "raising.c"), Path(folder, "raising.so")
    source.write_text(_RAISING, encoding="utf-8")
    subprocess.run(["g++", "-xc", "-shared", "-fPIC", "-o", made, source], check=True)
    library = ctypes.PyDLL(str(made))
    ask = ctypes.PYFUNCTYPE(ctypes.c_ssize_t, ctypes.c_size_t)(malloc)
    error = runtime.CUDARuntimeError(OUT_OF_MEMORY)
    library.raise_this(ask, ctypes.py_object(type(error)), ctypes.py_object(error))
    _kept.extend([library, ask, error])
    return ctypes.cast(library.allocate, ctypes.c_void_p).value


# ---- Streams and graphs

numbers = iter(range(1000, sys.maxsize))
captured: dict[int, list[Callable[[], Any]]] = {}
"""The stream that is captured -> its work."""
graphs: dict[int, list[Callable[[], Any]]] = {}


def do(work: Callable[[], Any]) -> None:
    """Work for the GPU: done now, or noted."""
    next(iter(captured.values())).append(work) if captured else work()


def host(what: Any = "a wait") -> None:
    if captured:
        problems.append(f"cudaErrorStreamCaptureUnsupported: {what}")


def begin(stream: int) -> None:
    if stream in (0, 1, 2) or captured:
        problems.append(
            f"cudaErrorStreamCaptureUnsupported: of stream {stream}, while {list(captured)} is captured"
        )
    captured[stream] = []


def end(stream: int) -> int:
    graph = next(numbers)
    graphs[graph] = captured.pop(stream)
    return graph


def launch_graph(graph: int, stream: int) -> None:
    for work in graphs[graph]:
        work()


# ---- Kernels

SCALARS: dict[str, Any] = {
    "bool": np.bool_,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "int": np.int32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "long": np.int64,
    "ptrdiff_t": np.int64,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
}
_SIGNATURE = r"__global__ void {}\((.*?)\) {{"
_CARRAY = re.compile(r"CArray<(.+?), (\d+), .*> (\w+)")
compiled: dict[bytes, str] = {}
"""Machine code, so to speak -> source."""
modules: dict[int, str] = {}
kernels: dict[int, Kernel] = {}


class Kernel:
    """A kernel of the package, or one that CuPy has written."""

    def __init__(self, source: str, name: str) -> None:
        self.source, self.name, self.dynamic_shared = source, name, sources.STATIC_SHARED
        self.module = next((module for module in sources.modules() if module.source == source), None)

    def launch(self, grid: tuple[int, ...], block: tuple[int, ...], shared: int, addresses: Any) -> None:
        if shared > self.dynamic_shared:
            problems.append(
                f"CUDA_ERROR_INVALID_VALUE: {self.name} with {shared} bytes of dynamic shared memory"
            )
        if self.module is None:
            name = re.sub("^cupy_|__.*", "", self.name)
            self._launch_in_numpy(name, addresses)
        else:
            module = self.module
            parameters = module.signatures[self.name]
            args = [_argument(parameter, addresses[i]) for i, parameter in enumerate(parameters)]
            do(lambda: emulator.launch(module, self.name, grid, block, args, shared))

    def _launch_in_numpy(self, name: str, addresses: Any) -> None:
        """Its last parameters are the result and the number of elements."""
        text = re.search(_SIGNATURE.format(self.name), self.source, re.DOTALL)[1]  # type: ignore[index]
        parameters = [p.removeprefix("const ") for p in re.split(r", (?![^<]*>)", text)]
        *given, out = [self._value(parameter, addresses[i]) for i, parameter in enumerate(parameters[:-1])]

        def work() -> None:
            with np.errstate(all="ignore"):
                if name in ("copy", "fill"):
                    out[...] = given[0]
                elif name == "arange":
                    out[...] = given[0] + given[1] * np.arange(out.size, dtype=out.dtype)
                else:
                    out[...] = getattr(np, name)(*given)

        do(work)

    def _value(self, parameter: str, address: int) -> Any:
        match = _CARRAY.fullmatch(parameter)
        if match is None:
            return np.frombuffer(ctypes.string_at(address, 8), self._dtype(parameter.rpartition(" ")[0]), 1)[
                0
            ]
        axes = int(match[2])  # CArray: the address, the size, the shape, the strides
        at, _, *rest = (ctypes.c_int64 * (2 + 2 * axes)).from_address(address)
        return _array(tuple(rest[:axes]), self._dtype(match[1]), tuple(rest[axes:]), at)

    def _dtype(self, name: str) -> np.dtype:
        alias = re.search(rf"typedef (.+) {name};", self.source)
        return np.dtype(SCALARS[alias[1] if alias else name])


def _argument(parameter: Parameter, address: int) -> Any:
    """An argument as the emulator takes it."""
    if parameter.many:
        return [_seen(at, parameter.dtype) for at in (ctypes.c_uint64 * sources.GROUP).from_address(address)]
    if parameter.pointer:
        return _seen(ctypes.c_uint64.from_address(address).value, parameter.dtype)
    return np.frombuffer(ctypes.string_at(address, parameter.dtype.itemsize), parameter.dtype)[0]


def load(code: bytes) -> int:
    number = next(numbers)
    modules[number] = compiled[bytes(code)]
    return number


def find(module: int, name: str | bytes) -> int:
    number = next(numbers)
    kernels[number] = Kernel(modules[module], name.decode() if isinstance(name, bytes) else name)
    return number


def allow(kernel: int, attribute: int, value: int) -> None:
    if attribute == MAX_DYNAMIC_SHARED:
        kernels[kernel].dynamic_shared = value


def launch(kernel: int, *given: int) -> None:
    grid, block, (shared, stream, addresses, _) = given[:3], given[3:6], given[6:]
    if captured and stream not in captured:
        problems.append(f"cudaErrorStreamCaptureImplicit: {kernels[kernel].name} on stream {stream}")
    kernels[kernel].launch(grid, block, shared, ctypes.cast(addresses, ctypes.POINTER(ctypes.c_void_p)))


def _note(source: str, *_: Any, **__: Any) -> tuple[bytes, None]:
    """Instead of compiling it."""
    code = hashlib.sha256(source.encode()).digest()
    compiled[code] = source
    return code, None


# ---- CuPy on it


def _install() -> None:
    def nothing(*_: Any) -> None: ...

    def number(*_: Any) -> int:
        return next(numbers)

    def always(value: Any) -> Callable[..., Any]:
        return lambda *_: value

    exchange(
        runtime, getDeviceCount=always(1), getDevice=always(0), setDevice=nothing, _ensure_context=nothing
    )
    exchange(
        runtime,
        driverGetVersion=always(13000),
        runtimeGetVersion=always(13000),
        _getCUDAMajorVersion=always(13),
    )
    exchange(
        runtime,
        deviceGetAttribute=lambda attribute, device: ATTRIBUTES.get(attribute, 1024),
        deviceSynchronize=host,
    )
    exchange(runtime, getDeviceProperties=always({"name": b"Host memory"}), _deviceEnsurePeerAccess=nothing)
    exchange(runtime, hostAlloc=lambda size, flags: malloc(size), freeHost=lambda at: blocks.pop(at) and None)
    exchange(runtime, pointerGetMemoryType=always(DEVICE), free=lambda at: blocks.pop(at) and None)
    exchange(runtime, memGetInfo=lambda: (MEMORY - sum(size for size, _ in blocks.values()), MEMORY))
    exchange(runtime, memsetAsync=lambda at, value, size, stream: do(lambda: ctypes.memset(at, value, size)))
    exchange(runtime, memcpy=copy, memcpyAsync=copy)
    exchange(runtime, streamCreate=number, streamCreateWithFlags=number, streamCreateWithPriority=number)
    exchange(
        runtime, streamDestroy=nothing, streamWaitEvent=nothing, streamQuery=always(0), streamSynchronize=host
    )
    exchange(
        runtime, eventCreate=number, eventCreateWithFlags=number, eventDestroy=nothing, eventRecord=nothing
    )
    exchange(runtime, eventQuery=always(0), eventSynchronize=host, eventElapsedTime=always(1.0))
    exchange(
        runtime,
        streamBeginCapture=begin,
        streamEndCapture=end,
        streamIsCapturing=lambda stream: int(stream in captured),
    )
    exchange(runtime, graphInstantiate=lambda graph: graph, graphLaunch=launch_graph)
    exchange(runtime, graphDestroy=nothing, graphExecDestroy=nothing)
    exchange(driver, moduleLoadData=load, moduleUnload=nothing, moduleGetFunction=find, launchKernel=launch)
    exchange(driver, funcSetAttribute=allow, funcGetAttribute=always(1024), ctxGetCurrent=always(1))
    _capsule(runtime, "malloc", _raising())
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    import cupy.cuda.compiler as compiler

    compiler._compile_using_nvrtc_no_warning, compiler._preprocess = _note, lambda *_: ""


_install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what CuPy does by scans of its own."""
    items[:] = [item for item in items if "masked_select" not in item.name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    result = yield
    found = problems[:]
    problems.clear()
    assert not found, "\n".join(found)
    return result


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """CuPy frees what it has while Python ends, when this module is gone: so the process ends at once."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(getattr(config, "host_driver_status", 0))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.host_driver_status = int(exitstatus)  # type: ignore[attr-defined]
