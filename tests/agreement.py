"""Agreement with PyTorch in float64: values, first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from comparisons import count, watched

import tinydl as td

Array = np.ndarray


def assert_agree(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: Sequence[Array],
    parameters: Sequence[Sequence[Any]] = ((), ()),
    order: int = 2,
    tolerance: float = 1e-10,
    fixed: Sequence[int] = (),
) -> None:
    """`ours` of tinydl's tensors and `theirs` of PyTorch's, over the same arrays, agree up to
    derivatives of an order (0 to 2).

    Floating arrays carry gradients but for those at the places `fixed`, and so do `parameters`,
    (ours, theirs). Both may return several tensors.
    Cotangents vary from element to element; a gradient that is None is as good as zeros.
    """
    torch = pytest.importorskip("torch")
    calls: set[Any] = set()

    def seen(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*inputs: Any) -> Any:
            with watched(calls):
                return function(*inputs)

        return called

    moving = [x.dtype.kind == "f" and i not in fixed for i, x in enumerate(arrays)]
    own = [td.tensor(x, requires_grad=wanted) for x, wanted in zip(arrays, moving, strict=True)]
    found = _derivatives(seen(ours), own, parameters[0], td, order)
    twins = [torch.tensor(x, requires_grad=wanted) for x, wanted in zip(arrays, moving, strict=True)]
    expected = _derivatives(seen(theirs), twins, parameters[1], torch, order)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(found[name]) == len(values), name
        for x, y in zip(found[name], values, strict=True):
            assert x is None or y is None or x.shape == tuple(y.shape), name
            x = np.zeros(()) if x is None else x.detach().numpy()
            y = np.zeros(()) if y is None else y.detach().numpy(force=True)
            largest = np.abs(y[np.isfinite(y)]).max(initial=1.0)
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * largest, err_msg=name)
    count(calls)


def _derivatives(
    function: Callable[..., Any], inputs: list[Any], parameters: Sequence[Any], framework: Any, order: int
) -> dict[str, list[Any]]:
    grad = td.grad if framework is td else framework.autograd.grad
    tensor = td.from_numpy if framework is td else framework.from_numpy

    def dotted(tensors: Sequence[Any], phase: float) -> Any:
        """Σ cos(phase + k) x_k over all of them."""
        moving = [x for x in tensors if x is not None and x.requires_grad]
        seeds = [tensor(np.cos(phase + np.arange(np.prod(x.shape))).reshape(tuple(x.shape))) for x in moving]
        return sum((x * c).sum() for x, c in zip(moving, seeds, strict=True)) if moving else None

    outputs = function(*inputs)
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
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
