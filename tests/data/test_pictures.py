"""Pictures from folders and tables: what Pillow opens, brought to one array, and what is said about it."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tinydl.data import DataError
from tinydl.data.datasets import Findings, ImageCSV, ImageFolder, audit, pictures

Image = pytest.importorskip("PIL.Image")


def grey(seed: int, h: int = 4, w: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w)).astype(np.uint8)


def colour(seed: int, h: int = 4, w: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, channels)).astype(np.uint8)


def save(path: Path, array: np.ndarray, **settings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **settings)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two cats, a dog, all grey 4×6."""
    root = tmp_path / "pets"
    save(root / "cat/1.png", grey(1))
    save(root / "cat/deep/2.PNG", grey(2))
    save(root / "dog/1.png", grey(3))
    return root


class TestFolder:
    def test_whole(self, root: Path) -> None:
        dataset = ImageFolder(root)
        np.testing.assert_array_equal(dataset.inputs[:, 0], [grey(1), grey(2), grey(3)])
        assert dataset.inputs.shape == (3, 1, 4, 6)
        assert dataset.inputs.dtype == np.uint8
        assert dataset.targets.tolist() == [0, 0, 1]
        assert dataset.classes == ("cat", "dog")
        assert dataset.sample_names == ("cat/1.png", "cat/deep/2.PNG", "dog/1.png")
        assert dataset.source == f"the folder {root}"
        assert repr(dataset).startswith("ImageFolder pets: 3 samples, (1, 4, 6) uint8 and () int64")
        assert str(dataset.met) == "3 pictures read"

    def test_colour_and_grey(self, root: Path) -> None:
        save(root / "dog/2.png", colour(4))
        dataset = ImageFolder(root)
        assert dataset.inputs.shape == (4, 3, 4, 6)
        np.testing.assert_array_equal(dataset.inputs[3], colour(4).transpose(2, 0, 1))
        for channel in range(3):
            np.testing.assert_array_equal(dataset.inputs[0, channel], grey(1))
        assert "1 in colour, 3 in grey" in str(dataset.met)
        one = ImageFolder(root, channels=1)
        luma = np.asarray(Image.fromarray(colour(4)).convert("L"))
        np.testing.assert_array_equal(one.inputs[3, 0], luma)
        assert ImageFolder(root, channels=3).inputs.shape == (4, 3, 4, 6)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, root: Path, orientation: int) -> None:
        upright = grey(5)
        stored = {  # what is stored where `upright` should be shown (EXIF 2.3, tag 0x0112)
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.T,
            6: np.rot90(upright, 1),
            7: upright[::-1, ::-1].T,
            8: np.rot90(upright, -1),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(root / "dog/2.png", np.ascontiguousarray(stored), exif=exif)
        dataset = ImageFolder(root)
        np.testing.assert_array_equal(dataset.inputs[3, 0], upright)
        assert dataset.met.oriented == ["dog/2.png"] * (orientation > 1)
        assert ("1 turned by their EXIF orientation: dog/2.png" in str(dataset.met)) == (orientation > 1)

    def test_transparency_is_laid_over_white(self, root: Path) -> None:
        rgba = colour(6, channels=4)
        save(root / "dog/2.png", rgba)
        two = np.stack([grey(7), grey(8)], 2)
        Image.merge("LA", [Image.fromarray(x) for x in (grey(7), grey(8))]).save(root / "dog/3.png")
        dataset = ImageFolder(root)
        alpha = rgba[..., 3:] / 255
        over = rgba[..., :3] * alpha + 255 * (1 - alpha)
        assert np.abs(dataset.inputs[3].transpose(1, 2, 0) - over).max() <= 1
        alpha = two[..., 1] / 255
        assert np.abs(dataset.inputs[4, 0] - (two[..., 0] * alpha + 255 * (1 - alpha))).max() <= 1
        assert dataset.met.alpha == ["dog/2.png", "dog/3.png"]
        assert dataset.met.colour == ["dog/2.png"]

    def test_sixteen_bits(self, root: Path, tmp_path: Path) -> None:
        deep = (np.random.default_rng(9).integers(0, 65536, (4, 6))).astype(np.uint16)
        save(tmp_path / "deep/a/1.png", deep)
        save(tmp_path / "deep/a/2.tif", deep[::-1].copy())
        dataset = ImageFolder(tmp_path / "deep")
        assert dataset.inputs.dtype == np.uint16
        np.testing.assert_array_equal(dataset.inputs[:, 0], [deep, deep[::-1]])
        assert dataset.met.deep == ["a/1.png", "a/2.tif"]
        resized = ImageFolder(tmp_path / "deep", size=2).inputs
        assert resized.dtype == np.uint16
        assert abs(float(resized.mean()) - deep.mean()) < 6000
        save(root / "dog/2.png", deep)
        mixed = ImageFolder(root)
        assert mixed.inputs.dtype == np.uint8
        np.testing.assert_array_equal(mixed.inputs[3, 0], np.rint(deep / 257))
        assert "1 of 16 bits: dog/2.png" in str(mixed.met)

    def test_mixed_sizes(self, root: Path) -> None:
        save(root / "dog/2.png", grey(4, 8, 6))
        with pytest.raises(
            DataError, match=r"expected pictures of one size, or `size`; got 2: 4×6 \(3\), 8×6 \(1\)"
        ):
            ImageFolder(root)
        dataset = ImageFolder(root, size=(4, 6))
        np.testing.assert_array_equal(dataset.inputs[0, 0], grey(1))
        expected = Image.fromarray(grey(4, 8, 6)).resize((6, 4), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(dataset.inputs[3, 0], np.asarray(expected))
        assert "2 sizes: 4×6 (3), 8×6 (1)" in str(dataset.met)
        assert ImageFolder(root, size=np.int64(5)).inputs.shape == (4, 1, 5, 5)

    def test_corrupt_files_by_name(self, root: Path) -> None:
        raw = (root / "dog/1.png").read_bytes()
        at = raw.index(b"IDAT") + 10
        (root / "cat/3.png").write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        (root / "cat/4.png").write_bytes(b"")
        (root / "cat/5.jpg").write_bytes(b"<html>not found</html>")
        with pytest.raises(
            DataError, match=r"pets: cannot be read: cat/3.png \(.*\), cat/4.png \(.*\), cat/5.jpg"
        ) as info:
            ImageFolder(root)
        assert "\n" not in str(info.value)
        dataset = ImageFolder(root, corrupt="skip")
        assert dataset.sample_names == ("cat/1.png", "cat/deep/2.PNG", "dog/1.png")
        assert dataset.targets.tolist() == [0, 0, 1]
        assert sorted(dataset.met.corrupt) == ["cat/3.png", "cat/4.png", "cat/5.jpg"]
        assert "corrupt: cat/4.png: not a whole picture: cannot identify" in str(dataset.met)
        for path in root.rglob("*.[pP][nN][gG]"):
            path.write_bytes(b"")
        with pytest.raises(DataError, match="expected at least one picture that can be read"):
            ImageFolder(root, corrupt="skip")

    def test_a_bomb(self, root: Path) -> None:
        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
        raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10)))
        (root / "cat/3.png").write_bytes(raw + chunk(b"IEND", b""))
        with pytest.raises(DataError, match=r"cat/3.png \(.*100000"):
            ImageFolder(root)
        header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
        raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10)))
        (root / "cat/3.png").write_bytes(raw + chunk(b"IEND", b""))
        with pytest.raises(DataError, match=r"cat/3.png \(.*10000×10000 is more than 67,108,864 pixels"):
            ImageFolder(root)

    def test_a_set_that_is_too_large(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures, "TOTAL", 50)
        with pytest.raises(DataError, match="its pictures take more than 50 bytes: smaller `size`"):
            ImageFolder(root)

    def test_kinds_of_pixels(self, root: Path) -> None:
        """Palettes, bits and CMYK become what they show; floating-point pixels are refused."""
        picture = Image.fromarray(colour(4))
        picture.quantize(16).save(root / "dog/2.png")
        picture.convert("CMYK").save(root / "dog/3.tif")
        Image.fromarray(grey(3)).convert("1").save(root / "dog/4.png")
        dataset = ImageFolder(root)
        np.testing.assert_array_equal(
            dataset.inputs[3].transpose(1, 2, 0), np.asarray(picture.quantize(16).convert("RGB"))
        )
        np.testing.assert_array_equal(dataset.inputs[4].transpose(1, 2, 0), colour(4))
        assert set(np.unique(dataset.inputs[5])) <= {0, 255}
        Image.fromarray(np.ones((4, 6), np.float32)).save(root / "dog/5.tif")
        with pytest.raises(
            DataError, match=r"dog/5.tif \(not a whole picture: pixels that are no integers\)"
        ):
            ImageFolder(root)

    def test_several_frames(self, root: Path) -> None:
        frames = [Image.fromarray(grey(k)) for k in (10, 11)]
        frames[0].save(root / "dog/2.tif", save_all=True, append_images=frames[1:])
        dataset = ImageFolder(root)
        np.testing.assert_array_equal(dataset.inputs[3, 0], grey(10))
        assert dataset.met.frames == ["dog/2.tif"]

    def test_other_files_are_named(self, root: Path) -> None:
        for name in ("notes.txt", "cat/Thumbs.db", "cat/.hidden.png"):
            (root / name).touch()
        save(root / ".cache/1.png", grey(0))
        dataset = ImageFolder(root)
        assert len(dataset) == 3
        assert dataset.met.ignored == ["notes.txt", "cat/.hidden.png", "cat/Thumbs.db"]
        assert "3 ignored: no pictures, or in no class: notes.txt" in str(dataset.met)

    def test_classes_of_another_part(self, root: Path) -> None:
        """A part that lacks a class, or has them in another order, keeps the numbers of the first."""
        save(root.parent / "test/dog/1.png", grey(7))
        dataset = ImageFolder(root.parent / "test", classes=("cat", "dog"))
        assert dataset.targets.tolist() == [1]
        assert dataset.counts.tolist() == [0, 1]
        assert ImageFolder(root.parent / "test").targets.tolist() == [0]
        save(root.parent / "test/bird/1.png", grey(8))
        with pytest.raises(DataError, match="expected the classes cat, dog, got bird too"):
            ImageFolder(root.parent / "test", classes=("cat", "dog"))

    def test_refused(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="none: expected a folder with one folder per class"):
            ImageFolder(tmp_path / "none")
        (root / "owl").mkdir()
        with pytest.raises(DataError, match="expected pictures in a folder per class; there are none in owl"):
            ImageFolder(root)
        with pytest.raises(DataError, match="expected pictures in a folder per class"):
            ImageFolder(root / "owl")
        for settings, message in (
            ({"corrupt": "ignore"}, "ImageFolder: corrupt: expected 'raise' or 'skip', got 'ignore'"),
            ({"channels": 4}, "ImageFolder: channels: expected None, 1 or 3, got 4"),
            ({"size": 0}, "ImageFolder: size: expected one or two positive integers, got 0"),
            ({"size": 2.5}, "ImageFolder: size: expected one or two positive integers, got 2.5"),
            ({"size": (3, 3, 3)}, "ImageFolder: size: expected one or two positive integers"),
        ):
            with pytest.raises(ValueError, match=message):
                ImageFolder(root, classes=("cat", "dog", "owl"), **settings)

    def test_without_pillow(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=r'ImageFolder: needs Pillow: pip install "tinydl\[data\]"'):
            ImageFolder(root)

    def test_audit(self, root: Path) -> None:
        """Pictures are compared by what they show, not by their files."""
        save(root.parent / "test/dog/same.tif", grey(1))
        save(root.parent / "test/dog/other.png", grey(9))
        train = ImageFolder(root)
        test = ImageFolder(root.parent / "test", classes=train.classes)
        report = audit(train=train, test=test)
        assert report.across == [["train/cat/1.png", "test/dog/same.tif"]]
        assert report.conflicts == report.across
        assert isinstance(report.findings["train"], Findings)
        assert "train: 3 samples\n    3 pictures read" in str(report)


class TestTable:
    def table(self, root: Path, text: str) -> Path:
        path = root / "labels.csv"
        path.write_text(text, encoding="utf-8")
        return path

    def test_classes(self, root: Path) -> None:
        path = self.table(
            root, '\ufeffpath,age,label\ndog/1.png,3,dog\ncat/1.png,2,cat\n\n"cat/deep/2.PNG",1, cat\n'
        )
        dataset = ImageCSV(path)
        np.testing.assert_array_equal(dataset.inputs[:, 0], [grey(3), grey(1), grey(2)])
        assert dataset.classes == ("cat", "dog")
        assert dataset.targets.tolist() == [1, 0, 0]
        assert dataset.sample_names == ("dog/1.png", "cat/1.png", "cat/deep/2.PNG")
        assert ImageCSV(path, classes=("dog", "cat", "owl")).targets.tolist() == [0, 1, 1]
        by_age = ImageCSV(path, target="age")
        assert by_age.classes == ("1", "2", "3")
        moved = self.table(root.parent, path.read_text(encoding="utf-8-sig"))
        assert ImageCSV(moved, root=root).checksum == dataset.checksum

    def test_numbers_are_sorted_as_numbers(self, root: Path) -> None:
        path = self.table(root, "path,label\ndog/1.png,10\ncat/1.png,9\n")
        assert ImageCSV(path).classes == ("9", "10")

    def test_several_labels(self, root: Path) -> None:
        path = self.table(
            root, "path,label,mass,nodule\ndog/1.png,b|a,1,0\ncat/1.png,,0,0\ncat/deep/2.PNG,c,1,1\n"
        )
        dataset = ImageCSV(path, separator="|")
        assert dataset.classes == ("a", "b", "c")
        assert dataset.targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
        assert dataset.targets.dtype == np.float32
        flags = ImageCSV(path, target=("mass", "nodule"))
        assert flags.classes == ("mass", "nodule")
        assert flags.targets.tolist() == [[1, 0], [0, 0], [1, 1]]
        assert flags.counts.tolist() == [2, 1]

    def test_corrupt_pictures(self, root: Path) -> None:
        path = self.table(root, "path,label\nnone.png,a\ncat/1.png,b\n")
        with pytest.raises(
            DataError, match=r"cannot be read: none.png \(not read: No such file or directory\)"
        ):
            ImageCSV(path)
        dataset = ImageCSV(path, corrupt="skip")
        assert dataset.targets.tolist() == [1]
        assert dataset.classes == ("a", "b")
        assert list(dataset.met.corrupt) == ["none.png"]

    @pytest.mark.parametrize(
        ("text", "settings", "message"),
        [
            ("", {}, "expected one column 'path', got the columns ''"),
            ("path,kind\n", {}, "expected one column 'label', got the columns 'path, kind'"),
            ("path,label,label\n", {}, "expected one column 'label'"),
            ("path,label\n", {}, "expected at least one line below the header"),
            ("path,label\ncat/1.png\n", {}, "line 2: expected 2 cells, got 1"),
            ("path,label\ncat/1.png,\n", {}, "sample 1: expected a class, got an empty cell"),
            ("path,label\ncat/1.png,x\n", {"classes": ["cat"]}, "expected the classes cat, got 'x' too"),
            (
                "path,label\ncat/1.png,2\n",
                {"target": ("label",)},
                "sample 1: label: expected 0 or 1, got '2'",
            ),
            ('path,label\n"cat/1.png,x\n', {}, "not a table: unexpected end of data"),
            (
                "path,label\ncat/1.png," + "x" * 200_000 + "\n",
                {},
                "not a table: field larger than field limit",
            ),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_refused(self, root: Path, text: str, settings: dict, message: str) -> None:
        path = self.table(root, text)
        with pytest.raises(DataError, match=message) as info:
            ImageCSV(path, **settings)
        assert str(info.value).startswith(str(path))
        assert "\n" not in str(info.value)

    def test_no_text(self, root: Path) -> None:
        (root / "labels.csv").write_bytes(b"path,label\n\xff,1\n")
        with pytest.raises(DataError, match="not a table: 'utf-8' codec can't decode"):
            ImageCSV(root / "labels.csv")
        with pytest.raises(DataError, match=r"none.csv: not read: No such file"):
            ImageCSV(root / "none.csv")
