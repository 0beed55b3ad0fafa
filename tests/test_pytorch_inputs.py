"""Every function and layer that PyTorch has, on every kind of input: 0-d, empty, of size one, broadcast, of
another rank, strided, integer, boolean, of two dtypes. The kinds are made of the first sample of each of its
rows in the catalogue.

Value, dtype, first and second derivatives are PyTorch's; what one refuses, the other does too. What is
otherwise stands in pytorch_differences.py, by function and kind.
"""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreement import Found, assert_close, derivatives, leaves
from catalogue.layers import LayerCall
from catalogue.row import Row, apart
from pytorch_differences import CRASHES, INPUTS, STILL, limit
from test_catalogue import strided
from test_catalogue_against_pytorch import AGREEING, name_of
from twins import twin

import tinydl as td

pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("reference"),
    pytest.mark.filterwarnings("ignore"),  # of what is about to be refused, of means of nothing
]

Arrays = Sequence[np.ndarray]


def query(name: str, call: Callable[..., Any], *shapes: tuple[int, ...]) -> Row:
    """A row for what has no derivative, and so none in the catalogue."""
    return Row(name, call, [[apart(*shape) for shape in shapes]], lambda *x: x, order=0)


QUERIES = [
    *(query(n, getattr(td, n), (3, 4)) for n in ("isfinite", "isinf", "isnan", "logical_not", "nonzero")),
    *(query(n, getattr(td, n), (3, 4)) for n in ("argwhere", "unique", "zeros_like", "ones_like")),
    *(query(n, getattr(td, n), (3, 4)) for n in ("argmax", "argmin")),
    *(query(n, functools.partial(getattr(td, n), dim=1), (3, 4)) for n in ("argmax", "argmin")),
    query("argsort", lambda x: td.argsort(x, dim=1, stable=True), (3, 4)),
    query("numel", lambda x: td.tensor(td.numel(x)), (3, 4)),
    *(query(n, getattr(td, n), (3, 4), (4,)) for n in ("eq", "ge", "gt", "le", "lt", "ne", "isclose")),
    *(query(f"logical_{n}", getattr(td, f"logical_{n}"), (3, 4), (4,)) for n in ("and", "or", "xor")),
    query("equal", lambda x, y: td.tensor(td.equal(x, y)), (3, 4), (3, 4)),
    query("allclose", lambda x, y: td.tensor(td.allclose(x, y)), (3, 4), (4,)),
    query("searchsorted", lambda x, y: td.searchsorted(td.sort(x)[0], y), (4,), (3, 4)),
    query("one_hot", lambda x: td.one_hot(td.argmax(x, 1), 5), (3, 4)),
]
ROWS: dict[str, list[Row]] = {}
for row in [*AGREEING, *QUERIES]:
    ROWS.setdefault(name_of(row), []).append(row)


def kinds(arrays: Arrays, held: bool) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The arrays, changed all together, and one by one where they are several. `held`: a layer's, beside
    parameters that stay.
    """
    floating = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]

    def changed(change: Callable[[np.ndarray], np.ndarray], which: Sequence[int]) -> list[np.ndarray]:
        return [change(x) if i in which and x.size else x for i, x in enumerate(arrays)]

    def every(kind: str, change: Callable[[np.ndarray], np.ndarray], which: Sequence[int] = ()) -> Any:
        """All of `which` together, then each by itself."""
        which = which or range(len(arrays))
        sets = [tuple(which), *((i,) for i in which)] if len(which) > 1 else [tuple(which)]
        return [(kind, changed(change, one)) for one in sets]

    everything = range(len(arrays))
    yield from every("0-d", lambda x: x.reshape(-1)[:1].reshape(()))
    for place in (0, -1):
        yield "empty", changed(lambda x, d=place: x.take([], d) if x.ndim else x, everything)
        yield "one", changed(lambda x, d=place: x.take([0], d) if x.ndim else x, everything)
    yield "one", changed(lambda x: x[(slice(0, 1),) * x.ndim], everything)
    several = len(arrays) > 1
    for change in (
        lambda x: x.take([0], 0) if x.ndim else x,
        lambda x: x.take([0], -1) if x.ndim else x,
        lambda x: x[0] if x.ndim else x,
        lambda x: x[None],
    ):
        yield from every("broadcast" if several else "rank", change)[several:]
    for dtype in (np.int64, np.uint8):
        yield from every("integer", lambda x, d=dtype: np.abs(3 * x).astype(d), floating)
    yield from every("bool", lambda x: x > 0, floating)
    if len(floating) > (not held):
        yield from every("float32", lambda x: x.astype(np.float32), floating)[not held :]


def outcome(row: Row, arrays: Arrays, given: Arrays, order: int, tolerance: float) -> str:
    """In words; empty if both do the same. tinydl gets the arrays `given`, as they lie in memory."""
    import torch

    fixed = (*row.fixed, *STILL.get(row.name, ()))
    ours, refused = _attempt(row.call, [td.from_numpy(x) for x in given], td, fixed, order)
    theirs, refused_there = _attempt(twin(row.call), leaves(arrays, torch), torch, fixed, order)
    if ours is not None and theirs is None and order and "not implemented" in str(refused_there):
        return outcome(row, arrays, given, order - 1, tolerance)  # they have no derivative
    if refused is not None and not _of_tests(refused):
        assert isinstance(refused, (td.TinydlError, ValueError, TypeError, IndexError)), repr(refused)
        assert re.search("expect(ed|s)", str(refused)), repr(refused)
    if ours is None or theirs is None:
        return "" if ours is theirs else "ours refuses" if ours is None else "theirs refuses"
    dtypes = [str(x.dtype).removeprefix("torch.") for x in (*ours["values"], *theirs["values"])]
    if dtypes[: len(dtypes) // 2] != dtypes[len(dtypes) // 2 :]:
        return "another dtype"
    for derivative in ours.keys() - theirs.keys():  # PyTorch's is off the tape: it is 0
        theirs[derivative] = [None] * len(ours[derivative])
    try:
        assert_close(ours, theirs, 1e-4 if "float32" in [*dtypes, *(x.dtype for x in arrays)] else tolerance)
    except AssertionError:
        return "other values"
    return ""


def _attempt(
    function: Callable[..., Any], inputs: list[Any], library: Any, fixed: Sequence[int], order: int
) -> tuple[Found | None, Exception | None]:
    for i, x in enumerate(inputs):
        x.requires_grad_(x.is_floating_point() and i not in fixed)
    try:
        return derivatives(function, inputs, [], library, order), None
    except Exception as error:  # whatever it is, it is a refusal
        return None, error


def _of_tests(error: Exception) -> bool:
    """Does the row's own code raise it?"""
    return (
        Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent
        == Path(__file__).parent / "catalogue"
    )


def function_of(row: Row) -> str:
    """The function that a layer is with its settings, whose differences it has, else nothing."""
    layer = row.call.make(td.float64) if isinstance(row.call, LayerCall) else None
    function = getattr(type(layer), "function", None)
    return getattr(function, "__name__", "") or getattr(function, "name", "")


@pytest.mark.parametrize("name", ROWS)
def test_kinds_of_inputs(name: str) -> None:
    pytest.importorskip("torch")
    order, tolerance = limit(name, 1e-9)
    found: dict[tuple[str, str], str] = {}
    for row in ROWS[name]:
        arrays = row.arrays(row.samples[0])
        cases = [("strided", arrays, [strided(x) for x in arrays])]
        given = row.call.inputs if isinstance(row.call, LayerCall) else len(arrays)
        state = arrays[given:]
        for kind, changed in kinds(arrays[:given], bool(state)):
            cases.append((kind, [*changed, *state], [*changed, *state]))
        seen = set()
        for kind, theirs, ours in cases if arrays else []:
            key = kind == "strided", *((x.shape, x.dtype) for x in theirs)
            if key not in seen and (name, kind) not in CRASHES:
                seen.add(key)
                highest = 1 if kind in ("broadcast", "float32") else 2
                if what := outcome(row, theirs, ours, min(order, row.order, highest), tolerance):
                    found.setdefault((kind, what), f"{row.name}: {[(x.dtype.name, x.shape) for x in theirs]}")
    listed, shared = (
        {(i.kind, i.outcome) for i in INPUTS if n in i.names.split()}
        for n in (name, function_of(ROWS[name][0]))
    )
    assert {k: v for k, v in found.items() if k not in listed | shared} == {}
    assert sorted(listed - found.keys()) == [], "listed, and no difference"
