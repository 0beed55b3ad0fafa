"""Two things that tables d and f say beside means: how many digits augmentation needs for the accuracy of
adversarial features, and what five networks say by vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2_000


class Crossing(NamedTuple):
    """How many times the digits augmentation needs for the same accuracy, with a 95 % bootstrap interval."""

    ratio: float
    low: float
    high: float


def crossing(sizes: Sequence[int], augmented: np.ndarray, other: np.ndarray, at: int) -> Crossing:
    """Where the mean accuracy of the other way at the size number `at` meets the mean curve of augmentation,
    interpolated in log N (held to be rising); over `sizes[at]`. The draws are resampled, the same for both.
    At an end of the curve the ratio stays at that end.

    Args:
        sizes: ascending.
        augmented, other: accuracies (sizes, draws), of the same draws.
    """
    logs = np.log(np.asarray(sizes, np.float64))

    def ratio(draws: np.ndarray) -> float:
        curve = np.maximum.accumulate(augmented[:, draws].mean(1))
        return float(np.exp(np.interp(other[at, draws].mean(), curve, logs) - logs[at]))

    draws = augmented.shape[1]
    random = np.random.RandomState(0)
    found = [ratio(random.randint(0, draws, draws)) for _ in range(RESAMPLES)]
    low, high = np.quantile(found, [0.025, 0.975])
    return Crossing(ratio(np.arange(draws)), float(low), float(high))


def vote(members: Sequence[np.ndarray], classes: int = 10) -> np.ndarray:
    """The class (n,) that most networks say; of equally many that of the first network, if it is one of them,
    else the lowest.
    """
    counts = np.zeros((len(members[0]), classes))
    rows = np.arange(len(members[0]))
    for number, said in enumerate(members):
        counts[rows, said] += 1.5 if number == 0 else 1.0
    return counts.argmax(1)


def votes(
    single: Mapping[tuple[str, int], np.ndarray],
    others: Mapping[tuple[str, int], np.ndarray],
    members: int = 5,
) -> dict[tuple[str, int], np.ndarray]:
    """Votes by (cell, draw) where all members are there: `single` by the cell's name, `others` by "<cell>,
    member <k>".
    """
    found = {}
    for (cell, draw), first in single.items():
        more = [others.get((f"{cell}, member {k}", draw)) for k in range(1, members)]
        if all(said is not None for said in more):
            found[cell, draw] = vote([first, *(said for said in more if said is not None)])
    return found
