"""A small fit for the tests of the trainer: batch normalization, dropout, a penalty, unequal batches."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinydl as td
from tinydl.data import DataLoader, TensorDataset
from tinydl.metrics import Accuracy
from tinydl.regularizers import DataGrad
from tinydl.training import Trainer


def data(samples: int = 50, seed: int = 0, dtype: Any = np.float32) -> TensorDataset:
    """Two classes of (6,) that a line parts, almost."""
    random = np.random.default_rng(seed)
    y = np.arange(samples) % 2
    x = random.normal(size=(samples, 6)) + 0.7 * (2 * y - 1)[:, None]
    return TensorDataset(x.astype(dtype), y)


def loaders(batch_size: int = 12, dtype: Any = np.float32) -> tuple[DataLoader, DataLoader]:
    train = DataLoader(data(dtype=dtype), batch_size, shuffle=True, seed=1)
    return train, DataLoader(data(31, 1, dtype), 8)


def network(dtype: Any = np.float32, dropout: float = 0.2) -> td.nn.Module:
    nn = td.nn
    td.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))
    return net.to(dtype)


def trainer(
    callbacks: Any = (),
    *,
    model: Any = None,
    optimizer: Any = td.optim.Adam,
    lr: float = 1e-2,
    **settings: Any,
) -> Trainer:
    """Callbacks may be a function of the optimizer."""
    model = network() if model is None else model
    optimizer = optimizer(model.parameters(), lr=lr)
    made = callbacks(optimizer) if callable(callbacks) else callbacks
    settings = {"terms": [DataGrad(0.1)], "metrics": [Accuracy()], **settings}
    return Trainer(model, td.cross_entropy, optimizer, callbacks=made, **settings)


def bits(thing: Any) -> Any:
    """Of a model, an optimizer or a tree of arrays."""
    if hasattr(thing, "state_dict"):
        thing = thing.state_dict()
    if isinstance(thing, dict):
        return {str(name): bits(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [bits(value) for value in thing]
    return thing.numpy().tobytes() if isinstance(thing, td.Tensor) else thing
