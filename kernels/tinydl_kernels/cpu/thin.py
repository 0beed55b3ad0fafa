"""Products of matrices with hardly any rows or columns, which are more reading than multiplying.

    y_rc = Σ_t X_rt M_tc + bias        X has few rows; M is B and y is Y, or M is Aᵀ and y is Yᵀ

M is read once, as it lies. Where its lines run along t, an element of y is a product of two lines; where they
run along c, each line is added to all rows of y, times a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..machine import memory
from ..machine.memory import line
from .compiler import parallel
from .lazy import kernel

Array = Any
Sizes = tuple[int, ...]

BLOCK = 512
"""Columns of a task: the rows of y that it is at stay in the first-level cache."""
GRAIN = 1 << 16
"""Multiplications below which it is not worth while to wake another thread."""


def thin_product(
    a: Array, b: Array, y: Array, transpose_a: bool, transpose_b: bool, bias: Array | None, relu: bool
) -> None:
    """As `product`, for C-contiguous arrays of one dtype."""
    turned, inner, scratch, count, grain, numbers = _plan(a.shape, b.shape, y.shape, transpose_a, transpose_b)
    x, m = (b, a) if turned else (a, b)
    rows, to = memory.scratch(scratch, y.dtype, y), line(y)
    bias = to[:0] if bias is None else bias
    _tasks(count, grain, line(x), line(m), to, bias, numbers, rows, inner, relu)


@lru_cache(maxsize=1024)
def _plan(a: Sizes, b: Sizes, y: Sizes, transpose_a: bool, transpose_b: bool) -> Any:
    """(is M A? do its lines run along t? shape of the scratch, tasks, their grain, numbers)

    The numbers: rows R, columns C, terms T; steps of X along r and t, of y along r and c; does the bias run
    along c? blocks of columns; where the matrices of X begin that the products of the batch take, those of M.
    """
    *batch, I, J = y
    K = a[-2 if transpose_a else -1]
    turned, items = I > J, prod(batch)
    x_steps = ((1, J) if not transpose_b else (K, 1)) if turned else ((1, I) if transpose_a else (K, 1))
    inner = not transpose_a if turned else transpose_b
    R, C = (J, I) if turned else (I, J)
    blocks = -(-C // BLOCK)
    starts = [matrix_starts(a[:-2], batch, I * K), matrix_starts(b[:-2], batch, K * J)]
    head = [R, C, K, *x_steps, *((1, J) if turned else (J, 1)), not turned, blocks]
    numbers = np.concatenate((np.array(head, np.int64), *(starts[::-1] if turned else starts)))
    count = items * blocks
    work = max(1, R * min(C, BLOCK) * K)
    return turned, inner, (count, R * (K if inner else min(C, BLOCK))), count, 1 + GRAIN // work, numbers


def matrix_starts(axes: Sizes, batch: Sequence[int], size: int) -> np.ndarray:
    """Where the matrices of an operand begin, of so many numbers each, that the products of a batch take."""
    return np.broadcast_to(np.arange(prod(axes)).reshape(axes) * size, batch).reshape(-1)


@kernel(fastmath={"reassoc", "contract"})
def dot(x, y):
    """The product of two lines, its sum in vectors."""
    total = x.dtype.type(0)
    for k in range(x.size):
        total += x[k] * y[k]
    return total


@kernel(fastmath={"contract"})
def add_line(to, number, x):
    """to += number x."""
    for k in range(x.size):
        to[k] += number * x[k]


@kernel
def finished(value, bias, row, column, along_columns, relu):
    """A number of y."""
    if bias.size:
        value += bias[column if along_columns else row]
    return type(value)(0) if relu and value <= 0 else value


@parallel
def _tasks(start, stop, x, m, y, bias, numbers, rows, inner, relu):
    R, C, T, x_row, x_term, y_row, y_column = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6],
    )  # fmt: skip
    along, blocks, items = numbers[7], numbers[8], (numbers.size - 9) // 2
    for number in range(start, stop):
        item, first = number // blocks, number % blocks * BLOCK
        x0, m0, y0, own = numbers[9 + item], numbers[9 + items + item], item * R * C, rows[number]
        count = min(C - first, BLOCK)
        if inner:
            for r in range(R):
                for t in range(T):
                    own[r * T + t] = x[x0 + r * x_row + t * x_term]
            for c in range(first, first + count):
                terms = m[m0 + c * T : m0 + (c + 1) * T]
                for r in range(R):
                    value = dot(own[r * T : (r + 1) * T], terms)
                    y[y0 + r * y_row + c * y_column] = finished(value, bias, r, c, along, relu)
            continue
        for k in range(R * count):
            own[k] = 0
        for t in range(T):
            terms = m[m0 + t * C + first : m0 + t * C + first + count]
            for r in range(R):
                add_line(own[r * count : (r + 1) * count], x[x0 + r * x_row + t * x_term], terms)
        for r in range(R):
            for k in range(count):
                c = first + k
                y[y0 + r * y_row + c * y_column] = finished(own[r * count + k], bias, r, c, along, relu)
