"""Mixed precision by PyTorch's names, for scripts that ask for it: everything stays in float32 (or float64),
so that both of these are taken and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tinydl_kernels.machine.errors import DtypeError

__all__ = ["GradScaler", "autocast"]


class autocast:  # noqa: N801 (PyTorch's name)
    """A scope, or a decorator, without effect: there are no kernels for half precision.

    Args: those of torch.autocast; none of them is looked at.
    """

    def __init__(
        self,
        device_type: Any = "cpu",
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None: ...

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *error: Any) -> None: ...

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function


class GradScaler:
    """A scale of 1: what half precision would lose, float32 does not.

    Args: those of torch.amp.GradScaler; only `enabled` is kept, for `is_enabled`.
    """

    def __init__(
        self,
        device: Any = "cpu",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._enabled = bool(enabled)

    def scale(self, outputs: Any) -> Any:
        """The outputs."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing: gradients are as they are."""

    def step(self, optimizer: Any, *arguments: Any, **keywords: Any) -> Any:
        """optimizer.step(*arguments, **keywords)."""
        return optimizer.step(*arguments, **keywords)

    def update(self, new_scale: float | None = None) -> None:
        """Nothing: the scale stays 1."""

    def get_scale(self) -> float:
        return 1.0

    def is_enabled(self) -> bool:
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """{}: there is none."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take PyTorch's state too, which means nothing here.

        Raises:
            DtypeError: something that is no mapping.
        """
        if not isinstance(state_dict, Mapping):
            raise DtypeError(
                f"GradScaler.load_state_dict: expected a mapping, got {type(state_dict).__name__}"
            )
