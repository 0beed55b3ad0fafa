"""Data sets that a program makes: the same from one seed for ever (NumPy's RandomState, whose numbers are
frozen), to be read, trained on and plotted in seconds.
"""

from __future__ import annotations

import operator

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from .dataset import TensorDataset

__all__ = ["signals", "spirals", "step_function", "two_moons", "xor"]


def two_moons(n: int = 1000, noise: float = 0.1, seed: int = 0) -> TensorDataset:
    """Two interleaving half circles of radius 1, the upper about (0, 0), the lower about (1, 0.5).

    Args:
        n: points, both classes equally many (the first has one more if n is odd).
        noise: standard deviation of what is added to each coordinate.
        seed: 0 to 2**32 - 1.

    Returns:
        inputs float32 (n, 2), classes "upper" and "lower", in random order.
    """
    random = _random("two_moons", n, 2, seed, noise=noise)
    labels = np.arange(n) % 2
    angle = np.pi * random.random_sample(n)
    points = np.where(
        labels[:, None] == 0,
        np.stack([np.cos(angle), np.sin(angle)], 1),
        np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1),
    )
    return _shuffled("two moons", points, noise, labels, random, ("upper", "lower"), seed)


def spirals(
    n: int = 1000, classes: int = 2, turns: float = 1.0, noise: float = 0.05, seed: int = 0
) -> TensorDataset:
    """Arms of Archimedes' spiral r = t, t of 0 to 1, angle 2π (turns · t + class / classes).

    Args:
        n: points, spread evenly over the classes; along an arm they are spaced evenly in length, nearly.
        classes: number of arms, 2 or more.
        turns: how often an arm goes round.
        noise: standard deviation of what is added to each coordinate.
        seed: 0 to 2**32 - 1.

    Returns:
        inputs float32 (n, 2), classes "arm 0", "arm 1", …, in random order.
    """
    if operator.index(classes) < 2:
        raise ShapeError(f"spirals: classes: expected 2 or more, got {classes}")
    random = _random("spirals", n, classes, seed, noise=noise)
    labels = np.arange(n) % classes
    radius = np.sqrt(random.random_sample(n))
    angle = 2 * np.pi * (turns * radius + labels / classes)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _shuffled("spirals", points, noise, labels, random, [f"arm {i}" for i in range(classes)], seed)


def xor(n: int = 1000, noise: float = 0.1, seed: int = 0) -> TensorDataset:
    """Clouds about the corners of the square (±1, ±1); the class is whether the signs differ.

    Args:
        n: points, spread evenly over the four corners.
        noise: standard deviation of the clouds.
        seed: 0 to 2**32 - 1.

    Returns:
        inputs float32 (n, 2), classes "same" and "different", in random order.
    """
    random = _random("xor", n, 4, seed, noise=noise)
    corner = np.arange(n) % 4
    points = np.stack([1.0 - 2 * (corner // 2), 1.0 - 2 * (corner % 2)], 1)
    labels = (corner // 2) ^ (corner % 2)
    return _shuffled("XOR", points, noise, labels, random, ("same", "different"), seed)


def step_function(n: int = 100, noise: float = 0.0, seed: int = 0) -> TensorDataset:
    """Regression onto a jump: y = 0 for x < 0, else 1, x uniform in [-1, 1].

    Args:
        n: points.
        noise: standard deviation of what is added to y.
        seed: 0 to 2**32 - 1.

    Returns:
        inputs float32 (n, 1), targets float32 (n, 1), no classes.
    """
    random = _random("step_function", n, 1, seed, noise=noise)
    x = random.uniform(-1, 1, (n, 1)).astype(np.float32)
    y = (x >= 0) + noise * random.standard_normal((n, 1))
    name, source = "step function", f"made from seed {seed}, noise {noise}"
    return TensorDataset(x, y.astype(np.float32), name=name, source=source)


SHAPES, KNOTS, LENGTH = 10, 12, 40


def signals(
    n: int = 4000,
    noise: float = 0.02,
    correlated_noise: float = 0.25,
    shift: float = 0.5,
    scale: float = 0.4,
    shear: float = 0.75,
    seed: int = 0,
) -> TensorDataset:
    """Ten shapes of 12 knots hidden in signals of 40 numbers, as small as a set can be in which a convolution
    beats a dense layer; after S. Greydanus and D. Kobak, "Scaling Down Deep Learning with MNIST-1D"
    (arXiv 2011.14439), with shapes of our own: fixed sums of four sines, the same for every seed.

    Each signal is its class's shape stretched over 12 to 20 places and set at a random one of 40, times
    1 ± `scale`, plus a slope of ± `shear` over the whole, smoothed noise and white noise; `shift` is the part
    of the free places that is used (0: always the middle).

    Args:
        n: signals, spread evenly over the classes.
        noise, correlated_noise: standard deviations.
        seed: 0 to 2**32 - 1; take one for training and another for testing.

    Returns:
        inputs float32 (n, 40), classes "0" to "9", in random order.
    """
    random = _random("signals", n, SHAPES, seed, noise=noise, correlated_noise=correlated_noise)
    labels = np.arange(n) % SHAPES
    width = random.uniform(KNOTS, 20, (n, 1))
    free = (LENGTH - width) / 2
    start = free * (1 + shift * random.uniform(-1, 1, (n, 1)))
    at = (np.arange(LENGTH) - start) / (width - 1) * (KNOTS - 1)  # (n, LENGTH), in knots of the shape
    left = np.clip(np.floor(at).astype(np.int64), 0, KNOTS - 2)
    shapes = _shapes()[labels]
    low, high = (np.take_along_axis(shapes, left + k, 1) for k in (0, 1))
    signal = np.where((at >= 0) & (at <= KNOTS - 1), low + (at - left) * (high - low), 0.0)
    signal *= 1 + scale * random.uniform(-1, 1, (n, 1))
    signal += shear * random.uniform(-1, 1, (n, 1)) * np.linspace(-0.5, 0.5, LENGTH)
    smooth = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    white = random.standard_normal((n, LENGTH + 12))
    rows = np.lib.stride_tricks.sliding_window_view(white, 13, axis=1) @ (smooth / np.linalg.norm(smooth))
    signal += correlated_noise * rows
    return _shuffled("signals", signal, noise, labels, random, [str(i) for i in range(SHAPES)], seed)


def _shapes() -> np.ndarray:
    """(SHAPES, KNOTS), of mean square 1 each."""
    weights = np.random.RandomState(2020).standard_normal((SHAPES, 4)) / np.arange(1, 5)
    sines = np.sin(np.pi * np.outer(np.arange(1, 5), np.linspace(0, 1, KNOTS)))
    shapes = weights @ sines
    return shapes / np.sqrt(np.mean(shapes**2, axis=1, keepdims=True))


def _random(who: str, n: int, least: int, seed: int, **scales: float) -> np.random.RandomState:
    if operator.index(n) < least:
        raise ShapeError(f"{who}: n: expected {least} or more, got {n}")
    if not 0 <= operator.index(seed) < 1 << 32:
        raise ShapeError(f"{who}: seed: expected 0 to 2**32 - 1, got {seed}")
    for name, value in scales.items():
        if not 0 <= value < np.inf:
            raise ValueError(f"{who}: {name}: expected a finite number from 0, got {value}")
    return np.random.RandomState(seed)


def _shuffled(
    name: str,
    inputs: np.ndarray,
    noise: float,
    labels: np.ndarray,
    random: np.random.RandomState,
    classes: tuple[str, ...] | list[str],
    seed: int,
) -> TensorDataset:
    inputs = inputs + noise * random.standard_normal(inputs.shape)
    order = random.permutation(len(labels))
    return TensorDataset(
        inputs[order].astype(np.float32),
        labels[order].astype(np.int64),
        classes=classes,
        name=name,
        source=f"made from seed {seed}, noise {noise}",
    )
