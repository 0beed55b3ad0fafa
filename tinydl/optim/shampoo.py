"""Shampoo: gradients divided by roots of their second moments along every axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.update import State

from ..engine.core import Tensor
from ..nn.parameter import Buffer
from .axes import double, gram, keep, require_host, turned
from .groups import Group
from .optimizer import Optimizer, at_least_0

__all__ = ["Shampoo"]


class Shampoo(Optimizer):
    """Shampoo. Gupta, Koren & Singer, Shampoo: preconditioned stochastic tensor optimization, arXiv
    1802.09568, algorithm 2.

        g = grad + weight_decay param
        moment_i = moment_i + G Gᵀ, where G is g unfolded along axis i; it begins as eps times the identity
        root_i = moment_i^(-1 / (2 k)), for a parameter of k axes; in every `every`-th step
        param -= lr u, where u is g with root_i applied along each axis i

    A parameter does not move before its first roots are there. moment_i and root_i are float64, of n x n
    numbers for an axis of n: eigenvectors, which take most of the time, cost about 10 n³ operations in NumPy.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        eps: what the moments begin with, >= 0.
        weight_decay: coefficient of the L2 penalty, >= 0.
        every: in which steps roots are computed, >= 1.
        maximize: step up the gradient.

    Raises:
        GraphError: a step inside a recorded step.
        DeviceError: a step on a GPU.
    """

    structural = frozenset({"every"})

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        every: int = 1,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "every": every}
        super().__init__(params, options | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay")
        if not options["every"] >= 1:
            raise ValueError(f"{cls.__name__}: every: expected at least 1, got {options['every']}")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"step": State("parameter", whole=True)}

    def _remember(self, group: Group) -> None:
        super()._remember(group)
        for p in group["params"]:
            for axis, n in enumerate(p.shape):
                self.state[p].setdefault(f"moment_{axis}", Buffer(group["eps"] * np.eye(n)))
                self.state[p].setdefault(f"root_{axis}", Buffer(np.zeros((n, n))))

    def prepare(self, groups: Sequence[Any]) -> None:
        """u in the place of the gradients."""
        for group, params, grads in groups:
            require_host(self, params)
            steps = self.states_of(group, "step", params)
            for i, (p, step) in enumerate(zip(params, steps, strict=True)):
                g = -grads[i] if group.data["maximize"] else grads[i]
                g = u = double(g + p * group.buffer("weight_decay"))
                now = (step.item() + 1) % group["every"] == 0
                for axis in range(p.ndim):
                    u = turned(u, axis, self._root(p, g, axis, now))
                grads[i] = u.to(dtype=p.dtype).contiguous()

    def _root(self, p: Tensor, g: Tensor, axis: int, now: bool) -> Tensor:
        """root_i, from the new moment if it is due now."""
        moment, root = (self.state[p][f"{name}_{axis}"] for name in ("moment", "root"))
        keep(moment, moment + gram(g, axis))
        if now:
            values, vectors = np.linalg.eigh(moment.numpy())
            values = np.maximum(values, np.finfo(float).eps * values[-1])  # rounding takes small ones below 0
            keep(root, (vectors * values ** (-0.5 / p.ndim)) @ vectors.T)
        return root

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        s.step = s.step + 1
        return {}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        return p - o.lr * g
