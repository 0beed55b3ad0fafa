"""Winograd's transforms, F(4 x 4, 3 x 3), in registers.

Four sums of three products, y[i] = Σ_k w[k] x[i + k], and the gradient of w take six multiplications:

    y = Aᵀ [(G w) ⊙ (Bᵀ x)]                     dw = Gᵀ [(A g) ⊙ (Bᵀ x)]

A w and G w hold, but for factors, the values of polynomials with these coefficients at six points p, and Bᵀ
belongs to the polynomial through the products (Toom, Cook; transposed: Winograd):

    A   1, p, p², p³             of ∞ the last coefficient
    G   1, p, p²                 divided by the product of p - q over all other points q
    Bᵀ  the coefficients of the product of X - q over all other points q

In two dimensions each is applied along both axes: 36 multiplications for 16 outputs, 2.25 each instead of 9.

The points are 0, ±√½, ±√2 and ∞. Rounding errors grow with the numbers in the matrices: with these they are
about twice those of the direct sum, with the usual 0, ±1, ±2 and ∞ four to five times (Barabasz et al.
2018 and Alam et al. 2022 search for good points). Each point has its negative, so that the two share their
even and their odd terms: 12 operations for six points instead of 22.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cpu import simd
from ..cpu.lazy import Module, intrinsic

ir = Module("llvmlite.ir")

Matrix = list[list[float]]

SIDE, TAPS, POINTS = 4, 3, 6
_a, _b = 0.5**0.5, 2.0**0.5
A = [
    [1, 0, 0, 0],
    [1, _a, 1 / 2, _a / 2],
    [1, -_a, 1 / 2, -_a / 2],
    [1, _b, 2, 2 * _b],
    [1, -_b, 2, -2 * _b],
    [0, 0, 0, 1],
]
G = [
    [1, 0, 0],
    [-2 / 3, -2 / 3 * _a, -1 / 3],
    [-2 / 3, 2 / 3 * _a, -1 / 3],
    [1 / 6, _b / 6, 1 / 3],
    [1 / 6, -_b / 6, 1 / 3],
    [0, 0, 1],
]
B_T = [
    [1, 0, -5 / 2, 0, 1, 0],
    [0, -2 * _a, -2, _a, 1, 0],
    [0, 2 * _a, -2, -_a, 1, 0],
    [0, -_b / 2, -1 / 2, _b, 1, 0],
    [0, _b / 2, -1 / 2, -_b, 1, 0],
    [0, 1, 0, -5 / 2, 0, 1],
]


def transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


# ---- Along one axis: a matrix times a column of registers


def _number(emit: Any, number: float) -> Any:
    """A number in all lanes."""
    rounded = np.dtype(str(emit.tile.dtype)).type(number)
    return ir.Constant(emit.register, [float(rounded)] * emit.tile.lanes)


def _sum(emit: Any, numbers: list[float], vectors: list[Any]) -> Any:
    """Σ_k numbers[k] · vectors[k], of which one number at least is 1, without terms that are zero."""
    terms = [(number, vector) for number, vector in zip(numbers, vectors, strict=True) if number]
    ones = [vector for number, vector in terms if number == 1]
    total = ones[0] if ones else emit.builder.fmul(_number(emit, terms[0][0]), terms[0][1])
    for vector in ones[1:]:
        total = emit.builder.fadd(total, vector)
    for number, vector in [term for term in terms if term[0] != 1][0 if ones else 1 :]:
        total = emit.multiply_add(_number(emit, number), vector, total)
    return total


def _to_points(emit: Any, matrix: Matrix, x: list[Any]) -> list[Any]:
    """matrix (6, k) times x (k,). Rows of p and -p differ in the sign of their odd terms."""
    result = [_sum(emit, matrix[0], x)]
    for row in (matrix[1], matrix[3]):
        last = next(number for number in reversed(row[1::2]) if number)
        even, odd = _sum(emit, row[::2], x[::2]), _sum(emit, [number / last for number in row[1::2]], x[1::2])
        result += [emit.multiply_add(_number(emit, number), odd, even) for number in (last, -last)]
    return [*result, _sum(emit, matrix[5], x)]


def _from_points(emit: Any, matrix: Matrix, x: list[Any]) -> list[Any]:
    """matrix (k, 6) times x (6,). Even rows see the sum of what is at p and -p, odd ones the difference."""
    add, subtract = emit.builder.fadd, emit.builder.fsub
    either = [(add(x[i], x[i + 1]), subtract(x[i], x[i + 1])) for i in (1, 3)]
    return [
        _sum(emit, [row[0], row[1], row[3], row[5]], [x[0], either[0][i % 2], either[1][i % 2], x[5]])
        for i, row in enumerate(matrix)
    ]


def _product(matrix: Matrix) -> Any:
    """tile[i] = Σ_k matrix[i][k] · tile[k], rows of one vector."""
    emitted = _to_points if len(matrix) == POINTS else _from_points

    @intrinsic
    def product(typing, tile):
        result = simd._tile_type()(tile.dtype, len(matrix), 1)

        def code(context, builder, signature, args):
            rows = simd._Emitter(context, builder, tile).vectors(args[0])
            emit = simd._Emitter(context, builder, result)
            return emit.tiled([[row] for row in emitted(emit, matrix, [row[0] for row in rows])])

        return result(tile), code

    return product


# ---- Along both axes


def _both_ways(matrix: Matrix) -> Any:
    """to[i, j] = Σ_rs matrix[i][r] · matrix[j][s] · source[r, s], each a vector of n numbers.

    Rows and columns of both lie at even steps; `half` has room for what is transformed along one axis.
    """
    size, side = len(matrix), len(matrix[0])
    product, numbers = _product(matrix), np.array(matrix)

    def plainly(to, to0, to_row, to_column, source, source0, row, column, n, half):
        for p in range(n):
            for i in range(size):
                for j in range(size):
                    total = 0.0
                    for r in range(side):
                        for s in range(side):
                            x = source[source0 + r * row + s * column + p]
                            total += numbers[i, r] * numbers[j, s] * x
                    to[to0 + i * to_row + j * to_column + p] = total

    @simd.vectorized(plainly)
    def transform(to, to0, to_row, to_column, source, source0, row, column, n, half):
        width = simd.width(to)
        to, source, half = simd.pointer(to, to0), simd.pointer(source, source0), simd.pointer(half, 0)
        for p in range(0, n, width):
            for s in range(side):
                tile = product(simd.load(side, 1, source, s * column + p, row, None, None))
                simd.store(tile, half, s * width, side * width, None, None)
            for i in range(size):
                tile = product(simd.load(side, 1, half, i * side * width, width, None, None))
                simd.store(tile, to, i * to_row + p, to_column, None, None)

    return transform


points_of_input = _both_ways(B_T)  # 6 x 6 pixels to 6 x 6 points
points_of_taps = _both_ways(G)  # 3 x 3 taps to 6 x 6 points
points_of_output = _both_ways(A)  # 4 x 4 pixels of g to 6 x 6 points
output_of_points = _both_ways(transposed(A))  # 6 x 6 points to 4 x 4 pixels of y
taps_of_points = _both_ways(transposed(G))  # 6 x 6 points to 3 x 3 taps of dw
