"""Scales that are fitted to training images: what they make of these, and filters that whiten patches."""

from __future__ import annotations

import numpy as np
import pytest

import tinydl as td
from tinydl.data import transforms as t

GENERATOR = np.random.default_rng(5)
MIXING = np.random.default_rng(6).normal(size=(18, 18))
IMAGES = (GENERATOR.normal(size=(600, 18)) @ MIXING + 3).reshape(600, 2, 3, 3).astype(np.float32)


def covariance(y: np.ndarray) -> np.ndarray:
    return np.cov(y.reshape(len(y), -1).astype(np.float64), rowvar=False, bias=True)


def test_normalize_fits_each_channel() -> None:
    bytes_of = np.random.default_rng(1).integers(0, 200, (3000, 2, 20, 20), np.uint8)  # more than one piece
    bytes_of[:, 1] = 17
    made = t.Normalize.fit(bytes_of)
    assert made.mean == pytest.approx(bytes_of.mean((0, 2, 3)))
    assert made.std == pytest.approx([bytes_of[:, 0].std(), 1])
    y = made(bytes_of)
    assert y.dtype == np.float32
    assert y[:, 0].std() == pytest.approx(1, abs=1e-3)
    assert (y[:, 1] == 0).all()


def test_standardize_of_an_image_of_one_value_is_zero() -> None:
    np.testing.assert_array_equal(t.Standardize()(np.full((1, 1, 4, 4), 9, np.uint8)), 0)


@pytest.mark.parametrize("kind", [t.PCAWhitening, t.ZCAWhitening])
def test_whitened_pixels_are_uncorrelated_with_variance_one(kind) -> None:
    y = kind.fit(IMAGES, eps=0)(IMAGES)
    np.testing.assert_allclose(covariance(y), np.eye(18), atol=2e-3)


def test_components_are_the_largest_first() -> None:
    made = t.PCAWhitening.fit(IMAGES, 4)
    y = made(IMAGES)
    assert y.shape == (600, 4, 1, 1)
    np.testing.assert_array_equal(y[:, :, 0, 0], t.PCAWhitening.fit(IMAGES)(IMAGES)[:, :4, 0, 0])
    raw = covariance(IMAGES)
    kept = [row @ raw @ row / (row @ row) for row in made.matrix.astype(np.float64)]
    np.testing.assert_allclose(kept, np.linalg.eigvalsh(raw)[::-1][:4], rtol=1e-4)


def test_zca_is_the_symmetric_whitening() -> None:
    """And so the one that changes images least."""
    matrix = t.ZCAWhitening.fit(IMAGES).matrix
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert (np.linalg.eigvalsh(matrix) > 0).all()


def test_a_saved_whitening_is_its_arrays() -> None:
    made = t.ZCAWhitening.fit(IMAGES)
    again = t.ZCAWhitening(made.mean, made.matrix)
    np.testing.assert_array_equal(made(IMAGES[:5]), again(IMAGES[:5]))


def test_filters_whiten_patches() -> None:
    """As weights of a convolution: uncorrelated outputs of variance 1, and their negatives."""
    images = np.random.default_rng(2).normal(size=(300, 3, 6, 6)).astype(np.float32).cumsum(3)
    weights = t.patch_whitening_filters(images, 2, eps=0)
    assert weights.shape == (24, 3, 2, 2)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights[12:], -weights[:12])
    y = td.conv2d(td.from_numpy(images), td.from_numpy(weights[:12])).numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(covariance(y.transpose(0, 2, 3, 1).reshape(-1, 12)), np.eye(12), atol=1e-3)
