"""Prodigy: Adam that finds its rate from how far the parameters have come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import dot, leading, maximum, minimum, sqrt, total, where

from .optimizer import Optimizer, at_least_0, betas_below_1

__all__ = ["Prodigy"]


class Prodigy(Optimizer):
    """Prodigy. Mishchenko & Defazio, Prodigy: an expeditiously adaptive parameter-free learner, arXiv
    2306.06101, algorithm 4.

        delta = d lr, times √(1 - beta2^step) / (1 - beta1^step) if use_bias_correction
        numerator = beta3 numerator + d / d0 Σ delta grad · (p0 - param)        over all parameters
        exp_avg = beta1 exp_avg + (1 - beta1) d grad
        exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) d² grad²
        s = beta3 s + d / d0 delta grad          (d in the place of delta if safeguard_warmup)
        found = d_coef numerator / Σ |s|₁;   d_max = max(d_max, found)
        next d = min(d_max, growth_rate d), where d counts as max(d, found) while it is d0
        param -= delta weight_decay param
        param -= delta exp_avg / (√exp_avg_sq + next d eps)

    p0 is the parameter before its first step. The sums are float64.

    Args:
        params: see `Optimizer`. What concerns d is taken from the first group.
        lr: a factor of the rate that is found, >= 0; a schedule changes it, beginning at 1.
        betas: (beta1, beta2), each in [0, 1).
        beta3: in [0, 1); None is √beta2.
        eps: >= 0.
        weight_decay: coefficient of the decoupled decay, >= 0.
        use_bias_correction: Adam's corrections.
        safeguard_warmup: keep s as it would be at lr 1, for rates that begin small.
        d0: the first guess of the distance to the solution, > 0.
        d_coef: a factor of what is found, >= 0.
        growth_rate: by how much d grows in one step at most, >= 1.
        maximize: step up the gradient.
    """

    structural = frozenset({"d0"})

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "d0": d0, "d_coef": d_coef}
        numbers["growth_rate"] = growth_rate
        flags = {"use_bias_correction": use_bias_correction, "safeguard_warmup": safeguard_warmup}
        betas_ = {"betas": betas, "beta3": beta3}
        super().__init__(params, {**numbers, **betas_, **flags, "maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay", "d_coef")
        betas_below_1(cls, options)
        if options["beta3"] is not None and not 0 <= options["beta3"] < 1:
            raise ValueError(
                f"{cls.__name__}: beta3: expected None or a number in [0, 1), got {options['beta3']}"
            )
        if not options["d0"] > 0:
            raise ValueError(f"{cls.__name__}: d0: expected a number above 0, got {options['d0']}")
        if not options["growth_rate"] >= 1:
            raise ValueError(
                f"{cls.__name__}: growth_rate: expected at least 1, got {options['growth_rate']}"
            )

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        guesses = {name: State("optimizer", initial=options["d0"]) for name in ("d", "d_used", "d_max")}
        elements = {name: State() for name in ("exp_avg", "exp_avg_sq", "s", "p0")}
        step = State("parameter", whole=True)
        return {**elements, **guesses, "numerator": State("optimizer"), "step": step}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        first = s.step == 0
        s.step = s.step + 1
        s.d_used = s.d
        delta = s.d_used * o.lr
        if o.use_bias_correction:
            delta = delta * sqrt(1.0 - beta2**s.step) / (1.0 - beta1**s.step)
        return {
            "first": first,
            "delta": delta,
            "keep": 1.0 - delta * o.weight_decay,
            "beta3": sqrt(beta2) if o.beta3 is None else o.beta3,
            "weight": s.d_used / o.d0 * (s.d_used if o.safeguard_warmup else delta),
        }

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        g = -g if o.maximize else g
        d = s.d_used * g
        s.p0 = where(c.first, p, s.p0)
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * d
        s.exp_avg_sq = beta2 * s.exp_avg_sq + (1.0 - beta2) * d * d
        s.s = c.beta3 * s.s + c.weight * g
        cls.find(o, s, c, dot(c.delta * g, s.p0 - p, "optimizer"), total(abs(s.s), "optimizer"))
        return c.keep * p - c.delta * s.exp_avg / (sqrt(s.exp_avg_sq) + s.d * o.eps)

    @classmethod
    def find(cls, o: Any, s: Any, c: Any, inner: Any, size: Any) -> None:
        """The next d, of the sums over all parameters."""
        s.numerator = leading(c.beta3) * s.numerator + s.d_used / o.d0 * inner
        found = where(size > 0.0, leading(o.d_coef) * s.numerator / size, s.d_used)
        s.d_max = maximum(s.d_max, found)
        known = where(s.d_used == o.d0, maximum(s.d_used, found), s.d_used)
        s.d = minimum(s.d_max, known * leading(o.growth_rate))
