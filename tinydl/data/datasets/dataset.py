"""What every data set is: samples in memory as they were read, taken by integer arrays, and facts about them.

digits = MNIST("train")
inputs, targets = digits[rows]          # new arrays: uint8 (len(rows), 1, 28, 28) and int64 (len(rows),)
validation = Subset(digits, rows)       # a data set again
both = ConcatDataset([digits, others])
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ...devices import on_host
from ...engine.core import Tensor
from ...ops.generator import Generator
from ...ops.random import randperm

__all__ = ["ConcatDataset", "Dataset", "Subset", "TensorDataset", "random_split"]

PIECE = 1 << 20  # numbers looked at together: a float64 copy of a whole image set is eight times its bytes
NUMBERS = "biuf"  # kinds of dtypes
SHOWN = 10  # classes and numbers in a repr


class Dataset:
    """n samples, each of one row per array: inputs first, targets last.

    A subclass has `__len__`, `arrays` and `_take`; facts are found when they are asked for, once. Or, as
    PyTorch's, it has `__len__` and a `__getitem__` of its own, which gives one sample at an integer, whatever
    that may be: then there are no facts, and `DataLoader`, `Subset`, `ConcatDataset` and `random_split` ask
    for sample after sample.

    Attributes:
        arrays: all samples: (inputs, targets), or what a `TensorDataset` was made of.
        classes: their names, in the order of the targets' numbers; () where targets are no classes.
        name: what it is, "MNIST train".
        source: in a sentence, where from.
        sample_names: () or one name per sample: the paths of pictures.
    """

    name = "Dataset"
    source = ""
    classes: tuple[str, ...] = ()
    sample_names: tuple[str, ...] = ()

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        raise NotImplementedError(f"{type(self).__name__}: expected `arrays`, of which it has none")

    @property
    def _one_by_one(self) -> bool:
        """Does `__getitem__` give one sample at an integer, and nothing else?"""
        return type(self).__getitem__ is not Dataset.__getitem__

    def _take(self, rows: Any) -> Any:
        """The samples at an index or at int64 indices, all of them 0 to n - 1."""
        return tuple(array[rows] for array in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[np.ndarray, ...]:
        """The samples at an integer, a slice, an integer array (k,) or a mask of bools (n,): (inputs,
        targets), new arrays of k rows, or one sample without that axis.

        Raises:
            IndexError: beyond -n to n - 1, or an index of another kind.
        """
        return self._take(self._rows(index))

    def _rows(self, index: Any) -> Any:
        return _rows(self, index)

    @property
    def inputs(self) -> np.ndarray:
        return self.arrays[0]

    @property
    def targets(self) -> np.ndarray | None:
        """Classes int64 (n,), several labels float32 0 or 1 (n, labels), or numbers; None where there are
        none."""
        return self.arrays[-1] if len(self.arrays) > 1 else None

    @functools.cached_property
    def counts(self) -> np.ndarray | None:
        """int64 (classes,): how many samples of each class, or with each label; None without classes."""
        if not self.classes or self.targets is None:
            return None
        if self.targets.ndim == 2:
            return np.count_nonzero(self.targets, axis=0)
        return np.bincount(self.targets, minlength=len(self.classes))

    @property
    def mean(self) -> np.ndarray:
        """float64, in the unit of the stored numbers: per channel (C,) of images (n, C, H, W), per feature
        of (n, F), else one number (), over all samples."""
        return self._moments[0]

    @property
    def std(self) -> np.ndarray:
        """The standard deviation about `mean` (divided by n), of its shape."""
        return self._moments[1]

    @functools.cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        return _moments(self.inputs)

    @functools.cached_property
    def checksum(self) -> str:
        """``sha256:`` and the digest of all arrays, with their dtypes and shapes: two data sets with one
        checksum are equal, whatever files they were read from."""
        digest = hashlib.sha256()
        for array in self.arrays:
            digest.update(f"{array.dtype.str} {array.shape} ".encode())
            for start in range(0, len(array), 1024):
                digest.update(array[start : start + 1024].tobytes())
        return f"sha256:{digest.hexdigest()}"

    def __repr__(self) -> str:
        if self._one_by_one:
            return f"{type(self).__name__}: {len(self):,} samples"
        parts = [f"{array.shape[1:]} {array.dtype}" for array in self.arrays]
        lines = [f"{self.name}: {len(self):,} samples, {' and '.join(parts)}"]
        if self.classes and self.counts is not None:
            pairs = zip(self.classes, self.counts.tolist(), strict=True)
            shown = [f"{name} {count:,}" for name, count in list(pairs)[:SHOWN]]
            rest = ["…"] * (len(self.classes) > SHOWN)
            kind = "labels" if self.targets is not None and self.targets.ndim == 2 else "classes"
            lines.append(f"{len(self.classes)} {kind}: {', '.join(shown + rest)}")
        if self.inputs.size and self.inputs.dtype.kind in NUMBERS:
            lines.append(f"mean {_shown(self.mean)}, standard deviation {_shown(self.std)}")
        lines += [f"source: {self.source}"] * bool(self.source) + [f"checksum: {self.checksum}"]
        return "\n    ".join(lines)


def _rows(dataset: Any, index: Any) -> Any:
    """The index from 0 on: an int, or int64 (k,)."""
    n = len(dataset)
    if isinstance(index, slice):
        return np.arange(n)[index]
    rows = on_host(index) if isinstance(index, Tensor) else np.asarray(index)
    if rows.dtype == bool and rows.shape == (n,):
        return np.flatnonzero(rows)
    rows = rows.astype(np.int64) if rows.shape == (0,) else rows
    if rows.dtype.kind not in "iu" or rows.ndim > 1:
        raise IndexError(
            f"{_name(dataset)}: expected an integer, a slice, integers (k,) or bools ({n},), got "
            f"{rows.dtype} {rows.shape}"
        )
    rows = rows.astype(np.int64)
    if rows.size and (rows.min() < -n or rows.max() >= n):
        raise IndexError(f"{_name(dataset)}: expected {-n} to {n - 1}, got {rows.min()} to {rows.max()}")
    rows = np.where(rows < 0, rows + n, rows)
    return rows if rows.ndim else int(rows)


def _name(dataset: Any) -> str:
    """Its own, or that of its class where it was given none."""
    name = getattr(dataset, "name", Dataset.name)
    return name if name != Dataset.name else type(dataset).__name__


def one_by_one(dataset: Any) -> bool:
    """Has it to be asked for sample after sample: a `Dataset` that is, or anything that is none?"""
    return not isinstance(dataset, Dataset) or dataset._one_by_one


class _Parts(Dataset):
    """What is made of other data sets: asked for sample after sample where one of them has to be."""

    _parts: Sequence[Any] = ()

    @functools.cached_property
    def _one_by_one(self) -> bool:
        return any(map(one_by_one, self._parts))

    def _take(self, rows: Any) -> Any:
        if not self._one_by_one:
            return self._taken(rows)
        return (
            [self._sample(i) for i in rows.tolist()] if isinstance(rows, np.ndarray) else self._sample(rows)
        )

    def _taken(self, rows: Any) -> tuple[np.ndarray, ...]:
        raise NotImplementedError

    def _sample(self, i: int) -> Any:
        raise NotImplementedError


class TensorDataset(Dataset):
    """A data set of arrays or tensors that have their first axis in common, not copied.

    Args:
        arrays: inputs, then targets; PyTorch's may be any number.
        classes: names of the classes of integer targets (n,), or of the labels of targets (n, labels). By
            default "0", "1", … up to the largest of integers (n,) from 0.
        name: what it is.
        source: where from.
        sample_names: one for each sample, or ().

    Raises:
        ShapeError: no arrays, unequal lengths, as many labels as there are not classes, a class out of range.
        DtypeError: classes of targets that are not integers (n,) or labels (n, labels).
    """

    def __init__(
        self,
        *arrays: Any,
        classes: Sequence[str] | None = None,
        name: str = "TensorDataset",
        source: str = "arrays in memory",
        sample_names: Sequence[str] = (),
    ) -> None:
        self._arrays = tuple(on_host(x) if isinstance(x, Tensor) else np.asarray(x) for x in arrays)
        shapes = [array.shape for array in self._arrays]
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) != 1:
            raise ShapeError(f"{name}: expected arrays of one length, got the shapes {shapes}")
        self.name, self.source = name, source
        self.sample_names = tuple(sample_names)
        if self.sample_names and len(self.sample_names) != len(self):
            raise ShapeError(f"{name}: expected {len(self)} sample_names, got {len(self.sample_names)}")
        self.classes = _classes(name, self.targets, classes)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self._arrays


class Subset(_Parts):
    """Some samples of a data set, in a given order, as a data set. Nothing is copied before it is asked for.

    Args:
        dataset: of which; or anything with `__len__` and `__getitem__` of one integer.
        indices: whatever `dataset[indices]` takes, but a single integer.

    Attributes:
        dataset, indices: int64, all of them from 0.
    """

    def __init__(self, dataset: Any, indices: Any) -> None:
        rows = _rows(dataset, list(indices) if isinstance(indices, range) else indices)
        if isinstance(rows, int):
            raise IndexError(f"Subset: indices: expected several, got {indices!r}")
        self.dataset, self.indices, self._parts = dataset, rows, (dataset,)
        self.name = f"a subset of {_name(dataset)}"
        if isinstance(dataset, Dataset):
            self.source, self.classes = dataset.source, dataset.classes
            if dataset.sample_names:
                self.sample_names = tuple(dataset.sample_names[i] for i in rows)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.dataset._take(self.indices)

    @property
    def targets(self) -> np.ndarray | None:
        targets = self.dataset.targets
        return None if targets is None else targets[self.indices]

    def _taken(self, rows: Any) -> tuple[np.ndarray, ...]:
        return self.dataset._take(self.indices[rows])

    def _sample(self, i: int) -> Any:
        return self.dataset[int(self.indices[i])]


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Disjoint parts of a data set in random order, together all of it; see `split` for parts by class.

    lengths: in samples, or shares that sum to 1: what rounding down leaves goes to the first parts, one each.

    Raises:
        ShapeError: lengths that are not all of the samples, or are below 0.
    """
    n, counts = len(dataset), list(lengths)
    if math.isclose(math.fsum(counts), 1) and not all(isinstance(k, (int, np.integer)) for k in counts):
        counts = [math.floor(n * share) if 0 <= share <= 1 else -1 for share in counts]
        rest = n - math.fsum(counts)
        counts = [k + (i < rest) for i, k in enumerate(counts)]
    whole = all(isinstance(k, (int, np.integer)) and k >= 0 for k in counts)
    if not whole or math.fsum(counts) != n:
        raise ShapeError(
            f"random_split: expected lengths of {n} samples in all, or shares of 1, got {[*lengths]}"
        )
    order, ends = randperm(n, generator).numpy(), np.cumsum(counts, dtype=np.int64)
    return [Subset(dataset, order[end - k : end]) for end, k in zip(ends, counts, strict=True)]


class ConcatDataset(_Parts):
    """Data sets one after another, as one. What gives one sample at an integer may be anything.

    Raises:
        ShapeError: none; samples of other shapes; other classes.
        DtypeError: samples of other dtypes.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = self._parts = list(datasets)
        if not self.datasets:
            raise ShapeError("ConcatDataset: expected at least one data set")
        self.cumulative_sizes = np.cumsum([len(dataset) for dataset in self.datasets]).tolist()
        self.name = " + ".join(map(_name, self.datasets))
        if not self._one_by_one:
            self._agree()

    def _agree(self) -> None:
        """Samples and classes are of one kind, or it is an error; the facts are those of all."""
        first, *others = self.datasets
        kinds = [_kind(dataset) for dataset in self.datasets]
        for dataset, kind in zip(others, kinds[1:], strict=True):
            if kind != kinds[0]:
                shapes = [[shape for shape, _ in either] for either in (kind, kinds[0])]
                raise (ShapeError if shapes[0] != shapes[1] else DtypeError)(
                    f"ConcatDataset: expected samples {kinds[0]} as in {first.name}, got {kind} in "
                    f"{dataset.name}"
                )
            if dataset.classes != first.classes:
                raise ShapeError(
                    f"ConcatDataset: expected the classes {', '.join(first.classes)} of {first.name}, got "
                    f"{', '.join(dataset.classes)} of {dataset.name}"
                )
        self.source = "; ".join(dict.fromkeys(dataset.source for dataset in self.datasets))
        self.classes = first.classes
        if all(dataset.sample_names for dataset in self.datasets):
            self.sample_names = tuple(name for dataset in self.datasets for name in dataset.sample_names)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        parts = zip(*(dataset.arrays for dataset in self.datasets), strict=True)
        return tuple(np.concatenate(part) for part in parts)

    @property
    def targets(self) -> np.ndarray | None:
        parts = [dataset.targets for dataset in self.datasets]
        return None if parts[0] is None else np.concatenate([part for part in parts if part is not None])

    def _sample(self, i: int) -> Any:
        which = int(np.searchsorted(self.cumulative_sizes, i, side="right"))
        return self.datasets[which][i - [0, *self.cumulative_sizes][which]]

    def _taken(self, rows: Any) -> tuple[np.ndarray, ...]:
        which = np.searchsorted(self.cumulative_sizes, rows, side="right")
        starts = np.array([0, *self.cumulative_sizes])
        if np.ndim(rows) == 0:
            return self.datasets[int(which)]._take(rows - int(starts[which]))
        results = tuple(np.empty((len(rows), *shape), dtype) for shape, dtype in _kind(self.datasets[0]))
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            parts = self.datasets[number]._take(rows[here] - starts[number])
            for result, part in zip(results, parts, strict=True):
                result[here] = part
        return results


def _kind(dataset: Dataset) -> list[tuple[tuple[int, ...], str]]:
    """The shape and dtype of a sample's parts."""
    return [(array.shape[1:], array.dtype.name) for array in dataset._take(np.empty(0, np.int64))]


def _classes(who: str, targets: np.ndarray | None, names: Sequence[str] | None) -> tuple[str, ...]:
    integers = targets is not None and targets.ndim == 1 and targets.dtype.kind in "iu"
    if names is None:
        if targets is None or not integers or not len(targets) or not targets.min() >= 0:
            return ()
        return tuple(map(str, range(int(targets.max()) + 1))) if targets.max() < max(2, len(targets)) else ()
    names = tuple(map(str, names))
    if targets is not None and targets.ndim == 2 and names:
        if targets.shape[1] != len(names):
            raise ShapeError(f"{who}: expected {targets.shape[1]} labels in `classes`, got {len(names)}")
        return names
    if names and not integers:
        got = "none" if targets is None else f"{targets.dtype} {targets.shape}"
        raise DtypeError(f"{who}: expected targets of integers (n,) or labels (n, labels), got {got}")
    if names and targets is not None and len(targets):
        low, high = targets.min(), targets.max()
        if low < 0 or high >= len(names):
            expected = f"0 to {len(names) - 1}, one of {len(names)} classes"
            raise ShapeError(f"{who}: expected targets of {expected}, got {low} to {high}")
    return names


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if x.dtype.kind not in NUMBERS:
        raise DtypeError(f"mean: expected inputs of real numbers, got {x.dtype}")
    if not x.size:
        raise ShapeError(f"mean: expected at least one sample, got inputs {x.shape}")
    axes = (0, 2, 3) if x.ndim == 4 else (0,) if x.ndim == 2 else tuple(range(x.ndim))
    n = math.prod(x.shape[axis] for axis in axes)
    step = max(1, PIECE * len(x) // x.size)
    pieces = [slice(start, start + step) for start in range(0, len(x), step)]
    mean = sum(x[piece].sum(axis=axes, dtype=np.float64, keepdims=True) for piece in pieces) / n
    squares = sum(np.square(x[piece] - mean).sum(axis=axes) for piece in pieces)
    return np.squeeze(mean, axes), np.sqrt(squares / n)


def _shown(numbers: np.ndarray) -> str:
    flat = numbers.reshape(-1).tolist()
    text = ", ".join([f"{number:.4g}" for number in flat[:SHOWN]] + ["…"] * (len(flat) > SHOWN))
    return text if numbers.ndim == 0 else f"({text})"
