"""The cases of ONNX's own backend tests, and the derivatives of what they import: graphs of others.

    python -m tinydl derivatives --graphs > graphs.md

The first and the second derivative along a direction are held against central differences, in float64.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import tinydl as td
from tinydl.interop.onnx import load
from tinydl.interop.onnx.operators import TABLE, UnsupportedError

from .page import VERDICTS, told

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")  # "real" downloads models


@dataclass(frozen=True)
class Case:
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

    @functools.cached_property
    def kinds(self) -> list[str]:
        """Its operators."""
        return sorted({node.op_type for node in self.proto().graph.node})

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


# ---- Derivatives

ROUGH = {"Ceil", "Floor", "Round", "Sign", "Hardmax", "Cast", "CastLike", "BitCast"}
"""Steps, and changes of precision: no finite difference tells their derivative."""


def smooth() -> list[Case]:
    """The cases with floating inputs and outputs of operators that are there, by name."""
    return [cases()[name] for name in sorted(cases()) if _smooth(cases()[name])]


def _smooth(case: Case) -> bool:
    if (
        case.expanded
        or "edge_cases" in case.name
        or {*case.kinds} & ROUGH
        or not {*case.kinds} <= TABLE.keys()
    ):
        return False
    inputs, expected = next(case.sets())
    return any(map(is_float, inputs)) and any(map(is_float, expected))


def is_float(x: Any) -> bool:
    return getattr(x, "dtype", None) in (np.float32, np.float64)


def verdicts(case: Case) -> tuple[str, str]:
    """What is found of the first and of the second derivative of the outputs by the floating inputs."""
    try:
        model, given = load(case.proto()), next(case.sets())[0]
        _outputs(model, given)
    except UnsupportedError:
        return "-", "-"
    model.double()
    read = {name for node, op in model._calls for i, name in enumerate(node.inputs) if i in op.host}
    names = model.input_names
    moving = [i for i, x in enumerate(given) if is_float(x) and names[i] not in read]
    rng, weights = np.random.default_rng(1), []
    given = [_numbers(x, rng) if i in moving else x for i, x in enumerate(given)]
    if not all(np.isfinite(y.numpy()).all() for y in _outputs(model, given)):
        given = [abs(x) + 0.5 if i in moving else x for i, x in enumerate(given)]

    def function(*tensors: Any) -> Any:
        values = list(given)
        for i, x in zip(moving, tensors, strict=True):
            values[i] = x
        ys = [y for y in _outputs(model, values) if y.requires_grad]
        weights.extend(rng.standard_normal(y.shape) for y in ys[len(weights) :])
        return _dot([td.where(td.abs(y) == np.inf, 0.0, y) for y in ys], weights)  # masks put out -inf

    tensors = [td.tensor(given[i], requires_grad=True) for i in moving]
    try:
        moves = function(*tensors).requires_grad
    except UnsupportedError:  # values without a gradient
        return "refused", "refused"
    return _by_differences(function, tensors, rng) if moves else ("-", "-")


def _numbers(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In float64, moved off corners; new ones where they are rubbish: some cases hold memory that nobody
    wrote.
    """
    fine = np.isfinite(x).all() and np.abs(x).max(initial=0) < 1e6
    return (x if fine else rng.standard_normal(x.shape)) + 1e-2 * rng.standard_normal(x.shape)


def _outputs(model: Any, given: list[Any]) -> list[Any]:
    """Those that are floating."""
    found = model(*given)
    return [y for y in (found if isinstance(found, tuple) else (found,)) if is_float(y)]


def _dot(xs: Sequence[Any], ys: Sequence[Any]) -> Any:
    parts = [td.sum(x * y) for x, y in zip(xs, ys, strict=True) if x is not None]
    return sum(parts, td.tensor(0.0, dtype="float64"))


def _by_differences(function: Any, tensors: list[Any], rng: np.random.Generator) -> tuple[str, str]:
    """Along a direction v: v · ∇f against a difference of f, and v · ∇(v · ∇f) against one of v · ∇f."""
    directions = [rng.standard_normal(x.shape) for x in tensors]

    def slope(step: float, graph: bool = False) -> tuple[Any, Any, list[Any]]:
        at = [
            td.tensor(x.detach().numpy() + step * v, requires_grad=True)
            for x, v in zip(tensors, directions, strict=True)
        ]
        value = function(*at)
        return value, _dot(td.grad(value, at, create_graph=graph, allow_unused=True), directions), at

    h = 1e-6
    (above, up, _), (below, down, _) = slope(h), slope(-h)
    _, first, at = slope(0.0, graph=True)
    grads = td.grad(first, at, allow_unused=True) if first.requires_grad else [None] * len(at)
    pairs = (above - below, first), (up - down, _dot(grads, directions))
    found = [(difference.item() / (2 * h), exact.item()) for difference, exact in pairs]
    one, two = ("yes" if abs(x - y) <= 1e-4 * max(1.0, abs(y)) else "WRONG" for x, y in found)
    return one, two


def page() -> str:
    """Markdown: a line an operator, or several where they are tried together."""
    found: dict[str, dict[Any, Any]] = {}
    for case in smooth():
        own = found.setdefault(" + ".join(case.kinds), {"cases": 0, 1: "-", 2: "-"})
        own["cases"] += 1
        for order, verdict in enumerate(verdicts(case), 1):
            own[order] = max(own[order], verdict, key=VERDICTS.index)
    total = sum(own["cases"] for own in found.values())
    lines = [
        "# Derivatives of imported graphs",
        "",
        f"{total} cases of ONNX's own tests, in float64, orders 1 and 2 against central differences; - where "
        "inputs are read as sizes",
        "or constants.",
        "",
        "| operator | cases | order 1 | order 2 |",
        "|---|---|---|---|",
        *(f"| {kind} | {own['cases']} | {own[1]} | {own[2]} |" for kind, own in sorted(found.items())),
    ]
    return "\n".join([*lines, *told({kind: (own[1], own[2]) for kind, own in found.items()})]) + "\n"
