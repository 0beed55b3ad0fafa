"""Walks the table of data sets: refusals, a folder without the files, and the real files where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from catalogue.datasets import IMAGE_SETS as ROWS
from catalogue.datasets import ImageSetRow as Row

from tinydl.data import DataError

REAL = os.environ.get("TINYDL_DATA")
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [pytest.param(*bad, id=f"{row.name}-{k}") for row in ROWS for k, bad in enumerate(row.bad)],
)
def test_refused_by_name(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@every_row
def test_a_folder_without_the_files(row: Row, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        row.load("test", tmp_path)


@pytest.mark.full
@pytest.mark.skipif(REAL is None, reason="TINYDL_DATA is not set")
@pytest.mark.parametrize("split", ["train", "test"])
@every_row
def test_real_files(row: Row, split: str) -> None:
    images, labels, source = row.load(split, REAL)
    assert (images.shape, images.dtype) == ((row.sizes[split], *row.image), np.uint8)
    assert (labels.shape, labels.dtype) == ((row.sizes[split],), np.int64)
    assert sorted(set(labels.tolist())) == list(range(row.classes))
    assert source.startswith(row.title)
    assert split in source
