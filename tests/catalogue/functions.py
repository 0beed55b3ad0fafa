"""Functions of one element beyond arithmetic, and activations."""

from __future__ import annotations

import numpy as np
from scipy import special
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

from . import references as ref
from .row import (
    Row,
    V,
    X,
    apart,
    between,
    binary,
    normal,
    positive,
    samples_of,
    unary,
)

ROWS: list[Row] = [
    unary("exp2", td.exp2, np.exp2),
    unary("expm1", td.expm1, np.expm1),
    unary("log1p", td.log1p, np.log1p, positive),
    unary("log2", td.log2, np.log2, positive),
    unary("log10", td.log10, np.log10, positive),
    unary("rsqrt", td.rsqrt, lambda x: x**-0.5, positive),
    unary("reciprocal", td.reciprocal, np.reciprocal, positive),
    unary("sin", td.sin, np.sin),
    unary("cos", td.cos, np.cos),
    unary("tan", td.tan, np.tan, between(-1, 1)),
    unary("asin", td.asin, np.arcsin, between(-0.8, 0.8)),
    unary("acos", td.acos, np.arccos, between(-0.8, 0.8)),
    unary("atan", td.atan, np.arctan),
    unary("sinh", td.sinh, np.sinh),
    unary("cosh", td.cosh, np.cosh),
    unary("asinh", td.asinh, np.arcsinh),
    unary("acosh", td.acosh, np.arccosh, between(1.5, 3)),
    unary("atanh", td.atanh, np.arctanh, between(-0.8, 0.8)),
    unary("erf", td.erf, special.erf),
    unary("erfc", td.erfc, special.erfc),
    unary("lgamma", td.lgamma, special.gammaln, positive),
    unary("digamma", td.digamma, special.digamma, positive),
    unary("logsigmoid", td.logsigmoid, special.log_expit),
    unary("floor", td.floor, np.floor, between(0.2, 0.8)),
    unary("ceil", td.ceil, np.ceil, between(0.2, 0.8)),
    unary("frac", td.frac, lambda x: np.modf(x)[0], between(0.2, 0.8)),
    unary("trunc", td.trunc, np.trunc, between(0.2, 0.8)),
    Row(
        "polygamma",
        lambda x, n=1: td.polygamma(n, x),
        samples_of(positive),
        lambda x: special.polygamma(1, x),
        "functions.polygamma",
        bad=[((X, -1), ValueError, "polygamma: expected n an integer of at least 0, got -1")],
    ),
    binary("atan2", td.atan2, np.arctan2, a=positive),
    binary("hypot", td.hypot, np.hypot),
    Row("lerp", td.lerp, [[(3, 4), (3, 4), (3, 4)], [(3, 4), (4,), ()]], lambda a, b, w: a + w * (b - a)),
    Row(
        "addcmul",
        lambda *x: td.addcmul(*x, value=0.5),
        [[(3, 4), (3, 4), (4,)]],
        lambda x, a, b: x + 0.5 * a * b,
    ),
    Row(
        "addcdiv",
        lambda *x: td.addcdiv(*x, value=2),
        [[(3, 4), (4,), positive(3, 4)]],
        lambda x, a, b: x + 2 * a / b,
    ),
    # activations
    Row(
        "leaky_relu",
        lambda x: td.leaky_relu(x, 0.1),
        samples_of(normal),
        lambda x: np.where(x > 0, x, 0.1 * x),
    ),
    Row(
        "prelu",
        td.prelu,
        [[(3, 4), (4,)], [(2, 3, 2), (3,)], [(5,), (1,)]],
        lambda x, w: np.where(x > 0, x, x * (w if w.size == 1 else ref.channels(w, x))),
        bad=[
            (
                (X, V),
                ShapeError,
                "prelu: expected weight (1,) or (C,) for input (N, C, *), got (3,) for (3, 4)",
            )
        ],
    ),
    Row("elu", lambda x: td.elu(x, 0.7), samples_of(normal), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    Row(
        "selu",
        td.selu,
        samples_of(normal),
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    ),
    Row(
        "celu",
        lambda x: td.celu(x, 0.7),
        samples_of(normal),
        lambda x: np.where(x > 0, x, 0.7 * np.expm1(x / 0.7)),
    ),
    Row(
        "gelu",
        lambda x, approximate="none": td.gelu(x, approximate=approximate),
        samples_of(normal),
        lambda x: x * special.ndtr(x),
        bad=[((X, "sin"), ValueError, "gelu: expected approximate 'none' or 'tanh', got 'sin'")],
    ),
    Row(
        "gelu tanh",
        lambda x: td.gelu(x, approximate="tanh"),
        samples_of(normal),
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    Row("silu", td.silu, samples_of(normal), lambda x: x * special.expit(x)),
    Row("mish", td.mish, samples_of(normal), lambda x: x * np.tanh(np.logaddexp(0, x))),
    Row(
        "softplus",
        lambda x: td.softplus(x, 1.5),
        samples_of(normal),
        lambda x: np.logaddexp(0, 1.5 * x) / 1.5,
    ),
    Row("softsign", td.softsign, samples_of(normal), lambda x: x / (1 + np.abs(x))),
    Row("hardtanh", td.hardtanh, samples_of(normal), lambda x: np.clip(x, -1, 1)),
    Row("relu6", lambda x: td.relu6(x * 5.0), samples_of(normal), lambda x: np.clip(5 * x, 0, 6)),
    Row(
        "hardsigmoid",
        lambda x: td.hardsigmoid(x * 3.0),
        samples_of(normal),
        lambda x: np.clip(3 * x + 3, 0, 6) / 6,
    ),
    Row(
        "hardswish",
        lambda x: td.hardswish(x * 3.0),
        samples_of(normal),
        lambda x: 3 * x * np.clip(3 * x + 3, 0, 6) / 6,
    ),
    Row(
        "threshold",
        lambda x: td.threshold(x, 0.1, 20.0),
        samples_of(normal),
        lambda x: np.where(x > 0.1, x, 20.0),
    ),
    Row(
        "glu",
        lambda x, dim=-1: td.glu(x, dim),
        [[(3, 4)], [(2, 2)], [(0, 6)]],
        lambda x: x[:, : x.shape[1] // 2] * special.expit(x[:, x.shape[1] // 2 :]),
        bad=[((X, 0), ShapeError, "glu: expected an even size along dim 0, got (3, 4)")],
    ),
    Row(
        "maxout",
        lambda x, pieces=2: td.maxout(x, pieces),
        [[apart(3, 4)], [(2, 6, 2)], [(0, 2)]],
        lambda x: np.maximum(x[:, ::2], x[:, 1::2]),
        bad=[
            ((X, 3), ShapeError, "maxout: expected a size along dim 1 divisible by num_pieces=3, got (3, 4)")
        ],
    ),
]
