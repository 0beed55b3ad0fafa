"""The names of torch.utils.checkpoint."""

from collections.abc import Callable
from typing import Any

from ..nn.recompute import checkpoint as _checkpoint

__all__ = ["checkpoint"]


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None) -> Any:
    """`nn.checkpoint`; there is one way here, PyTorch's `use_reentrant=False`.

    Raises:
        ValueError: use_reentrant=True, whose backward pass `grad` cannot go through.
    """
    if use_reentrant:
        raise ValueError("checkpoint: expected use_reentrant False or None, got True")
    return _checkpoint(function, *args)
