"""Penalties on how far the prediction moves: under a perturbation of the input, another dropout mask, an
augmentation, or against a teacher.

Targets are detached unless a class says otherwise. Every second pass leaves no trace: running statistics
change once per step, from the unperturbed pass. `on` names what is compared: "x", the objective's own pass,
or what the Objective was given under that name (`objective(x, y, unlabeled=u)`), which gets a clean pass of
its own. Probabilities come from log-softmax over axis 1; positions (B, m, *) count by their sum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import follow
from ..engine.backward import grad
from ..engine.core import Tensor, cast, no_grad, state
from ..nn.module import Module
from ..nn.parameter import Buffer
from ..ops.elementwise import (
    add,
    div,
    exp,
    gt,
    logical_and,
    lt,
    maximum,
    minimum,
    mul,
    pow,
    square,
    sub,
    where,
)
from ..ops.indexing import index_select
from ..ops.random import Generator, of_samples, randn, random_from
from ..ops.reduce import amax, mean, sum
from ..ops.shape import reshape, unsqueeze
from ..ops.softmax import cross_entropy, log_softmax
from ..ops.subscript import setitem
from ..ops.update import assign, increment
from .contract import Penalty, Weight
from .measures import divergence, divergences, over_ranks, unit
from .passes import Pass, unreduced

__all__ = [
    "UDA",
    "VAT",
    "MeanTeacher",
    "PiModel",
    "RDrop",
    "TemporalEnsemble",
    "TrainingSignalAnnealing",
]

FLOAT64 = np.dtype(np.float64)


# What the families share
# ------------------------------------------------------------------------------------------------------------


def require_classes(who: str, logits: Tensor) -> None:
    if logits.ndim < 2:
        raise ShapeError(f"{who}: expected logits (B, m, *), got {logits.shape}")


def require_one_floating(who: str, x: Any) -> Tensor:
    """The input as what can be perturbed: one floating tensor."""
    if not isinstance(x, Tensor):
        raise ShapeError(f"{who}: expected one input to perturb, got {len(x)}")
    if x.dtype.kind != "f":
        raise ShapeError(f"{who}: expected a floating input to perturb, got {x.dtype}")
    return x


def probabilities(seen: Pass) -> Tensor:
    return exp(seen.log_probabilities)


def squared_difference(p: Tensor, q: Tensor) -> Tensor:
    """The mean over samples and classes: what the sources compare by, where all else here is a sum over
    classes; against that sum their weights differ by m.
    """
    return mean(square(sub(p, q)))


class ConsistencyPenalty(Penalty):
    """Compares passes of what `on` names."""

    def __init__(
        self,
        weight: Weight,
        *,
        on: str = "x",
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.on = on

    def clean(self, seen: Pass) -> Pass:
        """The unperturbed pass: the objective's own, or one of `on` with draws of the term's."""
        if self.on == "x":
            found = seen
        elif self.on in seen.given:
            found = seen.again(seen.given[self.on], draws="own", generator=self.generator)
        else:
            raise ValueError(f"{self.name}: expected {self.on}= of the objective's call, got {[*seen.given]}")
        require_classes(type(self).__name__, found.logits)
        return found


# The penalties
# ------------------------------------------------------------------------------------------------------------


class VAT(ConsistencyPenalty):
    """λ · mean_b KL(p(x) ‖ p(x + r)): virtual adversarial training; r of length ε is where the prediction
    moves most, p(x) and r detached.

    Miyato et al., arXiv 1704.03976. d = randn(x.shape), of length 1 per sample; each iteration takes
    d ← unit(∂/∂d Σ_b KL(p(x) ‖ p(x + ξd))), and r = εd. All passes run on the dropout mask of the clean one,
    so that r = 0 gives exactly 0, and in the model's mode. ξ is in units of the input, of variance about 1:
    the sources' 1e-6 is below what float32 resolves.
    """

    def __init__(
        self,
        weight: Weight,
        eps: float,
        xi: float = 0.1,
        iterations: int = 1,
        on: str = "x",
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, on=on, every=every, generator=generator, name=name)
        if not eps >= 0 or not xi > 0 or iterations < 1:
            raise ValueError(
                f"VAT: expected eps of at least 0, xi above 0, iterations of at least 1, got {eps}, {xi}, "
                f"{iterations}"
            )
        self.eps, self.xi, self.iterations = eps, xi, iterations

    def __call__(self, seen: Pass) -> Tensor:
        clean = self.clean(seen)
        log_p = self.target(clean)
        return divergence(log_p, clean.again(self.adversary(clean, log_p)).log_probabilities)

    def target(self, clean: Pass) -> Tensor:
        """log p, detached."""
        return clean.log_probabilities.detach()

    def adversary(self, clean: Pass, log_p: Tensor) -> Tensor:
        """x + r, detached."""
        x = require_one_floating("VAT", clean.x).detach()
        if self.eps == 0:  # no draw
            return x
        d = unit(of_samples(randn, x.shape, generator=self.generator, dtype=x.dtype, device=x.device))
        for _ in range(self.iterations):
            moved = add(x, mul(d, self.xi)).detach().requires_grad_()
            moves = sum(divergences(log_p, clean.again(moved).log_probabilities))
            (slope,) = grad(moves, moved)
            assert slope is not None
            d = unit(slope.detach())
        return add(x, mul(d, self.eps)).detach()


class PiModel(ConsistencyPenalty):
    """w · the mean over samples and classes of (p − p′)², p′ of a pass with its own draws, both
    differentiated.

    Laine & Aila, arXiv 1610.02242. Without dropout or another source of noise it is exactly 0.
    """

    def __call__(self, seen: Pass) -> Tensor:
        clean = self.clean(seen)
        other = clean.again(draws="own", generator=self.generator)
        return squared_difference(probabilities(clean), probabilities(other))


class TemporalEnsemble(ConsistencyPenalty):
    """w · the mean over samples and classes of (p − p̄)², p̄ the decayed mean of what the sample's p was in
    the epochs before: Z ← αZ + (1 − α)p once per visit, p̄ = Z/(1 − α^t) after t visits; before the first it
    counts 0.

    Laine & Aila, arXiv 1610.02242. The Objective is told which samples it sees: `objective(x, y, index=i)`
    with i (B,) in [0, n). Needs `objective.after()`: several calls before it are one visit, the last counts.

    n        number of samples in the training set
    classes  m; the state is some 2·n·m float64 numbers
    """

    def __init__(
        self,
        weight: Weight,
        n: int,
        alpha: float = 0.6,
        *,
        classes: int,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if not 0 <= alpha < 1 or n < 1 or classes < 1:
            raise ValueError(
                "TemporalEnsemble: expected n and classes of at least 1, alpha in [0, 1), got "
                f"{n}, {classes}, {alpha}"
            )
        self.alpha = alpha
        self.mean, self.latest = (Buffer(np.zeros((n, classes))) for _ in range(2))
        self.visits, self.seen_at = Buffer(np.zeros(n, np.int64)), Buffer(np.full(n, -1))
        self.steps = Buffer(0)

    def __call__(self, seen: Pass) -> Tensor:
        clean, index = self.clean(seen), seen.given.get("index")
        if not isinstance(index, Tensor) or index.shape != (seen.samples,):
            got = index.shape if isinstance(index, Tensor) else type(index).__name__
            raise ShapeError(f"TemporalEnsemble: expected index= of the samples ({seen.samples},), got {got}")
        if clean.logits.shape[1:] != self.mean.shape[1:]:
            raise ShapeError(
                f"TemporalEnsemble: expected logits (B, {self.mean.shape[1]}), got {clean.logits.shape}"
            )
        p = probabilities(clean)
        target, known = self._visit_of_all(index, p.detach())
        scale = cast(known, dtype=p.dtype)
        return squared_difference(mul(p, scale), mul(target, scale))

    def _visit_of_all(self, index: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """`_visit` of all ranks' samples where they share a batch, so that all keep the same; this rank's."""
        shard = state.shard
        if shard is None:
            return self._visit(index, p)
        with no_grad():
            own = slice(shard.start, shard.start + shard.samples)
            target, known = self._visit(shard.gather(index), shard.gather(p))
            return target[own], known[own]

    def _visit(self, index: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """The targets (B, m) and where there is one (B, 1); p waits for the sample's next step."""
        held = [self.mean, self.latest, self.visits, self.seen_at, self.steps]
        follow(held, p.device)
        with no_grad():
            old, latest, visits, seen_at = (index_select(b, 0, index) for b in held[:4])
            waiting = logical_and(lt(seen_at, self.steps), gt(seen_at, -1))
            moved = add(mul(old, self.alpha), mul(latest, 1 - self.alpha))
            z = where(reshape(waiting, (-1, 1)), moved, old)
            visits = add(visits, cast(waiting, dtype=visits.dtype))
            setitem(self.mean, index, z)
            setitem(self.latest, index, cast(p, dtype=FLOAT64))
            setitem(self.visits, index, visits)
            setitem(self.seen_at, index, add(mul(seen_at, 0), self.steps))
            known = gt(visits, 0)
            share = sub(1.0, pow(self.alpha, cast(visits, dtype=FLOAT64)))
            target = div(z, reshape(where(known, share, 1.0), (-1, 1)))
            return cast(target, dtype=p.dtype), reshape(known, (-1, 1))

    def after(self, model: Module, optimizer: Any) -> None:
        increment(self.steps)


class MeanTeacher(ConsistencyPenalty):
    """w · the mean over samples and classes of (p − p′)², p′ of a teacher, whose parameters are decayed
    means of the model's: θ′ ← aθ′ + (1 − a)θ after the t-th step, a = min(t/(t + 1), decay).

    Tarvainen & Valpola, arXiv 1703.01780. The teacher starts as a copy of `model`, predicts in train mode
    with draws of its own and without gradient; its running statistics are the model's. Needs
    `objective.after()`. Evaluate `teacher`, which is in the checkpoint too.
    """

    def __init__(
        self,
        weight: Weight,
        model: Module,
        decay: float = 0.999,
        *,
        on: str = "x",
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, on=on, every=every, generator=generator, name=name)
        if not 0 <= decay <= 1:
            raise ValueError(f"MeanTeacher: expected decay in [0, 1], got {decay}")
        self.decay, self.steps = decay, Buffer(0)
        self.teacher = copy.deepcopy(model).requires_grad_(False)

    def __call__(self, seen: Pass) -> Tensor:
        clean = self.clean(seen)
        follow([*self.teacher.parameters(), *self.teacher.buffers(), self.steps], clean.logits.device)
        with no_grad():
            taught = clean.again(model=self.teacher, draws="own", generator=self.generator, mode="train")
            target = probabilities(taught)
        return squared_difference(probabilities(clean), target)

    def after(self, model: Module, optimizer: Any) -> None:
        increment(self.steps)
        t = cast(self.steps, dtype=FLOAT64)
        a = minimum(div(t, add(t, 1.0)), self.decay)
        for own, theirs in zip(self.teacher.parameters(), model.parameters(), strict=True):
            share = cast(a, dtype=own.dtype)
            assign(own, add(mul(own, share), mul(theirs.detach(), sub(1.0, share))))
        for copied, buffer in zip(self.teacher.buffers(), model.buffers(), strict=True):
            assign(copied, buffer)


class RDrop(Penalty):
    """α · mean_b ½(KL(p ‖ q) + KL(q ‖ p)), q of a second pass with its own dropout mask, both
    differentiated. Without dropout exactly 0.

    Wu et al., arXiv 2106.14448. As the loss, `Objective(model, RDrop(alpha, td.cross_entropy))`, it is
    ½(CE + CE′) + α · value, as the authors' code has it; the paper adds both CE.
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        loss: Any = None,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight if loss is None else 1.0, every=every, generator=generator, name=name)
        self.loss = loss
        if loss is not None:
            if callable(weight) or isinstance(weight, Tensor):
                raise ValueError(f"RDrop: expected a number as its weight beside a loss, got {weight!r}")
            self.alpha = self._number(weight)

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("RDrop", seen.logits)
        if self.loss is not None and seen.loss is None:  # for terms that follow
            seen.loss = self.loss
        other = seen.again(draws="own", generator=self.generator)
        log_p, log_q = seen.log_probabilities, other.log_probabilities
        both = mul(sub(exp(log_p), exp(log_q)), sub(log_p, log_q))
        value = mul(sum(both), 0.5 / max(log_p.shape[0], 1))
        if self.loss is None:
            return value
        losses = [mean(unreduced(self.loss, each.logits, each.target)) for each in (seen, other)]
        return add(mul(add(*losses), 0.5), mul(value, self.alpha))


class UDA(ConsistencyPenalty):
    """λ · mean_b [max p_b > threshold] · KL(p_b^(T) ‖ p(augment(x))_b), p^(T) = softmax(z/T) detached; the
    mean is over all samples, those below the threshold too.

    Xie et al., arXiv 1904.12848; the defaults are the authors'. `augment` is a function of x; what it draws
    comes from the term's generator.
    """

    def __init__(
        self,
        weight: Weight,
        augment: Callable[[Tensor], Tensor],
        T: float = 0.4,
        threshold: float = 0.8,
        *,
        on: str = "x",
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, on=on, every=every, generator=generator, name=name)
        if not T > 0 or not 0 <= threshold <= 1:
            raise ValueError(f"UDA: expected T above 0, threshold in [0, 1], got {T}, {threshold}")
        self.augment, self.T, self.threshold = augment, T, threshold

    def __call__(self, seen: Pass) -> Tensor:
        clean = self.clean(seen)
        with random_from(self.generator):
            other = clean.again(self.augment(clean.x))
        log_p, sure = self.target(clean)
        terms = mul(exp(log_p), sub(log_p, other.log_probabilities))
        return div(sum(mul(terms, unsqueeze(sure, 1))), float(max(log_p.shape[0], 1)))

    def target(self, clean: Pass) -> tuple[Tensor, Tensor]:
        """log p^(T), and 1 for each sample that counts, else 0."""
        with no_grad():
            log_p = log_softmax(div(clean.logits, self.T), 1)
            sure = gt(exp(amax(log_softmax(clean.logits, 1), 1)), self.threshold)
            return log_p, cast(sure, dtype=log_p.dtype)


class TrainingSignalAnnealing(Penalty):
    """A loss: the mean over the samples whose p_y is still below η, which rises from 1/m to 1 over `steps`
    steps, so that few labeled samples are not learned by heart: η = a(1 − 1/m) + 1/m with, for
    t = step/steps, a = t ("linear"), e^{5(t − 1)} ("exp") or 1 − e^{−5t} ("log"). 0 where none counts. Under
    no_grad, where nothing is learned, every sample counts.

    Xie et al., arXiv 1904.12848, beside `UDA`. Needs `objective.after()`, once per step.
    """

    coupled = reduces = True  # how many samples count is the batch's

    def __init__(
        self,
        steps: int,
        form: str = "linear",
        loss: Any = cross_entropy,
        *,
        weight: Weight = 1.0,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if steps < 1 or form not in ("linear", "exp", "log"):
            raise ValueError(
                "TrainingSignalAnnealing: expected steps of at least 1, form in ('linear', 'exp', 'log'), "
                f"got {steps}, {form!r}"
            )
        self.annealed, self.form, self.loss, self.steps = steps, form, loss, Buffer(0)

    def __call__(self, seen: Pass) -> Tensor:
        if seen.loss is None:  # for terms that follow
            seen.loss = self.loss
        losses = unreduced(self.loss, seen.logits, seen.target)
        if seen.logits.ndim != 2 or losses.shape != (seen.samples,):
            raise ShapeError(
                "TrainingSignalAnnealing: expected logits (B, m) and losses (B,), got "
                f"{seen.logits.shape} and {losses.shape}"
            )
        if not state.grad:
            return mean(losses)
        counts = self.counts(seen)
        of, by = over_ranks(sum(mul(losses, counts)), sum(counts))
        return div(of, maximum(by, 1.0))

    def counts(self, seen: Pass) -> Tensor:
        """(B,): 1 for each sample that counts, else 0."""
        follow([self.steps], seen.logits.device)
        m = seen.logits.shape[1]
        with no_grad():
            t = minimum(div(cast(self.steps, dtype=FLOAT64), float(self.annealed)), 1.0)
            if self.form == "exp":
                t = exp(mul(sub(t, 1.0), 5.0))
            elif self.form == "log":
                t = sub(1.0, exp(mul(t, -5.0)))
            bound = cast(add(mul(t, 1 - 1 / m), 1 / m), dtype=seen.logits.dtype)
            p = sum(mul(probabilities(seen), seen.target_weights), 1)
            return cast(lt(p, bound), dtype=p.dtype)

    def after(self, model: Module, optimizer: Any) -> None:
        increment(self.steps)
