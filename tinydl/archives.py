"""Files from strangers, read within bounds: tar, gzip, xz, npz and safetensors.

Sizes that a file states about itself are claims. So an entry is read to the length that the reader expects
and one byte more, a compressed file may unpack to `allowance` bytes and no further, every checksum is read to
its end, and nothing in a file is run. Whatever is wrong with a file is one line that names it: a `DataError`,
or a `DtypeError` for a kind of number that no tensor has.
"""

from __future__ import annotations

import ast
import contextlib
import gzip
import lzma
import math
import os
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, TinydlError

from .files import DataError, one_line

ROOM, RATIO = 1 << 26, 32  # pictures and weights shrink by less; a bomb of zeros by a thousand
PIECE = 1 << 20  # bytes read at a time
HEADER = 10_000  # bytes of an .npy header, NumPy's own limit
PAX = 1 << 16  # bytes of a pax header: names and times need a few hundred
BLOCK = 512  # bytes of a tar header; contents are padded to it

TAR_KINDS = {
    b"1": "a link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
    b"S": "a sparse file",
}
NUMBERS = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")  # the .npy names of the dtypes that are read
SAFETENSORS_DTYPES = {  # those that are read, and the names of the others
    "BOOL": "bool",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
OTHER_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn",
    "C64": "complex64",
}


def allowance(path: str | os.PathLike[str]) -> int:
    """To how many bytes a file may unpack: ROOM, and RATIO times its own."""
    return ROOM + RATIO * os.path.getsize(path)


@contextlib.contextmanager
def parsing(path: str | os.PathLike[str], complaint: str) -> Iterator[None]:
    """What a library raises over the content of a file, as one DataError: ``path: complaint: reason``.

    A damaged file can raise anything in the library that reads it (KeyError, RecursionError, zlib.error, …),
    so everything is caught; errors of the house pass. Use it around such libraries alone.
    """
    try:
        yield
    except TinydlError:
        raise
    except OSError as error:
        of_the_disk = error.errno is not None or isinstance(error, (FileNotFoundError, PermissionError))
        if not of_the_disk:  # libraries that say OSError for bad content
            raise DataError(f"{path}: {complaint}: {reason(error)}") from error
        raise DataError(f"{path}: not read: {error.strerror or reason(error)}") from error
    except Exception as error:
        raise DataError(f"{path}: {complaint}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters, or the name of its class."""
    return (str(error).splitlines() or [""])[0].strip()[:200].rstrip(":") or type(error).__name__


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse a folder, and a pipe or device, which could keep a reader waiting for ever.

    Raises:
        DataError: it is no regular file. One that is not there is left to who opens it.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{path}: not read: expected a regular file")


class Stream:
    """A binary file of which at most `limit` bytes are read; memory grows with what came, not with claims."""

    def __init__(self, file: IO[bytes], path: str | os.PathLike[str], limit: int) -> None:
        self.file, self.path, self.limit, self.got = file, path, limit, 0

    def read(self, count: int) -> bytearray:
        """`count` bytes; fewer only at the end of the file."""
        content = bytearray()
        for piece in self._pieces(count):
            content += piece
        return content

    def skip(self, count: int | None = None) -> None:
        """Read and forget `count` bytes, or all that are left, which checks a checksum at the end.

        Raises:
            EOFError: the file ends before.
        """
        got = sum(map(len, self._pieces(1 << 63 if count is None else count)))
        if count is not None and got < count:
            raise EOFError("unexpected end of the file")

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count > 0 and (piece := self.file.read(min(count, PIECE))):
            self.got += len(piece)
            if self.got > self.limit:
                raise DataError(f"{self.path}: not read: it unpacks to more than {self.limit:,} bytes")
            count -= len(piece)
            yield piece


@contextlib.contextmanager
def decompressed(path: str | os.PathLike[str]) -> Iterator[Stream]:
    """The bytes of a file, gzipped, xz-compressed or plain: its first bytes tell, not its name."""
    check_regular(path)
    with open(path, "rb") as file, contextlib.ExitStack() as stack:
        magic = file.read(6)
        file.seek(0)
        inner: Any = file
        if magic.startswith(b"\x1f\x8b"):
            inner = stack.enter_context(gzip.GzipFile(fileobj=file))
        elif magic == b"\xfd7zXZ\0":
            inner = stack.enter_context(lzma.LZMAFile(file))
        yield Stream(inner, path, allowance(path))


# ---- tar


def tar_members(path: str | os.PathLike[str], sizes: Mapping[str, int]) -> Iterator[tuple[str, bytearray]]:
    """The members of an archive with these names (folders before them do not count), each of exactly this
    many bytes, in the archive's order; the first of several of one name.

    The archive (plain, gzip, xz) is read to its end, for its checksum stands there.

    Raises:
        DataError: damaged, too large, or a wanted member that is a link, a sparse file, … or of another size.
    """
    left = dict(sizes)
    with parsing(path, "damaged archive"), decompressed(path) as stream:
        first = True
        while header := stream.read(BLOCK):
            if len(header) == BLOCK and not any(header) and not first:
                break
            name, kind, size = _tar_header(path, header)
            first = False
            if kind in b"xg":
                if size > PAX:
                    raise DataError(f"{path}: damaged archive: a pax header of {size} bytes")
                if b"GNU.sparse" in stream.read(size):
                    raise DataError(f"{path}: {name}: expected a regular file, got a sparse file")
            elif name in left:
                expected = left.pop(name)
                if kind not in (b"0", b"\0", b"7"):
                    got = TAR_KINDS.get(kind, f"a member of type {kind!r}")
                    raise DataError(f"{path}: {name}: expected a regular file, got {got}")
                if size != expected:
                    raise DataError(f"{path}: {name}: expected {expected} bytes, got {size}")
                content = stream.read(size)
                if len(content) < size:
                    raise EOFError("unexpected end of the file")
                yield name, content
            else:
                stream.skip(size)
            stream.skip(-size % BLOCK)
        if first:
            raise EOFError("empty file")
        stream.skip()


def _tar_header(path: str | os.PathLike[str], header: bytearray) -> tuple[str, bytes, int]:
    """Name without folders, type flag and size of the member that follows."""
    if len(header) < BLOCK:
        raise EOFError("truncated header")
    stated = bytes(header[148:156]).strip(b" \0")
    if not stated.isdigit() or int(stated, 8) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise DataError(f"{path}: damaged archive: wrong checksum of a header")
    field = bytes(header[124:136])
    if field[0] & 0x80:  # GNU's form of large sizes
        size = -1 if field[0] == 0xFF else int.from_bytes(field, "big") & ((1 << 95) - 1)
    else:
        size = int(field.strip(b" \0") or b"0", 8)
    name = bytes(header[:100]).partition(b"\0")[0].decode("utf-8", "backslashreplace")
    if size < 0:
        raise DataError(f"{path}: damaged archive: a member of negative size")
    return name.rpartition("/")[2], bytes(header[156:157]), size


# ---- npz


def npz_arrays(path: str | os.PathLike[str], wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, in the machine's byte order, writable; the `wanted` ones that are
    there, or all. Nothing is unpickled.

    Raises:
        DataError: unreadable, damaged, too large, or entries that are not arrays.
        DtypeError: numbers other than bool, integers and floats of 16 to 64 bits.
    """
    arrays: dict[str, np.ndarray] = {}
    check_regular(path)
    with (
        parsing(path, "not a whole .npz file of arrays"),
        open(path, "rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        entries = [
            info
            for info in archive.infolist()
            if wanted is None or info.filename.removesuffix(".npy") in wanted
        ]
        total, limit = sum(info.file_size for info in entries), allowance(path)
        if total > limit:
            raise DataError(f"{path}: not read: it unpacks to {total:,} bytes, more than {limit:,}")
        for info in entries:
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in arrays:
                raise ValueError(f"expected names that end in .npy, each once, got {info.filename!r}")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name}: unknown compression {info.compress_type}")
            with archive.open(info) as entry:
                stream = Stream(entry, path, info.file_size)
                arrays[name] = _npy_array(stream, f"{path}: ", name, info.file_size)
    return arrays


def _npy_array(stream: Stream, who: str, name: str, size: int) -> np.ndarray:
    """One array from a stream of `size` bytes, read to its end."""
    magic = bytes(stream.read(8))
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0"):
        raise ValueError(f"{name}: not an .npy file of version 1 or 2")
    length = int.from_bytes(stream.read(2 if magic[6] == 1 else 4), "little")
    if length > HEADER:
        raise ValueError(f"{name}: a header of {length} bytes")
    text = stream.read(length).decode("latin-1")
    if "\\" in text:  # no name of a dtype has one, and Python would warn of some
        raise ValueError(f"{name}: not a header: {text[:50]!r}")
    header = ast.literal_eval(text.strip())
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"{name}: not a header: {text[:50]!r}")
    descr, shape = header["descr"], header["shape"]
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{name}: not a shape: {str(shape)[:50]}")
    if not isinstance(descr, str) or NUMBERS.fullmatch(descr) is None:
        dtype = np.dtype(descr if isinstance(descr, str) else [tuple(field) for field in descr])
        if dtype.hasobject:
            raise ValueError(f"Object arrays hold code and are not read: {name}")
        raise _unreadable(who, dtype.name, name)
    dtype = np.dtype(descr)
    expected, got = math.prod(shape) * dtype.itemsize, size - stream.got
    if got != expected:
        raise ValueError(f"{name}: expected {expected} bytes for the shape {shape}, got {got}")
    content = stream.read(expected + 1)  # and the end, where the checksum is compared
    order = "F" if header["fortran_order"] else "C"
    array = np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    return array.astype(dtype.newbyteorder("="), copy=False)


# ---- safetensors


def safetensors_arrays(
    path: str | os.PathLike[str], complaint: str = "not a whole .safetensors file of arrays"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a .safetensors file by name, and its metadata.

    Raises:
        DataError: unreadable or damaged.
        DtypeError: numbers other than bool, integers and floats of 16 to 64 bits.
    """
    import safetensors

    check_regular(path)
    with parsing(path, complaint), safetensors.safe_open(path, "numpy") as file:
        names = list(file.keys())
        for name in names:
            kind = file.get_slice(name).get_dtype()
            if kind not in SAFETENSORS_DTYPES:
                raise _unreadable(f"{path}: ", OTHER_DTYPES.get(kind, kind), name)
        return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})


def _unreadable(who: str, dtype: str, name: str) -> DtypeError:
    expected = "real numbers" if dtype.startswith("complex") else "dtypes of NumPy"
    if dtype.startswith(("str", "bytes", "void", "datetime", "timedelta")):
        expected = "numbers"
    return DtypeError(f"{who}expected {expected}, got {one_line(dtype, 50)} for {one_line(name, 200)}")
