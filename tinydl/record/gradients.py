"""`.grad` in a recorded step: what the step finds there, and what it leaves.

A replay must find each gradient that the step has looked at as the step found it: absent, or there; then it
is copied to an array of the recording. A gradient that the step changes is left in an array of the recording.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Array, Tensor
from .plan import owner

_UNSEEN = object()


class Noted:
    """The leaves whose `.grad` a step reads or sets, each with what was there at first."""

    def __init__(self) -> None:
        # id -> a leaf, and its .grad at the first look or _UNSEEN
        self._first: dict[int, tuple[weakref.ref[Tensor], Any]] = {}

    def read(self, leaf: Tensor) -> None:
        """`.grad` was looked at: a replay needs it as it is now."""
        self._note(leaf, leaf._grad)

    def written(self, leaf: Tensor) -> None:
        """`.grad` was set without a look: what it was before does not matter."""
        self._note(leaf, _UNSEEN)

    def _note(self, leaf: Tensor, before: Any) -> None:
        # a dead leaf's id may have come again
        if id(leaf) not in self._first or self._first[id(leaf)][0]() is not leaf:
            self._first[id(leaf)] = weakref.ref(leaf), before

    def leaves(self, excluded: Iterable[Tensor]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor | None]]]:
        """(those whose `.grad` is another than at first; those that were looked at, with what was there)."""
        known = [(ref(), before) for ref, before in self._first.values()]
        others = {id(x) for x in excluded}
        alive = [(leaf, before) for leaf, before in known if leaf is not None and id(leaf) not in others]
        changed = [leaf for leaf, before in alive if leaf._grad is not before]
        return changed, [(leaf, before) for leaf, before in alive if before is not _UNSEEN]


class Gradients:
    """The gradients of a recording. `bind` gives its array for an array of the step."""

    def __init__(
        self,
        changed: Sequence[Tensor],
        found: Sequence[tuple[Tensor, Tensor | None]],
        overwritten: Collection[int],
        bind: Callable[[Array], Array],
    ) -> None:
        self._before = [(weakref.ref(x), None if g is None else bind(g.array)) for x, g in found]
        # those that the step writes into, and leaves where they are
        self._back = [
            (weakref.ref(x), bind(g.array))
            for x, g in found
            if g is not None and x._grad is g and id(owner(g.array)) in overwritten
        ]
        self._after = [
            (weakref.ref(x), None if x._grad is None else Tensor(bind(x._grad.array))) for x in changed
        ]
        for leaf in changed:  # the tape of the recorded step ends here
            leaf._grad = None if leaf._grad is None else leaf._grad.detach()

    def bring(self) -> None:
        """Copy the gradients that the step reads to where it reads them; GraphError if one is there that was
        absent, or the other way round.
        """
        alive: list[Any] = [(ref(), static) for ref, static in self._before]
        alive = [(leaf, static) for leaf, static in alive if leaf is not None]
        for leaf, static in alive:
            if (leaf._grad is None) is not (static is None):
                pattern = ("without .grad", "with a .grad")
                raise GraphError(
                    f"record: expected a leaf {leaf.shape} {pattern[static is not None]} as in the recorded "
                    f"step, got it {pattern[static is None]}: call zero_grad() at the same place each time"
                )
        for leaf, static in alive:
            if static is not None:
                static[...] = leaf._grad.array

    def leave(self) -> None:
        """Set `.grad` of the leaves to what the replay has computed."""
        leaf: Any
        for ref, static in self._back:
            leaf = ref()
            if leaf is not None:
                leaf._grad.array[...] = static
                leaf._grad.version.count += 1
        for ref, grad in self._after:
            leaf = ref()
            if leaf is not None:
                leaf._grad = grad
                if grad is not None:
                    grad.version.count += 1
