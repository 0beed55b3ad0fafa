"""The weights of a model in a file, by PyTorch's names: saved by one framework, loaded by the other.

    save_weights("lenet.safetensors", model)
    model.load_state_dict(load_weights("lenet.safetensors"))

The suffix says the format. `.safetensors` and `.npz` hold arrays and nothing else; `.pt` and `.pth` are
torch.save's, read without torch and without running anything (pickled), written with it; `.h5` is Keras's,
read alone, with its names and layouts as they are (keras: `from_keras` turns them). A whole training run is
`training.checkpoint`'s.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from tinydl_kernels.machine.errors import DtypeError

from ..archives import SAFETENSORS_DTYPES, npz_arrays, safetensors_arrays
from ..devices import on_host
from ..files import atomic_write, one_line
from ..nn.module import Module
from .keras import keras_arrays
from .pickled import torch_content

WRITTEN = (".safetensors", ".npz", ".pt", ".pth")
READ = (*WRITTEN, ".th", ".h5")


def save_weights(path: str | os.PathLike[str], model: Module | Mapping[str, Any]) -> None:
    """Write the state_dict of a model, or one that is given, to a file, whole or not at all.

    Raises:
        ValueError: another suffix than .safetensors, .npz, .pt, .pth; a name that the format cannot hold.
        DtypeError: numbers other than bool, integers and floats of 16 to 64 bits.
        DataError: the file cannot be written.
    """
    form = _form("save_weights", path, WRITTEN)
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
        ValueError: another suffix than .safetensors, .npz, .pt, .pth, .th, .h5; a `.pt` file without a
            state_dict at `key`.
        ImportError: a .h5 file, and h5py is not installed.
        DtypeError: entries that are no plain real numbers (bfloat16, float8, complex, sparse, quantized),
            by name.
        DataError: no such file, not a whole one, one that unpacks to too much, or a pickle that names
            anything but tensors and plain containers.
    """
    form = _form("load_weights", path, READ)
    try:
        if form == ".safetensors":
            return safetensors_arrays(path)[0]
        if form == ".npz":
            return npz_arrays(path)
        if form == ".h5":
            return keras_arrays(path)
        return _from_torch(path, key)
    except DtypeError as error:
        raise DtypeError(f"load_weights: {error}") from error


def _form(who: str, path: str | os.PathLike[str], known: tuple[str, ...]) -> str:
    suffix = Path(path).suffix
    if suffix not in known:
        raise ValueError(f"{who}: expected a file named {', '.join(known)}, got {os.fspath(path)!r}")
    return suffix


def _from_torch(path: str | os.PathLike[str], key: str | None) -> dict[str, np.ndarray]:
    content = torch_content(path)
    state = content if key is None else content.get(key) if isinstance(content, dict) else None
    if isinstance(state, dict) and all(isinstance(value, np.ndarray) for value in state.values()):
        return {str(name): value for name, value in state.items()}
    names = map(str, content) if isinstance(content, dict) else [type(content).__name__]
    got = one_line(", ".join(names), 200)
    raise ValueError(
        f"load_weights: {path}: expected a state_dict{f' at {key!r}' * (key is not None)}, got {got}"
    )


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
