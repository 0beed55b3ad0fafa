"""What varies between threads and scopes: is the tape on, is a step being recorded, is somebody watching?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinydl_kernels.machine.scoped import Scoped, decorated


class _State(Scoped):
    grad = True  # do primitives write on the tape?
    recorder: Any = None  # record/recorder.py: the step that is being recorded
    tracer: Any = None  # debug.py: an anomaly detector or a profile
    shard: Any = None  # distributed/: which samples of the batch are this rank's, where it is one of several


state = _State()


class GradMode:
    """A scope, or a decorator, in which primitives write on the tape, or do not."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = bool(enabled)
        self._outer: list[bool] = []

    def __enter__(self) -> None:
        self._outer.append(state.grad)
        state.grad = self.enabled

    def __exit__(self, *error: Any) -> None:
        state.grad = self._outer.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        enabled = self.enabled
        return decorated(function, lambda: GradMode(enabled))


class _Switched(GradMode):
    """A mode that begins where it is made; as a scope it ends, as a decorator it begins with the function."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._before = state.grad
        state.grad = self.enabled

    def __enter__(self) -> None:
        self._outer.append(self._before)
        state.grad = self.enabled

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        state.grad = self._before
        return super().__call__(function)


def no_grad(function: Any = None) -> Any:
    """A scope, or a decorator with or without parentheses, whose operations stay off the tape. A generator
    is off the tape while its body runs.
    """
    return GradMode(False) if function is None else GradMode(False)(function)


def enable_grad(function: Any = None) -> Any:
    """A scope, or a decorator with or without parentheses, whose operations go on the tape, also inside
    `no_grad`.
    """
    return GradMode(True) if function is None else GradMode(True)(function)


def set_grad_enabled(mode: bool) -> Any:
    """From now on write on the tape, or do not; as a scope or a decorator until its end."""
    return _Switched(mode)


def inference_mode(mode: Any = True) -> Any:
    """`no_grad` by another name of PyTorch's, or with False `enable_grad`; nothing else is switched off."""
    return GradMode(False)(mode) if callable(mode) else GradMode(not mode)


def is_grad_enabled() -> bool:
    """Do operations go on the tape here?"""
    return state.grad
