"""Extra forward passes that leave no trace: a penalty's, an adversary's, a summary's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinydl_kernels.machine.scoped import Scoped

from ..ops.random import Generator, random_from

__all__ = [
    "extra_forward",
]


class _Here(Scoped):
    extra = False


_here = _Here()


def buffers_are_frozen() -> bool:
    """Must layers leave their running statistics alone?"""
    return _here.extra


@contextmanager
def extra_forward(generator: Generator | None = None) -> Iterator[None]:
    """Within the scope layers keep their running statistics, and every draw comes from
    `generator` if one is given.

    Batch statistics are still used in training mode. The main streams of random numbers do not move.
    """
    with _here.replaced(extra=True), random_from(generator):
        yield
