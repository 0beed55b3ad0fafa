"""Y += W X where X is one row a term, moved along by a column from tap to tap: in registers, so that each row
is loaded once for all taps.
"""

from __future__ import annotations

from . import simd
from .compiler import kernel
from .lazy import intrinsic
from .tiles import largest_first


@intrinsic
def moved(typing, tile):
    """tile[i, p] = tile[i, p - 1], and zero where p is 0"""

    def code(context, builder, signature, args):
        emit = simd._Emitter(context, builder, tile)
        lanes = emit.lane_numbers([tile.lanes - 1 + i for i in range(tile.lanes)])
        return emit.tiled(
            [
                [builder.shuffle_vector(*pair, lanes) for pair in zip([emit.zero, *row], row)]
                for row in emit.vectors(args[0])
            ]
        )

    return tile(tile), code


@intrinsic
def multiply_add_row(typing, tile, w, w0, w_step, row):
    """tile[i, p] += w[w0 + i w_step] · row[0, lanes + p], for a row of one vector more"""

    def code(context, builder, signature, args):
        total, w_pointer, w_start, step, x = args
        emit, result = simd._Emitter(context, builder, tile), []
        x = simd._Emitter(context, builder, row).vectors(x)[0][1:]
        for number, sums in zip(emit.rows(w_pointer, w_start, step), emit.vectors(total)):
            number = emit.spread(builder.load(number))
            result.append([emit.multiply_add(number, each, total) for each, total in zip(x, sums)])
        return emit.tiled(result)

    return tile(tile, w, *simd._integers(2), row), code


def _slide(rows):
    """slide for so many rows, from `y` and `w` on."""

    @kernel(no_cpython_wrapper=True)
    def block(y, y_step, n, w, w_row, w_term, w_tap, taps, x, x_step, terms, line):
        width = simd.width(y)
        for p in range(0, n, 2 * width):
            # From zero on, and y comes last: what was stored a row before is slow to come back.
            sums = simd.load(rows, 2, y, p, y_step, None, 0)
            for j in range(terms):
                # from a register before these on, out of which columns move in
                row = simd.load(1, 3, x, j * x_step + p - width, 0, width - p, width - p + line)
                for s in range(taps):
                    sums = multiply_add_row(sums, w, j * w_term + s * w_tap, w_row, row)
                    row = moved(row)
            sums = simd.add(sums, simd.load(rows, 2, y, p, y_step, None, n - p))
            simd.store(sums, y, p, y_step, 0, n - p)

    return block


_most_slides = largest_first({rows: _slide(rows) for rows in (1, 3, 5)})


def _slide_plainly(y, y0, y_step, rows, n, w, w0, w_row, w_term, w_tap, taps, x, x0, x_step, terms, line):
    for i in range(rows):
        for j in range(terms):
            for s in range(taps):
                for p in range(s, min(n, s + line)):
                    y[y0 + i * y_step + p] += (
                        w[w0 + i * w_row + j * w_term + s * w_tap] * x[x0 + j * x_step + p - s]
                    )


@simd.vectorized(_slide_plainly)
def slide(y, y0, y_step, rows, n, w, w0, w_row, w_term, w_tap, taps, x, x0, x_step, terms, line):
    """y[y0 + i y_step + p] += Σ_js w[w0 + i w_row + j w_term + s w_tap] · x[x0 + j x_step + p - s]

    for i < rows, j < terms, s < taps, p < n where 0 <= p - s < line. There are no more taps than lanes + 1.
    """
    x, i = simd.pointer(x, x0), 0
    while i < rows:
        to, row = simd.pointer(y, y0 + i * y_step), simd.pointer(w, w0 + i * w_row)
        i += _most_slides(rows - i, to, y_step, n, row, w_row, w_term, w_tap, taps, x, x_step, terms, line)
