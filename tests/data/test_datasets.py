"""What every data set does: samples by integer arrays, facts about itself, parts and sums; the sets that come
in files, made small here, and the ones that a program makes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from catalogue.datasets import HELPERS, MADE, ROWS, STORED
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.data import DataError, DownloadError, datasets, random_split
from tinydl.data.datasets import (
    MNIST,
    USPS,
    ConcatDataset,
    MedMNIST,
    Subset,
    TensorDataset,
    audit,
    signals,
    spirals,
    step_function,
    two_moons,
    xor,
)

REAL = os.environ.get("TINYDL_DATA")  # read before the fixture takes it away
real = pytest.mark.skipif(REAL is None, reason="TINYDL_DATA is not set")


def small(n: int = 6, seed: int = 0, **settings) -> TensorDataset:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 3, 4, 5)).astype(np.uint8)
    return TensorDataset(images, np.arange(n) % 3, **settings)


class TestIndexing:
    """By TensorDataset, a Subset and a ConcatDataset that hold the same six samples."""

    @pytest.fixture(params=["whole", "subset", "concatenated", "nested"])
    def same(self, request: pytest.FixtureRequest) -> tuple[datasets.Dataset, TensorDataset]:
        whole = small()
        if request.param == "subset":
            order = [5, 3, 1, 0, 2, 4]
            return Subset(TensorDataset(*whole[order]), np.argsort(order)), whole
        parts = [Subset(whole, [0, 1]), Subset(whole, []), Subset(whole, slice(2, 6))]
        if request.param == "concatenated":
            return ConcatDataset(parts), whole
        if request.param == "nested":
            return Subset(ConcatDataset([ConcatDataset(parts), whole]), range(6)), whole
        return whole, whole

    @pytest.mark.parametrize(
        "index",
        [
            [4, 0, 0, -1],
            np.array([2, 3], np.uint8),
            slice(None, None, -2),
            np.arange(6) % 2 == 0,
            [],
            np.empty(0, np.int64),
            3,
            -6,
            np.int32(5),
        ],
        ids=str,
    )
    def test_is_that_of_the_arrays(self, same, index) -> None:
        dataset, whole = same
        rows = np.asarray(index, np.int64) if isinstance(index, list) else index
        expected = [array[rows] for array in whole.arrays]
        got = dataset[index]
        assert isinstance(got, tuple)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.asarray(one).dtype == np.asarray(other).dtype

    def test_a_tensor_is_an_index(self, same) -> None:
        dataset, whole = same
        np.testing.assert_array_equal(dataset[td.tensor([1, 5])][0], whole.inputs[[1, 5]])

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            (6, "expected -6 to 5, got 6 to 6"),
            ([0, -7], "expected -6 to 5, got -7 to 0"),
            (1.5, r"expected an integer, a slice, integers \(k,\) or bools \(6,\), got float64 \(\)"),
            ([True, False], r"got bool \(2,\)"),
            ([[0]], r"got int64 \(1, 1\)"),
            ("a", "got <U1"),
            (None, "got object"),
        ],
    )
    def test_refused(self, same, index, message: str) -> None:
        with pytest.raises(IndexError, match=f"{same[0].name}: .*{message}".replace("+", r"\+")):
            same[0][index]

    def test_facts(self, same) -> None:
        dataset, whole = same
        assert len(dataset) == 6
        assert dataset.classes == ("0", "1", "2")
        np.testing.assert_array_equal(dataset.counts, [2, 2, 2])
        np.testing.assert_array_equal(dataset.targets, whole.targets)
        assert dataset.checksum == whole.checksum
        np.testing.assert_allclose(dataset.mean, whole.inputs.mean((0, 2, 3)), rtol=1e-14)
        np.testing.assert_allclose(dataset.std, whole.inputs.std((0, 2, 3)), rtol=1e-14)
        lines = repr(dataset).splitlines()
        assert lines[0] == f"{dataset.name}: 6 samples, (3, 4, 5) uint8 and () int64"
        assert lines[1] == "    3 classes: 0 2, 1 2, 2 2"
        assert lines[2].startswith(f"    mean ({whole.mean[0]:.4g}, ")
        assert lines[3:] == [f"    source: {dataset.source}", f"    checksum: {whole.checksum}"]

    def test_iteration_and_pickling(self, same) -> None:
        dataset, whole = same
        assert [int(target) for _, target in dataset] == whole.targets.tolist()
        assert pickle.loads(pickle.dumps(dataset)).checksum == whole.checksum


class TestTensorDataset:
    def test_nothing_is_copied(self) -> None:
        x, y = np.zeros((3, 2)), np.zeros(3, np.int64)
        dataset = TensorDataset(x, y)
        assert dataset.inputs is x
        assert dataset.targets is y

    def test_tensors_and_any_number_of_arrays(self) -> None:
        dataset = TensorDataset(td.tensor([[1.0], [2.0]]), np.array(["a", "b"]), td.tensor([1, 0]))
        x, word, y = dataset[1]
        assert (x.item(), str(word), int(y)) == (2.0, "b", 0)
        alone = TensorDataset(np.arange(3.0))
        assert alone.targets is None
        assert alone.counts is None
        assert (alone.mean, alone.std) == (1.0, np.sqrt(2 / 3))
        assert "classes" not in repr(alone)

    def test_labels(self) -> None:
        flags = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
        dataset = TensorDataset(np.zeros((3, 1)), flags, classes=("mass", "effusion"))
        assert dataset.counts is not None
        assert dataset.counts.tolist() == [2, 1]
        assert "2 labels: mass 2, effusion 1" in repr(dataset)

    def test_regression_has_no_classes(self) -> None:
        for targets in (np.array([0.5, 1.5]), np.array([-1, 3]), np.array([0, 5000])):
            dataset = TensorDataset(np.zeros((2, 1)), targets)
            assert dataset.classes == ()
            assert dataset.counts is None

    def test_moments(self) -> None:
        """In pieces, about the mean, per feature of a table and of all numbers of what has no channels."""
        rng = np.random.default_rng(0)
        for shape, axes in (((70_000, 30), (0,)), ((9, 300, 500), None), ((5, 2, 3, 4, 5), None)):
            x = (1e6 + rng.normal(size=shape)).astype(np.float32)
            dataset = TensorDataset(x)
            np.testing.assert_allclose(dataset.mean, x.mean(axes, dtype=np.float64), rtol=1e-12)
            np.testing.assert_allclose(dataset.std, x.std(axes, dtype=np.float64), rtol=1e-9)
        with pytest.raises(ShapeError, match=r"mean: expected at least one sample, got inputs \(0, 2\)"):
            _ = TensorDataset(np.zeros((0, 2))).mean
        with pytest.raises(DtypeError, match="mean: expected inputs of real numbers, got <U1"):
            _ = TensorDataset(np.array(["a"])).mean
        assert "mean" not in repr(TensorDataset(np.array(["a"])))

    def test_the_checksum_is_of_content_dtype_and_shape(self) -> None:
        x = np.arange(6, dtype=np.uint8)
        sums = {
            TensorDataset(*arrays).checksum
            for arrays in (
                (x,),
                (x[::-1],),
                (x.reshape(2, 3),),
                (x.astype(np.int8),),
                (x[:3], x[3:]),
                (x[:3].reshape(1, 3), x[3:].reshape(1, 3)),
            )
        }
        assert len(sums) == 6
        assert TensorDataset(np.repeat(x, 2)[::2]).checksum == TensorDataset(x).checksum
        assert TensorDataset(x).checksum == f"sha256:{hashlib.sha256(b'|u1 (6,) ' + bytes(x)).hexdigest()}"

    @pytest.mark.parametrize(
        ("arrays", "settings", "error", "message"),
        [
            ((), {}, ShapeError, r"expected arrays of one length, got the shapes \[\]"),
            ((np.ones(2), np.ones(3)), {}, ShapeError, r"got the shapes \[\(2,\), \(3,\)\]"),
            ((np.ones(()),), {}, ShapeError, r"got the shapes \[\(\)\]"),
            ((np.ones(2), np.array([0, 2])), {"classes": "ab"}, ShapeError, "one of 2 classes, got 0 to 2"),
            ((np.ones(2), np.array([-1, 0])), {"classes": "ab"}, ShapeError, "got -1 to 0"),
            ((np.ones(2), np.ones((2, 3))), {"classes": "ab"}, ShapeError, "expected 3 labels in `classes`"),
            ((np.ones(2), np.ones(2)), {"classes": "ab"}, DtypeError, "expected targets of integers"),
            ((np.ones(2),), {"classes": "ab"}, DtypeError, "expected targets of integers .* got none"),
            ((np.ones(2),), {"sample_names": ["a"]}, ShapeError, "expected 2 sample_names, got 1"),
        ],
    )  # fmt: skip
    def test_refused(self, arrays, settings, error, message: str) -> None:
        with pytest.raises(error, match=f"who: .*{message}"):
            TensorDataset(*arrays, name="who", **settings)


class TestParts:
    def test_a_subset_knows_its_own(self) -> None:
        whole = small(name="whole", sample_names="abcdef")
        part = Subset(whole, [3, 0, 1, -3])
        assert part.name == "a subset of whole"
        assert part.indices.tolist() == [3, 0, 1, 3]
        assert part.counts is not None
        assert part.counts.tolist() == [3, 1, 0]
        assert part.sample_names == ("d", "a", "b", "d")
        assert Subset(part, [0]).indices.tolist() == [0]
        assert Subset(part, [0])[0][1] == whole[3][1]
        with pytest.raises(IndexError, match="Subset: indices: expected several, got 2"):
            Subset(whole, 2)
        with pytest.raises(IndexError, match="whole: expected -6 to 5, got 6"):
            Subset(whole, [6])

    def test_sums(self) -> None:
        a, b = small(name="a", sample_names="abcdef"), small(4, 1, name="b", source="elsewhere")
        both = ConcatDataset([a, b])
        assert both.cumulative_sizes == [6, 10]
        assert (both.name, both.source) == ("a + b", "arrays in memory; elsewhere")
        assert both.sample_names == ()
        np.testing.assert_array_equal(both[[9, 0, 6]][0], np.stack([b[3][0], a[0][0], b[0][0]]))
        np.testing.assert_array_equal(both[-1][0], b[3][0])
        assert ConcatDataset([a, a]).sample_names == tuple("abcdefabcdef")

    def test_what_does_not_fit_together(self) -> None:
        a = small(name="a")
        with pytest.raises(ShapeError, match="ConcatDataset: expected at least one data set"):
            ConcatDataset([])
        for other, error, message in (
            (TensorDataset(a.inputs[:, :1], a.targets, name="b"), ShapeError, r"\(3, 4, 5\).* as in a"),
            (TensorDataset(a.inputs / 1.0, a.targets, name="b"), DtypeError, r"got .*'float64'.* in b"),
            (TensorDataset(a.inputs, name="b"), ShapeError, "as in a, got"),
            (small(classes="xyz", name="b"), ShapeError, "the classes 0, 1, 2 of a, got x, y, z of b"),
        ):  # fmt: skip
            with pytest.raises(error, match=message):
                ConcatDataset([a, other])


def test_audit() -> None:
    a = small(name="a")
    inputs = np.concatenate([a.inputs[:3], a.inputs[2:3]])
    b = TensorDataset(inputs, np.array([0, 1, 1, 2]), classes="xyz")
    report = audit(train=a, test=b)
    assert report.parts == {"train": 6, "test": 4}
    assert report.across == [
        ["train/0", "test/0"],
        ["train/1", "test/1"],
        ["train/2", "test/2", "test/3"],
    ]
    assert report.within == []
    assert report.conflicts == [["train/2", "test/2", "test/3"]]
    text = str(report)
    assert "3 groups of exact duplicates in more than one part\n    train/0 = test/0" in text
    assert "1 groups of exact duplicates with different targets" in text
    assert audit(test=b).within == [["test/2", "test/3"]]
    assert audit(test=b).across == []
    # the same bytes in another shape or dtype are another sample
    assert audit(a=TensorDataset(np.zeros((1, 4))), b=TensorDataset(np.zeros((1, 2, 2)))).across == []


def test_every_public_name_has_its_row() -> None:
    rows = [row.name.split()[0] for row in ROWS]
    assert {*rows, *HELPERS} == set(datasets.__all__)
    assert not set(rows) & HELPERS


# ---- Sets in files


def test_mnist_and_fashion(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, dataset in (("mnist", MNIST), ("fashion-mnist", datasets.FashionMNIST)):
        (tmp_path / name).mkdir()
        for part, count in (("train", 30), ("t10k", 20)):
            images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
            for kind, x in (("images-idx3", images), ("labels-idx1", labels)):
                raw = struct.pack(f">{1 + x.ndim}I", 0x0800 + x.ndim, *x.shape) + x.astype(np.uint8).tobytes()
                (tmp_path / name / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(raw, 1))
        test = dataset("test", tmp_path)
        assert test.inputs.shape == (20, 1, 28, 28)
        assert test.inputs.dtype == np.uint8
        assert test.targets.dtype == np.int64
        np.testing.assert_array_equal(test.inputs[:, 0], images)
        assert test.counts.tolist() == [2] * 10
        assert len(test.classes) == 10
        assert str(tmp_path) in test.source
        assert len(dataset(data=tmp_path)) == 30


def usps_file(path: Path, n: int = 12) -> np.ndarray:
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).random((n, 256)).astype(np.float32)
    with h5py.File(path, "w") as file:
        for split in ("train", "test"):
            file.create_dataset(f"{split}/data", data=pixels)
            file.create_dataset(f"{split}/target", data=(np.arange(n) % 10).astype(np.int32))
    return pixels


class TestUSPS:
    def test_whole(self, tmp_path: Path) -> None:
        pixels = usps_file(tmp_path / "usps/usps.h5")
        dataset = USPS("test", tmp_path)
        np.testing.assert_array_equal(dataset.inputs, pixels.reshape(12, 1, 16, 16))
        assert dataset.inputs.dtype == np.float32
        assert dataset.targets.tolist() == [*range(10), 0, 1]
        assert dataset.name == "USPS test"

    def test_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(
            DownloadError, match=r"usps.h5: could not be downloaded \(it has no mirror\); TINYDL"
        ):
            USPS()
        with pytest.raises(DataError, match=r"not there: usps/usps.h5"):
            USPS("train", tmp_path)
        with pytest.raises(ValueError, match="USPS: split: expected one of train, test, got 'val'"):
            USPS("val")

    def test_without_h5py(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "usps").mkdir()
        (tmp_path / "usps/usps.h5").touch()
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(ImportError, match=r'USPS: needs h5py: pip install "tinydl\[data\]"'):
            USPS("train", tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda file, h5: file.__delitem__("train/data"), "expected train/data"),
            (lambda file, h5: file.move("train", "other"), "expected train/data"),
            (
                lambda file, h5: set_(file, "train/data", np.zeros((12, 255), np.float32)),
                r"got \(12, 255\) and",
            ),
            (lambda file, h5: set_(file, "train/data", np.zeros((12, 256), np.uint8)), "got uint8, int32"),
            (lambda file, h5: set_(file, "train/data", np.full((12, 256), np.nan)), "pixels of 0 to 1"),
            (lambda file, h5: set_(file, "train/target", np.full(12, 10)), "labels of 0 to 9"),
            (lambda file, h5: set_(file, "train/target", np.zeros(11, int)), r"\(12, 256\) and \(11,\)"),
            (
                lambda file, h5: set_(file, "train/data", h5.ExternalLink("other.h5", "/x")),
                "expected train/data",
            ),
            (lambda file, h5: set_(file, "train/data", h5.SoftLink("/test/data")), "expected train/data"),
            (lambda file, h5: huge(file), "not read: train/data unpacks to 1,024,000,000,000 bytes"),
            (lambda file, h5: virtual(file, h5), "expected train/data to be an array of this file"),
            (lambda file, h5: outside(file), "expected train/data to be an array of this file"),
        ],
    )
    def test_refused(self, tmp_path: Path, change, message: str) -> None:
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "usps/usps.h5"
        usps_file(path)
        with h5py.File(path, "a") as file:
            change(file, h5py)
        with pytest.raises(DataError, match=message) as info:
            USPS("train", tmp_path)
        assert str(info.value).startswith(f"{path}: ")
        assert "\n" not in str(info.value)
        assert len(USPS("test", tmp_path)) == 12


def set_(file, name: str, value) -> None:
    del file[name]
    file[name] = value


def huge(file) -> None:
    del file["train/data"]
    file.create_dataset("train/data", (10**9, 256), np.float32, chunks=(16, 256))


def virtual(file, h5py) -> None:
    layout = h5py.VirtualLayout((12, 256), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "x", (12, 256))
    del file["train/data"]
    file.create_virtual_dataset("train/data", layout)


def outside(file) -> None:
    del file["train/data"]
    file.create_dataset("train/data", (12, 256), np.float32, external="/etc/passwd")


def medmnist_file(path: Path, **changed: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, n in (("train", 8), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 7, 5)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n)[:, None] % 2).astype(np.uint8)
    arrays.update(changed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return arrays


class TestMedMNIST:
    def test_by_name_and_by_path(self, tmp_path: Path) -> None:
        path = tmp_path / "medmnist/pneumoniamnist.npz"
        arrays = medmnist_file(path)
        for dataset in (MedMNIST("pneumoniamnist", "val", tmp_path), MedMNIST(path, "val")):
            np.testing.assert_array_equal(dataset.inputs, arrays["val_images"][:, None])
            assert dataset.targets.tolist() == [0, 1, 0, 1]
            assert dataset.classes == ("normal", "pneumonia")
            assert dataset.name == "pneumoniamnist val"
        assert str(tmp_path) in MedMNIST(path).source

    def test_colour_and_several_labels(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        images = rng.integers(0, 256, (9, 4, 6, 3)).astype(np.uint8)
        labels = rng.integers(0, 2, (9, 3)).astype(np.uint8)
        medmnist_file(tmp_path / "chestmnist_64.npz", test_images=images, test_labels=labels)
        dataset = MedMNIST(tmp_path / "chestmnist_64.npz", "test")
        np.testing.assert_array_equal(dataset.inputs, images.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(dataset.targets, labels)
        assert dataset.targets.dtype == np.float32
        assert dataset.classes == ("0", "1", "2")
        assert dataset.counts.tolist() == labels.sum(0).tolist()
        assert dataset.name == "chestmnist test"

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (
                {"train_images": np.zeros((8, 5, 5, 5), np.uint8)},
                r"expected uint8 \(n, H, W\) or .*, got uint8 \(8, 5",
            ),
            ({"train_images": np.zeros((8, 5, 5), np.float32)}, "got float32"),
            ({"train_labels": np.zeros((7, 1), int)}, r"expected integers \(8, labels\), got int64 \(7, 1\)"),
            ({"train_labels": np.zeros((8, 1))}, "got float64"),
            ({"train_labels": np.zeros((8, 0), int)}, r"got int64 \(8, 0\)"),
            ({"train_labels": np.full((8, 1), -1)}, "expected classes from 0, got -1"),
            ({"train_labels": np.full((8, 2), 2)}, "expected 0 and 1, got 2"),
            ({"train_images": np.array([print], object)}, "Object arrays hold code"),
        ],
    )
    def test_refused(self, tmp_path: Path, changed, message: str) -> None:
        path = tmp_path / "a.npz"
        medmnist_file(path, **changed)
        with pytest.raises(DataError, match=message) as info:
            MedMNIST(path)
        assert str(path) in str(info.value)
        assert len(MedMNIST(path, "test")) == 6

    def test_arguments(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.ones(3))
        with pytest.raises(DataError, match="not a file of MedMNIST: expected train_images, train_labels"):
            MedMNIST(tmp_path / "a.npz")
        with pytest.raises(DataError, match=r"b.npz: not read: No such file"):
            MedMNIST(tmp_path / "b.npz")
        with pytest.raises(ValueError, match="split: expected one of train, val, test, got 'dev'"):
            MedMNIST("pneumoniamnist", "dev")
        with pytest.raises(
            ValueError, match=r"name: expected pneumoniamnist or the path of an .npz file, got 'x'"
        ):
            MedMNIST("x")


# ---- Made sets


@pytest.mark.parametrize("row", MADE, ids=lambda row: row.name)
def test_made(row) -> None:
    """Bits from a seed alone, classes evenly spread and mixed."""
    dataset, again, other = row.make(), row.make(), row.make(seed=1)
    assert dataset.checksum == again.checksum == row.checksum
    assert dataset.checksum != other.checksum
    assert dataset.inputs.dtype == np.float32
    assert dataset.inputs.shape == (len(dataset), *row.shape)
    assert np.isfinite(dataset.inputs).all()
    assert len(dataset.classes) == row.classes
    if row.classes:
        counts = dataset.counts
        assert counts.max() - counts.min() <= 1
        assert len(set(dataset.targets[:50].tolist())) == row.classes
    assert "made from seed 0" in dataset.source
    for call, error, message in row.bad:
        with pytest.raises(error, match=message):
            call()


def test_shapes_without_noise() -> None:
    """Each point lies on the curve that the docstring states."""
    x, y = two_moons(200, noise=0)[:]
    upper, lower = x[y == 0], x[y == 1]
    np.testing.assert_allclose(np.hypot(*upper.T), 1, atol=1e-6)
    np.testing.assert_allclose(np.hypot(*(lower - [1, 0.5]).T), 1, atol=1e-6)
    assert upper[:, 1].min() >= 0
    assert lower[:, 1].max() <= 0.5
    x, y = spirals(300, classes=3, turns=2, noise=0)[:]
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    difference = angle - 2 * np.pi * (2 * radius + y / 3)
    np.testing.assert_allclose(np.cos(difference), 1, atol=1e-5)
    x, y = xor(400, noise=0)[:]
    assert len(np.unique(x, axis=0)) == 4
    np.testing.assert_array_equal(y, x[:, 0] * x[:, 1] < 0)
    x, y = step_function(100)[:]
    np.testing.assert_array_equal(y, x >= 0)
    x, y = signals(500, 0, 0, shift=0, scale=0, shear=0)[:]
    assert np.abs(x[:, [0, -1]]).max() == 0  # padding on both sides


def test_signals_are_told_apart_by_shape_not_by_place() -> None:
    """A nearest neighbour over all shifts does much better than one in place: what a convolution is for."""
    (x, y), (a, b) = signals(400)[:], signals(100, seed=1)[:]
    plain = np.abs(a[:, None] - x[None]).sum(2)
    shifted = np.min([np.abs(np.roll(a, k, 1)[:, None] - x[None]).sum(2) for k in range(-12, 13)], axis=0)
    scores = [np.mean(y[distance.argmin(1)] == b) for distance in (plain, shifted)]
    assert 0.1 < scores[0] + 0.05 < scores[1]


# ---- Real files


@real
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row, id=row.name, marks=[pytest.mark.full] * (row.name == "CIFAR10")
        )  # takes ten seconds
        for row in STORED
    ],
)
def test_real(row) -> None:
    if row.name == "USPS":
        pytest.importorskip("h5py")
    for split, counts in row.counts.items():
        dataset = row.make(split, REAL)
        assert dataset.counts.tolist() == counts
        assert dataset.inputs.shape[1:] == row.shape
        assert REAL in dataset.source


@real
def test_pneumonia_is_sorted_and_has_twins() -> None:
    train, val = (MedMNIST("pneumoniamnist", split, REAL) for split in ("train", "val"))
    assert (train.targets[-826:] == 0).all()
    report = audit(train=train, val=val)
    assert len(report.across) == 8
    assert report.conflicts == []


def test_random_split() -> None:
    whole = TensorDataset(np.arange(10), np.arange(10) % 3)
    for lengths, sizes in (
        ([3, 7], [3, 7]),
        ([0.5, 0.25, 0.25], [6, 2, 2]),
        ([0.33, 0.33, 0.34], [4, 3, 3]),
        ([10, 0], [10, 0]),
        ([1.0], [10]),
    ):
        parts = random_split(whole, lengths, td.Generator(1))
        assert [len(part) for part in parts] == sizes
        assert sorted(int(i) for part in parts for i in part.indices) == list(range(10))
        again = random_split(whole, lengths, generator=td.Generator(1))
        assert [part.indices.tolist() for part in again] == [part.indices.tolist() for part in parts]
    td.manual_seed(0)
    first, second = (random_split(whole, [5, 5])[0].indices.tolist() for _ in range(2))
    assert first != second
    for lengths in ([3, 6], [11, -1], [0.5, 0.4], [1.5, -0.5], [5.5, 4.5]):
        with pytest.raises(
            ShapeError, match="random_split: expected lengths of 10 samples in all, or shares of 1"
        ):
            random_split(whole, lengths)


def test_random_split_gives_parts_of_pytorchs_sizes() -> None:
    data = pytest.importorskip("torch").utils.data
    for n in (1, 7, 10, 23):
        for lengths in ([0.5, 0.5], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [1 / 3] * 3):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = [len(part) for part in data.random_split(range(n), lengths)]
            ours = random_split(TensorDataset(np.arange(n)), lengths)
            assert [len(part) for part in ours] == theirs
