"""What the public functions refuse beyond the bad inputs of their rows: one line an idea,
with the names that share it.

An error begins with the name of the function that was called, then says what it expected and what it got.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td

from .row import DIM, PLANE, Refusal, V, X

YES, INTEGERS, DOUBLE, SCALAR = X > 0, X.to("int64"), X.double(), td.tensor(1.0)
FIRST = td.tensor([0, 1, 2])  # good indices along the first dim of X
LINE, VOLUME = td.ones(1, 2, 4), td.ones(1, 2, 4, 4, 4)
BROADCAST = "expected shapes that broadcast, got (3, 4), (3,)"
INTEGER, ONE_DTYPE = "expected float32 or float64, got int64", "expected one dtype, got float32 and float64"
ONE_SHAPE = "expected input and target of one shape, got (3, 4) and (3,)"
NO_TENSOR = "expected a tensor for"


def refused(names: str, error: type[Exception], message: str, call: Callable[..., Any]) -> list[Refusal]:
    """`call(function)` of each name raises `<name>: <message>`."""
    return [
        Refusal(name, partial(call, attrgetter(name)(td)), error, f"{name.rpartition('.')[2]}: {message}")
        for name in names.split()
    ]


REFUSALS: list[Refusal] = [
    case
    for cases in (
        refused(
            "atleast_1d atleast_2d atleast_3d",
            DtypeError,
            "expected tensors, got str",
            lambda f: f(X, "a"),
        ),
        refused("isin", DtypeError, "expected at least one tensor, got int and int", lambda f: f(1, 2)),
        refused("count_nonzero", ShapeError, "expected dim in [-2, 1], got 2", lambda f: f(X, 2)),
        refused(
            "tril_indices triu_indices", DtypeError, "expected whole numbers, got 2.5", lambda f: f(2.5, 2)
        ),
        # dims
        refused(
            "cummax cummin cumsum cumprod prod sort argsort argmax argmin any all flip",
            ShapeError,
            DIM,
            lambda f: f(X, 2),
        ),
        refused(
            "var std var_mean std_mean norm softmin unbind unique normalize",
            ShapeError,
            DIM,
            lambda f: f(X, dim=2),
        ),
        refused("topk chunk maxout", ShapeError, DIM, lambda f: f(X, 2, 2)),
        refused("cosine_similarity", ShapeError, DIM, lambda f: f(X, X, 2)),
        refused(
            "isclose", DtypeError, "expected one dtype, got float32 and float64", lambda f: f(X, X.double())
        ),
        refused(
            "searchsorted",
            ShapeError,
            "expected a sequence (n,), or (*, n) and an input (*, m), got (3, 4) and (3,)",
            lambda f: f(X, V),
        ),
        refused(
            "multinomial",
            ValueError,
            "expected finite weights of at least 0, of which 2 are above it",
            lambda f: f(td.tensor([1.0, 0.0]), 2),
        ),
        refused(
            "linalg.cholesky linalg.eigh linalg.eigvalsh cholesky",
            ShapeError,
            "expected square matrices (..., n, n), got (3, 4)",
            lambda f: f(X),
        ),
        refused("narrow", ShapeError, DIM, lambda f: f(X, 2, 0, 1)),
        refused("index_select gather", ShapeError, DIM, lambda f: f(X, 2, FIRST)),
        refused("scatter scatter_add", ShapeError, DIM, lambda f: f(X, 2, FIRST, V)),
        refused("scatter_reduce", ShapeError, DIM, lambda f: f(X, 2, FIRST, V, "sum")),
        refused(
            "scatter_reduce",
            ValueError,
            "expected reduce of sum, prod, mean, amax, amin, got 'max'",
            lambda f: f(V, 0, FIRST, V, "max"),
        ),
        refused("diagonal", ShapeError, DIM, lambda f: f(X, 0, 2, 0)),
        refused("repeat_interleave roll movedim", ShapeError, DIM, lambda f: f(X, 2, 2)),
        refused("swapaxes swapdims", ShapeError, DIM, lambda f: f(X, 0, 2)),
        refused("diff", ShapeError, DIM, lambda f: f(X, dim=2)),
        refused("diff", ValueError, "expected n of at least 0, got -1", lambda f: f(X, -1)),
        refused("unflatten", ShapeError, DIM, lambda f: f(X, 2, (2, 2))),
        refused(
            "ravel numel argwhere", DtypeError, "expected a tensor for 'input', got list", lambda f: f([1.0])
        ),
        refused("rot90", ShapeError, DIM, lambda f: f(X, 1, (0, 2))),
        refused("stack", ShapeError, "expected dim in [-3, 2], got 3", lambda f: f([X, X], 3)),
        refused("sum mean amax", ShapeError, "expected dim in [-2, 1], got 0.5", lambda f: f(X, 0.5)),
        # shapes
        refused("lerp addcmul addcdiv", ShapeError, f"{BROADCAST}, (3,)", lambda f: f(X, V, V)),
        refused(
            "eq ne lt le gt ge logical_and logical_or logical_xor", ShapeError, BROADCAST, lambda f: f(X, V)
        ),
        refused(
            "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift",
            DtypeError,
            "expected integers",
            lambda f: f(X, V),
        ),
        refused("bitwise_not", DtypeError, "expected integers or bool, got float32", lambda f: f(X)),
        refused(
            "broadcast_tensors allclose clip clamp_min clamp_max cosine_similarity",
            ShapeError,
            BROADCAST,
            lambda f: f(X, V),
        ),
        refused("masked_fill", ShapeError, BROADCAST, lambda f: f(X, V > 0, 0.0)),
        refused("masked_select", ShapeError, BROADCAST, lambda f: f(X, V > 0)),
        refused("stack", ShapeError, "expected tensors of one shape, got (3, 4), (3,)", lambda f: f([X, V])),
        refused("stack", ShapeError, "expected at least one tensor, got none", lambda f: f([])),
        refused(
            "chunk split roll",
            ShapeError,
            "expected at least one dim, got a 0-d tensor",
            lambda f: f(SCALAR, 1, 0),
        ),
        refused(
            "narrow", ShapeError, "expected at least one dim, got a 0-d tensor", lambda f: f(SCALAR, 0, 0, 0)
        ),
        refused(
            "movedim",
            ShapeError,
            "expected as many different sources as destinations, got (0, 1) and 0",
            lambda f: f(X, (0, 1), 0),
        ),
        refused("flip", ShapeError, "expected each dim once, got (0, -2)", lambda f: f(X, 0, -2)),
        refused(
            "roll", ShapeError, "expected as many shifts as dims, got (1, 2) and 0", lambda f: f(X, (1, 2), 0)
        ),
        refused(
            "rot90",
            ShapeError,
            "expected two different dims of (3, 4), got (0, -2)",
            lambda f: f(X, 1, (0, -2)),
        ),
        refused(
            "diagonal",
            ShapeError,
            "expected two different dims of (3, 4), got 0 and 0",
            lambda f: f(X, 0, 0, 0),
        ),
        refused(
            "maxout",
            ShapeError,
            "expected a size along dim 0 divisible by num_pieces=2, got ()",
            lambda f: f(SCALAR, 2, 0),
        ),
        refused("diag", ShapeError, "expected a vector or a matrix, got (1, 2, 4)", lambda f: f(LINE)),
        refused("meshgrid", ShapeError, "expected vectors, got (3,), (3, 4)", lambda f: f(V, X)),
        refused("tril triu", ShapeError, "expected matrices, got (3,)", lambda f: f(V)),
        refused(
            "narrow",
            ShapeError,
            "expected start and length within 4 along dim 1, got 2 and 3",
            lambda f: f(X, 1, 2, 3),
        ),
        refused("pad", ShapeError, "expected pairs for at most 2 dims, got 1", lambda f: f(X, 1)),
        refused(
            "pad",
            ShapeError,
            "expected at most 3 along dim 1 of (3, 4) in mode 'reflect', got (4, 0)",
            lambda f: f(X, (4, 0), "reflect"),
        ),
        refused(
            "einsum",
            ShapeError,
            "expected an operand for each of 2 terms of 'ij,jk->ik', got 1",
            lambda f: f("ij,jk->ik", X),
        ),
        refused(
            "einsum",
            ShapeError,
            "expected one size under 'j' of 'ij,jk->ik', got 4 and 3",
            lambda f: f("ij,jk->ik", X, X),
        ),
        refused("embedding", ShapeError, "expected weight (V, D), got (3,)", lambda f: f(FIRST, V)),
        *[
            refused("embedding_bag", error, message, lambda f, call=call: call(f))
            for error, message, call in (
                (ShapeError, "expected weight (V, D), got (3,)", lambda f: f(FIRST, V)),
                (ValueError, "expected mode of sum, mean, max, got 'min'", lambda f: f(FIRST, X, mode="min")),
                (
                    ValueError,
                    "expected scale_grad_by_freq=False in mode 'max', got True",
                    lambda f: f(FIRST, X, scale_grad_by_freq=True, mode="max"),
                ),
                (
                    ValueError,
                    "expected per_sample_weights in mode 'sum' alone, got 'mean'",
                    lambda f: f(FIRST, X, FIRST[:1], per_sample_weights=V),
                ),
                (
                    ShapeError,
                    "expected per_sample_weights (2,) as the input, got (3,)",
                    lambda f: f([0, 1], X, [0], mode="sum", per_sample_weights=V),
                ),
                (
                    ShapeError,
                    "expected offsets (bags,), one at least, got (0,)",
                    lambda f: f(FIRST, X, FIRST[:0]),
                ),
                (
                    ShapeError,
                    "expected input (bags, n), or (n,) with offsets, got (1, 2) with some",
                    lambda f: f([[0, 1]], X, [0]),
                ),
                (IndexError, "expected indices from 0 to 2, got 0 to 3", lambda f: f([0, 1], X, [0, 3])),
                (
                    ValueError,
                    "expected offsets that begin at 0 and do not fall, got [1]",
                    lambda f: f(FIRST, X, [1]),
                ),
            )
        ],
        refused("poisson_nll_loss mse_loss l1_loss", ShapeError, ONE_SHAPE, lambda f: f(X, V)),
        refused("gaussian_nll_loss", ShapeError, BROADCAST, lambda f: f(X, V, X)),
        refused(
            "gaussian_nll_loss", ValueError, "expected var of at least 0, got -1.0", lambda f: f(X, X, -X)
        ),
        refused("triplet_margin_loss", ShapeError, ONE_SHAPE, lambda f: f(X, X, V)),
        refused(
            "gaussian_nll_loss",
            ShapeError,
            "expected var of the input's shape or one per row (3, 4), got (4,)",
            lambda f: f(X, X, td.ones(4)),
        ),
        refused(
            "binary_cross_entropy binary_cross_entropy_with_logits",
            ShapeError,
            BROADCAST,
            lambda f: f(X, X, V),
        ),
        refused(
            "cross_entropy nll_loss",
            ShapeError,
            "expected one weight per class (4,), got (3,)",
            lambda f: f(X, FIRST, V),
        ),
        refused(
            "multi_margin_loss",
            ShapeError,
            "expected input (N, K) or (K,) and weight (K,), got (3, 4) and (3,)",
            lambda f: f(X, FIRST, weight=V),
        ),
        refused(
            "ctc_loss",
            ShapeError,
            "expected log_probs (T, N, C) or (T, C), got (3,)",
            lambda f: f(V, FIRST, [3], [3]),
        ),
        refused(
            "ctc_loss",
            ShapeError,
            "expected targets (2, S) or (sum(target_lengths),), got (3, 4)",
            lambda f: f(td.ones(5, 2, 3), INTEGERS, [5, 5], [2, 2]),
        ),
        refused(
            "scaled_dot_product_attention",
            ShapeError,
            "expected query (*, L, E) and key (*, S, E), got (3, 4) and (3,)",
            lambda f: f(X, V, V),
        ),
        refused(
            "scaled_dot_product_attention",
            ShapeError,
            "expected value (*, S, V) for key (*, S, E), got (2, 4) and (3, 4)",
            lambda f: f(X, X, X[:2]),
        ),
        refused(
            "scaled_dot_product_attention",
            ShapeError,
            "expected shapes that broadcast, got (3, 3), (3, 4)",
            lambda f: f(X, X, X, YES),
        ),
        refused(
            "instance_norm",
            ShapeError,
            "expected input (N, C, *) with at least one spatial dim, got (3, 4)",
            lambda f: f(X),
        ),
        refused(
            "instance_norm",
            ShapeError,
            "expected weight and bias (2,), got (3,) for input (1, 2, 4)",
            lambda f: f(LINE, weight=V),
        ),
        refused(
            "group_norm",
            ShapeError,
            "expected weight and bias (2,), got (3,) for input (1, 2, 4)",
            lambda f: f(LINE, 1, V),
        ),
        refused(
            "dropout1d", ShapeError, "expected input (N, C) and 1 spatial dims, got (3,)", lambda f: f(V)
        ),
        refused(
            "dropout2d", ShapeError, "expected input (N, C) and 2 spatial dims, got (3,)", lambda f: f(V)
        ),
        refused(
            "dropout3d", ShapeError, "expected input (N, C) and 3 spatial dims, got (3, 4)", lambda f: f(X)
        ),
        refused(
            "normal",
            ShapeError,
            "expected a size where mean and std are numbers, got none",
            lambda f: f(0.0, 1.0),
        ),
        refused(
            "zeros ones empty rand randn eye",
            ShapeError,
            "expected sizes of at least 0, got (2, -1)",
            lambda f: f(2, -1),
        ),
        refused("full", ShapeError, "expected sizes of at least 0, got (2, -1)", lambda f: f((2, -1), 0)),
        refused("randint", ShapeError, "expected sizes of at least 0, got (0.5,)", lambda f: f(0, 2, 0.5)),
        refused(
            "rand_beta", ShapeError, "expected sizes of at least 0, got (2, -1)", lambda f: f(1, 1, 2, -1)
        ),
        refused("rand_gamma", ShapeError, "expected sizes of at least 0, got (2, -1)", lambda f: f(1, 2, -1)),
        refused("rand_beta", DtypeError, INTEGER, lambda f: f(1, 1, 2, dtype="int64")),
        refused("rand_gamma", DtypeError, INTEGER, lambda f: f(1, 2, dtype="int64")),
        refused("randperm", ShapeError, "expected n of at least 0, got -1", lambda f: f(-1)),
        refused("linspace", ShapeError, "expected steps of at least 0, got -1", lambda f: f(0, 1, -1)),
        refused(
            "tensor as_tensor",
            ShapeError,
            "expected numbers, or lists of them of equal lengths, got [[1, 2], [3]]",
            lambda f: f([[1, 2], [3]]),
        ),
        refused("full", ShapeError, "expected one fill_value, got (3,)", lambda f: f(3, V)),
        refused("full_like", ShapeError, "expected one fill_value, got (3,)", lambda f: f(X, V)),
        # windows
        *[
            refused(name + axes, ShapeError, message, lambda f, call=call, image=image: call(f, image))
            for axes, image, names in (
                ("1d", LINE, "C, W"),
                ("2d", PLANE, "C, H, W"),
                ("3d", VOLUME, "C, D, H, W"),
            )
            for name, message, call in (
                *[
                    (name, f"expected input (N, {names}) or ({names}), got (3,)", lambda f, image: f(V, 2))
                    for name in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
                ],
                (
                    "lp_pool",
                    f"expected input (N, {names}) or ({names}), got (3,)",
                    lambda f, image: f(V, 2, 2),
                ),
                (
                    "max_unpool",
                    f"expected input (N, {names}) or ({names}), got (3,)",
                    lambda f, image: f(V, FIRST, 2),
                ),
                (
                    "max_pool",
                    "kernel_size expected at least 1 on every axis, got (0",
                    lambda f, image: f(image, 0),
                ),
                (
                    "avg_pool",
                    "stride expected at least 1 on every axis, got (-1",
                    lambda f, image: f(image, 2, -1),
                ),
                (
                    "lp_pool",
                    "expected a padded input at least as large as the dilated kernel",
                    lambda f, image: f(image, 2, 5),
                ),
                (
                    "max_pool",
                    "padding expected at most half the kernel",
                    lambda f, image: f(image, 2, padding=2),
                ),
                (
                    "adaptive_avg_pool",
                    "expected output sizes of at least 1, got 0",
                    lambda f, image: f(image, 0),
                ),
                (
                    "adaptive_max_pool",
                    "expected output_size an int or",
                    lambda f, image: f(image, (1, 1, 1, 1)),
                ),
                (
                    "max_unpool",
                    f"expected indices {image.shape} as the input, got (3,)",
                    lambda f, image: f(image, FIRST, 2),
                ),
            )
        ],
        refused(
            "unfold", ShapeError, "expected input (N, C, H, W) or (C, H, W), got (3, 4)", lambda f: f(X, 2)
        ),
        refused(
            "unfold",
            ShapeError,
            "kernel_size expected an int or 2 of them, got (1, 2, 3)",
            lambda f: f(PLANE, (1, 2, 3)),
        ),
        # places
        refused(
            "index_select",
            IndexError,
            "expected indices from 0 to 2, got 3 to 3",
            lambda f: f(X, 0, td.tensor([3])),
        ),
        refused(
            "gather",
            IndexError,
            "expected indices from 0 to 2, got -1 to -1",
            lambda f: f(V, 0, td.tensor([-1])),
        ),
        refused(
            "scatter scatter_add",
            IndexError,
            "expected indices from 0 to 2, got 3 to 3",
            lambda f: f(V, 0, td.tensor([3]), V),
        ),
        refused(
            "take_along_dim",
            IndexError,
            "expected indices from 0 to 2, got 3 to 3",
            lambda f: f(V, td.tensor([3]), 0),
        ),
        refused(
            "embedding",
            IndexError,
            "expected indices from 0 to 2, got 3 to 3",
            lambda f: f(td.tensor([3]), X),
        ),
        refused(
            "max_unpool2d",
            IndexError,
            "expected indices from 0 to 63, got 64 to 64",
            lambda f: f(PLANE, td.full(PLANE.shape, 64), 2),
        ),
        refused(
            "gather",
            ShapeError,
            "expected an index no larger than the input (3, 4) but for dim 0, got (1, 5)",
            lambda f: f(X, 0, td.tensor([[0] * 5])),
        ),
        refused(
            "scatter scatter_add",
            ShapeError,
            "expected src at least as large as the index (3,), got (2,)",
            lambda f: f(V, 0, FIRST, td.ones(2)),
        ),
        refused(
            "take_along_dim",
            ShapeError,
            "expected indices of 2 dims for (3, 4), got (3,)",
            lambda f: f(X, FIRST, 0),
        ),
        refused(
            "index_select",
            ShapeError,
            "expected a vector of indices, one for a 0-d tensor, got (3, 4) for",
            lambda f: f(X, 0, INTEGERS),
        ),
        refused(
            "topk", ShapeError, "expected k from 0 to 4 for (3, 4) along dim 1, got 5", lambda f: f(X, 5)
        ),
        refused(
            "bincount",
            ShapeError,
            "expected a vector, and weights of its shape, got (3,) with weights (3, 4)",
            lambda f: f(FIRST, X),
        ),
        # dtypes
        refused(
            "index_select gather",
            DtypeError,
            "expected an index of integers, got float32",
            lambda f: f(V, 0, V),
        ),
        refused(
            "scatter scatter_add",
            DtypeError,
            "expected an index of integers, got bool",
            lambda f: f(V, 0, V > 0, V),
        ),
        refused("embedding", DtypeError, "expected an index of integers, got float32", lambda f: f(V, X)),
        refused(
            "take_along_dim one_hot bincount",
            DtypeError,
            "expected an index of integers, got float32",
            lambda f: f(V, V),
        ),
        refused(
            "masked_fill", DtypeError, "expected a mask of booleans, got float32", lambda f: f(X, X, 0.0)
        ),
        refused("masked_select", DtypeError, "expected a mask of booleans, got float32", lambda f: f(X, X)),
        refused("scatter scatter_add", DtypeError, ONE_DTYPE, lambda f: f(V, 0, FIRST, V.double())),
        refused("allclose", DtypeError, ONE_DTYPE, lambda f: f(X, DOUBLE)),
        refused("einsum", DtypeError, ONE_DTYPE, lambda f: f("ij,ij", X, DOUBLE)),
        refused("mm", DtypeError, ONE_DTYPE, lambda f: f(X, DOUBLE.T)),
        refused("linear", DtypeError, ONE_DTYPE, lambda f: f(X, DOUBLE)),
        refused(
            "conv1d conv_transpose1d", DtypeError, ONE_DTYPE, lambda f: f(LINE, td.ones(2, 2, 1).double())
        ),
        refused(
            "conv2d conv_transpose2d", DtypeError, ONE_DTYPE, lambda f: f(PLANE, td.ones(2, 2, 1, 1).double())
        ),
        refused(
            "conv3d conv_transpose3d",
            DtypeError,
            ONE_DTYPE,
            lambda f: f(VOLUME, td.ones(2, 2, 1, 1, 1).double()),
        ),
        refused(
            "conv2d", DtypeError, INTEGER, lambda f: f(PLANE.to("int64"), td.ones(2, 2, 1, 1).to("int64"))
        ),
        refused("max_pool2d adaptive_max_pool2d", DtypeError, INTEGER, lambda f: f(PLANE.to("int64"), 2)),
        refused("softmax log_softmax softmin", DtypeError, INTEGER, lambda f: f(INTEGERS, 0)),
        refused(
            "norm gaussian_noise dropout rand_like randn_like", DtypeError, INTEGER, lambda f: f(INTEGERS)
        ),
        refused("rand randn", DtypeError, INTEGER, lambda f: f(2, dtype="int64")),
        refused("layer_norm rms_norm", DtypeError, INTEGER, lambda f: f(INTEGERS, 4)),
        refused(
            "neg abs sign relu floor ceil round trunc",
            DtypeError,
            "expected numbers, got bool",
            lambda f: f(YES),
        ),
        refused(
            "elu selu celu hardtanh relu6 softsign",
            DtypeError,
            "expected numbers, got bool",
            lambda f: f(YES),
        ),
        refused(
            "sub pow mse_loss l1_loss huber_loss sum_of_squares",
            DtypeError,
            "expected numbers, got bool",
            lambda f: f(YES, YES),
        ),
        refused(
            "zeros ones empty arange",
            DtypeError,
            "expected float32, float64, an integer dtype or bool, got float16",
            lambda f: f(2, dtype="float16"),
        ),
        refused(
            "cast",
            DtypeError,
            "expected float32, float64, an integer dtype or bool, got complex64",
            lambda f: f(X, "complex64"),
        ),
        refused(
            "cast as_tensor",
            DtypeError,
            "expected float32, float64, an integer dtype or bool, got 'colour'",
            lambda f: f(X, "colour"),
        ),
        refused("tensor as_tensor", DtypeError, "expected numbers, got dtype <U1", lambda f: f("a")),
        refused("from_numpy", DtypeError, "expected a numpy.ndarray, got list", lambda f: f([1.0])),
        refused(
            "from_numpy",
            DtypeError,
            "expected float32, float64, an integer dtype or bool, got complex128",
            lambda f: f(np.ones(2) * 1j),
        ),
        refused(
            "from_dlpack", DtypeError, "expected an object with __dlpack__, got list", lambda f: f([1.0])
        ),
        refused(
            "isfinite isinf isnan logical_not nonzero",
            DtypeError,
            "expected a tensor, an array or a number, got str",
            lambda f: f("a"),
        ),
        *[
            refused(
                name, DtypeError, "expected a tensor for 'input', got str", lambda f, more=more: f("a", *more)
            )
            for names, more in (
                ("square clone leaky_relu silu mish softplus hardsigmoid hardswish", ()),
                ("zeros_like ones_like empty_like rand_like randn_like", ()),
                ("full_like equal kron tile", (X,)),
                ("threshold", (0.1, 20.0)),
            )
            for name in names.split()
        ],
        # settings
        refused(
            "dropout dropout1d dropout2d dropout3d alpha_dropout",
            ValueError,
            "expected a probability in [0, 1], got -0.5",
            lambda f: f(LINE, -0.5),
        ),
        refused(
            "scaled_dot_product_attention",
            ValueError,
            "expected a probability in [0, 1], got 2",
            lambda f: f(X, X, X, dropout_p=2),
        ),
        refused(
            "scaled_dot_product_attention",
            ValueError,
            "expected attn_mask or is_causal, got both",
            lambda f: f(X, X, X, X, is_causal=True),
        ),
        refused("bernoulli", ValueError, "expected a probability in [0, 1], got 2", lambda f: f(X, 2)),
        refused("gaussian_noise", ValueError, "expected std of at least 0, got -1", lambda f: f(X, -1)),
        refused("normal", ValueError, "expected std of at least 0, got -1", lambda f: f(0.0, -1, 2)),
        refused("randint", ValueError, "expected low < high, got 2 and 2", lambda f: f(2, 2, 3)),
        refused("rand_beta", ValueError, "expected finite parameters above 0, got 0", lambda f: f(1, 0, 2)),
        refused("rand_gamma", ValueError, "expected finite parameters above 0, got -1", lambda f: f(-1, 2)),
        refused("arange", ValueError, "expected a step other than 0, got 0", lambda f: f(0, 3, 0)),
        refused("celu", ValueError, "expected alpha other than 0, got 0", lambda f: f(X, 0)),
        refused("softplus", ValueError, "expected beta other than 0, got 0", lambda f: f(X, 0)),
        refused("hardtanh", ValueError, "expected min_val <= max_val, got 1 and -1", lambda f: f(X, 1, -1)),
        refused("norm", ValueError, "expected p a number or 'fro', got 'nuc'", lambda f: f(X, "nuc")),
        refused("normalize", ValueError, "expected p other than 0, got 0", lambda f: f(X, 0)),
        refused("triplet_margin_loss", ValueError, "expected p above 0, got 0", lambda f: f(X, X, X, p=0)),
        refused("multi_margin_loss", ValueError, "expected p of 1 or 2, got 3", lambda f: f(X, FIRST, 3)),
        refused(
            "smooth_l1_loss", ValueError, "expected beta of at least 0, got -1", lambda f: f(X, X, beta=-1)
        ),
        refused("huber_loss", ValueError, "expected delta above 0, got 0", lambda f: f(X, X, delta=0)),
        refused(
            "lp_pool2d",
            ValueError,
            "expected a finite norm_type other than 0, got 0",
            lambda f: f(PLANE, 0, 2),
        ),
        refused(
            "avg_pool2d",
            ValueError,
            "expected divisor_override other than 0, got 0",
            lambda f: f(PLANE, 2, divisor_override=0),
        ),
        refused(
            "meshgrid",
            ValueError,
            "expected indexing 'ij' or 'xy', got 'yx'",
            lambda f: f(V, V, indexing="yx"),
        ),
        refused(
            "pad",
            ValueError,
            "expected mode 'constant', 'reflect', 'replicate' or 'circular', got 'mirror'",
            lambda f: f(X, (1, 1), "mirror"),
        ),
        refused(
            "interpolate",
            ValueError,
            "expected either size or scale_factor, got None and None",
            lambda f: f(PLANE),
        ),
        *[
            refused("interpolate", ValueError, message, lambda f, settings=settings: f(PLANE, 2, **settings))
            for message, settings in (
                (
                    "expected antialias in modes ['bilinear', 'bicubic', 'lanczos'] only, got it in 'area'",
                    {"mode": "area", "antialias": True},
                ),
                ("expected antialias, and no align_corners, in mode 'lanczos'", {"mode": "lanczos"}),
                (
                    "expected antialias, and no align_corners, in mode 'lanczos'",
                    {"mode": "lanczos", "antialias": True, "align_corners": True},
                ),
            )
        ],
        *[
            refused(
                "scaled_dot_product_attention",
                ShapeError,
                "expected heads (*, H, S, E) of keys and values that divide those of the queries, got",
                lambda f, q=q, k=k: f(q, k, k, enable_gqa=True),
            )
            for q, k in ((td.ones(3, 2, 2), td.ones(2, 2, 2)), (X, X), (td.ones(2, 2, 2), td.ones(4, 2, 2)))
        ],
        refused(
            "einsum", ValueError, "expected letters, commas, '...' and '->', got 'i1'", lambda f: f("i1", X)
        ),
        refused(
            "einsum",
            TypeError,
            "expected an equation or operands and lists of integers, got int",
            lambda f: f(3, X),
        ),
        refused("tile", ShapeError, "expected counts of at least 0, got (2, -1)", lambda f: f(X, 2, -1)),
        refused("repeat_interleave", ShapeError, "expected counts of at least 0, got -1", lambda f: f(X, -1)),
        refused(
            "repeat_interleave",
            ShapeError,
            "expected 3 counts of at least 0, got (2,)",
            lambda f: f(X, [1, 2], 0),
        ),
        refused("chunk", ShapeError, "expected at least one chunk, got 0", lambda f: f(X, 0)),
        *[
            refused(
                name,
                ValueError,
                "expected reduction 'mean', 'sum' or 'none', got 'max'",
                lambda f, inputs=inputs: f(*inputs, reduction="max"),
            )
            for names, inputs in (
                (
                    "mse_loss l1_loss smooth_l1_loss huber_loss hinge_loss hinge_embedding_loss "
                    "sum_of_squares",
                    (X, X),
                ),
                ("binary_cross_entropy binary_cross_entropy_with_logits poisson_nll_loss", (X, X)),
                ("gaussian_nll_loss triplet_margin_loss", (X, X, X)),
                ("nll_loss multi_margin_loss", (X, FIRST)),
                ("cosine_embedding_loss", (X, X, V)),
            )
            for name in names.split()
        ],
        refused(
            "kl_div",
            ValueError,
            "expected reduction 'mean', 'sum', 'batchmean' or 'none', got 'max'",
            lambda f: f(X, X, "max"),
        ),
    )
    for case in cases
]
