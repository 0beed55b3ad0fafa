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
ACTIVATIONS: dict[
    str, tuple[str, int, Settings]
] = {  # layer: operator, the opset that brought it, attributes
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
    "Threshold": (
        "ThresholdedRelu",
        10,
        lambda layer: {"alpha": layer.threshold} if layer.value == 0 else None,
    ),
}


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
