"""Constants of a recorded step, the same if types and bits are; how many recordings are kept; methods."""

from __future__ import annotations

import dataclasses
import enum
import gc
import weakref
from typing import NamedTuple

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.record import recorder
from tinydl.record.signature import exact


class Pair(NamedTuple):
    a: float
    b: float


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float


class Mode(enum.Enum):
    ONE = 1.0
    TWO = 2.0


UNEQUAL = [
    (0.0, -0.0),
    (1, 1.0),
    (1, True),
    (1.0, np.float64(1.0)),
    (np.float32(0.0), np.float32(-0.0)),
    (np.float32(1.0), np.float64(1.0)),
    ((2,), (2.0,)),
    ((True,), (1,)),
    ((0.0,), (-0.0,)),
    (((1, 2),), ((1, 2.0),)),
    ((1.0, 2.0), Pair(1.0, 2.0)),
    (Pair(0.0, 1.0), Pair(-0.0, 1.0)),
    (frozenset({1}), frozenset({True})),
    (frozenset({0.0}), frozenset({-0.0})),
    (0j, complex(0.0, -0.0)),
    (Settings(0.0), Settings(-0.0)),
    (Settings(1), Settings(1.0)),
    (Mode.ONE, Mode.TWO),
    (slice(0, 1), slice(0, True)),
    ("1", b"1"),
]
EQUAL = [
    (float("nan"), float("nan")),
    ((float("nan"), 1), (float("nan"), 1)),
    (np.float32("nan"), np.float32("nan")),
    (Settings(float("nan")), Settings(float("nan"))),
    (complex("nan"), complex("nan")),
    (Pair(1.0, 2.0), Pair(1.0, 2.0)),
    (frozenset({1, 2}), frozenset({2, 1})),
    ("a", "a"),
]


def count(step) -> int:
    return sum(map(len, step.recordings.values()))


class TestConstants:
    @pytest.mark.parametrize(("a", "b"), UNEQUAL, ids=str)
    def test_unequal(self, a, b) -> None:
        assert exact(a) != exact(b)
        step = td.record(lambda x, constant: x * 1.0)
        for constant in (a, b, a, b):
            step(td.ones(1), constant)
        assert count(step) == 2

    @pytest.mark.parametrize(("a", "b"), EQUAL, ids=str)
    def test_equal(self, a, b) -> None:
        step = td.record(lambda x, constant: x * 1.0)
        for constant in (a, b, a, b):
            step(td.ones(1), constant)
        assert count(step) == 1

    def test_values(self) -> None:
        step = td.record(lambda x, c: x / c)
        assert [step(td.ones(1), c).item() for c in (0.0, -0.0, 0.0)] == [np.inf, -np.inf, np.inf]
        shaped = td.record(lambda x, sizes: x * sizes[0])
        kinds = [shaped(td.tensor([1]), sizes).dtype.kind for sizes in ((2,), (2.0,), (2,))]
        assert kinds == ["i", "f", "i"]


class TestBound:
    def test_the_last_used_are_kept(self, monkeypatch) -> None:
        monkeypatch.setattr(recorder, "RECORDINGS", 3)
        seen = []

        @td.record
        def step(x, factor):
            seen.append(factor)
            return x * factor

        def call(*factors) -> None:
            for factor in factors:
                assert step(td.ones(1), factor).item() == factor

        call(1.0, 2.0, 3.0, 1.0)  # 2.0 is now the one that was not used for longest
        with pytest.warns(RuntimeWarning, match="step was recorded more than 3 times: a constant"):
            call(4.0)
        call(1.0, 3.0, 4.0)
        assert seen == [1.0, 2.0, 3.0, 4.0]
        call(2.0, 1.0)  # no second warning, which would be an error
        assert seen == [1.0, 2.0, 3.0, 4.0, 2.0, 1.0]
        assert count(step) == 3

    def test_modes_count_too(self, monkeypatch) -> None:
        monkeypatch.setattr(recorder, "RECORDINGS", 1)
        model = nn.Dropout(0.5)
        step = td.record(lambda x: model(x))
        step(td.ones(2))
        model.eval()
        with pytest.warns(RuntimeWarning, match="recorded more than 1 times"):
            assert step(td.ones(2)).tolist() == [1.0, 1.0]
        assert count(step) == 1

    def test_a_bound_there_is(self) -> None:
        assert recorder.RECORDINGS == 64
        assert "64 recordings" in td.record.__doc__


class Model:
    def __init__(self, factor: float) -> None:
        self.calls, self.weight = 0, nn.Parameter(np.array([factor]))

    @td.record
    def step(self, x, bias=0.0):
        """One step."""
        self.calls += 1
        return x * self.weight + bias

    @classmethod
    @td.record
    def of_class(cls, x):
        return x * len(cls.__name__)

    @staticmethod
    @td.record
    def of_none(x):
        return x * 3.0


class TestMethods:
    def test_each_instance_has_its_recordings(self) -> None:
        a, b = Model(2.0), Model(3.0)
        for value in (1.0, 2.0, 3.0):
            x = td.tensor([value], dtype=td.float64)
            assert (a.step(x).item(), b.step(x).item()) == (2 * value, 3 * value)
            assert a.step(x, 1.0).item() == 2 * value + 1
            assert Model.of_class(x).item() == 5 * value
            assert a.of_class(x).item() == 5 * value
            assert a.of_none(x).item() == 3 * value
        assert (a.calls, b.calls) == (2, 1)
        assert a.step is a.step
        assert Model.step.__doc__ == "One step."

    def test_a_method_of_a_module(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(2, 1)

            @td.record
            def forward(self, x):
                return self.layer(x)

        net, x = Net(), td.ones(1, 2)
        for _ in range(3):
            assert net(x).item() == net.layer(x).item()

    def test_instances_end(self) -> None:
        model = Model(2.0)
        ref, bound = weakref.ref(model), weakref.ref(model.step)
        model.step(td.ones(1, dtype=td.float64))
        gc.disable()
        try:
            del model
            assert ref() is None
            assert bound() is None
        finally:
            gc.enable()
