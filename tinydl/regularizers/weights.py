"""Terms on the parameters: on those with more than one dim (the filters and matrices that `decay_groups`
decays), or on those that `params` names.

A weight as a matrix W has a row for each output: (out, rest), that of a transposed convolution too, which is
stored as (in, out, *kernel).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError

from ..devices import follow, on_host
from ..engine.core import Tensor, add, cast
from ..nn.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..nn.module import Module
from ..nn.parameter import Buffer, Parameter
from ..ops.elementwise import abs, div, gt, maximum, mul, relu, sign, sqrt, square, sub, where
from ..ops.random import Generator
from ..ops.reduce import sum
from ..ops.shape import reshape, transpose
from ..ops.update import assign
from ..optim.groups import decaying_names
from .contract import Penalty, Term, Weight
from .gradients import TINY
from .passes import Pass

__all__ = [
    "L1",
    "L2",
    "L2SP",
    "ElasticNet",
    "ElasticNetProx",
    "GroupLasso",
    "GroupLassoProx",
    "L1Prox",
    "MaxNorm",
]

Params = str | Iterable[str] | Callable[[str, Parameter], bool]
TRANSPOSED = ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
GROUPS = ("out", "in", "layer")


def names_of(params: Params | None) -> Any:
    """`params` as what can be asked again: None, a tuple of names or a predicate."""
    if params is None or callable(params):
        return params
    return (params,) if isinstance(params, str) else tuple(params)


def chosen(who: str, model: Module, params: Any) -> dict[str, Parameter]:
    """The parameters of the model that `params` says, by name; a ValueError where there are none."""
    named = dict(model.named_parameters())
    if params is None:
        found = {name: p for name, p in named.items() if name in decaying_names(named)}
    elif isinstance(params, tuple):
        if unknown := [name for name in params if name not in named]:
            raise ValueError(f"{who}: expected parameters out of {list(named)}, got {unknown}")
        found = {name: named[name] for name in params}
    else:
        found = {name: p for name, p in named.items() if params(name, p)}
    if not found:
        raise ValueError(f"{who}: expected parameters to act on, got none out of {list(named)}")
    return found


def axis_of(model: Module, name: str, p: Tensor, groups: str = "out") -> int:
    """The axis of a parameter along which its outputs ("out") or inputs ("in") lie."""
    if p.ndim < 2:
        return 0
    turned = isinstance(model.get_submodule(name.rpartition(".")[0]), TRANSPOSED)
    return int(turned is (groups == "out"))


def as_matrix(p: Tensor, axis: int = 0) -> Tensor:
    """(size of the axis, rest)."""
    turned = p if axis == 0 else transpose(p, 0, axis)
    return reshape(turned, (turned.shape[0], math.prod(turned.shape[1:])))


def group_rows(model: Module, name: str, p: Tensor, groups: str) -> Tensor:
    """A parameter as rows that are its groups."""
    return (
        reshape(p, (1, p.array.size)) if groups == "layer" else as_matrix(p, axis_of(model, name, p, groups))
    )


def require_share(who: str, l1_ratio: float) -> float:
    if not 0 <= l1_ratio <= 1:
        raise ValueError(f"{who}: expected l1_ratio in [0, 1], got {l1_ratio!r}")
    return float(l1_ratio)


def require_groups(who: str, groups: str) -> str:
    if groups not in GROUPS:
        raise ValueError(f"{who}: expected groups in {GROUPS}, got {groups!r}")
    return groups


def number(who: str, weight: Weight) -> float:
    """The weight of a proximal step."""
    if callable(weight) or isinstance(weight, Tensor):
        raise ValueError(f"{who}: expected a number as its weight with prox=True, got {weight!r}")
    return float(weight)


# Penalties
# ------------------------------------------------------------------------------------------------------------


class WeightPenalty(Penalty):
    """A sum over parameters of the model: those with more than one dim, or `params`, their dotted names or a
    predicate of (name, parameter). Subclasses say `of` one of them, or `at` where the layer matters.

    With `prox`, where a subclass has it, the penalty has no value: after each step it takes its proximal step
    with the rate of the parameter's group, and `objective.after(optimizer)` must be given the optimizer.
    """

    def __init__(
        self,
        weight: Weight,
        *,
        params: Params | None = None,
        every: int = 1,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(weight, every=every, generator=generator, name=name)
        self.params = names_of(params)

    def acts_after(self, step: Proximal) -> None:
        """Be that step in place of a value."""
        self.valued, self.constrains = False, True
        self.after = step.after  # type: ignore[method-assign]

    def of(self, w: Tensor) -> Tensor:
        """The penalty of one parameter."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def at(self, model: Module, name: str, w: Tensor) -> Tensor:
        """The penalty of the parameter of that name."""
        return self.of(w)

    def __call__(self, seen: Pass) -> Tensor:
        found = chosen(self.name, seen.model, self.params)
        return reduce(add, [self.at(seen.model, name, p) for name, p in found.items()])


class L2(WeightPenalty):
    """λ · ½ Σ w², summed over the elements of all its parameters: λ w in their gradients.

    The coupled form of weight decay: under Adam its gradient is scaled like the loss's, and AdamW's decay is
    the other thing (Loshchilov & Hutter, arXiv 1711.05101). Krogh & Hertz, NIPS 1991. With `prox`,
    w ← w/(1 + ηλ) after each step instead.
    """

    def __init__(self, weight: Weight, prox: bool = False, **options: Any) -> None:
        super().__init__(weight, **options)
        if prox:
            self.acts_after(ElasticNetProx(number("L2", weight), 0.0, params=self.params, name=self.name))

    def of(self, w: Tensor) -> Tensor:
        return mul(sum(square(w)), 0.5)


class L1(WeightPenalty):
    """λ · Σ |w|, with the subgradient sign(w), 0 at 0. It makes weights small and none zero; with `prox`, the
    same as `L1Prox`, it does.

    Tibshirani, JRSS B 1996. Under Adam its gradient is scaled like the loss's.
    """

    def __init__(self, weight: Weight, prox: bool = False, **options: Any) -> None:
        super().__init__(weight, **options)
        if prox:
            self.acts_after(L1Prox(number("L1", weight), params=self.params, name=self.name))

    def of(self, w: Tensor) -> Tensor:
        return sum(abs(w))


class ElasticNet(WeightPenalty):
    """λ · (ρ Σ |w| + ½ (1 - ρ) Σ w²), ρ = l1_ratio. Zou & Hastie, JRSS B 2005, in scikit-learn's scaling.
    With `prox` the same as `ElasticNetProx`.

    Raises:
        ValueError: l1_ratio outside [0, 1].
    """

    def __init__(self, weight: Weight, l1_ratio: float = 0.5, prox: bool = False, **options: Any) -> None:
        super().__init__(weight, **options)
        self.l1_ratio = require_share("ElasticNet", l1_ratio)
        if prox:
            step = ElasticNetProx(number("ElasticNet", weight), l1_ratio, params=self.params, name=self.name)
            self.acts_after(step)

    def of(self, w: Tensor) -> Tensor:
        return add(mul(sum(abs(w)), self.l1_ratio), mul(sum(square(w)), 0.5 * (1 - self.l1_ratio)))


class GroupLasso(WeightPenalty):
    """λ · Σ_g √|g| · √(‖w_g‖₂² + 1e-16): makes whole groups small; only with `prox`, the same as
    `GroupLassoProx`, are they made zero.

    groups   "out": the rows of W, a filter each; "in": the columns with their kernels; "layer": all of a
             parameter

    Yuan & Lin, JRSS B 2006; Wen et al., arXiv 1608.03665. A row of zeros before a BatchNorm still has its
    shift.
    """

    def __init__(self, weight: Weight, groups: str = "out", prox: bool = False, **options: Any) -> None:
        super().__init__(weight, **options)
        self.groups = require_groups("GroupLasso", groups)
        if prox:
            step = GroupLassoProx(number("GroupLasso", weight), groups, params=self.params, name=self.name)
            self.acts_after(step)

    def at(self, model: Module, name: str, w: Tensor) -> Tensor:
        rows = group_rows(model, name, w, self.groups)
        return mul(sum(sqrt(add(sum(square(rows), 1), TINY))), math.sqrt(rows.shape[1]))


class L2SP(WeightPenalty):
    """½α Σ (w - w⁰)² + ½β Σ w²: the first sum over the parameters that `start` has, the second over the
    others, those of a new head. Li, Grandvalet and Davoine, arXiv 1802.01483: α .001 to 1, β .01.

    Args:
        alpha, beta: the weights of the sums; `weight` is that of the whole, and may be a schedule.
        start: a model or a mapping of arrays by dotted name: w⁰, copied when the term is made and part of its
            state. What differs from it in shape is new.

    Raises:
        ValueError: alpha or beta below 0.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        start: Module | Mapping[str, Any],
        *,
        weight: Weight = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(weight, **options)
        if not alpha >= 0 or not beta >= 0:
            raise ValueError(f"L2SP: expected alpha and beta of at least 0, got {alpha!r} and {beta!r}")
        self.alpha, self.beta = float(alpha), float(beta)
        named = dict(start.named_parameters()) if isinstance(start, Module) else start
        self.start = Held((name, Buffer(np.array(on_host(value)))) for name, value in named.items())

    def state(self) -> dict[str, Any]:
        return {**super().state(), "start": self.start}

    def at(self, model: Module, name: str, w: Tensor) -> Tensor:
        start = self.start.get(name)
        if start is None or start.shape != w.shape:
            return mul(sum(square(w)), 0.5 * self.beta)
        follow([start], w.device)
        return mul(sum(square(sub(w, cast(start, dtype=w.dtype)))), 0.5 * self.alpha)


class Held(dict):
    """Buffers by name, saved and loaded together."""

    def state_dict(self) -> dict[str, Any]:
        return {name: value.detach() for name, value in self.items()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        for name, value in self.items():
            assign(value, on_host(saved[name]))


# After the step
# ------------------------------------------------------------------------------------------------------------


class MaxNorm(Term):
    """After each step every row of W is row · min(1, c/‖row‖₂): the nearest with a norm of at most c.

    Srebro and Shraibman, COLT 2005; Srivastava et al., JMLR 2014: c of 3 to 4. A constraint, not a penalty:
    no value and no derivative. Momentum stays as it is.

    Raises:
        ValueError: c not above 0.
    """

    constrains = True

    def __init__(self, c: float = 3.0, *, params: Params | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        if not 0 < c < float("inf"):
            raise ValueError(f"MaxNorm: expected c above 0, got {c!r}")
        self.c, self.params = float(c), names_of(params)

    def after(self, model: Module, optimizer: Any) -> None:
        for name, p in chosen(self.name, model, self.params).items():
            axis = axis_of(model, name, p)
            others = tuple(dim for dim in range(p.ndim) if dim != axis)
            squares = sum(square(p), others, keepdim=True) if others else square(p)
            assign(p, mul(p, div(self.c, maximum(sqrt(squares), self.c))))

    def __repr__(self) -> str:
        return f"MaxNorm({self.c})"


class Proximal(Term):
    """After each step the proximal step of λ times a penalty, with the learning rate of the parameter's
    group. `objective.after(optimizer)` must be given the optimizer.
    """

    constrains = True

    def __init__(self, weight: float, *, params: Params | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{type(self).__name__}: expected a weight of at least 0, got {weight!r}")
        self.weight, self.params = float(weight), names_of(params)

    def step(self, model: Module, name: str, w: Tensor, amount: Tensor) -> Tensor:
        """What takes the parameter's place; amount = rate · λ, a tensor of shape () in the dtype of w."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def after(self, model: Module, optimizer: Any) -> None:
        who = type(self).__name__
        if optimizer is None:
            raise GraphError(f"{who}: expected objective.after(optimizer), whose rate it needs, got none")
        names = {p: name for name, p in chosen(self.name, model, self.params).items()}
        ours = [(group, p) for group in optimizer.param_groups for p in group["params"] if p in names]
        if not ours:
            raise ValueError(f"{who}: expected an optimizer of its parameters, got one of others")
        for group, p in ours:
            follow([group.buffer("lr")], p.device)
            amount = cast(mul(group.buffer("lr"), self.weight), dtype=p.dtype)
            assign(p, self.step(model, names[p], p, amount))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight})"


class ElasticNetProx(Proximal):
    """w ← soft(w, ηλρ)/(1 + ηλ(1 - ρ)) after each step, soft(w, t) = sign(w) · max(0, |w| - t), η the rate:
    the proximal step of `ElasticNet`, which leaves exact zeros. Parikh and Boyd, 2014.
    """

    def __init__(self, weight: float, l1_ratio: float = 0.5, **options: Any) -> None:
        super().__init__(weight, **options)
        self.l1_ratio = require_share(type(self).__name__, l1_ratio)

    def step(self, model: Module, name: str, w: Tensor, amount: Tensor) -> Tensor:
        soft = mul(sign(w), relu(sub(abs(w), mul(amount, self.l1_ratio))))
        return div(soft, add(mul(amount, 1 - self.l1_ratio), 1.0))


class L1Prox(ElasticNetProx):
    """w ← sign(w) · max(0, |w| - ηλ) after each step, η the rate: the proximal step of `L1`, which leaves
    exact zeros. Daubechies et al., 2004 (iterative soft thresholding).
    """

    def __init__(self, weight: float, *, params: Params | None = None, name: str | None = None) -> None:
        super().__init__(weight, 1.0, params=params, name=name)


class GroupLassoProx(Proximal):
    """w_g ← w_g · max(0, 1 - ηλ √|g|/‖w_g‖₂) after each step, η the rate: the proximal step of `GroupLasso`,
    which leaves groups of exact zeros. Yuan & Lin, JRSS B 2006.
    """

    def __init__(self, weight: float, groups: str = "out", **options: Any) -> None:
        super().__init__(weight, **options)
        self.groups = require_groups("GroupLassoProx", groups)

    def step(self, model: Module, name: str, w: Tensor, amount: Tensor) -> Tensor:
        axis = None if self.groups == "layer" else axis_of(model, name, w, self.groups)
        others = tuple(dim for dim in range(w.ndim) if dim != axis)
        squares = sum(square(w), others, keepdim=True) if others else square(w)
        norm = sqrt(where(gt(squares, 0), squares, 1.0))  # a group of zeros stays one by its own factor
        size = math.prod(w.shape[dim] for dim in others)
        return mul(w, relu(sub(1.0, div(mul(amount, math.sqrt(size)), norm))))
