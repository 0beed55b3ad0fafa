"""Penalties between predictions of one input: of several views of it, of a teacher, of a net's own heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..devices import follow
from ..engine.core import Tensor, no_grad
from ..nn.module import Module
from ..ops.elementwise import add, div, mul, sub
from ..ops.random import Generator, random_from
from ..ops.reduce import logsumexp, mean
from ..ops.shape import stack
from ..ops.softmax import log_softmax
from .consistency import require_classes
from .contract import Penalty, Weight
from .measures import divergence
from .passes import Pass, unreduced

__all__ = ["Distill", "JensenShannon", "SelfDistill"]


class JensenShannon(Penalty):
    """λ · mean_b of the Jensen–Shannon divergence of the predictions on x and on views of it, all
    differentiated: the mean of KL(p_i ‖ p̄), p̄ the mean of the p_i, in [0, log of their number].

    Hendrycks et al., arXiv 1912.02781 (λ 12, two views). The views are extra passes on the main pass's draws,
    and so do not share batch statistics with x, as they do in the authors' one pass over all; the loss is of
    x alone, as theirs. `augment` is a function of x; what it draws comes from the term's generator.
    """

    def __init__(
        self,
        weight: Weight,
        augment: Callable[[Tensor], Tensor],
        views: int = 2,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if views < 1:
            raise ValueError(f"JensenShannon: expected views of at least 1, got {views}")
        self.augment, self.views = augment, views

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("JensenShannon", seen.logits)
        passes = [seen]
        for _ in range(self.views):
            with random_from(self.generator):
                x = self.augment(seen.x)
            passes.append(seen.again(x))
        logs = [each.log_probabilities for each in passes]
        middle = sub(logsumexp(stack(logs), 0), math.log(len(logs)))
        return div(reduce(add, [divergence(log_p, middle) for log_p in logs]), float(len(logs)))


class Distill(Penalty):
    """α · T² · mean_b KL(softmax(t/T) ‖ softmax(z/T)), t the logits of a teacher in eval mode, a constant; a
    term beside the whole loss.

    Hinton et al., arXiv 1503.02531. With a loss, `Objective(model, Distill(alpha, teacher, loss=loss))`, it
    is (1 − α)ℓ + α · value. The teacher's parameters are not the optimizer's, nor in checkpoints unless
    `save_teacher`. The last generation as teacher: Furlanello et al., arXiv 1805.04770.
    """

    def __init__(
        self,
        weight: Weight,
        teacher: Module,
        T: float = 4.0,
        loss: Any = None,
        *,
        save_teacher: bool = False,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight if loss is None else 1.0, every=every, generator=generator, name=name)
        if not T > 0:
            raise ValueError(f"Distill: expected T above 0, got {T}")
        self.teacher, self.T, self.loss, self.save_teacher = teacher, T, loss, save_teacher
        if loss is not None:
            if callable(weight) or isinstance(weight, Tensor) or not 0 <= weight <= 1:
                raise ValueError(f"Distill: expected alpha in [0, 1] beside a loss, got {weight!r}")
            self.alpha = weight

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("Distill", seen.logits)
        log_t = self.target(seen)
        if log_t.shape != seen.logits.shape:
            raise ShapeError(f"Distill: expected a teacher's logits {seen.logits.shape}, got {log_t.shape}")
        value = mul(divergence(log_t, log_softmax(div(seen.logits, self.T), 1)), self.T**2)
        if self.loss is None:
            return value
        if seen.loss is None:  # for terms that follow
            seen.loss = self.loss
        own = mean(unreduced(self.loss, seen.logits, seen.target))
        return add(mul(own, 1 - self.alpha), mul(value, self.alpha))

    def target(self, seen: Pass) -> Tensor:
        """log softmax(t/T)."""
        follow([*self.teacher.parameters(), *self.teacher.buffers()], seen.logits.device)
        with no_grad():
            taught = seen.again(model=self.teacher, draws="own", generator=self.generator, mode="eval")
            return log_softmax(div(taught.logits, self.T), 1)

    def state(self) -> dict[str, Any]:
        held = super().state()
        return held if self.save_teacher else {k: v for k, v in held.items() if k != "teacher"}


class SelfDistill(Penalty):
    """λ · T² · Σ_heads mean_b KL(softmax(z/T) ‖ softmax(z_head/T)): the net's own output, detached, teaches
    heads at earlier layers. A term beside the losses.

    Zhang et al., arXiv 1905.08094.

    layers  dotted paths of layers that put out logits shaped as the model's, as heads do
    """

    def __init__(
        self,
        weight: Weight,
        layers: str | Sequence[str],
        T: float = 3.0,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.layers = (layers,) if isinstance(layers, str) else tuple(layers)
        if not T > 0 or not self.layers:
            raise ValueError(f"SelfDistill: expected layers, T above 0, got {self.layers}, {T}")
        self.T = T

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("SelfDistill", seen.logits)
        log_t, parts = self.target(seen), []
        for layer in self.layers:
            z = seen.outputs[layer]
            if z.shape != log_t.shape:
                raise ShapeError(
                    f"SelfDistill: expected logits {log_t.shape} of layer {layer!r}, got {z.shape}"
                )
            parts.append(divergence(log_t, log_softmax(div(z, self.T), 1)))
        return mul(reduce(add, parts), self.T**2)

    def target(self, seen: Pass) -> Tensor:
        """log softmax(z/T), detached."""
        return log_softmax(div(seen.logits.detach(), self.T), 1)
