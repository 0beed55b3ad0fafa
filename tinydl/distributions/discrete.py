"""Distributions of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, no_grad
from ..ops.activations import softplus
from ..ops.choices import logit
from ..ops.creation import as_tensor
from ..ops.elementwise import clip, log, sigmoid, to_dtype, where
from ..ops.indexing import gather
from ..ops.loss import binary_cross_entropy_with_logits
from ..ops.random import Generator, bernoulli
from ..ops.reduce import logsumexp, sum
from ..ops.sampling import multinomial
from ..ops.shape import broadcast_tensors, broadcast_to, reshape
from ..ops.softmax import softmax
from .base import Distribution, parameters_of, require


class Bernoulli(Distribution):
    """1 with probability `probs`, else 0; by `probs` or by `logits` = log(probs / (1 - probs)).

    Probabilities of 0 and 1 have the finite logits of numbers next to them.

    Raises:
        ValueError: both or neither are given; probabilities outside of [0, 1].
    """

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        _one_of("Bernoulli", probs, logits)
        if logits is None:
            (self.probs,) = parameters_of("Bernoulli", probs)
            require("Bernoulli", "probs in [0, 1]", self.probs, lambda p: (p >= 0) & (p <= 1))
            self.logits = logit(self.probs, float(np.finfo(self.probs.dtype).eps))
        else:
            (self.logits,) = parameters_of("Bernoulli", logits)
            self.probs = sigmoid(self.logits)
        self.batch_shape = self.logits.shape

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            return bernoulli(broadcast_to(self.probs, self._shape(sample_shape)), generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        value, logits = broadcast_tensors(self._value(value, self.logits), self.logits)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def _kl(self, q: Bernoulli) -> Tensor:
        ones = self.probs * (softplus(-q.logits) - softplus(-self.logits))
        zeros = (1 - self.probs) * (softplus(q.logits) - softplus(self.logits))
        return _impossible(ones, self.probs, q.probs) + _impossible(zeros, 1 - self.probs, 1 - q.probs)


class Categorical(Distribution):
    """A class of K, by weights `probs` (..., K), which are divided by their sum, or by `logits`.

    Raises:
        ValueError: both or neither are given; weights below 0.
        ShapeError: parameters without a dimension.
    """

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        _one_of("Categorical", probs, logits)
        (given,) = parameters_of("Categorical", logits if probs is None else probs)
        if given.ndim < 1:
            raise ShapeError(f"Categorical: expected parameters of at least one dimension, got {given.shape}")
        if probs is None:
            self.logits = given - logsumexp(given, -1, keepdim=True)
            self.probs = softmax(given, -1)
        else:
            require("Categorical", "weights of at least 0", given, lambda p: p >= 0)
            self.probs = given / sum(given, -1, keepdim=True)
            eps = float(np.finfo(given.dtype).eps)
            self.logits = log(clip(self.probs, eps, 1 - eps))
        self.batch_shape = given.shape[:-1]

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        """Classes, int64, (*sample_shape, *batch_shape)."""
        rows = reshape(self.probs.detach(), (-1, self.probs.shape[-1]))
        drawn = multinomial(rows, math.prod(sample_shape), replacement=True, generator=generator)
        return reshape(drawn.T, self._shape(sample_shape))

    def log_prob(self, value: Any) -> Tensor:
        value = value if isinstance(value, Tensor) else as_tensor(value)
        shape = np.broadcast_shapes(value.shape, self.batch_shape)
        index = to_dtype(broadcast_to(value, shape), np.int64)
        logits = broadcast_to(self.logits, (*shape, self.logits.shape[-1]))
        return gather(logits, -1, index[..., None])[..., 0]

    def entropy(self) -> Tensor:
        finite = clip(self.logits, float(np.finfo(self.logits.dtype).min))  # 0 log 0 is 0
        return -sum(finite * self.probs, -1)

    def _kl(self, q: Categorical) -> Tensor:
        return sum(_impossible(self.probs * (self.logits - q.logits), self.probs, q.probs), -1)


def _impossible(term: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """A term of a divergence: 0 where p is 0, inf where q alone is."""
    return where(p == 0, 0.0, where(q == 0, math.inf, term))


def _one_of(who: str, probs: Any, logits: Any) -> None:
    if (probs is None) is (logits is None):
        raise ValueError(
            f"{who}: expected either probs or logits, got {'neither' if probs is None else 'both'}"
        )
