"""Normalizations."""

from __future__ import annotations

from typing import Any

from ....engine.core import Tensor
from . import operations as td
from .table import Node, operator, require


def _per_channel(v: Tensor, ndim: int) -> Tensor:
    return v.reshape((1, -1) + (1,) * (ndim - 2))


def _scaled(x: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if scale is None else td.mul(x, scale)
    return x if bias is None else td.add(x, bias)


@operator("BatchNormalization", trained=(1, 2))
def batch_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Any:
    """In training also the running statistics that follow: those of the population, old · momentum + new ·
    (1 - momentum).
    """
    eps, momentum = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    if not node.get("training_mode", 0):
        return td.batch_norm(x, mean, var, scale, bias, eps=eps)
    require(node, node.opset >= 14, "training mode below opset 14")
    y = td.batch_norm(x, None, None, scale, bias, training=True, eps=eps)
    found_var, found_mean = td.var_mean(x, [0, *range(2, x.ndim)], correction=0)
    running = [
        td.add(td.mul(old, momentum), td.mul(new, 1 - momentum))
        for old, new in ((mean, found_mean), (var, found_var))
    ]
    return (y, *running)[: len(node.outputs)]


@operator("InstanceNormalization", trained=(1, 2))
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return td.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization", trained=(1, 2))
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    axis, eps = node.get("axis", -1) % x.ndim, node.get("epsilon", 1e-5)
    dims = tuple(range(axis, x.ndim))
    whole = scale.shape == x.shape[axis:] and (bias is None or bias.shape == scale.shape)
    if len(node.outputs) == 1 and whole:
        return td.layer_norm(x, x.shape[axis:], scale, bias, eps)
    var, mean = td.var_mean(x, dims, keepdim=True, correction=0)
    spread = td.rsqrt(td.add(var, eps))
    return (_scaled(td.mul(td.sub(x, mean), spread), scale, bias), mean, spread)[: len(node.outputs)]


@operator("GroupNormalization", trained=(1, 2))
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before opset 21 scale and bias are of groups."""
    groups = node.get("num_groups")
    if node.opset < 21:
        each = x.shape[1] // groups
        scale, bias = (td.repeat_interleave(v, each) for v in (scale, bias))
    return td.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@operator("RMSNormalization", trained=(1,))
def rms_normalization(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    dims = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    squares = td.mean(td.square(x), dims, True)
    return td.mul(td.mul(x, td.rsqrt(td.add(squares, node.get("epsilon", 1e-5)))), scale)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    dims = tuple(node.get("axes", [0, 2, 3]))
    var, mean = td.var_mean(x, dims, keepdim=True, correction=0)
    return td.div(td.sub(x, mean), td.add(td.sqrt(var), 1e-9))


@operator("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    """The window of an even size has its odd cell at the end."""
    size, alpha, beta, k = (
        node.get("size"),
        node.get("alpha", 1e-4),
        node.get("beta", 0.75),
        node.get("bias", 1.0),
    )
    squares = td.pad(td.square(x), [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2])
    total = squares[:, : x.shape[1]]
    for i in range(1, size):
        total = td.add(total, squares[:, i : i + x.shape[1]])
    return td.div(x, td.pow(td.add(td.mul(total, alpha / size), k), beta))


@operator("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    """Zeros stay zeros."""
    length = td.norm(x, node.get("p", 2), node.get("axis", -1), True)
    zero = td.eq(length, 0.0)
    return td.where(zero, 0.0, td.div(x, td.where(zero, 1.0, length)))
