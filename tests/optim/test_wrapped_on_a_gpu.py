"""All that may stand around an optimizer in one step on a GPU: a recorded step is one graph, which asks the
host for nothing and gives the bits of the eager step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.optim import SAM, SGD, GradientNoise, Lookahead, micro_batches
from tinydl.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn


def clipped(optimizer: Any, args: Any, kwargs: Any) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    nn.centralize_grad_(params)
    nn.adaptive_clip_grad_(params, 0.5)
    nn.clip_grad_value_(params, 0.4)


class Training:
    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        td.manual_seed(3)
        self.model = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 2)
        ).cuda()
        params, noise = list(self.model.parameters()), GradientNoise(0.01)
        sam = SAM(SGD(params, lr=0.1, momentum=0.9), 0.1)
        optimizer = Lookahead(sam, k=2)
        optimizer.register_step_pre_hook(clipped)
        schedule = SWALR(optimizer, 0.02, 3)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))

        def step(x: td.Tensor) -> list[td.Tensor]:
            norms = []

            def closure() -> td.Tensor:
                optimizer.zero_grad()
                total = td.zeros((), device="cuda")
                for part, share in micro_batches(4, x):
                    loss = share * self.model(part).square().mean()
                    loss.backward()
                    total = total + loss.detach()
                noise(params)
                norms.append(nn.clip_grad_norm_(params, 0.5))
                return total

            loss = optimizer.step(closure)
            schedule.step()
            self.average.update_parameters(self.model)
            return [loss, *norms]

        self.step = wrap(step)

    def state(self) -> list[bytes]:
        kept = (*self.average.parameters(), *self.average.buffers())
        return [x.cpu().numpy().tobytes() for x in (*self.model.parameters(), *self.model.buffers(), *kept)]


def test_one_graph_with_the_bits_of_the_eager_step(gpu: Any) -> None:
    random = np.random.default_rng(0)
    data = [td.tensor(random.standard_normal((7, 3), np.float32), device="cuda") for _ in range(5)]
    found = []
    for wrap in (lambda step: step, td.record):
        training, seen = Training(wrap), []
        for i, x in enumerate(data):
            before, graphs = len(gpu.host), gpu.graphs
            seen += training.step(x)
            if i:
                assert gpu.host[before:] == []
                assert gpu.graphs == graphs + (wrap is td.record)
        found.append([*(x.cpu().numpy().tobytes() for x in seen), *training.state()])
    assert found[0] == found[1]
