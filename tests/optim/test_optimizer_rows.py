"""Every public optimizer, by its rows in tests/catalogue/optimizers.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from catalogue.optimizers import CLOSURES, ROWS, Row
from comparisons import comparison
from tinydl_kernels import emulator
from tinydl_kernels.machine.errors import GraphError

import tinydl as td

STEPS, CHANGE = 60, 25
SHAPES = [(3, 4), (4,), (2, 3, 1, 2), ()]
MATRICES = [(3, 4), (4, 3), (2, 3, 1, 2), (5, 2)]
SKIPS = {(1, 0), (1, 1), (1, 7), (3, 40)}
"""(parameter, step) without a gradient."""

recorded_row = pytest.mark.parametrize("row", [r for r in ROWS if r.recorded], ids=lambda row: row.name)
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def drawn(row: Row, dtype: Any = np.float64) -> tuple[list[np.ndarray], list[list[np.ndarray | None]]]:
    """Initial parameters, and their gradients at each step, None now and then."""
    random = np.random.default_rng(0)
    shapes = MATRICES if row.matrices else SHAPES
    params = [np.asarray(random.standard_normal(shape), dtype) for shape in shapes]
    grads = [[np.asarray(random.standard_normal(shape), dtype) for shape in shapes] for _ in range(STEPS)]
    return params, [[None if (i, t) in SKIPS else g for i, g in enumerate(gs)] for t, gs in enumerate(grads)]


def make(row: Row, params: list[td.nn.Parameter], **options: Any) -> td.optim.Optimizer:
    return getattr(td.optim, row.kind)(params, **row.options | options)


def give(params: list[td.nn.Parameter], grads: list[np.ndarray | None]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else td.tensor(g)


def trajectory(row: Row, dtype: Any = np.float64) -> list[np.ndarray]:
    """The parameters after all steps, the dynamic options changed on the way."""
    start, grads = drawn(row, dtype)
    params = [td.nn.Parameter(p) for p in start]
    optimizer = make(row, params)
    for t, gs in enumerate(grads):
        if t == CHANGE:
            optimizer.param_groups[0].update(row.dynamic)
        give(params, gs)
        optimizer.step()
    return [p.numpy() for p in params]


def expected(row: Row) -> list[np.ndarray]:
    """The same by the oracle in NumPy."""
    params, grads = drawn(row)
    group: dict[str, Any] = {}
    owns: list[dict[str, Any]] = [{"group": group} for _ in params]
    for t, gs in enumerate(grads):
        group["step"] = t + 1
        step = row.oracle(row.options | (row.dynamic if t >= CHANGE else {}))
        if row.joint:
            params = step(params, gs, owns)
            continue
        params = [p if g is None else step(p, g, own) for p, g, own in zip(params, gs, owns, strict=True)]
    return params


def assert_close(got: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_every_optimizer_has_a_row_and_every_row_an_optimizer() -> None:
    kinds = {name: getattr(td.optim, name) for name in td.optim.__all__}
    public = {
        name
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, td.optim.Optimizer) and kind is not td.optim.Optimizer
    }
    public -= CLOSURES
    assert public == {row.kind for row in ROWS}
    assert {row.kind for row in ROWS if row.bad} == public
    assert len({row.name for row in ROWS}) == len(ROWS)


@every_row
def test_the_oracle(row: Row) -> None:
    wanted = expected(row)
    assert_close(trajectory(row), wanted, 1e-10)
    assert_close(trajectory(row, np.float32), wanted, 1e-5)


@pytest.mark.parametrize("row", [row for row in ROWS if row.torch], ids=lambda row: row.name)
def test_torch(row: Row, double: None) -> None:
    torch = pytest.importorskip("torch")
    start, grads = drawn(row)
    params = [torch.nn.Parameter(torch.tensor(p)) for p in start]
    optimizer = getattr(torch.optim, row.kind)(params, **row.options)
    with comparison():
        for t, gs in enumerate(grads):
            if t == CHANGE:
                optimizer.param_groups[0].update(row.dynamic)
            for p, g in zip(params, gs, strict=True):
                p.grad = None if g is None else torch.tensor(g)
            optimizer.step()
        found = trajectory(row)
    assert_close(found, [p.detach().numpy() for p in params], 1e-10)


@every_row
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backends_agree(row: Row, dtype: Any) -> None:
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    with td.backend("reference"):
        wanted = trajectory(row, dtype)
    assert_close(trajectory(row, dtype), wanted, tolerance)
    if emulator.unavailable() is None:
        with td.backend("cuda-emulated"):
            assert_close(trajectory(row, dtype), wanted, tolerance)


class Recorded:
    """A step that is recorded, on a net whose gradients the step computes."""

    def __init__(self, row: Row, wrap: Callable[..., Any], dtype: Any = np.float32) -> None:
        random = np.random.default_rng(1)
        w, b = (td.nn.Parameter(random.standard_normal(shape).astype(dtype)) for shape in ((3, 4), (4,)))
        self.params = [w] if row.matrices else [w, b]
        b = b.detach() if row.matrices else b
        self.optimizer = make(row, self.params)
        self.data = random.standard_normal((9, 5, 3)).astype(dtype)

        def step(x: td.Tensor) -> td.Tensor:
            self.optimizer.zero_grad()
            loss = ((x @ w + b).tanh() - 0.5).square().mean()
            loss.backward()
            self.optimizer.step()
            return loss

        self.step = wrap(step)

    def run(self, steps: range) -> list[bytes]:
        losses = [self.step(td.tensor(self.data[i % 9])).numpy() for i in steps]
        state = [x.numpy() for own in self.optimizer.state.values() for x in own.values()]
        return [x.tobytes() for x in (*losses, *(p.numpy() for p in self.params), *state)]


@recorded_row
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recorded_is_eager(row: Row, dtype: Any, backend: str) -> None:
    """Bit for bit: the first, recorded call, replays, and replays after a dynamic option has changed."""
    eager, recorded = (Recorded(row, wrap, dtype) for wrap in (lambda step: step, td.record))
    assert eager.run(range(4)) == recorded.run(range(4))
    before = [p.numpy().copy() for p in recorded.params]
    for each in (eager, recorded):
        each.optimizer.param_groups[0].update(row.dynamic)
    assert eager.run(range(4, 7)) == recorded.run(range(4, 7))
    assert sum(map(len, recorded.step.recordings.values())) == 1
    assert all((p.numpy() != was).any() for p, was in zip(recorded.params, before, strict=True))


@recorded_row
def test_a_structural_change_records_anew(row: Row) -> None:
    eager, recorded = (Recorded(row, wrap) for wrap in (lambda step: step, td.record))
    first = eager.run(range(3))
    assert first == recorded.run(range(3))
    if not row.structural:
        return
    was = {name: recorded.optimizer.param_groups[0][name] for name in row.structural}
    for count, options in ((2, row.structural), (2, was)):  # back again: the first recording
        for each in (eager, recorded):
            each.optimizer.param_groups[0].update(options)
        assert eager.run(range(3, 6)) == recorded.run(range(3, 6))
        assert sum(map(len, recorded.step.recordings.values())) == count


@pytest.mark.parametrize("row", [r for r in ROWS if not r.recorded], ids=lambda row: row.name)
def test_recorded_is_refused(row: Row) -> None:
    with pytest.raises(GraphError, match=rf"{row.kind}\.step: expected a call outside a recorded step"):
        Recorded(row, td.record).run(range(1))


@every_row
def test_goes_on_with_the_same_bits(row: Row) -> None:
    """From a state that was saved, through JSON, after any step."""
    start, grads = drawn(row, np.float32)
    for stop in (0, 1, int(np.random.default_rng(2).integers(2, 30))):
        a = [td.nn.Parameter(p) for p in start]
        first = make(row, a)
        for gs in grads[:stop]:
            give(a, gs)
            first.step()
        first.param_groups[0].update(row.dynamic)
        saved = first.state_dict()
        arrays = {str(i): {n: x.numpy().copy() for n, x in own.items()} for i, own in saved["state"].items()}
        groups = json.loads(json.dumps(saved["param_groups"]))
        b = [td.nn.Parameter(p) for p in a]
        second = make(row, b, lr=9.0)
        second.load_state_dict(
            {**json.loads(json.dumps(saved | {"state": 0})), "state": arrays, "param_groups": groups}
        )
        for gs in grads[stop : stop + 10]:
            for params, optimizer in ((a, first), (b, second)):
                give(params, gs)
                optimizer.step()
        assert [p.numpy().tobytes() for p in a] == [p.numpy().tobytes() for p in b]


@every_row
def test_without_a_gradient_nothing_happens(row: Row) -> None:
    params = [td.nn.Parameter(p) for p in drawn(row)[0]]
    optimizer = make(row, params)
    give(params, drawn(row)[1][2])
    optimizer.step()
    before = [[x.numpy().copy() for x in (p, *optimizer.state[p].values())] for p in params]
    give(params, [None] * len(params))
    optimizer.step()
    for p, was in zip(params, before, strict=True):
        for x, y in zip((p, *optimizer.state[p].values()), was, strict=True):
            np.testing.assert_array_equal(x.numpy(), y)


@every_row
def test_bad_options_are_named(row: Row) -> None:
    for options, message in row.bad:
        with pytest.raises(ValueError, match=f"{row.kind}: {message}"):
            make(row, [td.nn.Parameter(np.ones((2, 2)))], **options)


@every_row
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decayed", [False, True], ids=["states", "parameters too"])
def test_nothing_stays_subnormal(row: Row, dtype: Any, decayed: bool, backend: str) -> None:
    """Where a gradient has become 0 for good, states and parameters that decay end at 0, not among the
    subnormal numbers: a processor takes a hundred times longer for those, at every further step.
    """
    params = [td.nn.Parameter(p) for p in drawn(row, dtype)[0]]
    optimizer = make(row, params)
    give(params, drawn(row, dtype)[1][2])
    optimizer.step()
    states = [x for own in optimizer.state.values() for x in own.values() if x.dtype.kind == "f"]
    for x in [*states, *(params if decayed else ())]:
        x.array[...] = np.finfo(x.dtype).tiny * (1 + 1e-6)
    for _ in range(12):  # of which SOAP's bases need ten
        give(params, [np.zeros(p.shape, dtype) for p in params])
        optimizer.step()
    for x in [*states, *params]:
        size = abs(x.numpy())
        assert not ((size > 0) & (size < np.finfo(x.dtype).tiny)).any()
