"""Rates that go to a constant one, for the averaging of weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...devices import follow, on_host
from ...engine.core import Tensor, no_grad
from ...nn.parameter import Buffer
from ...ops.elementwise import clip, eq, where
from ...ops.update import assign
from ..optimizer import Optimizer
from .cosine import half_wave
from .schedule import INITIAL, LRScheduler, of_group

__all__ = ["SWALR"]


class SWALR(LRScheduler):
    """From the present rate to swa_lr in anneal_epochs steps, then constant; as torch.optim.swa_utils.SWALR.

        q = min(1, step / anneal_epochs)
        swa_lr + (base - swa_lr) (1 + cos(pi q)) / 2        or (1 - q), linear

    The base is the rate that the schedule finds when it makes its first step, not "initial_lr": it may be
    made before the training, which another schedule begins. (PyTorch's finds its base from the present rate
    at every step; that is the same unless somebody else changes the rate meanwhile.) As a part of
    SequentialLR or ChainedScheduler it starts from the base of these.

    Izmailov et al. 2018 (arXiv 1803.05407).

    Args:
        optimizer: whose rates are set.
        swa_lr: the rate in the end; a list has one for each group.
        anneal_epochs: the steps to there; with 0 it is there at once.
        anneal_strategy: "cos" or "linear".
        last_epoch: as in `LRScheduler`; the base is "initial_lr" then.

    Raises:
        ValueError: anneal_epochs that is no whole number of at least 0, another strategy, a list of rates
            that lacks a group's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"SWALR: anneal_strategy: expected 'cos' or 'linear', got {anneal_strategy!r}")
        if not isinstance(anneal_epochs, (int, np.integer)) or anneal_epochs < 0:
            raise ValueError(
                f"SWALR: anneal_epochs: expected a whole number of at least 0, got {anneal_epochs!r}"
            )
        self.swa_lr = [float(x) for x in swa_lr] if isinstance(swa_lr, Sequence) else float(swa_lr)
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def rate(self, base: Tensor, step: Tensor, group: int = 0) -> Tensor:
        end = of_group("SWALR: swa_lr", self.swa_lr, group)
        q = clip(step / self.anneal_epochs if self.anneal_epochs else step + 1.0, 0.0, 1.0)
        return half_wave(base, end, q) if self.anneal_strategy == "cos" else end + (base - end) * (1.0 - q)

    def step(self) -> None:
        self._see_groups()
        with no_grad():
            for group, base in zip(self.optimizer.param_groups, self.bases, strict=True):
                rate = group.buffer("lr")
                follow([base, self.count], rate.device)
                assign(base, where(eq(self.count, 0), rate, base))
        super().step()

    def _see_groups(self) -> None:
        for group in self.optimizer.param_groups[len(self.bases) :]:
            present = float(on_host(group.buffer("lr")))
            initial = group.setdefault(INITIAL, present)
            self.bases.append(Buffer(initial if self.last_epoch else present, np.float64))
