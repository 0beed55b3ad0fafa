"""The steps of a Trainer: one of the optimizer, one of evaluation; recorded where they can be."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..devices import follow
from ..engine.core import Tensor, no_grad
from ..nn.parameter import Buffer
from ..ops.creation import as_tensor
from ..ops.elementwise import add, cast, div, mul, sub
from ..ops.reduce import mean, sum
from ..ops.shape import cat
from ..ops.update import clear_gradients
from ..record.recorder import record
from ..regularizers.contract import Penalty
from ..regularizers.objective import Objective
from ..regularizers.passes import unreduced
from .checkpoint import Snapshot

Found = dict[str, Any]
"""What a step returns: "means", values by name, of which an epoch has Σ weight · value / Σ weight; "weights"
of those whose weight is not the number of samples; "outputs", what metrics are fed with; "total", what was
minimized."""


class OnceRecorded:
    """A step that is recorded at its first call, or runs as it is from then on if that cannot be.

    A recording that fails may have done half a step: what `things` holds is brought back before the step
    runs eagerly.
    """

    def __init__(
        self, step: Callable[..., Any], things: Callable[[], Mapping[str, Any]], wanted: bool
    ) -> None:
        self.step = step
        self._recorded: Any = record(step) if wanted else None
        self._things: Any = things
        self.why_not = "" if wanted else "record=False"

    def __call__(self, *arguments: Any) -> Any:
        if self._recorded is None:
            return self.step(*arguments)
        if self._things is None:
            return self._recorded(*arguments)
        before = Snapshot(**self._things())
        try:
            found = self._recorded(*arguments)
        except GraphError as error:
            before.restore()
            found = self.step(*arguments)  # where that fails too, its error is the one to show
            self._recorded, self.why_not = None, str(error)
            warnings.warn(f"Trainer: its steps are not recorded, which is slower: {error}", stacklevel=4)
        self._things = None
        return found


def parts_of(batch: Sequence[Any]) -> tuple[Any, Any]:
    """(inputs, target) of a batch: the target is last, if there are two parts or more; several inputs are a
    tuple.
    """
    *inputs, target = batch if len(batch) > 1 else (*batch, None)
    return inputs[0] if len(inputs) == 1 else tuple(inputs), target


def as_batch(given: Any) -> tuple[Tensor, ...]:
    """What a loader gave, as tensors."""
    if not isinstance(given, (tuple, list)) or not given:
        raise TypeError(f"Trainer: expected batches (inputs, targets), got {type(given).__name__}")
    return tuple(part if isinstance(part, Tensor) else as_tensor(part) for part in given)


class Steps:
    """The training step and the evaluation step of an objective.

    Args:
        objective: loss and penalties of the model.
        optimizer: anything with `zero_grad` and `step(closure)`.
        class_weight: None, or a weight for each class, for the loss of training.
        activation: of the model's output, for metrics and predictions; None: none.
        gradients: called between the backward pass and the update; each may return {name: tensor} to log.
        updated: called after the update.

    Raises:
        ShapeError, TypeError: class weights out of range, or of a loss that is not a function.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Any,
        class_weight: Any = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        gradients: Sequence[Callable[[], Mapping[str, Tensor] | None]] = (),
        updated: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.objective, self.optimizer, self.activation = objective, optimizer, activation
        self.gradients, self.updated = gradients, updated
        self.plain = Objective(objective.model, objective.loss)
        self.class_weight: Buffer | None = None
        if class_weight is not None:
            weights = np.asarray(class_weight, np.float64)
            if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any():
                raise ShapeError(
                    "Trainer: class_weight: expected finite numbers (classes,), 0 or more, got "
                    f"{class_weight}"
                )
            if isinstance(objective.loss, Penalty):
                raise TypeError(f"Trainer: class_weight: expected a loss function, got {objective.loss!r}")
            self.class_weight = Buffer(weights, np.float64)

    def train(self, due: tuple[str, ...], sizes: tuple[int, ...], *batch: Tensor) -> Found:
        """One step of the optimizer on a batch, which was put together from parts of these sizes."""
        first: Found = {}

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            # parameters that no optimizer has
            clear_gradients([*self.objective.model.parameters(), *self.objective.parameters()], True)
            found = self._passed(batch, due) if len(sizes) == 1 else self._accumulated(batch, due, sizes)
            for point in self.gradients:
                found["means"] |= {name: value.detach() for name, value in (point() or {}).items()}
            if not first:  # optimizers that ask again, ask elsewhere
                first.update(found)
            return found["total"]

        self.optimizer.step(closure)
        self.objective.after(self.optimizer)
        for point in self.updated:
            point()
        return first

    def evaluate(self, *batch: Tensor) -> Found:
        """The loss and the outputs of a batch, in the model's present mode."""
        with no_grad():
            x, target = parts_of(batch)
            terms = self.plain(x, target)
            found = {"outputs": self._activated(terms.logits), "total": terms.loss}
            if self.class_weight is None:
                return {"means": {"loss": terms.loss}, "weights": {}, **found}
            weighted, weight = self._weighted(terms.logits, target)
            means = {"loss": weighted, "unweighted_loss": terms.loss}
            return {"means": means, "weights": {"loss": weight}, **found}

    def predict(self, *inputs: Tensor) -> Tensor:
        """The model's output, after the activation."""
        with no_grad():
            return self._activated(self.objective.model(*inputs))

    def _passed(self, batch: Sequence[Tensor], due: Sequence[str]) -> Found:
        """Forward and backward of a whole batch."""
        x, target = parts_of(batch)
        w = None if self.class_weight is None else self._weights(target)
        terms = self.objective(x, target, due=due, **({} if w is None else {"weights": w}))
        terms.backward()
        means = {"loss": terms.loss.detach()}
        if w is not None:
            means["unweighted_loss"] = self._unweighted(terms.logits, target)
        return {
            "means": means | self._penalized(terms),
            "weights": {} if w is None else {"loss": sum(w)},
            "outputs": self._activated(terms.logits.detach()),
            "total": terms.total.detach(),
        }

    def _accumulated(self, batch: Sequence[Tensor], due: Sequence[str], sizes: Sequence[int]) -> Found:
        """The same in parts, whose gradients add up to those of the whole batch: a part's loss counts by its
        share of the weights, its penalties by its share of the samples.
        """
        samples = float(batch[0].shape[0])
        whole = None if self.class_weight is None else sum(self._weights(parts_of(batch)[1]))
        sums: dict[str, Tensor] = {}
        outputs, start = [], 0
        for size in sizes:
            part = [tensor[start : start + size] for tensor in batch]
            start += size
            x, target = parts_of(part)
            share: Any = size / samples
            values: dict[str, tuple[Tensor, Any]] = {}  # with the part's share in each
            if whole is None:
                terms = self.objective(x, target, due=due)
                scaled = mul(terms.total, share)
                values["loss"] = terms.loss, share
            else:
                w = self._weights(target)
                terms = self.objective(x, target, due=due, weights=w)
                of_loss = cast(div(sum(w), whole), dtype=terms.loss.dtype)
                scaled = add(mul(terms.loss, of_loss), mul(sub(terms.total, terms.loss), share))
                values["loss"] = terms.loss, of_loss
                values["unweighted_loss"] = self._unweighted(terms.logits, target), share
            scaled.backward()
            values |= {name: (value, share) for name, value in self._penalized(terms).items()}
            values["total"] = scaled, 1.0
            with no_grad():
                for name, (value, factor) in values.items():
                    value = mul(value.detach(), factor)
                    sums[name] = add(sums[name], value) if name in sums else value
            outputs.append(terms.logits.detach())
        total = sums["total"]
        return {
            "means": {name: value for name, value in sums.items() if name != "total" or self._penalties},
            "weights": {} if whole is None else {"loss": whole},
            "outputs": self._activated(cat(outputs)),
            "total": total,
        }

    @property
    def _penalties(self) -> bool:
        return bool(self.objective.penalties)

    def _penalized(self, terms: Any) -> dict[str, Tensor]:
        """Penalties that were due by name, and the total, if there are any at all."""
        named = {name: value.detach() for name, value in terms.named().items() if name != "loss"}
        return named if self._penalties else {}

    def _weights(self, target: Any) -> Tensor:
        """(B,), each sample's class's."""
        weights: Any = self.class_weight
        follow([weights], target.device)
        return weights[target]

    def _unweighted(self, logits: Tensor, target: Any) -> Tensor:
        with no_grad():
            return mean(unreduced(self.objective.loss, logits.detach(), target))

    def _weighted(self, logits: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """Σ w loss / Σ w, and Σ w."""
        losses, w = unreduced(self.objective.loss, logits, target), self._weights(target)
        if losses.shape != w.shape:
            raise ShapeError(f"Trainer: class_weight: expected losses {w.shape}, got {losses.shape}")
        weight = sum(w)
        return div(sum(mul(losses, cast(w, dtype=losses.dtype))), cast(weight, dtype=losses.dtype)), weight

    def _activated(self, outputs: Tensor) -> Tensor:
        with no_grad():
            return outputs if self.activation is None else self.activation(outputs)
