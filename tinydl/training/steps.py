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
from ..ops.elementwise import add, cast, div, ge, mul, sub, where
from ..ops.reduce import mean, sum
from ..ops.shape import cat
from ..ops.update import clear_gradients
from ..record.recorder import record
from ..regularizers.contract import Penalty
from ..regularizers.measures import beside
from ..regularizers.objective import Objective, Terms
from ..regularizers.passes import Mixed, require_labels, unreduced, weighted_by_class
from .checkpoint import Snapshot
from .given import Given

Found = dict[str, Any]
"""What a step returns: "means", values by name, of which an epoch has Σ weight · value / Σ weight; "weights"
of those whose weight is not the number of samples; "outputs", what metrics are fed with, and "target" where
that is not the batch's; "total", what was minimized."""


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


class Steps:
    """The training step and the evaluation step of an objective.

    Args:
        objective: loss and penalties of the model.
        optimizer: anything with `zero_grad` and `step(closure)`.
        class_weight: None, or a weight for each class, for the loss of training.
        activation: of the model's output, for metrics and predictions; None: none.
        gradients: called between the backward pass and the update; each may return {name: tensor} to log.
        updated: called after the update.
        given: what the objective is called with besides inputs and target.

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
        given: Given | None = None,
    ) -> None:
        self.objective, self.optimizer, self.activation = objective, optimizer, activation
        self.gradients, self.updated = gradients, updated
        self.given = Given({}) if given is None else given
        self.plain = Objective(objective.model, objective.loss)
        self.plain.step = objective.step  # by which the weight of a loss may be scheduled
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

    def train(self, due: tuple[str, ...], sizes: tuple[tuple[int, ...], ...], *batch: Tensor) -> Found:
        """One step of the optimizer on a batch. Where it was put together from several parts: their sizes, a
        number for each tensor.
        """
        first: Found = {}

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            # parameters that no optimizer has
            clear_gradients([*self.objective.model.parameters(), *self.objective.parameters()], True)
            found = self._accumulated(batch, due, sizes) if sizes else self._passed(batch, due)
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

    @property
    def compares(self) -> bool:
        """Does the loss itself ask for what is given?"""
        return isinstance(self.objective.loss, Penalty)

    def evaluate(self, *batch: Tensor) -> Found:
        """The loss and the outputs of a batch, in the model's present mode. Where the loss is a penalty, the
        batch has the parts of given loaders too.
        """
        with no_grad():
            x, target, parts = self.given.split(batch, len(self.given.loaders) if self.compares else 0)
            named: dict[str, Any] = {**parts, **(self.given.called(x, target) if self.compares else {})}
            terms = self.plain(x, target, **named)
            found = {"outputs": self._activated(terms.logits), "total": terms.loss}
            if self.class_weight is None:
                return {"means": {"loss": terms.loss}, "weights": {}, **found}
            losses, counted = weighted_by_class(
                self.objective.loss, terms.logits, target, self._weights(terms.logits)
            )
            whole = sum(counted)
            means = {"loss": div(sum(losses), whole), "unweighted_loss": terms.loss}
            return {"means": means, "weights": {"loss": whole}, **found}

    def predict(self, *inputs: Tensor) -> Tensor:
        """The model's output, after the activation."""
        with no_grad():
            return self._activated(self.objective.model(*inputs))

    def _called(self, batch: Sequence[Tensor], due: Sequence[str]) -> Terms:
        """The objective of a batch, or of a part of one."""
        x, target, named = self.given.split(batch, len(self.given.loaders))
        if self.class_weight is not None:
            named["class_weights"] = self._weights(batch[0])
        return self.objective(x, target, due=due, **named, **self.given.called(x, target))

    def _passed(self, batch: Sequence[Tensor], due: Sequence[str]) -> Found:
        """Forward and backward of a whole batch."""
        terms = self._called(batch, due)
        terms.backward()
        means, weights = {"loss": terms.loss.detach()}, {}
        if terms.counted is not None:
            weights["loss"], means["unweighted_loss"] = terms.counted, self._unweighted(terms)
        return {
            "means": means | self._penalized(terms),
            "weights": weights,
            "outputs": self._activated(terms.logits.detach()),
            "total": terms.total.detach(),
            **_larger_share([terms.target]),
        }

    def _accumulated(
        self, batch: Sequence[Tensor], due: Sequence[str], sizes: Sequence[tuple[int, ...]]
    ) -> Found:
        """The same in parts, whose gradients add up to those of the whole batch: a part's loss counts by its
        share of the weights, its penalties by its share of the samples. The weights are those of the labels
        that were given, since what terms make of a part is known too late.
        """
        samples = float(batch[0].shape[0])
        whole = None if self.class_weight is None else self._weight_of(batch)
        sums: dict[str, Tensor] = {}
        outputs, targets, starts = [], [], [0] * len(batch)
        for size in sizes:
            part = [t[start : start + n] for t, start, n in zip(batch, starts, size, strict=True)]
            starts = [start + n for start, n in zip(starts, size, strict=True)]
            share: Any = size[0] / samples
            values: dict[str, tuple[Tensor, Any]] = {}  # with the part's share in each
            terms = self._called(part, due)
            if whole is None:
                scaled = mul(terms.total, share)
                values["loss"] = terms.loss, share
            else:
                of_loss = cast(div(self._weight_of(part), whole), dtype=terms.loss.dtype)
                scaled = add(mul(terms.loss, of_loss), mul(sub(terms.total, terms.loss), share))
                values["loss"] = terms.loss, of_loss
                values["unweighted_loss"] = self._unweighted(terms), share
            scaled.backward()
            values |= {name: (value, share) for name, value in self._penalized(terms).items()}
            values["total"] = scaled, 1.0
            with no_grad():
                for name, (value, factor) in values.items():
                    value = mul(value.detach(), factor)
                    sums[name] = add(sums[name], value) if name in sums else value
            outputs.append(terms.logits.detach())
            targets.append(terms.target)
        total = sums["total"]
        return {
            "means": {name: value for name, value in sums.items() if name != "total" or self._penalties},
            "weights": {} if whole is None else {"loss": whole},
            "outputs": self._activated(cat(outputs)),
            "total": total,
            **_larger_share(targets),
        }

    @property
    def _penalties(self) -> bool:
        return bool(self.objective.penalties)

    def _penalized(self, terms: Any) -> dict[str, Tensor]:
        """Penalties that were due by name, and the total, if there are any at all."""
        named = {name: value.detach() for name, value in terms.named().items() if name != "loss"}
        return named if self._penalties else {}

    def _weights(self, like: Tensor) -> Tensor:
        """(classes,), on the device of a tensor."""
        weights: Any = self.class_weight
        follow([weights], like.device)
        return weights

    def _weight_of(self, batch: Sequence[Tensor]) -> Tensor:
        """The sum of the weights of a batch's labels."""
        target = self.given.split(batch, len(self.given.loaders))[1]
        require_labels(self._weights(batch[0]), target)
        return sum(self._weights(batch[0])[target])

    def _unweighted(self, terms: Terms) -> Tensor:
        with no_grad():
            return mean(unreduced(self.objective.loss, terms.logits.detach(), terms.target))

    def _activated(self, outputs: Tensor) -> Tensor:
        with no_grad():
            return outputs if self.activation is None else self.activation(outputs)


def _larger_share(targets: Sequence[Any]) -> Found:
    """What metrics compare outputs with where samples were mixed: of both labels that of the larger share."""
    if not isinstance(targets[0], Mixed):
        return {}
    with no_grad():
        chosen = [where(ge(beside(t.a, t.share), 0.5), t.a, t.b) for t in targets]
        return {"target": chosen[0] if len(chosen) == 1 else cat(chosen)}
