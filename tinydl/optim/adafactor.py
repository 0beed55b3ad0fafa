"""Adafactor: of the second moments of a matrix only the means of its rows and of its columns are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine import memory
from tinydl_kernels.update import State

from ..devices import follow
from ..engine.core import Tensor
from ..nn.parameter import Buffer
from ..ops.elementwise import where
from ..ops.update import assign
from .groups import Group
from .optimizer import Optimizer, at_least_0

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    """Adafactor, as torch.optim.Adafactor. Shazeer & Stern, Adafactor: adaptive learning rates with sublinear
    memory cost, arXiv 1804.04235, algorithms 4 to 6.

        b = step^beta2_decay;   rate = max(eps2, rms(param)) min(lr, 1 / √step)
        row_var += b (mean of grad² over the last axis - row_var);   col_var likewise over the one before
        variance = row_var col_var / max(mean of row_var, eps1)
        u = grad / √max(variance, eps1²)
        param = (1 - lr weight_decay) param - rate u / max(1, rms(u) / d)

    A parameter of one dim or none has `variance` itself as its state. rms(x) is |x| / √(numbers in x). The
    first of more than two axes are those of a batch of matrices.

    Args:
        params: see `Optimizer`.
        lr: the most that a step is in proportion to the parameter, >= 0.
        beta2_decay: how fast the weight of a new gradient falls, <= 0.
        eps: (eps1, eps2), each >= 0; None for eps1 is the machine epsilon of the parameter's dtype.
        d: rms(u) from which on u is scaled down, >= 1.
        weight_decay: coefficient of the decoupled decay, >= 0.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay}
        super().__init__(params, options | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "weight_decay")
        if not options["beta2_decay"] <= 0:
            raise ValueError(f"{cls.__name__}: beta2_decay: expected at most 0, got {options['beta2_decay']}")
        eps = options["eps"]
        if len(eps) != 2 or not ((eps[0] is None or eps[0] >= 0) and eps[1] >= 0):
            raise ValueError(
                f"{cls.__name__}: eps: expected None or a number of at least 0, and a number of at least 0, "
                f"got {eps}"
            )
        if not options["d"] >= 1:
            raise ValueError(f"{cls.__name__}: d: expected at least 1, got {options['d']}")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"step": State("parameter", whole=True)}

    def _remember(self, group: Group) -> None:
        super()._remember(group)
        for p in group["params"]:
            *batch, rows, columns = p.shape if p.ndim > 1 else (0, 0)
            shapes = {"row_var": (*batch, rows, 1), "col_var": (*batch, 1, columns)}
            for name, shape in (shapes if p.ndim > 1 else {"variance": p.shape}).items():
                if name not in self.state[p]:
                    own = self.state[p][name] = Buffer(0)
                    own.array = memory.array_module(p.array).zeros(shape, p.dtype)

    def prepare(self, groups: Sequence[Any]) -> None:
        """What is taken off the parameter in the place of its gradient."""
        for group, params, grads in groups:
            for i, (p, count) in enumerate(zip(params, self.states_of(group, "step", params), strict=True)):
                step = count.to(dtype=np.float64) + 1.0
                eps1, eps2 = group.buffers.get("eps", group.data["eps"])
                eps1 = float(np.finfo(p.dtype).eps) if eps1 is None else eps1
                variance = self._variance(p, grads[i], step ** group.buffer("beta2_decay"), eps1)
                u = grads[i] / variance.maximum(eps1 * eps1).sqrt()
                rate = _rms(p).maximum(eps2) * group.buffer("lr").minimum(step**-0.5)
                rate = rate / (_rms(u) / group.buffer("d")).maximum(1.0)
                taken = u * (-rate if group.data["maximize"] else rate)
                grads[i] = taken.to(dtype=p.dtype).contiguous()  # of a number it is float64

    def _variance(self, p: Tensor, g: Tensor, weight: Tensor, eps1: Any) -> Tensor:
        """The mean square of each element, from moments that have seen g."""
        own, square = self.state[p], g.square()
        if p.ndim < 2:
            return _toward(own["variance"], square, weight, p)
        row = _toward(own["row_var"], square.mean(-1, keepdim=True), weight, p)
        column = _toward(own["col_var"], square.mean(-2, keepdim=True), weight, p)
        return row * column / row.mean(-2, keepdim=True).maximum(eps1)

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        s.step = s.step + 1
        return {}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        return (1.0 - o.lr * o.weight_decay) * p - g


def _toward(state: Buffer, value: Tensor, weight: Tensor, p: Tensor) -> Tensor:
    """state += weight (value - state), with 0 for subnormal numbers."""
    follow([state], p.device)
    moved = state + (value - state) * weight
    assign(state, where(abs(moved) < float(np.finfo(p.dtype).tiny), 0.0, moved))
    return state


def _rms(x: Tensor) -> Tensor:
    """√(mean x²), of squares in float64."""
    return (x.to(dtype=np.float64).square().sum() / max(1, math.prod(x.shape))).sqrt()
