"""Pictures in folders, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...files import DataError
from .dataset import TensorDataset
from .pictures import named, read_pictures, relative_pictures

__all__ = ["ImageFolder"]


class ImageFolder(TensorDataset):
    """The pictures under ``root/<class>/``, however deep, in memory. Needs Pillow (the extra "data").

        train = ImageFolder("scans/train", size=64)
        test = ImageFolder("scans/test", size=64, classes=train.classes)
        print(audit(train=train, test=test))

    EXIF orientation is applied, transparency laid over white; pictures of 16 bits stay so if all are, else
    they are rounded to 8. `met` says what was met; `audit` compares the parts of a set.

    Args:
        root: the folder above the classes' folders.
        size: (H, W) or one number for both, to which pictures of another size are brought (bilinear over the
            covered area); None: all must have one size.
        channels: 1 or 3; None: 3 if any picture is in colour.
        classes: names of the classes' folders, in order; by default all folders, sorted. Give a test part
            those of the training part.
        corrupt: "raise" names the files that cannot be read; "skip" leaves them out and lists them in `met`.

    Attributes:
        sample_names: the paths, from `root`.
        met: Findings.

    Returns:
        inputs uint8 or uint16 (n, C, H, W), targets int64 (n,).

    Raises:
        DataError: no such folder, classes without pictures, unreadable files, sizes that differ.
        ImportError: Pillow is not installed.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        classes: Sequence[str] | None = None,
        corrupt: str = "raise",
    ) -> None:
        folder = Path(root)
        if not folder.is_dir():
            raise DataError(f"{folder}: expected a folder with one folder per class")
        found = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        wanted = tuple(found if classes is None else classes)
        if unknown := sorted(set(found) - set(wanted)):
            raise DataError(
                f"{folder}: expected the classes {', '.join(wanted)}, got {', '.join(unknown)} too"
            )
        names: list[str] = []
        labels: list[int] = []
        ignored = sorted(path.name for path in folder.iterdir() if not path.is_dir())
        empty = []
        for number, name in enumerate(wanted):
            pictures, others = relative_pictures(folder, name)
            names += pictures
            labels += [number] * len(pictures)
            ignored += others
            empty += [] if pictures or classes is not None else [name]
        if empty or not names:
            missing = f"; there are none in {named(empty)}" if empty else ""
            raise DataError(f"{folder}: expected pictures in a folder per class{missing}")
        images, rows, self.met = read_pictures("ImageFolder", folder, names, size, channels, corrupt)
        self.met.ignored = ignored
        super().__init__(
            images,
            np.array(labels, np.int64)[rows],
            classes=wanted,
            name=f"ImageFolder {folder.name}",
            source=f"the folder {folder}",
            sample_names=[names[row] for row in rows],
        )
