"""DataParallel: PyTorch's wrapper of a model, for one device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """`module` itself, under the name `module`: there is one device at most, and it gets the whole batch.

    Args:
        module: the model.
        device_ids, output_device, dim: as PyTorch's; without meaning for one device. More than one device in
            `device_ids` is a ValueError.
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(module, Module):
            raise TypeError(f"DataParallel: expected a module, got {type(module).__name__}")
        if device_ids is not None and len(device_ids) > 1:
            raise ValueError(f"DataParallel: expected one device, got device_ids={list(device_ids)}")
        self.module = module

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        return self.module(*inputs, **settings)
