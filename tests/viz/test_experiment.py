"""Pictures: what is in them, and their files."""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

pytest.importorskip("matplotlib")

from tinydl import viz
from tinydl.data import DataError


def test_learning_curves_show_means_and_bands():
    runs = np.array([[4.0, 2.0, 1.0], [2.0, 2.0, 0.5]])
    figure = viz.learning_curves([10, 20, 30], {"error": {"a": runs, "b": runs[:1]}}, "title")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [3.0, 2.0, 0.75])
    assert len(axes.collections) == 1  # one run has no band


def test_misclassified_chooses_the_hardest_and_the_dividing_images():
    labels = np.zeros(40, np.int64)
    a, b = np.zeros((2, 40), int), np.zeros((2, 40), int)
    a[:, 3] = b[:, 3] = 7  # missed by all
    a[:, 5] = 8  # missed by one method alone
    a[0, :1] = b[0, :1] = 1  # half of each
    figure = viz.misclassified(np.zeros((40, 28, 28), np.uint8), labels, {"a": a, "b": b}, columns=1)
    votes = ["".join(text.get_text() for text in axes.texts) for axes in figure.axes]
    # two that most miss; then one of the others, where the methods differ
    assert votes == ["a77b77", "a01b01", "a88b00"]


def test_nothing_missed():
    labels = np.arange(10)
    figure = viz.misclassified(np.zeros((10, 8, 8)), labels, {"a": labels[None]})
    assert not figure.axes
    assert any("none" in text.get_text() for text in figure.texts)


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match=r"learning_curves: error, a: expected \(runs, 2\), got \(1, 3\)"):
        viz.learning_curves([1, 2], {"error": {"a": np.ones((1, 3))}})
    with pytest.raises(ShapeError, match="misclassified: a: expected"):
        viz.misclassified(np.zeros((4, 8, 8)), np.zeros(4, int), {"a": np.zeros((1, 5), int)})


@pytest.mark.parametrize(("name", "start"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.pdf", b"%PDF")])
def test_save(tmp_path, name, start):
    figure = viz.learning_curves([1, 2], {"error": {"a": np.ones((1, 2))}})
    viz.save(figure, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(DataError):
        viz.save(figure, tmp_path / "nowhere" / name)
