"""Launches of the .cu files: one call for CuPy arrays (on the GPU) and for NumPy arrays (on the emulator).

    launching.launch("random", "integers", items, key, start, out, np.int64(out.size))    # a grid of one axis
    launching.launch("norm", "dx", items, g, x, mean, factors, dx, *sizes, real=x.dtype)   # for that dtype
    launching.module("norm", x.dtype).get_function("dx")(grid, block, args)                # as cupy.RawKernel

A .cu file includes nothing but .cuh files of the package, which are pasted in: NVRTC has no headers, and
CuPy's cache does not see what a source includes. The numbers that Python and CUDA share
(machine/constants.py) stand at the head of a source. Its kernels are `extern "C" __global__`, written out or
by a macro that makes one per line. A file that says `real` is compiled once per floating dtype, with `real`
as its name; one that says `number` for int64 too; one that asks whether TENSOR_CORES is defined once more,
for float32 and with that name. Arguments are arrays, None for a null pointer, a list of up to 64 arrays for
`Arrays<type>`, and NumPy scalars of the parameter's own type (`real` and structs included); all are checked
against the kernel's signature (signatures.py). Strides are not passed: arrays are C-contiguous. A launch runs
on the GPU of its first array.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..machine import constants, device, memory
from ..machine.constants import GROUP
from ..machine.device import is_available as is_available
from ..machine.errors import BackendError, DeviceError, DtypeError
from .signatures import COMMENT, COUNTS, TABLE, Parameter, signatures

OPTIONS = ("-std=c++17",)
"""What every .cu is compiled with."""
WARP = 32
"""Threads that run in step and can exchange registers."""
THREADS = 256
"""Threads of a block of `launch`."""
MAX_BLOCKS = 4096
"""Blocks of `launch`, enough to fill any GPU: beyond it a thread serves several items."""
_SIDE_BY_SIDE = 8
"""Lines this far apart or more are read side by side, as many at a time as there are lanes."""
_BUSY = 1 << 17
"""Threads that keep a GPU busy."""
STATIC_SHARED = 48 * 1024
"""Bytes of shared memory that a kernel may have without asking the driver."""

PARAMETER_BYTES = 4096
"""What the parameters of a kernel may take together, on every GPU."""
_POINTERS = np.dtype([("at", np.uintp, GROUP)])

REAL: dict[np.dtype, str] = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
"""What `real` can be."""
NUMBER: dict[np.dtype, str] = {**REAL, np.dtype(np.int64): "long long"}
"""What `number` can be."""

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$')


def parameter_bytes(signature: Sequence[Parameter]) -> int:
    """What the parameters of a kernel take, each on a multiple of its own alignment, at most 8."""
    at = 0
    for parameter in signature:
        kind: np.dtype[Any] = np.dtype(np.uintp) if parameter.pointer else parameter.dtype
        kind = _POINTERS if parameter.many else kind
        aligned = kind.itemsize if kind.fields is None else 4 if kind == COUNTS else 8
        at = -(-at // aligned) * aligned + kind.itemsize
    return at


@functools.cache
def _sources() -> dict[str, Path]:
    """The .cu and .cuh files of the package, by name."""
    return {path.name: path for path in sorted(Path(__file__).parents[1].rglob("*.cu*"))}


def _expand(path: Path, pasted: set[str], text: str | None = None) -> list[str]:
    """The lines of a source (`text`, if it is in no file), those of a .cuh file (beside it, or of the
    package) in the place of the first #include of each.
    """
    lines = [f'#line 1 "{path.name}"']
    text = path.read_text(encoding="utf-8") if text is None else text
    for number, line in enumerate(text.splitlines(), 1):
        include = _INCLUDE.match(line)
        if include is None:
            lines.append(line)
        elif include[1] not in pasted:
            pasted.add(include[1])
            beside = path.with_name(include[1])
            header = beside if beside.exists() else _sources()[include[1]]
            lines += [*_expand(header, pasted), f'#line {number + 1} "{path.name}"']
        else:
            lines.append("")
    return lines


def _generic(source: str) -> tuple[str, dict[np.dtype, str]]:
    """`real` or `number`, whichever a source is written with, and what it can be: nothing for a source
    without either.
    """
    words = set(re.findall(r"\breal\b|\bnumber\b", COMMENT.sub(" ", source)))
    if "number" in words:
        return "number", NUMBER
    return "real", REAL if words else {}


class Module:
    """A .cu file, or `text` that was generated in the place of one, for one `real`. Compiled at the first
    launch, for the GPU or for the emulator as the arrays want it.
    """

    def __init__(
        self, path: Path, real: np.dtype | None = None, tensor_cores: bool = False, text: str | None = None
    ) -> None:
        text = "\n".join([*_expand(path, set(), text), ""])
        word, types = _generic(text)
        if real is not None and real not in types:
            raise DtypeError(f"{path.name}: expected {' or '.join(map(str, types))} for {word}, got {real}")
        self.path = path
        self.name = path.stem if real is None else f"{path.stem}-{'tf32' if tensor_cores else real}"
        self.source = (
            "#define TENSOR_CORES\n" * tensor_cores
            + ("" if real is None else f"using {word} = {types[real]};\n")
            + constants.lines(path.stem)
            + text
        )
        self.signatures = signatures(self.source, real)

    def get_function(self, name: str) -> Function:
        """The kernel of that name. BackendError if there is none."""
        if name not in self.signatures:
            raise BackendError(
                f"{self.path.name}: expected one of the kernels {', '.join(self.signatures)}, got {name!r}"
            )
        return Function(self, name)


@dataclass(frozen=True, eq=False)
class Function:
    """A kernel of a module; called like `cupy.RawKernel`."""

    module: Module
    name: str

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0
    ) -> None:
        """Launch on the device of the arrays. DtypeError, ShapeError for arguments that the signature does
        not take.
        """
        parameters = self.module.signatures[self.name]
        who = f"{self.module.path.name}: {self.name}"
        if len(args) != len(parameters):
            names = ", ".join(parameter.name for parameter in parameters)
            raise DtypeError(f"{who}: expected {len(parameters)} arguments ({names}), got {len(args)}")
        for parameter, argument in zip(parameters, args, strict=True):
            parameter.check(who, argument)
        first = args[0][0] if isinstance(args[0], list) else args[0]
        if any(isinstance(argument, np.ndarray) for argument in (first, *args)):
            from .. import emulator  # only when it is used

            emulator.launch(self.module, self.name, grid, block, args, shared_mem)
        else:
            with _on_device_of(args) as number:
                function = _device_function(self.module, self.name, number)
                if shared_mem > STATIC_SHARED:
                    function.max_dynamic_shared_size_bytes = shared_mem
                by_value = tuple(map(_by_value, args))
                function(grid, block, by_value, shared_mem=shared_mem)


def counts(numbers: Sequence[int]) -> np.void:
    """At most `GROUP` numbers as an argument for `Counts`."""
    return _struct(COUNTS, numbers)


def table(numbers: Sequence[int]) -> np.void:
    """At most `GROUP` numbers as an argument for `Table`."""
    return _struct(TABLE, numbers)


def pointers(addresses: Sequence[int]) -> np.void:
    """At most `GROUP` addresses, 0 for a null pointer, as the bytes of `Arrays`."""
    return _struct(_POINTERS, addresses)


def _struct(dtype: np.dtype, members: Sequence[int]) -> np.void:
    made = np.zeros(1, dtype)
    made["at"][0, : len(members)] = members
    return made[0]


def _by_value(argument: Any) -> Any:
    """An argument as CuPy takes it: a struct is an array of one."""
    if isinstance(argument, list):
        argument = pointers([0 if array is None else array.data.ptr for array in argument])
    return np.asarray(argument) if isinstance(argument, np.void) else argument


def module(family: str, real: np.dtype | None = None, tensor_cores: bool = False) -> Module:
    """The .cu file of a family, for that `real`."""
    return _module(family, real, tensor_cores)


@functools.cache
def _module(family: str, real: np.dtype | None, tensor_cores: bool) -> Module:
    return Module(_sources()[f"{family}.cu"], real, tensor_cores)


generated_modules: dict[tuple[str, np.dtype], Module] = {}
"""Those of `generated`, by name and `real`."""


def generated(name: str, real: np.dtype, source: Callable[[], str]) -> Module:
    """A .cu that a program makes, for that `real`; made once for a name."""
    if (name, real) not in generated_modules:
        generated_modules[name, real] = Module(Path(f"{name}.cu"), real, text=source())
    return generated_modules[name, real]


def modules() -> list[Module]:
    """Every .cu of the package, for each `real` or `number` that it can have, and for tensor cores; and what
    was generated so far.
    """
    found = []
    for name, path in sorted(_sources().items()):
        if not name.endswith(".cu"):
            continue
        source = "\n".join(_expand(path, set()))
        found += [module(path.stem, real) for real in _generic(source)[1] or (None,)]
        if "defined(TENSOR_CORES)" in source:
            found.append(module(path.stem, np.dtype(np.float32), True))
    return [*found, *generated_modules.values()]


def launch(family: str, kernel: str, items: int, *args: Any, real: np.dtype | None = None) -> None:
    """Launch a kernel whose threads share `items` independent items by a grid-stride loop; nothing for no
    items.
    """
    if items:
        blocks = min(-(-items // THREADS), MAX_BLOCKS)
        module(family, real).get_function(kernel)((blocks,), (min(items, THREADS),), args)


def whole_warps(items: int, lanes: int) -> int:
    """The threads for `items` items that `lanes` neighbours each share and exchange values about: a multiple
    of `WARP`.
    """
    return -(-items * lanes // WARP) * WARP


def widened(x: Any, kinds: str = "fb") -> Any:
    """x as kernels can take it: itself if its dtype is int64 or of one of these kinds, else a copy as
    int64.
    """
    if x.dtype.kind in kinds or x.dtype == np.int64:
        return x
    wide = memory.empty(x.shape, np.int64, x)
    wide[...] = x
    return wide


def team_part(outer: int, size: int, inner: int) -> int:
    """How much of a line of (outer, size, inner) a team should have: less than all if there are too few lines
    for a GPU.

    There are never so many parts that their results would be cut again.
    """
    members = THREADS if inner < _SIDE_BY_SIDE else THREADS // WARP
    least = 32 * members
    return -(-size // max(1, min(_BUSY // (outer * inner * members), size // least, least - 1)))


def launch_teams(
    family: str, kernel: str, items: int, size: int, inner: int, *args: Any, real: np.dtype | None = None
) -> None:
    """Launch a kernel whose teams of threads (`Team` of common.cuh) have a line of `size` elements each,
    `inner` apart.

    The kernel's last two parameters, `int lanes, bool one_warp`, say what the teams are. Short lines get a
    few threads, long ones a block. Lines that lie side by side get neighbouring threads. Nothing for no
    items.
    """
    if not items:
        return
    if inner < _SIDE_BY_SIDE:
        lanes = min(WARP, 1 << max(0, -(-size // 4) - 1).bit_length())
        one_warp = size <= 256 or (size <= 1024 and items >= 1024)
    else:
        lanes, one_warp = 1, size < 64 or items >= 1 << 16
    if one_warp:
        threads = min(whole_warps(items, lanes), THREADS)
        blocks = -(-items * lanes // threads)
    else:
        threads, blocks = THREADS, -(-items * lanes // WARP)
    arguments = (*args, np.int32(lanes), np.bool_(one_warp))
    module(family, real).get_function(kernel)((blocks,), (threads,), arguments)


@contextlib.contextmanager
def _on_device_of(args: Sequence[Any]) -> Iterator[int]:
    """Within the scope, the GPU of the first array among the arguments is the present one: its number."""
    import cupy  # optional package

    members = (member for arg in args for member in (arg if isinstance(arg, list) else (arg,)))
    arrays = (member for member in members if member is not None and not isinstance(member, np.generic))
    present, device = cupy.cuda.runtime.getDevice(), next((array.device for array in arrays), None)
    if device is None or device.id == present:
        yield present
    else:
        with device:
            yield device.id


@functools.cache
def _device_function(module: Module, name: str, number: int) -> Any:
    """The kernel, compiled for the GPU of that number. DeviceError if it cannot be."""
    import cupy  # optional package

    try:
        return _device_module(module, number).get_function(name)
    except Exception as error:
        gpu = device.described(cupy)
        raise DeviceError(
            f"{module.path.name}: expected to compile for the GPU, got for {gpu}: {error}"
        ) from error


@functools.cache
def _device_module(module: Module, number: int) -> Any:
    import cupy  # optional package

    return cupy.RawModule(code=module.source, options=OPTIONS)
