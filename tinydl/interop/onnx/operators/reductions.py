"""Sums, extremes, softmax, and what is accumulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .shapes import integers, moved
from .table import FLOATS, Node, Value, on_host, operator, require, tensor, value

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _log_sum_exp(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return td.logsumexp(x, dims, keep)


def _products(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for d in dims:
        x = td.prod(x, d, True)
    return x if keep else x.reshape(tuple(n for d, n in enumerate(x.shape) if d not in dims))


REDUCTIONS: dict[str, tuple[Reduction, Callable[..., Any]]] = {
    "ReduceSum": (td.sum, np.sum),
    "ReduceMean": (td.mean, np.mean),
    "ReduceMax": (td.amax, np.max),
    "ReduceMin": (td.amin, np.min),
    "ReduceProd": (_products, np.prod),
    "ReduceL1": (lambda x, d, k: td.sum(td.abs(x), d, k), lambda x, **how: np.sum(np.abs(x), **how)),
    "ReduceL2": (lambda x, d, k: td.norm(x, 2, d, k), lambda x, **how: np.sqrt(np.sum(x * x, **how))),
    "ReduceSumSquare": (lambda x, d, k: td.sum(td.square(x), d, k), lambda x, **how: np.sum(x * x, **how)),
    "ReduceLogSum": (
        lambda x, d, k: td.log(td.sum(x, d, k)),
        lambda x, **how: np.log(np.sum(x, **how)),
    ),
    "ReduceLogSumExp": (_log_sum_exp, lambda x, **how: np.log(np.sum(np.exp(x), **how))),
}


def _reduced(node: Node, x: Value, axes: Any, function: Reduction, of_arrays: Callable[..., Any]) -> Value:
    """The axes are an input, below opset 18 (13 for sums) an attribute; none means all, or nothing."""
    axes, keep = node.get("axes") if axes is None else axes, bool(node.get("keepdims", 1))
    axes = None if axes is None or not np.size(axes) else integers(axes)
    if axes is None and node.get("noop_with_empty_axes", 0):
        dims: tuple[int, ...] = ()
    else:
        dims = tuple(range(x.ndim)) if axes is None else tuple(d % x.ndim for d in axes)
    if isinstance(x, Tensor) and x.dtype in FLOATS and dims and 0 not in x.shape:
        return function(x, dims, keep)
    numbers = on_host(x)
    empty = {"initial": _lowest(node, numbers.dtype)} if 0 in x.shape and node.kind in _EXTREMES else {}
    return value(np.asarray(of_arrays(numbers, axis=dims, keepdims=keep, **empty)).astype(x.dtype))


_EXTREMES = ("ReduceMax", "ReduceMin")


def _lowest(node: Node, dtype: np.dtype) -> Any:
    """Of no numbers the largest is the smallest that there is."""
    largest = node.kind == "ReduceMax"
    if dtype.kind == "f":
        return -np.inf if largest else np.inf
    if dtype.kind == "b":
        return not largest
    return np.iinfo(dtype).min if largest else np.iinfo(dtype).max


for _name, (_function, _of_arrays) in REDUCTIONS.items():
    operator(_name, arrays=True, host=(1,))(
        lambda node, x, axes=None, f=_function, g=_of_arrays: _reduced(node, x, axes, f, g)
    )


@operator("ArgMax", "ArgMin", arrays=True, host=(0,))
def arg_extreme(node: Node, x: Any) -> Value:
    axis, find = node.get("axis", 0) % x.ndim, np.argmax if node.kind == "ArgMax" else np.argmin
    if node.get("select_last_index", 0):
        places = x.shape[axis] - 1 - find(np.flip(x, axis), axis)
    else:
        places = find(x, axis)
    return (np.expand_dims(places, axis) if node.get("keepdims", 1) else places).astype(np.int64)


# ---- Along an axis; below opset 13 softmax and its like take all axes from one on as one

Along = Callable[[Tensor, int], Tensor]


def _along(node: Node, x: Tensor, function: Along) -> Tensor:
    if node.opset >= 13:
        return function(x, node.get("axis", -1) % x.ndim)
    axis = node.get("axis", 1) % max(x.ndim, 1)
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return function(x.reshape((rows, -1)), 1).reshape(x.shape)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    hot = np.zeros(x.shape, x.dtype)
    np.put_along_axis(hot, np.expand_dims(on_host(x).argmax(axis), axis), 1, axis)
    return tensor(hot, x)


for _name, _along_axis in {"Softmax": td.softmax, "LogSoftmax": td.log_softmax, "Hardmax": _hardmax}.items():
    operator(_name)(lambda node, x, f=_along_axis: _along(node, x, f))


@operator("CumSum", "CumProd", arrays=True, host=(1,))
def accumulated(node: Node, x: Value, axis: Any) -> Value:
    d = int(np.ravel(axis)[0]) % x.ndim
    backward, exclusive = node.get("reverse", 0), node.get("exclusive", 0)
    one = node.kind == "CumProd"
    tensors = isinstance(x, Tensor)
    flipped = (lambda y: td.flip(y, (d,))) if tensors else (lambda y: np.flip(y, d))
    x = flipped(x) if backward else x
    if exclusive:
        whole = [slice(None)] * d
        first = x[(*whole, slice(0, 1))]
        start = td.full_like(first, float(one)) if tensors else np.full_like(first, one)
        parts = [start, x[(*whole, slice(0, x.shape[d] - 1))]]
        x = td.cat(parts, d) if tensors else np.concatenate(parts, d)
    if tensors:
        x = (td.cumprod if one else td.cumsum)(x, d)
    else:
        x = (np.cumprod if one else np.cumsum)(x, d, dtype=x.dtype)
    return flipped(x) if backward else x


# ---- Losses


@operator("NegativeLogLikelihoodLoss", host=(1,))
def nll(node: Node, x: Tensor, target: Any, weight: Tensor | None = None) -> Tensor:
    ignored, how = node.get("ignore_index"), node.get("reduction", "mean")
    target = target.astype(np.int64)
    kept = np.ones(target.shape, bool) if ignored is None else target != ignored
    places = np.where(kept, target, 0)
    picked = td.gather(x, 1, tensor(places[:, None], x)).reshape(target.shape)
    shares = kept.astype(x.dtype)
    weights = tensor(shares, x) if weight is None else td.mul(weight[tensor(places, x)], tensor(shares, x))
    losses = td.neg(td.where(tensor(kept, x), td.mul(picked, weights), 0.0))
    if how == "none":
        return losses
    total = td.sum(losses)
    return total if how == "sum" else td.div(total, td.sum(weights))


@operator("SoftmaxCrossEntropyLoss", host=(1,))
def softmax_cross_entropy(node: Node, x: Tensor, target: Any, weight: Tensor | None = None) -> Any:
    log_p = td.log_softmax(x, 1)
    loss = nll(node, log_p, target, weight)
    return (loss, log_p) if len(node.outputs) > 1 else loss


# ---- Products


@operator("MatMul", trained=(0, 1))
def matmul(node: Node, a: Value, b: Value) -> Value:
    return td.matmul(tensor(a), tensor(b))


@operator("Gemm", arrays=True, trained=(0, 1, 2))
def gemm(node: Node, a: Value, b: Value, c: Value = None) -> Value:
    """Below opset 7 with `broadcast`, which changes nothing here."""
    require(node, isinstance(a, Tensor), f"dtype {a.dtype}")
    a = moved(a, (1, 0)) if node.get("transA", 0) else a
    b = moved(b, (1, 0)) if node.get("transB", 0) else b
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    y = td.matmul(a, b)
    y = y if alpha == 1 else td.mul(y, alpha)
    if c is None:
        return y
    return td.add(y, c if beta == 1 else td.mul(c, beta))


@operator("Einsum", arrays=True)
def einsum(node: Node, *inputs: Value) -> Value:
    if any(isinstance(x, Tensor) for x in inputs):
        return td.einsum(node.get("equation"), *map(tensor, inputs))
    return np.asarray(np.einsum(node.get("equation"), *inputs))


@operator("Det")
def det(node: Node, x: Tensor) -> Tensor:
    return td.det(x)
