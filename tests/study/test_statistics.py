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


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 31])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_interval_against_scipy(n, confidence):
    found = estimate(np.random.default_rng(n).normal(97, 0.3, n))
    expected = stats.t.interval(confidence, n - 1, found.mean, found.error)
    assert found.interval(confidence) == pytest.approx(expected, rel=1e-12)


def test_no_interval():
    assert all(map(math.isnan, estimate([97.5]).interval()))
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        estimate([97.5, 98.5]).interval(95)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Estimate(0.5, 0.1, 5), "+0.50 (95 % t interval 0.22 to 0.78, 5 pairs)"),
        (Estimate(-0.5, 0.1, 5), "-0.50 (95 % t interval -0.78 to -0.22, 5 pairs)"),
        (Estimate(0.5, 0.2, 5), "+0.50 (95 % t interval -0.06 to 1.06, 5 pairs): not shown"),
        (Estimate(0.5, 0.01, 4), "+0.50 (95 % t interval 0.47 to 0.53, 4 pairs): not shown"),
        (Estimate(0.5, math.nan, 1), "+0.50 (1 pair): not shown"),
    ],
)
def test_told(found, words):
    assert found.told() == words


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
