"""Critics of generated samples: penalties of a model D that gives one number per sample; its losses are in
critic_losses.py.

`every=c` on a penalty is lazy regularization (Karras et al., arXiv 1912.04958): it joins the loss's own step
on each c-th step with c times its weight, and the optimizer stays as it is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add, no_grad, state
from ..nn.module import Module
from ..nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
from ..nn.parameter import Parameter
from ..ops.creation import eye
from ..ops.elementwise import abs, div, exp, gt, mul, neg, relu, sqrt, square, sub, where
from ..ops.matmul import matmul
from ..ops.random import Generator, of_samples, rand, randn, random_from
from ..ops.reduce import amin, mean, sum
from ..ops.shape import broadcast_to, cat, reshape, unsqueeze
from ..ops.update import assign
from .contract import Penalty, Weight
from .critic_losses import fake_of, real_of
from .gradients import (
    InputGradientPenalty,
    mean_square,
    norms,
    require_count,
    sample_mean,
    single_outputs,
)
from .measures import batch_mean
from .passes import Pass

__all__ = [
    "R1",
    "R2",
    "CriticConsistency",
    "Dragan",
    "FeatureMatching",
    "GradientPenalty",
    "MinibatchDiscrimination",
    "lazy_rates",
]


def lazy_rates(lr: float, betas: tuple[float, float], every: int) -> dict[str, Any]:
    """{"lr": k · lr, "betas": (β₁^k, β₂^k)} with k = every/(every + 1), for an optimizer that takes a step of
    its own for a penalty on each `every`-th step beside those of the loss: over them its rate and its memory
    are what they were without (Karras et al., arXiv 1912.04958, appendix B).

    An `Objective` needs none of it: there a penalty with `every=` joins the loss's step.

    Raises:
        ValueError: every below 1.
    """
    k = require_count("lazy_rates", every=every) / (every + 1)
    return {"lr": k * lr, "betas": (betas[0] ** k, betas[1] ** k)}


# Penalties on gradients
# ------------------------------------------------------------------------------------------------------------


class R1(InputGradientPenalty):
    """γ · ½ mean_b ‖g_b(D)‖₂² at the real samples, of D itself, never of a loss of it.

    Mescheder et al., arXiv 1801.04406: γ .1 to 10.

    Raises:
        ShapeError: a critic with several outputs per sample.
    """

    def __call__(self, seen: Pass) -> Tensor:
        return mul(self.squared(seen, self.single_outputs(seen.logits)), 0.5)


class _Elsewhere(InputGradientPenalty):
    """At other samples than the objective's, which are followed in an extra pass; with `wrt` the output of
    that layer is.
    """

    def __init__(self, weight: Weight, **options: Any) -> None:
        super().__init__(weight, **options)
        self.follows = False

    def slopes(self, seen: Pass, x: Tensor, **how: Any) -> tuple[Tensor, ...]:
        x = x.detach()
        there = seen.again(x.requires_grad_() if self.wrt is None else x, layers=self.layers, **how)
        return self.rows(there, self.single_outputs(there.logits))

    def excess(self, seen: Pass, x: Tensor) -> Tensor:
        """(B,), ‖g_b(D)‖₂ - 1 at x (B, *), on the random numbers of the objective's pass."""
        if any(m.training and isinstance(m, BATCH_NORMS) for m in seen.model.modules()):
            warnings.warn(
                f"{type(self).__name__}: expected a critic whose samples do not meet, got a BatchNorm in "
                "training: the norm of a gradient is then not a sample's own",
                stacklevel=4,
            )
        return sub(norms(self.slopes(seen, x)), 1.0)


BATCH_NORMS = BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm


class R2(_Elsewhere):
    """γ · ½ mean_b ‖g_b(D)‖₂² at `fake=`, which is detached. Mescheder et al., arXiv 1801.04406.

    Raises:
        ShapeError: a critic with several outputs per sample.
        ValueError: no fake=.
    """

    def __call__(self, seen: Pass) -> Tensor:
        fake = fake_of(self, seen)
        found = self.slopes(seen, fake, draws="own", generator=self.generator)
        return mul(mean_square(found), 0.5)


class GradientPenalty(_Elsewhere):
    """λ · mean_b (‖g_b(D)‖₂ - 1)² at t_b x_b + (1 - t_b) fake_b, t uniform in [0, 1) for each sample; with
    `one_sided` only where the norm is above 1. WGAN-GP, Gulrajani et al., arXiv 1704.00028.

    The norm is √(Σ g² + 1e-16), without which its derivative at 0 is NaN. Warns of a BatchNorm in the critic.
    """

    then = "all norms identically zero"

    def __init__(self, weight: Weight = 10.0, one_sided: bool = False, **options: Any) -> None:
        super().__init__(weight, **options)
        self.one_sided = one_sided

    def __call__(self, seen: Pass) -> Tensor:
        x, fake = real_of(self, seen).detach(), fake_of(self, seen).detach()
        if x.shape != fake.shape:
            raise ShapeError(f"GradientPenalty: expected a fake for each sample {x.shape}, got {fake.shape}")
        shape = (x.shape[0], *(1,) * (x.ndim - 1))
        t = of_samples(rand, shape, generator=self.generator, dtype=x.dtype, device=x.device)
        excess = self.excess(seen, add(mul(x, t), mul(fake, sub(1.0, t))))
        return sample_mean(square(relu(excess) if self.one_sided else excess))


class Dragan(_Elsewhere):
    """λ · mean_b (‖g_b(D)‖₂ - 1)² at x_b + α_b c s u_b, s the standard deviation of all numbers of the batch,
    α_b and each element of u_b uniform in [0, 1). DRAGAN, Kodali et al., arXiv 1705.07215.

    As in the authors' code the noise goes upwards only. s is the batch's, so batches of parts give another
    value. Warns of a BatchNorm in the critic.
    """

    coupled = True
    then = "all norms identically zero"

    def __init__(self, weight: Weight = 10.0, c: float = 0.5, **options: Any) -> None:
        super().__init__(weight, **options)
        if not 0 < c < math.inf:
            raise ValueError(f"Dragan: expected c above 0, got {c!r}")
        self.c = float(c)

    def __call__(self, seen: Pass) -> Tensor:
        x = real_of(self, seen).detach()
        options: dict[str, Any] = {"generator": self.generator, "dtype": x.dtype, "device": x.device}
        alpha = of_samples(rand, (x.shape[0], *(1,) * (x.ndim - 1)), **options)
        spread = mul(sqrt(mean(square(sub(x, mean(x))))), self.c)
        return mean(
            square(self.excess(seen, add(x, mul(mul(alpha, spread), of_samples(rand, x.shape, **options)))))
        )


# Others
# ------------------------------------------------------------------------------------------------------------


class FeatureMatching(Penalty):
    """λ · ‖mean_b f(x_b) - mean_b f(fake_b)‖₂² of what a layer puts out, the real side detached: for a
    generator whose samples are `fake=`. Salimans et al., arXiv 1606.03498.

    Of means over the batch, so batches of parts give another value.
    """

    coupled = reduces = True

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
        there = seen.again(fake_of(self, seen), draws="own", generator=self.generator, layers=self.layers)
        return sum(square(sub(self.target(seen), batch_mean(there.outputs[self.layers[0]]))))

    def target(self, seen: Pass) -> Tensor:
        """mean_b f(x_b), detached."""
        return batch_mean(seen.outputs[self.layers[0]].detach())


class CriticConsistency(Penalty):
    """λ · mean_b (D(x_b) - D(augment(x_b)))², both differentiated; with `fakes` the same of `fake=` too.

    Zhang et al., arXiv 1910.12027; balanced: Zhao et al., arXiv 2002.04724. `augment` draws from the term's
    generator; the second pass is on the random numbers of the first.
    """

    def __init__(
        self,
        weight: Weight = 10.0,
        *,
        augment: Callable[[Tensor], Tensor],
        fakes: bool = False,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.augment, self.fakes = augment, fakes

    def __call__(self, seen: Pass) -> Tensor:
        value = self._gap(seen, real_of(self, seen))
        if self.fakes:
            fake = fake_of(self, seen)
            clean = seen.again(fake, draws="own", generator=self.generator)
            value = add(value, self._gap(clean, fake))
        return value

    def _gap(self, clean: Pass, x: Tensor) -> Tensor:
        with random_from(self.generator):
            view = self.augment(x)
        outputs = [single_outputs("CriticConsistency", each.logits) for each in (clean, clean.again(view))]
        return mean(square(sub(*outputs)))


class MinibatchDiscrimination(Module):
    """(B, in) to (B, in + kernels): appends o_ik = Σ_{j≠i} exp(-‖M_ik - M_jk‖₁), M = x T with T (in, kernels,
    dims), so that a critic sees how alike the samples of a batch are. Salimans et al., arXiv 1606.03498,
    whose sum holds j = i too: 1 more everywhere.

    T starts as N(0, 1/in). The authors' code has a bias, lengths of T of their own (`weight_norm(layer, "T",
    dim=1)`) and a start from data: `start`.

    Args:
        bias: o + b, with b (kernels,) that starts as 0.

    Raises:
        ShapeError: a single sample, which has no others.
    """

    def __init__(
        self, in_features: int, kernels: int = 100, dims: int = 5, bias: bool = False, dtype: Any = None
    ) -> None:
        super().__init__()
        sizes = {"in_features": in_features, "kernels": kernels, "dims": dims}
        self.in_features, self.kernels, self.dims = (
            require_count("MinibatchDiscrimination", **{name: size}) for name, size in sizes.items()
        )
        shape = (self.in_features, self.kernels * self.dims)
        self.T = Parameter(
            mul(randn(shape, dtype=np.dtype(np.float32) if dtype is None else dtype), self.in_features**-0.5)
        )
        self.bias = Parameter(np.zeros(self.kernels, self.T.dtype)) if bias else None

    def start(self, input: Tensor) -> None:
        """Before training, with a batch (B, in): scale T so that the distance to the nearest other sample is
        2 in the mean, for each kernel, and set the bias to minus the mean o. T or, under weight normalization
        of its columns, their lengths.
        """
        with no_grad():
            apart = self.distances(input)
            itself = reshape(eye(apart.shape[0], device=apart.device), (*apart.shape[:2], 1))
            nearest = mean(amin(where(gt(itself, 0.0), math.inf, apart), 1), 0)
            if not nearest.min().item() > 0:
                raise ValueError(
                    "MinibatchDiscrimination.start: expected samples that differ, got a distance of 0"
                )
            columns = broadcast_to(reshape(div(2.0, nearest), (-1, 1)), (self.kernels, self.dims))
            scale = reshape(columns, (1, -1))
            lengths = getattr(self, "T_g", self.T)
            if lengths.shape[1] != scale.shape[1]:
                raise ShapeError(
                    "MinibatchDiscrimination.start: expected weight_norm(layer, 'T', dim=1), got lengths "
                    f"{lengths.shape}"
                )
            assign(lengths, mul(lengths, scale))
            if self.bias is not None:
                assign(self.bias, neg(mean(self.likeness(input), 0)))

    def distances(self, input: Tensor) -> Tensor:
        """(B, B, kernels), ‖M_ik - M_jk‖₁; where ranks share a batch, (B, all B, kernels)."""
        shard = state.shard
        samples = input.shape[0] if shard is None or input.ndim == 0 else shard.total
        if input.ndim != 2 or input.shape[1] != self.in_features or samples < 2:
            wanted = f"at least 2 samples (B, {self.in_features})"
            raise ShapeError(f"MinibatchDiscrimination: expected {wanted}, got {input.shape}")
        M = reshape(matmul(input, self.T), (input.shape[0], self.kernels, self.dims))
        others = M if shard is None else shard.gather(M)
        return sum(abs(sub(unsqueeze(others, 0), unsqueeze(M, 1))), 3)

    def likeness(self, input: Tensor) -> Tensor:
        """(B, kernels), o."""
        return sub(sum(exp(neg(self.distances(input))), 1), 1.0)  # without exp(0) of j = i

    def forward(self, input: Tensor) -> Tensor:
        o = self.likeness(input)
        return cat([input, o if self.bias is None else add(o, self.bias)], 1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, kernels={self.kernels}, dims={self.dims}"
