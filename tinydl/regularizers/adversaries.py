"""Training against adversaries: the worst inputs, or features, near those given. Attacks see the running
statistics as the main pass left them; the input that they find is a constant of the derivative. Under
no_grad, where nothing is trained, there is no attack: a loss is then that of the inputs as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..engine.backward import grad
from ..engine.core import Tensor, state
from ..nn.module import Module
from ..ops.elementwise import add, exp, gt, mul, sub, where
from ..ops.indexing import gather, one_hot
from ..ops.random import Generator, of_samples, randn, random_from
from ..ops.reduce import argmax, logsumexp, mean, sum
from ..ops.shape import reshape
from .attack.bounded import INF, Bounds, Number, climbed, in_units, require_input, require_norm, slope_at
from .consistency import require_classes
from .contract import Penalty, Weight
from .measures import divergence, divergences, lengths, unit
from .passes import Mixed, Pass, unreduced

__all__ = ["MART", "TRADES", "AdversarialFeatures", "AdversarialTraining"]

Attack = Callable[[Module, Tensor, Any], Tensor]


class AdversarialTraining(Penalty):
    """A loss: α·ℓ(x) + (1 − α)·ℓ(x_adv), `Objective(model, AdversarialTraining(loss, attack))`.

    Goodfellow et al., arXiv 1412.6572, at α = ½; α = 0 is that of Madry et al., arXiv 1706.06083. Running
    statistics come from the clean pass; at α = 0 there is none, and the adversarial one is the main pass.

    loss    a function of (output, target, reduction="none")
    attack  a function of (model, x, target) that gives inputs shaped as x, as
            `lambda *given: attack.pgd(*given, eps=0.3)`; what it draws comes from the term's generator
    """

    def __init__(
        self,
        loss: Any,
        attack: Attack,
        alpha: float = 0.5,
        *,
        weight: Weight = 1.0,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if not 0 <= alpha <= 1:
            raise ValueError(f"AdversarialTraining: expected alpha in [0, 1], got {alpha}")
        self.loss, self.attack, self.alpha = loss, attack, alpha

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        attacked = self.alpha == 0 and state.grad
        return (self.adversary(model, x, target) if attacked else x), target

    def __call__(self, seen: Pass) -> Tensor:
        if seen.loss is None:  # for terms that follow
            seen.loss = self.loss
        own = mean(unreduced(self.loss, seen.logits, seen.target))
        if self.alpha == 0 or not state.grad:
            return own
        other = seen.again(self.adversary(seen.model, seen.x, seen.target))
        attacked = mean(unreduced(self.loss, other.logits, other.target))
        return add(mul(own, self.alpha), mul(attacked, 1 - self.alpha))

    def adversary(self, model: Module, x: Any, target: Any) -> Tensor:
        x = require_input("AdversarialTraining", x)
        with random_from(self.generator):
            return self.attack(model, x, target).detach()


class TRADES(Penalty):
    """β · mean_b KL(p(x) ‖ p(x + d)), d the worst within ‖d‖ ≤ ε; p(x) of the main pass, both sides
    differentiated, in the model's own mode.

    Zhang et al., arXiv 1901.08573 (β 6). d = start·randn(x.shape), then d ← P(d + step·sign ∂/∂d Σ_b KL) or,
    in norm 2, along the unit gradient; in `mode`, on the main pass's draws. From d = 0 there is no gradient
    to follow, so a start of 0 is refused. `bounds` of the input as in `attack`; the authors clip to [0, 1].
    """

    def __init__(
        self,
        weight: Weight,
        eps: Number,
        step_size: Number,
        steps: int = 10,
        norm: float = INF,
        start: float = 1e-3,
        mode: str | None = "eval",
        *,
        bounds: Bounds = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        require_norm("TRADES", norm, eps)
        if not start > 0 or steps < 1:
            raise ValueError(
                "TRADES: expected a start above 0 (at d = 0 the divergence has no gradient), steps of at "
                f"least 1, got {start}, {steps}"
            )
        self.eps, self.step_size, self.steps = eps, step_size, steps
        self.norm, self.start, self.mode, self.bounds = norm, start, mode, bounds

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("TRADES", seen.logits)
        other = seen.again(self.adversary(seen))
        return divergence(seen.log_probabilities, other.log_probabilities)

    def adversary(self, seen: Pass) -> Tensor:
        x = require_input("TRADES", seen.x)
        if self.eps == 0:  # no draw
            return x.detach()
        log_p = seen.again(mode=self.mode).log_probabilities.detach()
        noise = of_samples(randn, x.shape, generator=self.generator, dtype=x.dtype, device=x.device)

        def slope(moved: Tensor) -> Tensor:
            of = lambda x: divergences(log_p, seen.again(x, mode=self.mode).log_probabilities)  # noqa: E731
            return slope_at(of, moved)

        return climbed(
            slope,
            x,
            mul(noise, self.start),
            eps=in_units("TRADES", "eps", self.eps, x),
            step_size=in_units("TRADES", "step_size", self.step_size, x),
            steps=self.steps,
            norm=self.norm,
            bounds=self.bounds,
            who="TRADES",
        ).detach()


class MART(Penalty):
    """A loss: mean_b [−log q_y − log(1 − max_{k≠y} q_k) + β·KL(p ‖ q)(1 − p_y)], p on x, q on x_adv:
    `Objective(model, MART(attack=attack))`. What is misclassified counts more.

    Wang et al., ICLR 2020, "Improving Adversarial Robustness Requires Revisiting Misclassified Examples". The
    log of 1 − q_k is that of the sum of the other classes; the authors' code adds 1e-4 to the 1 instead.
    Targets are classes (B,). `attack` as for `AdversarialTraining`, of the cross-entropy.
    """

    def __init__(
        self,
        beta: float = 5.0,
        *,
        attack: Attack,
        weight: Weight = 1.0,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if not beta >= 0:
            raise ValueError(f"MART: expected beta of at least 0, got {beta}")
        self.beta, self.attack = beta, attack

    def __call__(self, seen: Pass) -> Tensor:
        if seen.logits.ndim != 2:
            raise ShapeError(f"MART: expected logits (B, m), got {seen.logits.shape}")
        target = seen.target
        if isinstance(target, Mixed) or target.dtype.kind not in "iu" or target.shape != (seen.samples,):
            got = "Mixed" if isinstance(target, Mixed) else f"{target.shape} {target.dtype}"
            raise ShapeError(f"MART: expected targets as classes ({seen.samples},), got {got}")
        log_p = log_q = seen.log_probabilities
        if state.grad:
            log_q = seen.again(self.adversary(seen)).log_probabilities
        y = reshape(target, (-1, 1))
        others = where(gt(one_hot(target, log_q.shape[1]), 0), -INF, log_q.detach())
        rival = argmax(others, 1)
        rest = logsumexp(where(gt(one_hot(rival, log_q.shape[1]), 0), -INF, log_q), 1)
        boosted = mul(add(gather(log_q, 1, y)[:, 0], rest), -1.0)
        unsure = sub(1.0, exp(gather(log_p, 1, y)[:, 0]))
        return mean(add(boosted, mul(mul(divergences(log_p, log_q), unsure), self.beta)))

    def adversary(self, seen: Pass) -> Tensor:
        x = require_input("MART", seen.x)
        with random_from(self.generator):
            return self.attack(seen.model, x, seen.target).detach()


class AdversarialFeatures(Penalty):
    """λ · mean_b ℓ(g(h + r), y): the loss where a layer's output h, not the input, is perturbed; g is the
    rest of the net, ‖r‖ = ε‖h‖ per sample, along what moves the prediction most.

    Ishii & Sato, IJCNN 2019; the solver is ours, as in VAT: d = randn(h.shape) of length 1,
    r = ε‖h‖·unit(∂/∂d Σ_b KL(g(h) ‖ g(h + ξ‖h‖d))), detached, 0 where h is. Of several layers one is drawn at
    each call, on the host; a recorded step has a recording for each.

    layers  dotted paths, whose outputs are single floating tensors (B, *)
    loss    by default the objective's own
    """

    def __init__(
        self,
        weight: Weight,
        layers: str | Sequence[str],
        eps: float,
        xi: float = 0.1,
        *,
        loss: Any = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.layers = self.turns = (layers,) if isinstance(layers, str) else tuple(layers)
        if not self.layers or not eps >= 0 or not xi > 0:
            raise ValueError(
                "AdversarialFeatures: expected layers, eps of at least 0, xi above 0, got "
                f"{self.layers}, {eps}, {xi}"
            )
        self.eps, self.xi, self.loss = eps, xi, loss

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("AdversarialFeatures", seen.logits)
        layer, r = self.adversary(seen)
        other = seen.again(replace={layer: lambda h: add(h, r)})
        other.loss = seen.loss if self.loss is None else self.loss
        return mean(other.unreduced)

    def adversary(self, seen: Pass) -> tuple[str, Tensor]:
        """The layer, and r."""
        layer = self.turn() if len(self.layers) > 1 and self.eps > 0 else self.layers[0]  # else no draw
        h = seen.outputs[layer].detach()
        if h.ndim < 1 or h.shape[0] != seen.samples:
            raise ShapeError(
                f"AdversarialFeatures: expected an output of layer {layer!r} for {seen.samples} samples, got "
                f"{h.shape}"
            )
        if self.eps == 0:
            return layer, mul(h, 0.0)
        log_p, length = seen.log_probabilities.detach(), lengths(h)
        d = unit(
            of_samples(randn, h.shape, generator=self.generator, dtype=h.dtype, device=h.device)
        ).requires_grad_()
        probed = seen.again(replace={layer: lambda _: add(h, mul(d, mul(length, self.xi)))})
        (slope,) = grad(sum(divergences(log_p, probed.log_probabilities)), d)
        assert slope is not None
        return layer, mul(unit(slope.detach()), mul(length, self.eps))
