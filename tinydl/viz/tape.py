"""The tape as a picture."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from ..inspection.graph import TapeGraph
from .canvas import INK, canvas

__all__ = ["tape"]

FILLS = ("#d6e6f5", "#fbe0c8", "#d5efdf", "#f2d9ec", "#fdf3c4")
LINES = ("#0072b2", "#d55e00", "#009e73", "#b0508f", "#b58900")
LEAF = "#f4f4f4"


class Layout(NamedTuple):
    """Where the nodes are, (nodes, 2) columns and rows, and the points that each edge passes on its way."""

    nodes: np.ndarray
    ways: list[np.ndarray]


def layout(graph: TapeGraph) -> Layout:
    """Columns by the longest way from a leaf; a leaf stands right before the first node that reads it.
    Rows put nodes near their neighbours; an edge over several columns takes a place in each, so that it
    crosses no box.
    """
    count = len(graph.nodes)
    column = np.zeros(count, int)
    for i, j in sorted(graph.edges, key=lambda edge: edge[1]):  # what is read comes first
        column[j] = max(column[j], column[i] + 1)
    for k, node in enumerate(graph.nodes):
        if node.leaf:
            column[k] = min((column[j] for i, j in graph.edges if i == k), default=1) - 1
    columns, links, chains = list(column), list[tuple[int, int]](), []
    for i, j in graph.edges:
        between = range(len(columns), len(columns) + column[j] - column[i] - 1)
        columns += range(column[i] + 1, column[j])
        chains.append([i, *between, j])
        links += pairwise(chains[-1])
    x, y = np.array(columns), np.zeros(len(columns))
    for _ in range(6):  # forth and back: the means of neighbours, a row apart
        for forth in (True, False):
            near: list[list[int]] = [[] for _ in columns]
            for i, j in links:
                near[j if forth else i].append(i if forth else j)
            for c in range(x.max(initial=0) + 1)[:: 1 if forth else -1]:
                members = np.flatnonzero(x == c)
                wish = np.array([np.mean(y[near[k]]) if near[k] else y[k] for k in members])
                placed, last = np.zeros(len(members)), -np.inf
                for k in np.argsort(wish, kind="stable"):
                    placed[k] = last = max(wish[k], last + (1.0 if members[k] < count else 0.6))
                y[members] = placed - (placed.mean() - wish.mean())
    points = np.stack([x, y], 1).astype(float)
    return Layout(points[:count], [points[chain] for chain in chains])


def _curve(way: np.ndarray, half: float) -> Path:
    """Through the points of a way, level at each, from the right side of a box to the left side of
    another.
    """
    points = way + np.array([[half, 0.0], *[[0.0, 0.0]] * (len(way) - 2), [-half, 0.0]])
    vertices = [points[0]]
    for a, b in pairwise(points):
        middle = (a[0] + b[0]) / 2
        vertices += [(middle, a[1]), (middle, b[1]), b]
    return Path(vertices, [Path.MOVETO, *[Path.CURVE4] * (len(vertices) - 1)])


def tape(graph: TapeGraph, *, shapes: bool = True, title: str = "", figure: FigureBase | None = None) -> Any:
    """Operations as boxes from left to right, leaves as pale boxes, an arrow to each that reads what another
    gives; each output of the graph has colours of its own, so that one sees what a gradient added.

    Args:
        graph: of `tape_graph`.
        shapes: the shape of what each gives, below its name.
        title: above; the number of nodes and edges unless said.
        figure: a figure or subfigure to draw into; None: a new one.
    """
    where, ways = layout(graph)
    columns, rows = np.ptp(np.concatenate([where, *ways]), axis=0) + 1 if len(where) else (1, 1)
    drawn = canvas(figure, max(3.0, 0.95 * columns + 0.4), max(1.6, 0.55 * rows + 0.8))
    axes = drawn.subplots()
    parts = {name: k for k, name in enumerate(graph.outputs)}
    ends = {place: name for name, place in graph.outputs.items()}
    half, tall = 0.37, 0.27
    for (_, j), way in zip(graph.edges, ways, strict=True):
        line = LINES[parts[graph.nodes[j].part] % len(LINES)]
        style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 6, "linewidth": 0.8, "alpha": 0.65}
        axes.add_patch(FancyArrowPatch(path=_curve(way, half), color=line, zorder=1, **style))
    for place, (node, (x, y)) in enumerate(zip(graph.nodes, where, strict=True)):
        k = parts[node.part]
        axes.add_patch(
            FancyBboxPatch(
                (x - half, y - tall),
                2 * half,
                2 * tall,
                boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=LEAF if node.leaf else FILLS[k % len(FILLS)],
                edgecolor="#999999" if node.leaf else LINES[k % len(LINES)],
                linewidth=1.8 if place in ends else 0.8,
                linestyle=":" if node.leaf else "-",
                zorder=2,
            )
        )
        lift = 0.09 if shapes else 0.0
        font = min(6.5, 75 / len(node.name))  # a long name fits into its box
        axes.text(x, y - lift, node.name, ha="center", va="center", fontsize=font, color=INK, zorder=3)
        if shapes:
            size = "×".join(map(str, node.shape)) or "()"
            axes.text(x, y + 0.14, size, ha="center", va="center", fontsize=5, color="#777777", zorder=3)
        if place in ends:
            mark = {"fontsize": 7, "weight": "bold", "color": LINES[parts[ends[place]] % len(LINES)]}
            axes.text(x, y - tall - 0.06, ends[place], ha="center", va="bottom", **mark)
    if len(where):
        every = np.concatenate([where, *ways])
        (left, top), (right, low) = every.min(0), every.max(0)
        axes.set(xlim=(left - 0.6, right + 0.6), ylim=(low + 0.55, top - 0.75))
    axes.set_axis_off()
    axes.set_title(title or f"{len(graph.nodes)} nodes, {len(graph.edges)} edges", fontsize=10)
    return drawn
