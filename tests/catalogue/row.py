"""What a row of the catalogue says, and the numbers that its samples are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.engine.core import Tensor

Spec = tuple[int, ...] | Callable[[np.random.Generator], np.ndarray]
Sample = Sequence[Spec]


@dataclass(frozen=True)
class Row:
    # of the public function, primitive ("family.name") or layer ("nn.Layer mode");
    # then what tells variants apart
    name: str
    call: Callable[..., Any]  # tensors -> a tensor or several
    samples: Sequence[Sample]
    reference: Callable[..., Any]  # the same on NumPy arrays in float64
    covers: str = ""  # primitives that the public function is the row for
    bad: Sequence[tuple[Any, ...]] = ()  # (inputs of `call`, error type, message)
    fixed: Sequence[int] = ()  # floating inputs that carry no gradient
    order: int = 3  # up to which derivatives are checked
    tolerance: float = 1e-5  # of float32, relative to the largest value
    dtypes: Sequence[Any] = (np.float32, np.float64)  # float64 alone where float32 draws other random numbers
    records: bool = True  # False where the shape of the result depends on values

    def arrays(self, sample: Sample, dtype: Any = np.float64, seed: int = 0) -> list[np.ndarray]:
        """The inputs of a sample; floating ones in `dtype`."""
        generator = np.random.default_rng(seed)
        drawn = [
            np.asarray(spec(generator) if callable(spec) else generator.standard_normal(spec))
            for spec in sample
        ]
        return [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]

    def tensors(self, arrays: Sequence[np.ndarray]) -> list[Tensor]:
        """Inputs that share the arrays; those that carry a gradient require it."""
        moving = [x.dtype.kind == "f" and i not in self.fixed for i, x in enumerate(arrays)]
        return [td.from_numpy(x).requires_grad_(wanted) for x, wanted in zip(arrays, moving, strict=True)]


@dataclass(frozen=True)
class Refusal:
    """A bad input that the call of a row cannot say: another setting, an argument left out, a constructor."""

    name: str  # as in Row
    call: Callable[[], Any]
    error: type[Exception]
    message: str


def uniform(low: float, high: float, *shape: int) -> Spec:
    return lambda generator: generator.uniform(low, high, shape)


def positive(*shape: int) -> Spec:
    return uniform(0.5, 2.0, *shape)


def apart(*shape: int) -> Spec:
    """No two numbers are close: extremes without ties."""
    return lambda generator: generator.permutation(np.linspace(-2, 2, int(np.prod(shape)))).reshape(shape)


def index(high: int, *shape: int) -> Spec:
    return lambda generator: generator.integers(0, high, shape)


def mask(*shape: int) -> Spec:
    return lambda generator: generator.random(shape) < 0.5


def exactly(value: Any) -> Spec:
    return lambda generator: np.array(value)


def samples_of(spec: Callable[..., Spec]) -> list[Sample]:
    """One input of several shapes."""
    return [[spec(*shape)] for shape in ((3, 4), (), (1, 1), (0, 3), (2, 3, 1, 2))]


def normal(*shape: int) -> Spec:
    return shape


X, V, PLANE = td.ones(3, 4), td.ones(3), td.ones(1, 2, 4, 4)
DIM = "expected dim in [-2, 1], got 2"
WORD = "expected a tensor, an array or a number, got str"
PAIRS = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((2, 1, 4), (3, 1)),
    ((3, 4), ()),
    ((), ()),
    ((0, 3), (3,)),
    ((1,), (1,)),
]


def unary(name: str, call: Any, reference: Any, spec: Callable[..., Spec] = normal, **more: Any) -> Row:
    return Row(name, call, samples_of(spec), reference, bad=[(("a",), DtypeError, f"{name}: {WORD}")], **more)


def binary(
    name: str, call: Any, reference: Any, b: Callable[..., Spec] = normal, a: Callable[..., Spec] = normal
) -> Row:
    bad = [
        ((X, V), ShapeError, f"{name}: expected shapes that broadcast, got (3, 4), (3,)"),
        ((X, "a"), DtypeError, f"{name}: {WORD}"),
    ]
    return Row(name, call, [[a(*m), b(*n)] for m, n in PAIRS], reference, bad=bad)


def between(low: float, high: float) -> Callable[..., Spec]:
    return functools.partial(uniform, low, high)
