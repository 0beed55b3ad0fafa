"""Register tiles inside kernels: small matrices of numbers that stay in the processor's vector registers.

Numba has no type for a vector register. One is given to it here: a *tile* is rows x vectors registers of
`lanes` numbers each. With 2 rows of 3 vectors, `multiply_add` is the outer product of 2 numbers of w and 3
vectors of x, added to the tile:

                             x[x0 ...]
                   [ 0 .. 15 ][ 16 .. 31 ][ 32 .. 47 ]           3 loads
                  +-----------------------------------+
        w[row 0]  | tile 0,0  |  tile 0,1 |  tile 0,2 |   2 numbers, each spread over the lanes of a register,
        w[row 1]  | tile 1,0  |  tile 1,1 |  tile 1,2 |          6 fused multiply-adds of 16 lanes
                  +-----------------------------------+

A processor starts two multiply-adds and two loads at once, and a sum is ready four steps later. So a tile
should use each loaded number several times and have eight sums or more in flight: 8 x 3 takes 11 loads
for 24 multiply-adds, in 28 of 32 registers. A larger one spills to memory and falls to a third. Over a
loop of terms nothing is stored:

    tile = simd.load(8, 3, y, 0, y_step, None, None)
    for j in range(terms):
        tile = simd.multiply_add(tile, w, w_terms[j], w_step, x, x_terms[j], None)
    simd.store(tile, y, 0, y_step, 0, columns)

Numbers are float32 or float64, places are pointers (`pointer`, `shifted`), and nothing is checked. `begin`
and `end` bound the columns that exist: what lies before or from there on is neither read, it counts as zero,
nor written; None is no bound. A register is that of the processor which Numba compiles for: 16 float32 with
AVX-512, 8 with AVX2, 4 with NEON or SSE.

A kernel on tiles is declared with `vectorized(plain)`; `plain` does the same in loops: for runs without a
compiler, and for a Numba that has changed too much inside to take a new type.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any

from . import internals
from .lazy import Kernel, Module, intrinsic, jit_disabled, nb

ir = Module("llvmlite.ir")
extending = Module("numba.extending")


@functools.cache
def _features() -> str:
    """Features of the processor that Numba compiles for (NUMBA_CPU_FEATURES may take some away)."""
    return internals.target()[2]


@functools.cache
def lanes(itemsize: int) -> int:
    """How many numbers of `itemsize` bytes a vector register holds; 1 where kernels run without registers."""
    if jit_disabled() or not available():
        return 1
    return (64 if "+avx512f" in _features() else 32 if "+avx2" in _features() else 16) // itemsize


@functools.cache
def many_registers() -> bool:
    """Are there 32 vector registers, or 16?"""
    return "+avx512f" in _features() or platform.machine().lower() in ("aarch64", "arm64")


def most_vectors() -> int:
    """The widest tile worth while among those that have each row at a place of its own."""
    return 4 if many_registers() else 3


ROWS = 24
"""A multiple of the rows of all these tiles."""


class Vectorized(Kernel):
    """A kernel that uses tiles, and `plain`, which does without."""

    def __init__(self, function: Callable[..., Any], plain: Callable[..., Any], **options: Any) -> None:
        super().__init__(function, **options)
        self.plain = plain

    def interpreted(self, *args: Any) -> Any:
        return self.plain(*args)

    def _make_dispatcher(self, options: dict[str, Any]) -> Any:
        plain = self.plain
        if available():
            made = self._jit(self.function, **options)
        elif isinstance(plain, Kernel):  # one that the function calls, too
            made = self._jit(plain.function, **plain.options | options)
        else:
            made = self._jit(plain, **options)
        return self._finish(made, options)


def vectorized(plain: Callable[..., Any], **options: Any) -> Any:
    """Compile the decorated function, which uses tiles; `plain` where there are none."""
    return lambda function: Vectorized(function, plain, **options)


def available() -> bool:
    """Can this Numba be given a type for tiles?"""
    return internals.works("tiles")


@functools.cache
def _tile_type() -> Any:
    base: Any = nb.types.Type
    model: Any = extending.models.PrimitiveModel

    class Tile(base):
        """rows x vectors registers of `lanes` numbers."""

        def __init__(self, dtype: Any, rows: int, vectors: int) -> None:
            self.dtype, self.rows, self.vectors = dtype, rows, vectors
            self.lanes = lanes(dtype.bitwidth // 8)
            super().__init__(name=f"tile({dtype}, {rows}, {vectors}, {self.lanes})")

        @property
        def register(self) -> Any:
            return ir.VectorType(ir.FloatType() if self.dtype.bitwidth == 32 else ir.DoubleType(), self.lanes)

        def __len__(self) -> int:
            return self.rows * self.vectors

    @extending.register_model(Tile)
    class TileModel(model):
        def __init__(self, manager: Any, tile: Any) -> None:
            super().__init__(manager, tile, ir.ArrayType(tile.register, len(tile)))

    return Tile


# ---- LLVM's instructions on one register


class _Emitter:
    """Writes the instructions of one operation on tiles."""

    def __init__(self, context: Any, builder: Any, tile: Any) -> None:
        self.context, self.builder, self.tile = context, builder, tile
        self.register = tile.register
        self.zero = ir.Constant(self.register, [0.0] * tile.lanes)
        self.suffix = f"v{tile.lanes}f{tile.dtype.bitwidth}"

    def shift(self, pointer: Any, offset: int) -> Any:
        return self.builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)]) if offset else pointer

    def rows(self, y: Any, start: Any, step: Any, count: Any = None) -> list[Any]:
        """The addresses y + start + i step of the tile's rows; of row count - 1 for those from `count` on."""
        first = self.builder.gep(y, [start])
        numbers = [ir.Constant(ir.IntType(64), i) for i in range(self.tile.rows)]
        if count is not None:
            last = self.builder.sub(count, numbers[1])
            numbers = [self.builder.select(self.builder.icmp_signed("<", i, last), i, last) for i in numbers]
        return [self.builder.gep(first, [self.builder.mul(step, i)]) for i in numbers]

    def masks(self, begin: Any, end: Any) -> list[Any]:
        """For each vector of a row, which lanes stand for columns from `begin` on and before `end`? None: for
        all, unasked.
        """
        if end is None:
            return [None] * self.tile.vectors
        numbers = ir.VectorType(ir.IntType(32), self.tile.lanes)
        bounds = [self.spread(self.column(bound), numbers) for bound in (begin, end) if bound is not None]
        result = []
        for j in range(self.tile.vectors):
            columns = self.lane_numbers(list(range(self.tile.lanes * j, self.tile.lanes * (j + 1))))
            mask = self.builder.icmp_signed("<", columns, bounds[-1])
            if begin is not None:
                mask = self.builder.and_(mask, self.builder.icmp_signed(">=", columns, bounds[0]))
            result.append(mask)
        return result

    def column(self, bound: Any) -> Any:
        """A bound as 32 bits: the nearest column of the tile, or the one after its last."""
        for sign, limit in (("<", 0), (">", self.tile.lanes * self.tile.vectors)):
            number = ir.Constant(ir.IntType(64), limit)
            bound = self.builder.select(self.builder.icmp_signed(sign, bound, number), number, bound)
        return self.builder.trunc(bound, ir.IntType(32))

    def lane_numbers(self, numbers: list[int]) -> Any:
        return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)

    def call(self, name: str, result: Any, *args: Any) -> Any:
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [a.type for a in args]), name)
        return self.builder.call(function, args)

    def spread(self, number: Any, register: Any = None) -> Any:
        """A number in all lanes."""
        register = register or self.register
        undefined = ir.Constant(register, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, undefined, self.lane_numbers([0] * register.count))

    def load(self, row: Any, j: int, mask: Any) -> Any:
        """Vector j of the row at address `row`; zeros in the lanes that are masked out, which are not
        read.
        """
        at, size = self.place(row, j)
        if mask is None:
            return self.builder.load(at, align=size)
        align = ir.Constant(ir.IntType(32), size)
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.register, at, align, mask, self.zero)

    def store(self, vector: Any, row: Any, j: int, mask: Any) -> None:
        at, size = self.place(row, j)
        if mask is None:
            self.builder.store(vector, at, align=size)
        else:
            align = ir.Constant(ir.IntType(32), size)
            self.call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), vector, at, align, mask)

    def place(self, row: Any, j: int) -> tuple[Any, int]:
        """The address of vector j of a row, and its alignment in bytes."""
        at = self.builder.bitcast(self.shift(row, j * self.tile.lanes), self.register.as_pointer())
        return at, self.tile.dtype.bitwidth // 8

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once where the processor can."""
        return self.call(f"llvm.fmuladd.{self.suffix}", self.register, a, b, c)

    def vectors(self, tile: Any) -> list[list[Any]]:
        """The registers of a tile, row by row."""
        registers = iter(range(len(self.tile)))
        return [
            [self.builder.extract_value(tile, next(registers)) for _ in range(self.tile.vectors)]
            for _ in range(self.tile.rows)
        ]

    def tiled(self, vectors: list[list[Any]]) -> Any:
        """A tile of registers, row by row."""
        result = ir.Constant(self.context.get_value_type(self.tile), ir.Undefined)
        for number, vector in enumerate(vector for row in vectors for vector in row):
            result = self.builder.insert_value(result, vector, number)
        return result


def _literal(*types: Any) -> bool:
    return all(isinstance(t, nb.types.IntegerLiteral) for t in types)


def _bound_type(bound: Any) -> Any:
    return bound if isinstance(bound, nb.types.NoneType) else nb.intp


def _bound(bound_type: Any, bound: Any) -> Any:
    return None if isinstance(bound_type, nb.types.NoneType) else bound


def _integers(number: int) -> list[Any]:
    return [nb.intp] * number


# ---- operations on tiles


@intrinsic
def pointer(typing, array, start):
    """The address of array[start] in a flat array. It costs nothing to pass on, unlike an array, and keeps
    nothing alive.
    """

    def code(context, builder, signature, args):
        return builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])

    return nb.types.CPointer(array.dtype)(array, nb.intp), code


@intrinsic
def shifted(typing, pointer, offset):
    """The address `offset` numbers further on."""
    return pointer(pointer, nb.intp), lambda context, builder, signature, args: builder.gep(
        args[0], [args[1]]
    )


@intrinsic
def width(typing, array):
    """How many numbers of the array a register holds: a constant."""
    number = lanes(array.dtype.bitwidth // 8)
    return nb.intp(array), lambda context, builder, signature, args: ir.Constant(ir.IntType(64), number)


@intrinsic(prefer_literal=True)
def vectors_for(typing, rows):
    """How many vectors wide a tile of so many rows should be: a constant.

    As many as keep the multipliers busy and leave registers for the operands.
    """
    if not _literal(rows):
        return None
    few = {8: 1, 6: 2, 4: 3, 2: 4, 1: 8}
    many = {8: 3, 6: 4, 4: 6, 2: 8, 1: 8}
    number = (many if many_registers() else few)[rows.literal_value]
    return nb.types.literal(number)(rows), lambda context, builder, signature, args: ir.Constant(
        ir.IntType(64), number
    )


@intrinsic(prefer_literal=True)
def column(typing, rows, vectors, numbers):
    """tile[i, p] = numbers[i]. The sizes are constants."""
    if not _literal(rows, vectors):
        return None
    tile = _tile_type()(numbers.dtype, rows.literal_value, vectors.literal_value)

    def code(context, builder, signature, args):
        emit = _Emitter(context, builder, tile)
        column = [emit.spread(builder.load(emit.shift(args[2], i))) for i in range(tile.rows)]
        return emit.tiled([[vector] * tile.vectors for vector in column])

    return tile(rows, vectors, numbers), code


@intrinsic(prefer_literal=True)
def load(typing, rows, vectors, y, start, step, begin, end):
    """tile[i, p] = y[start + i step + p] for begin <= p < end, else zero. The sizes are constants."""
    if not _literal(rows, vectors):
        return None
    tile = _tile_type()(y.dtype, rows.literal_value, vectors.literal_value)

    def code(context, builder, signature, args):
        emit = _Emitter(context, builder, tile)
        masks = emit.masks(_bound(begin, args[5]), _bound(end, args[6]))
        return emit.tiled(
            [[emit.load(row, j, mask) for j, mask in enumerate(masks)] for row in emit.rows(*args[2:5])]
        )

    return tile(rows, vectors, y, *_integers(2), _bound_type(begin), _bound_type(end)), code


@intrinsic
def store(typing, tile, y, start, step, begin, end):
    """y[start + i step + p] = tile[i, p]     for begin <= p < end"""

    def code(context, builder, signature, args):
        emit = _Emitter(context, builder, tile)
        masks = emit.masks(_bound(begin, args[4]), _bound(end, args[5]))
        for row, vectors in zip(emit.rows(*args[1:4]), emit.vectors(args[0])):
            for j, vector in enumerate(vectors):
                emit.store(vector, row, j, masks[j])
        return context.get_dummy_value()

    return nb.void(tile, y, *_integers(2), _bound_type(begin), _bound_type(end)), code


@intrinsic
def add(typing, tile, other):
    """tile[i, p] += other[i, p]"""

    def code(context, builder, signature, args):
        emit = _Emitter(context, builder, tile)
        pairs = zip(*map(emit.vectors, args))
        return emit.tiled([[builder.fadd(x, y) for x, y in zip(*rows)] for rows in pairs])

    return tile(tile, other), code


@intrinsic
def multiply_add(typing, tile, w, w0, w_step, x, x0, end):
    """tile[i, p] += w[w0 + i w_step] · x[x0 + p]     for p < end"""

    def code(context, builder, signature, args):
        total, w_pointer, w_start, step, x_pointer, x_start, columns = args
        emit = _Emitter(context, builder, tile)
        at, result = builder.gep(x_pointer, [x_start]), []
        row = [emit.load(at, j, mask) for j, mask in enumerate(emit.masks(None, _bound(end, columns)))]
        for number, sums in zip(emit.rows(w_pointer, w_start, step), emit.vectors(total)):
            number = emit.spread(builder.load(number))
            result.append([emit.multiply_add(number, x, total) for x, total in zip(row, sums)])
        return emit.tiled(result)

    return tile(tile, w, *_integers(2), x, nb.intp, _bound_type(end)), code


@intrinsic
def multiply_add_at(typing, tile, w, w_rows, w_term, x, x0):
    """tile[i, p] += w[w_rows[i] + w_term] · x[x0 + p]"""

    def code(context, builder, signature, args):
        total, w_pointer, offsets, term, x_pointer, x_start = args
        emit, result = _Emitter(context, builder, tile), []
        at = builder.gep(x_pointer, [x_start])
        row = [emit.load(at, j, None) for j in range(tile.vectors)]
        for i, sums in enumerate(emit.vectors(total)):
            # the same for all terms: in a register
            start = builder.gep(w_pointer, [builder.load(emit.shift(offsets, i))])
            number = emit.spread(builder.load(builder.gep(start, [term])))
            result.append([emit.multiply_add(number, x, total) for x, total in zip(row, sums)])
        return emit.tiled(result)

    return tile(tile, w, w_rows, nb.intp, x, nb.intp), code


@intrinsic
def multiply_add_lanes(typing, tile, g, g_step, x, offsets, end):
    """tile[i, k, lane] += g[i g_step + lane] · x[offsets[k] + lane]     for lane < end; its
    lanes are summed in the end.
    """

    def code(context, builder, signature, args):
        total, g_pointer, step, x_pointer, offset, lanes = args
        emit, result = _Emitter(context, builder, tile), []
        mask = emit.masks(None, _bound(end, lanes))[0]
        terms = [builder.load(emit.shift(offset, k)) for k in range(tile.vectors)]
        columns = [emit.load(builder.gep(x_pointer, [term]), 0, mask) for term in terms]
        for row, sums in zip(emit.rows(g_pointer, ir.Constant(ir.IntType(64), 0), step), emit.vectors(total)):
            vector = emit.load(row, 0, mask)
            result.append([emit.multiply_add(vector, x, total) for x, total in zip(columns, sums)])
        return emit.tiled(result)

    return tile(tile, g, nb.intp, x, offsets, _bound_type(end)), code


@intrinsic
def transposed(typing, y, step, rows, columns):
    """A square tile of as many rows as a register has lanes: tile[i, p] = y[p step + i] for p < rows, i <
    columns.
    """
    side = lanes(y.dtype.bitwidth // 8)
    tile = _tile_type()(y.dtype, side, 1)

    def code(context, builder, signature, args):
        y, step, count, end = args
        emit, zero = _Emitter(context, builder, tile), ir.Constant(ir.IntType(64), 0)
        rows = [emit.load(row, 0, emit.masks(None, end)[0]) for row in emit.rows(y, zero, step, count)]
        half = 1
        while half < side:  # swap the off-diagonal quarters of every 2 half x 2 half block
            for i in (i for i in range(side) if not i & half):
                upper, lower = rows[i], rows[i + half]
                left = [lane if not lane & half else side + lane - half for lane in range(side)]
                right = [lane + half if not lane & half else side + lane for lane in range(side)]
                rows[i] = builder.shuffle_vector(upper, lower, emit.lane_numbers(left))
                rows[i + half] = builder.shuffle_vector(upper, lower, emit.lane_numbers(right))
            half *= 2
        return emit.tiled([[row] for row in rows])

    return tile(y, *_integers(3)), code


@intrinsic
def store_part(typing, tile, y, step, rows, columns):
    """y[i step + p] = tile[i, p]     for i < rows, p < columns; at least one row"""

    def code(context, builder, signature, args):
        emit, zero = _Emitter(context, builder, tile), ir.Constant(ir.IntType(64), 0)
        masks = emit.masks(None, args[4])
        addresses = emit.rows(args[1], zero, *args[2:4])
        # rows too many are overwritten by the last
        for row, vectors in reversed(list(zip(addresses, emit.vectors(args[0])))):
            for j, vector in enumerate(vectors):
                emit.store(vector, row, j, masks[j])
        return context.get_dummy_value()

    return nb.void(tile, y, *_integers(3)), code


@intrinsic(prefer_literal=True)
def rows_for(typing, vectors):
    """How many rows a tile so many vectors wide, 1 to `most_vectors`, should have: a constant; it divides
    ROWS.
    """
    if not _literal(vectors):
        return None
    few, many = {1: 8, 2: 6, 3: 4, 4: 2}, {1: 8, 2: 8, 3: 8, 4: 6}
    number = (many if many_registers() else few)[vectors.literal_value]
    return nb.types.literal(number)(vectors), lambda context, builder, signature, args: ir.Constant(
        ir.IntType(64), number
    )


@intrinsic(prefer_literal=True)
def sums_for(typing, rows):
    """How many sums side by side a tile of so many rows has in `multiply_add_lanes`: a constant."""
    number = 5 if many_registers() else 3
    return nb.types.literal(number)(rows), lambda context, builder, signature, args: ir.Constant(
        ir.IntType(64), number
    )
