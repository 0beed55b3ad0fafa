"""The tape: what a call leaves behind, and the walks over it.

    Node ──► Edge, one per input ──► the Node that made it, or the Slot of a leaf ┄┄► (weakly) the leaf

A node saves the arrays that the rules of its primitive name and nothing else. An edge holds an array and its
version, never the user's Tensor, and a slot knows its leaf weakly: so `.grad` under `create_graph` makes no
cycle, and graphs die by reference counting.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import GraphError

if TYPE_CHECKING:
    from .core import Primitive, Tensor

MANY = 16
"""Tensors that share a storage, from which on it is asked who of them still lives."""

numbers = itertools.count()
Key = Any  # what identifies a differentiable value: the Slot of a leaf, or (Node, output number)


class Version:
    """How often a storage was written. All views of the storage share one."""

    __slots__ = ("_many", "_sharers", "count", "taped")

    def __init__(self) -> None:
        self.count = 0
        self.taped = False  # has a node held the array?
        self._sharers: Any = ()  # weak references to tensors, as soon as there are two; then `_many` too

    def share(self, x: Tensor, other: Tensor) -> None:
        """Two tensors have the storage in common."""
        sharers = self._sharers
        if not sharers:
            sharers = self._sharers = []
            self._many = MANY
        elif len(sharers) >= self._many:  # forget the dead
            alive = {id(tensor): ref for ref in sharers if (tensor := ref()) is not None}
            self._sharers = sharers = list(alive.values())
            self._many = 2 * len(sharers) + MANY
        sharers += (weakref.ref(x), weakref.ref(other))

    def shared(self, x: Tensor) -> bool:
        """Is there another living tensor on the storage of x?"""
        return any(tensor is not None and tensor is not x for tensor in (ref() for ref in self._sharers))


class Slot:
    """Identity of a leaf, or of a watched intermediate result: its hooks, and weakly
    the tensor that takes `.grad`.
    """

    __slots__ = ("hooks", "owner")

    def __init__(self, owner: Tensor | None = None) -> None:
        self.hooks: dict[object, Callable[[Tensor], Tensor | None]] = {}
        self.owner = (lambda: None) if owner is None else weakref.ref(owner)

    @property
    def awaits(self) -> bool:
        """Would anybody see a gradient that arrives here?"""
        return self.owner() is not None or bool(self.hooks)

    def complete(self, gradient: Tensor) -> Tensor:
        """The gradient after the hooks."""
        for hook in list(self.hooks.values()):
            replaced = hook(gradient)
            gradient = gradient if replaced is None else replaced
        return gradient


class Edge:
    """What a node knows of one of its arrays: where it came from and, if a rule reads
    it, the array at its version.
    """

    __slots__ = ("array", "count", "dtype", "index", "node", "shape", "slot", "version")

    def __init__(self, x: Any, saved: bool, differentiable: bool) -> None:
        array, version = x.array, x._version or x.version
        self.shape, self.dtype = array.shape, array.dtype
        self.version, self.count = version, version.count
        self.node: Node | None = x.node if differentiable else None
        self.slot: Slot | None = x.slot if differentiable else None
        self.index: int = x.index
        self.array = None
        if saved:
            self.array, version.taped = array, True

    @property
    def key(self) -> Key:
        return self.slot if self.node is None else (self.node, self.index)

    def read(self, reader: Primitive) -> Any:
        """The array, if nobody has written it since."""
        if self.version.count != self.count:
            raise GraphError(
                f"{reader.name}: expected its recorded array {self.shape} {self.dtype} at version "
                f"{self.count}, got version {self.version.count}: it was written before the backward pass"
            )
        return self.array


class Node:
    """One call of a primitive. `edges` is None once a backward pass has freed the graph."""

    __slots__ = (
        "__weakref__",
        "backend",
        "count",
        "edges",
        "number",
        "primitive",
        "results",
        "settings",
        "site",
        "slots",
    )

    def __init__(
        self, primitive: Primitive, edges: list[Edge | None], settings: dict[str, Any], count: int, site: Any
    ) -> None:
        self.edges: Any = edges
        self.primitive, self.settings, self.count, self.site = primitive, settings, count, site
        self.results: dict[int, Edge] = {}  # the outputs that rules read
        self.slots: dict[int, Slot] = {}  # the outputs that somebody watches
        self.backend = dispatch.here.override  # the backward runs where the forward ran
        self.number = next(numbers)

    def free(self) -> None:
        self.edges, self.results = None, {}


def ancestors(roots: Iterable[Node], wanted: set[Key] | None = None) -> list[Node]:
    """Every node that the roots were computed from, themselves included, oldest first.

    Where all that is wanted are results of nodes, the walk ends at the oldest of these: what is older, freed
    or not, does not lead there.
    """
    oldest = min((key[0].number if isinstance(key, tuple) else -1 for key in wanted or ()), default=-1)
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen and node.number >= oldest:
            seen.add(node)
            if node.number == oldest:
                continue
            if node.edges is None:
                raise GraphError(
                    f"{node.primitive.name}: expected a live graph, got one that an earlier backward pass "
                    "has freed (retain_graph=True keeps it)"
                )
            stack.extend(edge.node for edge in node.edges if edge is not None and edge.node is not None)
    return sorted(seen, key=lambda node: node.number)


def needed(order: list[Node], wanted: set[Key] | None) -> dict[Node, list[bool]]:
    """For each node which of its inputs lead to a wanted key. Nodes that lead to none are left out.

    None wants every leaf and every watched result that still awaits a gradient: that of a leaf which is gone
    is not computed.
    """
    needs: dict[Node, list[bool]] = {}

    def leads(edge: Edge) -> bool:
        if edge.node in needs:
            return True
        if wanted is not None:
            return edge.key in wanted
        if edge.node is None:
            return edge.slot is not None and edge.slot.awaits
        return edge.index in edge.node.slots and edge.node.slots[edge.index].awaits

    for node in order:
        leading = [edge is not None and leads(edge) for edge in node.edges or ()]
        if True in leading:
            needs[node] = leading
    return needs
