"""RMSprop: steps scaled by a running mean of the squared gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import maximum, sqrt

from .optimizer import Optimizer, at_least_0, below_1

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop, as torch.optim.RMSprop. Tieleman & Hinton, Neural networks for machine learning, lecture 6.5
    (2012).

        g = grad + weight_decay param
        square_avg = alpha square_avg + (1 - alpha) g²
        grad_avg = alpha grad_avg + (1 - alpha) g;   w = max(square_avg - grad_avg², 0)        if centered
        w = square_avg                                                                         else
        u = g / (√w + eps)
        param -= lr momentum_buffer with momentum_buffer = momentum momentum_buffer + u if momentum, else lr u

    The centered form is Graves' (Generating sequences with recurrent neural networks, arXiv 1308.0850). Its
    variance w rounds to less than 0 while a gradient stays the same; it is 0 here, where PyTorch's parameters
    become NaN.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        alpha: how much of the mean stays, in [0, 1).
        eps: >= 0.
        weight_decay: coefficient of the L2 penalty, >= 0.
        momentum: >= 0.
        centered: divide by the deviation of the gradient from its mean, rather than by its size.
        eps_inside: u = g / √(w + eps), as in the lecture.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        eps_inside: bool = False,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        flags = {"centered": centered, "eps_inside": eps_inside, "maximize": maximize}
        super().__init__(params, numbers | flags)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay", "momentum")
        below_1(cls, options, "alpha")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        wanted = {"square_avg": True, "grad_avg": options["centered"], "momentum_buffer": options["momentum"]}
        return {"step": State("parameter", whole=True)} | {
            name: State() for name, is_ in wanted.items() if is_
        }

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        s.step = s.step + 1
        return {}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = (-g if o.maximize else g) + o.weight_decay * p
        s.square_avg = o.alpha * s.square_avg + (1.0 - o.alpha) * d * d
        w = s.square_avg
        if "grad_avg" in s:
            s.grad_avg = o.alpha * s.grad_avg + (1.0 - o.alpha) * d
            w = maximum(w - s.grad_avg * s.grad_avg, 0.0)
        u = d / (sqrt(w + o.eps) if o.eps_inside else sqrt(w) + o.eps)
        if "momentum_buffer" in s:
            s.momentum_buffer = o.momentum * s.momentum_buffer + u
            u = s.momentum_buffer
        return p - o.lr * u
