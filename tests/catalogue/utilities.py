"""What nn offers beside layers and is differentiable."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.engine.core import Tensor

from .row import Row


@functools.cache
def _normalized(dtype: Any) -> nn.Module:
    with td.backend("reference"), td.random_from(td.Generator()):
        return nn.weight_norm(nn.Linear(4, 3, bias=False, dtype=dtype))


def _weight_norm(x: Tensor, g: Tensor, v: Tensor) -> Tensor:
    return nn.functional_call(_normalized(x.dtype), {"weight_g": g, "weight_v": v}, x)


ROWS: list[Row] = [
    Row(
        "nn.checkpoint",
        lambda x, w: nn.checkpoint(lambda x: td.tanh(x @ w), x),
        [[(3, 4), (4, 2)], [(0, 4), (4, 1)]],
        lambda x, w: np.tanh(x @ w),
    ),
    Row(
        "nn.parameters_to_vector",
        lambda *p: nn.parameters_to_vector(p),
        [[(3, 4), (1,), (2,)], [(0, 3), ()]],
        lambda *p: np.concatenate([x.ravel() for x in p]),
    ),
    Row(
        "nn.weight_norm",
        _weight_norm,
        [[(5, 4), (3, 1), (3, 4)]],
        lambda x, g, v: x @ (g * v / np.linalg.norm(v, axis=1, keepdims=True)).T,
    ),
]
