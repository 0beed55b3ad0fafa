"""A row with its derivatives, on a device, and what two runs of it are held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tinydl as td
from tinydl.engine.core import Tensor

from .row import Row


def to_second_order(row: Row, arrays: Sequence[np.ndarray], device: str = "cpu") -> list[np.ndarray]:
    """What `derivatives` gives on a device."""
    inputs = [x.to(device).detach().requires_grad_(x.requires_grad) for x in row.tensors(arrays)]
    with td.random_from(td.Generator()):
        return [y.detach().cpu().numpy() for y in derivatives(row, inputs)]


def derivatives(row: Row, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs, the gradients of Σ cos(k) y_k for the inputs that carry one, and the
    gradients of the same sum of these.
    """
    wanted = [x for x in inputs if x.requires_grad]
    result = row.call(*inputs)
    found: list[Tensor] = list(result) if isinstance(result, (tuple, list)) else [result]
    everything = [*found]
    for order in range(min(row.order, 2)):
        outputs = [y for y in found if y.requires_grad]
        if not outputs:
            break
        seeds = [np.cos(np.arange(y.numel())).reshape(y.shape).astype(y.dtype) for y in outputs]
        cotangents = [td.tensor(c, device=y.device) for c, y in zip(seeds, outputs, strict=True)]
        grads = td.grad(outputs, wanted, cotangents, create_graph=not order, allow_unused=True)
        found = [g for g in grads if g is not None]
        everything += found
    return everything


def assert_close(got: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    for y, value in zip(got, expected, strict=True):
        assert (y.shape, y.dtype) == (value.shape, value.dtype)
        if value.dtype.kind == "f":
            largest = np.abs(value[np.isfinite(value)]).max(initial=1.0)
            np.testing.assert_allclose(y, value, rtol=0, atol=tolerance * largest)
        else:
            np.testing.assert_array_equal(y, value)


def assert_same_bits(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [(y.shape, y.dtype, y.tobytes()) for y in got] == [
        (y.shape, y.dtype, y.tobytes()) for y in expected
    ]
