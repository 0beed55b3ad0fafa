"""Critics: what is penalized, where, on whose random numbers; errors that are known from other codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from penalized import B, D, assert_close, batch

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    R1,
    R2,
    Dragan,
    FeatureMatching,
    GeneratorLoss,
    GradientPenalty,
    Hinge,
    Logistic,
    MinibatchDiscrimination,
    Objective,
    Relativistic,
    SemiSupervised,
    Wasserstein,
    lazy_rates,
    mixed_with_fakes,
    spectral_norm,
)


def critic(*middle: nn.Module) -> nn.Module:
    td.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 6), *middle, nn.Tanh(), nn.Linear(6, 1)).double()


def fakes(n: int = B) -> td.Tensor:
    return td.tensor(np.random.default_rng(8).standard_normal((n, D)))


def slopes(model: nn.Module, x: np.ndarray) -> np.ndarray:
    leaf = td.tensor(x).requires_grad_()
    return td.grad(model(leaf).sum(), leaf)[0].numpy()


class Quadratic(nn.Module):
    """xᵀAx."""

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(td.tensor(np.random.default_rng(0).standard_normal((D, D))))

    def forward(self, x: td.Tensor) -> td.Tensor:
        return ((x @ self.A) * x).sum(1)


def test_r1_and_r2_of_a_quadratic_critic_are_of_its_output_and_not_of_a_loss() -> None:
    """½ mean ‖Mx‖², M = A + Aᵀ; on softplus of it (style-based-gan issue 34) it would be another number."""
    model, (x, _), fake = Quadratic(), batch(), fakes(9)
    objective = Objective(model, Logistic(), [R1(10.0), R2(10.0)])
    M = model.A.numpy() + model.A.numpy().T
    terms = objective(x, fake=fake)
    expected = [((z.numpy() @ M) ** 2).sum(1).mean() / 2 for z in (x, fake)]
    assert_close([p.item() for p in terms.penalties], expected)
    d, d_fake = (model(z).detach().numpy() for z in (x, fake))
    loss = np.log1p(np.exp(-d)).mean() + np.log1p(np.exp(d_fake)).mean()
    np.testing.assert_allclose(terms.loss.item(), loss, rtol=1e-9)


def test_fakes_are_detached() -> None:
    """A generator gets no gradient from the critic's penalties at them."""
    model, (x, _) = critic(), batch()
    scale = nn.Parameter(td.tensor(2.0, dtype="float64"))
    terms = Objective(model, Hinge(), [R2(1.0), GradientPenalty()])(x, fake=fakes() * scale)
    assert [td.grad(p, scale, allow_unused=True)[0] for p in terms.penalties] == [None, None]


def test_a_generator_is_trained_by_the_features_of_its_samples() -> None:
    model, (x, _) = critic(), batch()
    scale = nn.Parameter(td.tensor(2.0, dtype="float64"))
    objective = Objective(model, Wasserstein(), [FeatureMatching(1.0, "0")])
    found = objective(x, fake=fakes() * scale).penalties[0]
    W, b = model[0].weight.numpy(), model[0].bias.numpy()
    gap = (x.numpy() @ W.T + b).mean(0) - (2 * fakes().numpy() @ W.T + b).mean(0)
    np.testing.assert_allclose(found.item(), (gap**2).sum(), rtol=1e-12)
    expected = -2 * gap @ (fakes().numpy() @ W.T).mean(0)
    np.testing.assert_allclose(td.grad(found, scale)[0].item(), expected, rtol=1e-12)


def test_the_gradient_penalty_is_at_interpolates_of_each_sample() -> None:
    model, (x, _), fake = critic(), batch(), fakes()
    term = GradientPenalty(generator=td.Generator(3))
    found = Objective(model, Wasserstein(), [term])(x, fake=fake).penalties[0].item()
    t = td.rand((B, 1), generator=td.Generator(3), dtype="float64").numpy()
    norms = np.linalg.norm(slopes(model, t * x.numpy() + (1 - t) * fake.numpy()), axis=1)
    assert np.ptp(t) > 0.1
    np.testing.assert_allclose(found, ((norms - 1) ** 2).mean(), rtol=1e-12)


def test_dragan_moves_upwards_by_the_deviation_of_the_batch() -> None:
    model, (x, _), generator = critic(), batch(), td.Generator(3)
    found = (
        Objective(model, Wasserstein(), [Dragan(generator=generator)])(x, fake=fakes()).penalties[0].item()
    )
    generator = td.Generator(3)
    alpha, u = (td.rand(s, generator=generator, dtype="float64").numpy() for s in ((B, 1), (B, D)))
    norms = np.linalg.norm(slopes(model, x.numpy() + alpha * 0.5 * x.numpy().std() * u), axis=1)
    np.testing.assert_allclose(found, ((norms - 1) ** 2).mean(), rtol=1e-12)


def test_a_flat_critic_has_a_finite_derivative() -> None:
    """WGAN-GP's root without 1e-16 is NaN there (stylegan2-ada-pytorch issue 133)."""
    model, (x, _) = critic(), batch()
    with td.no_grad():
        for p in model.parameters():
            td.ops.update.assign(p, 0.0)
    for term in (GradientPenalty(), Dragan()):
        Objective(model, Wasserstein(), [term])(x, fake=fakes()).total.backward()
        assert all(np.isfinite(np.array(p.grad)).all() for p in model.parameters())


@pytest.mark.parametrize("make", [GradientPenalty, Dragan])
def test_a_batchnorm_in_the_critic_is_told(make: Any) -> None:
    model, (x, _) = critic(nn.BatchNorm1d(6)), batch()
    objective = Objective(model, Wasserstein(), [make()])
    with pytest.warns(UserWarning, match=f"^{make.__name__}: expected a critic whose samples do not meet"):
        objective(x, fake=fakes())
    model.eval()
    objective(x, fake=fakes())


def test_lazy_regularization_is_the_every_step_gradient_in_the_mean() -> None:
    """Its weight times the interval: what is forgotten in StudioGAN issue 101."""
    model, (x, _), fake = critic(), batch(), fakes()
    lazy, steady = (Objective(model, Wasserstein(), [R1(2.0, every=c)]) for c in (4, 1))

    def slope(objective: Objective, i: int) -> np.ndarray:
        total = objective(x, fake=fake, due=objective.due(i)).total
        return td.grad(total, model[0].weight)[0].numpy()

    mean = np.mean([slope(lazy, i) for i in range(4)], axis=0)
    np.testing.assert_allclose(mean, slope(steady, 0), rtol=1e-12)


def test_running_statistics_are_those_of_the_real_samples() -> None:
    model, (x, _) = critic(nn.BatchNorm1d(6)), batch()
    Objective(model, Relativistic(), [R1(1.0), R2(1.0)])(x, fake=fakes())
    plain = critic(nn.BatchNorm1d(6))
    plain(x)
    assert_close([np.array(b) for b in model.buffers()], [np.array(b) for b in plain.buffers()], 0)


# Minibatch discrimination
# ------------------------------------------------------------------------------------------------------------


def test_minibatch_discrimination_counts_the_others(backend: str) -> None:
    layer = MinibatchDiscrimination(D, 3, 2, dtype="float64")
    x = batch()[0].numpy()
    M = (x @ layer.T.numpy()).reshape(B, 3, 2)
    apart = np.abs(M[:, None] - M[None]).sum(3)
    expected = np.exp(-apart).sum(1) - 1
    found = layer(td.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, np.concatenate([x, expected], 1), rtol=1e-12)
    same = layer(td.tensor(np.tile(x[:1], (4, 1)))).detach().numpy()
    np.testing.assert_allclose(same[:, D:], 3, rtol=1e-14)


def test_derivatives_of_minibatch_discrimination() -> None:
    layer = MinibatchDiscrimination(D, 2, 2, dtype="float64")

    def of(x: td.Tensor, T: td.Tensor) -> td.Tensor:
        return td.functional_call(layer, {"T": T}, (x,))

    tensors = [t.detach().requires_grad_() for t in (batch()[0], layer.T)]
    assert td.gradcheck(of, tensors, order=2)


@pytest.mark.parametrize("normalized", [False, True])
def test_minibatch_discrimination_starts_from_data(normalized: bool) -> None:
    """As the authors' code: the nearest is 2 away in the mean, and o + b is 0 in the mean."""
    layer = MinibatchDiscrimination(D, 3, 2, bias=True, dtype="float64")
    if normalized:
        nn.utils.weight_norm(layer, "T", dim=1)
    x, before = batch()[0], layer.T.detach().numpy().copy()
    layer.start(x)
    scale = (layer.T.detach().numpy() / before).reshape(D, 3, 2)
    np.testing.assert_allclose(scale, np.broadcast_to(scale[:1, :, :1], scale.shape), rtol=1e-12)
    M = (x.numpy() @ layer.T.detach().numpy()).reshape(B, 3, 2)
    apart = np.abs(M[:, None] - M[None]).sum(3) + np.where(np.eye(B), np.inf, 0)[..., None]
    np.testing.assert_allclose(apart.min(1).mean(0), 2, rtol=1e-12)
    o = layer(x).detach().numpy()[:, D:]
    np.testing.assert_allclose(o.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(o - o[:1], np.exp(-apart).sum(1) - np.exp(-apart).sum(1)[:1], atol=1e-14)


def test_minibatch_discrimination_refuses_what_has_no_others() -> None:
    layer = MinibatchDiscrimination(D)
    wanted = r"^MinibatchDiscrimination: expected at least 2 samples \(B, 4\), got \(1, 4\)"
    with pytest.raises(td.ShapeError, match=wanted):
        layer(td.ones(1, D))
    with pytest.raises(ValueError, match=r"^MinibatchDiscrimination: expected kernels as a whole number"):
        MinibatchDiscrimination(D, 0)
    with pytest.raises(ValueError, match=r"^MinibatchDiscrimination.start: expected samples that differ"):
        layer.start(td.ones(3, D))
    nn.utils.weight_norm(layer, "T", dim=0)
    with pytest.raises(td.ShapeError, match=r"start: expected weight_norm\(layer, 'T', dim=1\), got lengths"):
        layer.start(td.randn(3, D))


def test_a_generators_step_moves_nothing_of_the_critic() -> None:
    """Neither gradients, running statistics nor vectors of spectral norms: they move with its own step."""
    judge = nn.Sequential(
        spectral_norm(nn.Linear(D, 6)), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1)
    ).double()
    model = nn.Linear(2, D).double()
    before = [np.array(b) for b in judge.buffers()]
    streams = [td.noise_generator.state_dict(), td.default_generator.state_dict()]
    objective = Objective(model, GeneratorLoss(judge, Relativistic()))
    objective(td.randn(B, 2, dtype="float64", generator=td.Generator(3)), real=batch()[0]).total.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad is None for p in judge.parameters())
    assert_close([np.array(b) for b in judge.buffers()], before, 0)
    assert streams == [td.noise_generator.state_dict(), td.default_generator.state_dict()]
    assert set(objective.state_dict()["terms"]["loss"]) == {"weight", "generator"}


def test_pairs_need_a_fake_for_each() -> None:
    with pytest.raises(td.ShapeError, match=r"^Relativistic: expected a fake for each of \(6,\), got \(9,\)"):
        Objective(critic(), Relativistic())(batch()[0], fake=fakes(9))


def test_a_critic_of_two_inputs_is_refused_where_samples_are_mixed() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = critic()

        def forward(self, x: td.Tensor, y: td.Tensor) -> td.Tensor:
            return self.model(x + y)

    loss = lambda z, y, reduction: z  # noqa: E731
    x = batch()[0]
    with pytest.raises(td.ShapeError, match=r"^gradient_penalty: expected a critic of one input, got 2"):
        Objective(Two(), loss, [GradientPenalty()])((x, x), fake=x)


# A class too, mixed fakes, a step of the penalty's own
# ------------------------------------------------------------------------------------------------------------


def test_the_semi_supervised_critic_knows_real_from_fake_by_the_sum_of_its_exponentials() -> None:
    """½ the cross-entropy of D = Z/(Z + 1) on unlabeled samples and on fakes, and that of the classes."""
    td.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, u, g = (td.randn(5, 4, generator=td.Generator(i), dtype="float64") for i in range(3))
    y = td.tensor([0, 1, 2, 0, 1])
    found = Objective(model, SemiSupervised())(x, y, unlabeled=u, fake=g).loss.item()
    D = []
    for each in (u, g):
        Z = np.exp(model(each).detach().numpy()).sum(1)
        D.append(Z / (Z + 1))
    expected = -0.5 * np.log(D[0]).mean() - 0.5 * np.log(1 - D[1]).mean()
    np.testing.assert_allclose(found, td.cross_entropy(model(x), y).item() + expected, rtol=1e-12)
    large = nn.Linear(4, 3).double()
    large.load_state_dict({"weight": np.full((3, 4), 200.0), "bias": np.zeros(3)})
    terms = Objective(large, SemiSupervised())(x, y, unlabeled=u, fake=g)
    terms.backward()
    assert np.isfinite(terms.loss.item())
    assert np.isfinite(large.weight.grad.numpy()).all()


def test_real_samples_mixed_with_fakes_have_their_share_as_target() -> None:
    """A lecture's λ that is missing on x would leave the target 1 with x whole."""
    x, fake = td.ones(2000, 1, 2, dtype="float64"), td.zeros(2000, 1, 2, dtype="float64")
    mixed, target = mixed_with_fakes(x, fake, 0.5, generator=td.Generator(1))
    share = target.numpy()
    np.testing.assert_allclose(mixed.numpy(), np.broadcast_to(share[:, None, None], (2000, 1, 2)), rtol=1e-13)
    assert abs(share.mean() - 0.5) < 0.05
    assert abs(share.var() - 1 / 8) < 0.02  # 1/(4(2α + 1))
    same, ones = mixed_with_fakes(x, fake, 0.0)
    assert same is x
    assert set(ones.numpy()) == {1.0}
    with pytest.raises(td.ShapeError, match=r"^mixed_with_fakes: expected a fake for each sample \(2000, 1"):
        mixed_with_fakes(x, fake[:3])
    with pytest.raises(ValueError, match=r"^mixed_with_fakes: expected alpha of at least 0, got -1"):
        mixed_with_fakes(x, fake, -1)


def test_lazy_rates_keep_the_memory_of_an_interval() -> None:
    """Over c steps of the loss and one of the penalty: (c + 1) k = c steps' worth."""
    found = lazy_rates(0.002, (0.5, 0.99), 16)
    np.testing.assert_allclose(found["lr"] * 17, 0.002 * 16, rtol=1e-14)
    np.testing.assert_allclose([b**17 for b in found["betas"]], [0.5**16, 0.99**16], rtol=1e-13)
    td.optim.Adam(nn.Linear(2, 1).parameters(), **found)
    with pytest.raises(ValueError, match=r"^lazy_rates: expected every as a whole number of at least 1"):
        lazy_rates(0.1, (0.0, 0.9), 0)
