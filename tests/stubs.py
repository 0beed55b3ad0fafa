"""The stubs for type checkers, made of what is there at run time: `python tests/stubs.py` writes them.

    tinydl/__init__.pyi              the flat names
    tinydl/engine/face.pyi           operators and methods of Tensor
    tinydl/<room>/__init__.pyi       what a room collects from its files

tests/test_stubs.py holds them against the code.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinydl as td
from tinydl import ops
from tinydl.engine.core import Primitive, Tensor
from tinydl.rooms import collect

PACKAGE = Path(td.__file__).parent
ROOMS = (
    *("optim", "optim.lr_scheduler", "optim.swa_utils", "regularizers", "metrics", "models"),
    *("data.datasets", "data.transforms", "training", "training.callbacks", "distributed", "inspection"),
)
HEAD = '"""Made by tests/stubs.py of what is there at run time."""\n\n# mypy: ignore-errors\n'
IMPORTS = """
import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy
"""
GENERIC = {Callable, Iterable, Iterator, Mapping, Sequence, tuple, list, dict, set, type}


OPERATORS_RETURN = {"__float__": "builtins.float", "__int__": "builtins.int", "__round__": "Tensor"} | {
    f"__r{name}__": "Tensor" for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "mod", "floordiv")
}
"""Of operators that are made without annotations."""


def kind(annotation: Any) -> str:
    """The source of an annotation; Any for one that these stubs do not import."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = list(dict.fromkeys(kind(part) for part in typing.get_args(annotation)))
        return "Any" if "Any" in parts else " | ".join(parts)
    base = typing.get_origin(annotation) or annotation
    if base is Tensor:
        return "Tensor"
    if base is np.dtype:
        return "numpy.dtype[Any]"
    if base in (bool, int, float, complex, str, bytes, slice):
        return f"builtins.{base.__name__}"
    if not isinstance(base, type) or base not in GENERIC:
        return "Any"
    if base is Callable:
        return "Callable[..., Any]"
    name = f"builtins.{base.__name__}" if base.__module__ == "builtins" else base.__name__
    arguments = ["..." if part is ... else kind(part) for part in typing.get_args(annotation)]
    return f"{name}[{', '.join(arguments)}]" if arguments else f"{name}[Any, ...]" if base is tuple else name


def evaluated(function: Any, annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, inspect.unwrap(function).__globals__)
    except (NameError, AttributeError):  # known to type checkers only
        return Any


def definition(name: str, function: Any, method: bool = False) -> str:
    """def name(...): ..., with NumPy's `axis` where there is a `dim`."""
    whole = inspect.signature(function)
    primitive = isinstance(function, Primitive)
    parts: list[str] = []
    starred = False
    for i, p in enumerate(whole.parameters.values()):
        annotation = "Any" if primitive else kind(evaluated(function, p.annotation))
        default = "" if p.default is p.empty else " = ..."
        if method and i == 0:
            parts.append("self")
            if p.kind is p.VAR_POSITIONAL:
                starred = True
                parts.append("*others: Any")
            continue
        if p.kind is p.VAR_POSITIONAL:
            starred = True
            parts.append(f"*{p.name}: {annotation}")
        elif p.kind is p.VAR_KEYWORD:
            parts.append(f"**{p.name}: {annotation}")
        else:
            if p.kind is p.KEYWORD_ONLY and not starred:
                starred = True
                parts.append("*")
            parts.append(f"{p.name}: {annotation}{default}")
    dim = whole.parameters.get("dim")
    if dim is not None:
        parts = [f"{part} = ..." if part.startswith("dim:") and "=" not in part else part for part in parts]
        parts = _defaults(parts)
        parts += [*(() if starred else ("*",)), "axis: Any = ..."]
    returned = "Tensor" if primitive else kind(evaluated(function, whole.return_annotation))
    if name in OPERATORS_RETURN:
        returned = OPERATORS_RETURN[name]
    return f"def {name}({', '.join(parts)}) -> {returned}: ..."


def _defaults(parts: list[str]) -> list[str]:
    """Positional parameters after one with a default need one too."""
    done, seen = [], False
    for part in parts:
        if part.startswith("*"):
            seen = False
        elif seen and "=" not in part and part != "self":
            part += " = ..."
        seen = seen or "=" in part
        done.append(part)
    return done


def names_of(module: types.ModuleType) -> list[str]:
    return [name for name in dir(module) if not name.startswith("_")]


def line(package: str, name: str, value: Any) -> str | None:
    """How a stub says what a name is. None for what comes from elsewhere."""
    if isinstance(value, types.ModuleType):
        own = value.__name__ == f"{package}.{name}"
        return f"from . import {name} as {name}" if own else None
    if isinstance(value, np.dtype):
        return f"{name}: numpy.dtype[Any]"
    if isinstance(value, (float, str)):
        return f"{name}: builtins.{type(value).__name__}"
    if isinstance(value, type):
        home = value.__module__
        if home == "numpy":
            return f"from numpy import {value.__name__} as {name}"
        if not home.startswith("tinydl"):
            return None
        home = home.removeprefix(package) if home.startswith(f"{package}.") else home
        return f"from {home} import {value.__name__} as {name}"
    if isinstance(value, Primitive) or inspect.isfunction(value):
        if getattr(value, "__module__", None) in ("typing", "tinydl.rooms"):
            return None
        return definition(name, value)
    return f"{name}: Any" if type(value).__module__.startswith("tinydl") else None


def flat() -> str:
    """Of `tinydl`."""
    rooms = {*td._ROOMS, "ops"}  # other modules are there once something has imported them
    names = [n for n in names_of(td) if n in rooms or not isinstance(getattr(td, n), types.ModuleType)]
    lines = [line("tinydl", name, getattr(td, name)) for name in names]
    return stub([*filter(None, lines), "__version__: builtins.str"])


def room(name: str) -> str:
    """Of one room: its classes and functions as their files have them, with the types that stand there."""
    module = importlib.import_module(f"tinydl.{name}")
    homes = []
    for member in names_of(module):
        value = getattr(module, member)
        if isinstance(value, types.ModuleType):
            listed = hasattr(value, "__path__") or member in module.__all__
            if listed and value.__name__ == f"{module.__name__}.{member}":
                homes.append(f"from . import {member} as {member}")
        elif str(getattr(value, "__module__", "")).startswith("tinydl.") and value is not collect:
            homes.append(f"from {value.__module__} import {value.__name__} as {member}")
    return "\n".join([HEAD, *sorted(homes), "", "__all__: list[str]", ""])


def face() -> str:
    """Of the operators and methods of Tensor that `ops` and `backward` attach."""
    own = vars(Tensor)
    methods = [
        definition(name, function, method=True)
        for name, function in sorted((ops.OPERATORS | ops.METHODS).items())
        if name not in ("__hash__", "__repr__", "__format__", "__deepcopy__")
    ]
    methods.append(definition("backward", own["backward"], method=True))
    lines = ["from ..engine.tensor import Tensor", "", "class Face:", '    """Operators and methods."""', ""]
    lines += ["    __slots__ = ()", "    T: Tensor", "    mT: Tensor", "    data: Any"]
    lines += ["    def __iter__(self) -> Iterator[Tensor]: ..."]  # by __len__ and __getitem__
    return stub([*lines, *(f"    {m}" for m in methods)])


def stub(lines: Iterable[str]) -> str:
    return "\n".join([HEAD + IMPORTS, *lines, ""])


def stubs() -> dict[Path, str]:
    """Each stub's text by its path."""
    made = {PACKAGE / "__init__.pyi": flat(), PACKAGE / "engine" / "face.pyi": face()}
    for name in ROOMS:
        made[PACKAGE.joinpath(*name.split(".")) / "__init__.pyi"] = room(name)
    return made


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(PACKAGE.parent)}\n")
