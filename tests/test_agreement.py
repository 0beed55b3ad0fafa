"""What agreement.py must not let pass: each fault is planted in a function that agrees but for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import Held, Made, assert_agree_everywhere, compiled

import tinydl as td

X = np.linspace(-1.0, 1.0, 8).astype(np.float32).astype(np.float64)

count = 0


def counted(x: Any) -> float:
    """The number of this call, which a recorded step keeps."""
    global count
    count += 1
    return float(count % 4)


# What tinydl gets beside sin(x) x: in eager float64 it is nothing.
FAULTS: dict[str, Callable[[Any], Any]] = {
    "a value of float32": lambda x: 0.001 if x.dtype == td.float32 else 0.0,
    "a derivative of float32": lambda x: (x - x.detach()) * (0.01 if x.dtype == td.float32 else 0.0),
    "a second derivative of float32": lambda x: (
        (x - x.detach()) ** 2 * (0.01 if x.dtype == td.float32 else 0.0)
    ),
    "a dtype": lambda x: td.zeros(8, dtype=td.float64) if x.dtype == td.float32 else 0.0,
    "a constant of the recording": lambda x: 1e-6 * counted(x) if x.dtype == td.float32 else 0.0,
    "the first input, when replayed": lambda x: (
        1e-3 * float(x.detach().numpy()[0] > -0.99) if x.dtype == td.float32 else 0.0
    ),
}


def make_with(fault: Callable[[Any], Any]) -> Callable[[Any, str], Made]:
    def make(library: Any, dtype: str) -> Made:
        return lambda x: library.sin(x) * x + (fault(x) if library is td else 0.0), Held()

    return make


def test_what_agrees_passes() -> None:
    pytest.importorskip("torch")
    assert_agree_everywhere(make_with(lambda x: 0.0), [X])


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(fault: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises((AssertionError, td.GraphError)):
        assert_agree_everywhere(make_with(FAULTS[fault]), [X])


def test_what_records_may_not_be_listed_as_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(pytest.fail.Exception):
        assert_agree_everywhere(make_with(lambda x: 0.0), [X], records=False)


def test_an_interpreted_kernel_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    x = td.tensor(np.linspace(-1.0, 1.0, 8, dtype=np.float32))
    with compiled() as kernels:
        td.sin(x)
    assert kernels
    for kernel in kernels:
        monkeypatch.setattr(kernel, "_run", kernel.interpreted)
        monkeypatch.setattr(kernel, "_dispatchers", {})
    with compiled(), pytest.raises(AssertionError, match="interpreted"):
        td.sin(x)
