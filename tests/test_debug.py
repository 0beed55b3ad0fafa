"""The anomaly detector finds operation, layer and line, forward and backward; the profile counts."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.debug import AnomalyError, detect_anomaly, profile


class Root(nn.Module):
    """√x, whose gradient at 0 is infinite."""

    def forward(self, x):
        return x.sqrt()


class Log(nn.Module):
    def forward(self, x):
        return x.log()


def model(last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Identity(), nn.Sequential(nn.Identity(), last))


def line_of(function, text: str) -> str:
    """ "file:line" of the line of `function` that holds `text`."""
    lines, first = inspect.getsourcelines(function)
    return f"{__file__}:{first + next(i for i, line in enumerate(lines) if text in line)}"


class TestForward:
    def test_operation_and_line(self) -> None:
        x = td.tensor([1.0, 0.0, -1.0])
        with pytest.raises(AnomalyError) as caught, detect_anomaly():
            x.log()
        assert str(caught.value) == (
            "log: expected finite out, got 1 NaN and 1 Inf in (3,) float32; called at "
            f"{line_of(self.test_operation_and_line, 'x.log()')}: x.log()"
        )

    def test_layer(self) -> None:
        message = r"^1\.1: log: expected finite out, got 2 Inf in \(2,\) float32"
        with pytest.raises(AnomalyError, match=message) as caught, detect_anomaly():
            model(Log())(td.zeros(2))
        assert line_of(Log, "return x.log()") in str(caught.value)

    def test_where_it_was_already(self) -> None:
        x = td.tensor([1.0, float("nan")])
        with (
            detect_anomaly(),
            pytest.raises(AnomalyError, match=r"mul: .* got 1 NaN in \(2,\) float32 \(already in input\)"),
        ):
            x * 2.0

    def test_writes(self) -> None:
        w = nn.Parameter(np.ones(2))
        w.grad = td.full(2, 1e300, dtype=td.float64)
        optimizer = td.optim.SGD([w], lr=1e300)
        with (
            detect_anomaly(),
            pytest.raises(
                AnomalyError, match=r"optimizer_step: expected finite .*, got 2 Inf in \(2,\) float64"
            ),
        ):
            optimizer.step()

    def test_infinities_may_be_allowed(self) -> None:
        with detect_anomaly(inf=False):
            td.zeros(2).log()
            with pytest.raises(AnomalyError, match="got 2 NaN"):
                td.zeros(2).log() - td.zeros(2).log()

    def test_nothing_wrong_nothing_said(self) -> None:
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2))
        optimizer = td.optim.Adam(net.parameters())
        with detect_anomaly():
            loss = td.regularizers.Objective(net, td.cross_entropy, [td.regularizers.DataGrad(0.1)])
            loss(td.randn(5, 3), td.tensor([0, 1, 0, 1, 0])).total.backward()
            optimizer.step()


class TestBackward:
    def test_operation_layer_and_the_line_of_the_forward(self) -> None:
        x = td.tensor([4.0, 0.0], requires_grad=True)
        with detect_anomaly():
            y = model(Root())(x)
            with pytest.raises(AnomalyError) as caught:
                y.sum().backward()
        assert str(caught.value) == (
            "1.1: gradient of sqrt with respect to input: expected finite values, got 1 Inf in (2,) float32; "
            "called at "
            f"{line_of(Root, 'return x.sqrt()')}: return x.sqrt()"
        )
        assert x.grad is None

    def test_second_order(self) -> None:
        """x^1.5 has no finite second derivative at 0; the line is still that of the forward."""
        x = td.tensor([4.0, 0.0], requires_grad=True)
        with detect_anomaly():
            y = (x**1.5).sum()
            (g,) = td.grad(y, x, create_graph=True)
            with pytest.raises(
                AnomalyError, match=r"gradient of .* called for the gradient of power at "
            ) as caught:
                g.sum().backward()
        assert line_of(self.test_second_order, "x**1.5") in str(caught.value)

    def test_a_bad_cotangent(self) -> None:
        x = td.ones(2, requires_grad=True)
        with detect_anomaly():
            y = x * 2.0
            with pytest.raises(
                AnomalyError, match=r"gradient of mul .* got 1 NaN .* \(already in the cotangent\)"
            ):
                y.backward(td.tensor([1.0, float("nan")]))

    def test_a_graph_from_outside(self) -> None:
        x = td.zeros(1, requires_grad=True)
        y = x.sqrt()
        with detect_anomaly(), pytest.raises(AnomalyError, match="called outside of detect_anomaly"):
            y.backward()

    def test_what_a_rule_discards(self) -> None:
        """log meets 0 inside the rule of `pow`, but `where` takes the other branch."""
        x, n = td.tensor([0.0, 2.0], requires_grad=True), td.tensor([2.0, 2.0], requires_grad=True)
        with detect_anomaly():
            (x**n).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), [0.0, 4.0])


def test_recorded_steps_run_eagerly() -> None:
    w = nn.Parameter(np.array([1.0]))
    step = td.record(lambda x: (w * x).log().sum())
    step(td.ones(1, dtype=td.float64))
    with (
        detect_anomaly(),
        pytest.raises(AnomalyError, match=r"log: expected finite out, got 1 NaN") as caught,
    ):
        step(-td.ones(1, dtype=td.float64))
    assert line_of(test_recorded_steps_run_eagerly, "log()") in str(caught.value)
    with detect_anomaly():
        assert step(td.ones(1, dtype=td.float64)).item() == 0.0
    assert step(td.ones(1, dtype=td.float64)).item() == 0.0


def test_scopes_nest_and_end() -> None:
    with detect_anomaly():
        with profile() as p:
            td.zeros(1).log()
        with pytest.raises(AnomalyError):
            td.zeros(1).log()
    td.zeros(1).log()
    assert [row.name for row in p.rows] == ["log"]


class TestProfile:
    def test_counts(self) -> None:
        x = td.ones(10, 10, requires_grad=True)
        with profile() as p:
            for _ in range(3):
                (x.exp().T + x).sum().backward()
        rows = {row.name: row for row in p.rows}
        assert rows["exp"].calls == rows["sum"].calls == 3
        assert rows["exp"].bytes == 3 * 400
        assert rows["permute"].calls == 6
        assert rows["permute"].bytes == 0
        assert 0 < sum(row.seconds for row in p.rows) < p.wall
        assert [row.seconds for row in p.rows] == sorted((row.seconds for row in p.rows), reverse=True)

    def test_table(self) -> None:
        with profile() as p:
            td.ones(512, 512).exp()
        lines = str(p).splitlines()
        assert lines[0].split() == ["operation", "calls", "ms", "share", "µs", "a", "call", "MiB"]
        assert lines[1].split()[:2] == ["exp", "1"]
        assert lines[1].split()[-1] == "1.00"
        assert lines[2].startswith("between operations")
        assert len({len(line) for line in lines[:2]}) == 1

    def test_an_empty_scope(self) -> None:
        with profile() as p:
            pass
        assert p.rows == []
        assert str(p)

    def test_recordings_and_replays(self) -> None:
        step = td.record(lambda x: (x * 2.0).exp())
        for _ in range(2):
            with profile() as p:
                step(td.ones(3))
            assert {row.name: row.calls for row in p.rows} == {"mul": 1, "exp": 1}
