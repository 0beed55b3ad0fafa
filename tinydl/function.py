"""Functions that say their own derivative, as torch.autograd.Function."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from tinydl_kernels import elementwise
from tinydl_kernels.machine.errors import GraphError

from .engine.core import Array, Tensor, no_grad, primitive, state
from .ops.creation import zeros

__all__ = ["Function", "FunctionCtx"]


class FunctionCtx:
    """What `forward` leaves for `backward`: saved tensors, and attributes of your own.

    Attributes:
        saved_tensors: what `save_for_backward` was given; inputs and outputs are on the tape, so that
            `backward` can be differentiated.
        needs_input_grad: for each argument of `apply`, does it need a gradient?
    """

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._constant: set[int] = set()
        self._materialize = True
        self._places: list[int] = []  # of the arguments that need a gradient
        self._moving: list[int] = []  # the outputs that have a derivative
        self._like: list[Any] = []  # shape, dtype and device of each output that is a tensor
        self._node: Any = lambda: None
        self._outputs: dict[int, int] = {}  # a saved output: which one

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs, outputs, or what was computed between. None stays None."""
        self._saved = tensors

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """These outputs carry no gradient, as those of integers never do."""
        self._constant |= {id(y) for y in outputs}

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Refused: what the tape has seen is not written in place."""
        raise GraphError("mark_dirty: expected inputs that stay as they are: return a new tensor")

    def set_materialize_grads(self, value: bool) -> None:
        """Should `backward` see zeros (the default) or None for an output that nothing came from?"""
        self._materialize = bool(value)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return tuple(self._restored(i, x) for i, x in enumerate(self._saved))

    def _restored(self, i: int, saved: Any) -> Any:
        if saved is None:
            return None
        x, count = saved
        if x.version.count != count:
            raise GraphError(
                f"saved_tensors: expected tensor {i} {x.shape} {x.dtype} at version {count}, got version "
                f"{x.version.count}: it was written before the backward pass"
            )
        if i in self._outputs:
            return Tensor(x.array, x.version, self._node(), self._outputs[i])
        return x

    def _keep(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Hold what was saved by arrays and places on the tape: tensors of the user's would make cycles."""
        given = {id(x): x for x in inputs}
        made = {id(y): k for k, y in enumerate(outputs)}
        kept: list[Any] = []
        for i, x in enumerate(self._saved):
            if x is None:
                kept.append(None)
                continue
            x.version.taped = True
            if id(x) in made and id(x) not in given:
                self._outputs[i] = made[id(x)]
            place = (x.node, x.index, x.slot) if id(x) in given else ()
            kept.append((Tensor(x.array, x.version, *place), x.version.count))
        self._saved = tuple(kept)


@primitive(strided=True, outputs=("*outputs",))
def _attached(*arrays: Array, call: Any, count: int) -> tuple[Array, ...]:
    """Copies of the first `count` arrays; their gradients go, by the call's `backward`, to the others."""
    return tuple(elementwise.copy(x) for x in arrays[:count])


_attached.mixed = True


@_attached.joint
def _(needs: tuple[bool, ...], g: Sequence[Tensor | None], *, call: Any, count: int) -> list[Any]:
    return [None] * count + call(g)


class _Call:
    """One call of a function, as its rule knows it."""

    def __init__(
        self, function: type[Function], ctx: FunctionCtx, inputs: Sequence[Tensor], given: int
    ) -> None:
        self.function, self.ctx, self.given = function, ctx, given
        self.like = list(map(_like, inputs))

    def __call__(self, g: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients of the inputs that need one."""
        ctx, name = self.ctx, self.function.__name__
        arrived = dict(zip(ctx._moving, g, strict=True))
        seen = [
            _zeros(like) if arrived.get(k) is None and ctx._materialize and like else arrived.get(k)
            for k, like in enumerate(ctx._like)
        ]
        found = self.function.backward(ctx, *seen)
        found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        while len(found) > self.given and found[-1] is None:
            found = found[:-1]
        if len(found) != self.given:
            raise GraphError(
                f"{name}.backward: expected {self.given} gradients, one for each argument of forward, got "
                f"{len(found)}"
            )
        wanted = []
        for i, like in zip(ctx._places, self.like, strict=True):
            x = found[i]
            if x is not None and (not isinstance(x, Tensor) or (x.shape, x.dtype) != like[:2]):
                got = f"{x.shape} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
                raise GraphError(f"{name}.backward: expected {like[0]} {like[1]} for argument {i}, got {got}")
            wanted.append(_zeros(like) if x is None else x)
        return wanted


def _like(x: Any) -> Any:
    return (x.shape, x.dtype, x.device) if isinstance(x, Tensor) else None


def _zeros(like: tuple[tuple[int, ...], Any, str]) -> Tensor:
    shape, dtype, device = like
    return zeros(*shape, dtype=dtype, device=device)


class Function:
    """A function whose derivative you write yourself:

        class Exp(td.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                y = x.exp()
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx, g):
                (y,) = ctx.saved_tensors
                return g * y

        y = Exp.apply(x)

    `forward` runs off the tape; `backward` gets the gradient of each output and returns that of each argument
    of `forward`, None for what has none. What `backward` computes is on the tape under `create_graph`, so
    that a derivative of any order is that of what you wrote. Both record. As in PyTorch,
    `forward(*arguments)` may do without ctx where `setup_context(ctx, inputs, output)` is defined.
    """

    @staticmethod
    def forward(*arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError("Function: expected a subclass with a static method `forward`")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        raise NotImplementedError

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Any) -> Any:
        raise NotImplementedError("Function: expected a subclass with a static method `backward`")

    @classmethod
    def apply(cls, *arguments: Any, **keywords: Any) -> Any:
        """Call it.

        Raises:
            GraphError: in the backward pass, gradients of another number, shape or dtype.
        """
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple(
            isinstance(x, Tensor) and x.requires_grad and state.grad for x in arguments
        )
        ctx._places = [i for i, needed in enumerate(ctx.needs_input_grad) if needed]
        with no_grad():
            if cls.setup_context is Function.setup_context:
                output = cls.forward(ctx, *arguments, **keywords)
            else:
                output = cls.forward(*arguments, **keywords)
                cls.setup_context(ctx, arguments, output)
        several = isinstance(output, (tuple, list))
        outputs = list(output) if several else [output]
        moving = [
            k
            for k, y in enumerate(outputs)
            if isinstance(y, Tensor) and y.dtype.kind == "f" and id(y) not in ctx._constant
        ]
        made = [outputs[k] for k in moving]
        ctx._keep([x for x in arguments if isinstance(x, Tensor)], made)
        if ctx._places and moving:
            ctx._moving, ctx._like = moving, list(map(_like, outputs))
            inputs = [arguments[i] for i in ctx._places]
            call = _Call(cls, ctx, inputs, len(arguments))
            plain = [Tensor(y.array, y.version) for y in made]
            attached = _attached(*plain, *inputs, call=call, count=len(made))
            ctx._node = weakref.ref(attached[0].node)
            for k, y in zip(moving, attached, strict=True):
                outputs[k] = y
        else:  # what forward returned may be its argument
            for k in moving:
                outputs[k] = outputs[k].detach()
        return type(output)(outputs) if several else outputs[0]
