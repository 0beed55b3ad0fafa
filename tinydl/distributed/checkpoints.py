"""Checkpoints of several ranks: one file, which does not say how many there were."""

from __future__ import annotations

import os
from typing import Any

from ..training import checkpoint
from .group import Group

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: str | os.PathLike[str], group: Group, **things: Any) -> None:
    """`training.checkpoint.save` by rank 0; the others wait, and get its error. What is saved is the same on
    all ranks: models, optimizers, generators, and loaders, whose position is the global one.
    """
    group.first(lambda: checkpoint.save(path, **things))


def load_checkpoint(path: str | os.PathLike[str], group: Group, **things: Any) -> dict[str, Any]:
    """`training.checkpoint.load` by every rank, of any number of them. An error on one is an error on all."""
    error: Exception | None = None
    values: dict[str, Any] = {}
    try:
        values = checkpoint.load(path, **things)
    except Exception as raised:
        error = raised
    told = group.exchange(None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for rank, message in enumerate(told):
        if message is not None:
            raise checkpoint.CheckpointError(f"rank {rank}: {message}")
    return values
