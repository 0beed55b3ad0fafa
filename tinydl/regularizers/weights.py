"""Penalties on the parameters: on those with more than one dim (the filters and matrices that `decay_groups`
decays), or on those that `params` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce

from ..engine.core import Tensor, add
from ..nn.parameter import Parameter
from ..ops.elementwise import mul, square
from ..ops.random import Generator
from ..ops.reduce import sum
from .contract import Penalty, Weight
from .passes import Pass

__all__ = ["L2"]

Params = str | Iterable[str] | Callable[[str, Parameter], bool]


class WeightPenalty(Penalty):
    """A sum over parameters of the model: those with more than one dim, or `params`, their dotted names or a
    predicate of (name, parameter). Subclasses say `of` one of them.
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
        self.params = params if params is None or callable(params) else _names(params)

    def of(self, w: Tensor) -> Tensor:
        """The penalty of one parameter."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def __call__(self, seen: Pass) -> Tensor:
        named, wanted = dict(seen.model.named_parameters()), self.params
        if wanted is None:
            chosen = [p for p in named.values() if p.ndim > 1]
        elif isinstance(wanted, tuple):
            if unknown := [name for name in wanted if name not in named]:
                raise ValueError(f"{self.name}: expected parameters out of {list(named)}, got {unknown}")
            chosen = [named[name] for name in wanted]
        else:
            chosen = [p for name, p in named.items() if wanted(name, p)]
        if not chosen:
            raise ValueError(f"{self.name}: expected parameters to act on, got none out of {list(named)}")
        return reduce(add, [self.of(p) for p in chosen])


def _names(params: str | Iterable[str]) -> tuple[str, ...]:
    return (params,) if isinstance(params, str) else tuple(params)


class L2(WeightPenalty):
    """λ · ½ Σ w², summed over the elements of all its parameters: λ w in their gradients.

    The coupled form of weight decay: under Adam its gradient is scaled like the loss's, and AdamW's decay is
    the other thing (Loshchilov & Hutter, arXiv 1711.05101). Krogh & Hertz, NIPS 1991.
    """

    def of(self, w: Tensor) -> Tensor:
        return mul(sum(square(w)), 0.5)
