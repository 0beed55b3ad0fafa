"""Distributions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..engine.core import Tensor
from ..ops.choices import xlogy
from ..ops.elementwise import abs, clip, exp, log, sign, where
from ..ops.functions import digamma, erf, lgamma, log1p
from ..ops.random import Generator, rand_beta, rand_gamma, randn
from .base import Distribution, draws_of_each, parameters_of, require, uniform_draws


class Normal(Distribution):
    """N(loc, scale²). Raises ValueError for a scale that is not above 0."""

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = parameters_of("Normal", loc, scale)
        require("Normal", "scale above 0", self.scale, lambda s: s > 0)
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

    def _kl(self, q: Normal) -> Tensor:
        ratio = (self.scale / q.scale) ** 2
        return 0.5 * (ratio + ((self.loc - q.loc) / q.scale) ** 2 - 1 - log(ratio))


class Uniform(Distribution):
    """Between low and high. Raises ValueError for a low that is not below high."""

    def __init__(self, low: Any, high: Any) -> None:
        self.low, self.high = parameters_of("Uniform", low, high)
        require("Uniform", "low below high", self.high - self.low, lambda width: width > 0)
        self.batch_shape = self.low.shape

    @property
    def mean(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        return self.low + (self.high - self.low) * uniform_draws(self, sample_shape, self.low, generator)

    def log_prob(self, value: Any) -> Tensor:
        """-inf outside of [low, high)."""
        value = self._value(value, self.low)
        inside = (self.low <= value) & (value < self.high)
        return where(inside, -log(self.high - self.low), -math.inf)

    def cdf(self, value: Any) -> Tensor:
        """P(sample <= value)."""
        return clip((self._value(value, self.low) - self.low) / (self.high - self.low), 0.0, 1.0)

    def entropy(self) -> Tensor:
        return log(self.high - self.low)

    def _kl(self, q: Uniform) -> Tensor:
        outside = (self.low < q.low) | (self.high > q.high)
        return where(outside, math.inf, log(q.high - q.low) - log(self.high - self.low))


class Laplace(Distribution):
    """Of the density exp(-|x - loc| / scale) / (2 scale). ValueError for a scale that is not above 0."""

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = parameters_of("Laplace", loc, scale)
        require("Laplace", "scale above 0", self.scale, lambda s: s > 0)
        self.batch_shape = self.loc.shape

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale**2

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        u = uniform_draws(self, sample_shape, self.loc, generator) - 0.5
        return self.loc - self.scale * sign(u) * log1p(-2 * abs(u))

    def log_prob(self, value: Any) -> Tensor:
        return -log(2 * self.scale) - abs(self._value(value, self.loc) - self.loc) / self.scale

    def entropy(self) -> Tensor:
        return 1 + log(2 * self.scale)

    def _kl(self, q: Laplace) -> Tensor:
        ratio, away = self.scale / q.scale, abs(self.loc - q.loc)
        return -log(ratio) + away / q.scale + ratio * exp(-away / self.scale) - 1


class Exponential(Distribution):
    """Of the density rate · exp(-rate · x), x >= 0. Raises ValueError for a rate that is not above 0."""

    def __init__(self, rate: Any) -> None:
        (self.rate,) = parameters_of("Exponential", rate)
        require("Exponential", "rate above 0", self.rate, lambda r: r > 0)
        self.batch_shape = self.rate.shape

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate**-2

    def rsample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        return -log1p(-uniform_draws(self, sample_shape, self.rate, generator)) / self.rate

    def log_prob(self, value: Any) -> Tensor:
        """-inf below 0."""
        value = self._value(value, self.rate)
        return where(value >= 0, log(self.rate) - self.rate * value, -math.inf)

    def entropy(self) -> Tensor:
        return 1 - log(self.rate)

    def _kl(self, q: Exponential) -> Tensor:
        ratio = q.rate / self.rate
        return ratio - 1 - log(ratio)


class Gamma(Distribution):
    """Of the density proportional to x^(concentration - 1) exp(-rate · x), x > 0. Samples have no gradient.

    Raises:
        ValueError: a concentration or a rate that is not above 0.
        GraphError: a sample in a recorded step, where the parameters' numbers cannot be read.
    """

    def __init__(self, concentration: Any, rate: Any) -> None:
        self.concentration, self.rate = parameters_of("Gamma", concentration, rate)
        require("Gamma", "concentration above 0", self.concentration, lambda a: a > 0)
        require("Gamma", "rate above 0", self.rate, lambda r: r > 0)
        self.batch_shape = self.rate.shape

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate**2

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        draws = draws_of_each(rand_gamma, self, sample_shape, (self.concentration,), generator)
        return (draws / self.rate).detach()

    def log_prob(self, value: Any) -> Tensor:
        a, b, x = self.concentration, self.rate, self._value(value, self.rate)
        return xlogy(a, b) + xlogy(a - 1, x) - b * x - lgamma(a)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - log(self.rate) + lgamma(a) + (1 - a) * digamma(a)

    def _kl(self, q: Gamma) -> Tensor:
        a, b = self.concentration, q.concentration
        of_rates = b * log(self.rate / q.rate) + a * (q.rate / self.rate - 1)
        return lgamma(b) - lgamma(a) + (a - b) * digamma(a) + of_rates


class Beta(Distribution):
    """Of the density proportional to x^(concentration1 - 1) (1 - x)^(concentration0 - 1), 0 < x < 1. Samples
    have no gradient.

    Raises:
        ValueError: a concentration that is not above 0.
        GraphError: a sample in a recorded step, where the parameters' numbers cannot be read.
    """

    def __init__(self, concentration1: Any, concentration0: Any) -> None:
        self.concentration1, self.concentration0 = parameters_of("Beta", concentration1, concentration0)
        for concentration in (self.concentration1, self.concentration0):
            require("Beta", "concentrations above 0", concentration, lambda a: a > 0)
        self.batch_shape = self.concentration1.shape

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total**2 * (total + 1))

    def sample(self, sample_shape: Sequence[int] = (), *, generator: Generator | None = None) -> Tensor:
        parameters = self.concentration1, self.concentration0
        return draws_of_each(rand_beta, self, sample_shape, parameters, generator)

    def log_prob(self, value: Any) -> Tensor:
        a, b, x = self.concentration1, self.concentration0, self._value(value, self.concentration1)
        return xlogy(a - 1, x) + xlogy(b - 1, 1 - x) - _log_beta(a, b)

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        rest = (a - 1) * digamma(a) + (b - 1) * digamma(b) - (a + b - 2) * digamma(a + b)
        return _log_beta(a, b) - rest

    def _kl(self, q: Beta) -> Tensor:
        a, b, c, d = self.concentration1, self.concentration0, q.concentration1, q.concentration0
        total = digamma(a + b)
        parts = (a - c) * (digamma(a) - total) + (b - d) * (digamma(b) - total)
        return _log_beta(c, d) - _log_beta(a, b) + parts


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
