"""The same code with PyTorch in tinydl's place: so a row of the catalogue is a comparison too.

A function of the tests that says `td.conv2d` or `nn.Linear` finds the counterpart of that name, as
tests/surface.txt has it. Functions and classes of tinydl that it holds are replaced likewise.
"""

from __future__ import annotations

import functools
import inspect
import types
from functools import cache
from pathlib import Path
from typing import Any

from catalogue.layers import LayerCall
from test_surface import NAMES, OTHER_NAMES, found

import tinydl as td
from tinydl import nn

TESTS = str(Path(__file__).parent)


class Names:
    """Attributes are PyTorch's counterparts of tinydl's names below a prefix."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        return counterpart(self._prefix + name)


@cache
def counterpart(name: str) -> Any:
    """PyTorch's of a public name, of a module or of another attribute that both have."""
    import torch

    if name == "nn":
        return Names("nn.")
    other = OTHER_NAMES.get(name, name)
    value = found(torch.nn.functional if other.startswith("F.") else torch, other.removeprefix("F."))
    if value is None:
        raise AttributeError(f"PyTorch has no counterpart of {name}")
    return value


@cache
def _names() -> dict[int, str]:
    return {id(found(td, name)): name for name in reversed(NAMES)}


def twin(value: Any) -> Any:
    """`value` with PyTorch in tinydl's place; itself where it has nothing to do with tinydl."""
    if value is td:
        return Names()
    if value is nn:
        return Names("nn.")
    if id(value) in _names():
        return counterpart(_names()[id(value)])
    if isinstance(value, LayerCall):
        return _twin_of_layer(value)
    if isinstance(value, functools.partial):
        keywords = {key: twin(x) for key, x in value.keywords.items()}
        return functools.partial(twin(value.func), *map(twin, value.args), **keywords)
    if inspect.isfunction(value) and value.__code__.co_filename.startswith(TESTS):
        return _twin_of_function(value)
    return value


def _twin_of_function(function: types.FunctionType) -> types.FunctionType:
    code, own = function.__code__, function.__globals__
    cells = tuple(types.CellType(twin(cell.cell_contents)) for cell in function.__closure__ or ())
    defaults = tuple(map(twin, function.__defaults__ or ()))
    names = {name: own[name] for name in _names_in(code) if name in own and own[name] is not function}
    twins = {**own, **{name: twin(x) for name, x in names.items()}}
    made = types.FunctionType(code, twins, function.__name__, defaults, cells)
    made.__kwdefaults__ = {key: twin(x) for key, x in (function.__kwdefaults__ or {}).items()}
    return made


def _names_in(code: types.CodeType) -> set[str]:
    """Of the code and of the functions and classes that it makes."""
    inner = [_names_in(c) for c in code.co_consts if inspect.iscode(c)]
    return set(code.co_names).union(*inner)


def _twin_of_layer(call: LayerCall) -> Any:
    import torch

    module = twin(call.make)(torch.float64).double().train(call.training)

    def run(*given: Any) -> Any:
        names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
        state = dict(zip(names, given[call.inputs :], strict=False))
        return torch.func.functional_call(module, state, given[: call.inputs])

    return run
