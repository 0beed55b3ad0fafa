"""Pixels brought to a common scale: fixed numbers, each image's own, or those that make pixels uncorrelated.

They come last in a pipeline, and take uint8 or float32 to float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels import matmul
from tinydl_kernels.machine.errors import ShapeError

from .contract import Draws, Transform, above_zero, check_images, not_negative

__all__ = ["Normalize", "PCAWhitening", "Standardize", "ZCAWhitening", "patch_whitening_filters"]

PIECE = 1 << 20
"""Numbers that are in float64 at a time."""
ROWS = 16
"""Samples that are multiplied at a time: always as many, since the order of a sum may depend on the sizes."""


class Normalize(Transform):
    """(x - mean) / std of each channel, float32.

    Args:
        mean, std: a number, or one for each channel, in the images' units (0 to 255 of uint8); std above 0.
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = (np.array(numbers, np.float32).reshape(-1) for numbers in (mean, std))
        if not (self.std > 0).all() or not np.isfinite(self.mean).all():
            raise ShapeError(f"Normalize: expected finite means, and std above 0, got {mean} and {std}")

    @classmethod
    def fit(cls, images: np.ndarray) -> Normalize:
        """With mean and standard deviation of each channel of training images (N, C, H, W), taken in
        float64; a channel of one value keeps its scale.
        """
        check_images("Normalize.fit", images)
        if not len(images):
            raise ShapeError(f"Normalize.fit: images: expected at least one, got {images.shape}")
        count = images.size // images.shape[1]
        mean = images.sum((0, 2, 3), dtype=np.float64) / count
        squares = sum(np.square(part - mean.reshape(-1, 1, 1)).sum((0, 2, 3)) for part in _pieces(images))
        std = np.sqrt(np.asarray(squares) / count)
        return cls(mean, np.where(std > 0, std, 1))

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, images.shape[1]):
                raise ShapeError(
                    f"Normalize: {name}: expected 1 or C={images.shape[1]} numbers, got {len(numbers)}"
                )
        mean, std = self.mean.reshape(-1, 1, 1), self.std.reshape(-1, 1, 1)
        return (images.astype(np.float32) - mean) / std, masks


class Standardize(Transform):
    """Each image minus its own mean, over its own standard deviation, float32; both in float64, over all
    channels and pixels.

    Args:
        eps: a smaller standard deviation counts as this (in the images' units), so that an image of one
            value becomes zeros; above 0.
    """

    def __init__(self, eps: float = 1e-6) -> None:
        self.eps = above_zero("Standardize", "eps", eps)

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        found = np.empty(images.shape, np.float32)
        for image, out in zip(images, found, strict=True):
            rest = image - image.mean(dtype=np.float64)
            out[...] = rest / max(self.eps, math.sqrt(np.square(rest).mean()))
        return found, masks


class PCAWhitening(Transform):
    """Pixels as uncorrelated components of variance 1: y = matrix (x - mean), float32 (N, K, 1, 1).

    ``PCAWhitening.fit(train_images)`` takes mean and matrix from training images.

    Args:
        mean: (D,), D = C H W.
        matrix: (K, D).
    """

    def __init__(self, mean: np.ndarray, matrix: np.ndarray) -> None:
        self.mean, self.matrix = np.asarray(mean, np.float32), np.ascontiguousarray(matrix, np.float32)
        if self.mean.ndim != 1 or self.matrix.ndim != 2 or self.matrix.shape[1] != self.mean.size:
            raise ShapeError(
                f"{type(self).__name__}: expected mean (D,) and matrix (K, D), got {self.mean.shape} and "
                f"{self.matrix.shape}"
            )

    @classmethod
    def fit(cls, images: np.ndarray, components: int | None = None, eps: float = 1e-5) -> PCAWhitening:
        """With the eigenvectors v_k of the covariance of pixels, largest eigenvalue λ_k first:
        row k of the matrix is v_k / sqrt(λ_k + eps).

        Args:
            images: (N, C, H, W) of the training set.
            components: K; None: all C H W.
            eps: keeps noise in directions without variance from being blown up (images' units, squared).
        """
        mean, values, vectors = _spectrum("PCAWhitening.fit", images, eps, components)
        return cls(mean, (vectors / np.sqrt(values + eps)).T)

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return self._product(images).reshape(len(images), len(self.matrix), 1, 1), masks

    def _product(self, images: np.ndarray) -> np.ndarray:
        who, D = type(self).__name__, self.mean.size
        if images[:0].size or math.prod(images.shape[1:]) != D:
            raise ShapeError(f"{who}: images: expected C H W = {D}, got {images.shape}")
        # Whole pieces of samples, the last one filled up.
        rows = np.zeros((-(-len(images) // ROWS) * ROWS, D), np.float32)
        rows[: len(images)] = images.reshape(len(images), D).astype(np.float32) - self.mean
        pieces = [
            matmul.matmul(rows[k : k + ROWS], self.matrix, False, True) for k in range(0, len(rows), ROWS)
        ]
        found = np.concatenate(pieces) if pieces else np.empty((0, len(self.matrix)), np.float32)
        return found[: len(images)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mean.size} pixels, {len(self.matrix)} components)"


class ZCAWhitening(PCAWhitening):
    """Pixels made uncorrelated and of variance 1 and turned back, so that images stay images, of their shape
    (Bell and Sejnowski, 1997; Krizhevsky, 2009).

    ``ZCAWhitening.fit(train_images)``; the matrix is Σ_k v_k v_kᵀ / sqrt(λ_k + eps), (D, D).
    """

    @classmethod
    def fit(cls, images: np.ndarray, components: int | None = None, eps: float = 1e-5) -> ZCAWhitening:
        mean, values, vectors = _spectrum("ZCAWhitening.fit", images, eps, components)
        return cls(mean, (vectors / np.sqrt(values + eps)) @ vectors.T)

    def change(
        self, images: np.ndarray, masks: np.ndarray | None, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if len(self.matrix) != self.mean.size:
            raise ShapeError(f"ZCAWhitening: matrix: expected (D, D), got {self.matrix.shape}")
        return self._product(images).reshape(images.shape), masks


def patch_whitening_filters(images: np.ndarray, kernel_size: int = 2, eps: float = 5e-4) -> np.ndarray:
    """Weights of a first convolution whose outputs on the images' patches are uncorrelated, of variance 1.

    The 2 C k² filters are the eigenvectors of the covariance of patches, each over the root of its eigenvalue
    + eps, largest first, and then their negatives, so that a relu loses nothing (Page, "How to train your
    ResNet 8", 2019; Jordan, arXiv 2404.00498). Patches have their mean subtracted, which a bias of the
    convolution may do or not.

    Args:
        images: (N, C, H, W), as the network will see them.
        kernel_size: k, of patches and filters.
        eps: 0 or more.

    Returns:
        float32 (2 C k², C, k, k).

    Raises:
        ShapeError: no patch of that size, or a negative eps.
    """
    who = "patch_whitening_filters"
    check_images(who, images)
    _, C, H, W = images.shape
    if not 1 <= kernel_size <= min(H, W):
        raise ShapeError(f"{who}: kernel_size: expected 1 to {min(H, W)}, got {kernel_size}")
    D = C * kernel_size**2

    def patches(part: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(part, (kernel_size, kernel_size), (2, 3))
        return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, D)

    _, values, vectors = _eigen(
        who, [patches(part) for part in _pieces(images)], not_negative(who, "eps", eps)
    )
    filters = (vectors / np.sqrt(values + eps)).T.reshape(D, C, kernel_size, kernel_size)
    return np.concatenate([filters, -filters]).astype(np.float32)


# ---- Covariances


def _pieces(images: np.ndarray) -> list[np.ndarray]:
    return np.array_split(images, 1 + images.size // PIECE)


def _spectrum(
    who: str, images: np.ndarray, eps: float, components: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (D,), the largest eigenvalues (K,) of the covariance of pixels, eigenvectors (D, K)."""
    check_images(who, images)
    D = math.prod(images.shape[1:])
    K = D if components is None else components
    if not 1 <= K <= D:
        raise ShapeError(f"{who}: components: expected 1 to C H W = {D}, got {components}")
    parts = [part.reshape(len(part), D) for part in _pieces(images)]
    mean, values, vectors = _eigen(who, parts, not_negative(who, "eps", eps))
    return mean, values[:K], vectors[:, :K]


def _eigen(who: str, parts: list[np.ndarray], eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (D,), eigenvalues (D,) of the covariance, largest first, and eigenvectors as columns (D, D).

    A vector's entry of largest size is positive, since solvers leave the sign open.
    """
    count = sum(len(part) for part in parts)
    if not count:
        raise ShapeError(f"{who}: images: expected at least one, got none")
    mean = sum(part.sum(0, dtype=np.float64) for part in parts) / count
    covariance = sum((rest := part - mean).T @ rest for part in parts) / count
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if eps == 0 and values[-1] <= 1e-12 * values[0]:
        raise ShapeError(f"{who}: eps: expected a number above 0, since a direction has no variance; got 0")
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return mean, values, vectors * np.sign(largest)
