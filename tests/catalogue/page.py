"""The page of derivatives: which orders are confirmed for each operation, on each backend, in
each dtype. Made by checking.

    python -m tinydl derivatives > derivatives.md

float64 is held against central differences, float32 against float64. A cell is "yes" where the rows of the
operation agree on all of their samples, "-" where the catalogue states no such order or dtype, "refused"
where a rule raises NotImplementedError, and else "WRONG".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import TinydlError

import tinydl as td
from tinydl.engine.core import Tensor

from . import ROWS
from .row import Row, Sample

BACKENDS = ("reference", "cpu")
DTYPES = ("float64", "float32")
ORDERS = (1, 2, 3)
VERDICTS = ("-", "yes", "refused", "WRONG")  # of several rows the last of these stands
Cell = tuple[str, str, int]  # backend, dtype, order


def derivatives(row: Row, sample: Sample, dtype: str, order: int) -> list[np.ndarray]:
    """The gradients of order `order`, each of Σ cos(k) y_k over the elements of those of the order before."""
    inputs = row.tensors(row.arrays(sample, dtype))
    wanted = [x for x in inputs if x.requires_grad]
    with td.random_from(td.Generator()):
        result = row.call(*inputs)
    found: list[Any] = list(result) if isinstance(result, (tuple, list)) else [result]
    for k in range(order):
        seeded = [
            (y, Tensor(np.cos(np.arange(y.numel(), dtype=dtype)).reshape(y.shape)))
            for y in found
            if y.requires_grad
        ]
        outputs, seeds = [y for y, _ in seeded], [c for _, c in seeded]
        more = k + 1 < order
        grads = (
            td.grad(outputs, wanted, seeds, create_graph=more, allow_unused=True)
            if seeded
            else [None] * len(wanted)
        )
        found = [td.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True)]
    return [y.array for y in found]


def verdict(row: Row, backend: str, dtype: str, order: int) -> str:
    """What the check of one order says, over the samples that the catalogue states it for."""
    if order > row.order or np.dtype(dtype) not in row.dtypes:
        return "-"
    samples = row.samples if order < 3 else row.samples[:1]
    try:
        with td.backend(backend):
            right = all(
                (_by_differences if dtype == "float64" else _by_float64)(row, sample, order)
                for sample in samples
            )
    except NotImplementedError:
        return "refused"
    except (TinydlError, ValueError, TypeError):
        return "WRONG"
    return "yes" if right else "WRONG"


def _by_differences(row: Row, sample: Sample, order: int) -> bool:
    """Order 1 by itself; a higher one with those below it, which it is a difference of."""
    return td.gradcheck(row.call, row.tensors(row.arrays(sample)), order, raise_exception=False)


def _by_float64(row: Row, sample: Sample, order: int) -> bool:
    single, double = (derivatives(row, sample, dtype, order) for dtype in ("float32", "float64"))
    return all(
        x.dtype == np.float32
        and np.abs(x - y).max(initial=0.0) <= 10**order * row.tolerance * np.abs(y).max(initial=1.0)
        for x, y in zip(single, double, strict=True)
    )


def checked(rows: Iterable[Row], backends: Sequence[str] = BACKENDS) -> dict[str, dict[Cell, str]]:
    """The cells of each operation, by its name: the verdict over its rows."""
    cells = list(itertools.product(backends, DTYPES, ORDERS))
    found: dict[str, dict[Cell, str]] = {}
    for row in rows:
        own = found.setdefault(row.name.split()[0], dict.fromkeys(cells, VERDICTS[0]))
        for cell in cells:
            own[cell] = max(own[cell], verdict(row, *cell), key=VERDICTS.index)
    return found


def page(names: Sequence[str] = (), backends: Sequence[str] = BACKENDS, rows: Sequence[Row] = ROWS) -> str:
    """Markdown: a line an operation, a column for each backend, dtype and order; then what
    is refused or wrong, by name.
    """
    unknown = sorted({*names} - {row.name.split()[0] for row in rows})
    if unknown:
        raise ValueError(f"derivatives: expected names of the catalogue, got {', '.join(unknown)}")
    found = checked([row for row in rows if not names or row.name.split()[0] in names], backends)
    columns = list(itertools.product(backends, DTYPES))
    head = ["operation", *(f"{backend} {dtype}" for backend, dtype in columns)]
    lines = [
        "# Derivatives",
        "",
        f"{len(found)} operations and layers; in each cell orders 1 / 2 / 3. float64 is held against "
        "central differences,",
        "float32 against float64.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for name, cells in sorted(found.items()):
        groups = [[cells[backend, dtype, order] for order in ORDERS] for backend, dtype in columns]
        lines.append(
            f"| {name} | " + " | ".join(g[0] if len({*g}) == 1 else " / ".join(g) for g in groups) + " |"
        )
    lines += told({name: list(cells.values()) for name, cells in found.items()})
    return "\n".join(lines) + "\n"


def told(found: Mapping[str, Iterable[str]]) -> list[str]:
    """The end of a page: what is refused or wrong, by name."""
    lines = []
    for bad in VERDICTS[2:]:
        those = sorted(name for name, verdicts in found.items() if bad in verdicts)
        lines += ["", f"{bad.lower().capitalize()}: {', '.join(those) or 'none'}."]
    return lines
