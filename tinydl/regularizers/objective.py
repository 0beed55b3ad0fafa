"""The objective: a loss and the terms beside it, from one forward pass. contract.py says what a term is."""

from __future__ import annotations

import functools
import zlib
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..devices import constant, follow, on_host
from ..engine.core import Array, Tensor, add, cast, no_grad, primitive, state
from ..engine.effect import happened
from ..engine.tape import Version
from ..nn.module import Module
from ..nn.parameter import Buffer, Parameter
from ..ops.elementwise import div, mul
from ..ops.random import Generator, default_generator
from ..ops.reduce import sum
from ..ops.update import assign, increment
from ..optim.optimizer import optimizers
from .contract import Penalty, Term
from .passes import Pass, require_trainable, weighted_by_class

__all__ = ["Objective", "Terms"]


class _Terms(NamedTuple):
    total: Tensor
    loss: Tensor
    penalties: tuple[Any, ...]
    logits: Tensor


class Terms(_Terms):
    """What an `Objective` returns: total = loss + Σ every · weight · penalty; tensors of shape ().

    `penalties` are the values without their weights, in the order of the Objective's and by name
    (`terms.penalties.data_grad`), None where one was not due. `logits` is the model's output. A recorded step
    may return it.

    Attributes:
        target: what the loss was held against: the target as the terms left it, perhaps `Mixed`.
        counted: Σ of the weights, of samples or classes, by which the loss was divided; None without any.
    """

    combine: Callable[[], None] | None = None
    target: Any = None
    counted: Tensor | None = None

    def backward(self) -> None:
        """total.backward(), or what the Objective's `combine` does instead."""
        if self.combine is None:
            self.total.backward()
        else:
            self.combine()

    def named(self) -> dict[str, Tensor]:
        """{"loss": ..., each penalty that was due by its name, "total": ...}, for a log."""
        names = self.penalties._fields  # type: ignore[attr-defined]
        values = {name: value for name, value in zip(names, self.penalties, strict=True) if value is not None}
        return {"loss": self.loss, **values, "total": self.total}


class Objective:
    """The mean loss plus weighted penalties from one forward pass: `terms = objective(x, target)`.

        for i, (x, y) in enumerate(batches):
            optimizer.zero_grad()
            terms = objective(x, y, due=objective.due(i))
            terms.total.backward()
            optimizer.step()
            objective.after()

    `due` is needed in recorded steps with penalties that are not computed on every step, `after` once for
    each step of the optimizer where a term has a schedule, an `every` or an `after` of its own. Without those
    two lines a plain loop stays what it is. Micro-batches add up: n calls and n times backward, one step, one
    `after`. A parameter that a penalty does not touch gets the gradient 0 of it, not None.

    Args:
        model: called as model(x), with a tuple of inputs as model(*x).
        loss: a function of (output, target, reduction="none"); or a Penalty, where a loss needs more than
            that, counted by its weight. The loss of a batch is the mean of all that it gives. Of samples with
            weights, `objective(x, y, weights=w)` with w (B,), it is Σ w_b loss_b / Σ w_b; of classes with
            weights, `class_weights=w` with w (m,), the same with w_y, as PyTorch's losses have it, and of
            mixed labels Σ (λ w_y loss_y + (1 - λ) w_y' loss_y') / Σ (λ w_y + (1 - λ) w_y'). The weights are
            the loss's alone, penalties stay means over the samples.
        terms: what is added to the loss or done beside it. A name that is there already gets its position.
        combine: in place of total.backward() in `terms.backward()`: a function of the weighted parts (whose
            sum is the total) and of all parameters, which leaves gradients in `.grad`.

    Where ranks share a batch (the scope of a `td.distributed.Shard`) the total is this rank's part of the
    global one, and the gradients' sum over the ranks is its gradient; loss and penalties are means over this
    rank's samples, but for those that are of all ranks.

    The input is followed on a handle of its own, so that no penalty can miss it and x itself stays as it is;
    an x that requires grad already is used as it is. Where no term follows the input it is not on the tape.
    """

    def __init__(
        self,
        model: Module,
        loss: Any,
        terms: Sequence[Term] = (),
        *,
        combine: Callable[[Sequence[Tensor], list[Tensor]], None] | None = None,
    ) -> None:
        self.model, self.loss, self.combine = model, loss, combine
        self.terms = _by_name([*terms])
        self._of_loss = {"loss": loss} if isinstance(loss, Penalty) else {}
        if self._of_loss and loss.every > 1:
            raise ValueError(
                f"Objective: expected a loss on every step, got {loss!r} with every={loss.every}"
            )
        self._penalties = {
            name: term for name, term in self.terms.items() if isinstance(term, Penalty) and term.valued
        }
        self._values: Any = namedtuple("Penalties", self._penalties)  # type: ignore[misc]
        self.step = Buffer(0)
        # a `combine` that draws has a `generator`, which is the Objective's to give and to save
        self._combines: dict[str, Any] = {"combine": combine} if hasattr(combine, "generator") else {}
        _give_streams(self._all() | self._combines)
        for term in self._all().values():
            term.attach(model)
        counting = [term for term in self._all().values() if _counts(term)]
        self._waiting = ", ".join(map(repr, counting))  # for after()
        self._afters = Version()
        self._last: tuple[int, int] | None = None

    @property
    def penalties(self) -> tuple[Penalty, ...]:
        """The terms that have a value."""
        return tuple(self._penalties.values())

    def parameters(self) -> Iterator[Parameter]:
        """The terms' own parameters, for the optimizer."""
        for term in self._all().values():
            yield from (value for value in vars(term).values() if isinstance(value, Parameter))

    def due(self, step: int) -> tuple[str, ...]:
        """Names of the penalties to compute on a step, counted from 0: an argument of a recorded step, which
        is recorded once for each pattern.
        """
        return tuple(name for name, penalty in self._penalties.items() if int(step) % penalty.every == 0)

    def __call__(
        self, x: Any, target: Any = None, *, due: Sequence[str] | None = None, **given: Any
    ) -> Terms:
        """One forward pass and its terms. `due` names the penalties to compute: by default those whose turn
        it is by the count of `after`. `given` is for terms (`unlabeled=`, `fake=`), but for the loss's
        `weights` and `class_weights`.

        Raises:
            GraphError: no_grad; a penalty that no parameter can change; a recorded step without `due` where
                it is needed; an optimizer's step that `after` was not told of where a term must know.
            ShapeError, TypeError: inputs, losses or weights that do not fit.
        """
        if state.shard is not None:
            self._require_reduced(state.shard)
        due = self._due(due)
        active = {name: penalty for name, penalty in self._penalties.items() if name in due}
        if active and not state.grad:
            raise GraphError(
                f"Objective: expected grad mode for {', '.join(map(repr, active.values()))}, got no_grad"
            )
        if state.grad and self._waiting:
            self._require_after()
            if state.recorder is not None:
                state.recorder.guards.append(self._require_after)
        replace: dict[str, Callable[[Tensor], Tensor]] = {}
        for name, term in self._all().items():
            if name in active or name not in self._penalties:
                x, target = term.before(self.model, x, target)
                if twice := replace.keys() & term.replace.keys():
                    raise ValueError(
                        f"{name}: expected layers of its own to replace, got {sorted(twice)} again"
                    )
                replace.update(term.replace)
        seeing = [*self._of_loss.values(), *active.values()]
        x = _followed(x, any(term.follows for term in seeing))
        loss = None if self._of_loss else self.loss
        layers = [layer for term in seeing for layer in term.layers]
        inputs_of = [layer for term in seeing for layer in term.inputs_of]
        seen = Pass(
            self.model,
            x,
            target,
            loss=loss,
            given=given,
            layers=layers,
            inputs_of=inputs_of,
            replace=replace,
        )
        follow([self.step], seen.inputs[0].device)
        mean, counted = self._mean(seen)
        total, share = mean, None if state.shard is None else state.shard.share
        if self._of_loss:
            total = self.loss.weighted(mean, self.step)
        parts, values = [total], {}
        moving = [p for p in self.model.parameters() if p.requires_grad] if active else []
        for name, penalty in active.items():
            value = _scalar(name, penalty(seen))
            require_trainable(name, value, seen.followed)
            parts.append(penalty.weighted(value, self.step))
            values[name] = _with_zeros(value, *moving)
            total = add(total, parts[-1])
        if share is not None:
            total = mul(total, share)
        found = Terms(total, mean, self._values(*map(values.get, self._penalties)), seen.logits)
        found.target, found.counted = seen.target, counted
        if self.combine is not None:
            found.combine = functools.partial(
                self.combine, parts, [*self.model.parameters(), *self.parameters()]
            )
        return found

    def after(self, optimizer: Any = None) -> None:
        """After a step of the optimizer: count it, then what the terms do. The only counter of steps:
        schedules and `every` go by it.
        """
        happened(self._afters)
        with no_grad():
            increment(self.step)
            for term in sorted(self._all().values(), key=lambda term: not term.constrains):
                term.after(self.model, optimizer)

    # Parts of a call
    # --------------------------------------------------------------------------------------------------------

    def _require_reduced(self, shard: Any) -> None:
        """Refuse what would silently act on this rank's samples alone."""
        local = [name for name, term in self._all().items() if term.coupled and not term.reduces]
        local += ["combine"] * (self.combine is not None)
        if local:
            raise GraphError(
                "Objective: expected terms that are means over samples, or sums over all ranks, got "
                f"{', '.join(local)}, which would see this rank's {shard.samples} samples of {shard.total}"
            )

    def _all(self) -> dict[str, Term]:
        return {**self._of_loss, **self.terms}

    def _due(self, due: Sequence[str] | None) -> Sequence[str]:
        if due is not None:
            if unknown := [name for name in due if name not in self._penalties]:
                raise ValueError(f"Objective: expected due out of {list(self._penalties)}, got {unknown}")
            return due
        lazy = [f"{name} with every={p.every}" for name, p in self._penalties.items() if p.every > 1]
        if not lazy:
            return tuple(self._penalties)
        if state.recorder is not None:
            raise GraphError(
                "Objective: expected due=objective.due(i) as an argument of the recorded step for "
                f"{', '.join(lazy)}, got none"
            )
        return self.due(self.step.item())

    def _require_after(self) -> None:
        """Refuse to go on after a step of the model's optimizer that `after` was not told of. Steps of
        optimizers are counted, not writes to parameters, which averages and SAM change rightly.
        """
        own = set(self.model.parameters())
        steps = 0
        for optimizer in list(optimizers):
            if any(p in own for group in optimizer.param_groups for p in group["params"]):
                steps += optimizer.steps_taken.count
        afters = self._afters.count
        if self._last is not None and self._last[0] == afters and steps > self._last[1]:
            raise GraphError(
                "Objective: expected objective.after() after each step of the optimizer, for "
                f"{self._waiting}, got another step without it"
            )
        self._last = afters, steps

    def _mean(self, seen: Pass) -> tuple[Tensor, Tensor | None]:
        """The loss of the batch, and the sum of the weights that it was divided by."""
        if self._of_loss:
            return _scalar("loss", self.loss(seen)), None
        weights, of_classes = seen.given.get("weights"), seen.given.get("class_weights")
        if of_classes is not None:
            if weights is not None:
                raise ValueError("Objective: expected weights or class_weights, got both")
            losses, counted = weighted_by_class(self.loss, seen.logits, seen.target, of_classes)
            return _weighted_mean(losses, counted)
        if weights is None:
            losses = seen.unreduced
            return div(sum(losses), float(max(losses.array.size, 1))), None
        losses = seen.losses
        if not isinstance(weights, Tensor) or weights.shape != losses.shape:
            got = weights.shape if isinstance(weights, Tensor) else type(weights).__name__
            raise ShapeError(f"Objective: expected weights of the samples {losses.shape}, got {got}")
        weights = cast(weights, dtype=losses.dtype)
        return _weighted_mean(mul(losses, weights), weights)

    # State
    # --------------------------------------------------------------------------------------------------------

    def generators(self) -> dict[str, Generator]:
        """The penalties' generators by position, to save these alone; `state_dict` holds them too."""
        return {f"penalty{i}": penalty.generator for i, penalty in enumerate(self.penalties)}

    def state_dict(self) -> dict[str, Any]:
        """{"step": ..., "terms": {name: {"weight": ..., "generator": ..., Buffers and Modules of its own}}};
        the arrays share memory with the Objective.
        """
        return {
            "step": self.step.detach(),
            "terms": {
                name: {key: _state(thing) for key, thing in term.state().items()}
                for name, term in self._all().items()
            },
            **{name: {"generator": c.generator.state_dict()} for name, c in self._combines.items()},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of an Objective of the same terms, in place; recorded steps stay valid.
        Also from {"penalty0": state of a generator, ...}, which is all that there was before `state_dict`.

        Raises:
            ValueError: names or shapes other than this Objective's. Nothing is written unless all of it fits.
        """
        old = self.generators()
        if state_dict.keys() <= old.keys() and state_dict:
            _require_fit({name: old[name].state_dict() for name in state_dict}, state_dict)
            for name, theirs in state_dict.items():
                old[name].load_state_dict(theirs)
            return
        _require_fit(self.state_dict(), state_dict)
        with no_grad():
            _load(self.step, state_dict["step"])
            for name, term in self._all().items():
                for key, thing in term.state().items():
                    _load(thing, state_dict["terms"][name][key])
            for name, combine in self._combines.items():
                combine.generator.load_state_dict(state_dict[name]["generator"])


def _by_name(terms: list[Term]) -> dict[str, Term]:
    """The terms by names that differ: one that is there already gets its position."""
    named: dict[str, Term] = {}
    for i, term in enumerate(terms):
        if not isinstance(term, Term):
            raise TypeError(f"Objective: expected terms as Term or Penalty, got {type(term).__name__}")
        if any(term is other for other in named.values()):
            raise ValueError(f"Objective: expected each term once, got {term.name} again")
        name = f"{term.name}_{i}" if term.name in named else term.name
        if name in named or name in ("loss", "total"):
            raise ValueError(
                f"Objective: expected names that differ from loss, total and each other, got {name}"
            )
        named[name] = term
    return named


def _give_streams(terms: Mapping[str, Any]) -> None:
    """A generator of its own to each term that was given none: two never draw the same, and adding one leaves
    the draws of the others alone.
    """
    for name, term in terms.items():
        if term.generator is None:
            stream = (1 << 32) + zlib.crc32(name.encode())
            term.generator = Generator(default_generator.seed, stream)


def _counts(term: Term) -> bool:
    """Must the term know how many steps were taken?"""
    lazy = isinstance(term, Penalty) and (term.schedule is not None or term.every > 1)
    return lazy or getattr(term.after, "__func__", None) is not Term.after


def _followed(x: Any, wanted: bool) -> Any:
    """The inputs; floating ones that require no grad on handles that do, if that is wanted."""
    inputs = x if isinstance(x, tuple) else (x,)
    if not inputs or not all(isinstance(each, Tensor) for each in inputs):
        kinds = ", ".join(type(each).__name__ for each in inputs)
        raise TypeError(f"Objective: expected a tensor or a tuple of tensors as x, got ({kinds})")
    handles = tuple(
        each.detach().requires_grad_()
        if wanted and not each.requires_grad and each.dtype.kind == "f"
        else each
        for each in inputs
    )
    return handles if isinstance(x, tuple) else handles[0]


def _weighted_mean(losses: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Σ losses / Σ weights, of all ranks where they share a batch; and Σ weights."""
    sums = [sum(losses), sum(weights)]
    loss, whole = sums if state.shard is None else state.shard.sums(sums)
    return div(loss, whole), whole


def _scalar(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != ():
        got = value.shape if isinstance(value, Tensor) else type(value).__name__
        raise ShapeError(f"{name}: expected a value of shape (), got {got}")
    return value


@primitive(view=True)
def _with_zeros(value: Array, *others: Array) -> Array:
    """The value, whose derivative by what it does not depend on is zero, where it would be none."""
    return value[...]


@_with_zeros.joint
def _(
    needs: tuple[bool, ...], g: Tensor, *, others_shape: tuple[Any, ...], others_dtype: tuple[Any, ...]
) -> list[Tensor | None]:
    shapes = zip(others_shape, others_dtype, strict=True)
    zeros = (constant(g, np.zeros(shape, dtype)) for shape, dtype in shapes)
    return [x if need else None for need, x in zip(needs, (g, *zeros), strict=True)]


def _state(thing: Any) -> Any:
    return thing.detach() if isinstance(thing, Tensor) else thing.state_dict()


def _load(thing: Any, saved: Any) -> None:
    if isinstance(thing, Tensor):
        assign(thing, constant(thing, on_host(saved)))
    else:
        thing.load_state_dict(saved)


def _require_fit(own: Any, saved: Any, path: str = "") -> None:
    """A ValueError unless the saved tree has the keys and shapes of our own."""
    who = f"Objective.load_state_dict: {path or 'state'}"
    if not isinstance(own, Mapping):
        if isinstance(saved, Mapping) or np.shape(saved) != np.shape(own):
            got = "a dict" if isinstance(saved, Mapping) else np.shape(saved)
            raise ValueError(f"{who}: expected {np.shape(own)}, got {got}")
        return
    if not isinstance(saved, Mapping) or own.keys() != saved.keys():
        got = sorted(saved) if isinstance(saved, Mapping) else type(saved).__name__
        raise ValueError(f"{who}: expected {sorted(own)}, got {got}")
    for key in own:
        _require_fit(own[key], saved[key], f"{path}.{key}" if path else str(key))
