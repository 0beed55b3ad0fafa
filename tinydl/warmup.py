"""Compile ahead of the first use: `python -m tinydl warmup`.

Kernels are compiled when they are first called and kept on disk (tinydl_kernels/cpu/cache.py). This makes
those calls: training steps of the usual kinds of network, plain and with gradient penalties, and evaluation.
Shapes are small but of the widths at which kernels choose their way; the machine code serves every shape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels.cpu import cache
from tinydl_kernels.machine.errors import BackendError

from . import nn
from .engine.core import Tensor, no_grad
from .files import progress
from .models import LeNet, resnet20
from .ops.creation import tensor
from .ops.random import Generator, random_from
from .ops.softmax import cross_entropy
from .optim import SGD, Adam, Optimizer
from .record.recorder import record
from .regularizers import DataGrad, Objective, Penalty, SpectReg

BATCH = 8
CLASSES = 10


def _perceptron() -> nn.Module:
    layers = (nn.Linear(784, 200), nn.BatchNorm1d(200), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(*layers, nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, CLASSES))


def _lenet_20_50_500() -> nn.Module:
    features = (nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, CLASSES))


def _mobile() -> nn.Module:
    layers = (
        nn.Conv2d(3, 64, 3, 2, 1),
        nn.GroupNorm(8, 64),
        nn.SiLU(),
        nn.Conv2d(64, 64, 3, 1, 1, groups=64),
        nn.GELU(),
    )
    return nn.Sequential(
        *layers, nn.Conv2d(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (_perceptron, (784,)),
    "LeNet": (LeNet, (1, 28, 28)),
    "LeNet 20-50-500": (_lenet_20_50_500, (1, 28, 28)),
    "ResNet-20": (resnet20, (3, 32, 32)),
    "depthwise convolutions": (_mobile, (3, 32, 32)),
}
"""Name -> a network without arguments, and the shape of one of its inputs."""
PENALTIES: dict[str, Callable[[], list[Penalty]]] = {
    "plain": list,
    "DataGrad": lambda: [DataGrad(1.0)],
    "SpectReg": lambda: [SpectReg(1.0)],
}


def tasks(dtypes: Sequence[Any]) -> list[tuple[str, Callable[[], None]]]:
    """(name, what to run) of everything that `warmup` compiles."""
    return [
        (f"{name}, {penalty}, {np.dtype(dtype)}", functools.partial(_train, build, shape, make, dtype))
        for dtype in dtypes
        for name, (build, shape) in NETWORKS.items()
        for penalty, make in PENALTIES.items()
    ]


def _train(
    build: Callable[[], nn.Module], shape: tuple[int, ...], make: Callable[[], list[Penalty]], dtype: Any
) -> None:
    """With each optimizer a step, eager and replayed; then an evaluation."""
    random = np.random.default_rng(0)
    x = tensor(random.standard_normal((BATCH, *shape)).astype(dtype))
    labels = tensor(np.arange(BATCH) % CLASSES)
    model = build().to(dtype)
    objective = Objective(model, cross_entropy, make())
    for optimizer in (SGD(model.parameters(), 1e-3, momentum=0.9), Adam(model.parameters(), 1e-3)):

        @record
        def step(x: Tensor, labels: Tensor, optimizer: Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            terms = objective(x, labels)
            terms.total.backward()
            optimizer.step()
            return terms.total

        for _ in range(2):
            step(x, labels)
    model.eval()
    with no_grad():
        cross_entropy(model(x), labels)


def warmup(dtypes: Sequence[Any] = (np.float32,)) -> tuple[int, int]:
    """Compile, or find compiled, the kernels of `tasks`, with a bar where tqdm is
    installed and someone is watching.

    Returns how many compiled kernels the cache holds, and how many of them are new. BackendError without a
    cache: what is compiled would be lost with the process.
    """
    directory = cache.build_directory()
    if directory is None:
        raise BackendError(
            "warmup: expected a directory to keep kernels in, got none; set TINYDL_CACHE_DIR to a writable "
            "one"
        )
    before = len(list(directory.glob("*.nbc")))
    todo = tasks(dtypes)
    # leaves no trace in the default generator
    with random_from(Generator()), progress("warmup", len(todo)) as done:
        for _, run in todo:
            run()
            done(1)
    held = len(list(directory.glob("*.nbc")))
    return held, held - before
