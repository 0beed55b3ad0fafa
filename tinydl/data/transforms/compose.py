"""Transforms made of transforms, and policies that choose among many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from . import adjustments as adjust
from .contract import Draws, Transform, probability, put, take
from .warping import Geometric, Map, affine, one_map, sample, settings, warped

__all__ = ["Compose", "RandAugment", "RandomApply", "RandomChoice", "TrivialAugmentWide"]

Pair = tuple[np.ndarray, np.ndarray | None]


class _Several(Transform):
    """Holds transforms, each at a place of its own in the pipeline: `_steps` says how far on."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        who = type(self).__name__
        self.transforms = list(transforms)
        for transform in self.transforms:
            if not isinstance(transform, Transform):
                raise DtypeError(f"{who}: transforms: expected transforms, got {type(transform).__name__}")
        sizes = [transform.places for transform in self.transforms]
        self._steps = [1 + sum(sizes[:k]) for k in range(len(sizes))]
        self.places = 1 + sum(sizes)

    def _draws(self, draws: Draws, k: int) -> Draws:
        """Those of transform k."""
        return draws.at(self._steps[k], type(self.transforms[k]).__name__)


class Compose(_Several):
    """One transform after the other.

        pipeline = Compose([RandomAffine(10, (0.1, 0.1)), ElasticTransform(), ColorJitter(0.2)])
        images = pipeline(images, index=indices, epoch=epoch, seed=seed)

    Neighbours that move pixels and agree in interpolation, padding mode and fill are one map, sampled once
    (a crop or an elastic distortion is the last of such a run): sharper and quicker than one after the other,
    and what leaves the frame and comes back is still there.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__(transforms)
        self._runs: list[list[int]] = []
        for k, transform in enumerate(self.transforms):
            before = [self.transforms[i] for i in self._runs[-1]] if self._runs else []
            maps = [member for member in before if isinstance(member, Geometric)]
            if maps and isinstance(transform, Geometric) and one_map(maps, transform):
                self._runs[-1].append(k)
            else:
                self._runs.append([k])

    def apply(self, images: np.ndarray, masks: np.ndarray | None, draws: Draws) -> Pair:
        for run in self._runs:
            maps = [member for k in run if isinstance(member := self.transforms[k], Geometric)]
            if maps:
                images, masks = sample(maps, images, masks, [self._draws(draws, k) for k in run])
            else:
                images, masks = self.transforms[run[0]].apply(images, masks, self._draws(draws, run[0]))
        return images, masks


class RandomApply(_Several):
    """All of the transforms, or none, with probability p for each sample."""

    def __init__(self, transforms: Sequence[Transform], p: float = 0.5) -> None:
        super().__init__([Compose(transforms)])
        self.p = probability("RandomApply", p)

    def change(self, images: np.ndarray, masks: np.ndarray | None, draws: Draws) -> Pair:
        return self.transforms[0].apply(images, masks, self._draws(draws, 0))


class RandomChoice(_Several):
    """One of the transforms for each sample.

    Args:
        transforms: at least one; all leave shape and dtype as they are.
        p: their probabilities, up to a factor; None: all alike.
    """

    def __init__(self, transforms: Sequence[Transform], p: Sequence[float] | None = None) -> None:
        super().__init__(transforms)
        if not self.transforms:
            raise ShapeError("RandomChoice: transforms: expected at least one, got none")
        weights = np.ones(len(self.transforms)) if p is None else np.array(p, np.float64)
        if weights.shape != (len(self.transforms),) or not (weights >= 0).all() or not weights.sum() > 0:
            raise ShapeError(
                f"RandomChoice: p: expected {len(self.transforms)} numbers, 0 or more and not all 0, got {p}"
            )
        self.weights = weights / weights.sum()

    def change(self, images: np.ndarray, masks: np.ndarray | None, draws: Draws) -> Pair:
        limits = np.cumsum(self.weights)[:-1]
        which = np.searchsorted(limits, draws.uniform(), side="right") if len(limits) else 0
        which = np.broadcast_to(which, len(images))
        found = images, masks
        for k, transform in enumerate(self.transforms):
            rows = np.flatnonzero(which == k)
            if rows.size:
                own = self._draws(draws.rows(rows), k)
                found = put(*found, rows, *transform.apply(*take(images, masks, rows), own))
        return found


# Policies
# ------------------------------------------------------------------------------------------------------------


class _Move(NamedTuple):
    """Settings of an affine map (N,): what an operation that moves pixels gives."""

    angle: Any = 0.0
    right: Any = 0.0
    down: Any = 0.0
    scale: Any = 1.0
    shear_x: Any = 0.0
    shear_y: Any = 0.0

    def matrices(self, size: tuple[int, int], samples: int) -> np.ndarray:
        angle, right, down, scale, shear_x, shear_y = (np.broadcast_to(part, samples) for part in self)
        return affine(size, angle, right, down, scale, shear_x, shear_y)


class _Operation(NamedTuple):
    """A change by magnitudes (N,), of which a policy has a table."""

    change: Callable[[np.ndarray, np.ndarray], np.ndarray | _Move]
    magnitudes: np.ndarray
    signed: bool = False


def _degrees(slope: np.ndarray) -> np.ndarray:
    return np.rad2deg(np.arctan(slope))


def _operations(
    bins: int, slope: float, shift: tuple[float, float], turn: float, most: float, bits: int
) -> list[_Operation]:
    """The fourteen operations of RandAugment, each with its magnitudes from nothing to the most."""
    share = np.linspace(0, 1, bins)
    H, W = shift
    return [
        _Operation(lambda x, m: x, 0 * share),
        _Operation(lambda x, m: _Move(shear_x=_degrees(m)), slope * share, True),
        _Operation(lambda x, m: _Move(shear_y=_degrees(m)), slope * share, True),
        _Operation(lambda x, m: _Move(right=m), W * share, True),
        _Operation(lambda x, m: _Move(down=m), H * share, True),
        _Operation(lambda x, m: _Move(angle=m), turn * share, True),
        _Operation(lambda x, m: adjust.brightness(x, 1 + m), most * share, True),
        _Operation(lambda x, m: adjust.saturation(x, 1 + m), most * share, True),
        _Operation(lambda x, m: adjust.contrast(x, 1 + m), most * share, True),
        _Operation(lambda x, m: adjust.sharpness(x, 1 + m), most * share, True),
        _Operation(adjust.posterize, 8 - np.rint(bits * share)),
        _Operation(lambda x, m: adjust.solarize(x, m * adjust.top(x)), 1 - share),
        _Operation(lambda x, m: adjust.autocontrast(x), 0 * share),
        _Operation(lambda x, m: adjust.equalize(x), 0 * share),
    ]


class _Policy(Transform):
    """Some operations one after the other, drawn for each sample."""

    num_ops = 1

    def __init__(
        self,
        num_magnitude_bins: int,
        interpolation: str,
        fill: float,
        padding_mode: str,
        mask_fill: int,
        p: float,
    ) -> None:
        who = type(self).__name__
        if num_magnitude_bins < 2:
            raise ShapeError(f"{who}: num_magnitude_bins: expected 2 or more, got {num_magnitude_bins}")
        self.num_magnitude_bins = num_magnitude_bins
        self.p = probability(who, p)
        self.settings = settings(who, interpolation, padding_mode, fill, mask_fill)

    def operations(self, size: tuple[int, int]) -> list[_Operation]:
        raise NotImplementedError

    def bins(self, draws: Draws) -> np.ndarray:
        """Which magnitude each sample takes."""
        raise NotImplementedError

    def change(self, images: np.ndarray, masks: np.ndarray | None, draws: Draws) -> Pair:
        size = images.shape[2:]
        table = self.operations(size)
        for _ in range(self.num_ops):
            which, bins, signs = draws.integers(len(table)), self.bins(draws), draws.signs()
            for k, operation in enumerate(table):
                rows = np.flatnonzero(which == k)
                if not rows.size:
                    continue
                magnitudes = operation.magnitudes[bins[rows]] * (signs[rows] if operation.signed else 1)
                some, some_masks = take(images, masks, rows)
                found = operation.change(some, magnitudes)
                if isinstance(found, _Move):
                    along = Map(found.matrices(size, len(rows)), size)
                    found, some_masks = warped(some, some_masks, along, self.settings)
                images, masks = put(images, masks, rows, found, some_masks)
        return images, masks


class RandAugment(_Policy):
    """`num_ops` of fourteen operations at one magnitude, drawn for each sample (Cubuk et al., NeurIPS 2020).

    Nothing, shear, shift, rotation, brightness, saturation, contrast, sharpness, posterize, solarize,
    autocontrast, equalize; magnitudes and their signs as torchvision's.

    Args:
        num_ops: operations one after the other.
        magnitude: 0 to num_magnitude_bins - 1, of even steps from nothing to the most.
        interpolation, fill, padding_mode, mask_fill: as in RandomAffine.
        p: probability that a sample is changed.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: str = "bilinear",
        fill: float = 0,
        *,
        padding_mode: str = "constant",
        mask_fill: int = 0,
        p: float = 1.0,
    ) -> None:
        super().__init__(num_magnitude_bins, interpolation, fill, padding_mode, mask_fill, p)
        if not 0 <= num_ops <= 64:
            raise ShapeError(f"RandAugment: num_ops: expected 0 to 64, got {num_ops}")
        if not 0 <= magnitude < num_magnitude_bins:
            raise ShapeError(
                f"RandAugment: magnitude: expected 0 to {num_magnitude_bins - 1}, got {magnitude}"
            )
        self.num_ops, self.magnitude = num_ops, magnitude

    def operations(self, size: tuple[int, int]) -> list[_Operation]:
        shift = 150 / 331 * size[0], 150 / 331 * size[1]  # of the images that the paper's search was made on
        return _operations(self.num_magnitude_bins, 0.3, shift, 30.0, 0.9, 4)

    def bins(self, draws: Draws) -> np.ndarray:
        return np.full(draws.samples, self.magnitude)


class TrivialAugmentWide(_Policy):
    """One of RandAugment's operations at a magnitude drawn for each sample, from wide ranges (Müller and
    Hutter, ICCV 2021): nothing to tune.

    Args:
        num_magnitude_bins: even steps from nothing to the most.
        interpolation, fill, padding_mode, mask_fill: as in RandomAffine.
        p: probability that a sample is changed.
    """

    def __init__(
        self,
        num_magnitude_bins: int = 31,
        interpolation: str = "bilinear",
        fill: float = 0,
        *,
        padding_mode: str = "constant",
        mask_fill: int = 0,
        p: float = 1.0,
    ) -> None:
        super().__init__(num_magnitude_bins, interpolation, fill, padding_mode, mask_fill, p)

    def operations(self, size: tuple[int, int]) -> list[_Operation]:
        return _operations(self.num_magnitude_bins, 0.99, (32.0, 32.0), 135.0, 0.99, 6)

    def bins(self, draws: Draws) -> np.ndarray:
        return draws.integers(self.num_magnitude_bins)
