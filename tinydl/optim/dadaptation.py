"""D-Adaptation: SGD and Adam that find their rates from a bound on how far the solution is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import dot, leading, maximum, minimum, sqrt, total, where

from .optimizer import Optimizer, at_least_0, below_1, betas_below_1, decayed

__all__ = ["DAdaptAdam", "DAdaptSGD"]


class DAdaptation(Optimizer):
    """What both share: d, the distance that is known so far, which only grows."""

    structural = frozenset({"d0"})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "weight_decay")
        if not options["d0"] > 0:
            raise ValueError(f"{cls.__name__}: d0: expected a number above 0, got {options['d0']}")
        if not options["growth_rate"] >= 1:
            raise ValueError(
                f"{cls.__name__}: growth_rate: expected at least 1, got {options['growth_rate']}"
            )

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        guesses = {name: State("optimizer", initial=options["d0"]) for name in ("d", "d_used")}
        return {**guesses, "numerator": State("optimizer"), "step": State("parameter", whole=True)}

    @classmethod
    def grow(cls, o: Any, s: Any, numerator: Any, size: Any) -> None:
        """d is numerator / size where that is more, but no more than growth_rate times what it was."""
        found = where(size > 0.0, numerator / size, 0.0)
        s.d = maximum(s.d_used, minimum(found, s.d_used * leading(o.growth_rate)))


class DAdaptAdam(DAdaptation):
    """D-Adapted Adam. Defazio & Mishchenko, Learning-rate-free learning by D-Adaptation, arXiv 2301.07733,
    algorithm 5.

        g = grad + weight_decay param;   delta = d lr, times Adam's correction if use_bias_correction
        a = Σ delta g · s / (√exp_avg_sq + eps)                                     over all parameters
        exp_avg = beta1 exp_avg + (1 - beta1) delta g
        exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) g²
        s = √beta2 s + (1 - √beta2) delta g
        numerator = √beta2 numerator + (1 - √beta2) a
        d = max(d, min(numerator / ((1 - √beta2) Σ |s|₁), growth_rate d))
        param -= exp_avg / (√exp_avg_sq + eps)

    The sums are float64.

    Args:
        params: see `Optimizer`. What concerns d is taken from the first group.
        lr: a factor of the rate that is found, >= 0; a schedule changes it, beginning at 1.
        betas: (beta1, beta2), each in [0, 1).
        eps: > 0 for parameters whose gradients may be 0; >= 0.
        weight_decay: coefficient of the L2 penalty, >= 0.
        decouple: take delta weight_decay param off the parameter instead.
        use_bias_correction: Adam's corrections.
        d0: the first guess of the distance to the solution, > 0.
        growth_rate: by how much d grows in one step at most, >= 1.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = False,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "d0": d0, "growth_rate": growth_rate}
        flags = {"decouple": decouple, "use_bias_correction": use_bias_correction, "maximize": maximize}
        super().__init__(params, {**numbers, "betas": betas, **flags})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        at_least_0(cls, options, "eps")
        betas_below_1(cls, options)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"exp_avg": State(), "exp_avg_sq": State(), "s": State(), **super().states(options)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        s.step = s.step + 1
        s.d_used = s.d
        delta = s.d_used * o.lr
        if o.use_bias_correction:
            delta = delta * sqrt(1.0 - beta2**s.step) / (1.0 - beta1**s.step)
        return {"delta": delta, "root": sqrt(beta2)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        beta1, beta2 = o.betas
        d = (-g if o.maximize else g) if o.decouple else decayed(o, p, g, False)[1]
        step = c.delta * d
        inner = dot(step, s.s / (sqrt(s.exp_avg_sq) + o.eps), "optimizer")
        s.exp_avg = beta1 * s.exp_avg + (1.0 - beta1) * step
        s.exp_avg_sq = beta2 * s.exp_avg_sq + (1.0 - beta2) * d * d
        s.s = c.root * s.s + (1.0 - c.root) * step
        root = leading(c.root)
        s.numerator = root * s.numerator + (1.0 - root) * inner
        cls.grow(o, s, s.numerator, (1.0 - root) * total(abs(s.s), "optimizer"))
        p = (1.0 - c.delta * o.weight_decay) * p if o.decouple else p
        return p - s.exp_avg / (sqrt(s.exp_avg_sq) + o.eps)


class DAdaptSGD(DAdaptation):
    """D-Adapted SGD. Defazio & Mishchenko, arXiv 2301.07733, algorithm 4.

        g = grad + weight_decay param;   delta = d lr / |grad of the first step|
        numerator += Σ delta g · s;   s += delta g                                  over all parameters
        d = max(d, min(2 numerator / |s|, growth_rate d))
        param = momentum param + (1 - momentum) (p0 - s)

    |x| is the 2-norm over all parameters, p0 a parameter before its first step. The sums are float64; that of
    the new s comes of products of the old one, so that one pass finds them all.

    Args:
        params: see `Optimizer`. What concerns d is taken from the first group.
        lr: a factor of the rate that is found, >= 0; a schedule changes it, beginning at 1.
        momentum: in [0, 1).
        weight_decay: coefficient of the L2 penalty, >= 0.
        d0: the first guess of the distance to the solution, > 0.
        growth_rate: by how much d grows in one step at most, >= 1.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "d0": d0}
        super().__init__(params, {**options, "growth_rate": growth_rate, "maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        below_1(cls, options, "momentum")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"s": State(), "p0": State(), "grad_norm": State("optimizer"), **super().states(options)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        first = s.step == 0
        s.step = s.step + 1
        s.d_used = s.d
        return {"first": first}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        s.p0 = where(c.first, p, s.p0)
        step = o.lr * decayed(o, p, g, False)[1]
        norm = sqrt(dot(g, g, "optimizer"))
        inner, before, own = (dot(x, y, "optimizer") for x, y in ((step, s.s), (s.s, s.s), (step, step)))
        s.grad_norm = where(s.grad_norm > 0.0, s.grad_norm, norm)
        share = where(s.grad_norm > 0.0, s.d_used / s.grad_norm, 0.0)
        s.numerator = s.numerator + share * inner
        cls.grow(o, s, 2.0 * s.numerator, sqrt(before + share * (2.0 * inner + share * own)))
        s.s = s.s + share * step
        return o.momentum * p + (1.0 - o.momentum) * (s.p0 - s.s)
