"""The weights of a model in a file, by PyTorch's names: saved by one framework, loaded by the other.

    save_weights("lenet.safetensors", model)
    model.load_state_dict(load_weights("lenet.safetensors"))

The suffix says the format. `.safetensors` and `.npz` hold arrays and nothing else; `.pt` and `.pth` are
torch.save's, need torch and are read with weights_only=True: no file is ever unpickled into code. A whole
training run is `training.checkpoint`'s.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from tinydl_kernels.machine.errors import DtypeError

from ..archives import (
    SAFETENSORS_DTYPES,
    allowance,
    check_regular,
    npz_arrays,
    parsing,
    safetensors_arrays,
)
from ..devices import on_host
from ..files import DataError, atomic_write, one_line
from ..nn.module import Module

FORMATS = (".safetensors", ".npz", ".pt", ".pth")


def save_weights(path: str | os.PathLike[str], model: Module | Mapping[str, Any]) -> None:
    """Write the state_dict of a model, or one that is given, to a file, whole or not at all.

    Raises:
        ValueError: another suffix than .safetensors, .npz, .pt, .pth; a name that the format cannot hold.
        DtypeError: numbers other than bool, integers and floats of 16 to 64 bits.
        DataError: the file cannot be written.
    """
    form = _form("save_weights", path)
    state = model.state_dict() if isinstance(model, Module) else model
    arrays = {name: np.array(on_host(value)) for name, value in state.items()}
    for name in arrays:
        if not _comes_back(name):
            raise ValueError(f"save_weights: {path}: not a name of an array: {str(name)[:50]!r}")
    for name, array in arrays.items():
        if array.dtype.name not in SAFETENSORS_DTYPES.values():
            raise DtypeError(f"save_weights: expected real numbers, got {array.dtype.name} for {name}")
    if form == ".safetensors":
        content = safetensors.numpy.save(arrays)
    else:
        buffer = io.BytesIO()
        if form == ".npz":
            with zipfile.ZipFile(buffer, "w") as archive:  # np.savez has no room for an array called "file"
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, array, allow_pickle=False)
        else:
            import torch

            torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, buffer)
        content = buffer.getvalue()
    with atomic_write(path) as file:
        file.write(content)


def load_weights(path: str | os.PathLike[str], key: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file by name, ready for `Module.load_state_dict`.

    key: where in a `.pt` file of several things the state_dict is: "model", "state_dict", ...

    A file is trusted in nothing: a damaged or hostile one is an error of one line, in bounded time and memory
    (see `archives`).

    Raises:
        ValueError: another suffix than .safetensors, .npz, .pt, .pth; a `.pt` file
        without a state_dict at `key`.
        DtypeError: entries that are no plain real numbers (bfloat16, float8, complex, sparse, quantized),
            by name.
        DataError: no such file, not a whole one, or one that unpacks to too much.
    """
    form = _form("load_weights", path)
    try:
        if form == ".safetensors":
            return safetensors_arrays(path)[0]
        if form == ".npz":
            return npz_arrays(path)
    except DtypeError as error:
        raise DtypeError(f"load_weights: {error}") from error
    return _from_torch(path, key)


def _form(who: str, path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise ValueError(f"{who}: expected a file named {', '.join(FORMATS)}, got {os.fspath(path)!r}")
    return suffix


def _from_torch(path: str | os.PathLike[str], key: str | None) -> dict[str, np.ndarray]:
    import torch

    check_regular(path)
    with parsing(path, "not a whole .pt file of arrays"):
        if zipfile.is_zipfile(path):  # torch itself never compresses
            with zipfile.ZipFile(path) as archive:
                total = sum(info.file_size for info in archive.infolist())
            if total > allowance(path):
                raise DataError(f"{path}: not read: it unpacks to {total:,} bytes")
        with warnings.catch_warnings(), open(path, "rb", buffering=0) as file:
            warnings.simplefilter("ignore")  # about kinds of tensors that are refused below by name
            content = torch.load(_WithinFile(file), map_location="cpu", weights_only=True)
    state = content if key is None else content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        names = map(str, content) if isinstance(content, dict) else [type(content).__name__]
        got = one_line(", ".join(names), 200)
        raise ValueError(
            f"load_weights: {path}: expected a state_dict{f' at {key!r}' * (key is not None)}, got {got}"
        )
    limit = allowance(path)
    arrays = {}
    for name, value in state.items():
        if problem := _problem(value):
            raise DtypeError(f"load_weights: {path}: {problem} for {one_line(name, 200)}")
        if value.numel() * value.element_size() > limit:  # one number seen many times, by strides of 0
            raise DataError(f"{path}: not read: {name} unpacks to more than {limit:,} bytes")
        with parsing(path, f"not a whole .pt file of arrays: {name}"):
            arrays[str(name)] = value.detach().resolve_conj().resolve_neg().numpy()
    return arrays


def _comes_back(name: Any) -> bool:
    """Can both formats hold this name? safetensors keeps its own header under one of them, and knows UTF-8
    alone; in a zip file they are short and end at a zero.
    """
    if not isinstance(name, str) or name == "__metadata__" or "\0" in name:
        return False
    try:
        return len(name.encode()) < 1 << 15
    except UnicodeEncodeError:
        return False


class _WithinFile(io.BufferedReader):
    """A file that makes no room for more bytes than are left of it: in the form before torch 1.6 lengths are
    whatever the file claims.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        return super().read(left if size is None or size < 0 else min(size, left))


def _problem(value: Any) -> str | None:
    """What keeps a tensor of torch's from being an array of numbers."""
    import torch

    dtype = str(value.dtype).removeprefix("torch.")
    if value.is_quantized:
        return f"expected plain numbers, got quantized {dtype}"
    if value.layout is not torch.strided:
        return f"expected dense numbers, got {str(value.layout).removeprefix('torch.')}"
    if value.is_nested or value.device.type != "cpu":
        return f"expected one array on the CPU, got a tensor {'nested' if value.is_nested else 'on meta'}"
    if value.is_complex():
        return f"expected real numbers, got {dtype}"
    if dtype not in SAFETENSORS_DTYPES.values():
        return f"expected dtypes of NumPy, got {dtype}"
    return None
