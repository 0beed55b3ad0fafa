"""What may be said of made numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tinydl.study import Estimate, claims, estimate, reproduction, t_probability, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 29, 100])
def test_students_t(freedom: int) -> None:
    for t in (0.0, -0.3, 1.0, 2.5, 7.0):
        assert t_probability(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-12)
    for level in (0.5, 0.95, 1 - 0.05 / 24):
        assert t_quantile(freedom, level) == pytest.approx(stats.t.ppf(0.5 + level / 2, freedom), rel=1e-8)


def test_a_t_interval_is_scipys_and_of_one_value_there_is_none() -> None:
    values = [97.1, 97.4, 96.8, 97.9]
    found = estimate(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found.interval() == pytest.approx(expected)
    assert all(map(math.isnan, estimate([97.0]).interval()))


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="freedom of at least 1, got 0"):
        t_probability(1.0, 0)
    with pytest.raises(ValueError, match="level between 0 and 1, got 1"):
        t_quantile(3, 1)


def with_probability(p: float, n: int = 10) -> Estimate:
    """A difference that so large a one has this probability by chance."""
    return Estimate(float(t_quantile(n - 1, 1 - p)) * 0.1, 0.1, n)


def test_holm_holds_each_against_its_own_level_and_stops_at_the_first_that_fails() -> None:
    # levels .05/4, .05/3, .05/2, .05/1, from the smallest on
    found = claims(
        {name: with_probability(p) for name, p in {"c": 0.03, "a": 0.01, "d": 0.04, "b": 0.016}.items()}
    )
    assert {name: claim.verdict for name, claim in found.items()} == {
        "c": "not shown",  # .03 > .025
        "a": "above 0",
        "d": "not shown",  # .04 < .05, but c has failed before
        "b": "above 0",  # .016 < .05/3
    }
    assert list(found) == ["c", "a", "d", "b"]
    expected = with_probability(0.01).interval(1 - 0.05 / 4)
    assert (found["a"].low, found["a"].high) == pytest.approx(expected)
    alone = claims({"b": with_probability(0.016), "x": with_probability(0.6)})
    assert alone["b"].verdict == "above 0"
    assert claims({"a": with_probability(0.049)})["a"].holds
    assert not claims({"a": with_probability(0.051)})["a"].holds


def test_a_claim_takes_as_many_pairs_as_were_planned_and_never_less_than_five() -> None:
    four, six = Estimate(1.0, 0.01, 4), Estimate(-1.0, 0.01, 6)
    found = claims({"few": four, "more": six})
    assert found["few"].verdict == "n = 4 of 5"
    assert not found["few"].holds
    assert found["more"].verdict == "below 0"
    # those without a verdict count in the family
    assert (found["more"].low, found["more"].high) == pytest.approx(six.interval(1 - 0.05 / 2))
    found = claims({"more": six}, family=12)  # eleven more are to come
    assert (found["more"].low, found["more"].high) == pytest.approx(six.interval(1 - 0.05 / 12))
    assert claims({"more": six}, planned=10)["more"].verdict == "n = 6 of 10"


@pytest.mark.parametrize(
    ("ours", "published", "verdict"),
    [
        (Estimate(97.30, 0.01, 10), 97.15, "reproduced"),
        (Estimate(97.33, 0.01, 10), 97.15, "not reproduced: +0.18"),
        (Estimate(97.33, 0.02, 10), 97.15, "reproduced"),  # .15 + .04
        (Estimate(97.39, 0.2, 10), 97.15, "reproduced"),  # of two standard errors no more than .1
        (Estimate(97.41, 0.2, 10), 97.15, "not reproduced: +0.26"),
        (Estimate(96.85, 0.01, 10), 97.15, "not reproduced: -0.30"),
        (Estimate(97.15, 0.01, 3), 97.15, "n = 3 of 10"),
        (Estimate(97.15, 0.01, 10), None, ""),
    ],
)
def test_reproduced(ours: Estimate, published: float | None, verdict: str) -> None:
    assert reproduction(ours, published) == verdict
