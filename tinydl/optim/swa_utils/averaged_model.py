"""A model whose weights are averages of another's over the steps: equally weighted (SWA) or moving (EMA)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ...devices import follow, transfer
from ...engine.core import Tensor, no_grad
from ...nn.checks import require_instance
from ...nn.module import Module
from ...nn.parameter import Buffer
from ...ops.elementwise import add, div, eq, minimum, mul, sub, to_dtype, where
from ...ops.update import assign, increment

__all__ = [
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
]

Average = Callable[[Tensor, Tensor, Tensor], Tensor]
Averages = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]


class AveragedModel(Module):
    """A copy of a model, whose parameters become averages; as torch.optim.swa_utils.AveragedModel.

        ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        for ...:
            optimizer.step()
            ema.update_parameters(model)        # may stand in a recorded step
        with ema.swapped_into(model):           # or ema(x)
            evaluate(model)

    The first update copies the parameters, each later one averages: without a function all that came have
    equal weights (SWA; then `update_bn(loader, averaged)`). Izmailov et al. 2018 (arXiv 1803.05407).

    Args:
        model: what is copied; its parameters' order and shapes must stay.
        device: where the copy lives; by default where the model does.
        avg_fn: (average, parameter, number of those averaged) -> the new average, a tensor.
        multi_avg_fn: the same for lists, in place, by `tinydl.ops.update.assign`. Only one of both. They are
            made of operations on tensors; on the first update, too, where what they give is not used.
        use_buffers: average the floating buffers as well; other buffers, and without it all, are copied at
            each update.

    Attributes:
        module: the copy.
        n_averaged: how many updates there were, an int64 Buffer.

    Raises:
        TypeError: a model of the wrong type.
        ValueError: both functions.
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: Averages | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        require_instance("AveragedModel", Module, model)
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: expected avg_fn or multi_avg_fn, got both")
        self.module = copy.deepcopy(model)
        self.n_averaged = Buffer(0)
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers
        if device is not None:
            self.to(device=device)

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        return self.module(*inputs, **settings)

    def update_parameters(self, model: Module) -> None:
        """Take the model's present parameters into the averages.

        Raises:
            ShapeError: a model of other parameters or buffers.
        """
        pairs = self._pairs("update_parameters", model)
        averaged = [(e, x) for e, x in pairs if self._averages(e)]
        with no_grad():
            ours = [e.detach() for e, _ in averaged]
            theirs = [_on(x.detach(), e.device) for e, x in averaged]
            follow([self.n_averaged], pairs[0][0].device if pairs else "cpu")
            first = eq(self.n_averaged, 0)
            for e, x, new in zip(ours, theirs, self._averaged(ours, theirs), strict=True):
                assign(e, where(first, x, new))
            for e, x in pairs:
                if not self._averages(e):
                    assign(e, _on(x, e.device))
            increment(self.n_averaged)

    @contextmanager
    def swapped_into(self, model: Module) -> Iterator[Module]:
        """Within the scope `model` has the averages as its parameters, and the buffers that belong to them;
        afterwards, also after an error, its own again, bit for bit.

        Raises:
            ShapeError: a model of other parameters or buffers.
        """
        pairs = self._pairs("swapped_into", model)
        with no_grad():
            kept = [x.clone() for _, x in pairs]
            for e, x in pairs:
                assign(x, _on(e, x.device))
        try:
            yield model
        finally:
            with no_grad():
                for (_, x), own in zip(pairs, kept, strict=True):
                    assign(x, own)

    def _averaged(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.multi_avg_fn is not None:
            self.multi_avg_fn(ours, theirs, self.n_averaged)
            return ours
        average = self.avg_fn or get_swa_avg_fn()
        return [average(e, x, self.n_averaged) for e, x in zip(ours, theirs, strict=True)]

    def _averages(self, e: Tensor) -> bool:
        """Is it averaged, as opposed to copied?"""
        return not isinstance(e, Buffer) or (self.use_buffers and e.dtype.kind == "f")

    def _pairs(self, who: str, model: Module) -> list[tuple[Tensor, Tensor]]:
        """Every parameter and buffer of the copy with that of the model."""
        mine = [*self.module.named_parameters(), *self.module.named_buffers()]
        theirs = [*model.named_parameters(), *model.named_buffers()]
        expected, got = ({name: x.shape for name, x in named} for named in (mine, theirs))
        if [*expected.items()] != [*got.items()]:
            raise ShapeError(f"AveragedModel.{who}: expected a model of {expected}, got {got}")
        return [(e, x) for (_, e), (_, x) in zip(mine, theirs, strict=True)]


def get_swa_avg_fn() -> Average:
    """The mean: average + (parameter - average) / (n + 1)."""

    def average(e: Tensor, x: Tensor, n: Any) -> Tensor:
        return add(e, div(sub(x, e), _number(add(n, 1), e)))

    return average


def get_swa_multi_avg_fn() -> Averages:
    """The mean of lists, in place."""
    return _in_place(get_swa_avg_fn())


def get_ema_avg_fn(decay: float = 0.999, *, warmup: bool = False) -> Average:
    """The moving average: decay · average + (1 - decay) · parameter.

    With `warmup` the decay is min(decay, (1 + n) / (10 + n)), n being the number of those averaged, so that
    the first parameters do not weigh long (as tf.train.ExponentialMovingAverage with num_updates).

    Raises:
        ValueError: a decay outside [0, 1].
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"get_ema_avg_fn: expected a decay in [0, 1], got {decay}")

    def average(e: Tensor, x: Tensor, n: Any) -> Tensor:
        if not warmup:
            return add(mul(e, decay), mul(x, 1.0 - decay))
        count = to_dtype(n, "float64")
        kept = minimum(div(add(count, 1.0), add(count, 10.0)), decay)
        return add(mul(e, _number(kept, e)), mul(x, _number(sub(1.0, kept), e)))

    return average


def get_ema_multi_avg_fn(decay: float = 0.999, *, warmup: bool = False) -> Averages:
    """The moving average of lists, in place; as `get_ema_avg_fn`."""
    return _in_place(get_ema_avg_fn(decay, warmup=warmup))


def _in_place(average: Average) -> Averages:
    def averages(ours: Sequence[Tensor], theirs: Sequence[Tensor], n: Tensor) -> None:
        with no_grad():
            for e, x in zip(ours, theirs, strict=True):
                assign(e, average(e, x, n))

    return averages


def _number(x: Any, like: Tensor) -> Any:
    """A number that leaves the dtype of what it meets."""
    return to_dtype(x, like.dtype)


def _on(x: Tensor, device: str) -> Tensor:
    return x if x.device == device else transfer(x, device=device)
