"""Effects: primitives that write. What varies between steps changes through them alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinydl_kernels.machine.errors import GraphError

from .core import Primitive, Tensor, prepared, state
from .tape import Version

Writes = Callable[[int, dict[str, Any]], Sequence[int]]


class Effect(Primitive):
    """A primitive that writes into the inputs it names: optimizer updates, running statistics,
    counters. Never on the tape.

    writes        names of the inputs that are written; for a variadic input a function of their number and
                  the settings giving the positions
    """

    mixed = True

    def __init__(
        self,
        function: Callable[..., Any],
        writes: Sequence[str] | Writes,
        **properties: Any,
    ) -> None:
        super().__init__(function, strided=True, constant=("out",), **properties)
        self.writes = writes if callable(writes) else lambda *_: [self.inputs.index(name) for name in writes]

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        tensors: Sequence[Any] = inputs
        arrays = [x.array if isinstance(x, Tensor) else None for x in inputs]
        kinds = set(map(type, arrays))
        if len(kinds) > 1 or type(None) in kinds:  # an optimizer's are many, and of dtypes nothing is asked
            tensors, arrays = prepared(self, inputs)
        written = [tensors[i] for i in self.writes(len(tensors), settings) if tensors[i] is not None]
        for x in written:
            if not getattr(x.array.flags, "writeable", True):
                raise GraphError(f"{self.name}: expected memory that may be written, got {x.shape} read-only")
        if state.grad and any(x.requires_grad for x in written):
            raise GraphError(f"{self.name}: expected no_grad around a write to a tensor that requires grad")
        results = self.run(tensors, arrays, settings)
        for x in written:
            x.version.count += 1
        return None if results is None else Tensor(results)


def effect(writes: Sequence[str] | Writes, **properties: Any) -> Callable[[Callable[..., Any]], Effect]:
    """Make the decorated function of arrays an `Effect`."""
    return lambda function: Effect(function, writes, **properties)


def made(x: Tensor) -> Tensor:
    """A tensor whose array was made just now. A recorder must know, for a replay makes none."""
    if state.recorder is not None:
        state.recorder.made.note(x.array)
    return x


def happened(event: Version) -> None:
    """Count something that a step does; replays of a recorded step count it too."""
    event.count += 1
    if state.recorder is not None:
        state.recorder.written.append(event)
