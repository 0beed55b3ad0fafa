"""Distributions of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .. import linalg
from ..engine.core import Tensor
from ..ops.creation import as_tensor
from ..ops.elementwise import log
from ..ops.random import Generator, randn
from ..ops.reduce import sum
from ..ops.shape import broadcast_to, diagonal
from .base import Distribution, kl_divergence


class MultivariateNormal(Distribution):
    """N(loc, covariance_matrix) of vectors (n,), by its covariance (..., n, n) or by `scale_tril`, the lower
    triangular L with L Lᵀ = covariance and a diagonal above 0.

    Raises:
        ValueError: both or neither are given.
        ShapeError: shapes that do not fit.
        LinAlgError: a covariance that is not positive-definite.
    """

    def __init__(self, loc: Any, covariance_matrix: Any = None, scale_tril: Any = None) -> None:
        if (covariance_matrix is None) is (scale_tril is None):
            got = "neither" if scale_tril is None else "both"
            raise ValueError(f"MultivariateNormal: expected covariance_matrix or scale_tril, got {got}")
        given = covariance_matrix if scale_tril is None else scale_tril
        loc, given = (x if isinstance(x, Tensor) else as_tensor(x) for x in (loc, given))
        if not loc.ndim or given.shape[-2:] != loc.shape[-1:] * 2:
            raise ShapeError(
                f"MultivariateNormal: expected loc (..., n) and a matrix (..., n, n), got {loc.shape} and "
                f"{given.shape}"
            )
        self.event_shape = loc.shape[-1:]
        self.batch_shape = np.broadcast_shapes(loc.shape[:-1], given.shape[:-2])
        self.loc = broadcast_to(loc, (*self.batch_shape, *self.event_shape))
        factor = linalg.cholesky(given) if scale_tril is None else given
        self.scale_tril = broadcast_to(factor, (*self.batch_shape, *self.event_shape * 2))

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def covariance_matrix(self) -> Tensor:
        return self.scale_tril @ self.scale_tril.mT

    @property
    def variance(self) -> Tensor:
        return sum(self.scale_tril**2, -1)

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        noise = randn(*self._shape(sample_shape), dtype=self.loc.dtype, generator=generator)
        return self.loc + (self.scale_tril @ noise.to(self.loc.device)[..., None])[..., 0]

    def log_prob(self, value: Any) -> Tensor:
        away = self._value(value, self.loc) - self.loc
        z = linalg.solve(self.scale_tril, away[..., None])[..., 0]
        return -0.5 * sum(z**2, -1) - self._log_volume() - 0.5 * self.event_shape[0] * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        return self._log_volume() + 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi))

    def _log_volume(self) -> Tensor:
        """½ log det of the covariance."""
        return sum(log(diagonal(self.scale_tril, 0, -2, -1)), -1)

    def _kl(self, q: MultivariateNormal) -> Tensor:
        shape = np.broadcast_shapes(self.scale_tril.shape, q.scale_tril.shape)
        factor = broadcast_to(q.scale_tril, shape)
        turned = linalg.solve(factor, broadcast_to(self.scale_tril, shape))
        away = linalg.solve(factor, (q.loc - self.loc)[..., None])
        squares = sum(turned**2, (-2, -1)) + sum(away**2, (-2, -1))
        return q._log_volume() - self._log_volume() + 0.5 * (squares - self.event_shape[0])


class Independent(Distribution):
    """The last dims of a distribution's batch as those of one sample: log_prob and entropy are their sums."""

    def __init__(self, base_distribution: Distribution, reinterpreted_batch_ndims: int) -> None:
        n, batch = reinterpreted_batch_ndims, base_distribution.batch_shape
        if not 0 <= n <= len(batch):
            raise ShapeError(f"Independent: expected 0 to {len(batch)} dims of the batch {batch}, got {n}")
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, n
        self.batch_shape = batch[: len(batch) - n]
        self.event_shape = (*batch[len(batch) - n :], *base_distribution.event_shape)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        return self.base_dist.sample(sample_shape, generator=generator)

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        return self.base_dist.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        return self._joined(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        return self._joined(self.base_dist.entropy())

    def _joined(self, x: Tensor) -> Tensor:
        return (
            sum(x, tuple(range(-self.reinterpreted_batch_ndims, 0))) if self.reinterpreted_batch_ndims else x
        )

    def _kl(self, q: Independent) -> Tensor:
        n, other = self.reinterpreted_batch_ndims, q.reinterpreted_batch_ndims
        if n != other:
            raise ShapeError(f"kl_divergence: expected as many joined dims, got {n} and {other}")
        return self._joined(kl_divergence(self.base_dist, q.base_dist))
