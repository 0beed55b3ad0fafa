"""grid_sample and affine_grid beside PyTorch, in every mode, inside and outside of the image."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

RANDOM = np.random.default_rng(0)
IMAGE, GRID = RANDOM.standard_normal((2, 3, 4, 5)), RANDOM.uniform(-1.9, 1.9, (2, 3, 2, 2))
VOLUME, PLACES = RANDOM.standard_normal((2, 2, 3, 4, 2)), RANDOM.uniform(-1.7, 1.7, (2, 2, 2, 1, 3))
pytestmark = pytest.mark.usefixtures("reference")


def agree(call: Any, arrays: list[np.ndarray], order: int = 1) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(
        lambda *x: call(td, *x), lambda *x: call(torch.nn.functional, *x), arrays, order=order, tolerance=1e-9
    )


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(
    ("mode", "outside"), [*product(["bilinear", "nearest", "bicubic"], ["zeros", "border", "reflection"])]
)
def test_images(mode: str, outside: str, align: bool) -> None:
    """Second derivatives, which PyTorch has of some modes only, are in the catalogue."""
    agree(lambda F, x, g: F.grid_sample(x, g, mode, outside, align), [IMAGE, GRID])


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_volumes(mode: str, outside: str) -> None:
    agree(lambda F, x, g: F.grid_sample(x, g, mode, outside, True), [VOLUME, PLACES])
    agree(lambda F, x, g: F.grid_sample(x, g, mode, outside, False), [VOLUME, PLACES])


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
def test_on_the_pixels_and_the_edges(outside: str) -> None:
    line = np.array([-1.5, -1.0, -0.75, 0.0, 0.25, 0.75, 1.0, 1.25])
    grid = np.stack(np.meshgrid(line, line), -1)[None]
    for mode, align in product(["bilinear", "nearest"], [False, True]):
        agree(lambda F, x, m=mode, a=align: F.grid_sample(x, F_grid(F, grid), m, outside, a), [IMAGE[:1]])


def F_grid(F: Any, grid: np.ndarray) -> Any:
    return td.tensor(grid) if F is td else pytest.importorskip("torch").tensor(grid)


def test_one_pixel_and_none() -> None:
    for outside, align in product(["zeros", "border", "reflection"], [False, True]):
        agree(lambda F, x, g, o=outside, a=align: F.grid_sample(x, g, padding_mode=o, align_corners=a),
              [IMAGE[:, :, :1, :1], GRID])  # fmt: skip
    assert td.grid_sample(td.tensor(IMAGE[:0]), td.tensor(GRID[:0])).shape == (0, 3, 3, 2)
    assert td.grid_sample(td.tensor(IMAGE), td.tensor(GRID[:, :0])).shape == (2, 3, 0, 2)


@pytest.mark.parametrize("align", [False, True])
def test_affine_grid(align: bool) -> None:
    agree(lambda F, t: F.affine_grid(t, (2, 3, 4, 5), align), [RANDOM.standard_normal((2, 2, 3))], 2)
    agree(lambda F, t: F.affine_grid(t, [2, 1, 3, 4, 2], align), [RANDOM.standard_normal((2, 3, 4))], 2)
    agree(lambda F, t: F.affine_grid(t, [2, 1, 3, 1, 2], False), [RANDOM.standard_normal((2, 3, 4))], 2)


def test_the_identity_gives_the_image() -> None:
    theta = td.tensor(np.tile(np.eye(2, 3), (2, 1, 1)))
    for align in (False, True):
        found = td.grid_sample(
            td.tensor(IMAGE), td.affine_grid(theta, IMAGE.shape, align), align_corners=align
        )
        np.testing.assert_allclose(found.numpy(), IMAGE, atol=1e-12)


def test_a_place_that_is_not_a_number_is_outside() -> None:
    grid = GRID.copy()
    grid[0, 0, 0] = np.nan
    assert td.grid_sample(td.tensor(IMAGE), td.tensor(grid), "nearest")[0, :, 0, 0].tolist() == [0, 0, 0]


def test_refused() -> None:
    x, g = td.tensor(IMAGE), td.tensor(GRID)
    with pytest.raises(
        ValueError, match="grid_sample: expected padding_mode 'zeros', 'border' or 'reflection', got"
    ):
        td.grid_sample(x, g, padding_mode="wrap")
    with pytest.raises(ValueError, match="grid_sample: expected mode 'bilinear', 'nearest' or, for images"):
        td.grid_sample(td.tensor(VOLUME), td.tensor(PLACES), "bicubic")
    with pytest.raises(ShapeError, match="grid_sample: expected at least one pixel, got"):
        td.grid_sample(x[:, :, :0], g)
