"""Random numbers, counter-based (Philox): a draw reserves a range of its generator's counter, and
is a function of that range.

So a draw can be made again from what it returned (dropout's backward), a recorded step draws anew at each
replay, and the state of a generator is two small arrays. Everything random takes `generator=`; without it a
default one serves. That of dropout and noise is a stream of its own: networks that draw differently when they
are made see the same masks, and the other way round.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels import random as kernels
from tinydl_kernels import rejection, sort
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant
from ..engine.core import Array, Primitive, Tensor, add, primitive
from ..engine.promotion import FLOAT32, INT64, checked, floating, is_scalar, require_floating
from ..engine.public import public
from .elementwise import clip, eq, lt, mul, to_dtype, where
from .generator import SEEDS as SEEDS
from .generator import Draw as Draw
from .generator import Generator as Generator
from .generator import default_generator as default_generator
from .generator import manual_seed as manual_seed
from .generator import noise_generator, of_activations, placed, reserved
from .generator import of_batch as of_batch
from .generator import of_samples as of_samples
from .generator import random_from as random_from
from .generator import remember as remember
from .generator import repeat as repeat
from .generator import serving as serving
from .padding import pad
from .shape import common_shape, new_size, reshape
from .subscript import getitem

__all__ = [
    "alpha_dropout",
    "bernoulli",
    "dropout",
    "gaussian_noise",
    "normal",
    "rand",
    "rand_beta",
    "rand_gamma",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@primitive(constant=("key", "start", "out"))
def _integers(key: Array, start: Array, *, shape: tuple[int, ...]) -> Array:
    return kernels.integers(key, start, shape)


@primitive(constant=("key", "start", "out"))
def _randint(key: Array, start: Array, *, shape: tuple[int, ...], low: int, high: int) -> Array:
    return kernels.randint(key, start, shape, low, high)


@primitive(constant=("key", "start", "out"))
def _uniform(key: Array, start: Array, *, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return kernels.uniform(key, start, shape, dtype)


@primitive(constant=("key", "start", "out"))
def _normal(key: Array, start: Array, *, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    return kernels.normal(key, start, shape, dtype)


@primitive(constant=("key", "start", "out"))
def _bernoulli(key: Array, start: Array, *, shape: tuple[int, ...], p: float) -> Array:
    return kernels.bernoulli(key, start, shape, p)


@primitive(constant=("key", "start", "out"))
def _beta(key: Array, start: Array, *, shape: tuple[int, ...], dtype: np.dtype, a: float, b: float) -> Array:
    return rejection.beta(key, start, shape, dtype, a, b)


@primitive(constant=("key", "start", "out"))
def _gamma(key: Array, start: Array, *, shape: tuple[int, ...], dtype: np.dtype, a: float) -> Array:
    return rejection.gamma(key, start, shape, dtype, a)


@primitive(constant=("key", "start", "out"))
def _permutation(key: Array, start: Array, *, n: int) -> Array:
    """The order of n words of 64 bits."""
    return sort.argsort(kernels.integers(key, start, (2 * n,)).view(np.uint64), 0, False)


@primitive(floating=True, constant=("key", "start"))
def _dropout(x: Array, key: Array, start: Array, *, p: float) -> Array:
    return kernels.dropout(x, key, start, p)


_dropout.rule(x=lambda g, key, start, *, p: _dropout(g, key, start, p=p))


def _placed(
    fill: Primitive,
    generator: Generator | None,
    shape: tuple[int, ...],
    kind: Any,
    device: Any,
    **settings: Any,
) -> Tensor:
    """A draw by a primitive that fills a shape with numbers of a kind, a dtype."""
    key, start = reserved(generator, shape, kind, device)
    before = placed(shape, kind)[1]
    if not before:
        return fill(key, start, shape=shape, **settings)
    whole = fill(key, start, shape=(before + math.prod(shape),), **settings)
    return reshape(getitem(whole, slice(before, None)), shape)


@public
def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1)."""
    return _filled(_uniform, "rand", size, generator, dtype, device).requires_grad_(requires_grad)


def _filled(
    fill: Primitive, who: str, size: Any, generator: Generator | None, dtype: Any, device: Any
) -> Tensor:
    """A draw of `fill`, which is `_uniform` or `_normal`."""
    shape, dtype = new_size(who, size), floating(dtype, who)
    return _placed(fill, generator, shape, dtype, device, dtype=dtype)


@public
def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal."""
    return _filled(_normal, "randn", size, generator, dtype, device).requires_grad_(requires_grad)


@public
def rand_like(input: Tensor, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """Uniform in [0, 1), shaped as `input`."""
    return _filled(
        _uniform, "rand_like", input.shape, generator, input.dtype if dtype is None else dtype, input.device
    )


@public
def randn_like(input: Tensor, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """Standard normal, shaped as `input`."""
    return _filled(
        _normal, "randn_like", input.shape, generator, input.dtype if dtype is None else dtype, input.device
    )


@public
def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, generator: Generator | None = None, dtype: Any = None
) -> Tensor:
    """Normal numbers, mean + std · z: numbers and a size, or tensors that broadcast.
    Differentiable in mean and std.
    """
    tensors = [x for x in (mean, std) if isinstance(x, Tensor)]
    if size is None and not tensors:
        raise ShapeError("normal: expected a size where mean and std are numbers, got none")
    if not isinstance(std, Tensor) and std < 0:
        raise ValueError(f"normal: expected std of at least 0, got {std}")
    shape = size if size is not None else common_shape("normal", *tensors)
    like = tensors[0] if tensors else None
    dtype = floating(dtype, "normal", FLOAT32 if like is None else like.dtype)
    z = _filled(_normal, "normal", shape, generator, dtype, "cpu" if like is None else like.device)
    return add(mul(z, std), mean)


@public
def rand_beta(
    a: float, b: float, *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu"
) -> Tensor:
    """Beta(a, b) numbers in [0, 1], a and b numbers above 0. Johnk's method where both are below 1, else
    Cheng's (Communications of the ACM 21, 1978). Not differentiable in a and b.
    """
    shape, dtype = new_size("rand_beta", size), floating(dtype, "rand_beta")
    a, b = (_positive("rand_beta", p) for p in (a, b))
    key, start = reserved(generator, (*shape, 4 * rejection.blocks((1,))), np.uint32, device)
    return _beta(key, start, shape=shape, dtype=dtype, a=a, b=b)


@public
def rand_gamma(
    a: float, *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = "cpu"
) -> Tensor:
    """Gamma(a) numbers of scale 1, a a number above 0. Ahrens and Dieter's method for a below 1, else Cheng's
    (Applied Statistics 26, 1977). Not differentiable in a.
    """
    shape, dtype = new_size("rand_gamma", size), floating(dtype, "rand_gamma")
    a = _positive("rand_gamma", a)
    key, start = reserved(generator, (*shape, 4 * rejection.blocks((1,))), np.uint32, device)
    return _gamma(key, start, shape=shape, dtype=dtype, a=a)


def _positive(who: str, parameter: float) -> float:
    if not is_scalar(parameter) or not 0 < parameter < float("inf"):
        raise ValueError(f"{who}: expected finite parameters above 0, got {parameter!r}")
    return float(parameter)


@public
def randperm(n: int, generator: Generator | None = None, device: Any = "cpu") -> Tensor:
    """A permutation of 0, 1, ..., n - 1 (int64): the order of random words of 64 bits."""
    if not isinstance(n, (int, np.integer)) or n < 0:
        raise ShapeError(f"randperm: expected n of at least 0, got {n}")
    key, start = reserved(generator, (n,), np.int64, device)
    return _permutation(key, start, n=n)


@public
def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = "cpu",
) -> Tensor:
    """Integers (int64 if nothing else) in [low, high): randint(low, high, size),
    or randint(high, size) from 0.
    """
    low, high, size = (0, low, high) if size is None else (low, high, size)
    if not all(isinstance(bound, (int, np.integer)) for bound in (low, high)):
        raise TypeError(
            f"randint: expected integers low and high and a size, got {low!r}, {high!r} and {size!r}"
        )
    if low >= high:
        raise ValueError(f"randint: expected low < high, got {low} and {high}")
    shape = new_size("randint", size)
    drawn = _placed(_randint, generator, shape, np.int64, device, low=int(low), high=int(high))
    return to_dtype(drawn, checked(dtype, "randint", INT64))


@public
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """0 and 1 in the dtype and shape of `input`: 1 with the probabilities that are its
    elements, or with probability p. Where none can be refused (a replay, a GPU) what is none gives NaN.
    """
    if p is not None:
        require_probability("bernoulli", p)
        return to_dtype(_chosen(p, input, generator), input.dtype)
    require_floating("bernoulli", input)
    chances = input.array
    if isinstance(chances, np.ndarray) and chances.size and not 0 <= chances.min() <= chances.max() <= 1:
        got = f"from {chances.min()} to {chances.max()}"
        raise ValueError(f"bernoulli: expected probabilities in [0, 1], got some {got}")
    drawn = to_dtype(lt(rand_like(input, generator=generator), input), input.dtype)
    input = input.detach()
    return where(eq(clip(input, 0.0, 1.0), input), drawn, math.nan)


def _chosen(p: float, like: Tensor, generator: Generator | None) -> Tensor:
    """Booleans that are True with probability p."""
    return _placed(_bernoulli, generator, like.shape, np.bool_, like.device, p=p)


@public
def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Zero each element with probability p and scale the others by 1/(1 - p). Outside training the identity.

    Srivastava et al., JMLR 2014. The mask is not stored: the backward draws it again
    from the same counter range. `inplace` is taken for PyTorch's sake and has no meaning.
    """
    require_probability("dropout", p, inplace)
    if not training or p == 0:
        return input
    return of_activations(_dropped, input, p, generator or noise_generator)


def _dropped(input: Tensor, p: float, generator: Generator) -> Tensor:
    key, start = reserved(generator, input.shape, np.bool_, input.device)
    before = placed(input.shape, np.bool_)[1]
    if not before:
        return _dropout(input, key, start, p=p)
    line = pad(reshape(input, (-1,)), (before, 0))
    return reshape(getitem(_dropout(line, key, start, p=p), slice(before, None)), input.shape)


@public
def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout for SELU nets: dropped elements become -λα, and an affine map restores mean 0 and variance 1.

    Klambauer et al., arXiv 1706.02515, section "New Dropout Technique".
    """
    require_probability("alpha_dropout", p, inplace)
    if not training or p == 0:
        return input
    low = -SELU_ALPHA * SELU_SCALE
    if p == 1:
        return where(constant(input, np.zeros((), np.bool_)), input, 0.0)
    scale = ((1 - p) * (1 + p * low * low)) ** -0.5
    chosen = of_activations(_chosen, 1 - p, input, generator or noise_generator)
    return add(mul(where(chosen, input, low), scale), -scale * low * p)


@public
def gaussian_noise(
    input: Tensor, std: float = 0.1, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """In training input + N(0, std²), elementwise; else the input. Keras: GaussianNoise."""
    if std < 0:
        raise ValueError(f"gaussian_noise: expected std of at least 0, got {std}")
    require_floating("gaussian_noise", input)
    if not training or std == 0:
        return input
    return add(
        input,
        mul(
            of_activations(
                _filled,
                _normal,
                "gaussian_noise",
                input.shape,
                generator or noise_generator,
                input.dtype,
                input.device,
            ),
            std,
        ),
    )


def require_probability(who: str, p: float, inplace: Any = False) -> None:
    """ValueError unless p is in [0, 1]. TypeError for an `inplace` that is no flag, such as a generator."""
    if not isinstance(inplace, (bool, np.bool_)):
        raise TypeError(f"{who}: expected inplace True or False, got {inplace!r}")
    if not is_scalar(p) or not 0 <= p <= 1:
        raise ValueError(f"{who}: expected a probability in [0, 1], got {p!r}")
