"""What layers hold, images that a unit likes, the plane of the loss, the tape as a graph; and no trace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from test_attribution import IMAGES, convnet

import tinydl as td
from tinydl import inspection, nn

# What layers hold
# ------------------------------------------------------------------------------------------------------------


def test_filters_and_feature_maps() -> None:
    model = convnet()
    weights = inspection.filters(model, "0")
    np.testing.assert_array_equal(weights, model[0].weight.detach().numpy())
    weights += 1  # a copy
    assert not np.array_equal(weights, model[0].weight.detach().numpy())
    with td.no_grad():
        expected = model.eval()[:3](td.tensor(IMAGES)).numpy()
    np.testing.assert_array_equal(inspection.feature_maps(model, IMAGES, "2"), expected)
    with pytest.raises(AttributeError, match="filters: expected a layer with a weight, got ReLU '2'"):
        inspection.filters(model, "2")


def test_features_are_what_the_last_layer_with_a_weight_takes() -> None:
    model = convnet()
    with td.no_grad():
        expected = model.eval()[:8](td.tensor(IMAGES)).numpy()
    np.testing.assert_allclose(inspection.features(model, IMAGES, batch_size=3), expected, rtol=1e-12)
    maps = inspection.feature_maps(model, IMAGES, "3")
    rows = inspection.features(model, IMAGES, "3", batch_size=3)
    np.testing.assert_allclose(rows, maps.reshape(4, -1), rtol=1e-12)
    with pytest.raises(td.ShapeError, match="features: expected a layer with a weight"):
        inspection.features(nn.Sequential(nn.ReLU()), IMAGES)


def test_tsne_keeps_far_groups_apart() -> None:
    pytest.importorskip("sklearn")
    random = np.random.default_rng(1)
    rows = np.concatenate([random.normal(size=(15, 5)) + 40 * k for k in range(2)])
    quick = {"perplexity": 5, "seed": 1, "method": "exact", "early_exaggeration": 4.0, "max_iter": 500}
    flat = inspection.tsne(rows, **quick)
    assert flat.shape == (30, 2)
    assert flat.dtype == np.float32
    apart = np.linalg.norm(flat[:, None] - flat, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (apart.argmin(1) // 15 == np.arange(30) // 15).all()
    np.testing.assert_array_equal(flat, inspection.tsne(rows, **quick))
    with pytest.raises(td.ShapeError, match="tsne: expected rows"):
        inspection.tsne(rows, perplexity=30)


# Images that a unit likes
# ------------------------------------------------------------------------------------------------------------


def test_the_best_input_of_a_linear_unit_is_along_its_weight() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2, dtype=np.float64))
    found = inspection.activation_maximization(model, None, [1, 0], (1, 6, 6), steps=300, l2=0.5, lr=0.01)
    weights = model[1].weight.detach().numpy()[[1, 0]]
    # the maximum of w x - |x|² / 2 is w itself; steps of one size walk round it
    np.testing.assert_allclose(found.reshape(2, 36), weights, atol=0.03)


def test_each_regularizer_does_what_it_is_for() -> None:
    model = convnet(np.float32)

    def found(**settings: Any) -> td.Tensor:
        return td.tensor(inspection.activation_maximization(model, "4", 1, (1, 8, 8), steps=30, **settings))

    plain = found()

    def answer(x: td.Tensor) -> float:
        return inspection.feature_maps(model, x, "4")[0, 1].mean()

    assert answer(plain) > answer(found(lr=1e-9)) + 0.5
    rough = inspection.total_variation(plain).item()
    assert inspection.total_variation(found(tv=0.02)).item() < 0.7 * rough
    assert inspection.total_variation(found(blur=1.0, blur_every=5)).item() < 0.7 * rough
    assert (found(l2=0.1) ** 2).sum().item() < 0.7 * (plain**2).sum().item()
    assert not np.array_equal(found(jitter=2).numpy(), plain.numpy())
    held = found(bounds=(-0.5, 0.25)).numpy()
    assert held.min() == -0.5
    assert held.max() == 0.25
    with pytest.raises(ValueError, match="activation_maximization: expected steps"):
        found(lr=0.0)
    with pytest.raises(td.ShapeError, match=r"expected the shape \(C, H, W\)"):
        inspection.activation_maximization(model, "4", 1, (8, 8))  # type: ignore[arg-type]
    with pytest.raises(td.ShapeError, match="expected classes of 0 to 3"):
        inspection.activation_maximization(model, "4", 9, (1, 8, 8))


def test_total_variation_by_hand() -> None:
    x = td.tensor([[[[0.0, 1.0], [3.0, -1.0]]], [[[2.0, 2.0], [2.0, 2.0]]]])
    np.testing.assert_array_equal(inspection.total_variation(x).numpy(), [3 + 2 + 1 + 4, 0])


# The plane of the loss
# ------------------------------------------------------------------------------------------------------------

LABELS = np.array([0, 1, 2, 1])


def test_the_centre_of_the_surface_is_the_loss() -> None:
    model = convnet()
    surface = inspection.loss_surface(model, td.cross_entropy, IMAGES, LABELS, span=0.5, points=5)
    with td.no_grad():
        loss = td.cross_entropy(model.eval()(td.tensor(IMAGES)), td.tensor(LABELS)).item()
    assert surface.loss[2, 2] == loss
    assert surface.loss.shape == (5, 5)
    np.testing.assert_array_equal(surface.a, [-0.5, -0.25, 0, 0.25, 0.5])


def test_the_surface_is_the_loss_at_moved_weights() -> None:
    model = nn.Linear(2, 1, False, np.float64)
    w, x, y = model.weight.detach().numpy(), np.array([[1.0, 2.0], [0.5, -1.0]]), np.zeros((2, 1))
    plane = [{"weight": np.array([[1.0, 0.0]])}, {"weight": np.array([[0.0, 1.0]])}]
    surface = inspection.loss_surface(model, td.mse_loss, x, y, points=3, span=2.0, directions=plane)
    for i, b in enumerate((-2.0, 0.0, 2.0)):
        for j, a in enumerate((-2.0, 0.0, 2.0)):
            assert surface.loss[i, j] == pytest.approx(
                np.mean((x @ (w + np.array([[a, b]])).T) ** 2), rel=1e-12
            )
    with pytest.raises(td.ShapeError, match=r"expected a direction \(1, 2\) for 'weight'"):
        inspection.loss_surface(model, td.mse_loss, x, y, directions=[{"weight": np.ones(2)}, {}])
    with pytest.raises(td.ShapeError, match="a parameter, not 'bias'"):
        inspection.loss_surface(model, td.mse_loss, x, y, directions=[{"bias": np.ones(2)}, {}])
    with pytest.raises(ValueError, match="odd number of points"):
        inspection.loss_surface(model, td.mse_loss, x, y, points=4)


def test_a_direction_has_the_lengths_of_the_filters() -> None:
    model = convnet()
    direction = inspection.filter_normalized_direction(model)
    for name, p in model.named_parameters():
        w, d = p.detach().numpy(), direction[name]
        if w.ndim == 1:
            assert not d.any()
        else:
            lengths = [np.linalg.norm(a.reshape(len(a), -1), axis=1) for a in (w, d)]
            np.testing.assert_allclose(*lengths, rtol=1e-6)
    np.testing.assert_array_equal(
        inspection.filter_normalized_direction(model)["0.weight"], direction["0.weight"]
    )


# The tape
# ------------------------------------------------------------------------------------------------------------


def test_the_graph_of_a_tiny_expression_at_first_and_second_order() -> None:
    x, w = (td.tensor(a, requires_grad=True) for a in ([1.0, 2.0], [3.0, 4.0]))
    y = (td.exp(x) * w).sum()
    graph = inspection.tape_graph({"y": y}, {"x": x, "w": w})
    assert [node.name for node in graph.nodes] == ["x", "w", "exp", "mul", "sum"]
    assert [node.leaf for node in graph.nodes] == [True, True, False, False, False]
    assert graph.edges == [(0, 2), (2, 3), (1, 3), (3, 4)]
    assert graph.outputs == {"y": 4}
    assert [node.shape for node in graph.nodes] == [(2,), (2,), (2,), (2,), ()]
    (g,) = td.grad(y, x, create_graph=True)  # w · e^x: two products, one of them by the constant 1
    twice = inspection.tape_graph({"y": y, "dy/dx": g}, {"x": x, "w": w})
    assert twice.nodes[:5] == graph.nodes
    added = [node for node in twice.nodes if node.part == "dy/dx"]
    assert [node.name for node in added] == ["mul", "mul"]
    assert twice.outputs == {"y": 4, "dy/dx": 6}
    assert (2, 6) in twice.edges  # e^x of the forward pass is read again


def test_a_tape_that_is_not_there() -> None:
    x = td.tensor([1.0], requires_grad=True)
    y = (x * x).sum()
    with pytest.raises(td.GraphError, match="tape_graph: expected 'output' to be computed on the tape"):
        inspection.tape_graph(td.ones(2))
    y.backward()
    with pytest.raises(td.GraphError, match="freed"):
        inspection.tape_graph(y)


# No trace
# ------------------------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """Statistics, masks of two streams, frozen parts, and an error on demand."""

    def __init__(self, generator: td.Generator) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
        self.drop, self.own = nn.Dropout(0.5), nn.Dropout(0.3, generator=generator)
        self.last = nn.Linear(108, 3)
        self.fails = False

    def forward(self, x: td.Tensor) -> td.Tensor:
        h = td.relu(self.drop(self.norm(self.conv(x))))
        out = self.last(self.own(td.flatten(h, 1)))
        if self.fails:
            raise RuntimeError("as asked")
        return out


LOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "saliency": lambda m: inspection.saliency(m, IMAGES),
    "smooth_grad": lambda m: inspection.smooth_grad(m, IMAGES, samples=2),
    "integrated_gradients": lambda m: inspection.integrated_gradients(m, IMAGES, steps=2),
    "guided_backpropagation": lambda m: inspection.guided_backpropagation(m, IMAGES),
    "deconvolution": lambda m: inspection.deconvolution(m, IMAGES, layer="norm"),
    "grad_cam": lambda m: inspection.grad_cam(m, IMAGES, "conv"),
    "occlusion": lambda m: inspection.occlusion(m, IMAGES[:1], window=4, stride=4),
    "filters": lambda m: inspection.filters(m, "conv"),
    "feature_maps": lambda m: inspection.feature_maps(m, IMAGES, "norm"),
    "features": lambda m: inspection.features(m, IMAGES),
    "activation_maximization": lambda m: inspection.activation_maximization(
        m, "conv", 0, (1, 8, 8), steps=2, jitter=1
    ),
    "loss_surface": lambda m: inspection.loss_surface(m, td.cross_entropy, IMAGES, LABELS, points=1),
    "filter_normalized_direction": inspection.filter_normalized_direction,
}


def traces(model: nn.Module, generator: td.Generator) -> list[Any]:
    return [
        [(name, np.array(t).tobytes()) for name, t in (*model.named_parameters(), *model.named_buffers())],
        [(id(p), p.requires_grad, p.version.count, None if p.grad is None else np.array(p.grad).tobytes())
         for p in model.parameters()],
        [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        [g.state_dict() for g in (generator, td.default_generator, td.noise_generator)],
    ]  # fmt: skip


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("fails", [False, True])
def test_a_look_leaves_no_trace(name: str, fails: bool) -> None:
    generator = td.Generator(9)
    model = Watched(generator)
    model.drop.eval()
    model.conv.weight.requires_grad_(False)
    td.cross_entropy(model(td.randn(4, 1, 8, 8)), td.tensor(LABELS)).backward()
    before = traces(model, generator)
    model.fails = fails
    runs = name not in ("filters", "filter_normalized_direction")
    with td.no_grad(), pytest.raises(RuntimeError, match="as asked") if fails and runs else nullcontext():
        LOOKS[name](model)
    assert traces(model, generator) == before


def test_every_function_is_looked_at() -> None:
    """What takes a model is in LOOKS."""
    apart = {"LossSurface", "TapeGraph", "TapeNode", "tape_graph", "total_variation", "tsne"}
    assert set(inspection.__all__) == set(LOOKS) | apart


@pytest.mark.parametrize("name", sorted({*LOOKS} - {"filters"}))
def test_a_look_at_a_network_on_the_gpu(name: str, gpu: Any) -> None:
    found = []
    for device in ("cpu", "cuda"):
        td.manual_seed(1)
        found.append(LOOKS[name](Watched(td.Generator(9)).to(device)))
    for own, other in zip(*(one if isinstance(one, tuple) else (one,) for one in found), strict=True):
        if isinstance(own, np.ndarray):
            np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-4)
