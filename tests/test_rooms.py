"""Every room has its table: what a package offers has a row of tests/catalogue/, and every row is of that."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tinydl.rooms import collect


class Room(NamedTuple):
    table: str  # the module of tests/catalogue/, with a list ROWS (and FED) of rows with a name
    frame: tuple[str, ...] = ()  # public without a row; a module's name stands for all that it offers
    base: str = ""  # subclasses of it have rows; other names have tests of their own


ROOMS = {
    "models": Room("models", ("GoogLeNetOutputs", "HarmonicConv2d", "Inception")),
    "metrics": Room("metrics", ("Metric", "UndefinedMetricWarning")),
    "data.datasets": Room(
        "datasets", ("Audit", "Dataset", "Findings", "ImageSet", "random_split", "read_idx")
    ),
    "data.transforms": Room("transforms", ("contract",)),
    "optim": Room(
        "optimizers",
        (
            *("optimizer", "groups", "lr_scheduler", "lbfgs", "gradient_descent"),
            *("accumulation", "gradient_noise", "lookahead", "sam"),
        ),
    ),
    "optim.lr_scheduler": Room("schedules", ("LRScheduler",)),
    "training.callbacks": Room("callbacks", ("Callback", "DivergedError")),
    "regularizers": Room("penalties", ("contract", "objective", "passes"), "Penalty"),
}
"""A room whose table is not there yet is not looked at."""

TABLES = [room for room, (table, *_) in ROOMS.items() if importlib.util.find_spec(f"catalogue.{table}")]
every_table = pytest.mark.parametrize("room", TABLES)


def package(room: str) -> types.ModuleType:
    return importlib.import_module(f"tinydl.{room}")


def listed(room: str) -> list[Any]:
    """The rows of a room's table, and of the files in which it goes on: `penalties_of_weights` after
    `penalties`.
    """
    import catalogue

    name = ROOMS[room].table
    files = [found.name for found in pkgutil.iter_modules(catalogue.__path__)]
    tables = [
        importlib.import_module(f"catalogue.{f}") for f in files if f == name or f.startswith(f"{name}_of_")
    ]
    found = [row for table in tables for kind in ("ROWS", "FED") for row in getattr(table, kind, ())]
    return list({id(row): row for row in found}.values())


def rows(room: str) -> list[str]:
    """The names that a room's rows are of: the first word of the row's, and a second form of the same."""
    named = []
    for row in listed(room):
        named.append(re.match(r"\w+", row.name)[0])  # type: ignore[index]
        named += [row.metric] if getattr(row, "metric", None) else []
    return named


def frame(room: str) -> set[str]:
    names = set()
    if base := ROOMS[room].base:
        offered = vars(package(room))
        names = {
            name
            for name in package(room).__all__
            if not (isinstance(offered[name], type) and issubclass(offered[name], offered[base]))
        }
    for name in ROOMS[room].frame:
        module = f"tinydl.{room}.{name}"
        names |= set(importlib.import_module(module).__all__) if importlib.util.find_spec(module) else {name}
    return names


@every_table
def test_what_a_room_offers_has_a_row(room: str) -> None:
    assert sorted(set(package(room).__all__) - set(rows(room)) - frame(room)) == []


@every_table
def test_a_row_is_of_what_its_room_offers(room: str) -> None:
    assert sorted(set(rows(room)) - set(package(room).__all__)) == []
    assert sorted(set(rows(room)) & frame(room)) == []
    names = [(type(row), row.name) for row in listed(room)]
    assert len(set(names)) == len(names)


@every_table
def test_a_room_offers_what_its_files_name(room: str) -> None:
    """`__all__` is that of the package's modules, each name once, and each is there."""
    own = package(room)
    files = [found.name for found in pkgutil.iter_modules(own.__path__) if not found.ispkg]
    modules = [importlib.import_module(f"{own.__name__}.{name}") for name in files]
    named = [name for module in modules for name in getattr(module, "__all__", ())]
    assert sorted(set(named) - set(own.__all__)) == []
    assert len(set(own.__all__)) == len(own.__all__)
    assert [name for name in own.__all__ if not hasattr(own, name)] == []


def test_every_room_with_a_table_is_listed() -> None:
    """The other tables are of functions and layers (test_catalogue.py)."""
    import catalogue

    families = {family.__name__.rpartition(".")[2] for family in catalogue.FAMILIES}
    with_rows = {
        found.name
        for found in pkgutil.iter_modules(catalogue.__path__)
        if re.search(r"^ROWS\b", Path(found.module_finder.path, f"{found.name}.py").read_text(), re.MULTILINE)  # type: ignore[union-attr]
    }
    tables = {room.table for room in ROOMS.values()}
    assert sorted(name for name in with_rows - families if name.partition("_of_")[0] not in tables) == []


# How a room gathers its files
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `attic` with two files, a helper and a room of its own."""
    files = {
        "__init__.py": "from tinydl.rooms import collect\n__all__ = collect(__name__)\n",
        "b.py": "__all__ = ['f', 'b']\ndef f(): return 1\ndef b(): return 2\nhidden = 3\n",
        "a.py": "__all__ = ['A']\nclass A: ...\n",
        "helper.py": "x = 1\n",
        "room/__init__.py": "__all__ = ['other']\nother = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "attic" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "attic"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "attic"


def test_a_room_collects_its_files(house: Path) -> None:
    attic = importlib.import_module("attic")
    assert attic.__all__ == ["A", "f", "b"]
    assert (attic.f(), attic.b()) == (1, 2)
    assert not hasattr(attic, "hidden")
    assert "attic.room" not in sys.modules
    assert collect("attic") == attic.__all__


def test_one_name_from_two_files_is_refused(house: Path) -> None:
    (house / "c.py").write_text("__all__ = ['f']\nf = 3\n")
    with pytest.raises(ImportError, match=r"attic: f is in attic\.b and in attic\.c"):
        importlib.import_module("attic")
