"""Rprop: steps by the signs of gradients, longer while a sign stays, shorter when it changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update import State
from tinydl_kernels.update.expression import maximum, minimum, sign, where

from .optimizer import Optimizer, at_least_0

__all__ = ["Rprop"]


class Rprop(Optimizer):
    """Resilient backpropagation, as torch.optim.Rprop. Riedmiller & Braun, A direct adaptive method for
    faster backpropagation learning (1993), in the form iRprop- of Igel & Hüsken (2000).

        step_size = lr at the first step
        step_size = etas[1] step_size               where g prev > 0
        step_size = etas[0] step_size;   g = 0      where g prev < 0
        step_size = the nearest number from step_sizes[0] to step_sizes[1]
        param -= sign(g) step_size
        prev = g

    For gradients of all data: signs that come from the choice of a minibatch mislead it. A change of lr acts
    on parameters that have not begun.

    Args:
        params: see `Optimizer`.
        lr: the first step size, >= 0.
        etas: (by what it shrinks, by what it grows), 0 < etas[0] < 1 < etas[1].
        step_sizes: (the smallest, the largest), both >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize}
        super().__init__(params, options)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr")
        etas, sizes = options["etas"], options["step_sizes"]
        if len(etas) != 2 or not 0 < etas[0] < 1 < etas[1]:
            raise ValueError(f"{cls.__name__}: etas: expected 0 < etas[0] < 1 < etas[1], got {etas}")
        if len(sizes) != 2 or not 0 <= sizes[0] <= sizes[1]:
            raise ValueError(
                f"{cls.__name__}: step_sizes: expected 0 <= step_sizes[0] <= step_sizes[1], got {sizes}"
            )

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"prev": State(), "step_size": State(), "step": State("parameter", whole=True)}

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        first = s.step == 0
        s.step = s.step + 1
        return {"first": first}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        shrink, grow = o.etas
        least, most = o.step_sizes
        d = -g if o.maximize else g
        same = sign(d) * sign(s.prev)
        scale = where(same > 0.0, grow, where(same < 0.0, shrink, 1.0))
        s.step_size = minimum(maximum(where(c.first, o.lr, s.step_size) * scale, least), most)
        s.prev = where(same < 0.0, 0.0, d)
        return p - sign(s.prev) * s.step_size
