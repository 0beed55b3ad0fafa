"""Penalties on what layers put out: `layers` are dotted paths, or one; "" is the model's own output.

Activities (B, *) are summed over everything but the samples. Where statistics of units are taken, the units
are axis 1 and the positions of a map (B, C, *) are samples too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import follow
from ..engine.core import Tensor, add, cast, no_grad, state
from ..nn.module import Module
from ..nn.parameter import Buffer
from ..ops.creation import eye
from ..ops.elementwise import abs, clip, div, ge, le, log, mul, pow, sqrt, square, sub, where
from ..ops.matmul import matmul
from ..ops.random import Generator, random_from
from ..ops.reduce import all, mean, sum
from ..ops.shape import cat, movedim, reshape, transpose
from ..ops.update import assign, increment
from .contract import Penalty, Weight
from .measures import batch_mean, batch_rows, over_ranks
from .passes import Pass

__all__ = [
    "ActivityL1",
    "ActivityL2",
    "Barlow",
    "DeCov",
    "FeatureStatistics",
    "KLSparsity",
    "TemporalActivity",
]

CLIP = 1e-6  # of mean activities, whose logarithms are taken


class LayerPenalty(Penalty):
    """The sum over layers of a penalty `of` what each puts out.

    Raises:
        ValueError: no layers.
        AttributeError: a path that the model does not have, when the objective is called.
    """

    def __init__(
        self,
        weight: Weight,
        layers: str | Iterable[str] | None = None,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.layers = (layers,) if isinstance(layers, str) else tuple(layers or ())
        if not self.layers:
            raise ValueError(f"{type(self).__name__}: expected layers, got none")

    def of(self, activity: Tensor) -> Tensor:
        """The penalty of a layer's output (B, *)."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def __call__(self, seen: Pass) -> Tensor:
        return reduce(add, [self.of(seen.outputs[layer]) for layer in self.layers])


def _samples(x: Tensor) -> float:
    return float(max(x.shape[0], 1))


def units(who: str, x: Tensor) -> Tensor:
    """(samples, units): a map (B, C, *) has a sample for each of its positions."""
    if x.ndim < 2:
        raise ShapeError(f"{who}: expected an output (B, units, *), got {x.shape}")
    return x if x.ndim == 2 else reshape(movedim(x, 1, -1), (-1, x.shape[1]))


class ActivityL1(LayerPenalty):
    """λ · Σ_layers mean_b Σ_j |a_bj|. In Keras the same: the sum by the number of samples."""

    def of(self, activity: Tensor) -> Tensor:
        return div(sum(abs(activity)), _samples(activity))


class ActivityL2(LayerPenalty):
    """λ · Σ_layers mean_b Σ_j a_bj², without a half. Of a recurrent net's dropped output it is the AR of
    Merity et al., arXiv 1708.01009.
    """

    def of(self, activity: Tensor) -> Tensor:
        return div(sum(square(activity)), _samples(activity))


class TemporalActivity(LayerPenalty):
    """λ · Σ_layers mean_b Σ_t Σ_j (h_b,t - h_b,t+1)² of outputs (B, T, *): the slowness that TAR
    asks of a recurrent net (Merity et al., arXiv 1708.01009). One time step gives 0.
    """

    def of(self, activity: Tensor) -> Tensor:
        if activity.ndim < 2:
            raise ShapeError(f"TemporalActivity: expected an output (B, T, *), got {activity.shape}")
        change = sub(activity[:, 1:], activity[:, :-1])
        return div(sum(square(change)), _samples(activity))


class KLSparsity(LayerPenalty):
    """β · Σ_layers Σ_j KL(ρ ‖ ρ̂_j), ρ̂_j = mean_b a_bj the mean activity of a unit, a in [0, 1]: sparse
    autoencoders, Ng, CS294A lecture notes. Every position of a map is a unit.

    Means over the batch, so batches of parts give another value. ρ̂ is clipped to [1e-6, 1 - 1e-6]; an
    activity outside [0, 1] makes the value NaN.

    Args:
        rho: the mean activity that is wanted, in (0, 1).
        activation: a function of what the layer puts out, such as td.sigmoid after a linear layer.
        decay: ρ̂ is Σ decay^(t-s) mean_s / Σ decay^(t-s) over the steps s up to this one, t, whose mean alone
            is differentiated: steadier where batches are small (Hinton, "A practical guide to training
            restricted Boltzmann machines", section 11: .9 to .99). Needs one layer.
        units: with decay, the shape of the layer's output without its samples: an int or a tuple.
    """

    coupled = reduces = True

    def __init__(
        self,
        weight: Weight = 3.0,
        layers: str | Iterable[str] | None = None,
        rho: float = 0.05,
        activation: Callable[[Tensor], Tensor] | None = None,
        *,
        decay: float = 0.0,
        units: int | tuple[int, ...] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(weight, layers, **options)
        if not 0 < rho < 1:
            raise ValueError(f"KLSparsity: expected rho in (0, 1), got {rho!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"KLSparsity: expected decay in [0, 1), got {decay!r}")
        if decay and (units is None or len(self.layers) > 1):
            raise ValueError(f"KLSparsity: expected units= of one layer with decay, got {units} of {layers}")
        self.rho, self.activation, self.decay = float(rho), activation, float(decay)
        if decay and units is not None:
            self.mean, self.count = Buffer(np.zeros(units)), Buffer(0)  # Σ decay^(t-s) (1 - decay) mean_s, t

    def of(self, activity: Tensor) -> Tensor:
        a = activity if self.activation is None else self.activation(activity)
        known, rho = all(ge(a, 0.0) & le(a, 1.0)), self.rho
        if state.recorder is None and not known.item():
            raise ValueError(f"KLSparsity: expected activities in [0, 1] of {self.layers}, got others")
        active = batch_mean(a)
        if self.decay:
            past, share = self.past(active)
            active = add(mul(active, share), past)
        active = clip(active, CLIP, 1 - CLIP)
        entropy = rho * math.log(rho) + (1 - rho) * math.log(1 - rho)
        crossed = add(mul(log(active), rho), mul(log(sub(1.0, active)), 1 - rho))
        return where(known, sum(sub(entropy, crossed)), math.nan)

    def past(self, active: Tensor) -> tuple[Tensor, Tensor]:
        """What earlier steps add to this one's mean activity, and that one's share; counts this step."""
        if active.shape != self.mean.shape:
            raise ShapeError(f"KLSparsity: expected units {self.mean.shape}, got {active.shape}")
        follow([self.mean, self.count], active.device)
        with no_grad():
            increment(self.count)
            whole = sub(1.0, pow(self.decay, cast(self.count, dtype=self.mean.dtype)))
            before = mul(self.mean, self.decay)
            now = mul(cast(active.detach(), dtype=before.dtype), 1 - self.decay)
            assign(self.mean, add(before, now))
            past, share = div(before, whole), div(1 - self.decay, whole)
            return cast(past, dtype=active.dtype), cast(share, dtype=active.dtype)


class DeCov(LayerPenalty):
    """λ · Σ_layers ½ (‖C‖_F² - ‖diag C‖²), C the covariance over the batch, with 1/B, of the layer's units.

    Cogswell et al., arXiv 1511.06068. The channels of a map are its units and every position a sample. Of the
    whole batch, so batches of parts give another value; one sample gives 0.
    """

    coupled = reduces = True

    def __init__(
        self, weight: Weight = 0.1, layers: str | Iterable[str] | None = None, **options: Any
    ) -> None:
        super().__init__(weight, layers, **options)

    def of(self, activity: Tensor) -> Tensor:
        h = units("DeCov", activity)
        c = sub(h, batch_mean(h, keepdim=True))
        C = div(over_ranks(matmul(transpose(c, 0, 1), c))[0], batch_rows(h))
        others = sub(1.0, eye(C.shape[0], dtype=C.dtype, device=C.device))
        return mul(sum(square(mul(C, others))), 0.5)


class FeatureStatistics(LayerPenalty):
    """λ · Σ_layers Σ_j (μ_j - mean_j)² + (v_j - var_j)², μ and v the mean and variance (1/B) of each unit.

    Of the whole batch, so batches of parts give another value.

    Args:
        mean, var: what is wanted: a number, a tensor (units,), of which a copy is kept, or a Buffer, which is
            read at each call. "running", where the layers are BatchNorms: their running statistics as
            constants, and μ and v are those of what they take (DeepInversion, Yin et al., arXiv 1912.08795).
    """

    coupled = reduces = True

    def __init__(
        self,
        weight: Weight,
        layers: str | Iterable[str] | None = None,
        mean: float | str | Tensor = 0.0,
        var: float | str | Tensor = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(weight, layers, **options)
        for option, value in (("mean", mean), ("var", var)):
            if isinstance(value, str) and value != "running":
                raise ValueError(
                    f"FeatureStatistics: expected {option} as a number, a tensor or 'running', got {value!r}"
                )
        if "running" in [w for w in (mean, var) if isinstance(w, str)]:
            self.layers, self.inputs_of = (), self.layers
        # A tuple: a BatchNorm's buffers are no state of the term.
        self.wanted = tuple(
            Buffer(w.detach()) if isinstance(w, Tensor) and not isinstance(w, Buffer) else w
            for w in (mean, var)
        )

    def __call__(self, seen: Pass) -> Tensor:
        if not self.inputs_of:
            return super().__call__(seen)
        found = []
        for layer in self.inputs_of:
            norm = seen.model.get_submodule(layer)
            if getattr(norm, "running_mean", None) is None or not isinstance(seen.taken[layer], Tensor):
                raise ValueError(
                    f"FeatureStatistics: expected a BatchNorm with running statistics at {layer!r}, got "
                    f"{type(norm).__name__}"
                )
            held = norm.running_mean, norm.running_var
            pairs = zip(held, self.wanted, strict=True)
            found.append(self.distance(seen.taken[layer], [r if isinstance(w, str) else w for r, w in pairs]))
        return reduce(add, found)

    def of(self, activity: Tensor) -> Tensor:
        return self.distance(activity, self.wanted)

    def distance(self, activity: Tensor, wanted: Iterable[Any]) -> Tensor:
        """From the statistics of an activity to those wanted."""
        h = units("FeatureStatistics", activity)
        middle = batch_mean(h)
        spread = batch_mean(square(sub(h, middle)))
        pairs = zip((middle, spread), wanted, strict=True)
        return reduce(add, [sum(square(sub(found, self._constant(w, found)))) for found, w in pairs])

    def _constant(self, wanted: float | Tensor, like: Tensor) -> Any:
        if not isinstance(wanted, Tensor):
            return float(wanted)
        if wanted.shape != like.shape:
            raise ShapeError(f"FeatureStatistics: expected statistics {like.shape}, got {wanted.shape}")
        follow([wanted], like.device)
        return cast(wanted.detach(), dtype=like.dtype)


class Barlow(Penalty):
    """λ · (Σ_j (1 - C_jj)² + off · Σ_{i≠j} C_ij²), C = (1/B) Σ_b n_b n'_bᵀ of the model's outputs (B, d) for
    x and for augment(x), each unit with mean 0 and variance 1 over the batch (1e-5 in the root).

    Zbontar et al., arXiv 2103.03230. The second view is an extra pass on the random numbers of the first;
    `augment` draws from the term's generator. Of the whole batch, so batches of parts give another value.

    Args:
        augment: a function of the input, written with tensor operations.
        joint: both views in the main pass, one after the other, each sample with its target: the loss is then
            of both, and a BatchNorm has the statistics of both.
    """

    coupled = True

    def __init__(
        self,
        weight: Weight,
        augment: Callable[[Any], Any],
        off: float = 0.0051,
        joint: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(weight, **options)
        if not off >= 0:
            raise ValueError(f"Barlow: expected off of at least 0, got {off!r}")
        self.augment, self.off, self.joint = augment, float(off), joint

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        if not self.joint:
            return x, target
        if not isinstance(x, Tensor) or not (target is None or isinstance(target, Tensor)):
            raise ShapeError("Barlow: expected with joint=True one input and targets that are not mixed yet")
        with random_from(self.generator):
            view = self.augment(x)
        return cat([x, view], 0), None if target is None else cat([target, target], 0)

    def __call__(self, seen: Pass) -> Tensor:
        if seen.logits.ndim != 2:
            raise ShapeError(f"Barlow: expected outputs (B, d), got {seen.logits.shape}")
        if self.joint:
            B = seen.samples // 2
            first, second = self._standard(seen.logits[:B]), self._standard(seen.logits[B:])
        else:
            with random_from(self.generator):
                view = self.augment(seen.x)
            first, second = (self._standard(z) for z in (seen.logits, seen.again(view).logits))
        C = div(matmul(transpose(first, 0, 1), second), _samples(first))
        one = eye(C.shape[0], dtype=C.dtype, device=C.device)
        weights = add(mul(one, 1 - self.off), self.off)
        return sum(mul(square(sub(C, one)), weights))

    def _standard(self, z: Tensor) -> Tensor:
        c = sub(z, mean(z, 0))
        return div(c, sqrt(add(mean(square(c), 0), 1e-5)))
