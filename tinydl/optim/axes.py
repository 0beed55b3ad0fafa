"""Matrices along the axes of a tensor, for optimizers that have one for each axis of a parameter."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DeviceError, GraphError

from ..engine.core import Tensor
from ..engine.state import state as engine_state
from ..ops.update import assign


def gram(x: Tensor, axis: int) -> Tensor:
    """M Mᵀ of x unfolded along an axis: M has a row for each entry of that axis."""
    rows = x.transpose(0, axis).reshape(x.shape[axis], -1)
    return rows @ rows.T


def turned(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """x with `matrix` applied along an axis."""
    moved = x.transpose(0, axis)
    rows = matrix @ moved.reshape(moved.shape[0], -1)
    return rows.reshape(moved.shape).transpose(0, axis)


def double(x: Tensor) -> Tensor:
    """x in float64, in which eigenvectors are computed whatever the parameters are."""
    return x.to(dtype=np.float64)


def keep(state: Tensor, value: Any) -> None:
    """state = value, with 0 for subnormal numbers: what decays would end among them, and a processor takes a
    hundred times longer for those.
    """
    x = value.numpy() if isinstance(value, Tensor) else value
    assign(state, np.where(abs(x) < np.finfo(x.dtype).tiny, 0.0, x))


def require_host(optimizer: Any, params: list[Tensor]) -> None:
    """Refuse by name where there are no eigenvectors: in a recorded step, and on a GPU."""
    if engine_state.recorder is not None:
        raise GraphError(
            f"{optimizer}.step: expected a call outside a recorded step, got one inside: eigenvectors are "
            "computed by NumPy"
        )
    for p in params:
        if p.device != "cpu":
            raise DeviceError(f"{optimizer}: expected parameters on the CPU, got one on {p.device}")
