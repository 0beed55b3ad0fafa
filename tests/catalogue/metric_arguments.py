"""What a row of the table of metrics says, and how its arguments are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Arguments = tuple[Any, ...]
Draw = Callable[[np.random.Generator], Arguments]


@dataclass(frozen=True)
class Row:
    name: str
    metric: str | None  # the class
    cases: Sequence[tuple[Draw, dict[str, Any]]]
    oracle: Callable[..., Any]
    bad: Sequence[tuple[Arguments, dict[str, Any], type[Exception], str]]
    undefined: Sequence[tuple[Arguments, dict[str, Any]]] = ()  # NaN (or NaNs among others), one warning
    weighted: bool = True
    exact: bool = True  # pieces give the bits of the whole
    tolerance: float = 1e-12


# ---- Arguments


def classes(n: int, C: int, absent: Sequence[int] = ()) -> Draw:
    """Predicted and true classes that agree half of the time; `absent` are never predicted."""

    def draw(generator: np.random.Generator) -> Arguments:
        target = generator.integers(0, C, n)
        guess = generator.choice(np.setdiff1d(np.arange(C), absent), n)
        agree = (generator.random(n) < 0.5) & ~np.isin(target, absent)
        return np.where(agree, target, guess), target

    return draw


def scores(n: int, C: int, levels: int = 0) -> Draw:
    """Scores (n, C), rounded to a few levels where ties are wanted, and classes; every class occurs."""

    def draw(generator: np.random.Generator) -> Arguments:
        target = generator.permutation(np.arange(n) % C)
        score = generator.normal(size=(n, C)) + (target[:, None] == np.arange(C))
        return np.round(score * levels) / levels if levels else score, target

    return draw


def binary(n: int, levels: int = 0) -> Draw:
    """Scores (n,) and 0 or 1."""

    def draw(generator: np.random.Generator) -> Arguments:
        target = generator.permutation(np.arange(n) % 3 == 0).astype(int)
        score = generator.normal(size=n) + target
        return np.round(score * levels) / levels if levels else score, target

    return draw


def chances(n: int, C: int, levels: int = 0) -> Draw:
    """Probabilities (n, C), or (n,) of class 1 for C = 1, and classes."""

    def draw(generator: np.random.Generator) -> Arguments:
        if C == 1:
            score, target = binary(n, levels)(generator)
            return 1 / (1 + np.exp(-score)), target
        score, target = scores(n, C, levels)(generator)
        e = np.exp(score)
        return e / e.sum(1, keepdims=True), target

    return draw


def labels(n: int, L: int) -> Draw:
    """Predicted and true labels (n, L) of a multi-label task."""

    def draw(generator: np.random.Generator) -> Arguments:
        target = generator.integers(0, 2, (n, L))
        target[:L] = np.eye(L)  # each label with and without
        return np.where(generator.random((n, L)) < 0.6, target, generator.integers(0, 2, (n, L))), target

    return draw


def label_scores(n: int, L: int) -> Draw:
    def draw(generator: np.random.Generator) -> Arguments:
        _, target = labels(n, L)(generator)
        target[:, 0], target[:, 1] = 0, 1  # no row of one kind
        target[0, :2], target[1, :2] = (1, 0), (1, 0)
        return np.round(generator.normal(size=(n, L)) + target, 1), target

    return draw


def numbers(*shape: int) -> Draw:
    def draw(generator: np.random.Generator) -> Arguments:
        target = generator.normal(3, 2, shape)
        return target + generator.normal(size=shape), target

    return draw


def masks(n: int, C: int) -> Draw:
    """Predicted and true classes of pixels (n, 4, 5)."""

    def draw(generator: np.random.Generator) -> Arguments:
        return tuple(x.reshape(n, 4, 5) for x in classes(n * 20, C)(generator))

    return draw


def exactly(*arguments: Any) -> Draw:
    return lambda generator: tuple(np.array(x) for x in arguments)


def two_models(n: int, levels: int = 0) -> Draw:
    """Scores of two models, and 0 or 1."""

    def draw(generator: np.random.Generator) -> Arguments:
        first, target = binary(n, levels)(generator)
        second = first + generator.normal(size=n)
        return first, np.round(second * levels) / levels if levels else second, target

    return draw


def two_classifiers(n: int, C: int) -> Draw:
    def draw(generator: np.random.Generator) -> Arguments:
        first, target = classes(n, C)(generator)
        return first, np.where(generator.random(n) < 0.3, generator.integers(0, C, n), first), target

    return draw
