"""Attacks within a radius: the largest loss at a distance of at most ε."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ...devices import constant
from ...engine.backward import grad
from ...engine.core import Tensor, enable_grad
from ...nn.extra_forward import extra_forward
from ...nn.module import Module
from ...ops.elementwise import add, div, gt, maximum, minimum, mul, pow, sign, sub, where
from ...ops.random import Generator, default_generator, of_samples, rand, randn, serving
from ...ops.reduce import sum
from ...ops.softmax import cross_entropy
from ..measures import beside, lengths, per_sample, unit
from ..passes import in_mode, unreduced

Number = float | Sequence[float]
Bounds = tuple[Number, Number] | None
INF = math.inf


# What attacks share
# ------------------------------------------------------------------------------------------------------------


@contextmanager
def attacking(model: Module, mode: str | None, generator: Generator | None) -> Iterator[None]:
    """Passes that leave no trace, in a mode, with gradients."""
    if mode not in (None, "train", "eval"):
        raise ValueError(f"attack: expected mode in (None, 'train', 'eval'), got {mode!r}")
    source = generator or serving() or default_generator
    with in_mode(model, mode), extra_forward(source), enable_grad():
        yield


def require_input(who: str, x: Any) -> Tensor:
    """The input as what can be perturbed: one floating tensor (B, *); off the tape."""
    if not isinstance(x, Tensor) or x.ndim < 1:
        got = len(x) if isinstance(x, tuple) else x.shape if isinstance(x, Tensor) else type(x).__name__
        raise ShapeError(f"{who}: expected one input (B, *) to perturb, got {got}")
    if x.dtype.kind != "f":
        raise DtypeError(f"{who}: expected a floating input to perturb, got {x.dtype}")
    return x.detach()


def in_units(who: str, what: str, value: Number, x: Tensor) -> Any:
    """A number, or one per channel as a tensor that broadcasts with x."""
    if np.ndim(value) == 0:
        return float(value)  # type: ignore[arg-type]
    numbers = np.asarray(value, x.dtype)
    if x.ndim < 2 or numbers.shape != x.shape[1:2]:
        raise ShapeError(f"{who}: expected {what} as a number or one per channel of {x.shape}, got {value}")
    return constant(x, numbers.reshape(-1, *(1,) * (x.ndim - 2)))


def require_norm(who: str, norm: float, eps: Number = 0.0) -> None:
    if norm not in (2, INF):
        raise ValueError(f"{who}: expected norm in (2, inf), got {norm!r}")
    if norm == 2 and np.ndim(eps) > 0:
        raise ValueError(f"{who}: expected eps as a number where norm is 2, got {eps}")
    if np.min(eps) < 0 or np.isnan(eps).any():
        raise ValueError(f"{who}: expected eps of at least 0, got {eps}")


def clipped(who: str, x: Tensor, bounds: Bounds) -> Tensor:
    if bounds is None:
        return x
    low, high = (in_units(who, "bounds", bound, x) for bound in bounds)
    return minimum(maximum(x, low), high)


def steepest(g: Tensor, norm: float) -> Tensor:
    """The direction of length 1 in the norm along which a function of gradient g rises most; sign(0) = 0."""
    return sign(g) if norm == INF else unit(g)


def projected(d: Tensor, eps: Any, norm: float) -> Tensor:
    """The nearest within ±ε, or within the ball of radius ε."""
    if norm == INF:
        return maximum(minimum(d, eps), mul(eps, -1.0) if isinstance(eps, Tensor) else -eps)
    length = lengths(d)
    return mul(d, minimum(div(eps, where(gt(length, 0.0), length, 1.0)), 1.0))


def somewhere(x: Tensor, eps: Any, norm: float, generator: Generator | None) -> Tensor:
    """Uniform in the box, or in the ball: a direction of normal numbers, times ε·U^{1/n}."""
    like = {"generator": generator, "dtype": x.dtype, "device": x.device}
    if norm == INF:
        return mul(sub(mul(of_samples(rand, x.shape, **like), 2.0), 1.0), eps)
    direction = unit(of_samples(randn, x.shape, **like))
    radius = pow(
        of_samples(rand, x.shape[0], *(1,) * (x.ndim - 1), **like), 1 / max(math.prod(x.shape[1:]), 1)
    )
    return mul(direction, mul(radius, eps))


def climbed(
    slope: Callable[[Tensor], Tensor],
    x: Tensor,
    d: Tensor,
    *,
    eps: Any,
    step_size: Any,
    steps: int,
    norm: float,
    bounds: Bounds,
    who: str,
) -> Tensor:
    """x + d after steps d ← P(d + step·direction(slope(x + d))), each clipped to the bounds."""
    moved = clipped(who, add(x, d), bounds)
    for _ in range(steps):
        step = mul(steepest(slope(moved), norm), step_size)
        d = projected(add(sub(moved, x), step), eps, norm)
        moved = clipped(who, add(x, d), bounds).detach()
    return moved


def slope_at(values: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∂(Σ values)/∂x, detached; row b is that of sample b where samples do not meet."""
    x = x.detach().requires_grad_()
    (found,) = grad(sum(values(x)), x)
    assert found is not None
    return found.detach()


# Attacks
# ------------------------------------------------------------------------------------------------------------


def fgsm(
    model: Module,
    x: Tensor,
    target: Any,
    eps: Number,
    *,
    loss: Any = cross_entropy,
    targeted: bool = False,
    bounds: Bounds = None,
    mode: str | None = "eval",
    generator: Generator | None = None,
) -> Tensor:
    """x + ε·sign(∂ℓ/∂x): one step, the worst within ±ε of a linear model. Shaped as x (B, *).

    Goodfellow et al., arXiv 1412.6572. `targeted` steps towards a small loss at `target` instead. One step
    from a random start (Wong et al., arXiv 2001.03994) is pgd(..., steps=1, step_size=1.25·eps).
    """
    return _ascended(
        "fgsm", model, x, target, eps, eps, 1, INF, False, 1, loss, targeted, bounds, mode, generator
    )


def pgd(
    model: Module,
    x: Tensor,
    target: Any,
    eps: Number,
    step_size: Number | None = None,
    steps: int = 10,
    norm: float = INF,
    start: bool = True,
    *,
    restarts: int = 1,
    loss: Any = cross_entropy,
    targeted: bool = False,
    bounds: Bounds = None,
    mode: str | None = "eval",
    generator: Generator | None = None,
) -> Tensor:
    """Projected gradient ascent on the loss within ‖d‖ ≤ ε, norm inf or 2: d ← P(d + step·sign g), or
    P(d + step·g/‖g‖). Shaped as x (B, *).

    Madry et al., arXiv 1706.06083. step_size is 2.5·ε/steps if nothing else; `start` begins somewhere in the
    box or ball, uniformly. Of several restarts each sample keeps its worst.
    """
    return _ascended(
        "pgd", model, x, target, eps, step_size, steps, norm, start, restarts, loss, targeted, bounds, mode,
        generator,
    )  # fmt: skip


def _ascended(
    who: str,
    model: Module,
    x: Tensor,
    target: Any,
    eps: Number,
    step_size: Number | None,
    steps: int,
    norm: float,
    start: bool,
    restarts: int,
    loss: Any,
    targeted: bool,
    bounds: Bounds,
    mode: str | None,
    generator: Generator | None,
) -> Tensor:
    x = require_input(who, x)
    require_norm(who, norm, eps)
    if steps < 0 or restarts < 1:
        raise ValueError(
            f"{who}: expected steps of at least 0, restarts of at least 1, got {steps}, {restarts}"
        )
    if not isinstance(eps, Tensor) and np.all(np.equal(eps, 0)):
        return x.detach()  # without a draw
    radius = in_units(who, "eps", eps, x)
    if step_size is None:
        step = (
            mul(radius, 2.5 / max(steps, 1)) if isinstance(radius, Tensor) else radius * 2.5 / max(steps, 1)
        )
    else:
        step = in_units(who, "step_size", step_size, x)

    def losses(moved: Tensor) -> Tensor:
        found = unreduced(loss, model(moved), target)
        return mul(found, -1.0) if targeted else found

    def once() -> Tensor:
        d = somewhere(x, radius, norm, generator) if start else mul(x, 0.0)
        return climbed(
            lambda moved: slope_at(losses, moved), x, d, eps=radius, step_size=step, steps=steps, norm=norm,
            bounds=bounds, who=who,
        )  # fmt: skip

    with attacking(model, mode, generator):
        best = once()
        if restarts > 1:
            highest = per_sample(losses(best).detach())
            for _ in range(restarts - 1):
                other = once()
                value = per_sample(losses(other).detach())
                better = gt(value, highest)
                highest = where(better, value, highest)
                best = where(beside(x, better), other, best)
    return best.detach()
