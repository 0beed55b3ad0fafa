"""Which samples an epoch has, and in what order: functions of (seed, epoch), by PyTorch's names.

A sampler has no state. Any epoch's order is had without those before it, so a loader that goes on at
(seed, epoch, position) draws nothing twice and skips nothing. The random numbers are raw Philox words under
the key (seed, epoch) (counter-based; Salmon et al., SC 2011), the same in every version of NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..devices import on_host
from ..engine.core import Tensor

__all__ = [
    "BatchSampler",
    "ClassBalancedSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]

SEEDS = 1 << 64
UNIT = 2.0**-53


class Sampler:
    """Base of all samplers: `order`, and `__len__`, the number of samples that it returns.

    `iter(sampler)` gives the order of epoch 0 under seed 0.
    """

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int64 (len(self),): the sample that stands at each place of this epoch."""
        raise NotImplementedError(f"{type(self).__name__}.order")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}.__len__")

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(0, 0).tolist())


class SequentialSampler(Sampler):
    """Every sample once, in the order of the data set. `data_source` is anything that has a length."""

    def __init__(self, data_source: Any) -> None:
        self.samples = len(data_source)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return np.arange(self.samples)

    def __len__(self) -> int:
        return self.samples


class RandomSampler(Sampler):
    """Every sample once in random order; or so many draws.

    Args:
        data_source: anything that has a length.
        replacement: draw each sample from all; else no sample comes a second time before every one has come.
        num_samples: draws in an epoch, by default as many as there are samples.

    Raises:
        ShapeError: no samples, or num_samples below 1.
    """

    def __init__(self, data_source: Any, replacement: bool = False, num_samples: int | None = None) -> None:
        self.samples, self.replacement = len(data_source), bool(replacement)
        self.num_samples = _count("RandomSampler", num_samples, self.samples)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        if self.replacement:
            return (uniform(seed, epoch, self.num_samples) * self.samples).astype(np.int64)
        rounds = -(-self.num_samples // self.samples)
        places = words(seed, epoch, rounds * self.samples).reshape(rounds, self.samples)
        return np.argsort(places, axis=1, kind="stable").reshape(-1)[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """Some samples of a data set, each once, in random order. `indices`: whole numbers (k,), k >= 1."""

    def __init__(self, indices: Any) -> None:
        self.indices = _integers("SubsetRandomSampler", "indices", indices)
        _count("SubsetRandomSampler", None, len(self.indices))

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return self.indices[np.argsort(words(seed, epoch, len(self)), kind="stable")]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Samples drawn in proportion to their weights.

    Args:
        weights: (n,) of the samples, finite and at least 0, not all 0; they need not sum to 1.
        num_samples: draws in an epoch.
        replacement: with it every draw is from all samples; without, none comes twice, and after each draw
            the weights of those that are left decide (Efraimidis and Spirakis 2006: the largest
            u^(1/weight)).

    Raises:
        ShapeError: weights out of range, num_samples below 1 or, without replacement, above the number of
            weights that are not 0.
    """

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True) -> None:
        who = "WeightedRandomSampler"
        given = on_host(weights) if isinstance(weights, Tensor) else weights
        self.weights = np.array(given, np.float64)
        self.num_samples, self.replacement = _count(who, num_samples, 0), bool(replacement)
        if self.weights.ndim != 1 or not np.isfinite(self.weights).all() or (self.weights < 0).any():
            raise ShapeError(f"{who}: weights: expected finite numbers (n,), 0 or more, got {weights}")
        possible = int(np.count_nonzero(self.weights))
        if not possible or (not replacement and self.num_samples > possible):
            wanted = 1 if replacement else self.num_samples
            raise ShapeError(f"{who}: weights: expected {wanted} or more above 0, got {possible}")

    def order(self, seed: int, epoch: int) -> np.ndarray:
        if self.replacement:
            ends = np.cumsum(self.weights)
            places = np.searchsorted(ends, uniform(seed, epoch, self.num_samples) * ends[-1], side="right")
            return np.minimum(places, np.flatnonzero(self.weights)[-1])  # a product can round up to the end
        u = uniform(seed, epoch, len(self.weights)) + UNIT / 2  # never 0
        with np.errstate(divide="ignore"):
            keys = np.log(u) / self.weights  # -inf at weight 0
        return np.argsort(-keys, kind="stable")[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class ClassBalancedSampler(Sampler):
    """Every class equally often, within one: samples of rare classes come again, those of frequent ones not
    all in an epoch. Within a class none comes a second time before every one has come.

    Args:
        labels: whole numbers (n,), n >= 1, of any values.
        num_samples: in an epoch, by default n.
    """

    def __init__(self, labels: Any, num_samples: int | None = None) -> None:
        labels = _integers("ClassBalancedSampler", "labels", labels)
        self.num_samples = _count("ClassBalancedSampler", num_samples, len(labels))
        kinds = np.unique(labels, return_inverse=True)[1]
        self._members = [np.flatnonzero(kinds == kind) for kind in range(kinds.max() + 1)]

    def order(self, seed: int, epoch: int) -> np.ndarray:
        classes, total = len(self._members), self.num_samples
        # who of the classes is one short differs from epoch to epoch
        counts = np.full(classes, total // classes)
        counts[(np.arange(total % classes) + epoch * (total % classes)) % classes] += 1
        rounds = [-(-count // len(members)) for count, members in zip(counts, self._members, strict=True)]
        sizes = [r * len(members) for r, members in zip(rounds, self._members, strict=True)]
        random = words(seed, epoch, sum(sizes) + total)
        chosen, at = [], 0
        for count, members, r, size in zip(counts, self._members, rounds, sizes, strict=True):
            places = np.argsort(random[at : at + size].reshape(r, len(members)), axis=1, kind="stable")
            chosen.append(members[places.reshape(-1)[:count]])
            at += size
        return np.concatenate(chosen)[np.argsort(random[at:], kind="stable")]

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler:
    """The order of a sampler cut into batches: `batches(seed, epoch)`, a list of int64 arrays. A subclass may
    make other lists, of `len(self)` batches each.

    Args:
        sampler: a Sampler, or whole numbers that are the order of every epoch.
        batch_size: 1 or more.
        drop_last: leave out a last batch that is shorter.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        self.sampler = sampler if isinstance(sampler, Sampler) else _Fixed(sampler)
        self.batch_size, self.drop_last = operator.index(batch_size), bool(drop_last)
        if self.batch_size < 1:
            raise ShapeError(f"{type(self).__name__}: batch_size: expected 1 or more, got {batch_size}")

    def batches(self, seed: int, epoch: int) -> list[np.ndarray]:
        order = self.sampler.order(seed, epoch)
        return [order[i * self.batch_size :][: self.batch_size] for i in range(len(self))]

    def __len__(self) -> int:
        """Batches in an epoch."""
        samples = len(self.sampler)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return iter([batch.tolist() for batch in self.batches(0, 0)])


class _Fixed(Sampler):
    """The same order in every epoch."""

    def __init__(self, indices: Any) -> None:
        if not isinstance(indices, (Sequence, np.ndarray, Tensor)):
            raise TypeError(
                "sampler: expected a Sampler (a class with order(seed, epoch) and __len__) or whole numbers, "
                f"got {type(indices).__name__}: an order that nobody can ask for again cannot be resumed"
            )
        self.indices = _integers("sampler", "indices", indices)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return self.indices

    def __len__(self) -> int:
        return len(self.indices)


def words(seed: int, epoch: int, count: int) -> np.ndarray:
    """uint64 (count,), a function of (seed, epoch)."""
    return np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)


def uniform(seed: int, epoch: int, count: int) -> np.ndarray:
    """float64 (count,) in [0, 1), the upper 53 bits of the words."""
    return (words(seed, epoch, count) >> np.uint64(11)) * UNIT


def _count(who: str, num_samples: int | None, samples: int) -> int:
    count = samples if num_samples is None else operator.index(num_samples)
    if count < 1:
        raise ShapeError(f"{who}: num_samples: expected 1 or more, got {count}")
    return count


def _integers(who: str, name: str, x: Any) -> np.ndarray:
    array = on_host(x) if isinstance(x, Tensor) else np.asarray(x)
    if array.ndim != 1:
        raise ShapeError(f"{who}: {name}: expected whole numbers (n,), got {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise DtypeError(f"{who}: {name}: expected whole numbers (n,), got {array.dtype}")
    return array.astype(np.int64)
