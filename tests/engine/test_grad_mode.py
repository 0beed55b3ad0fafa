"""The mode of the tape: scopes, decorators with and without parentheses, generators."""

from __future__ import annotations

import pytest

import tinydl as td

X = td.ones(1, requires_grad=True)


def on() -> bool:
    """Is the tape on, by what it does and by what is said of it?"""
    assert (X * 2.0).requires_grad is td.is_grad_enabled()
    return td.is_grad_enabled()


OFF = {
    "no_grad()": lambda: td.no_grad(),
    "no_grad": lambda: td.no_grad,
    "inference_mode()": lambda: td.inference_mode(),
    "inference_mode": lambda: td.inference_mode,
    "inference_mode(True)": lambda: td.inference_mode(True),
    "set_grad_enabled(False)": lambda: td.set_grad_enabled(False),
}


class TestDecorators:
    @pytest.mark.parametrize("off", OFF.values(), ids=OFF)
    def test_functions(self, off) -> None:
        @off()
        def f(a, *, b=1):
            """Doc."""
            return on(), a, b

        assert on()
        assert f(2, b=3) == (False, 2, 3)
        assert (f.__name__, f.__doc__) == ("f", "Doc.")
        assert on()

    @pytest.mark.parametrize("off", OFF.values(), ids=OFF)
    def test_generators(self, off) -> None:
        """The body is off the tape, who iterates is not."""

        @off()
        def f(n):
            log = []
            try:
                for i in range(n):
                    try:
                        got = yield i, on()
                    except ZeroDivisionError:
                        got = "error"
                    log.append((got, on()))
            finally:
                closed.append(on())
            return log

        closed = []
        assert [(pair, on()) for pair in f(2)] == [((0, False), True), ((1, False), True)]
        g = f(3)
        assert next(g) == (0, False)
        assert g.send("sent") == (1, False)
        assert on()
        assert g.throw(ZeroDivisionError()) == (2, False)
        with pytest.raises(StopIteration) as end:
            next(g)
        assert end.value.value == [("sent", False), ("error", False), (None, False)]
        g = f(3)
        next(g)
        g.close()
        assert closed == [False, False, False]
        g = f(1)
        next(g)
        with pytest.raises(KeyError):
            g.throw(KeyError())
        assert on()

    def test_enable(self) -> None:
        with td.no_grad():
            assert td.enable_grad(on)()
            for enable in (
                td.enable_grad,
                lambda: td.set_grad_enabled(True),
                lambda: td.inference_mode(False),
            ):
                assert enable()(on)()
                assert not on()

    def test_recursion_and_errors(self) -> None:
        @td.no_grad
        def f(n):
            assert not on()
            with td.enable_grad():
                if n:
                    f(n - 1)
                assert on()
            if not n:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            f(3)
        assert on()

    def test_methods(self) -> None:
        class Model:
            @td.no_grad
            def bare(self):
                return on()

            @td.no_grad()
            def called(self):
                return on()

        assert (Model().bare(), Model().called()) == (False, False)


class TestScopes:
    def test_set_grad_enabled(self) -> None:
        with td.set_grad_enabled(False):
            assert not on()
            with td.set_grad_enabled(True):
                assert on()
            assert not on()
        assert on()
        td.set_grad_enabled(False)
        try:
            assert not on()
        finally:
            td.set_grad_enabled(True)
        assert on()

    def test_one_scope_used_again(self) -> None:
        off = td.no_grad()
        for _ in range(2):
            with off, off:
                assert not on()
            assert on()

    def test_recorded(self) -> None:
        @td.record
        @td.no_grad
        def step(x):
            return x * 2.0

        for _ in range(3):
            assert step(td.ones(1)).tolist() == [2.0]
