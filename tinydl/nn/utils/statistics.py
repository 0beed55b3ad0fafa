"""The statistics of BatchNorm over a whole data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...engine.core import no_grad
from ...engine.public import public
from ...ops.random import Generator, random_from
from ...ops.update import assign
from ..checks import require_instance
from ..module import Module
from ..normalization import _BatchNorm

__all__ = ["update_bn"]


@public
def update_bn(loader: Iterable[Any], model: Module, generator: Generator | None = None) -> None:
    """Estimate the running statistics of every BatchNorm anew, from the batches of `loader`
    with the parameters as they are.

    The mean of the batch means and of the unbiased batch variances, n/(n-1) times the biased ones: the
    population statistics of Ioffe & Szegedy, arXiv 1502.03167, algorithm 2. A batch is the input of the
    model, or a tuple or list that begins with it. The model runs in training mode; what dropout draws comes
    from `generator` if one is given.
    """
    require_instance("update_bn", Module, model)
    modes = [(module, module.training) for module in model.modules()]
    tracked = [m for m, _ in modes if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [m.momentum for m in tracked]
    try:
        with no_grad(), random_from(generator):
            for m in tracked:
                m.momentum = None  # the cumulative average
                for buffer, value in ((m.running_mean, 0), (m.running_var, 1), (m.num_batches_tracked, 0)):
                    assign(buffer, value)
            model.train()
            for batch in loader if tracked else ():
                model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for m, momentum in zip(tracked, momenta, strict=True):
            m.momentum = momentum
        for module, training in modes:
            module.training = training
