"""Arithmetic, comparisons that choose, and limits."""

from __future__ import annotations

import numpy as np
from scipy import special
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.engine import core
from tinydl.ops import elementwise

from .row import (
    PAIRS,
    WORD,
    Row,
    V,
    X,
    binary,
    exactly,
    mask,
    normal,
    positive,
    samples_of,
    unary,
)

ROWS: list[Row] = [
    unary("neg", td.neg, np.negative),
    unary("exp", td.exp, np.exp),
    unary("log", td.log, np.log, positive),
    unary("sqrt", td.sqrt, np.sqrt, positive),
    unary("tanh", td.tanh, np.tanh),
    unary("sigmoid", td.sigmoid, special.expit),
    unary("relu", td.relu, lambda x: np.maximum(x, 0), covers="elementwise.relu"),
    unary("sign", td.sign, np.sign),
    unary("abs", td.abs, np.abs),
    Row("square", td.square, samples_of(normal), np.square),
    Row("clone", td.clone, samples_of(normal), np.copy, covers="core.contiguous"),
    Row("Tensor.to", lambda x: x.to("float64").to(x.dtype), samples_of(normal), np.copy),
    Row("cast", lambda x: td.cast(td.cast(x, "float64"), x.dtype), samples_of(normal), np.copy),
    Row("core.cast", lambda x: core.cast(x, dtype=x.dtype), samples_of(normal), np.copy, "core.cast"),
    Row("as_tensor", td.as_tensor, samples_of(normal), np.asarray),
    binary("mul", td.mul, np.multiply),
    binary("maximum", td.maximum, np.maximum),
    binary("minimum", td.minimum, np.minimum),
    Row(
        "where",
        td.where,
        [[mask(3, 4), (3, 4), (3, 4)], [mask(4), (3, 1), ()], [mask(0, 3), (3,), (1, 3)], [mask(), (), ()]],
        np.where,
        "elementwise.where",
        bad=[
            (
                (td.gt(X, 0), X, V),
                ShapeError,
                "where: expected shapes that broadcast, got (3, 4), (3, 4), (3,)",
            ),
            ((td.gt(X, 0), X), TypeError, "where: expected input and other, or neither, got one"),
        ],
    ),
    Row(
        "pow tensors",
        td.pow,
        [[positive(*m), n] for m, n in PAIRS],
        np.power,
        "elementwise.pow",
        bad=[
            ((X, "a"), DtypeError, f"pow: {WORD}"),
            ((X, V), ShapeError, "pow: expected shapes that broadcast"),
        ],
    ),
    Row("pow 4", lambda x: td.pow(x, 4), samples_of(normal), lambda x: x**4, "elementwise.power"),
    Row("pow 3", lambda x: td.pow(x, 3), samples_of(normal), lambda x: x**3),
    Row("pow 2", lambda x: td.pow(x, 2), samples_of(normal), lambda x: x**2),
    Row("pow -1", lambda x: td.pow(x, -1), samples_of(positive), lambda x: 1 / x),
    Row("pow 0", lambda x: td.pow(x, 0), samples_of(normal), np.ones_like),
    Row("pow -1.5", lambda x: td.pow(x, -1.5), samples_of(positive), lambda x: x**-1.5),
    Row(
        "clip",
        lambda x, low=-0.5, high=0.7: td.clip(x, low, high),
        samples_of(normal),
        lambda x: np.clip(x, -0.5, 0.7),
        "elementwise.clip",
        bad=[((X, None, None), ValueError, "clip: expected min, max or both, got neither")],
    ),
    Row(
        "clip tensors",
        td.clip,
        [[(3, 4), (4,), (3, 1)], [(0, 2), (2,), ()]],
        lambda x, a, b: np.minimum(np.maximum(x, a), b),
    ),
    Row("clamp_min", lambda x: td.clamp_min(x, 0.3), samples_of(normal), lambda x: np.maximum(x, 0.3)),
    Row("clamp_min tensors", td.clamp_min, [[(3, 4), (4,)], [(0, 2), ()]], np.maximum),
    Row("clamp_max", lambda x: td.clamp_max(x, 0.3), samples_of(normal), lambda x: np.minimum(x, 0.3)),
    Row("clamp_max tensors", td.clamp_max, [[(3, 4), (4,)], [(0, 2), ()]], np.minimum),
    Row(
        "elementwise.gate",
        elementwise._gate,
        [[(3, 4), (3, 4)], [(), ()], [(0,), (0,)]],
        lambda g, y: g * (y > 0),
        fixed=(1,),
    ),
    Row(
        "elementwise.weighted",
        elementwise._weighted,
        [[(3, 4), (3, 4)], [(4,), (3, 1)], [(), ()], [(0,), (0,)]],
        lambda weight, value: weight * value,
    ),
    Row(
        "elementwise.between",
        elementwise._between,
        [[(3, 4), (3, 4), exactly(-0.5), exactly(0.7)], [(0,), (0,), exactly(0.0), exactly(1.0)]],
        lambda g, x, low, high: g * ((low <= x) & (x <= high)),
        fixed=(1, 2, 3),
    ),
]
