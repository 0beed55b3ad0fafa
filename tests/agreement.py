"""Agreement with PyTorch: values, first and second derivatives, in float64; `assert_agree_everywhere` also in
float32 on the kernels of the processor and in recorded steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from comparisons import count, watched
from tinydl_kernels.cpu.compiler import Parallel
from tinydl_kernels.cpu.lazy import Kernel

import tinydl as td

Array = np.ndarray
Found = dict[str, list[Any]]  # "values", "gradients" and "second", of tensors and None


@dataclass
class Held:
    """What the layers of a function hold, which its first call makes."""

    parameters: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=list)


Made = tuple[Callable[..., Any], Held]  # a function of tensors


def assert_agree(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: Sequence[Array],
    parameters: Sequence[Sequence[Any]] = ((), ()),
    order: int = 2,
    tolerance: float = 1e-10,
    fixed: Sequence[int] = (),
) -> Found:
    """`ours` of tinydl's tensors and `theirs` of PyTorch's, over the same arrays, agree up to
    derivatives of an order (0 to 2).

    Floating arrays carry gradients but for those at the places `fixed`, and so do `parameters`,
    (ours, theirs). Both may return several tensors.
    Cotangents vary from element to element; a gradient that is None is as good as zeros.
    Returned is what PyTorch gave.
    """
    torch = pytest.importorskip("torch")
    calls: set[Any] = set()

    def seen(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*inputs: Any) -> Any:
            with watched(calls):
                return function(*inputs)

        return called

    found = derivatives(seen(ours), leaves(arrays, td, fixed), parameters[0], td, order)
    expected = derivatives(seen(theirs), leaves(arrays, torch, fixed), parameters[1], torch, order)
    assert_close(found, expected, tolerance)
    count(calls)
    return expected


def assert_agree_everywhere(
    make: Callable[[Any, str], Made],
    arrays: Sequence[Array],
    order: int = 2,
    tolerance: float = 1e-10,
    tolerance32: float = 1e-4,
    records: bool = True,
) -> None:
    """The same of `make(library, dtype)`; then tinydl in float32 on the kernels of the processor, up to
    `tolerance32`, with PyTorch's dtypes; and a recorded step, which gives the bits of the eager one, or is
    refused where `records` says so. The floating arrays are numbers of float32 (`single`).
    """
    torch = pytest.importorskip("torch")
    (ours, held), (theirs, held_there) = make(td, "float64"), make(torch, "float64")
    expected = assert_agree(ours, theirs, arrays, (held.parameters, held_there.parameters), order, tolerance)
    arrays = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in arrays]
    with td.backend("cpu"), compiled() as kernels:
        ours, held = make(td, "float32")
        found = derivatives(ours, leaves(arrays, td), held.parameters, td, order)
        assert_close(found, expected, tolerance32)
        theirs, _ = make(torch, "float32")
        dtypes = [str(y.dtype).removeprefix("torch.") for y in _several(theirs(*leaves(arrays, torch)))]
        assert [str(x.dtype) for x in found["values"]] == dtypes
        if records:
            _assert_records(make, arrays, order)
        else:
            with pytest.raises(td.GraphError, match="record"):
                _assert_records(make, arrays, order)
    assert kernels or "gradients" not in found  # what gives whole numbers may be NumPy's


def single(x: Array) -> Array:
    """In numbers of float32, if it is floating: as well known in that as in its own dtype."""
    return x.astype(np.float32).astype(x.dtype) if x.dtype.kind == "f" else x


def _assert_records(make: Callable[[Any, str], Made], arrays: Sequence[Array], order: int) -> None:
    """Each step is called once before, when it makes its layers; then it is recorded, replayed call by call
    on other numbers, and replayed as jobs.
    """
    others = [np.roll(x, 1) for x in arrays]
    found: list[list[Any]] = []
    for recorded in (False, True):
        td.manual_seed(0)
        function, held = make(td, "float32")
        seeds: dict[Any, Any] = {}

        def step(*inputs: Any, function: Any = function, held: Any = held, seeds: Any = seeds) -> list[Any]:
            own = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
            results = derivatives(function, own, held.parameters, td, order, seeds)
            return [x if x is None else x.detach() for values in results.values() for x in values]

        step(*leaves(arrays, td))
        run = td.record(step) if recorded else step
        results = [run(*leaves(given, td)) for given in (arrays, others, arrays)]
        if recorded:
            assert [len(known) for known in run.recordings.values()] == [1], "recorded anew"
        found.append([*results, [x.detach() for x in held.parameters + held.buffers]])
    for eager, replayed in zip(*found, strict=True):
        assert [x is None for x in eager] == [x is None for x in replayed]
        for x, y in zip(eager, replayed, strict=True):
            if x is not None:
                assert (x.shape, x.dtype) == (y.shape, y.dtype)
                np.testing.assert_array_equal(y.numpy(), x.numpy())


@contextmanager
def compiled() -> Iterator[list[Kernel]]:
    """A scope in which kernels run as machine code, not interpreted: they are added to the list."""
    ran: list[Kernel] = []

    def noted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(kernel: Kernel, *args: Any) -> Any:
            ran.append(kernel)
            result = call(kernel, *args)
            assert kernel.dispatcher.signatures, f"{kernel} was interpreted"
            return result

        return run

    with pytest.MonkeyPatch.context() as patched:
        for kind in (Kernel, Parallel):
            patched.setattr(kind, "__call__", noted(kind.__call__))
        yield ran


def leaves(arrays: Sequence[Array], library: Any, fixed: Sequence[int] = ()) -> list[Any]:
    """Tensors of the arrays; floating ones require grad but for those at the places `fixed`."""
    moving = [x.dtype.kind == "f" and i not in fixed for i, x in enumerate(arrays)]
    return [library.tensor(x, requires_grad=wanted) for x, wanted in zip(arrays, moving, strict=True)]


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def assert_close(found: Found, expected: Found, tolerance: float) -> None:
    """Up to a tolerance, relative to an element or the largest one. None is as good as zeros."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(found[name]) == len(values), name
        for x, y in zip(found[name], values, strict=True):
            assert x is None or y is None or x.shape == tuple(y.shape), name
            x = np.zeros(()) if x is None else x.detach().numpy()
            y = np.zeros(()) if y is None else y.detach().numpy(force=True)
            largest = np.abs(y[np.isfinite(y)]).max(initial=1.0)
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * largest, err_msg=name)


def derivatives(
    function: Callable[..., Any],
    inputs: list[Any],
    parameters: Sequence[Any],
    framework: Any,
    order: int,
    seeds: dict[Any, Any] | None = None,
) -> Found:
    """The values, and the derivatives of Σ cos(k) y_k over all of them, up to an order. Cotangents are kept
    in `seeds`, for steps that may make none.
    """
    grad = td.grad if framework is td else framework.autograd.grad
    tensor = td.from_numpy if framework is td else framework.from_numpy
    seeds = {} if seeds is None else seeds

    def seed(x: Any, phase: float) -> Any:
        key = phase, tuple(x.shape), str(x.dtype).removeprefix("torch.")
        if key not in seeds:
            values = np.cos(phase + np.arange(np.prod(x.shape))).reshape(tuple(x.shape))
            seeds[key] = tensor(values.astype(key[2]))
        return seeds[key]

    def dotted(tensors: Sequence[Any], phase: float) -> Any:
        """Σ cos(phase + k) x_k over all of them."""
        moving = [x for x in tensors if x is not None and x.requires_grad]
        return sum((x * seed(x, phase)).sum() for x in moving) if moving else None

    outputs = _several(function(*inputs))
    wanted = [x for x in (*inputs, *parameters) if x.requires_grad]
    found = {"values": outputs}
    total = dotted(outputs, 0.0)
    if order and total is not None:
        found["gradients"] = list(grad(total, wanted, create_graph=order > 1, allow_unused=True))
        again = dotted(found["gradients"], 1.0) if order > 1 else None
        found["second"] = (
            [None] * len(wanted) if again is None else list(grad(again, wanted, allow_unused=True))
        )
    return found
