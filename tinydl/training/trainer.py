"""The trainer: a plain loop over recorded steps, with points for callbacks, whose whole state is one file."""

from __future__ import annotations

import copy
import functools
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from ..data import DataLoader, Dataset, TensorDataset
from ..devices import on_host
from ..engine.core import Tensor
from ..metrics import Metric, UndefinedMetricWarning
from ..nn.module import Module
from ..ops.random import Generator, default_generator, noise_generator
from ..ops.shape import cat
from ..regularizers.contract import Penalty, Term
from ..regularizers.objective import Objective
from ..regularizers.passes import in_mode
from . import checkpoint
from .callbacks import Callback, Progress
from .checkpoint import Snapshot
from .given import Given, as_batch
from .history import History
from .steps import Found, OnceRecorded, Steps
from .tally import Tally, named_metrics

__all__ = ["Trainer"]

POINTS = ("on_fit_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_fit_end")


class Trainer:
    """Trains, evaluates and predicts.

        trainer = Trainer(model, td.cross_entropy, optimizer, terms=[DataGrad(1.0)], metrics=[Accuracy()],
                          callbacks=[EarlyStopping(patience=5), ModelCheckpoint("runs/1")])
        history = trainer.fit(DataLoader(train, 50, shuffle=True), DataLoader(validation, 500), epochs=100)
        trainer.evaluate(DataLoader(test, 500))

    A step is recorded (`td.record`) where it can be; where not, a warning says why, once. A fit that was
    killed at any moment and resumes from its last checkpoint ends with the same bits.

    Args:
        model: called on a batch's inputs.
        loss: a function of (output, target, reduction=), a Penalty, or an `Objective` with terms of its own.
        optimizer: stepped once per batch.
        terms: penalties and other terms of the Objective.
        metrics: by name, or by their own; fed with outputs and targets, over whole epochs. One that wants
            something of the outputs comes with a function: {"auc": (AUC(), lambda p: p[:, 1])}.
        callbacks: called in this order, and in that of their `order`.
        class_weight: (classes,), for the training loss: Σ w loss / Σ w over each batch. "loss" is then
            the weighted mean, "unweighted_loss" the plain one, in training and in validation. Of mixed labels
            both weigh, by their shares.
        given: what terms and losses ask for besides, by name: a place in the loader's batches, whose part is
            then neither an input nor the target (`{"index": 2}`); a DataLoader, of which the inputs of a
            batch go along with each of ours, for ever, and whose place is in the checkpoint (`{"unlabeled":
            loader}`); a function of (inputs, target), called in each step (`{"fake": lambda x, y:
            generator(noise()).detach()}`). In an evaluation a loss that is a penalty is given the same, of
            loaders the batch that comes next.
        accumulate: batches of the loader that make one step. The step is that of the large batch, penalties
            and weights included, and so is a last one that is shorter; only BatchNorm and terms that mix
            samples see the parts.
        activation: of the model's output for metrics and predictions, say softmax; the loss is without it.
        record: False to run every step as it stands.
        progress: a bar where somebody watches.

    Attributes:
        epoch: how many are done. steps: of the optimizer. epochs: how many there will be.
        batch: the last one. found: what its step returned (steps.py).
        batches: of the loader in an epoch. tally: the measurements of this epoch.
        history: all rows. ended: why the fit is to end, or None.
        loader, validation: of the fit.

    Raises:
        TypeError, ValueError: arguments of the wrong type, or that exclude each other.
    """

    def __init__(
        self,
        model: Module,
        loss: Any,
        optimizer: Any,
        *,
        terms: Sequence[Term] = (),
        metrics: Mapping[str, Any] | Iterable[Metric] = (),
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
        given: Mapping[str, Any] = MappingProxyType({}),
        accumulate: int = 1,
        activation: Callable[[Tensor], Tensor] | None = None,
        record: bool = True,
        progress: bool = True,
    ) -> None:
        if not isinstance(model, Module) or not hasattr(optimizer, "step"):
            got = f"{type(model).__name__} and {type(optimizer).__name__}"
            raise TypeError(f"Trainer: expected a Module and an optimizer, got {got}")
        if isinstance(loss, Objective) and (terms or loss.model is not model):
            raise ValueError("Trainer: expected an Objective of the model, and no terms besides")
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"Trainer: callbacks: expected Callbacks, got {type(callback).__name__}")
        self.model, self.optimizer = model, optimizer
        self.objective = loss if isinstance(loss, Objective) else Objective(model, loss, terms)
        self.accumulate, self.record = int(accumulate), record
        _require_addable(self.objective, self.accumulate)
        own = [Progress()] if progress and not any(isinstance(c, Progress) for c in callbacks) else []
        self.callbacks = sorted([*callbacks, *own], key=lambda callback: callback.order)
        self._points = {name: self._bound(name) for name in POINTS}
        self.given = Given(given)
        self._make_steps = functools.partial(
            Steps,
            self.objective,
            optimizer,
            class_weight,
            activation,
            self._bound("on_gradients"),
            given=self.given,
        )
        self._steps = steps = self._make_steps(self._bound("on_update"))
        self._train_step = OnceRecorded(steps.train, self.trained, record)
        self._evaluation_step = OnceRecorded(steps.evaluate, self.trained, record)
        self._prediction = OnceRecorded(steps.predict, self.trained, record)
        named, self._views = named_metrics(metrics)
        self.tally = Tally(named, self._views)
        self._measures = copy.deepcopy(named)  # of evaluations
        self.history = History()
        self.epoch = self.steps = self.epochs = self.batches = 0
        self.ended: str | None = None
        self._most: int | None = None
        self.loader: Any = None
        self.validation: Any = None
        self.batch: tuple[Tensor, ...] = ()
        self.found: Found = {}
        self.taken: tuple[Any, ...] = ()

    # Training
    # --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        loader: DataLoader,
        validation: DataLoader | None = None,
        epochs: int = 1,
        *,
        resume: str | os.PathLike[str] | None = None,
        limit_batches: int | None = None,
        sanity_batches: int = 1,
    ) -> History:
        """Train until so many epochs are done in all, those of earlier fits included; returns the history.
        A further fit goes on with the weights that the last one left: the best ones, or averages, where a
        callback had put them there.

        Args:
            loader: of the training samples.
            validation: whose loss and metrics are measured after each epoch.
            epochs: in all.
            resume: a checkpoint to go on from, if the file exists.
            limit_batches: of each epoch, in training and in validation.
            sanity_batches: of the validation set that are looked at before the first step, so that what is
                wrong there is told at once.

        Raises:
            TypeError: a loader of the wrong type.
            ValueError: as many epochs are done already.
            CheckpointError: a checkpoint of another model, optimizer, loader, metrics or callbacks.
        """
        self._begin(loader, validation, epochs, resume, limit_batches)
        try:
            self.model.train()
            self._point("on_fit_begin")
            if validation is not None and self.steps == 0:
                self._sanity(min(sanity_batches, self._limit(validation)))
            while self.epoch < epochs and self.ended is None:
                self._epoch()
            self.history.ended = self.ended or "epochs"
        except BaseException as error:  # Ctrl-C among them
            self.history.ended = type(error).__name__
            raise
        finally:
            self._point("on_fit_end")
        return self.history

    def _epoch(self) -> None:
        """One epoch, or what is left of it after a resume."""
        if self.tally.batches == 0:
            self._point("on_epoch_begin")
        while self.tally.batches < self.batches:
            self._step(min(self.accumulate, self.batches - self.tally.batches))
            self._point("on_batch_end")
            if self.ended is not None:
                return
        row = {"epoch": self.epoch + 1, **self.tally.values()}
        if self.validation is not None:
            with self.evaluating():
                measured = self.evaluate(self.validation, limit_batches=self._limit(self.validation))
            row |= {f"val_{name}": value for name, value in measured.items()}
        self.history.rows.append(row)
        self.tally.reset()
        self.loader.next_epoch()
        self.epoch += 1
        self._point("on_epoch_end")

    def _step(self, batches: int) -> None:
        """One step of the optimizer on so many batches of the loader."""
        parts = [(*as_batch(self.loader.next_batch()), *self.given.taken()) for _ in range(batches)]
        self.batch = parts[0] if batches == 1 else tuple(map(cat, zip(*parts, strict=True)))
        self.taken = (self.objective.due(self.steps), _sizes(parts), *self.batch)
        self.found = self._train_step(*self.taken)
        self.steps += 1
        target = self.given.split(self.batch, len(self.given.loaders))[1]
        self.tally.add(self.found, self.found.get("target", target), batches)

    def again(self, taken: tuple[Any, ...]) -> None:
        """A step that was `taken`, on the present state; it is not counted."""
        self._train_step(*taken)

    def stop(self, reason: str) -> None:
        """End the fit after this step or epoch; the first reason counts."""
        self.ended = self.ended or reason

    def _begin(self, loader: Any, validation: Any, epochs: int, resume: Any, limit: int | None) -> None:
        for name, given in (("loader", loader), ("validation", validation)):
            if not isinstance(given, DataLoader) and not (given is None and name == "validation"):
                raise TypeError(f"Trainer.fit: {name}: expected a DataLoader, got {type(given).__name__}")
        if limit is not None and limit < 1:
            raise ValueError(f"Trainer.fit: limit_batches: expected at least 1, got {limit}")
        self.loader, self.validation, self.epochs = loader, validation, int(epochs)
        self._most = limit
        self.batches = self._limit(loader)
        self.ended = None
        if resume is not None and os.path.exists(resume):
            self._load(resume)
        elif self.epoch >= epochs:
            raise ValueError(
                f"Trainer.fit: epochs: expected more than the {self.epoch} that are done (they are counted "
                f"in all), got {epochs}"
            )
        elif self.tally.batches == 0:
            loader.next_epoch()  # a look at it may have moved it

    def _limit(self, loader: Any) -> int:
        return len(loader) if self._most is None else min(self._most, len(loader))

    def _sanity(self, batches: int) -> None:
        """Validate a little, and leave no trace."""
        if batches > 0:
            with self.evaluating(), warnings.catch_warnings():
                warnings.simplefilter("ignore", UndefinedMetricWarning)  # a few samples, perhaps of one class
                self.evaluate(self.validation, limit_batches=batches)

    # Evaluation
    # --------------------------------------------------------------------------------------------------------

    def evaluate(self, loader: DataLoader, *, limit_batches: int | None = None) -> dict[str, Any]:
        """Loss and metrics of the model as it is, in evaluation mode, over all samples of a loader, whose
        position stays, as do all streams of random numbers.
        """
        tally = Tally(self._measures, self._views)
        further = self.given.ahead() if self._steps.compares else ()
        before = Snapshot(generators=self._generators() | self._of_loss())
        try:
            with in_mode(self.model, "eval"):
                for given in _batches(loader, limit_batches):
                    batch = as_batch(given)
                    tally.add(self._evaluation_step(*batch, *further), self.given.split(batch)[1])
        finally:
            before.restore()
        return tally.values()

    def predict(self, data: Any, *, batch_size: int = 500) -> np.ndarray:
        """The model's outputs, after the activation, in evaluation mode.

        Args:
            data: a loader that does not shuffle, a data set, or inputs as an array or tensor (n, ...).
            batch_size: of data that are no loader.

        Returns:
            A row for each sample, in their order.

        Raises:
            ValueError: a loader that shuffles.
        """
        loader = data
        if not isinstance(data, DataLoader):
            dataset = data if isinstance(data, Dataset) else TensorDataset(data)
            loader = DataLoader(dataset, batch_size, seed=0)
        if loader.shuffle:
            raise ValueError("Trainer.predict: expected a loader that keeps the order, got shuffle=True")
        rows = []
        with in_mode(self.model, "eval"):
            for given in _batches(loader, None):
                inputs = self.given.split(as_batch(given))[0]
                rows.append(on_host(self._prediction(*(inputs if isinstance(inputs, tuple) else (inputs,)))))
        return np.concatenate(rows)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The scope in which the callbacks put those weights into the model that are to be judged."""
        with ExitStack() as scope:
            for callback in self.callbacks:
                scope.enter_context(callback.evaluating(self))
            yield

    @contextmanager
    def trial(self) -> Iterator[Callable[[Any], float]]:
        """A function of a batch that takes a step and returns its total. Gradients are clipped as in `fit`;
        no other callback takes part. At the end of the scope model, optimizer and streams are brought back.
        """
        step = OnceRecorded(self._make_steps().train, self.trained, self.record)
        before, number = Snapshot(**self.trained()), self.steps

        def take(given: Any) -> float:
            nonlocal number
            batch = (*as_batch(given), *self.given.ahead())
            found = step(self.objective.due(number), (), *batch)
            number += 1
            return float(on_host(found["total"]))

        try:
            with in_mode(self.model, "train"):
                yield take
        finally:
            before.restore()

    def overfit_one_batch(self, loader: DataLoader, steps: int = 100) -> np.ndarray:
        """The totals of so many steps on the loader's next batch, float64 (steps,): does the model learn at
        all? Everything is brought back afterwards (`trial`).
        """
        batch = loader.batch(loader.epoch, loader.position)
        with self.trial() as step:
            return np.array([step(batch) for _ in range(steps)])

    # State
    # --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state of the fit to a file: model, optimizer, objective, loader, callbacks, measurements,
        history and every stream of random numbers.
        """
        checkpoint.save(path, **self.trained(), **self._rest(), epoch=self.epoch, steps=self.steps)

    def _load(self, path: str | os.PathLike[str]) -> None:
        values = checkpoint.load(path, **self.trained(), **self._rest())
        self.epoch, self.steps = values["epoch"], values["steps"]

    def trained(self) -> dict[str, Any]:
        """What a step changes."""
        numbered: dict[str, Callback] = {}
        for callback in self.callbacks:
            name = type(callback).__name__
            if hasattr(callback, "load_state_dict"):
                numbered[f"{name}{len(numbered)}" if name in numbered else name] = callback
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "objective": self.objective,
            "callbacks": numbered,
            "generators": self._generators(),
        }

    def _rest(self) -> dict[str, Any]:
        rest = {"loader": self.loader, "tally": self.tally, "history": self.history}
        return rest | ({"given": self.given.loaders} if self.given.loaders else {})

    def _generators(self) -> dict[str, Generator]:
        """Those of the model's layers and of the optimizer, besides the default ones."""
        owners = [*self.model.named_modules(), ("optimizer", self.optimizer)]
        return {
            f"{path}.{name}".strip("."): value
            for path, owner in owners
            for name, value in vars(owner).items()
            if isinstance(value, Generator)
            and value is not default_generator
            and value is not noise_generator
        }

    def _of_loss(self) -> dict[str, Generator]:
        """The stream of a loss that draws."""
        loss = self.objective.loss
        return {"loss": loss.generator} if isinstance(loss, Penalty) else {}

    def _point(self, name: str) -> None:
        for function in self._points[name]:
            function()

    def _bound(self, name: str) -> list[Callable[[], Any]]:
        """The callbacks' points of that name, of those that have it."""
        return [
            functools.partial(_call, getattr(callback, name), weakref.ref(self))
            for callback in self.callbacks
            if getattr(type(callback), name) is not getattr(Callback, name)
        ]


def _call(point: Callable[[Trainer], Any], trainer: weakref.ref[Trainer]) -> Any:
    """A callback's point; what is kept for it does not keep the trainer."""
    living = trainer()
    return None if living is None else point(living)


def _sizes(parts: Sequence[Sequence[Tensor]]) -> tuple[tuple[int, ...], ...]:
    """Of each tensor of the parts that a batch was put together from; () where there is one part."""
    return tuple(tuple(x.shape[0] for x in part) for part in parts) if len(parts) > 1 else ()


def _batches(loader: Any, limit: int | None) -> Iterator[Any]:
    """Those of the loader's present epoch; it stays where it is."""
    if not isinstance(loader, DataLoader):
        raise TypeError(f"Trainer: expected a DataLoader, got {type(loader).__name__}")
    return loader.present_epoch(limit)


def _require_addable(objective: Objective, accumulate: int) -> None:
    """Can gradients of parts be added up to those of the whole?"""
    if accumulate < 1:
        raise ValueError(f"Trainer: accumulate: expected at least 1, got {accumulate}")
    if accumulate > 1:
        losses = [objective.loss] if isinstance(objective.loss, Penalty) else []
        coupled = [penalty.name for penalty in (*losses, *objective.penalties) if penalty.coupled]
        coupled += ["combine"] * (objective.combine is not None)
        if coupled:
            raise ValueError(
                "Trainer: accumulate: expected terms that are means over samples, got "
                f"{', '.join(coupled)}, of which parts of a batch do not make the whole"
            )
