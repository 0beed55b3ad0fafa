"""Means, paired differences and claims, against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from tinydl_kernels.machine.errors import ShapeError

from tinydl.study import Estimate, compare, estimate, paired_difference


@pytest.mark.parametrize("n", [2, 3, 10])
def test_against_scipy(n):
    a, b = np.random.default_rng(n).normal(97, 0.3, (2, n))
    mean, error, count = estimate(a)
    assert (mean, error, count) == (pytest.approx(a.mean()), pytest.approx(stats.sem(a)), n)
    paired = paired_difference(a, b)
    assert paired.mean / paired.error == pytest.approx(stats.ttest_rel(a, b).statistic)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 11, 40])
def test_the_interval_is_students(n, confidence):
    found = estimate(np.random.default_rng(n).normal(97, 0.3, n))
    expected = stats.t.interval(confidence, n - 1, found.mean, found.error)
    np.testing.assert_allclose(found.interval(confidence), expected, rtol=1e-9)


def test_what_is_told_of_a_difference():
    assert estimate([1.0, 1.2, 1.1, 0.9, 0.8]).told() == "+1.00 (95 % +0.80 to +1.20, 5 pairs): shown"
    assert estimate([1.0, 1.2, 1.1, 0.9]).told().endswith("4 pairs): not shown")
    assert estimate([1.0, -1.2, 1.1, -0.9, 0.8]).told().endswith(": not shown")
    assert estimate([1.0]).told() == "+1.00: not shown"


def test_one_value_has_no_interval():
    assert all(math.isnan(side) for side in estimate([97.5]).interval())
    with pytest.raises(ValueError, match="interval: expected confidence between 0 and 1, got 95"):
        estimate([97.5, 98.0]).interval(95)


def test_one_value_has_no_error():
    mean, error, n = estimate([97.5])
    assert (mean, n) == (97.5, 1)
    assert math.isnan(error)
    assert not estimate([97.5]).beyond(least=1)


@pytest.mark.parametrize(
    ("found", "beyond"),
    [
        (Estimate(0.21, 0.1, 3), True),
        (Estimate(-0.21, 0.1, 3), True),
        (Estimate(0.2, 0.1, 3), False),  # beyond two, not at two
        (Estimate(0.9, 0.1, 2), False),
        (Estimate(0.0, 0.0, 3), False),
        (Estimate(0.1, 0.0, 3), True),
        (Estimate(math.nan, math.nan, 3), False),
    ],
)
def test_beyond(found, beyond):
    assert found.beyond() is beyond


def test_claims_name_the_better_method():
    scores = {
        "a": [96.0, 97.0, 98.0],
        "b": [96.5, 97.5, 98.6],
        "c": [95.0, 96.1, 97.0],
        "d": [97.0, 97.0, 97.0],
    }
    comparison = compare(scores)
    claims = {(row.name, row.other): row.claim for row in comparison.differences}
    assert claims["b", "a"] == "b is better than a"
    assert claims["c", "a"] == "a is better than c"
    assert claims["d", "a"] is None
    assert len(claims) == 6
    table = str(comparison)
    assert "b is better than a" in table
    assert "no claim" in table
    assert "97.00 ± 0.58  (3 seeds)" in table


def test_two_pairs_allow_no_claim():
    (row,) = compare({"a": [90.0, 91.0], "b": [95.0, 96.0]}).differences
    assert row.claim is None


def test_one_seed_is_told_without_an_error():
    table = str(compare({"a": [90.0], "b": [95.0]}))
    assert "nan" not in table
    assert "95.00  (1 seed)" in table
    assert "+5.00  no claim" in table


def test_errors():
    with pytest.raises(ShapeError, match=r"estimate: expected values \(n,\), n >= 1, got \(0,\)"):
        estimate([])
    with pytest.raises(ShapeError, match=r"paired_difference: expected pairs, got \(2,\) and \(3,\) values"):
        paired_difference([1, 2], [1, 2, 3])
