"""Layers that ONNX has an operator for. What comes back as None, since the opset or a setting has none, is
written primitive by primitive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..writer import Call, Writer
from .table import Emission, emission

Settings = Callable[[Any], dict[str, Any] | None]  # of the layer; None: it has no such form
ACTIVATIONS: dict[str, tuple[str, int, Settings]] = {
    "CELU": ("Celu", 12, lambda layer: {"alpha": layer.alpha}),
    "ELU": ("Elu", 6, lambda layer: {"alpha": layer.alpha}),
    "GELU": ("Gelu", 20, lambda layer: {"approximate": layer.approximate}),
    "Hardsigmoid": ("HardSigmoid", 6, lambda layer: {"alpha": 1 / 6}),
    "Hardswish": ("HardSwish", 14, lambda layer: {}),
    "LeakyReLU": ("LeakyRelu", 6, lambda layer: {"alpha": layer.negative_slope}),
    "Mish": ("Mish", 18, lambda layer: {}),
    "SELU": ("Selu", 6, lambda layer: {}),
    "Softplus": ("Softplus", 1, lambda layer: {} if layer.beta == 1 else None),
    "Softsign": ("Softsign", 1, lambda layer: {}),
    "Threshold": ("ThresholdedRelu", 10, lambda layer: None if layer.value else {"alpha": layer.threshold}),
}
"""The operator of a layer, the opset that brought it, its attributes."""


def _activation(kind: str, since: int, settings: Settings) -> Emission:
    def emit(w: Writer, call: Call, twin: Call) -> str | None:
        attributes = settings(call.settings["layer"]) if w.opset >= since else None
        return None if attributes is None else w.node(kind, w.given(call, twin), **attributes)

    return emit


for _key, _form in ACTIVATIONS.items():
    emission(f"nn.{_key}")(_activation(*_form))


@emission("nn.PReLU")
def prelu(w: Writer, call: Call, twin: Call) -> str:
    [x], weight = w.given(call, twin), call.settings["layer"].weight.array
    slope = w.name(weight, weight)
    if weight.size > 1:
        slope = w.node("Reshape", [slope, w.constant([-1, *[1] * (call.inputs[0].ndim - 2)], np.int64)])
    return w.node("PRelu", [x, slope])


# ---- Normalizations


def _channels(w: Writer, call: Call, *names: str) -> list[str]:
    """The layer's tensors of these names; where it has none a bias is zeros, a weight ones."""
    x, found = call.inputs[0], []
    for name in names:
        own = getattr(call.settings["layer"], name)
        plain = np.full(x.shape[1], name == "weight", x.dtype)
        found.append(w.constant(plain) if own is None else w.name(own.array, own.array))
    return found


@emission("nn.BatchNorm1d", "nn.BatchNorm2d", "nn.BatchNorm3d")
def batch_norm(w: Writer, call: Call, twin: Call) -> str | None:
    layer = call.settings["layer"]
    if not layer.track_running_stats:
        return None
    tensors = _channels(w, call, "weight", "bias", "running_mean", "running_var")
    return w.node("BatchNormalization", [*w.given(call, twin), *tensors], epsilon=layer.eps)


@emission("nn.InstanceNorm1d", "nn.InstanceNorm2d", "nn.InstanceNorm3d")
def instance_norm(w: Writer, call: Call, twin: Call) -> str | None:
    layer = call.settings["layer"]
    if layer.track_running_stats or call.inputs[0].ndim != layer.ndim:
        return None
    tensors = _channels(w, call, "weight", "bias")
    return w.node("InstanceNormalization", [*w.given(call, twin), *tensors], epsilon=layer.eps)


@emission("nn.GroupNorm")
def group_norm(w: Writer, call: Call, twin: Call) -> str | None:
    layer = call.settings["layer"]
    if w.opset < 21:
        return None
    inputs = [*w.given(call, twin), *_channels(w, call, "weight", "bias")]
    return w.node("GroupNormalization", inputs, num_groups=layer.num_groups, epsilon=layer.eps)


@emission("nn.LayerNorm")
def layer_norm(w: Writer, call: Call, twin: Call) -> str | None:
    layer = call.settings["layer"]
    if w.opset < 17 or layer.weight is None:
        return None
    own = [x.array for x in (layer.weight, layer.bias) if x is not None]
    inputs = [*w.given(call, twin), *(w.name(x, x) for x in own)]
    return w.node("LayerNormalization", inputs, axis=-len(layer.normalized_shape), epsilon=layer.eps)


@emission("nn.LocalResponseNorm")
def local_response_norm(w: Writer, call: Call, twin: Call) -> str | None:
    """Of an even number of channels ONNX has the odd one at the other end."""
    layer = call.settings["layer"]
    if layer.size % 2 == 0 or call.inputs[0].ndim != 4:
        return None
    settings = {"size": layer.size, "alpha": layer.alpha, "beta": layer.beta, "bias": layer.k}
    return w.node("LRN", w.given(call, twin), **settings)


# ---- Recurrent layers

GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}
"""Which of our gates stands where in ONNX."""


@emission("nn.RNN", "nn.GRU", "nn.LSTM")
def recurrent(w: Writer, call: Call, twin: Call) -> list[str] | None:
    """A node for each layer, with both directions; not with lengths, which `where` tells, or projections."""
    layer, calls = call.settings["layer"], call.settings["calls"]
    if call.inputs[0].ndim != 3 or layer.proj_size or any(part.name == "where" for part in calls):
        return None
    [y, *states], kind, finals = w.given(call, twin), type(layer).__name__, []
    y = w.node("Transpose", [y], perm=[1, 0, 2]) if layer.batch_first else y
    for k, suffixes in enumerate(layer.suffixes):
        inputs = [y, *(_of_directions(w, layer, [name], suffixes) for name in ("weight_ih", "weight_hh"))]
        inputs.append(_of_directions(w, layer, ["bias_ih", "bias_hh"], suffixes) if layer.has_bias else "")
        size = len(suffixes)
        ends = [w.constant([n], np.int64) for n in (k * size, (k + 1) * size, 0)]
        inputs += ["", *(w.node("Slice", [state, *ends]) for state in states)] if states else []
        settings: dict[str, Any] = {"hidden_size": layer.hidden_size}
        settings["direction"] = "bidirectional" if layer.bidirectional else "forward"
        if kind == "GRU":
            settings["linear_before_reset"] = 1
        if kind == "RNN":
            settings["activations"] = [_nonlinearity(calls)] * size
        y, *final = w.node(kind, inputs, 1 + layer.states, **settings)
        y = w.node("Reshape", [w.node("Transpose", [y], perm=[0, 2, 1, 3]), w.constant([0, 0, -1], np.int64)])
        finals.append(final)
    y = w.node("Transpose", [y], perm=[1, 0, 2]) if layer.batch_first else y
    return [y, *(w.node("Concat", list(parts), axis=0) for parts in zip(*finals, strict=True))]


def _nonlinearity(calls: list[Call]) -> str:
    return "Relu" if any(part.settings.get("cell") == "relu" for part in calls) else "Tanh"


@emission("recurrent.layer")
def one_direction(w: Writer, call: Call, twin: Call) -> list[str]:
    """A node whose input has the gates' inputs already: its weights for them are a unit matrix, which brings
    the gates in ONNX's order.
    """
    arrays, settings, weight = call.inputs, call.settings, call.inputs[1]
    cell, (rows, units) = settings["cell"], weight.shape
    kind = {"lstm": "LSTM", "gru": "GRU"}.get(cell, "RNN")
    order = np.arange(rows).reshape(-1, units)[GATES[kind]].ravel()
    p, own, b, *state, lengths = [
        "" if x is None else w.name(x, y) for x, y in zip(arrays, twin.inputs, strict=True)
    ]
    unit = w.constant(np.eye(rows, dtype=weight.dtype)[None, order])
    places, first = w.constant(order, np.int64), w.constant([0], np.int64)

    def ordered(x: str) -> str:
        return w.node("Unsqueeze", [w.node("Gather", [x, places], axis=0), first])

    zeros = w.constant(np.zeros((1, rows), weight.dtype))
    biases = w.node("Concat", [zeros, ordered(b)], axis=1) if b else ""
    ends = w.cast(lengths, np.int32) if lengths else ""
    states = [w.node("Unsqueeze", [s, first]) if s else "" for s in state[: 1 + (cell == "lstm")]]
    attributes: dict[str, Any] = {"hidden_size": units}
    attributes["direction"] = "reverse" if settings["reverse"] else "forward"
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        attributes["activations"] = ["Relu" if cell == "relu" else "Tanh"]
    made = w.node(kind, [p, unit, ordered(own), biases, ends, *states], 1 + len(states), **attributes)
    y, *final = made
    return [w.node("Squeeze", [x, w.constant([d], np.int64)]) for x, d in ((y, 1), *((s, 0) for s in final))]


def _of_directions(w: Writer, layer: Any, names: list[str], suffixes: list[str]) -> str:
    """The tensors of these names, one behind the other, for each direction: (directions, rows, ...)."""
    sizes, rows = w.constant([layer.hidden_size] * layer.gates, np.int64), []
    for suffix in suffixes:
        parts = []
        for name in names:
            array = getattr(layer, name + suffix).array
            own = w.name(array, array)
            gates = w.node("Split", [own, sizes], layer.gates, axis=0) if layer.gates > 1 else [own]
            parts += [gates[i] for i in GATES[type(layer).__name__]]
        whole = w.node("Concat", parts, axis=0) if len(parts) > 1 else parts[0]
        rows.append(w.node("Unsqueeze", [whole, w.constant([0], np.int64)]))
    return w.node("Concat", rows, axis=0)
