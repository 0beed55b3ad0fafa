"""Critics of generated samples: losses of a model D that gives one number per sample, or a class.

The objective is the critic's: x is real, `fake=` the generated samples, both in their own batches; the pass
of the fakes is an extra one with random numbers of the term's. Losses are penalties that take the loss's
place:

    Objective(critic, Wasserstein(), [GradientPenalty()])(real, fake=generator(noise).detach())
"""

from __future__ import annotations

import math
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..ops.activations import softplus
from ..ops.creation import ones
from ..ops.elementwise import mul, neg, relu, square, sub
from ..ops.random import Generator, of_samples, rand_beta
from ..ops.reduce import logsumexp, mean
from ..ops.softmax import cross_entropy
from .contract import Penalty, Weight
from .gradients import require_classes, single_outputs
from .measures import beside
from .passes import Pass, unreduced

__all__ = [
    "Hinge",
    "LeastSquares",
    "Logistic",
    "Relativistic",
    "SemiSupervised",
    "Wasserstein",
    "mixed_with_fakes",
]


def fake_of(term: Penalty, seen: Pass) -> Tensor:
    """What the objective was given as fake=."""
    fake = seen.given.get("fake")
    if not isinstance(fake, Tensor):
        got = [*seen.given] if fake is None else type(fake).__name__
        raise ValueError(f"{term.name}: expected fake= of the objective's call, a tensor, got {got}")
    return fake


def real_of(term: Penalty, seen: Pass) -> Tensor:
    """The one input of the critic."""
    if isinstance(seen.x, tuple):
        raise ShapeError(f"{term.name}: expected a critic of one input, got {len(seen.x)}")
    return seen.x


# Losses
# ------------------------------------------------------------------------------------------------------------


class CriticLoss(Penalty):
    """The mean of a function of D(x) and of D(fake)."""

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)

    def of(self, real: Tensor, fake: Tensor) -> Tensor:
        """The loss of outputs (B,) and (B',)."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """The generator's loss of the same outputs, for `GeneratorLoss`."""
        return neg(mean(fake))

    def __call__(self, seen: Pass) -> Tensor:
        who, there = (
            type(self).__name__,
            seen.again(fake_of(self, seen), draws="own", generator=self.generator),
        )
        return self.of(single_outputs(who, seen.logits), single_outputs(who, there.logits))


class Wasserstein(CriticLoss):
    """mean D(fake) - mean D(x). Arjovsky et al., arXiv 1701.07875."""

    def of(self, real: Tensor, fake: Tensor) -> Tensor:
        return sub(mean(fake), mean(real))


class Hinge(CriticLoss):
    """mean max(0, 1 - D(x)) + mean max(0, 1 + D(fake)). Lim and Ye, arXiv 1705.02894."""

    def of(self, real: Tensor, fake: Tensor) -> Tensor:
        return add(mean(relu(sub(1.0, real))), mean(relu(add(fake, 1.0))))


class LeastSquares(CriticLoss):
    """mean (D(x) - 1)² + mean D(fake)², without the paper's halves. Mao et al., arXiv 1611.04076."""

    def of(self, real: Tensor, fake: Tensor) -> Tensor:
        return add(mean(square(sub(real, 1.0))), mean(square(fake)))

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return mean(square(sub(fake, 1.0)))


class Logistic(CriticLoss):
    """mean softplus(-D(x)) + mean softplus(D(fake)): that of Goodfellow et al., arXiv 1406.2661, with D the
    logit.
    """

    def of(self, real: Tensor, fake: Tensor) -> Tensor:
        return add(mean(softplus(neg(real))), mean(softplus(fake)))

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        return mean(softplus(neg(fake)))


class Relativistic(CriticLoss):
    """mean_b softplus(-(D(x_b) - D(fake_b))), in pairs. Jolicoeur-Martineau, arXiv 1807.00734; with R1 and R2
    on every step it is R3GAN's (Huang et al., arXiv 2501.05441). The generator's has the roles swapped.

    Raises:
        ShapeError: fakes and real samples of different numbers.
    """

    def of(self, real: Tensor, fake: Tensor) -> Tensor:
        if real.shape != fake.shape:
            raise ShapeError(f"Relativistic: expected a fake for each of {real.shape}, got {fake.shape}")
        return mean(softplus(sub(fake, real)))

    def of_generator(self, fake: Tensor, real: Tensor | None) -> Tensor:
        assert real is not None
        return self.of(fake, real)


class SemiSupervised(Penalty):
    """A loss: CE(z, y) - ½ mean lse(u) + ½ mean softplus(lse(u)) + ½ mean softplus(lse(fake)), of a critic
    with K logits z, lse their log-sum-exp: it says D(x) = Z/(Z + 1) with Z = Σ exp z, and the class.
    `objective(x, y, unlabeled=u, fake=g)`.

    Salimans et al., arXiv 1606.03498, section 5; the generator is trained by `FeatureMatching`. The passes of
    the unlabeled samples and of the fakes are extra ones with random numbers of the term's.

    Args:
        loss: of the labeled samples, a function of (output, target, reduction="none").

    Raises:
        ValueError: no unlabeled= or no fake=.
        ShapeError: outputs that are not (B, K).
    """

    def __init__(
        self,
        loss: Any = cross_entropy,
        *,
        weight: Weight = 1.0,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.loss = loss

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("SemiSupervised", seen.logits)
        if seen.loss is None:  # for terms that follow
            seen.loss = self.loss
        labeled = mean(unreduced(self.loss, seen.logits, seen.target))
        real, fake = (self._evidence(seen, name) for name in ("unlabeled", "fake"))
        return add(labeled, mul(add(mean(sub(softplus(real), real)), mean(softplus(fake))), 0.5))

    def _evidence(self, seen: Pass, name: str) -> Tensor:
        """(B,), log Z of what was given under the name."""
        x = seen.given.get(name)
        if not isinstance(x, Tensor):
            got = [*seen.given] if x is None else type(x).__name__
            raise ValueError(f"{self.name}: expected {name}= of the objective's call, a tensor, got {got}")
        return logsumexp(seen.again(x, draws="own", generator=self.generator).logits, 1)


def mixed_with_fakes(
    x: Tensor, fake: Tensor, alpha: float = 1.0, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Mixup for a critic: (λx + (1 - λ) fake, λ) with λ ~ Beta(α, α) for each sample, (B, *) and (B,): what
    it should say of each is λ, 1 for real.

        x, target = mixed_with_fakes(real, generator(noise).detach(), 0.2)
        loss = td.binary_cross_entropy_with_logits(critic(x)[:, 0], target)

    Zhang et al., arXiv 1710.09412, section 3.5; a lecture's formula lacks the λ on x. alpha 0 is no mixing,
    λ = 1, and draws nothing.

    Args:
        x, fake: (B, *), floating.

    Raises:
        ShapeError: not a fake for each sample.
        ValueError: alpha below 0.
    """
    if x.shape != fake.shape or x.ndim < 1:
        raise ShapeError(f"mixed_with_fakes: expected a fake for each sample {x.shape}, got {fake.shape}")
    if not 0 <= alpha < math.inf:
        raise ValueError(f"mixed_with_fakes: expected alpha of at least 0, got {alpha!r}")
    if alpha == 0:
        return x, ones(x.shape[:1], dtype=x.dtype, device=x.device)
    share = of_samples(
        rand_beta, alpha, alpha, x.shape[0], dtype=x.dtype, generator=generator, device=x.device
    )
    wide = beside(x, share)
    return add(mul(x, wide), mul(fake, sub(1.0, wide))), share
