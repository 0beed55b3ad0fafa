"""Maps of what a network looks at: by hand on tiny nets, by brute force, by what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import inspection, nn

W1 = np.array([[1.0, -2.0], [3.0, 1.0], [-1.0, -1.0]])
W2 = np.array([[1.0, -1.0, 2.0], [-2.0, 1.0, 1.0]])
X = np.array([[1.0, 2.0], [2.0, -1.0]])


class Functional(nn.Module):
    """x ↦ W2 relu(W1 x), relu as a function in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3, False, np.float64), nn.Linear(3, 2, False, np.float64)
        for layer, w in ((self.first, W1), (self.second, W2)):
            with td.no_grad():
                layer.weight.copy_(td.tensor(w))

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.second(td.relu(self.first(x)))


def as_layers() -> nn.Module:
    model = Functional()
    return nn.Sequential(model.first, nn.ReLU(), model.second)


def convnet(dtype: Any = np.float64) -> nn.Module:
    td.manual_seed(3)
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1, dtype=dtype), nn.BatchNorm2d(3, dtype=dtype), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, dtype=dtype), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()),
        nn.Linear(16, 3, dtype=dtype),
    )


IMAGES = np.random.default_rng(0).normal(size=(4, 1, 8, 8))


@pytest.mark.parametrize("target", [0, np.array([1, 0]), None])
@pytest.mark.parametrize("make", [Functional, as_layers])
def test_the_three_rules_of_relu_by_hand(make: Any, target: Any) -> None:
    h = X @ W1.T
    chosen = (np.maximum(h, 0) @ W2.T).argmax(1) if target is None else np.broadcast_to(target, 2)
    back = W2[chosen]  # (N, 3): what comes back to relu
    model = make()
    expected = {
        inspection.saliency: back * (h > 0),
        inspection.guided_backpropagation: back * (h > 0) * (back > 0),
        inspection.deconvolution: back * (back > 0),
    }
    for function, g in expected.items():
        np.testing.assert_allclose(function(model, X, target), g @ W1, rtol=1e-12)
    assert len({(g @ W1).tobytes() for g in expected.values()}) == 3


def test_guided_from_a_channel_of_a_layer_starts_at_its_strongest_position() -> None:
    model = convnet()
    maps = inspection.feature_maps(model, IMAGES, "4")
    found = inspection.guided_backpropagation(model, IMAGES, 2, layer="4")
    k = np.argmax(maps[:, 2].reshape(4, -1), 1)
    touched = np.abs(found[:, 0]).sum(2) > 0
    for n, place in enumerate(k):  # a 3×3 window of pooled 2×2 cells, seen through a 3×3 window
        i, j = divmod(int(place), 2)
        rows = np.flatnonzero(touched[n])
        assert rows.min() >= 2 * i - 1
        assert rows.max() <= 2 * (i + 2) + 2
        assert abs(found[n, 0, :, : max(0, 2 * j - 1)]).sum() == 0


def test_a_net_without_relu_has_no_guided_gradient() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    for function in (inspection.guided_backpropagation, inspection.deconvolution):
        with pytest.raises(td.GraphError, match=f"{function.__name__}: expected a relu"):
            function(model, X)


def test_saliency_is_the_gradient_of_the_logit() -> None:
    model, eps = convnet(), 1e-6
    found = inspection.saliency(model, IMAGES, 1)

    def score(x: np.ndarray) -> float:
        with td.no_grad():
            return model.eval()(td.tensor(x))[:, 1].sum().item()

    for place in ((0, 0, 3, 3), (1, 0, 7, 0), (3, 0, 2, 5)):
        moved = IMAGES.copy()
        moved[place] += eps
        assert found[place] == pytest.approx((score(moved) - score(IMAGES)) / eps, rel=1e-3, abs=1e-6)


def test_smooth_grad_without_noise_is_saliency() -> None:
    model = convnet(np.float32)
    still = inspection.smooth_grad(model, IMAGES, sigma=0.0, samples=3)
    np.testing.assert_array_equal(still, inspection.saliency(model, IMAGES))


def test_smooth_grad_is_the_mean_over_the_noise_of_its_generator() -> None:
    model = convnet()
    found = inspection.smooth_grad(model, IMAGES, 1, sigma=0.2, samples=4, generator=td.Generator(5))
    noise, total = td.Generator(5), 0.0
    spread = 0.2 * np.ptp(IMAGES, axis=(1, 2, 3))[:, None, None, None]
    for _ in range(4):
        draw = td.randn(*IMAGES.shape, dtype=np.float64, generator=noise).numpy()
        total = total + inspection.saliency(model, IMAGES + spread * draw, 1)
    np.testing.assert_allclose(found, total / 4, rtol=1e-12)
    np.testing.assert_array_equal(
        inspection.smooth_grad(model, IMAGES, 1), inspection.smooth_grad(model, IMAGES, 1)
    )


@pytest.mark.parametrize("baseline", [0.0, np.full((1, 8, 8), 0.3)])
def test_integrated_gradients_are_complete(baseline: Any) -> None:
    model = nn.Sequential(*(nn.Flatten(), nn.Linear(64, 8, dtype=np.float64), nn.Tanh())).append(
        nn.Linear(8, 3, dtype=np.float64)
    )
    found = inspection.integrated_gradients(model, IMAGES, 2, baseline=baseline, steps=200)
    with td.no_grad():
        start = np.broadcast_to(baseline, IMAGES.shape).copy()
        ends = [model(td.tensor(x)).numpy()[:, 2] for x in (IMAGES, start)]
    np.testing.assert_allclose(found.sum((1, 2, 3)), ends[0] - ends[1], rtol=1e-5, atol=1e-5)


def test_integrated_gradients_of_a_linear_net_are_exact_in_one_step() -> None:
    model = nn.Linear(2, 3, dtype=np.float64)
    found = inspection.integrated_gradients(model, X, 1, steps=1)
    np.testing.assert_allclose(found, X * model.weight.detach().numpy()[1], rtol=1e-12)


def test_grad_cam_by_hand() -> None:
    """conv ↦ mean over positions ↦ linear: the weight of a channel is its weight in the class."""
    conv, last = nn.Conv2d(1, 3, 3, dtype=np.float64), nn.Linear(3, 2, dtype=np.float64)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    maps = inspection.feature_maps(model, IMAGES, "0")
    weights = last.weight.detach().numpy()[1] / 36
    expected = np.maximum(np.einsum("k,nkij->nij", weights, maps), 0)
    np.testing.assert_allclose(
        inspection.grad_cam(model, IMAGES, "0", 1, upsample=False), expected, rtol=1e-10
    )
    large = inspection.grad_cam(model, IMAGES, "0", 1)
    assert large.shape == (4, 8, 8)
    resized = td.nn.functional.interpolate(td.tensor(expected[:, None]), (8, 8), mode="bilinear")
    np.testing.assert_allclose(large, resized.numpy()[:, 0], rtol=1e-10)


@pytest.mark.parametrize(("window", "stride"), [(3, 1), ((2, 5), (2, 3)), (8, 1)])
def test_occlusion_against_brute_force(window: Any, stride: Any) -> None:
    model = convnet().eval()
    (h, w), (down, right) = np.broadcast_to(window, 2), np.broadcast_to(stride, 2)
    found = inspection.occlusion(model, IMAGES[:2], 1, window=window, stride=stride, value=0.5, batch_size=7)
    for n in range(2):
        covering: list[list[list[float]]] = [[[] for _ in range(8)] for _ in range(8)]
        for i in range(0, 8 - h + 1, down):
            for j in range(0, 8 - w + 1, right):
                covered = IMAGES[n : n + 1].copy()
                covered[0, 0, i : i + h, j : j + w] = 0.5
                with td.no_grad():
                    fall = (model(td.tensor(IMAGES[n : n + 1])) - model(td.tensor(covered)))[0, 1].item()
                for a in range(i, i + h):
                    for b in range(j, j + w):
                        covering[a][b].append(fall)
        expected = [[np.mean(falls) if falls else np.nan for falls in row] for row in covering]
        np.testing.assert_allclose(found[n], expected, rtol=1e-9, atol=1e-12)


def test_scores_of_positions_and_scores_of_ones_own() -> None:
    model = nn.Conv2d(1, 2, 3, dtype=np.float64)
    whole = inspection.saliency(model, IMAGES, 1)
    w = model.weight.detach().numpy()[1, 0]
    assert whole[0, 0, 4, 4] == pytest.approx(w.sum())
    own = inspection.saliency(model, IMAGES, lambda output: output[:, 1].sum((1, 2)))
    np.testing.assert_allclose(own, whole)
    with pytest.raises(td.ShapeError, match=r"saliency: expected a score for each sample \(4,\)"):
        inspection.saliency(model, IMAGES, lambda output: output.sum())


def test_what_is_wrong_is_told() -> None:
    model = convnet()
    with pytest.raises(AttributeError, match=r"feature_maps: expected a layer of Sequential.*got 'convv1'"):
        inspection.feature_maps(model, IMAGES, "convv1")
    lenet = td.models.LeNet()
    with pytest.raises(AttributeError, match=r"such as conv\d, conv\d, conv\d; got 'conv4'"):
        inspection.grad_cam(lenet, np.zeros((1, 1, 28, 28)), "conv4")
    with pytest.raises(td.ShapeError, match="expected classes of 0 to 2, got 3 to 3"):
        inspection.saliency(model, IMAGES, 3)
    with pytest.raises(td.ShapeError, match="expected a class, or one for each of 4"):
        inspection.saliency(model, IMAGES, np.array([1, 2]))
    with pytest.raises(td.DtypeError, match="expected a floating input"):
        inspection.saliency(model, np.zeros((1, 1, 8, 8), int))
    with pytest.raises(td.ShapeError, match="grad_cam: expected a layer"):
        inspection.grad_cam(model, IMAGES, "8", 0)
    with pytest.raises(td.ShapeError, match="occlusion: expected images"):
        inspection.occlusion(model, IMAGES, 0, window=9)
    with pytest.raises(td.ShapeError, match="integrated_gradients: expected a baseline"):
        inspection.integrated_gradients(model, IMAGES, 0, baseline=np.zeros(3))
    for call in (
        lambda: inspection.integrated_gradients(model, IMAGES, 0, steps=0),
        lambda: inspection.smooth_grad(model, IMAGES, 0, sigma=-1.0),
        lambda: inspection.occlusion(model, IMAGES, 0, stride=0),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
