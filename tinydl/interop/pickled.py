"""torch.save's files without torch, and without running what they say.

A file is a pickle that names functions to call on tensors' storages, with the storages beside it: since torch
1.6 as members of a zip file (`*/data.pkl`, `*/data/0`, ...), before as what follows in one stream. The pickle
is read here by an interpreter of its own, on lists and dicts: of all functions it knows those that make a
tensor out of a storage, and an OrderedDict. Whatever else a file names is an error that repeats the name.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import DtypeError

from ..archives import Stream, allowance, check_regular, parsing
from ..files import DataError, one_line

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the form before torch 1.6
LARGEST = 1 << 22
"""Bytes of a pickle: a tensor takes some 300, an object made of one byte up to 64 of memory."""

DTYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "Bool": "bool",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "BFloat16": "bfloat16",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
    "Untyped": "uint8",
}
"""Kinds of storages -> the dtypes of their numbers."""
SIZES = {
    "bfloat16": 2,
    "complex64": 8,
    "complex128": 16,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
}
"""Of numbers that no tensor here has."""
OTHERS = ("uint16", "uint32", "uint64")
UNREADABLE = {
    "_rebuild_sparse_tensor": "expected dense numbers, got sparse",
    "_rebuild_sparse_csr_tensor": "expected dense numbers, got sparse_csr",
    "_rebuild_qtensor": "expected plain numbers, got quantized",
    "_rebuild_nested_tensor": "expected one array, got a nested tensor",
    "_rebuild_meta_tensor_no_storage": "expected one array on the CPU, got a tensor on meta",
    "_rebuild_device_tensor_from_numpy": "expected one array on the CPU, got a tensor of a device",
}


class Storage(NamedTuple):
    """A piece of memory, by the key of its bytes."""

    key: str
    dtype: str
    numel: int
    start: int = 0  # a view of the old form: where in the memory of the key it begins, in elements


class TensorOf(NamedTuple):
    """A tensor that a pickle has made: a strided view of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Unreadable(NamedTuple):
    """A kind of tensor that is no array of numbers, and why."""

    problem: str


class Named(NamedTuple):
    """A function, class or constant that the pickle named."""

    module: str
    name: str

    def __str__(self) -> str:
        return one_line(f"{self.module}.{self.name}", 200)


class _Mark:
    """Where on the stack a container's members begin."""


def torch_content(path: str | os.PathLike[str]) -> Any:
    """What torch.save wrote: dicts, lists, tuples, numbers and words as they are, and arrays for tensors.

    Raises:
        DataError: no such file, a damaged one, one that unpacks to too much, or that names anything but
            tensors and plain containers.
        DtypeError: tensors that are no plain real numbers, by their names.
    """
    check_regular(path)
    with parsing(path, "not a whole .pt file of arrays"), open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return _of_zip(path, archive)
        file.seek(0)
        return _of_stream(path, io.BytesIO(file.read()))


def _of_zip(path: Any, archive: zipfile.ZipFile) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    if sum(info.file_size for info in members.values()) > allowance(path):
        total = sum(info.file_size for info in members.values())
        raise DataError(f"{path}: not read: it unpacks to {total:,} bytes")

    def content(name: str) -> bytearray:
        info = members[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name}: unknown compression {info.compress_type}")
        with archive.open(info) as entry:
            return Stream(entry, path, info.file_size).read(info.file_size + 1)

    name = min((name for name in members if name.endswith("data.pkl")), key=len, default=None)
    if name is None:
        raise ValueError("no data.pkl in the zip file")
    root = name.removesuffix("data.pkl")
    if members[name].file_size > LARGEST:
        raise DataError(f"{path}: not read: a pickle of {members[name].file_size:,} bytes")
    order = content(f"{root}byteorder") if f"{root}byteorder" in members else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"unknown order of bytes {bytes(order[:20])!r}")
    tree = read_pickle(path, io.BytesIO(content(name)))
    return _Arrays(path, lambda storage: content(f"{root}data/{storage.key}"), order == b"big").of(tree)


def _of_stream(path: Any, file: io.BytesIO) -> Any:
    """The form before torch 1.6: five pickles, then for each storage its length and its bytes."""
    if read_pickle(path, file) != MAGIC:
        raise ValueError("neither a zip file nor one of torch before 1.6")
    if read_pickle(path, file) != PROTOCOL:
        raise ValueError("an unknown version of torch.save")
    system = read_pickle(path, file)
    big = isinstance(system, dict) and system.get("little_endian") is False
    stored: dict[str, Storage] = {}
    tree = read_pickle(path, file, lambda storage: stored.setdefault(storage.key, storage))
    keys = read_pickle(path, file)
    contents: dict[str, bytearray] = {}
    for key in keys if isinstance(keys, list) else ():
        numel = int.from_bytes(file.read(8), "big" if big else "little", signed=True)
        size = numel * _itemsize(stored[key].dtype)
        whole = bytearray(file.read(size) if 0 <= size <= len(file.getbuffer()) else b"")
        if len(whole) != size:
            raise EOFError("unexpected end of the file")
        contents[key] = whole
    return _Arrays(path, lambda storage: contents[storage.key], big).of(tree)


def _itemsize(dtype: str) -> int:
    return SIZES.get(dtype) or np.dtype(dtype).itemsize


class _Arrays:
    """Arrays in the place of the tensors of a tree, each storage read once, in bounded memory."""

    def __init__(self, path: Any, content: Callable[[Storage], bytearray], big: bool) -> None:
        self.path, self.content, self.big = path, content, big
        self.memory: dict[tuple[str, str], np.ndarray] = {}
        self.limit = self.left = allowance(path)

    def of(self, x: Any, name: str = "", depth: int = 0) -> Any:
        if depth > 50:
            raise ValueError("containers within containers, fifty deep")
        self.left -= 64  # a list that holds another twice, and so on
        if self.left < 0:
            raise DataError(f"{self.path}: not read: it unpacks to more than {self.limit:,} bytes")
        if isinstance(x, TensorOf):
            return self.array(x, name)
        if isinstance(x, Unreadable):
            raise DtypeError(f"{self.path}: {x.problem} for {one_line(name, 200)}")
        if isinstance(x, dict):
            return {key: self.of(value, f"{name}.{key}"[not name :], depth + 1) for key, value in x.items()}
        if type(x) in (list, tuple):
            return type(x)(self.of(value, f"{name}.{i}", depth + 1) for i, value in enumerate(x))
        return str(x) if isinstance(x, (Named, Storage)) else x

    def array(self, x: TensorOf, name: str) -> np.ndarray:
        storage, dtype = x.storage, x.storage.dtype
        if dtype in SIZES:
            expected = "real numbers" if dtype.startswith("complex") else "dtypes of NumPy"
            raise DtypeError(f"{self.path}: expected {expected}, got {dtype} for {one_line(name, 200)}")
        if (storage.key, dtype) not in self.memory:
            raw = np.frombuffer(self.content(storage), np.dtype(dtype).newbyteorder(">" if self.big else "<"))
            self.memory[storage.key, dtype] = raw.astype(dtype, copy=False)
        memory = self.memory[storage.key, dtype][storage.start : storage.start + storage.numel]
        if len(memory) != storage.numel:
            raise ValueError(f"{name}: expected a storage of {storage.numel} numbers, got {len(memory)}")
        if len(x.size) != len(x.stride) or x.offset < 0 or min((*x.size, *x.stride), default=0) < 0:
            raise ValueError(f"{name}: not a strided view: {x[1:]}")
        itemsize, count = np.dtype(dtype).itemsize, math.prod(x.size)
        last = x.offset + sum((n - 1) * s for n, s in zip(x.size, x.stride, strict=True))
        if count and last >= len(memory):
            raise ValueError(f"{name}: a view that ends at {last} of a storage of {len(memory)} numbers")
        self.left -= count * itemsize
        if self.left < 0:  # one number seen many times, by strides of 0
            raise DataError(f"{self.path}: not read: {name} unpacks to more than {self.limit:,} bytes")
        strides = [s * itemsize for s in x.stride]
        view = np.lib.stride_tricks.as_strided(memory[x.offset if count else 0 :], x.size, strides)
        return np.array(view, order="C")


# ---- The pickle


def _whole(x: Any) -> int:
    if type(x) is not int:
        raise ValueError(f"expected a whole number, got {type(x).__name__}")
    return x


def _wholes(x: Any) -> tuple[int, ...]:
    if not isinstance(x, (tuple, list)):
        raise ValueError(f"expected sizes, got {type(x).__name__}")
    return tuple(map(_whole, x))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> TensorOf:
    """_rebuild_tensor and _rebuild_tensor_v2; the rest is requires_grad, hooks and metadata."""
    if not isinstance(storage, Storage):
        raise ValueError(f"expected a storage, got {type(storage).__name__}")
    return TensorOf(storage, _whole(offset), _wholes(size), _wholes(stride))


def _parameter(data: Any, *rest: Any) -> Any:
    if not isinstance(data, (TensorOf, Unreadable)):
        raise ValueError(f"expected a tensor, got {type(data).__name__}")
    return data


def _tensor_of_bytes(storage: Any, *rest: Any) -> TensorOf | Unreadable:
    """_rebuild_tensor_v3, of the dtypes that have no storage of their own."""
    dtype = rest[5].name if len(rest) > 5 and isinstance(rest[5], Named) else ""
    if dtype not in OTHERS or not isinstance(storage, Storage):
        return Unreadable(f"expected dtypes of NumPy, got {one_line(dtype, 50)}")
    numbers = storage.numel // np.dtype(dtype).itemsize
    return _tensor(Storage(storage.key, dtype, numbers), *rest[:3])


def _ordered(items: Any = ()) -> dict[Any, Any]:
    return dict(items)


CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_bytes,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.serialization", "_get_layout"): lambda name: name,
    ("torch", "Size"): lambda size=(): _wholes(size),
    **{("torch._utils", name): lambda *_, why=why: Unreadable(why) for name, why in UNREADABLE.items()},
}
"""Everything that a pickle may call; nothing here is looked up by a name from a file."""

CONSTANTS = {
    *(("torch", f"{kind}Storage") for kind in DTYPES),
    *(("torch", dtype) for dtype in (*DTYPES.values(), *OTHERS)),
    *(("torch", f"float8_{kind}") for kind in ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0fnu")),
    ("torch", "float4_e2m1fn_x2"),
    *(("torch", f"per_{what}_affine") for what in ("tensor", "channel")),
    ("torch.storage", "UntypedStorage"),
}
"""What it may name without calling it."""


def _storage(identity: Any, seen: Callable[[Storage], Any] | None) -> Storage:
    """Of a persistent identity: ("storage", kind, key, place, numel), and in the old form the part of it."""
    if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6 or identity[0] != "storage":
        raise ValueError(f"not a storage: {str(identity)[:50]!r}")
    _, kind, key, _, numel, *view = identity
    dtype = DTYPES.get(kind.name.removesuffix("Storage")) if isinstance(kind, Named) else None
    if dtype is None or not isinstance(key, str) or _whole(numel) < 0:
        raise ValueError(f"not a storage: {str(identity)[:50]!r}")
    if seen is not None:
        seen(Storage(key, dtype, numel))
    if view and view[0] is not None:
        part = view[0]
        if not isinstance(part, tuple) or len(part) != 3 or min(map(_whole, part[1:])) < 0:
            raise ValueError(f"not a view of a storage: {str(part)[:50]!r}")
        return Storage(key, dtype, part[2], part[1])
    return Storage(key, dtype, numel)


def _hashable(key: Any) -> Any:
    if isinstance(key, (str, int, float, bool, bytes, type(None))):
        return key
    if isinstance(key, tuple):
        return tuple(map(_hashable, key))
    raise ValueError(f"expected a plain key, got {type(key).__name__}")


def read_pickle(
    path: str | os.PathLike[str], file: io.BytesIO, seen: Callable[[Storage], Any] | None = None
) -> Any:
    """The next pickle of a file as containers, numbers, words and TensorOf; `seen` is told each storage.

    Raises:
        DataError: it names what is neither a tensor nor a plain container, or needs an operation that makes
            objects of other kinds.
        ValueError, IndexError, ...: it is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def members() -> list[Any]:
        at = max(i for i, x in enumerate(stack) if x is _Mark)
        found = stack[at + 1 :]
        del stack[at:]
        return found

    def put_items(target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items for what is no dict")
        target.update(zip(map(_hashable, items[::2]), items[1::2], strict=True))

    begin = file.tell()
    for opcode, argument, position in pickletools.genops(file):
        if (position or 0) - begin > LARGEST:
            raise DataError(f"{path}: not read: a pickle of more than {LARGEST:,} bytes")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                (result,) = stack
                return result
            case "MARK":
                stack.append(_Mark)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case name if name in VALUES:
                stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[opcode.name])
            case "TUPLE" | "LIST":
                found = members()
                stack.append(tuple(found) if opcode.name == "TUPLE" else found)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(opcode.name[-1])
                if len(stack) < n:
                    raise ValueError("a tuple of too few")
                stack[-n:] = [tuple(stack[-n:])]
            case "APPEND" | "APPENDS":
                found = members() if opcode.name == "APPENDS" else [stack.pop()]
                if type(stack[-1]) is not list:
                    raise ValueError("a member for what is no list")
                stack[-1].extend(found)
            case "DICT":
                target: dict[Any, Any] = {}
                put_items(target, members())
                stack.append(target)
            case "SETITEM" | "SETITEMS":
                found = members() if opcode.name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
                put_items(stack[-1], found)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]  # type: ignore[index]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])  # type: ignore[index]
            case "POP":
                stack.pop()
            case "POP_MARK":
                members()
            case "DUP":
                stack.append(stack[-1])
            case "GLOBAL" | "STACK_GLOBAL":
                if opcode.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                else:
                    module, name = stack[-2:]
                    del stack[-2:]
                known = (module, name) in CALLS or (module, name) in CONSTANTS
                if not known:
                    raise DataError(
                        f"{path}: not read: it holds {Named(str(module), str(name))}, "
                        "neither a tensor nor a plain container"
                    )
                stack.append(Named(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if not isinstance(function, Named) or function not in CALLS or type(arguments) is not tuple:
                    raise ValueError(f"a call of {str(function)[:50]}")
                stack.append(CALLS[function](*arguments))
            case "BUILD":  # the attributes of an OrderedDict: the versions of modules
                stack.pop()
                if not isinstance(stack[-1], dict):
                    raise ValueError(f"attributes of {type(stack[-1]).__name__}")
            case "BINPERSID":
                stack.append(_storage(stack.pop(), seen))
            case other:
                raise DataError(f"{path}: not read: its pickle makes objects ({other}), not only tensors")
    raise EOFError("a pickle without an end")


VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
"""Operations whose argument is the value."""
