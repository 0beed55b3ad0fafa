"""Penalties on derivatives by the input (or by a layer's output): every training step is a double
backpropagation.

One definition for all: for a scalar s_b of each sample, g_b(s) is row b of ∂(Σ s)/∂h, where h is the input
or, with `wrt=`, the output of the layer at that dotted path; a penalty is the mean over b of a function of
g_b. Under batch statistics row b holds the other samples' scalars too, and that is the definition. There
"the Jacobian" has three readings, which are one without them: Σ_b' ‖∂z_b'/∂x_b‖² is the expectation of
`SpectReg` with an r per sample and (halved) of `JacobianRegularizer`; ‖Σ_b' ∂z_b'/∂x_b‖² is
`FrobeniusJacobian` and the expectation of an r per batch; ‖∂z_b/∂x_b‖² alone is none of these.

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

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor, add
from ..ops.creation import eye
from ..ops.elementwise import abs, div, exp, mul, relu, sqrt, square, sub
from ..ops.indexing import one_hot
from ..ops.random import Generator, of_batch, of_samples, randint, randn
from ..ops.reduce import sum
from ..ops.shape import broadcast_to, reshape
from .contract import Penalty, Weight
from .measures import per_sample
from .passes import Pass, followed_gradients, require_trainable

__all__ = [
    "DataGrad",
    "FrobeniusJacobian",
    "JacobianNorm",
    "JacobianRegularizer",
    "L1DataGrad",
    "LipschitzPenalty",
    "OneHotGradient",
    "SoftmaxJacobian",
    "SpectReg",
    "data_grad",
    "spect_reg",
]

TINY = 1e-16  # under a root that is differentiated: its derivative at 0 is then 0, without it NaN


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
    penalty = mean_square(followed_gradients(who, outputs, seed, [x], "x"))
    require_trainable(who, penalty, {x.slot})
    return penalty


def mean_square(gradients: Sequence[Tensor]) -> Tensor:
    """Σ g² over everything, by the number of samples."""
    return div(reduce(add, [sum(square(g)) for g in gradients]), float(max(gradients[0].shape[0], 1)))


def sample_mean(values: Tensor) -> Tensor:
    """The mean of one value per sample (B,), 0 without samples."""
    return div(sum(values), float(max(values.shape[0], 1)))


def require_classes(who: str, logits: Tensor) -> None:
    """Refuse outputs that are not (B, m)."""
    if logits.ndim != 2:
        raise ShapeError(f"{who}: expected logits (B, m), got {logits.shape}")


def require_count(who: str, **option: int) -> int:
    """The option, a whole number of at least 1."""
    ((name, value),) = option.items()
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{who}: expected {name} as a whole number of at least 1, got {value!r}")
    return int(value)


def single_outputs(who: str, outputs: Tensor) -> Tensor:
    """(B,), the outputs of a model that gives one per sample."""
    if outputs.shape[1:] not in ((), (1,)) or outputs.ndim == 0:
        raise ShapeError(f"{who}: expected one output per sample (B,) or (B, 1), got {outputs.shape}")
    return reshape(outputs, (outputs.shape[0],))


def norms(gradients: Sequence[Tensor]) -> Tensor:
    """(B,), √(Σ g² + 1e-16) over all that belongs to a sample."""
    return sqrt(add(reduce(add, [per_sample(square(g)) for g in gradients]), TINY))


class InputGradientPenalty(Penalty):
    """Of derivatives by the input or, with `wrt`, by the output of the layer at that dotted path."""

    then = "the penalty identically zero"  # where all derivatives are

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
        return mean_square(self.rows(seen, outputs, seed))

    def rows(self, seen: Pass, outputs: Tensor, seed: Tensor | None = None) -> tuple[Tensor, ...]:
        """The g_b for s_b = <outputs_b, seed_b>, for each followed input."""
        return seen.gradients(outputs, seed, self.wrt, self.name)

    def require_logits(self, seen: Pass, sums_over_samples: bool) -> None:
        """Refuse outputs that are not (B, m); warn of logits whose sum over the samples is a constant."""
        require_classes(type(self).__name__, seen.logits)
        if sums_over_samples:
            self.warn_of_constant_sum(seen.logits)

    def single_outputs(self, outputs: Tensor) -> Tensor:
        """(B,), the outputs of a model that gives one per sample; warns where their sum is a constant."""
        self.warn_of_constant_sum(outputs)
        return single_outputs(type(self).__name__, outputs)

    def warn_of_constant_sum(self, outputs: Tensor) -> None:
        """The sum over the samples of what a BatchNorm in training puts out is B times its shift."""
        node = outputs.node
        while node is not None and node.primitive.name in ("reshape", "transpose", "cast"):
            node = next(edge.node for edge in node.edges if edge is not None)
        if node is not None and node.primitive.name == "batch_norm":
            warnings.warn(
                f"{type(self).__name__}: expected outputs that vary with the batch, got them out of a "
                f"BatchNorm in training: their sum over the samples is constant, and {self.then}",
                stacklevel=5,
            )


class DataGrad(InputGradientPenalty):
    """λ · mean_b ‖g_b(ℓ)‖₂² of the losses ℓ_b, on the same forward pass, dropout mask included.

    Double backpropagation, Drucker & LeCun, IJCNN 1991; Varga et al., arXiv 1712.09936. See `data_grad`.
    Losses that have several values per sample (regression, pixels) count by their mean.
    """

    def __call__(self, seen: Pass) -> Tensor:
        return self.squared(seen, seen.losses)


class SpectReg(InputGradientPenalty):
    """λ · mean_b ‖g_b(r·z)‖₂² of the logits z (B, m), r ~ N(0, I). See `spect_reg`.

    Varga et al., arXiv 1712.09936. Its expectation is λ · mean_b ‖J_b‖_F² where samples do not meet.

    per      "sample": one r a sample, which has less variance; "batch": one r for all, as the authors had it,
             so that the value of a batch is no mean over those of parts, which draw their own
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
        self.coupled = per == "batch"  # parts of a batch draw an r each,
        self.reduces = True  # ranks the same one

    def __call__(self, seen: Pass) -> Tensor:
        if self.forward == "second":
            seen = seen.again(draws="own", generator=self.generator, layers=self.layers)
        self.require_logits(seen, sums_over_samples=self.per == "batch")
        logits = seen.logits
        drawn = logits.shape if self.per == "sample" else (1, logits.shape[1])
        draw = of_samples if self.per == "sample" else of_batch
        r = draw(randn, drawn, generator=self.generator, dtype=logits.dtype, device=logits.device)
        return self.squared(seen, logits, broadcast_to(r, logits.shape))


def columns(outputs: Tensor) -> list[Tensor]:
    """For each column of (B, m) the seed that picks it: ones there, zeros elsewhere."""
    m = outputs.shape[1]
    rows = eye(m, dtype=outputs.dtype, device=outputs.device)
    return [broadcast_to(rows[k], outputs.shape) for k in range(m)]


class FrobeniusJacobian(InputGradientPenalty):
    """λ · mean_b Σ_k ‖g_b(z_k)‖₂² of the logits z (B, m): exactly ‖J_b‖_F² where samples do not meet.

    m backward passes; SpectReg is its estimate by one. FrobReg of Varga et al., arXiv 1712.09936. Under batch
    statistics g_b holds the derivatives of all the samples' logits.
    """

    def __call__(self, seen: Pass) -> Tensor:
        self.require_logits(seen, sums_over_samples=True)
        return reduce(add, [self.squared(seen, seen.logits, seed) for seed in columns(seen.logits)])


class L1DataGrad(InputGradientPenalty):
    """λ · mean_b ‖g_b(ℓ)‖₁ of the losses ℓ_b: what adversarial training by FGSM adds to first order,
    ℓ(x + ε sign g) = ℓ(x) + ε ‖g‖₁ (Simon-Gabriel et al., arXiv 1802.01421). The sign of 0 is 0.
    """

    def __call__(self, seen: Pass) -> Tensor:
        found = [sum(abs(g)) for g in self.rows(seen, seen.losses)]
        return div(reduce(add, found), float(max(seen.samples, 1)))


class SoftmaxJacobian(InputGradientPenalty):
    """λ · mean_b Σ_k ‖g_b(p_k)‖₂² of p = softmax of the logits (B, m): ‖∂p_b/∂x_b‖_F² where samples do not
    meet. m - 1 backward passes: the p_k add up to 1, so that the last g_b is minus the sum of the others.
    JacReg of Varga et al., arXiv 1712.09936.
    """

    def __call__(self, seen: Pass) -> Tensor:
        require_classes("SoftmaxJacobian", seen.logits)
        p = exp(seen.log_probabilities)
        found = [self.rows(seen, p, seed) for seed in columns(p)[: max(p.shape[1] - 1, 1)]]
        if p.shape[1] > 1:
            found.append(tuple(reduce(add, rows) for rows in zip(*found, strict=True)))
        return reduce(add, map(mean_square, found))


class OneHotGradient(InputGradientPenalty):
    """λ · mean_b ‖g_b(z_c)‖₂² of one logit of z (B, m) per sample. Varga et al., arXiv 1712.09936.

    which    "target": the true class, for soft and mixed targets the mixture of their logits; "random": a
             class drawn from all m, one per sample (the authors' code never draws the last one). m times its
             expectation is `FrobeniusJacobian` where samples do not meet.
    """

    def __init__(
        self,
        weight: Weight,
        which: str = "target",
        *,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)
        if which not in ("target", "random"):
            raise ValueError(f"OneHotGradient: expected which in ('target', 'random'), got {which!r}")
        self.which = which

    def __call__(self, seen: Pass) -> Tensor:
        logits = seen.logits
        require_classes("OneHotGradient", logits)
        if self.which == "target":
            return self.squared(seen, logits, seen.target_weights)
        B, m = logits.shape
        classes = of_samples(randint, 0, m, (B,), generator=self.generator, device=logits.device)
        return self.squared(seen, logits, one_hot(classes, m).to(logits.dtype))


class JacobianRegularizer(InputGradientPenalty):
    """λ · ½ (m / n_proj) mean_b Σ_proj ‖g_b(v·z)‖₂² of the logits z (B, m), v uniform on the unit sphere, one
    per sample and projection, one projection after the other.

    Hoffman, Roberts and Yaida, arXiv 1908.02729; eq. (8) there lacks the m that their Algorithm 1 has. Its
    expectation is λ/2 · mean_b Σ_b' ‖∂z_b'/∂x_b‖_F²: λ/2 · mean_b ‖J_b‖_F² where samples do not meet. The
    variance of one projection is below that of SpectReg's Gaussian r.
    """

    def __init__(
        self,
        weight: Weight,
        n_proj: int = 1,
        *,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)
        self.n_proj = require_count("JacobianRegularizer", n_proj=n_proj)

    def __call__(self, seen: Pass) -> Tensor:
        logits = seen.logits
        require_classes("JacobianRegularizer", logits)
        found = []
        for _ in range(self.n_proj):
            v = of_samples(
                randn, logits.shape, generator=self.generator, dtype=logits.dtype, device=logits.device
            )
            found.append(self.squared(seen, logits, div(v, sqrt(sum(square(v), 1, keepdim=True)))))
        return mul(reduce(add, found), 0.5 * logits.shape[1] / self.n_proj)


class JacobianNorm(InputGradientPenalty):
    """λ · mean_b √(Σ_k ‖g_b(z_k)‖₂² + 1e-16) of the logits z (B, m): the norm itself, not its square.

    m backward passes. Jakubovitz and Giryes, arXiv 1803.08680, whose script takes the norm of the Jacobian of
    the batch's first sample only; here it is each sample's own. Zero with a zero derivative where J_b = 0.
    """

    def __init__(
        self,
        weight: Weight = 0.1,
        *,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)

    def __call__(self, seen: Pass) -> Tensor:
        self.require_logits(seen, sums_over_samples=True)
        seeds = columns(seen.logits)
        return sample_mean(norms([g for seed in seeds for g in self.rows(seen, seen.logits, seed)]))


class LipschitzPenalty(InputGradientPenalty):
    """λ · mean_b (‖g_b(D)‖₂ - 1)² of the one output D_b per sample; with `one_sided` only where the norm is
    above 1: mean_b max(0, ‖g_b(D)‖₂ - 1)² (Petzka et al., arXiv 1709.08894).

    At the batch's own samples; Gulrajani et al. (arXiv 1704.00028) take interpolates of real and fake ones.

    Raises:
        ShapeError: a model with several outputs per sample.
    """

    def __init__(
        self,
        weight: Weight = 10.0,
        one_sided: bool = False,
        *,
        wrt: str | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, wrt=wrt, every=every, generator=generator, name=name)
        self.one_sided = one_sided

    then = "all norms identically zero"

    def __call__(self, seen: Pass) -> Tensor:
        excess = sub(norms(self.rows(seen, self.single_outputs(seen.logits))), 1.0)
        return sample_mean(square(relu(excess) if self.one_sided else excess))
