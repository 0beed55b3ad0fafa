"""Penalties on derivatives by the input (or by a layer's output): every training step is a double
backpropagation.

One definition for all: for a scalar s_b of each sample, g_b(s) is row b of ∂(Σ s)/∂h, where h is the input
or, with `wrt=`, the output of the layer at that dotted path; a penalty is the mean over b of a function of
g_b. Under batch statistics row b holds the other samples' scalars too, and that is the definition.

Varga, Csiszárik and Zombori, "Gradient regularization improves accuracy of discriminative models", arXiv
1712.09936. The functions take a forward pass that is there already; the classes are what an `Objective` adds
to its loss.

A penalty is a tensor on the tape, and trains nothing if its graph is cut. So each refuses an input that the
forward pass did not follow, a pass made under no_grad, and a penalty that no parameter can change.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import reduce

from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..ops.elementwise import div, square
from ..ops.random import Generator, randn
from ..ops.reduce import sum
from ..ops.shape import broadcast_to
from .contract import Penalty, Weight
from .passes import Pass, followed_gradients, require_trainable

__all__ = ["DataGrad", "FrobeniusJacobian", "SpectReg", "data_grad", "spect_reg"]

PENALTY_STREAM = 4


def data_grad(losses: Tensor, x: Tensor) -> Tensor:
    """DataGrad: mean_b ‖row b of ∂(Σ losses)/∂x‖₂², x (B, *), losses (B,).

    Double backpropagation, Drucker & LeCun, IJCNN 1991. The gradient is that of the *sum* of the losses:
    under batch statistics row b holds the other samples' losses too, and that is the definition.
    """
    if losses.shape != x.shape[:1]:
        raise ShapeError(
            f"data_grad: expected one loss a sample {x.shape[:1]} (reduction='none'), got {losses.shape}"
        )
    return _squared_gradient("data_grad", losses, None, x)


def spect_reg(logits: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """SpectReg: mean_b ‖r_bᵀ J_b‖₂² with J_b = ∂logits_b/∂x_b, x (B, *), logits and r (B, m).

    For r ~ N(0, I) its expectation is mean_b ‖J_b‖_F². The authors' slides print a factor 1/√m in r, which
    makes that equality off by m; their published λ belong to the form without it, which this is.
    """
    if logits.ndim != 2 or logits.shape[0] != x.shape[0]:
        raise ShapeError(
            f"spect_reg: expected logits (B, m) of the {x.shape[0]} samples of x, got {logits.shape}"
        )
    if r.shape != logits.shape:
        raise ShapeError(f"spect_reg: expected r shaped as the logits {logits.shape}, got {r.shape}")
    return _squared_gradient("spect_reg", logits, r, x)


def _squared_gradient(who: str, outputs: Tensor, seed: Tensor | None, x: Tensor) -> Tensor:
    """mean_b ‖row b of ∂<outputs, seed>/∂x‖₂², on the tape. x is (B, *)."""
    penalty = _mean_square(followed_gradients(who, outputs, seed, [x], "x"))
    require_trainable(who, penalty, {x.slot})
    return penalty


def _mean_square(gradients: Sequence[Tensor]) -> Tensor:
    """Σ g² over everything, by the number of samples."""
    return div(reduce(add, [sum(square(g)) for g in gradients]), float(max(gradients[0].shape[0], 1)))


class GradientPenalty(Penalty):
    """Of derivatives by the input or, with `wrt`, by the output of the layer at that dotted path."""

    def __init__(
        self,
        weight: Weight,
        *,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.wrt, self.follows = wrt, wrt is None
        self.layers = () if wrt is None else (wrt,)

    def squared(self, seen: Pass, outputs: Tensor, seed: Tensor | None = None) -> Tensor:
        """mean_b ‖g_b‖² for s_b = <outputs_b, seed_b>, without a seed the sum of outputs_b."""
        return _mean_square(seen.gradients(outputs, seed, self.wrt, self.name))

    def require_logits(self, seen: Pass, sums_over_samples: bool) -> None:
        """Refuse outputs that are not (B, m); warn of logits whose sum over the samples is a constant."""
        who, logits = type(self).__name__, seen.logits
        if logits.ndim != 2:
            raise ShapeError(f"{who}: expected logits (B, m), got {logits.shape}")
        if sums_over_samples and logits.node is not None and logits.node.primitive.name == "batch_norm":
            warnings.warn(
                f"{who}: expected logits that vary with the batch, got them out of a BatchNorm in training: "
                "their sum over the samples is constant, and the penalty identically zero",
                stacklevel=4,
            )


class DataGrad(GradientPenalty):
    """λ · mean_b ‖g_b(ℓ)‖₂² of the losses ℓ_b, on the same forward pass, dropout mask included.

    Double backpropagation, Drucker & LeCun, IJCNN 1991; Varga et al., arXiv 1712.09936. See `data_grad`.
    Losses that have several values per sample (regression, pixels) count by their mean.
    """

    def __call__(self, seen: Pass) -> Tensor:
        return self.squared(seen, seen.losses)


class SpectReg(GradientPenalty):
    """λ · mean_b ‖g_b(r·z)‖₂² of the logits z (B, m), r ~ N(0, I). See `spect_reg`.

    Varga et al., arXiv 1712.09936. Its expectation is λ · mean_b ‖J_b‖_F² where samples do not meet.

    per      "sample": one r a sample, which has less variance; "batch": one r for all, as the authors had it
    forward  "shared": the pass of the loss; "second": a pass of its own with its own dropout mask, as the
             authors had it, which moves neither running statistics nor any stream of random numbers but the
             penalty's
    """

    def __init__(
        self,
        weight: Weight,
        per: str = "sample",
        forward: str = "shared",
        generator: Generator | None = None,
        *,
        wrt: str | None = None,
        every: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)
        for option, value, choices in (
            ("per", per, ("sample", "batch")),
            ("forward", forward, ("shared", "second")),
        ):
            if value not in choices:
                raise ValueError(f"SpectReg: expected {option} in {choices}, got {value!r}")
        self.per, self.forward = per, forward
        if generator is None:  # what one without a generator always drew from
            self.generator = Generator(stream=PENALTY_STREAM)

    def __call__(self, seen: Pass) -> Tensor:
        if self.forward == "second":
            seen = seen.again(draws="own", generator=self.generator, layers=self.layers)
        self.require_logits(seen, sums_over_samples=self.per == "batch")
        logits = seen.logits
        drawn = logits.shape if self.per == "sample" else (1, logits.shape[1])
        r = randn(drawn, generator=self.generator, dtype=logits.dtype, device=logits.device)
        return self.squared(seen, logits, broadcast_to(r, logits.shape))


class FrobeniusJacobian(GradientPenalty):
    """λ · mean_b Σ_k ‖g_b(z_k)‖₂² of the logits z (B, m): exactly ‖J_b‖_F² where samples do not meet.

    m backward passes; SpectReg is its estimate by one. FrobReg of Varga et al., arXiv 1712.09936. Under batch
    statistics g_b holds the derivatives of all the samples' logits.
    """

    def __call__(self, seen: Pass) -> Tensor:
        self.require_logits(seen, sums_over_samples=True)
        columns = [seen.logits[:, k] for k in range(seen.logits.shape[1])]
        return reduce(add, [self.squared(seen, column) for column in columns])
