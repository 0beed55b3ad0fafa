"""Files that claim or unpack to far more than they should, and members that are no files."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError

from tinydl import archives
from tinydl.archives import npz_arrays, tar_members
from tinydl.data import DataError, read_idx
from tinydl.interop import load_weights, save_weights

SIZE = 3000
CONTENT = bytes(range(250)) * 12


@contextlib.contextmanager
def refused_in_little_memory(message: str, error: type[Exception] = DataError) -> Iterator[None]:
    """The message in one line, and no more memory than what a small file may unpack to."""
    tracemalloc.start()
    try:
        with pytest.raises(error, match=message) as info:
            yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * archives.ROOM
    assert "\n" not in str(info.value)


def tar(entry: tarfile.TarInfo, content: bytes = CONTENT, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def entry(name: str = "folder/a.bin", **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = SIZE
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def with_size(raw: bytes, field: bytes) -> bytes:
    """The size in the first header replaced, its checksum right."""
    header = bytearray(raw[:512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + raw[512:]


def refused(path: Path, raw: bytes, message: str) -> None:
    path.write_bytes(raw)
    with refused_in_little_memory(f"{path}: {message}"):
        list(tar_members(path, {"a.bin": SIZE}))


class TestTar:
    @pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
    @pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_whole(self, tmp_path: Path, pack, format: int) -> None:
        path = tmp_path / "a"
        path.write_bytes(pack(tar(entry(mtime=1.5, pax_headers={"comment": "é" * 99}), format=format)))
        assert list(tar_members(path, {"a.bin": SIZE, "b.bin": 1})) == [("a.bin", CONTENT)]

    def test_the_first_of_two_of_a_name(self, tmp_path: Path) -> None:
        end = 512 + SIZE + (-SIZE % 512)
        raw = tar(entry())[:end] + tar(entry("b/a.bin"), CONTENT[::-1])
        (tmp_path / "a").write_bytes(raw)
        assert list(tar_members(tmp_path / "a", {"a.bin": SIZE})) == [("a.bin", CONTENT)]

    @pytest.mark.parametrize("place", [-8, -4])
    def test_a_wrong_checksum_or_length_after_the_last_member(self, tmp_path: Path, place: int) -> None:
        raw = bytearray(gzip.compress(tar(entry())))
        raw[place] ^= 1
        refused(tmp_path / "a", bytes(raw), "damaged archive: ")

    @pytest.mark.parametrize(
        ("kind", "got"),
        [(tarfile.LNKTYPE, "a link"), (tarfile.SYMTYPE, "a symbolic link"), (tarfile.CHRTYPE, "a device"),
         (tarfile.FIFOTYPE, "a pipe"), (b"S", "a sparse file")],
    )  # fmt: skip
    def test_no_regular_file(self, tmp_path: Path, kind: bytes, got: str) -> None:
        raw = tar(entry(type=kind, linkname="/etc/passwd"))
        refused(tmp_path / "a", raw, f"a.bin: expected a regular file, got {got}")

    def test_a_sparse_file_of_pax(self, tmp_path: Path) -> None:
        raw = tar(entry(pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 60)}))
        refused(tmp_path / "a", raw, ".*: expected a regular file, got a sparse file")

    def test_eight_exabytes(self, tmp_path: Path) -> None:
        huge = b"\x80" + (1 << 63).to_bytes(11, "big")
        refused(tmp_path / "a", with_size(tar(entry()), huge), f"a.bin: expected {SIZE} bytes, got {1 << 63}")
        refused(tmp_path / "a", with_size(tar(entry("other")), huge), "damaged archive: unexpected end")
        refused(
            tmp_path / "a",
            with_size(tar(entry()), b"\xff" * 12),
            "damaged archive: a member of negative size",
        )
        refused(tmp_path / "a", with_size(tar(entry()), b"000000000-1\0"), "damaged archive: ")

    def test_a_large_pax_header(self, tmp_path: Path) -> None:
        raw = tar(entry(pax_headers={"comment": "x" * 100_000}))
        refused(tmp_path / "a", gzip.compress(raw), r"damaged archive: a pax header of \d+ bytes")

    @pytest.mark.parametrize(
        "pack", [lambda raw: gzip.compress(raw, 1), lambda raw: lzma.compress(raw, preset=0)]
    )
    def test_a_member_beside_the_wanted_ones(self, tmp_path: Path, pack) -> None:
        other = entry("zeros", size=100 << 20)
        refused(tmp_path / "a", pack(tar(other, bytes(100 << 20))), "not read: it unpacks to more than ")

    def test_zeros_after_the_end(self, tmp_path: Path) -> None:
        raw = gzip.compress(tar(entry())) + gzip.compress(bytes(100 << 20), 1)
        refused(tmp_path / "a", raw, "not read: it unpacks to more than ")


def test_idx(tmp_path: Path) -> None:
    """The header decides how much is read: one byte more shows that there is more."""
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(struct.pack(">2I", 2049, 10) + bytes(100 << 20), 1))
    with refused_in_little_memory(r"trailing bytes: expected 10 bytes .* got 11 or more"):
        read_idx(path, 1)
    path.write_bytes(gzip.compress(struct.pack(">2I", 2049, 100 << 20) + bytes(100 << 20), 1))
    with refused_in_little_memory("not read: it unpacks to more than "):
        read_idx(path, 1)
    path.write_bytes(struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    with refused_in_little_memory(r"truncated: expected \d{29} bytes"):
        read_idx(path, 3)


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(path: Path, compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


class TestNpz:
    def test_whole(self, tmp_path: Path) -> None:
        arrays = {
            "a": np.arange(6, dtype=">i4").reshape(2, 3),
            "b/c": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "d": np.array(True),
            "e": np.zeros((0, 3), np.float16),
        }
        np.savez_compressed(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        got = npz_arrays(tmp_path / "a.npz")
        assert list(got) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(got[name], array)
            assert got[name].dtype == array.dtype.newbyteorder("=")
            assert got[name].flags.writeable

    def test_a_bomb(self, tmp_path: Path) -> None:
        path = npz(tmp_path / "a.npz", a__npy=npy(np.zeros(100 << 20, np.uint8)))
        with refused_in_little_memory(r"a.npz: not read: it unpacks to 104,8\d\d,\d\d\d bytes, more than "):
            npz_arrays(path)

    def test_claims(self, tmp_path: Path) -> None:
        header = npy(np.zeros(3))
        for old, new, message in (
            (b"(3,)", b"(9,)", "a: expected 72 bytes for the shape (9,), got 24"),
            (b"(3,)", b"(2,)", "a: expected 16 bytes for the shape (2,), got 24"),
            (b"(3,), }      ", b"(1<<60,8,), }", "malformed node"),
            (b"(3,), }        ", b"(9999999999,) }", "a: expected 79999999992 bytes"),
            (b"'<f8'", b"'|O8'", "Object arrays hold code and are not read: a"),
            (b"{'descr'", b"['descr'", ""),
            (b"v\0", b"\xff\xff", "a: a header of 65535 bytes"),
            (b"NUMPY\x01", b"NUMPY\x03", "a: not an .npy file of version 1 or 2"),
            (b"(3,), }" + b" " * 20, b"(3,), 'x': 1}" + b" " * 14, "a: not a header"),
            (b"(3,)", b"'3,'", "a: not a shape"),
        ):
            assert old in header
            path = npz(tmp_path / "a.npz", a__npy=header.replace(old, new))
            with pytest.raises(DataError) as info:
                npz_arrays(path)
            assert str(info.value).startswith(f"{path}: not a whole .npz file of arrays: ")
            assert message in str(info.value)

    def test_entries(self, tmp_path: Path) -> None:
        good = npy(np.ones(2))
        with pytest.raises(DataError, match=r"expected names that end in .npy, each once, got 'readme.txt'"):
            npz_arrays(npz(tmp_path / "a.npz", a__npy=good, readme__txt=b"hello"))
        with pytest.raises(DataError, match="a: unknown compression 12"):
            npz_arrays(npz(tmp_path / "a.npz", zipfile.ZIP_BZIP2, a__npy=good))
        raw = bytearray(npz(tmp_path / "a.npz", zipfile.ZIP_STORED, a__npy=good).read_bytes())
        raw[raw.index(good) + len(good) - 1] ^= 1
        (tmp_path / "a.npz").write_bytes(raw)
        with pytest.raises(DataError, match="Bad CRC-32"):
            npz_arrays(tmp_path / "a.npz")

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.ones(2, np.complex64), "expected real numbers, got complex64 for w"),
            (np.array(["a"]), "expected numbers, got str32 for w"),
            (np.ones(2, "V2"), "expected numbers, got void16 for w"),
            (np.ones(2, [("x", "f4"), ("y", "i2")]), "expected numbers, got void48 for w"),
            (np.array(["2001-01-01"], "M8[D]"), r"expected numbers, got datetime64\[D\] for w"),
        ],
    )
    def test_kinds_by_name(self, tmp_path: Path, array: np.ndarray, message: str) -> None:
        np.savez(tmp_path / "a.npz", w=array)
        with pytest.raises(DtypeError, match=f"load_weights: .*a.npz: {message}"):
            load_weights(tmp_path / "a.npz")

    def test_names_that_are_arguments_of_savez(self, tmp_path: Path) -> None:
        state = {"file": np.ones(2), "allow_pickle": np.zeros(1), "x.npy": np.ones(1)}
        save_weights(tmp_path / "a.npz", state)
        assert list(load_weights(tmp_path / "a.npz")) == list(state)
        assert sorted(np.load(tmp_path / "a.npz")) == sorted(state)


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    def test_a_packed_bomb(self, tmp_path: Path, torch) -> None:
        torch.save({"w": torch.zeros(100 << 20, dtype=torch.uint8)}, tmp_path / "plain.pt")
        with (
            zipfile.ZipFile(tmp_path / "plain.pt") as old,
            zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                with old.open(name) as source, new.open(name, "w") as out:
                    while piece := source.read(1 << 20):
                        out.write(piece)
        with refused_in_little_memory(r"a.pt: not read: it unpacks to 104,"):
            load_weights(tmp_path / "a.pt")

    def test_one_number_seen_many_times(self, tmp_path: Path, torch) -> None:
        torch.save({"w": torch.zeros(1).expand(10**12)}, tmp_path / "a.pt")
        with refused_in_little_memory("w unpacks to more than "):
            load_weights(tmp_path / "a.pt")

    def test_kinds_by_name(self, tmp_path: Path, torch) -> None:
        from safetensors.torch import save_file

        eight, four = torch.zeros(2, dtype=torch.uint8), torch.float4_e2m1fn_x2
        both = {
            "expected dtypes of NumPy, got float8_e4m3fn": eight.view(torch.float8_e4m3fn),
            "expected dtypes of NumPy, got float8_e5m2": eight.view(torch.float8_e5m2),
            "expected dtypes of NumPy, got float4_e2m1fn": eight.view(four),
            "expected real numbers, got complex64": torch.ones(2, dtype=torch.complex64),
        }
        only = {
            "expected dense numbers, got sparse": torch.eye(2).to_sparse(),
            "expected dtypes of NumPy, got quint4x2": eight.view(torch.quint4x2),
            "expected one array on the CPU, got a tensor on meta": torch.ones(2, device="meta"),
        }
        for message, value in {**both, **only}.items():
            torch.save({"w": value}, tmp_path / "a.pt")
            with pytest.raises(DtypeError, match=rf"load_weights: .*a\.pt: {message}.* for w"):
                load_weights(tmp_path / "a.pt")
        for message, value in both.items():
            save_file({"w": value}, tmp_path / "a.safetensors")
            with pytest.raises(DtypeError, match=rf"load_weights: .*a\.safetensors: {message}.* for w"):
                load_weights(tmp_path / "a.safetensors")


def test_a_complex_state_is_not_saved(tmp_path: Path) -> None:
    for suffix in ("npz", "safetensors", "pt"):
        with pytest.raises(DtypeError, match="save_weights: expected real numbers, got complex64 for w"):
            save_weights(tmp_path / f"a.{suffix}", {"w": np.ones(2, np.complex64)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize(
    "name", ["__metadata__", "a\0b", "\ud800", "x" * 40_000, 7], ids=lambda name: repr(name)[:9]
)
def test_a_name_that_would_not_come_back(tmp_path: Path, suffix: str, name) -> None:
    with pytest.raises(ValueError, match=r"save_weights: .*: not a name of an array: "):
        save_weights(tmp_path / f"a.{suffix}", {name: np.ones(1)})
    for odd in ("", "../x", "a b\n", "ü", "x" * 30_000):
        save_weights(tmp_path / f"a.{suffix}", {odd: np.ones(1)})
        assert list(load_weights(tmp_path / f"a.{suffix}")) == [odd]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the pipes of POSIX")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for suffix in ("npz", "safetensors"):
        os.mkfifo(tmp_path / f"a.{suffix}")
        with pytest.raises(DataError, match="not read: expected a regular file"):
            load_weights(tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match="not read: expected a regular file"):
        read_idx(tmp_path / "a.npz", 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the pipes of POSIX")
def test_a_pipe_in_the_place_of_pytorchs_file_is_not_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(DataError, match="not read: expected a regular file"):
        load_weights(tmp_path / "a.pt")
