"""MedMNIST (J. Yang et al., "MedMNIST v2", Scientific Data 2023): medical images in .npz files.

A file holds ``{train,val,test}_images`` uint8, (n, H, W) grey or (n, H, W, 3) colour, and ``…_labels``:
(n, 1) of classes, or (n, labels) of 0 and 1.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...archives import npz_arrays
from ...files import DataError, DataFile, find
from .dataset import TensorDataset

__all__ = ["MedMNIST"]

FILES = {
    "pneumoniamnist": DataFile(
        name="medmnist/pneumoniamnist.npz",
        checksum="md5:28209eda62fecd6e6a2d98b1501bb15f",
        urls=("https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",),
        also=("medmnist/pneumoniamnist-reassembled.npz",),
    )
}
CLASSES = {"pneumoniamnist": ("normal", "pneumonia"), "breastmnist": ("malignant", "normal or benign")}
SPLITS = ("train", "val", "test")


class MedMNIST(TensorDataset):
    """One split of a set of MedMNIST's 2-d images, of any size. Nothing in the file is unpickled.

    In PneumoniaMNIST, as it is stored here and there, one class comes last: split with `td.data.split`, which
    shuffles and stratifies.

    Args:
        name: "pneumoniamnist", looked for in `data`, TINYDL_DATA, the cache and on its page (`files.find`);
            or the path of any of MedMNIST's .npz files.
        split: "train", "val" or "test".
        data: the folder above ``medmnist/``. If given, the file is there or it is an error.
        classes: their names; by default those that are known of the set, else "0", "1", …

    Returns:
        inputs uint8 (n, 1, H, W) or (n, 3, H, W); targets int64 (n,) of classes, or float32 (n, labels) of 0
        and 1 where a sample can have several.

    Raises:
        DataError: no such file, a damaged one, or one of volumes.
    """

    def __init__(
        self,
        name: str | os.PathLike[str],
        split: str = "train",
        data: str | os.PathLike[str] | None = None,
        *,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"MedMNIST: split: expected one of {', '.join(SPLITS)}, got {split!r}")
        path = Path(name)
        if path.suffix == ".npz":
            source = f"the file {path}"
        elif os.fspath(name) in FILES:
            (path,), source = find([FILES[os.fspath(name)]], data)
        else:
            known = ", ".join(FILES)
            raise ValueError(f"MedMNIST: name: expected {known} or the path of an .npz file, got {name!r}")
        images, targets = _read(path, split)
        title = path.stem.partition("-")[0].partition("_")[0]
        super().__init__(
            images,
            targets,
            classes=classes or CLASSES.get(title) or _numbers(targets),
            name=f"{title} {split}",
            source=f"{title}, {len(images):,} {split} images from {source}",
        )


def _numbers(targets: np.ndarray) -> list[str]:
    count = targets.shape[1] if targets.ndim == 2 else int(targets.max(initial=0)) + 1
    return [str(number) for number in range(count)]


def _read(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    wanted = (f"{split}_images", f"{split}_labels")
    arrays = npz_arrays(path, wanted)
    if missing := [name for name in wanted if name not in arrays]:
        raise DataError(f"{path}: not a file of MedMNIST: expected {', '.join(missing)}")
    images, labels = (arrays[name] for name in wanted)
    who = f"{path}: not a file of MedMNIST's 2-d images: {split}"
    colour = images.ndim == 4 and images.shape[3] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or colour):
        raise DataError(
            f"{who}_images: expected uint8 (n, H, W) or (n, H, W, 3), got {images.dtype} {images.shape}"
        )
    if (
        labels.dtype.kind not in "iub"
        or labels.ndim != 2
        or not labels.shape[1]
        or len(labels) != len(images)
    ):
        raise DataError(
            f"{who}_labels: expected integers ({len(images)}, labels), got {labels.dtype} {labels.shape}"
        )
    # (n, H, W) -> (n, 1, H, W), (n, H, W, 3) -> (n, 3, H, W)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if colour else images[:, None]
    if labels.shape[1] > 1:
        if labels.min(initial=0) < 0 or labels.max(initial=0) > 1:
            raise DataError(f"{who}_labels: expected 0 and 1, got {labels.min()} to {labels.max()}")
        return images, labels.astype(np.float32)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= max(2, len(labels)):
        raise DataError(f"{who}_labels: expected classes from 0, got {labels.min()} to {labels.max()}")
    return images, labels[:, 0].astype(np.int64)
