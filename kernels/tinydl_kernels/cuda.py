"""Launches of the .cu files: one call for CuPy arrays (on the GPU) and for NumPy arrays (on the emulator).

    cuda.launch("random", "uniform_float32", items, key, start, out, np.int64(out.size))     # a grid of one axis
    cuda.module("random").get_function("uniform_float32")(grid, block, args, shared_mem=0)   # any grid, as cupy.RawKernel

A .cu file includes nothing, its kernels are `extern "C" __global__` and walk grid-stride loops. Arguments are arrays, None for
a null pointer, and NumPy scalars of the parameter's own type; all are checked against the kernel's signature, since CUDA reads
whatever bytes it is given. Strides are not passed: arrays are C-contiguous.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BackendError, DtypeError, ShapeError

OPTIONS = ("-std=c++17",)
"""What every .cu is compiled with."""
THREADS = 256
"""Threads of a block of `launch`."""
MAX_BLOCKS = 4096
"""Blocks of `launch`, enough to fill any GPU: beyond it a thread serves several items."""
STATIC_SHARED = 48 * 1024
"""Bytes of shared memory that a kernel may have without asking the driver."""

DTYPES = {
    "bool": np.bool_,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
}
"""The types that a kernel's parameters may have, or point to."""

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_BOUNDS = r"__launch_bounds__\s*\([^()]*\)"
_KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+(?:{_BOUNDS}\s*)?void\s+(?:{_BOUNDS}\s*)?(\w+)\s*\(([^()]*)\)')
_PARAMETER = re.compile(r"(const )?([a-z ]*?[a-z]) ?(\* ?(?:__restrict__)?)? ?(\w+)")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: a value of `dtype`, or a pointer to it."""

    name: str
    type: str
    dtype: np.dtype
    pointer: bool
    const: bool

    def check(self, who: str, argument: Any) -> None:
        """DtypeError or ShapeError unless `argument` can be passed for this parameter."""
        if self.pointer and argument is None:
            return
        scalar = isinstance(argument, np.generic)
        if scalar is self.pointer or getattr(argument, "dtype", None) != self.dtype:
            kind = "scalar" if scalar else "array"
            got = f"a {argument.dtype} {kind}" if hasattr(argument, "dtype") else type(argument).__name__
            expected = f"a {self.dtype} array" if self.pointer else f"a numpy.{self.dtype} scalar"
            raise DtypeError(f"{who}: {self.name}: expected {expected}, got {got}")
        if self.pointer and not argument.flags.c_contiguous:
            layout = f"shape {argument.shape}, strides {argument.strides}"
            raise ShapeError(f"{who}: {self.name}: expected a C-contiguous array, got {layout}")


def signatures(source: str) -> dict[str, tuple[Parameter, ...]]:
    """The kernels of a .cu source and their parameters. BackendError for a parameter type outside `DTYPES`."""
    return {
        name: tuple(_parameter(name, text) for text in parameters.split(",") if text.strip())
        for name, parameters in _KERNEL.findall(_COMMENT.sub(" ", source))
    }


def _parameter(kernel: str, text: str) -> Parameter:
    text = " ".join(text.split())
    match = _PARAMETER.fullmatch(text)
    if match is None or match[2] not in DTYPES:
        raise BackendError(f"{kernel}: expected a parameter of type {', '.join(DTYPES)} or a pointer to it, got {text!r}")
    const, type_, star, name = match.groups()
    return Parameter(name, type_, np.dtype(DTYPES[type_]), bool(star), bool(const))


class Module:
    """A .cu file. Compiled at the first launch, for the GPU or for the emulator as the arrays want it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.source = path.read_text(encoding="utf-8")
        self.signatures = signatures(self.source)

    def get_function(self, name: str) -> Function:
        """The kernel of that name. BackendError if there is none."""
        if name not in self.signatures:
            raise BackendError(f"{self.path.name}: expected one of the kernels {', '.join(self.signatures)}, got {name!r}")
        return Function(self, name)


@dataclass(frozen=True, eq=False)
class Function:
    """A kernel of a module; called like `cupy.RawKernel`."""

    module: Module
    name: str

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0) -> None:
        """Launch on the device of the arrays. DtypeError, ShapeError for arguments that the signature does not take."""
        parameters = self.module.signatures[self.name]
        who = f"{self.module.path.name}: {self.name}"
        if len(args) != len(parameters):
            names = ", ".join(parameter.name for parameter in parameters)
            raise DtypeError(f"{who}: expected {len(parameters)} arguments ({names}), got {len(args)}")
        for parameter, argument in zip(parameters, args, strict=True):
            parameter.check(who, argument)
        if any(isinstance(argument, np.ndarray) for argument in args):
            from . import emulator  # only when it is used

            emulator.launch(self.module, self.name, grid, block, args, shared_mem)
        else:
            function = _device_function(self.module, self.name, _device())
            if shared_mem > STATIC_SHARED:
                function.max_dynamic_shared_size_bytes = shared_mem
            function(grid, block, tuple(args), shared_mem=shared_mem)


@functools.cache
def module(family: str) -> Module:
    """The .cu file beside `<family>.py`."""
    return Module(Path(__file__).with_name(f"{family}.cu"))


def launch(family: str, kernel: str, items: int, *args: Any) -> None:
    """Launch a kernel whose threads share `items` independent items by a grid-stride loop; nothing for no items."""
    if items:
        blocks = min(-(-items // THREADS), MAX_BLOCKS)
        module(family).get_function(kernel)((blocks,), (min(items, THREADS),), args)


def is_available() -> bool:
    """Is there a GPU that CuPy can use? Never raises."""
    try:
        import cupy  # optional package

        return bool(cupy.cuda.is_available())
    except Exception:  # CuPy is absent, or a library under it is
        return False


def _device() -> int:
    import cupy  # optional package

    return cupy.cuda.runtime.getDevice()


@functools.cache
def _device_function(module: Module, name: str, device: int) -> Any:
    return _device_module(module, device).get_function(name)


@functools.cache
def _device_module(module: Module, device: int) -> Any:
    import cupy  # optional package

    return cupy.RawModule(code=module.source, options=OPTIONS)
