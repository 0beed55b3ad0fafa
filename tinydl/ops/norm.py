"""Batch normalization. Forward and backward are one primitive each, with the *total* derivative in closed
form (the kernels' docstring has the formulas); the derivative of the backward is a third; what comes after
that is composed of elementary ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels import norm as kernels
from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..engine.core import Array, Tensor, add, contiguous, no_grad, primitive, state
from ..engine.effect import effect
from ..engine.promotion import require_floating
from ..engine.public import public
from ..engine.pullback import pullback
from .elementwise import div, le, maximum, mul, neg, pow, sqrt, square, sub, to_dtype, where, zeros_as
from .padding import pad
from .reduce import mean, sum
from .shape import normalize_dim, reshape
from .statistics import norm, scale_of
from .subscript import getitem

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
]


@primitive(floating=True, outputs=("y", "mean", "var"), constant=("mean", "var"))
def _batch_norm(x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, Array, Array]:
    return kernels.batch_norm(x, gamma, beta, eps)


@primitive(floating=True, outputs=("dx", "dgamma", "dbeta"), constant=("mean", "var"))
def _batch_norm_dx(
    g: Array, x: Array, gamma: Array, mean: Array, var: Array, *, eps: float
) -> tuple[Array, ...]:
    return kernels.batch_norm_dx(g, x, gamma, mean, var, eps)


@primitive(floating=True, outputs=("dg", "dx", "dgamma"), constant=("mean", "var"))
def _batch_norm_dx_dx(
    v: Array,
    v_gamma: Array,
    v_beta: Array,
    g: Array,
    x: Array,
    gamma: Array,
    mean: Array,
    var: Array,
    *,
    eps: float,
) -> tuple[Array, ...]:
    return kernels.batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps)


@effect(writes=("running_mean", "running_var"))
def _running_update(
    running_mean: Array, running_var: Array, mean: Array, var: Array, *, momentum: float, n: int
) -> None:
    kernels.running_update(running_mean, running_var, mean, var, momentum, n)


@_batch_norm.joint
def _(
    needs: tuple[bool, ...], g: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, var: Tensor, *, eps: float
) -> tuple[Any, ...]:
    return _batch_norm_dx(g, x, gamma, mean, var, eps=eps)


@_batch_norm_dx.joint
def _(
    needs: tuple[bool, ...],
    v: Tensor,
    v_gamma: Tensor,
    v_beta: Tensor,
    g: Tensor,
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    eps: float,
) -> tuple[Any, ...]:
    return (*_batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, eps=eps), None, None)


@_batch_norm_dx_dx.joint
def _(
    needs: tuple[bool, ...],
    u_g: Tensor,
    u_x: Tensor,
    u_gamma: Tensor,
    v: Tensor,
    v_gamma: Tensor,
    v_beta: Tensor,
    g: Tensor,
    x: Tensor,
    gamma: Tensor,
    *,
    eps: float,
) -> list[Any]:
    def composed(v: Any, v_gamma: Any, v_beta: Any, g: Tensor, x: Tensor, gamma: Any) -> list[Any]:
        return _second_order(v, v_gamma, v_beta, g, x, gamma, eps)

    return [
        *pullback(composed, [v, v_gamma, v_beta, g, x, gamma], [u_g, u_x, u_gamma], needs[:6]),
        None,
        None,
    ]


def _second_order(
    v: Any, v_gamma: Any, v_beta: Any, g: Tensor, x: Tensor, gamma: Any, eps: float
) -> list[Any]:
    """`batch_norm_dx_dx` in elementary primitives, with the statistics recomputed from x."""
    dims = (0, *range(2, x.ndim))
    n = x.array.size // max(x.shape[1], 1)

    def average(u: Tensor) -> Tensor:
        return mean(u, dims, keepdim=True)

    def spread(c: Tensor) -> Tensor:
        return reshape(c, (1, -1, *(1,) * (x.ndim - 2)))

    centred = sub(x, average(x))
    s = div(1.0, sqrt(add(average(square(centred)), eps)))
    normal = mul(centred, s)

    def project(u: Tensor) -> Tensor:
        return sub(sub(u, average(u)), mul(normal, average(mul(u, normal))))

    v = zeros_as(g) if v is None else v
    scale = s if gamma is None else mul(spread(gamma), s)
    p_g = project(g)
    q = sum(mul(v, p_g), dims, keepdim=True)
    bent = add(
        mul(normal, div(q, float(n))),
        project(add(mul(average(mul(g, normal)), v), mul(average(mul(v, normal)), g))),
    )
    ddg, ddx = mul(scale, project(v)), neg(mul(mul(scale, s), bent))
    if v_gamma is not None:
        ddg, ddx = add(ddg, mul(spread(v_gamma), normal)), add(ddx, mul(mul(spread(v_gamma), s), p_g))
    if v_beta is not None:
        ddg = add(ddg, spread(v_beta))
    return [ddg, ddx, None if gamma is None else reshape(mul(s, q), gamma.shape)]


@public
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel (axis 1) of input (N, C, *); weight, bias, running_mean,
    running_var are (C,) or None.

    In training by the batch's mean and biased variance, and the running statistics move by `momentum` (the
    variance unbiased); else by the running statistics. Ioffe & Szegedy, arXiv 1502.03167; as
    torch.nn.functional.batch_norm.
    """
    if training and state.shard is not None:
        raise GraphError(
            "batch_norm: expected statistics of the whole batch, got those of this rank's "
            f"{state.shard.samples} samples of {state.shard.total}: make it "
            "nn.SyncBatchNorm.convert_sync_batchnorm(model)"
        )
    _require_statistics("batch_norm", input, weight, bias, running_mean, running_var)
    if training:
        channels = input.shape[1]
        n = input.array.size // max(channels, 1)
        if n == 0:  # has no statistics, moves none
            return _affine(contiguous(input), weight, bias, (1, channels, *(1,) * (input.ndim - 2)))
        if n == 1:
            raise ShapeError(
                f"batch_norm: expected more than one value per channel in training, got input {input.shape}"
            )
        y, batch_mean, batch_var = _batch_norm(input, weight, bias, eps=eps)
        if running_mean is not None and momentum is not None:
            _follow(running_mean, running_var, batch_mean, batch_var, momentum, n)
        return y
    if running_mean is None or running_var is None:
        raise ShapeError("batch_norm: expected running statistics outside training, got None")
    spread = (1, *input.shape[1:2], *(1,) * (input.ndim - 2))
    scale = div(1.0 if weight is None else weight, sqrt(add(running_var, eps)))
    y = mul(sub(input, reshape(running_mean, spread)), reshape(scale, spread))
    return y if bias is None else add(y, reshape(bias, spread))


def _follow(
    running_mean: Tensor, running_var: Tensor | None, mean: Tensor, var: Tensor, momentum: float, n: int
) -> None:
    """The running statistics move towards those of a batch of n, which the kernels take in float64."""
    with no_grad():
        wide = (to_dtype(x.detach(), np.float64) for x in (mean, var))
        _running_update(running_mean, running_var, *wide, momentum=momentum, n=n)


def _require_statistics(
    who: str,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
) -> None:
    channels = input.shape[1] if input.ndim > 1 else None
    for name, c in (
        ("weight", weight),
        ("bias", bias),
        ("running_mean", running_mean),
        ("running_var", running_var),
    ):
        if channels is None or (c is not None and c.shape != (channels,)):
            got = f"input {input.shape}" + (f", {name} {c.shape}" if c is not None else "")
            raise ShapeError(f"{who}: expected input (N, C, *) and {name} (C,), got {got}")
    require_floating(who, input, weight, bias, running_mean, running_var)


def sync_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`batch_norm` whose batch is that of all ranks, where they share one (`Shard`): the sums are all-reduced
    on the tape, so derivatives of every order are those of one process.
    """
    shard = state.shard if training else None
    if shard is None:
        return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    _require_statistics("sync_batch_norm", input, weight, bias, running_mean, running_var)
    dims, spread = (0, *range(2, input.ndim)), (1, -1, *(1,) * (input.ndim - 2))
    n = shard.total * math.prod(input.shape[2:])
    if n <= 1:
        raise ShapeError(
            f"sync_batch_norm: expected more than one value per channel in training, got input {input.shape}"
        )
    middle = div(shard.sum(sum(input, dims)), float(n))
    centred = sub(input, reshape(middle, spread))
    variance = div(shard.sum(sum(square(centred), dims)), float(n))
    if running_mean is not None and momentum is not None:
        _follow(running_mean, running_var, middle, variance, momentum, n)
    scale = div(1.0 if weight is None else weight, sqrt(add(variance, eps)))
    return _affine(mul(centred, reshape(scale, spread)), None, bias, spread)


def _normalized_rows(x: Tensor, rows: int, eps: float) -> Tensor:
    """x seen as `rows` rows, each brought to mean 0 and variance 1: batch normalization
    whose channels are the rows.
    """
    if not x.array.size:
        return contiguous(x)
    return reshape(_batch_norm(reshape(x, (1, rows, -1)), None, None, eps=eps)[0], x.shape)


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    y = y if weight is None else mul(y, reshape(weight, shape))
    return y if bias is None else add(y, reshape(bias, shape))


@public
def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize over the last dims, which have the shape `normalized_shape`, as have weight and
    bias. Ba et al., 1607.06450.
    """
    shape = _last_dims("layer_norm", input, normalized_shape, weight, bias)
    return _affine(
        _normalized_rows(input, input.array.size // max(math.prod(shape), 1), eps), weight, bias, shape
    )


@public
def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / √(mean(x²) + eps) · weight over the last dims, of x scaled so that no square overflows; eps is by
    default the dtype's. Zhang & Sennrich, arXiv 1910.07467.
    """
    shape = _last_dims("rms_norm", input, normalized_shape, weight, None)
    dims = tuple(range(input.ndim - len(shape), input.ndim))
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    size = maximum(scale_of(input, 2.0, dims), math.sqrt(eps))  # a constant, which cancels
    input = div(input, size)
    y = div(input, sqrt(add(mean(square(input), dims, keepdim=True), div(div(eps, size), size))))
    return y if weight is None else mul(y, weight)


@public
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each sample's groups of channels of (N, C, *); weight and bias
    (C,). Wu & He, arXiv 1803.08494.
    """
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: expected input (N, C, *) with C divisible by num_groups={num_groups}, got "
            f"{input.shape}"
        )
    _require_channels("group_norm", input, weight, bias)
    y = _normalized_rows(input, input.shape[0] * num_groups, eps)
    return _affine(y, weight, bias, (1, *input.shape[1:2], *(1,) * (input.ndim - 2)))


@public
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each sample of (N, C, *), or by running statistics (C,).
    Ulyanov et al., arXiv 1607.08022.
    """
    if input.ndim < 3:
        raise ShapeError(
            f"instance_norm: expected input (N, C, *) with at least one spatial dim, got {input.shape}"
        )
    _require_channels("instance_norm", input, weight, bias)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    n = math.prod(input.shape[2:])
    if n == 1:
        raise ShapeError(f"instance_norm: expected more than one spatial element, got input {input.shape}")
    if state.shard is not None and running_mean is not None:
        raise GraphError(
            "instance_norm: expected no running statistics where ranks share a batch, got some that would "
            "become those of this rank's samples"
        )
    if input.array.size and running_mean is not None and running_var is not None:
        with no_grad():
            over = tuple(range(2, input.ndim))
            each = mean(input, over, keepdim=True)
            variance = mean(square(sub(input, each)), over)
            _follow(running_mean, running_var, mean(each, (0, *over)), mean(variance, 0), momentum, n)
    return group_norm(input, input.shape[1], weight, bias, eps)


@public
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha · mean of x² over `size` neighbouring channels)^beta, zeros beyond the
    ends. Krizhevsky et al., 2012.
    """
    if input.ndim < 3 or size < 1:
        raise ShapeError(
            f"local_response_norm: expected input (N, C, *) and a size of at least 1, got {input.shape} and "
            f"{size}"
        )
    require_floating("local_response_norm", input)
    channels = input.shape[1]
    squares = pad(square(input), (*(0, 0) * (input.ndim - 2), size // 2, (size - 1) // 2))
    total = getitem(squares, (slice(None), slice(0, channels)))
    for i in range(1, size):
        total = add(total, getitem(squares, (slice(None), slice(i, i + channels))))
    return div(input, pow(add(mul(total, alpha / size), k), beta))


@public
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖_p, eps) along `dim`. The norm neither overflows nor hides NaN."""
    dim = normalize_dim("normalize", dim, input.ndim)
    if p == 0:
        raise ValueError("normalize: expected p other than 0, got 0")
    length = norm(input, p, dim, keepdim=True)
    return div(input, where(le(length, eps), eps, length))


def _last_dims(who: str, input: Tensor, normalized_shape: Any, *affine: Tensor | None) -> tuple[int, ...]:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if (
        not shape
        or input.shape[-len(shape) :] != shape
        or any(c is not None and c.shape != shape for c in affine)
    ):
        got = ", ".join(str(c.shape) for c in (input, *affine) if c is not None)
        raise ShapeError(
            f"{who}: expected an input (*, {', '.join(map(str, shape))}) and weight, bias {shape}, got {got}"
        )
    require_floating(who, input, *affine)
    return shape


def _require_channels(who: str, input: Tensor, *affine: Tensor | None) -> None:
    require_floating(who, input, *affine)
    for c in affine:
        if c is not None and c.shape != input.shape[1:2]:
            raise ShapeError(
                f"{who}: expected weight and bias ({input.shape[1]},), got {c.shape} for input {input.shape}"
            )
