"""Tables, the JSON file and the picture."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tinydl.study import environment, write_json

from . import penalties
from .cases import FAMILIES, MODELS, PENALTIES, Case
from .turns import Contender, Measurement

NAMES = {
    "tinydl": "tinydl",
    "torch": "PyTorch",
    "torch-compile": "PyTorch compiled",
    "jax": "JAX",
    "numpy": "NumPy",
    "onnxruntime": "ONNX Runtime",
}
COLORS = {  # Okabe & Ito
    "tinydl": "#0072b2",
    "torch": "#009e73",
    "torch-compile": "#56b4e9",
    "jax": "#d55e00",
    "numpy": "#555555",
    "onnxruntime": "#cc79a7",
}
UNITS = {"flop": "GFLOP/s", "byte": "GB/s"}
ROWS = 60
"""Of a column of the picture."""


def title(contender: Contender) -> str:
    return f"{NAMES[contender.framework]} {contender.mode}".strip()


def ours(measured: Measurement) -> list[Contender]:
    return [c for c in measured.contenders if c.framework == "tinydl" and c.values]


def others(measured: Measurement) -> list[Contender]:
    return [c for c in measured.contenders if c.framework != "tinydl" and c.values]


def ratio(other: Contender, own: Contender) -> float:
    """How many times more the other one takes: the median over the rounds in which both had a turn."""
    return statistics.median(b / a for a, b in zip(own.values, other.values, strict=False))


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(v) for v in values]
    return math.exp(statistics.fmean(logarithms))


def amount(value: float, case: Case) -> str:
    """A time or a size, with its unit."""
    units = ((1 << 20, "MiB"),) if case.fresh == "bytes" else ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    scale, unit = next(((s, u) for s, u in units if value >= s), units[-1])
    return f"{value / scale:.3g} {unit}"


def line(measured: Measurement, rates: dict[str, float]) -> str:
    """A case in a few lines: for each of our contenders the ratios to the others, then the times.

    A ratio is that of the medians; in parentheses stands that of the least times.
    """
    case, lines = measured.case, [measured.case.name]
    for own in ours(measured):
        against = [f"{ratio(o, own):5.2f} ({o.least / own.least:.2f})× {title(o)}" for o in others(measured)]
        lines.append(f"  {', '.join([*against, title(own)])}: {taken(own, case)}{share(own, case, rates)}")
    lines += [f"     {title(other)}: {taken(other, case)}" for other in others(measured)]
    return "\n".join([*lines, *(f"  ! {problem}" for problem in measured.problems)])


def taken(contender: Contender, case: Case) -> str:
    values = contender.values
    spread = (
        f"medians {amount(min(values), case)} to {amount(max(values), case)}, least "
        f"{amount(contender.least, case)}"
    )
    return f"{amount(statistics.median(values), case)} ({spread})"


def share(contender: Contender, case: Case, rates: dict[str, float]) -> str:
    """What the median makes of the least work, and which part of the machine's rate that is."""
    if not contender.work:
        return ""
    rate = contender.work / statistics.median(contender.values)
    part = f", {100 * rate / rates[case.unit]:.0f} %" if rates.get(case.unit) else ""
    return f"  {rate / 1e9:.1f} {UNITS[case.unit]}{part}"


def summary(measured: list[Measurement], rates: dict[str, float]) -> str:
    """Geometric means by family, the price of the penalties, and the machine's rates."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for m in measured:
        for own in ours(m):
            for other in others(m):
                pair = (ratio(other, own), other.least / own.least)
                found.setdefault((m.case.family, title(own), title(other)), []).append(pair)
    lines = ["Geometric means of the ratios (in parentheses of those of the least times)"] if found else []
    for (family, who, whom), pairs in found.items():
        medians, least = zip(*pairs, strict=True)
        means = f"{geometric_mean(medians):6.2f} ({geometric_mean(least):.2f})× {whom:14}"
        lines.append(f"{means} {family:8} {who}; {len(pairs)} cases, the worst {min(medians):.2f}×")
    prices = price_of_penalties(measured)
    if prices:
        lines.append("A step with a penalty, in plain steps")
        lines += [f"{price:6.2f}  {name}" for name, price in prices.items()]
    terms = price_of_terms(measured)
    if terms:
        lines.append("A step with a penalty, in plain steps that take turns with it")
        lines += [
            f"{price:6.2f} ({least:.2f})  {name}, {network}"
            for name, at in terms.items()
            for network, (price, least) in at.items()
        ]
    if rates:
        best = ", ".join(f"{rate / 1e9:.1f} {UNITS[unit]}" for unit, rate in rates.items())
        lines.append(f"This machine at its best: {best}")
    return "\n".join(lines)


def price_of_penalties(measured: list[Measurement]) -> dict[str, float]:
    """ "network, penalty, contender" -> medians over the plain step's."""
    medians = {
        (m.case.settings.model, m.case.settings.penalty, title(c)): (statistics.median(c.values), m.case.name)
        for m in measured
        if m.case.family == "steps"
        for c in (*ours(m), *others(m))
    }
    return {
        f"{name}, {who}": value / medians[model, "plain", who][0]
        for (model, penalty, who), (value, name) in medians.items()
        if penalty != "plain" and (model, "plain", who) in medians
    }


def price_of_terms(measured: list[Measurement]) -> dict[str, dict[str, tuple[float, float]]]:
    """The penalties family: penalty -> network -> a step with it in plain steps: the median over the rounds,
    and by the least times.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for m in measured:
        sides = {c.mode: c for c in m.contenders if c.values}
        if m.case.family == "penalties" and len(sides) == 2:
            network = MODELS[m.case.settings.model].title
            dear, plain = sides["with it"], sides["plain"]
            price = ratio(dear, plain), dear.least / plain.least
            found.setdefault(m.case.settings.penalty, {})[network] = price
    return found


# ---- files


def load() -> float:
    """Processes that run or want to, averaged over a minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def stamp(versions: dict[str, str], threads: int, **more: Any) -> dict[str, Any]:
    """Where and when: tinydl's own stamp, the frameworks' versions, the settings."""
    return environment() | {"threads": threads, "frameworks": versions, "penalties": PENALTIES, **more}


def write(folder: Path, measured: list[Measurement], rates: dict[str, float], about: dict[str, Any]) -> None:
    """results.json: every value of every contender, seconds or bytes."""
    results = [
        {
            "family": m.case.family,
            "name": m.case.name,
            "settings": m.case.settings,
            "unit": m.case.unit,
            "measured": m.case.fresh or "seconds",
            "problems": m.problems,
            "contenders": {
                c.label: {
                    "median": statistics.median(c.values) if c.values else None,
                    "rounds": c.values,
                    "least": c.least,
                    "first_calls": c.first,
                    "work": c.work,
                    "difference": c.error,
                    "ratios": {o.label: ratio(o, c) for o in others(m)} if c in ours(m) else {},
                }
                for c in m.contenders
            },
        }
        for m in measured
    ]
    write_json(folder / "results.json", {"environment": about, "rates": rates, "cases": results})
    if prices := price_of_terms(measured):
        (folder / "penalties.md").write_text(penalties.page(prices, about), encoding="utf-8")


def picture(path: Path, measured: list[Measurement], about: dict[str, Any]) -> bool:
    """Each case's speed as a multiple of PyTorch's, on a logarithmic scale. False if
    there is nothing to compare.
    """
    from matplotlib.figure import Figure

    from tinydl import viz

    base = (
        "torch"
        if "torch" in about["frameworks"]
        else next((n for n in about["frameworks"] if n != "tinydl"), "")
    )
    panels = {
        f: [m for m in measured if m.case.family == f and any(c.framework == base for c in others(m))]
        for f in FAMILIES
    }
    panels = {family: chosen for family, chosen in panels.items() if chosen}
    if not panels:
        return False
    columns: list[list[str]] = [[]]
    for family, chosen in panels.items():
        if columns[-1] and sum(len(panels[f]) for f in columns[-1]) + len(chosen) > ROWS:
            columns.append([])
        columns[-1].append(family)
    every = [
        x for chosen in panels.values() for m in chosen for _, rounds in _multiples(m, base) for x in rounds
    ]
    limits = min(0.45, 0.9 * min(every)), max(2.2, 1.1 * max(every))
    tallest = max(sum(len(panels[f]) + 3 for f in column) for column in columns)
    figure = Figure(figsize=(8.2 * len(columns), 0.9 + 0.2 * tallest))
    figure.text(
        0.5, 1 - 0.15 / figure.get_figheight(), _headline(about, base), ha="center", va="top", fontsize=10
    )
    for k, column in enumerate(columns):
        top = 1 - 0.75 / figure.get_figheight()
        for family in column:
            height = 0.2 * len(panels[family]) / figure.get_figheight()
            axes = figure.add_axes(((k + 0.44) / len(columns), top - height, 0.52 / len(columns), height))
            _panel(axes, family, panels[family], base, limits)
            top -= height + 0.6 / figure.get_figheight()
    viz.save(figure, path)
    return True


def _headline(about: dict[str, Any], base: str) -> str:
    versions = ", ".join(f"{NAMES[name]} {version}" for name, version in about["frameworks"].items())
    return (
        f"Speed as a multiple of {NAMES[base]}'s, right is faster\n{versions} · {about['cpu']}, threads: "
        f"{about['threads']}{', held to AVX2' if about['avx2'] else ''}"
    )


def _multiples(m: Measurement, base: str) -> list[tuple[Contender, list[float]]]:
    """For each contender but the reference its speed in each round, as a multiple of the reference's."""
    reference = next(c for c in others(m) if c.framework == base)
    contenders = (c for c in m.contenders if c is not reference and c.values)
    return [(c, [b / a for a, b in zip(c.values, reference.values, strict=False)]) for c in contenders]


def _panel(axes: Any, family: str, chosen: list[Measurement], base: str, limits: tuple[float, float]) -> None:
    """A row for each case, a point for each contender: the median over the rounds, and their range."""
    seen: dict[str, Any] = {}
    for row, m in enumerate(chosen):
        for c, rounds in _multiples(m, base):
            middle = statistics.median(rounds)
            first = not c.mode or c.mode == "recorded"
            axes.plot(
                [min(rounds), max(rounds)], [row, row], color=COLORS[c.framework], linewidth=1, alpha=0.5
            )
            fill = COLORS[c.framework] if first else "white"
            (seen[title(c)],) = axes.plot(
                middle,
                row,
                linestyle="",
                marker="o" if c.framework == "tinydl" else "s",
                markersize=5,
                color=COLORS[c.framework],
                markerfacecolor=fill,
                zorder=3 if c.framework == "tinydl" else 2,
            )
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    ticks = [
        t
        for t in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000)
        if limits[0] <= t <= limits[1]
    ]
    axes.set_xlim(limits)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set_yticks(range(len(chosen)), [m.case.name for m in chosen], fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(family, fontsize=9, loc="left", pad=4)
    axes.legend(
        seen.values(),
        seen.keys(),
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(seen),
        fontsize=7,
        frameon=False,
        borderpad=0,
        handletextpad=0,
        columnspacing=1,
    )
