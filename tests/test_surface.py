"""tests/surface.txt, the list of public names, against the code, the catalogue and PyTorch."""

from __future__ import annotations

import inspect
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from catalogue import ROWS

import tinydl as td
from tinydl.engine.core import Primitive

LINES = Path(__file__).with_name("surface.txt").read_text(encoding="utf-8").splitlines()
PAIRS: list[tuple[str, str]] = [tuple(line.split()) for line in LINES if line and not line.startswith("#")]  # type: ignore[misc]
NAMES = [name for name, _ in PAIRS]

NO_DERIVATIVE = Path(__file__).with_name("no_derivative.txt").read_text(encoding="utf-8").split("\n")
WRITES = {"nn.vector_to_parameters", "nn.update_bn", "nn.linear_to_conv", "nn.conv_to_linear"}
"""Utilities that write or copy: no gradient flows through them."""

OUTSIDE = {
    *("get_float32_matmul_precision", "set_float32_matmul_precision"),
    *("backend", "enable_grad", "no_grad", "manual_seed", "random_from", "remember", "repeat", "record"),
    *(
        "grad",
        "gradcheck",
        "hessian",
        "hvp",
        "jacobian",
        "jvp",
        "vjp",
        "functional_call",
        "concatenate",
        "broadcast_tensors",
    ),
    *("nn.extra_forward", "nn.functional_call", "nn.intercept", "nn.summary", "nn.remove_weight_norm"),
    *("nn.Module", "nn.Parameter", "nn.Buffer"),
    *("nn.init.reset", "nn.init.fans", "nn.init.eye_"),
}
"""The engine and its tools, and second names."""


def found(root: Any, name: str) -> Any:
    return reduce(lambda owner, part: getattr(owner, part, None), name.split("."), root)


def functions_of(module: Any, prefix: str) -> set[str]:
    """Public functions and classes made in tinydl that a module offers."""
    return {
        prefix + name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, Primitive)
            or inspect.isroutine(value)
            or (prefix == "nn." and inspect.isclass(value))
        )
        and getattr(value, "__module__", "tinydl").startswith("tinydl")
    }


@pytest.mark.tiny
def test_every_name_exists_once() -> None:
    assert [name for name in NAMES if found(td, name) is None] == []
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.tiny
def test_every_public_name_is_listed() -> None:
    init = {
        name
        for name in functions_of(td.nn.init, "nn.init.")
        if found(td, name).__module__ == "tinydl.nn.init"
    }
    offered = functions_of(td, "") | functions_of(td.nn, "nn.") | init
    assert sorted(offered - set(NAMES) - OUTSIDE) == []


@pytest.mark.tiny
def test_every_name_is_in_the_catalogue_or_without_derivative() -> None:
    rows = {row.name.split()[0] for row in ROWS}
    same = {name for name in NAMES for other in rows if found(td, name) is found(td, other)}  # clamp = clip
    rest = set(NAMES) - rows - same - set(NO_DERIVATIVE) - WRITES
    assert sorted(name for name in rest if not name.startswith("nn.init.")) == []
