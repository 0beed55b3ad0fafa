"""Walks the table of networks: sizes, outputs, gradients, recordings, state and refusals of each row."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from catalogue.models import ROWS, Row

import tinydl as td
from tinydl.regularizers import DataGrad, Objective

pytestmark = pytest.mark.usefixtures("reference")

QUICK = 300_000  # parameters of a net that the tests of its small form run at full size
LARGE = 12_000_000  # and of one that CI counts at a later stage
SMALL = [row for row in ROWS if row.narrow or row.parameters < QUICK]
every_row = pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[pytest.mark.full] * (row.parameters > LARGE), id=row.name) for row in ROWS],
)
small_rows = pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)


def batch(row: Row, n: int = 2) -> td.Tensor:
    return td.randn(n, *row.small_input, generator=td.Generator(1))


def labels(row: Row, n: int) -> td.Tensor:
    shape = (n, *row.small_input[1:]) if row.maps else (n,)
    return td.tensor(np.arange(np.prod(shape)).reshape(shape) % 10)


@every_row
def test_as_many_parameters_and_multiply_adds_as_published(row: Row) -> None:
    with td.backend("cpu"):
        summary = td.nn.summary(row.make(classes=row.classes), (2, *row.input))
    assert summary.parameters == row.parameters
    counts = {"M": summary.parameters / 1e6, "G": summary.multiply_adds / 2e9}
    for number, unit in re.findall(r" (\d+\.\d+)([MG])\b", row.published):
        decimals = len(number.partition(".")[2])
        assert round(counts[unit], decimals) == float(number)


@small_rows
def test_logits_by_the_number_of_classes(row: Row) -> None:
    model = row.small(classes=7).eval()
    with td.no_grad():
        assert model(batch(row)).shape == (2, 7, *(row.small_input[1:] if row.maps else ()))


@small_rows
def test_names_of_the_state(row: Row) -> None:
    assert set(row.keys) <= row.small().state_dict().keys()


def without_dropout(model: td.nn.Module) -> td.nn.Module:
    """The net in training, but for what is random."""
    for layer in model.train().modules():
        if isinstance(layer, td.nn.Dropout):
            layer.eval()
    return model


@small_rows
def test_datagrad_steps_reach_every_parameter_and_record(row: Row) -> None:
    """Double backpropagation through the net in training; two recorded steps give the bits of eager ones."""
    x, y = batch(row, 4), labels(row, 4)
    found = []
    for record in (False, True):
        td.manual_seed(5)
        model = without_dropout(row.small())
        objective = Objective(model, td.cross_entropy, [DataGrad(1.0)])
        optimizer = td.optim.SGD(model.parameters(), lr=1e-3)

        def step(x: td.Tensor, y: td.Tensor, objective: Any = objective, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            terms = objective(x, y)
            terms.total.backward()
            optimizer.step()
            return terms.loss, terms.penalties[0]

        run = td.record(step) if record else step
        values = [[value.item() for value in run(x, y)] for _ in range(2)]
        parameters = dict(model.named_parameters())
        silent = [name for name, p in parameters.items() if p.grad is None or not p.grad.numpy().any()]
        assert silent == []
        assert np.isfinite(values).all()
        found.append((values, [p.detach().numpy().tobytes() for p in parameters.values()]))
    assert found[0] == found[1]


@small_rows
def test_the_seed_decides_and_the_state_carries_everything(row: Row) -> None:
    drawn = []
    for seed in (3, 3, 4):
        td.manual_seed(seed)
        drawn.append(row.small().eval())
    first, same, other = drawn
    x = batch(row)
    with td.no_grad():
        np.testing.assert_array_equal(first(x).numpy(), same(x).numpy())
        assert (first(x).numpy() != other(x).numpy()).any()
        other.load_state_dict(first.state_dict())
        np.testing.assert_array_equal(first(x).numpy(), other(x).numpy())


@small_rows
def test_a_recorded_pass_gives_the_same_bits(row: Row) -> None:
    model = row.small().eval()

    def loss(x: td.Tensor) -> td.Tensor:
        return model(x).square().mean()

    recorded, x = td.record(loss), batch(row)
    for _ in range(2):
        np.testing.assert_array_equal(recorded(x).detach().numpy(), loss(x).detach().numpy())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [pytest.param(*bad, id=f"{row.name}-{k}") for row in ROWS for k, bad in enumerate(row.bad)],
)
def test_refused_by_name(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert re.match(r"[\w.]+: ", str(caught.value))
