"""Averages of the weights, which are validated and kept in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from ...nn.utils import update_bn
from ...ops.random import Generator
from ...optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from .callback import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer

__all__ = ["WeightAveraging"]

STREAM = 0x62617463686E6F72
"""Of what dropout draws while BatchNorm's statistics are estimated."""


class WeightAveraging(Callback):
    """Average the weights over the steps (EMA) or epochs (SWA); validation sees the averages, and at the end
    the model has them. Training goes on with its own weights, bit for bit those of a fit without this.

        WeightAveraging(decay=0.999)                    # EMA of every step
        WeightAveraging(start_epoch=20, bn=loader)      # SWA: the mean of the epochs from the 20th on

    Args:
        decay: of the moving average after every step; None: the plain mean, taken after every epoch.
        start_epoch: the averages begin after so many epochs; until then the model itself is validated.
        bn: a loader of training batches, from which BatchNorm's statistics are estimated for the averages
            before each use: those of the weights on the way fit the averages badly (Izmailov et al. 2018,
            arXiv 1803.05407). Its position stays. None: they are the last ones of training.
        use_buffers: average BatchNorm's statistics like weights.

    Attributes:
        averaged: the AveragedModel, once a fit has begun.

    Raises:
        ValueError: options out of range; both bn and use_buffers.
    """

    state_grows = True  # (checkpoint.py)

    def __init__(
        self,
        decay: float | None = None,
        start_epoch: int = 0,
        bn: Any = None,
        use_buffers: bool = False,
    ) -> None:
        if start_epoch < 0:
            raise ValueError(f"WeightAveraging: start_epoch: expected at least 0, got {start_epoch}")
        if bn is not None and use_buffers:
            raise ValueError("WeightAveraging: expected bn or use_buffers, got both")
        self.decay, self.start_epoch, self.bn, self.use_buffers = decay, start_epoch, bn, use_buffers
        self._function: Callable[..., None] | None = None if decay is None else get_ema_multi_avg_fn(decay)
        self.averaged: Any = None
        self._saved: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self.averaged is None:
            self.averaged = AveragedModel(
                trainer.model, multi_avg_fn=self._function, use_buffers=self.use_buffers
            )
        if self._saved is not None:
            self.averaged.load_state_dict(self._saved)
            self._saved = None

    def on_update(self, trainer: Trainer) -> None:
        if self.decay is not None and self.start_epoch == 0:
            self.averaged.update_parameters(trainer.model)

    def on_batch_end(self, trainer: Trainer) -> None:
        if self.start_epoch > trainer.epoch:
            return
        late = self.decay is not None and self.start_epoch > 0  # a replay cannot count epochs
        whole = self.decay is None and trainer.tally.batches == trainer.batches  # before it is validated
        if late or whole:
            self.averaged.update_parameters(trainer.model)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._begun:
            trainer.model.load_state_dict(self._for_use().module.state_dict())

    def evaluating(self, trainer: Trainer) -> AbstractContextManager[Any]:
        return self._swapped(trainer)

    @contextmanager
    def _swapped(self, trainer: Trainer) -> Iterator[None]:
        if not self._begun:
            yield
            return
        with self._for_use().swapped_into(trainer.model):
            yield

    @property
    def _begun(self) -> bool:
        return self.averaged is not None and int(self.averaged.n_averaged.item()) > 0

    def _for_use(self) -> Any:
        if self.bn is not None:
            update_bn(_inputs(self.bn), self.averaged.module, Generator(0, STREAM))  # moves no stream
        return self.averaged

    def state_dict(self) -> dict[str, Any]:
        return {} if self.averaged is None else self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.averaged is None:  # it is made when the fit begins
            self._saved = state or None
        elif state:
            self.averaged.load_state_dict(state)


def _inputs(loader: Any) -> Iterable[Any]:
    """The batches of an epoch, which moves nothing."""
    return loader.present_epoch()
