"""Gradient descent on all data: it stops where the gradient is small, and tells how the loss fell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Tensor, enable_grad, no_grad
from ..engine.state import state as engine_state
from ..ops.update import assign
from .optimizer import Optimizer, at_least_0

__all__ = ["Descent", "GradientDescent"]


class Descent(NamedTuple):
    """What `GradientDescent.minimize` has seen: K steps and K + 1 points.

    losses      at the points
    norms       of the gradients there
    promised    by how much each step lets the loss fall if its rate is at most 1 / L: Σ lr/2 |g|²
    converged   is the last norm at most eps?
    """

    losses: list[float]
    norms: list[float]
    promised: list[float]
    converged: bool

    def fell(self) -> list[bool]:
        """For each step: did the loss fall by what was promised, but for rounding?"""
        pairs = zip(self.losses, self.losses[1:], self.promised, strict=False)
        return [_falls(before, after, promised) for before, after, promised in pairs]


class GradientDescent(Optimizer):
    """Gradient descent (Cauchy 1847), for losses of all data.

        param -= lr grad, unless |grad| <= eps

    |grad| is the 2-norm over all parameters. Where the gradient of the loss changes by at most L per unit of
    distance and lr <= 1 / L, each step lets the loss fall by at least lr/2 |grad|² (the descent lemma:
    Nesterov, Lectures on convex optimization, 2018, section 1.2.3). Beyond 2 / L steps can climb.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        eps: the norm at which it stops, >= 0.
        max_steps: how many steps `minimize` takes at most, >= 0.
        halve: halve the rate as long as the loss does not fall by lr/2 |grad|², each time from where the step
            began; it stays halved. This finds a rate when L is not known.

    Attributes:
        norm: |grad| at the point where the last step began.

    Raises:
        GraphError: a step inside a recorded step.
        TypeError: a step without a closure.
        ValueError: a loss that is not finite where a step begins.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        eps: float = 1e-6,
        max_steps: int = 1000,
        *,
        halve: bool = False,
    ) -> None:
        at_least_0(type(self), {"eps": eps, "max_steps": max_steps}, "eps", "max_steps")
        super().__init__(params, {"lr": lr})
        self.eps, self.max_steps, self.halve, self.norm = eps, max_steps, halve, math.inf

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr")

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        return p - o.lr * g

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, or none where |grad| <= eps.

        Args:
            closure: clears the gradients, computes the loss of all data and its gradients (over chunks, they
                add up), and returns the loss.

        Returns:
            The loss at which the step began.
        """
        loss, squares = self._measure(closure)
        if self.norm > self.eps:
            self._advance(closure, float(loss), squares)
        return loss

    def minimize(self, closure: Callable[[], Any]) -> Descent:
        """Steps until |grad| <= eps, at most `max_steps`."""
        losses: list[float] = []
        norms: list[float] = []
        promised: list[float] = []
        while True:
            loss, squares = self._measure(closure)
            losses.append(float(loss))
            norms.append(self.norm)
            if self.norm <= self.eps or len(promised) == self.max_steps:
                return Descent(losses, norms, promised, self.norm <= self.eps)
            self._advance(closure, float(loss), squares)
            promised.append(self._promised(squares))

    def _measure(self, closure: Callable[[], Any] | None) -> tuple[Any, list[float]]:
        """The loss, and |grad|² of each group."""
        if engine_state.recorder is not None:
            raise GraphError(
                f"{self}.step: expected a call outside a recorded step, got one inside: whether it steps "
                "depends on values"
            )
        if closure is None:
            raise TypeError(f"{self}.step: expected a closure, got None")
        with enable_grad():
            loss = closure()
        if not math.isfinite(float(loss)):
            raise ValueError(f"{self}.step: expected a finite loss, got {float(loss)}")
        squares = [
            math.fsum(float(p.grad.norm()) ** 2 for p in group["params"] if p.grad is not None)
            for group in self.param_groups
        ]
        self.norm = math.sqrt(math.fsum(squares))
        return loss, squares

    def _promised(self, squares: list[float]) -> float:
        return math.fsum(
            group["lr"] / 2 * square for group, square in zip(self.param_groups, squares, strict=True)
        )

    def _advance(self, closure: Any, loss: float, squares: list[float]) -> None:
        """The step, again at half the rate where it is to be halved."""
        params = [p for p in self._parameters() if p.grad is not None]
        kept: list[tuple[Tensor, Tensor, Any]] = (
            [(p, p.detach().clone(), p.grad) for p in params] if self.halve else []
        )
        super().step()
        while self.halve:
            with enable_grad():
                after = float(closure())
            if _falls(loss, after, self._promised(squares)):
                break
            for group in self.param_groups:
                group["lr"] = group["lr"] / 2
            for p, start, grad in kept:
                with no_grad():
                    assign(p, start)
                p.grad = grad
            super().step()


def _falls(before: float, after: float, promised: float) -> bool:
    """Does `after` lie as far below `before` as promised, but for what a float32 loss rounds?"""
    return after <= before - promised + 4 * float(np.finfo(np.float32).eps) * abs(before)
