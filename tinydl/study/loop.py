"""Training in one call, and what came of it, for programs that compare many small nets."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Batches
from ..engine.core import Tensor, no_grad
from ..nn.module import Module
from ..ops.creation import tensor
from ..record import record
from ..regularizers import Objective
from ..regularizers.passes import in_mode


def descend(
    objective: Objective, optimizer: Any, batches: Batches, steps: int, schedule: Any = None
) -> np.ndarray:
    """So many recorded steps of the model in training mode, each on the next of the batches.

    Args:
        objective: called on inputs and targets.
        optimizer: of the model's parameters.
        batches: go on where they stand.
        steps: how many.
        schedule: stepped after each.

    Returns:
        The mean losses, without penalties, float64 (steps,).
    """

    @record
    def step(x: Tensor, y: Tensor, due: tuple[str, ...]) -> Tensor:
        optimizer.zero_grad()
        terms = objective(x, y, due=due)
        terms.total.backward()
        optimizer.step()
        objective.after(optimizer)
        if schedule is not None:
            schedule.step()
        return terms.loss

    objective.model.train()
    done = int(objective.step.item())
    return np.array([step(*batches.next_batch(), objective.due(done + k)).item() for k in range(steps)])


def error_rate(model: Module, x: np.ndarray, y: np.ndarray) -> float:
    """In %: of inputs (n, ...) those whose largest output is not of the label (n,), in evaluation mode."""
    with in_mode(model, "eval"), no_grad():
        parts = [model(tensor(x[i : i + 1000])).numpy().argmax(1) for i in range(0, len(x), 1000)]
    return 100 * float(np.mean(np.concatenate(parts) != y))
