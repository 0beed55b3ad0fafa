"""The NCCL path without a GPU: ranks whose arrays are those of a stand-in for CuPy, and a stand-in for the
communicator of cupyx.distributed. `ranks.py` has the cases; no part of this has run on a device.

    mpiexec -n 2 python nccl_ranks.py [full]
"""

from __future__ import annotations

import json
import sys
from typing import Any

import fake_cupy
import numpy as np
import ranks
from fake_gpu import machine

import tinydl as td
from tinydl.distributed import Group, nccl, world

QUICK = ("plain, fewer samples than ranks", "BatchNorm, DataGrad, pictures")
OTHERS = ("dropout and noise", "mixup", "SpectReg", "clipped", "EMA")


class Communicator:
    """What `NCCLBackend` is asked for, done by MPI on the memory behind the arrays: as work of the GPU, so
    that a graph captures it.
    """

    def __init__(self, host: Group) -> None:
        self.mpi, self.captured = host.transport, 0

    def all_reduce(self, in_array: Any, out_array: Any, op: str = "sum", stream: Any = None) -> None:
        assert op == "sum"
        assert in_array.shape == out_array.shape
        self._do(lambda x, out: self.mpi.sum(x, out), in_array, out_array)

    def all_gather(self, in_array: Any, out_array: Any, count: int, stream: Any = None) -> None:
        assert (in_array.size, out_array.size) == (count, count * self.mpi.size)
        self._do(lambda x, out: self.mpi.gather(x, out, [count] * self.mpi.size), in_array, out_array)

    def broadcast(self, in_out_array: Any, root: int = 0, stream: Any = None) -> None:
        self._do(lambda x: self.mpi.broadcast(x, root), in_out_array)

    def barrier(self) -> None:
        self.mpi.barrier()

    def _do(self, work: Any, *arrays: Any) -> None:
        for x in arrays:
            assert isinstance(x, fake_cupy.ndarray)
            assert x.flags.c_contiguous
            assert x.dtype.char in "bBiIlLqQefd"
        self.captured += machine.captured is not None
        machine.do(lambda: work(*[x._host for x in arrays]))


def main() -> None:
    host = world(timeout=120.0)
    results = {}
    with fake_cupy.installed():
        communicator = Communicator(host)
        group = nccl(communicator, host.rank, host.size)
        x = td.tensor(np.arange(3.0) + group.rank, device="cuda")
        uneven = td.tensor(np.full(group.rank + 1, float(group.rank)), device="cuda")
        expected = np.concatenate([np.full(rank + 1, float(rank)) for rank in range(group.size)])
        wrong = not np.array_equal(group.all_gather(uneven).cpu().numpy(), expected)
        wrong += not np.array_equal(
            group.broadcast(x, group.size - 1).cpu().numpy(), np.arange(3) + group.size - 1
        )
        wrong += group.exchange("a" * group.rank) != ["a" * rank for rank in range(group.size)]
        try:
            group.all_reduce(td.ones(3))
            wrong += 1
        except td.TinydlError as error:
            wrong += "expected a tensor on cuda, got one on cpu" not in str(error)
        group.barrier()
        results["collectives"] = {"wrong": float(wrong)}
        for name in OTHERS if sys.argv[1:] == ["full"] else QUICK:
            case = ranks.CASES[name]
            alone = ranks.by_first(
                host, lambda case=case: ranks.Run(case, None, recorded=False).train().found()
            )
            case.backend = None
            before = communicator.captured
            eager = ranks.Run(case, group, False, "cuda").train().found()
            recorded = ranks.Run(case, group, True, "cuda").train().found()
            results[name] = {
                "from one process": ranks.deviation(eager, alone),
                "recorded": float(any(eager[key].tobytes() != recorded[key].tobytes() for key in eager)),
                "not in a graph": float(communicator.captured == before),
            }
        for generator in (td.default_generator, td.noise_generator):
            generator.counter.on("cpu")
            generator.key.on("cpu")
    everyone = host.exchange(results)
    if host.rank == 0:
        worst = {
            name: {key: max(each[name][key] for each in everyone) for key in numbers}
            for name, numbers in results.items()
        }
        print(json.dumps({"size": host.size, "results": worst}))


if __name__ == "__main__":
    main()
