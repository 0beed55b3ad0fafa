"""Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011).

A block is four 32-bit words, a function of a key and a counter: no state but the counter, so any element can
be made anywhere, in any order, by any number of threads.

    key      uint64 (2,)   seed and stream: Philox's key, and the upper two words of its counter
    start    uint64 (1,)   the first block of the draw: start + b (mod 2^64): lower two words of block b's
                           counter

Both are arrays, since they vary between steps. Words are numbered over the blocks of a draw. Element i takes
word i if it has up to 4 bytes (float32, bool, uint32), and words 2i, 2i + 1 as the lower and upper half of 64
bits if it has 8 (float64, int64): `blocks` says how many blocks a draw takes, and `reserve` hands them out.
Streams do not overlap, and each repeats after 2^64 blocks.

All results are bit-identical on all backends: integers by nature, normal numbers because logarithm, sine and
cosine are series of our own in float64, with the same roundings everywhere.

Cost: 20 multiplications of 32 bits per block; each array is written once, and dropout's x read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .cpu.compiler import kernel, parallel
from .cuda import launching
from .machine import memory, validate
from .machine.constants import OF_FILE
from .machine.dispatch import operation
from .machine.errors import DtypeError, ShapeError

Array = Any
Shape = tuple[int, ...]

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
MULTIPLIERS, WEYL = (tuple(map(np.uint64, OF_FILE["random"][name])) for name in ("MULTIPLIERS", "WEYL"))
LOG_2, SQRT_HALF_BITS, TURN = (OF_FILE["random"][name] for name in ("LOG_2", "SQRT_HALF_BITS", "TURN"))
GRAIN = 1 << 13  # blocks per chunk: 10 to 60 microseconds


def blocks(shape: Shape, dtype: Any = np.uint32) -> int:
    """The number of blocks that a draw of this shape and dtype takes; masks (bernoulli, dropout) are bool."""
    words = 2 if np.dtype(dtype).itemsize == 8 else 1
    return -(-math.prod(shape) * words // 4)


# ---- The arithmetic, once: NumPy runs these functions on uint64 arrays, Numba compiles them for one element.


def _rounds(key: Any, counter: Any, stream: Any) -> Any:
    """The four words of the block `counter`, as uint64 below 2^32."""
    k0, k1 = key & LOW, key >> HALF
    c0, c1, c2, c3 = counter & LOW, counter >> HALF, stream & LOW, stream >> HALF
    for _ in range(10):
        a, b = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (b >> HALF) ^ c1 ^ k0, b & LOW, (a >> HALF) ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def _high(a: Any, b: Any) -> Any:
    """The upper 64 bits of the 128-bit product a * b: schoolbook multiplication in base 2^32."""
    a0, a1, b0, b1 = a & LOW, a >> HALF, b & LOW, b >> HALF
    middle = a1 * b0 + (a0 * b0 >> HALF)
    return a1 * b1 + (middle >> HALF) + (a0 * b1 + (middle & LOW) >> HALF)


def _unit(bits: Any) -> Any:
    """The upper 53 of 64 bits as a number in [0, 1)."""
    return np.int64(bits >> np.uint64(11)) * 2.0**-53


def _log(u: Any) -> Any:
    """log(u) of a normal number u, u = 2^k m with m in [sqrt(1/2), sqrt(2)): k log 2 + 2 artanh(s),
    s = (m - 1) / (m + 1), |s| < 0.172.
    """
    bits = np.float64(u).view(np.int64)
    k = (bits - SQRT_HALF_BITS) >> 52
    m = np.int64(bits - (k << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    s2 = s * s
    p = 1.0 / 23
    for j in range(21, 0, -2):
        p = 1.0 / j + p * s2
    return LOG_2 * k + 2.0 * s * p


def _box_muller_by(log: Callable[[Any], Any]) -> Callable[..., Any]:
    def box_muller(u: Any, turn: Any) -> Any:
        """Two independent normal numbers from u in (0, 1] and an angle in turns of 2^-64."""
        radius = np.sqrt(-2.0 * log(u))  # Box and Muller, 1958

        # The angle is q quarters of a turn and x, |x| <= pi/4: Taylor's series to x^17 and x^16, then a
        # rotation by q
        q = (turn + np.uint64(1 << 61)) >> np.uint64(62)
        x = np.int64(turn - (q << np.uint64(62))) * TURN
        x2 = x * x
        sine = cosine = 1.0
        for j in range(16, 0, -2):
            sine = 1.0 - 1.0 / (j * (j + 1)) * x2 * sine
            cosine = 1.0 - 1.0 / (j * (j - 1)) * x2 * cosine
        sine = sine * x
        quarter = np.int64(q)
        odd = quarter & 1
        real, imaginary = odd * sine + (1 - odd) * cosine, odd * cosine + (1 - odd) * sine
        return radius * ((1 - (quarter + 1 & 2)) * real), radius * ((1 - (quarter & 2)) * imaginary)

    return box_muller


inline = kernel(forceinline=True)  # called functions keep LLVM from vectorizing a loop
rounds, high, unit, log = map(inline, (_rounds, _high, _unit, _log))
_box_muller, box_muller = _box_muller_by(_log), inline(_box_muller_by(log))


# ---- What the backends share


def _words(key: Array, start: Array, shape: Shape, dtype: Any) -> Array:
    """The draw's words for the reference: uint64 below 2^32, (blocks, 4)."""
    _check(key, start)
    counters = start + np.arange(blocks(shape, dtype), dtype=np.uint64)
    return np.stack(_rounds(key[0], counters, key[1]), axis=-1)


def _pairs(key: Array, start: Array, shape: Shape) -> Array:
    """The draw's 64-bit numbers for the reference: uint64, (blocks, 2)."""
    words = _words(key, start, shape, np.uint64)
    return words[:, 0::2] | words[:, 1::2] << HALF


def _shaped(values: Array, shape: Shape) -> Array:
    """As many of the values as the shape takes."""
    return values.reshape(-1)[: math.prod(shape)].reshape(shape)


@inline
def _put_two(part, i, block):
    part[i], part[i + 1] = block


@inline
def _put_four(part, i, block):
    part[i], part[i + 1], part[i + 2], part[i + 3] = block


def _filler(values: Callable[..., Any], width: int) -> Any:
    """The loop that fills a flat array from consecutive blocks: `values(words, *settings)` makes the `width`
    elements of one, 4 or 2.
    """
    put = {2: _put_two, 4: _put_four}[width]

    @parallel
    def filled(first, last, key, start, out, settings):
        seed, stream, counter = key[0], key[1], start[0] + np.uint64(first)
        part = out[width * first : width * last]  # LLVM vectorizes indices that it knows not to be negative
        whole = part.size // width
        for b in range(whole):
            put(part, width * b, values(rounds(seed, counter + np.uint64(b), stream), *settings))
        if whole * width < part.size:
            block = values(rounds(seed, counter + np.uint64(whole), stream), *settings)
            for i in range(width * whole, part.size):
                part[i] = block[i - width * whole]

    return filled


def _fill_cpu(fill: Any, key: Array, start: Array, shape: Shape, dtype: Any, *settings: Any) -> Array:
    _check(key, start)
    out = memory.empty(shape, dtype, key)
    fill(blocks(shape, dtype), GRAIN, key, start, out.reshape(-1), settings)
    return out


def _fill_cuda(name: str, key: Array, start: Array, shape: Shape, dtype: Any, *settings: Any) -> Array:
    _check(key, start)
    out = memory.empty(shape, dtype, key)
    launching.launch("random", name, blocks(shape, dtype), key, start, out, np.int64(out.size), *settings)
    return out


def _drawn(draw: Any, name: str, fills: dict[Any, Any], how: Callable[..., tuple[Any, ...]]) -> None:
    """Implement a draw: `how` makes of its arguments the dtype, which has a loop in `fills`, and settings."""

    @draw.loops
    def _(key: Array, start: Array, shape: Shape, *given: Any) -> Array:
        dtype, *settings = how(*given)
        return _fill_cpu(fills[dtype], key, start, shape, dtype, *settings)

    @draw.cuda
    def _(key: Array, start: Array, shape: Shape, *given: Any) -> Array:
        dtype, *settings = how(*given)
        kernel = name if len(fills) == 1 else f"{name}_{dtype}"
        return _fill_cuda(kernel, key, start, shape, dtype, *settings)


def _check(key: Array, start: Array) -> None:
    for name, array, size in (("key", key, 2), ("start", start, 1)):
        if array.dtype != np.uint64:
            raise DtypeError(f"random: expected {name} of dtype uint64, got {array.dtype}")
        if array.shape != (size,):
            raise ShapeError(f"random: expected {name} of shape ({size},), got {array.shape}")


def _floating(who: str, dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise DtypeError(f"{who}: expected float32 or float64, got {dtype}")
    return dtype


def _span(low: int, high: int) -> int:
    if not -(2**63) <= low < high < 2**63:
        raise ValueError(f"randint: expected low < high, both int64, got [{low}, {high})")
    return high - low


def _probability(who: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"{who}: expected a probability, 0 <= p <= 1, got {p}")
    return p


def _threshold(p: float) -> np.uint64:
    """A word is below it with probability p, to within 2^-33."""
    return np.uint64(round(p * 2**32))


# ---- integers


@operation
def integers(key: Array, start: Array, shape: Shape) -> Array:
    """Uniform uint32 of the shape: the raw words of the draw. Takes `blocks(shape)`."""
    return _shaped(_words(key, start, shape, np.uint32), shape).astype(np.uint32)


@inline
def _integers(words):
    return words


_integers_fill = _filler(_integers, 4)


_drawn(integers, "integers", {np.uint32: _integers_fill}, lambda: (np.uint32,))


# ---- randint


@operation
def randint(key: Array, start: Array, shape: Shape, low: int, high: int) -> Array:
    """Uniform int64 in [low, high). Takes `blocks(shape, np.int64)`.

    low + floor(bits * (high - low) / 2^64) with 64 random bits: a value's probability is off by less than
    2^-64. ValueError unless -2^63 <= low < high < 2^63.
    """
    span = np.uint64(_span(low, high))
    return _shaped(_high(_pairs(key, start, shape), span) + np.uint64(low % 2**64), shape).view(np.int64)


@inline
def _randint(words, low, span):
    return (
        low + np.int64(high(words[0] | words[1] << HALF, span)),
        low + np.int64(high(words[2] | words[3] << HALF, span)),
    )


_randint_fill = _filler(_randint, 2)


_drawn(
    randint,
    "randint",
    {np.int64: _randint_fill},
    lambda low, high: (np.int64, np.int64(low), np.uint64(_span(low, high))),
)


# ---- uniform


@operation
def uniform(key: Array, start: Array, shape: Shape, dtype: Any) -> Array:
    """Uniform in [0, 1): multiples of 2^-24 in float32, of 2^-53 in float64. Takes `blocks(shape, dtype)`."""
    if _floating("uniform", dtype) == np.float64:
        return _shaped(_unit(_pairs(key, start, shape)), shape)
    return _shaped(
        (_words(key, start, shape, dtype) >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24), shape
    )


@inline
def _uniform32(words):
    a, b, c, d = words
    scale, shift = np.float32(2.0**-24), np.uint64(8)
    return (
        np.float32(np.int32(a >> shift)) * scale,
        np.float32(np.int32(b >> shift)) * scale,
        np.float32(np.int32(c >> shift)) * scale,
        np.float32(np.int32(d >> shift)) * scale,
    )


@inline
def _uniform64(words):
    return unit(words[0] | words[1] << HALF), unit(words[2] | words[3] << HALF)


_uniform_fill = {np.dtype(np.float32): _filler(_uniform32, 4), np.dtype(np.float64): _filler(_uniform64, 2)}


_drawn(uniform, "uniform", _uniform_fill, lambda dtype: (_floating("uniform", dtype),))


# ---- normal


@operation
def normal(key: Array, start: Array, shape: Shape, dtype: Any) -> Array:
    """Normal numbers of mean 0 and variance 1 by Box and Muller. Takes `blocks(shape, dtype)`.

    Elements 2i and 2i + 1 are sqrt(-2 log u) times cosine and sine of an angle; u and the angle have 32 bits
    each in float32 (so |z| < 6.67) and 53 and 64 in float64 (|z| < 8.58). Computed in float64 to 1e-15;
    float32 is that, rounded.
    """
    if _floating("normal", dtype) == np.float64:
        bits = _pairs(key, start, shape)
        u, turn = _unit(bits[:, 0]) + 2.0**-53, bits[:, 1]
    else:
        words = _words(key, start, shape, dtype)
        u, turn = (words[:, 0::2] + np.uint64(1)) * 2.0**-32, words[:, 1::2] << HALF
    return _shaped(np.stack(_box_muller(u, turn), axis=-1), shape).astype(dtype)


@inline
def _normal32(words):
    one, scale = np.int64(1), 2.0**-32
    a, b = box_muller((np.int64(words[0]) + one) * scale, words[1] << HALF)
    c, d = box_muller((np.int64(words[2]) + one) * scale, words[3] << HALF)
    return a, b, c, d


@inline
def _normal64(words):
    return box_muller(unit(words[0] | words[1] << HALF) + 2.0**-53, words[2] | words[3] << HALF)


_normal_fill = {np.dtype(np.float32): _filler(_normal32, 4), np.dtype(np.float64): _filler(_normal64, 2)}


_drawn(normal, "normal", _normal_fill, lambda dtype: (_floating("normal", dtype),))


# ---- bernoulli


@operation
def bernoulli(key: Array, start: Array, shape: Shape, p: float) -> Array:
    """A bool mask, True with probability p to within 2^-33. Takes `blocks(shape, bool)`. ValueError unless 0
    <= p <= 1.
    """
    threshold = _threshold(_probability("bernoulli", p))
    return _shaped(_words(key, start, shape, bool) < threshold, shape)


@inline
def _bernoulli(words, threshold):
    a, b, c, d = words
    return a < threshold, b < threshold, c < threshold, d < threshold


_bernoulli_fill = _filler(_bernoulli, 4)


_drawn(
    bernoulli,
    "bernoulli",
    {np.bool_: _bernoulli_fill},
    lambda p: (np.bool_, _threshold(_probability("bernoulli", p))),
)


# ---- dropout


@operation
def dropout(x: Array, key: Array, start: Array, p: float) -> Array:
    """y = x / (1 - p) where bernoulli(key, start, x.shape, 1 - p) is True, else 0 (Srivastava et al., JMLR
    2014).

    Linear in x, so it is its own backward. Takes `blocks(x.shape, bool)`; p = 1 gives zeros, p = 0 copies.
    """
    threshold, scale = _threshold(1 - _probability("dropout", p)), _scale(p, x.dtype)
    keep = _shaped(_words(key, start, x.shape, bool) < threshold, x.shape)
    return np.multiply(x, scale, out=np.zeros_like(x), where=keep)


def _scale(p: float, dtype: np.dtype) -> Any:
    return _floating("dropout", dtype).type(1 / (1 - p) if p < 1 else 0)


@parallel
def _dropout(first, last, x, key, start, y, threshold, scale):
    seed, stream, counter = key[0], key[1], start[0] + np.uint64(first)
    x, y = x[4 * first : 4 * last], y[4 * first : 4 * last]
    whole, zero = x.size // 4, scale * 0
    for b in range(whole):
        w0, w1, w2, w3 = rounds(seed, counter + np.uint64(b), stream)
        i = 4 * b
        y0, y1, y2, y3 = x[i] * scale, x[i + 1] * scale, x[i + 2] * scale, x[i + 3] * scale
        y[i] = y0 if w0 < threshold else zero
        y[i + 1] = y1 if w1 < threshold else zero
        y[i + 2] = y2 if w2 < threshold else zero
        y[i + 3] = y3 if w3 < threshold else zero
    if whole * 4 < x.size:
        words = rounds(seed, counter + np.uint64(whole), stream)
        for i in range(4 * whole, x.size):
            y[i] = x[i] * scale if words[i - 4 * whole] < threshold else zero


@dropout.loops
def _(x: Array, key: Array, start: Array, p: float) -> Array:
    _check(key, start)
    threshold, scale = _threshold(1 - _probability("dropout", p)), _scale(p, x.dtype)
    y = memory.empty_like(x)
    _dropout(blocks(x.shape), GRAIN, x.reshape(-1), key, start, y.reshape(-1), threshold, scale)
    return y


@dropout.cuda
def _(x: Array, key: Array, start: Array, p: float) -> Array:
    _check(key, start)
    threshold, scale = _threshold(1 - _probability("dropout", p)), _scale(p, x.dtype)
    y = memory.empty_like(x)
    launching.launch(
        "random", f"dropout_{x.dtype}", blocks(x.shape), x, key, start, y, np.int64(x.size), threshold, scale
    )
    return y


# ---- reserve


@operation
def reserve(counter: Array, blocks: int) -> Array:
    """Hand out `blocks` blocks of a generator: returns `counter`, uint64 (1,), as it was, and adds `blocks`
    to it in place.
    """
    before = counter.copy()
    counter += np.uint64(blocks)
    return before


@parallel
def _reserve(first, last, counter, before, blocks):
    before[0] = counter[0]
    counter[0] += blocks


@reserve.loops
def _(counter: Array, blocks: int) -> Array:
    before = memory.empty_like(counter)
    _reserve(1, 1, counter, before, np.uint64(blocks))
    return before


@reserve.cuda
def _(counter: Array, blocks: int) -> Array:
    before = memory.empty_like(counter)
    launching.launch("random", "reserve", 1, counter, before, np.uint64(blocks))
    return before


def main() -> None:
    """Validate every backend against the reference, bit for bit, then time."""
    key, start, shape = np.array([2026, 1], np.uint64), np.array([2**32 - 3], np.uint64), (1 << 20,)
    validate.report(integers, key, start, shape, tolerance=0)
    validate.report(randint, key, start, shape, -5, 2**40, tolerance=0)
    validate.report(bernoulli, key, start, shape, 0.3, tolerance=0)
    for dtype in (np.float32, np.float64):
        validate.report(uniform, key, start, shape, dtype, tolerance=0)
        validate.report(normal, key, start, shape, dtype, tolerance=0)
        validate.report(dropout, np.ones(shape, dtype), key, start, 0.3, tolerance=0)
    validate.report(reserve, start, 5, tolerance=0)


if __name__ == "__main__":
    main()
