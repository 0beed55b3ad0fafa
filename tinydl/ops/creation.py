"""Making tensors, and what a tensor shows of itself to Python and NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.machine.device import exhausted
from tinydl_kernels.machine.errors import DeviceError, DtypeError, GraphError, ShapeError

from ..devices import checked_device, is_device, module_of, move, transfer
from ..engine.core import Tensor, contiguous, expand, state
from ..engine.effect import made
from ..engine.promotion import FLOAT32, INT64, checked, is_scalar
from ..engine.public import public
from .elementwise import to_dtype
from .shape import common_shape, new_size

__all__ = [
    "allclose",
    "arange",
    "as_tensor",
    "empty",
    "empty_like",
    "equal",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "is_tensor",
    "linspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]

DLPACK_CUDA = 2  # the number of the kind of device in DLPack


@public
def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor that copies `data`: numbers, nested lists, an array, a tensor. Python floats give float32.
    It is a leaf: no gradient goes back to a tensor that was copied (`clone`, `stack` carry it).

    Without a device it stays where the data is, numbers on the CPU.
    """
    return copied("tensor", data, dtype, device).requires_grad_(requires_grad)


def from_below(value: Any, dtype: Any) -> Any:
    """A negative number for uint8 counts down from 256, as in PyTorch; anything else is itself."""
    return value + 256 if dtype == np.uint8 and isinstance(value, int) and -256 < value < 0 else value


def copied(who: str, data: Any, dtype: Any, device: Any = None) -> Tensor:
    """A new tensor that copies `data`, to a device if one is given; errors name `who`."""
    if isinstance(data, Tensor):
        if state.recorder is not None:  # whose values a replay must see
            return _brought(contiguous(data.detach()), *target(who, (), dtype, device))
        data = data.array
    if hasattr(data, "__cuda_array_interface__"):
        array = data.astype(checked(data.dtype if dtype is None else dtype, who), order="C", copy=True)
        return made(Tensor(move(array, checked_device(device or "cuda", who))))
    try:
        _require_unmasked(who, data)
        dtype = None if dtype is None else checked(dtype, who)
        array = np.array(from_below(data, dtype), dtype=dtype)
    except OverflowError as error:
        raise DtypeError(f"{who}: expected numbers that {np.dtype(dtype)} can hold: {error}") from None
    except ValueError as error:
        if "NaN" in str(error):
            raise DtypeError(f"{who}: expected numbers that {np.dtype(dtype)} can hold, got NaN") from None
        raise ShapeError(
            f"{who}: expected numbers, or lists of them of equal lengths, got {data!r}"
        ) from None
    if dtype is None and array.dtype == np.float64 and not _typed(data):
        array = array.astype(FLOAT32)
    if array.dtype.kind not in "biuf":
        raise DtypeError(f"{who}: expected numbers, got dtype {array.dtype}")
    array = np.ascontiguousarray(array.astype(checked(array.dtype, who), copy=False)).reshape(array.shape)
    return made(Tensor(move(array, checked_device("cpu" if device is None else device, who))))


def _require_unmasked(who: str, data: Any) -> None:
    if np.ma.isMaskedArray(data) and np.ma.is_masked(data):
        raise DtypeError(f"{who}: expected an array without masked elements: use filled()")


def _typed(data: Any) -> bool:
    """Does `data` say its own dtype (an array, a NumPy number), all the way down?"""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, Tensor))


@public
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` itself if it is a tensor of that dtype and device; an array shared; else a copy."""
    shared = isinstance(data, np.ndarray) and checked(dtype, "as_tensor", data.dtype) == data.dtype
    shared = shared and data.dtype.isnative
    x = data if isinstance(data, Tensor) else from_numpy(data) if shared else copied("as_tensor", data, dtype)
    return _brought(x, *target("as_tensor", (), dtype, device))


@public
def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory. Writes to the array behind the tape's back go unseen.

    A memory map, a matrix or another subclass is shared as the plain array that it is; masked elements and
    another machine's byte order, which no kernel reads, are refused: `tensor` copies those.
    """
    if not isinstance(ndarray, np.ndarray):
        raise DtypeError(f"from_numpy: expected a numpy.ndarray, got {type(ndarray).__name__}")
    checked(ndarray.dtype, "from_numpy")
    if not ndarray.dtype.isnative:
        raise DtypeError(
            f"from_numpy: expected an array of this machine's byte order, got {ndarray.dtype.str}: use tensor"
        )
    if state.recorder is not None:
        state.recorder.made.note(ndarray, shared=True)
    return Tensor(ndarray)


@public
def from_dlpack(ext_tensor: Any, *, copy: bool | None = None) -> Tensor:
    """A tensor that shares the memory of an array of any library with DLPack, on the CPU or the GPU; with
    `copy` one of its own memory. False and None are the same: nothing that is there has to be copied.
    """
    if not hasattr(ext_tensor, "__dlpack__"):
        raise DtypeError(f"from_dlpack: expected an object with __dlpack__, got {type(ext_tensor).__name__}")
    if ext_tensor.__dlpack_device__()[0] == DLPACK_CUDA:
        array = module_of("cuda").from_dlpack(ext_tensor)
        checked(array.dtype, "from_dlpack")
        return made(Tensor(array.copy())) if copy else Tensor(array)
    try:
        shared = from_numpy(np.from_dlpack(ext_tensor))
        return copied("from_dlpack", shared.array, None) if copy else shared
    except RuntimeError as error:  # NumPy's, over bfloat16 and the like
        raise DtypeError(f"from_dlpack: {error} It is {getattr(ext_tensor, 'dtype', 'unknown')}") from error


def _made(who: str, device: Any, dtype: Any, *arguments: Any) -> Tensor:
    """What the function `who` of numpy or cupy makes on a device."""
    module = module_of(checked_device(device, who))
    dtype = checked(dtype, who, FLOAT32)
    try:
        return made(Tensor(getattr(module, who)(*arguments, dtype=dtype)))
    except MemoryError as error:
        if module is np:
            raise
        raise exhausted(error) from error


@public
def zeros(*size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Zeros of the given size."""
    return _made("zeros", device, dtype, new_size("zeros", size)).requires_grad_(requires_grad)


@public
def ones(*size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Ones of the given size."""
    return _made("ones", device, dtype, new_size("ones", size)).requires_grad_(requires_grad)


@public
def full(
    size: Any, fill_value: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """`fill_value` everywhere: a number, or a tensor of one element, whose gradient is carried."""
    x = _filled("full", new_size("full", size), fill_value, dtype, device)
    return x if x.requires_grad else x.requires_grad_(requires_grad)


def _filled(who: str, size: tuple[int, ...], fill_value: Any, dtype: Any, device: Any) -> Tensor:
    value = fill_value if isinstance(fill_value, Tensor) else copied(who, fill_value, dtype, "cpu")
    if value.ndim:
        raise ShapeError(f"{who}: expected one fill_value, got {value.shape}")
    if value is fill_value:  # recorded and differentiated, as any other use of its value
        return contiguous(expand(_brought(value, *target(who, (), dtype, device)), shape=size))
    return _made("full", device, value.dtype, size, value.array[()])


@public
def empty(*size: Any, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False) -> Tensor:
    """Memory of the given size with whatever it holds."""
    return _made("empty", device, dtype, new_size("empty", size)).requires_grad_(requires_grad)


@public
def eye(
    n: int, m: int | None = None, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """The (n, m) matrix with ones on its diagonal, (n, n) without m."""
    return _made("eye", device, dtype, *new_size("eye", (n, n if m is None else m))).requires_grad_(
        requires_grad
    )


@public
def zeros_like(input: Tensor, dtype: Any = None, device: Any = None, memory_format: Any = None) -> Tensor:
    """Zeros shaped as `input`."""
    return zeros(input.shape, dtype=checked(dtype, "zeros_like", input.dtype), device=device or input.device)


@public
def ones_like(input: Tensor, dtype: Any = None, device: Any = None, memory_format: Any = None) -> Tensor:
    """Ones shaped as `input`."""
    return ones(input.shape, dtype=checked(dtype, "ones_like", input.dtype), device=device or input.device)


@public
def full_like(
    input: Tensor, fill_value: Any, dtype: Any = None, device: Any = None, memory_format: Any = None
) -> Tensor:
    """`fill_value` everywhere, as `full`, shaped as `input`."""
    return _filled(
        "full_like", input.shape, fill_value, checked(dtype, "full_like", input.dtype), device or input.device
    )


@public
def empty_like(input: Tensor, dtype: Any = None, device: Any = None, memory_format: Any = None) -> Tensor:
    """Memory shaped as `input` with whatever it holds."""
    return empty(input.shape, dtype=checked(dtype, "empty_like", input.dtype), device=device or input.device)


def _like(x: Tensor, dtype: Any, device: Any, requires_grad: bool) -> dict[str, Any]:
    return {"dtype": dtype or x.dtype, "device": device or x.device, "requires_grad": requires_grad}


@public
def new_tensor(
    input: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor of `data`, with the dtype and device of the input where nothing else is said."""
    return tensor(data, **_like(input, dtype, device, requires_grad))


@public
def new_zeros(
    input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of the given size, with the dtype and device of the input where nothing else is said."""
    return zeros(*size, **_like(input, dtype, device, requires_grad))


@public
def new_ones(
    input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Ones of the given size, with the dtype and device of the input where nothing else is said."""
    return ones(*size, **_like(input, dtype, device, requires_grad))


@public
def new_empty(
    input: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Memory of the given size, with the dtype and device of the input where nothing else is said."""
    return empty(*size, **_like(input, dtype, device, requires_grad))


@public
def new(input: Tensor, *size: Any) -> Tensor:
    """`new_empty` by its first name, which scripts of the first years use: `weight.new(2, 3).zero_()`."""
    return new_empty(input, *size)


@public
def new_full(
    input: Tensor,
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`fill_value` everywhere, with the dtype and device of the input where nothing else is said."""
    return full(size, fill_value, **_like(input, dtype, device, requires_grad))


@public
def linspace(
    start: float, end: float, steps: int, dtype: Any = None, device: Any = "cpu", requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included."""
    if steps < 0:
        raise ShapeError(f"linspace: expected steps of at least 0, got {steps}")
    return _made("linspace", device, dtype, start, end, steps).requires_grad_(requires_grad)


@public
def arange(start: Any, end: Any = None, step: Any = 1, dtype: Any = None, device: Any = "cpu") -> Tensor:
    """start, start + step, ... below end; arange(n) is 0 .. n - 1."""
    start, end = (0, start) if end is None else (start, end)
    if not all(is_scalar(number) for number in (start, end, step)):
        raise TypeError(f"arange: expected numbers, got {start!r}, {end!r} and {step!r}")
    if step == 0:
        raise ValueError("arange: expected a step other than 0, got 0")
    if not all(math.isfinite(number) for number in (start, end, step)):
        raise ValueError(f"arange: expected finite numbers, got {start!r}, {end!r} and {step!r}")
    steps = np.arange(start, end, step)
    dtype = checked(dtype, "arange", FLOAT32 if steps.dtype.kind == "f" else INT64)
    return copied("arange", steps, dtype, device)


# What a tensor shows of itself
# --------------------------------------------------------------------------------------------


def _read(x: Tensor, what: str) -> np.ndarray:
    """The values on the CPU; from a GPU a copy, which waits for it."""
    if state.recorder is not None:
        raise GraphError(
            f"{what}: expected no values to be read inside a recorded step, where they would freeze"
        )
    return move(x.array, "cpu")


@public
def numpy(input: Tensor) -> np.ndarray:
    """The array itself, without a copy; read-only where the tape or an optimizer relies on
    it. DeviceError for a GPU's.
    """
    if input.device != "cpu":
        raise DeviceError(f"numpy: expected a tensor on cpu, got one on {input.device}: use .cpu() first")
    view = _read(input, "numpy").view()
    if input.requires_grad or input.version.taped:
        view.flags.writeable = False
    return view


@public
def item(input: Tensor) -> Any:
    """The value of a tensor of one element, as a Python number."""
    if input.array.size != 1:
        raise ValueError(f"item: expected a tensor of one element, got {input.shape}")
    return _read(input, "item").item()


@public
def tolist(input: Tensor) -> Any:
    """The values as nested lists."""
    return _read(input, "tolist").tolist()


def to_array(x: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """For numpy.asarray and numpy.array."""
    return np.array(numpy(x), dtype=dtype, copy=copy)


def to_dlpack(x: Tensor, **settings: Any) -> Any:
    """A DLPack capsule of the same memory, read-only where `numpy` is. A consumer that does not know
    read-only memory (DLPack before 1.0, NumPy 2.0) gets a copy of it, or BufferError if it wants none.
    """
    array = numpy(x) if x.device == "cpu" else x.array
    try:
        return array.__dlpack__(**settings)
    except BufferError:
        if x.device != "cpu" or array.flags.writeable or settings.get("copy") is False:
            raise
        return array.copy().__dlpack__(**settings)


def dlpack_device(x: Tensor) -> tuple[int, int]:
    """DLPack's (type, number) of the device."""
    return x.array.__dlpack_device__()


@public
def equal(input: Tensor, other: Tensor) -> bool:
    """Have the two the same shape and values?"""
    return bool(np.array_equal(_read(input, "equal"), _read(other, "equal")))


@public
def is_tensor(obj: Any) -> bool:
    """Is it a tensor of tinydl?"""
    return isinstance(obj, Tensor)


@public
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Is |input - other| <= atol + rtol |other| everywhere?"""
    if input.dtype != other.dtype:
        raise DtypeError(f"allclose: expected one dtype, got {input.dtype} and {other.dtype}")
    common_shape("allclose", input, other)
    return bool(np.allclose(_read(input, "allclose"), _read(other, "allclose"), rtol, atol, equal_nan))


def target(who: str, given: tuple[Any, ...], dtype: Any, device: Any) -> tuple[np.dtype | None, str | None]:
    """(dtype, device) as `to` was asked for them: x.to(dtype), x.to(device), x.to(device,
    dtype), x.to(like).
    """
    for wanted in given:
        if isinstance(wanted, Tensor):
            dtype, device = wanted.dtype, wanted.device
        elif is_device(wanted) or type(wanted) is int:
            device = wanted
        elif wanted is not None and not isinstance(wanted, bool):  # non_blocking, copy
            dtype = wanted
    return None if dtype is None else checked(dtype, who), None if device is None else checked_device(
        device, who
    )


@public
def to(
    input: Tensor,
    *wanted: Any,
    dtype: Any = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """The input as another dtype or on another device: x.to(dtype), x.to(device),
    x.to(device, dtype), x.to(like).

    Itself if there is nothing to do, but for `copy`. Copies wait whatever `non_blocking` says; there is one
    memory format. Gradients travel back, in every order. DeviceError if there is no such device.
    """
    moved = _brought(input, *target("to", wanted, dtype, device))
    return contiguous(moved) if copy and moved is input else moved


def _brought(x: Tensor, dtype: np.dtype | None, device: str | None) -> Tensor:
    moved = x if device in (None, x.device) else transfer(x, device=device)
    return moved if dtype is None else to_dtype(moved, dtype)


@public
def cuda(input: Tensor, device: Any = "cuda") -> Tensor:
    """The input on the GPU, itself if it is there."""
    return to(input, device=device)


@public
def cpu(input: Tensor) -> Tensor:
    """The input on the CPU, itself if it is there. Waits for the GPU."""
    return to(input, device="cpu")


def deepcopy(x: Tensor, memo: dict[int, Any]) -> Tensor:
    """A leaf of the same type with memory, version and identity of its own."""
    if x.node is not None:
        raise GraphError("deepcopy: expected a leaf, got the result of an operation: use detach() or clone()")
    copy = memo[id(x)] = object.__new__(type(x))
    Tensor.__init__(copy, contiguous(x.detach()).array)
    copy.requires_grad = x.requires_grad
    copy.grad = None if x.grad is None else contiguous(x.grad.detach())
    return copy


def pickled(x: Tensor, protocol: int) -> Any:
    """For `pickle`: type, values and whether it requires grad. The result of an operation comes back as a
    leaf, as in PyTorch: neither tape nor hooks nor `.grad` travel.
    """
    return _unpickled, (type(x), _read(x, "pickle"), x.requires_grad)


def _unpickled(kind: type, array: np.ndarray, requires_grad: bool) -> Tensor:
    x: Tensor = object.__new__(kind)
    Tensor.__init__(x, array)
    x.requires_grad = requires_grad
    return x


def describe(x: Tensor) -> str:
    """The values as NumPy prints them, the dtype where it is not float32, and whether it requires grad."""
    notes = [] if x.dtype == FLOAT32 or x.dtype.kind in "b" else [f"dtype={x.dtype}"]
    notes += [] if x.device == "cpu" else [f"device={x.device!r}"]
    notes += (
        [f"grad_fn={x.node.primitive.name}"]
        if x.node is not None
        else ["requires_grad=True"]
        if x.requires_grad
        else []
    )
    name = "tensor" if type(x) is Tensor else type(x).__name__
    body = np.array2string(move(x.array, "cpu"), separator=", ", prefix=f"{name}(", threshold=64)
    return f"{name}({', '.join([body, *notes])})"
