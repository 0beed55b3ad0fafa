"""Inner loops: products of matrices whose rows lie anywhere in a flat array, in tiles of four rows by four terms.

    multiply_add    Y += W X        rows of X wherever `offsets` say, rows of Y evenly spaced
    dots            W += Y Xᵀ

Lanes run along the rows. A tile reads four rows of X for 16 products, which keeps the multipliers busy from the first cache.
Positions are unsigned: a signed one might count from the end, and LLVM does not vectorize what has to ask.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel


@kernel
def copy(to, start, step, source, source_start, source_step, n):
    """to[start + i step] = source[source_start + i source_step]     for i < n"""
    t, s, t_step, s_step = np.uint64(start), np.uint64(source_start), np.uint64(step), np.uint64(source_step)
    for i in range(np.uint64(n)):
        to[t + i * t_step] = source[s + i * s_step]


@kernel
def fill(to, start, value, n):
    """to[start + i] = value     for i < n"""
    t = np.uint64(start)
    for i in range(np.uint64(n)):
        to[t + i] = value


@kernel
def multiply_add(y, y0, y_step, count, x, x0, offsets, w, w0, w_row, w_term, n):
    """y[y0 + i y_step + p] += Σ_j w[w0 + i w_row + j w_term] · x[x0 + offsets[j] + p]     for i < count <= 4, p < n, all j"""
    terms = offsets.size
    whole = terms - terms % 4
    if count == 4:
        for j in range(0, whole, 4):
            x1, x2, x3, x4 = x0 + offsets[j], x0 + offsets[j + 1], x0 + offsets[j + 2], x0 + offsets[j + 3]
            _rows4_terms4(y, y0, y_step, x, x1, x2, x3, x4, w, w0 + j * w_term, w_row, w_term, n)
        for j in range(whole, terms):
            _rows4_terms1(y, y0, y_step, x, x0 + offsets[j], w, w0 + j * w_term, w_row, n)
    else:
        for i in range(count):
            for j in range(0, whole, 4):
                x1, x2, x3, x4 = x0 + offsets[j], x0 + offsets[j + 1], x0 + offsets[j + 2], x0 + offsets[j + 3]
                _rows1_terms4(y, y0 + i * y_step, x, x1, x2, x3, x4, w, w0 + i * w_row + j * w_term, w_term, n)
            for j in range(whole, terms):
                _rows1_terms1(y, y0 + i * y_step, x, x0 + offsets[j], w[w0 + i * w_row + j * w_term], n)


@kernel(fastmath={"reassoc", "contract", "nsz"})
def _rows4_terms4(y, y0, y_step, x, x0, x1, x2, x3, w, w0, w_row, w_term, n):
    w1, w2, w3 = w0 + w_row, w0 + 2 * w_row, w0 + 3 * w_row
    a00, a01, a02, a03 = w[w0], w[w0 + w_term], w[w0 + 2 * w_term], w[w0 + 3 * w_term]
    a10, a11, a12, a13 = w[w1], w[w1 + w_term], w[w1 + 2 * w_term], w[w1 + 3 * w_term]
    a20, a21, a22, a23 = w[w2], w[w2 + w_term], w[w2 + 2 * w_term], w[w2 + 3 * w_term]
    a30, a31, a32, a33 = w[w3], w[w3 + w_term], w[w3 + 2 * w_term], w[w3 + 3 * w_term]
    x0, x1, x2, x3 = np.uint64(x0), np.uint64(x1), np.uint64(x2), np.uint64(x3)
    y0, y1, y2, y3 = np.uint64(y0), np.uint64(y0 + y_step), np.uint64(y0 + 2 * y_step), np.uint64(y0 + 3 * y_step)
    for p in range(np.uint64(n)):
        b0, b1, b2, b3 = x[x0 + p], x[x1 + p], x[x2 + p], x[x3 + p]
        y[y0 + p] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
        y[y1 + p] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
        y[y2 + p] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
        y[y3 + p] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3


@kernel(fastmath={"contract"})
def _rows4_terms1(y, y0, y_step, x, x0, w, w0, w_row, n):
    a0, a1, a2, a3 = w[w0], w[w0 + w_row], w[w0 + 2 * w_row], w[w0 + 3 * w_row]
    x0 = np.uint64(x0)
    y0, y1, y2, y3 = np.uint64(y0), np.uint64(y0 + y_step), np.uint64(y0 + 2 * y_step), np.uint64(y0 + 3 * y_step)
    for p in range(np.uint64(n)):
        b = x[x0 + p]
        y[y0 + p] += a0 * b
        y[y1 + p] += a1 * b
        y[y2 + p] += a2 * b
        y[y3 + p] += a3 * b


@kernel(fastmath={"reassoc", "contract", "nsz"})
def _rows1_terms4(y, y0, x, x0, x1, x2, x3, w, w0, w_term, n):
    a0, a1, a2, a3 = w[w0], w[w0 + w_term], w[w0 + 2 * w_term], w[w0 + 3 * w_term]
    x0, x1, x2, x3, y0 = np.uint64(x0), np.uint64(x1), np.uint64(x2), np.uint64(x3), np.uint64(y0)
    for p in range(np.uint64(n)):
        y[y0 + p] += a0 * x[x0 + p] + a1 * x[x1 + p] + a2 * x[x2 + p] + a3 * x[x3 + p]


@kernel(fastmath={"contract"})
def _rows1_terms1(y, y0, x, x0, a, n):
    x0, y0 = np.uint64(x0), np.uint64(y0)
    for p in range(np.uint64(n)):
        y[y0 + p] += a * x[x0 + p]


@kernel
def dots(dw, o, count, g, g0, g_step, x, x0, offsets, n):
    """dw[o + i, k] += Σ_p g[g0 + i g_step + p] · x[x0 + offsets[k] + p]     for i < count <= 4 and all k"""
    K = offsets.size
    whole = K - K % 4 if count == 4 else 0
    for k in range(0, whole, 4):
        x1, x2, x3, x4 = x0 + offsets[k], x0 + offsets[k + 1], x0 + offsets[k + 2], x0 + offsets[k + 3]
        _dots4x4(dw, o, k, g, g0, g_step, x, x1, x2, x3, x4, n)
    for i in range(count):
        for k in range(whole, K):
            dw[o + i, k] += _dot(g, g0 + i * g_step, x, x0 + offsets[k], n)


@kernel(fastmath={"reassoc", "contract", "nsz"})
def _dots4x4(dw, o, k, g, g0, g_step, x, x0, x1, x2, x3, n):
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = x.dtype.type(0)
    x0, x1, x2, x3 = np.uint64(x0), np.uint64(x1), np.uint64(x2), np.uint64(x3)
    g0, g1, g2, g3 = np.uint64(g0), np.uint64(g0 + g_step), np.uint64(g0 + 2 * g_step), np.uint64(g0 + 3 * g_step)
    for p in range(np.uint64(n)):
        b0, b1, b2, b3 = x[x0 + p], x[x1 + p], x[x2 + p], x[x3 + p]
        a0, a1, a2, a3 = g[g0 + p], g[g1 + p], g[g2 + p], g[g3 + p]
        s00, s01, s02, s03 = s00 + a0 * b0, s01 + a0 * b1, s02 + a0 * b2, s03 + a0 * b3
        s10, s11, s12, s13 = s10 + a1 * b0, s11 + a1 * b1, s12 + a1 * b2, s13 + a1 * b3
        s20, s21, s22, s23 = s20 + a2 * b0, s21 + a2 * b1, s22 + a2 * b2, s23 + a2 * b3
        s30, s31, s32, s33 = s30 + a3 * b0, s31 + a3 * b1, s32 + a3 * b2, s33 + a3 * b3
    for i, sums in enumerate(((s00, s01, s02, s03), (s10, s11, s12, s13), (s20, s21, s22, s23), (s30, s31, s32, s33))):
        for j, total in enumerate(sums):
            dw[o + i, k + j] += total


@kernel(fastmath={"reassoc", "contract", "nsz"})
def _dot(g, g0, x, x0, n):
    total = x.dtype.type(0)
    g0, x0 = np.uint64(g0), np.uint64(x0)
    for p in range(np.uint64(n)):
        total += g[g0 + p] * x[x0 + p]
    return total
