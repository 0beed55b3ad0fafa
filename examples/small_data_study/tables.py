"""The cells of the study: tables a to g as data. `TABLES` lists them in the order of their cost."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from small_data_study.mechanism import example, mechanism, step_function
from small_data_study.training import Cell, classify, load
from tinydl.study import Outcome, Table

HERE = Path(__file__).parent
LAMBDAS = json.loads((HERE / "lambdas.json").read_text(encoding="utf-8"))
CHOSEN = HERE / "chosen.json"
KINDS = {"classify": classify, "example": example, "mechanism": mechanism, "step": step_function}

NEW = range(10, 20)  # draws that no earlier run has scored
OLD = range(10)  # the authors'
WEIGHT_DECAY = 5e-4

AUTHORS: Cell = {  # protocol of Varga, Csiszárik and Zombori
    "net": "LeNet, dropout",
    "size": 2_000,
    "batch": 50,
    "steps": 10_000,
    "optimizer": "Adam",
    "lr": 1e-3,
    "decay": WEIGHT_DECAY,
    "normalize": "own",
    "penalties": {},
}


def run(cell: Cell, data: str | None = None) -> Outcome:
    """A run of a cell, whatever its kind, on the digits of the folder `data`."""
    digits = load(cell.get("data", "mnist"), data)
    return KINDS[cell.get("kind", "classify")](cell, digits)


# ---- a, b: the authors' tables


def table_a() -> dict[str, Cell]:
    cells = {}
    for part in ("table 1", "table 2"):
        for row, columns in LAMBDAS[part].items():
            between, _, decayed = row.partition(", ")
            for name, penalties in columns.items():
                cells[f"{row} / {name}"] = AUTHORS | {
                    "net": f"LeNet, {between}",
                    "decay": WEIGHT_DECAY if decayed else 0.0,
                    "penalties": penalties,
                }
    return cells


def table_b() -> dict[str, Cell]:
    curve, cells = LAMBDAS["curve"], {}
    for i, size in enumerate(curve["sizes"]):
        for name in ("none", "EP", "SpectReg", "DataGrad"):
            penalties = {} if name == "none" else {name: curve[name][i]}
            cells[f"{size} / {name}"] = AUTHORS | {"size": size, "penalties": penalties}
    for name, penalties in LAMBDAS["methods at 2000"].items():
        cells.setdefault(f"2000 / {name}", AUTHORS | {"penalties": penalties})
    for name, penalties in LAMBDAS["full MNIST"].items():
        cells[f"50000 / {name}"] = AUTHORS | {"size": 50_000, "penalties": penalties}
    return cells


# ---- e: Hoffman, Roberts and Yaida


def table_e() -> dict[str, Cell]:
    base = {
        "kind": "example",
        "net": "MLP",
        "size": None,  # all 60,000
        "batch": 64,
        "whole batches": False,
        "steps": 5 * 938,
        "optimizer": "SGD",
        "lr": 0.01,
        "momentum": 0.9,
        "falls": False,
        "decay": WEIGHT_DECAY,
        "decay by": "all",
        "normalize": "MNIST",
    }
    return {name: base | {"penalties": own} for name, own in LAMBDAS["Hoffman's example"].items()}


def table_e_samples() -> dict[str, Cell]:
    """The paper's own schedule is not known here: 1,000 steps of at most 100 digits, at the best of three
    rates for one network without a penalty (10 samples a class, draw 0, images after training image 50,000).
    """
    cells = {}
    for each in (1, 3, 10, 30):
        for name, penalties in LAMBDAS["samples a class"].items():
            cells[f"{each} / {name}"] = {
                "net": f"LeNet, {'dropout' if name in ('dropout', 'all') else 'none'}",
                "size": 10 * each,
                "balanced": True,
                "batch": 100,
                "steps": 1_000,
                "optimizer": "SGD",
                "lr": 0.01,
                "momentum": 0.9,
                "decay": WEIGHT_DECAY if name in ("L2", "all") else 0.0,
                "penalties": penalties,
            }
    return cells


# ---- c: layer-wise decay

DECAYS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def trials_c() -> dict[str, Cell]:
    """The same nine values of the last layer's λ for one λ, measured ratios and predicted ones."""
    cells = {}
    for net, lr in (("LeNet, none", 0.1), ("deep", 0.05)):
        for size in (500, 1_000, 2_000):
            for how in ("matrices", "measured", "predicted"):
                for decay in DECAYS:
                    group = f"{net}, {size}, {how}"
                    cells[f"{group} / {decay:g}"] = {
                        "group": group,
                        "trial": f"{decay:g}",
                        "net": net,
                        "size": size,
                        "balanced": True,
                        "batch": 50,
                        "steps": 3_000,
                        "optimizer": "SGD",
                        "lr": lr,
                        "decay": decay,
                        "decay by": how,
                        "penalties": {},
                    }
    return cells


# ---- d: adversarial features

SIZES_D = (200, 500, 1_000, 2_000, 5_000)
FIXED_AUGMENTATION = {"shift": 2, "degrees": 15, "scale": 0.1}


def trials_d() -> dict[str, Cell]:
    """Six trials for each of four ways: weight decay alone, the strength of augmentation, eps and xi."""
    base = AUTHORS | {"normalize": "train", "balanced": True, "steps": 3_000}
    adversaries = [(eps, xi) for eps in (0.1, 0.2, 0.4) for xi in (0.1, 1.0)]
    ways: dict[str, dict[str, Cell]] = {
        "none": {f"{d:g}": {"decay": d} for d in (0.0, 1e-4, 5e-4, 2e-3, 5e-3, 1e-2)},
        "augmentation": {
            f"{s:g}": {"augment": {name: s * most for name, most in FIXED_AUGMENTATION.items()}}
            for s in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
        },
        "AFG": {f"{eps:g}, {xi:g}": {"penalties": {"AFG": [eps, xi]}} for eps, xi in adversaries},
        "augmentation + AFG": {
            f"{eps:g}, {xi:g}": {"penalties": {"AFG": [eps, xi]}, "augment": FIXED_AUGMENTATION}
            for eps, xi in adversaries
        },
    }
    cells = {}
    for size in SIZES_D:
        for way, trials in ways.items():
            for trial, own in trials.items():
                group = f"{size}, {way}"
                cells[f"{group} / {trial}"] = base | {"group": group, "trial": trial, "size": size} | own
    return cells


# ---- f: the best recipe for few digits

SIZES_F = {10: 1_500, 100: 2_000, 1_000: 3_000, 2_000: 3_200}  # steps
STRONG = {"degrees": 15, "scale": 0.15, "shear": 8.5, "shift": 2, "elastic": 28.0}


def recipe_f(size: int) -> Cell:
    return {
        "net": "cnn5" if size >= 2_000 else "cnn5s",
        "size": size,
        "balanced": True,
        "batch": 50,
        "steps": SIZES_F[size],
        "optimizer": "AdamW",
        "lr": 2e-3,
        "decay": 0.0,
        "smoothing": 0.1,
        "ema": 0.995,
        "views": True,
        "penalties": {},
    }


def trials_f() -> dict[str, Cell]:
    """Three trials for each of three ways at each size."""
    ways: dict[str, dict[str, Cell]] = {
        "plain": {f"decay {d:g}": {"decay": d} for d in (0.0, 0.01, 0.1)},
        "augmentation": {
            f"{s:g}": {"augment": {name: s * most for name, most in STRONG.items()}} for s in (0.7, 1.0, 1.3)
        },
        "augmentation + DataGrad": {
            f"{weight:g}": {"augment": STRONG, "penalties": {"DataGrad": weight}} for weight in (0.3, 2, 10)
        },
    }
    cells = {}
    for size in SIZES_F:
        for way, trials in ways.items():
            for trial, own in trials.items():
                group = f"{size}, {way}"
                cells[f"{group} / {trial}"] = recipe_f(size) | {"group": group, "trial": trial} | own
    return cells


def _fixed(trials: Mapping[str, Cell], sizes: Sequence[int], chosen: Sequence[str]) -> dict[str, Cell]:
    """Of trials by "<group> / <trial>": the same trial at every size, made before and without tuning, since
    10,000 labels to tune on are not few digits.
    """
    found = {}
    for name, cell in trials.items():
        group, _, trial = name.partition(" / ")
        way = group.partition(", ")[2] if group[0].isdigit() else group.rpartition(", ")[2]
        if cell["size"] in sizes and f"{way} / {trial}" in chosen:
            found[f"{group}, fixed"] = {key: value for key, value in cell.items() if key != "group"}
    return found


def fixed_c() -> dict[str, Cell]:
    return _fixed(trials_c(), (500,), [f"{how} / 0.01" for how in ("matrices", "measured", "predicted")])


def fixed_d() -> dict[str, Cell]:
    same = ["none / 0.0005", "augmentation / 1", "AFG / 0.2, 0.1", "augmentation + AFG / 0.2, 0.1"]
    return _fixed(trials_d(), (200, 500), same)


def fixed_f() -> dict[str, Cell]:
    return _fixed(trials_f(), tuple(SIZES_F), ["augmentation / 1", "augmentation + DataGrad / 2"])


# ---- g: what the penalties do


def table_g() -> dict[str, Cell]:
    base = AUTHORS | {"kind": "mechanism", "normalize": "train", "decay": 0.0}
    return {
        "none": base,
        "weight decay 5e-4": base | {"decay": 5e-4},
        "weight decay 2e-3": base | {"decay": 2e-3},
        "weight decay 5e-3": base | {"decay": 5e-3},
        "EP .01": base | {"penalties": {"EP": 0.01}},
        "SpectReg .03": base | {"penalties": {"SpectReg": 0.03}},
        "DataGrad 20": base | {"penalties": {"DataGrad": 20}},
    }


def table_g_step() -> dict[str, Cell]:
    base = {"kind": "step", "steps": 2_000, "weight": 0.0, "smoothing": 0.0, "penalty": "none"}
    return {
        "none": base,
        "SpectReg .003": base | {"penalty": "SpectReg", "weight": 0.003},
        "DataGrad 1": base | {"penalty": "DataGrad", "weight": 1.0},
        "smoothing .1": base | {"smoothing": 0.1},
        "smoothing .1, DataGrad 1": base | {"penalty": "DataGrad", "weight": 1.0, "smoothing": 0.1},
    }


# ---- All of them


def winners(name: str, trials: Mapping[str, Cell], guess: bool) -> dict[str, Cell]:
    """The cells that trials have chosen, of a committed file; none before, or the first trials as a guess."""
    chosen: Mapping[str, Any] = json.loads(CHOSEN.read_text(encoding="utf-8")) if CHOSEN.exists() else {}
    if name in chosen:
        return dict(chosen[name])
    first: dict[str, Cell] = {}
    for cell in trials.values() if guess else ():
        first.setdefault(cell["group"], {key: value for key, value in cell.items() if key != "group"})
    return first


def voters(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """Four more networks of each draw of f, for a vote of five."""
    return {
        f"{name}, member {member}": {**cell, "member": member}
        for name, cell in cells.items()
        for member in (1, 2, 3, 4)
    }


def tables(guess: bool = False) -> list[Table]:
    """All tables. c, d and f are empty until their trials have chosen, so that nothing of them is scored
    before; with `guess`, for a quick run or their cost, the first trials stand in the winners' places.
    """
    finals = {}
    for name, trials, fixed in (("c", trials_c, fixed_c), ("d", trials_d, fixed_d), ("f", trials_f, fixed_f)):
        chosen = winners(name, trials(), guess)
        finals[name] = chosen | fixed() if chosen else {}
    return [
        Table("g-step", table_g_step(), range(5)),
        Table("e", table_e(), range(1, 11)),
        Table("a", table_a(), OLD),
        Table("g", table_g(), range(5)),
        Table("e-samples", table_e_samples(), NEW),
        Table("b", table_b(), OLD),
        Table("c-trials", trials_c(), range(3)),
        Table("c", finals["c"], NEW),
        Table("d-trials", trials_d(), range(1)),
        Table("d", finals["d"], range(10, 15)),
        Table("f-trials", trials_f(), range(1)),
        Table("f", finals["f"], NEW),
        Table("f-vote", voters(finals["f"]), range(10, 13)),
    ]


QUICK: Cell = {"steps": 3, "predict": 40}


def quick(table: Table) -> Table:
    """One cell of each kind of work (sizes and weights apart): three steps, few digits, one seed."""

    def small(cell: Mapping[str, Any]) -> Cell:
        size = cell.get("size", 0)
        return {**cell, **QUICK, "size": 200 if size is None else min(size, 100)}

    first: dict[str, str] = {}
    for name, cell in table.cells.items():
        first.setdefault(signature({**cell, "size": 0, "steps": 0}), name)
    cells = {name: small(table.cells[name]) for name in first.values()}
    return Table(table.name, cells, table.seeds[:1])


def signature(cell: Mapping[str, Any]) -> str:
    """Cells that do the same work: those that differ in numbers alone which change none of it."""
    idle = ("group", "trial", "lr", "decay", "member", "weight")
    same = {name: value for name, value in cell.items() if name not in idle}
    for name in ("penalties", "augment"):
        same[name] = sorted(same.get(name, {}))
    return json.dumps(same, sort_keys=True)


def runner(data: str | None) -> Any:
    """`run` with its folder, for other processes too."""
    return functools.partial(run, data=data)
