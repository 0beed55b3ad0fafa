"""Beta and Gamma numbers, by rejection: candidates made of two uniform numbers until one counts.

Key, start and blocks as in random.py; a candidate takes a block. Each element has `ATTEMPTS` blocks of its
own, tried in turn, so that no element's number depends on how often another was rejected. A candidate is
rejected 3 times in 4 at most: all of them in less than 1 case in 2^100, and then the last one stands.

All results are bit-identical on all backends, as normal numbers are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .cpu.compiler import parallel
from .cuda import launching
from .machine import memory, validate
from .machine.constants import OF_FILE
from .machine.dispatch import operation
from .random import HALF, LOG_2, Array, Shape, _check, _floating, _log, _rounds, inline, log, rounds

ATTEMPTS = OF_FILE["random"]["ATTEMPTS"]
GRAIN = 1 << 8  # elements per chunk
LOG_4 = math.log(4)
LOG_2_UPPER = round(LOG_2 * 2**32) / 2**32  # k times it is exact
LOG_2_LOWER = -4.2009150726810846e-11  # log 2 is the sum
INVERSE_LOG_2 = 1 / LOG_2

How = tuple[str, tuple[float, ...]]  # the attempt and its settings


# ---- The arithmetic, once: NumPy runs these functions on arrays, Numba compiles them for one element.


def _open_unit(bits: Any) -> Any:
    """The upper 52 of 64 bits as a number in (0, 1), as far from 0 as from 1."""
    return (np.int64(bits >> np.uint64(12)) + 0.5) * 2.0**-52


def _exp(x: Any) -> Any:
    """exp(x), and exp(700) or exp(-700) beyond: 2^k times Taylor's series to r^14, x = k log 2 + r."""
    x = np.minimum(np.maximum(x, -700.0), 700.0)
    k = np.floor(x * INVERSE_LOG_2 + 0.5)
    r = (x - k * LOG_2_UPPER) - k * LOG_2_LOWER
    p = 1.0
    for j in range(14, 0, -1):
        p = 1.0 + p * (r * (1.0 / j))
    return p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


def _attempts_by(log: Callable[[Any], Any], exp: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    """Attempts at a number by rejection: functions of two uniform numbers in (0, 1) and of five settings
    that give a number and whether it counts.
    """

    def johnk(u: Any, v: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        """Beta(a, b), both below 1: u^(1/a) of u^(1/a) + v^(1/b) where that is at most 1 (Johnk, 1964)."""
        x, y = log(u) / a, log(v) / b
        top = np.maximum(x, y)
        part, whole = exp(x - top), exp(x - top) + exp(y - top)
        return part / whole, top + log(whole) <= 0.0

    def cheng_beta(u: Any, v: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        """Beta(a, b), or with e = 1 the complement's Beta(b, a), by Cheng (1978): algorithm BB or BC by c and
        d, without the quick tests.
        """
        x = c * (log(u) - log(1.0 - u))
        w = a * exp(x)
        left = d * x - LOG_4 + (a + b) * log((a + b) / (b + w))
        return (e * b + (1.0 - e) * w) / (b + w), left >= 2.0 * log(u) + log(v)

    def cheng_gamma(u: Any, v: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        """Gamma(a), a at least 1, by Cheng (1977), algorithm GB, without the quick test."""
        x = c * (log(u) - log(1.0 - u))
        w = a * exp(x)
        return w, b + d * x - w >= 2.0 * log(u) + log(v)

    def ahrens_dieter(u: Any, v: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        """Gamma(a), a below 1, by Ahrens and Dieter (1974), algorithm GS: b = 1 + a/e, c = 1/a, d = a - 1."""
        p = b * u
        small = p <= 1.0
        x, y = exp(log(p) * c), np.maximum(log(a) - log(b - p), 1.0)
        return small * x + (1.0 - small) * y, log(v) <= small * -x + (1.0 - small) * (d * log(y))

    return {f.__name__: f for f in (johnk, cheng_beta, cheng_gamma, ahrens_dieter)}


open_unit, exp = inline(_open_unit), inline(_exp)


# ---- What the backends share


def blocks(shape: Shape) -> int:
    """The number of blocks that a draw of this shape takes."""
    return ATTEMPTS * math.prod(shape)


def _require(who: str, *parameters: float) -> None:
    if not all(0 < p < math.inf for p in parameters):
        raise ValueError(f"{who}: expected finite parameters above 0, got {', '.join(map(str, parameters))}")


def _beta_settings(a: float, b: float) -> How:
    _require("beta", a, b)
    if max(a, b) < 1:
        return "johnk", (a, b, 0.0, 0.0, 0.0)
    low, high = min(a, b), max(a, b)
    if low > 1:
        c = math.sqrt((low + high - 2) / (2 * low * high - low - high))
        return "cheng_beta", (low, high, c, low + 1 / c, float(a != low))
    return "cheng_beta", (high, low, 1 / low, high + low, float(a != high))


def _gamma_settings(a: float) -> How:
    _require("gamma", a)
    if a < 1:
        return "ahrens_dieter", (a, 1 + a / math.e, 1 / a, a - 1, 0.0)
    root = math.sqrt(2 * a - 1)
    return "cheng_gamma", (a, a - LOG_4, 1 / root, a + root, 0.0)


_attempts = _attempts_by(_log, _exp)


def _rejected(how: How, key: Array, start: Array, shape: Shape) -> Array:
    """Float64 for the reference: each element from the first of its blocks that counts."""
    _check(key, start)
    name, settings = how
    out = np.empty(math.prod(shape))
    left = np.arange(out.size, dtype=np.uint64)
    for attempt in range(ATTEMPTS):
        if not left.size:
            break
        words = _rounds(key[0], start + left * np.uint64(ATTEMPTS) + np.uint64(attempt), key[1])
        u, v = (_open_unit(words[i] | words[i + 1] << HALF) for i in (0, 2))
        out[left], counts = _attempts[name](u, v, *settings)
        left = left[~counts]
    return out.reshape(shape)


def _rejecter(attempt: Callable[..., Any]) -> Any:
    """The loop that fills a flat array, element by element."""

    @parallel
    def fill(first, last, key, start, out, settings):
        seed, stream = key[0], key[1]
        for i in range(first, last):
            counter = start[0] + np.uint64(i) * np.uint64(ATTEMPTS)
            value = 0.0
            for t in range(ATTEMPTS):
                words = rounds(seed, counter + np.uint64(t), stream)
                u, v = open_unit(words[0] | words[1] << HALF), open_unit(words[2] | words[3] << HALF)
                value, counts = attempt(u, v, *settings)
                if counts:
                    break
            out[i] = value

    return fill


_reject = {name: _rejecter(inline(attempt)) for name, attempt in _attempts_by(log, exp).items()}


def _reject_cpu(how: How, key: Array, start: Array, shape: Shape, dtype: np.dtype) -> Array:
    _check(key, start)
    name, settings = how
    out = memory.empty(shape, dtype, key)
    _reject[name](out.size, GRAIN, key, start, out.reshape(-1), settings)
    return out


def _reject_cuda(how: How, key: Array, start: Array, shape: Shape, dtype: np.dtype) -> Array:
    _check(key, start)
    name, settings = how
    out = memory.empty(shape, dtype, key)
    more = (np.int64(out.size), *map(np.float64, settings))
    launching.launch("random", f"{name}_{dtype}", out.size, key, start, out, *more)
    return out


# ---- beta


@operation
def beta(key: Array, start: Array, shape: Shape, dtype: Any, a: float, b: float) -> Array:
    """Beta(a, b) numbers in [0, 1], from `blocks(shape)` blocks.

    Johnk's method where a and b are below 1, else Cheng's (Communications of the ACM 21, 1978). Computed in
    float64; float32 is that, rounded. ValueError unless a and b are above 0.
    """
    dtype = _floating("beta", dtype)
    return _rejected(_beta_settings(a, b), key, start, shape).astype(dtype)


@beta.loops
def _(key: Array, start: Array, shape: Shape, dtype: Any, a: float, b: float) -> Array:
    dtype = _floating("beta", dtype)
    return _reject_cpu(_beta_settings(a, b), key, start, shape, dtype)


@beta.cuda
def _(key: Array, start: Array, shape: Shape, dtype: Any, a: float, b: float) -> Array:
    dtype = _floating("beta", dtype)
    return _reject_cuda(_beta_settings(a, b), key, start, shape, dtype)


# ---- gamma


@operation
def gamma(key: Array, start: Array, shape: Shape, dtype: Any, a: float) -> Array:
    """Gamma(a) numbers of scale 1, from `blocks(shape)` blocks.

    Ahrens and Dieter's method (Computing 12, 1974) for a below 1, else Cheng's (Applied Statistics 26, 1977).
    ValueError unless a is above 0.
    """
    dtype = _floating("gamma", dtype)
    return _rejected(_gamma_settings(a), key, start, shape).astype(dtype)


@gamma.loops
def _(key: Array, start: Array, shape: Shape, dtype: Any, a: float) -> Array:
    dtype = _floating("gamma", dtype)
    return _reject_cpu(_gamma_settings(a), key, start, shape, dtype)


@gamma.cuda
def _(key: Array, start: Array, shape: Shape, dtype: Any, a: float) -> Array:
    dtype = _floating("gamma", dtype)
    return _reject_cuda(_gamma_settings(a), key, start, shape, dtype)


def main() -> None:
    """Validate every backend against the reference, bit for bit, then time."""
    key, start, shape = np.array([2026, 1], np.uint64), np.array([2**32 - 3], np.uint64), (1 << 16,)
    for dtype in (np.float32, np.float64):
        for a, b in ((0.4, 0.4), (0.4, 2.0), (2.0, 2.0)):
            validate.report(beta, key, start, shape, dtype, a, b, tolerance=0)
        for a in (0.4, 2.5):
            validate.report(gamma, key, start, shape, dtype, a, tolerance=0)


if __name__ == "__main__":
    main()
