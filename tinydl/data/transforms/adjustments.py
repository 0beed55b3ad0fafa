"""Changes of color and light as functions of images and of one number for each sample.

Images are (N, C, H, W), uint8 of 0 to 255 or float32 of 0 to 1; results have their dtype, uint8 rounded to
the nearest. Arithmetic is in float32, elementwise or within one sample: no sample depends on its batch.
"""

from __future__ import annotations

import numpy as np
from tinydl_kernels.smooth import smooth
from tinydl_kernels.warp import REFLECT

from .warping import TAPS, gaussian

GRAY = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
"""ITU-R BT.601: how bright red, green and blue are."""


def top(images: np.ndarray) -> float:
    """White."""
    return 255.0 if images.dtype == np.uint8 else 1.0


def restored(values: np.ndarray, images: np.ndarray, clip: bool = True) -> np.ndarray:
    """float32 values in the dtype of `images`, cut to its range."""
    if images.dtype == np.uint8:
        return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return np.clip(values, 0, 1) if clip else values


def each(numbers: np.ndarray) -> np.ndarray:
    """One number for each sample, as float32 (N, 1, 1, 1)."""
    return numbers.astype(np.float32).reshape(-1, 1, 1, 1)


def gray(images: np.ndarray) -> np.ndarray:
    """float32 (N, 1, H, W): brightness of three channels, the mean of another number of them."""
    values = images.astype(np.float32)
    return (values * GRAY).sum(1, keepdims=True) if images.shape[1] == 3 else values.mean(1, keepdims=True)


def blend(images: np.ndarray, other: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """other + factor (images - other)."""
    return restored(other + each(factor) * (images.astype(np.float32) - other), images)


def brightness(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return restored(images.astype(np.float32) * each(factor), images)


def contrast(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """About each image's mean brightness."""
    means = np.array([plane.mean(dtype=np.float64) for plane in gray(images)])
    return blend(images, each(means), factor)


def saturation(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """About its gray picture; nothing changes where there are not three channels."""
    return blend(images, gray(images), factor) if images.shape[1] == 3 else images


def hue(images: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Turned on the circle of colors by parts of it, in HSV (A. R. Smith, SIGGRAPH 1978); nothing changes
    where there are not three channels.
    """
    if images.shape[1] != 3:
        return images
    values = images.astype(np.float32)
    red, green, blue = values.transpose(1, 0, 2, 3)
    value = values.max(1)
    chroma = value - values.min(1)
    safe = np.where(chroma > 0, chroma, np.float32(1))
    sixths = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths += 6 * each(turn)[:, 0]
    channels = []
    for number in (5, 3, 1):
        k = (number + sixths) % 6
        channels.append(value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1))
    return restored(np.stack(channels, 1), images)


def sharpness(images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """About the mean of 3 x 3 pixels in which the middle one counts five times; the frame is kept."""
    values = images.astype(np.float32)
    if min(images.shape[2:]) < 3:
        return images
    mean, (H, W) = values.copy(), images.shape[2:]
    inner = 4 * values[:, :, 1:-1, 1:-1]
    for i in range(3):
        for j in range(3):
            inner = inner + values[:, :, i : H - 2 + i, j : W - 2 + j]
    mean[:, :, 1:-1, 1:-1] = inner / np.float32(13)
    return blend(images, mean, factor)


def gamma(images: np.ndarray, power: np.ndarray) -> np.ndarray:
    """x ↦ x^power on a scale from 0 to 1; computed in float64."""
    power = power.reshape(-1, 1, 1, 1)
    if images.dtype != np.uint8:
        return np.power(np.clip(images, 0, 1).astype(np.float64), power).astype(np.float32)
    table = np.rint(255 * np.power(np.arange(256) / 255, power.reshape(-1, 1))).astype(np.uint8)
    return looked_up(images, table)


def looked_up(images: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """table[pixel], with a table (N, 256) for each sample."""
    rows = np.arange(len(images)).reshape(-1, 1, 1, 1)
    return tables[rows, images]


def posterize(images: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Only the upper `bits` of 8 are kept; of float32, 2^bits levels from 0 to 1 - 2^-bits."""
    if images.dtype == np.uint8:
        keep = (256 - (1 << (8 - bits.astype(np.int64)))).astype(np.uint8)
        return images & keep.reshape(-1, 1, 1, 1)
    levels = each(2.0 ** bits.astype(np.float64))
    return np.clip(np.floor(images * levels), 0, levels - 1) / levels


def solarize(images: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Pixels of at least the threshold are inverted."""
    return np.where(images >= each(threshold), invert(images), images)


def invert(images: np.ndarray) -> np.ndarray:
    return images.dtype.type(top(images)) - images


def autocontrast(images: np.ndarray) -> np.ndarray:
    """Each channel is stretched to the whole range; one of a single value stays."""
    values = images.astype(np.float32)
    low, high = values.min((2, 3), keepdims=True), values.max((2, 3), keepdims=True)
    width = np.where(high > low, high - low, np.float32(1))
    stretched = (values - low) * (np.float32(top(images)) / width)
    return restored(np.where(high > low, stretched, values), images)


def equalize(images: np.ndarray) -> np.ndarray:
    """Each channel's values are mapped so that they are spread evenly: the table that Pillow makes of the
    histogram. float32 goes through 256 levels.
    """
    levels = images if images.dtype == np.uint8 else np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    found = np.empty_like(levels)
    for n, c in np.ndindex(levels.shape[:2]):
        counts = np.bincount(levels[n, c].reshape(-1), minlength=256)
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step == 0:
            found[n, c] = levels[n, c]
            continue
        below = np.cumsum(counts) - counts
        found[n, c] = np.minimum((below + step // 2) // step, 255).astype(np.uint8)[levels[n, c]]
    return found if images.dtype == np.uint8 else found.astype(np.float32) / np.float32(255)


def blur(images: np.ndarray, sigma: np.ndarray, reach: int | None = None) -> np.ndarray:
    """A Gaussian of each sample's standard deviation, mirrored at the edges; cut at 3 sigma unless said."""
    if reach is None:
        reach = int(TAPS * float(sigma.max(initial=0)) + 0.5)
    blurred = smooth(images.astype(np.float32), gaussian(sigma, reach), REFLECT)
    return restored(blurred, images, clip=False)


def lit(images: np.ndarray, grids: np.ndarray) -> np.ndarray:
    """Times a field that is bilinear between the points of a grid (N, k, k) over the image."""
    rows, columns = (_hats(size, grids.shape[1]) for size in images.shape[2:])
    fields = np.stack([rows @ grid @ columns.T for grid in grids]) if len(grids) else grids
    return restored(
        images.astype(np.float32) * fields.astype(np.float32).reshape(-1, 1, *images.shape[2:]), images
    )


def _hats(size: int, points: int) -> np.ndarray:
    """(size, points): the shares of evenly spaced points, the first and last pixel on the first and last."""
    places = np.linspace(0, points - 1, size)[:, None]
    return np.maximum(0, 1 - abs(places - np.arange(points)))
