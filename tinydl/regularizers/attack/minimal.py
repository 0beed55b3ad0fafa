"""Attacks of minimal norm: the nearest input on which the model is wrong. All but `cw` read labels on the
host, so a recorded step refuses them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import GraphError

from ...devices import constant, on_host
from ...engine.backward import grad
from ...engine.core import Tensor, cast, no_grad, state
from ...nn.module import Module
from ...ops.elementwise import abs as absolute
from ...ops.elementwise import (
    add,
    div,
    eq,
    gt,
    log,
    logical_and,
    logical_or,
    lt,
    maximum,
    mul,
    ne,
    sign,
    sqrt,
    square,
    sub,
    tanh,
    where,
)
from ...ops.indexing import gather, one_hot
from ...ops.random import Generator
from ...ops.reduce import amax, argmax, argmin, sum
from ...ops.shape import reshape, stack, unsqueeze
from ...ops.softmax import cross_entropy
from ..measures import lengths
from .bounded import (
    INF,
    Bounds,
    Number,
    attacking,
    clipped,
    in_units,
    projected,
    require_input,
    require_norm,
    slope_at,
)


class Minimal(NamedTuple):
    """x (B, *), and its distance (B,) from the input, in the norm of the attack: inf where none was found,
    with x the input there.
    """

    x: Tensor
    distance: Tensor


def _read(x: Tensor) -> np.ndarray:
    """The values on the host: a GraphError inside a recorded step, where they would freeze."""
    if state.recorder is not None:
        raise GraphError("attack: expected no recorded step around an attack of minimal norm, got one")
    return on_host(x)


def deepfool(
    model: Module,
    x: Tensor,
    norm: float = 2,
    steps: int = 50,
    overshoot: float = 0.02,
    *,
    bounds: Bounds = None,
    mode: str | None = "eval",
    generator: Generator | None = None,
) -> Minimal:
    """Leave the class that the model predicts: each step goes to the nearest boundary of the model as its
    derivatives draw it. On a linear model one step, exact but for the overshoot.

    Moosavi-Dezfooli et al., arXiv 1511.04599, without the 1e-4 that the authors' code adds to the distance.
    k* = argmin |f_k − f_c|/‖w_k − w_c‖ with the dual norm; the whole way is taken 1 + overshoot times at the
    end. m backward passes per step. Norm 2 or inf.
    """
    x = require_input("deepfool", x)
    require_norm("deepfool", norm)
    with attacking(model, mode, generator):
        label = argmax(model(x).detach(), 1, keepdim=True)
        r, found = mul(x, 0.0), x
        for _ in range(steps):
            found = clipped("deepfool", add(x, mul(r, 1 + overshoot)), bounds)
            here = eq(argmax(model(found).detach(), 1, keepdim=True), label)
            if not _read(here).any():
                break
            step = _to_the_boundary(model, add(x, r), label, norm)
            r = where(reshape(here, (-1, *(1,) * (x.ndim - 1))), add(r, step), r)
        found = clipped("deepfool", add(x, mul(r, 1 + overshoot)), bounds)
        left = ne(argmax(model(found).detach(), 1), reshape(label, (-1,)))
    return _minimal(x, found, left, norm)


def _minimal(x: Tensor, found: Tensor, success: Tensor, norm: float) -> Minimal:
    moved = sub(found, x)
    rows = reshape(moved, (x.shape[0], -1))
    distance = reshape(lengths(moved), (-1,)) if norm == 2 else amax(absolute(rows), 1)
    kept = where(reshape(success, (-1, *(1,) * (x.ndim - 1))), found, x)
    return Minimal(kept.detach(), where(success, distance, INF).detach())


def _to_the_boundary(model: Module, at: Tensor, label: Tensor, norm: float) -> Tensor:
    """The step to the nearest class boundary of the model's linearization, 0 where there is none."""
    at = at.detach().requires_grad_()
    z = model(at)
    slopes: list[Tensor] = []
    for k in range(z.shape[1]):
        (slope,) = grad(sum(z[:, k]), at, retain_graph=True)
        assert slope is not None
        slopes.append(reshape(slope, (at.shape[0], -1)))
    with no_grad():
        jacobian = stack(slopes, 1)
        own = unsqueeze(cast(one_hot(reshape(label, (-1,)), z.shape[1]), dtype=z.dtype), 2)
        w = sub(jacobian, sum(mul(jacobian, own), 1, keepdim=True))
        length = sqrt(sum(square(w), 2)) if norm == 2 else sum(absolute(w), 2)
        gap = absolute(sub(z, gather(z, 1, label)))
        distance = where(gt(length, 0.0), div(gap, where(gt(length, 0.0), length, 1.0)), INF)
        nearest = argmin(distance, 1, keepdim=True)
        way, size = gather(distance, 1, nearest), gather(length, 1, nearest)
        chosen = unsqueeze(cast(one_hot(reshape(nearest, (-1,)), z.shape[1]), dtype=z.dtype), 2)
        towards = sum(mul(w, chosen), 1)
        direction = div(towards, where(gt(size, 0.0), size, 1.0)) if norm == 2 else sign(towards)
        return reshape(mul(direction, where(lt(way, INF), way, 0.0)), at.shape)


def cw(
    model: Module,
    x: Tensor,
    target: Tensor,
    kappa: float = 0.0,
    *,
    targeted: bool = False,
    steps: int = 1000,
    lr: float = 0.01,
    c: float = 1e-3,
    bisections: int = 9,
    bounds: Bounds = (0.0, 1.0),
    mode: str | None = "eval",
    generator: Generator | None = None,
) -> Minimal:
    """min ‖d‖² + c·max(margin, −κ), margin = z_y − max_{k≠y} z_k (targeted: its negative), by Adam, with c
    per sample by bisection: the nearest x + d of a margin below −κ.

    Carlini & Wagner, arXiv 1608.04644, L2. Within bounds x + d = (tanh u + 1)/2, scaled to them; without, d
    is free. c grows tenfold until it succeeds. target (B,) are classes.
    """
    x = require_input("cw", x)
    if kappa < 0 or c <= 0 or steps < 1 or bisections < 1:
        raise ValueError(
            "cw: expected kappa of at least 0, c above 0, steps and bisections of at least 1, got "
            f"{kappa}, {c}, {steps}, {bisections}"
        )
    sizes = (-1, *(1,) * (x.ndim - 1))
    sense = -1.0 if targeted else 1.0

    def margins(z: Tensor) -> Tensor:
        own = one_hot(target, z.shape[1])
        other = amax(where(gt(own, 0), -INF, z), 1)
        return mul(sub(sum(mul(z, cast(own, dtype=z.dtype)), 1), other), sense)

    to_input, u0 = _change_of_variable(x, bounds)
    zero = mul(reshape(x, (x.shape[0], -1))[:, 0], 0.0)
    low, high, now = zero, add(zero, INF), add(zero, c)
    best, distance = x, add(zero, INF)
    with attacking(model, mode, generator):
        for _ in range(bisections):
            u, first, second, succeeded = u0, mul(u0, 0.0), mul(u0, 0.0), lt(zero, 0.0)
            for t in range(1, steps + 1):
                u = u.detach().requires_grad_()
                found = to_input(u)
                margin = margins(model(found))
                squares = sum(square(reshape(sub(found, x), (x.shape[0], -1))), 1)
                (g,) = grad(sum(add(squares, mul(now, maximum(margin, -kappa)))), u)
                assert g is not None
                with no_grad():
                    success = lt(margin, -kappa)
                    succeeded = logical_or(succeeded, success)
                    nearer = logical_and(success, lt(squares, distance))
                    distance = where(nearer, squares, distance).detach()
                    best = where(reshape(nearer, sizes), found, best).detach()
                    first = add(mul(first, 0.9), mul(g, 0.1))
                    second = add(mul(second, 0.999), mul(square(g), 0.001))
                    ahead = div(first, 1 - 0.9**t)
                    u = sub(u, div(mul(ahead, lr), add(sqrt(div(second, 1 - 0.999**t)), 1e-8)))
            high, low = where(succeeded, now, high), where(succeeded, low, now)
            middle = mul(add(low, where(lt(high, INF), high, 0.0)), 0.5)
            now = where(lt(high, INF), middle, mul(now, 10.0))
    return Minimal(best, sqrt(distance))


def _change_of_variable(x: Tensor, bounds: Bounds) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Of an unbounded u the input, and the u of x."""
    if bounds is None:
        return (lambda u: u), x
    low, high = (in_units("cw", "bounds", bound, x) for bound in bounds)
    width = sub(high, low) if isinstance(high, Tensor) or isinstance(low, Tensor) else high - low
    share = mul(sub(mul(div(sub(x, low), width), 2.0), 1.0), 1 - 1e-6)
    u = mul(log(div(add(share, 1.0), sub(1.0, share))), 0.5)
    return (lambda u: add(mul(mul(add(tanh(u), 1.0), 0.5), width), low)), u


def lbfgs(
    model: Module,
    x: Tensor,
    target: Tensor,
    *,
    loss: Any = cross_entropy,
    bounds: Bounds = None,
    iterations: int = 50,
    bisections: int = 10,
    mode: str | None = "eval",
    generator: Generator | None = None,
) -> Minimal:
    """min c‖r‖ + ℓ(x + r, target) within the bounds, with the largest c at which the model still says
    `target` (B,), by bisection: one sample after the other.

    Szegedy et al., arXiv 1312.6199. The minimizer is L-BFGS of 10 pairs, projected to the bounds.
    """
    x = require_input("lbfgs", x)
    if iterations < 1 or bisections < 0:
        raise ValueError(
            f"lbfgs: expected iterations of at least 1, bisections of at least 0, got {iterations}, "
            f"{bisections}"
        )
    found = _read(x).astype(np.float64)
    success = np.zeros(x.shape[0], bool)
    with attacking(model, mode, generator):
        for b in range(x.shape[0]):
            nearest = _towards(model, x[b : b + 1], target[b : b + 1], loss, bounds, iterations, bisections)
            if nearest is not None:
                found[b], success[b] = nearest, True
    return _minimal(x, constant(x, found.astype(x.dtype)), constant(x, success), 2)


def _towards(
    model: Module, x: Tensor, target: Tensor, loss: Any, bounds: Bounds, iterations: int, bisections: int
) -> np.ndarray | None:
    """The nearest success for one sample, None if there was none."""
    start = _read(x).astype(np.float64).ravel()
    limits = [(-INF, INF) if bounds is None else bounds][0]
    low, high = (
        np.broadcast_to(on_host(in_units("lbfgs", "bounds", bound, x)), x.shape).ravel() for bound in limits
    )
    wanted = int(_read(target)[0])

    def as_input(v: np.ndarray) -> Tensor:
        return constant(x, v.reshape(x.shape).astype(x.dtype))

    def at(v: np.ndarray, c: float) -> tuple[float, np.ndarray]:
        values: list[float] = []

        def losses(moved: Tensor) -> Tensor:
            found = loss(model(moved), target, reduction="none")
            values.append(float(_read(found).sum()))
            return found

        slope = _read(slope_at(losses, as_input(v))).astype(np.float64).ravel()
        length = float(np.linalg.norm(v - start))
        return values[0] + c * length, slope + (c * (v - start) / length if length else 0.0)

    nearest: np.ndarray | None = None
    worked, failed, c = 0.0, math.inf, 1.0
    for _ in range(bisections + 20):
        v = _minimized(lambda v, c=c: at(v, c), start, low, high, iterations)  # type: ignore[misc]
        if int(_read(argmax(model(as_input(v)), 1))[0]) == wanted:
            worked = c
            if nearest is None or np.linalg.norm(v - start) < np.linalg.norm(nearest - start):
                nearest = v
        else:
            failed = c
        if not worked:
            c = c / 4
        elif math.isinf(failed):
            c = c * 4
        else:
            c = (worked + failed) / 2
            bisections -= 1
            if bisections < 0:
                break
    return None if nearest is None else nearest.reshape(x.shape[1:])


def _minimized(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    v: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    iterations: int,
) -> np.ndarray:
    """L-BFGS with steps projected to [low, high] (Nocedal & Wright, algorithm 7.4, on the free variables)."""
    v = np.clip(v, low, high)
    value, g = function(v)
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(iterations):
        free = ~((v <= low) & (g > 0) | (v >= high) & (g < 0))
        slope = g * free
        size = float(np.linalg.norm(slope))
        if size < 1e-10:
            break
        direction = -_inverse_hessian(pairs, slope) * free
        if direction @ slope > -1e-12 * size * size:
            pairs, direction = [], -slope
        step = 1.0 if pairs else 1 / size
        for _ in range(30):
            new = np.clip(v + step * direction, low, high)
            new_value, new_g = function(new)
            if new_value <= value + 1e-4 * (slope @ (new - v)):
                break
            step /= 2
        else:
            break
        s, y = new - v, new_g - g
        if s @ y > 1e-12:
            pairs = [*pairs, (s, y)][-10:]
        v, value, g = new, new_value, new_g
    return v


def _inverse_hessian(pairs: list[tuple[np.ndarray, np.ndarray]], g: np.ndarray) -> np.ndarray:
    """The two loops."""
    q, shares = g.copy(), []
    for s, y in reversed(pairs):
        shares.append((s @ q) / (s @ y))
        q -= shares[-1] * y
    if pairs:
        s, y = pairs[-1]
        q *= (s @ y) / (y @ y)
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        q += s * (share - (y @ q) / (s @ y))
    return q


def universal(
    model: Module,
    x: Tensor,
    eps: Number,
    norm: float = INF,
    fooling: float = 0.8,
    passes: int = 10,
    *,
    steps: int = 50,
    bounds: Bounds = None,
    mode: str | None = "eval",
    generator: Generator | None = None,
) -> Tensor:
    """One r (1, *), ‖r‖ ≤ ε, that changes the model's prediction on a share `fooling` of the samples x
    (B, *): the way out of each sample that it does not move yet, by `deepfool`, is added and projected, in up
    to `passes` passes.

    Moosavi-Dezfooli et al., arXiv 1610.08401.
    """
    x = require_input("universal", x)
    require_norm("universal", norm, eps)
    radius = in_units("universal", "eps", eps, x)
    r = mul(x[:1], 0.0)

    def labels(inputs: Tensor) -> np.ndarray:
        with attacking(model, mode, generator), no_grad():
            return _read(argmax(model(clipped("universal", inputs, bounds)), 1))

    clean = labels(x)
    for _ in range(passes):
        if (labels(add(x, r)) != clean).mean() >= fooling:
            break
        for b in range(x.shape[0]):
            moved = add(x[b : b + 1], r)
            if labels(moved)[0] != clean[b]:
                continue
            out = deepfool(model, moved, norm, steps, bounds=bounds, mode=mode, generator=generator).x
            r = projected(sub(out, x[b : b + 1]), radius, norm)
    return r
