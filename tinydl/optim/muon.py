"""Muon: steps whose matrices have singular values of about 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.update import State

from ..engine.core import Tensor
from ..ops.update import assign
from .optimizer import Optimizer, at_least_0, below_1

__all__ = ["Muon"]


class Muon(Optimizer):
    """Muon, as torch.optim.Muon. Jordan et al., Muon: an optimizer for hidden layers in neural networks
    (2024); the scale "match_rms_adamw" is that of Liu et al., arXiv 2502.16982.

        momentum_buffer = momentum momentum_buffer + (1 - momentum) g
        u = momentum momentum_buffer + (1 - momentum) g if nesterov, else momentum_buffer
        X = u / max(|u|, eps), with the shorter side as its rows
        X = a X + (b A + c A²) X with A = X Xᵀ;   ns_steps times
        param = (1 - lr weight_decay) param - lr scale X

    Convolution filters (O, I, kH, kW) are matrices (O, I kH kW). Everything is computed in the parameter's
    dtype; PyTorch iterates in bfloat16. Biases, normalizations, embeddings and the last layer are AdamW's.

    Args:
        params: of two or more dims; see `Optimizer`.
        lr: the learning rate, >= 0.
        weight_decay: coefficient of the decoupled decay, >= 0.
        momentum: in [0, 1).
        nesterov: whether u looks one step ahead.
        ns_coefficients: (a, b, c) of the Newton-Schulz iteration.
        eps: the least length that u is divided by, >= 0.
        ns_steps: how often the iteration runs, >= 1.
        adjust_lr_fn: the scale: None or "original" is √max(1, rows / columns), "match_rms_adamw" is
            0.2 √max(rows, columns).
        maximize: step up the gradient.

    Raises:
        ShapeError: a parameter of fewer than two dims.
    """

    structural = frozenset({"ns_steps"})

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eps": eps}
        iteration = {"ns_coefficients": ns_coefficients, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, {**numbers, **iteration, "nesterov": nesterov, "maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        at_least_0(cls, options, "lr", "weight_decay", "eps")
        below_1(cls, options, "momentum")
        if len(options["ns_coefficients"]) != 3:
            raise ValueError(
                f"{cls.__name__}: ns_coefficients: expected three numbers, got {options['ns_coefficients']}"
            )
        if not options["ns_steps"] >= 1:
            raise ValueError(f"{cls.__name__}: ns_steps: expected at least 1, got {options['ns_steps']}")
        if options["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                f"{cls.__name__}: adjust_lr_fn: expected None, 'original' or 'match_rms_adamw', "
                f"got {options['adjust_lr_fn']!r}"
            )

    @classmethod
    def states(cls, options: Mapping[str, Any]) -> dict[str, State]:
        return {"momentum_buffer": State()}

    def _check_parameter(self, p: Any, name: Any) -> None:
        super()._check_parameter(p, name)
        if p.ndim < 2:
            raise ShapeError(f"{self}: expected parameter {name} of two or more dims, got {p.shape}")

    def prepare(self, groups: Sequence[Any]) -> None:
        """Scaled X in the place of the gradients."""
        for group, params, grads in groups:
            beta = group.buffer("momentum")
            for i, (p, m) in enumerate(
                zip(params, self.states_of(group, "momentum_buffer", params), strict=True)
            ):
                g = -grads[i] if group.data["maximize"] else grads[i]
                assign(m, m * beta + g * (1.0 - beta))
                u = m * beta + g * (1.0 - beta) if group.data["nesterov"] else m
                matrix = u.reshape(len(p), -1)
                rows, columns = matrix.shape
                wide = self._orthogonal(group, matrix.T if rows > columns else matrix)
                scale = math.sqrt(max(1.0, rows / columns))
                if group.data["adjust_lr_fn"] == "match_rms_adamw":
                    scale = 0.2 * math.sqrt(max(rows, columns))
                grads[i] = ((wide.T if rows > columns else wide) * scale).reshape(p.shape).contiguous()

    @staticmethod
    def _orthogonal(group: Any, x: Tensor) -> Tensor:
        """The Newton-Schulz iteration on a matrix of at most as many rows as columns."""
        a, b, c = group.buffer("ns_coefficients")
        x = x / x.norm().maximum(group.buffer("eps"))
        for _ in range(group.data["ns_steps"]):
            square = x @ x.T
            x = x * a + (square * b + (square @ square) * c) @ x
        return x

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        s.momentum_buffer = s.momentum_buffer  # a write, which turns subnormal numbers into 0
        return (1.0 - o.lr * o.weight_decay) * p - o.lr * g
