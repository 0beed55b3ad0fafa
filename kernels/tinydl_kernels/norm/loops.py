"""The loops of batch normalization on the processor: sums over planes and over samples, passes that write.

`_summing` and `_writing` make loops of formulas for one value. Planes of one value, those of features (N, C),
would leave the lanes of a register empty: there a run of neighbouring channels takes the place of a plane.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cpu.compiler import kernel, parallel
from ..machine.constants import OF_FILE

FELT, SURE = (OF_FILE["norm"][name] for name in ("FELT", "SURE"))


@kernel
def _run(start, stop, channels):
    """Of planes of one value: the first channel and the length of a run of neighbours in one sample."""
    return start % channels, min(stop - start, channels - start % channels)


@kernel
def _rounded(mean, inputs):
    """The mean in the dtype of x."""
    return inputs[0].dtype.type(mean)


@kernel
def _rest(mean, like):
    """What rounding to the dtype of `like` leaves of a mean."""
    return mean - np.float64(like.dtype.type(mean))


def _summing(terms: Any, plane_sums: Any, put: Any) -> Any:
    """loop(n, grain, inputs, mean, sums, size): sums (kinds, planes) over the `size` values of each plane.

    terms(inputs, k, mean) are those of value k in float64, plane_sums(inputs, at, end, mean) the sums of the
    values from `at` on and before `end`, put(sums, plane, numbers) writes one or the other down.
    """

    @parallel
    def loop(start, stop, inputs, mean, sums, size):
        while start < stop and size == 1:
            c, count = _run(start, stop, mean.size)
            first, means = np.uint64(start), mean[c:]
            for k in range(np.uint64(count)):
                put(sums, first + k, terms(inputs, first + k, np.float64(_rounded(means[k], inputs))))
            start += count
        for plane in range(start, stop):
            centre = np.float64(_rounded(mean[plane % mean.size], inputs))
            put(sums, np.uint64(plane), plane_sums(inputs, plane * size, (plane + 1) * size, centre))

    return loop


@kernel
def _part_of_1(arrays, at, end):
    return (arrays[0][at:end],)


@kernel
def _part_of_2(arrays, at, end):
    return arrays[0][at:end], arrays[1][at:end]


@kernel
def _part_of_3(arrays, at, end):
    return arrays[0][at:end], arrays[1][at:end], arrays[2][at:end]


_PARTS = {1: _part_of_1, 2: _part_of_2, 3: _part_of_3}
"""By how many they are, arrays[i][at:end] of each: of loops over such a part LLVM makes vector code."""


def _writing(factors_of: Any, write: Any, inputs_of: int, outputs_of: int = 1) -> Any:
    """loop(n, grain, inputs, factors, outputs, size): write(outputs, k, inputs, numbers) for each value k.

    The numbers are factors_of(factors, c), those of its channel.
    """
    input_part, output_part = _PARTS[inputs_of], _PARTS[outputs_of]

    @parallel
    def loop(start, stop, inputs, factors, outputs, size):
        channels = factors.shape[1]
        while start < stop and size == 1:
            c, count = _run(start, stop, channels)
            first, channel = np.uint64(start), np.uint64(c)
            for k in range(np.uint64(count)):
                write(outputs, first + k, inputs, factors_of(factors, channel + k))
            start += count
        for plane in range(start, stop):
            at, end, numbers = plane * size, (plane + 1) * size, factors_of(factors, plane % channels)
            x, y = input_part(inputs, at, end), output_part(outputs, at, end)
            for k in range(y[0].size):
                write(y, k, x, numbers)

    return loop


# ---- Statistics, and y


@kernel(fastmath={"reassoc"})
def _plane_moments(x):
    """Mean and Σ (x - mean)² of one plane."""
    total, squares = 0.0, 0.0
    for k in range(x.size):
        total += x[k]
    mean = total / x.size
    for k in range(x.size):
        centred = x[k] - mean
        squares += centred * centred
    return mean, squares


@parallel
def moments(start, stop, x, means, squares, size):
    """Mean and Σ (x - mean)² of each plane."""
    if size == 1:  # (N, C): each value is the mean of its plane
        for plane in range(start, stop):
            means[plane], squares[plane] = x[plane], 0.0
        return
    for plane in range(start, stop):
        means[plane], squares[plane] = _plane_moments(x[plane * size : (plane + 1) * size])


@parallel
def merge_moments(start, stop, means, squares, samples, size, gamma, beta, eps, mean, var, factors):
    """Moments of the planes (samples, C) -> mean, biased variance (C,), and factors = mean, γ s, β (3, C)."""
    channels = mean.size
    width = stop - start
    centre, spread = np.zeros(width), np.zeros(width)
    for sample in range(samples):
        row = means[sample * channels + start : sample * channels + stop]
        for k in range(width):
            centre[k] += row[k]
    for k in range(width):
        centre[k] /= samples
    for sample in range(samples):
        row = means[sample * channels + start : sample * channels + stop]
        inner = squares[sample * channels + start : sample * channels + stop]
        for k in range(width):
            centred = row[k] - centre[k]
            spread[k] += inner[k] + size * centred * centred
    for k in range(width):
        c = start + k
        var[c] = spread[k] / (samples * size)
        rest = _rest(centre[k], factors)
        felt = abs(rest) > FELT * math.sqrt(var[c]) and abs(rest) > SURE * abs(centre[k])
        rest = rest if felt else 0.0
        factors[0, c], factors[1, c] = centre[k], gamma[c] / math.sqrt(var[c] + eps)
        factors[2, c] = beta[c] - rest * factors[1, c]
        mean[c] = np.float64(factors[0, c]) + rest


@kernel
def _three(factors, c):
    return factors[0, c], factors[1, c], factors[2, c]


@kernel
def _write_y(outputs, k, inputs, numbers):
    (y,), x, (mean, scale, shift) = outputs, inputs[0], numbers
    y[k] = (x[k] - mean) * scale + shift


@kernel
def _write_sum(outputs, k, inputs, numbers):
    (y,), (x, other), (mean, scale, shift) = outputs, inputs, numbers
    y[k] = (x[k] - mean) * scale + shift + other[k]


@kernel
def _write_relu(outputs, k, inputs, numbers):
    (y,), (x,), (mean, scale, shift) = outputs, inputs, numbers
    value = (x[k] - mean) * scale + shift
    y[k] = type(value)(0) if value <= 0 else value


@kernel
def _write_relu_of_sum(outputs, k, inputs, numbers):
    (y,), (x, other), (mean, scale, shift) = outputs, inputs, numbers
    value = (x[k] - mean) * scale + shift + other[k]
    y[k] = type(value)(0) if value <= 0 else value


normalize = {
    (False, False): _writing(_three, _write_y, 1),
    (True, False): _writing(_three, _write_sum, 2),
    (False, True): _writing(_three, _write_relu, 1),
    (True, True): _writing(_three, _write_relu_of_sum, 2),
}
"""By what follows: is the last of the inputs added, and then relu taken?"""


# ---- First derivative


@kernel
def _two_terms(inputs, k, mean):
    """g, g (x - mean)"""
    g, x = inputs
    return np.float64(g[k]), np.float64(g[k]) * (np.float64(x[k]) - mean)


@kernel(fastmath={"reassoc"})
def _two_sums(inputs, at, end, mean):
    g, x = inputs[0][at:end], inputs[1][at:end]
    sum_g, sum_gx = 0.0, 0.0
    for k in range(x.size):
        sum_g += g[k]
        sum_gx += g[k] * (x[k] - mean)
    return sum_g, sum_gx


@kernel
def _put_two(sums, plane, numbers):
    sums[0, plane], sums[1, plane] = numbers


sums = _summing(_two_terms, _two_sums, _put_two)


@kernel
def _over_samples(sums, start, stop, channels):
    """Σ over the samples of the plane sums: sums (kinds, samples channels) -> (kinds, stop - start)."""
    totals = np.zeros((sums.shape[0], stop - start))
    for kind in range(sums.shape[0]):
        total = totals[kind]
        for first in range(start, sums.shape[1], channels):
            row = sums[kind, first:]
            for k in range(total.size):
                total[k] += row[k]
    return totals


@parallel
def dx_factors(start, stop, sums, mean, var, gamma, eps, n, factors, dgamma, dbeta):
    """Per channel: factors = mean, and dx = factors[1] g + factors[2] (x - mean) + factors[3]."""
    totals = _over_samples(sums, start, stop, var.size)
    for c in range(start, stop):
        s, rest = 1 / math.sqrt(var[c] + eps), _rest(mean[c], factors)
        sum_g, sum_gx = totals[0, c - start], totals[1, c - start]
        sum_gx -= rest * sum_g
        dgamma[c], dbeta[c] = sum_gx * s, sum_g
        scale = gamma[c] * s
        factors[0, c] = mean[c]
        of_x = -scale * s * s * sum_gx / n
        factors[1, c], factors[2, c], factors[3, c] = scale, of_x, -scale * sum_g / n - of_x * rest


@kernel
def _four(factors, c):
    return factors[0, c], factors[1, c], factors[2, c], factors[3, c]


@kernel
def _write_dx(outputs, k, inputs, numbers):
    (dx,), (g, x), (mean, of_g, of_x, constant) = outputs, inputs, numbers
    dx[k] = of_g * g[k] + of_x * (x[k] - mean) + constant


@kernel
def _write_dx_sum(outputs, k, inputs, numbers):
    (dx,), (g, x, other), (mean, of_g, of_x, constant) = outputs, inputs, numbers
    dx[k] = of_g * g[k] + of_x * (x[k] - mean) + constant + other[k]


dx = {False: _writing(_four, _write_dx, 2), True: _writing(_four, _write_dx_sum, 3)}
"""By what follows: is the last of the inputs added?"""


# ---- Second derivative


@kernel
def _five_terms(inputs, k, mean):
    """v, g, v (x - mean), g (x - mean), v g"""
    v, g, x = inputs
    v_k, g_k, centred = np.float64(v[k]), np.float64(g[k]), np.float64(x[k]) - mean
    return v_k, g_k, v_k * centred, g_k * centred, v_k * g_k


@kernel(fastmath={"reassoc"})
def _five_sums(inputs, at, end, mean):
    v, g, x = inputs[0][at:end], inputs[1][at:end], inputs[2][at:end]
    sum_v, sum_g, sum_vx, sum_gx, sum_vg = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(x.size):
        centred, v_k, g_k = x[k] - mean, np.float64(v[k]), np.float64(g[k])
        sum_v += v_k
        sum_g += g_k
        sum_vx += v_k * centred
        sum_gx += g_k * centred
        sum_vg += v_k * g_k
    return sum_v, sum_g, sum_vx, sum_gx, sum_vg


@kernel
def _put_five(sums, plane, numbers):
    sums[0, plane], sums[1, plane], sums[2, plane], sums[3, plane], sums[4, plane] = numbers


five_sums = _summing(_five_terms, _five_sums, _put_five)


@parallel
def dx_dx_factors(start, stop, sums, v_gamma, v_beta, mean, var, gamma, eps, n, factors, ddgamma):
    """Per channel: factors = mean, and ddg = factors[1] v + factors[2] (x - mean) + factors[3]; ddx =
    factors[4] v + factors[5] g + factors[6] (x - mean) + factors[7].
    """
    totals = _over_samples(sums, start, stop, var.size)
    for c in range(start, stop):
        s, rest = 1 / math.sqrt(var[c] + eps), _rest(mean[c], factors)
        five = totals[:, c - start]
        five[2] -= rest * five[0]
        five[3] -= rest * five[1]
        mean_v, mean_g, a, b = five[0] / n, five[1] / n, five[2] * s / n, five[3] * s / n
        q = five[4] - n * (mean_v * mean_g + a * b)
        scale, bend, turn = gamma[c] * s, gamma[c] * s * s, v_gamma[c] * s
        ddgamma[c] = s * q
        factors[0, c] = mean[c]
        factors[1, c] = scale
        of_x = s * (v_gamma[c] - scale * a)
        factors[2, c] = of_x
        factors[3, c] = v_beta[c] - scale * mean_v - of_x * rest
        factors[4, c] = -bend * b
        factors[5, c] = turn - bend * a
        of_x = s * (bend * (2 * a * b - q / n) - turn * b)
        factors[6, c] = of_x
        factors[7, c] = bend * (b * mean_v + a * mean_g) - turn * mean_g - of_x * rest


@kernel
def _of_ddx(factors, c):
    return factors[0, c], factors[4, c], factors[5, c], factors[6, c], factors[7, c]


@kernel
def _eight(factors, c):
    return _four(factors, c), _of_ddx(factors, c)


@kernel
def _write_ddg(outputs, k, inputs, numbers):
    (ddg, _), (v, _, x), (mean, of_v, of_x, constant) = outputs, inputs, numbers
    ddg[k] = of_v * v[k] + of_x * (x[k] - mean) + constant


@kernel
def _write_ddx(outputs, k, inputs, numbers):
    (_, ddx), (v, g, x), (mean, of_v, of_g, of_x, constant) = outputs, inputs, numbers
    ddx[k] = of_v * v[k] + of_g * g[k] + of_x * (x[k] - mean) + constant


@kernel
def _write_both(outputs, k, inputs, numbers):
    (ddg, ddx), (v, g, x) = outputs, inputs
    (mean, g_of_v, g_of_x, g_constant), (_, x_of_v, x_of_g, x_of_x, x_constant) = numbers
    v_k, centred = v[k], x[k] - mean
    by_x = x_of_v * v_k + x_of_g * g[k] + x_of_x * centred + x_constant
    ddg[k] = g_of_v * v_k + g_of_x * centred + g_constant
    ddx[k] = by_x


ddg, ddx = _writing(_four, _write_ddg, 3, 2), _writing(_of_ddx, _write_ddx, 3, 2)
dx_dx = _writing(_eight, _write_both, 3, 2)


# ---- Running statistics


@parallel
def running_update(start, stop, running_mean, running_var, mean, var, momentum, factor):
    """running += (batch - running) momentum, the variance times `factor`."""
    number = running_mean.dtype.type
    for c in range(start, stop):
        running_mean[c] += (number(mean[c]) - running_mean[c]) * number(momentum)
        running_var[c] += (number(var[c]) * number(factor) - running_var[c]) * number(momentum)
