"""Weight decay with a coefficient for each layer (Ishii and Sato, PSIVT 2017).

λ_l is such that |λ_l w_l| / |∇w_l| is the same for every layer: only the last layer's λ is tuned, the ratios
to it are measured or predicted at initialization. Ratios are {name of the parameter: λ_l / λ_last}.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import reduce
from typing import Any

import numpy as np

from ..devices import follow, on_host
from ..engine.backward import grad
from ..engine.core import Tensor, add, cast, enable_grad, no_grad
from ..nn.extra_forward import extra_forward
from ..nn.module import Module
from ..nn.parameter import Buffer, Parameter
from ..ops.creation import zeros
from ..ops.elementwise import div, gt, mul, pow, sqrt, square, sub, where
from ..ops.random import Generator
from ..ops.reduce import mean, sum
from ..ops.update import assign, increment
from ..optim.hooks import RemovableHandle
from .contract import Penalty, Weight
from .passes import Pass, in_mode
from .weights import axis_of, chosen

__all__ = ["LayerwiseL2", "RunningDecay", "layerwise_groups", "measured_ratios", "predicted_ratios"]

Ratios = Mapping[str, float]


def measured_ratios(
    model: Module,
    loss: Callable[..., Tensor],
    batches: Iterable[tuple[Any, Tensor]],
    generator: Generator | None = None,
) -> dict[str, float]:
    """r_l / r_last of the parameters with more than one dim, r_l = rms(∇W_l)/rms(W_l) with ∇ the gradient of
    the mean loss of a batch, averaged over the batches.

    Extra passes in training mode that leave no trace: running statistics, modes, `.grad` and streams stay as
    they are, dropout draws from `generator` (by default one of seed 0).

    Raises:
        ValueError: no batches, a parameter that is zero, a last layer without a gradient.
    """
    weights = chosen("measured_ratios", model, None)
    generator = Generator() if generator is None else generator
    found: list[list[float]] = []
    for x, target in batches:
        with enable_grad(), in_mode(model, "train"), extra_forward(generator):
            seen = Pass(model, x, target, loss=loss)
            slopes = grad(mean(seen.unreduced), list(weights.values()), allow_unused=True)
        found.append([_rms(g) / _rms(w) for g, w in zip(slopes, weights.values(), strict=True)])
    if not found:
        raise ValueError("measured_ratios: expected batches, got none")
    r = np.mean(found, axis=0)
    if not (np.isfinite(r).all() and r[-1] > 0):
        told = dict(zip(weights, r.tolist(), strict=True))
        raise ValueError(
            f"measured_ratios: expected parameters other than zero and a gradient of the last, got {told}"
        )
    return dict(zip(weights, (r / r[-1]).tolist(), strict=True))


def _rms(x: Tensor | None) -> float:
    return 0.0 if x is None else float(np.sqrt(np.mean(np.square(on_host(x), dtype=np.float64))))


def predicted_ratios(model: Module, input_shape: tuple[int, ...]) -> dict[str, float]:
    """The same ratios for ReLU nets with He initialization: λ_l/λ_{l+1} = √(F_{l+1} n_l)/n_{l+1}, n the
    fan-in and F = (size of the kernel) · outputs.

    For a chain of convolutions and linear layers, in the order in which a pass of an input of that shape,
    that of one sample, calls them; the pass leaves no trace. A linear layer after a flattened map is a
    convolution whose kernel is the whole map.

    Raises:
        ValueError: layers that do not follow each other, or that the pass does not call.
    """
    weights = chosen("predicted_ratios", model, None)
    layers, ahead = [], None
    for name in _called(model, weights, input_shape):
        p = weights[name]
        axis = axis_of(model, name, p)
        outputs, inputs = p.shape[axis], p.shape[1 - axis]
        ahead = inputs if ahead is None else ahead
        kernel, over = divmod(math.prod(p.shape[2:]) * inputs, ahead)
        if over:
            raise ValueError(f"predicted_ratios: expected {name} {p.shape} to follow {ahead} channels")
        layers.append((name, kernel * ahead, kernel * outputs))
        ahead = outputs
    steps = [math.sqrt(F * n) / n_next for (_, n, _), (_, n_next, F) in itertools.pairwise(layers)]
    ratios = [math.prod(steps[i:]) for i in range(len(layers))]
    return {name: ratio for (name, _, _), ratio in zip(layers, ratios, strict=True)}


def _called(model: Module, weights: Mapping[str, Parameter], input_shape: tuple[int, ...]) -> list[str]:
    """The names of the weights in the order in which their layers are called."""
    owners = {name: model.get_submodule(name.rpartition(".")[0]) for name in weights}
    order: list[str] = []
    with ExitStack() as scope:
        for name, layer in owners.items():
            note = lambda *_, name=name: order.append(name)  # noqa: E731
            scope.callback(layer.register_forward_pre_hook(note).remove)
        scope.enter_context(in_mode(model, "eval"))
        scope.enter_context(extra_forward(Generator()))
        scope.enter_context(no_grad())
        like = next(iter(weights.values()))
        model(zeros((1, *input_shape), dtype=like.dtype, device=like.device))
    if left := [name for name in weights if name not in order]:
        raise ValueError(f"predicted_ratios: expected a pass that calls all layers, got none of {left}")
    return list(dict.fromkeys(order))


class LayerwiseL2(Penalty):
    """λ_last · Σ_l r_l · ½ ‖W_l‖², r_l = λ_l/λ_last: `ratios` of `measured_ratios` or `predicted_ratios`.

    Coupled, as `L2` is; `layerwise_groups` is the same for an optimizer.
    """

    def __init__(self, weight: Weight, ratios: Ratios, **options: Any) -> None:
        super().__init__(weight, **options)
        self.ratios = require_ratios("LayerwiseL2", ratios)

    def __call__(self, seen: Pass) -> Tensor:
        found = chosen(self.name, seen.model, tuple(self.ratios))
        return reduce(add, [mul(sum(square(p)), 0.5 * self.ratios[name]) for name, p in found.items()])


def layerwise_groups(model: Module, last: float, ratios: Ratios) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: each parameter in `ratios` decays by last · its ratio, the others do
    not. Coupled in SGD and Adam, decoupled in AdamW.

        optimizer = AdamW(layerwise_groups(model, 5e-4, ratios), lr=1e-3)
    """
    if not last >= 0:
        raise ValueError(f"layerwise_groups: expected a last weight decay of at least 0, got {last!r}")
    ratios = require_ratios("layerwise_groups", ratios)
    found = chosen("layerwise_groups", model, tuple(ratios))
    groups: list[dict[str, Any]] = [
        {"params": [(name, p)], "weight_decay": last * ratios[name]} for name, p in found.items()
    ]
    rest: list[tuple[str, Parameter]] = [each for each in model.named_parameters() if each[0] not in ratios]
    return [*groups, {"params": rest, "weight_decay": 0.0}] if rest else groups


class RunningDecay:
    """The running form: before each step the weight decay of each group becomes λ_l = c · r_l, with r_l the
    decayed mean of rms(∇W_l)/rms(W_l) over the steps, ∇ what `.grad` holds.

        optimizer = SGD(layerwise_groups(model, 1.0, dict.fromkeys(names, 1.0)), lr=0.1)
        decay = RunningDecay(0.01)
        decay.attach(optimizer)

    Groups whose weight decay is 0 stay without one. W_l are all the parameters of a group together. Coupled
    in SGD and Adam, decoupled in AdamW. A recorded step sees it.

    Args:
        c: |λ_l W_l| / |∇W_l|, at least 0.
        beta: of the mean, in [0, 1); the mean of the first steps is over those alone. At 0, each step's own.

    Raises:
        ValueError: c or beta out of range.
    """

    def __init__(self, c: float, beta: float = 0.99) -> None:
        if not 0 <= c < math.inf or not 0 <= beta < 1:
            raise ValueError(f"RunningDecay: expected c of at least 0, beta in [0, 1), got {c!r}, {beta!r}")
        self.c, self.beta = float(c), float(beta)
        self.means: list[Buffer] = []
        self.count = Buffer(0)
        self._groups: list[Any] = []

    def attach(self, optimizer: Any) -> RemovableHandle:
        """Begin; `remove()` of what it returns ends it.

        Raises:
            ValueError: no group with a weight decay above 0; attached before.
        """
        if self._groups:
            raise ValueError("RunningDecay.attach: expected one optimizer, got another")
        groups = [group for group in optimizer.param_groups if group.get("weight_decay", 0.0) > 0]
        if not groups:
            raise ValueError(
                f"RunningDecay.attach: expected groups with a weight decay above 0, got none in {optimizer}"
            )
        self._groups, self.means = groups, [Buffer(0.0, np.float64) for _ in groups]
        return optimizer.register_step_pre_hook(self._before)

    def _before(self, optimizer: Any, args: Any, settings: Any) -> None:
        with no_grad():
            follow([self.count], self._groups[0]["params"][0].device)
            increment(self.count)
            whole = sub(1.0, pow(self.beta, cast(self.count, dtype=np.dtype(np.float64))))
            for group, own in zip(self._groups, self.means, strict=True):
                pairs = [(p, g) for p in group["params"] if (g := p.grad) is not None]
                if not pairs:
                    continue
                follow([own, group.buffer("weight_decay")], pairs[0][0].device)
                weights, slopes = (
                    reduce(add, [_sum_of_squares(x) for x in each]) for each in zip(*pairs, strict=True)
                )
                known = gt(weights, 0.0)
                ratio = where(known, sqrt(div(slopes, where(known, weights, 1.0))), 0.0)
                assign(own, add(mul(own, self.beta), mul(ratio, 1 - self.beta)))
                group["weight_decay"] = mul(div(own, whole), self.c)

    def state_dict(self) -> dict[str, Any]:
        """{"count": ..., "means": [...]}, ready for JSON; the decays themselves are in the optimizer's."""
        return {"count": int(on_host(self.count)), "means": [float(on_host(own)) for own in self.means]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, in place, once attached.

        Raises:
            ValueError: means of another number of groups.
        """
        means = state_dict["means"]
        if len(means) != len(self.means):
            raise ValueError(
                f"RunningDecay.load_state_dict: expected means of {len(self.means)} groups, got {len(means)}"
            )
        with no_grad():
            assign(self.count, int(state_dict["count"]))
            for own, value in zip(self.means, means, strict=True):
                assign(own, float(value))

    def __repr__(self) -> str:
        return f"RunningDecay({self.c}, beta={self.beta})"


def _sum_of_squares(x: Tensor) -> Tensor:
    return sum(square(cast(x.detach(), dtype=np.dtype(np.float64))))


def require_ratios(who: str, ratios: Ratios) -> dict[str, float]:
    if not ratios or not all(0 <= ratio < math.inf for ratio in ratios.values()):
        raise ValueError(f"{who}: expected ratios of at least 0 by name, got {dict(ratios)}")
    return {name: float(ratio) for name, ratio in ratios.items()}
