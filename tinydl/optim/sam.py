"""Sharpness-aware minimization: the gradient at the worst place nearby, for the step from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Tensor, enable_grad, no_grad
from ..engine.effect import happened
from ..engine.tape import Version
from ..nn.extra_forward import extra_forward
from ..nn.parameter import Buffer
from ..nn.utils.gradients import get_total_norm
from ..ops.elementwise import abs, add, div, mul, to_dtype
from ..ops.random import remember, repeat
from ..ops.update import assign
from .optimizer import Optimizer
from .wrapper import Wrapper

__all__ = ["ASAM", "SAM"]


class SAM(Wrapper):
    """The step of another optimizer, with the gradient taken where the loss is about largest within rho.

        e = rho grad / (‖grad‖ + 1e-12)             the norm over all parameters
        base.step() from param, with the gradient at param + e

    Foret et al. 2020 (arXiv 2010.01412), algorithm 1, p = 2. A closure computes loss and gradients, and is
    called twice:

        optimizer = SAM(SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)

        def closure():
            optimizer.zero_grad()
            loss = td.cross_entropy(model(x), y)
            loss.backward()
            return loss

        loss = optimizer.step(closure)              # the loss at param; may stand in a recorded step

    The second call draws the same random numbers as the first and moves neither streams nor running
    statistics. By hand that is

        with td.remember() as draws:
            td.cross_entropy(model(x), y).backward()
        optimizer.first_step()                      # to param + e
        optimizer.zero_grad()
        with td.nn.extra_forward(), td.repeat(draws):
            td.cross_entropy(model(x), y).backward()
        optimizer.second_step()                     # back to param, bit for bit, and the step from there

    Weight decay is the optimizer's own, and acts at param. Parameters without a gradient stay where they are.
    For regularizers, schedules and counters this is one step.

    With `alpha` below 1 the step is by (1 - alpha) grad + alpha grad(param + e): the penalty λ ‖grad‖ on the
    gradient's norm with λ = alpha rho, without a second derivative (Zhao et al. 2022, arXiv 2202.03599: rho
    .1, alpha .8), exact where the loss is quadratic.

    Args:
        base: the optimizer whose step it is.
        rho: the radius, at least 0. It may be changed; recorded steps are recorded anew.
        alpha: the share of the gradient at param + e, in [0, 1].

    Raises:
        TypeError: a base of the wrong type; a step without a closure.
        ValueError: rho below 0, alpha outside [0, 1].
        GraphError: first_step and second_step out of turn; a state that is saved between them.
    """

    settings: tuple[str, ...] = ("rho", "alpha")

    def __init__(self, base: Optimizer | Wrapper, rho: float = 0.05, alpha: float = 1.0) -> None:
        super().__init__(base)
        self.rho, self.alpha = rho, alpha
        self._copies: dict[Tensor, Buffer] = {}
        self._slopes: dict[Tensor, Buffer] = {}
        self._moved: list[Tensor] = []
        self._ascents, self._returns = Version(), Version()  # counts of both, replays included

    @property
    def rho(self) -> float:
        """The radius."""
        return self._rho

    @rho.setter
    def rho(self, rho: float) -> None:
        if not rho >= 0:
            raise ValueError(f"{self}: rho: expected at least 0, got {rho}")
        self._rho = float(rho)

    @property
    def alpha(self) -> float:
        """The share of the gradient at param + e."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"{self}: alpha: expected a number in [0, 1], got {alpha}")
        self._alpha = float(alpha)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step by a closure that computes the gradients; returns what its first call returns."""
        if closure is None:
            raise TypeError(
                f"{self}.step: expected a closure that computes loss and gradients, got none: first_step and "
                "second_step do without"
            )
        with enable_grad(), remember() as draws:
            result = closure()
        self.first_step()
        self.zero_grad()
        try:
            with enable_grad(), extra_forward(), repeat(draws):
                closure()
        except BaseException:
            self._return()
            raise
        self.second_step()
        return result

    def first_step(self) -> None:
        """Move the parameters to where the loss is about largest, by the gradients that are there."""
        if self._away:
            raise GraphError(f"{self}.first_step: expected second_step() after the last one, got another")
        self._note()
        self._moved, gradients = [], []
        for p in self._parameters():
            if (g := p.grad) is not None:
                self._moved.append(p)
                gradients.append(g)
        with no_grad():
            sizes = [self._size(p) for p in self._moved]
            scaled = [_times(g, size) for g, size in zip(gradients, sizes, strict=True)]
            scale = div(self.rho, add(get_total_norm(scaled), 1e-12))
            for p, g, scaled_g, size in zip(self._moved, gradients, scaled, sizes, strict=True):
                copy = self._own(self._copies, p)
                assign(copy, p)
                if self.alpha < 1:
                    assign(self._own(self._slopes, p), g)
                assign(p, add(p, mul(_times(scaled_g, size), to_dtype(scale, p.dtype))))
        happened(self._ascents)

    def second_step(self) -> None:
        """Put the parameters back and step from there, by the gradients that are there now."""
        if not self._away:
            raise GraphError(f"{self}.second_step: expected first_step() before it, got none")
        self._return()
        with no_grad():
            for p in self._moved if self.alpha < 1 else ():
                if (g := p.grad) is not None:
                    p.grad = add(mul(self._slopes[p], 1 - self.alpha), mul(g, self.alpha))
        self.base.step()

    def state_dict(self) -> dict[str, Any]:
        if self._away:
            raise GraphError(
                f"{self}.state_dict: expected parameters that are in their place, got a call between "
                "first_step() and second_step()"
            )
        return super().state_dict()

    def _size(self, p: Tensor) -> Tensor | None:
        """What lengths along each element of p are measured by; None is 1."""
        return None

    @property
    def _away(self) -> bool:
        return self._ascents.count != self._returns.count

    def _return(self) -> None:
        with no_grad():
            for p in self._moved:
                assign(p, self._copies[p])
        happened(self._returns)


class ASAM(SAM):
    """SAM whose neighbourhood scales with the parameters, so that scaling these changes nothing.

        size = |param| + eta
        e = rho size² grad / (‖size grad‖ + 1e-12)

    Kwon et al. 2021 (arXiv 2102.11600), equation 8 with element-wise normalization.

    Args:
        base, rho, alpha: as in `SAM`.
        eta: added to each size, at least 0; the authors' 0.01 lets parameters at 0 move.
    """

    settings = ("rho", "alpha", "eta")

    def __init__(
        self, base: Optimizer | Wrapper, rho: float = 0.5, eta: float = 0.0, alpha: float = 1.0
    ) -> None:
        super().__init__(base, rho, alpha)
        self.eta = eta

    @property
    def eta(self) -> float:
        """What is added to each size."""
        return self._eta

    @eta.setter
    def eta(self, eta: float) -> None:
        if not eta >= 0:
            raise ValueError(f"{self}: eta: expected at least 0, got {eta}")
        self._eta = float(eta)

    def _size(self, p: Tensor) -> Tensor:
        return add(abs(p.detach()), self.eta)


def _times(x: Tensor, size: Tensor | None) -> Tensor:
    return x if size is None else mul(x, size)
