"""From a data set to minibatches whose whole state is (seed, epoch, position), so that a resumed run finds
them again; beside it the paper's subsets and normalization.
"""

from __future__ import annotations

import math
import operator
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError

from ..devices import checked_device, move, on_host
from ..engine.core import Tensor
from ..ops.creation import from_numpy, tensor
from ..ops.random import Generator, default_generator
from .datasets.dataset import TensorDataset, one_by_one
from .samplers import SEEDS, BatchSampler, RandomSampler, SequentialSampler
from .transforms.contract import Transform


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


class DataLoader:
    """Minibatches of a data set, by PyTorch's names, in an order that depends on (seed, epoch) alone.

        loader = DataLoader(digits, batch_size=50, shuffle=True, transform=augment, seed=0)
        for x, y in loader: ...             # an epoch; the next loop is the next epoch
        x, y = loader.next_batch()          # for ever: epoch follows epoch

    A batch is a function of (seed, epoch, position), and so is what a transform draws of (seed, epoch, number
    of the sample): the same bits whatever the batch size, the threads and the order. A sample that a sampler
    gives k times before in an epoch is transformed as number index + k n. The state is a position: after
    `load_state_dict` a loop is the rest of the epoch. A loop that was broken off is over; the next one is the
    next epoch.

    Args:
        dataset: a `Dataset`, indexed by arrays; or anything with `__len__` and `__getitem__` of one integer,
            whose samples are put together by `default_collate`.
        batch_size: samples in a batch. As in PyTorch the last one of an epoch may be shorter.
        shuffle: a new order in each epoch; else always the given one.
        sampler: a `Sampler`, or whole numbers, in place of shuffle.
        batch_sampler: a `BatchSampler`, in place of batch_size, shuffle, sampler and drop_last.
        num_workers: threads that prepare batches ahead (processes in PyTorch; nothing is forked here).
        collate_fn: a function of the list of samples `dataset[i]` that returns the batch.
        pin_memory: taken for PyTorch's sake: copies to a GPU always go through page-locked memory, and nobody
            waits for them.
        drop_last: whole batches only.
        generator: whose seed is taken, as it is now.
        transform: of the images (inputs) of a batch, a `Transform`; called with the samples' numbers, the
            epoch and the seed.
        masks: the targets are masks of labels, which the transform changes with the images.
        seed: 0 … 2**64 - 1; by default that of the default generator, as `td.manual_seed` has set it.
        prefetch_factor: batches that are ready or in the making for each worker.
        device: where the tensors are put.
        group: ranks that share each batch (`td.distributed.world()`): this one gets its rows, as many as the
            others within one, in the order of the ranks. Order, position and state are those of one process.

    Attributes:
        epoch, position: of the batch that comes next; position counts batches within the epoch.

    Raises:
        ShapeError: sizes out of range, or not one batch in an epoch.
        TypeError: arguments that exclude each other, or are of the wrong type.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Any = None,
        batch_sampler: BatchSampler | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        generator: Generator | None = None,
        *,
        transform: Transform | None = None,
        masks: bool = False,
        seed: int | None = None,
        prefetch_factor: int = 2,
        device: Any = None,
        group: Any = None,
    ) -> None:
        self.dataset, self.transform, self.masks, self.collate_fn = dataset, transform, masks, collate_fn
        self.samples = len(dataset)
        self.rank: int = 0 if group is None else group.rank
        self.ranks: int = 1 if group is None else group.size
        self.shuffle = bool(shuffle)
        if seed is None:
            seed = (generator or default_generator).seed
        self.seed = operator.index(seed)
        if not 0 <= self.seed < SEEDS:
            raise ShapeError(f"{self._who}: seed: expected 0 to 2**64 - 1, got {seed}")
        self.num_workers, self.prefetch_factor = operator.index(num_workers), operator.index(prefetch_factor)
        if self.num_workers < 0 or self.prefetch_factor < 1:
            got = f"num_workers={num_workers}, prefetch_factor={prefetch_factor}"
            raise ShapeError(
                f"{self._who}: expected num_workers of 0 or more, prefetch_factor of 1 or more, got {got}"
            )
        self.device = None if device is None else checked_device(device, self._who)
        self._require_possible(sampler, batch_sampler)
        self.batch_size: int | None = None
        self.drop_last = False
        if batch_sampler is None:
            self.batch_sampler = self._default_sampler(batch_size, sampler, drop_last)
            self.batch_size, self.drop_last = self.batch_sampler.batch_size, self.batch_sampler.drop_last
        else:
            self.batch_sampler = batch_sampler
        if len(self) < 1:
            raise ShapeError(
                f"{self._who}: batch_size: expected 1 to {self.samples} (the samples), got {batch_size}"
            )
        self.epoch = self.position = 0
        self._dtypes: set[np.dtype] = set()  # those that tensors can have
        self._looping = False  # was the last batch given to a loop, which may be broken off?
        self._orders: dict[tuple[int, int], tuple[list[np.ndarray], list[np.ndarray]]] = {}
        self._ahead: deque[tuple[Any, Future[Any]]] = deque()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        """The batches of an epoch: of the next one after a loop that was broken off, else those that are left
        of the current one.
        """
        if self._looping:
            self.next_epoch()
        return self._loop(self.epoch)

    def _loop(self, epoch: int) -> Iterator[Any]:
        while self.epoch == epoch:
            batch = self.next_batch()
            self._looping = True
            yield batch

    def next_batch(self) -> Any:
        """The next batch, of new arrays; after the last one of an epoch the next epoch begins."""
        batch = self._prepared() if self.num_workers else self.batch(self.epoch, self.position)
        self._move(self.epoch, self.position + 1)
        self._looping = False
        return batch

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch, unless at the beginning of one."""
        if self.position:
            self._move(self.epoch + 1, 0)
        self._looping = False

    def present_epoch(self, limit: int | None = None) -> Iterator[Any]:
        """The batches of the present epoch, or the first so many, without going anywhere; workers are ahead
        as in a loop.
        """
        epoch, count = self.epoch, len(self) if limit is None else min(limit, len(self))
        if not self.num_workers:
            yield from (self.batch(epoch, position) for position in range(count))
            return
        backend, ahead, told = dispatch.override(), deque[Future[Any]](), 0
        for _ in range(count):
            while told < count and len(ahead) <= self.num_workers * self.prefetch_factor:
                ahead.append(self._threads().submit(self._work, epoch, told, backend))
                told += 1
            yield ahead.popleft().result()

    def batch(self, epoch: int, position: int) -> Any:
        """The batch at a place, without going there."""
        groups, numbers = self._order(epoch)
        rows = self._own(groups[position])
        if self.collate_fn is not None:
            return self.collate_fn([self.dataset[i] for i in rows.tolist()])
        if one_by_one(self.dataset):
            arrays = _collated([self.dataset[i] for i in rows.tolist()])
        else:
            arrays = self.dataset._take(rows)  # `_order` has looked at them
        if self.transform is not None:
            settings: dict[str, Any] = {
                "index": self._own(numbers[position]),
                "epoch": epoch,
                "seed": self.seed,
            }
            if not isinstance(arrays, tuple):
                arrays = self.transform(arrays, **settings)
            elif self.masks:
                arrays = (*self.transform(*arrays[:2], **settings), *arrays[2:])
            else:
                arrays = (self.transform(arrays[0], **settings), *arrays[1:])
        return _mapped(self._packed, arrays)

    def _own(self, rows: np.ndarray) -> np.ndarray:
        """This rank's part of a batch."""
        return rows[len(rows) * self.rank // self.ranks : len(rows) * (self.rank + 1) // self.ranks]

    def _packed(self, array: np.ndarray) -> Any:
        """An array of a batch as it is handed out."""
        if array.dtype not in self._dtypes:
            from_numpy(array)  # refuses dtypes that tensors cannot have
            self._dtypes.add(array.dtype)
        return Tensor(array if self.device is None else move(array, self.device))

    # Position and order
    # --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch stands, and the settings that the order hangs on, ready for JSON."""
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, **self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, under its seed.

        Raises:
            ShapeError: the state is of other data or settings (samples, batch size,
            shuffle, drop_last), or is not one.
        """
        who = f"{self._who}.load_state_dict"
        expected = {"epoch": 0, "position": 0, "seed": 0, **self._settings()}
        if state.keys() != expected.keys():
            raise ShapeError(f"{who}: expected the keys {sorted(expected)}, got {sorted(state)}")
        for name, ours in self._settings().items():
            if state[name] != ours:
                raise ShapeError(f"{who}: {name}: expected {ours}, got {state[name]}")
        for name, limit in {"epoch": SEEDS, "position": len(self), "seed": SEEDS}.items():
            if not 0 <= state[name] < limit:
                raise ShapeError(f"{who}: {name}: expected 0 to {limit - 1}, got {state[name]}")
        self._ahead.clear()
        self.epoch, self.position, self.seed = state["epoch"], state["position"], state["seed"]
        self._looping = False

    def _settings(self) -> dict[str, Any]:
        sampler = getattr(self.batch_sampler, "sampler", self.batch_sampler)
        return {
            "samples": self.samples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "sampler": type(sampler).__name__,
            "batches": len(self),
        }

    def _move(self, epoch: int, position: int) -> None:
        at_end = position == len(self)
        self.epoch, self.position = (epoch + 1, 0) if at_end else (epoch, position)

    def _order(self, epoch: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The samples of each batch of an epoch, and the numbers that they are transformed as."""
        key = self.seed, epoch
        found = self._orders.get(key)
        if found is None:
            groups = [np.asarray(rows) for rows in self.batch_sampler.batches(*key)]
            if len(groups) != len(self):
                raise ShapeError(f"{self._who}: expected {len(self)} batches in an epoch, got {len(groups)}")
            if not one_by_one(self.dataset):  # which refuses what is not there, and counts from the end
                ends = np.cumsum([len(rows) for rows in groups])[:-1]
                groups = np.split(self.dataset._rows(np.concatenate(groups)), ends)
            found = groups, groups if self.transform is None else _numbers(groups, self.samples)
            # workers can be an epoch ahead
            self._orders = {**dict(list(self._orders.items())[-2:]), key: found}
        return found

    # Workers
    # --------------------------------------------------------------------------------------------------------

    def _prepared(self) -> Any:
        """The next batch from the workers, who are told of those after it."""
        pool = self._threads()
        key = (self.epoch, self.position, self.seed, dispatch.override())
        if self._ahead and self._ahead[0][0] != key:
            self._ahead.clear()
        while len(self._ahead) <= self.num_workers * self.prefetch_factor:
            if self._ahead:
                epoch, position, *_ = self._ahead[-1][0]
                following = (epoch, position + 1) if position + 1 < len(self) else (epoch + 1, 0)
            else:
                following = key[:2]
            task = pool.submit(self._work, following[0], following[1], key[-1])
            self._ahead.append(((*following, *key[2:]), task))
        return self._ahead.popleft()[1].result()

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not live through a fork
            pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="DataLoader")
            self._pool = os.getpid(), pool
            self._ahead.clear()
        return self._pool[1]

    def _work(self, epoch: int, position: int, backend: str | None) -> Any:
        with dispatch.use(backend):
            return self.batch(epoch, position)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_ahead": deque(), "_pool": None}

    # Arguments
    # --------------------------------------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _default_sampler(self, batch_size: Any, sampler: Any, drop_last: bool) -> BatchSampler:
        if sampler is None:
            make = RandomSampler if self.shuffle and self.samples else SequentialSampler
            sampler = make(self.dataset)
        size = operator.index(batch_size)
        if size < 1:
            raise ShapeError(
                f"{self._who}: batch_size: expected 1 to {self.samples} (the samples), got {batch_size}"
            )
        return BatchSampler(sampler, size, drop_last)

    def _require_possible(self, sampler: Any, batch_sampler: Any) -> None:
        if sampler is not None and (self.shuffle or batch_sampler is not None):
            raise TypeError(f"{self._who}: expected one of shuffle, sampler and batch_sampler, got two")
        if batch_sampler is not None and self.shuffle:
            raise TypeError(f"{self._who}: expected one of shuffle, sampler and batch_sampler, got two")
        if batch_sampler is not None and not hasattr(batch_sampler, "batches"):
            raise TypeError(
                f"{self._who}: batch_sampler: expected a BatchSampler, got {type(batch_sampler).__name__}"
            )
        if self.transform is not None and not callable(self.transform):
            raise TypeError(
                f"{self._who}: transform: expected a Transform, got {type(self.transform).__name__}"
            )
        if self.transform is not None and self.collate_fn is not None:
            raise TypeError(f"{self._who}: expected transform or collate_fn, got both")
        if self.masks and self.transform is None:
            raise TypeError(f"{self._who}: masks=True: expected a transform, got none")

    def __repr__(self) -> str:
        name = getattr(self.dataset, "name", type(self.dataset).__name__)
        return f"{self._who}({name}, {len(self)} batches, epoch {self.epoch}, position {self.position})"


class Batches(DataLoader):
    """A loader of arrays, as arrays: shuffled whole batches unless told otherwise.

        batches = Batches(images, labels, batch_size=50, seed=0)
        x, y = batches.next_batch()

    Args:
        arrays: n samples each.
        batch_size, seed, shuffle, drop_last: as in `DataLoader`.

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
        super().__init__(
            TensorDataset(*arrays, name="Batches"), batch_size, shuffle, drop_last=drop_last, seed=seed
        )
        self.arrays = arrays

    def _packed(self, array: np.ndarray) -> np.ndarray:
        return array


def default_collate(samples: Sequence[Any]) -> Any:
    """A batch of samples: arrays, tensors and numbers are stacked along a new first axis as tensors (numbers
    as `td.tensor` makes them: int64, float32), strings become a list; samples that are tuples, lists or
    mappings are put together part by part, at any depth.
    """
    return _mapped(from_numpy, _collated(samples))


def _collated(samples: Sequence[Any]) -> Any:
    """The same in arrays."""
    first = samples[0]
    if isinstance(first, Mapping):
        return {name: _collated([sample[name] for sample in samples]) for name in first}
    if isinstance(first, (tuple, list)):
        parts = tuple(map(_collated, zip(*samples, strict=True)))
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, (np.ndarray, np.generic, Tensor)):
        return np.stack([on_host(part) for part in samples])
    return on_host(tensor(list(samples)))


def _mapped(function: Callable[[np.ndarray], Any], batch: Any) -> Any:
    """The batch with the function's results in the place of its arrays."""
    if isinstance(batch, np.ndarray):
        return function(batch)
    if isinstance(batch, dict):
        return {name: _mapped(function, part) for name, part in batch.items()}
    if isinstance(batch, tuple):
        parts = [_mapped(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    return batch


def _numbers(groups: list[np.ndarray], samples: int) -> list[np.ndarray]:
    """The samples' numbers, plus `samples` for each time that they came before in the epoch."""
    order = np.concatenate(groups)
    by_sample = np.argsort(order, kind="stable")
    first = np.r_[True, np.diff(order[by_sample]) != 0]
    starts = np.flatnonzero(first)
    if len(starts) == len(order):
        return groups
    before = np.empty(len(order), np.int64)
    before[by_sample] = np.arange(len(order)) - starts[np.cumsum(first) - 1]
    ends = np.cumsum([len(group) for group in groups])[:-1]
    return np.split(order + samples * before, ends)
