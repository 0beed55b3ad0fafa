"""What every look at a network shares: the layer of a name, a forward pass without a trace, a class's
score.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..devices import on_host
from ..engine.core import Tensor, cast, enable_grad
from ..nn.extra_forward import extra_forward
from ..nn.module import Module
from ..ops.creation import tensor
from ..ops.elementwise import mul
from ..ops.indexing import one_hot
from ..ops.random import Generator
from ..ops.reduce import sum
from ..ops.shape import reshape
from ..regularizers.passes import in_mode

Target = int | np.ndarray | Tensor | Callable[[Tensor], Tensor] | None
"""Which number of an output is looked at: a class for all samples, one for each, None for the one that is
largest; or a function of the output that gives a score (N,).
"""


def layer_of(who: str, model: Module, name: str) -> Module:
    """The module at a dotted path; a wrong one is an AttributeError that names what is near."""
    known = dict(model.named_modules(None, "", False))
    if name in known:
        return known[name]
    near = difflib.get_close_matches(str(name), known, 4, 0.4) or [path for path in known if path][:8]
    kind, such = type(model).__name__, ", ".join(near) or "none"
    raise AttributeError(f"{who}: expected a layer of {kind}, such as {such}; got {name!r}")


@contextmanager
def looking(model: Module) -> Iterator[None]:
    """Eval mode, statistics that stay, draws from a stream of their own; on the tape, whatever is outside."""
    with in_mode(model, "eval"), extra_forward(Generator()), enable_grad():
        yield


def as_input(model: Module, x: Any, follow: bool = False) -> Tensor:
    """A new tensor of the values, where the model is and, if floating, in its dtype; a leaf if `follow`."""
    values = on_host(x)
    like = next((p for p in model.parameters() if p.dtype.kind == "f"), None)
    if values.ndim == 0:
        raise ShapeError("inspection: expected a batch (N, ...), got one number")
    if values.dtype.kind not in "fiub":
        raise DtypeError(f"inspection: expected numbers, got {values.dtype}")
    if follow and values.dtype.kind != "f":
        raise DtypeError(f"inspection: expected a floating input to differentiate by, got {values.dtype}")
    dtype = like.dtype if like is not None and values.dtype.kind == "f" else None
    made = tensor(values, dtype=dtype, device="cpu" if like is None else like.device)
    return made.requires_grad_() if follow else made


class Seen(NamedTuple):
    """A forward pass."""

    output: Tensor
    layers: dict[str, Tensor]  # outputs of the layers that were asked for, at their last call


def forward(who: str, model: Module, x: Tensor, *layers: str) -> Seen:
    """The output and those of the layers by name, on the tape; call it inside `looking`."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., Tensor]:
        def hook(module: Module, inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                kind = type(output).__name__
                raise TypeError(f"{who}: layer {name!r}: expected a tensor as its output, got {kind}")
            if not output.requires_grad and output.dtype.kind == "f":
                output = output.detach().requires_grad_()  # what lies before it is constant
            found[name] = output
            return output

        return hook

    with ExitStack() as scope:
        for name in dict.fromkeys(layers):
            handle = layer_of(who, model, name).register_forward_hook(keep(name))
            scope.callback(handle.remove)
        output = model(x)
    for name in layers:
        if name not in found:
            raise ShapeError(f"{who}: expected layer {name!r} to run in a forward pass, got no call of it")
    if not isinstance(output, Tensor):
        raise TypeError(f"{who}: expected a tensor as the model's output, got {type(output).__name__}")
    return Seen(output, found)


def classes_of(who: str, output: Tensor, target: Target) -> np.ndarray:
    """int64 (N,): the class that is looked at, of each sample of an output (N, K, *)."""
    if output.ndim < 2:
        raise ShapeError(f"{who}: expected scores (N, classes, ...), got {output.shape}")
    samples, count = output.shape[:2]
    values = on_host(output).reshape(samples, count, -1)
    chosen = values.max(2).argmax(1) if target is None else on_host(target)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (samples,)):
        got = f"{chosen.dtype} {chosen.shape}"
        raise ShapeError(f"{who}: expected a class, or one for each of {samples} samples, got {got}")
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < count:
        raise ShapeError(f"{who}: expected classes of 0 to {count - 1}, got {chosen.min()} to {chosen.max()}")
    return np.broadcast_to(chosen, (samples,)).astype(np.int64)


def scores(who: str, output: Tensor, target: Target) -> Tensor:
    """(N,): what is looked at of each sample, on the tape; over positions (N, K, *) the sum."""
    if callable(target) and not isinstance(target, Tensor):
        chosen = target(output)
        if not isinstance(chosen, Tensor) or chosen.shape != output.shape[:1]:
            got = chosen.shape if isinstance(chosen, Tensor) else type(chosen).__name__
            raise ShapeError(f"{who}: expected a score for each sample {output.shape[:1]}, got {got}")
        return chosen
    hot = one_hot(tensor(classes_of(who, output, target), device=output.device), output.shape[1])
    wide = output if output.ndim == 2 else sum(reshape(output, (*output.shape[:2], -1)), 2)
    return sum(mul(wide, cast(hot, dtype=wide.dtype)), 1)


def fixed(who: str, model: Module, x: Any, target: Target) -> Target:
    """The target with None replaced by the classes that the model itself gives x."""
    if target is not None:
        return target
    with looking(model):
        return classes_of(who, forward(who, model, as_input(model, x)).output, None)
