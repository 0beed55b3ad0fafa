"""Layers in both modes. Inputs are x and the parameters; in evaluation also the running
statistics, which are fixed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn
from tinydl.engine.core import Tensor
from tinydl.nn import functional_call

from . import references as ref
from .norm import drawn, grouped, kept, responses, running
from .row import (
    PLANE,
    Row,
    Sample,
    Spec,
    V,
    X,
    apart,
    normal,
    positive,
    samples_of,
)


@dataclass(frozen=True)
class LayerCall:
    """The call of a layer's row: tensors -> what the layer gives for them."""

    make: Callable[[Any], Any]  # dtype -> the layer
    training: bool
    inputs: int  # so many tensors are what the layer is called on; its parameters and buffers follow

    def __call__(self, *given: Tensor) -> Any:
        dtypes = [x.dtype for x in given if isinstance(x, Tensor)]
        floating = [dtype for dtype in dtypes if dtype.kind == "f"] or [td.float64]
        module = _made(self, floating[-1], given[0].device)  # as the parameters, where there are any
        names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
        state = dict(zip(names, given[self.inputs :], strict=False))
        return functional_call(module, state, given[: self.inputs])


@functools.cache
def _made(call: LayerCall, dtype: Any, device: Any) -> nn.Module:
    return _quietly(call.make, dtype).train(call.training).to(device)


def layer(
    name: str,
    make: Callable[[Any], nn.Module],
    samples: Sequence[Sample],
    reference: Any,
    evaluation: Any = None,
    inputs: int = 1,
    **more: Any,
) -> list[Row]:
    """`make(dtype)` gives the layer, called on the first `inputs`; `evaluation` has (samples,
    reference) where that differs.
    """
    kind = name.split()
    rows = []
    for mode in ("train", "eval"):
        chosen, expected = evaluation if evaluation and mode == "eval" else (samples, reference)
        fixed = tuple(range(len(samples[0]), len(chosen[0])))
        rows.append(
            Row(
                " ".join([f"nn.{kind[0]}", mode, *kind[1:]]),
                LayerCall(make, mode == "train", inputs),
                chosen,
                expected,
                fixed=fixed,
                **more,
            )
        )
    return rows


def _quietly(make: Callable[[Any], nn.Module], dtype: Any) -> nn.Module:
    with td.backend("reference"), td.random_from(td.Generator()):
        return make(dtype)


def _affine(n: int) -> list[Spec]:
    return [(n,), (n,)]


def _in_evaluation(*shape: int) -> Any:
    """Running statistics follow the parameters among the inputs."""
    n = shape[1]
    return [[shape, *_affine(n), (n,), positive(n)]], lambda x, w, b, mean, var: running(x, mean, var, w, b)


def _held(make: Callable[[], nn.Module], forward: Callable[..., Any]) -> Callable[[Any], nn.Module]:
    """A module that only holds others (or parameters), as part of one that calls them."""

    def build(dtype: Any) -> nn.Module:
        class Holder(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.held = make()

            def forward(self, x: Tensor) -> Any:
                return forward(self.held, x)

        return Holder()

    return build


def _attention(q: Any, k: Any, v: Any, w: Any, b: Any, w_out: Any, b_out: Any) -> Any:
    """Two heads; (length, N, E)."""
    parts = [
        (x @ w[4 * i : 4 * i + 4].T + b[4 * i : 4 * i + 4])
        .transpose(1, 0, 2)
        .reshape(2, -1, 2, 2)
        .swapaxes(1, 2)
        for i, x in enumerate((q, k, v))
    ]
    heads = ref.attention(*parts).swapaxes(1, 2).reshape(2, -1, 4)
    scores = np.exp(parts[0] @ parts[1].swapaxes(-1, -2) / np.sqrt(2))
    return (heads @ w_out.T + b_out).swapaxes(0, 1), (scores / scores.sum(-1, keepdims=True)).mean(1)


def _rnn(i: Any, h: Any, state: Any) -> Any:
    return (np.tanh(i + h),)


def _lstm(i: Any, h: Any, state: Any) -> Any:
    enter, forget, new, out = np.split(i + h, 4, -1)
    c = special.expit(forget) * state[1] + special.expit(enter) * np.tanh(new)
    return special.expit(out) * np.tanh(c), c


def _gru(i: Any, h: Any, state: Any) -> Any:
    (r, z, n), (r_h, z_h, n_h) = np.split(i, 3, -1), np.split(h, 3, -1)
    z = special.expit(z + z_h)
    return ((1 - z) * np.tanh(n + special.expit(r + r_h) * n_h) + z * state[0],)


def _cell(update: Any, states: int) -> Any:
    def run(x: Any, w: Any, u: Any, b: Any, c: Any) -> Any:
        zeros = (np.zeros((len(x), u.shape[1])),) * states
        return update(x @ w.T + b, zeros[0] @ u.T + c, zeros)

    return run


def _unrolled(update: Any, states: int) -> Any:
    """One layer, one direction: (output, final state)."""

    def run(x: Any, w: Any, u: Any, b: Any, c: Any) -> Any:
        state, outputs = (np.zeros((x.shape[1], u.shape[1])),) * states, []
        for step in x:
            state = update(step @ w.T + b, state[0] @ u.T + c, state)
            outputs.append(state[0])
        return (np.stack(outputs), *(s[None] for s in state))

    return run


def _flat_state(make: Callable[[Any], nn.Module]) -> Callable[[Any], nn.Module]:
    """The output, then the parts of the final state, as one tuple."""

    def build(dtype: Any) -> nn.Module:
        class Flat(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = make(dtype)

            def forward(self, x: Tensor) -> Any:
                y, state = self.layer(x)
                return (y, *state) if isinstance(state, tuple) else (y, state)

        return Flat()

    return build


DROPOUTS = {
    "Dropout": td.dropout,
    "Dropout1d": td.dropout1d,
    "Dropout2d": td.dropout2d,
    "Dropout3d": td.dropout3d,
    "AlphaDropout": td.alpha_dropout,
}
SELU = (1.0507009873554805, 1.6732632423543772)
IMAGES = [[(2, 2, 4, 6)]]
ROWS: list[Row] = [
    *layer("Identity", lambda dtype: nn.Identity(), samples_of(normal), np.asarray),
    *layer("DataParallel", lambda dtype: nn.DataParallel(nn.Identity()), samples_of(normal), np.asarray),
    *[
        row
        for name, settings, reference in (
            ("ReLU", (), lambda x: np.maximum(x, 0)),
            ("Tanh", (), np.tanh),
            ("Sigmoid", (), special.expit),
            ("LogSigmoid", (), special.log_expit),
            ("LeakyReLU", (0.1,), lambda x: np.where(x > 0, x, 0.1 * x)),
            ("ELU", (0.7,), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
            ("SELU", (), lambda x: SELU[0] * np.where(x > 0, x, SELU[1] * np.expm1(x))),
            ("CELU", (0.7,), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x / 0.7))),
            ("GELU", (), lambda x: x * special.ndtr(x)),
            ("SiLU", (), lambda x: x * special.expit(x)),
            ("Mish", (), lambda x: x * np.tanh(np.logaddexp(0, x))),
            ("Softplus", (1.5,), lambda x: np.logaddexp(0, 1.5 * x) / 1.5),
            ("Softsign", (), lambda x: x / (1 + np.abs(x))),
            ("Hardtanh", (-0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7)),
            ("Hardshrink", (0.3,), lambda x: np.where(np.abs(x) > 0.3, x, 0)),
            ("Softshrink", (0.3,), lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.3, 0)),
            ("Tanhshrink", (), lambda x: x - np.tanh(x)),
            ("ReLU6", (), lambda x: np.clip(x, 0, 6)),
            ("Hardsigmoid", (), lambda x: np.clip(x + 3, 0, 6) / 6),
            ("Hardswish", (), lambda x: x * np.clip(x + 3, 0, 6) / 6),
            ("Threshold", (0.1, 20.0), lambda x: np.where(x > 0.1, x, 20.0)),
            ("Softmax", (), lambda x: special.softmax(x, -1)),
            ("Softmin", (), lambda x: special.softmax(-x, -1)),
            ("LogSoftmax", (0,), lambda x: special.log_softmax(x, 0)),
            ("GLU", (), lambda x: x[:, :2] * special.expit(x[:, 2:])),
            ("Maxout", (2,), lambda x: np.maximum(x[:, ::2], x[:, 1::2])),
        )
        for row in layer(
            name,
            lambda dtype, name=name, settings=settings: getattr(nn, name)(*settings),
            [[apart(3, 4)]],
            reference,
        )
    ],
    *layer(
        "PReLU",
        lambda dtype: nn.PReLU(4, dtype=dtype),
        [[(3, 4), (4,)]],
        lambda x, w: np.where(x > 0, x, w * x),
    ),
    *layer("Lambda", lambda dtype: nn.Lambda(td.exp), [[(3, 4)]], np.exp),
    *layer("Unflatten", lambda dtype: nn.Unflatten(1, (2, -1)), [[(3, 4)]], lambda x: x.reshape(3, 2, 2)),
    *layer(
        "Residual",
        lambda dtype: nn.Residual(nn.Linear(4, 4, dtype=dtype)),
        [[(3, 4), (4, 4), (4,)]],
        lambda x, w, b: x + x @ w.T + b,
    ),
    *layer(
        "ModuleList",
        _held(lambda: nn.ModuleList([nn.Tanh()]), lambda held, x: held[0](x)),
        [[(3, 4)]],
        np.tanh,
    ),
    *layer(
        "ModuleDict",
        _held(lambda: nn.ModuleDict({"a": nn.Tanh()}), lambda held, x: held["a"](x)),
        [[(3, 4)]],
        np.tanh,
    ),
    *layer(
        "ParameterDict",
        _held(lambda: nn.ParameterDict({"a": td.ones(4)}), lambda held, x: x * held["a"]),
        [[(3, 4), (4,)]],
        np.multiply,
    ),
    *layer(
        "ParameterList",
        _held(lambda: nn.ParameterList([td.ones(4)]), lambda held, x: x * held[0]),
        [[(3, 4), (4,)]],
        np.multiply,
    ),
    *layer(
        "Bilinear",
        lambda dtype: nn.Bilinear(3, 2, 4, dtype=dtype),
        [[(5, 3), (5, 2), (4, 3, 2), (4,)]],
        lambda x, y, w, b: np.einsum("ni,oij,nj->no", x, w, y) + b,
        inputs=2,
    ),
    *layer("Flatten", lambda dtype: nn.Flatten(), IMAGES, lambda x: x.reshape(len(x), -1)),
    *layer(
        "Linear",
        lambda dtype: nn.Linear(4, 3, dtype=dtype),
        [[(5, 4), (3, 4), (3,)], [(1, 4), (3, 4), (3,)]],
        lambda x, w, b: x @ w.T + b,
        bad=[
            (
                (td.ones(2, 5),),
                ShapeError,
                "linear: expected input (*, in), weight (out, in), bias (out,), got input (2, 5)",
            )
        ],
    ),
    *layer(
        "Linear plain",
        lambda dtype: nn.Linear(4, 3, bias=False, dtype=dtype),
        [[(2, 3, 4), (3, 4)]],
        lambda x, w: x @ w.T,
    ),
    *layer(
        "BatchNorm1d",
        lambda dtype: nn.BatchNorm1d(3, dtype=dtype),
        [[(5, 3), *_affine(3)], [(2, 3, 4), *_affine(3)]],
        ref.batch_norm,
        _in_evaluation(5, 3),
        bad=[((PLANE,), ShapeError, "BatchNorm1d: expected 2-d or 3-d input, got (1, 2, 4, 4)")],
        tolerance=1e-4,
    ),
    *layer(
        "BatchNorm2d",
        lambda dtype: nn.BatchNorm2d(3, dtype=dtype),
        [[(4, 3, 2, 2), *_affine(3)]],
        ref.batch_norm,
        _in_evaluation(4, 3, 2, 2),
        bad=[((X,), ShapeError, "BatchNorm2d: expected 4-d input, got (3, 4)")],
        tolerance=1e-4,
    ),
    *layer(
        "BatchNorm2d cumulative",
        lambda dtype: nn.BatchNorm2d(3, momentum=None, dtype=dtype),
        [[(4, 3, 2, 2), *_affine(3)]],
        ref.batch_norm,
        _in_evaluation(4, 3, 2, 2),
        tolerance=1e-4,
    ),
    *layer(
        "BatchNorm1d untracked",
        lambda dtype: nn.BatchNorm1d(3, affine=False, track_running_stats=False, dtype=dtype),
        [[(5, 3)]],
        ref.batch_norm,
        tolerance=1e-4,
    ),
    *layer(
        "BatchNorm3d",
        lambda dtype: nn.BatchNorm3d(3, dtype=dtype),
        [[(2, 3, 2, 1, 2), *_affine(3)]],
        ref.batch_norm,
        _in_evaluation(2, 3, 2, 1, 2),
        bad=[((X,), ShapeError, "BatchNorm3d: expected 5-d input, got (3, 4)")],
        tolerance=1e-4,
    ),
    *layer(
        "SyncBatchNorm",
        lambda dtype: nn.SyncBatchNorm(3, dtype=dtype),
        [[(4, 3, 2, 2), *_affine(3)], [(5, 3), *_affine(3)]],
        ref.batch_norm,
        _in_evaluation(4, 3, 2, 2),
        bad=[((td.ones(3),), ShapeError, "SyncBatchNorm: expected 2-d or 3-d or 4-d or 5-d input, got (3,)")],
        tolerance=1e-4,
    ),
    *[
        row
        for name, shape in (
            ("InstanceNorm1d", (3, 2, 5)),
            ("InstanceNorm2d", (3, 2, 2, 3)),
            ("InstanceNorm3d", (2, 2, 2, 1, 2)),
        )
        for row in layer(
            name,
            lambda dtype, name=name: getattr(nn, name)(2, affine=True, dtype=dtype),
            [[shape, *_affine(2)]],
            lambda x, w, b: (
                ref.normalized(x, tuple(range(2, x.ndim)), 1e-5) * ref.channels(w, x) + ref.channels(b, x)
            ),
            bad=[((X,), ShapeError, f"{name}: expected")],
            tolerance=1e-4,
        )
    ],
    *layer(
        "LayerNorm",
        lambda dtype: nn.LayerNorm(4, dtype=dtype),
        [[(3, 4), *_affine(4)]],
        lambda x, w, b: ref.normalized(x, -1, 1e-5) * w + b,
        tolerance=1e-4,
    ),
    *layer(
        "RMSNorm",
        lambda dtype: nn.RMSNorm(4, 1e-5, dtype=dtype),
        [[(3, 4), (4,)]],
        lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w,
    ),
    *layer(
        "GroupNorm",
        lambda dtype: nn.GroupNorm(2, 4, dtype=dtype),
        [[(3, 4, 2), *_affine(4)]],
        grouped,
        tolerance=1e-4,
    ),
    *layer("LocalResponseNorm", lambda dtype: nn.LocalResponseNorm(3, 0.5), [[(2, 5, 3)]], responses),
    *[
        row
        for name, shape in (
            ("Dropout", (5, 7)),
            ("Dropout1d", (3, 4, 5)),
            ("Dropout2d", (3, 4, 2, 2)),
            ("Dropout3d", (3, 4, 2, 1, 2)),
            ("AlphaDropout", (5, 7)),
        )
        for row in layer(
            name,
            lambda dtype, name=name: getattr(nn, name)(0.4),
            [[shape]],
            lambda x, name=name: kept(DROPOUTS[name], x),
            ([[shape]], np.asarray),
        )
    ],
    *layer(
        "GaussianNoise",
        lambda dtype: nn.GaussianNoise(0.5),
        [[(5, 7)]],
        lambda x: x + 0.5 * drawn(x.shape),
        ([[(5, 7)]], np.asarray),
        dtypes=[np.float64],
    ),
    *layer(
        "MultiheadAttention",
        lambda dtype: nn.MultiheadAttention(4, 2, dtype=dtype),
        [[(3, 2, 4), (5, 2, 4), (5, 2, 4), (12, 4), (12,), (4, 4), (4,)]],
        _attention,
        inputs=3,
        bad=[
            (
                (V, V, V),
                ShapeError,
                "MultiheadAttention: expected query, key, value of 2 or 3 dims, the last 4, got",
            )
        ],
    ),
    *[
        row
        for kind, update, gates, states in (("RNN", _rnn, 1, 1), ("LSTM", _lstm, 4, 2), ("GRU", _gru, 3, 1))
        for weights in [[(3 * gates, 2), (3 * gates, 3), (3 * gates,), (3 * gates,)]]
        for row in (
            *layer(
                f"{kind}Cell",
                lambda dtype, kind=kind: getattr(nn, f"{kind}Cell")(2, 3, dtype=dtype),
                [[(4, 2), *weights]],
                _cell(update, states),
                bad=[((X,), ShapeError, f"{kind}Cell: expected input (N, 2), got (3, 4)")],
            ),
            *layer(
                kind,
                _flat_state(lambda dtype, kind=kind: getattr(nn, kind)(2, 3, dtype=dtype)),
                [[(4, 2, 2), *weights]],
                _unrolled(update, states),
            ),
        )
    ],
    *layer(
        "Sequential",
        lambda dtype: nn.Sequential(nn.Linear(4, 3, dtype=dtype), nn.Tanh(), nn.Linear(3, 2, dtype=dtype)),
        [[(5, 4), (3, 4), (3,), (2, 3), (2,)]],
        lambda x, w, b, v, c: np.tanh(x @ w.T + b) @ v.T + c,
    ),
]
