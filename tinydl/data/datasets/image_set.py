"""What a data set of images is here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ImageSet(NamedTuple):
    """Images uint8, (n, H, W) grey or (n, 3, H, W) colour; labels int64 (n,);
    source: in a sentence, where from.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str
