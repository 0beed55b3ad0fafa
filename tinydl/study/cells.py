"""Many runs of one function, a cell each: here, in processes of this machine, or over the ranks of mpiexec,
with the same results file.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinydl_kernels.machine.errors import TinydlError

from ..distributed import world
from ..files import DataError, atomic_write
from .report import plain

Cell = Mapping[str, Any]
Run = Callable[[dict[str, Any]], Mapping[str, Any]]
Progress = Callable[[dict[str, Any], Any, Sequence[dict[str, Any]]], None]


class CellError(TinydlError, RuntimeError):
    """A run that has failed; the message names its cell."""


def run_cells(
    function: Run,
    cells: Sequence[Cell],
    path: str | os.PathLike[str],
    over: str = "here",
    jobs: int = -1,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """function(cell) for each cell that the file has no result of, one JSON line a run.

        def train(cell):                            # at the top of a module: other processes import it
            return {"accuracy": ...}

        cells = [{"method": m, "seed": s} for m in ("none", "datagrad") for s in range(10)]
        results = run_cells(train, cells, "runs.jsonl", over="processes")

    A line is written as soon as its run is over, so a study that is killed goes on with the runs that are
    left. In the end the lines are in the order of the cells, after those of cells that were not asked for:
    where results are functions of their cells the file is the same, bit for bit, whoever made it.

    Args:
        function: of a cell, returns what JSON can say of it, by name.
        cells: settings by name, as JSON has them, no two alike.
        path: the file; its folder must exist.
        over: "here", one after the other; "processes", `jobs` at a time, one thread each (joblib); "ranks",
            one at a time on each rank but 0, which writes (mpi4py.futures): all ranks make the call, as
            `mpiexec -n 5 python study.py` does.
        jobs: processes, -1 for one on each processor.
        progress: called where lines are written, after each run, with its cell, its result and the cells that
            are left.

    Returns:
        The results in the order of the cells, on all ranks.

    Raises:
        ValueError: cells that are alike, or another `over`.
        CellError: a run has failed; the results of those before it are in the file.
        DataError: a file that holds anything else.
    """
    if over not in ("here", "processes", "ranks"):
        raise ValueError(f"run_cells: expected over in ('here', 'processes', 'ranks'), got {over!r}")
    keys = [_key(cell) for cell in cells]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"run_cells: expected cells that differ, got {twice[0]} again")
    group = world() if over == "ranks" else None
    if group is None or group.size == 1:
        over = "here" if over == "ranks" else over
        return _run(function, keys, Path(path), _processes(jobs) if over == "processes" else _here, progress)
    from mpi4py import MPI  # optional package
    from mpi4py.futures import MPICommExecutor

    found: Any = None
    error: Exception | None = None
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
        executor: Any = pool
        if executor is not None:
            try:
                over_ranks = functools.partial(_over_ranks, executor)
                found = _run(function, keys, Path(path), over_ranks, progress)
            except Exception as raised:
                error = raised
                executor.shutdown(cancel_futures=True)
    found, told = group.exchange((found, None if error is None else str(error)))[0]
    if error is not None:
        raise error
    if told is not None:
        raise CellError(f"rank 0: {told}")
    return found


class _Attempt:
    """The function, whose failure is a result."""

    def __init__(self, function: Run) -> None:
        self.function = function

    def __call__(self, key: str) -> tuple[str, Any, str | None]:
        try:
            return key, plain(dict(self.function(json.loads(key)))), None
        except Exception as error:
            return key, None, f"{type(error).__name__}: {error}"


Map = Callable[[_Attempt, list[str]], Any]


def _here(attempt: _Attempt, left: list[str]) -> Iterator[Any]:
    return map(attempt, left)


def _over_ranks(executor: Any, attempt: _Attempt, left: list[str]) -> Iterator[Any]:
    return executor.map(attempt, left, unordered=True)


def _processes(jobs: int) -> Map:
    def over(attempt: _Attempt, left: list[str]) -> Iterator[Any]:
        from joblib import Parallel, delayed  # optional package

        run = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="all", batch_size=1)
        return run(delayed(attempt)(key) for key in left)

    return over


def _run(
    function: Run, keys: list[str], path: Path, over: Map, progress: Progress | None
) -> list[dict[str, Any]]:
    known = _read(path)
    with _appending(path, known) as write:
        for key, result, error in over(_Attempt(function), [key for key in keys if key not in known]):
            if error is not None:
                raise CellError(f"{key}: {error}")
            known[key] = result
            write(key)
            if progress is not None:
                left = [json.loads(other) for other in keys if other not in known]
                progress(json.loads(key), result, left)
    others = [key for key in known if key not in set(keys)]
    with atomic_write(path, "w") as file:
        file.writelines(_line(key, known[key]) for key in (*others, *keys))
    return [known[key] for key in keys]


@contextmanager
def _appending(path: Path, known: dict[str, Any]) -> Iterator[Callable[[str], None]]:
    """What writes the line of a cell to the file, at once; a last line that is not whole is cut off first."""
    if known:
        with atomic_write(path, "w") as file:
            file.writelines(_line(key, result) for key, result in known.items())
    with open(path, "a" if known else "w", encoding="utf-8") as file:

        def write(key: str) -> None:
            file.write(_line(key, known[key]))
            file.flush()
            os.fsync(file.fileno())

        yield write


def read_cells(path: str | os.PathLike[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The cells of a file that `run_cells` has written, each with its result; of a file that is not there
    none.

    Raises:
        DataError: a file that holds anything else.
    """
    return [(json.loads(key), result) for key, result in _read(Path(path)).items()]


def _read(path: Path) -> dict[str, Any]:
    """The results in a file by the keys of their cells; of a file that is not there none."""
    known: dict[str, Any] = {}
    if not path.exists():
        return known
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            known[_key(row["cell"])] = row["result"]
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines) and not line.endswith("\n"):  # the run was killed while it wrote
                break
            raise DataError(
                f"{path}: line {number}: expected a cell and its result, got {line[:80]!r}"
            ) from error
    return known


def _key(cell: Cell) -> str:
    """A cell as JSON, the same for the same settings."""
    return json.dumps(plain(dict(cell)), sort_keys=True, ensure_ascii=False)


def _line(key: str, result: Any) -> str:
    return f'{{"cell": {key}, "result": {json.dumps(result, ensure_ascii=False)}}}\n'
