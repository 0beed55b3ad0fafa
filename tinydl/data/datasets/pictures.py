"""Picture files to arrays of one size, and a record of what was met on the way. Needs Pillow (the extra
"data").
"""

from __future__ import annotations

import operator
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...archives import check_regular, parsing
from ...files import DataError

__all__ = ["Findings"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # none that runs a program
PIXELS = 1 << 26  # of one picture, 8192 x 8192
TOTAL = 1 << 34  # bytes of all pictures of a set
NAMED = 5  # files in a message


@dataclass
class Findings:
    """What reading a set of pictures met. `str` of it is a report; an empty field is left out.

    Attributes:
        read: how many pictures.
        sizes: (height, width), after orientation, and how many had it.
        oriented: files whose EXIF orientation was applied.
        alpha: with transparency; laid over white.
        deep: with 16 bits: kept if all are, else rounded to 8.
        colour, grey: of the two kinds, where both were met.
        frames: with several pictures; the first was taken.
        corrupt: file -> reason, of those left out.
        ignored: files that are no pictures, or lie in no class's folder.
    """

    read: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    oriented: list[str] = field(default_factory=list)
    alpha: list[str] = field(default_factory=list)
    deep: list[str] = field(default_factory=list)
    colour: list[str] = field(default_factory=list)
    grey: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    corrupt: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.read:,} pictures read"]
        if len(self.sizes) > 1:
            common = ", ".join(f"{h}×{w} ({count:,})" for (h, w), count in self.sizes.most_common(NAMED))
            lines.append(f"{len(self.sizes)} sizes: {common}")
        if self.colour and self.grey:
            lines.append(f"{len(self.colour):,} in colour, {len(self.grey):,} in grey")
        for files, what in (
            (self.oriented, "turned by their EXIF orientation"),
            (self.alpha, "with transparency, laid over white"),
            (self.deep, "of 16 bits"),
            (self.frames, "of several frames, the first taken"),
            (self.ignored, "ignored: no pictures, or in no class"),
        ):
            if files:
                lines.append(f"{len(files):,} {what}: {named(files)}")
        lines += [f"corrupt: {name}: {reason}" for name, reason in self.corrupt.items()]
        return "\n".join(lines)


def named(files: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(files) - NAMED:,} more" * (len(files) > NAMED)
    return ", ".join(files[:NAMED]) + more


def read_pictures(
    who: str,
    root: Path,
    names: Sequence[str],
    size: int | tuple[int, int] | None,
    channels: int | None,
    corrupt: str,
) -> tuple[np.ndarray, list[int], Findings]:
    """All pictures that can be read, as one array, which of the names they are, and what was met.

    Returns:
        uint8 (n, C, H, W), or uint16 if every picture has 16 bits; C is 3 if any is in colour, else 1.

    Raises:
        DataError: unreadable files (unless `corrupt` is "skip"), none that can be read, sizes that differ
            where `size` is None.
    """
    if corrupt not in ("raise", "skip"):
        raise ValueError(f"{who}: corrupt: expected 'raise' or 'skip', got {corrupt!r}")
    if channels not in (None, 1, 3):
        raise ValueError(f"{who}: channels: expected None, 1 or 3, got {channels!r}")
    height_width = _size(who, size)
    pillow = _pillow(who)
    met, rows, pictures, total = Findings(), [], [], 0
    for row, name in enumerate(names):
        try:
            picture = _read(pillow, root / name, name, height_width, met)
        except DataError as error:
            met.corrupt[name] = str(error).partition(f"{root / name}: ")[2] or str(error)
            continue
        total += picture.nbytes
        if total > TOTAL:
            raise DataError(f"{root}: not read: its pictures take more than {TOTAL:,} bytes: smaller `size`")
        rows.append(row)
        pictures.append(picture)
    if met.corrupt and corrupt == "raise":
        reasons = [f"{name} ({reason})" for name, reason in met.corrupt.items()]
        raise DataError(f"{root}: cannot be read: {named(reasons)}; corrupt='skip' leaves them out")
    if not pictures:
        raise DataError(f"{root}: expected at least one picture that can be read")
    met.read = len(rows)
    if len({picture.shape[:2] for picture in pictures}) > 1:
        common = ", ".join(f"{h}×{w} ({count:,})" for (h, w), count in met.sizes.most_common(NAMED))
        raise DataError(f"{root}: expected pictures of one size, or `size`; got {len(met.sizes)}: {common}")
    return _stacked(pictures, channels), rows, met


def _stacked(pictures: list[np.ndarray], channels: int | None) -> np.ndarray:
    """(n, C, H, W) of pictures (H, W) and (H, W, 3), which are given up one by one."""
    depth = np.uint16 if all(picture.dtype == np.uint16 for picture in pictures) else np.uint8
    channels = channels or (3 if any(picture.ndim == 3 for picture in pictures) else 1)
    images = np.empty((len(pictures), channels, *pictures[0].shape[:2]), depth)
    for i in range(len(pictures) - 1, -1, -1):
        picture = pictures.pop()
        if picture.dtype != depth:
            picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if picture.ndim == 3 and channels == 1:  # ITU-R 601-2 luma, as Pillow rounds it
            weights = np.array([19595, 38470, 7471], np.uint32)
            picture = ((picture @ weights + 0x8000) >> 16).astype(np.uint8)
        images[i] = picture if picture.ndim == 2 else picture.transpose(2, 0, 1)
    return images


def _size(who: str, size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        h, w = map(operator.index, size if isinstance(size, (tuple, list)) else (size, size))
    except (TypeError, ValueError):
        h = w = 0
    if h < 1 or w < 1 or h * w > PIXELS:
        raise ValueError(f"{who}: size: expected one or two positive integers, got {size!r}")
    return h, w


def _pillow(who: str) -> Any:
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise ImportError(f'{who}: needs Pillow: pip install "tinydl[data]"') from error
    return PIL


def _read(pillow: Any, path: Path, name: str, size: tuple[int, int] | None, met: Findings) -> np.ndarray:
    """One picture, (H, W) grey or (H, W, 3), uint8 or uint16; what was met is told to `met`."""
    check_regular(path)
    with parsing(path, "not a whole picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes, which are looked at here
        with pillow.Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > PIXELS:
                raise DataError(
                    f"{path}: not read: {image.height}×{image.width} is more than {PIXELS:,} pixels"
                )
            image.verify()  # checksums, which decoding passes over; the file has to be opened anew
        with pillow.Image.open(path, formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1) > 1
            image.load()
            orientation = image.getexif().get(0x0112, 1)
            if orientation in range(2, 9):
                image = pillow.ImageOps.exif_transpose(image)
            deep = image.mode.startswith("I")
            grey = deep or image.mode in ("1", "L", "LA", "La")
            has_alpha = not deep and image.has_transparency_data
            if image.mode == "F":
                raise ValueError("pixels that are no integers")
            original = (image.height, image.width)
            if deep:
                picture = _deep(pillow, image, size)
            else:
                if has_alpha:
                    image = image.convert("RGBA")
                    white = pillow.Image.new("RGBA", image.size, "white")
                    image = pillow.Image.alpha_composite(white, image)
                image = image.convert("L" if grey else "RGB")
                if size is not None and original != size:
                    image = image.resize(size[::-1], pillow.Image.Resampling.BILINEAR)
                picture = np.asarray(image, np.uint8)
    met.sizes[original] += 1
    for files, yes in (
        (met.oriented, orientation in range(2, 9)),
        (met.alpha, has_alpha),
        (met.deep, deep),
        (met.frames, frames),
        (met.grey, grey),
        (met.colour, not grey),
    ):
        if yes:
            files.append(name)
    return picture


def _deep(pillow: Any, image: Any, size: tuple[int, int] | None) -> np.ndarray:
    """Grey with 16 bits."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(f"expected pixels of 16 bits, got {values.min()} to {values.max()}")
    if size is not None and values.shape != size:
        numbers = pillow.Image.fromarray(values.astype(np.float32))
        numbers = numbers.resize(size[::-1], pillow.Image.Resampling.BILINEAR)
        values = np.rint(np.asarray(numbers)).clip(0, 0xFFFF)
    return values.astype(np.uint16)


def relative_pictures(root: Path, folder: str) -> tuple[list[str], list[str]]:
    """The pictures in a folder of `root` and below, and the other files: sorted paths from `root`."""
    pictures: list[str] = []
    others: list[str] = []
    for place, folders, files in os.walk(root / folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = (Path(place) / name).relative_to(root).as_posix()
            known = name.lower().endswith(SUFFIXES) and not name.startswith(".")
            (pictures if known else others).append(path)
    return sorted(pictures), sorted(others)
