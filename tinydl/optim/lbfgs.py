"""L-BFGS: quasi-Newton steps from the last changes of gradients, with a line search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError

from ..devices import on_host
from ..engine.core import Tensor, enable_grad, no_grad
from ..engine.state import state as engine_state
from ..nn.utils import parameters_to_vector, vector_to_parameters
from ..ops.creation import zeros_like
from ..ops.shape import cat
from .line_search import Point, strong_wolfe
from .optimizer import Optimizer, at_least_0

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """Limited-memory BFGS, as torch.optim.LBFGS. Liu & Nocedal, On the limited memory BFGS method for large
    scale optimization (1989).

    One `step` is up to `max_iter` iterations on the same data:

        s = the last change of the parameters, y = that of the gradient; remembered if y·s > 1e-10
        d = -H g, where H is y·s / y·y changed by all remembered pairs, oldest first
        param += t d, where t is lr (in the very first iteration lr min(1, 1 / |g|₁)), or what the line search
        finds from there

    A direction that does not descend, which rounding can make, has the memory begin anew with d = -g. The
    numbers of the line search are float64, whatever the parameters are. Parameters without a gradient count
    as having 0.

    Args:
        params: see `Optimizer`; one group.
        lr: the first length that is tried, >= 0; without a line search, the length.
        max_iter: iterations of a step, >= 1.
        max_eval: after how many evaluations a step ends; None is 1.25 max_iter.
        tolerance_grad: a step ends where no element of the gradient is larger.
        tolerance_change: a step ends where no element of the parameters, or the loss, changes by more.
        history_size: how many pairs are remembered, >= 1.
        line_search_fn: None or "strong_wolfe".

    Raises:
        GraphError: a step inside a recorded step.
        TypeError: a step without a closure.
    """

    structural = frozenset({"max_iter", "max_eval", "history_size"})

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        numbers = {"lr": lr, "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change}
        counts = {"max_iter": max_iter, "max_eval": max_eval, "history_size": history_size}
        super().__init__(params, {**numbers, **counts, "line_search_fn": line_search_fn})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "tolerance_grad", "tolerance_change")
        for name in ("max_iter", "max_eval", "history_size"):
            if options[name] is not None and not options[name] >= 1:
                raise ValueError(f"{cls.__name__}: {name}: expected at least 1, got {options[name]}")
        if options["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                f"{cls.__name__}: line_search_fn: expected None or 'strong_wolfe', "
                f"got {options['line_search_fn']!r}"
            )

    @classmethod
    def completed(cls, saved: dict[str, Any]) -> dict[str, Any]:
        # PyTorch has lists of vectors, numbers as tensors, and what follows from the rest
        found = {name: value for name, value in saved.items() if name not in ("ro", "al")}
        for name in ("old_dirs", "old_stps"):
            if isinstance(found.get(name), list):
                if found[name]:
                    found[name] = np.stack([np.asarray(on_host(x)) for x in found[name]])
                else:
                    del found[name]
        numbers = {name: float(found[name]) for name in ("t", "H_diag", "prev_loss") if name in found}
        return found | numbers

    def add_param_group(self, options: Mapping[str, Any]) -> None:
        if self.param_groups:
            raise ValueError(f"{self}: expected one group of parameters, got another")
        super().add_param_group(options)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Up to max_iter iterations.

        Args:
            closure: clears the gradients, computes a loss and its gradients, and returns the loss.

        Returns:
            What the closure returned first.
        """
        if engine_state.recorder is not None:
            raise GraphError(
                f"{self}.step: expected a call outside a recorded step, got one inside: how often it calls "
                "its closure depends on values"
            )
        if closure is None:
            raise TypeError(f"{self}.step: expected a closure, got None")
        with no_grad():
            return self._minimize(closure)

    def _minimize(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        own = self.state[group["params"][0]]
        max_eval = group["max_eval"] or group["max_iter"] * 5 // 4
        evaluations = 0

        def evaluate() -> tuple[Any, float, Tensor]:
            nonlocal evaluations
            evaluations += 1
            own["func_evals"] = own.get("func_evals", 0) + 1
            with enable_grad():
                loss = closure()
            return loss, float(loss), self._gradient()

        returned, f, g = evaluate()
        if _largest(g) <= group["tolerance_grad"]:
            return returned
        for iteration in range(1, group["max_iter"] + 1):
            first = own["n_iter"] = own.get("n_iter", 0) + 1
            d = self._direction(own, g, group["history_size"])
            slope = _dot(g, d)
            if slope >= 0:
                self._forget(own)
                d, slope, first = -g, -_dot(g, g), 1
            t = group["lr"] * (min(1.0, 1.0 / float(abs(g).sum())) if first == 1 else 1.0)
            own |= {"d": d, "prev_flat_grad": g, "prev_loss": f, "t": t}
            if slope > -group["tolerance_change"]:
                break
            start = parameters_to_vector(group["params"]).clone()
            before = f
            if group["line_search_fn"] is not None:

                def at(t: float, start: Tensor = start, d: Tensor = d) -> Point:
                    vector_to_parameters(start + d * t, group["params"])
                    _, f, g = evaluate()
                    return Point(t, f, g, _dot(g, d))

                trials = max_eval - evaluations
                found = strong_wolfe(
                    at, Point(0.0, f, g, slope), t, _largest(d), group["tolerance_change"], trials
                )
                t, f, g = found.t, found.value, found.gradient
                own["t"] = t
            vector_to_parameters(start + d * t, group["params"])
            if group["line_search_fn"] is None:
                if iteration == group["max_iter"]:
                    break
                _, f, g = evaluate()
            if evaluations >= max_eval or _largest(g) <= group["tolerance_grad"]:
                break
            if _largest(d) * t <= group["tolerance_change"] or abs(f - before) < group["tolerance_change"]:
                break
        return returned

    def _gradient(self) -> Tensor:
        """All gradients as one vector of its own."""
        params = self.param_groups[0]["params"]
        return cat([(zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in params]).clone()

    def _direction(self, own: dict[str, Any], g: Tensor, history: int) -> Tensor:
        """-H g by the two loops; the newest pair is remembered first."""
        if own["n_iter"] == 1:
            self._forget(own)
            return -g
        y, s = g - own["prev_flat_grad"], own["d"] * own["t"]
        curvature = _dot(y, s)
        if curvature > 1e-10:
            for name, row in (("old_dirs", y), ("old_stps", s)):
                rows = row.reshape(1, -1)
                own[name] = cat([own[name], rows])[-history:].clone() if name in own else rows
            own["H_diag"] = curvature / _dot(y, y)
        pairs = list(zip(own["old_dirs"], own["old_stps"], strict=True)) if "old_dirs" in own else []
        d, shares = -g, []
        for y, s in reversed(pairs):
            shares.append((_dot(s, d) / _dot(y, s), _dot(y, s)))
            d = d - y * shares[-1][0]
        d = d * own["H_diag"]
        for (y, s), (share, curvature) in zip(pairs, reversed(shares), strict=True):
            d = d + s * (share - _dot(y, d) / curvature)
        return d

    @staticmethod
    def _forget(own: dict[str, Any]) -> None:
        """Begin the memory anew."""
        for name in ("old_dirs", "old_stps"):
            own.pop(name, None)
        own["H_diag"] = 1.0


def _dot(a: Tensor, b: Tensor) -> float:
    return float(a.dot(b))


def _largest(x: Tensor) -> float:
    """The largest |x|; NaN, which is no number that a step could end at, if one is."""
    return float(abs(x).max()) if x.array.size else -math.inf
