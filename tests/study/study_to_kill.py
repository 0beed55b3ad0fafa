"""A study of a toy, which test_tables.py kills: `python study_to_kill.py FOLDER RUN` waits in that run."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from tinydl.study import Outcome, Study, Table

WAITS: list[int] = []
TABLE = Table("toy", {"wide": {"n": 40, "weight": 1.5}, "narrow": {"n": 40, "weight": 0.5}}, range(3))


def train(cell: dict[str, Any]) -> Outcome:
    if 2 * cell["seed"] + (cell["cell"] == "narrow") in WAITS:
        time.sleep(300)
    random = np.random.RandomState(cell["seed"])
    scores = random.standard_normal((cell["n"], 3)) + np.array([cell["weight"], 0, 0])
    return Outcome({"loss": float(scores.mean())}, {"test": scores.argmax(1)}, "toy data")


if __name__ == "__main__":
    WAITS.append(int(sys.argv[2]))
    Study(sys.argv[1], [TABLE]).run(train)
