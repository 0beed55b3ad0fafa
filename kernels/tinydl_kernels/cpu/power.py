"""a to the power of b for use inside kernels, without branches or calls, as `transcendental.py` has it.

    |a| = 2^e m, √½ <= m < √2, s = (m - 1) / (m + 1), z = s²:
    log2 |a| = e + 2 / (3 ln 2) s (3 + z + z² L(z))
    2^t = 2^k (1 + f ln 2 + f² S(f)),   t = b log2 |a| = k + f, |f| <= ½

For float32 all is computed in float64 (there with plain polynomials P for 2 atanh(s) / (s ln 2) and 2^f), and
rounded once. For float64 the logarithm is the sum of a high part of 26 bits, whose products are exact,
and a low one (Dekker, Numer. Math. 18, 1971), so that the result is wrong by less than 1 unit in the last
place, 1.2 on processors without fused multiply-adds. L, S and the P interpolate at Chebyshev's nodes. Edges
are those of C99's pow.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel
from .transcendental import CONTRACT, SQRT_HALF_BITS, _is_single, _power_double

ROUNDING = 6755399441055744.0
THIRDS = 0.9617966939259756
"""2 / (3 ln 2)"""
THIRDS_HIGH, THIRDS_LOW = 0.9617966860532761, 7.872699542894897e-09
LN_2 = 0.6931471805599453
LN_2_LOST = 3.345e-17
"""What is missing in LN_2, in its own units."""


@kernel(forceinline=True)
def _split(x):
    """(e, m) with x = 2^e m, √½ <= m < √2, for x > 0; a subnormal x is first made normal."""
    lift = x < 2.2250738585072014e-308
    bits = np.float64(x * 18014398509481984.0 if lift else x).view(np.int64)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    m = np.int64(bits - (exponent << 52)).view(np.float64)
    return np.float64(exponent) - (54.0 if lift else 0.0), m


@kernel(forceinline=True)
def _high(x):
    """x without its 27 lowest bits."""
    return np.int64(np.float64(x).view(np.int64) & -134217728).view(np.float64)


@kernel(forceinline=True)
def _scaled(y, shifted):
    """y 2^k where `shifted` is k + ROUNDING."""
    k = np.float64(shifted).view(np.int64) - 0x4338000000000000
    half = k >> 1  # 2^k itself may be no normal number
    return y * _power_double(half) * _power_double(k - half)


@kernel(fastmath=CONTRACT, forceinline=True)
def _log2_shortly(x):
    e, m = _split(x)
    s = (m - 1) / (m + 1)
    z = s * s
    P = ((0.340714136651912 * z + 0.411673658400816) * z + 0.5770835677034892) * z + 0.9617966734432283
    return e + s * (P * z + 2.885390081789993)


@kernel(fastmath=CONTRACT, forceinline=True)
def _power_shortly(x, b):
    """For numbers that are float32, x > 0."""
    t = b * _log2_shortly(x)
    t = -300.0 if t < -300.0 else t
    t = 300.0 if t > 300.0 else t
    shifted = t + ROUNDING
    f = t - (shifted - ROUNDING)
    P = (1.5303721130801367e-05 * f + 0.00015469755744925822) * f + 0.0013333478409865399
    P = ((P * f + 0.009618025530398209) * f + 0.05550410906373737) * f + 0.24022651214120053
    return _scaled((P * f + 0.6931471805568274) * f + 0.999999999959497, shifted)


@kernel(fastmath=CONTRACT, forceinline=True)
def _atanh_terms(z):
    """z² L(z)"""
    L = (0.17584767935814777 * z + 0.1755935450923681) * z + 0.20002207040770967
    L = ((L * z + 0.23076892443777647) * z + 0.272727275030892) * z + 0.3333333333248383
    return z * z * ((L * z + 0.4285714285714405) * z + 0.6)


@kernel(forceinline=True)
def _log2(x):
    """(high, low), the sum of which is log2(x); `high` has 26 bits. Every product of two high parts is
    exact."""
    e, m = _split(x)
    f, d = m - 1, _high(m + 1)
    inverse = 1 / (m + 1)
    s = f * inverse
    s_high = _high(s)
    s_low = inverse * ((f - s_high * d) - s_high * (m - (d - 1)))
    z = s_high * s_high
    rest = _atanh_terms(s * s) + s_low * (s_high + s)
    t_high = _high(3 + z + rest)
    t_low = rest - ((t_high - 3) - z)
    p, p_rest = s_high * t_high, s_low * t_high + t_low * s
    p_high = _high(p + p_rest)
    p_low = p_rest - (p_high - p)
    y, y_rest = THIRDS_HIGH * p_high, THIRDS_LOW * p_high + p_low * THIRDS
    high = _high((y + y_rest) + e)
    return high, y_rest - ((high - e) - y)


@kernel(fastmath=CONTRACT, forceinline=True)
def _exp2(f, low):
    """2^(f + low) for |f| <= ½ and a small `low`."""
    S = (4.4541068401718915e-10 * f + 7.070984300546448e-09) * f + 1.0178067252442298e-07
    S = ((S * f + 1.321545160506755e-06) * f + 1.5252733820815906e-05) * f + 0.0001540353042481424
    S = ((S * f + 0.0013333558146423204) * f + 0.00961812910761865) * f + 0.05550410866482158
    S = S * f + 0.24022650695910075
    return 1 + (f * LN_2 + (f * f * S + (low + f * LN_2_LOST) * LN_2))


@kernel(forceinline=True)
def _power_exactly(x, b):
    """For x > 0."""
    b = -1e19 if b < -1e19 else b  # far beyond what gives 0 or infinity
    b = 1e19 if b > 1e19 else b
    log_high, log_low = _log2(x)
    b_high = _high(b)
    high, low = b_high * log_high, (b - b_high) * log_high + b * log_low
    t = high + low
    over, under = t > 1030.0, t < -1080.0
    high = 1030.0 if over else -1080.0 if under else high
    low = 0.0 if over | under else low
    shifted = (high + low) + ROUNDING
    f = high - (shifted - ROUNDING)
    t = f + low
    return _scaled(_exp2(t, low - (t - f)), shifted)


@kernel(forceinline=True)
def _at_the_edges(a, b, y):
    """y, which is |a|^b unless a is 0 or infinite, with the sign and where it is another number."""
    x, inf = abs(a), np.inf
    y = (inf if b < 0 else 0.0) if x == 0 else y
    y = (0.0 if b < 0 else inf) if x == inf else y
    y = 1.0 if x == 1 else y
    whole, half = np.floor(b) == b, 0.5 * b
    odd = whole & (np.floor(half) != half)
    y = np.copysign(y, a) if odd else y
    y = np.nan if (a < 0) & (x < inf) & (not whole) else y
    y = a + b if (a != a) | (b != b) else y
    return 1.0 if (b == 0) | (a == 1) else y


@kernel(forceinline=True)
def power(a, b):
    """For floating numbers."""
    wide, exponent = np.float64(a), np.float64(b)
    x = abs(wide)
    if _is_single(a):
        return type(a)(_at_the_edges(wide, exponent, _power_shortly(x, exponent)))
    return type(a)(_at_the_edges(wide, exponent, _power_exactly(x, exponent)))
