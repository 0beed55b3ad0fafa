"""Walks the table of metrics (catalogue/metrics.py): values, pieces, state, errors; none is missing."""

from __future__ import annotations

import inspect
import re
import warnings
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import metrics

catalogue = pytest.importorskip("catalogue.metrics", reason="needs scikit-learn and SciPy, the oracles")

ROWS = catalogue.ROWS
CASES = [
    pytest.param(row, draw, options, id=f"{row.name}-{number}")
    for row in ROWS
    for number, (draw, options) in enumerate(row.cases)
]
FED = [case for case in CASES if case.values[0].metric]
SEEDS = (0, 1)

each_case = pytest.mark.parametrize(("row", "draw", "options"), CASES)
each_fed = pytest.mark.parametrize(("row", "draw", "options"), FED)


def called(row: Any, arguments: Any, options: Any) -> Any:
    """The function's value, where warnings are not the subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.UndefinedMetricWarning)
        return getattr(metrics, row.name)(*arguments, **options)


def oracle(row: Any, arguments: Any, options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return row.oracle(*arguments, **options)


def close(value: Any, expected: Any, tolerance: float) -> None:
    """Numbers, arrays, or tuples of them."""
    if isinstance(value, tuple):
        assert len(value) == len(expected)
        for x, y in zip(value, expected, strict=True):
            close(x, y, tolerance)
        return
    assert np.shape(value) == np.shape(expected)
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)


def same(value: Any, expected: Any) -> None:
    close(value, expected, 0.0)


def pieces(arguments: Any, generator: np.random.Generator, weight: Any = None) -> list[tuple[Any, ...]]:
    """The arguments cut anywhere, here and there into nothing."""
    n = len(arguments[0])
    cuts = np.sort(np.append(generator.integers(0, n, 6), generator.integers(0, n)))
    cuts = np.append(cuts, cuts[:1])  # once twice: an empty piece
    cuts.sort()
    arrays = arguments if weight is None else (*arguments, weight)
    return list(zip(*(np.split(x, cuts) for x in arrays), strict=True))


def fed(row: Any, options: Any, parts: Any) -> Any:
    metric = getattr(metrics, row.metric)(**options)
    for part in parts:
        metric.update(*part)
    return metric


def computed(metric: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.UndefinedMetricWarning)
        return metric.compute()


@each_case
def test_values_are_the_oracles(row: Any, draw: Any, options: Any) -> None:
    for seed in SEEDS:
        arguments = draw(np.random.default_rng(seed))
        before = [np.copy(x) for x in arguments if isinstance(x, np.ndarray)]
        close(called(row, arguments, options), oracle(row, arguments, options), row.tolerance)
        for x, y in zip((x for x in arguments if isinstance(x, np.ndarray)), before, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("row", "draw", "options"),
    [c for c in CASES if c.values[0].weighted and c.values[2].get("multi_class") != "ovo"],
)
def test_weights_are_the_oracles(row: Any, draw: Any, options: Any) -> None:
    """Fractions and zeros. A number of samples is one with equal weights."""
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        arguments = draw(generator)
        n = len(arguments[0])
        weight = generator.random(n) * (generator.random(n) < 0.8)
        weight[:4] = 0.5  # every kind of sample is left
        more = options | {"sample_weight": weight}
        expected = oracle(row, arguments, more)
        close(called(row, arguments, more), expected, 10 * row.tolerance)
        if row.metric:
            metric = fed(row, options, pieces(arguments, generator, weight))
            close(computed(metric), expected, 10 * row.tolerance)
        twos = options | {"sample_weight": np.full(n, 2.0)}
        if row.name not in ("confusion_matrix", "reliability_curve"):  # counts double
            close(called(row, arguments, twos), called(row, arguments, options), row.tolerance)


@each_fed
def test_pieces_of_any_size_make_the_whole(row: Any, draw: Any, options: Any) -> None:
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        arguments = draw(generator)
        whole = called(row, arguments, options)
        metric = fed(row, options, pieces(arguments, generator))
        # Floating sums of pieces differ in their last bit; counts and kept predictions in none.
        tolerance = 0.0 if row.exact and options.get("average") != "samples" else 1e-12
        close(computed(metric), whole, tolerance)
        same(computed(metric), computed(metric))
    ones = [tuple(x[i : i + 1] for x in arguments) for i in range(len(arguments[0]))]
    close(computed(fed(row, options, ones)), whole, tolerance)


@each_fed
def test_state_goes_on_elsewhere(row: Any, draw: Any, options: Any) -> None:
    generator = np.random.default_rng(0)
    parts = pieces(draw(generator), generator)
    half = len(parts) // 2
    metric, other = fed(row, options, parts[:half]), getattr(metrics, row.metric)(**options)
    state = metric.state_dict()
    other.update(*parts[0])  # what was there is replaced
    other.load_state_dict(state)
    for part in parts[half:]:
        metric.update(*part)
        other.update(*part)
    same(computed(other), computed(metric))
    assert isinstance(state["samples"], int)
    assert all(isinstance(x, np.ndarray) for name, x in state.items() if name != "samples")
    again = getattr(metrics, row.metric)(**options)
    again.load_state_dict(state)  # which was not written meanwhile
    for part in parts[half:]:
        again.update(*part)
    same(computed(again), computed(metric))


@each_fed
def test_reset_forgets(row: Any, draw: Any, options: Any) -> None:
    arguments = draw(np.random.default_rng(0))
    metric = fed(row, options, [arguments])
    empty = getattr(metrics, row.metric)(**options)
    metric.reset()
    assert metric.state_dict() == empty.state_dict() == {"samples": 0}
    with pytest.raises(td.ShapeError, match=f"{row.name}: expected at least one sample, got none"):
        metric.compute()
    metric.load_state_dict(empty.state_dict())
    metric.update(*arguments)
    same(computed(metric), called(row, arguments, options))
    assert repr(metric) == f"{row.metric}({len(arguments[0])} samples)"


@pytest.mark.parametrize(
    ("row", "draw", "options"), [case for case in CASES if case.values[0].name not in ("wilson", "bootstrap")]
)
def test_lists_and_tensors_and_the_order_of_samples_change_nothing(row: Any, draw: Any, options: Any) -> None:
    arguments = draw(np.random.default_rng(0))
    whole = called(row, arguments, options)
    same(called(row, [x.tolist() for x in arguments], options), whole)
    same(called(row, [td.tensor(x) for x in arguments], options), whole)
    order = np.random.default_rng(1).permutation(len(arguments[0]))
    close(called(row, [x[order] for x in arguments], options), whole, row.tolerance)


@pytest.mark.parametrize(
    ("row", "arguments", "options"),
    [pytest.param(row, *case, id=f"{row.name}-{i}") for row in ROWS for i, case in enumerate(row.undefined)],
)
def test_undefined_is_nan_with_one_warning(row: Any, arguments: Any, options: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = getattr(metrics, row.name)(*arguments, **options)
    values = value if isinstance(value, tuple) else (value,)
    assert any(np.isnan(x).any() for x in values)
    assert [w.category for w in caught] == [metrics.UndefinedMetricWarning]
    assert str(caught[0].message).startswith(f"{row.name}: ")


@pytest.mark.parametrize(
    ("row", "arguments", "options", "error", "message"),
    [pytest.param(row, *case, id=f"{row.name}-{i}") for row in ROWS for i, case in enumerate(row.bad)],
)
def test_errors_say_who_expected_got(
    row: Any, arguments: Any, options: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        getattr(metrics, row.name)(*arguments, **options)
    assert str(caught.value).startswith(f"{row.name}: ")


def test_every_public_name_has_a_row() -> None:
    named = [row.name for row in ROWS] + [row.metric for row in ROWS if row.metric]
    assert len(set(named)) == len(named)
    assert sorted([*named, "Metric", "UndefinedMetricWarning"]) == sorted(metrics.__all__)
    assert len(set(metrics.__all__)) == len(metrics.__all__)


@pytest.mark.parametrize("row", [row for row in ROWS if row.metric], ids=lambda row: row.name)
def test_class_and_function_have_the_same_settings(row: Any) -> None:
    function, metric = (getattr(metrics, name) for name in (row.name, row.metric))
    taken = {"prediction", "target", "sample_weight"}
    settings = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in taken
    }
    assert settings == {
        name: parameter.default for name, parameter in inspect.signature(metric).parameters.items()
    }
    assert issubclass(metric, metrics.Metric)
    assert metric.name == row.name
    assert ("sample_weight" in inspect.signature(function).parameters) == row.weighted
    with pytest.raises(TypeError):
        metric(colour="red")
