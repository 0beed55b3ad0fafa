"""What transforms should give, in float64: SciPy along maps, closed forms for one image (C, H, W)."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from tinydl.data.transforms import Draws

Oracle = Callable[[np.ndarray, Draws], np.ndarray]

MODES = {"constant": "grid-constant", "edge": "nearest", "reflect": "mirror"}


def top(x: np.ndarray) -> int:
    return 255 if x.dtype == np.uint8 else 1


def fit(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Cut to the range of x, and rounded if it has whole numbers; float64 still."""
    values = np.clip(values, 0, top(x))
    return np.rint(values) if x.dtype == np.uint8 else values


# ---- Maps


def sampled(
    x: np.ndarray, place: Callable[..., Any], size: Any = None, order: int = 1, mode: str = "constant"
) -> np.ndarray:
    """x (C, H, W) at `place(column, row)`."""
    row, column = np.mgrid[tuple(slice(k) for k in size or x.shape[1:])].astype(np.float64)
    s, t = place(column, row)
    planes = [ndimage.map_coordinates(p.astype(np.float64), [t, s], order=order, mode=MODES[mode]) for p in x]
    return np.stack(planes)


def along(matrix: np.ndarray) -> Callable[..., Any]:
    def place(column: np.ndarray, row: np.ndarray) -> Any:
        s, t, w = np.tensordot(matrix, [column, row, np.ones_like(row)], 1)
        return s / w, t / w

    return place


def shift(right: float, down: float) -> np.ndarray:
    return np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]])


def affine(
    size: Any, angle: float, right: float, down: float, scale: float, shear_x: float, shear_y: float
) -> np.ndarray:
    """From the output to the input: the inverse of one elementary map after the other."""
    middle = (size[1] - 1) / 2, (size[0] - 1) / 2
    a, p, q = np.deg2rad([angle, shear_x, shear_y])
    turn = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    shear = np.array([[1, np.tan(p), 0], [np.tan(q), 1, 0], [0, 0, 1]])
    parts = shift(*middle), shift(right, down), np.diag([scale, scale, 1]), turn, shear
    return np.linalg.inv(np.linalg.multi_dot([*parts, shift(-middle[0], -middle[1])]))


def drawn_affine(
    draws: Draws,
    size: Any,
    degrees: Any,
    translate: Any = (0, 0),
    scale: Any = (1, 1),
    shear: Any = (0, 0, 0, 0),
) -> list[np.ndarray]:
    """The matrices of RandomAffine with these ranges."""
    a, b = translate[0] * size[1], translate[1] * size[0]
    ranges = [degrees, (-a, a), (-b, b), scale, shear[:2], shear[2:]]
    drawn = np.stack([draws.uniform(*limits) for limits in ranges], 1)
    return [affine(size, *numbers) for numbers in drawn]


def homography(targets: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """The null vector of the direct linear transformation."""
    rows = []
    for (x, y), (u, v) in zip(targets, sources, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    return np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)


def perspective(distortion: float) -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        H, W = x.shape[2:]
        corners = np.array([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]], np.float64)
        half = distortion * 0.999 / 2 * np.array([W - 1, H - 1])
        moves = np.stack([draws.uniform(0, most) for _ in range(4) for most in half], 1).reshape(-1, 4, 2)
        inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        maps = [homography(corners + inwards * move, corners) for move in moves]
        return np.stack([sampled(image, along(m)) for image, m in zip(x, maps, strict=True)])

    return oracle


def displacement(draws: Draws, size: Any, alpha: float, sigma: float) -> np.ndarray:
    """(N, 2, H, W), by SciPy's Gaussian."""
    noise = alpha * (2.0 * draws.uniforms(2 * size[0] * size[1]).reshape(-1, 2, *size) - 1)
    smooth = [[ndimage.gaussian_filter(p, sigma, mode="constant", truncate=3) for p in two] for two in noise]
    return np.array(smooth)


def elastic(alpha: float, sigma: float, mode: str = "constant") -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        bend = displacement(draws, x.shape[2:], alpha, sigma)
        return np.stack(
            [
                sampled(i, lambda s, t, b=b: (s + b[0], t + b[1]), mode=mode)
                for i, b in zip(x, bend, strict=True)
            ]
        )

    return oracle


def cropped(size: Any, padding: Any, mode: str) -> Oracle:
    """np.pad and a slice."""

    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        left, up, right, down = padding
        padded = np.pad(x, [(0, 0), (0, 0), (up, down), (left, right)], mode)
        tops, lefts = (draws.integers(padded.shape[2 + k] - size[k] + 1) for k in range(2))
        windows = zip(padded, tops, lefts, strict=True)
        return np.stack([p[:, i : i + size[0], j : j + size[1]] for p, i, j in windows])

    return oracle


def centred(x: np.ndarray, size: Any, by: int) -> np.ndarray:
    """`by` zeros on each side, then the slice in the middle."""
    padded = np.pad(x, [(0, 0), (0, 0), (by, by), (by, by)])
    i, j = (round((k - 2 * by - own) / 2) + by for k, own in zip(padded.shape[2:], size, strict=True))
    return padded[:, :, i : i + size[0], j : j + size[1]]


def resized_window(size: Any, scale: Any, ratio: Any) -> Oracle:
    """Sample by sample: the first of ten windows that fits, else one in the middle of an allowed shape."""

    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        H, W = x.shape[2:]
        tries = [(draws.uniform(*scale), np.exp(draws.uniform(*np.log(ratio)))) for _ in range(10)]
        down, right = draws.uniform(), draws.uniform()
        found = []
        for n, image in enumerate(x):
            sides = [((H * W * a[n] / r[n]) ** 0.5, (H * W * a[n] * r[n]) ** 0.5) for a, r in tries]
            window = next(((h, w) for h, w in sides if h <= H and w <= W), None)
            share = (down[n], right[n]) if window else (0.5, 0.5)
            if window is None:
                shape = np.clip(W / H, *ratio)
                window = (H, H * shape) if H * shape <= W else (W / shape, W)
            (h, w), i, j = window, share[0] * (H - window[0]), share[1] * (W - window[1])
            place = along(
                shift(j, i) @ shift(-0.5, -0.5) @ np.diag([w / size[1], h / size[0], 1]) @ shift(0.5, 0.5)
            )
            found.append(sampled(image, place, size, mode="edge"))
        return np.stack(found)

    return oracle


def flipped(axis: int, p: float) -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        chosen = draws.uniform() < p
        return np.stack([np.flip(i, axis) if c else i for i, c in zip(x, chosen, strict=True)])

    return oracle


def alternating(x: np.ndarray, draws: Draws) -> np.ndarray:
    side = np.floor(2 * Draws("", len(x), draws.index, 0, draws.seed).uniform())
    return np.stack([i[..., ::-1] if (s + draws.epoch) % 2 else i for i, s in zip(x, side, strict=True)])


def triangle(size: int, out: int) -> np.ndarray:
    """(out, size): shares of the pixels in each mean, entry by entry."""
    ratio = size / out
    width, found = max(ratio, 1), np.zeros((out, size))
    for i in range(out):
        for j in range(size):
            found[i, j] = max(0, 1 - abs((j + 0.5) - (i + 0.5) * ratio) / width)
    return found / found.sum(1, keepdims=True)


def resized(size: Any) -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        rows, columns = (triangle(old, new) for old, new in zip(x.shape[2:], size, strict=True))
        return np.einsum("ih,nchw,jw->ncij", rows, x.astype(np.float64), columns)

    return oracle


# ---- Color, for one image (C, H, W)


def gray(x: np.ndarray) -> np.ndarray:
    shares = [0.299, 0.587, 0.114] if len(x) == 3 else np.full(len(x), 1 / len(x))
    return np.tensordot(shares, x.astype(np.float64), 1)[None]


def blend(x: np.ndarray, other: Any, factor: float) -> np.ndarray:
    return fit(factor * x.astype(np.float64) + (1 - factor) * other, x)


def brightness(x: np.ndarray, factor: float) -> np.ndarray:
    return blend(x, 0, factor)


def contrast(x: np.ndarray, factor: float) -> np.ndarray:
    return blend(x, gray(x).mean(), factor)


def saturation(x: np.ndarray, factor: float) -> np.ndarray:
    return blend(x, gray(x), factor) if len(x) == 3 else x


def hue(x: np.ndarray, turn: float) -> np.ndarray:
    """Pixel by pixel, by the standard library."""

    def turned(pixel: np.ndarray) -> Any:
        h, s, v = colorsys.rgb_to_hsv(*(pixel.astype(np.float64) / top(x)))
        return colorsys.hsv_to_rgb((h + turn) % 1, s, v)

    return fit(top(x) * np.apply_along_axis(turned, 0, x), x)


def sharpness(x: np.ndarray, factor: float) -> np.ndarray:
    kernel = np.array([[[1, 1, 1], [1, 5, 1], [1, 1, 1]]]) / 13
    smooth = x.astype(np.float64)
    smooth[:, 1:-1, 1:-1] = ndimage.correlate(smooth, kernel)[:, 1:-1, 1:-1]
    return blend(x, smooth, factor)


def gamma(x: np.ndarray, power: float) -> np.ndarray:
    return fit(top(x) * (x.astype(np.float64) / top(x)) ** power, x)


def posterize(x: np.ndarray, bits: int) -> np.ndarray:
    step = 256 // 2**bits if x.dtype == np.uint8 else 1 / 2**bits
    return np.minimum(x.astype(np.float64) // step, 2**bits - 1) * step


def solarize(x: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(x < threshold, x, top(x) - x.astype(np.float64))


def autocontrast(x: np.ndarray) -> np.ndarray:
    def stretched(plane: np.ndarray) -> np.ndarray:
        low, high = plane.min(), plane.max()
        return plane if low == high else np.interp(plane, [low, high], [0, top(x)])

    return fit(np.stack([stretched(plane.astype(np.float64)) for plane in x]), x)


def equalize(x: np.ndarray) -> np.ndarray:
    """Pillow's table, pixel by pixel: how many pixels are darker, over a step."""
    levels = np.rint(np.clip(x, 0, top(x)).astype(np.float64) * 255 / top(x))
    found = levels.copy()
    for plane, out in zip(levels, found, strict=True):
        step = np.sum(plane != plane.max()) // 255
        if step:
            darker = np.array([[np.sum(plane < value) for value in row] for row in plane])
            out[...] = np.minimum((darker + step // 2) // step, 255)
    return found * top(x) / 255


def blurred(x: np.ndarray, sigma: float, reach: int) -> np.ndarray:
    smooth = [ndimage.gaussian_filter(p.astype(np.float64), sigma, mode="mirror", radius=reach) for p in x]
    return fit(np.stack(smooth), x)


def of_each(change: Callable[..., np.ndarray], *ranges: Any, logarithmic: bool = False) -> Oracle:
    """`change` of each image by a number drawn from a range; without one, by nothing."""

    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        drawn = [draws.uniform(*(np.log(r) if logarithmic else r)) for r in ranges]
        numbers = [np.exp(d) if logarithmic else d for d in drawn]
        return np.stack([change(image, *(n[k] for n in numbers)) for k, image in enumerate(x)])

    return oracle


def jitter(*ranges: Any) -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        for change, limits in zip((brightness, contrast, saturation), ranges, strict=True):
            x = np.stack([change(i, f) for i, f in zip(x, draws.uniform(*limits), strict=True)]).astype(
                x.dtype
            )
        return x

    return oracle


def illumination(strength: float, grid: int) -> Oracle:
    """The field by SciPy's interpolation of the grid."""

    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        H, W = x.shape[2:]
        grids = 1 + strength * (2.0 * draws.uniforms(grid**2).reshape(-1, 1, grid, grid) - 1)

        def field(points: np.ndarray) -> np.ndarray:
            return sampled(points, lambda j, i: (j * (grid - 1) / (W - 1), i * (grid - 1) / (H - 1)), (H, W))

        return np.stack([fit(i * field(g), i) for i, g in zip(x, grids, strict=True)])

    return oracle


def noise(mean: float, sigma: float) -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        drawn = draws.normals(x[0].size).reshape(x.shape).astype(np.float64)
        return fit(x + top(x) * (mean + sigma * drawn), x)

    return oracle


# ---- Rectangles


def painted(x: np.ndarray, edges: list[tuple[int, ...]], value: float) -> np.ndarray:
    """x with rows and columns (first, last, first, last) set, edges cut at the image's."""
    x = x.copy()
    for image, (i0, i1, j0, j1) in zip(x, edges, strict=True):
        image[:, max(i0, 0) : max(i1, 0), max(j0, 0) : max(j1, 0)] = value
    return x


def erased(scale: Any, ratio: Any, value: float) -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        H, W = x.shape[2:]
        area, proportion = H * W * draws.uniform(*scale), np.exp(draws.uniform(*np.log(ratio)))
        places, edges = (draws.uniform(), draws.uniform()), []
        for k in range(len(x)):
            h = min(round((area[k] * proportion[k]) ** 0.5), H)
            w = min(round((area[k] / proportion[k]) ** 0.5), W)
            i, j = int(places[0][k] * (H - h + 1)), int(places[1][k] * (W - w + 1))
            edges.append((i, i + h, j, j + w))
        return painted(x, edges, value)

    return oracle


def cut_out(height: int, width: int, value: float) -> Oracle:
    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        H, W = x.shape[2:]
        rows, columns = np.floor(H * draws.uniform()), np.floor(W * draws.uniform())
        firsts = [(int(i) - height // 2, int(j) - width // 2) for i, j in zip(rows, columns, strict=True)]
        return painted(x, [(i, i + height, j, j + width) for i, j in firsts], value)

    return oracle


# ---- Policies


def policy(steps: int, bins: int, level: int | None, most: dict[str, Any], bits: int) -> Oracle:
    """RandAugment and TrivialAugmentWide: `most` are the largest magnitudes; level None: drawn."""

    def one(x: np.ndarray, which: int, share: float, sign: float) -> np.ndarray:
        size, m = x.shape[1:], sign * share
        slope = np.rad2deg(np.arctan(m * most["slope"]))
        moves = {
            1: (0, 0, 0, 1, slope, 0),
            2: (0, 0, 0, 1, 0, slope),
            3: (0, m * most["shift"](size[1]), 0, 1, 0, 0),
            4: (0, 0, m * most["shift"](size[0]), 1, 0, 0),
            5: (m * most["turn"], 0, 0, 1, 0, 0),
        }
        factors = {6: brightness, 7: saturation, 8: contrast, 9: sharpness}
        if which in moves:
            return sampled(x, along(affine(size, *moves[which])))
        if which in factors:
            return factors[which](x, 1 + m * most["factor"])
        if which == 10:
            return posterize(x, 8 - round(bits * share))
        if which == 11:
            return solarize(x, (1 - share) * top(x))
        return {0: lambda x: x, 12: autocontrast, 13: equalize}[which](x)

    def oracle(x: np.ndarray, draws: Draws) -> np.ndarray:
        for _ in range(steps):
            which = draws.integers(14)
            bin_of = draws.integers(bins) if level is None else np.full(len(x), level)
            signs = draws.signs()
            rows = zip(x, which, bin_of / (bins - 1), signs, strict=True)
            found = np.stack([one(*row) for row in rows])
            x = (np.floor(found + 0.5) if x.dtype == np.uint8 else found).astype(x.dtype)
        return x

    return oracle
