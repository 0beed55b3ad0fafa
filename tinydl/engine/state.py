"""What varies between threads and scopes: is the tape on, is a step being recorded, is somebody watching?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _State(threading.local):
    grad = True  # do primitives write on the tape?
    recorder: Any = None  # record.py: the step that is being recorded
    tracer: Any = None  # debug.py: an anomaly detector or a profile


state = _State()


@contextmanager
def grad_mode(enabled: bool) -> Iterator[None]:
    """Write on the tape in this scope, or do not."""
    outer, state.grad = state.grad, enabled
    try:
        yield
    finally:
        state.grad = outer


def no_grad() -> Any:
    """A scope, or a decorator, whose operations stay off the tape."""
    return grad_mode(False)


def enable_grad() -> Any:
    """A scope, or a decorator, whose operations go on the tape, also inside `no_grad`."""
    return grad_mode(True)
