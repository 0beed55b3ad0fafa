"""Inner loops: products of matrices whose rows lie anywhere in flat arrays, in register tiles (simd.py).

    multiply_add    Y += W X        rows of X and terms of W wherever offsets say, other steps even
    panel           Y = W X         rows and terms of W wherever offsets say, X a panel some registers wide
    strip           Y = W X         all steps even, X a panel up to three registers wide
    dots            W += Y Xᵀ       rows of X wherever offsets say

Lanes run along the rows. Each has a plain twin, which says what it does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import lane_reductions, simd
from .compiler import kernel


@kernel
def copy(to, start, step, source, source_start, source_step, n):
    """to[start + i step] = source[source_start + i source_step]     for i < n"""
    t, s, t_step, s_step = np.uint64(start), np.uint64(source_start), np.uint64(step), np.uint64(source_step)
    for i in range(np.uint64(max(n, 0))):
        to[t + i * t_step] = source[s + i * s_step]


@kernel
def add_strided(y, to, to_step, x, at, step, n):
    """y[to + i to_step] += x[at + i step]     for i < n"""
    to, at, to_step, step = np.uint64(to), np.uint64(at), np.uint64(to_step), np.uint64(step)
    for i in range(np.uint64(max(n, 0))):
        y[to + i * to_step] += x[at + i * step]


@kernel
def fill(to, start, value, n):
    """to[start + i] = value     for i < n"""
    t = np.uint64(start)
    for i in range(np.uint64(max(n, 0))):
        to[t + i] = value


@kernel
def rectify(y, start, n):
    """y[start + i] = relu(y[start + i])     for i < n"""
    first, zero = np.uint64(start), y.dtype.type(0)
    for i in range(np.uint64(max(n, 0))):
        value = y[first + i]
        y[first + i] = zero if value <= zero else value


def _pad_plainly(to, start, n, source, source_start, low, count):
    for i in range(n):
        to[start + i] = source[source_start + i - low] if low <= i < low + count else to.dtype.type(0)


@simd.vectorized(_pad_plainly)
def pad(to, start, n, source, source_start, low, count):
    """to[start + i] = source[source_start + i - low] where 0 <= i - low < count, else 0     for i < n"""
    to, source, lanes = simd.pointer(to, start), simd.pointer(source, source_start), simd.width(to)
    for i in range(0, n, lanes):
        row = simd.load(1, 1, source, i - low, 0, low - i, low + count - i)
        simd.store(row, to, i, 0, 0, n - i)


def _pack_rows_plainly(to, to0, source, source0, source_step, rows, columns, width):
    for i in range(rows):
        for p in range(width):
            to[to0 + i * width + p] = (
                source[source0 + i * source_step + p] if p < columns else to.dtype.type(0)
            )


@simd.vectorized(_pack_rows_plainly)
def pack_rows(to, to0, source, source0, source_step, rows, columns, width):
    """to[to0 + i width + p] = source[source0 + i source_step + p] where p < columns, else 0

    for i < rows, p < width. A row takes three registers at most.
    """
    to, source = simd.pointer(to, to0), simd.pointer(source, source0)
    for i in range(rows):
        simd.store(simd.load(1, 3, source, i * source_step, 0, None, columns), to, i * width, 0, None, width)


def _totals_plainly(to, to0, source, source0, rows, columns):
    for i in range(rows):
        total = to.dtype.type(0)
        for p in range(columns):
            total += source[source0 + i * columns + p]
        to[to0 + i] = total


@simd.vectorized(_totals_plainly)
def totals(to, to0, source, source0, rows, columns):
    """to[to0 + i] = Σ_p source[source0 + i columns + p]

    for i < rows, p < columns, which are the lanes of a register.
    """
    x = simd.pointer(source, source0)
    for i in range(rows):
        to[to0 + i] = lane_reductions.total(simd.load(1, 1, x, i * columns, 0, None, None))


def _add_rows_plainly(to, to0, places, place0, scale, source, source0, source_step, rows, n, apart):
    for i in range(rows):
        for p in range(n):
            to[to0 + places[place0 + i] * scale + p] += source[source0 + i * source_step + p]


@simd.vectorized(_add_rows_plainly)
def add_rows(to, to0, places, place0, scale, source, source0, source_step, rows, n, apart):
    """to[to0 + places[place0 + i] scale + p] += source[source0 + i source_step + p]     for i < rows, p < n

    Rows may overlap with their neighbours, and would wait until those have been stored. So they are taken in
    the order 0, apart, 2 apart, ..., then 1, 1 + apart, ...
    """
    to, places, source, lanes = (
        simd.pointer(to, to0),
        simd.pointer(places, place0),
        simd.pointer(source, source0),
        simd.width(to),
    )
    whole = n - n % lanes
    for first in range(apart):
        for i in range(first, rows, apart):
            row, at = i * source_step, places[i] * scale
            for p in range(0, whole, lanes):
                total = simd.add(
                    simd.load(1, 1, to, at + p, 0, None, None),
                    simd.load(1, 1, source, row + p, 0, None, None),
                )
                simd.store(total, to, at + p, 0, None, None)
            if whole < n:
                rest = simd.load(1, 1, source, row + whole, 0, None, n - whole)
                total = simd.add(simd.load(1, 1, to, at + whole, 0, None, n - whole), rest)
                simd.store(total, to, at + whole, 0, None, n - whole)


# ---- The size of a tile is a constant: one kernel for each size, and this to choose between them


_inline = kernel(forceinline=True, no_cpython_wrapper=True)


def largest_first(blocks: dict[int, Any]) -> Any:
    """choose(n, *args): calls the largest of the blocks of size n or less; its size, 0 if all are larger."""
    size, *smaller = sorted(blocks, reverse=True)
    block = blocks[size]

    @_inline
    def none(n, *args):
        return 0

    otherwise = largest_first({size: blocks[size] for size in smaller}) if smaller else none

    @_inline
    def choose(n, *args):
        if n < size:
            return otherwise(n, *args)
        block(*args)
        return size

    return choose


# ---- multiply_add


def _block(rows, wide):
    """multiply_add for so many rows, from `y` and `w` on, and for as many positions from p on as fill tiles.

    Returns the next p. Narrow tiles have one vector, for what is left; the last may be filled in part.
    """

    @kernel(no_cpython_wrapper=True)
    def block(y, y_step, gap, period, w, w_step, w_terms, x, x_terms, terms, bias, biased, n, p):
        vectors = simd.vectors_for(rows) if wide else 1
        columns = vectors * simd.width(y)
        while p < (n - columns + 1 if wide else n):
            end = None if wide else n - p
            sums = (
                simd.column(rows, vectors, bias)
                if biased
                else simd.load(rows, vectors, y, p, y_step, None, end)
            )
            for j in range(terms):
                sums = simd.multiply_add(sums, w, w_terms[j], w_step, x, x_terms[j] + p, end)
            for line in range(p // period, (min(p + columns, n) - 1) // period + 1):
                begin = line * period - p  # of the line; its columns are moved by the gaps before it
                last = min(begin + period - gap, n - p)
                if wide and begin <= 0 and last >= columns:  # a whole tile needs no masks
                    simd.store(sums, y, p - line * gap, y_step, None, None)
                else:
                    simd.store(sums, y, p - line * gap, y_step, max(begin, 0), last)
            p += columns
        return p

    return block


def _rows(rows):
    """multiply_add for so many rows."""
    wide, narrow = _block(rows, True), _block(rows, False)

    @_inline
    def block(*args):
        narrow(*args, wide(*args, 0))

    return block


_most_rows = largest_first({rows: _rows(rows) for rows in (1, 4, 6, 8)})


def _multiply_add_plainly(
    y, y0, y_step, count, gap, period, w, w0, w_step, w_terms, x, x0, x_terms, bias, bias0, n
):
    for i in range(count):
        for p in range(n):
            if p % period < period - gap:
                at = y0 + i * y_step + p - p // period * gap
                total = bias[bias0 + i] if bias.size else y[at]
                for j in range(x_terms.size):
                    total += w[w0 + i * w_step + w_terms[j]] * x[x0 + x_terms[j] + p]
                y[at] = total


@simd.vectorized(_multiply_add_plainly)
def multiply_add(y, y0, y_step, count, gap, period, w, w0, w_step, w_terms, x, x0, x_terms, bias, bias0, n):
    """y[y0 + i y_step + p] = Σ_j w[w0 + i w_step + w_terms[j]] · x[x0 + x_terms[j] + p]

    for i < count, all j, p < n, plus bias[bias0 + i], if there is one, else plus what is there. Of every
    `period` positions the last `gap` are left out; this goes with a bias only.
    """
    terms, biased, i = x_terms.size, bias.size > 0, 0
    x, x_terms, w_terms = simd.pointer(x, x0), simd.pointer(x_terms, 0), simd.pointer(w_terms, 0)
    while i < count:
        to, row, start = (
            simd.pointer(y, y0 + i * y_step),
            simd.pointer(w, w0 + i * w_step),
            simd.pointer(bias, bias0 + i),
        )
        i += _most_rows(
            count - i, to, y_step, gap, period, row, w_step, w_terms, x, x_terms, terms, start, biased, n
        )


# ---- dots


def _dots(rows):
    """dots for so many rows, from `sums` and `g` on."""

    @kernel(no_cpython_wrapper=True)
    def block(sums, sums_step, g, g_step, x, x_step, taps, count, lines, line):
        width = simd.width(sums)
        whole = line - line % width
        for k in range(0, count, simd.sums_for(rows)):
            columns = width * min(count - k, simd.sums_for(rows))
            tile = simd.load(rows, simd.sums_for(rows), sums, k * width, sums_step, None, columns)
            offsets = simd.shifted(taps, k)
            for r in range(lines):
                a, b = simd.shifted(g, r * line), simd.shifted(x, r * x_step)
                for p in range(0, whole, width):
                    tile = simd.multiply_add_lanes(
                        tile, simd.shifted(a, p), g_step, simd.shifted(b, p), offsets, None
                    )
                if whole < line:
                    a_end, b_end = simd.shifted(a, whole), simd.shifted(b, whole)
                    tile = simd.multiply_add_lanes(tile, a_end, g_step, b_end, offsets, line - whole)
            simd.store(tile, sums, k * width, sums_step, 0, columns)

    return block


_most_dots = largest_first({rows: _dots(rows) for rows in (1, 2, 4)})


def _dots_plainly(sums, sums0, sums_step, rows, g, g0, g_step, x, x0, x_step, taps, count, lines, line):
    for i in range(rows):
        for k in range(count):
            total = sums[sums0 + i * sums_step + k]
            for r in range(lines):
                for p in range(line):
                    total += g[g0 + i * g_step + r * line + p] * x[x0 + taps[k] + r * x_step + p]
            sums[sums0 + i * sums_step + k] = total


@simd.vectorized(_dots_plainly)
def dots(sums, sums0, sums_step, rows, g, g0, g_step, x, x0, x_step, taps, count, lines, line):
    """sums[i, k, :] += Σ g[g0 + i g_step + r line + p] · x[x0 + taps[k] + r x_step + p] over p < line, r <
    lines

    for i < rows, k < count. Each sum is a vector, whose lanes are to be added in the end; row i of the
    vectors begins at sums[sums0 + i sums_step]. `taps` has a few more entries than `count`.
    """
    taps, x, i = simd.pointer(taps, 0), simd.pointer(x, x0), 0
    while i < rows:
        to, row = simd.pointer(sums, sums0 + i * sums_step), simd.pointer(g, g0 + i * g_step)
        i += _most_dots(rows - i, to, sums_step, row, g_step, x, x_step, taps, count, lines, line)


# ---- panel

BLOCK = 384
"""Registers of x, and of y, that panel works on at a time, so that they stay in the first-level cache."""


def _panel(vectors):
    """panel for so many vectors."""

    @kernel(no_cpython_wrapper=True)
    def block(y, y_step, first, first_step, rows, w, w_rows, w_terms, x, x_step, terms):
        many = simd.rows_for(vectors)
        for i in range(0, rows, many):
            sums = simd.load(many, vectors, first, i * first_step, first_step, None, None)
            places = simd.shifted(w_rows, i)
            for j in range(terms):
                sums = simd.multiply_add_at(sums, w, places, w_terms[j], x, j * x_step)
            simd.store(sums, y, i * y_step, y_step, None, None)

    return block


_panels = largest_first({vectors: _panel(vectors) for vectors in (1, 2, 3, 4)})


def _panel_plainly(
    y, y0, y_step, first, first0, first_step, rows, w, w0, w_rows, w_terms, x, x0, x_step, vectors
):
    for i in range(rows):
        for p in range(vectors):
            total = first[first0 + i * first_step + p]
            for j in range(w_terms.size):
                total += w[w0 + w_rows[i] + w_terms[j]] * x[x0 + j * x_step + p]
            y[y0 + i * y_step + p] = total


@simd.vectorized(_panel_plainly)
def panel(y, y0, y_step, first, first0, first_step, rows, w, w0, w_rows, w_terms, x, x0, x_step, vectors):
    """Products of places that `w_rows` and `w_terms` give with a panel of x:

        y[y0 + i y_step + p] = first[first0 + i first_step + p]
                               + Σ_j w[w0 + w_rows[i] + w_terms[j]] · x[x0 + j x_step + p]

    for i < rows, all j, p < vectors · lanes; first_step may be 0. Up to the next multiple of simd.ROWS, `y`,
    `first` and `w_rows` have more rows, which are spoilt.
    """
    y, first, w, x = (
        simd.pointer(y, y0),
        simd.pointer(first, first0),
        simd.pointer(w, w0),
        simd.pointer(x, x0),
    )
    w_rows, w_terms, terms = simd.pointer(w_rows, 0), simd.pointer(w_terms, 0), w_terms.size
    most = BLOCK // max(1, vectors)
    for j in range(0, max(1, terms), most):
        some = min(most, terms - j)
        _panels(vectors, y, y_step, first, first_step, rows, w, w_rows, w_terms, x, x_step, some)
        first, first_step, x, w_terms = y, y_step, simd.shifted(x, some * x_step), simd.shifted(w_terms, some)


# ---- strip


def _strip(vectors, few):
    """strip for so many vectors, from row i on in tiles as far as they go; the next i.

    A tile has `few` rows, or as many as it should have where that is 0.
    """
    tall = not few

    @kernel(no_cpython_wrapper=True)
    def block(rows, y, y_step, first, first_step, w, w_step, w_term, x, x_step, terms, columns, i):
        many = simd.rows_for(vectors) if tall else few
        whole = columns == vectors * simd.width(y)  # masks cost much where registers have none
        while i + many <= rows:
            sums = (
                simd.load(many, vectors, first, i * first_step, first_step, None, None)
                if whole
                else simd.load(many, vectors, first, i * first_step, first_step, None, columns)
            )
            row, last = simd.shifted(w, i * w_step), terms - 1
            for j in range(0, last, 2):  # two terms at a time: counting takes the place of multiply-adds
                sums = simd.multiply_add(sums, row, j * w_term, w_step, x, j * x_step, None)
                sums = simd.multiply_add(sums, row, (j + 1) * w_term, w_step, x, (j + 1) * x_step, None)
            if terms % 2:
                sums = simd.multiply_add(sums, row, last * w_term, w_step, x, last * x_step, None)
            if whole:
                simd.store(sums, y, i * y_step, y_step, None, None)
            else:
                simd.store(sums, y, i * y_step, y_step, None, columns)
            i += many
        return i

    return block


def _strips(vectors):
    """strip for so many vectors."""
    tall, pair, single = (_strip(vectors, few) for few in (0, 2, 1))

    @_inline
    def block(*args):
        single(*args, pair(*args, tall(*args, 0)))

    return block


_most_vectors = largest_first({vectors: _strips(vectors) for vectors in (1, 2, 3)})


def _strip_plainly(
    y, y0, y_step, first, first0, first_step, rows, w, w0, w_step, w_term, x, x0, x_step, terms, columns
):
    for i in range(rows):
        for p in range(columns):
            total = first[first0 + i * first_step + p]
            for j in range(terms):
                total += w[w0 + i * w_step + j * w_term] * x[x0 + j * x_step + p]
            y[y0 + i * y_step + p] = total


@simd.vectorized(_strip_plainly)
def strip(
    y, y0, y_step, first, first0, first_step, rows, w, w0, w_step, w_term, x, x0, x_step, terms, columns
):
    """Products of rows at even steps with a panel of x:

        y[y0 + i y_step + p] = first[first0 + i first_step + p]
                               + Σ_j w[w0 + i w_step + j w_term] · x[x0 + j x_step + p]

    for i < rows, j < terms, p < columns, of which there are as many as three registers hold, at most;
    first_step may be 0. Rows of x are read up to the next multiple of a register's lanes.
    """
    y, first, w, x = (
        simd.pointer(y, y0),
        simd.pointer(first, first0),
        simd.pointer(w, w0),
        simd.pointer(x, x0),
    )
    vectors = -(-columns // simd.width(y))
    _most_vectors(vectors, rows, y, y_step, first, first_step, w, w_step, w_term, x, x_step, terms, columns)


# ---- transpose


def _transpose_plainly(to, to0, to_step, source, source0, source_step, rows, columns):
    for i in range(rows):
        for j in range(columns):
            to[to0 + j * to_step + i] = source[source0 + i * source_step + j]


@simd.vectorized(_transpose_plainly)
def transpose(to, to0, to_step, source, source0, source_step, rows, columns):
    """to[to0 + j to_step + i] = source[source0 + i source_step + j]     for i < rows, j < columns"""
    to, source, lanes = simd.pointer(to, to0), simd.pointer(source, source0), simd.width(to)
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            tile = simd.transposed(
                simd.shifted(source, i * source_step + j), source_step, rows - i, columns - j
            )
            simd.store_part(tile, simd.shifted(to, j * to_step + i), to_step, columns - j, rows - i)
