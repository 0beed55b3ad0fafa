"""exp, log and tanh of one number, for use inside kernels: without branches or calls, so that loops over them
become vector code, which with libm's they do not.

    exp      x = k ln 2 + r, |r| <= ln 2 / 2:    exp(x) = 2^k (1 + q),  q = exp(r) - 1 = r + r² Q(r)
    tanh     sign(x) u / (u + 2),  u = exp(2 |x|) - 1 = 2^k q + (2^k - 1): nothing cancels, for k = 0 it is q
    log      x = 2^k m, √½ <= m < √2, f = m - 1, s = f / (2 + f):
             log(x) = k ln 2 + 2 atanh(s),  2 atanh(s) = f - (f²/2 - s (f²/2 + R)),  R = s² L(s²)

(Tang, ACM TOMS 15(2), 1989, and 16(4), 1990.) Q and L interpolate at Chebyshev's nodes. float32 and float64
have code of their own; integers are taken as float64. Errors are below 2 units in the last place, 3 for tanh.
NaN, infinities, zeros and subnormal numbers come out as from libm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..machine.constants import OF_FILE
from .compiler import kernel

SQRT_HALF_BITS = OF_FILE["random"]["SQRT_HALF_BITS"]

CONTRACT = {"contract"}
"""x * y + z may be rounded once."""


@kernel
def _floating(x):
    """x as float32 if it is one, else as float64."""
    return x * np.float32(1)


@kernel
def _is_single(x):
    """Known at compile time, so that the other half of a function disappears."""
    return type(x)(16777217) == type(x)(16777216)


@kernel
def _clamped(x, low, high):
    """NaN stays."""
    x = low if x < low else x
    return high if x > high else x


# ---- (q, k), and 2^k: adding 1.5 · 2^mantissa rounds to an integer and leaves it in the low bits


class Exp(NamedTuple):
    """The numbers of exp in one width. Those of Q: the highest power first."""

    low: float  # below it exp is 0, above `high` infinite
    high: float
    log2_e: float
    ln2_high: float
    ln2_low: float
    rounding: float
    rounding_bits: int
    bias: int
    mantissa: int
    Q: tuple[float, ...]


EXP_SINGLE = Exp(
    *(-104.0, 89.0, 1.44269504, 0.693145751953125, 1.42860682e-6, 12582912.0, 0x4B400000, 127, 23),
    Q=(0.00139262135, 0.00836320297, 0.0416665544, 0.166665768, 0.5),
)
EXP_DOUBLE = Exp(
    *(-746.0, 710.0, 1.4426950408889634, 0.69314718036912381649, 1.9082149292705878161e-10),
    *(6755399441055744.0, 0x4338000000000000, 1023, 52),
    Q=(
        *(2.51004241570050668e-8, 2.76201387197339956e-7, 2.75572683786841929e-6, 0.0000248015211902177277),
        *(0.000198412698631059687, 0.00138888889172817933, 0.00833333333333005135, 0.0416666666666239915),
        *(0.166666666666666675, 0.500000000000000103),
    ),
)


@kernel(fastmath=CONTRACT)
def _reduced_single(x):
    T, c = np.float32, EXP_SINGLE
    shifted = T(x * T(c.log2_e) + T(c.rounding))
    k = shifted - T(c.rounding)
    r = (x - k * T(c.ln2_high)) - k * T(c.ln2_low)
    Q = (((T(c.Q[0]) * r + T(c.Q[1])) * r + T(c.Q[2])) * r + T(c.Q[3])) * r + T(c.Q[4])
    return r * r * Q + r, np.int32(shifted.view(np.int32) - np.int32(c.rounding_bits))


@kernel(fastmath=CONTRACT)
def _reduced_double(x):
    c = EXP_DOUBLE
    shifted = np.float64(x * c.log2_e + c.rounding)
    k = shifted - c.rounding
    r = (x - k * c.ln2_high) - k * c.ln2_low
    Q = (((c.Q[0] * r + c.Q[1]) * r + c.Q[2]) * r + c.Q[3]) * r + c.Q[4]
    Q = ((((Q * r + c.Q[5]) * r + c.Q[6]) * r + c.Q[7]) * r + c.Q[8]) * r + c.Q[9]
    return r * r * Q + r, shifted.view(np.int64) - c.rounding_bits


@kernel
def _power_single(k):
    """For -126 <= k <= 127."""
    return np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)


@kernel
def _power_double(k):
    """For -1022 <= k <= 1023."""
    return np.int64((k + 1023) << 52).view(np.float64)


# ---- exp


@kernel
def _exp_single(x):
    q, k = _reduced_single(_clamped(x, np.float32(EXP_SINGLE.low), np.float32(EXP_SINGLE.high)))
    half = np.int32(k >> np.int32(1))  # 2^k itself may be no normal number
    return (np.float32(1) + q) * _power_single(half) * _power_single(np.int32(k - half))


@kernel
def _exp_double(x):
    q, k = _reduced_double(_clamped(x, EXP_DOUBLE.low, EXP_DOUBLE.high))
    half = k >> 1
    return (1 + q) * _power_double(half) * _power_double(k - half)


@kernel
def exp(x):
    y = _floating(x)
    if _is_single(y):
        return type(y)(_exp_single(np.float32(y)))
    return type(y)(_exp_double(np.float64(y)))


# ---- tanh, which is 1 to the last bit from 20 on


@kernel(fastmath=CONTRACT)
def _tanh_single(x):
    q, k = _reduced_single(_clamped(abs(x + x), np.float32(0), np.float32(40)))
    power = _power_single(k)
    u = q * power + (power - np.float32(1))
    return math.copysign(u / (u + np.float32(2)), x)


@kernel(fastmath=CONTRACT)
def _tanh_double(x):
    q, k = _reduced_double(_clamped(abs(x + x), 0.0, 40.0))
    power = _power_double(k)
    u = q * power + (power - 1)
    return math.copysign(u / (u + 2), x)


@kernel
def tanh(x):
    y = _floating(x)
    if _is_single(y):
        return type(y)(_tanh_single(np.float32(y)))
    return type(y)(_tanh_double(np.float64(y)))


# ---- log; a subnormal x is first made normal


@kernel(fastmath=CONTRACT)
def _log_single(x):
    T, I = np.float32, np.int32
    lift = x < T(1.17549435e-38)
    bits = T(x * T(33554432) if lift else x).view(I)
    exponent = I(I(bits - I(0x3F3504F3)) >> I(23))  # from the bits of √½
    f = I(bits - I(exponent << I(23))).view(T) - T(1)
    k = T(exponent - I(25) if lift else exponent)
    s = f / (T(2) + f)
    z, half = s * s, T(0.5) * f * f
    R = (((T(0.233310408) * z + T(0.285507997)) * z + T(0.40000122)) * z + T(0.666666666)) * z
    y = k * T(0.693145751953125) - ((half - (s * (half + R) + k * T(1.42860682e-6))) - f)
    return _log_at_the_edges(x, y, T(np.inf), T(np.nan))


@kernel(fastmath=CONTRACT)
def _log_double(x):
    lift = x < 2.2250738585072014e-308
    bits = np.float64(x * 18014398509481984.0 if lift else x).view(np.int64)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    f = np.int64(bits - (exponent << 52)).view(np.float64) - 1
    k = np.float64(exponent - 54 if lift else exponent)
    s = f / (2 + f)
    z, half = s * s, 0.5 * f * f
    L = (
        (0.146171283998072998 * z + 0.153316666765971743) * z + 0.181828907780261303
    ) * z + 0.222222111121049474
    L = ((L * z + 0.285714286261145183) * z + 0.399999999998991979) * z + 0.66666666666666697
    y = k * 0.69314718036912381649 - ((half - (s * (half + L * z) + k * 1.9082149292705878161e-10)) - f)
    return _log_at_the_edges(x, y, np.inf, np.nan)


@kernel
def _log_at_the_edges(x, y, inf, nan):
    y = y if x < inf else x
    y = y if x != 0 else -inf
    return nan if x < 0 else y


@kernel
def log(x):
    y = _floating(x)
    if _is_single(y):
        return type(y)(_log_single(np.float32(y)))
    return type(y)(_log_double(np.float64(y)))
