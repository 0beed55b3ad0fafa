"""Shapes, views, joining."""

from __future__ import annotations

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl.engine import core
from tinydl.ops import shape

from . import references as ref
from .row import (
    PLANE,
    Row,
    X,
)

PLACED = (slice(1, None, 2), None, -1)


def pad_window(x: np.ndarray) -> np.ndarray:
    return np.pad(x[:, 1:], ((0, 0), (0, 2)), constant_values=0.5)


ROWS: list[Row] = [
    Row(
        "reshape",
        lambda x, shape=(2, -1): td.reshape(x, shape),
        [[(3, 4)], [(2, 1)], [(6,)]],
        lambda x: x.reshape(2, -1),
        "shape.reshape",
        bad=[((X, (5, -1)), ShapeError, "reshape: expected a shape of 12 elements for (3, 4), got (5, -1)")],
    ),
    Row("reshape empty", lambda x: td.reshape(x, (3, 0, 2)), [[(0, 5)]], lambda x: x.reshape(3, 0, 2)),
    Row(
        "flatten",
        lambda x, *dims: td.flatten(x, *(dims or (1, -1))),
        [[(2, 3, 4)], [(2, 1)], [(0, 2, 2)]],
        lambda x: x.reshape(x.shape[0], int(np.prod(x.shape[1:]))),
        bad=[((X, 1, 0), ShapeError, "flatten: expected start_dim <= end_dim, got 1 and 0 for (3, 4)")],
    ),
    Row(
        "permute",
        lambda x, *dims: td.permute(x, dims or (2, 0, -2)),
        [[(2, 3, 4)], [(0, 1, 2)]],
        lambda x: x.transpose(2, 0, 1),
        "shape.permute",
        bad=[((X, 0, 0), ShapeError, "permute: expected an order of the 2 dims of (3, 4), got (0, 0)")],
    ),
    Row(
        "transpose",
        lambda x, a=0, b=-1: td.transpose(x, a, b),
        [[(3, 4)], [(2, 1, 3)]],
        lambda x: x.swapaxes(0, -1),
        bad=[((X, 0, 3), ShapeError, "transpose: expected dim in [-2, 1], got 3")],
    ),
    Row(
        "t",
        td.t,
        [[(3, 4)], [()], [(3,)], [(0, 2)]],
        np.transpose,
        bad=[((np.ones((2, 1, 3)),), ShapeError, "t: expected at most two dims, got (2, 1, 3)")],
    ),
    Row("Tensor.T", lambda x: x.T, [[(3, 4)], [()], [(2, 0, 1)]], np.transpose),
    Row("squeeze", td.squeeze, [[(3, 1, 2, 1)], [(1, 1)], [(0, 1)]], np.squeeze),
    Row(
        "squeeze dim",
        lambda x, dim=1: td.squeeze(x, dim),
        [[(3, 1, 2)], [(0, 1)]],
        lambda x: x.squeeze(1),
        bad=[((X, 3), ShapeError, "squeeze: expected dim in [-2, 1], got 3")],
    ),
    Row(
        "unsqueeze",
        lambda x, dim=-1: td.unsqueeze(x, dim),
        [[(3, 2)], [()], [(0, 1)]],
        lambda x: x[..., None],
        bad=[((X, 4), ShapeError, "unsqueeze: expected dim in [-3, 2], got 4")],
    ),
    Row(
        "broadcast_to",
        lambda x, *shape: td.broadcast_to(x, shape or (2, 3, 4)),
        [[(3, 1)], [()], [(4,)]],
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        "core.expand",
        bad=[((X, 2, 4), ShapeError, "broadcast_to: expected a shape that (3, 4) broadcasts to, got (2, 4)")],
    ),
    Row(
        "core.sum_to",
        lambda x: core.sum_to(x, shape=(3, 1)),
        [[(2, 3, 4)], [(3, 0)]],
        lambda x: x.sum(tuple(d for d in range(x.ndim) if d != x.ndim - 2))[:, None],
    ),
    Row(
        "cat",
        lambda *xs, dim=1: td.cat(xs, dim),
        [[(2, 3), (2, 1), (2, 2)], [(2, 0), (2, 1)], [(1, 1)]],
        lambda *xs: np.concatenate(xs, 1),
        "shape.cat",
        bad=[
            ((), ShapeError, "cat: expected at least one tensor, got none"),
            ((X, td.ones(4, 4)), ShapeError, "cat: expected shapes equal but for dim 1, got (3, 4), (4, 4)"),
        ],
    ),
    Row(
        "stack",
        lambda *xs: td.stack(xs, -1),
        [[(2, 3), (2, 3)], [()], [(0,), (0,)]],
        lambda *xs: np.stack(xs, -1),
    ),
    Row(
        "pad",
        lambda x, pad=(-1, 2): td.pad(x, pad, value=0.5),
        [[(3, 4)], [(2, 1)], [(0, 2)]],
        pad_window,
        "padding.pad",
        bad=[
            ((X, (1,)), ShapeError, "pad: expected pairs for at most 2 dims, got (1,)"),
            ((X, (-3, -3)), ShapeError, "pad: expected sizes that stay positive for (3, 4), got (-3, -3)"),
        ],
    ),
    Row(
        "Tensor.__getitem__",
        lambda x, index=PLACED: x[index],
        [[(4, 3)], [(2, 1)], [(0, 2)]],
        lambda x: x[PLACED],
        "shape.index",
        bad=[
            ((X, 5), IndexError, "indexing: index 5 is out of bounds for axis 0 with size 3 of (3, 4)"),
            ((X, (0, 0, 0)), ShapeError, "indexing: expected at most 2 indices for (3, 4), got 3"),
        ],
    ),
    Row(
        "shape.place",
        lambda g: shape._place(g, shape=(4, 3), index=PLACED),
        [[(2, 1)]],
        lambda g: ref.pullback(lambda x: x[PLACED], [np.zeros((4, 3))], [g], 0),
    ),
    Row(
        "movedim",
        lambda x: td.movedim(x, (0, 1), (-1, 0)),
        [[(2, 3, 4)], [(1, 0, 2)]],
        lambda x: np.moveaxis(x, (0, 1), (-1, 0)),
    ),
    Row(
        "split",
        lambda x, sizes=2, dim=1: td.split(x, sizes, dim),
        [[(3, 5)], [(2, 1)]],
        lambda x: tuple(np.split(x, range(2, x.shape[1], 2), 1)),
        "shape.split",
        bad=[((X, (1, 2)), ShapeError, "split: expected")],
    ),
    Row("chunk", lambda x: td.chunk(x, 2, 1), [[(3, 5)], [(2, 4)]], lambda x: tuple(np.array_split(x, 2, 1))),
    Row("unbind", lambda x: td.unbind(x, 1), [[(3, 2)], [(2, 1, 2)]], lambda x: tuple(np.moveaxis(x, 1, 0))),
    Row("narrow", lambda x: td.narrow(x, 1, 1, 2), [[(3, 4)], [(0, 3)]], lambda x: x[:, 1:3]),
    Row("flip", lambda x: td.flip(x, (0, -1)), [[(3, 4)], [(1, 0)]], lambda x: np.flip(x, (0, -1))),
    Row(
        "roll",
        lambda x: td.roll(x, (1, -2), (0, 1)),
        [[(3, 4)], [(1, 1)]],
        lambda x: np.roll(x, (1, -2), (0, 1)),
    ),
    Row("roll flat", lambda x: td.roll(x, 5), [[(3, 4)], [(2, 1)]], lambda x: np.roll(x, 5)),
    Row("rot90", td.rot90, [[(3, 4)], [(2, 1, 2)]], np.rot90),
    Row(
        "tile",
        lambda x: td.tile(x, (2, 3)),
        [[(3, 4)], [(2,)], [()], [(2, 1, 2)]],
        lambda x: np.tile(x, (2, 3)),
    ),
    Row(
        "repeat_interleave",
        lambda x: td.repeat_interleave(x, 2, 1),
        [[(3, 2)], [(0, 2)]],
        lambda x: x.repeat(2, 1),
    ),
    Row(
        "broadcast_tensors",
        td.broadcast_tensors,
        [[(3, 1), (4,)], [(), (2,)]],
        lambda *xs: tuple(np.broadcast_arrays(*xs)),
    ),
    Row(
        "meshgrid",
        td.meshgrid,
        [[(3,), (2,)], [(1,), (0,)]],
        lambda *xs: tuple(np.meshgrid(*xs, indexing="ij")),
    ),
    Row(
        "diagonal",
        lambda x: td.diagonal(x, 1),
        [[(3, 4)], [(2, 2)]],
        lambda x: x.diagonal(1),
        "shape.diagonal",
    ),
    Row("diag", lambda x: td.diag(x, -1), [[(3,)], [(3, 4)]], lambda x: np.diag(x, -1)),
    Row(
        "shape.place_diagonal",
        lambda g: shape._place_diagonal(g, shape=(3, 4), offset=1, dim1=0, dim2=1),
        [[(3,)]],
        lambda g: np.pad(np.diag(g), ((0, 0), (1, 0))),
        "shape.place_diagonal",
    ),
    Row("tril", td.tril, [[(3, 4)], [(2, 2, 1)]], np.tril),
    Row("triu", lambda x: td.triu(x, 1), [[(3, 4)], [(2, 2, 1)]], lambda x: np.triu(x, 1)),
    Row(
        "pixel_shuffle",
        lambda x, r=2: td.pixel_shuffle(x, r),
        [[(2, 8, 2, 3)], [(1, 4, 1, 1)]],
        ref.pixel_shuffle,
        bad=[((X, 2), ShapeError, "pixel_shuffle: expected")],
    ),
    Row(
        "pixel_unshuffle",
        lambda x, r=2: td.pixel_unshuffle(x, r),
        [[(2, 2, 4, 6)]],
        lambda x: ref.pullback(ref.pixel_shuffle, [np.zeros((2, 8, 2, 3))], [x], 0),
        bad=[((PLANE, 3), ShapeError, "pixel_unshuffle: expected")],
    ),
]
