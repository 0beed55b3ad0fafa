"""What a recorded step depends on that is no argument: tensors from outside and how they require grad, modes
and settings of modules, structural options of optimizers. A replay asks whether all of it is as it was.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import GraphError

from ..devices import Resident
from ..engine.core import Array, Tensor

_mode = operator.attrgetter("training")
_PLAIN = frozenset({bool, int, float, str, type(None)})


def _settings(module: Any) -> Any:
    """The numbers and words among the attributes of a module, and which tensors, layers and hooks it has."""
    own = vars(module)
    return (
        [(type(x), x) for x in own.values() if type(x) in _PLAIN],
        [*map(id, own["_parameters"].values()), *map(id, own["_buffers"].values())],
        [*map(id, own["_modules"].values())],
        [*own["_forward_pre_hooks"], *own["_forward_hooks"], *own["_backward_hooks"]],
    )


class Seen:
    """What a step comes across, kept alive by nothing here."""

    def __init__(self) -> None:
        # id -> a tensor, its array, and did it require grad before the step?
        self._tensors: dict[int, tuple[weakref.ref[Tensor], Array, bool]] = {}
        # (id, structure) -> an owner, its structure, and what that was
        self._structures: dict[Any, tuple[weakref.ref[Any], Callable[[Any], Any], Any]] = {}

    def found(self, x: Tensor) -> None:
        """The step uses a tensor from outside, or changes whether it requires grad."""
        known = self._tensors.get(id(x))
        first = known[2] if known is not None and known[0]() is x else x.requires_grad
        self._tensors[id(x)] = weakref.ref(x), x.array, first

    def depends(self, owner: Any, structure: Callable[[Any], Any]) -> bool:
        """What the step does depends on `structure(owner)`, a value that can be compared: where a later call
        finds another one, it is recorded anew. Structural options of an optimizer, say; numbers that merely
        vary belong into arrays. False if the step has said so before.
        """
        key = id(owner), structure
        new = key not in self._structures or self._structures[key][0]() is not owner
        if new:
            self._structures[key] = weakref.ref(owner), structure, structure(owner)
        return new

    def runs(self, module: Any) -> None:
        """The step calls a module, or changes its mode or a setting. A setting that the step itself leaves
        changed, a counter say, is a constant of the recording.
        """
        self.depends(module, _mode)
        self.depends(module, _settings)

    def structures(self) -> list[tuple[weakref.ref[Any], Callable[[Any], Any], Any]]:
        """(owner, structure, what it was)."""
        return [
            (ref, structure, value)
            for ref, structure, value in self._structures.values()
            if structure is not _settings or ((owner := ref()) is not None and structure(owner) == value)
        ]

    def alive(self, excluded: Iterable[Tensor]) -> list[tuple[Tensor, Array, bool]]:
        """The tensors that outlive the step: (tensor, its array, did it require grad before the step?)."""
        others = {id(x) for x in excluded}
        known = [(ref(), array, first) for ref, array, first in self._tensors.values()]
        return [(x, array, first) for x, array, first in known if x is not None and id(x) not in others]


class Outside:
    """The same of a recording, after its step."""

    def __init__(
        self,
        tensors: Sequence[tuple[Tensor, Array, bool]],
        structures: list[tuple[weakref.ref[Any], Callable[[Any], Any], Any]],
    ) -> None:
        self._structures = structures
        self._tensors = [(weakref.ref(x), array, first) for x, array, first in tensors]
        self._residents = [
            (weakref.ref(x), dispatch.device_of(array)) for x, array, _ in tensors if isinstance(x, Resident)
        ]
        self._toggled = [  # what the step leaves frozen or thawed
            (weakref.ref(x), x.requires_grad) for x, _, first in tensors if x.requires_grad != first
        ]

    def fits(self) -> bool:
        """Is all as it was? GraphError for a tensor that has another array."""
        for ref, structure, value in self._structures:
            owner = ref()
            if owner is not None and structure(owner) != value:
                return False
        for resident, device in self._residents:
            counter = resident()
            if counter is not None:
                counter.on(device)
        for tensor, array, required in self._tensors:
            x = tensor()
            if x is None:
                continue
            if (x.slot is None and x.node is None) is required:  # x.requires_grad, without a call
                return False
            if x.array is not array:
                raise GraphError(
                    f"record: expected the tensor {x.shape} that was recorded, got it bound to another array "
                    "since"
                )
        return True

    def leave(self) -> None:
        """Freeze and thaw what the step does."""
        for ref, required in self._toggled:
            x = ref()
            if x is not None:
                x.requires_grad = required
