"""Maps of the plane: how they are made, composed, and sampled once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tinydl_kernels import warp
from tinydl_kernels.machine.errors import ShapeError

from .contract import Draws, Transform, check_value, put, take

BORDERS = {"constant": warp.CONSTANT, "edge": warp.EDGE, "reflect": warp.REFLECT}
INTERPOLATIONS = ("bilinear", "nearest")
TAPS = 3.0
"""Standard deviations that a Gaussian's taps reach."""


def check_interpolation(who: str, interpolation: str) -> None:
    if interpolation not in INTERPOLATIONS:
        raise ShapeError(
            f"{who}: interpolation: expected one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}"
        )


class Settings(NamedTuple):
    """How a map is sampled; interpolation None: pixels go to pixels, so that either does."""

    interpolation: str | None = "bilinear"
    padding_mode: str = "constant"
    fill: float = 0
    mask_fill: int = 0


class Map(NamedTuple):
    """From pixels of the output to those of the input, for each sample: first the displacement, then the
    matrix.
    """

    matrices: np.ndarray | None  # float64 (N, 3, 3), on (column, row, 1); None: the displacement alone
    size: tuple[int, int]  # of the output
    field: np.ndarray | None = None  # float32 (N, 2, *size)


class Geometric(Transform):
    """Moves pixels. Neighbours in a Compose that agree in their settings become one map, sampled once:
    nothing is blurred twice, and what leaves the frame on the way and comes back is still there.
    """

    settings: Settings | None = None
    """None: nothing from outside is ever seen, so that it agrees with everybody."""
    last = False
    """Nothing that follows becomes one map with it."""

    def map(self, draws: Draws, size: tuple[int, int]) -> Map:
        """Of images of this size."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method map(draws, size)")

    def apply(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return sample([self], images, masks, [draws])


def settings(who: str, interpolation: str | None, padding_mode: str, fill: float, mask_fill: int) -> Settings:
    """Checked, but for the fills, which have to suit the arrays."""
    if interpolation is not None:
        check_interpolation(who, interpolation)
    if padding_mode not in BORDERS:
        raise ShapeError(f"{who}: padding_mode: expected one of {', '.join(BORDERS)}, got {padding_mode!r}")
    return Settings(interpolation, padding_mode, fill, mask_fill)


def agreed(first: Settings | None, second: Settings | None) -> Settings | None:
    """The settings that two neighbours have in common; ShapeError where they have none."""
    if first is None or second is None:
        return first or second
    either = first.interpolation or second.interpolation
    merged = first._replace(interpolation=either)
    if merged != second._replace(interpolation=second.interpolation or either):
        raise ShapeError(f"transforms: expected maps of the same settings, got {first} and {second}")
    return merged


def one_map(first: Sequence[Geometric], second: Geometric) -> bool:
    """Can the members of `first` and `second` be sampled at once?"""
    if first[-1].last:
        return False
    try:
        functools.reduce(agreed, [member.settings for member in (*first, second)])
    except ShapeError:
        return False
    return True


def sample(
    members: Sequence[Geometric], images: np.ndarray, masks: np.ndarray | None, draws: Sequence[Draws]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and masks along the maps of all members, one after the other, in one pass."""
    size = before = images.shape[2:]
    total, touched = identities(len(images)), np.zeros(len(images), bool)
    field: np.ndarray | None = None
    plain = True  # is `total` that of no matrix yet?
    for member, own in zip(members, draws, strict=True):
        rows = member.chosen(own)
        if rows is not None and rows.size == 0:
            continue
        found = member.map(own.rows(rows), size)
        some = slice(None) if rows is None else rows
        if found.matrices is not None:
            total[some] = found.matrices if plain else total[some] @ found.matrices
            plain = False
        touched[some] = True
        size = found.size
        if found.field is not None:
            field = found.field
            if rows is not None:
                field = np.zeros((len(images), *found.field.shape[1:]), np.float32)
                field[rows] = found.field
    still = field is None and size == before
    if still and (plain or np.array_equal(total, identities(len(images)))):
        return images, masks
    how = functools.reduce(agreed, [member.settings for member in members]) or Settings(None)
    if touched.all():
        return warped(images, masks, Map(total, size, field), how)
    rows = np.flatnonzero(touched)
    found = Map(total[rows], size, None if field is None else field[rows])
    return put(images, masks, rows, *warped(*take(images, masks, rows), found, how))


def warped(
    images: np.ndarray, masks: np.ndarray | None, found: Map, how: Settings
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images along a map as the settings say, masks by the nearest pixel."""
    border = BORDERS[how.padding_mode]

    def along(x: np.ndarray, bilinear: bool, name: str, fill: float) -> np.ndarray:
        check_value("transforms", name, fill, x.dtype)
        return warp.warp(x, found.matrices, found.field, found.size, bilinear, border, fill)

    images = along(images, how.interpolation == "bilinear", "fill", how.fill)
    return images, None if masks is None else along(masks, False, "mask_fill", how.mask_fill)


# ---- Matrices (N, 3, 3) from the output's (column, row, 1) to the input's


def identities(samples: int) -> np.ndarray:
    lines = np.zeros((samples, 9))
    lines[:, ::4] = 1
    return lines.reshape(samples, 3, 3)


def affine(
    size: tuple[int, int],
    angle: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    scale: np.ndarray,
    shear_x: np.ndarray,
    shear_y: np.ndarray,
    center: tuple[float, float] | None = None,
) -> np.ndarray:
    """The inverse of  x ↦ center + shift + scale · R(angle) · shear (x - center).

    The shear is [[1, tan shear_x], [tan shear_y, 1]]. Angles in degrees; R turns counter-clockwise as the
    picture is seen. Center: (column, row) of pixels, by default the image's.
    """
    (H, W), angle = size, np.deg2rad(angle)
    x, y = center if center is not None else ((W - 1) / 2, (H - 1) / 2)
    cos, sin = np.cos(angle), np.sin(angle)
    p, q = np.tan(np.deg2rad(shear_x)), np.tan(np.deg2rad(shear_y))
    # forward [[a, b], [c, d]]
    a, b = scale * (cos + q * sin), scale * (p * cos + sin)
    c, d = scale * (q * cos - sin), scale * (cos - p * sin)
    determinant = a * d - b * c
    inverse = identities(len(angle))
    inverse[:, 0, 0], inverse[:, 0, 1] = d / determinant, -b / determinant
    inverse[:, 1, 0], inverse[:, 1, 1] = -c / determinant, a / determinant
    for row, centre in ((0, x), (1, y)):
        moved = inverse[:, row, 0] * (x + right) + inverse[:, row, 1] * (y + down)
        inverse[:, row, 2] = centre - moved
    return inverse


def homographies(targets: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """The projective maps that take four points (N, 4, 2) to four others."""
    N = len(targets)
    equations, right = np.zeros((N, 8, 8)), np.zeros((N, 8, 1))
    for k in range(4):
        x, y = targets[:, k, 0], targets[:, k, 1]
        for axis in range(2):
            to, row = sources[:, k, axis], 2 * k + axis
            equations[:, row, 3 * axis], equations[:, row, 3 * axis + 1] = x, y
            equations[:, row, 3 * axis + 2] = 1
            equations[:, row, 6], equations[:, row, 7] = -to * x, -to * y
            right[:, row, 0] = to
    solved = np.linalg.solve(equations, right)[:, :, 0]
    return np.concatenate([solved, np.ones((N, 1))], 1).reshape(N, 3, 3)


def gaussian(sigma: np.ndarray, reach: int) -> np.ndarray:
    """float32 (N, 2 reach + 1): normal densities at the whole numbers around 0, each row of sum 1."""
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * np.square(steps / sigma[:, None]))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
