"""PyTorch's `torch.backends`, for the settings that scripts make: they are taken, and change nothing. Every
kernel here gives the same bits each time, and float32 is float32.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

__all__ = ["cuda", "cudnn", "mps", "use_deterministic_algorithms"]


def _absent() -> bool:
    return False


def _flags(*arguments: Any, **keywords: Any) -> Any:
    """A scope in which nothing changes."""
    return nullcontext()


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing: there are no others."""


cudnn = SimpleNamespace(
    enabled=False,
    benchmark=False,
    deterministic=True,
    allow_tf32=False,
    flags=_flags,
    is_available=_absent,
    version=lambda: None,
)
mps = SimpleNamespace(is_available=_absent, is_built=_absent)
cuda = SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False), is_built=_absent)
