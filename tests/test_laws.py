"""The laws of the house that a look at its files can hold: imports go one way, files stay short, starting
loads little.
"""

from __future__ import annotations

import ast
import functools
import graphlib
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
    {"version", "files", "rooms", "amp", "backends"},
    {"archives"},
    {"engine"},
    {"devices"},
    {"record", "ops", "debug"},
    {"nn", "functional", "function", "gradcheck", "typed_tensors", "distributions", "linalg"},
    {"decompositions", "func", "cuda"},
    {"autograd", "models", "optim", "data", "metrics"},
    {"regularizers", "utils"},  # an objective counts the steps of optimizers
    {"inspection"},
    {"training", "interop", "viz", "warmup"},
    {"distributed"},
    {"study"},
    {"demo"},
    {"__main__"},
]
"""The rooms and files of the house from the ground up: a module imports from its own room and from layers
before its own, not from its neighbours, but for `BESIDE`. A new room belongs into the first layer after
all that it imports.
"""

BESIDE: dict[tuple[str, str], str] = {
    ("distributions", "linalg"): "covariances are factored",
}
"""(who, whom) within one layer, and why."""

KERNELS = {"machine", "cpu", "cuda", "emulator"}
"""The machinery of tinydl_kernels; everything else there is a family of kernels. Families import machinery,
never the other way.
"""

INWARDS = {
    ("machine", "cpu"): "every call and allocation tells the jobs that are being captured (jobs.py)",
    ("machine", "cuda"): "validate.py runs every backend that there is",
    ("machine", "emulator"): "and so the emulator",
    ("cuda", "emulator"): "launches go to the emulator where it stands for the device",
}
"""Within the machinery the order is machine, cpu, cuda, emulator, each importing from those before it. The
exceptions, and why.
"""

OPTIONAL = {
    *(
        "cupy",
        "cupyx",
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
        "threadpoolctl",  # scikit-learn needs it
        "joblib",
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


def room_of(module: str) -> str | None:
    """The room of a module of the house; None for the face of tinydl and for other packages."""
    package, _, rest = module.partition(".")
    if package == "tinydl":
        return rest.partition(".")[0] or None
    return package if package in PACKAGES else None


def kernel_room_of(module: str) -> str | None:
    """The same within tinydl_kernels; None for its face."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if package == "tinydl_kernels" else None


def layer_of(room: str) -> int | None:
    return next((number for number, names in enumerate(LAYERS) if room in names), None)


@functools.cache
def edges() -> list[tuple[str, str, int]]:
    """(importing module, imported name, line) of each import within the house."""
    return [
        (module_of(package, path), name, line)
        for package, path in FILES
        for name, line, _ in imports(package, path)
        if name.split(".")[0] in PACKAGES
    ]


def test_every_module_has_one_layer() -> None:
    rooms = {room_of(module_of(package, path)) for package, path in FILES} - {None}
    assert sorted(room for room in rooms if layer_of(room) is None) == []
    named = [name for names in LAYERS for name in names]
    assert sorted(set(named) - rooms - {"tinydl_kernels"}) == [], "gone"
    assert len(set(named)) == len(named)


@pytest.mark.tiny
def test_imports_go_one_way() -> None:
    wrong, beside = [], set()
    for here, name, line in edges():
        who, whom = room_of(here), room_of(name)
        if who is None or who == whom:
            continue  # the face of tinydl names them all
        if whom is None:
            wrong.append(f"{here}:{line} imports the face, {name}")
        elif (who, whom) in BESIDE:
            beside.add((who, whom))
        elif layer_of(whom) >= layer_of(who):
            wrong.append(f"{here}:{line} imports {name}")
    assert wrong == []
    assert sorted(BESIDE.keys() - beside) == [], "no longer needed"


@pytest.mark.tiny
def test_families_of_kernels_import_machinery_and_never_the_other_way() -> None:
    order, wrong, inwards = ("machine", "cpu", "cuda", "emulator"), [], set()
    for here, name, line in edges():
        who, whom = kernel_room_of(here), kernel_room_of(name)
        if who == whom or who not in KERNELS:
            continue
        if whom not in KERNELS:
            wrong.append(f"{here}:{line} imports {name}")
        elif order.index(whom) > order.index(who):
            inwards.add((who, whom))
    assert wrong == []
    assert sorted(inwards) == sorted(INWARDS)


@pytest.mark.tiny
def test_families_of_kernels_do_not_go_in_circles() -> None:
    needs: dict[str, set[str]] = {}
    for here, name, _ in edges():
        who, whom = kernel_room_of(here), kernel_room_of(name)
        if None not in (who, whom) and who != whom and not {who, whom} & KERNELS:
            needs.setdefault(who, set()).add(whom)
    graphlib.TopologicalSorter(needs).prepare()


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


HEAVY = {
    "numba",
    "llvmlite",
    "scipy",
    "matplotlib",
    "cupy",
    "torch",
    "argparse",
    "json",
    "unittest",
    "subprocess",
}
ROOMS = set(tinydl._ROOMS)


def test_the_import_is_light() -> None:
    """`import tinydl` loads neither what compiles, plots or parses, nor the rooms above the calculus; these
    come when they are first named.
    """
    code = f"""
import sys, numpy
before = set(sys.modules)
import tinydl
new = set(sys.modules) - before
print(sorted(new & {HEAVY!r}), sorted(new & {{f"tinydl.{{room}}" for room in {ROOMS!r}}}))
for room in {ROOMS - {"viz"}!r}:
    getattr(tinydl, room)
print(tinydl.optim.Adam.__name__, tinydl.nn.Linear.__name__, tinydl.hessian.__name__)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[] []", "Adam Linear hessian"], done.stderr
