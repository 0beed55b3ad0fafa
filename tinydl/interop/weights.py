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
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from tinydl_kernels.machine.errors import DtypeError

from ..devices import on_host
from ..files import DataError, atomic_write
from ..nn.module import Module

FORMATS = (".safetensors", ".npz", ".pt", ".pth")


def save_weights(path: str | os.PathLike[str], model: Module | Mapping[str, Any]) -> None:
    """Write the state_dict of a model, or one that is given, to a file, whole or not at all.

    Raises:
        ValueError: another suffix than .safetensors, .npz, .pt, .pth.
        DataError: the file cannot be written.
    """
    form = _form("save_weights", path)
    state = model.state_dict() if isinstance(model, Module) else model
    arrays = {name: np.array(on_host(value)) for name, value in state.items()}
    if form == ".safetensors":
        content = safetensors.numpy.save(arrays)
    else:
        buffer = io.BytesIO()
        if form == ".npz":
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
        else:
            import torch

            torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, buffer)
        content = buffer.getvalue()
    with atomic_write(path) as file:
        file.write(content)


def load_weights(path: str | os.PathLike[str], key: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file by name, ready for `Module.load_state_dict`.

    key: where in a `.pt` file of several things the state_dict is: "model", "state_dict", ...

    Raises:
        ValueError: another suffix than .safetensors, .npz, .pt, .pth; a `.pt` file
        without a state_dict at `key`.
        DtypeError: numbers of a kind that NumPy does not know (bfloat16).
        DataError: no such file, or not a whole one.
    """
    form = _form("load_weights", path)
    try:
        if form == ".safetensors":
            return _from_safetensors(path)
        if form == ".npz":
            with open(path, "rb") as file:
                content = np.load(file, allow_pickle=False)
                if isinstance(content, np.ndarray):
                    raise ValueError("one array without a name")
                return dict(content)
    except OSError as error:
        raise DataError(f"{path}: not read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole {form} file of arrays: {error}") from error
    return _from_torch(path, key)


def _form(who: str, path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise ValueError(f"{who}: expected a file named {', '.join(FORMATS)}, got {os.fspath(path)!r}")
    return suffix


def _from_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    with safetensors.safe_open(path, "numpy") as file:
        names = list(file.keys())
        for name in names:
            if file.get_slice(name).get_dtype() == "BF16":
                raise DtypeError(f"load_weights: {path}: expected dtypes of NumPy, got bfloat16 for {name}")
        return {name: file.get_tensor(name) for name in names}


def _from_torch(path: str | os.PathLike[str], key: str | None) -> dict[str, np.ndarray]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path}: not read: {error.strerror or error}") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise DataError(f"{path}: not a whole .pt file of arrays: {str(error).splitlines()[0]}") from error
    state = content if key is None else content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        entries = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"load_weights: {path}: expected a state_dict{f' at {key!r}' * (key is not None)}, got {entries}"
        )
    for name, value in state.items():
        if value.dtype is torch.bfloat16:
            raise DtypeError(f"load_weights: {path}: expected dtypes of NumPy, got bfloat16 for {name}")
    return {name: value.numpy() for name, value in state.items()}
