"""CIFAR-10 in each of the forms it is kept in, with batches of a few records."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinydl.data import DataError, cifar10
from tinydl.data.datasets import cifar

REAL = os.environ.get("TINYDL_DATA")
RECORDS = 4
CANONICAL_ORDER = (
    "data_batch_1",
    "batches.meta",
    "data_batch_3",
    "data_batch_4",
    "test_batch",
    "data_batch_5",
    "data_batch_2",
)


def records(member: str) -> np.ndarray:
    rng = np.random.default_rng(CANONICAL_ORDER.index(member))
    raw = rng.integers(0, 256, (RECORDS, 3073)).astype(np.uint8)
    raw[:, 0] %= 10
    return raw


def archive(path: Path, mode: str) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for member in CANONICAL_ORDER:
            raw = records(member).tobytes()
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{member}.bin")
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    return path.read_bytes()


def unpacked(place: Path) -> Path:
    place.mkdir(parents=True)
    for member in CANONICAL_ORDER:
        (place / f"{member}.bin").write_bytes(records(member).tobytes())
    return place


def assert_equal(got: tuple, *members: str) -> None:
    raw = np.concatenate([records(member) for member in members])
    assert got[0].dtype == np.uint8
    assert got[1].dtype == np.int64
    np.testing.assert_array_equal(got[0], raw[:, 1:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(got[1], raw[:, 0])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)


@pytest.mark.parametrize("form", ["cifar-10-binary.tar.gz", "cifar-10-binary.tar.xz", "cifar-10-batches-bin"])
def test_every_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / "cifar-10" / form
    if form.endswith("bin"):
        unpacked(path)
    else:
        archive(path, f"w:{form[-2:]}")
    train, test = cifar10("train", tmp_path), cifar10("test", tmp_path)
    assert_equal(train, *(f"data_batch_{i}" for i in range(1, 6)))
    assert_equal(test, "test_batch")
    assert test.source == f"CIFAR-10, 4 test images from the folder {tmp_path}"


def test_download(mirror, tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = archive(tmp_path / "packed", "w:gz")
    checksum = f"md5:{hashlib.md5(body).hexdigest()}"
    monkeypatch.setattr(
        cifar, "ARCHIVE", replace(cifar.ARCHIVE, checksum=checksum, urls=(mirror.serve("/c.tar.gz", body),))
    )
    assert_equal(cifar10("test"), "test_batch")
    assert cifar10("test").source.endswith(f"the cache {environment / 'data'}")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_truncated_archive(tmp_path: Path, mode: str, share: float) -> None:
    path = tmp_path / "cifar-10/cifar-10-binary.tar.gz"
    body = archive(path, mode)
    path.write_bytes(body[: int(share * len(body))])
    with pytest.raises(DataError) as info:
        cifar10("train", tmp_path)
    assert str(info.value).startswith(f"{path}: damaged archive: ")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_wrong_checksum_of_gzip(tmp_path: Path, split: str) -> None:
    """It stands at the end, after the last member that is needed."""
    path = tmp_path / "cifar-10/cifar-10-binary.tar.gz"
    body = bytearray(archive(path, "w:gz"))
    body[-8] ^= 1
    path.write_bytes(body)
    with pytest.raises(DataError, match=r"damaged archive: CRC check failed"):
        cifar10(split, tmp_path)


def test_a_missing_batch(tmp_path: Path) -> None:
    place = unpacked(tmp_path / "cifar-10-batches-bin")
    (place / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"expected data_batch_1.bin, .*; not in it: data_batch_4.bin"):
        cifar10("train", tmp_path)
    assert_equal(cifar10("test", tmp_path), "test_batch")


def test_a_short_batch_and_a_bad_label(tmp_path: Path) -> None:
    place = unpacked(tmp_path / "cifar-10-batches-bin")
    (place / "test_batch.bin").write_bytes(records("test_batch").tobytes()[:-1])
    with pytest.raises(
        DataError, match=r"test_batch.bin: expected 12292 bytes, 4 records of 3073, got 12291"
    ):
        cifar10("test", tmp_path)
    bad = records("test_batch")
    bad[2, 0] = 10
    (place / "test_batch.bin").write_bytes(bad.tobytes())
    with pytest.raises(DataError, match=r"test_batch.bin: expected labels of 0 to 9, got 10"):
        cifar10("test", tmp_path)


def test_bad_split() -> None:
    with pytest.raises(ValueError, match="cifar10: split: expected one of train, test, got 'dev'"):
        cifar10("dev")


@pytest.mark.skipif(REAL is None, reason="TINYDL_DATA is not set")
def test_real_test_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "RECORDS", 10_000)
    images, labels, _ = cifar10("test", REAL)
    assert images.shape == (10_000, 3, 32, 32)
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 1000))
