"""The cases of ONNX's own backend tests."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")  # "real" downloads models


class Case(NamedTuple):
    name: str
    model: Any  # a ModelProto, or the path of one
    data: Any  # (inputs, outputs) of each data set, or None: they lie beside the model
    rtol: float
    atol: float

    def proto(self) -> Any:
        return onnx.load(str(self.model)) if isinstance(self.model, Path) else self.model

    def sets(self) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
        if self.data is not None:
            for inputs, outputs in self.data:
                yield list(map(_array, inputs)), list(map(_array, outputs))
            return
        for folder in sorted(self.model.parent.glob("test_data_set_*")):
            yield _stored(folder, "input"), _stored(folder, "output")

    @property
    def expanded(self) -> bool:
        """Is it an operator written out by its definition?"""
        return "_expanded" in self.name


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _stored(folder: Path, what: str) -> list[np.ndarray]:
    arrays = []
    for i in range(len(list(folder.glob(f"{what}_*.pb")))):
        proto = onnx.TensorProto()
        proto.ParseFromString((folder / f"{what}_{i}.pb").read_bytes())
        arrays.append(np.array(numpy_helper.to_array(proto)))
    return arrays


@functools.cache
def cases() -> dict[str, Case]:
    """All of them, by name; the numbers of some overflow while they are made."""
    from onnx.backend.test import loader

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [case for kind in KINDS for case in loader.load_model_tests(kind=kind)]
    return {
        case.name: Case(
            case.name,
            Path(case.model_dir) / "model.onnx" if case.model is None else case.model,
            case.data_sets,
            case.rtol,
            case.atol,
        )
        for case in found
    }
