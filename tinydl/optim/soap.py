"""SOAP: Adam in the eigenvectors of Shampoo's moments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.update import State
from tinydl_kernels.update.expression import sqrt, where

from ..engine.core import Tensor
from ..nn.parameter import Buffer
from ..ops.update import assign
from .axes import double, gram, keep, require_host, turned
from .groups import Group
from .optimizer import Optimizer, at_least_0, betas_below_1

__all__ = ["SOAP"]


class SOAP(Optimizer):
    """SOAP. Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, arXiv 2409.11321, algorithm 3.

        gram_i = (1 - shampoo_beta) G Gᵀ, where G is the gradient unfolded along axis i
        basis_i = eigenvectors of gram_i, by falling eigenvalues

    in the first step, which moves nothing; then, with t counted from here,

        exp_avg = beta1 exp_avg + (1 - beta1) g
        exp_avg_sq = beta2 exp_avg_sq + (1 - beta2) (g turned into the bases)²
        u = (exp_avg turned into the bases) / (√exp_avg_sq + eps), turned back
        param -= lr √(1 - beta2^t) / (1 - beta1^t) u
        param -= lr weight_decay param
        gram_i = shampoo_beta gram_i + (1 - shampoo_beta) G Gᵀ
        basis_i = the orthogonal factor of gram_i basis_i, in every `every`-th step, once its columns are
        ordered by falling basis_iᵀ gram_i basis_i, as exp_avg_sq is

    Parameters of one dim or none are not turned: there it is Adam with eps beside √exp_avg_sq. gram_i and
    basis_i are float64, of n x n numbers for an axis of n.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        betas: (beta1, beta2), each in [0, 1).
        shampoo_beta: in [0, 1); None is beta2.
        eps: >= 0.
        weight_decay: coefficient of the decay after the step, >= 0.
        every: in which steps the bases follow, >= 1.
        correct_bias: with the factor √(1 - beta2^t) / (1 - beta1^t).
        maximize: step up the gradient.

    Raises:
        GraphError: a step inside a recorded step.
        DeviceError: a step on a GPU.
    """

    structural = frozenset({"every"})

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        every: int = 10,
        correct_bias: bool = True,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "every": every}
        flags = {"correct_bias": correct_bias, "maximize": maximize}
        super().__init__(params, {**numbers, "betas": betas, "shampoo_beta": shampoo_beta, **flags})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "eps", "weight_decay")
        betas_below_1(cls, options)
        beta = options["shampoo_beta"]
        if beta is not None and not 0 <= beta < 1:
            raise ValueError(f"{cls.__name__}: shampoo_beta: expected None or a number in [0, 1), got {beta}")
        if not options["every"] >= 1:
            raise ValueError(f"{cls.__name__}: every: expected at least 1, got {options['every']}")

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"exp_avg": State(), "exp_avg_sq": State(), "step": State("parameter", whole=True)}

    def _remember(self, group: Group) -> None:
        super()._remember(group)
        for p in group["params"]:
            for axis, n in enumerate(p.shape if p.ndim > 1 else ()):
                for name in ("gram", "basis"):
                    self.state[p].setdefault(f"{name}_{axis}", Buffer(np.zeros((n, n))))

    def prepare(self, groups: Sequence[Any]) -> None:
        """u in the place of the gradients."""
        for group, params, grads in groups:
            require_host(self, params)
            states = (self.states_of(group, name, params) for name in ("exp_avg", "exp_avg_sq", "step"))
            for i, (p, m, v, step) in enumerate(zip(params, *states, strict=True)):
                g = double(-grads[i] if group.data["maximize"] else grads[i])
                axes = range(p.ndim if p.ndim > 1 else 0)
                done = step.item()
                if done == 0:
                    self._begin(group, p, g, axes)
                else:
                    grads[i] = self._direction(group, p, g, axes, m, v)
                    self._follow(group, p, g, axes, v, done % group["every"] == 0)

    def _begin(self, group: Any, p: Tensor, g: Tensor, axes: range) -> None:
        for axis in axes:
            found = (1.0 - self._beta(group)) * gram(g, axis).numpy()
            keep(self.state[p][f"gram_{axis}"], found)
            keep(self.state[p][f"basis_{axis}"], np.linalg.eigh(found)[1][:, ::-1])

    def _direction(self, group: Any, p: Tensor, g: Tensor, axes: range, m: Tensor, v: Tensor) -> Tensor:
        own = self.state[p]
        beta1, beta2 = group.buffer("betas")
        mean, seen = m * beta1 + g * (1.0 - beta1), g
        assign(m, mean)
        for axis in axes:
            basis = own[f"basis_{axis}"].T
            mean, seen = turned(mean, axis, basis), turned(seen, axis, basis)
        square = v * beta2 + seen.square() * (1.0 - beta2)
        assign(v, square)
        u = mean / (square.sqrt() + group.buffer("eps"))
        for axis in axes:
            u = turned(u, axis, own[f"basis_{axis}"])
        return u.to(dtype=p.dtype).contiguous()

    def _follow(self, group: Any, p: Tensor, g: Tensor, axes: range, v: Tensor, now: bool) -> None:
        """The new moments, and the bases if they are due now."""
        beta = self._beta(group)
        for axis in axes:
            moment, basis = (self.state[p][f"{name}_{axis}"] for name in ("gram", "basis"))
            keep(moment, moment * beta + gram(g, axis) * (1.0 - beta))
            if now:
                image = moment.numpy() @ basis.numpy()
                order = np.argsort(-(basis.numpy() * image).sum(0), kind="stable")
                assign(v, np.take(v.numpy(), order, axis))
                keep(basis, np.linalg.qr(image[:, order])[0])

    @staticmethod
    def _beta(group: Any) -> float:
        return float(group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"])

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        beta1, beta2 = o.betas
        first, t = s.step == 0, s.step
        s.step = s.step + 1
        rate = o.lr * sqrt(1.0 - beta2**t) / (1.0 - beta1**t) if o.correct_bias else o.lr
        return {"first": first, "rate": rate}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        s.exp_avg, s.exp_avg_sq = s.exp_avg, s.exp_avg_sq  # writes, which turn subnormal numbers into 0
        return where(c.first, p, (1.0 - o.lr * o.weight_decay) * (p - c.rate * g))
