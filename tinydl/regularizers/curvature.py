"""Penalties on how gradients change, and on the gradient by the parameters.

Those by the input (or by a layer's output, `wrt=`) keep the definition of gradients.py: g_b(ℓ) is row b of
∂(Σ ℓ)/∂h. Their second pass is at moved inputs, on the random numbers and in the modes of the main pass, and
leaves no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from tinydl_kernels.machine.errors import GraphError

from ..engine.backward import grad
from ..engine.core import Tensor, add, cast, state
from ..ops.elementwise import div, gt, le, maximum, mul, sign, sqrt, square, sub, where
from ..ops.indexing import one_hot
from ..ops.random import Generator, of_batch, of_samples, rand, randint
from ..ops.reduce import mean, sum
from ..ops.scan import cumsum
from ..ops.softmax import softmax
from .contract import Penalty, Weight
from .gradients import TINY, InputGradientPenalty, require_classes, require_count
from .measures import beside, over_ranks, per_sample
from .passes import Pass

__all__ = ["CurvaturePenalty", "FisherPenalty", "GradAlign", "GradientNorm", "HessianTrace"]


class _OfLosses(InputGradientPenalty):
    """Of the gradients of the losses at the batch, and of how they change."""

    def moved(self, seen: Pass, shifts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """g_b(ℓ) where each followed input, or the output of the layer `wrt`, is moved by its shift."""
        if self.wrt is not None:
            there = seen.again(replace={self.wrt: lambda h: add(h, shifts[0])}, layers=self.layers)
        else:
            waiting = iter(shifts)
            inputs = tuple(add(x, next(waiting)) if x.requires_grad else x for x in seen.inputs)
            there = seen.again(inputs if isinstance(seen.x, tuple) else inputs[0])
        return self.rows(there, there.losses)

    def here(self, seen: Pass) -> tuple[Tensor, ...]:
        """g_b(ℓ), one for each followed input."""
        found = self.rows(seen, seen.losses)
        wanted = len(self.places(seen))
        if len(found) != wanted:
            raise GraphError(
                f"{self.name}: expected losses that depend on each of {wanted} followed inputs, "
                f"got {len(found)} that matter"
            )
        return found

    def places(self, seen: Pass) -> list[Tensor]:
        """The followed inputs, or the output of the layer `wrt`."""
        return [x for x in seen.inputs if x.requires_grad] if self.wrt is None else [seen.outputs[self.wrt]]


class CurvaturePenalty(_OfLosses):
    """λ · mean_b ‖g_b(x + z) - g_b(x)‖₂² of the losses, z_b = h · sign(g_b)/‖sign(g_b)‖₂ held constant.

    CURE, Moosavi-Dezfooli et al., arXiv 1811.09716. The authors' code takes the norm and not its square, runs
    in evaluation mode with h = 3 and does not divide by h; here it is the square, in the model's own mode,
    with the random numbers of the main pass. A loss that is quadratic in x, with the Hessian A, has
    h² ‖A ẑ‖₂². Where g_b is zero so is z_b.
    """

    def __init__(
        self,
        weight: Weight = 4.0,
        h: float = 1.5,
        *,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)
        self.h = _positive("CurvaturePenalty", h=h)

    def __call__(self, seen: Pass) -> Tensor:
        here = self.here(seen)
        signs = [sign(g.detach()) for g in here]
        squared = reduce(add, [per_sample(square(s)) for s in signs])
        length = sqrt(where(gt(squared, 0), squared, 1.0))
        there = self.moved(seen, [mul(div(s, beside(s, length)), self.h) for s in signs])
        bends = [sum(square(sub(a, b))) for a, b in zip(there, here, strict=True)]
        return div(reduce(add, bends), float(max(seen.samples, 1)))


class GradAlign(_OfLosses):
    """λ · mean_b (1 - cos(g_b(x), g_b(x + η))) of the losses, η uniform in [-ε, ε]; both sides are
    differentiated.

    Andriushchenko and Flammarion, arXiv 2007.02617: λ .2 for ε 8/255. Samples of which one gradient is zero
    are left out of the mean. The authors' three passes in training mode move running statistics three times;
    here they move once.

    Args:
        eps: half the side of the box, in the units of the input.
    """

    def __init__(
        self,
        weight: Weight = 0.2,
        *,
        eps: float,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)
        self.eps = _positive("GradAlign", eps=eps)

    def __call__(self, seen: Pass) -> Tensor:
        here = self.here(seen)
        there = self.moved(seen, [self._noise(g) for g in here])
        pairs = list(zip(here, there, strict=True))
        a = reduce(add, [per_sample(square(g)) for g in here])
        b = reduce(add, [per_sample(square(g)) for g in there])
        known = gt(a, 0) & gt(b, 0)
        # Two roots: in float32 the product of two small squares would be zero.
        lengths = mul(sqrt(where(known, a, 1.0)), sqrt(where(known, b, 1.0)))
        cosines = div(reduce(add, [per_sample(mul(g, h)) for g, h in pairs]), lengths)
        counted = cast(known, dtype=a.dtype)
        of, by = over_ranks(sum(mul(sub(1.0, cosines), counted)), sum(counted))
        return div(of, maximum(by, 1.0))

    def _noise(self, g: Tensor) -> Tensor:
        u = of_samples(rand, g.shape, generator=self.generator, dtype=g.dtype, device=g.device)
        return mul(sub(mul(u, 2.0), 1.0), self.eps)


class HessianTrace(_OfLosses):
    """λ · the mean over n draws of vᵀHv, v = ±1: Hutchinson's estimate of the trace of a Hessian.

    of       "input": mean_b tr ∂²ℓ_b/∂x_b² where samples do not meet (or at the layer `wrt`);
             "weights": the trace of the Hessian of the mean loss by all parameters, v drawn one parameter
             after the other, the same for all samples

    Its variance is 2 (‖H‖_F² - Σ H_ii²), that of a Gaussian v 2 ‖H‖_F² (Hutchinson 1990). The gradient is of
    third order in the net. With ReLU, H is JᵀSJ almost everywhere: how the kinks bend the loss is not in it.
    """

    def __init__(
        self,
        weight: Weight,
        n: int = 1,
        of: str = "input",
        *,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)
        self.n, self.of = require_count("HessianTrace", n=n), of
        if of not in ("input", "weights"):
            raise ValueError(f"HessianTrace: expected of in ('input', 'weights'), got {of!r}")
        if of == "weights":
            if wrt is not None:
                raise ValueError(f"HessianTrace: expected no wrt with of='weights', got {wrt!r}")
            self.follows = False

    def __call__(self, seen: Pass) -> Tensor:
        draws = [self._draw(seen) for _ in range(self.n)]
        return div(reduce(add, draws), float(self.n))

    def _draw(self, seen: Pass) -> Tensor:
        if self.of == "weights":
            return self._bend(of_batch, *_slopes(self.name, seen, mean(seen.losses)))
        return div(self._bend(of_samples, self.places(seen), self.here(seen)), float(max(seen.samples, 1)))

    def _bend(self, draw: Any, places: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
        """vᵀ ∂<slopes, v>/∂places for v drawn one after the other."""
        signs = [draw(self._signs, g) for g in slopes]
        turned = _inner(slopes, signs)
        found = grad(turned, places, create_graph=True, allow_unused=True) if turned.requires_grad else ()
        pairs = [(v, g) for v, g in zip(signs, found, strict=False) if g is not None]
        if not pairs:
            raise GraphError(f"{self.name}: expected losses that bend, got some whose Hessian is zero")
        return _inner(*zip(*pairs, strict=True))

    def _signs(self, like: Tensor) -> Tensor:
        bits = randint(0, 2, like.shape, generator=self.generator, device=like.device)
        return cast(sub(mul(bits, 2), 1), dtype=like.dtype)


class GradientNorm(Penalty):
    """λ · √(‖∇_θ mean_b ℓ_b‖₂² + 1e-16) over all parameters; `squared`: λ · ‖∇_θ mean_b ℓ_b‖₂².

    Zhao et al., arXiv 2202.03599, here with its exact derivative (the paper's, which needs no second one, is
    `td.optim.SAM(base, rho, alpha=λ/rho)`); squared: Barrett and Dherin, arXiv
    2009.11162. A norm of the batch's mean gradient, so batches of parts give another value.
    """

    coupled = reduces = True

    def __init__(
        self,
        weight: Weight,
        squared: bool = False,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.squared = squared

    def __call__(self, seen: Pass) -> Tensor:
        found = _squared_slopes(self.name, seen, mean(seen.losses))
        return found if self.squared else sqrt(add(found, TINY))


class FisherPenalty(Penalty):
    """λ · ‖∇_θ mean_b CE(z_b, ŷ_b)‖₂², ŷ_b drawn from p_b = softmax(z_b) and held constant, z (B, m).

    Jastrzębski et al., arXiv 2012.14193. One uniform number per sample, and ŷ is where the sum of p_1, p_2, …
    passes it. A norm of the batch's mean gradient, so batches of parts give another value.
    """

    coupled = reduces = True

    def __call__(self, seen: Pass) -> Tensor:
        logits = seen.logits
        require_classes("FisherPenalty", logits)
        B, m = logits.shape
        u = of_samples(rand, (B, 1), generator=self.generator, dtype=logits.dtype, device=logits.device)
        # Without the last sum, which rounding may leave below 1, no index is out of range.
        passed = le(cumsum(softmax(logits.detach(), 1), 1)[:, : m - 1], u)
        drawn = one_hot(sum(passed, 1), m)
        likelihoods = sum(mul(seen.log_probabilities, cast(drawn, dtype=logits.dtype)))
        return _squared_slopes(self.name, seen, div(likelihoods, -float(max(B, 1))))


def _slopes(who: str, seen: Pass, value: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The trainable parameters that the value depends on, and its derivatives by them on the tape."""
    wanted = [p for p in seen.model.parameters() if p.requires_grad]
    found = grad(value, wanted, create_graph=True, allow_unused=True) if value.requires_grad else ()
    pairs = [(p, g) for p, g in zip(wanted, found, strict=False) if g is not None]
    if not pairs:
        raise GraphError(f"{who}: expected trainable parameters that the loss depends on, got none")
    return [p for p, _ in pairs], [g for _, g in pairs]


def _squared_slopes(who: str, seen: Pass, value: Tensor) -> Tensor:
    """‖∇_θ value‖², of a value that is a mean over the samples: over all ranks' where they share a batch."""
    shard = state.shard
    slopes = _slopes(who, seen, value if shard is None else mul(value, shard.share))[1]
    return reduce(add, [sum(square(g)) for g in over_ranks(*slopes)])


def _inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return reduce(add, [sum(mul(x, y)) for x, y in zip(a, b, strict=True)])


def _positive(who: str, **option: float) -> float:
    """The option, a number above 0."""
    ((name, value),) = option.items()
    if not 0 < value < float("inf"):
        raise ValueError(f"{who}: expected {name} above 0, got {value!r}")
    return float(value)
