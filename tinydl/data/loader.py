"""From arrays in memory to minibatches: subsets, normalization, and an order that
a resumed run finds again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from tinydl_kernels.machine.errors import ShapeError


def subset(seed: int, size: int, pool: int = 50_000) -> np.ndarray:
    """Indices of training subset number `seed`: the first `size` of
    ``RandomState(seed).permutation(pool)``, int64 (size,).

    With the default pool, the first 50,000 training images, these are the subsets of Varga et al. (arXiv
    1712.09936). Subsets of one seed are nested: the first 500 of a subset of 2,000 are the subset of 500.

    Raises:
        ShapeError: more images wanted than the pool has.
    """
    if not 0 <= size <= pool:
        raise ShapeError(f"subset: size: expected 0 to pool={pool}, got {size}")
    return np.random.RandomState(seed).permutation(pool)[:size].astype(np.int64)


def normalize(
    train: np.ndarray, *others: np.ndarray, dtype: DTypeLike = np.float32
) -> tuple[np.ndarray, ...]:
    """Every array minus one mean, over one standard deviation: those of all pixels
    of `train`, taken in float64.

    The range of the pixels cancels: 0…255 and 0…1 give the same. A constant `train` becomes zeros.

    Args:
        train: the training subset, any shape, integers or floats; at least one number.
        others: what has to go the same way (development and test images).
        dtype: of the results.

    Returns:
        As many new arrays as were given.
    """
    if train.size == 0:
        raise ShapeError(f"normalize: expected training images, got shape {train.shape}")
    mean = train.mean(dtype=np.float64)
    # Piece by piece: a float64 copy of a whole image set is eight times its bytes.
    squares = sum(
        np.square(piece - mean).sum()
        for piece in np.array_split(train.reshape(-1), 1 + train.size // (1 << 20))
    )
    std = math.sqrt(squares / train.size) or 1.0
    results = tuple(images.astype(dtype) for images in (train, *others))
    for images in results:
        images -= float(mean)
        images /= std
    return results


class Batches:
    """Minibatches of arrays that have their first axis in common, in an order that
    depends on (seed, epoch) alone.

    Epoch e stands in the order that sorts the n 64-bit words of Philox (counter-based; Salmon et al., SC
    2011) under the key (seed, e): any epoch's order is had without those before it, and the raw words, unlike
    NumPy's `permutation`, are the same in every version. So the whole state is a position, and a run resumed
    there sees the same batches as one that never stopped.

        batches = Batches(images, labels, batch_size=50, seed=0)
        x, y = batches.next_batch()         # for ever: epoch follows epoch
        for x, y in batches: ...            # the rest of the current epoch; the next loop is the next epoch

    Args:
        arrays: n samples each.
        batch_size: samples in a batch.
        seed: 0 … 2**64 − 1.
        shuffle: a new order in each epoch; else always the given one.
        drop_last: whole batches only; else the last batch of an epoch may be shorter.

    Attributes:
        epoch, position: of the batch that comes next; position counts batches within the epoch.

    Raises:
        ShapeError: no arrays, unequal lengths, or not one batch in an epoch.
    """

    def __init__(
        self,
        *arrays: np.ndarray,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        lengths = {len(array) for array in arrays}
        if len(lengths) != 1:
            raise ShapeError(
                f"Batches: expected arrays of one length, got the shapes {[array.shape for array in arrays]}"
            )
        self.arrays = arrays
        self.samples = lengths.pop()
        self.batch_size = operator.index(batch_size)
        self.seed = operator.index(seed)
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        self.epoch = self.position = 0
        if self.batch_size < 1 or len(self) < 1:
            raise ShapeError(
                f"Batches: batch_size: expected 1 to {self.samples} (the samples), got {batch_size}"
            )
        if not 0 <= self.seed < 1 << 64:
            raise ShapeError(f"Batches: seed: expected 0 to 2**64 - 1, got {seed}")
        self._order = self._order_of(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.samples // self.batch_size if self.drop_last else -(-self.samples // self.batch_size)

    def next_batch(self) -> tuple[np.ndarray, ...]:
        """The next batch, a new array for each of the arrays; after the last one of an
        epoch the next epoch begins.
        """
        rows = self._order[self.position * self.batch_size :][: self.batch_size]
        self._move(self.epoch, self.position + 1)
        return tuple(array[rows] for array in self.arrays)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches that are left of the current epoch."""
        epoch = self.epoch
        while self.epoch == epoch:
            yield self.next_batch()

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch stands, and the settings that the order hangs on: integers
        and booleans, ready for JSON.
        """
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, **self._settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, under its seed.

        Raises:
            ShapeError: the state is of other data or settings (samples, batch size,
            shuffle, drop_last), or is not one.
        """
        expected = {"epoch": 0, "position": 0, "seed": 0, **self._settings()}
        if state.keys() != expected.keys():
            raise ShapeError(
                f"Batches.load_state_dict: expected the keys {sorted(expected)}, got {sorted(state)}"
            )
        for name, ours in self._settings().items():
            if state[name] != ours:
                raise ShapeError(f"Batches.load_state_dict: {name}: expected {ours}, got {state[name]}")
        for name, limit in {"epoch": 1 << 64, "position": len(self), "seed": 1 << 64}.items():
            if not 0 <= state[name] < limit:
                raise ShapeError(
                    f"Batches.load_state_dict: {name}: expected 0 to {limit - 1}, got {state[name]}"
                )
        self.seed = state["seed"]
        self.epoch = -1  # the order in hand may be another seed's
        self._move(state["epoch"], state["position"])

    def _settings(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def _move(self, epoch: int, position: int) -> None:
        if position == len(self):
            epoch, position = epoch + 1, 0
        if epoch != self.epoch:
            self._order = self._order_of(epoch)
        self.epoch, self.position = epoch, position

    def _order_of(self, epoch: int) -> np.ndarray:
        """int64 (samples,): which sample stands where in this epoch."""
        if not self.shuffle:
            return np.arange(self.samples)
        words = np.random.Philox(key=np.array([self.seed, epoch], np.uint64)).random_raw(self.samples)
        return np.argsort(words, kind="stable")
