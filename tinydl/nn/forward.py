"""Extra forward passes that leave no trace: a penalty's, an adversary's, a summary's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..ops.random import Generator, random_from


class _Local(threading.local):
    extra = False


_local = _Local()


def buffers_are_frozen() -> bool:
    """Must layers leave their running statistics alone?"""
    return _local.extra


@contextmanager
def extra_forward(generator: Generator | None = None) -> Iterator[None]:
    """Within the scope layers keep their running statistics, and every draw comes from
    `generator` if one is given.

    Batch statistics are still used in training mode. The main streams of random numbers do not move.
    """
    outer, _local.extra = _local.extra, True
    try:
        with random_from(generator):
            yield
    finally:
        _local.extra = outer
