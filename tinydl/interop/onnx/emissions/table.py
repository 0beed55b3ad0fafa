"""The table of emissions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..writer import Call, Writer

Emission = Callable[[Writer, Call, Call], Any]
EMISSIONS: dict[str, Emission] = {}


def emission(*keys: str) -> Callable[[Emission], Emission]:
    """Enter a function for primitives, by their names, or as "module.name" where two share one."""

    def enter(function: Emission) -> Emission:
        for key in keys:
            EMISSIONS[key] = function
        return function

    return enter


def emission_of(key: str) -> Emission | None:
    """That of a primitive, by its key."""
    return EMISSIONS.get(key) or EMISSIONS.get(key.rpartition(".")[2])
