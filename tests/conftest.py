"""What every test folder shares: no default stream, backend or grad mode leaks from one test into the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tinydl_kernels import dispatch

import tinydl as td
from tinydl.core import state


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Seed the default generator; afterwards every scope must have been left."""
    td.manual_seed(0)
    yield
    assert dispatch.override() is None
    assert state.grad
    assert state.recorder is None
    assert state.tracer is None


@pytest.fixture
def reference() -> Iterator[None]:
    """For tests of what is made of operations, not of their kernels: `pytestmark = pytest.mark.usefixtures("reference")`."""
    with td.backend("reference"):
        yield
