"""Does a small network learn, and does its recorded step give the bits of the eager one?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinydl as td
from tinydl.nn import Module


def assert_learns(
    build: Callable[[], Module],
    loss: Callable[[Module, td.Tensor, td.Tensor], td.Tensor],
    x: np.ndarray,
    target: np.ndarray,
    steps: int = 40,
    lr: float = 0.02,
) -> None:
    """`loss(model, x, target)` falls below a third under Adam; eager and recorded steps have
    the same losses and weights.
    """
    runs = []
    for wrap in (lambda step: step, td.record):
        td.manual_seed(7)
        model = build()
        optimizer = td.optim.Adam(model.parameters(), lr=lr)

        def step(
            x: td.Tensor, target: td.Tensor, model: Module = model, optimizer: td.optim.Adam = optimizer
        ) -> td.Tensor:
            optimizer.zero_grad()
            value = loss(model, x, target)
            value.backward()
            optimizer.step()
            return value.detach()

        run = wrap(step)
        losses = [run(td.tensor(x), td.tensor(target)).item() for _ in range(steps)]
        runs.append((losses, {name: np.array(value) for name, value in model.state_dict().items()}))
    (eager, weights), (recorded, others) = runs
    assert eager[-1] < eager[0] / 3, eager
    assert eager == recorded
    for name, value in weights.items():
        np.testing.assert_array_equal(others[name], value, err_msg=name)
