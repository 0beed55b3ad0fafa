"""Making tensors, and what a tensor shows of itself to Python and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.errors import DeviceError, DtypeError, GraphError

from ..core import Tensor, state
from ..promotion import FLOAT32, checked
from .shape import sizes
from .update import assign


def tensor(data: Any, dtype: Any = None, device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """A new tensor that copies `data`: numbers, nested lists, an array, a tensor. Python floats give float32."""
    if isinstance(data, Tensor):
        data = data.array
    array = np.array(data, dtype=None if dtype is None else checked(dtype))
    if dtype is None and array.dtype == np.float64 and not _typed(data):
        array = array.astype(FLOAT32)
    if array.dtype.kind not in "biuf":
        raise DtypeError(f"tensor: expected numbers, got dtype {array.dtype}")
    return Tensor(np.ascontiguousarray(array.astype(checked(array.dtype), copy=False)).reshape(array.shape)).requires_grad_(
        requires_grad
    )


def _typed(data: Any) -> bool:
    """Does `data` say its own dtype (an array, a NumPy number), all the way down?"""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, Tensor))


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """`data` itself if it is a tensor of that dtype; an array shared; else a copy."""
    if isinstance(data, Tensor) and dtype in (None, data.dtype):
        return data
    return from_numpy(data) if isinstance(data, np.ndarray) and dtype in (None, data.dtype) else tensor(data, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory. Writes to the array behind the tape's back go unseen."""
    if not isinstance(array, np.ndarray):
        raise DtypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    checked(array.dtype)
    return Tensor(array)


def zeros(*size: Any, dtype: Any = FLOAT32, requires_grad: bool = False) -> Tensor:
    """Zeros of the given size."""
    return Tensor(np.zeros(sizes(size), checked(dtype))).requires_grad_(requires_grad)


def ones(*size: Any, dtype: Any = FLOAT32, requires_grad: bool = False) -> Tensor:
    """Ones of the given size."""
    return Tensor(np.ones(sizes(size), checked(dtype))).requires_grad_(requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`fill_value` everywhere."""
    return Tensor(np.full(size, fill_value, tensor(fill_value).dtype if dtype is None else checked(dtype))).requires_grad_(
        requires_grad
    )


def zeros_like(input: Tensor, dtype: Any = None) -> Tensor:
    """Zeros shaped as `input`."""
    return zeros(input.shape, dtype=dtype or input.dtype)


def ones_like(input: Tensor, dtype: Any = None) -> Tensor:
    """Ones shaped as `input`."""
    return ones(input.shape, dtype=dtype or input.dtype)


def arange(start: Any, end: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below end; arange(n) is 0 .. n - 1."""
    start, end = (0, start) if end is None else (start, end)
    return tensor(np.arange(start, end, step).tolist() if dtype is None else np.arange(start, end, step), dtype)


# What a tensor shows of itself --------------------------------------------------------------------------------------------


def _read(x: Tensor, what: str) -> np.ndarray:
    if state.recorder is not None:
        raise GraphError(f"{what}: expected no values to be read inside a recorded step, where they would freeze")
    if x.device != "cpu":
        raise DeviceError(f"{what}: expected a tensor on cpu, got one on {x.device}: use .cpu() first")
    return x.array


def numpy(x: Tensor) -> np.ndarray:
    """The array itself, without a copy; read-only where the tape or an optimizer relies on it."""
    view = _read(x, "numpy").view()
    if x.requires_grad or x.version.taped:
        view.flags.writeable = False
    return view


def item(x: Tensor) -> Any:
    """The value of a tensor of one element, as a Python number."""
    return _read(x, "item").item()


def tolist(x: Tensor) -> Any:
    """The values as nested lists."""
    return _read(x, "tolist").tolist()


def to_array(x: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """For numpy.asarray and numpy.array."""
    return np.array(numpy(x), dtype=dtype, copy=copy)


def truth(x: Tensor) -> bool:
    """The truth of a tensor of one element."""
    return bool(_read(x, "bool").item())


def length(x: Tensor) -> int:
    """The size of the first dim."""
    if not x.ndim:
        raise TypeError("len: expected at least one dim, got a 0-d tensor")
    return x.shape[0]


def deepcopy(x: Tensor, memo: dict[int, Any]) -> Tensor:
    """A leaf of the same type with memory, version and identity of its own."""
    if x.node is not None:
        raise GraphError("deepcopy: expected a leaf, got the result of an operation: use detach() or clone()")
    copy = memo[id(x)] = object.__new__(type(x))
    Tensor.__init__(copy, x.array.copy())
    copy.requires_grad = x.requires_grad
    copy.grad = None if x.grad is None else Tensor(x.grad.array.copy())
    return copy


def describe(x: Tensor) -> str:
    """The values as NumPy prints them, the dtype where it is not float32, and whether it requires grad."""
    notes = [] if x.dtype == FLOAT32 or x.dtype.kind in "b" else [f"dtype={x.dtype}"]
    notes += [] if x.device == "cpu" else [f"device={x.device!r}"]
    notes += [f"grad_fn={x.node.primitive.name}"] if x.node is not None else ["requires_grad=True"] if x.requires_grad else []
    name = "tensor" if type(x) is Tensor else type(x).__name__
    body = np.array2string(x.array if x.device == "cpu" else x.array.get(), separator=", ", prefix=f"{name}(", threshold=64)
    return f"{name}({', '.join([body, *notes])})"


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, in place, for a tensor that no gradient flows through."""
    if x.requires_grad and state.grad:
        raise GraphError("indexing assignment: expected no_grad around a write to a tensor that requires grad")
    target = Tensor(
        x.array[
            index
            if isinstance(index, tuple) and Ellipsis in index
            else (*index, ...)
            if isinstance(index, tuple)
            else (index, ...)
        ],
        x.version,
    )
    assign(target, value)
