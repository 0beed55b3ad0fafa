"""The table of metrics: one row for each public one of tinydl.metrics; none is there yet."""

from __future__ import annotations

from typing import Any

ROWS: list[Any] = []
