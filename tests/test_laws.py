"""The laws of the house that a look at its files can hold: imports go one way, files
stay short, starting is quick.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tinydl_kernels

import tinydl

PACKAGES = {"tinydl": Path(tinydl.__file__).parent, "tinydl_kernels": Path(tinydl_kernels.__file__).parent}
FILES = [(package, path) for package, root in PACKAGES.items() for path in sorted(root.rglob("*.py"))]

LAYERS = [
    {"tinydl_kernels"},
    {"engine", "record", "version", "debug", "devices", "cuda", "files", "archives"},
    {"ops"},
    {"functional", "gradcheck", "nn"},
    {"models", "optim", "regularizers", "data"},
    {"training", "interop", "viz", "warmup"},
    {"study"},
    {"__main__"},
]
"""A module imports from its own layer and from those above it in this list."""

OPTIONAL = {
    *(
        "cupy",
        "numba",
        "llvmlite",
        "tqdm",
        "matplotlib",
        "mlxtend",
        "h5py",
        "PIL",
        "torch",
        "safetensors",
        "onnx",
        "sklearn",
        "mpi4py",
        "optuna",
    ),
    "tinydl_kernels.emulator",  # needs a C++ compiler
}
"""Packages that a function may import when it needs them."""


def module_of(package: str, path: Path) -> str:
    parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join([package, *(part for part in parts if part != "__init__")])


def imports(package: str, path: Path) -> Iterator[tuple[str, int, bool]]:
    """(absolute module, line, is it inside a function?) of every import that runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    here = module_of(package, path).split(".")
    here = here if path.name == "__init__.py" else here[:-1]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            names = [f"{source}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, node.lineno, id(node) in inside) for name in names)


def layer_of(module: str) -> int | None:
    """The layer of a module of the house; None for the face of tinydl and for other packages."""
    parts = module.split(".")
    name = parts[1] if parts[0] == "tinydl" and len(parts) > 1 else parts[0]
    return next((number for number, names in enumerate(LAYERS) if name in names), None)


def test_every_module_has_a_layer() -> None:
    own = {module_of(package, path) for package, path in FILES} - {"tinydl"}
    assert sorted(module for module in own if layer_of(module) is None) == []


@pytest.mark.tiny
def test_imports_go_one_way() -> None:
    wrong = []
    for package, path in FILES:
        here = module_of(package, path)
        if here == "tinydl":
            continue
        for name, line, _ in imports(package, path):
            house = name.split(".")[0]
            there = layer_of(name) if house in PACKAGES else None
            upwards = name == "tinydl" or (there is not None and there > layer_of(here))
            if upwards or (package == "tinydl_kernels" and house == "tinydl"):
                wrong.append(f"{here}:{line} imports {name}")
    assert wrong == []


@pytest.mark.tiny
def test_only_optional_packages_are_imported_inside_functions() -> None:
    wrong = [
        f"{module_of(package, path)}:{line} imports {name}"
        for package, path in FILES
        for name, line, inside in imports(package, path)
        if inside and name.split(".")[0] not in OPTIONAL and name not in OPTIONAL
    ]
    assert wrong == []


@pytest.mark.tiny
def test_files_are_short() -> None:
    lengths = {
        module_of(package, path): len(path.read_text(encoding="utf-8").splitlines())
        for package, path in FILES
    }
    assert {module: n for module, n in lengths.items() if n > 500} == {}
    assert lengths["tinydl.engine.core"] <= 350


def test_the_import_is_quick_and_without_numba(tmp_path: Path) -> None:
    """Best of five each, in processor time, with compiled bytecode: `import tinydl`
    costs under 0.2 s over NumPy.
    """

    def seconds(modules: str) -> float:
        code = f"import time; t = time.process_time(); import {modules}; print(time.process_time() - t)"
        return min(float(run(code)) for _ in range(5))

    def run(code: str) -> str:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    heavy = ("numba", "scipy", "matplotlib", "cupy")
    assert run(f"import sys, tinydl; print([name for name in {heavy} if name in sys.modules])") == "[]\n"
    assert seconds("numpy, tinydl") - seconds("numpy") < 0.2
