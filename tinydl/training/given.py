"""What the terms of a Trainer are given besides inputs and targets, and which part of a batch is what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data import DataLoader
from ..engine.core import Tensor
from ..ops.creation import as_tensor

__all__: list[str] = []


def as_batch(given: Any) -> tuple[Tensor, ...]:
    """What a loader gave, as tensors; a bare one is of inputs alone."""
    given = (given,) if isinstance(given, (Tensor, np.ndarray)) else given
    if not isinstance(given, (tuple, list)) or not given:
        raise TypeError(f"Trainer: expected batches (inputs, targets), got {type(given).__name__}")
    return tuple(part if isinstance(part, Tensor) else as_tensor(part) for part in given)


class Given:
    """By name, where it comes from: a place in the batches, a loader, or a function.

    A batch is what the loader gave and then, in training, a part of each given loader.

    Raises:
        TypeError: a source of another kind.
    """

    def __init__(self, sources: Mapping[str, Any]) -> None:
        self.places: dict[str, int] = {}
        self.loaders: dict[str, DataLoader] = {}
        self.functions: dict[str, Any] = {}
        for name, source in sources.items():
            if isinstance(source, DataLoader):
                self.loaders[name] = source
            elif isinstance(source, (int, np.integer)) and not isinstance(source, bool) and source >= 0:
                self.places[name] = int(source)
            elif callable(source):
                self.functions[name] = source
            else:
                raise TypeError(
                    f"Trainer: given: {name}: expected a place in the batch (0, 1, …), a DataLoader or a "
                    f"function of (inputs, target), got {source!r}"
                )

    def taken(self) -> tuple[Tensor, ...]:
        """Of each given loader the inputs of its next batch."""
        return tuple(as_batch(loader.next_batch())[0] for loader in self.loaders.values())

    def ahead(self) -> tuple[Tensor, ...]:
        """The same, of loaders that stay where they are."""
        return tuple(as_batch(each.batch(each.epoch, each.position))[0] for each in self.loaders.values())

    def split(self, batch: Sequence[Tensor], further: int = 0) -> tuple[Any, Any, dict[str, Tensor]]:
        """(inputs, target, what is given by name) of a batch, whose last `further` parts are of loaders.

        Of the other parts without a place the last is the target, if there are two or more; several inputs
        are a tuple. A place that the batch does not have gives nothing.
        """
        if len(batch) == 2 and not (self.places or further):
            return batch[0], batch[1], {}
        own, more = list(batch[: len(batch) - further]), batch[len(batch) - further :]
        named = {name: own[place] for name, place in self.places.items() if place < len(own)}
        own = [part for place, part in enumerate(own) if place not in self.places.values()]
        *inputs, target = own if len(own) > 1 else (*own, None)
        named |= dict(zip(self.loaders, more, strict=False))
        return inputs[0] if len(inputs) == 1 else tuple(inputs), target, named

    def called(self, inputs: Any, target: Any) -> dict[str, Any]:
        """What the functions give, by name."""
        return {name: function(inputs, target) for name, function in self.functions.items()}
