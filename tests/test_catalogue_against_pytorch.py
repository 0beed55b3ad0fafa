"""Every row of the catalogue whose name PyTorch has, on PyTorch too: each sample's value, first and second
derivatives in float64. A new function or layer is compared by the row that it has anyway.
"""

from __future__ import annotations

from typing import Any

import pytest
from agreement import assert_agree
from catalogue import ROWS
from catalogue.row import Row
from pytorch_differences import APART, STILL, VALUES, limit
from test_surface import NAMES, OTHER_NAMES
from twins import twin

SHARED = [
    row for row in ROWS for name in [row.name.split()[0]] if name in NAMES and OTHER_NAMES.get(name) != "-"
]
AGREEING = [row for row in SHARED if row.name not in APART]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of its defaults


def name_of(row: Row) -> str:
    return row.name.split()[0].removeprefix("nn.")


def compare(row: Row, order: int, tolerance: float, still: tuple[int, ...]) -> None:
    theirs, fixed = twin(row.call), (*row.fixed, *still)
    for sample in row.samples:
        arrays = row.arrays(sample)
        assert_agree(row.call, theirs, arrays, ((), ()), min(order, row.order), tolerance, fixed)


def rows(which: list[Row]) -> Any:
    return pytest.mark.parametrize("row", which, ids=[row.name for row in which])


@rows(AGREEING)
def test_agrees(row: Row) -> None:
    pytest.importorskip("torch")
    compare(row, *limit(name_of(row)), STILL.get(row.name, ()))


@rows([row for row in SHARED if row.name in APART or row.name in STILL or limit(name_of(row)) != limit("")])
def test_what_is_listed_differs(row: Row) -> None:
    """Without its line in the lists the comparison fails."""
    pytest.importorskip("torch")
    with pytest.raises((AssertionError, AttributeError, RuntimeError, TypeError, ValueError)):
        compare(row, *limit(""), ())


@pytest.mark.tiny
def test_the_lists_name_rows() -> None:
    assert sorted((APART.keys() | STILL.keys()) - {row.name for row in SHARED}) == []
    limited = {name for names in VALUES for name in names.split()}
    assert sorted(limited - set(map(name_of, SHARED))) == []
    assert len(AGREEING) > 400
