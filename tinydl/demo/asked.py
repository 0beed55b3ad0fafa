"""What a request asks for, checked: numbers within bounds, words out of a choice."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any


class BadRequest(ValueError):  # noqa: N818 (what HTTP calls it)
    """A request that the sender can mend; the message says how."""


def number(
    body: Mapping[str, Any], name: str, low: float, high: float, default: float | None = None
) -> float:
    """A finite number of low to high."""
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest(f"{name}: expected a number of {low:g} to {high:g}, got {_shown(value)}")
    if not low <= value <= high or not math.isfinite(value):
        raise BadRequest(f"{name}: expected a number of {low:g} to {high:g}, got {_shown(value)}")
    return float(value)


def whole(body: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number of low to high."""
    value = number(body, name, low, high, default)
    if value != int(value):
        raise BadRequest(f"{name}: expected a whole number, got {value:g}")
    return int(value)


def word(body: Mapping[str, Any], name: str, choices: Collection[str], default: str | None = None) -> str:
    """One of the choices."""
    value = body.get(name, default)
    if not isinstance(value, str) or value not in choices:
        raise BadRequest(f"{name}: expected one of {', '.join(choices)}; got {_shown(value)}")
    return value


def numbers(body: Mapping[str, Any], name: str, count: int, low: float, high: float) -> list[float]:
    """A list of so many numbers of low to high."""
    values = body.get(name)
    if not isinstance(values, list) or len(values) != count:
        got = f"{len(values)} of them" if isinstance(values, list) else _shown(values)
        raise BadRequest(f"{name}: expected {count} numbers, got {got}")
    return [number({name: value}, name, low, high) for value in values]


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, (int, float, str, bool)) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
