"""The table of transforms: one row for each public one of tinydl.data.transforms; none is there yet."""

from __future__ import annotations

from typing import Any

ROWS: list[Any] = []
