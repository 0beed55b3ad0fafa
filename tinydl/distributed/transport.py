"""What carries arrays from rank to rank: MPI (mpi4py), NCCL (cupyx.distributed), or nothing where there is
one rank.

A transport sums, gathers and copies flat C-contiguous arrays. Sums are made in the order of the ranks, 0 + 1
+ 2 + ..., whatever their size and the machine: MPI moves the parts, and they are added here. NCCL adds
itself, in an order that is the same at each run with the same ranks on the same machine.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from tinydl_kernels.cpu.processors import available_cpus
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import TinydlError

Array = Any

SMALL = 1 << 9
"""Numbers up to which a sum is one message (all send all) in the place of two (parts, then sums)."""
SPIN = 2e-3
"""Seconds for which a waiting rank asks again and again before it sleeps between two questions."""
NAP = 5e-5
GOODBYE = 7  # the tag of a message
NICE = 0.1
"""Seconds after which a waiting rank asks if another has ended."""


class RankError(TinydlError, RuntimeError):
    """Another rank has ended, or is not heard of."""


class Transport(Protocol):
    """The arrays are flat, of numbers; `counts` are those of each rank's part."""

    rank: int
    size: int
    device: str

    def sum(self, x: Array, out: Array) -> None:
        """out = the sum over the ranks of x."""

    def sum_parts(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        """x is one part after the other; out = the sum over the ranks of this rank's part."""

    def gather(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        """out = the ranks' x, one after the other."""

    def broadcast(self, x: Array, root: int) -> None:
        """x becomes that of the rank `root`, in place."""

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def abort(self, code: int) -> None:
        """End the processes of all ranks."""


class Serial:
    """The only rank."""

    rank, size, device = 0, 1, "cpu"

    def sum(self, x: Array, out: Array) -> None:
        out[...] = x

    def sum_parts(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        out[...] = x

    def gather(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        out[...] = x

    def broadcast(self, x: Array, root: int) -> None:
        pass

    def barrier(self) -> None:
        pass

    def abort(self, code: int) -> None:
        raise SystemExit(code)


class Mpi:
    """The ranks of a communicator of mpi4py. Waiting is asking: Ctrl-C gets through, processes that share a
    processor let each other run, and a rank that has ended is noticed.
    """

    device = "cpu"

    def __init__(self, communicator: Any, timeout: float) -> None:
        from mpi4py import MPI  # optional package

        self.mpi, self.timeout = MPI, timeout
        self.world = communicator.Dup()  # whose messages meet no others
        self.rank, self.size = self.world.rank, self.world.size
        here = self.world.Split_type(MPI.COMM_TYPE_SHARED)
        self.spin = SPIN if here.size <= available_cpus() else 0.0
        here.Free()

    def sum(self, x: Array, out: Array) -> None:
        if x.size <= SMALL:
            parts = memory.empty((self.size, x.size), x.dtype, x)
            self.gather(x, parts.reshape(-1), [x.size] * self.size)
            _add_up(parts, out)
            return
        ends = [x.size * rank // self.size for rank in range(self.size + 1)]
        counts = [end - start for start, end in itertools.pairwise(ends)]
        part = memory.empty((counts[self.rank],), x.dtype, x)
        self.sum_parts(x, part, counts)
        self.gather(part, out, counts)

    def sum_parts(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        parts = memory.empty((self.size, out.size), x.dtype, x)
        sent = [_bytes(x), self._extents(counts, x.itemsize), self.mpi.BYTE]
        taken = [_bytes(parts), self._extents([out.size] * self.size, x.itemsize), self.mpi.BYTE]
        self._wait(self.world.Ialltoallv(sent, taken))
        _add_up(parts, out)

    def gather(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        taken = [_bytes(out), self._extents(counts, x.itemsize), self.mpi.BYTE]
        self._wait(self.world.Iallgatherv([_bytes(x), self.mpi.BYTE], taken))

    def broadcast(self, x: Array, root: int) -> None:
        self._wait(self.world.Ibcast([_bytes(x), self.mpi.BYTE], root))

    def barrier(self) -> None:
        self._wait(self.world.Ibarrier())

    def abort(self, code: int) -> None:
        self.mpi.COMM_WORLD.Abort(code)

    def leave(self) -> None:
        """Tell the others that this rank asks for nothing more, and wait until they say so, too."""
        nothing = bytearray(0)
        sent = [self.world.Isend([nothing, self.mpi.BYTE], to, GOODBYE) for to in self._others()]
        taken = [self.world.Irecv([bytearray(0), self.mpi.BYTE], of, GOODBYE) for of in self._others()]
        for request in (*sent, *taken):
            while not request.Test():
                time.sleep(NAP)

    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    def _extents(self, counts: Sequence[int], itemsize: int) -> tuple[list[int], list[int]]:
        """(bytes, where they begin) of each rank's part."""
        sizes = [count * itemsize for count in counts]
        return sizes, [0, *itertools.accumulate(sizes[:-1])]

    def _wait(self, request: Any) -> None:
        if request.Test():
            return
        begun = time.monotonic()
        asked = begun
        while not request.Test():
            now = time.monotonic()
            if now - begun < self.spin:
                continue
            time.sleep(NAP)
            if now - asked > NICE:
                asked = now
                self._require_others(now - begun)

    def _require_others(self, waited: float) -> None:
        """RankError if a rank has ended, or is not heard of for too long."""
        for rank in self._others():
            if self.world.Iprobe(rank, GOODBYE):
                raise RankError(f"rank {self.rank} waits for rank {rank}, which has ended")
        if waited > self.timeout:
            raise RankError(f"rank {self.rank} has waited {waited:.0f} s for the other {self.size - 1}")


class Nccl:
    """The ranks of a communicator of cupyx.distributed (an `NCCLBackend`): a GPU each.

    Its work goes to CuPy's present stream; a recorded step captures it. NCCL gathers parts of one size only:
    unequal ones are summed with zeros in the others' places, which changes no bit but the sign of -0.
    """

    device = "cuda"

    def __init__(self, communicator: Any, rank: int, size: int) -> None:
        self.communicator, self.rank, self.size = communicator, rank, size

    def sum(self, x: Array, out: Array) -> None:
        if x.size:
            self.communicator.all_reduce(x, out)

    def sum_parts(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        whole = memory.empty_like(x)
        self.sum(x, whole)
        start = sum(counts[: self.rank])
        out[...] = whole[start : start + out.size]

    def gather(self, x: Array, out: Array, counts: Sequence[int]) -> None:
        if len(set(counts)) == 1:
            if x.size:
                self.communicator.all_gather(x, out, x.size)
            return
        spread = memory.empty_like(out)
        spread[...] = 0
        start = sum(counts[: self.rank])
        spread[start : start + x.size] = x
        self.sum(spread, out)

    def broadcast(self, x: Array, root: int) -> None:
        if x.size:
            self.communicator.broadcast(x, root)

    def barrier(self) -> None:
        self.communicator.barrier()

    def abort(self, code: int) -> None:
        os._exit(code)


def _bytes(x: np.ndarray) -> np.ndarray:
    """The memory of a flat array: MPI moves bytes of any dtype."""
    return x.reshape(-1).view(np.uint8)


def _add_up(parts: np.ndarray, out: np.ndarray) -> None:
    """out = the sum of the rows, in their order."""
    out[...] = parts[0]
    for part in parts[1:]:
        out += part
