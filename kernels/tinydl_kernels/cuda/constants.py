"""Numbers that the CUDA sources and the Python beside them must agree on: they stand here alone.

`launching.Module` writes those of EVERY file and those of its own file at the head of a source, as
`constexpr int NAME = value;`.
"""

from __future__ import annotations

GROUP = 64
"""Members that `Table` and `Arrays<type>` (common.cuh) have at most."""

EVERY = {"GROUP": GROUP}

OF_FILE: dict[str, dict[str, int]] = {
    "indexing": {
        "RUN": 256,  # sources that are added up ahead where all belong to one place
    },
    "random": {
        "ATTEMPTS": 256,  # blocks of an element that is drawn by rejection
    },
    "sort": {
        "DIGITS": 1 << 8,  # values of the digit that a pass sorts by
        "TILE": 1 << 11,  # items that a block of a pass puts in order
    },
}


def lines(file: str) -> str:
    """The constants of a .cu file, by its name without the ending, as lines of C++."""
    return "".join(f"constexpr int {name} = {n};\n" for name, n in (EVERY | OF_FILE.get(file, {})).items())
