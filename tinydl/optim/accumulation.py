"""Gradients of a batch that is too large for one pass, added up from its parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..ops.elementwise import div
from ..ops.reduce import sum

__all__ = ["micro_batches"]


def micro_batches(size: int, *arrays: Any, weights: Tensor | None = None) -> Iterator[tuple[Any, ...]]:
    """The batch in parts of at most `size` samples, each with its share in the mean over the batch:

        optimizer.zero_grad()
        for x, y, share in micro_batches(64, images, labels):
            (share * td.cross_entropy(model(x), y)).backward()
        optimizer.step()

    The sum of share · (mean of a part) is the mean of the batch, so the gradients that add up are those of
    the whole batch although the last part may be smaller. That holds for every loss that is a mean over
    samples and a model that treats each by itself; batch statistics (BatchNorm in training mode) are those of
    the part. May stand in a recorded step.

    Args:
        size: the most samples of a part, at least 1.
        arrays: tensors or arrays with the samples along dim 0, all as many.
        weights: (B,), where the loss of a part is Σ weight · loss / Σ weight over its samples; the parts'
            weights come before the share, which is then a tensor. Weights of classes are `weight[labels]`.

    Yields:
        The part of each array, then of the weights if given, and the share: a number, or a tensor ().

    Raises:
        ValueError: a size below 1.
        ShapeError: no arrays, or arrays and weights of different numbers of samples.
    """
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(f"micro_batches: size: expected a whole number of at least 1, got {size!r}")
    split = [*arrays] if weights is None else [*arrays, weights]
    shapes = [tuple(x.shape) for x in split]
    if not arrays or len({shape[:1] for shape in shapes}) != 1 or () in shapes:
        raise ShapeError(f"micro_batches: expected arrays of as many samples along dim 0, got {shapes}")
    if weights is not None and weights.ndim != 1:
        raise ShapeError(f"micro_batches: expected weights (B,), got {weights.shape}")
    return _parts(int(size), split, weights)


def _parts(size: int, split: list[Any], weights: Tensor | None) -> Iterator[tuple[Any, ...]]:
    samples = split[0].shape[0]
    whole = None if weights is None else sum(weights)
    for start in range(0, samples, size):
        part = [x[start : start + size] for x in split]
        share = part[0].shape[0] / samples if whole is None else div(sum(part[-1]), whole)
        yield (*part, share)
