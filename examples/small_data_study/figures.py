"""Figures of the study's page."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from small_data_study.training import LATE, OFFICIAL
from tinydl.study import estimate


def of_a(own: Any) -> Figure | None:
    """Ours with intervals, and what was published."""
    from small_data_study.page import PUBLISHED

    return forest(own, LATE, PUBLISHED["a"], "test accuracy (%), training images 50,000-59,999")


def of_e_samples(own: Any) -> Figure | None:
    from small_data_study.page import PUBLISHED

    return forest(own, OFFICIAL, PUBLISHED["e-samples"], "test accuracy (%)")


def forest(own: Any, held_out: str, published: dict[str, float], label: str) -> Figure | None:
    cells = [cell for cell in own.cells if own.of(held_out, cell)]
    if not cells:
        return None
    figure = Figure(figsize=(8, 0.8 + 0.28 * len(cells)), layout="constrained")
    axes = figure.subplots()
    for place, cell in enumerate(cells):
        found = estimate(own.of(held_out, cell))
        low, high = found.interval()
        axes.plot([low, high], [place, place], color="C0", lw=2)
        axes.plot(found.mean, place, "o", color="C0", label="ours, 95 % interval" if place == 0 else None)
        axes.plot(published[cell], place, "x", color="C3", label="published" if place == 0 else None)
    axes.set_yticks(range(len(cells)), cells)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def of_b(own: Any) -> Figure | None:
    """Error over the number of digits, and the methods at 2,000."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("none", "EP", "SpectReg", "DataGrad"):
        sizes = [int(cell.split(" / ")[0]) for cell in own.cells if cell.endswith(f"/ {name}")]
        known = [
            (n, estimate(own.of(LATE, f"{n} / {name}")))
            for n in sorted(set(sizes))
            if own.of(LATE, f"{n} / {name}")
        ]
        if known:
            means = [100 - found.mean for _, found in known]
            left.errorbar(
                [n for n, _ in known], means, [found.error for _, found in known], marker=".", label=name
            )
    left.set(xscale="log", yscale="log", xlabel="digits", ylabel="test error (%) ± s.e.")
    left.grid(alpha=0.3, which="both")
    left.legend(fontsize=8)
    at = [cell for cell in own.cells if cell.startswith("2000 / ") and own.of(LATE, cell)]
    for place, cell in enumerate(at):
        found = estimate(own.of(LATE, cell))
        right.errorbar(found.mean, place, xerr=found.error, marker="o", color="C0")
    right.set_yticks(range(len(at)), [cell.partition(" / ")[2] for cell in at])
    right.set(xlabel="test accuracy at 2,000 (%) ± s.e.")
    right.invert_yaxis()
    right.grid(alpha=0.3)
    return figure


def of_g(own: Any) -> Figure | None:
    """‖J‖_F by place, as it is and over the size of the logits, each over that without a penalty."""
    kinds = [cell for cell in own.cells if own.numbers(cell, "accuracy")]
    if len(kinds) < 2 or "none" not in kinds:
        return None
    names = list(own.numbers("none", "places")[0])
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for which, (axes, title) in enumerate(
        zip(figure.subplots(1, 2, sharey=True), ("‖J‖_F", "‖J‖_F / ‖centred logits‖"), strict=True)
    ):
        base = np.mean([[one[name][which] for name in names] for one in own.numbers("none", "places")], 0)
        for cell in kinds[1:]:
            mean = np.mean([[one[name][which] for name in names] for one in own.numbers(cell, "places")], 0)
            axes.plot(mean / base, range(len(names)), "o-", ms=4, lw=0.8, label=cell)
        axes.axvline(1, color="gray", lw=0.8)
        axes.set(title=title, xlabel="over that of no penalty")
        axes.grid(alpha=0.3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure


def of_g_step(own: Any) -> Figure | None:
    """The difference of the logits along the line, a curve for each seed."""
    kinds = [cell for cell in own.cells if own.numbers(cell, "curve")]
    figure = Figure(figsize=(2.6 * len(kinds), 2.8), layout="constrained")
    grid = np.linspace(-1.5, 1.5, 121)
    points = np.array([-1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1])
    for axes, cell in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for curve in own.numbers(cell, "curve"):
            axes.plot(grid, curve, lw=0.9, alpha=0.8)
        axes.plot(points, np.zeros(8), "k.", ms=4)
        axes.set_title(cell, fontsize=9)
        axes.grid(alpha=0.3)
    return figure
