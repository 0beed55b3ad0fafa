"""Pictures of networks: the numbers in them, and that they can be drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.image import imread

import tinydl as td
from tinydl import inspection, metrics, nn, viz
from tinydl.data import transforms
from tinydl.viz.tape import layout

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((3, 1, 8, 8)).astype(np.float32)
LABELS = np.array([0, 1, 2, 2, 0, 1])
SHIFT = transforms.RandomAffine(0, (0.2, 0.2))


def surface() -> viz.LossSurface:
    line = np.linspace(-1, 1, 5)
    return viz.LossSurface(line, line, line[:, None] ** 2 + 3 * line**2 + 1, ({}, {}))


def graph() -> viz.TapeGraph:
    x = td.tensor([[1.0, 2.0]], requires_grad=True)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    loss = td.square(net(x)).mean()
    (g,) = td.grad(loss, x, create_graph=True)
    return viz.tape_graph({"loss": loss, "penalty": (g * g).sum()}, {"x": x, **dict(net.named_parameters())})


PICTURES: dict[str, Callable[..., Any]] = {
    "mosaic": lambda **to: viz.mosaic(IMAGES - 0.5, ["a", "b", "c"], title="tiles", **to),
    "attribution_sheet": lambda **to: viz.attribution_sheet(
        IMAGES, {"signed": IMAGES - 0.5, "heat": IMAGES[:, 0, ::2, ::2]}, labels="abc", **to
    ),
    "augmentation_sheet": lambda **to: viz.augmentation_sheet(IMAGES, SHIFT, columns=3, **to),
    "confusion_matrix": lambda **to: viz.confusion_matrix(LABELS[::-1].copy(), LABELS, ["a", "b", "c"], **to),
    "embedding_map": lambda **to: viz.embedding_map(
        RANDOM.normal(size=(6, 2)), LABELS, wrong=LABELS == 1, **to
    ),
    "loss_contours": lambda **to: viz.loss_contours(surface(), **to),
    "reliability_diagram": lambda **to: viz.reliability_diagram(
        IMAGES[0, 0, 0], np.arange(8) % 2, of="positive", bins=3, **to
    ),
    "tape": lambda **to: viz.tape(graph(), **to),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_alone_and_as_a_part(name: str) -> None:
    sheet = Figure(figsize=(6, 3))
    part, _ = sheet.subfigures(1, 2)
    assert PICTURES[name](figure=part) is part
    for figure in (PICTURES[name](), sheet):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=50)
        assert file.getvalue().startswith(b"\x89PNG")
        file.seek(0)
        pixels = imread(file)[..., :3]
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
        assert (pixels == 1).all(2).any()


def test_every_picture_of_a_network_is_looked_at() -> None:
    own = {"learning_curves", "misclassified", "save", "schedule"}  # in other files
    assert set(viz.__all__) == set(PICTURES) | own | set(inspection.__all__)
    assert viz.saliency is inspection.saliency


def drawn(figure: Any) -> list[np.ndarray]:
    return [np.ma.filled(image.get_array(), np.nan) for axes in figure.axes for image in axes.images]


def test_mosaic_shows_the_pictures_on_one_scale_or_each_on_its_own() -> None:
    tiles = np.stack([IMAGES[0, 0] - 0.5, 4 * IMAGES[1, 0]])
    figure = viz.mosaic(tiles)
    np.testing.assert_array_equal(drawn(figure), tiles)
    (ends,) = {image.get_clim() for image in figure.axes[0].images}
    assert ends == pytest.approx((-tiles.max(), tiles.max()), rel=0.05)
    own = drawn(viz.mosaic(np.abs(tiles), each=True))
    assert [tile.min() for tile in own] == [0, 0]
    weights = RANDOM.normal(size=(4, 6, 5, 5))  # filters of six channels: a row each
    figure = viz.mosaic(weights)
    assert len(drawn(figure)) == 24
    lefts = {image.get_extent()[0] for image in figure.axes[0].images}
    assert len(lefts) == 6
    (colours,) = drawn(viz.mosaic(RANDOM.normal(size=(1, 3, 4, 4))))
    assert colours.shape == (4, 4, 3)
    assert (colours.min(), colours.max()) == (0, 1)


def test_the_attribution_sheet_shows_each_map_beside_its_image() -> None:
    maps = {"a": IMAGES.repeat(2, 1) - 0.4, "b": IMAGES[:, 0, :4, :4]}
    figure = viz.attribution_sheet(IMAGES, maps)
    found = drawn(figure)
    for n in range(3):
        np.testing.assert_allclose(found[3 * n], IMAGES[n, 0])
        np.testing.assert_allclose(found[3 * n + 1], maps["a"][n].sum(0))
        np.testing.assert_allclose(found[3 * n + 2], maps["b"][n])
    assert [axes.get_title() for axes in figure.axes[:3]] == ["", "a", "b"]
    low, high = figure.axes[1].images[0].get_clim()
    assert low == -high
    assert figure.axes[2].images[0].get_extent() == [-0.5, 7.5, 7.5, -0.5]


def test_the_augmentation_sheet_shows_what_a_loader_gives() -> None:
    found = drawn(viz.augmentation_sheet(IMAGES, SHIFT, columns=2, seed=4))
    for n in range(3):
        np.testing.assert_allclose(found[3 * n], IMAGES[n, 0])
        for epoch in range(2):
            expected = SHIFT(IMAGES, index=np.arange(3), epoch=epoch, seed=4)
            np.testing.assert_allclose(found[3 * n + 1 + epoch], expected[n, 0])


def test_the_confusion_matrix_shows_the_counts_of_metrics() -> None:
    prediction = np.array([0, 1, 2, 1, 1, 1])
    counts = metrics.confusion_matrix(prediction, LABELS)
    (axes,) = viz.confusion_matrix(prediction, LABELS, ["a", "b", "c"]).axes
    shown = {(round(t.get_position()[1]), round(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    assert shown == {(i, j): n for (i, j), n in np.ndenumerate(counts) if n}
    assert axes.get_title() == "4 of 6 right"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b", "c"]
    shade = axes.images[0].get_array()
    assert shade[0, 0, 2] > shade[0, 0, 0]  # right: blue
    assert shade[2, 1, 0] > shade[2, 1, 2]  # wrong: orange


def test_the_embedding_map_shows_the_points_in_their_colours() -> None:
    points = RANDOM.normal(size=(6, 2))
    (axes,) = viz.embedding_map(points, LABELS, wrong=LABELS == 1).axes
    cloud, crosses = axes.collections
    np.testing.assert_allclose(cloud.get_offsets(), points)
    np.testing.assert_allclose(crosses.get_offsets(), points[LABELS == 1])
    colours = cloud.get_facecolors()
    assert (colours[LABELS == 2] == colours[2]).all()
    assert len(np.unique(colours, axis=0)) == 3
    places = {t.get_text(): t.get_position() for t in axes.texts}
    np.testing.assert_allclose(places["2"], np.median(points[LABELS == 2], 0))


def test_loss_contours_mark_the_weights_and_their_loss() -> None:
    figure = viz.loss_contours(surface(), levels=8)
    (axes,) = figure.axes
    assert axes.texts[-1].get_text() == "1"
    assert axes.lines[-1].get_xydata().tolist() == [[0, 0]]
    told = {float(text.get_text()) for text in axes.texts[:-1]}
    assert told
    assert all(1 < level < 5 for level in told)


def test_the_tape_is_drawn_with_what_is_read_to_the_left_and_no_two_boxes_in_one_place() -> None:
    given = graph()
    where, ways = layout(given)
    assert all(where[i, 0] < where[j, 0] for i, j in given.edges)
    gaps = np.abs(where[:, None] - where).max(2) + np.eye(len(where))
    assert gaps.min() > 0.99
    for (i, j), way in zip(given.edges, ways, strict=True):
        assert way[0].tolist() == where[i].tolist()
        assert way[-1].tolist() == where[j].tolist()
        assert np.diff(way[:, 0]).tolist() == [1] * (len(way) - 1)
        for x, y in way[1:-1]:  # passes between the boxes
            assert np.abs(where[where[:, 0] == x, 1] - y).min(initial=1) > 0.59
    figure = viz.tape(given)
    (axes,) = figure.axes
    assert axes.get_title() == f"{len(given.nodes)} nodes, {len(given.edges)} edges"
    assert len(axes.patches) == len(given.nodes) + len(given.edges)
    (left, right), (low, top) = axes.get_xlim(), axes.get_ylim()  # rows go down
    every = np.concatenate([where, *ways])
    assert left < every[:, 0].min()
    assert every[:, 0].max() < right
    assert top < every[:, 1].min()
    assert every[:, 1].max() < low
    words = [text.get_text() for text in axes.texts]
    assert {"loss", "penalty", "x", "0.weight", "3×2", "tanh"} <= set(words)


def test_what_does_not_fit_is_refused() -> None:
    for call, message in (
        (lambda: viz.mosaic(np.zeros(3)), "mosaic: expected pictures"),
        (lambda: viz.mosaic(IMAGES, ["a"]), "mosaic: expected a label for each of 3"),
        (lambda: viz.attribution_sheet(IMAGES, {"m": IMAGES[:2]}), "attribution_sheet: m: expected"),
        (lambda: viz.attribution_sheet(IMAGES, {}, labels=["a"]), "attribution_sheet: expected images"),
        (lambda: viz.embedding_map(np.zeros((2, 3)), np.zeros(2, int)), "embedding_map: expected points"),
        (
            lambda: viz.loss_contours(viz.LossSurface(np.zeros(1), np.zeros(1), np.zeros((1, 1)), ({}, {}))),
            "loss_contours: expected losses",
        ),
    ):
        with pytest.raises(td.ShapeError, match=message):
            call()


def test_constant_pictures_have_a_scale() -> None:
    for value in (0.0, 1.0, -2.0):
        for figure in (
            viz.mosaic(np.full((1, 2, 2), value)),
            viz.mosaic(np.full((1, 2, 2), value), each=True),
        ):
            low, high = figure.axes[0].images[0].get_clim()
            assert low < high
