"""A stand-in for CuPy, made of NumPy and the emulator, so that everything about "cuda" but
the GPU runs in any test run.

    with fake_cupy.installed(): ...        # `import cupy` finds it; td.cuda.is_available()

Its arrays are no numpy.ndarray, and are strict where CuPy is: NumPy arrays do not mix with them, and what
would wait for the GPU is noted in `host`. Launches go to the emulator. While a stream is captured, work is
noted and not done, and what CUDA or CuPy refuse there (copies from or to the host, waits, cuBLAS) raises; the
graph does the work when it is launched. The GPU with its memory, streams and graphs stands in fake_gpu.py.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fake_gpu import CUDARuntimeError, Machine, MemoryPointer, MemoryPool, blocks, cuda, machine
from tinydl_kernels import emulator
from tinydl_kernels.cuda import launching as sources

CUBLAS = {"matmul", "dot", "tensordot", "einsum", "inner", "vdot"}
VIEWS = {
    "reshape",
    "ravel",
    "transpose",
    "swapaxes",
    "squeeze",
    "moveaxis",
    "broadcast_to",
    "expand_dims",
    "diagonal",
    "view",
}
VIEWS |= {"flip", "atleast_1d", "atleast_2d", "rollaxis"}


# ---- Arrays


class ndarray:  # noqa: N801
    """An array on the GPU: a NumPy array over a block of memory that nobody else sees."""

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: MemoryPointer | None = None, strides: Any = None
    ) -> None:
        shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
        self.data = machine.allocator(math.prod(shape) * dtype.itemsize) if memptr is None else memptr
        self._device = cuda.Device()
        self._host = np.ndarray(shape, dtype, self.data.mem.bytes, self.data.offset, strides)
        self.base: ndarray | None = None

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    device = property(lambda self: self._device)
    T = property(lambda self: self.transpose())
    __cuda_array_interface__ = property(
        lambda self: {"shape": self.shape, "typestr": self.dtype.str, "version": 3}
    )

    @property
    def flags(self) -> Any:
        """As CuPy's: of the layout only."""
        layout, owns = self._host.flags, self.base is None
        names = {"c_contiguous": layout.c_contiguous, "f_contiguous": layout.f_contiguous, "owndata": owns}
        return types.SimpleNamespace(**names)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one "
            "explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        return _device(ufunc, *inputs, **settings)

    def __array_function__(self, function: Any, kinds: Any, args: Any, settings: Any) -> Any:
        if np.ndarray in kinds:
            return NotImplemented
        return _device(function, *args, **settings)

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, (ndarray, np.ndarray, list)) for part in parts):
            return _device(
                operator.getitem,
                self,
                tuple(asarray(p) if isinstance(p, (np.ndarray, list)) else p for p in parts),
            )
        return _view(self, self._host[(*parts, ...) if Ellipsis not in parts else parts])

    def __setitem__(self, index: Any, value: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(asarray(part) if isinstance(part, (np.ndarray, list)) else part for part in parts)
        _write(operator.setitem, self, parts, asarray(value) if isinstance(value, np.ndarray) else value)

    def __len__(self) -> int:
        return len(self._host)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        return self

    def get(self, order: str = "C") -> np.ndarray:
        """A copy on the host, when the GPU has come so far."""
        machine.touched("get")
        return self._host.copy(order)

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    __bool__, __int__, __float__ = (lambda self, to=to: to(self.get()) for to in (bool, int, float))  # type: ignore[misc]
    __index__ = lambda self: operator.index(self.get())  # noqa: E731
    __hash__ = None  # type: ignore[assignment]

    def fill(self, value: Any) -> None:
        _write(np.ndarray.fill, self, value)

    def copy(self, order: str = "C") -> ndarray:
        return _device(np.ndarray.copy, self, order)

    def astype(self, dtype: Any, order: str = "K", copy: bool = True) -> ndarray:
        return self if not copy and self.dtype == dtype else _device(np.ndarray.astype, self, dtype, order)

    def __repr__(self) -> str:
        return f"fake_cupy.{self._host!r}"


def _method(name: str) -> Any:
    return lambda self, *args, **settings: _device(getattr(np.ndarray, name), self, *args, **settings)


for _name in (
    *VIEWS,
    "sum",
    "mean",
    "max",
    "min",
    "argmax",
    "argmin",
    "any",
    "all",
    "prod",
    "cumsum",
    "argsort",
    "var",
    "take",
):
    if hasattr(np.ndarray, _name):
        setattr(ndarray, _name, _method(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    for _form in (f"__{_name}__", f"__r{_name}__"):
        setattr(ndarray, _form, _method(_form))
    setattr(
        ndarray,
        f"__i{_name}__",
        lambda self, other, name=_name: _write(getattr(operator, f"i{name}"), self, other),
    )
for _name in ("neg", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _method(f"__{_name}__"))


def _host_of(x: Any) -> Any:
    """An argument as NumPy takes it."""
    if isinstance(x, (tuple, list)):
        return type(x)(map(_host_of, x))
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return x._host if isinstance(x, ndarray) else x


def _zeros(x: Any) -> Any:
    """The same with zeros for values, which are not there yet while a stream is captured."""
    if isinstance(x, (tuple, list)):
        return type(x)(map(_zeros, x))
    return np.zeros_like(x) if isinstance(x, np.ndarray) else x


def _view(of: ndarray, host: np.ndarray) -> ndarray:
    made = object.__new__(ndarray)
    made.data = of.data + (host.__array_interface__["data"][0] - of._host.__array_interface__["data"][0])
    made._host, made.base, made._device = host, of if of.base is None else of.base, of._device
    return made


def _owned(host: Any) -> Any:
    """Room for a result in memory of the pool, in the same layout."""
    host = np.asarray(host)
    if host.dtype.kind not in "biufc":
        raise TypeError(f"Unsupported dtype {host.dtype}")
    turned = host.flags.f_contiguous and not host.flags.c_contiguous
    return ndarray(
        host.shape, host.dtype, strides=np.empty(host.shape, host.dtype, "F").strides if turned else None
    )


def _device(function: Any, *args: Any, **settings: Any) -> Any:
    """A function of arrays, done on the GPU: views are views, anything else is work whose result is new."""
    if "out" in settings:
        out = settings.pop("out")
        out = out[0] if isinstance(out, tuple) else out
        _write(lambda target, *rest: function(*rest, out=target, **settings), out, *args)
        return out
    name = function.__name__
    if name in CUBLAS | {"__matmul__"} and machine.captured is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    raw = _host_of(args)
    settings = {key: _host_of(value) for key, value in settings.items()}
    if name in VIEWS and isinstance(args[0], ndarray):
        seen = function(*raw, **settings)
        if not seen.size or np.may_share_memory(seen, raw[0]):
            return _view(args[0], seen)
    with np.errstate(all="ignore"):
        first = function(*(raw if machine.captured is None else _zeros(raw)), **settings)
    if first is NotImplemented:
        return NotImplemented
    several = isinstance(first, (tuple, list))
    made = [_owned(x) for x in (first if several else [first])]

    def settle(results: Any) -> None:
        for home, value in zip(made, results if several else [results], strict=True):
            home._host[...] = value

    def work() -> None:
        with np.errstate(all="ignore"):
            settle(function(*raw, **settings))

    if machine.captured is None:
        settle(first)
    else:
        machine.captured.append(work)
    return tuple(made) if several else made[0]


def _write(function: Any, target: ndarray, *args: Any) -> ndarray:
    """Work that writes into an array."""
    raw = _host_of(args)

    def work() -> None:
        with np.errstate(all="ignore"):
            function(target._host, *raw)

    machine.do(work)
    return target


def asarray(x: Any, dtype: Any = None, order: str = "K") -> ndarray:
    """x itself if it is on the GPU, else a copy."""
    if isinstance(x, ndarray):
        return (
            x
            if dtype in (None, x.dtype) and (order != "C" or x.flags.c_contiguous)
            else x.astype(dtype or x.dtype, "C")
        )
    machine.touched("upload")
    host = np.asarray(x, dtype, order="C")
    made = ndarray(host.shape, host.dtype)
    made._host[...] = host
    return made


def array(x: Any, dtype: Any = None, copy: bool = True) -> ndarray:
    return x.astype(dtype or x.dtype) if isinstance(x, ndarray) else asarray(x, dtype)


def asnumpy(x: Any, order: str = "C") -> np.ndarray:
    """A copy on the host."""
    return x.get(order) if isinstance(x, ndarray) else np.asarray(x)


def empty(shape: Any, dtype: Any = float) -> ndarray:
    return ndarray(shape, dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None) -> ndarray:
    made = ndarray(shape, np.asarray(fill_value).dtype if dtype is None else dtype)
    made.fill(fill_value)
    return made


def zeros(shape: Any, dtype: Any = float) -> ndarray:
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = float) -> ndarray:
    return full(shape, 1, dtype)


def _like(maker: Any) -> Any:
    return lambda x, dtype=None: maker(x.shape, dtype or x.dtype)


empty_like, zeros_like, ones_like = map(_like, (empty, zeros, ones))


def from_dlpack(x: ndarray) -> ndarray:
    return x


def may_share_memory(a: ndarray, b: ndarray) -> bool:
    return np.may_share_memory(a._host, b._host)


def _strided(x: ndarray, shape: Any, strides: Any) -> ndarray:
    return _view(x, np.lib.stride_tricks.as_strided(x._host, shape, strides))


lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=_strided))


# ---- Launches


class RawModule:
    """A source of the package, whose kernels the emulator runs."""

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        if options != sources.OPTIONS:
            raise CUDARuntimeError(f"unexpected options {options}")
        self.module = next(module for module in sources.modules() if module.source == code)

    def get_function(self, name: str) -> Any:
        def launch(grid: Any, block: Any, args: Any, shared_mem: int = 0) -> None:
            if shared_mem > max(launch.max_dynamic_shared_size_bytes, sources.STATIC_SHARED):
                raise CUDARuntimeError("CUDA_ERROR_INVALID_VALUE: too much dynamic shared memory")
            if any(isinstance(arg, ndarray) and arg.device.id != machine.device for arg in args):
                raise CUDARuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: the memory of another GPU")
            raw = list(map(_unpacked, args, self.module.signatures[name]))

            def work() -> None:
                machine.launches.append(f"{self.module.name}.{name}")
                emulator.launch(self.module, name, grid, block, raw, shared_mem)

            machine.do(work)

        launch.max_dynamic_shared_size_bytes = 0
        return launch


def _unpacked(argument: Any, parameter: Any) -> Any:
    """An argument as the emulator takes it: a struct comes as an array of one, a list of
    arrays as a struct of addresses.
    """
    if isinstance(argument, ndarray):
        return argument._host
    if isinstance(argument, np.ndarray):
        if argument.dtype.kind != "V" or argument.size != 1:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return (
            [_at(address, parameter.dtype) for address in argument["at"].ravel()]
            if parameter.many
            else argument.reshape(1)[0]
        )
    return argument


def _at(address: int, dtype: np.dtype) -> np.ndarray | None:
    """What lies at an address, up to the end of its block."""
    if not address:
        return None
    for block in blocks:
        offset = int(address) - block.bytes.ctypes.data
        if 0 <= offset < max(block.size, 1):
            return block.bytes[offset : block.size - (block.size - offset) % dtype.itemsize].view(dtype)
    raise CUDARuntimeError(f"cudaErrorIllegalAddress: {address:#x}")


def get_default_memory_pool() -> MemoryPool:
    return machine.pool


def __getattr__(name: str) -> Any:
    """The functions that CuPy has in common with NumPy."""
    value = getattr(np, name)
    if isinstance(value, type) or not callable(value):
        return value
    if name in ("eye", "arange", "linspace", "tri"):
        return lambda *args, **settings: _owned_now(value(*args, **settings))
    return functools.partial(_device, value)


def _owned_now(host: np.ndarray) -> ndarray:
    """What the GPU computes from numbers alone."""
    made = ndarray(host.shape, host.dtype)
    machine.do(lambda: operator.setitem(made._host, ..., host))
    return made


@contextmanager
def installed() -> Iterator[Machine]:
    """`import cupy` finds this module; yields the GPU, as new. Kernels compiled
    before are forgotten afterwards.
    """
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = sys.modules[__name__]
    machine.__init__()  # type: ignore[misc]
    try:
        yield machine
    finally:
        for cached in (sources._device_function, sources._device_module):
            cached.cache_clear()
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before


@contextmanager
def no_waiting() -> Iterator[None]:
    """Within the scope nothing may be copied from or to the host, and nothing may wait."""
    before = len(machine.host)
    yield
    assert machine.host[before:] == []
