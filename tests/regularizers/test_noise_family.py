"""Noise in nets and data: exact expectations, identities outside training, streams."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, M, assert_close, batch, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    DisturbLabel,
    DropBlock,
    DropConnect,
    DropPath,
    InputNoise,
    Objective,
    WeightNoise,
    drop_path_rates,
    mc_dropout,
    noise,
)


def connect(p: float, per: str = "sample", **more: Any) -> nn.Module:
    td.manual_seed(0)
    return DropConnect(D, M, p, per, dtype="float64", **more)


LAYERS: dict[str, tuple[Callable[[float], nn.Module], tuple[int, ...]]] = {
    "DropConnect": (connect, (B, D)),
    "DropConnect per batch": (lambda p: connect(p, "batch"), (B, 2, D)),
    "DropPath": (DropPath, (B, 3, 2)),
    "DropPath of the batch": (lambda p: DropPath(p, "batch"), (B, 3)),
    "DropBlock": (lambda p: DropBlock(p, 2), (2, 3, 5, 4)),
    "DropBlock of all channels": (
        lambda p: DropBlock(p, 3, per_channel=False, scale="expected"),
        (2, 3, 4, 5),
    ),
    "WeightNoise": (lambda p: WeightNoise(nn.Linear(D, M).double(), p), (B, D)),
}
layers = pytest.mark.parametrize("name", LAYERS)


def data(shape: tuple[int, ...]) -> td.Tensor:
    return td.tensor(np.random.default_rng(1).standard_normal(shape))


# All layers
# ------------------------------------------------------------------------------------------------------------


@layers
def test_outside_training_and_without_noise_nothing_is_drawn(name: str) -> None:
    make, shape = LAYERS[name]
    before = td.noise_generator.state_dict()
    x, layer, silent = data(shape), make(0.4), make(0.0)
    expected = layer.eval()(x)
    if not isinstance(layer, (DropConnect, WeightNoise)):
        assert expected is x
        assert silent(x) is x
    silent(x)
    assert td.noise_generator.state_dict() == before
    if isinstance(layer, DropConnect):
        assert_close([expected.numpy()], [x.numpy() @ layer.weight.numpy().T + layer.bias.numpy()])
    layer.train()(x)
    assert td.noise_generator.state_dict() != before


@layers
def test_derivatives_to_the_second_order_given_the_draws(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make(0.4)
    with td.remember() as draws:
        layer(data(shape))

    def of(x: td.Tensor, *parameters: td.Tensor) -> td.Tensor:
        named = dict(zip([n for n, _ in layer.named_parameters()], parameters, strict=True))
        with td.repeat(draws):
            return td.square(td.functional_call(layer, named, (x,)))

    parameters = [p.detach().requires_grad_() for p in layer.parameters()]
    assert td.gradcheck(of, [data(shape).requires_grad_(), *parameters], order=2)


@layers
def test_recorded_as_eager_bit_for_bit(name: str) -> None:
    make, shape = LAYERS[name]
    found = []
    for wrap in (lambda step: step, td.record):
        td.manual_seed(3)
        layer = make(0.4)

        def step(x: td.Tensor, layer: nn.Module = layer) -> tuple[td.Tensor, td.Tensor]:
            leaf = x.detach().requires_grad_()
            y = layer(leaf)
            return y.detach(), td.grad(td.square(y).sum(), leaf)[0]

        play = wrap(step)
        found.append([t.numpy().tobytes() for i in range(3) for t in play(data(shape) * (i + 1))])
    assert found[0] == found[1]
    assert len(set(found[0])) > 3


@layers
def test_float32_stays_and_generators_are_heard(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make(0.4).float(), data(shape).to("float32")
    answers = []
    for seed in (5, 5, 6):
        layer.generator = td.Generator(seed)
        answers.append(layer(x).detach())
        assert answers[-1].dtype == np.float32
    assert answers[0].numpy().tobytes() == answers[1].numpy().tobytes() != answers[2].numpy().tobytes()


# DropConnect, DropPath, DropBlock
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_dropconnect_masks_weights_with_the_moments_of_the_paper(per: str) -> None:
    """Mean Wv and variance p/(1-p) W²v², inverted; what is drawn is a mask of weights."""
    layer, x = connect(0.3, per), data((B, D))
    draws = np.stack([layer(x).detach().numpy() for _ in range(4000)])
    W, v = layer.weight.numpy(), x.numpy()
    mean, variance = v @ W.T + layer.bias.numpy(), 0.3 / 0.7 * v**2 @ (W**2).T
    assert (np.abs(draws.mean(0) - mean) < 5 * np.sqrt(variance / 4000)).all()
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.15)
    masks = [np.array(mask) for mask in itertools.product((0, 1 / 0.7), repeat=D)]
    for k in range(M):
        possible = np.stack([v[0] * mask @ W[k] + layer.bias.numpy()[k] for mask in masks])
        assert (np.abs(possible[:, None] - draws[None, :50, 0, k]).min(0) < 1e-12).all()
    same = td.tensor(np.tile(x.numpy()[:1], (B, 1)))
    rows = connect(0.5, per)(same).detach().numpy()
    assert (len(np.unique(rows.round(12), axis=0)) == 1) is (per == "batch")


def test_sampling_a_dropconnect_has_the_moments_of_the_masks() -> None:
    """The mean of a² over the draws is mean² + variance; p 0 is the layer itself."""
    layer, x = DropConnect(4, 3, 0.3), td.randn(5, 4, generator=td.Generator(1))
    n, source = 4000, td.Generator(2)
    W, v, b = layer.weight.detach().numpy(), x.numpy(), layer.bias.detach().numpy()
    middle, variance = v @ W.T + b, 0.3 / 0.7 * v**2 @ (W**2).T
    error = 5 * np.sqrt((2 * variance**2 + 4 * variance * middle**2) / n)
    found = layer.sampled(x, td.square, n, source).detach().numpy()
    assert (np.abs(found - (middle**2 + variance)) < error).all()
    same = DropConnect(4, 3, 0.0)
    np.testing.assert_allclose(same.sampled(x, td.relu, 2).detach(), td.relu(same(x)).detach(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"^DropConnect.sampled: expected p below 1, got 1"):
        DropConnect(4, 3, 1.0).sampled(x, td.relu)


def test_masks_of_a_sample_are_shared_by_its_positions() -> None:
    x = data((B, 1, D))
    y = connect(0.5)(td.cat([x, x], 1)).detach().numpy()
    np.testing.assert_allclose(y[:, 0], y[:, 1], rtol=1e-14)


def test_a_stack_of_linear_branches_has_the_product_as_its_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all 2^L patterns: Π (I + A_l)."""
    r, p = np.random.default_rng(0), [0.2, 0.5, 0.7]
    A = [r.standard_normal((D, D)) for _ in p]
    x, mean = r.standard_normal((1, D)), 0.0
    for kept in itertools.product((0, 1), repeat=3):
        waiting = iter(kept)
        monkeypatch.setattr(noise, "dropout", lambda ones, p, *_, w=waiting, **__: ones * (next(w) / (1 - p)))
        h = td.tensor(x)
        for a, rate in zip(A, p, strict=True):
            h = h + DropPath(rate)(h @ td.tensor(a.T))
        weight = np.prod([1 - q if k else q for k, q in zip(kept, p, strict=True)])
        mean = mean + weight * h.numpy()
    expected = x
    for a in A:
        expected = expected + expected @ a.T
    np.testing.assert_allclose(mean, expected, rtol=1e-12)


def test_paths_are_dropped_by_row_or_by_batch_and_rates_rise_linearly() -> None:
    x = td.ones(200, 3)
    rows = DropPath(0.3, generator=td.Generator(1))(x).numpy()
    assert {float(v) for v in np.unique(rows)} == {0.0, float(np.float32(1 / 0.7))}
    assert (rows == rows[:, :1]).all()
    assert abs((rows[:, 0] == 0).mean() - 0.3) < 0.1
    generator = td.Generator(1)
    for _ in range(10):
        assert len(np.unique(DropPath(0.5, "batch", generator)(x).numpy())) == 1
    assert not DropPath(1.0)(x).numpy().any()
    assert_close([drop_path_rates(0.2, 4)], [[0.05, 0.1, 0.15, 0.2]])


def test_the_rate_of_blocks_is_that_of_the_share_and_not_the_papers() -> None:
    """The paper's γ drops .0947 for p .1 and .2555 for .3: 7 x 7, blocks of 3, by the count of positions."""

    def share(rate: float) -> float:
        corners = np.ones((7, 7))
        for i, j in np.ndindex(7, 7):
            cover = sum(a <= i < a + 3 and b <= j < b + 3 for a in range(5) for b in range(5))
            corners[i, j] = 1 - (1 - rate) ** cover
        return float(corners.mean())

    for p, papers in ((0.1, 0.0947), (0.3, 0.2555)):
        np.testing.assert_allclose(share(p * 49 / 9 / 25), papers, atol=5e-5)
        np.testing.assert_allclose(share(noise.block_rate(p, (7, 7), (3, 3))), p, rtol=1e-12)
    np.testing.assert_allclose(noise.block_rate(0.1, (7, 7), (3, 3)), 0.02308, atol=5e-6)
    np.testing.assert_allclose(noise.block_rate(0.25, (6, 4), (1, 1)), 0.25, rtol=1e-12)
    np.testing.assert_allclose(noise.block_rate(0.25, (3, 4), (3, 4)), 0.25, rtol=1e-12)


def test_blocks_are_whole_inside_and_as_many_as_they_should_be() -> None:
    layer = DropBlock(0.2, 3, scale="expected", generator=td.Generator(1))
    y = layer(td.ones(400, 3, 7, 6).double()).numpy()
    dropped = y == 0
    assert {float(v) for v in np.unique(y)} == {0.0, 1.25}
    assert abs(dropped.mean() - 0.2) < 0.02
    windows = np.lib.stride_tricks.sliding_window_view(dropped, (3, 3), (2, 3)).all((-1, -2))
    covered = np.zeros_like(dropped)
    for i, j in np.ndindex(3, 3):
        covered[:, :, i : i + 5, j : j + 4] |= windows
    assert (covered == dropped).all()
    shared = DropBlock(0.2, 3, per_channel=False, generator=td.Generator(1))(td.ones(9, 3, 7, 6)).numpy() == 0
    assert (shared == shared[:, :1]).all()
    assert not (dropped == dropped[:, :1]).all()


def test_the_normalizer_counts_the_sample_and_not_the_batch() -> None:
    """torchvision counts the batch, which couples its samples."""
    layer = DropBlock(0.3, 2, per_channel=False, generator=td.Generator(1))
    y = layer(td.ones(30, 2, 5, 5).double()).numpy()
    np.testing.assert_allclose(y.mean((1, 2, 3)), 1, rtol=1e-12)
    assert len(np.unique(y.max((1, 2, 3)).round(12))) > 3


def test_a_block_larger_than_the_map_is_the_map() -> None:
    layer = DropBlock(0.5, 7, generator=td.Generator(1))
    y = layer(td.ones(60, 1, 2, 3)).numpy()
    assert np.isfinite(y).all()
    empty = (y == 0).all((1, 2, 3))
    assert (y[~empty] == 1).all()
    assert abs(empty.mean() - 0.5) < 0.25


# Inputs, weights and labels
# ------------------------------------------------------------------------------------------------------------


def square_loss(z: td.Tensor, y: td.Tensor, reduction: str) -> td.Tensor:
    return td.square(z - y).sum(1)


def test_input_noise_is_tikhonovs_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over all signs: + std² ‖w‖², value and gradient."""
    model, (x, _) = nn.Linear(D, 1).double(), batch()
    y = data((B, 1))
    plain = Objective(model, square_loss)(x, y).total
    objective, values, slopes = Objective(model, square_loss, [InputNoise(0.3)]), [], []
    for signs in itertools.product((-1.0, 1.0), repeat=D):
        monkeypatch.setattr(noise, "randn", lambda shape, s=signs, **_: td.tensor(np.tile(s, (shape[0], 1))))
        total = objective(x, y).total
        values.append(total.item())
        slopes.append(td.grad(total, model.weight)[0].numpy())
    w = model.weight.numpy()
    np.testing.assert_allclose(np.mean(values), plain.item() + 0.09 * (w**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(
        np.mean(slopes, 0), td.grad(plain, model.weight)[0].numpy() + 0.18 * w, rtol=1e-12
    )


@pytest.mark.parametrize("std", [0.1, 0.05])
def test_noise_is_half_a_trace_to_fourth_order(std: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """E ℓ(h + σε) = ℓ + ½σ² tr ∂²ℓ/∂h² + O(σ⁴): what is left falls 16-fold when σ halves."""
    td.manual_seed(2)
    head, h, y = nn.Linear(3, M).double(), data((1, 3)), td.tensor([1])
    p, W = td.softmax(head(h), 1).detach().numpy()[0], head.weight.numpy()
    trace = np.trace(W.T @ (np.diag(p) - np.outer(p, p)) @ W)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    weights = weights / weights.sum()

    def rest(std: float) -> float:
        objective, mean = Objective(head, td.cross_entropy, [InputNoise(std)]), 0.0
        for index in itertools.product(range(9), repeat=3):
            monkeypatch.setattr(noise, "randn", lambda *_, at=list(index), **__: td.tensor(nodes[at][None]))
            mean += weights[list(index)].prod() * objective(h, y).total.item()
        return mean - td.cross_entropy(head(h), y).item() - 0.5 * std**2 * trace

    np.testing.assert_allclose(rest(std) / rest(std / 2), 16, rtol=0.05)


def test_weight_noise_adds_half_the_trace_and_leaves_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The square loss is quadratic in W and b: ½ std² tr H = std² mean_b (‖x_b‖² + 1), by all signs."""
    model, (x, _) = nn.Linear(D, 1).double(), batch()
    y, noisy = data((B, 1)), WeightNoise(model, 0.3)
    before = [np.array(p.detach()) for p in model.parameters()]
    plain, values = Objective(model, square_loss)(x, y).total.item(), []
    for signs in itertools.product((-1.0, 1.0), repeat=D + 1):
        parts = iter([np.array(signs[:D])[None], np.array(signs[D:])])
        monkeypatch.setattr(noise, "randn", lambda *_, w=parts, **__: td.tensor(next(w)))
        total = Objective(noisy, square_loss)(x, y).total
        total.backward()
        values.append(total.item())
    expected = plain + 0.09 * ((x.numpy() ** 2).sum(1) + 1).mean()
    np.testing.assert_allclose(np.mean(values), expected, rtol=1e-12)
    assert_close([np.array(p.detach()) for p in model.parameters()], before, 0)
    assert all(p.grad is not None for p in model.parameters())


def test_disturbed_labels_are_label_smoothing_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """By all classes, with the weights of their draws; value and gradient."""
    model, (x, y) = network(), batch()
    gamma, value, slope = 0.3, 0.0, 0.0
    objective = Objective(model, td.cross_entropy, [DisturbLabel(gamma, classes=M)])
    for u, k, share in ((0.9, 0, 1 - gamma), *((0.1, k, gamma / M) for k in range(M))):
        monkeypatch.setattr(noise, "rand", lambda shape, u=u, **_: td.tensor(np.full(shape, u)))
        monkeypatch.setattr(noise, "randint", lambda low, high, shape, k=k, **_: td.tensor(np.full(shape, k)))
        total = objective(x, y).total
        value += share * total.item()
        slope = slope + share * td.grad(total, model[0].weight)[0].numpy()
    smoothed = td.cross_entropy(model(x), y, label_smoothing=gamma)
    np.testing.assert_allclose(value, smoothed.item(), rtol=1e-12)
    np.testing.assert_allclose(slope, td.grad(smoothed, model[0].weight)[0].numpy(), rtol=1e-11)


def test_labels_are_disturbed_as_often_as_said_and_may_stay() -> None:
    term = DisturbLabel(0.5, classes=4, generator=td.Generator(2))
    labels = td.tensor(np.full(4000, 3))
    _, found = term.before(network(), None, labels)
    counts = np.bincount(found.numpy(), minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.125, 0.125, 0.125, 0.625], atol=0.03)
    assert found.dtype == labels.dtype
    evaluated = network().eval()
    assert term.before(evaluated, None, labels)[1] is labels
    assert InputNoise(0.1).before(evaluated, labels, None)[0] is labels


def test_integer_inputs_carry_no_noise() -> None:
    tokens, x = td.tensor([[1, 2]]), td.ones(1, 2)
    (same, other), _ = InputNoise(1.0, generator=td.Generator(0)).before(network(), (tokens, x), None)
    assert same is tokens
    assert (other.numpy() != 1).all()


# Predictions by masks
# ------------------------------------------------------------------------------------------------------------


def test_uncertainty_splits_into_noise_and_knowledge() -> None:
    model, (x, _) = network(nn.BatchNorm1d(6), nn.Dropout(0.5)), batch()
    found = mc_dropout(model, x, samples=7, generator=td.Generator(3))
    evaluated = network(nn.BatchNorm1d(6), nn.Dropout(0.5)).eval()
    evaluated[2].train()
    p = []
    with td.random_from(td.Generator(3)), td.no_grad():
        p = np.stack([td.softmax(evaluated(x), 1).numpy() for _ in range(7)])
    middle = p.mean(0)
    entropy = -(middle * np.log(middle)).sum(1)
    expected = -(p * np.log(p)).sum(2).mean(0)
    np.testing.assert_allclose(found.probabilities.numpy(), middle, rtol=1e-12)
    np.testing.assert_allclose(found.entropy.numpy(), entropy, rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(found.mutual_information.numpy(), entropy - expected, rtol=1e-10)
    assert (found.mutual_information.numpy() > 0).all()


@pytest.mark.parametrize(
    "middle",
    [
        lambda p: nn.LSTM(4, 4, num_layers=2, dropout=p, batch_first=True),
        lambda p: nn.GRU(4, 4, num_layers=2, dropout=p, batch_first=True),
        lambda p: nn.RNN(4, 4, num_layers=2, dropout=p, batch_first=True),
        lambda p: nn.MultiheadAttention(4, 2, dropout=p, batch_first=True),
    ],
    ids=["LSTM", "GRU", "RNN", "attention"],
)
def test_recurrent_layers_and_attention_drop_too(middle: Callable[[float], nn.Module]) -> None:
    class Net(nn.Module):
        def __init__(self, p: float) -> None:
            super().__init__()
            self.middle, self.norm, self.head = middle(p), nn.BatchNorm1d(4), nn.Linear(4, M)

        def forward(self, x: td.Tensor) -> td.Tensor:
            attends = isinstance(self.middle, nn.MultiheadAttention)
            h, _ = self.middle(x, x, x) if attends else self.middle(x)
            return self.head(self.norm(h[:, -1]))

    x = td.randn(3, 5, 4, generator=td.Generator(1))
    model = Net(0.5)
    before = [np.array(b).tobytes() for b in model.buffers()]
    assert (mc_dropout(model, x, 10).mutual_information.numpy() > 1e-7).all()
    assert [np.array(b).tobytes() for b in model.buffers()] == before
    assert all(module.training for module in model.modules())
    with pytest.raises(ValueError, match="expected layers of noise in Net, got none"):
        mc_dropout(Net(0.0), x)


def test_predicting_leaves_no_trace_also_after_an_exception() -> None:
    """Only noise is in training mode: model.train() would switch BatchNorm too."""
    model, (x, _) = network(nn.BatchNorm1d(6), nn.Dropout(0.5)), batch()
    model[1].eval()
    seen: list[list[bool]] = []
    model.register_forward_hook(lambda *_: seen.append([m.training for m in model.modules()]))
    modes = [m.training for m in model.modules()]
    buffers = [np.array(b) for b in model.buffers()]
    streams = [td.default_generator.state_dict(), td.noise_generator.state_dict()]
    first, second = (mc_dropout(model, x, samples=3).entropy.numpy() for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert sum(seen[0]) == 1
    with pytest.raises(td.ShapeError):
        mc_dropout(model, x[:, :1])
    assert modes == [m.training for m in model.modules()]
    assert_close([np.array(b) for b in model.buffers()], buffers, 0)
    assert streams == [td.default_generator.state_dict(), td.noise_generator.state_dict()]


def test_certain_predictions_have_no_entropy() -> None:
    class Certain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.0)

        def forward(self, x: td.Tensor) -> td.Tensor:
            return self.drop(td.tensor([[0.0, -1e4]]))

    found = mc_dropout(Certain(), td.ones(1, 1), samples=2)
    assert [float(t.numpy()[0]) for t in found[1:]] == [0, 0, 0]


# What is refused
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (lambda: DropConnect(4, 3, 1.5), ValueError, "DropConnect: expected a probability"),
        (
            lambda: DropConnect(4, 3, per="row"),
            ValueError,
            r"DropConnect: expected per in \('sample', 'batch'\)",
        ),
        (
            lambda: DropConnect(4, 3)(td.ones(4)),
            td.ShapeError,
            r"DropConnect: expected input \(B, \*, 4\), got \(4,\)",
        ),
        (lambda: DropPath(-1), ValueError, "DropPath: expected a probability"),
        (lambda: DropPath(0.1, "column"), ValueError, r"DropPath: expected mode in \('row', 'batch'\)"),
        (
            lambda: DropPath(0.1)(td.tensor(1.0)),
            td.ShapeError,
            r"DropPath: expected input \(B, \*\), got \(\)",
        ),
        (lambda: drop_path_rates(2.0, 3), ValueError, "drop_path_rates: expected a probability"),
        (lambda: drop_path_rates(0.1, 0), ValueError, "drop_path_rates: expected blocks as a whole number"),
        (lambda: DropBlock(1.0), ValueError, r"DropBlock: expected p in \[0, 1\), got 1.0"),
        (lambda: DropBlock(0.1, 0), ValueError, "DropBlock: expected block_size as a whole number"),
        (
            lambda: DropBlock(scale="batch"),
            ValueError,
            r"DropBlock: expected scale in \('sample', 'expected'\)",
        ),
        (
            lambda: DropBlock()(td.ones(2, 3, 4)),
            td.ShapeError,
            r"DropBlock: expected input \(N, C, H, W\), got \(2, 3, 4\)",
        ),
        (lambda: WeightNoise(network(), -1), ValueError, "WeightNoise: expected std of at least 0, got -1"),
        (
            lambda: mc_dropout(network(nn.Dropout(0.5)), td.ones(1, D), samples=0),
            ValueError,
            "mc_dropout: expected samples as a whole number of at least 1, got 0",
        ),
        (
            lambda: mc_dropout(network(), td.ones(1, D)),
            ValueError,
            "mc_dropout: expected layers of noise in Sequential, got none",
        ),
    ],
)
def test_misuse_is_refused_by_name(misuse: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        misuse()
