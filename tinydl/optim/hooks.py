"""Functions that run before or after each step of an optimizer, and the handle that removes one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

Hooks = dict[int, Callable[..., Any]]
"""By a number that no other hook has."""

numbers = itertools.count()


class RemovableHandle:
    """What registering a hook returns: `remove()` takes it away again, as does the end of `with handle:`."""

    def __init__(self, hooks: Hooks, hook: Callable[..., Any]) -> None:
        self.id = next(numbers)
        self._hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; without effect where that has happened."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def before(hooks: Hooks, optimizer: Any, args: Any, settings: Any) -> tuple[Any, Any]:
    """Run the hooks before a step; returns the arguments to step with. As in PyTorch a hook sees the
    optimizer as the first of `args`.
    """
    for hook in list(hooks.values()):
        changed = hook(optimizer, args, settings)
        if changed is not None:
            if not isinstance(changed, tuple) or len(changed) != 2:
                raise RuntimeError(
                    f"{optimizer}.step: expected a pre-hook to return None or (args, kwargs), got {changed!r}"
                )
            args, settings = changed
    return args, settings


def after(hooks: Hooks, optimizer: Any, args: Any, settings: Any) -> None:
    """Run the hooks after a step."""
    for hook in list(hooks.values()):
        hook(optimizer, args, settings)
