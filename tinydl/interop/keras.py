"""Weights of Keras in PyTorch's names and layouts: from `.weights.h5` files (Keras 3), `.h5` files (Keras 2)
and arrays by Keras's names (`conv2d_1/kernel`), as TensorFlow-Lite's are mostly written out.

    model.load_state_dict(from_keras(load_weights("net.weights.h5"), {"dense": (7, 7, 64)}))
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..archives import allowance, check_regular, parsing
from ..files import DataError, one_line

COMPLAINT = "not a whole .h5 file of Keras"
MANY = 100_000  # groups and arrays of a file

VARIABLES = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
    "group_normalization": ("gamma", "beta"),
    "embedding": ("embeddings",),
    "p_re_lu": ("alpha",),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "dense", "conv1d_transpose", "conv2d_transpose"),
                    ("kernel", "bias")),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
}  # fmt: skip
"""Keras 3 numbers the variables of a layer: what they are, by the layer's class in the name of its group."""

KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    **{name: name for name in ("gamma", "beta")},
}
"""Names of variables in files of Keras 1, as its applications' were published, -> later ones. They follow the
layer's name there and may be numbered: block1_conv1_W_1:0. running_std holds variances.
"""

PARAMETERS = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "pointwise_kernel": "weight",
    "embeddings": "weight",
    "alpha": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Keras's names of variables -> PyTorch's."""


def keras_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The variables of a file by Keras's names, `layer/kernel`, layouts untouched; those of optimizers left
    out.

    Raises:
        ImportError: h5py is not installed.
        DataError: no such file, not a whole one, or one that unpacks to too much; links, external and virtual
            data sets, which could read other files; a Keras 3 layer whose variables are not known.
        DtypeError: variables that are no real numbers.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError('load_weights: .h5 files need h5py: pip install "tinydl[data]"') from error
    check_regular(path)
    with parsing(path, COMPLAINT), h5py.File(path, "r") as file:
        found = _datasets(h5py, path, file)
        if sum(data.nbytes for data in found.values()) > allowance(path):
            raise DataError(f"{path}: not read: it unpacks to more than {allowance(path):,} bytes")
        arrays: dict[str, np.ndarray] = {}
        for place, data in found.items():
            name = _name(path, place, found)
            if name is None:
                continue
            if data.dtype.kind not in "fiub" or data.dtype.itemsize > 8:
                raise DtypeError(f"{path}: expected real numbers, got {data.dtype} for {one_line(name, 200)}")
            if name in arrays:
                raise DataError(f"{path}: {COMPLAINT}: two of the name {one_line(name, 200)}")
            value = np.asarray(data[()])
            arrays[name] = value.astype(value.dtype.newbyteorder("="), copy=False)
    if not arrays:
        raise DataError(f"{path}: {COMPLAINT}: it holds no variables of layers")
    return arrays


def _datasets(h5py: Any, path: Any, file: Any) -> dict[str, Any]:
    """The data sets of a file by their places, in the file's order; links are refused, cycles walked once."""
    found: dict[str, Any] = {}
    seen, stack = set(), [("", file)]
    while stack:
        place, item = stack.pop()
        if item.id in seen:
            continue
        seen.add(item.id)
        if len(seen) > MANY:
            raise DataError(f"{path}: not read: more than {MANY:,} groups and arrays")
        if isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                raise DataError(f"{path}: not read: {one_line(place, 200)} is no array of this file")
            if math.prod(item.chunks or ()) * item.dtype.itemsize > allowance(path):
                raise DataError(f"{path}: not read: {one_line(place, 200)} has too large chunks")
            found[place] = item
        elif isinstance(item, h5py.Group):
            for name in reversed(list(item)):
                if not isinstance(item.get(name, getlink=True), h5py.HardLink):
                    raise DataError(f"{path}: not read: {one_line(f'{place}/{name}', 200)} is a link")
                stack.append((f"{place}/{name}".lstrip("/"), item[name]))
    return found


def _name(path: Any, place: str, found: Mapping[str, Any]) -> str | None:
    """`layer/variable` of a place: whole models of Keras 2 and 3 have model_weights/conv/.../conv/kernel,
    the weights of Keras 1 conv/conv_W:0, of Keras 2 conv/conv/kernel:0, of Keras 3 layers/conv/vars/0. None
    for optimizers and counters.
    """
    parts = place.split("/")
    if parts[0] in ("optimizer", "optimizer_weights", "top_level_model_weights") or "seed_generator" in parts:
        return None
    if parts[0] == "model_weights" or parts[-1].endswith(":0"):
        *layers, variable = parts[parts[0] == "model_weights" :]
        if layers and layers[0] in layers[1:]:
            layers = layers[:1]  # the group's name, and again in that of the variable
        variable = variable.removesuffix(":0")
        own = variable.removeprefix(f"{layers[-1]}_" if layers else "")
        old = re.fullmatch(rf"({'|'.join(KERAS_1)})(_\d+)?", own)
        return "/".join([*layers, KERAS_1[old[1]] if old else variable])
    if len(parts) < 2 or parts[-2] != "vars":
        return None
    layers = [part for part in parts[:-2] if part not in ("layers", "_layer_checkpoint_dependencies")]
    kind = re.sub(r"_\d+$", "", layers[-1]) if layers else ""
    known = VARIABLES.get(kind, ())
    siblings = [other for other in found if other.rpartition("/")[0] == place.rpartition("/")[0]]
    if kind in ("dropout", "normalization"):
        return None
    exact = len(siblings) == len(known) or (known[-1:] == ("bias",) and len(siblings) == len(known) - 1)
    if not parts[-1].isdecimal() or int(parts[-1]) >= len(known) or not exact:
        raise DataError(
            f"{path}: expected layers out of {', '.join(VARIABLES)} with all their variables, "
            f"got {len(siblings)} of {one_line('/'.join(layers), 200)}"
        )
    return "/".join([*layers, known[int(parts[-1])]])


def from_keras(
    arrays: Mapping[str, np.ndarray], flattened: Mapping[str, tuple[int, int, int]] | None = None
) -> dict[str, np.ndarray]:
    """Arrays by Keras's names (`conv2d_1/kernel`) as a state_dict (`conv2d_1.weight`).

    Convolutions are turned from (H, W, in, out) to (out, in, H, W), transposed ones from (H, W, out, in) to
    (in, out, H, W), depthwise ones (those with "depthwise" in their names) from (H, W, in, n) to (in n, 1, H,
    W), dense layers from (in, out) to (out, in). A separable one becomes two, `layer.depthwise` and
    `layer.pointwise`, which has the bias. BatchNorm's eps is 1e-3 there, and 'same' pads at the end first.

    Args:
        arrays: what `load_weights` gives of a .h5 file, or of an .npz file with such names.
        flattened: for a dense layer after Flatten, by its name, the (H, W, C) of the maps that it flattens:
            Keras does it pixel by pixel, PyTorch channel by channel.

    Raises:
        ValueError: a variable that is none of those above, by its name.
        ShapeError: maps of another size than the dense layer takes.
    """
    state: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        layer, _, variable = name.rpartition("/")
        if not layer or variable not in PARAMETERS:
            expected = ", ".join(PARAMETERS)
            raise ValueError(f"from_keras: expected layer/variable of {expected}, got {one_line(name, 200)}")
        place = layer.replace("/", ".")
        if f"{layer}/pointwise_kernel" in arrays:
            place += ".depthwise" if variable == "depthwise_kernel" else ".pointwise"
        if variable == "depthwise_kernel" or (variable == "kernel" and "depthwise" in layer):
            *size, channels, n = _of_axes(layer, array, 4)
            array = array.transpose(2, 3, 0, 1).reshape(channels * n, 1, *size)
        elif variable in ("kernel", "pointwise_kernel"):
            array = _turned(layer, np.asarray(array), (flattened or {}).get(layer))
        state[f"{place}.{PARAMETERS[variable]}"] = np.ascontiguousarray(array)
    return state


def _of_axes(layer: str, array: np.ndarray, axes: int) -> tuple[int, ...]:
    if array.ndim != axes:
        raise ValueError(f"from_keras: {layer}: expected a kernel of {axes} axes, got {array.shape}")
    return array.shape


def _turned(layer: str, kernel: np.ndarray, maps: tuple[int, int, int] | None) -> np.ndarray:
    if kernel.ndim == 2:
        if maps is not None:
            if math.prod(maps) != len(kernel):
                raise ShapeError(f"from_keras: {layer}: expected {len(kernel)} inputs, got maps {maps}")
            kernel = kernel.reshape(*maps, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
        return kernel.T
    if kernel.ndim not in (3, 4, 5):
        raise ValueError(f"from_keras: {layer}: expected a kernel of 2 to 5 axes, got {kernel.shape}")
    return np.moveaxis(kernel, (-1, -2), (0, 1))  # a transposed one has (out, in) where others have (in, out)
