"""A model and its numbers as a file; numbers beyond what protobuf holds lie beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ...files import atomic_write
from .writer import NUMBERS, SMALL

LARGEST = (1 << 31) - (1 << 20)
"""Bytes of numbers that a file holds."""


def store(model: Any, stored: dict[str, np.ndarray], path: Path) -> None:
    """Write a model and its initializers, checked.

    What lies beside has its digest in its name and is written first, so that at any moment `path` is the old
    model with the old numbers or the new one with the new; then the old ones go.
    """
    from onnx import checker, helper, numpy_helper

    graph, total = model.graph, sum(x.nbytes for x in stored.values())
    beside = {name: x for name, x in stored.items() if total > LARGEST and x.nbytes > SMALL}
    for name, x in stored.items():
        if name not in beside:
            graph.initializer.append(numpy_helper.from_array(np.asarray(x, order="C"), name))
    inputs = len(graph.input)
    for name, x in beside.items():  # inputs for the checker, which would look for the numbers
        graph.input.append(helper.make_tensor_value_info(name, NUMBERS[x.dtype], x.shape))
    checker.check_model(model, full_check=True)
    del graph.input[inputs:]
    place = _write_beside(graph, beside, path) if beside else None
    with atomic_write(path) as file:
        file.write(model.SerializeToString())
    for old in path.parent.glob(f"{path.name}.{'[0-9a-f]' * 16}.data"):
        if old != place:
            old.unlink()


def _write_beside(graph: Any, arrays: dict[str, np.ndarray], path: Path) -> Path:
    from onnx import TensorProto

    digest = hashlib.blake2b(digest_size=8)
    for x in arrays.values():
        digest.update(_bytes(x))
    place = path.with_name(f"{path.name}.{digest.hexdigest()}.data")
    with atomic_write(place) as file:
        for name, x in arrays.items():
            proto = graph.initializer.add(name=name, data_type=NUMBERS[x.dtype], dims=x.shape)
            proto.data_location = TensorProto.EXTERNAL
            for key, value in (("location", place.name), ("offset", file.tell()), ("length", x.nbytes)):
                proto.external_data.add(key=key, value=str(value))
            file.write(_bytes(x))
    return place


def _bytes(x: np.ndarray) -> memoryview:
    return np.asarray(x, x.dtype.newbyteorder("<"), order="C").data
