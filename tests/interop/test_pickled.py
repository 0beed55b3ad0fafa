"""torch.save's files, read without torch: what they may hold, and that nothing in them is executed."""

from __future__ import annotations

import builtins
import collections
import io
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError

from tinydl.files import DataError
from tinydl.interop import load_weights
from tinydl.interop.pickled import torch_content

FIXTURES = Path(__file__).parents[1] / "fixtures"
BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
HELD = {
    "weight": BASE,
    "bias": np.ones(3),
    "steps": np.array(7),
    "view": BASE.T[1:3],
    "many": np.full(5, 2, np.float32),
    "empty": np.zeros((0, 2), np.float32),
}
"""What the two fixtures hold; PyTorch 2.13 wrote them in its form and in the one before 1.6."""


@pytest.mark.parametrize("file", ["state.pt", "before_1_6.pt"])
def test_read_without_torch(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it is an error
    found = load_weights(FIXTURES / file)
    assert list(found) == list(HELD)
    for name, expected in HELD.items():
        np.testing.assert_array_equal(found[name], expected)
        assert (found[name].dtype, found[name].flags.writeable) == (expected.dtype, True)


@pytest.mark.parametrize("zipped", [True, False])
def test_as_torch_reads_it(zipped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(24.0).reshape(4, 6)
    tensors = {"a": x, "b": x.T[1:3], "c": x[::2, 1], "d": x[0, :1].expand(3), "e": torch.zeros(0, 3)}
    tensors |= {str(d): torch.ones(2, dtype=getattr(torch, d)) for d in ("float16", "int8", "bool", "uint8")}
    tensors |= {"p": torch.nn.Parameter(torch.randn(2, 2)), "u": torch.tensor([1, 70000]).to(torch.uint32)}
    state = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).state_dict()
    tree = {"model": state, "tensors": tensors, "epoch": 3, "log": [0.5, (1, "x", None, 1 << 70)]}
    torch.save(tree | {"size": torch.Size([1, 2])}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = torch_content(tmp_path / "x.pt")
    assert (found["epoch"], found["log"], found["size"]) == (3, [0.5, (1, "x", None, 1 << 70)], (1, 2))
    for part, expected in (("model", state), ("tensors", tensors)):
        assert list(found[part]) == list(expected)
        for name, value in expected.items():
            array = value.detach().numpy()
            assert found[part][name].dtype == array.dtype
            np.testing.assert_array_equal(found[part][name], array)
    with pytest.raises(ValueError, match=r"expected a state_dict, got model, tensors, epoch, log, size"):
        load_weights(tmp_path / "x.pt")
    assert list(load_weights(tmp_path / "x.pt", "tensors")) == list(tensors)


@pytest.mark.filterwarnings("ignore")
def test_kinds_of_tensors_that_are_no_arrays(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for made, message in (
        (lambda: torch.ones(2).to(torch.float8_e5m2), "expected dtypes of NumPy, got float8_e5m2"),
        (lambda: torch.ones(2, dtype=torch.complex64), "expected real numbers, got complex64"),
        (lambda: torch.ones(2).to_sparse(), "expected dense numbers, got sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "got quantized"),
        (lambda: torch.ones(2, device="meta"), "got a tensor on meta"),
    ):
        torch.save({"w": made()}, tmp_path / "x.pt")
        with pytest.raises(DtypeError, match=rf"load_weights: .*x\.pt: .*{message} for w"):
            load_weights(tmp_path / "x.pt")


# ---- Pickles of strangers


def zipped(path: Path, content: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", content)
        for key, raw in storages.items():
            archive.writestr(f"x/data/{key[1:]}", raw)
    return path


class Runs:
    def __reduce__(self) -> Any:
        return builtins.exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Runs(), r"builtins?(__)?\.exec"),
        (collections.Counter("a"), r"collections\.Counter"),
        (np.float64(1), r"numpy\._?core\.multiarray\.scalar"),
        (Path("a"), r"pathlib"),
        (print, r"builtins?(__)?\.print"),
    ],
    ids=["code", "Counter", "numpy", "Path", "print"],
)
def test_what_is_no_tensor_is_refused_by_its_name(
    thing: Any, name: str, protocol: int, tmp_path: Path
) -> None:
    content = pickle.dumps({"weight": thing}, protocol)
    with pytest.raises(DataError, match=rf"x\.pt: not read: it holds (__)?{name}.*, neither a tensor nor"):
        torch_content(zipped(tmp_path / "x.pt", content))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_containers_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    tree = {"a": [1, 2.5, -(1 << 40)], "b": ("x", None, True), 3: {(1, "k"): "ü"}, "o": [[], {}, ()]}
    tree |= {"bytes": b"raw"} if protocol > 2 else {}  # which are made by a call of codecs before
    content = pickle.dumps(tree | {"ordered": collections.OrderedDict(a=1)}, protocol)
    assert torch_content(zipped(tmp_path / "x.pt", content)) == tree | {"ordered": {"a": 1}}


def tensor(
    offset: bytes, size: bytes, stride: bytes, numel: bytes = b"K\x04", kind: bytes = b"Float"
) -> bytes:
    """The pickle of {"w": a tensor}; numbers as operations."""
    storage = b"(X\x07\0\0\0storagectorch\n" + kind + b"Storage\nX\x01\0\0\x000X\x03\0\0\0cpu" + numel + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + b"\x89}tR"
    return b"\x80\x02}X\x01\0\0\0w" + call + b"s."


ONE, TWO, FOUR, HUGE, LESS = b"K\x01", b"K\x02", b"K\x04", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor(b"K\x01", FOUR + b"\x85", ONE + b"\x85"), "a view that ends at 4 of a storage of 4"),
        (tensor(LESS, TWO + b"\x85", ONE + b"\x85"), "not a strided view"),
        (tensor(b"K\0", TWO + b"\x85", LESS + b"\x85"), "not a strided view"),
        (tensor(b"K\0", TWO + b"\x85", b")"), "not a strided view"),
        (tensor(b"K\0", HUGE + b"\x85", b"K\0\x85"), "unpacks to more than"),
        (tensor(b"K\0", HUGE * 3 + b"\x87", b"K\0" * 3 + b"\x87"), "unpacks to more than"),
        (
            tensor(b"K\0", FOUR + b"\x85", ONE + b"\x85", numel=b"K\x05"),
            "expected a storage of 5 numbers, got 4",
        ),
        (tensor(b"K\0", b"X\x01\0\0\0a\x85", ONE + b"\x85"), "expected a whole number, got str"),
        (tensor(b"K\0", FOUR + b"\x85", ONE + b"\x85", kind=b"Word"), r"it holds torch\.WordStorage"),
        (b"\x80\x02cos\nsystem\n(X\x04\0\0\0true\x85R.", r"it holds os\.system"),
        (b"\x80\x02(X\x02\0\0\0ooios\nsystem\n.", "its pickle makes objects \\(INST\\)"),
        (b"\x80\x02}X\x01\0\0\0aX\x01\0\0\0b\x86R.", "a call of"),
        (b"\x80\x02]q\0h\0a.", "containers within containers"),
        (b"\x80\x02" + b"]" * 10 + b".", ""),
        (b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\0\0\0a]sb.", "expected a state_dict"),
        (b"\x80\x02N", "pickle exhausted"),
    ],
    ids=range(16),
)
def test_damaged_and_hostile(content: bytes, message: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.pt", content, _0=np.arange(4, dtype="<f4").tobytes())
    if message == "expected a state_dict":
        assert torch_content(path) == {}
        return
    with pytest.raises(DataError, match=rf"x\.pt: .*{message}"):
        torch_content(path)


def test_doubled_lists_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Thirty lists, each twice in the next: 2³⁰ members for who writes them out."""
    levels = b"".join(
        b"](" + b"h" + bytes([k]) + b"h" + bytes([k]) + b"eq" + bytes([k + 1, 48]) for k in range(30)
    )
    with pytest.raises(DataError, match=r"x\.pt: not read: it unpacks to more than"):
        torch_content(zipped(tmp_path / "x.pt", b"\x80\x02]q\x000" + levels + b"h\x1e."))


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("a.txt", "words")
    (tmp_path / "words.pt").write_bytes(pickle.dumps("words"))
    (tmp_path / "big.pt").write_bytes(b"")
    zipped(tmp_path / "big.pt", b"N" * ((1 << 22) + 1))
    for name, message in (
        ("other", "no data.pkl in the zip file"),
        ("words", "neither a zip file nor one of torch before 1.6"),
        ("big", "a pickle of 4,194,305 bytes"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.pt: .*{message}"):
            torch_content(tmp_path / f"{name}.pt")
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"N.")
        archive.writestr("x/data/0", bytes(1 << 27))
    (tmp_path / "bomb.pt").write_bytes(raw.getvalue())
    with pytest.raises(DataError, match=r"bomb\.pt: not read: it unpacks to 134,217,730 bytes"):
        torch_content(tmp_path / "bomb.pt")
