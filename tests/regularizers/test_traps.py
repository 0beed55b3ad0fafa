"""Mistakes with an address: a test for each, named by the thread in which others made it.

Where a source's own code or text is wrong, the address is the code's. Several have further tests in the file
of their family.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_traps_of_layers
from penalized import B, D, M, assert_close, batch, grads, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L2,
    MART,
    R1,
    TRADES,
    UDA,
    VAT,
    AdversarialFeatures,
    AdversarialTraining,
    CurvaturePenalty,
    DataGrad,
    DisturbLabel,
    Dragan,
    DropBlock,
    DropConnect,
    DropPath,
    FrobeniusJacobian,
    GaussianDropout,
    GradientPenalty,
    InputNoise,
    JacobianNorm,
    LipschitzPenalty,
    Logistic,
    Mixup,
    Objective,
    OneHotGradient,
    PiModel,
    RandomErasing,
    RDrop,
    SpectReg,
    WeightNoise,
    attack,
)


def value(penalty: Any, model: nn.Module, **given: Any) -> td.Tensor:
    return Objective(model, td.cross_entropy, [penalty])(*batch(), **given).penalties[0]


def critic(*middle: nn.Module) -> nn.Module:
    td.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 6), *middle, nn.Tanh(), nn.Linear(6, 1)).double()


def score(z: td.Tensor, target: Any, reduction: str) -> td.Tensor:
    return z.sum(1)


def streams() -> list[Any]:
    return [td.noise_generator.state_dict(), td.default_generator.state_dict()]


# Gradients and their graphs
# ------------------------------------------------------------------------------------------------------------


def test_pytorch_47562_a_bias_that_no_input_gradient_sees_gets_zeros() -> None:
    """And no error: its gradient is that of the loss alone."""
    model, found = network(), []
    for terms in ([], [FrobeniusJacobian(1.0)]):
        model.zero_grad()
        Objective(model, td.cross_entropy, terms)(*batch()).total.backward()
        found.append(model[-1].bias.grad.numpy().copy())
    np.testing.assert_array_equal(*found)
    slopes = td.grad(value(FrobeniusJacobian(1.0), model), list(model.parameters()))  # none is unused
    assert slopes[0].numpy().any()
    assert not slopes[-1].numpy().any()
    model.zero_grad()
    value(L2(1.0), model).backward()
    assert [p.grad.numpy().any() for p in model.parameters()] == [True, False, True, False]


ADDRESSES = (
    *("amp-rsl-rl#58", "ART#120", "davda54/sam#17", "foolbox#74", "kornia#4407", "nvSubquadratic#141"),
    *("pytorch#47562", "pytorch#72047", "pytorch#8208", "pytorch-wgan#48", "R3GAN#20", "StudioGAN#101"),
    *("style-based-gan#34", "stylegan2#9", "stylegan2-ada-pytorch#133", "timm#1304", "timm#2118"),
    *("torchattacks#21", "torchattacks#68", "vat_tf#2", "VAT-pytorch#1", "vision#4379"),
)


def test_every_address_of_the_definition_has_a_test_that_names_it() -> None:
    tests = [name for file in (sys.modules[__name__], test_traps_of_layers) for name in vars(file)]
    for address in ADDRESSES:
        words = re.sub(r"\W", "_", address.rpartition("/")[2]).lower()
        assert any(f"_{words}_" in name for name in tests if name.startswith("test_")), address


def test_pytorch_72047_unequal_parts_count_by_their_share() -> None:
    """Of the samples, or of their weights: the mean of means is another number."""
    model, (x, y) = network(), batch()
    w = td.tensor(np.random.default_rng(3).uniform(0.5, 2, B))
    objective = Objective(model, td.cross_entropy, [DataGrad(0.5)])
    objective(x, y).total.backward()
    whole = grads(model)
    model.zero_grad()
    for part in (slice(0, 2), slice(2, B)):
        (objective(x[part], y[part]).total * (x[part].shape[0] / B)).backward()
    assert_close(grads(model), whole)
    weighted = Objective(model, td.cross_entropy)
    parts = [weighted(x[p], y[p], weights=w[p]).loss * w[p].sum() for p in (slice(0, 2), slice(2, B))]
    np.testing.assert_allclose(
        (sum(parts) / w.sum()).item(), weighted(x, y, weights=w).loss.item(), rtol=1e-13
    )


@pytest.mark.parametrize("make", [GradientPenalty, Dragan, LipschitzPenalty, JacobianNorm])
def test_stylegan2_ada_pytorch_133_a_norm_at_zero_has_the_derivative_zero(make: Any) -> None:
    model = nn.Linear(D, 1).double()
    with td.no_grad():
        td.ops.update.assign(model.weight, 0.0)
    given = {} if make in (LipschitzPenalty, JacobianNorm) else {"fake": batch(1)[0]}
    found = Objective(model, score, [make()])(batch()[0], **given).penalties[0]
    (slope,) = td.grad(found, model.weight)
    assert not slope.numpy().any()


def test_r3gan_20_a_penalty_that_trains_nothing_is_an_error() -> None:
    x, y = batch()
    objective = Objective(network(), td.cross_entropy, [DataGrad(1.0)])
    with td.no_grad(), pytest.raises(td.GraphError, match="expected grad mode"):
        objective(x, y)
    frozen = network().requires_grad_(False)
    with pytest.raises(td.GraphError, match="expected a penalty that parameters can change"):
        Objective(frozen, td.cross_entropy, [DataGrad(1.0)])(x, y)

    class Cut(nn.Module):
        def forward(self, x: td.Tensor) -> td.Tensor:
            return x.detach()

    with pytest.raises(td.GraphError, match="do not depend on it"):
        Objective(nn.Sequential(Cut(), network()), td.cross_entropy, [DataGrad(1.0)])(x, y)


def test_amp_rsl_rl_58_behind_a_detached_normalizer_another_jacobian_is_asked_for_by_name() -> None:
    """∂/∂raw = ∂/∂normalized by std, and a detached one has none to give: `wrt=` says which."""
    mean, std = 0.3, 2.0

    class Normalizer(nn.Module):
        def __init__(self, detached: bool) -> None:
            super().__init__()
            self.detached = detached

        def forward(self, x: td.Tensor) -> td.Tensor:
            return ((x.detach() if self.detached else x) - mean) / std

    inner = network()
    raw = value(DataGrad(1.0), nn.Sequential(Normalizer(False), inner)).item()
    normalized = value(DataGrad(1.0, wrt="0"), nn.Sequential(Normalizer(False), inner)).item()
    np.testing.assert_allclose(raw * std**2, normalized, rtol=1e-12)
    cut = nn.Sequential(Normalizer(True), inner)
    np.testing.assert_allclose(value(DataGrad(1.0, wrt="0"), cut).item(), normalized, rtol=1e-12)
    with pytest.raises(td.GraphError, match="do not depend on it"):
        value(DataGrad(1.0), cut)


def test_pytorch_wgan_48_the_norm_is_of_a_sample_and_not_of_the_batch() -> None:
    model, x = critic(), batch()[0]
    leaf = x.detach().requires_grad_()
    g = td.grad(model(leaf).sum(), leaf)[0].numpy()
    found = Objective(model, score, [LipschitzPenalty()])(x).penalties[0].item()
    np.testing.assert_allclose(found, ((np.linalg.norm(g, axis=1) - 1) ** 2).mean(), rtol=1e-12)
    assert not np.isclose(found, (np.linalg.norm(g) - 1) ** 2)


def test_style_based_gan_34_r1_is_of_the_critic_and_not_of_its_loss() -> None:
    """With softplus in between the value would be smaller, and vanish where the critic is sure."""
    model, x = critic(), batch()[0]
    leaf = x.detach().requires_grad_()
    g = td.grad(model(leaf).sum(), leaf)[0].numpy()
    for loss in (Logistic(), score):
        found = Objective(model, loss, [R1(1.0)])(x, fake=batch(1)[0]).penalties[0].item()
        np.testing.assert_allclose(found, (g**2).sum(1).mean() / 2, rtol=1e-12)


def test_jakubovitzs_script_the_jacobian_is_every_samples_and_not_the_firsts() -> None:
    model, (x, y) = network(), batch()
    of = Objective(model, td.cross_entropy, [JacobianNorm()])
    each = [of(x[i : i + 1], y[i : i + 1]).penalties[0].item() for i in range(B)]
    np.testing.assert_allclose(of(x, y).penalties[0].item(), np.mean(each), rtol=1e-12)
    assert not np.isclose(each[0], np.mean(each))


def test_cures_code_the_difference_of_gradients_is_squared() -> None:
    """ℓ = ½‖z‖² of z = Wx has the Hessian WᵀW: h²‖WᵀWẑ‖², which h = 2 makes four times what 1 makes."""
    half = lambda z, y, reduction: (z * z).sum(1) / 2  # noqa: E731
    model, (x, y) = nn.Linear(D, M, bias=False).double(), batch()
    W = model.weight.detach().numpy()
    signs = np.sign(x.numpy() @ W.T @ W)
    directions = signs / np.linalg.norm(signs, axis=1, keepdims=True)
    expected = ((directions @ W.T @ W) ** 2).sum(1).mean()
    for h in (1.0, 2.0):
        found = Objective(model, half, [CurvaturePenalty(1.0, h)])(x, y).penalties[0].item()
        np.testing.assert_allclose(found, h**2 * expected, rtol=1e-10)


def test_spectregs_random_one_hot_draws_the_last_class_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinydl.regularizers import gradients

    drawn: list[np.ndarray] = []
    own = gradients.randint

    def kept(*given: Any, **more: Any) -> td.Tensor:
        drawn.append(own(*given, **more))
        return drawn[-1]

    monkeypatch.setattr(gradients, "randint", kept)
    for _ in range(20):
        value(OneHotGradient(1.0, "random", generator=td.Generator(len(drawn))), network())
    assert set(np.concatenate([d.numpy() for d in drawn])) == set(range(M))


# Random numbers, modes, running statistics
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.0),
        nn.Dropout2d(0.0),
        nn.AlphaDropout(0.0),
        nn.GaussianNoise(0.0),
        GaussianDropout(0.0),
        WeightNoise(nn.Linear(3, 2), 0.0),
        DropPath(0.0),
        DropBlock(0.0),
        DropConnect(3, 2, 0.0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_kornia_4407_a_layer_of_no_noise_draws_nothing(layer: nn.Module) -> None:
    x, before = td.ones(2, 3, 3, 3), streams()
    layer(x)
    assert streams() == before


@pytest.mark.parametrize(
    "term",
    [
        InputNoise(0.0),
        DisturbLabel(0.0, classes=M),
        Mixup(0.0),
        RandomErasing(0.0),
        VAT(1.0, eps=0.0),
        TRADES(1.0, eps=0.0, step_size=0.1, steps=1),
        AdversarialFeatures(1.0, layers=("0", "1"), eps=0.0),
    ],
    ids=lambda term: type(term).__name__,
)
def test_kornia_4407_a_term_of_no_noise_draws_nothing(term: Any) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(D, M))
    objective = Objective(model, td.cross_entropy, [term])
    before = term.generator.state_dict(), streams()
    objective(td.ones(2, 1, 2, 2), td.tensor([0, 1]))
    assert (term.generator.state_dict(), streams()) == before


def test_kornia_4407_an_attack_of_no_size_draws_nothing() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(D, M))
    attacked = AdversarialTraining(td.cross_entropy, functools.partial(attack.pgd, eps=0.0))
    objective = Objective(model, attacked)
    before = attacked.generator.state_dict(), streams()
    objective(td.ones(2, 1, 2, 2), td.tensor([0, 1]))
    assert (attacked.generator.state_dict(), streams()) == before


def test_torchattacks_21_modes_come_back_module_by_module_also_after_an_exception() -> None:
    model, (x, y) = network(nn.BatchNorm1d(6), nn.Dropout(0.5)), batch()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    attack.pgd(model, x, y, 0.1, steps=2)
    assert [module.training for module in model.modules()] == modes

    def broken(z: td.Tensor, y: td.Tensor, reduction: str) -> td.Tensor:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        attack.pgd(model, x, y, 0.1, steps=2, loss=broken)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpectReg(1.0, forward="second"),
        lambda: VAT(1.0, eps=1.0),
        lambda: CurvaturePenalty(1.0),
        lambda: TRADES(1.0, 0.1, 0.05, 2, mode="train"),
        lambda: RDrop(1.0),
    ],
    ids=["SpectReg", "VAT", "CurvaturePenalty", "TRADES", "RDrop"],
)
def test_sam_17_and_vat_codes_running_statistics_move_once_a_step(make: Callable[[], Any]) -> None:
    """Also gem's kernelregular.py: a second forward pass is the commonest way to spoil a BatchNorm."""
    found = []
    for terms in ([], [make()]):
        model = network(nn.BatchNorm1d(6))
        Objective(model, td.cross_entropy, terms)(*batch())
        found.append([np.array(b) for b in model.buffers()])
    assert found[1][-1] == 1  # num_batches_tracked
    assert_close(found[1], found[0], 0)


def test_vat_tf_2_both_passes_have_one_dropout_mask() -> None:
    """So that without a perturbation the divergence is exactly 0, and not that of two masks."""
    model = network(nn.Dropout(0.5))
    assert value(VAT(1.0, eps=0.0), model).item() == 0
    assert value(PiModel(1.0), model).item() > 0  # which wants two masks


def test_foolbox_74_an_attack_is_in_eval_mode_unless_asked() -> None:
    """In train mode it would attack another net at each step, and other samples' statistics."""
    model, (x, y) = network(nn.BatchNorm1d(6), nn.Dropout(0.5)), batch()
    found = attack.fgsm(model, x, y, 0.1)
    assert model.training
    leaf = x.detach().requires_grad_()
    model.eval()
    (slope,) = td.grad(td.cross_entropy(model(leaf), y), leaf)
    np.testing.assert_array_equal(found.numpy(), x.numpy() + 0.1 * np.sign(slope.numpy()))


def test_torchattacks_68_nothing_is_clipped_unless_bounds_are_given() -> None:
    """Normalized inputs lie outside [0, 1]."""
    model, (x, y) = network(), batch()
    moved = attack.fgsm(model, x, y, 0.1).numpy()
    np.testing.assert_allclose(np.abs(moved - x.numpy()), 0.1, rtol=1e-12)
    assert moved.min() < 0
    assert attack.fgsm(model, x, y, 0.1, bounds=(0.0, 1.0)).numpy().min() == 0


# Logarithms of probabilities
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: VAT(1.0, eps=1.0),
        lambda: TRADES(1.0, 0.1, 0.05, 2),
        lambda: RDrop(1.0),
        lambda: UDA(1.0, lambda x: x * 0.9),
        lambda: MART(attack=lambda *given: attack.fgsm(*given, eps=0.1)),
    ],
    ids=["VAT", "TRADES", "RDrop", "UDA", "MART"],
)
def test_vat_pytorch_1_and_art_120_divergences_are_of_logs_and_never_nan(make: Callable[[], Any]) -> None:
    """Probabilities that underflow: the log of a softmax is -inf there, 0 · -inf is NaN."""
    model = network(nn.Dropout(0.5)).float()
    with td.no_grad():
        td.ops.update.assign(model[-1].weight, model[-1].weight * 1e4)
    x, y = batch()
    terms = Objective(model, td.cross_entropy, [make()])(x.float(), y)
    terms.total.backward()
    assert np.isfinite(terms.penalties[0].item())
    assert all(np.isfinite(g).all() for g in grads(model))


def test_marts_code_the_log_of_one_minus_q_needs_no_1_0001() -> None:
    """-log(1 - q) where q is nearly 1: 9.2 at most with 1e-4 added, here the true 40."""
    model = nn.Linear(1, 2).double()
    model.load_state_dict({"weight": np.array([[20.0], [-20.0]]), "bias": np.zeros(2)})
    term = MART(0.0, attack=lambda model, x, y: x)
    found = Objective(model, term)(td.ones(1, 1, dtype="float64"), td.tensor([1])).total.item()
    np.testing.assert_allclose(found, 40 + 40, rtol=1e-12)  # -log q_y - log(1 - q_0)


def test_nvsubquadratic_141_labels_are_smoothed_once_and_only_where_asked() -> None:
    parameters = inspect.signature(td.cross_entropy).parameters
    assert parameters["label_smoothing"].default == 0
    model, (x, y) = network(), batch()
    smooth = functools.partial(td.cross_entropy, label_smoothing=0.1)
    log_p = td.log_softmax(model(x), 1).detach().numpy()
    q = 0.9 * np.eye(M)[y.numpy()] + 0.1 / M
    found = Objective(model, smooth)(x, y).loss.item()
    np.testing.assert_allclose(found, -(q * log_p).sum(1).mean(), rtol=1e-12)
