"""The GPU behind fake_cupy.py: its memory, streams and graphs, and what CuPy says of
it. Fresh memory is poisoned.
"""

from __future__ import annotations

import threading
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class CUDARuntimeError(RuntimeError):
    """What CuPy raises for an error of the runtime."""


class OutOfMemoryError(MemoryError):
    """What CuPy raises when the GPU has not enough memory."""


class Machine:
    """The GPU, and what the test wants to know of it."""

    def __init__(self) -> None:
        self.driver, self.needed, self.count, self.capability, self.total = 13000, 13000, 1, "80", 1 << 30
        self.host: list[str] = []  # copies from and to the host, and waits
        self.launches: list[str] = []  # kernels, by name; a graph's at each of its launches
        self.graphs = 0  # launches of graphs
        self.device = 0  # the present one: a kernel reads and writes the memory of no other
        self.captured: list[Callable[[], None]] | None = None
        self.stream = Stream.null
        self.pool = MemoryPool()
        self.allocator = self.pool.malloc

    def touched(self, what: str) -> None:
        """The host takes part: an error while a stream is captured."""
        if self.captured is not None:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what}")
        self.host.append(what)

    def do(self, work: Callable[[], None]) -> None:
        """Work for the GPU: done now, or noted."""
        if self.captured is None:
            work()
        else:
            self.captured.append(work)


# ---- Memory


class Memory:
    """A block of the pool."""

    def __init__(self, size: int) -> None:
        self.size = size
        room = np.full(size + 512, 0xFF, np.uint8)  # NaN
        start = -room.ctypes.data % 512
        self.bytes = room[start : start + size]
        blocks.add(self)


blocks: weakref.WeakSet[Memory] = weakref.WeakSet()


class MemoryPointer:
    """A place in a block."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem, self.offset = mem, offset

    ptr = property(lambda self: self.mem.bytes.ctypes.data + self.offset)

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.offset + offset)


class MemoryHook:
    """Watches the pools: one of a name for each thread."""

    name = "MemoryHook"

    def __enter__(self) -> MemoryHook:
        if self.name in hooks.__dict__:
            raise KeyError(f"memory hook {self.name} already exists")
        hooks.__dict__[self.name] = self
        return self

    def __exit__(self, *_: object) -> None:
        del hooks.__dict__[self.name]

    def malloc_postprocess(self, **_: int) -> None: ...

    def free_postprocess(self, **_: int) -> None: ...


hooks = threading.local()


class MemoryPool:
    """Counts its blocks; every free one goes back at once."""

    __slots__ = ("blocks",)  # no weak reference to it can be made, as to CuPy's

    def __init__(self) -> None:
        self.blocks: weakref.WeakSet[Memory] = weakref.WeakSet()

    def malloc(self, size: int) -> MemoryPointer:
        used = machine.pool.used_bytes() if self is not machine.pool else self.used_bytes()
        if used + size > machine.total:
            raise OutOfMemoryError(
                f"Out of memory allocating {size:,} bytes (allocated so far: {used:,} bytes)."
            )
        block = Memory(size)
        self.blocks.add(block)
        facts = {"device_id": 0, "mem_size": size, "mem_ptr": block.bytes.ctypes.data, "pmem_id": 0}
        for hook in hooks.__dict__.values():
            hook.malloc_postprocess(size=size, **facts)
            weakref.finalize(block, hook.free_postprocess, **facts).atexit = False
        return MemoryPointer(block, 0)

    def used_bytes(self) -> int:
        return sum(block.size for block in self.blocks)

    total_bytes = used_bytes

    def free_all_blocks(self) -> None:
        """There are none."""


# ---- Streams, graphs and the runtime


class Stream:
    """Runs its work at once, unless it is captured."""

    null: Stream

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking
        self.outer: list[Stream] = []

    def __enter__(self) -> Stream:
        self.outer.append(machine.stream)
        machine.stream = self
        return self

    def __exit__(self, *_: object) -> None:
        machine.stream = self.outer.pop()

    def begin_capture(self) -> None:
        if self is Stream.null or machine.stream is not self or machine.captured is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
        machine.captured = []

    def end_capture(self) -> Graph:
        work, machine.captured = machine.captured, None
        return Graph(work or [])

    def synchronize(self) -> None:
        machine.touched("synchronize")

    @property
    def done(self) -> bool:
        machine.touched("query")
        return True

    def record(self) -> object:
        return object()

    def wait_event(self, event: object) -> None: ...


class Graph:
    """The noted work."""

    def __init__(self, work: list[Callable[[], None]]) -> None:
        self.work = work

    def launch(self) -> None:
        if machine.captured is not None:
            raise CUDARuntimeError("a graph inside a capture")
        machine.graphs += 1
        for work in self.work:
            work()


class Device:
    """A GPU: the present one, unless a number says which. Within `with` it is the present one."""

    def __init__(self, number: int | None = None) -> None:
        self.id = machine.device if number is None else number

    compute_capability = property(lambda self: machine.capability)

    def __enter__(self) -> Device:
        self._outer, machine.device = machine.device, self.id
        return self

    def __exit__(self, *_: Any) -> None:
        machine.device = self._outer


@contextmanager
def _using_allocator(malloc: Any) -> Iterator[None]:
    outer, machine.allocator = machine.allocator, malloc
    try:
        yield
    finally:
        machine.allocator = outer


def _count() -> int:
    if machine.driver < machine.needed:
        raise CUDARuntimeError(
            "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
        )
    if not machine.count:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return machine.count


Stream.null = Stream()
machine = Machine.__new__(Machine)
machine.__init__()  # type: ignore[misc]

runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    driverGetVersion=lambda: machine.driver,
    runtimeGetVersion=lambda: machine.needed,
    getDeviceCount=_count,
    getDevice=lambda: machine.device,
    getDeviceProperties=lambda number: {"name": b"Emulated GPU"},
    memGetInfo=lambda: (machine.total - machine.pool.used_bytes(), machine.total),
    deviceSynchronize=lambda: machine.touched("synchronize"),
)
cuda = types.SimpleNamespace(
    runtime=runtime,
    Device=Device,
    Stream=Stream,
    MemoryPool=MemoryPool,
    MemoryHook=MemoryHook,
    using_allocator=_using_allocator,
    get_current_stream=lambda: machine.stream,
    is_available=lambda: machine.driver >= machine.needed and machine.count > 0,
)
