"""Walks the table of networks: sizes, outputs, gradients, recordings, state and refusals of each row."""

from __future__ import annotations

import re

import numpy as np
import pytest
from catalogue.models import ROWS, Row

import tinydl as td

pytestmark = pytest.mark.usefixtures("reference")

SMALL = [row for row in ROWS if row.parameters < 300_000]
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
small_rows = pytest.mark.parametrize("row", SMALL, ids=lambda row: row.name)


def batch(row: Row, n: int = 2) -> td.Tensor:
    return td.randn(n, *row.input, generator=td.Generator(1))


@every_row
def test_as_many_parameters_as_published(row: Row) -> None:
    assert sum(p.numel() for p in row.make().parameters()) == row.parameters
    if millions := re.search(r"([.\d]+)M$", row.published):
        assert round(row.parameters / 1e6, 2) == float(millions[1])


@every_row
def test_logits_by_the_number_of_classes(row: Row) -> None:
    model = row.make(classes=7).eval()
    with td.no_grad():
        assert model(batch(row)).shape == (2, 7)


@small_rows
def test_every_parameter_has_a_gradient(row: Row) -> None:
    model = row.make()
    td.cross_entropy(model(batch(row, 4)), td.tensor([0, 1, 2, 3])).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.numpy().any()]
    assert silent == []


@small_rows
def test_the_seed_decides_and_the_state_carries_everything(row: Row) -> None:
    drawn = []
    for seed in (3, 3, 4):
        td.manual_seed(seed)
        drawn.append(row.make().eval())
    first, same, other = drawn
    x = batch(row)
    with td.no_grad():
        np.testing.assert_array_equal(first(x).numpy(), same(x).numpy())
        assert (first(x).numpy() != other(x).numpy()).any()
        other.load_state_dict(first.state_dict())
        np.testing.assert_array_equal(first(x).numpy(), other(x).numpy())


@small_rows
def test_a_recorded_pass_gives_the_same_bits(row: Row) -> None:
    model = row.make().eval()

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
    assert re.match(r"\w+: ", str(caught.value))
