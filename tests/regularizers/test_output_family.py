"""Penalties on activities and outputs at inner layers and on maps, and losses in cross-entropy's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, M, assert_close, batch, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    ActivityL1,
    ActivityL2,
    Barlow,
    ConfidencePenalty,
    DeCov,
    EntropyMin,
    FeatureStatistics,
    FocalLoss,
    KLSparsity,
    LogitNormLoss,
    Objective,
)


def maps() -> tuple[nn.Module, td.Tensor, td.Tensor]:
    td.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Sigmoid(), nn.Flatten(), nn.Linear(12, M))
    return (
        model.double(),
        td.tensor(np.random.default_rng(0).standard_normal((B, 1, 3, 3))),
        td.tensor(np.arange(B) % M),
    )


# Activities
# ------------------------------------------------------------------------------------------------------------


def test_activities_of_several_layers_add_up() -> None:
    model, (x, y) = network(), batch()
    h = model[0](x).detach().numpy()
    a = np.tanh(h)
    for penalty, expected in (
        (ActivityL1(1.0, ["0", "1"]), (np.abs(h) + np.abs(a)).sum(1).mean()),
        (ActivityL2(1.0, ("0", "1")), (h**2 + a**2).sum(1).mean()),
    ):
        found = Objective(model, td.cross_entropy, [penalty])(x, y).penalties[0]
        np.testing.assert_allclose(found.item(), expected, rtol=1e-12)
    found = Objective(model, td.cross_entropy, [ActivityL2(1.0, "0")])(x, y).penalties[0]
    inputs, (slope,) = x.numpy(), td.grad(found, model[0].weight)
    np.testing.assert_allclose(slope.numpy(), 2 / B * h.T @ inputs, rtol=1e-12)


def test_on_maps_units_are_channels_and_positions_are_samples() -> None:
    model, x, y = maps()
    z = model[0](x).detach().numpy()
    rows = np.moveaxis(z, 1, -1).reshape(-1, 3)
    C = np.cov(rows.T, bias=True)
    expected = ((C**2).sum() - (np.diag(C) ** 2).sum()) / 2
    objective = Objective(model, td.cross_entropy, [DeCov(layers="0"), FeatureStatistics(1.0, "0")])
    found = [p.item() for p in objective(x, y).penalties]
    statistics = (rows.mean(0) ** 2).sum() + ((rows.var(0) - 1) ** 2).sum()
    np.testing.assert_allclose(found, [expected, statistics], rtol=1e-12)


def test_statistics_of_a_batchnorm_are_constants_that_move_with_it() -> None:
    model, x, y = maps()
    bn = model[1]
    term = FeatureStatistics(1.0, "0", mean=bn.running_mean, var=bn.running_var)
    assert set(term.state()) == {"weight"}
    objective = Objective(model, td.cross_entropy, [term])
    for _ in range(2):
        found = objective(x, y).penalties[0]
        rows = np.moveaxis(model[0](x).detach().numpy(), 1, -1).reshape(-1, 3)
        mean, var = np.array(bn.running_mean), np.array(bn.running_var)
        expected = ((rows.mean(0) - mean) ** 2).sum() + ((rows.var(0) - var) ** 2).sum()
        np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


def test_running_statistics_are_those_of_what_a_batchnorm_takes() -> None:
    """DeepInversion's prior by the paths of the BatchNorms alone, with the same number."""
    model, x, y = maps()
    found = []
    for term in (
        FeatureStatistics(1.0, "1", mean="running", var="running"),
        FeatureStatistics(1.0, "0", mean=model[1].running_mean, var=model[1].running_var),
    ):
        model.eval()
        objective = Objective(model, td.cross_entropy, [term])
        found.append(objective(x, y).penalties[0])
    assert found[0].item() == found[1].item() > 0
    for a, b in zip(*(td.grad(f, list(model[0].parameters())) for f in found), strict=True):
        np.testing.assert_array_equal(a, b)
    one = Objective(model, td.cross_entropy, [FeatureStatistics(1.0, "1", mean="running", var=2.0)])
    rows = np.moveaxis(model[0](x).detach().numpy(), 1, -1).reshape(-1, 3)
    expected = ((rows.mean(0) - model[1].running_mean.numpy()) ** 2).sum() + ((rows.var(0) - 2) ** 2).sum()
    np.testing.assert_allclose(one(x, y).penalties[0].item(), expected, rtol=1e-12)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_decayed_activity_is_the_mean_over_the_steps_so_far() -> None:
    model = nn.Linear(4, 3).double()
    term = KLSparsity(1.0, "", rho=0.2, activation=td.sigmoid, decay=0.5, units=3)
    objective, means = Objective(model, td.cross_entropy, [term]), []
    for i in range(3):
        x, y = batch(i)
        a = td.sigmoid(model(x)).detach().numpy()
        means.append(a.mean(0))
        shares = 0.5 ** np.arange(i, -1, -1)
        active = (shares[:, None] * means).sum(0) / shares.sum()
        expected = (0.2 * np.log(0.2 / active) + 0.8 * np.log(0.8 / (1 - active))).sum()
        found = objective(x, y).penalties[0]
        np.testing.assert_allclose(found.item(), expected, rtol=1e-12)
        # Only this step's activities are differentiated.
        da = (-0.2 / active + 0.8 / (1 - active)) / len(a) / shares.sum()
        np.testing.assert_allclose(
            td.grad(found, model.weight)[0].numpy(), (da * a * (1 - a)).T @ x.numpy(), rtol=1e-10
        )


def test_one_sample_has_no_covariance() -> None:
    model, (x, y) = network(), batch()
    found = Objective(model, td.cross_entropy, [DeCov(layers="0")])(x[:1], y[:1]).penalties[0]
    assert found.item() == 0
    assert not td.grad(found, model[0].weight)[0].numpy().any()


def test_sparsity_is_of_a_sigmoid_and_finite_at_silent_units() -> None:
    model, x, y = maps()
    a = 1 / (1 + np.exp(-model[1](model[0](x)).detach().numpy()))
    active = a.mean(0)
    expected = (0.05 * np.log(0.05 / active) + 0.95 * np.log(0.95 / (1 - active))).sum()
    found = Objective(model, td.cross_entropy, [KLSparsity(layers="2")])(x, y).penalties[0]
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)

    outside = Objective(model, td.cross_entropy, [KLSparsity(layers="0")])
    with pytest.raises(
        ValueError, match=r"KLSparsity: expected activities in \[0, 1\] of \('0',\), got others"
    ):
        outside(x, y)
    seen = td.record(lambda x, y: outside(x, y).penalties[0])(x, y)  # where nobody can look
    assert np.isnan(seen.item())
    silent = nn.Sequential(nn.Linear(D, M), nn.ReLU()).double()
    silent.load_state_dict({"0.weight": np.zeros((M, D)), "0.bias": -np.ones(M)})
    found = Objective(silent, td.cross_entropy, [KLSparsity(layers="1")])(*batch()).penalties[0]
    np.testing.assert_allclose(
        found.item(), M * (0.05 * np.log(0.05 / 1e-6) + 0.95 * np.log(0.95)), rtol=1e-4
    )
    assert not td.grad(found, silent[0].weight)[0].numpy().any()


def test_an_augmentation_draws_from_its_term() -> None:
    model, (x, y) = network(), batch()
    noisy = lambda x: x + 0.1 * td.randn(x.shape, dtype=x.dtype)  # noqa: E731
    objective = Objective(model, td.cross_entropy, [Barlow(1.0, noisy, generator=td.Generator(3))])
    before = td.default_generator.state_dict()
    first, second = (objective(x, y).penalties[0].item() for _ in range(2))
    assert first != second
    assert td.default_generator.state_dict() == before
    again = Objective(model, td.cross_entropy, [Barlow(1.0, noisy, generator=td.Generator(3))])
    assert again(x, y).penalties[0].item() == first


# Outputs
# ------------------------------------------------------------------------------------------------------------


def test_the_entropy_of_unlabeled_samples_is_an_extra_pass_of_any_size() -> None:
    model, (x, y) = network(nn.BatchNorm1d(6), nn.Dropout(0.5)), batch()
    u = td.tensor(np.random.default_rng(7).standard_normal((9, D)))
    term = EntropyMin(1.0, on="unlabeled", generator=td.Generator(3))
    running = [np.array(b) for b in model.buffers()]
    found = Objective(model, td.cross_entropy, [term])(x, y, unlabeled=u).penalties[0]
    assert 0 < found.item() < np.log(M)
    moved = [np.array(b) for b in model.buffers()]
    plain = network(nn.BatchNorm1d(6), nn.Dropout(0.5))
    Objective(plain, td.cross_entropy)(x, y)
    assert any((a != b).any() for a, b in zip(running, moved, strict=True))
    assert_close(moved, [np.array(b) for b in plain.buffers()], 0)
    still = network()
    p = td.softmax(still(u), 1).detach().numpy()
    value = Objective(still, td.cross_entropy, [EntropyMin(1.0, "unlabeled")])(x, y, unlabeled=u).penalties[0]
    np.testing.assert_allclose(value.item(), -(p * np.log(p)).sum(1).mean(), rtol=1e-12)


def test_confidence_and_entropy_cancel() -> None:
    model, (x, y) = network(), batch()
    terms = Objective(model, td.cross_entropy, [ConfidencePenalty(0.7), EntropyMin(0.7)])(x, y)
    np.testing.assert_allclose(terms.total.item(), terms.loss.item(), rtol=1e-14)


def test_label_smoothing_is_the_loss_and_the_divergence_from_uniform() -> None:
    """(1-ε) CE + ε (KL(u‖p) + log m): once, as cross_entropy's argument."""
    model, (x, y) = network(), batch()
    smoothed = lambda z, y, reduction: td.cross_entropy(z, y, label_smoothing=0.2, reduction=reduction)  # noqa: E731
    terms = Objective(model, smoothed)(x, y)
    log_p = td.log_softmax(terms.logits.detach(), 1).numpy()
    hard = -log_p[np.arange(B), y.numpy()].mean()
    divergence = (-np.log(M) - log_p).mean()
    np.testing.assert_allclose(terms.loss.item(), 0.8 * hard + 0.2 * (divergence + np.log(M)), rtol=1e-12)


# Losses
# ------------------------------------------------------------------------------------------------------------


def loss_and_slope(loss: Any, z: np.ndarray, y: Any) -> tuple[np.ndarray, np.ndarray]:
    leaf = td.tensor(z).requires_grad_()
    losses = loss(leaf, td.tensor(y), reduction="none")
    return losses.detach().numpy(), td.grad(losses.sum(), leaf)[0].numpy()


Z, Y = np.random.default_rng(3).standard_normal((B, M)), np.arange(B) % M


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.5])
def test_focal_loss_and_its_derivative(backend: str, gamma: float) -> None:
    """∂z = (γ p (1-p)^{γ-1} log p - (1-p)^γ)(e_y - softmax)."""
    found, slope = loss_and_slope(FocalLoss(gamma), Z, Y)
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    own, hot = p[np.arange(B), Y], np.eye(M)[Y]
    np.testing.assert_allclose(found, -((1 - own) ** gamma) * np.log(own), rtol=1e-12)
    factor = gamma * own * (1 - own) ** (gamma - 1) * np.log(own) - (1 - own) ** gamma
    np.testing.assert_allclose(slope, factor[:, None] * (hot - p), rtol=1e-10)


def test_focal_loss_without_gamma_is_cross_entropy_bit_for_bit() -> None:
    for found, expected in zip(
        loss_and_slope(FocalLoss(0.0), Z, Y), loss_and_slope(td.cross_entropy, Z, Y), strict=True
    ):
        assert found.tobytes() == expected.tobytes()


def test_focal_loss_takes_soft_targets_positions_and_weights_of_classes() -> None:
    r = np.random.default_rng(5)
    z, y, alpha = r.standard_normal((B, M, 2)), r.integers(0, M, (B, 2)), [0.2, 0.5, 0.3]
    hot = np.moveaxis(np.eye(M)[y], -1, 1)
    hard = loss_and_slope(FocalLoss(2.0, alpha), z, y)
    assert_close([*loss_and_slope(FocalLoss(2.0, alpha), z, hot)], [*hard])
    single = [
        loss_and_slope(FocalLoss(2.0), z[:, :, i], y[:, i])[0] * np.array(alpha)[y[:, i]] for i in range(2)
    ]
    assert_close([hard[0]], [np.stack(single, 1)])
    q = r.dirichlet(np.ones(M), B)
    each = [loss_and_slope(FocalLoss(2.0), Z, np.full(B, k))[0] for k in range(M)]
    assert_close([loss_and_slope(FocalLoss(2.0), Z, q)[0]], [(q * np.stack(each, 1)).sum(1)])


def test_focal_loss_keeps_its_digits_and_is_finite_where_p_is_near_1() -> None:
    """1 - p as a difference would be 0 in float32 here."""
    z = np.array([[20.0, 0.0, 0.0]], np.float32)
    found, slope = loss_and_slope(FocalLoss(1.0), z, np.array([0]))
    rest = 2 * np.exp(-20.0)
    np.testing.assert_allclose(found, rest**2, rtol=1e-5)
    assert slope.any()
    for gamma in (0.5, 2.0):
        found, slope = loss_and_slope(FocalLoss(gamma), 1e4 * z, np.array([0]))
        assert found == 0
        assert np.isfinite(slope).all()


def test_logit_norm_ignores_the_length_and_pushes_across_it(backend: str) -> None:
    found, slope = loss_and_slope(LogitNormLoss(0.5), Z, Y)
    norms = np.linalg.norm(Z, axis=1, keepdims=True)
    expected = loss_and_slope(td.cross_entropy, Z / (0.5 * (norms + 1e-7)), Y)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose((slope * Z).sum(1), 0, atol=1e-6)
    np.testing.assert_allclose(loss_and_slope(LogitNormLoss(0.5), 100 * Z, Y)[0], found, rtol=1e-6)
    found, slope = loss_and_slope(LogitNormLoss(), np.zeros((2, M)), np.array([0, 1]))
    np.testing.assert_allclose(found, np.log(M))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("loss", [FocalLoss(), LogitNormLoss()])
def test_as_the_loss_of_an_objective(loss: Any) -> None:
    model, (x, y) = network(), batch()
    terms = Objective(model, loss)(x, y)
    expected = loss_and_slope(loss, terms.logits.detach().numpy(), y.numpy())[0].mean()
    np.testing.assert_allclose(terms.loss.item(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (lambda: FocalLoss(-1.0), ValueError, "FocalLoss: expected gamma of at least 0, got -1.0"),
        (lambda: LogitNormLoss(0.0), ValueError, "LogitNormLoss: expected tau above 0, got 0.0"),
        (
            lambda: FocalLoss(2.0, [0.5, 0.5])(td.ones(2, 3), td.tensor([0, 1])),
            td.ShapeError,
            r"FocalLoss: expected an alpha per class \(3,\), got \(2,\)",
        ),
        (
            lambda: FocalLoss()(td.ones(2, 3), td.tensor([0, 1, 2])),
            td.ShapeError,
            r"FocalLoss: expected a target for logits \(2, 3\), got \(3,\)",
        ),
        (
            lambda: FocalLoss()(td.ones(3), td.tensor(0)),
            td.ShapeError,
            r"FocalLoss: expected logits \(B, m, \*\), got \(3,\)",
        ),
        (
            lambda: LogitNormLoss()(td.ones(3), td.tensor(0)),
            td.ShapeError,
            r"LogitNormLoss: expected logits \(B, m, \*\), got \(3,\)",
        ),
        (
            lambda: FocalLoss()(td.ones(2, 3), td.tensor([0, 1]), reduction="all"),
            ValueError,
            "FocalLoss: expected reduction",
        ),
    ],
)
def test_misuse_is_refused_by_name(misuse: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        misuse()


def test_both_views_of_barlow_in_one_pass() -> None:
    """Without batch statistics the value of two passes, and the loss of both views; with them another."""
    view = lambda x: 0.7 * x + 0.2 * x * x  # noqa: E731
    (x, y), found = batch(), {}
    for joint in (False, True):
        for norm in (False, True):
            model = network(*([nn.BatchNorm1d(6)] if norm else []))
            terms = Objective(model, td.cross_entropy, [Barlow(1.0, view, joint=joint)])(x, y)
            found[joint, norm] = terms.penalties[0].item()
            if joint and not norm:
                both = [td.cross_entropy(model(each), y).item() for each in (x, view(x))]
                np.testing.assert_allclose(terms.loss.item(), np.mean(both), rtol=1e-12)
    np.testing.assert_allclose(found[True, False], found[False, False], rtol=1e-12)
    assert not np.isclose(found[True, True], found[False, True], rtol=1e-3)
