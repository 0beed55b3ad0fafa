"""Every reader of files against thousands of damaged and hostile ones: each is read, or refused by one of
the documented errors, in one line that names it, soon and in little memory.

The mutations are drawn from a seed. Half are of the bytes of a file; half go behind its checksums (the packed
content is changed and packed again, the JSON header is changed as a tree), where a reader sees them.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError

import tinydl as td
from tinydl.data import DataError, cifar10, read_idx
from tinydl.data.datasets import USPS, ImageCSV, ImageFolder, MedMNIST, cifar
from tinydl.interop import from_keras, load_weights, save_weights
from tinydl.training import checkpoint
from tinydl.training.checkpoint import CheckpointError

pytestmark = pytest.mark.usefixtures("reference")

RECORDS = 4
FIXTURES = Path(__file__).parent / "fixtures"
SECONDS, BYTES = 5.0, 1 << 27  # what one damaged file may cost, in processor time and memory
Mutate = Callable[[np.random.Generator, bytes], bytes]

WORDS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
VALUES: list[Any] = [
    *(None, True, -1, 0, 1 << 70, 1e308, float("nan"), "", "x\ny", "$array", "F8_E4M3"),
    *([], {}, [[]], [0, 1 << 62]),
    *({"$array": "x"}, {"$array": 0}, {"$array": []}, {"$array": "x", "y": 0}, {"$array": {"$array": "x"}}),
]  # fmt: skip


# ---- Mutations


def of_bytes(rng: np.random.Generator, raw: bytes) -> bytes:
    """One to four changes: bits, bytes, words, and ranges cut out, doubled, zeroed or moved."""
    content = bytearray(raw or b"\0")  # of an empty member of a zip file
    for _ in range(rng.integers(1, 5)):
        at, to = sorted(int(i) for i in rng.integers(0, len(content) + 1, 2))
        near = min(int(rng.geometric(0.02)), len(content)) - 1  # the head of a file says most
        at = near if rng.random() < 0.5 else at
        match rng.integers(8):
            case 0 if at < len(content):
                content[at] ^= 1 << int(rng.integers(8))
            case 1 if at < len(content):
                content[at] = int(rng.integers(256))
            case 2:
                word = WORDS[rng.integers(len(WORDS))]
                size, order = int(rng.choice([2, 4, 8])), "little" if rng.random() < 0.5 else "big"
                content[at : at + size] = (word & ((1 << 8 * size) - 1)).to_bytes(size, order)
            case 3:
                del content[at : max(at, to)]
            case 4:
                content[at:at] = content[at : min(to, at + 2000)]
            case 5:
                del content[at:]
            case 6:
                content[at : at + 8] = bytes(len(content[at : at + 8]))
            case 7:
                content[at:at] = rng.bytes(int(rng.integers(1, 20)))
        if not content:
            break
    return bytes(content)


def of_tree(rng: np.random.Generator, tree: Any) -> Any:
    """A tree of JSON with one node replaced, doubled, renamed or removed."""
    nodes: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack:
        x = stack.pop()
        for key in list(x) if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else ():
            nodes.append((x, key))
            stack.append(x[key])
    if not nodes:
        return VALUES[rng.integers(len(VALUES))]
    owner, key = nodes[rng.integers(len(nodes))]
    match rng.integers(6):
        case 0:
            del owner[key]
        case 1 if isinstance(owner, dict):
            owner[f"{key}\n'"] = owner.pop(key)
        case 2:
            other, name = nodes[rng.integers(len(nodes))]
            owner[key] = (
                json.loads(json.dumps(other[name])) if name in other or isinstance(other, list) else 0
            )
        case _:
            owner[key] = json.loads(json.dumps(VALUES[rng.integers(len(VALUES))]))
    return tree


def inside(unpack: Callable[[bytes], bytes], pack: Callable[[bytes], bytes]) -> Mutate:
    return lambda rng, raw: pack(of_bytes(rng, unpack(raw)))


def of_zip(rng: np.random.Generator, raw: bytes) -> bytes:
    """One member changed, with its checksum right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            content = old.read(name)
            compression = zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED
            new.writestr(name, of_bytes(rng, content) if name == chosen else content, compression)
    return out.getvalue()


def of_safetensors(rng: np.random.Generator, raw: bytes) -> bytes:
    """The JSON header changed as a tree, or the one within it."""
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    if "__metadata__" in header and rng.random() < 0.7:
        tree = of_tree(rng, json.loads(header["__metadata__"]["tinydl"]))
        deep = rng.random() < 0.05
        header["__metadata__"]["tinydl"] = "[" * 100_000 if deep else json.dumps(tree)
    else:
        header = of_tree(rng, header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]


def of_tar(rng: np.random.Generator, raw: bytes) -> bytes:
    """One header changed in its type, size, name or magic, with its checksum right."""
    content = bytearray(raw)
    at = int(rng.integers(len(content) // 512)) * 512
    heads = [i for i in range(0, len(content), 512) if content[i + 257 : i + 262] == b"ustar"]
    at = heads[rng.integers(len(heads))]
    match rng.integers(4):
        case 0:
            content[at + 156] = b"0123456SxgLKVM7\0"[rng.integers(16)]
        case 1:
            content[at + 124] = 0x80 if rng.random() < 0.7 else 0xFF
            content[at + 125 : at + 136] = rng.bytes(11)
        case 2:
            content[at + 124 : at + 136] = rng.choice(
                [b"777777777777", b"-0000000001\0", b"            ", b"00000000000\0"]
            )
        case 3:
            content[at + int(rng.integers(148))] = int(rng.integers(256))
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    return bytes(content)


# ---- Good files of every kind


def idx() -> bytes:
    return struct.pack(">4I", 2051, 3, 5, 4) + bytes(range(60))


def records() -> bytes:
    raw = np.random.default_rng(0).integers(0, 10, (RECORDS, 3073)).astype(np.uint8)
    return raw.tobytes()


def tar(mode: str = "w", format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=format) as archive:
        for name in ("batches.meta.txt", "test_batch.bin"):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            content = records() if name == "test_batch.bin" else b"airplane\n"
            entry.size = len(content)
            entry.pax_headers = {"comment": "x" * 30}
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def state() -> dict[str, np.ndarray]:
    return {
        "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "bias": np.ones(3, ">f8"),
        "steps": np.array(7),
    }


def weights(path: Path) -> bytes:
    save_weights(path, state())
    return path.read_bytes()


def fixture(name: str) -> Callable[[Path], bytes]:
    return lambda path: (FIXTURES / name).read_bytes()


def keras(path: Path) -> bytes:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.arange(12, dtype=np.float32).reshape(3, 4)
        file["layers/dense/vars/1"] = np.ones(4, ">f8")
        kernel = np.zeros((3, 3, 2, 4), np.float32)
        file.create_dataset("layers/conv2d/vars/0", data=kernel, chunks=(1, 3, 2, 4), compression="gzip")
    return path.read_bytes()


def trained(path: Path) -> bytes:
    model = td.nn.Linear(4, 3)
    optimizer = td.optim.Adam(model.parameters())
    checkpoint.save(path, model=model, optimizer=optimizer, curve=np.arange(3.0), notes={"a": [1, None, "b"]})
    return path.read_bytes()


def read_run(path: Path) -> Any:
    """Both ways to read a checkpoint, into a model of the same kind."""
    content = checkpoint.read(path)
    model = td.nn.Linear(4, 3)
    checkpoint.load(path, model=model, optimizer=td.optim.Adam(model.parameters()))
    return content


def read_cifar(path: Path) -> Any:
    return cifar10("test", path.parents[1])


def pixels(kind: str, mode: str) -> Callable[[Path], bytes]:
    """A small picture in one of Pillow's formats and modes."""

    def make(path: Path) -> bytes:
        image = pytest.importorskip("PIL.Image")
        out = io.BytesIO()
        raw = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
        exif = image.Exif()
        exif[0x0112] = 6
        settings = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
        image.fromarray(raw).convert(mode).save(out, kind, **settings)
        return out.getvalue()

    return make


def usps(path: Path) -> bytes:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["train/data"] = np.zeros((3, 256), np.float32)
        file.create_dataset("train/target", data=np.arange(3), chunks=(2,), compression="gzip")
    return path.read_bytes()


def medmnist(path: Path) -> bytes:
    np.savez_compressed(path, train_images=np.ones((3, 4, 4, 3), np.uint8), train_labels=np.eye(3, dtype=int))
    return path.read_bytes()


def table(path: Path) -> bytes:
    pixels("PNG", "L")(path)
    (path.parent / "a.png").write_bytes(pixels("PNG", "L")(path))
    return b'path,label,"of\nits"\na.png,cat,1\na.png,"dog",2\n'


ARCHIVE = "cifar-10/cifar-10-binary.tar.gz"
LOAD = (DataError, DtypeError, ValueError)
KINDS: dict[str, tuple[str, Callable[[Path], bytes], list[Mutate], Callable[[Path], Any], tuple]] = {
    "idx": ("images", lambda path: idx(), [], lambda path: read_idx(path, 3), (DataError,)),
    "idx.gz": (
        "images.gz",
        lambda path: gzip.compress(idx()),
        [inside(gzip.decompress, gzip.compress)],
        lambda path: read_idx(path, 3),
        (DataError,),
    ),
    "records": ("cifar-10/cifar-10-batches-bin/test_batch.bin", lambda path: records(), [],
                lambda path: cifar10("test", path.parents[2]), (DataError,)),
    "tar": (ARCHIVE, lambda path: tar(), [of_tar], read_cifar, (DataError,)),
    "tar.gnu": (ARCHIVE, lambda path: tar(format=tarfile.GNU_FORMAT), [of_tar], read_cifar, (DataError,)),
    "tar.gz": (
        ARCHIVE,
        lambda path: tar("w:gz"),
        [inside(gzip.decompress, gzip.compress), lambda rng, raw: gzip.compress(of_tar(rng, tar()))],
        read_cifar,
        (DataError,),
    ),
    "tar.xz": (ARCHIVE, lambda path: tar("w:xz"), [inside(lzma.decompress, lzma.compress)],
               read_cifar, (DataError,)),
    "npz": ("w.npz", weights, [of_zip], load_weights, LOAD),
    "safetensors": ("w.safetensors", weights, [of_safetensors], load_weights, LOAD),
    "pt": ("w.pt", fixture("state.pt"), [of_zip], load_weights, LOAD),
    "pt.old": ("w.pt", fixture("before_1_6.pt"), [], load_weights, LOAD),
    "h5": ("w.weights.h5", keras, [], lambda path: from_keras(load_weights(path)), LOAD),
    "usps": ("usps/usps.h5", usps, [], lambda path: USPS("train", path.parents[1]), (DataError,)),
    "medmnist": ("m.npz", medmnist, [of_zip], MedMNIST, (DataError, DtypeError)),
    "csv": ("t.csv", table, [], lambda path: ImageCSV(path), (DataError,)),
    **{
        f"{kind}.{mode}".lower(): (
            f"a/1.{kind.lower()}",
            pixels(kind, mode),
            [],
            lambda path: ImageFolder(path.parents[1], size=8),
            (DataError,),
        )
        for kind, mode in (
            *(("PNG", "RGBA"), ("PNG", "I;16"), ("JPEG", "RGB"), ("GIF", "P")),
            *(("TIFF", "RGB"), ("BMP", "RGB"), ("WEBP", "RGB"), ("PPM", "RGB")),
        )
    },
    "checkpoint": ("run", trained, [of_safetensors, of_safetensors], read_run, (DataError, CheckpointError)),
}  # fmt: skip


def attack(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> None:
    name, make, mutations, read, documented = KINDS[kind]
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)
    path = folder / name
    path.parent.mkdir(parents=True)
    good = make(path)
    path.write_bytes(good)
    read(path)
    rng = np.random.default_rng([seed, *kind.encode()])
    refused = 0
    for i in range(count):
        mutate = [of_bytes, *mutations][i % (1 + len(mutations))]
        path.write_bytes(mutate(rng, good))
        case, error = f"mutation {i} of {kind}, seed {seed}", None
        start = time.process_time()
        tracemalloc.start()
        try:
            read(path)
        except BaseException as caught:
            error = caught
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert time.process_time() - start < SECONDS, case
        assert peak < BYTES, f"{case}: {peak} bytes"
        if error is not None:
            refused += 1
            if type(error) not in documented:  # UnicodeDecodeError is a ValueError, and not documented
                raise AssertionError(case) from error
            assert str(folder) in str(error), f"{case}: {error!r}"
            assert len(str(error).splitlines()) == 1, f"{case}: {error!r}"
    assert refused > count // 10  # the mutations do bite


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_few_damaged_files(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack(kind, tmp_path / "quick", monkeypatch, 40, seed=0)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 5))
@every_kind
def test_many_damaged_files(kind: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack(kind, tmp_path / "nightly", monkeypatch, 500, seed)
