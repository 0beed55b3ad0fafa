"""The networks in JAX: functions of (parameters by the names of cases.py, running statistics, x)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .cases import EPS, VGG

Params = dict[str, Any]
MOMENTUM = 0.1


def conv(x: Any, w: Any, stride: int = 1, pad: int = 0, dilation: int = 1, groups: int = 1) -> Any:
    """Cross-correlation of x (N, C, H, W) with w (O, C / groups, KH, KW)."""
    return lax.conv_general_dilated(
        x, w, (stride,) * 2, ((pad, pad),) * 2, rhs_dilation=(dilation,) * 2, feature_group_count=groups,
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )  # fmt: skip


def max_pool(x: Any, k: int = 2, stride: int = 2, pad: int = 0) -> Any:
    low, strides = ((0, 0), (0, 0), (pad, pad), (pad, pad)), (1, 1, stride, stride)
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, k, k), strides, low)


def normalize(x: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
    """Batch normalization of (N, C, H, W) and the statistics, the variance biased."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    spread = (slice(None), None, None)
    y = (x - mean[spread]) * (gamma * lax.rsqrt(var + EPS))[spread] + beta[spread]
    return y, mean, var


def losses(logits: Any, y: Any) -> Any:
    """Cross-entropy (N,)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)[:, 0]


def _conv(p: Params, name: str, x: Any, pad: int = 0) -> Any:
    return conv(x, p[f"{name}.weight"], pad=pad) + p[f"{name}.bias"][:, None, None]


def _linear(p: Params, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def mlp(p: Params, stats: Params, x: Any) -> tuple[Any, Params]:
    h = jax.nn.relu(_linear(p, "0", x))
    return _linear(p, "4", jax.nn.relu(_linear(p, "2", h))), stats


def lenet(p: Params, stats: Params, x: Any) -> tuple[Any, Params]:
    h = jax.nn.relu(max_pool(_conv(p, "conv1", x, 2)))
    h = jax.nn.relu(max_pool(_conv(p, "conv2", h)))
    h = jax.nn.relu(_conv(p, "conv3", h)).reshape(len(x), -1)
    return _linear(p, "fc2", jax.nn.relu(_linear(p, "fc1", h))), stats


def caffe(p: Params, stats: Params, x: Any) -> tuple[Any, Params]:
    h = max_pool(_conv(p, "2", max_pool(_conv(p, "0", x)))).reshape(len(x), -1)
    return _linear(p, "7", jax.nn.relu(_linear(p, "5", h))), stats


def _normalized(p: Params, stats: Params) -> tuple[Any, Params]:
    """A layer, a 3×3 convolution and BatchNorm by their names, and where it puts the running statistics."""
    moved = {}

    def layer(conv_name: str, norm_name: str, h: Any, stride: int = 1) -> Any:
        h = conv(h, p[f"{conv_name}.weight"], stride, 1)
        h, mean, var = normalize(h, p[f"{norm_name}.weight"], p[f"{norm_name}.bias"])
        n = h.size // h.shape[1]
        for name, now in (("running_mean", mean), ("running_var", var * (n / (n - 1)))):
            key = f"{norm_name}.{name}"
            moved[key] = (1 - MOMENTUM) * stats[key] + MOMENTUM * lax.stop_gradient(now)
        return h

    return layer, moved


def vgg(p: Params, stats: Params, x: Any) -> tuple[Any, Params]:
    layer, moved = _normalized(p, stats)
    h = x
    for block in range(len(VGG)):
        for at in (7 * block, 7 * block + 3):
            h = jax.nn.relu(layer(str(at), str(at + 1), h))
        h = max_pool(h)
    return _linear(p, "22", h.reshape(len(x), -1)), moved


def resnet20(p: Params, stats: Params, x: Any) -> tuple[Any, Params]:
    layer, moved = _normalized(p, stats)
    h = jax.nn.relu(layer("conv1", "bn1", x))
    for group in (1, 2, 3):
        for block in (0, 1, 2):
            grows = group > 1 and block == 0
            name, stride = f"layer{group}.{block}", 2 if grows else 1
            y = jax.nn.relu(layer(f"{name}.conv1", f"{name}.bn1", h, stride))
            y = layer(f"{name}.conv2", f"{name}.bn2", y)
            if grows:
                half = (y.shape[1] - h.shape[1]) // 2
                h = jnp.pad(h[:, :, ::2, ::2], ((0, 0), (half, half), (0, 0), (0, 0)))
            h = jax.nn.relu(y + h)
    return _linear(p, "linear", h.mean((2, 3))), moved


MODELS = {"mlp": mlp, "lenet": lenet, "caffe": caffe, "vgg": vgg, "resnet20": resnet20}


def statistics(params: Params) -> Params:
    """Running statistics for each batch normalization: the layers whose weights are vectors."""
    norms = [
        (name.removesuffix(".weight"), p)
        for name, p in params.items()
        if name.endswith(".weight") and p.ndim == 1
    ]
    zeros = {f"{name}.running_mean": jnp.zeros_like(p) for name, p in norms}
    return zeros | {f"{name}.running_var": jnp.ones_like(p) for name, p in norms}


def adam(params: Any, grads: Any, m: Any, v: Any, step: Any, lr: float) -> tuple[Any, ...]:
    """(params, m, v) after step number `step`, from 1. Kingma & Ba, arXiv 1412.6980."""
    tree = jax.tree_util.tree_map
    m = tree(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
    v = tree(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
    first, second = 1 - 0.9**step, 1 - 0.999**step
    return tree(lambda p, a, b: p - lr * (a / first) / (jnp.sqrt(b / second) + 1e-8), params, m, v), m, v
