"""Mistakes with an address, of layers, mixed samples and several steps: as test_traps.py."""

from __future__ import annotations

import numpy as np
import pytest
from penalized import B, D, batch, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    SRIP,
    CutMix,
    DataGrad,
    DropBlock,
    DropConnect,
    DropPath,
    Mixup,
    Objective,
    PCGrad,
    RDrop,
    attack,
    remove_spectral_norm,
    spectral_norm,
)
from tinydl.regularizers.noise import block_rate

# Layers and weights
# ------------------------------------------------------------------------------------------------------------


def test_pytorch_8208_spectral_norm_in_evaluation_and_baked_is_the_trained_layer() -> None:
    layer, x = spectral_norm(nn.Linear(D, 5)), td.randn(3, D, generator=td.Generator(1))
    for _ in range(3):
        layer(x)
    layer.eval()
    first = layer(x).detach().numpy()
    np.testing.assert_array_equal(layer(x).detach().numpy(), first)
    baked = remove_spectral_norm(layer)
    np.testing.assert_allclose(baked.train()(x).detach().numpy(), first, rtol=1e-6)


def test_srips_code_the_smaller_gram_matrix_is_alive_and_sigma_is_not_squared() -> None:
    """On the larger one σ is 1 with no derivative as long as all s² ≤ 2."""
    model = nn.Linear(6, 3, bias=False).double()
    s = np.array([1.3, 1.0, 0.8])
    r = np.random.default_rng(0)
    U, V = (np.linalg.qr(r.standard_normal((n, n)))[0] for n in (3, 6))
    model.load_state_dict({"weight": U @ np.diag(s) @ V[:3]})
    found = Objective(model, td.cross_entropy, [SRIP(1.0, 60)])(
        td.ones(2, 6, dtype="float64"), td.tensor([0, 1])
    ).penalties[0]
    np.testing.assert_allclose(found.item(), 1.3**2 - 1, rtol=1e-6)
    assert np.abs(td.grad(found, model.weight)[0].numpy()).max() > 0.1


def test_timm_2118_dropconnect_drops_weights_and_droppath_samples() -> None:
    x = td.ones(64, 4)
    connected = DropConnect(4, 3, 0.5, bias=False, generator=td.Generator(1))(x).detach().numpy()
    path = DropPath(0.5, generator=td.Generator(1))(x).numpy()
    assert {tuple(row) for row in path} == {(0.0,) * 4, (2.0,) * 4}  # a sample is there or not
    assert len({tuple(row) for row in connected}) > 8  # masks of 12 weights


def test_dropblocks_paper_its_rate_drops_too_little() -> None:
    """7 x 7 with blocks of 3: .0947 for .1 by the paper's γ, by exact count."""
    counts = np.zeros((7, 7))
    for i in range(5):
        for j in range(5):
            counts[i : i + 3, j : j + 3] += 1
    share = lambda rate: (1 - (1 - rate) ** counts).mean()  # noqa: E731
    assert round(share(0.1 * 49 / 9 / 25), 4) == 0.0947
    np.testing.assert_allclose(share(block_rate(0.1, (7, 7), (3, 3))), 0.1, rtol=1e-12)


def test_torchvisions_dropblock_the_normalizer_is_a_samples_own() -> None:
    """By the batch's, one sample's mask would scale another."""
    layer = DropBlock(0.3, 2, generator=td.Generator(3))
    y = layer(td.ones(8, 1, 6, 6)).numpy()
    np.testing.assert_allclose(y.mean((1, 2, 3)), 1, rtol=1e-6)


# Mixed samples
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5])
def test_vision_4379_and_timm_1304_partners_are_a_permutation_of_any_number(n: int) -> None:
    """flip(0) would always mix the middle one of five with itself, and needs an even number."""
    x, y = td.tensor(np.arange(1.0, n + 1)[:, None]), td.tensor(np.arange(n))
    own = np.zeros(n)
    term, model = Mixup(1.0, generator=td.Generator(2)), nn.Linear(1, n)
    for _ in range(60):
        _, target = term.before(model, x, y)
        assert sorted(target.b.numpy()) == list(range(n))
        own += target.b.numpy() == np.arange(n)
    assert n == 1 or own.max() < 30  # each about 60/5


def test_clovaais_cutmix_height_and_width_are_not_mixed_up() -> None:
    """A wide image: the box has its proportions, and the share counts its pixels."""
    x = np.zeros((2, 1, 4, 40), np.float32)
    x[1] = 1
    term, widest = CutMix(1.0, generator=td.Generator(1)), 0
    for _ in range(40):
        mixed, target = term.before(nn.Flatten(), td.tensor(x), td.tensor([0, 1]))
        if target.b.numpy()[0] == 0:
            continue
        box = mixed.numpy()[0, 0]
        rows, columns = box.any(1).sum(), box.any(0).sum()
        assert box.sum() == rows * columns
        np.testing.assert_allclose(target.share.numpy()[0], 1 - rows * columns / 160, rtol=1e-6)
        widest = max(widest, columns)
    assert widest > 10  # more than the height


# Several steps, several tasks
# ------------------------------------------------------------------------------------------------------------


def test_studiogan_101_a_lazy_penalty_weighs_its_interval() -> None:
    model, (x, y) = network(), batch()
    every = Objective(model, td.cross_entropy, [DataGrad(0.5)])
    lazy = Objective(model, td.cross_entropy, [DataGrad(0.5, every=4)])
    expected = (every(x, y).total - every(x, y).loss).item()
    found = [lazy(x, y, due=lazy.due(i)) for i in range(4)]
    np.testing.assert_allclose(np.mean([(t.total - t.loss).item() for t in found]), expected, rtol=1e-12)


def test_stylegan2_9_all_micro_batches_of_a_due_step_have_the_penalty() -> None:
    model, (x, y) = network(), batch()
    objective = Objective(model, td.cross_entropy, [DataGrad(0.5, every=2)])
    for due in (True, False):
        parts = [objective(x[part], y[part]) for part in (slice(0, 3), slice(3, B))]
        assert all((terms.penalties[0] is not None) is due for terms in parts)
        objective.after()


def test_pcgrads_code_its_order_is_random_and_not_a_shuffled_copy_thrown_away() -> None:
    """Three gradients that all oppose each other: orders give other sums."""
    p = nn.Parameter(np.array([1.0, 1.0, 1.0]))
    A = np.array([[1.0, -0.9, 0.2], [-0.8, 1.0, -0.4], [-0.3, -0.5, 1.0]])
    sums = set()
    for seed in range(12):
        p.grad = None
        PCGrad(td.Generator(seed))([(p * td.tensor(row)).sum() for row in A], [p])
        sums.add(tuple(np.round(p.grad.numpy(), 9)))
    assert len(sums) > 1


def test_r_drops_readme_halves_both_losses_that_the_paper_adds() -> None:
    """As a loss it is the code's: ½(CE + CE'), so that without dropout it is CE."""
    model = network()
    found = Objective(model, RDrop(3.0, td.cross_entropy))(*batch()).total.item()
    np.testing.assert_allclose(found, Objective(model, td.cross_entropy)(*batch()).loss.item(), rtol=1e-13)


def test_deepfools_code_adds_nothing_to_the_distance() -> None:
    """On a linear model the step ends on the boundary, times 1 + overshoot: no 1e-4 beside it."""
    model = nn.Linear(D, 2).double()
    x = batch()[0]
    found = attack.deepfool(model, x, overshoot=1e-9)
    z = model(td.tensor(found.x.numpy())).detach().numpy()
    np.testing.assert_allclose(z[:, 0], z[:, 1], rtol=0, atol=1e-7)
