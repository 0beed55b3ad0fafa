"""ASGD: gradient descent whose falling steps are averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import maximum, where

from .optimizer import Optimizer, at_least_0

__all__ = ["ASGD"]


class ASGD(Optimizer):
    """Averaged stochastic gradient descent, as torch.optim.ASGD. Polyak & Juditsky, Acceleration of
    stochastic approximation by averaging (1992); the rates are those of Xu, arXiv 1107.2490.

        g = grad + weight_decay param
        param = (1 - lambd eta) param - eta g
        ax = ax + mu (param - ax), or param while mu is 1
        eta = lr / (1 + lambd lr step)^alpha;   mu = 1 / max(1, step - t0)

    Evaluate at the average `optimizer.state[p]["ax"]`, which is not copied to the parameter. A step uses the
    eta of the step before, the first one lr: so a change of lr acts one step late.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        lambd: the decay of parameters and of eta, >= 0.
        alpha: the power by which eta falls, >= 0.
        t0: the step after which averages are taken, >= 0.
        weight_decay: coefficient of the L2 penalty, >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay}
        super().__init__(params, numbers | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "lambd", "alpha", "t0", "weight_decay")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        rates = {"eta": State("parameter"), "mu": State("parameter", initial=1.0)}
        return {"ax": State(), **rates, "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        eta, mu = where(s.step == 0, o.lr, s.eta), s.mu
        s.step = s.step + 1
        s.eta = o.lr / (1.0 + o.lambd * o.lr * s.step) ** o.alpha
        s.mu = 1.0 / maximum(1.0, s.step - o.t0)
        return {"eta": eta, "keep": 1.0 - o.lambd * eta, "mu": mu}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = (-g if o.maximize else g) + o.weight_decay * p
        p = c.keep * p - c.eta * d
        s.ax = where(c.mu == 1.0, p, s.ax + c.mu * (p - s.ax))
        return p
