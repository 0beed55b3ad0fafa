"""The one forward pass of an objective, as its terms see it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..engine.backward import grad
from ..engine.core import Tensor, cast, state
from ..engine.tape import Slot
from ..nn.extra_forward import extra_forward
from ..nn.module import Module, intercept
from ..ops.elementwise import add, mul, sub
from ..ops.indexing import index_select, one_hot
from ..ops.random import Draw, Generator, remember, repeat
from ..ops.reduce import mean, sum
from ..ops.shape import cat, reshape
from ..ops.softmax import log_softmax

__all__ = ["Mixed", "Pass"]


class Mixed(NamedTuple):
    """Targets of which each sample has two: share · a + (1 - share) · b, share (B,)."""

    a: Tensor
    b: Tensor
    share: Tensor

    def mixture(self, of_a: Tensor, of_b: Tensor) -> Tensor:
        """The same mixture of what was computed from each, both (B, *)."""
        share = cast(reshape(self.share, (-1, *(1,) * (of_a.ndim - 1))), dtype=of_a.dtype)
        return add(mul(of_a, share), mul(of_b, sub(1.0, share)))


def unreduced(loss: Any, logits: Tensor, target: Any) -> Tensor:
    """What the loss gives with reduction="none": of a `Mixed` target the mixture of both."""
    of = functools.partial(loss, logits, reduction="none")
    return target.mixture(of(target.a), of(target.b)) if isinstance(target, Mixed) else of(target)


def weighted_by_class(loss: Any, logits: Tensor, target: Any, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The unreduced losses, each times the weight of its class, and these weights; of a `Mixed` target the
    mixture of both sides.
    """
    if isinstance(target, Mixed):
        sides = [weighted_by_class(loss, logits, each, weights) for each in (target.a, target.b)]
        losses, counted = (target.mixture(*pair) for pair in zip(*sides, strict=True))
        return losses, counted
    require_labels(weights, target)
    losses = unreduced(loss, logits, target)
    if losses.shape != target.shape:
        raise ShapeError(f"Objective: expected a loss per class index {target.shape}, got {losses.shape}")
    chosen = reshape(index_select(weights, 0, reshape(target, (-1,))), target.shape)
    chosen = cast(chosen, dtype=losses.dtype)
    return mul(losses, chosen), chosen


def require_labels(weights: Tensor, target: Any) -> None:
    """Refuse weights of classes where targets are none."""
    if weights.ndim != 1 or not isinstance(target, Tensor) or target.dtype.kind not in "iu":
        got = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise ShapeError(
            f"Objective: expected class_weights (m,) and class indices, got {weights.shape} and {got}"
        )


def depends(x: Tensor, apart: set[Slot | None]) -> bool:
    """Was x computed from a leaf that requires grad, other than these?"""
    if x.node is None:
        return x.slot is not None and x.slot not in apart
    seen, stack = {x.node}, [x.node]
    while stack:
        for edge in stack.pop().edges or ():
            if edge is None:
                continue
            if edge.node is None:
                if edge.slot is not None and edge.slot not in apart:
                    return True
            elif edge.node not in seen:
                seen.add(edge.node)
                stack.append(edge.node)
    return False


def followed_gradients(
    who: str, outputs: Tensor, seed: Tensor | None, inputs: Sequence[Tensor], of: str
) -> tuple[Tensor, ...]:
    """∂<outputs, seed>/∂ each of the inputs on the tape; without a seed of the sum of the outputs. Inputs
    that the outputs do not depend on are left out.
    """
    if not state.grad:
        raise GraphError(
            f"{who}: expected a forward pass on the tape, got no_grad: the penalty would train nothing"
        )
    if not all(x.requires_grad for x in inputs):
        raise GraphError(
            f"{who}: expected an input x that requires grad before the forward pass, got one that does not"
        )
    wanted = f"{who}: expected outputs computed from {of} on the tape, got {outputs.shape}"
    if not outputs.requires_grad:
        raise GraphError(f"{wanted} without a graph")
    outputs = outputs if seed is not None or outputs.ndim == 0 else sum(outputs)
    found = grad(outputs, inputs, seed, create_graph=True, allow_unused=True)
    gradients = tuple(g for g in found if g is not None)
    if not gradients:
        raise GraphError(f"{wanted} that do not depend on it")
    return gradients


def require_trainable(who: str, value: Tensor, followed: set[Slot | None]) -> None:
    """A GraphError unless a leaf can change the value that is a parameter, no followed input."""
    if not depends(value, followed):
        raise GraphError(
            f"{who}: expected a penalty that parameters can change, got one in which every parameter is "
            "constant"
        )


@contextmanager
def in_mode(model: Module, mode: str | None) -> Iterator[None]:
    """Train or eval mode in the scope; afterwards each module's own again."""
    before = [(module, module.training) for module in model.modules()] if mode else []
    try:
        if mode:
            model.train(mode == "train")
        yield
    finally:
        for module, training in before:
            object.__setattr__(module, "training", training)


class Pass:
    """One forward pass, as terms see it. What no term asks for is not computed, and nothing is twice.

    Attributes:
        model, target: what the Objective was given; the target as `before` left it.
        x: the input, or the tuple of inputs; the floating ones require grad where a term follows them.
        inputs: the same as a tuple.
        given: what else the Objective was called with, by name.
        logits: the model's output.
        outputs: what each layer that a term names put out (at its last call), by dotted path.
        taken: what each layer in a term's `inputs_of` took (at its last call), by dotted path.
        draws: the pass's random numbers, for `td.repeat`.
    """

    def __init__(
        self,
        model: Module,
        x: Any,
        target: Any = None,
        *,
        loss: Any = None,
        given: Mapping[str, Any] | None = None,
        layers: Iterable[str] = (),
        inputs_of: Iterable[str] = (),
        replace: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        followed: set[Slot | None] | None = None,
    ) -> None:
        self.model, self.x, self.target, self.loss, self.given = model, x, target, loss, given or {}
        self.inputs: tuple[Tensor, ...] = x if isinstance(x, tuple) else (x,)
        self.outputs: dict[str, Tensor] = {}
        self.taken: dict[str, Tensor] = {}
        self.replace = dict(replace or {})
        self._gradients: dict[Any, Any] = {}
        # Leaves that are no parameters: inputs, also those of extra passes, and kept outputs.
        self.followed: set[Slot | None] = set() if followed is None else followed
        self.followed.update(x.slot for x in self.inputs)
        with ExitStack() as scope:
            for layer, function in self.replace.items():
                scope.enter_context(intercept(model, layer, function))
            for layer in dict.fromkeys(layers):
                scope.enter_context(intercept(model, layer, functools.partial(self._keep, layer)))
            for layer in dict.fromkeys(inputs_of):
                take = functools.partial(self._take, layer)
                scope.callback(model.get_submodule(layer).register_forward_pre_hook(take).remove)
            self.draws: list[Draw] = scope.enter_context(remember())
            self.logits: Tensor = model(*self.inputs)

    def _keep(self, layer: str, output: Tensor) -> Tensor:
        """Keep a layer's output; one before which nothing is trainable is a leaf of the tape from here on."""
        if not isinstance(output, Tensor):
            raise TypeError(f"layer {layer!r}: expected a tensor as its output, got {type(output).__name__}")
        if state.grad and not output.requires_grad and output.dtype.kind == "f":
            output = output.detach().requires_grad_()
            self.followed.add(output.slot)
        self.outputs[layer] = output
        return output

    def _take(self, layer: str, module: Module, inputs: tuple[Tensor, ...]) -> None:
        self.taken[layer] = inputs[0]

    @property
    def samples(self) -> int:
        """B, the number of samples."""
        return self.inputs[0].shape[0]

    @functools.cached_property
    def unreduced(self) -> Tensor:
        """What the loss gives with reduction="none", of any shape."""
        if self.loss is None:
            raise GraphError("Pass: expected a loss that gives one value per sample, got none")
        return unreduced(self.loss, self.logits, self.target)

    @functools.cached_property
    def losses(self) -> Tensor:
        """(B,), the loss of each sample: the mean over its positions or outputs where there are several."""
        losses, samples = self.unreduced, self.samples
        if losses.ndim == 0 or losses.shape[0] != samples:
            raise ShapeError(
                f"Pass: expected losses of the {samples} samples (reduction='none'), got {losses.shape}"
            )
        return losses if losses.ndim == 1 else mean(_rows(losses), 1)

    @functools.cached_property
    def log_probabilities(self) -> Tensor:
        """log softmax of the logits over the classes, axis 1."""
        return log_softmax(self.logits, 1)

    @functools.cached_property
    def target_weights(self) -> Tensor:
        """(B, m) in the dtype of the logits: the targets, one-hot, soft or mixed, as weights of classes."""
        target = self.target
        if isinstance(target, Mixed):
            return target.mixture(self._one_hot(target.a), self._one_hot(target.b))
        return self._one_hot(target)

    def _one_hot(self, target: Tensor) -> Tensor:
        hot = target if target.dtype.kind == "f" else one_hot(target, self.logits.shape[1])
        return cast(hot, dtype=self.logits.dtype)

    def gradients(
        self, outputs: Tensor, seed: Tensor | None = None, wrt: str | None = None, who: str = "slopes"
    ) -> tuple[Tensor, ...]:
        """∂<outputs, seed>/∂h on the tape for each followed input h, or for the output of the layer `wrt`;
        without a seed of the sum of the outputs. Computed once for the same tensors.
        """
        inputs = [x for x in self.inputs if x.requires_grad] if wrt is None else [self.outputs[wrt]]
        if not inputs:
            dtypes = ", ".join(str(x.dtype) for x in self.inputs)
            how = "a term says follows = True" if "float" in dtypes else "wrt= names a layer"
            raise GraphError(f"{who}: expected an input to follow, got none of {dtypes}; {how}")
        key = id(outputs), id(seed), wrt
        if key not in self._gradients:
            of = f"layer {wrt!r}" if wrt else "x"
            found = followed_gradients(who, outputs, seed, inputs, of)
            self._gradients[key] = outputs, seed, found  # the tensors too, so that no id comes again
        return self._gradients[key][2]

    def slopes(self, scalars: Tensor, wrt: str | None = None, who: str = "slopes") -> Tensor:
        """(B, features): row b of ∂(Σ scalars)/∂(inputs, or the output of the layer `wrt`), on the tape.

        The derivative of the *sum*: under batch statistics row b holds the other samples' scalars too.
        """
        rows = [_rows(g) for g in self.gradients(scalars, None, wrt, who)]
        return rows[0] if len(rows) == 1 else cat(rows, 1)

    def again(
        self,
        x: Any = None,
        *,
        model: Module | None = None,
        draws: str = "same",
        generator: Generator | None = None,
        mode: str | None = None,
        replace: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        layers: Iterable[str] = (),
    ) -> Pass:
        """Another forward pass, which leaves no trace: running statistics, streams, modes and hooks stay as
        they were, also after an exception.

        Args:
            x: other inputs; by default this pass's.
            model: another model, a teacher or a critic.
            draws: "same" repeats this pass's random numbers, and what this pass of the model replaced is
                replaced again; "own" draws from `generator`.
            mode: "train" or "eval" in place of each module's own mode, for this pass.
            replace: by a layer's dotted path a function of its output; what it returns goes on in its place.
            layers: dotted paths of layers whose outputs are kept.
        """
        for name, value, choices in (
            ("draws", draws, ("same", "own")),
            ("mode", mode, (None, "train", "eval")),
        ):
            if value not in choices:
                raise ValueError(f"again: expected {name} in {choices}, got {value!r}")
        if draws == "own" and generator is None:
            raise ValueError("again: expected a generator to draw from, got None")
        model, x = self.model if model is None else model, self.x if x is None else x
        samples = (x[0] if isinstance(x, tuple) else x).shape[0]
        if draws == "same" and samples != self.samples:
            raise ShapeError(
                f"again: expected the {self.samples} samples whose draws are repeated, got {samples}"
            )
        if draws == "same" and model is self.model:
            replace = {**self.replace, **(replace or {})}
        with ExitStack() as scope:
            scope.enter_context(in_mode(model, mode))
            scope.enter_context(extra_forward(generator))
            if draws == "same":
                scope.enter_context(repeat(self.draws))
            return Pass(
                model,
                x,
                self.target,
                loss=self.loss,
                given=self.given,
                layers=layers,
                replace=replace,
                followed=self.followed,
            )


def _rows(x: Tensor) -> Tensor:
    """(B, *) as (B, features)."""
    return x if x.ndim == 2 else reshape(x, (x.shape[0], math.prod(x.shape[1:])))
