"""Numbers that the CUDA sources and the Python beside them must agree on: they stand here alone.

`launching.Module` writes those of EVERY file and those of its own file at the head of a source, as
`constexpr int NAME = value;`, or of the type and the length that the value has.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

GROUP = 64
"""Members that `Table` and `Arrays<type>` (common.cuh) have at most."""

EVERY: dict[str, Any] = {"GROUP": GROUP}

OF_FILE: dict[str, dict[str, Any]] = {
    "functions": {
        # B_2k of the asymptotic series of digamma
        "BERNOULLI": (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510),
    },
    "indexing": {
        "RUN": 256,  # sources that are added up ahead where all belong to one place
    },
    "masks": {
        "N": 8,  # truth values that a thread takes at once
    },
    "norm": {
        # the rest of a mean counts if it is more than FELT of the deviation and SURE, rounding, of the mean
        "FELT": 2.0**-20,
        "SURE": 2.0**-40,
    },
    "random": {
        "ATTEMPTS": 256,  # blocks of an element that is drawn by rejection
        # of Philox 4x32
        "MULTIPLIERS": (np.uint32(0xD2511F53), np.uint32(0xCD9E8D57)),
        "WEYL": (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)),
        "LOG_2": math.log(2),
        "SQRT_HALF_BITS": np.int64(0x3FE6A09E667F3BCD),  # of the float64 nearest to sqrt(1/2)
        "TURN": 2 * math.pi * 2.0**-64,
    },
    "sort": {
        "DIGITS": 1 << 8,  # values of the digit that a pass sorts by
        "TILE": 1 << 11,  # items that a block of a pass puts in order
    },
}

_TYPES = {int: "int", float: "double", np.float64: "double", np.uint32: "unsigned", np.int64: "long long"}


def line(name: str, value: Any) -> str:
    """A constant as a line of C++."""
    if isinstance(value, tuple):
        values = ", ".join(map(str, value))
        return f"__device__ constexpr {_TYPES[type(value[0])]} {name}[{len(value)}] = {{{values}}};\n"
    return f"constexpr {_TYPES[type(value)]} {name} = {value};\n"


def lines(file: str) -> str:
    """The constants of a .cu file, by its name without the ending."""
    return "".join(line(name, value) for name, value in (EVERY | OF_FILE.get(file, {})).items())
