"""Small networks and batches for the tests of objectives, and terms of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.regularizers import Mixed, Term

B, D, M = 6, 4, 3


def network(*middle: nn.Module) -> nn.Module:
    td.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 6), *middle, nn.Tanh(), nn.Linear(6, M)).double()


def batch(seed: int = 0) -> tuple[td.Tensor, td.Tensor]:
    r = np.random.default_rng(seed)
    return td.tensor(r.standard_normal((B, D))), td.tensor(r.integers(0, M, B))


def grads(model: nn.Module) -> list[np.ndarray]:
    return [np.array(p.grad) for p in model.parameters()]


def assert_close(found: list[Any], expected: list[Any], rtol: float = 1e-12) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14)


class MaxNorm(Term):
    """Rows of matrices no longer than `limit`, after the step."""

    def __init__(self, limit: float, **options: Any) -> None:
        super().__init__(**options)
        self.limit, self.optimizers = limit, []

    def after(self, model: nn.Module, optimizer: Any) -> None:
        self.optimizers.append(optimizer)
        for p in model.parameters():
            if p.ndim > 1:
                norm = (p * p).sum(1, keepdim=True).sqrt()
                td.ops.update.assign(p, p * td.minimum(self.limit / td.maximum(norm, 1e-30), 1.0))


class Mixup(Term):
    """One share a batch, from the term's generator."""

    def before(self, model: nn.Module, x: td.Tensor, target: td.Tensor) -> tuple[td.Tensor, Mixed]:
        share = td.broadcast_to(td.rand(1, generator=self.generator, dtype=x.dtype), (x.shape[0],))
        order = td.randperm(x.shape[0], generator=self.generator)
        s = share.reshape(-1, 1)
        return x * s + x[order] * (1 - s), Mixed(target, target[order], share)
