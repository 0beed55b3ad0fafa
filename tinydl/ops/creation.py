"""Making tensors, and what a tensor shows of itself to Python and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.errors import DeviceError, DtypeError, GraphError, ShapeError

from ..core import Tensor, state
from ..promotion import FLOAT32, checked
from .elementwise import to_dtype
from .shape import common_shape, new_size


def tensor(data: Any, dtype: Any = None, device: str = "cpu", requires_grad: bool = False) -> Tensor:
    """A new tensor that copies `data`: numbers, nested lists, an array, a tensor. Python floats give float32."""
    return copied("tensor", data, dtype).requires_grad_(requires_grad)


def copied(who: str, data: Any, dtype: Any) -> Tensor:
    """A new tensor that copies `data`; errors name `who`."""
    if isinstance(data, Tensor):
        data = data.array
    try:
        array = np.array(data, dtype=None if dtype is None else checked(dtype, who))
    except ValueError:
        raise ShapeError(f"{who}: expected numbers, or lists of them of equal lengths, got {data!r}") from None
    if dtype is None and array.dtype == np.float64 and not _typed(data):
        array = array.astype(FLOAT32)
    if array.dtype.kind not in "biuf":
        raise DtypeError(f"{who}: expected numbers, got dtype {array.dtype}")
    return Tensor(np.ascontiguousarray(array.astype(checked(array.dtype, who), copy=False)).reshape(array.shape))


def _typed(data: Any) -> bool:
    """Does `data` say its own dtype (an array, a NumPy number), all the way down?"""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, Tensor))


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """`data` itself if it is a tensor of that dtype; an array shared; else a copy."""
    if isinstance(data, Tensor) and dtype in (None, data.dtype):
        return data
    return (
        from_numpy(data) if isinstance(data, np.ndarray) and dtype in (None, data.dtype) else copied("as_tensor", data, dtype)
    )


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory. Writes to the array behind the tape's back go unseen."""
    if not isinstance(ndarray, np.ndarray):
        raise DtypeError(f"from_numpy: expected a numpy.ndarray, got {type(ndarray).__name__}")
    checked(ndarray.dtype, "from_numpy")
    return Tensor(ndarray)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of a CPU array of any library with DLPack (a PyTorch tensor, say)."""
    if not hasattr(ext_tensor, "__dlpack__"):
        raise DtypeError(f"from_dlpack: expected an object with __dlpack__, got {type(ext_tensor).__name__}")
    return from_numpy(np.from_dlpack(ext_tensor))


def zeros(*size: Any, dtype: Any = FLOAT32, requires_grad: bool = False) -> Tensor:
    """Zeros of the given size."""
    return Tensor(np.zeros(new_size("zeros", size), checked(dtype, "zeros"))).requires_grad_(requires_grad)


def ones(*size: Any, dtype: Any = FLOAT32, requires_grad: bool = False) -> Tensor:
    """Ones of the given size."""
    return Tensor(np.ones(new_size("ones", size), checked(dtype, "ones"))).requires_grad_(requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`fill_value` everywhere."""
    return _filled("full", new_size("full", size), fill_value, dtype).requires_grad_(requires_grad)


def _filled(who: str, size: tuple[int, ...], fill_value: Any, dtype: Any) -> Tensor:
    value = copied(who, fill_value, dtype)
    if value.ndim:
        raise ShapeError(f"{who}: expected one fill_value, got {value.shape}")
    return Tensor(np.full(size, value.array, value.dtype))


def empty(*size: Any, dtype: Any = FLOAT32, requires_grad: bool = False) -> Tensor:
    """Memory of the given size with whatever it holds."""
    return Tensor(np.empty(new_size("empty", size), checked(dtype, "empty"))).requires_grad_(requires_grad)


def eye(n: int, m: int | None = None, dtype: Any = FLOAT32, requires_grad: bool = False) -> Tensor:
    """The (n, m) matrix with ones on its diagonal, (n, n) without m."""
    rows, columns = new_size("eye", (n, n if m is None else m))
    return Tensor(np.eye(rows, columns, dtype=checked(dtype, "eye"))).requires_grad_(requires_grad)


def zeros_like(input: Tensor, dtype: Any = None) -> Tensor:
    """Zeros shaped as `input`."""
    return zeros(input.shape, dtype=checked(dtype or input.dtype, "zeros_like"))


def ones_like(input: Tensor, dtype: Any = None) -> Tensor:
    """Ones shaped as `input`."""
    return ones(input.shape, dtype=checked(dtype or input.dtype, "ones_like"))


def full_like(input: Tensor, fill_value: Any, dtype: Any = None) -> Tensor:
    """`fill_value` everywhere, shaped as `input`."""
    return _filled("full_like", input.shape, fill_value, dtype or input.dtype)


def empty_like(input: Tensor, dtype: Any = None) -> Tensor:
    """Memory shaped as `input` with whatever it holds."""
    return empty(input.shape, dtype=checked(dtype or input.dtype, "empty_like"))


def linspace(start: float, end: float, steps: int, dtype: Any = FLOAT32, requires_grad: bool = False) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included."""
    if steps < 0:
        raise ShapeError(f"linspace: expected steps of at least 0, got {steps}")
    return Tensor(np.linspace(start, end, steps, dtype=checked(dtype, "linspace"))).requires_grad_(requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below end; arange(n) is 0 .. n - 1."""
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise ValueError("arange: expected a step other than 0, got 0")
    steps = np.arange(start, end, step)
    return copied("arange", steps.tolist() if dtype is None else steps, dtype)


# What a tensor shows of itself --------------------------------------------------------------------------------------------


def _read(x: Tensor, what: str) -> np.ndarray:
    if state.recorder is not None:
        raise GraphError(f"{what}: expected no values to be read inside a recorded step, where they would freeze")
    if x.device != "cpu":
        raise DeviceError(f"{what}: expected a tensor on cpu, got one on {x.device}: use .cpu() first")
    return x.array


def numpy(input: Tensor) -> np.ndarray:
    """The array itself, without a copy; read-only where the tape or an optimizer relies on it."""
    view = _read(input, "numpy").view()
    if input.requires_grad or input.version.taped:
        view.flags.writeable = False
    return view


def _one(x: Tensor, what: str) -> Any:
    """The value of a tensor of one element, as a Python number."""
    array = _read(x, what)
    if array.size != 1:
        raise ShapeError(f"{what}: expected a tensor of one element, got {x.shape}")
    return array.item()


def item(input: Tensor) -> Any:
    """The value of a tensor of one element, as a Python number."""
    return _one(input, "item")


def tolist(input: Tensor) -> Any:
    """The values as nested lists."""
    return _read(input, "tolist").tolist()


def to_array(x: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """For numpy.asarray and numpy.array."""
    return np.array(numpy(x), dtype=dtype, copy=copy)


def to_dlpack(x: Tensor, **settings: Any) -> Any:
    """A DLPack capsule of the same memory; read-only where `numpy` is (consumers that do not know read-only are refused)."""
    return numpy(x).__dlpack__(**settings)


def dlpack_device(x: Tensor) -> tuple[int, int]:
    """DLPack's (type, number) of the device."""
    return x.array.__dlpack_device__()


def equal(input: Tensor, other: Tensor) -> bool:
    """Have the two the same shape and values?"""
    return bool(np.array_equal(_read(input, "equal"), _read(other, "equal")))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Is |input - other| <= atol + rtol |other| everywhere?"""
    if input.dtype != other.dtype:
        raise DtypeError(f"allclose: expected one dtype, got {input.dtype} and {other.dtype}")
    common_shape("allclose", input, other)
    return bool(np.allclose(_read(input, "allclose"), _read(other, "allclose"), rtol, atol, equal_nan))


def to(input: Tensor, *target: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """The input as another dtype or on another device: x.to(dtype), x.to(device), x.to(device, dtype), x.to(like)."""
    for wanted in target:
        if isinstance(wanted, Tensor):
            dtype, device = wanted.dtype, wanted.device
        elif isinstance(wanted, str) and wanted.partition(":")[0] in ("cpu", "cuda"):
            device = wanted
        elif wanted is not None:
            dtype = wanted
    if device is not None and device.partition(":")[0] != input.device:
        raise DeviceError(f"to: expected the device of the tensor, {input.device!r}, got {device!r}")
    return input if dtype is None else to_dtype(input, dtype)


def truth(x: Tensor) -> bool:
    """The truth of a tensor of one element."""
    return bool(_one(x, "bool"))


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
