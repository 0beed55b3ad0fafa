"""What every distribution is and needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, GraphError

from ..engine.core import Tensor, no_grad, state
from ..ops.creation import as_tensor, zeros
from ..ops.elementwise import sqrt, to_dtype
from ..ops.random import Generator, rand
from ..ops.shape import broadcast_tensors, reshape, stack


class Distribution:
    """Base of the distributions.

    Attributes:
        batch_shape: of the parameters, broadcast: so many distributions side by side.
        event_shape: of one sample: (n,) of MultivariateNormal, () of others unless Independent joins them.
    """

    batch_shape: tuple[int, ...]
    event_shape: tuple[int, ...] = ()

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        """Samples (*sample_shape, *batch_shape, *event_shape), through which no gradient flows."""
        with no_grad():
            return self.rsample(sample_shape, generator=generator)

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        """Samples as functions of the parameters, so that gradients flow through them. Kingma & Welling, ICLR
        2014.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.rsample: expected sample(): its samples are no functions of parameters"
        )

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density, or of the probability, at values that broadcast with batch_shape."""
        raise NotImplementedError(f"{type(self).__name__}.log_prob")

    def entropy(self) -> Tensor:
        """(batch_shape), in nats."""
        raise NotImplementedError(f"{type(self).__name__}.entropy")

    def _shape(self, sample_shape: Sequence[int]) -> tuple[int, ...]:
        return (*sample_shape, *self.batch_shape, *self.event_shape)

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}.mean")

    @property
    def variance(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}.variance")

    @property
    def stddev(self) -> Tensor:
        return sqrt(self.variance)

    def _value(self, value: Any, like: Tensor) -> Tensor:
        value = value if isinstance(value, Tensor) else as_tensor(value)
        return value if value.dtype == like.dtype else to_dtype(value, like.dtype)

    def __repr__(self) -> str:
        event = f", event_shape={self.event_shape}" if self.event_shape else ""
        return f"{type(self).__name__}(batch_shape={self.batch_shape}{event})"

    def _kl(self, q: Any) -> Tensor:
        """KL(self || q) of one kind."""
        raise NotImplementedError(f"kl_divergence of {type(self).__name__}")


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), (batch shape of both), in nats.

    Raises:
        NotImplementedError: of two kinds.
        ShapeError: two Independent ones that join other numbers of dims.
    """
    if type(p)._kl is not type(q)._kl:
        kinds = f"{type(p).__name__} and {type(q).__name__}"
        raise NotImplementedError(f"kl_divergence: expected two distributions of one kind, got {kinds}")
    return p._kl(q)


def parameters_of(who: str, *given: Any) -> list[Tensor]:
    """Floating tensors of one shape; numbers are float32 where nothing else says so."""
    tensors = [x for x in given if isinstance(x, Tensor)]
    dtype = tensors[0].dtype if tensors else np.dtype(np.float32)
    made = [x if isinstance(x, Tensor) else as_tensor(x, dtype=dtype) for x in given]
    for x in made:
        if x.dtype.kind != "f":
            raise DtypeError(f"{who}: expected parameters of a floating dtype, got {x.dtype}")
    return [*broadcast_tensors(*made)]


def require(who: str, what: str, x: Tensor, test: Callable[[Any], Any]) -> None:
    """ValueError where a parameter is out of range; where nobody can look, in a recorded step, it is not
    asked.
    """
    if state.recorder is None and not bool(test(x.array).all()):
        raise ValueError(f"{who}: expected {what}, got others")


def uniform_draws(made: Distribution, sample_shape: Sequence[int], like: Tensor, generator: Any) -> Tensor:
    return rand(*made._shape(sample_shape), dtype=like.dtype, generator=generator).to(like.device)


def draws_of_each(
    draw: Callable[..., Tensor],
    made: Distribution,
    sample_shape: Sequence[int],
    parameters: Sequence[Tensor],
    generator: Any,
) -> Tensor:
    """Samples by a function of numbers, one call for each of the batch."""
    if state.recorder is not None:
        raise GraphError(f"{type(made).__name__}.sample: expected no recorded step, which reads no numbers")
    count, like = math.prod(sample_shape), parameters[0]
    numbers = zip(*(p.detach().numpy().reshape(-1).tolist() for p in parameters), strict=True)
    drawn = [draw(*of_one, count, dtype=like.dtype, generator=generator) for of_one in numbers]
    whole = stack(drawn, 1) if drawn else zeros(count, 0, dtype=like.dtype)
    return reshape(whole, made._shape(sample_shape)).to(like.device)
