"""Ranks, what they say to each other, and which samples of a batch are whose."""

from __future__ import annotations

import atexit
import itertools
import operator
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np
from tinydl_kernels.cpu.processors import one_of_many
from tinydl_kernels.machine.errors import GraphError, ShapeError, TinydlError

from ..devices import move
from ..engine.core import Tensor, no_grad, state
from ..ops.elementwise import mul
from ..ops.shape import cat, reshape
from ..ops.subscript import getitem
from . import collectives
from .transport import Mpi, Nccl, RankError, Serial, Transport

__all__ = ["Group", "RankError", "Shard", "nccl", "serial", "world"]

TIMEOUT = 600.0
"""Seconds for which a rank waits for the others."""
INTERRUPTED = 130
PASSED_ON = 0.2
"""Seconds for a launcher to read a rank's last words: it drops what it has not read by the abort."""


class Group:
    """Processes that do the same on other samples; each is a rank, 0 to size - 1.

    Every rank makes the same calls in the same order. The collectives are differentiable to every order and
    may stand in recorded steps; what is differentiated is the sum of the ranks' losses, so that an all-reduce
    is its own transpose. (A loss that all ranks compute alike counts `size` times.)

    Attributes:
        rank, size: which process this is, and of how many.
        device: where the arrays are that it moves.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.rank, self.size, self.device = transport.rank, transport.size, transport.device

    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum of the ranks' x (any shape, the same on all), added in the order of the ranks."""
        return collectives.all_reduce(self._given("all_reduce", x), group=self)

    def all_gather(self, x: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """The ranks' x (n_rank, *) one after the other, (Σ n_rank, *).

        Args:
            counts: n_rank of each rank. Without it the ranks ask each other, which a recorded step cannot.
        """
        x = self._given("all_gather", x)
        if x.ndim < 1:
            raise ShapeError("all_gather: expected rows (n, *), got a 0-d tensor")
        if counts is None:
            counts = self._counts("all_gather", x.shape[0])
        if len(counts) != self.size or counts[self.rank] != x.shape[0]:
            raise ShapeError(
                f"all_gather: expected counts of {self.size} ranks, {x.shape[0]} of rank {self.rank}, got "
                f"{tuple(counts)}"
            )
        return collectives.all_gather(x, group=self, counts=tuple(counts))

    def broadcast(self, x: Tensor, root: int = 0) -> Tensor:
        """The x of the rank `root` (any shape, the same on all)."""
        if not 0 <= root < self.size:
            raise ShapeError(f"broadcast: expected root in [0, {self.size}), got {root}")
        return collectives.broadcast(self._given("broadcast", x), group=self, root=root)

    def barrier(self) -> None:
        """Wait until all ranks are here. Nothing that a recorded step can do."""
        self._require_eager("barrier")
        self.transport.barrier()

    def shard(self, samples: int) -> Shard:
        """Which samples of the global batch are this rank's, where each rank has so many: those of rank 0
        come first. The ranks tell each other, so it is made before a recorded step.
        """
        samples = operator.index(samples)
        if samples < 0:
            raise ShapeError(f"shard: expected 0 samples or more, got {samples}")
        return Shard(self, self._counts("shard", samples))

    def exchange(self, thing: Any) -> list[Any]:
        """What each rank gives, in the order of the ranks: anything that pickle knows."""
        self._require_eager("exchange")
        content = np.frombuffer(pickle.dumps(thing), np.uint8)
        sizes = self._gathered(np.array([content.size]), [1] * self.size).tolist()
        whole = self._gathered(content, sizes).tobytes()
        ends = list(itertools.accumulate(sizes, initial=0))
        return [pickle.loads(whole[start:end]) for start, end in itertools.pairwise(ends)]

    def first(self, function: Callable[[], Any]) -> Any:
        """What `function` returns on rank 0, which alone calls it; all ranks get it, or its error."""
        found: Any = None
        error: BaseException | None = None
        if self.rank == 0:
            try:
                found = function()
            except Exception as raised:
                error = raised
        found, told = self.exchange((found, None if error is None else f"{type(error).__name__}: {error}"))[0]
        if error is not None:
            raise error
        if told is not None:
            raise TinydlError(f"rank 0: {told}")
        return found

    def _given(self, who: str, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"{who}: expected a tensor, got {type(x).__name__}")
        if self.size > 1 and x.device != self.device:
            raise ShapeError(f"{who}: expected a tensor on {self.device}, got one on {x.device}")
        return x

    def _counts(self, who: str, n: int) -> tuple[int, ...]:
        if self.size == 1:
            return (n,)
        self._require_eager(who)
        return tuple(self._gathered(np.array([n]), [1] * self.size).tolist())

    def _gathered(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """The ranks' flat arrays, one after the other; for host and device alike."""
        sent = move(x, self.device)
        out = move(np.empty(sum(counts), x.dtype), self.device)
        self.transport.gather(sent, out, counts)
        return move(out, "cpu")

    def _require_eager(self, who: str) -> None:
        if state.recorder is not None:
            raise GraphError(f"{who}: expected no question to the other ranks in a recorded step; ask before")

    def __repr__(self) -> str:
        return f"Group(rank {self.rank} of {self.size}, {type(self.transport).__name__})"


class Shard(AbstractContextManager["Shard"]):
    """The samples of a global batch that are this rank's: `start` to `start + samples` of `total`.

        with group.shard(x.shape[0]) as shard:
            loss = shard.share * td.cross_entropy(model(x), y)      # this rank's part of the global mean

    Within the scope a step means what it means in one process on all the samples: an Objective's total is
    this rank's part of the global one, dropout and per-sample noise are drawn for the samples' places in the
    global batch, SyncBatchNorm and the terms that can do so sum over all ranks, and what would silently act
    on this rank's samples alone is an error. A recorded step is recorded for each way to share a batch.

    Attributes:
        group, counts: the samples of each rank.
        start, samples, total: of this rank, and of all.
        share: samples / total: the ranks' means, so weighted, add up to the mean over all samples.
    """

    def __init__(self, group: Group, counts: Sequence[int]) -> None:
        self.group, self.counts = group, tuple(counts)
        self.start, self.samples = sum(self.counts[: group.rank]), self.counts[group.rank]
        self.total = sum(self.counts)
        self.share = self.samples / max(self.total, 1)
        self._scopes: list[AbstractContextManager[None]] = []

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the ranks, on the tape."""
        return self.group.all_reduce(x)

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over the ranks of tensors of one dtype, in one message, on the tape."""
        return unpacked(self.sum(packed(tensors)), [x.shape for x in tensors])

    def gather(self, x: Tensor) -> Tensor:
        """The rows (total, *) of all ranks of x (samples, *), on the tape."""
        return self.group.all_gather(x, self.counts)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all samples of what is a mean over this rank's: for logs, off the tape."""
        with no_grad():
            return self.sum(mul(value.detach(), self.share))

    def __enter__(self) -> Shard:
        scope = state.replaced(shard=self if self.group.size > 1 else None)
        scope.__enter__()
        self._scopes.append(scope)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scopes.pop().__exit__(kind, error, trace)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shard) and (self.group, self.counts) == (other.group, other.counts)

    def __hash__(self) -> int:
        return hash((self.group, self.counts))

    def __repr__(self) -> str:
        return f"Shard({self.start} to {self.start + self.samples} of {self.total})"


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one dtype as one line of numbers."""
    return cat([reshape(x, (-1,)) for x in tensors])


def unpacked(line: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """A line of numbers as tensors of these shapes."""
    found, at = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        found.append(reshape(getitem(line, slice(at, at + size)), shape))
        at += size
    return found


# Where groups come from
# ------------------------------------------------------------------------------------------------------------

_worlds: list[Group] = []


def serial() -> Group:
    """A group of this process alone."""
    return Group(Serial())


def world(timeout: float = TIMEOUT) -> Group:
    """All processes that `mpiexec -n 4 python program.py` has started; without it this process alone.

    From the first call on an error that nobody catches ends all ranks, after a line that names the rank that
    it was raised on; so does Ctrl-C.

    Args:
        timeout: seconds for which a rank waits for the others, at the first call.

    Raises:
        ImportError: started by mpiexec, without mpi4py: pip install 'tinydl[mpi]'.
    """
    if not _worlds:
        try:
            from mpi4py import MPI  # optional package
        except ImportError as error:
            if one_of_many():
                raise ImportError(f"distributed: {error}: pip install 'tinydl[mpi]'") from error
            return serial()
        if MPI.COMM_WORLD.size == 1:
            return serial()
        transport = Mpi(MPI.COMM_WORLD, timeout)
        _worlds.append(Group(transport))
        _end_together(transport)
        atexit.register(transport.leave)
    return _worlds[0]


def nccl(communicator: Any = None, rank: int | None = None, size: int | None = None) -> Group:
    """All processes of `mpiexec`, a GPU each (CUDA_VISIBLE_DEVICES says which), over NCCL. It was run on a
    stand-in for the communicator only, on no device.

    Args:
        communicator, rank, size: of an `NCCLBackend` of cupyx.distributed that is there already; by default
            one is made of the ranks of MPI.
    """
    if communicator is None:
        from cupyx.distributed import init_process_group  # optional package

        host = world()
        rank, size = host.rank, host.size
        communicator = init_process_group(size, rank, use_mpi=True)
    if rank is None or size is None:
        raise TypeError("nccl: expected rank and size beside a communicator, got None")
    return Group(Nccl(communicator, rank, size))


def _end_together(transport: Mpi) -> None:
    """An error that nobody catches is printed with its rank, and then ends the other ranks too."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        interrupted = issubclass(kind, KeyboardInterrupt)
        if not interrupted and not issubclass(kind, RankError):  # what is at fault is on another rank
            before(kind, error, trace)
        what = "interrupted" if interrupted else "".join(traceback.format_exception_only(kind, error)).strip()
        sys.stdout.flush()
        print(f"rank {transport.rank} of {transport.size}: {what}", file=sys.stderr, flush=True)
        atexit.unregister(transport.leave)
        time.sleep(PASSED_ON)
        transport.abort(INTERRUPTED if interrupted else 1)

    sys.excepthook = hook
