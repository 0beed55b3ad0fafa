"""The public names against the catalogue and PyTorch; surface.txt has those that PyTorch calls otherwise."""

from __future__ import annotations

import inspect
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from catalogue import ROWS

import tinydl as td
import tinydl.nn.functional as F
from tinydl import ops
from tinydl.engine.core import Primitive

NO_DERIVATIVE = Path(__file__).with_name("no_derivative.txt").read_text(encoding="utf-8").split("\n")
WRITES = {
    *("nn.vector_to_parameters", "nn.update_bn", "nn.linear_to_conv", "nn.conv_to_linear"),
    *("nn.clip_grad_norm_", "nn.clip_grads_with_norm_", "nn.clip_grad_value_", "nn.get_total_norm"),
    *("nn.adaptive_clip_grad_", "nn.centralize_grad_"),
}
"""Utilities that write or copy, and the norm of what is written: no gradient flows through them."""

OUTSIDE = {
    *("get_float32_matmul_precision", "set_float32_matmul_precision"),
    *("save", "load", "get_num_threads", "set_num_threads", "use_deterministic_algorithms"),
    *("inference_mode", "is_grad_enabled", "set_grad_enabled"),
    *("backend", "enable_grad", "no_grad", "manual_seed", "random_from", "remember", "repeat", "record"),
    *(
        "grad",
        "gradcheck",
        "hessian",
        "hvp",
        "jacobian",
        "jacrev",
        "jacfwd",
        "grad_and_value",
        "jvp",
        "vjp",
        "vmap",
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
        for name in dir(module)
        for value in [getattr(module, name)]
        if not name.startswith("_")
        and (
            isinstance(value, Primitive)
            or inspect.isroutine(value)
            or (prefix == "nn." and inspect.isclass(value))
        )
        and getattr(value, "__module__", "tinydl").startswith("tinydl")
    }


def offered() -> list[str]:
    """The public names."""
    init = {
        name
        for name in functions_of(td.nn.init, "nn.init.")
        if found(td, name).__module__ == "tinydl.nn.init"
    }
    rooms = functions_of(td.nn, "nn.") | {f"linalg.{name}" for name in td.linalg.__all__} - {
        "linalg.LinAlgError"
    }
    return sorted((functions_of(td, "") | rooms | init) - OUTSIDE)


LINES = Path(__file__).with_name("surface.txt").read_text(encoding="utf-8").splitlines()
OTHER_NAMES: dict[str, str] = dict(line.split() for line in LINES if not line.startswith("#"))
"""What PyTorch calls a name otherwise, "-" where it has none."""
NAMES = offered()
PAIRS: list[tuple[str, str]] = [(name, OTHER_NAMES.get(name, name)) for name in NAMES]


@pytest.mark.tiny
def test_every_name_of_the_list_is_public_and_another() -> None:
    assert sorted(OTHER_NAMES.keys() - set(NAMES)) == []
    assert [name for name, other in OTHER_NAMES.items() if name == other] == []
    assert len(OTHER_NAMES) == len([line for line in LINES if not line.startswith("#")])
    assert len(NAMES) > 400


@pytest.mark.tiny
def test_every_name_is_in_the_catalogue_or_without_derivative() -> None:
    rows = {row.name.split()[0] for row in ROWS}
    same = {name for name in NAMES for other in rows if found(td, name) is found(td, other)}  # clamp = clip
    rest = set(NAMES) - rows - same - set(NO_DERIVATIVE) - WRITES
    assert sorted(name for name in rest if not name.startswith("nn.init.")) == []


@pytest.mark.tiny
def test_flat_names_are_what_the_families_list() -> None:
    families = [
        m for name, m in sys.modules.items() if name.startswith("tinydl.ops.") and hasattr(m, "__all__")
    ]
    assert len(families) > 20
    listed = [(family, name) for family in families for name in family.__all__]
    assert len({name for _, name in listed}) == len(listed)
    assert [name for family, name in listed if getattr(td, name) is not getattr(family, name)] == []


@pytest.mark.tiny
def test_functional_has_the_names_of_the_list() -> None:
    """`F.` in surface.txt is torch.nn.functional; ours is the same function as in `tinydl`."""
    named = [(name, theirs.removeprefix("F.")) for name, theirs in PAIRS if theirs.startswith("F.")]
    functions = [(name, theirs) for name, theirs in named if not name.startswith("nn.")]
    assert len(functions) > 60
    assert [name for name, theirs in functions if getattr(F, theirs, None) is not found(td, name)] == []


def test_methods_are_those_of_pytorch() -> None:
    """A function is a method where PyTorch's Tensor has it, and no other is."""
    torch = pytest.importorskip("torch")
    first = {
        name: next(iter(inspect.signature(getattr(family, name)).parameters))
        for family in ops.WITH_METHODS
        for name in family.__all__
    }
    expected = {name for name in first if first[name] in ("input", "tensor") and hasattr(torch.Tensor, name)}
    assert {"hypot", "atan2", "broadcast_to"} < expected
    assert expected <= set(ops.METHODS)
    assert [name for name in ops.METHODS if not hasattr(torch.Tensor, name)] == []
    assert [name for name in ops.NO_METHODS if hasattr(torch.Tensor, name)] == []


@pytest.mark.tiny
def test_methods_compute_what_the_functions_do() -> None:
    x, y = td.tensor([3.0, -1.0]), td.tensor([4.0, 2.0])
    assert x.hypot(y).tolist() == td.hypot(x, y).tolist()
    assert x.atan2(y).tolist() == td.atan2(x, other=y).tolist()
    assert x.broadcast_to(2, 2).tolist() == td.broadcast_to(x, (2, 2)).tolist()
