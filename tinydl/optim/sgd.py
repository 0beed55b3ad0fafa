"""Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import where

from .optimizer import Optimizer, at_least_0

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, as torch.optim.SGD.

        d = grad + weight_decay param
        buffer = d at the first step of a parameter, then momentum buffer + (1 - dampening) d      if momentum
        param -= lr (d + momentum buffer if nesterov, else buffer)

    Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        momentum, dampening: see the formula; momentum >= 0.
        weight_decay: coefficient of the L2 penalty, >= 0; `decay_groups` asks for it where it belongs.
        nesterov: Nesterov's momentum; needs momentum and no dampening.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, options | {"nesterov": nesterov, "maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "momentum", "weight_decay")
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError(
                f"{cls.__name__}: nesterov: expected a momentum and no dampening, "
                f"got momentum={options['momentum']}, dampening={options['dampening']}"
            )

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return (
            {"momentum_buffer": State(), "step": State("parameter", whole=True)}
            if options["momentum"]
            else {}
        )

    @classmethod
    def completed(cls, saved: dict[str, Any]) -> dict[str, Any]:
        # PyTorch counts no steps: a buffer that is there means that the first one is over
        return {"step": 1, **saved} if "momentum_buffer" in saved else saved

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        if "momentum_buffer" not in s:
            return {}
        first = s.step == 0
        s.step = s.step + 1
        return {"keep": where(first, 0.0, o.momentum), "fresh": where(first, 1.0, 1.0 - o.dampening)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        d = (-g if o.maximize else g) + o.weight_decay * p
        return p - o.lr * cls.along(o, s, c, d)

    @classmethod
    def along(cls, o: Any, s: Any, c: Any, d: Any) -> Any:
        """The direction of the step: d after momentum."""
        if "momentum_buffer" not in s:
            return d
        s.momentum_buffer = c.keep * s.momentum_buffer + c.fresh * d
        return d + o.momentum * s.momentum_buffer if o.nesterov else s.momentum_buffer
