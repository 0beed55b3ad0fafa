"""Values of a thread that a scope replaces."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.scoped import Scoped

import tinydl as td


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


def test_a_generator_is_in_the_scope_while_its_body_runs() -> None:
    here = Here()

    @here.replaced(color="inside")
    def counting() -> Any:
        try:
            for k in range(3):
                sent = yield k, here.color
                assert sent is None or (sent, here.color) == ("sent", "inside")
        finally:
            closed.append(here.color)
        return "end"

    closed: list[str] = []
    numbers = counting()
    assert [next(numbers), numbers.send("sent")] == [(0, "inside"), (1, "inside")]
    assert here.color is None
    numbers.close()
    assert closed == ["inside"]
    assert here.color is None

    def whole() -> Any:
        return (yield from counting())

    walk = whole()
    assert [next(walk), next(walk), next(walk)] == [(k, "inside") for k in range(3)]
    with pytest.raises(StopIteration, match="end"):
        next(walk)


def test_the_scopes_of_tinydl_decorate_generators() -> None:
    source = td.Generator(3)

    @td.backend("reference")
    def backends() -> Any:
        while True:
            yield dispatch.override()

    @td.random_from(source)
    def draws() -> Any:
        while True:
            yield td.randn(2).tolist()

    with td.backend("cpu"):
        assert next(backends()) == "reference"
        assert dispatch.override() == "cpu"
    expected = td.randn(2, generator=td.Generator(3)).tolist()
    assert next(draws()) == expected
    assert td.randn(2).tolist() != expected
