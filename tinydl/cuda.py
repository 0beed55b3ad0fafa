"""The GPU, under PyTorch's names: td.cuda.is_available(), streams, memory figures. Bytes are
those of CuPy's memory pool.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinydl_kernels.machine import device as gpu
from tinydl_kernels.machine.device import is_available as is_available
from tinydl_kernels.machine.errors import DeviceError

from . import amp as amp
from .devices import graphs
from .ops.random import manual_seed as _manual_seed
from .typed_tensors import of_device as _of_device


def __getattr__(name: str) -> Any:
    """FloatTensor and its kin, of tensors on the GPU."""
    if name.endswith("Tensor"):
        return _of_device("cuda")[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def device_count() -> int:
    """How many GPUs can be used: 1, or 0 where there is none. CUDA_VISIBLE_DEVICES chooses which."""
    return int(is_available())


def get_device_name(device: Any = None) -> str:
    """The name of the GPU, "NVIDIA A100-SXM4-80GB"."""
    return gpu.name(gpu.cupy())


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """Its compute capability, (8, 0)."""
    return gpu.capability(gpu.cupy())


def manual_seed(seed: int) -> None:
    """As `tinydl.manual_seed`: the generators draw the same numbers on both devices."""
    _manual_seed(seed)


manual_seed_all = manual_seed


def synchronize(device: Any = None) -> None:
    """Wait for all work on the GPU."""
    gpu.cupy().cuda.runtime.deviceSynchronize()


# ---- Streams


class Stream:
    """A queue of work on the GPU, beside the default one. `with td.cuda.stream(s):` sends work to it."""

    def __init__(self, queue: Any = None) -> None:
        self.queue = gpu.cupy().cuda.Stream(non_blocking=True) if queue is None else queue

    def synchronize(self) -> None:
        """Wait for its work."""
        self.queue.synchronize()

    def query(self) -> bool:
        """Is its work done?"""
        return bool(self.queue.done)

    def wait_stream(self, stream: Stream) -> None:
        """What is sent here from now on waits for what has been sent to `stream`."""
        self.queue.wait_event(stream.queue.record())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.queue == other.queue

    def __hash__(self) -> int:
        return hash(self.queue)


def current_stream(device: Any = None) -> Stream:
    """Where work of this thread goes."""
    return Stream(gpu.cupy().cuda.get_current_stream())


def default_stream(device: Any = None) -> Stream:
    """Where it goes outside of any `stream`."""
    return Stream(gpu.cupy().cuda.Stream.null)


@contextmanager
def stream(stream: Stream | None) -> Iterator[Stream | None]:
    """Send the work of the scope to a stream; None leaves things as they are."""
    if stream is None:
        yield None
    else:
        with stream.queue:
            yield stream


# ---- Memory


def memory_allocated(device: Any = None) -> int:
    """Bytes that arrays hold."""
    return sum(pool.used_bytes() for pool in _pools())


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pools hold, arrays or not."""
    return sum(pool.total_bytes() for pool in _pools())


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes that are free on the GPU, and in all."""
    free, total = gpu.cupy().cuda.runtime.memGetInfo()
    return free, total


def empty_cache() -> None:
    """Give what no array holds back to the GPU."""
    if is_available():
        gpu.cupy().get_default_memory_pool().free_all_blocks()


def reset_peak_memory_stats(device: Any = None) -> None:
    """Begin to watch for `max_memory_allocated`, from what is allocated now: the
    allocations of this thread.
    """
    if _local.peak is not None:
        _local.peak.__exit__()
    _local.peak = _watch(gpu.cupy(), memory_allocated())
    _local.peak.__enter__()


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that arrays held since this thread's `reset_peak_memory_stats`,
    which must have been called.
    """
    if _local.peak is None:
        raise DeviceError(
            "max_memory_allocated: expected reset_peak_memory_stats() first, which begins to watch"
        )
    return _local.peak.most


def _pools() -> list[Any]:
    return [gpu.cupy().get_default_memory_pool(), *[graph.pool for graph in graphs]]


class _Local(threading.local):  # as CuPy's hooks are
    peak: Any = None


_local = _Local()


def _watch(cupy: Any, start: int) -> Any:
    class Peak(cupy.cuda.MemoryHook):
        """Adds up what the pools hand out and take back."""

        name = "tinydl peak"
        held = most = start

        def malloc_postprocess(
            self, device_id: int, size: int, mem_size: int, mem_ptr: int, pmem_id: int
        ) -> None:
            self.held += mem_size
            self.most = max(self.most, self.held)

        def free_postprocess(self, device_id: int, mem_size: int, mem_ptr: int, pmem_id: int) -> None:
            self.held -= mem_size

    return Peak()
