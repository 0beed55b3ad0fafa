"""What an experiment leaves behind: results as JSON, with a stamp of where they were made."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tinydl_kernels.cpu import processors, simd, threads
from tinydl_kernels.machine import dispatch

from ..files import atomic_write
from ..version import __version__


def environment() -> dict[str, Any]:
    """Versions, machine, threads, width of vectors, backend and time (UTC) of here and now, ready for JSON.

    Vectors of 8 bits: kernels that use no vector registers.
    """
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tinydl": __version__,
        **{name: metadata.version(name) for name in ("numpy", "numba", "llvmlite")},
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cpus": processors.available_cpus(),
        "threads": threads.get_num_threads(),
        "vector bits": 8 * simd.lanes(1),
        "backend": dispatch.override() or "cpu",
    }


def write_json(path: str | os.PathLike[str], results: Any) -> None:
    """Write dicts, lists, numbers, strings and NumPy arrays as JSON, whole or not at all.
    NaN and infinities become null.

    Raises:
        DataError: the file cannot be written; what was there before is untouched.
    """
    text = json.dumps(plain(results), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, "w") as file:
        file.write(text + "\n")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table as Markdown has it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(x: Any) -> Any:
    """What JSON can say of dicts, lists, numbers, strings and NumPy arrays; NaN and infinities as None."""
    if isinstance(x, (np.ndarray, np.generic)):
        x = x.tolist()
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if hasattr(x, "_asdict"):  # a named tuple keeps its names
        return plain(x._asdict())
    if isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _cpu() -> str:
    """The processor's name as Linux tells it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
