"""One operation on arrays, one implementation per backend.

    @operation                      # the body is the readable NumPy reference
    def forward(x, w, b, window): ...

    @forward.loops                  # Numba: nothing but loops. @forward.cpu if it does more to arrays
    def _(x, w, b, window): ...

    @forward.cuda                   # launches of the .cu file beside it
    def _(x, w, b, window): ...

The array's kind gives the backend (NumPy: "cpu", CuPy: "cuda"); `with use("reference")` overrides it for a
scope. "cuda-emulated" runs the CUDA implementation on NumPy arrays: its launches go to the emulator
(cuda/launching.py).

An operation marked `portable` has a body that is right for NumPy and CuPy alike (methods, slicing,
`array_module(x).f`): there CuPy does the work itself, and under "cuda-emulated" NumPy stands in for it
(`numpy_stand_ins` lists those).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..cpu import calls, internals, jobs
from ..cpu.lazy import jit_disabled
from . import device, memory
from .errors import BackendError
from .scoped import Scoped

DEVICE = {"reference": "cpu", "cpu": "cpu", "cuda": "cuda", "cuda-emulated": "cpu"}
"""Backend name -> the device its arrays live on."""


class _Here(Scoped):
    override: str | None = None


here = _Here()
operations: dict[str, Operation] = {}
"""Every operation of the package by "family.name"."""


def device_of(array: Any) -> str:
    """ "cpu" for a NumPy array, "cuda" for a CuPy array."""
    return "cpu" if isinstance(array, (np.ndarray, np.generic)) else "cuda"


def backend_for(array: Any) -> str:
    """The backend that runs an operation on `array` here and now."""
    override = here.override
    if override is None:
        return "cpu" if type(array) is np.ndarray else device_of(array)
    if DEVICE[override] != device_of(array):
        return device_of(array)
    return override


def override() -> str | None:
    """The backend that a surrounding `use` names, if any."""
    return here.override


def use(backend: str | None) -> AbstractContextManager[None]:
    """Run operations of this thread on `backend` (arrays of another device keep their
    own); None lifts an outer one.
    """
    if backend is not None and backend not in DEVICE:
        raise BackendError(f"backend: expected one of {', '.join(map(repr, DEVICE))}, got {backend!r}")
    return here.replaced(override=backend)


class Operation:
    """A function of arrays with an implementation per backend; call it like the function."""

    def __init__(self, reference: Callable[..., Any], portable: bool) -> None:
        functools.update_wrapper(self, reference)
        self.family = reference.__module__.rpartition(".")[2]
        self.name = f"{self.family}.{reference.__name__}"
        self.portable = portable
        # the implementation on the CPU with its calls kept (calls.py), if it does nothing but run loops
        self.kept: calls.Calls | None = None
        self.settled = True  # is it known whether the Numba implementation can be had?
        settled = _settled(reference)
        self.implementations: dict[str, Callable[..., Any]] = {"reference": settled, "cpu": settled}
        if portable:
            self.implementations |= {"cuda": settled, "cuda-emulated": settled}
        operations[self.name] = self

    def cpu(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the Numba implementation."""
        self.implementations["cpu"], self.settled, self.kept = function, False, None
        return function

    def loops(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the Numba implementation, which does nothing to arrays but run loops (`@parallel`).

        What it hands to them depends on shapes, dtypes and settings alone: a recorded step may keep the loops
        (jobs.py), and so may any other call (calls.py).
        """
        self.cpu(function)
        self.kept = calls.Calls(function)
        return function

    def cuda(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the CUDA implementation, for the device and for the emulator."""
        self.implementations["cuda"] = self.implementations["cuda-emulated"] = function
        return function

    def __call__(self, *args: Any) -> Any:
        if type(args[0]) is np.ndarray and self.settled and here.override is None and not jobs.capturing:
            return (self.kept or self.implementations["cpu"])(*args)
        backend = backend_for(_first_array(args))
        implementation = self.implementations.get(backend)
        if implementation is None:
            raise BackendError(
                f"{self.name}: no implementation on backend {backend!r}, only on "
                f"{sorted(self.implementations)}"
            )
        if backend != "cuda":
            if backend == "cpu" and not self.settled:
                implementation = self._settle()
            if jobs.capturing:
                if self.kept and backend == "cpu":
                    return jobs.looping(implementation, *args)
                jobs.spoil()
            elif backend == "cpu":
                return (self.kept or implementation)(*args)
            return implementation(*args)
        try:
            return implementation(*args)
        except MemoryError as error:  # an array that CuPy wanted for itself
            raise device.exhausted(error) from error

    def _settle(self) -> Callable[..., Any]:
        """The implementation on the CPU: the reference if Numba does not work."""
        self.settled = True
        if not jit_disabled() and not internals.works("compiler"):
            self.kept = None
            self.implementations["cpu"] = self.implementations["reference"]
        return self.implementations["cpu"]

    def __repr__(self) -> str:
        return f"<operation {self.name} on {', '.join(self.implementations)}>"


def _first_array(args: tuple[Any, ...]) -> Any:
    """The first argument that is an array; None stands for an absent one, and a list holds several."""
    return next(
        a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,)) if hasattr(a, "dtype")
    )


def operation(reference: Callable[..., Any] | None = None, *, portable: bool = False) -> Any:
    """Make the decorated NumPy function the reference of an `Operation`."""
    if reference is None:
        return functools.partial(operation, portable=portable)
    return Operation(reference, portable)


def numpy_stand_ins() -> list[str]:
    """Operations that CuPy does itself, so that under "cuda-emulated" NumPy stands in.

    Their body is the reference, or what the CPU runs: copies into an array of the allocator.
    """
    bodies = {name: op.implementations for name, op in operations.items()}
    return sorted(
        name for name, body in bodies.items() if body.get("cuda") in (body["reference"], body["cpu"])
    )


def _settled(reference: Callable[..., Any]) -> Callable[..., Any]:
    """A reference returns whatever NumPy gives; this lays its results out as kernels do: in the allocator's
    arrays.
    """

    @functools.wraps(reference)
    def run(*args: Any) -> Any:
        result = reference(*args)
        return tuple(map(_settle, result)) if isinstance(result, tuple) else _settle(result)

    return run


def _settle(result: Any) -> Any:
    if result is None:
        return None
    if isinstance(result, np.generic) or not hasattr(result, "flags"):
        result = np.asarray(result)
    if (
        not memory.planned()
        and getattr(result, "base", None) is None
        and result.flags.c_contiguous
        and result.flags.owndata
    ):
        return result
    out = memory.empty(result.shape, result.dtype, result)
    out[...] = result
    return out
