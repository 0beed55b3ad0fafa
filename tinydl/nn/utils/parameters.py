"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ...engine.core import Tensor, no_grad
from ...engine.promotion import require_one_dtype
from ...engine.public import public
from ...ops.shape import cat, reshape
from ...ops.update import assign

__all__ = ["parameters_to_vector", "vector_to_parameters"]


@public
def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of the parameters one after another, on the tape."""
    taken = list(parameters)
    if not taken:
        raise ShapeError("parameters_to_vector: expected at least one parameter, got none")
    require_one_dtype("parameters_to_vector", *(p.dtype for p in taken))
    return cat([reshape(p, -1) for p in taken])


@public
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the elements of `vec` into the parameters, in their order. Nothing is
    written unless the counts agree.
    """
    targets = list(parameters)
    ends = np.cumsum([0, *(p.array.size for p in targets)])
    if vec.shape != (ends[-1],):
        raise ShapeError(f"vector_to_parameters: expected a vector of {ends[-1]} elements, got {vec.shape}")
    with no_grad():
        for p, start, end in zip(targets, ends, ends[1:], strict=False):
            assign(p, reshape(vec[int(start) : int(end)], p.shape))
