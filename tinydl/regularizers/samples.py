"""Terms that mix or erase samples before the forward pass. Penalties and losses see the changed batch;
targets become `Mixed`, which every loss and penalty of per-sample losses takes.

What is drawn comes from the term's generator, in the order that each class gives. Accuracy on a mixed batch
is of the labels with the larger share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..devices import constant, follow
from ..engine.core import Tensor, cast, no_grad, state
from ..nn.module import Module
from ..nn.parameter import Buffer
from ..ops.creation import arange
from ..ops.elementwise import (
    add,
    div,
    exp,
    ge,
    logical_and,
    lt,
    maximum,
    mul,
    sqrt,
    sub,
    where,
)
from ..ops.functions import floor
from ..ops.indexing import gather, index_select
from ..ops.random import Generator, of_batch, of_samples, rand, rand_beta, randint, randn, randperm
from ..ops.reduce import argmax, sum
from ..ops.shape import broadcast_to, reshape
from ..ops.update import assign
from .contract import Term
from .measures import beside
from .passes import Mixed

__all__ = ["CutMix", "Cutout", "ManifoldMixup", "Mixup", "RandomErasing", "SamplePairing"]


# What they share
# ------------------------------------------------------------------------------------------------------------


def require_samples(who: str, x: Any, axes: int = 1) -> Tensor:
    """One floating input with at least so many axes."""
    if not isinstance(x, Tensor):
        raise ShapeError(f"{who}: expected one input, got {len(x)}")
    if x.dtype.kind != "f":
        raise DtypeError(f"{who}: expected a floating input, got {x.dtype}")
    if x.ndim < axes:
        raise ShapeError(
            f"{who}: expected an input {'(B, C, H, W)' if axes == 4 else '(B, *)'}, got {x.shape}"
        )
    return x


class Partners:
    """The batch in another order, π = randperm(B): called with what belongs to the samples (B, *), of which
    it gives the partners'. Where ranks share a batch, π and the partners are those of all ranks.
    """

    def __init__(self, x: Tensor, generator: Any) -> None:
        shard = state.shard
        if shard is not None and shard.samples != x.shape[0]:
            raise ShapeError(
                f"expected this rank's {shard.samples} samples of {shard.total} to mix, got {x.shape}"
            )
        self.order = randperm(x.shape[0] if shard is None else shard.total, generator, x.device)
        if shard is not None:
            self.order = self.order[shard.start : shard.start + shard.samples]

    def __call__(self, x: Tensor) -> Tensor:
        return index_select(x if state.shard is None else state.shard.gather(x), 0, self.order)

    def mixed(self, who: str, target: Any, share: Tensor) -> Mixed:
        """The targets mixed with the partners'."""
        if isinstance(target, Mixed):
            raise ShapeError(f"{who}: expected targets of one term that mixes, got Mixed")
        return Mixed(target, self(target), share)


class _Mixing(Term):
    """Terms that mix the samples of a batch with each other."""

    coupled = reduces = True


class _Beta(_Mixing):
    """Terms that draw a share from Beta(α, α), for the batch or for each sample."""

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = "batch",
        *,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(generator=generator, name=name)
        who = type(self).__name__
        if not 0 <= alpha < math.inf:
            raise ValueError(f"{who}: expected alpha of at least 0, got {alpha}")
        if per not in ("batch", "sample"):
            raise ValueError(f"{who}: expected per in ('batch', 'sample'), got {per!r}")
        self.alpha, self.per = alpha, per

    def draws(self, x: Tensor) -> dict[str, Any]:
        return {"generator": self.generator, "device": x.device}

    def share(self, x: Tensor) -> Tensor:
        """(1,) or (B,), in x's dtype."""
        return self._share(x, x.dtype)

    def _share(self, x: Tensor, dtype: Any) -> Tensor:
        draw, n = (of_samples, x.shape[0]) if self.per == "sample" else (of_batch, 1)
        return draw(rand_beta, self.alpha, self.alpha, n, dtype=dtype, **self.draws(x))


# Mixing
# ------------------------------------------------------------------------------------------------------------


class Mixup(_Beta):
    """x̃ = λx + (1 − λ)x_π, and the losses λℓ(z, y) + (1 − λ)ℓ(z, y_π); λ ~ Beta(α, α), then π = randperm(B).

    Zhang et al., arXiv 1710.09412. alpha 0 is no mixing, and draws nothing.

    per  "batch": one λ for all, as the authors had it; "sample": one each
    """

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        x = require_samples("Mixup", x)
        if self.alpha == 0:
            return x, target
        share = broadcast_to(self.share(x), (x.shape[0],))
        partners = Partners(x, self.generator)
        mixed = partners.mixed("Mixup", target, share)
        return mixed.mixture(x, partners(x)), mixed


class ManifoldMixup(_Beta):
    """Mixup of the output of a layer, in the main pass: of several layers one is drawn for each batch, on the
    host; a recorded step has a recording for each. The layer's number, then λ, then π.

    Verma et al., arXiv 1806.05236. alpha 0 is no mixing, and draws nothing.

    layers  dotted paths, whose outputs are single floating tensors (B, *)
    """

    def __init__(
        self,
        alpha: float = 2.0,
        layers: str | Sequence[str] = (),
        per: str = "batch",
        *,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(alpha, per, generator=generator, name=name)
        self.turns = (layers,) if isinstance(layers, str) else tuple(layers)
        if not self.turns:
            raise ValueError("ManifoldMixup: expected layers, got none")

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        self.replace = {}
        if self.alpha == 0:
            return x, target
        first = x[0] if isinstance(x, tuple) else x
        dtype = next((p.dtype for p in model.parameters()), first.dtype)
        layer = self.turn() if len(self.turns) > 1 else self.turns[0]
        share = broadcast_to(self._share(first, dtype), (first.shape[0],))
        partners = Partners(first, self.generator)
        mixed = partners.mixed("ManifoldMixup", target, share)

        def mixture(h: Tensor) -> Tensor:
            if not isinstance(h, Tensor) or h.ndim < 1 or h.shape[0] != first.shape[0]:
                got = h.shape if isinstance(h, Tensor) else type(h).__name__
                raise ShapeError(
                    f"ManifoldMixup: expected an output of layer {layer!r} for {first.shape[0]} samples, got "
                    f"{got}"
                )
            return mixed.mixture(h, partners(h))

        self.replace = {layer: mixture}
        return x, mixed


class SamplePairing(_Mixing):
    """x̃ = ½(x + x_π) with the targets of x alone; π = randperm(B). Images or any x (B, *).

    Inoue, arXiv 1801.02929: off for the first epochs and the last, and on 8 epochs of 10 between: assign to
    `active`, which recorded steps read.
    """

    def __init__(self, *, generator: Generator | None = None, name: str | None = None) -> None:
        super().__init__(generator=generator, name=name)
        self._active = Buffer(1.0, np.float64)

    @property
    def active(self) -> Any:
        return self._active

    @active.setter
    def active(self, value: bool) -> None:
        with no_grad():
            assign(self._active, float(value))

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        x = require_samples("SamplePairing", x)
        follow([self._active], x.device)
        share = cast(mul(self._active, 0.5), dtype=x.dtype)
        return add(mul(x, sub(1.0, share)), mul(Partners(x, self.generator)(x), share)), target


# Boxes
# ------------------------------------------------------------------------------------------------------------


def inside(x: Tensor, top: Tensor, left: Tensor, height: Any, width: Any) -> Tensor:
    """(n, 1, H, W), True in boxes whose corners and sides are (n,) whole numbers as floats; what of a box
    lies outside the image is cut off.
    """
    found = []
    for axis, start, side in ((2, top, height), (3, left, width)):
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        place = reshape(arange(x.shape[axis], dtype=x.dtype, device=x.device), shape)
        start = reshape(start, (-1, 1, 1, 1))
        stop = add(start, reshape(side, (-1, 1, 1, 1)) if isinstance(side, Tensor) else side)
        found.append(logical_and(ge(place, start), lt(place, stop)))
    return logical_and(found[0], found[1])


def centre(x: Tensor, axis: int, draws: dict[str, Any], each: bool = True) -> Tensor:
    """(B,), a row or column of each image, each as likely; or (1,), of all."""
    draw, n = (of_samples, x.shape[0]) if each else (of_batch, 1)
    return cast(draw(randint, 0, x.shape[axis], (n,), **draws), dtype=x.dtype)


class CutMix(_Beta):
    """A box of the partner's image in place of the sample's, and the losses mixed by the share of the pixels.
    Images (B, C, H, W).

    Yun et al., arXiv 1905.04899. λ ~ Beta(α, α); sides int(H√(1 − λ)) and int(W√(1 − λ)) about a row and then
    a column, uniform, cut off at the edges; then π = randperm(B). The share counts what was cut: at α = 1 the
    partner's is 77/240 on average, not ½. alpha 0 is no mixing, and draws nothing.
    """

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        x = require_samples("CutMix", x, 4)
        if self.alpha == 0:
            return x, target
        each, (rows, columns) = self.per == "sample", x.shape[2:]
        root = sqrt(sub(1.0, self.share(x)))
        height, width = floor(mul(root, float(rows))), floor(mul(root, float(columns)))
        top = sub(centre(x, 2, self.draws(x), each), floor(mul(height, 0.5)))
        left = sub(centre(x, 3, self.draws(x), each), floor(mul(width, 0.5)))
        partners = Partners(x, self.generator)
        box = inside(x, top, left, height, width)
        part = div(sum(cast(box, dtype=x.dtype), (1, 2, 3)), float(rows * columns))
        share = broadcast_to(sub(1.0, part), (x.shape[0],))
        return where(box, partners(x), x), partners.mixed("CutMix", target, share)


class _Erasing(Term):
    """Boxes of images that `value` fills: a number or one per channel, in the model's units, or "noise"."""

    def __init__(
        self, value: float | Sequence[float] | str, *, generator: Generator | None, name: str | None
    ) -> None:
        super().__init__(generator=generator, name=name)
        if isinstance(value, str) and value != "noise":
            who = type(self).__name__
            raise ValueError(f"{who}: expected value as numbers or 'noise', got {value!r}")
        self.value = value

    def filling(self, x: Tensor) -> Any:
        """What broadcasts to x (B, C, H, W)."""
        if isinstance(self.value, str):
            return of_samples(randn, x.shape, generator=self.generator, dtype=x.dtype, device=x.device)
        values = np.asarray(self.value, x.dtype)
        if values.ndim and values.shape != x.shape[1:2]:
            raise ShapeError(
                f"{type(self).__name__}: expected value as a number or one per channel of {x.shape}, got "
                f"{self.value}"
            )
        return constant(x, values.reshape(1, -1, 1, 1))


class Cutout(_Erasing):
    """A square in each image (B, C, H, W) is erased, about a row and then a column, uniform, cut off at the
    edges: at 28² a size of 14 covers .191, not .25.

    DeVries & Taylor, arXiv 1708.04552. Rows, columns, noise. size 0 draws nothing.

    value  in the model's units: a number, one per channel, or "noise" (standard normal)
    """

    def __init__(
        self,
        size: int = 16,
        value: float | Sequence[float] | str = 0.0,
        *,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(value, generator=generator, name=name)
        if size < 0 or int(size) != size:
            raise ValueError(f"Cutout: expected size as a whole number of at least 0, got {size}")
        self.size = int(size)

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        x = require_samples("Cutout", x, 4)
        if self.size == 0:
            return x, target
        draws = {"generator": self.generator, "device": x.device}
        top, left = (sub(centre(x, axis, draws), float(self.size // 2)) for axis in (2, 3))
        box = inside(x, top, left, float(self.size), float(self.size))
        return where(box, self.filling(x), x), target


class RandomErasing(_Erasing):
    """With probability p a box of each image (B, C, H, W) is erased: its area a uniform share of the image's,
    its height by its width log-uniform, its place uniform among those inside.

    Zhong et al., arXiv 1708.04896. Which samples, areas and ratios of 10 tries each, of which the first that
    fits counts, rows, columns, noise. p = 0 draws nothing.

    value  in the model's units: a number, one per channel, or "noise" (standard normal)
    """

    TRIES = 10

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0.0,
        *,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(value, generator=generator, name=name)
        if not 0 <= p <= 1:
            raise ValueError(f"RandomErasing: expected p in [0, 1], got {p}")
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                "RandomErasing: expected 0 < low <= high, shares of at most 1, got scale "
                f"{scale}, ratio {ratio}"
            )
        self.p, self.scale, self.ratio = p, scale, ratio

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        x = require_samples("RandomErasing", x, 4)
        if self.p == 0:
            return x, target
        (n, _, rows, columns), more = x.shape, {"dtype": x.dtype, "device": x.device}

        def uniform(*size: int) -> Tensor:
            return of_samples(rand, size, generator=self.generator, **more)

        def between(low: float, high: float) -> Tensor:
            return add(mul(uniform(n, self.TRIES), high - low), low)

        which = lt(uniform(n), self.p)
        area = mul(between(*self.scale), float(rows * columns))
        root = exp(mul(between(math.log(self.ratio[0]), math.log(self.ratio[1])), 0.5))
        side = sqrt(area)
        heights = maximum(floor(add(mul(side, root), 0.5)), 1.0)
        widths = maximum(floor(add(div(side, root), 0.5)), 1.0)
        fits = logical_and(lt(heights, float(rows)), lt(widths, float(columns)))
        first = argmax(cast(fits, dtype=x.dtype), 1, keepdim=True)
        height, width = (gather(sides, 1, first)[:, 0] for sides in (heights, widths))
        top = floor(mul(uniform(n), add(sub(float(rows), height), 1.0)))
        left = floor(mul(uniform(n), add(sub(float(columns), width), 1.0)))
        some = logical_and(which, gather(cast(fits, dtype=x.dtype), 1, first)[:, 0] > 0)
        box = logical_and(inside(x, top, left, height, width), beside(x, some))
        return where(box, self.filling(x), x), target
