"""A study over ranks: `mpiexec -n 3 python cells_of_ranks.py FILE [FAILING SEED]`, for test_cells.py."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

import tinydl as td
from tinydl.study import CellError, run_cells

CELLS = [{"method": method, "seed": seed} for method in ("a", "b") for seed in range(4)]


def draw(cell: dict[str, Any]) -> dict[str, Any]:
    if cell["seed"] == int(os.environ.get("FAILING_SEED", -1)):
        raise ValueError("diverged")
    numbers = td.randn(3, generator=td.Generator(cell["seed"], len(cell["method"])))
    return {"mean": numbers.mean().item(), "all": numbers.numpy(), "nothing": np.nan}


if __name__ == "__main__":
    try:
        results = run_cells(draw, CELLS, sys.argv[1], over="ranks")
        print(f"{len(results)} {results[5]['mean']}\n", end="", flush=True)  # in one piece
    except CellError as error:
        sys.exit(f"failed: {error}")
