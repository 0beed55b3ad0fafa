"""Gradients clipped, and their norm logged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...engine.core import Tensor
from ...nn.utils import clip_grad_norm_, get_total_norm
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["ClipGradNorm"]


class ClipGradNorm(Callback):
    """Clip the gradients of all parameters together by their norm, inside of the recorded step. The norm
    before that, its mean over an epoch's samples, is the history's "grad_norm".

    Args:
        max_norm: at least 0; None: only log.
        norm_type: p of the p-norm.
    """

    def __init__(self, max_norm: float | None = None, norm_type: float = 2.0) -> None:
        if max_norm is not None and not max_norm >= 0:
            raise ValueError(f"ClipGradNorm: max_norm: expected at least 0 or None, got {max_norm}")
        self.max_norm = math.inf if max_norm is None else float(max_norm)
        self.norm_type = norm_type

    def on_gradients(self, trainer: Trainer) -> Mapping[str, Tensor]:
        parameters = list(trainer.model.parameters())
        if math.isinf(self.max_norm):
            gradients = [p.grad for p in parameters if p.grad is not None]
            return {"grad_norm": get_total_norm(gradients, self.norm_type)}
        return {"grad_norm": clip_grad_norm_(parameters, self.max_norm, self.norm_type)}

    def __repr__(self) -> str:
        return f"ClipGradNorm({self.max_norm})"
