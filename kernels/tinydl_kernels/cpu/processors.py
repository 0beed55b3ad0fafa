"""How many processors this process may use."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def available_cpus() -> int:
    """The processors that the scheduler and the control groups (containers) leave
    to this process, at least 1.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *map(math.ceil, _quotas())]))


RANKS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE")
"""Where launchers of MPI say how many processes they have started."""


def one_of_many() -> bool:
    """Does this process share the processors with others that do the same? A worker of multiprocessing,
    joblib's among them, or a process of MPI.
    """
    workers = sys.modules.get("multiprocessing")  # which a worker cannot be without
    if workers is not None and workers.parent_process() is not None:
        return True
    sizes = (os.environ.get(name, "") for name in RANKS)
    return any(size.isdecimal() and int(size) > 1 for size in sizes)


def _quotas(root: Path = Path("/")) -> Iterator[float]:
    """Processors allowed by each control group (v1 or v2) that this process is in;
    `root` is that of the file system.
    """
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            mount = root / ("sys/fs/cgroup/cpu" if controllers else "sys/fs/cgroup")
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(mount):
                    yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):
        if (folder / "cpu.max").exists():
            # "max 100000": float("max") is a ValueError
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if float(limit) > 0:
            yield float(limit) / float(period)
