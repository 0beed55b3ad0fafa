"""Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..engine.core import Tensor
from ..nn.parameter import Buffer
from ..ops import update
from .optimizer import Group, Optimizer


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
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, options)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            if not options[name] >= 0:
                raise ValueError(f"{cls.__name__}: {name}: expected at least 0, got {options[name]}")
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError(
                f"{cls.__name__}: nesterov: expected a momentum and no dampening, "
                f"got momentum={options['momentum']}, dampening={options['dampening']}"
            )

    @staticmethod
    def moments(options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if options["momentum"] else ()

    def update(self, group: Group, params: list[Tensor], grads: list[Tensor], *state: list[Buffer]) -> None:
        options = {name: group[name] for name in ("momentum", "dampening", "nesterov", "weight_decay")}
        update.sgd(group["lr"], params, grads, *state, **options)
