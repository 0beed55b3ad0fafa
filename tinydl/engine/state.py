"""What varies between threads and scopes: is the tape on, is a step being recorded, is somebody watching?"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from tinydl_kernels.machine.scoped import Scoped


class _State(Scoped):
    grad = True  # do primitives write on the tape?
    recorder: Any = None  # record/recorder.py: the step that is being recorded
    tracer: Any = None  # debug.py: an anomaly detector or a profile


state = _State()


def grad_mode(enabled: bool) -> AbstractContextManager[None]:
    """Write on the tape in this scope, or do not."""
    return state.replaced(grad=enabled)


def no_grad() -> Any:
    """A scope, or a decorator, whose operations stay off the tape."""
    return grad_mode(False)


def enable_grad() -> Any:
    """A scope, or a decorator, whose operations go on the tape, also inside `no_grad`."""
    return grad_mode(True)
