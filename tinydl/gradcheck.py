"""gradcheck: derivatives of orders 1 to 3, held against central differences in float64.

F₀ is func, and F_k the gradients of <c, F_{k-1}> with fixed random cotangents c. Order k compares, along
a direction v of one input, <c, (F_{k-1}(x + h v) - F_{k-1}(x - h v)) / 2h> with <gradient of <c,
F_{k-1}>, v>. Steps h and h/2 are combined so that the h² term of the difference cancels (Richardson).
Where the two steps disagree by as much as the derivative is off, func is not smooth at this scale: the
point is on a kink, and is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine import memory
from tinydl_kernels.machine.errors import DtypeError, GraphError, TinydlError

from .engine.backward import grad
from .engine.core import Array, Tensor, enable_grad
from .engine.public import public
from .engine.pullback import zeros_like
from .ops.random import SEEDS, Generator, randn, random_from

POINTS = 10  # how many are tried before a kink is reported
NUDGE = 0.01  # how far a new point is from the last, relative to the input's size


class GradcheckError(TinydlError, AssertionError):
    """A derivative that the differences do not confirm: its `order`, and the position `input`
    it is taken with respect to.
    """

    def __init__(self, message: str, order: int = 0, input: int | None = None) -> None:
        super().__init__(message)
        self.order, self.input = order, input


class _Finding(NamedTuple):
    """One disagreement, along one direction of `input` and one cotangent of `output`."""

    input: int
    output: int
    expected: float
    got: float
    scale: float  # Σ |c · difference|: what the values are a sum of
    kink: bool

    @property
    def error(self) -> float:
        return abs(self.got - self.expected)


@public
def gradcheck(
    func: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Tensor],
    order: int = 2,
    *,
    eps: float = 1e-4,
    atol: float = 1e-8,
    rtol: float = 1e-6,
    full: bool = False,
    generator: Generator | None = None,
    raise_exception: bool = True,
) -> bool:
    """True if the derivatives of `func(*inputs)` up to `order` (1 to 3) agree with central differences.

    inputs: those that require grad are checked and must be float64; they are copied, never written. func
    returns one tensor or several; those of integers and booleans are left out. Agreement is
    |got - expected| <= atol + rtol · scale: the scale is the sum of the absolute values that `expected` is a
    sum of.

    eps         step, relative to the root mean square of the input
    full        every entry of every Jacobian, instead of one random direction an input and one random
                cotangent an output
    generator   draws directions and cotangents; its key also freezes the random numbers that `func` draws, so
                that dropout is
                the same function at every evaluation

    Raises GradcheckError (or returns False, without `raise_exception`) with the order and the input that
    fail; DtypeError for inputs that are not float64; GraphError where nothing requires grad. A derivative
    that does not exist raises its own NotImplementedError.
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if order not in (1, 2, 3):
        raise ValueError(f"gradcheck: expected order 1, 2 or 3, got {order}")
    for i, x in enumerate(given):
        if not isinstance(x, Tensor):
            raise DtypeError(f"gradcheck: expected tensors as inputs, got {type(x).__name__} for input {i}")
        if x.requires_grad and x.dtype != np.float64:
            raise DtypeError(
                f"gradcheck: expected float64 where a gradient is checked, got {x.dtype} for input {i}"
            )
    if not any(x.requires_grad for x in given):
        raise GraphError("gradcheck: expected an input that requires grad, got none")
    check = _Check(func, given, eps, atol, rtol, full, Generator() if generator is None else generator)
    try:
        check.fixed()
        for k in range(1, order + 1):
            check.order(k)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


class _Check:
    def __init__(
        self,
        func: Callable[..., Any],
        inputs: list[Tensor],
        eps: float,
        atol: float,
        rtol: float,
        full: bool,
        generator: Generator,
    ) -> None:
        self.func, self.eps, self.atol, self.rtol, self.full, self.generator = (
            func,
            eps,
            atol,
            rtol,
            full,
            generator,
        )
        self.point = [x.array.copy() for x in inputs]
        self.checked = [i for i, x in enumerate(inputs) if x.requires_grad]
        self.sizes = [
            float(np.sqrt((x.array * x.array).mean())) or 1.0 if x.array.size else 1.0 for x in inputs
        ]
        self.cotangents: dict[int, list[Array]] = {}  # by order of what they contract

    # The function and its derivatives

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The same random numbers in every evaluation, on another stream than the directions."""
        with random_from(Generator(self.generator.seed, (self.generator.stream + 1) % SEEDS)), enable_grad():
            yield

    def draw(self, like: Array) -> Array:
        with random_from(self.generator):
            return memory.array_module(like).asarray(randn(*like.shape, dtype=np.float64).array)

    def leaves(self, moved: int | None = None, by: Array = 0.0) -> list[Tensor]:
        """Fresh inputs at the point, one of them moved."""
        arrays = [np.add(x, by, out=x.copy()) if i == moved else x.copy() for i, x in enumerate(self.point)]
        return [Tensor(array).requires_grad_(i in self.checked) for i, array in enumerate(arrays)]

    def derivatives(self, xs: list[Tensor], order: int) -> list[Tensor]:
        """Order 0: what func returns. Order k: the gradient for each checked input
        of <cotangents, order k - 1>.
        """
        if order == 0:
            result = self.func(*xs)
            outputs = [
                y
                for y in ([result] if isinstance(result, Tensor) else result)
                if y is not None and y.dtype.kind == "f"
            ]
            for y in outputs:
                if y.dtype != np.float64:
                    raise DtypeError(f"gradcheck: expected func to give float64, got {y.dtype}")
            return outputs
        below = self.derivatives(xs, order - 1)
        if order - 1 not in self.cotangents:
            self.cotangents[order - 1] = [self.draw(y.array) for y in below]
        return self.gradients(below, self.cotangents[order - 1], xs, create_graph=True)

    def gradients(
        self, outputs: list[Tensor], cotangents: list[Array], xs: list[Tensor], create_graph: bool
    ) -> list[Tensor]:
        wanted = [xs[i] for i in self.checked]
        used = [(y, Tensor(c)) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
        if not used:
            return [zeros_like(x) for x in wanted]
        found = grad(
            [y for y, _ in used], wanted, [c for _, c in used], True, create_graph, allow_unused=True
        )
        return [zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)]

    def values(self, order: int, moved: int | None = None, by: Array = 0.0) -> list[Array]:
        with self.frozen():
            return [y.array for y in self.derivatives(self.leaves(moved, by), order)]

    def fixed(self) -> None:
        """Is it a function of its inputs, which it leaves as they are?"""
        xs = self.leaves()
        with self.frozen():
            first = [y.array.copy() for y in self.derivatives(xs, 0)]
        for i, (x, before) in enumerate(zip(xs, self.point, strict=True)):
            if not bool((x.array == before).all()):
                raise GradcheckError(
                    f"gradcheck: expected func to leave its inputs as they are, got input {i} written",
                    input=i,
                )
        for y, again in zip(first, self.values(0), strict=True):
            if y.shape != again.shape or not bool((y == again).all()):
                raise GradcheckError(
                    "gradcheck: expected a function of its inputs, got other values at a second evaluation"
                )

    # One order

    def order(self, order: int) -> None:
        """Compare at the point, or at one near it where the function is smooth."""
        for _ in range(POINTS):
            findings = self.compare(order)
            kinks = [finding for finding in findings if finding.kink]
            if not kinks:
                break
            for i in self.checked:
                self.point[i] += NUDGE * self.sizes[i] * self.draw(self.point[i])
        if kinks:
            kink = kinks[0]
            raise GradcheckError(
                f"gradcheck: {self.place(order, kink)}: expected a function smooth near the point, got a "
                "kink (or noise) "
                f"at each of {POINTS} points: differences give {kink.expected:.9g}, the derivative is "
                f"{kink.got:.9g}",
                order,
                kink.input,
            )
        if findings:
            worst = max(findings, key=lambda f: np.nan_to_num(f.error / (f.scale or 1.0), nan=np.inf))
            raise GradcheckError(
                f"gradcheck: {self.place(order, worst)}: expected {worst.expected:.9g} (differences), got "
                f"{worst.got:.9g} "
                f"(derivative): off by {worst.error:.3g}, {100 * worst.error / (worst.scale or 1.0):.3g} %",
                order,
                worst.input,
            )

    def place(self, order: int, finding: _Finding) -> str:
        source = self.checked[finding.output] if order > 1 else finding.output
        what = (
            f"of output {source}",
            f"of the gradient of input {source}",
            f"of the second derivative, input {source}",
        )
        return f"order {order}, derivative {what[order - 1]} with respect to input {finding.input}"

    def compare(self, order: int) -> list[_Finding]:
        """Every disagreement at the point."""
        with self.frozen():
            xs = self.leaves()
            outputs = self.derivatives(xs, order - 1)
            seeds = [_units(y.array) if self.full else [self.draw(y.array)] for y in outputs]
            analytic = [
                [self.gradients([y], [c], xs, create_graph=False) for c in s]
                for y, s in zip(outputs, seeds, strict=True)
            ]
        centre = [y.array for y in outputs]
        findings = []
        for k, i in enumerate(self.checked):
            for v in _units(self.point[i]) if self.full else [self.draw(self.point[i])]:
                for o, (slope, doubt) in enumerate(self.differences(order - 1, i, v, centre)):
                    for c, gradients in zip(seeds[o], analytic[o], strict=True):
                        expected, scale = float((c * slope).sum()), float(abs(c * slope).sum())
                        got = float((gradients[k].array * v).sum())
                        error = abs(got - expected)
                        if not error <= self.atol + self.rtol * scale:
                            kink = float((abs(c) * doubt).sum()) > 0.1 * error
                            findings.append(_Finding(i, o, expected, got, scale, kink))
        return findings

    def differences(self, order: int, i: int, v: Array, centre: list[Array]) -> list[tuple[Array, Array]]:
        """For each output of F_order its slope along v, and by how much steps h and h/2
        disagree, which is little if smooth.
        """

        def central(h: float) -> list[tuple[Array, Array]]:
            ahead, behind = self.values(order, i, h * v), self.values(order, i, -h * v)
            # the slope, and a bend that is h f'' where f is smooth, or the jump of f' where it is not
            return [
                ((a - b) / (2 * h), (a - 2 * f + b) / h)
                for a, f, b in zip(ahead, centre, behind, strict=True)
            ]

        h = self.eps * self.sizes[i]
        return [
            ((4 * near - far) / 3, abs(far - near) + abs(bend - 2 * half))
            for (far, bend), (near, half) in zip(central(h), central(h / 2), strict=True)
        ]


def _units(like: Array) -> list[Array]:
    """The unit vectors in the shape of `like`."""
    units = memory.array_module(like).eye(like.size)
    return [units[e].reshape(like.shape) for e in range(like.size)]
