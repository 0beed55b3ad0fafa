"""Losses and penalties of critics.

    objective = Objective(critic, Wasserstein(), [GradientPenalty(10.0)])
    terms = objective(real, fake=generator(noise).detach())

The main pass is that of the critic D on real samples x; `fake=` is given to the Objective's call, detached in
the critic's step. D puts out one number per sample, (B,) or (B, 1); penalties are of D itself, never of a
loss of it. Passes on fakes and between are extra ones: running statistics are those of the real samples. In
the generator's step give the fakes on the tape, and step the generator's optimizer alone.

`every=c` on a penalty is lazy regularization (Karras et al., arXiv 1912.04958): it joins each c-th step,
times c, in the loss's own step, so that the optimizer stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..engine.core import Tensor, add
from ..nn.init import normal_
from ..nn.module import Module
from ..nn.normalization import _BatchNorm
from ..nn.parameter import Parameter
from ..ops.activations import softplus
from ..ops.elementwise import abs as absolute
from ..ops.elementwise import exp, maximum, mul, sqrt, square, sub
from ..ops.matmul import matmul
from ..ops.random import Generator, rand, random_from
from ..ops.reduce import mean, sum
from ..ops.shape import cat, reshape, unsqueeze
from .contract import Penalty, Weight
from .passes import Pass

__all__ = [
    "DRAGAN",
    "R1",
    "R2",
    "Consistency",
    "FeatureMatching",
    "GradientPenalty",
    "Hinge",
    "LeastSquares",
    "MinibatchDiscrimination",
    "NonSaturating",
    "Relativistic",
    "Wasserstein",
]


# What they share
# ------------------------------------------------------------------------------------------------------------


class CriticPenalty(Penalty):
    """Of a critic's outputs on real samples and on fakes."""

    def scores(self, seen: Pass) -> Tensor:
        """(B,), D of each sample."""
        z = seen.logits
        if z.shape not in ((seen.samples,), (seen.samples, 1)):
            raise ShapeError(
                f"{type(self).__name__}: expected one output per sample ({seen.samples},), got {z.shape}"
            )
        return reshape(z, (-1,))

    def fakes(self, seen: Pass) -> Tensor:
        """What the Objective's call was given as fake=."""
        fake = seen.given.get("fake")
        if not isinstance(fake, Tensor):
            raise ValueError(f"{self.name}: expected fake= of the objective's call, got {[*seen.given]}")
        return fake

    def paired(self, seen: Pass) -> tuple[Tensor, Tensor]:
        """Real samples and fakes of the same shape, both off the tape."""
        fake = self.fakes(seen)
        if isinstance(seen.x, tuple) or fake.shape != seen.x.shape:
            wanted = "one input" if isinstance(seen.x, tuple) else seen.x.shape
            raise ShapeError(f"{self.name}: expected fake of the shape of x, {wanted}, got {fake.shape}")
        return seen.x.detach(), fake.detach()

    def on_fakes(self, seen: Pass, fake: Tensor, layers: tuple[str, ...] = ()) -> Pass:
        """D's pass on fakes; on the main pass's draws where there are as many."""
        same = fake.shape[0] == seen.samples
        return seen.again(
            fake, draws="same" if same else "own", generator=None if same else self.generator, layers=layers
        )

    def squared_slopes(self, seen: Pass) -> Tensor:
        """(B,): ‖row b of ∂(Σ D)/∂x‖², of each sample, not of the batch."""
        rows = seen.slopes(self.scores(seen), None, self.name)
        return sum(square(rows), 1)


# Losses
# ------------------------------------------------------------------------------------------------------------


class CriticLoss(CriticPenalty):
    """The mean of one function of D(x) and that of another of D(x̃); in the generator's step,
    `Objective(critic, Hinge(side="generator"))(generator(noise))`, of a third of D on what is given as x.
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        side: str = "critic",
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if side not in ("critic", "generator"):
            raise ValueError(f"{type(self).__name__}: expected side in ('critic', 'generator'), got {side!r}")
        self.side = side

    def of_real(self, d: Tensor) -> Tensor:
        raise NotImplementedError

    def of_fake(self, d: Tensor) -> Tensor:
        raise NotImplementedError

    def of_generator(self, d: Tensor) -> Tensor:
        """By default fakes are to look real."""
        return self.of_real(d)

    def __call__(self, seen: Pass) -> Tensor:
        if self.side == "generator":
            return mean(self.of_generator(self.scores(seen)))
        other = self.on_fakes(seen, self.fakes(seen))
        return add(mean(self.of_real(self.scores(seen))), mean(self.of_fake(self.scores(other))))


class Wasserstein(CriticLoss):
    """mean D(x̃) − mean D(x); the generator's −D. Arjovsky et al., arXiv 1701.07875."""

    def of_real(self, d: Tensor) -> Tensor:
        return mul(d, -1.0)

    def of_fake(self, d: Tensor) -> Tensor:
        return d


class Hinge(CriticLoss):
    """mean max(0, 1 − D(x)) + mean max(0, 1 + D(x̃)); the generator's −D. Lim & Ye, arXiv 1705.02894."""

    def of_real(self, d: Tensor) -> Tensor:
        return maximum(sub(1.0, d), 0.0)

    def of_fake(self, d: Tensor) -> Tensor:
        return maximum(add(d, 1.0), 0.0)

    def of_generator(self, d: Tensor) -> Tensor:
        return mul(d, -1.0)


class LeastSquares(CriticLoss):
    """½ mean (D(x) − 1)² + ½ mean D(x̃)²; the generator's ½(D − 1)². Mao et al., arXiv 1611.04076."""

    def of_real(self, d: Tensor) -> Tensor:
        return mul(square(sub(d, 1.0)), 0.5)

    def of_fake(self, d: Tensor) -> Tensor:
        return mul(square(d), 0.5)


class NonSaturating(CriticLoss):
    """mean softplus(−D(x)) + mean softplus(D(x̃)); the generator's softplus(−D), which does not saturate.

    Goodfellow et al., arXiv 1406.2661.
    """

    def of_real(self, d: Tensor) -> Tensor:
        return softplus(mul(d, -1.0))

    def of_fake(self, d: Tensor) -> Tensor:
        return softplus(d)


class Relativistic(CriticPenalty):
    """A critic's loss: mean softplus(−(D(x) − D(x̃))), each real sample beside the fake of its row. In the
    generator's step x and fake change places.

    Jolicoeur-Martineau, arXiv 1807.00734; with `R1` and `R2` on every step the loss of R3GAN, Huang et al.,
    arXiv 2501.05441.
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)

    def __call__(self, seen: Pass) -> Tensor:
        fake = self.fakes(seen)
        if fake.shape[0] != seen.samples:
            raise ShapeError(f"{self.name}: expected fakes of {seen.samples} rows, got {fake.shape}")
        other = self.on_fakes(seen, fake)
        return mean(softplus(sub(self.scores(other), self.scores(seen))))


# Penalties on slopes
# ------------------------------------------------------------------------------------------------------------


class R1(CriticPenalty):
    """γ · ½ mean_b ‖∂D/∂x‖² on real samples. Mescheder et al., arXiv 1801.04406 (γ .1 to 10)."""

    follows = True

    def __call__(self, seen: Pass) -> Tensor:
        return mul(mean(self.squared_slopes(seen)), 0.5)


class R2(CriticPenalty):
    """γ · ½ mean_b ‖∂D/∂x̃‖² on fakes. Mescheder et al., arXiv 1801.04406."""

    def __call__(self, seen: Pass) -> Tensor:
        other = self.on_fakes(seen, self.fakes(seen).detach().requires_grad_())
        return mul(mean(self.squared_slopes(other)), 0.5)


class LengthPenalty(CriticPenalty):
    """mean_b (‖∂D/∂x̂‖ − 1)² at inputs x̂ of a subclass's; one-sided: of lengths above 1 alone."""

    def __init__(
        self,
        weight: Weight = 10.0,
        one_sided: bool = False,
        *,
        batch_norm: bool = False,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.one_sided, self.batch_norm = one_sided, batch_norm

    def between(self, seen: Pass) -> Tensor:
        """The inputs x̂."""
        raise NotImplementedError

    def __call__(self, seen: Pass) -> Tensor:
        meeting = [m for m in seen.model.modules() if isinstance(m, _BatchNorm) and m.training]
        if meeting and not self.batch_norm:
            raise GraphError(
                f"{type(self).__name__}: expected a critic whose samples do not meet (batch_norm=True allows "
                "it), got one with BatchNorm in training"
            )
        other = seen.again(self.between(seen).requires_grad_())
        away = sub(sqrt(add(self.squared_slopes(other), 1e-16)), 1.0)
        return mean(square(maximum(away, 0.0) if self.one_sided else away))


class GradientPenalty(LengthPenalty):
    """λ · mean_b (‖∂D/∂x̂‖ − 1)² at x̂ = tx + (1 − t)x̃, t uniform per sample: WGAN-GP.

    Gulrajani et al., arXiv 1704.00028 (λ 10); √(Σg² + 1e-16) has a derivative at 0, which theirs lacks.
    `one_sided` counts lengths above 1 alone. A critic with BatchNorm in training is refused: its D(x̂) is one
    of the whole batch.
    """

    def between(self, seen: Pass) -> Tensor:
        x, fake = self.paired(seen)
        shape = (x.shape[0], *(1,) * (x.ndim - 1))
        t = rand(shape, generator=self.generator, dtype=x.dtype, device=x.device)
        return add(mul(x, t), mul(fake, sub(1.0, t)))


class DRAGAN(LengthPenalty):
    """λ · mean_b (‖∂D/∂x̂‖ − 1)² at x̂ = x + α·c·std·U, α uniform per sample, then U in [0, 1)^n; std is that
    of the whole batch.

    Kodali et al., arXiv 1705.07215 (λ 10, c ½). The noise points upwards alone, as theirs does.
    """

    def __init__(self, weight: Weight = 10.0, c: float = 0.5, **options: Any) -> None:
        super().__init__(weight, **options)
        if not c >= 0:
            raise ValueError(f"DRAGAN: expected c of at least 0, got {c}")
        self.c = c

    def between(self, seen: Pass) -> Tensor:
        if isinstance(seen.x, tuple):
            raise ShapeError(f"DRAGAN: expected one input, got {len(seen.x)}")
        x = seen.x.detach()
        more = {"generator": self.generator, "dtype": x.dtype, "device": x.device}
        alpha = rand((x.shape[0], *(1,) * (x.ndim - 1)), **more)
        noise = rand(x.shape, **more)
        deviation = sqrt(mean(square(sub(x, mean(x)))))
        return add(x, mul(mul(noise, alpha), mul(deviation, self.c)))


# Penalties on outputs and features
# ------------------------------------------------------------------------------------------------------------


class FeatureMatching(CriticPenalty):
    """λ · Σ_j (mean_b f_j(x) − mean_b f_j(x̃))² of a layer's outputs f, the real side detached: the
    generator's loss, `Objective(critic, FeatureMatching(1.0, layer))(real, fake=generator(noise))`.

    Salimans et al., arXiv 1606.03498.
    """

    def __init__(
        self,
        weight: Weight,
        layer: str,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.layers = (layer,)

    def __call__(self, seen: Pass) -> Tensor:
        (layer,) = self.layers
        other = self.on_fakes(seen, self.fakes(seen), self.layers)
        return sum(square(sub(self.real(seen), mean(other.outputs[layer], 0))))

    def real(self, seen: Pass) -> Tensor:
        """The mean features of the real samples, detached."""
        return mean(seen.outputs[self.layers[0]], 0).detach()


class Consistency(CriticPenalty):
    """λ · mean_b (D(x) − D(augment(x)))², both differentiated; with `fakes` that of the fakes is added.

    Zhang et al., arXiv 1910.12027 (λ 10); with fakes bCR, Zhao et al., arXiv 2002.04724. `augment` is a
    function of x; what it draws comes from the term's generator.
    """

    def __init__(
        self,
        weight: Weight,
        augment: Callable[[Tensor], Tensor],
        fakes: bool = False,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.augment, self.of_fakes = augment, fakes

    def __call__(self, seen: Pass) -> Tensor:
        value = self._of(seen)
        return add(value, self._of(self.on_fakes(seen, self.fakes(seen)))) if self.of_fakes else value

    def _of(self, seen: Pass) -> Tensor:
        with random_from(self.generator):
            x = self.augment(seen.x)
        return mean(square(sub(self.scores(seen), self.scores(seen.again(x)))))


class MinibatchDiscrimination(Module):
    """A layer of critics: features f (B, in_features) with `kernels` numbers appended that say how near the
    other samples are: o_ib = Σ_{j≠i} exp(−‖M_ib − M_jb‖₁), M = fT of shape (B, kernels, dims).

    Salimans et al., arXiv 1606.03498, whose sum has j = i in it, a constant 1. T is drawn from N(0, .05²).
    Refuses a single sample.
    """

    def __init__(self, in_features: int, kernels: int = 100, dims: int = 5) -> None:
        super().__init__()
        if min(in_features, kernels, dims) < 1:
            raise ValueError(
                "MinibatchDiscrimination: expected in_features, kernels and dims of at least 1, got "
                f"{in_features}, {kernels}, {dims}"
            )
        self.in_features, self.kernels, self.dims = in_features, kernels, dims
        self.weight = Parameter(np.empty((in_features, kernels * dims), np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw T anew."""
        normal_(self.weight, 0.0, 0.05)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 2 or input.shape[1] != self.in_features or input.shape[0] < 2:
            raise ShapeError(
                f"MinibatchDiscrimination: expected input (B, {self.in_features}) of at least 2 samples, got "
                f"{input.shape}"
            )
        m = reshape(matmul(input, self.weight), (-1, self.kernels, self.dims))
        distances = sum(absolute(sub(unsqueeze(m, 0), unsqueeze(m, 1))), 3)
        return cat([input, sub(sum(exp(mul(distances, -1.0)), 1), 1.0)], 1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, kernels={self.kernels}, dims={self.dims}"
