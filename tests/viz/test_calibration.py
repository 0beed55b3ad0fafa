"""The reliability diagram shows the curve and the error of tinydl.metrics."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import tinydl as td
from tinydl import metrics, viz


def test_the_diagram_shows_the_curve_and_its_error():
    generator = np.random.default_rng(0)
    p = generator.random(200)
    t = (generator.random(200) < p**2).astype(int)
    figure = viz.reliability_diagram(p, t, of="positive", bins=5, title="too sure")
    above, below = figure.axes
    curve = metrics.reliability_curve(p, t, of="positive", bins=5)
    np.testing.assert_array_equal(above.lines[1].get_xydata(), np.stack(curve[:2], 1))
    np.testing.assert_array_equal([bar.get_height() for bar in below.patches], curve.samples)
    error = metrics.calibration_error(p, t, of="positive", bins=5)
    assert [text.get_text() for text in above.get_legend().get_texts()] == [f"ECE {error:.3f}"]
    assert figure.get_suptitle() == "too sure"
    assert error > 0.1


def test_what_is_no_probability_is_refused():
    with pytest.raises(td.ShapeError, match="reliability_curve: expected probabilities in"):
        viz.reliability_diagram([2.0], [1], of="positive")
