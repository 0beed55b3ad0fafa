"""What a row of the table of transforms says, and the images that it is tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from . import transform_oracles as oracles

Bad = tuple[Callable[[], Any], type[Exception], str]


@dataclass(frozen=True)
class Row:
    name: str  # of the public class or function, then what tells variants apart
    make: Callable[..., Any]  # the transform; with p where it has one
    oracle: oracles.Oracle  # images (N, C, H, W), draws -> what is expected, in float64
    p: bool = True  # takes a probability
    draws: bool = True  # at random
    moves: bool = False  # pixels, and so masks as well as images
    recolors: bool = False  # besides
    interpolates: bool = False  # takes an interpolation
    bad: Sequence[Bad] = ()
    floats: bool = False  # gives float32 whatever it got
    shape: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda shape: shape
    levels: float = 0.51  # by how much uint8 may be off: a rounding of one or of several steps
    tolerance: float = 2e-5  # of float32
    off: float = 0  # part of the pixels that may be off: at the edge of a step of float32


H, W = 17, 16


def images(dtype: Any, N: int = 6, C: int = 3, H: int = H, W: int = W) -> np.ndarray:
    generator = np.random.default_rng(7)
    x = generator.integers(0, 256, (N, C, H, W), dtype=np.uint8)
    return x if dtype == np.uint8 else (x / np.float32(255)).astype(np.float32)


UNIT = images(np.uint8)
FLOATS = images(np.float32)
INDEX = {"index": np.arange(6), "epoch": 0}


def bad_p(make: Callable[..., Any], who: str) -> list[Bad]:
    return [
        (lambda: make(p=1.5), ShapeError, f"{who}: p: expected a probability, 0 to 1, got 1.5"),
        (lambda: make(p=float("nan")), ShapeError, f"{who}: p: expected a probability, 0 to 1, got nan"),
    ]


def bad_sampling(make: Callable[..., Any], who: str) -> list[Bad]:
    calls = {"interpolation": "one of bilinear, nearest", "padding_mode": "one of constant, edge, reflect"}
    found: list[Bad] = [
        (lambda n=name: make(**{n: "cubic"}), ShapeError, f"{who}: {name}: expected {words}, got 'cubic'")
        for name, words in calls.items()
    ]
    return found


def moving(
    name: str, make: Callable[..., Any], oracle: oracles.Oracle, bad: Sequence[Bad] = (), **more: Any
) -> Row:
    """What samples a map, whose arguments all such have."""
    who = name.split()[0]
    refused = [*bad_p(make, who), *bad_sampling(make, who), *bad]
    return Row(name, make, oracle, moves=True, interpolates=True, bad=refused, **more)


def recoloring(
    name: str, make: Callable[..., Any], oracle: oracles.Oracle, bad: Sequence[Bad] = (), **more: Any
) -> Row:
    return Row(name, make, oracle, bad=[*bad_p(make, name.split()[0]), *bad], **more)


@dataclass(frozen=True)
class Function:
    """A public function that is no transform; test_normalize.py has its tests."""

    name: str
    bad: Sequence[Bad]
