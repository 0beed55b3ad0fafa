"""Schedule-free SGD and AdamW: averages of the iterates in the place of a falling rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import maximum, minimum, sqrt, where

from ..engine.core import no_grad
from ..ops.elementwise import where as choose
from ..ops.update import assign
from .optimizer import Optimizer, at_least_0, betas_below_1

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeSGD"]


class ScheduleFree(Optimizer):
    """What both share: three points, of which the parameter is y while it is trained, and x once `eval()` was
    called. Defazio et al., The road less scheduled, arXiv 2405.15682.

        rate = lr min(1, k / warmup_steps) in the k-th step of the group
        w = k^r (the largest rate so far)^weight_lr_power;   c = w / (the sum of all w)
        z -= rate (u + weight_decay y)           u: the base optimizer's direction
        x = (1 - c) x + c z
        y = beta x + (1 - beta) z
    """

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "weight_decay", "warmup_steps", "r", "weight_lr_power")
        beta = cls.beta(options)
        if not 0 < beta < 1:
            name = "betas[0]" if "betas" in options else "momentum"
            raise ValueError(f"{cls.__name__}: {name}: expected a number in (0, 1), got {beta}")

    @classmethod
    def beta(cls, options: Mapping[str, Any]) -> Any:
        """How far y lies from z to x."""
        return options["betas"][0] if "betas" in options else options["momentum"]

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        group = {"k": State("group", whole=True), "lr_max": State("group"), "weight_sum": State("group")}
        return {"z": State(), **group, "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        first = s.step == 0
        s.step = s.step + 1
        s.k = s.k + 1
        rate = o.lr * minimum(1.0, s.k / maximum(o.warmup_steps, 1.0))
        s.lr_max = maximum(s.lr_max, rate)
        weight = s.k**o.r * s.lr_max**o.weight_lr_power
        s.weight_sum = s.weight_sum + weight
        c = where(s.weight_sum > 0.0, weight / s.weight_sum, 0.0)
        beta = o.betas[0] if "exp_avg_sq" in s else o.momentum
        return {"first": first, "rate": rate, "c": c, "y_rate": rate * (1.0 - beta * (1.0 - c))}

    def prepare(self, groups: Sequence[Any]) -> None:
        for group, _, _ in groups:
            if not group.data["training"]:
                raise RuntimeError(f"{self}: expected train() before a step, got a step after eval()")

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = -g if o.maximize else g
        if "exp_avg_sq" in s:
            s.exp_avg_sq = o.betas[1] * s.exp_avg_sq + (1.0 - o.betas[1]) * d * d
            d = d / (sqrt(s.exp_avg_sq) * c.spread + o.eps)
        d = d + o.weight_decay * p
        z = where(c.first, p, s.z)
        s.z = z - c.rate * d
        return p + c.c * (z - p) - c.y_rate * d  # y without x, which a division by beta would give

    def train(self) -> None:
        """Let the parameters be y, for training."""
        self._move(True)

    def eval(self) -> None:
        """Let the parameters be x: for evaluation, for a model that is saved, for BatchNorm's statistics."""
        self._move(False)

    @no_grad()
    def _move(self, training: bool) -> None:
        for group in self.param_groups:
            if group["training"] == training:
                continue
            group["training"] = training
            params = group["params"]
            beta = self.beta(group)
            share = 1.0 - beta if training else 1.0 - 1.0 / beta  # of the way to z
            states = (self.states_of(group, name, params) for name in ("z", "step"))
            for p, z, step in zip(params, *states, strict=True):
                assign(p, choose(step > 0, p + (z - p) * share, p))


class ScheduleFreeSGD(ScheduleFree):
    """Schedule-free SGD: `ScheduleFree`'s steps with u = grad.

    Call `optimizer.eval()` before an evaluation and `optimizer.train()` after it.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        momentum: beta, in (0, 1).
        weight_decay: >= 0, taken at y.
        warmup_steps: in how many steps the rate rises to lr, >= 0.
        r, weight_lr_power: >= 0: how much later steps, and those at a higher rate, weigh in x.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "warmup_steps": warmup_steps}
        numbers |= {"r": r, "weight_lr_power": weight_lr_power}
        super().__init__(params, {**numbers, "maximize": maximize, "training": True})


class ScheduleFreeAdamW(ScheduleFree):
    """Schedule-free AdamW: `ScheduleFree`'s steps with

        exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) grad²
        u = grad / (√(exp_avg_sq / (1 - beta2^step)) + eps)

    Call `optimizer.eval()` before an evaluation and `optimizer.train()` after it.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta, beta2): in (0, 1) and in [0, 1).
        eps: >= 0.
        weight_decay, warmup_steps, r, weight_lr_power, maximize: as of ScheduleFreeSGD.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "warmup_steps": warmup_steps}
        numbers |= {"r": r, "weight_lr_power": weight_lr_power}
        super().__init__(params, {**numbers, "betas": betas, "maximize": maximize, "training": True})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "eps")
        betas_below_1(cls, options)
        super().check(options)

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"exp_avg_sq": State(), **super().states(options)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        common = super().scalars(o, s)
        return common | {"spread": 1.0 / sqrt(1.0 - o.betas[1] ** s.step)}
