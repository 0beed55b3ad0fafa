"""Several tasks at once: how their losses are weighted, and what becomes of gradients that disagree.

A task is a function of (output, target), of whatever the model puts out, that gives a mean loss of shape ().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..devices import follow
from ..engine.backward import grad
from ..engine.core import Tensor, add, cast, no_grad, state
from ..nn.module import Module
from ..nn.parameter import Buffer, Parameter
from ..ops.creation import zeros_like
from ..ops.elementwise import div, exp, gt, maximum, minimum, mul, pow, sign, sqrt, square, sub, where
from ..ops.indexing import index_select
from ..ops.random import Generator, randperm
from ..ops.reduce import mean, sum
from ..ops.shape import cat, reshape, stack
from ..ops.update import assign
from .contract import Penalty, Weight
from .measures import of_all
from .passes import Pass

__all__ = ["GradNorm", "PCGrad", "UncertaintyWeighting"]

Task = Callable[[Any, Any], Tensor]
KINDS = ("regression", "classification")


def _losses(who: str, tasks: Sequence[Task], seen: Pass) -> list[Tensor]:
    found = [task(seen.logits, seen.target) for task in tasks]
    for i, loss in enumerate(found):
        if not isinstance(loss, Tensor) or loss.shape != ():
            got = loss.shape if isinstance(loss, Tensor) else type(loss).__name__
            raise ShapeError(f"{who}: expected a loss of shape () of task {i}, got {got}")
    return found


class UncertaintyWeighting(Penalty):
    """A loss: Σ_i ½e^{−s_i}L_i + ½s_i for regression (L the mean squared error), e^{−s_i}L_i + ½s_i for
    classification; s_i = log σ_i², at first 0, is trained: `optimizer = Adam([*model.parameters(),
    *objective.parameters()])`, without weight decay on s.

    Kendall et al., arXiv 1705.07115. At its best e^s is L, or 2L. The value may go below 0.

    tasks  functions of (output, target) that give mean losses
    kinds  "regression" or "classification" of each
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        kinds: Sequence[str],
        *,
        weight: Weight = 1.0,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if not tasks or len(kinds) != len(tasks) or any(kind not in KINDS for kind in kinds):
            raise ValueError(
                f"UncertaintyWeighting: expected kinds out of {KINDS} of each task, got {[*kinds]} of "
                f"{len(tasks)} tasks"
            )
        self.tasks, self.kinds = tuple(tasks), tuple(kinds)
        self.s = Parameter(np.zeros(len(tasks)))

    def __call__(self, seen: Pass) -> Tensor:
        losses = _losses("UncertaintyWeighting", self.tasks, seen)
        follow([self.s], losses[0].device)
        parts = []
        for i, (loss, kind) in enumerate(zip(losses, self.kinds, strict=True)):
            s = cast(self.s[i], dtype=loss.dtype)
            share = mul(exp(mul(s, -1.0)), 0.5 if kind == "regression" else 1.0)
            parts.append(add(mul(share, loss), mul(s, 0.5)))
        return reduce(add, parts)


class GradNorm(Penalty):
    """A loss: Σ_i w_i L_i with weights that keep the tasks' gradients at one size, more for those that lag.

    Chen et al., arXiv 1711.02257. G_i = ‖∇_W w_i L_i‖ of the last shared layer's parameter W; with
    r_i = (L_i/L_i⁰) by its mean, `objective.after()` moves w by a step lr down Σ|G_i − [mean G · r_i^α]|, the
    bracket a constant, and scales it to Σw = the number of tasks. L⁰ is of the first step. One more backward
    pass per task.

    tasks   functions of (output, target) that give mean losses
    shared  dotted name of the parameter W
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        shared: str,
        alpha: float = 1.5,
        lr: float = 0.025,
        *,
        weight: Weight = 1.0,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        if not tasks or not alpha >= 0 or not lr >= 0:
            raise ValueError(
                f"GradNorm: expected tasks, alpha and lr of at least 0, got {len(tasks)} tasks, {alpha}, {lr}"
            )
        self.tasks, self.shared, self.alpha, self.lr = tuple(tasks), shared, alpha, lr
        self.shares, self.slopes = Buffer(np.ones(len(tasks))), Buffer(np.zeros(len(tasks)))
        self.first, self.started = Buffer(np.ones(len(tasks))), Buffer(0.0, np.float64)

    def __call__(self, seen: Pass) -> Tensor:
        losses = _losses("GradNorm", self.tasks, seen)
        follow([self.shares, self.slopes, self.first, self.started], losses[0].device)
        named = dict(seen.model.named_parameters())
        if self.shared not in named:
            raise ValueError(f"GradNorm: expected shared out of {[*named]}, got {self.shared!r}")
        if not state.grad:  # an evaluation moves nothing
            shares = cast(self.shares, dtype=losses[0].dtype)
            return reduce(add, [mul(loss, shares[i]) for i, loss in enumerate(losses)])
        lengths = []
        for i, loss in enumerate(losses):
            (g,) = grad(loss, named[self.shared], retain_graph=True, allow_unused=True)
            if g is None:
                raise GraphError(
                    f"GradNorm: expected task {i} to depend on {self.shared!r}, got one that does not"
                )
            lengths.append(sqrt(sum(square(of_all(g)))))
        with no_grad():
            length = cast(stack(lengths), dtype=np.dtype(np.float64))
            value = cast(of_all(stack(losses)), dtype=np.dtype(np.float64))
            assign(self.first, where(gt(self.started, 0.0), self.first, value))
            ratio = div(value, self.first)
            ratio = div(ratio, mean(ratio))
            size = mul(length, self.shares)
            wanted = mul(mean(size), pow(ratio, self.alpha))
            assign(self.slopes, mul(sign(sub(size, wanted)), length))
            shares = cast(self.shares, dtype=losses[0].dtype)
        return reduce(add, [mul(loss, shares[i]) for i, loss in enumerate(losses)])

    def after(self, model: Module, optimizer: Any) -> None:
        moved = maximum(sub(self.shares, mul(self.slopes, self.lr)), 1e-8)
        assign(self.shares, mul(div(moved, sum(moved)), float(len(self.tasks))))
        assign(self.started, 1.0)


class PCGrad:
    """Gradient surgery, an Objective's `combine=`: where two parts' gradients oppose each other, each loses
    what of it points against the other; then they are added up. `terms.backward()` leaves the sum in `.grad`.

    Yu et al., arXiv 2001.06782: for each part the others come in a random order,
    g_i ← g_i − min(0, g_i·g_j/‖g_j‖²) g_j with g_j as it was at first. The parts are the loss and each
    penalty, weighted. One backward pass per part, and a copy of all gradients for each. Without a generator
    the Objective gives it a stream; the Objective's state holds that.
    """

    name = "pc_grad"

    def __init__(self, generator: Generator | None = None) -> None:
        self.generator: Any = generator

    def __call__(self, parts: Sequence[Tensor], parameters: list[Tensor]) -> None:
        rows, dtype = [], np.result_type(*{p.dtype for p in parameters})
        for part in parts:
            found = grad(part, parameters, retain_graph=True, allow_unused=True)
            with no_grad():
                whole = [zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
                rows.append(cat([cast(reshape(g, (-1,)), dtype=dtype) for g in whole]))
        with no_grad():
            total = reduce(add, [self._projected(i, rows) for i in range(len(rows))])
            start = 0
            for p in parameters:
                size = int(np.prod(p.shape))
                g = cast(reshape(total[start : start + size], p.shape), dtype=p.dtype)
                p.grad = g if p.grad is None else add(p.grad, g)
                start += size

    def _projected(self, i: int, rows: list[Tensor]) -> Tensor:
        """Row i without what of it opposes the others, in an order of its own."""
        g, others = rows[i], [row for j, row in enumerate(rows) if j != i]
        if not others:
            return g
        table = stack(others)
        order = randperm(len(others), self.generator, device=g.device)
        for k in range(len(others)):
            other = index_select(table, 0, order[k : k + 1])[0]
            square_length = sum(square(other))
            share = div(sum(mul(g, other)), where(gt(square_length, 0.0), square_length, 1.0))
            g = sub(g, mul(other, minimum(share, 0.0)))
        return g
