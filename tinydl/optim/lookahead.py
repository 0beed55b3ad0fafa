"""Lookahead: slow weights that follow the fast ones of another optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..devices import constant, follow, on_host
from ..engine.core import Tensor, no_grad
from ..nn.parameter import Buffer
from ..ops.elementwise import add, ge, mul, sub, where
from ..ops.update import assign, increment
from .optimizer import Optimizer
from .wrapper import Wrapper

__all__ = ["Lookahead"]


class Lookahead(Wrapper):
    """Every k steps of another optimizer, slow weights go a part of the way to its parameters, which start
    anew from there.

        base.step()
        slow += alpha (param - slow); param = slow       after each k-th step

    The slow weights begin as the parameters of construction. Moments of the optimizer stay as they are.
    Zhang et al. 2019 (arXiv 1907.08610), algorithm 1.

    Args:
        base: the optimizer of the fast weights.
        k: steps from one synchronization to the next, at least 1.
        alpha: the part of the way, in [0, 1]. Both may be changed; recorded steps are recorded anew.

    Raises:
        TypeError: a base of the wrong type.
        ValueError: k or alpha out of range.
    """

    settings = ("k", "alpha")

    def __init__(self, base: Optimizer | Wrapper, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(base)
        self.k, self.alpha = k, alpha
        self.count = Buffer(0)  # steps since the last synchronization
        self._slow: dict[Tensor, Buffer] = {}
        self._begin()

    @property
    def k(self) -> int:
        """Steps from one synchronization to the next."""
        return self._k

    @k.setter
    def k(self, k: int) -> None:
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"{self}: k: expected a whole number of at least 1, got {k!r}")
        self._k = int(k)

    @property
    def alpha(self) -> float:
        """The part of the way."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"{self}: alpha: expected a number in [0, 1], got {alpha}")
        self._alpha = float(alpha)

    def add_param_group(self, options: Mapping[str, Any]) -> None:
        """As of the optimizer inside; the slow weights of the group begin as its parameters are."""
        super().add_param_group(options)
        self._begin()

    def slow(self, p: Tensor) -> Tensor:
        """The slow weights of a parameter; shares memory."""
        return self._slow[p].detach()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the optimizer inside, and a synchronization where it is due."""
        self._note()
        self._begin()
        result = self.base.step() if closure is None else self.base.step(closure)
        params = self._parameters()
        follow([self.count], params[0].device)
        with no_grad():
            increment(self.count)
            due = ge(self.count, self.k)
            assign(self.count, where(due, 0, self.count))
            for p in params:
                slow = self._slow[p]
                ahead = add(slow, mul(sub(p, slow), self.alpha))
                assign(p, where(due, ahead, p))
                assign(slow, where(due, ahead, slow))
        return result

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside under "base", the slow weights by the parameter's number, the
        steps since the last synchronization, and the settings. The tensors share memory.
        """
        slow = {number: self._slow[p].detach() for number, p in enumerate(self._parameters())}
        return {**super().state_dict(), "slow": slow, "count": int(on_host(self.count))}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        params = self._parameters()
        saved = {int(number): x for number, x in state_dict.get("slow", {}).items()}
        shapes = {number: p.shape for number, p in enumerate(params)}
        got = {number: np.shape(x) for number, x in saved.items()}
        if shapes != got:
            raise ValueError(f"{self}.load_state_dict: slow: expected {shapes}, got {got}")
        super().load_state_dict(state_dict)
        with no_grad():
            assign(self.count, state_dict["count"])
            for number, p in enumerate(params):
                assign(self._slow[p], constant(self._slow[p], on_host(saved[number])))

    def _begin(self) -> None:
        """Slow weights for parameters that have none yet."""
        for p in self._parameters():
            self._own(self._slow, p)
