"""What layers and utilities of nn refuse: settings in the constructor, inputs by the name of
the layer or of its function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl import nn

from .refusals import FIRST, INTEGER, INTEGERS, LINE, ONE_SHAPE, VOLUME, YES
from .row import DIM, PLANE, Refusal, V, X

IMAGES = {"1d": (LINE, "C, W"), "2d": (PLANE, "C, H, W"), "3d": (VOLUME, "C, D, H, W")}


def refused(
    names: str, error: type[Exception], message: str, call: Callable[..., Any], who: str = ""
) -> list[Refusal]:
    """`call(layer)` of each name raises `<who>: <message>`, who being the name if nothing else."""
    return [
        Refusal(
            f"nn.{name}",
            partial(call, reduce(getattr, name.split("."), nn)),
            error,
            f"{who or name.split('.')[-1]}: {message}",
        )
        for name in names.split()
    ]


def below(names: str, least: int, got: Any, call: Callable[..., Any], setting: str) -> list[Refusal]:
    """A size in the constructor is too small."""
    return refused(names, ShapeError, f"expected {setting} of at least {least}, got {got!r}", call)


def _spatial(axes: str, image: td.Tensor, names: str) -> list[list[Refusal]]:
    """Convolution and pooling over a number of axes."""
    expected = f"expected input (N, {names}) or ({names}), got (3,)"
    n = int(axes[0])
    return [
        below(f"Conv{axes} ConvTranspose{axes}", 1, 0, lambda f: f(0, 3, 2), "in_channels"),
        below(f"Conv{axes} ConvTranspose{axes}", 1, 0, lambda f: f(2, 3, 2, stride=0), "stride"),
        refused(
            f"Conv{axes} ConvTranspose{axes}",
            ValueError,
            "expected channels divisible by groups=2, got 2 and 3",
            lambda f: f(2, 3, 1, groups=2),
        ),
        refused(
            f"Conv{axes}",
            ShapeError,
            "x has C=2, weight expects C=5 (groups 1)",
            lambda f: f(5, 3, 1)(image),
            f"conv{axes}",
        ),
        refused(
            f"ConvTranspose{axes}",
            ShapeError,
            "x has C=2, weight expects C=5",
            lambda f: f(5, 3, 1)(image),
            f"conv_transpose{axes}",
        ),
        refused(
            f"Conv{axes}",
            ValueError,
            "expected padding sizes, 'same' or 'valid', got 'full'",
            lambda f: f(2, 3, 1, padding="full"),
        ),
        refused(
            f"Conv{axes}",
            ValueError,
            "expected padding_mode one of",
            lambda f: f(2, 3, 1, padding_mode="mirror"),
        ),
        refused(
            f"ConvTranspose{axes}",
            ValueError,
            "expected padding_mode 'zeros', got 'reflect': a transposed convolution has no other",
            lambda f: f(2, 3, 2, padding_mode="reflect"),
        ),
        below(f"ConvTranspose{axes}", 0, -1, lambda f: f(2, 3, 1, output_padding=-1), "output_padding"),
        below(f"MaxPool{axes} AvgPool{axes} MaxUnpool{axes}", 1, 0, lambda f: f(0), "kernel_size"),
        below(f"LPPool{axes}", 1, -1, lambda f: f(2, 2, -1), "stride"),
        refused(
            f"LPPool{axes}", ValueError, "expected a finite norm_type other than 0, got 0", lambda f: f(0, 2)
        ),
        below(f"AdaptiveAvgPool{axes} AdaptiveMaxPool{axes}", 1, 0, lambda f: f(0), "output_size"),
        refused(f"MaxPool{axes}", ShapeError, expected, lambda f: f(2)(V), f"max_pool{axes}"),
        refused(f"AvgPool{axes}", ShapeError, expected, lambda f: f(2)(V), f"avg_pool{axes}"),
        refused(f"LPPool{axes}", ShapeError, expected, lambda f: f(2, 2)(V), f"lp_pool{axes}"),
        refused(f"MaxUnpool{axes}", ShapeError, expected, lambda f: f(2)(V, FIRST), f"max_unpool{axes}"),
        refused(
            f"AdaptiveAvgPool{axes}", ShapeError, expected, lambda f: f(1)(V), f"adaptive_avg_pool{axes}"
        ),
        refused(
            f"AdaptiveMaxPool{axes}", ShapeError, expected, lambda f: f(1)(V), f"adaptive_max_pool{axes}"
        ),
        refused(
            f"BatchNorm{axes}",
            ShapeError,
            "expected input (N, C, *) and weight (C,), got",
            lambda f: f(5)(image),
            "batch_norm",
        ),
        refused(
            f"InstanceNorm{axes}",
            ShapeError,
            f"expected {n + 2}-d input of 5 channels, got {image.shape}",
            lambda f: f(5)(image),
        ),
    ]


REFUSALS: list[Refusal] = [
    case
    for cases in (
        # activations
        refused(
            "Tanh Sigmoid LogSigmoid Softsign Tanhshrink",
            TypeError,
            "expected settings (), got (inplace=True)",
            lambda f: f(inplace=True),
        ),
        refused(
            "ReLU SELU SiLU Mish ReLU6 Hardsigmoid Hardswish",
            TypeError,
            "expected settings (inplace), got (alpha=1.0)",
            lambda f: f(alpha=1.0),
        ),
        refused(
            "LeakyReLU",
            TypeError,
            "expected settings (negative_slope, inplace), got (0.1, True, 1)",
            lambda f: f(0.1, True, 1),
        ),
        refused(
            "ELU CELU", TypeError, "expected settings (alpha, inplace), got (beta=1.0)", lambda f: f(beta=1.0)
        ),
        refused(
            "Threshold", TypeError, "expected settings (threshold, value, inplace), got ()", lambda f: f()
        ),
        refused(
            "SiLU Mish Softsign LeakyReLU ELU",
            DtypeError,
            "expected a tensor for 'input', got str",
            lambda f: f()("a"),
        ),
        refused("ReLU", DtypeError, "expected numbers, got bool", lambda f: f()(YES), "relu"),
        refused(
            "Softshrink",
            ValueError,
            "expected lambd of at least 0, got -1",
            lambda f: f(-1)(X),
            "softshrink",
        ),
        refused(
            "Hardshrink", TypeError, "expected settings (lambd), got (alpha=1.0)", lambda f: f(alpha=1.0)
        ),
        refused("Softmin", TypeError, "expected settings (dim), got (axis=0)", lambda f: f(axis=0)),
        refused("CELU", ValueError, "expected alpha other than 0, got 0", lambda f: f(0)(X), "celu"),
        refused("Softplus", ValueError, "expected beta other than 0, got 0", lambda f: f(0)(X), "softplus"),
        refused(
            "Hardtanh",
            ValueError,
            "expected min_val <= max_val, got 1 and -1",
            lambda f: f(1, -1)(X),
            "hardtanh",
        ),
        refused(
            "GELU",
            ValueError,
            "expected approximate 'none' or 'tanh', got 'sin'",
            lambda f: f("sin")(X),
            "gelu",
        ),
        refused("GLU", ShapeError, "expected an even size along dim 0, got (3, 4)", lambda f: f(0)(X), "glu"),
        refused(
            "Maxout",
            ShapeError,
            "expected a size along dim 1 divisible by num_pieces=3, got (3, 4)",
            lambda f: f(3)(X),
            "maxout",
        ),
        refused(
            "PReLU",
            ShapeError,
            "expected weight (1,) or (C,) for input (N, C, *), got (3,) for (3, 4)",
            lambda f: f(3)(X),
            "prelu",
        ),
        below("PReLU", 1, 0, lambda f: f(0), "num_parameters"),
        refused("Softmax", ShapeError, DIM, lambda f: f(2)(X), "softmax"),
        refused("LogSoftmax", ShapeError, DIM, lambda f: f(2)(X), "log_softmax"),
        refused("Softmax", DtypeError, INTEGER, lambda f: f(1)(INTEGERS), "softmax"),
        # containers
        refused("Sequential", TypeError, "expected a Module or None for '0', got int", lambda f: f(3)),
        refused("ModuleList", TypeError, "expected a Module or None for '0', got int", lambda f: f([3])),
        refused("ModuleDict", TypeError, "expected a Module or None for 'a', got int", lambda f: f({"a": 3})),
        refused(
            "ModuleDict",
            ValueError,
            "expected a name without dots, got 'a.b'",
            lambda f: f({"a.b": nn.Identity()}),
        ),
        refused(
            "ParameterDict",
            DtypeError,
            "expected numbers, got dtype <U1",
            lambda f: f({"a": "b"}),
            "Parameter",
        ),
        refused(
            "ParameterList", DtypeError, "expected numbers, got dtype <U1", lambda f: f(["a"]), "Parameter"
        ),
        refused("Residual", TypeError, "expected a Module for 'body', got int", lambda f: f(3)),
        refused(
            "Residual",
            ShapeError,
            "expected a body that gives the shortcut's shape (3, 4), got (3, 1)",
            lambda f: f(nn.Linear(4, 1))(X),
        ),
        refused("Lambda", TypeError, "expected a function, got int", lambda f: f(3)),
        refused("Flatten", ShapeError, DIM, lambda f: f(2)(X), "flatten"),
        refused("Unflatten", ShapeError, DIM, lambda f: f(2, (2, 2))(X)),
        refused(
            "Unflatten",
            ShapeError,
            "expected sizes for the elements of dim 1 of (3, 4), got (3, -1)",
            lambda f: f(1, (3, -1))(X),
        ),
        refused(
            "Sequential",
            ShapeError,
            "linear: expected input (*, in), weight (out, in), bias (out,), got input (3, 2)",
            lambda f: f(nn.Linear(4, 2), nn.Linear(4, 2))(X),
            "1",
        ),
        # layers with weights
        below("Linear", 0, -1, lambda f: f(-1, 2), "in_features"),
        below("Linear Bilinear", 0, 0.5, lambda f: f(*[2] * (1 + (f is nn.Bilinear)), 0.5), "out_features"),
        refused(
            "Bilinear",
            ShapeError,
            "expected input1 (*, in1), input2 (*, in2), weight (out, in1, in2), got",
            lambda f: f(3, 4, 2)(X, X),
            "bilinear",
        ),
        below("Embedding", 0, -1, lambda f: f(3, -1), "embedding_dim"),
        refused("Embedding", ShapeError, "expected dim in [-3, 2], got 3", lambda f: f(3, 2, 3)),
        refused(
            "Embedding",
            IndexError,
            "expected indices from 0 to 2, got 3 to 3",
            lambda f: f(3, 2)(td.tensor([3])),
            "embedding",
        ),
        refused(
            "Embedding",
            DtypeError,
            "expected an index of integers, got float32",
            lambda f: f(3, 2)(V),
            "embedding",
        ),
        below("EmbeddingBag", 0, -1, lambda f: f(3, -1), "embedding_dim"),
        refused(
            "EmbeddingBag",
            ShapeError,
            "expected _weight (3, 2), got (2, 2)",
            lambda f: f(3, 2, _weight=td.ones(2, 2)),
        ),
        refused(
            "EmbeddingBag",
            ValueError,
            "expected mode of sum, mean, max, got 'min'",
            lambda f: f(3, 2, mode="min"),
        ),
        below("LocallyConnected2d", 1, 0, lambda f: f(2, 3, 4, 0), "kernel_size"),
        *[cases for axes, (image, names) in IMAGES.items() for cases in _spatial(axes, image, names)],
        refused(
            "GlobalAvgPool2d GlobalMaxPool2d",
            ShapeError,
            "expected input (N, C, H, W) or (C, H, W), got (3, 4)",
            lambda f: f()(X),
        ),
        refused(
            "Unfold",
            ShapeError,
            "expected input (N, C, H, W) or (C, H, W), got (3, 4)",
            lambda f: f(2)(X),
            "unfold",
        ),
        below("Unfold", 1, 0, lambda f: f(0), "kernel_size"),
        below("Fold", 1, (4, 0), lambda f: f((4, 0), 2), "output_size"),
        # recurrence and attention
        below("RNNCell LSTMCell GRUCell RNN LSTM GRU", 0, -1, lambda f: f(2, -1), "hidden_size"),
        below("RNN LSTM GRU", 1, 0, lambda f: f(2, 3, 0), "num_layers"),
        refused(
            "RNN LSTM GRU",
            ShapeError,
            "expected input of 2 or 3 dims, the last 2, got (3, 4)",
            lambda f: f(2, 3)(X),
        ),
        refused(
            "RNN GRU", ShapeError, "expected 1 state(s) (1, 2, 3), got (3, 4)", lambda f: f(4, 3)(LINE, X)
        ),
        refused("LSTM", ShapeError, "expected 2 state(s) (1, 2, 3), got (3, 4)", lambda f: f(4, 3)(LINE, X)),
        refused(
            "RNNCell GRUCell", ShapeError, "expected 1 state(s) (3, 2), got (3, 4)", lambda f: f(4, 2)(X, X)
        ),
        refused("LSTMCell", ShapeError, "expected 2 state(s) (3, 2), got (3, 4)", lambda f: f(4, 2)(X, X)),
        refused(
            "RNN LSTM GRU",
            ValueError,
            "expected a probability in [0, 1], got 2",
            lambda f: f(2, 3, dropout=2),
        ),
        refused(
            "RNN",
            ValueError,
            "expected nonlinearity 'tanh' or 'relu', got 'sin'",
            lambda f: f(2, 3, nonlinearity="sin"),
        ),
        refused(
            "MultiheadAttention",
            ValueError,
            "expected embed_dim divisible by num_heads=3, got 4",
            lambda f: f(4, 3),
        ),
        below("MultiheadAttention", 1, 0, lambda f: f(4, 0), "num_heads"),
        below("TransformerEncoder TransformerDecoder", 1, 0, lambda f: f(nn.Linear(2, 2), 0), "num_layers"),
        refused(
            "TransformerEncoderLayer TransformerDecoderLayer",
            ValueError,
            "expected activation 'relu', 'gelu' or a function, got 'silu'",
            lambda f: f(4, 2, activation="silu"),
        ),
        refused(
            "MultiheadAttention",
            ShapeError,
            "expected attn_mask (1, 1) or (4, 1, 1), got (3, 4)",
            lambda f: f(4, 2)(LINE, LINE, LINE, attn_mask=X),
        ),
        # normalization and noise
        below(
            "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d",
            0,
            -1,
            lambda f: f(-1),
            "num_features",
        ),
        refused(
            "SyncBatchNorm", TypeError, "expected process_group None, got 1", lambda f: f(3, process_group=1)
        ),
        below("LayerNorm RMSNorm", 1, (2, 0), lambda f: f((2, 0)), "normalized_shape"),
        refused(
            "LayerNorm",
            ShapeError,
            "expected an input (*, 5) and weight, bias (5,), got (3, 4), (5,), (5,)",
            lambda f: f(5)(X),
            "layer_norm",
        ),
        refused(
            "RMSNorm",
            ShapeError,
            "expected an input (*, 5) and weight, bias (5,), got (3, 4), (5,)",
            lambda f: f(5)(X),
            "rms_norm",
        ),
        refused(
            "GroupNorm",
            ValueError,
            "expected num_channels divisible by num_groups=3, got 4",
            lambda f: f(3, 4),
        ),
        below("GroupNorm", 1, 0, lambda f: f(0, 4), "num_groups"),
        refused(
            "GroupNorm",
            ShapeError,
            "expected weight and bias (2,), got (4,) for input (1, 2, 4)",
            lambda f: f(2, 4)(LINE),
            "group_norm",
        ),
        below("LocalResponseNorm", 1, 0, lambda f: f(0), "size"),
        refused(
            "LocalResponseNorm",
            ShapeError,
            "expected input (N, C, *) and a size of at least 1, got (3, 4) and 2",
            lambda f: f(2)(X),
            "local_response_norm",
        ),
        refused(
            "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout",
            ValueError,
            "expected a probability in [0, 1], got -1",
            lambda f: f(-1),
        ),
        refused("Dropout", ValueError, "expected a probability in [0, 1], got 'high'", lambda f: f("high")),
        refused(
            "Dropout1d",
            ShapeError,
            "expected input (N, C) and 1 spatial dims, got (3,)",
            lambda f: f()(V),
            "dropout1d",
        ),
        refused("GaussianNoise", ValueError, "expected std of at least 0, got -1", lambda f: f(-1)),
        refused("GaussianNoise", DtypeError, INTEGER, lambda f: f()(INTEGERS), "gaussian_noise"),
        # losses
        refused(
            "MSELoss L1Loss SmoothL1Loss HuberLoss BCELoss BCEWithLogitsLoss NLLLoss CrossEntropyLoss",
            ValueError,
            "expected reduction 'mean', 'sum' or 'none', got 'max'",
            lambda f: f(reduction="max"),
        ),
        refused(
            "KLDivLoss",
            ValueError,
            "expected reduction 'mean', 'sum', 'batchmean' or 'none', got 'max'",
            lambda f: f("max"),
        ),
        refused("SmoothL1Loss", ValueError, "expected beta of at least 0, got -1", lambda f: f(beta=-1)),
        refused("HuberLoss", ValueError, "expected delta above 0, got 0", lambda f: f(delta=0)),
        refused(
            "CrossEntropyLoss",
            ValueError,
            "expected label_smoothing in [0, 1], got 2",
            lambda f: f(label_smoothing=2),
        ),
        refused("MSELoss", ShapeError, ONE_SHAPE, lambda f: f()(X, V), "mse_loss"),
        refused("BCELoss", ShapeError, ONE_SHAPE, lambda f: f()(X, V), "binary_cross_entropy"),
        refused(
            "CrossEntropyLoss",
            ShapeError,
            "expected one weight per class (4,), got (3,)",
            lambda f: f(V)(X, FIRST),
            "cross_entropy",
        ),
        refused(
            "NLLLoss",
            ShapeError,
            "expected one weight per class (4,), got (3,)",
            lambda f: f(V)(X, FIRST),
            "nll_loss",
        ),
        # utilities
        refused("checkpoint", TypeError, "expected a function or a Module, got int", lambda f: f(3, X)),
        refused(
            "parameters_to_vector", ShapeError, "expected at least one parameter, got none", lambda f: f([])
        ),
        refused(
            "parameters_to_vector",
            DtypeError,
            "expected one dtype, got float32 and float64",
            lambda f: f([X, X.double()]),
        ),
        refused(
            "vector_to_parameters",
            ShapeError,
            "expected a vector of 3 elements, got (3, 4)",
            lambda f: f(X, [nn.Parameter(V)]),
        ),
        refused(
            "weight_norm",
            ValueError,
            "expected a parameter of Identity (none), got 'weight'",
            lambda f: f(nn.Identity()),
        ),
        refused(
            "weight_norm",
            ShapeError,
            "expected dim in [-1, 1] or None for weight (2, 3), got 2",
            lambda f: f(nn.Linear(3, 2), dim=2),
        ),
        refused("weight_norm", TypeError, "expected a Module, got int", lambda f: f(3)),
        refused("update_bn", TypeError, "expected a Module, got int", lambda f: f([X], 3)),
        refused("get_total_norm", DtypeError, "expected tensors for 'tensors', got int", lambda f: f(3)),
        refused(
            "clip_grad_norm_", ValueError, "max_norm: expected at least 0, got -1.0", lambda f: f(X, -1.0)
        ),
        refused(
            "clip_grads_with_norm_",
            ValueError,
            "max_norm: expected at least 0, got -1.0",
            lambda f: f(X, -1.0, X),
        ),
        refused(
            "clip_grad_value_", ValueError, "clip_value: expected at least 0, got -1.0", lambda f: f(X, -1.0)
        ),
        refused(
            "adaptive_clip_grad_", ValueError, "clip_factor: expected at least 0, got -1", lambda f: f(X, -1)
        ),
        refused("centralize_grad_", DtypeError, "expected tensors for 'parameters', got int", lambda f: f(3)),
        refused(
            "linear_to_conv",
            ShapeError,
            "expected (C, H, W) of 3 elements, got (1, 2, 2)",
            lambda f: f(nn.Linear(3, 2), (1, 2, 2)),
        ),
        refused(
            "linear_to_conv",
            TypeError,
            "expected a Linear, got Identity",
            lambda f: f(nn.Identity(), (1, 2, 2)),
        ),
        refused(
            "conv_to_linear",
            ValueError,
            "expected groups=1, got 2",
            lambda f: f(nn.Conv2d(2, 2, 1, groups=2)),
        ),
        # initialization
        refused(
            "init.zeros_ init.ones_", DtypeError, "expected a tensor for 'tensor', got int", lambda f: f(3)
        ),
        refused("init.constant_", TypeError, "expected a number, got str", lambda f: f(X, "a")),
        refused("init.uniform_ init.normal_", DtypeError, INTEGER, lambda f: f(INTEGERS)),
        refused("init.uniform_", ValueError, "expected a <= b, got 1 and 0", lambda f: f(X, 1, 0)),
        refused("init.normal_", ValueError, "expected std of at least 0, got -1", lambda f: f(X, 0, -1)),
        refused(
            "init.trunc_normal_",
            ValueError,
            "expected std > 0 and a < b, got std=0, a=-2.0, b=2.0",
            lambda f: f(X, 0, 0),
        ),
        refused(
            "init.xavier_uniform_ init.xavier_normal_ init.kaiming_uniform_ init.kaiming_normal_ "
            "init.lecun_uniform_ init.lecun_normal_",
            ShapeError,
            "expected a weight (out, in, *kernel), got (3,)",
            lambda f: f(V),
        ),
        refused(
            "init.kaiming_uniform_ init.kaiming_normal_",
            ValueError,
            "expected mode 'fan_in' or 'fan_out', got 'fan'",
            lambda f: f(X, mode="fan"),
        ),
        refused("init.orthogonal_", ShapeError, "expected at least 2 dims, got (3,)", lambda f: f(V)),
        refused(
            "init.dirac_",
            ShapeError,
            "expected a weight (out, in, *kernel) with out divisible by 1, got (3, 4)",
            lambda f: f(X),
        ),
        refused("init.sparse_", ValueError, "expected sparsity in [0, 1], got 2", lambda f: f(X, 2)),
        refused("init.calculate_gain", ValueError, "expected one of", lambda f: f("sin")),
    )
    for case in cases
]
