"""The tape as a graph: operations and arrays, and what each was computed from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Tensor
from ..engine.tape import Slot, ancestors

__all__ = ["TapeGraph", "TapeNode", "tape_graph"]


class TapeNode(NamedTuple):
    """An operation on the tape, or a leaf."""

    name: str  # of the primitive; of a leaf what it was given, or its shape
    leaf: bool
    part: str  # the first output that needs it
    shape: tuple[int, ...]  # of the leaf, or of the operation's (first) result that goes on


class TapeGraph(NamedTuple):
    """Nodes from the oldest on, leaves first; (i, j): node j reads what node i gives, once for each edge."""

    nodes: list[TapeNode]
    edges: list[tuple[int, int]]
    outputs: dict[str, int]  # the node of each output


def tape_graph(
    outputs: Tensor | Mapping[str, Tensor], leaves: Mapping[str, Tensor] | None = None
) -> TapeGraph:
    """What the outputs were computed from, as far as the tape holds it.

        y = td.sin(x).sum()
        (g,) = td.grad(y, x, create_graph=True)
        tape_graph({"y": y, "dy/dx": g}, {"x": x})     the first order, and what the gradient added to it

    Args:
        outputs: one, or several by name; a node belongs to the first that needs it, so that after {"loss":
        ...,
            "gradient": ...} the nodes of the second order are those of the part "gradient".
        leaves: names of tensors that require grad, as `dict(model.named_parameters())`.

    Raises:
        GraphError: an output without a graph, or with one that a backward pass has freed.
    """
    named = {"output": outputs} if isinstance(outputs, Tensor) else dict(outputs)
    for name, y in named.items():
        if not isinstance(y, Tensor) or y.node is None:
            raise GraphError(
                f"tape_graph: expected {name!r} to be computed on the tape, got one that was not"
            )
    names: dict[Slot, str] = {x.slot: name for name, x in (leaves or {}).items() if x.slot is not None}
    part: dict[object, str] = {}
    operations = []
    for name, y in named.items():
        if y.node is not None:
            for node in ancestors([y.node]):
                if node not in part:
                    part[node] = name
                    operations.append(node)
    operations.sort(key=lambda node: node.number)
    found: list[TapeNode] = []
    places: dict[object, int] = {}
    shapes = {y.node: y.shape for y in named.values()}
    for node in operations:
        for edge in node.edges:
            if edge is None:
                continue
            if edge.node is not None:
                shapes.setdefault(edge.node, edge.shape)
            elif edge.slot is not None and edge.slot not in places:
                places[edge.slot] = len(found)
                name = names.get(edge.slot, "×".join(map(str, edge.shape)) or "scalar")
                found.append(TapeNode(name, True, part[node], edge.shape))
    for node in operations:
        places[node] = len(found)
        found.append(TapeNode(node.primitive.name, False, part[node], shapes[node]))
    edges = [
        (places[edge.node or edge.slot], places[node])
        for node in operations
        for edge in node.edges
        if edge is not None and (edge.node or edge.slot) is not None
    ]
    return TapeGraph(found, edges, {name: places[y.node] for name, y in named.items()})
