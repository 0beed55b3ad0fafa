"""Values of a thread that a scope replaces."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tinydl_kernels.machine.scoped import Scoped


class Here(Scoped):
    color: str | None = None
    size = 1


@pytest.mark.tiny
def test_scopes_nest_and_end_whatever_happens() -> None:
    here = Here()
    with here.replaced(color="red", size=2):
        with pytest.raises(KeyError, match=r"blue.*2"), here.replaced(color="blue"):
            {}[here.color, here.size]
        assert (here.color, here.size) == ("red", 2)
    assert (here.color, here.size) == (None, 1)


@pytest.mark.tiny
def test_a_scope_is_a_decorator() -> None:
    here = Here()

    @here.replaced(size=3)
    def size() -> int:
        return here.size

    assert (size(), here.size, size()) == (3, 1, 3)


@pytest.mark.tiny
def test_each_thread_has_its_own() -> None:
    here, seen = Here(), []

    def look() -> None:
        seen.append(here.color)
        with here.replaced(color="green"):
            seen.append(here.color)

    with here.replaced(color="red"):
        other = threading.Thread(target=look)
        other.start()
        other.join()
        seen.append(here.color)
    expected: list[Any] = [None, "green", "red"]
    assert seen == expected
