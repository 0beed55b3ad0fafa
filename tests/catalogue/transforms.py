"""The table of transforms: one row for each public one of tinydl.data.transforms.

tests/data/test_transform_rows.py walks it. An oracle (transform_oracles.py) draws the same numbers and makes
the pictures its own way. To add a transform, write it and add a row: here if it moves pixels or holds others,
in transforms_of_values.py if it changes values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from tinydl.data import transforms as t
from tinydl.data.transforms import Draws, Transform

from . import transform_oracles as oracles
from . import transforms_of_values as values
from .transform_row import INDEX, UNIT, Row, bad_p, bad_sampling, moving
from .transforms_of_values import inverted

AFFINE = {"degrees": (-30, 40), "translate": (0.2, 0.1), "scale": (0.8, 1.3), "shear": (-10, 15, -5, 8)}


def by_affine(mode: str = "constant", **ranges: Any) -> oracles.Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        maps = oracles.drawn_affine(draws, x.shape[2:], **ranges)
        places = map(oracles.along, maps)
        return np.stack([oracles.sampled(i, place, mode=mode) for i, place in zip(x, places, strict=True)])

    return oracle


def one_pass(x: np.ndarray, draws: Draws) -> np.ndarray:
    """Affine, flip and displacement: the image is looked up once, at M₁ M₂ (p + d(p))."""
    size = x.shape[2:]
    first = oracles.drawn_affine(draws.at(1, ""), size, **AFFINE)
    flips = draws.at(2, "").uniform() < 0.5
    bend = oracles.displacement(draws.at(3, ""), size, 20, 2)
    mirror = np.array([[-1, 0, size[1] - 1], [0, 1, 0], [0, 0, 1.0]])
    found = []
    for image, m, flip, b in zip(x, first, flips, bend, strict=True):
        place = oracles.along(m @ mirror if flip else m)
        found.append(oracles.sampled(image, lambda s, t, p=place, b=b: p(s + b[0], t + b[1])))
    return np.stack(found)


def compose(interpolation: str = "bilinear") -> Transform:
    how = {"interpolation": interpolation}
    turn, bend = t.RandomAffine(**(AFFINE | how)), t.ElasticTransform(20, 2, **how)
    return t.Compose([turn, t.RandomHorizontalFlip(0.5), bend])


def one_after_the_other(x: np.ndarray, draws: Draws) -> np.ndarray:
    """A crop in zeros, then an inverted half of the pictures: two runs."""
    x = oracles.cropped((11, 9), (2, 2, 2, 2), "constant")(x, draws.at(1, "")).astype(x.dtype)
    return inverted(0.5)(x, draws.at(2, ""))


def chosen_invert(x: np.ndarray, draws: Draws) -> np.ndarray:
    """RandomApply of p = 0.5 round Compose round an invert and a flip of p = 1."""
    chosen = draws.uniform() < 0.5
    top = oracles.top(x)
    return np.stack(
        [(top - i.astype(np.float64))[..., ::-1] if c else i for i, c in zip(x, chosen, strict=True)]
    )


def choice(x: np.ndarray, draws: Draws) -> np.ndarray:
    """With probabilities 1/4, 1/2, 1/4: inverted, flipped, half as bright."""
    u, top = draws.uniform(), oracles.top(x)
    changes = [
        lambda i: top - i.astype(np.float64),
        lambda i: i[..., ::-1],
        lambda i: oracles.brightness(i, 0.5),
    ]
    return np.stack([changes[int(k >= 0.25) + int(k >= 0.75)](i) for i, k in zip(x, u, strict=True)])


MOVING = [
    moving(
        "RandomAffine",
        lambda **more: t.RandomAffine(**(AFFINE | more)),
        by_affine(**AFFINE),
        [
            (
                lambda: t.RandomAffine(-1),
                ShapeError,
                "RandomAffine: degrees: expected a number of at least 0",
            ),
            (
                lambda: t.RandomAffine((9, 1)),
                ShapeError,
                "RandomAffine: degrees: expected (low, high) in order",
            ),
            (lambda: t.RandomAffine(0, (2, 0)), ShapeError, "RandomAffine: translate: expected two numbers"),
            (
                lambda: t.RandomAffine(0, 0.1),
                ShapeError,
                "RandomAffine: translate: expected two numbers, got 0.1",
            ),
            (
                lambda: t.RandomAffine(0, center=3),
                ShapeError,
                "RandomAffine: center: expected two numbers, got 3",
            ),
            (
                lambda: t.RandomAffine(0, scale=(0, 1)),
                ShapeError,
                "scale: expected numbers above 0, got (0, 1)",
            ),
            (lambda: t.RandomAffine(0, shear=-2), ShapeError, "RandomAffine: shear: expected a number of at"),
            (
                lambda: t.RandomAffine(0, (0.1, 0), fill=300)(UNIT, **INDEX),
                ShapeError,
                "transforms: fill: expected a number of uint8, got 300",
            ),
            (
                lambda: t.RandomAffine(9, mask_fill=-1)(UNIT, UNIT[:, 0], **INDEX),
                ShapeError,
                "transforms: mask_fill: expected a number of uint8, got -1",
            ),
        ],
    ),
    moving(
        "RandomAffine reflect",
        lambda **more: t.RandomAffine(**(AFFINE | {"padding_mode": "reflect"} | more)),
        by_affine("reflect", **AFFINE),
    ),
    moving("RandomRotation", lambda **more: t.RandomRotation(25, **more), by_affine(degrees=(-25, 25))),
    moving(
        "RandomPerspective",
        lambda p=1.0, **more: t.RandomPerspective(0.6, p, **more),
        oracles.perspective(0.6),
        [
            (
                lambda: t.RandomPerspective(2),
                ShapeError,
                "distortion_scale: expected a probability, 0 to 1, got 2",
            )
        ],
    ),
    moving(
        "ElasticTransform",
        lambda **more: t.ElasticTransform(20, 2, **more),
        oracles.elastic(20, 2),
        [
            (
                lambda: t.ElasticTransform(-1),
                ShapeError,
                "ElasticTransform: alpha: expected a number of at least",
            ),
            (
                lambda: t.ElasticTransform(1, 0),
                ShapeError,
                "ElasticTransform: sigma: expected a number above 0",
            ),
        ],
    ),
    moving(
        "ElasticTransform edge",
        lambda **more: t.ElasticTransform(**({"padding_mode": "edge"} | more)),
        oracles.elastic(34, 4, "edge"),
    ),
    Row(
        "RandomHorizontalFlip",
        lambda p=0.5: t.RandomHorizontalFlip(p),
        oracles.flipped(2, 0.5),
        moves=True,
        bad=bad_p(t.RandomHorizontalFlip, "RandomHorizontalFlip"),
    ),
    Row(
        "RandomVerticalFlip",
        lambda p=0.3: t.RandomVerticalFlip(p),
        oracles.flipped(1, 0.3),
        moves=True,
        bad=bad_p(t.RandomVerticalFlip, "RandomVerticalFlip"),
    ),
    Row("AlternatingHorizontalFlip", t.AlternatingHorizontalFlip, oracles.alternating, p=False, moves=True),
    Row(
        "RandomCrop",
        lambda: t.RandomCrop((9, 11), (1, 2, 3, 4), padding_mode="reflect"),
        oracles.cropped((9, 11), (1, 2, 3, 4), "reflect"),
        p=False,
        moves=True,
        shape=lambda shape: (*shape[:2], 9, 11),
        bad=[
            (
                lambda: t.RandomCrop(0),
                ShapeError,
                "RandomCrop: size: expected a size or (height, width), 1 or",
            ),
            (lambda: t.RandomCrop(2, (1, 2, 3)), ShapeError, "RandomCrop: padding: expected 1, 2 or 4 whole"),
            (
                lambda: t.RandomCrop(2, -1),
                ShapeError,
                "RandomCrop: padding: expected 1, 2 or 4 whole numbers",
            ),
            (
                lambda: t.RandomCrop(22, 2)(UNIT, **INDEX),
                ShapeError,
                "RandomCrop: size: expected at most (21, 20), padding included, got (22, 22)",
            ),
            *bad_sampling(lambda interpolation="", **more: t.RandomCrop(2, **more), "RandomCrop")[1:],
        ],
    ),
    Row(
        "RandomCrop zeros",
        lambda: t.RandomCrop(12, 4),
        oracles.cropped((12, 12), (4, 4, 4, 4), "constant"),
        p=False,
        moves=True,
        shape=lambda shape: (*shape[:2], 12, 12),
    ),
    Row(
        "CenterCrop",
        lambda: t.CenterCrop((10, 21)),
        lambda x, draws: oracles.centred(x, (10, 21), 9),
        p=False,
        draws=False,
        moves=True,
        shape=lambda shape: (*shape[:2], 10, 21),
        bad=[
            (lambda: t.CenterCrop(0), ShapeError, "CenterCrop: size: expected a size or (height, width), 1"),
            *bad_sampling(lambda interpolation="", **more: t.CenterCrop(2, **more), "CenterCrop")[1:],
        ],
    ),
    Row(
        "RandomResizedCrop",
        lambda **more: t.RandomResizedCrop((9, 11), (0.2, 1), (0.5, 3), **more),
        oracles.resized_window((9, 11), (0.2, 1), (0.5, 3)),
        p=False,
        moves=True,
        interpolates=True,
        shape=lambda shape: (*shape[:2], 9, 11),
        bad=[
            (
                lambda: t.RandomResizedCrop(8, (0, 1)),
                ShapeError,
                "RandomResizedCrop: scale and ratio: expected numbers above 0, got (0, 1) and",
            ),
            (
                lambda: t.RandomResizedCrop(8, (0.5, 2)),
                ShapeError,
                "RandomResizedCrop: scale: expected (low, high) in order from 0 to 1, got (0.5, 2)",
            ),
            *bad_sampling(lambda **more: t.RandomResizedCrop(2, **more), "RandomResizedCrop"),
        ],
    ),
    Row(
        "RandomResizedCrop of what seldom fits",
        lambda **more: t.RandomResizedCrop(8, (0.95, 1), (0.25, 4), **more),
        oracles.resized_window((8, 8), (0.95, 1), (0.25, 4)),
        p=False,
        moves=True,
        interpolates=True,
        shape=lambda shape: (*shape[:2], 8, 8),
    ),
    Row(
        "Resize",
        lambda **more: t.Resize((5, 17), **more),
        oracles.resized((5, 17)),
        p=False,
        moves=True,
        interpolates=True,
        draws=False,
        shape=lambda shape: (*shape[:2], 5, 17),
        bad=[
            (
                lambda: t.Resize((0, 1)),
                ShapeError,
                "Resize: size: expected a size or (height, width), 1 or more",
            ),
            (lambda: t.Resize(-3), ShapeError, "Resize: size: expected a size or (height, width), 1 or more"),
            (
                lambda: t.Resize(3, "cubic"),
                ShapeError,
                "interpolation: expected one of bilinear, nearest, got",
            ),
        ],
    ),
    Row(
        "Resize of the shorter side",
        lambda **more: t.Resize(20, **more),
        oracles.resized((21, 20)),
        p=False,
        moves=True,
        interpolates=True,
        draws=False,
        shape=lambda shape: (*shape[:2], 21, 20),
    ),
]

WIDE = {"slope": 0.99, "shift": lambda size: 32, "turn": 135, "factor": 0.99}
RAND = {"slope": 0.3, "shift": lambda size: size * 150 / 331, "turn": 30, "factor": 0.9}
SEVERAL = [
    Row("Compose", compose, one_pass, p=False, moves=True, interpolates=True),
    Row(
        "Compose of two runs",
        lambda: t.Compose([t.RandomCrop((11, 9), 2), t.RandomInvert(0.5)]),
        one_after_the_other,
        p=False,
        moves=True,
        recolors=True,
        shape=lambda shape: (*shape[:2], 11, 9),
        bad=[(lambda: t.Compose([abs]), DtypeError, "Compose: transforms: expected transforms, got builtin")],
    ),
    Row(
        "RandomApply",
        lambda p=0.5: t.RandomApply([t.RandomInvert(1), t.RandomHorizontalFlip(1)], p),
        chosen_invert,
        moves=True,
        recolors=True,
        bad=bad_p(lambda p: t.RandomApply([], p), "RandomApply"),
    ),
    Row(
        "RandomChoice",
        lambda: t.RandomChoice(
            [t.RandomInvert(1), t.RandomHorizontalFlip(1), t.ColorJitter((0.5, 0.5))], [1, 2, 1]
        ),
        choice,
        p=False,
        moves=True,
        recolors=True,
        bad=[
            (
                lambda: t.RandomChoice([]),
                ShapeError,
                "RandomChoice: transforms: expected at least one, got none",
            ),
            (
                lambda: t.RandomChoice([t.RandomInvert()], [0]),
                ShapeError,
                "RandomChoice: p: expected 1 numbers, 0 or more and not all 0, got [0]",
            ),
            (
                lambda: t.RandomChoice([t.RandomCrop(3)])(UNIT, **INDEX),
                ShapeError,
                "transforms: expected samples of one shape and dtype, got uint8 (3, 3, 3) for some and uint8",
            ),
        ],
    ),
    moving(
        "RandAugment",
        lambda **more: t.RandAugment(2, 20, **more),
        oracles.policy(2, 31, 20, RAND, 4),
        [
            (
                lambda: t.RandAugment(magnitude=31),
                ShapeError,
                "RandAugment: magnitude: expected 0 to 30, got 31",
            ),
            (lambda: t.RandAugment(-1), ShapeError, "RandAugment: num_ops: expected 0 to 64, got -1"),
            (lambda: t.RandAugment(2, 0, 1), ShapeError, "num_magnitude_bins: expected 2 or more, got 1"),
        ],
        recolors=True,
        levels=2.01,
        off=0.02,
    ),
    moving(
        "TrivialAugmentWide",
        lambda **more: t.TrivialAugmentWide(**more),
        oracles.policy(1, 31, None, WIDE, 6),
        [(lambda: t.TrivialAugmentWide(1), ShapeError, "num_magnitude_bins: expected 2 or more, got 1")],
        recolors=True,
        levels=1.01,
        off=0.02,
    ),
]


ROWS = [*MOVING, *SEVERAL, *values.COLORS, *values.ERASING, *values.SCALES]
FED = values.FUNCTIONS
