"""Tensors that a recorded step makes from nothing, `td.zeros(2)` say, and then writes into.

A replay calls no Python, so it makes no tensor anew: it uses the one of the recorded step, and must find it
as that step had made it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Array, Tensor
from .plan import owner


class Made:
    """The arrays that a step makes outside the allocator, and what those that it writes held at first."""

    def __init__(self) -> None:
        # id -> an array, and is it NumPy's own, which may have been there before the step?
        self._made: dict[int, tuple[weakref.ref[Array], bool]] = {}
        self._first: dict[
            int, tuple[Array, Array]
        ] = {}  # id -> an array that is written, and its first values

    def note(self, array: Array, shared: bool = False) -> None:
        """An array was made; or is `shared` with who called the step, or made it in NumPy."""
        base = owner(array)
        self._made[id(base)] = weakref.ref(base), shared

    def written(self, who: str, array: Array) -> None:
        """`who` is about to write into an array. GraphError if nobody knows whose it is."""
        if not self._made:
            return
        base = owner(array)
        ref, shared = self._made.get(id(base), (None, False))
        known = ref is not None and ref() is base  # a dead array's id may have come again
        if not known or id(base) in self._first:
            return
        if shared:
            raise GraphError(
                f"{who}: expected no write to an array that came from NumPy in the recorded step, which "
                "cannot tell if it is made anew each time: make the tensor before the step, or by tensor(...)"
            )
        self._first[id(base)] = base, base.copy()

    def renewed(self, alive: Sequence[Tensor], results: Sequence[Array]) -> list[tuple[Array, Array]]:
        """(an array, what a replay must find there), for what the step made, wrote and left.

        `alive` are the tensors from outside that outlive it. What a Parameter, a Buffer or a generator holds
        is state and keeps what replays write; a plain tensor that is no result is refused: the step may make
        it at each call or only at the first.
        """
        returned = {id(owner(array)) for array in results}
        first = dict(self._first)
        for x in alive:
            base = owner(x.array)
            if id(base) not in first or id(base) in returned:
                continue
            if type(x) is Tensor:
                raise GraphError(
                    f"record: expected a tensor {x.shape} that the step makes and writes to end with it, got "
                    "one that lives on: make it before the step"
                )
            del first[id(base)]
        return list(first.values())
