"""A few training steps, eager or recorded, and all that they leave behind."""

from __future__ import annotations

import numpy as np

import tinydl as td
from tinydl import nn


def eager(step):
    return step


def network(dtype=np.float32) -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(27, 8),
        nn.BatchNorm1d(8, momentum=None),
        nn.Tanh(),
        nn.Linear(8, 4),
    )
    return model.to(dtype)


class Training:
    """A few steps on fixed batches; `bits` is all that they leave behind."""

    penalties: tuple = ()

    def __init__(self, wrap, optimizer, penalties=(), dtype=np.float32) -> None:
        td.manual_seed(1)
        self.model = network(dtype)
        self.optimizer = optimizer(td.optim.decay_groups(self.model, 0.01))
        self.objective = td.regularizers.Objective(
            self.model, td.cross_entropy, [make() for make in penalties]
        )
        self.schedule = td.optim.PiecewiseConstant(self.optimizer, (3,), (0.1,))
        self.run = wrap(self.step)
        random = np.random.default_rng(0)
        self.x = random.standard_normal((6, 5, 1, 6, 6)).astype(dtype)
        self.y = random.integers(0, 4, (6, 5))

    def step(self, x, y):
        self.optimizer.zero_grad()
        terms = self.objective(x, y)
        terms.total.backward()
        self.optimizer.step()
        return terms

    def bits(self) -> list:
        found = []
        for x, y in zip(self.x, self.y, strict=True):
            terms = self.run(td.from_numpy(x), td.from_numpy(y))
            self.schedule.step()
            found += [terms.total, terms.loss, *terms.penalties, terms.logits]
        found += self.model.state_dict().values()
        found += [t for own in self.optimizer.state.values() for t in own.values()]
        found += [p.grad for p in self.model.parameters()]
        return [x.detach().numpy() for x in found]


def assert_same_bits(first: list, second: list) -> None:
    for a, b in zip(first, second, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


OPTIMIZERS = {
    "momentum": lambda groups: td.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda groups: td.optim.Adam(groups, lr=0.01),
}
PENALTIES = {
    "plain": (),
    "DataGrad": (lambda: td.regularizers.DataGrad(0.5),),
    "SpectReg": (lambda: td.regularizers.SpectReg(0.5),),
    "SpectReg, second pass": (lambda: td.regularizers.SpectReg(0.5, per="batch", forward="second"),),
}
