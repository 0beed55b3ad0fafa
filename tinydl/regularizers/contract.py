"""What a regularizer is: a `Term` of an `Objective`, which makes one forward pass and shows it to every term.

A term has three moments, all optional: `before` the forward pass it may change inputs and targets; a
`Penalty` has a value, called with the `Pass`; `after` the optimizer's step it may change parameters or state
of its own.

    total = loss + Σ every · weight · value

Rules for all penalties: one value per sample and the mean over the samples; sums, never means, over units,
classes, positions, layers and parameters. `terms.penalties[i]` is the value without its weight. Extra passes
(`Pass.again`) leave no trace. A value that no parameter can change is an error, never a constant.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from tinydl_kernels import random as kernels
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import GraphError

from ..devices import follow, move
from ..engine.core import Tensor, cast, no_grad, state
from ..nn.module import Module
from ..nn.parameter import Buffer, Parameter
from ..ops.elementwise import mul
from ..ops.random import Generator, default_generator, randint
from ..ops.update import assign

if TYPE_CHECKING:
    from .passes import Pass

__all__ = ["Penalty", "Term"]

Weight = float | Buffer | Callable[[Tensor], Any]
FLOAT64 = np.dtype(np.float64)


class Term:
    """What an `Objective` does besides its loss.

    Args:
        generator: the term's random numbers; by default a stream that belongs to its name, from the seed that
            the default generator has when the Objective is made.
        name: in logs, checkpoints and `due`; by default the class's in snake case.

    Attributes:
        follows: must the derivative by the input be on the tape? Integer inputs are never followed.
        layers: dotted paths of the layers whose outputs the pass keeps for the term.
        inputs_of: dotted paths of the layers whose (first) inputs the pass keeps.
        turns: what `turn` chooses from.
        constrains: does `after` write the trained weights? Such terms come first, so that copies and averages
            of weights see what they leave.
        replace: by a layer's dotted path a function of its output, whose result the main pass goes on with;
            `before` may set it, on the instance.
        coupled: do samples of a batch meet in it, even where the model's do not? The value of a batch is then
            no mean over the values of its parts.
        reduces: does what is coupled sum over all ranks, where they share a batch (`td.distributed`)? An
            Objective refuses coupled terms that do not: they would silently act on a rank's own samples.
    """

    follows: bool = False
    layers: tuple[str, ...] = ()
    inputs_of: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    constrains: bool = False
    coupled: bool = False
    reduces: bool = False
    replace: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({})

    def __init__(self, *, generator: Generator | None = None, name: str | None = None) -> None:
        who = type(self).__name__
        self.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", who).lower() if name is None else name
        if not self.name.isidentifier() or keyword.iskeyword(self.name) or self.name.startswith("_"):
            raise ValueError(f"{who}: expected a name that is an identifier, got {name!r}")
        self.generator: Any = generator

    def attach(self, model: Module) -> None:
        """What needs the model is made here, when an Objective of it takes the term."""

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        """Inputs and targets of the forward pass in place of those given."""
        return x, target

    def after(self, model: Module, optimizer: Any) -> None:
        """What follows the optimizer's step, under no_grad and through effects alone. `optimizer` is what
        `Objective.after` was given: perhaps None.
        """

    def turn(self) -> str:
        """One of `turns`, drawn for each pass on the host from the term's generator.

        A recorded step has a recording for each, and before a replay the generator says whose turn it is. So
        a step has one such draw (SAM's second pass repeats it), before all others from that generator.
        """
        generator, recorder = self.generator or default_generator, state.recorder
        if recorder is None:
            return self.turns[int(randint(0, len(self.turns), (), generator=generator).item())]
        before, first = generator.state_dict(), not recorder.has_written(generator.counter)
        new = recorder.seen.depends(self, Term._upcoming)
        number = randint(0, len(self.turns), (), generator=generator)
        if generator.state_dict() != before and not (first and new):
            raise GraphError(
                f"{type(self).__name__}: expected one draw of {', '.join(self.turns)} in a recorded step, "
                "the first from its generator, got another"
            )
        return self.turns[int(move(number.array, "cpu"))]

    def _upcoming(self) -> int:
        """The number that `turn` draws next; no stream moves."""
        now = (self.generator or default_generator).state_dict()
        key = np.array([now["seed"], now["stream"]], np.uint64)
        with memory.supplied_by(memory.fresh):  # out of the sight of a recorder
            return int(kernels.randint(key, np.array([now["counter"]], np.uint64), (), 0, len(self.turns)))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the Buffers, Parameters, Modules and Generators among the attributes."""
        kinds = (Buffer, Parameter, Module, Generator)
        return {name.strip("_"): value for name, value in vars(self).items() if isinstance(value, kinds)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Penalty(Term):
    """A term with a value: total += every · weight · value on each `every`-th step.

    Args:
        weight: a number of at least 0; a Buffer, which several terms may share; or a schedule, a function of
            the number of steps taken (a float64 tensor of shape ()) written with tensor operations:
            `lambda step: 0.1 * td.minimum(step / 1000, 1)`.
        every: compute the penalty on each `every`-th step only, with `every` times the weight.
        generator, name: see `Term`.

    Attributes:
        valued: has it a value? A setting that acts after the step instead has none.
        weight: the float64 Buffer, which recorded steps read; assigning a number writes into it.
        coupled: see `Term`; accumulated micro-batches are then not one batch.

    Raises:
        ValueError: a weight below 0, `every` below 1.
    """

    valued: bool = True

    def __init__(
        self,
        weight: Weight,
        *,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(generator=generator, name=name)
        who = type(self).__name__
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"{who}: expected every as a whole number of at least 1, got {every!r}")
        self.every = int(every)
        self.schedule: Callable[[Tensor], Any] | None = None
        if isinstance(weight, Tensor):
            if not isinstance(weight, Buffer) or (weight.shape, weight.dtype) != ((), FLOAT64):
                kind = f"{type(weight).__name__} {weight.shape} {weight.dtype}"
                raise ValueError(f"{who}: expected a weight that is a Buffer () float64, got {kind}")
            self._weight, self._told = weight, "Buffer"
        elif callable(weight):
            self._weight, self.schedule = Buffer(1.0, np.float64), weight
            self._told = getattr(weight, "__name__", type(weight).__name__)
        else:
            self._weight = Buffer(self._number(weight), np.float64)

    def _number(self, weight: Any) -> float:
        if not weight >= 0:
            raise ValueError(f"{type(self).__name__}: expected a weight of at least 0, got {weight}")
        self._told = str(weight)  # repr must not read the Buffer, which a recorded step may hold
        return float(weight)

    @property
    def weight(self) -> Any:
        return self._weight

    @weight.setter
    def weight(self, value: float) -> None:
        if self.schedule is not None:
            raise ValueError(f"{type(self).__name__}: expected its schedule to give the weight, got {value}")
        with no_grad():
            assign(self._weight, self._number(value))

    def __call__(self, seen: Pass) -> Tensor:
        """The penalty of a pass, a tensor of shape () on the tape, without its weight."""
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def weighted(self, value: Tensor, step: Tensor) -> Tensor:
        """every · weight · value in the dtype of the value; first a schedule writes the step's weight."""
        follow([self._weight], value.device)
        with no_grad():
            if self.schedule is not None:
                assign(self._weight, self.schedule(cast(step, dtype=FLOAT64)))
            weight = self._weight if self.every == 1 else mul(self._weight, float(self.every))
            weight = weight if value.dtype == FLOAT64 else cast(weight, dtype=value.dtype)
        return mul(value, weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._told})"
