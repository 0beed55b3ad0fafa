"""What a transform is, and the random numbers of the samples of a batch."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from tinydl_kernels import per_sample, smooth
from tinydl_kernels.machine.errors import DtypeError, ShapeError

__all__ = ["Draws", "Transform"]

SLOTS = 1 << 8
"""Draws that one transform may make: each has a stream of its own."""
LIMIT = 1 << 32
"""Of the numbers of epochs and samples: each is one word of Philox's counter."""
APART = 0x7472616E73666F72
"""Added (bit by bit, modulo 2) to the seed, so that dropout under the same seed draws other numbers."""


class Draws:
    """Random numbers of the samples of a batch, one row for each: a function of (seed, epoch, number of the
    sample), of the place of the transform in its pipeline, and of how many draws it has made before.

    Nothing moves: who draws nothing changes no number of anybody else's.
    """

    def __init__(
        self, who: str, samples: int, index: np.ndarray | None, epoch: int | None, seed: int, place: int = 0
    ) -> None:
        self.who, self.samples, self.place, self.made = who, samples, place, 0
        self.index, self.epoch, self.seed = index, epoch, seed

    @classmethod
    def of(cls, who: str, samples: int, index: Any, epoch: Any, seed: Any) -> Draws:
        """Checked: `index` has one whole number for each sample."""
        if index is not None:
            given = np.asarray(index)
            if given.dtype.kind not in "iu":
                raise DtypeError(f"{who}: index: expected whole numbers, got {given.dtype}")
            if given.shape != (samples,):
                raise ShapeError(
                    f"{who}: index: expected one for each sample ({samples},), got {given.shape}"
                )
            if samples and (given.min() < 0 or given.max() >= LIMIT):
                raise ShapeError(f"{who}: index: expected 0 to 2**32 - 1, got {given.min()} to {given.max()}")
            index = given.astype(np.uint64)
        if epoch is not None:
            epoch = operator.index(epoch)
            if not 0 <= epoch < LIMIT:
                raise ShapeError(f"{who}: epoch: expected 0 to 2**32 - 1, got {epoch}")
        seed = operator.index(seed)
        if not 0 <= seed < 1 << 64:
            raise ShapeError(f"{who}: seed: expected 0 to 2**64 - 1, got {seed}")
        return cls(who, samples, index, epoch, seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """float64 (samples,) in [low, high); nothing is drawn where they are equal."""
        if low == high:
            return np.full(self.samples, float(low))
        index, key = self._next()
        return low + (high - low) * per_sample.uniform(index, key, 1, np.float64)[:, 0]

    def integers(self, high: int) -> np.ndarray:
        """int64 (samples,) of 0 to high - 1, for `high` below 2^32; nothing is drawn if high is 1."""
        if high == 1:
            return np.zeros(self.samples, np.int64)
        return np.floor(self.uniform(0.0, high)).astype(np.int64)

    def signs(self) -> np.ndarray:
        """float64 (samples,) of -1 and 1."""
        return 2.0 * self.integers(2) - 1

    def uniforms(self, size: int) -> np.ndarray:
        """float32 (samples, size) in [0, 1)."""
        return per_sample.uniform(*self._next(), size, np.float32)

    def normals(self, size: int) -> np.ndarray:
        """float32 (samples, size) of mean 0 and variance 1."""
        return per_sample.normal(*self._next(), size)

    def displacements(self, amount: float, weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """float32 (samples, 2, *size): `uniforms` in [-amount, amount), smoothed by the weights."""
        return smooth.displacements(*self._next(), amount, weights, size)

    def chosen(self, p: float) -> np.ndarray | None:
        """Positions in the batch of the samples that an event of probability p happens to; None: all. Nothing
        is drawn at p = 0 and p = 1.
        """
        if p == 0:
            return np.empty(0, np.int64)
        return None if p == 1 else np.flatnonzero(self.uniform() < p)

    def rows(self, rows: np.ndarray | None) -> Draws:
        """For some samples of the batch, going on with this one's draws; None: all."""
        if rows is None:
            return self
        index = None if self.index is None else self.index[rows]
        some = Draws(self.who, len(rows), index, self.epoch, self.seed, self.place)
        some.made = self.made
        return some

    def at(self, step: int, who: str) -> Draws:
        """For the transform `who` that stands `step` places further on."""
        return Draws(who, self.samples, self.index, self.epoch, self.seed, self.place + step)

    def in_epoch(self, epoch: int) -> Draws:
        """As in another epoch."""
        return Draws(self.who, self.samples, self.index, epoch, self.seed, self.place)

    def number_of_epoch(self) -> int:
        """ShapeError where none was given."""
        if self.epoch is None:
            raise ShapeError(f"{self.who}: epoch: expected a number, since it draws at random; got None")
        return self.epoch

    def _next(self) -> tuple[np.ndarray, np.ndarray]:
        """Index and key of the next draw."""
        if self.index is None:
            raise ShapeError(
                f"{self.who}: index: expected the numbers of the samples, since it draws at random; got None"
            )
        stream = self.number_of_epoch() | (self.place * SLOTS + self.made) << 32
        self.made += 1
        if self.made > SLOTS:
            raise ShapeError(f"{self.who}: expected at most {SLOTS} draws, got more")
        return self.index, np.array([self.seed ^ APART, stream], np.uint64)


class Transform:
    """Changes a batch of images, each sample with parameters of its own.

        images = transform(images, index=indices, epoch=epoch, seed=seed)
        images, masks = transform(images, masks, index=indices, epoch=epoch, seed=seed)

    What happens to a sample is a function of (seed, epoch, its number) alone, so that it is the same
    whatever the batch, the order, the thread or the process. To write one: a class with a method
    ``change(images, masks, draws)``, and `p` if it is not for every sample.

    Args of a call:
        images: (N, C, H, W), uint8 (0 to 255) or float32 (0 to 1 where a transform asks for a range). Never
            written to; where nothing is changed, the result is the array itself.
        masks: (N, H, W) or (N, K, H, W), whole numbers or bool, labels of pixels: what moves pixels moves
            them too, by the nearest pixel.
        index: (N,) whole numbers of the samples in their data set; a transform that draws needs them.
        epoch: of the pictures; needed likewise, since without it each epoch would be the same.
        seed: 0 to 2**64 - 1.

    Raises:
        ShapeError, DtypeError: images, masks or numbers of the wrong shape or dtype, by name.
    """

    p: float = 1.0
    places = 1
    """How many places in a pipeline it takes: its own and those of the transforms within."""

    def __call__(
        self,
        images: np.ndarray,
        masks: np.ndarray | None = None,
        *,
        index: Any = None,
        epoch: int | None = None,
        seed: int = 0,
    ) -> Any:
        who = type(self).__name__
        check_images(who, images)
        planes = None if masks is None else _planes(who, images, masks)
        draws = Draws.of(who, len(images), index, epoch, seed)
        images, planes = self.apply(np.ascontiguousarray(images), planes, draws)
        if masks is None:
            return images
        if planes is not None and masks.ndim == 3:
            planes = planes[:, 0]
        return images, planes

    def apply(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """`change` for those samples that `p` chooses; masks are (N, K, H, W) here."""
        rows = self.chosen(draws)
        if rows is None:
            return self.change(images, masks, draws)
        if rows.size == 0:
            return images, masks
        return put(images, masks, rows, *self.change(*take(images, masks, rows), draws.rows(rows)))

    def chosen(self, draws: Draws) -> np.ndarray | None:
        """Positions of the samples that are changed; None: all."""
        return draws.chosen(self.p)

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        raise NotImplementedError(f"{type(self).__name__}: expected a method change(images, masks, draws)")

    def __repr__(self) -> str:
        shown = [name for name in vars(self) if not name.startswith("_") and name != "places"]
        settings = [f"{name}={getattr(self, name)!r}" for name in shown]
        return f"{type(self).__name__}({', '.join(settings)})"


# ---- Some samples of a batch


def take(images: np.ndarray, masks: np.ndarray | None, rows: np.ndarray) -> tuple[Any, Any]:
    return images[rows], None if masks is None else masks[rows]


def put(
    images: np.ndarray,
    masks: np.ndarray | None,
    rows: np.ndarray,
    changed: np.ndarray,
    changed_masks: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The batch with these rows changed: new arrays."""
    for old, new in ((images, changed), (masks, changed_masks)):
        if old is not None and new is not None and (old.shape[1:], old.dtype) != (new.shape[1:], new.dtype):
            raise ShapeError(
                f"transforms: expected samples of one shape and dtype, got {new.dtype} {new.shape[1:]} "
                f"for some and {old.dtype} {old.shape[1:]} for others"
            )
    images = images.copy()
    images[rows] = changed
    if masks is not None and changed_masks is not None:
        masks = masks.copy()
        masks[rows] = changed_masks
    return images, masks


# ---- Checks


def check_images(who: str, images: Any) -> None:
    if not isinstance(images, np.ndarray) or images.dtype not in (np.uint8, np.float32):
        kind = getattr(images, "dtype", type(images).__name__)
        raise DtypeError(f"{who}: images: expected an array of uint8 or float32, got {kind}")
    if images.ndim != 4:
        raise ShapeError(f"{who}: images: expected (N, C, H, W), got {images.shape}")
    if 0 in images.shape[1:]:
        raise ShapeError(f"{who}: images: expected at least one pixel, got {images.shape}")


def _planes(who: str, images: np.ndarray, masks: Any) -> np.ndarray:
    """Masks as (N, K, H, W)."""
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "iub":
        kind = getattr(masks, "dtype", type(masks).__name__)
        raise DtypeError(f"{who}: masks: expected an array of whole numbers or bool, got {kind}")
    planes = masks[:, None] if masks.ndim == 3 else masks
    if planes.ndim != 4 or (len(planes), *planes.shape[2:]) != (len(images), *images.shape[2:]):
        N, _, H, W = images.shape
        raise ShapeError(f"{who}: masks: expected {(N, H, W)} or ({N}, K, {H}, {W}), got {masks.shape}")
    return np.ascontiguousarray(planes)


def check_value(who: str, name: str, value: float, dtype: np.dtype) -> None:
    """Can pixels or labels of this dtype have the value?"""
    if dtype.kind == "f":
        return
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not limits[0] <= value <= limits[1] or value != int(value):
        raise ShapeError(f"{who}: {name}: expected a number of {dtype}, got {value}")


def probability(who: str, p: float, name: str = "p") -> float:
    if not 0 <= p <= 1:
        raise ShapeError(f"{who}: {name}: expected a probability, 0 to 1, got {p}")
    return float(p)


def span(
    who: str, name: str, value: Any, least: float = -np.inf, most: float = np.inf
) -> tuple[float, float]:
    """(low, high) in order and within the limits."""
    pair = tuple(map(float, value)) if isinstance(value, (tuple, list)) else (float(value),) * 2
    if len(pair) != 2 or not least <= pair[0] <= pair[1] <= most:
        limits = f" from {least:g} to {most:g}" if np.isfinite(most) else f" of at least {least:g}"
        within = limits if np.isfinite(least) else ""
        raise ShapeError(f"{who}: {name}: expected (low, high) in order{within}, got {value}")
    return pair[0], pair[1]


def around(
    who: str, name: str, value: Any, centre: float = 0.0, least: float = -np.inf
) -> tuple[float, float]:
    """A pair as it is; a number stands for (centre - value, centre + value), from `least` on."""
    if isinstance(value, (tuple, list)):
        return span(who, name, value, least)
    if not value >= 0:
        raise ShapeError(f"{who}: {name}: expected a number of at least 0 or (low, high), got {value}")
    return max(least, centre - float(value)), centre + float(value)


def pair_of(who: str, name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ShapeError(f"{who}: {name}: expected two numbers, got {value}")
    return float(value[0]), float(value[1])


def pair_of_sizes(who: str, name: str, value: Any) -> tuple[int, int]:
    """(height, width); a number stands for both."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(size, (int, np.integer)) and size > 0 for size in pair):
        raise ShapeError(f"{who}: {name}: expected a size or (height, width), 1 or more, got {value}")
    return int(pair[0]), int(pair[1])


def not_negative(who: str, name: str, value: float) -> float:
    if not value >= 0:
        raise ShapeError(f"{who}: {name}: expected a number of at least 0, got {value}")
    return float(value)


def above_zero(who: str, name: str, value: float) -> float:
    if not value > 0:
        raise ShapeError(f"{who}: {name}: expected a number above 0, got {value}")
    return float(value)
