"""The table of transforms, second part: those that change values and leave pixels where they are."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from tinydl.data import transforms as t
from tinydl.data.transforms import Draws

from . import transform_oracles as oracles
from .transform_row import INDEX, UNIT, Function, H, Row, W, images, recoloring


def inverted(p: float) -> oracles.Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        chosen = (draws.uniform() < p)[:, None, None, None]
        return np.where(chosen, oracles.top(x) - x.astype(np.float64), x)

    return oracle


def grayed(p: float) -> oracles.Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        chosen = (draws.uniform() < p)[:, None, None, None]
        return np.where(chosen, np.stack([oracles.gray(image).repeat(3, 0) for image in x]), x)

    return oracle


def standardized(x: np.ndarray, draws: Draws) -> np.ndarray:
    x = x.astype(np.float64)
    return (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)


def training(x: np.ndarray) -> np.ndarray:
    return images(np.float32, 1200, *x.shape[1:])


@functools.cache
def spectrum() -> Any:
    """Mean, standard deviations and directions (rows) of the training pixels, by singular values."""
    train = training(UNIT).reshape(-1, UNIT[0].size).astype(np.float64)
    mean = train.mean(0)
    _, values, vectors = np.linalg.svd((train - mean) / len(train) ** 0.5, full_matrices=False)
    return mean, values, vectors * np.sign(np.take_along_axis(vectors, abs(vectors).argmax(1)[:, None], 1))


def whitened(zca: bool) -> oracles.Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        mean, values, vectors = spectrum()
        y = (x.reshape(len(x), -1) - mean) @ vectors.T / np.sqrt(values**2 + 0.1)
        return (y @ vectors).reshape(x.shape) if zca else y[:, :40, None, None]

    return oracle


@functools.cache
def fitted(kind: Any) -> Any:
    return kind.fit(training(UNIT), None if kind is t.ZCAWhitening else 40, eps=0.1)


COLORS = [
    recoloring(
        "ColorJitter",
        lambda p=1.0: t.ColorJitter(0.4, (0.5, 2), 0.7, p=p),
        oracles.jitter((0.6, 1.4), (0.5, 2), (0.3, 1.7)),
        [
            (
                lambda: t.ColorJitter(-1),
                ShapeError,
                "ColorJitter: brightness: expected a number of at least 0",
            ),
            (
                lambda: t.ColorJitter(0, (-1, 1)),
                ShapeError,
                "ColorJitter: contrast: expected (low, high) in order",
            ),
            (
                lambda: t.ColorJitter(hue=0.6),
                ShapeError,
                "ColorJitter: hue: expected (low, high) in order from -0.5 to 0.5",
            ),
        ],
        levels=1.01,
    ),
    recoloring(
        "ColorJitter of hues",
        lambda p=1.0: t.ColorJitter(hue=(-0.5, 0.3), p=p),
        oracles.of_each(oracles.hue, (-0.5, 0.3)),
        tolerance=1e-5,
    ),
    recoloring("RandomGrayscale", lambda p=0.5: t.RandomGrayscale(p), grayed(0.5)),
    recoloring(
        "RandomGamma",
        lambda p=1.0: t.RandomGamma((0.5, 2), p),
        oracles.of_each(oracles.gamma, (0.5, 2), logarithmic=True),
        [
            (
                lambda: t.RandomGamma((0, 1)),
                ShapeError,
                "RandomGamma: gamma: expected numbers above 0, got (0, 1)",
            )
        ],
    ),
    recoloring(
        "RandomIllumination",
        lambda p=1.0: t.RandomIllumination(0.5, 4, p),
        oracles.illumination(0.5, 4),
        [
            (lambda: t.RandomIllumination(2), ShapeError, "strength: expected a probability, 0 to 1, got 2"),
            (lambda: t.RandomIllumination(grid=1), ShapeError, "grid: expected 2 points or more, got 1"),
        ],
        levels=1.01,
    ),
    recoloring(
        "RandomPosterize",
        lambda p=1.0: t.RandomPosterize(3, p),
        oracles.of_each(lambda x: oracles.posterize(x, 3)),
        [(lambda: t.RandomPosterize(9), ShapeError, "RandomPosterize: bits: expected 0 to 8, got 9")],
        draws=False,
    ),
    recoloring(
        "RandomSolarize",
        lambda p=1.0: t.RandomSolarize(0.4, p),
        oracles.of_each(lambda x: oracles.solarize(x, np.float32(0.4))),
        [],
        draws=False,
    ),
    recoloring("RandomInvert", lambda p=0.5: t.RandomInvert(p), inverted(0.5)),
    recoloring(
        "RandomEqualize", lambda p=1.0: t.RandomEqualize(p), oracles.of_each(oracles.equalize), draws=False
    ),
    recoloring(
        "RandomAutocontrast",
        lambda p=1.0: t.RandomAutocontrast(p),
        oracles.of_each(oracles.autocontrast),
        draws=False,
        levels=1.01,
    ),
    recoloring(
        "RandomAdjustSharpness",
        lambda p=1.0: t.RandomAdjustSharpness(2.5, p),
        oracles.of_each(lambda x: oracles.sharpness(x, 2.5)),
        [
            (
                lambda: t.RandomAdjustSharpness(-1),
                ShapeError,
                "sharpness_factor: expected a number of at least 0",
            )
        ],
        draws=False,
        levels=1.01,
    ),
    recoloring(
        "GaussianNoise",
        lambda p=1.0: t.GaussianNoise(0.1, 0.2, p=p),
        oracles.noise(0.1, 0.2),
        [
            (
                lambda: t.GaussianNoise(sigma=-1),
                ShapeError,
                "GaussianNoise: sigma: expected a number of at least 0",
            )
        ],
        levels=1.01,
    ),
    recoloring(
        "GaussianBlur",
        lambda p=1.0: t.GaussianBlur(7, (0.5, 3), p=p),
        oracles.of_each(lambda x, sigma: oracles.blurred(x, sigma, 3), (0.5, 3)),
        [
            (
                lambda: t.GaussianBlur(4),
                ShapeError,
                "GaussianBlur: kernel_size: expected an odd number, 1 or more",
            ),
            (
                lambda: t.GaussianBlur(3, 0),
                ShapeError,
                "GaussianBlur: sigma: expected numbers above 0, got 0",
            ),
        ],
        levels=1.01,
    ),
]

ERASING = [
    recoloring(
        "RandomErasing",
        lambda p=1.0: t.RandomErasing(p, (0.1, 0.5), (0.2, 4), 1),
        oracles.erased((0.1, 0.5), (0.2, 4), 1),
        [
            (
                lambda: t.RandomErasing(scale=(0, 2)),
                ShapeError,
                "scale: expected (low, high) in order from 0 to 1",
            ),
            (
                lambda: t.RandomErasing(1.0, value=300)(UNIT, **INDEX),
                ShapeError,
                "RandomErasing: value: expected a number of uint8, got 300",
            ),
            (
                lambda: t.RandomErasing(1.0, mask_value=-1)(UNIT, UNIT, **INDEX),
                ShapeError,
                "RandomErasing: mask_value: expected a number of uint8, got -1",
            ),
            (
                lambda: t.RandomErasing(ratio=(0, 1)),
                ShapeError,
                "RandomErasing: ratio: expected numbers above 0",
            ),
        ],
    ),
    recoloring(
        "Cutout",
        lambda p=1.0: t.Cutout((5, 4), 1, p=p),
        oracles.cut_out(5, 4, 1),
        [
            (
                lambda: t.Cutout(0),
                ShapeError,
                "Cutout: size: expected a size or (height, width), 1 or more, got 0",
            )
        ],
    ),
]

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
SCALES = [
    Row(
        "Normalize",
        lambda: t.Normalize(MEAN, STD),
        lambda x, draws: (x - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)),
        p=False,
        draws=False,
        floats=True,
        bad=[
            (
                lambda: t.Normalize(0, 0),
                ShapeError,
                "Normalize: expected finite means, and std above 0, got 0 and",
            ),
            (
                lambda: t.Normalize((0, 1), 1)(UNIT),
                ShapeError,
                "Normalize: mean: expected 1 or C=3 numbers, got 2",
            ),
            (lambda: t.Normalize.fit(UNIT[:0]), ShapeError, "Normalize.fit: images: expected at least one"),
            (
                lambda: t.Normalize.fit(UNIT[0]),
                ShapeError,
                "Normalize.fit: images: expected (N, C, H, W), got",
            ),
        ],
    ),
    Row(
        "Standardize",
        t.Standardize,
        standardized,
        p=False,
        draws=False,
        floats=True,
        bad=[(lambda: t.Standardize(0), ShapeError, "Standardize: eps: expected a number above 0, got 0")],
    ),
    Row(
        "PCAWhitening",
        lambda: fitted(t.PCAWhitening),
        whitened(False),
        p=False,
        draws=False,
        floats=True,
        shape=lambda shape: (shape[0], 40, 1, 1),
        tolerance=1e-4,
        bad=[
            (
                lambda: t.PCAWhitening.fit(UNIT, 3 * H * W + 1),
                ShapeError,
                "components: expected 1 to C H W = 816, got 817",
            ),
            (
                lambda: t.PCAWhitening.fit(UNIT, eps=-1),
                ShapeError,
                "PCAWhitening.fit: eps: expected a number of at",
            ),
            (
                lambda: t.PCAWhitening.fit(UNIT, eps=0),
                ShapeError,
                "eps: expected a number above 0, since a direction",
            ),
            (
                lambda: t.PCAWhitening(np.zeros(3), np.zeros((2, 4))),
                ShapeError,
                "PCAWhitening: expected mean (D,) and matrix (K, D), got (3,) and (2, 4)",
            ),
            (
                lambda: t.PCAWhitening(np.zeros(3), np.zeros((2, 3)))(UNIT),
                ShapeError,
                "PCAWhitening: images: expected C H W = 3, got (6, 3, 17, 16)",
            ),
        ],
    ),
    Row(
        "ZCAWhitening",
        lambda: fitted(t.ZCAWhitening),
        whitened(True),
        p=False,
        draws=False,
        floats=True,
        tolerance=1e-4,
        bad=[
            (
                lambda: t.ZCAWhitening(np.zeros(3), np.zeros((2, 3)))(UNIT),
                ShapeError,
                "ZCAWhitening: matrix: expected (D, D), got (2, 3)",
            )
        ],
    ),
]


FUNCTIONS = [
    Function(
        "patch_whitening_filters",
        [
            (
                lambda: t.patch_whitening_filters(UNIT, 17),
                ShapeError,
                "kernel_size: expected 1 to 16, got 17",
            ),
            (
                lambda: t.patch_whitening_filters(UNIT, 2, -1),
                ShapeError,
                "eps: expected a number of at least 0",
            ),
            (lambda: t.patch_whitening_filters(UNIT[0]), ShapeError, "images: expected (N, C, H, W), got"),
        ],
    )
]
