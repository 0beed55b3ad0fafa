"""Where arrays live, "cpu" (NumPy) or "cuda" (CuPy), how they get from one to the other, and
the graph of a recorded step.

An array moves where its owner asks for it: `x.to("cuda")`, `model.cuda()`, `td.zeros(3, device="cuda")`.
NumPy arrays are never taken along silently: mixed with a tensor on the GPU they are a DeviceError,
whereas Python numbers go anywhere.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from tinydl_kernels.machine import device as gpu
from tinydl_kernels.machine import dispatch, memory
from tinydl_kernels.machine.dispatch import device_of
from tinydl_kernels.machine.errors import DeviceError, GraphError

from .engine.core import primitive
from .engine.promotion import native
from .engine.tensor import Array, Tensor

NAMES = ("cpu", "cuda")
graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
"""Those that are alive."""


def checked_device(device: Any, who: str) -> str:
    """The name, "cpu" or "cuda", of what PyTorch calls a device: also "cuda:0" and 0. DeviceError for
    anything else.
    """
    name, _, number = str(f"cuda:{device}" if type(device) is int else device).partition(":")
    if name not in NAMES or number not in ("", "0"):
        more = (
            " (choose another GPU by CUDA_VISIBLE_DEVICES)" if name == "cuda" and number.isdecimal() else ""
        )
        raise DeviceError(f"{who}: expected device 'cpu', 'cuda' or 'cuda:0', got {device!r}{more}")
    return name


class Device(str):
    """The name of a device, as PyTorch writes it: td.device("cuda"), td.device("cuda:0"). A string."""

    __slots__ = ()
    index = None  # type: ignore[assignment]

    def __new__(cls, type: Any, index: int | None = None) -> Device:
        return super().__new__(cls, checked_device(type if index is None else f"{type}:{index}", "device"))

    @property
    def type(self) -> str:
        """ "cpu" or "cuda"."""
        return str(self)


DEVICES = {name: str.__new__(Device, name) for name in NAMES}
Tensor.device = property(
    lambda self: DEVICES[dispatch.device_of(self.array)], doc='Device("cpu") or Device("cuda"): a string.'
)


def is_device(value: Any) -> bool:
    """Is it the name of a device, as opposed to a dtype?"""
    return isinstance(value, str) and value.partition(":")[0] in NAMES


def module_of(device: str) -> Any:
    """numpy or cupy. DeviceError if there is no GPU to use."""
    return np if device == "cpu" else gpu.cupy()


def move(array: Array, device: str) -> Array:
    """The array itself if it is on that device, else a C-contiguous copy there."""
    if device_of(array) == device:
        return array
    if device == "cpu":
        return gpu.cupy().asnumpy(array, order="C")
    try:
        return gpu.cupy().asarray(array, order="C")
    except MemoryError as error:
        raise gpu.exhausted(error, array.nbytes) from error


def on_host(value: Any) -> np.ndarray:
    """The values of a tensor, or of anything that NumPy can make an array of, as a NumPy array; shared where
    it is one.
    """
    return move(value.array, "cpu") if isinstance(value, Tensor) else np.asarray(value)


def constant(like: Tensor, array: Any) -> Tensor:
    """A NumPy array that follows from shapes and settings, on the device of `like`."""
    return Tensor(move(native(np.asarray(array)), like.device))


def follow(tensors: Iterable[Tensor], device: str) -> None:
    """Bring tensors that nothing on a tape holds to a device, in place. Recordings that use them end."""
    for x in tensors:
        if x.device != device:
            x.array = move(x.array, device)


@primitive(strided=True)
def transfer(x: Array, *, device: str) -> Array:
    """A copy of x on another device."""
    if memory.planned():
        raise GraphError(
            f"to: expected one device in a recorded step, got a {device_of(x)} tensor on its way to {device}"
        )
    return move(x, device)


transfer.rule(x=lambda g, *, device: transfer(g, device=NAMES[device == "cpu"]))


class Resident(Tensor):
    """State of a generator, which draws on either device read: an array on each device that asked for it,
    the value on one of them.
    """

    __slots__ = ("arrays",)

    def __init__(self, array: Array) -> None:
        super().__init__(array)
        self.arrays: dict[str, Array] = {self.device: array}

    def on(self, device: str) -> Tensor:
        """Itself, its value on `device`, in the same array each time."""
        if device != self.device:
            value = move(self.array, device)
            home: Any = self.arrays.setdefault(device, value)
            home[...] = value
            self.array = home
        return self


# ---- Graphs


class Graph:
    """Launches that were captured, as one CUDA graph; with the memory that CuPy's
    own operations took meanwhile.
    """

    def __init__(self, launches: Callable[[], None]) -> None:
        cupy = gpu.cupy()
        self.pool = cupy.cuda.MemoryPool()  # of its own: nobody else writes there while the graph lives
        graphs.add(self)
        self.stream = cupy.cuda.Stream(non_blocking=True)  # the default stream cannot be captured
        with cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            self.stream.begin_capture()
            try:
                launches()
            except BaseException:
                with contextlib.suppress(Exception):  # what went wrong has ended the capture
                    self.stream.end_capture()
                raise
            self.graph = self.stream.end_capture()

    def launch(self) -> None:
        """Start the graph on the present stream."""
        self.graph.launch()
