"""Checkpoints: everything that a resumed run needs to give the same bits as one
that never stopped, in one file.

A safetensors file with the arrays under dotted names ("model.conv1.weight", "optimizer.state.0.exp_avg"), and
under the key "tinydl" of its metadata a JSON header:

    format      FORMAT, an integer: a file of another format is refused
    libraries   versions of tinydl, numpy, numba and python that wrote it
    state       the state of each thing by name: a tree of JSON values, with {"$array": name} where an array
                belongs
    values      what else was saved: step, epoch, ...

Nothing in it is code, so a checkpoint from a stranger can be read.

    checkpoint.save(path, model=model, optimizer=optimizer, batches=batches, generators={"noise": g},
    step=100) step = checkpoint.load(path, model=model, optimizer=optimizer, batches=batches,
    generators={"noise": g})["step"]
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import safetensors.numpy
from tinydl_kernels.machine.errors import DtypeError, TinydlError

from ..archives import SAFETENSORS_DTYPES, parsing, reason, safetensors_arrays
from ..devices import constant, on_host
from ..engine.core import Tensor, no_grad
from ..files import DataError, atomic_write
from ..ops.random import default_generator, noise_generator
from ..ops.update import assign
from ..optim.optimizer import Optimizer
from ..version import __version__

FORMAT = 2
ARRAY = "$array"
DAMAGED = "not a whole checkpoint"
NAMED = 20  # differences in a message


class CheckpointError(TinydlError, ValueError):
    """A checkpoint that does not fit what it is loaded into, or a thing that cannot be saved. The message is
    one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. `state` has NumPy arrays where the state of a thing had tensors."""

    state: dict[str, Any]
    values: dict[str, Any]
    libraries: dict[str, str]


def save(path: str | os.PathLike[str], **things: Any) -> None:
    """Write the things to one file, whole or not at all. The default generators go with them, unasked.

    What was written is read back before it takes the place of an older file.

    Args:
        path: the file; its folder must exist.
        things: by name, in any number
            * what has `state_dict()` and `load_state_dict()`: a Module, an Optimizer, a schedule, Batches, a
            Generator (one whose arrays come and go says so by an attribute `state_grows = True`, and judges a
            saved state itself); * a tensor (a Buffer of your own); * a dict or list of such; * anything that
            JSON can say: step=100, epoch=3, extra={"best": 0.93}. Tuples come back as lists, keys as strings.

    Raises:
        CheckpointError: something that is none of these, or would not come back as it is: keys that differ
            only by type (1 and "1"), the key "$array", complex numbers, a list within itself.
        DataError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        header = _header(things, arrays)
        text = json.dumps(header)
        if json.dumps(json.loads(text)) != text:
            raise CheckpointError(f"{path}: expected values that JSON brings back")
    except RecursionError as error:
        raise CheckpointError(f"{path}: expected values of no more than some hundred levels") from error
    except ValueError as error:
        if isinstance(error, TinydlError):
            raise
        raise CheckpointError(f"{path}: expected values that JSON brings back: {reason(error)}") from error
    try:
        content = safetensors.numpy.save(arrays, {"tinydl": text})
    except (UnicodeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: not a name of an array: {reason(error)}") from error
    with atomic_write(path) as file:
        file.write(content)
        file.flush()
        _check_written(path, file.name, arrays, text)


def _header(things: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The JSON header for the things; their arrays go into `arrays`."""
    stateful, values = _sorted(things)
    return {
        "format": FORMAT,
        "libraries": {
            "tinydl": __version__,
            **{name: metadata.version(name) for name in ("numpy", "numba")},
            "python": platform.python_version(),
        },
        "state": {name: _packed(_state(thing), name, arrays) for name, thing in stateful.items()},
        "values": {name: _packed(value, name, arrays) for name, value in values.items()},
    }


def _check_written(
    path: str | os.PathLike[str], written: str, arrays: dict[str, np.ndarray], text: str
) -> None:
    """The names, shapes, dtypes and header in a file that was just written, against what should be there."""
    with parsing(path, "not written: what was written cannot be read"):
        with safetensors.safe_open(written, "numpy") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            got = {
                name: (tuple(part.get_shape()), SAFETENSORS_DTYPES.get(part.get_dtype()))
                for name, part in found.items()
            }
            metadata = (file.metadata() or {}).get("tinydl")
        expected = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        if got != expected or metadata != text:
            raise CheckpointError(f"{path}: not written: the file does not hold what was saved")


def load(path: str | os.PathLike[str], **things: Any) -> dict[str, Any]:
    """Bring the things into the state that was saved under their names, in place; recorded steps stay valid.

    The default generators, too, go on where they were. Nothing changes unless everything fits.

    Returns:
        The values that were saved beside them: {"step": 100, ...}.

    Raises:
        CheckpointError: another format; names, shapes or dtypes that are missing, unexpected or different;
            a state that a thing refuses.
        DataError: no such file, or not a whole one.
    """
    saved = read(path)
    stateful, rest = _sorted(things)
    for name, thing in rest.items():
        if thing != {} and thing != []:
            raise CheckpointError(
                f"{path}: {name}: expected a tensor or a thing with load_state_dict, got "
                f"{type(thing).__name__}"
            )
    present = {name: _state(thing) for name, thing in stateful.items()}
    expected = {name: _begun(thing, present[name], saved.state.get(name)) for name, thing in stateful.items()}
    wrong = list(_differences("", expected, saved.state))
    if wrong:
        more = f"; and {len(wrong) - NAMED} more" * (len(wrong) > NAMED)
        raise CheckpointError(f"{path}: {'; '.join(part[:200] for part in wrong[:NAMED])}{more}")
    before = {name: state_of(thing) for name, thing in stateful.items()}
    try:
        for name, thing in stateful.items():
            _restore(thing, saved.state[name])
    except Exception as error:
        for name, thing in stateful.items():
            _restore(thing, before[name])
        raise CheckpointError(f"{path}: {error}") from error
    return saved.values


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """What is in a file, loaded into nothing: `model.load_state_dict(read(path).state["model"])`
    takes one thing out of many.

    Raises:
        CheckpointError: a file of another format.
        DataError: no such file, or not a whole one.
    """
    try:
        arrays, metadata = safetensors_arrays(path, DAMAGED)
    except DtypeError as error:  # no file of ours
        raise CheckpointError(str(error)) from error
    with parsing(path, DAMAGED):
        header = json.loads(metadata.get("tinydl", "null"))
    if not isinstance(header, dict) or type(header.get("format")) is not int or header["format"] != FORMAT:
        got = (
            f"format {str(header['format'])[:50]}"
            if isinstance(header, dict) and "format" in header
            else "a file without one"
        )
        raise CheckpointError(f"{path}: expected a checkpoint of format {FORMAT}, got {got}")
    for part in ("libraries", "state", "values"):
        if not isinstance(header.get(part), dict):
            raise DataError(f"{path}: {DAMAGED}: {part}: expected an object of JSON")
    with parsing(path, DAMAGED):
        return Checkpoint(
            _unpacked(header["state"], arrays),
            _unpacked(header["values"], arrays),
            {name: str(version) for name, version in header["libraries"].items()},
        )


def state_of(thing: Any) -> Any:
    """A copy of a thing's state, for `restore`: a checkpoint of one thing, in memory."""
    return _map_tree(_state(thing), lambda x: x.copy() if isinstance(x, np.ndarray) else x)


def restore(thing: Any, state: Any) -> None:
    """Bring a thing into the state that `state_of` found, in place; recorded steps stay valid."""
    _restore(thing, state)


class Snapshot:
    """The state of several things, by name or in dicts and lists of such, to come back to.

    snapshot = Snapshot(model=model, optimizer=optimizer)
    ...
    snapshot.restore()

    The default generators are among them, as in `save`.
    """

    def __init__(self, **things: Any) -> None:
        self._things, _ = _sorted(things)
        self._states = {name: state_of(thing) for name, thing in self._things.items()}

    def restore(self) -> None:
        """Bring all of them back; as often as wanted."""
        for name, thing in self._things.items():
            _restore(thing, _map_tree(self._states[name], lambda x: x))


def _sorted(things: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Things with state, by dotted name where they stood in a dict or list, and the values beside them."""
    stateful: dict[str, Any] = {}
    values: dict[str, Any] = {}
    stack = [*things.items(), ("default_generator", default_generator), ("noise_generator", noise_generator)][
        ::-1
    ]
    while stack:
        name, thing = stack.pop()
        inside = (
            thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
        )
        if name in stateful:
            raise CheckpointError(f"{name}: expected one thing of that name, got two")
        if _has_state(thing):
            stateful[name] = thing
        elif any(map(_has_state, _leaves(thing))):
            stack += [(f"{name}.{key}", part) for key, part in inside][::-1]
        else:
            values[name] = thing
    return stateful, values


def _has_state(thing: Any) -> bool:
    return isinstance(thing, Tensor) or hasattr(thing, "load_state_dict")


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, (dict, list)):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _leaves(part)
    else:
        yield x


def _state(thing: Any) -> Any:
    """The state of a thing as a tree of dicts, lists, arrays (views) and JSON values."""
    return _map_tree(
        thing if isinstance(thing, Tensor) else thing.state_dict(),
        lambda x: on_host(x) if isinstance(x, Tensor) else x,
    )


def _restore(thing: Any, state: Any) -> None:
    if isinstance(thing, Tensor):
        with no_grad():
            assign(thing, constant(thing, state))
    else:
        thing.load_state_dict(state)


def _map_tree(x: Any, function: Callable[[Any], Any]) -> Any:
    """Dicts and lists kept, with strings as keys, and `function` of what they hold."""
    if isinstance(x, Mapping):
        return {key: _map_tree(value, function) for key, value in _with_names("state", x).items()}
    if isinstance(x, (list, tuple)):
        return [_map_tree(value, function) for value in x]
    return function(x)


def _packed(x: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A tree ready for JSON; its arrays go into `arrays` under their dotted names."""
    if isinstance(x, Mapping):
        return {key: _packed(value, f"{name}.{key}", arrays) for key, value in _with_names(name, x).items()}
    if isinstance(x, (list, tuple)):
        return [_packed(value, f"{name}.{i}", arrays) for i, value in enumerate(x)]
    if isinstance(x, np.ndarray):
        if x.dtype.name not in SAFETENSORS_DTYPES.values() or isinstance(x, np.ma.MaskedArray):
            got = "a masked array" if isinstance(x, np.ma.MaskedArray) else x.dtype.name
            raise CheckpointError(f"{name}: expected real numbers of 8 to 64 bits, got {got}")
        while name in arrays or name == "__metadata__":  # {"a": {"b": x}, "a.b": y}; the format's own
            name += "'"
        arrays[name] = np.asarray(x, order="C")
        return {ARRAY: name}
    if x is not None and type(x) not in (bool, int, float, str):
        raise CheckpointError(
            f"{name}: expected a thing with state, an array or a JSON value, got {type(x).__name__}"
        )
    return x


def _with_names(where: str, x: Mapping[Any, Any]) -> dict[str, Any]:
    """The mapping with strings as keys."""
    named = {str(key): value for key, value in x.items()}
    if len(named) < len(x) or ARRAY in named:
        wrong = f"{ARRAY!r}, which marks arrays" if ARRAY in named else "two that are the same string"
        raise CheckpointError(f"{where}: expected keys that come back as they are, got {wrong}")
    return named


def _unpacked(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(x, dict):
        if ARRAY not in x:
            return {key: _unpacked(value, arrays) for key, value in x.items()}
        if len(x) > 1 or not isinstance(x[ARRAY], str) or x[ARRAY] not in arrays:
            raise ValueError(f"expected the name of an array in the file, got {str(x)[:50]}")
        return arrays[x[ARRAY]]
    return [_unpacked(value, arrays) for value in x] if isinstance(x, list) else x


def _begun(thing: Any, present: Any, saved: Any) -> Any:
    """The present state, with the saved one of parameters that an optimizer has not begun with, if it makes
    states as it goes; the saved one of a thing that says `state_grows`: which arrays it has depends on how
    far it got.
    """
    if getattr(thing, "state_grows", False) and isinstance(saved, dict):
        return saved
    if not isinstance(thing, Optimizer) or thing.element is not None or not isinstance(saved, dict):
        return present
    return {**present, "state": {**saved.get("state", {}), **present["state"]}}


def _differences(path: str, ours: Any, saved: Any) -> Iterator[str]:
    """What of the saved tree does not fit: things, arrays, shapes, dtypes. JSON values, and which of them
    there are, are for the thing itself to judge.
    """
    if isinstance(ours, dict) and isinstance(saved, dict):
        for what, tree, other in (("missing", ours, saved), ("unexpected", saved, ours)):
            for name in sorted(tree.keys() - other.keys()):
                if not path or any(isinstance(x, np.ndarray) for x in _leaves(tree[name])):
                    yield f"{what} {_joined(path, name)}"
        for name in ours.keys() & saved.keys():
            yield from _differences(_joined(path, name), ours[name], saved[name])
    elif isinstance(ours, list) and isinstance(saved, list):
        for i, (mine, theirs) in enumerate(zip(ours, saved, strict=False)):
            yield from _differences(_joined(path, str(i)), mine, theirs)
    elif _kind(ours) != _kind(saved):
        yield f"{path}: expected {_kind(ours)}, got {_kind(saved)}"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _kind(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.shape} {x.dtype}"
    return f"a {type(x).__name__}" if isinstance(x, (dict, list)) else "a value"
