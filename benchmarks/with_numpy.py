"""The matrix product in NumPy: OpenBLAS, or what NumPy was built with."""

from __future__ import annotations

from typing import Any

import numpy as np

from .cases import Arrays, Case

VERSION = np.__version__


def start(threads: int) -> None:
    """The environment has set OpenBLAS's threads."""


def arrays(result: Any) -> list[np.ndarray]:
    return [result]


def matmul(case: Case, d: Arrays) -> dict[str, Any]:
    out = np.empty((case.settings.I, case.settings.J), np.float32)
    return {"": lambda: np.matmul(d["a"], d["b"], out=out)}
