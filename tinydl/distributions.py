"""Normal, Bernoulli and Categorical distributions, with PyTorch's names and shapes (torch.distributions).

    policy = Categorical(logits=net(state))
    action = policy.sample()
    loss = -policy.log_prob(action) * gain

Densities, entropies and divergences are written with the operations of tinydl, so they can be differentiated
as often as one likes, and recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from .engine.core import Tensor, no_grad, state
from .ops.activations import softplus
from .ops.choices import logit
from .ops.creation import as_tensor
from .ops.elementwise import clip, log, sigmoid, to_dtype, where
from .ops.functions import erf
from .ops.indexing import gather
from .ops.loss import binary_cross_entropy_with_logits
from .ops.random import Generator, bernoulli, randn
from .ops.reduce import logsumexp, sum
from .ops.sampling import multinomial
from .ops.shape import broadcast_tensors, broadcast_to, reshape
from .ops.softmax import softmax

__all__ = ["Bernoulli", "Categorical", "Distribution", "Normal", "kl_divergence"]


class Distribution:
    """Base of the distributions.

    Attributes:
        batch_shape: of the parameters, broadcast: so many distributions side by side.
        event_shape: of one sample, () for all that are here.
    """

    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...] = ()

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        """Samples (*sample_shape, *batch_shape), through which no gradient flows."""
        raise NotImplementedError(f"{type(self).__name__}.sample")

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        """Samples as functions of the parameters, so that gradients flow through them. Kingma & Welling, ICLR
        2014.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.rsample: expected sample(), as samples are discrete"
        )

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density, or of the probability, at values that broadcast with batch_shape."""
        raise NotImplementedError(f"{type(self).__name__}.log_prob")

    def entropy(self) -> Tensor:
        """(batch_shape), in nats."""
        raise NotImplementedError(f"{type(self).__name__}.entropy")

    def _shape(self, sample_shape: Sequence[int]) -> tuple[int, ...]:
        return (*sample_shape, *self.batch_shape)

    def _value(self, value: Any, like: Tensor) -> Tensor:
        value = value if isinstance(value, Tensor) else as_tensor(value)
        return value if value.dtype == like.dtype else to_dtype(value, like.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={self.batch_shape})"


class Normal(Distribution):
    """N(loc, scale²). Raises ValueError for a scale that is not above 0."""

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = _parameters("Normal", loc, scale)
        _require("Normal", "scale above 0", self.scale, lambda s: s > 0)
        self.batch_shape = self.loc.shape

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale**2

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            return self.rsample(sample_shape, generator=generator)

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        noise = randn(*self._shape(sample_shape), dtype=self.loc.dtype, generator=generator)
        return self.loc + self.scale * noise.to(self.loc.device)

    def log_prob(self, value: Any) -> Tensor:
        z = (self._value(value, self.loc) - self.loc) / self.scale
        return -0.5 * z**2 - log(self.scale) - 0.5 * math.log(2 * math.pi)

    def cdf(self, value: Any) -> Tensor:
        """P(sample <= value)."""
        z = (self._value(value, self.loc) - self.loc) / self.scale
        return 0.5 * (1 + erf(z * math.sqrt(0.5)))

    def entropy(self) -> Tensor:
        return log(self.scale) + (0.5 + 0.5 * math.log(2 * math.pi))


class Bernoulli(Distribution):
    """1 with probability `probs`, else 0; by `probs` or by `logits` = log(probs / (1 - probs)).

    Probabilities of 0 and 1 have the finite logits of numbers next to them.

    Raises:
        ValueError: both or neither are given; probabilities outside of [0, 1].
    """

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        _one_of("Bernoulli", probs, logits)
        if logits is None:
            (self.probs,) = _parameters("Bernoulli", probs)
            _require("Bernoulli", "probs in [0, 1]", self.probs, lambda p: (p >= 0) & (p <= 1))
            self.logits = logit(self.probs, float(np.finfo(self.probs.dtype).eps))
        else:
            (self.logits,) = _parameters("Bernoulli", logits)
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


class Categorical(Distribution):
    """A class of K, by weights `probs` (..., K), which are divided by their sum, or by `logits`.

    Raises:
        ValueError: both or neither are given; weights below 0.
        ShapeError: parameters without a dimension.
    """

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        _one_of("Categorical", probs, logits)
        (given,) = _parameters("Categorical", logits if probs is None else probs)
        if given.ndim < 1:
            raise ShapeError(f"Categorical: expected parameters of at least one dimension, got {given.shape}")
        if probs is None:
            self.logits = given - logsumexp(given, -1, keepdim=True)
            self.probs = softmax(given, -1)
        else:
            _require("Categorical", "weights of at least 0", given, lambda p: p >= 0)
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


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), (batch shape of both), in nats.

    Raises:
        NotImplementedError: of two kinds.
    """
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = (p.scale / q.scale) ** 2
        return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - log(ratio))
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        ones = p.probs * (softplus(-q.logits) - softplus(-p.logits))
        zeros = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
        ones = _impossible(ones, p.probs, q.probs)
        return ones + _impossible(zeros, 1 - p.probs, 1 - q.probs)
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return sum(_impossible(p.probs * (p.logits - q.logits), p.probs, q.probs), -1)
    kinds = f"{type(p).__name__} and {type(q).__name__}"
    raise NotImplementedError(f"kl_divergence: expected two distributions of one kind, got {kinds}")


def _impossible(term: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """A term of a divergence: 0 where p is 0, inf where q alone is."""
    return where(p == 0, 0.0, where(q == 0, math.inf, term))


def _one_of(who: str, probs: Any, logits: Any) -> None:
    if (probs is None) is (logits is None):
        raise ValueError(
            f"{who}: expected either probs or logits, got {'neither' if probs is None else 'both'}"
        )


def _parameters(who: str, *given: Any) -> list[Tensor]:
    """Floating tensors of one shape; numbers are float32 where nothing else says so."""
    tensors = [x for x in given if isinstance(x, Tensor)]
    dtype = tensors[0].dtype if tensors else np.dtype(np.float32)
    made = [x if isinstance(x, Tensor) else as_tensor(x, dtype=dtype) for x in given]
    for x in made:
        if x.dtype.kind != "f":
            raise DtypeError(f"{who}: expected parameters of a floating dtype, got {x.dtype}")
    return [*broadcast_tensors(*made)]


def _require(who: str, what: str, x: Tensor, test: Callable[[Any], Any]) -> None:
    """ValueError where a parameter is out of range; where nobody can look, in a recorded step, it is not
    asked.
    """
    if state.recorder is None and not bool(test(x.array).all()):
        raise ValueError(f"{who}: expected {what}, got others")
