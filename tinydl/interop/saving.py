"""`td.save(thing, path)` and `td.load(path)`, as in PyTorch, without pickle.

    td.save({"model": model.state_dict(), "epoch": 3}, "run.pt")
    model.load_state_dict(td.load("run.pt")["model"])

The file is one of safetensors, whatever its name. Its metadata holds the structure as JSON, in which a tensor
is {"$tensor": its name in the file}. Nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..devices import checked_device, on_host
from ..engine.core import Tensor
from ..files import DataError, atomic_write
from ..ops.creation import tensor

__all__ = ["load", "save"]

WRONG = safetensors.SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError
"""What a file that is not one of `save` raises."""

KEY = "tinydl.save"
"""Of the metadata, under which the structure is."""


def save(obj: Any, f: Any) -> None:
    """Write tensors, arrays, numbers, strings, None, and dicts, lists and tuples of them to a file, whole or
    not at all.

    Args:
        obj: what to save; a state_dict, say. A module is saved by its `state_dict()`.
        f: a path, or an open binary file.

    Raises:
        TypeError: something of another kind, named by where it stands.
        DataError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    structure = _encoded(obj, "", arrays)
    content = safetensors.numpy.save(arrays, {KEY: json.dumps(structure)})
    if hasattr(f, "write"):
        f.write(content)
        return
    with atomic_write(f) as file:
        file.write(content)


def load(f: Any, map_location: Any = None, weights_only: bool = True) -> Any:
    """What was saved; tensors are tensors that do not require grad. A file of safetensors of another origin
    is a dict of tensors.

    Args:
        f: a path, or an open binary file.
        map_location: the device of the tensors, the CPU if None.
        weights_only: taken for PyTorch's sake: nothing else is ever loaded.

    Raises:
        DataError: no such file, or not one of `save`.
        DeviceError: no such device.
    """
    device = checked_device("cpu" if map_location is None else map_location, "load")
    name = "load" if hasattr(f, "read") else os.fspath(f)
    try:
        if hasattr(f, "read"):
            content = f.read()
        else:
            with open(f, "rb") as file:
                content = file.read()
    except OSError as error:
        raise DataError(f"{name}: not read: {error.strerror or error}") from error
    try:
        arrays = safetensors.numpy.load(content)
        size = int.from_bytes(content[:8], "little")
        structure = json.loads(content[8 : 8 + size]).get("__metadata__", {}).get(KEY)
        tensors = {key: tensor(array, device=device) for key, array in arrays.items()}
        return tensors if structure is None else _decoded(json.loads(structure), tensors)
    except WRONG as error:
        raise DataError(
            f"{name}: not a whole file of td.save ({error}); files of torch.save are read by "
            "tinydl.interop.load_weights"
        ) from error


def _encoded(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """The structure of a value as JSON has it; its arrays go to `arrays`, by their paths."""
    if isinstance(value, (Tensor, np.ndarray)):
        name = path or "tensor"
        array = on_host(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"save: {name}: expected numbers, got dtype {array.dtype}")
        while name in arrays:  # {"a.b": x, "a": {"b": y}}
            name += "'"
        arrays[name] = np.array(array, array.dtype.newbyteorder("="), order="C")
        return {"$tensor": name}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if hasattr(value, "state_dict") and not isinstance(value, Mapping):
        return _encoded(value.state_dict(), path, arrays)
    if isinstance(value, Mapping):
        plain = all(type(key) is str and not key.startswith("$") for key in value)
        pairs = [
            (key, _encoded(v, f"{path}.{key}" if path else str(key), arrays)) for key, v in value.items()
        ]
        if plain:
            return dict(pairs)
        for key in value:
            if key is not None and type(key) not in (bool, int, float, str):
                raise TypeError(f"save: {path or 'keys'}: expected numbers or strings, got {key!r}")
        return {"$pairs": pairs}
    if isinstance(value, (list, tuple)):
        parts = [_encoded(v, f"{path}.{i}" if path else str(i), arrays) for i, v in enumerate(value)]
        return parts if isinstance(value, list) else {"$tuple": parts}
    raise TypeError(
        f"save: {path or 'the thing'}: expected tensors, arrays, numbers, strings, dicts, lists or tuples of "
        f"them, got {type(value).__name__}"
    )


def _decoded(structure: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(structure, list):
        return [_decoded(part, tensors) for part in structure]
    if not isinstance(structure, dict):
        return structure
    if "$tensor" in structure:
        return tensors[structure["$tensor"]]
    if "$tuple" in structure:
        return tuple(_decoded(part, tensors) for part in structure["$tuple"])
    if "$pairs" in structure:
        return {key: _decoded(value, tensors) for key, value in structure["$pairs"]}
    return {key: _decoded(value, tensors) for key, value in structure.items()}
