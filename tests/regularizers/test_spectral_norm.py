"""Spectral normalization: values, the derivative, what moves u and v and what does not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from penalized import D, M, assert_close, batch

import tinydl as td
from tinydl import nn
from tinydl.regularizers import Objective, SpectReg, remove_spectral_norm, spectral_norm


def linear() -> nn.Module:
    td.manual_seed(1)
    return spectral_norm(nn.Linear(D, M).double())


def sigma(module: nn.Module, axis: int = 0) -> float:
    w = np.moveaxis(np.array(module.weight.detach()), axis, 0)
    return float(np.linalg.svd(w.reshape(len(w), -1))[1][0])


def vectors(module: nn.Module) -> list[np.ndarray]:
    return [np.array(module.weight_u), np.array(module.weight_v)]


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [
        (nn.Linear(4, 3), (2, 4), 0),
        (nn.Conv2d(4, 3, 2), (2, 4, 3, 3), 0),
        (nn.ConvTranspose2d(4, 3, 2), (2, 4, 3, 3), 1),
    ],
)
def test_the_largest_singular_value_is_one(layer: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    layer = spectral_norm(layer.double())
    np.testing.assert_allclose(sigma(layer, axis), 1, rtol=1e-12)
    layer(td.ones(*shape).double())
    assert {name for name, _ in layer.named_parameters()} == {"weight_orig", "bias"}
    assert {name for name, _ in layer.named_buffers()} == {"weight_u", "weight_v"}


def test_the_derivative_is_that_of_exact_vectors_and_orthogonal_to_w() -> None:
    """(G - ⟨G, W̄⟩ uvᵀ)/σ."""
    layer, (x, _) = linear().eval(), batch()
    W = np.array(layer.weight_orig.detach())
    left, s, right = np.linalg.svd(W)
    g = td.grad(td.square(layer(x)).sum(), layer.weight_orig)[0].numpy()
    bar = W / s[0]
    G = 2 * (x.numpy() @ bar.T + np.array(layer.bias.detach())).T @ x.numpy()
    expected = (G - (G * bar).sum() * np.outer(left[:, 0], right[0])) / s[0]
    np.testing.assert_allclose(g, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose((g * W).sum(), 0, atol=1e-12)


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    layer, r = linear(), np.random.default_rng(3)
    theirs = torch.nn.utils.spectral_norm(torch.nn.Linear(D, M).double())
    with td.no_grad():
        td.ops.update.assign(layer.weight_orig, r.standard_normal((M, D)))
    state = {name: torch.tensor(np.array(p)) for name, p in layer.state_dict().items()}
    theirs.load_state_dict(state)
    for i in range(3):
        x = batch(i)[0]
        updated(layer)
        ours, their = layer(x), theirs(torch.tensor(x.numpy()))
        np.testing.assert_allclose(ours.detach().numpy(), their.detach().numpy(), rtol=1e-12)
        g = torch.autograd.grad(their.sin().sum(), theirs.weight_orig)[0]
        np.testing.assert_allclose(
            td.grad(td.sin(ours).sum(), layer.weight_orig)[0].numpy(), g.numpy(), rtol=1e-10
        )
    assert_close(vectors(layer), [theirs.weight_u.numpy(), theirs.weight_v.numpy()], 1e-10)


def updated(layer: nn.Module) -> None:
    """As an optimizer's step of length 0."""
    with td.no_grad():
        td.ops.update.assign(layer.weight_orig, layer.weight_orig)


def moved_away() -> nn.Module:
    layer = linear()
    with td.no_grad():
        td.ops.update.assign(layer.weight_orig, np.random.default_rng(3).standard_normal((M, D)))
    return layer


def test_u_moves_once_an_update_and_nowhere_else() -> None:
    layer, (x, y) = moved_away(), batch()
    before = vectors(layer)
    layer.eval()(x)
    layer.train()
    with nn.extra_forward():
        layer(x)
    assert layer.weight.shape == (M, D)  # reading it
    assert_close(vectors(layer), before, 0)
    once = moved_away()
    once(x)
    assert (vectors(once)[0] != before[0]).any()
    Objective(layer, td.cross_entropy, [SpectReg(1.0, forward="second")])(x, y)
    assert_close(vectors(layer), vectors(once), 0)
    again = moved_away()
    nn.checkpoint(again, x).sum().backward()
    assert_close(vectors(again), vectors(once), 0)


@pytest.mark.parametrize("wrap", [lambda step: step, td.record], ids=["eager", "recorded"])
def test_micro_batches_of_a_step_move_it_once(wrap: Any) -> None:
    """So that their gradients are those of the whole batch, whatever ran before the step was recorded."""
    found = []
    for parts in ([slice(0, 6)], [slice(0, 2), slice(2, 6)]):
        layer = moved_away()
        optimizer = td.optim.SGD(layer.parameters(), 0.1)
        layer(batch()[0])

        def step(
            x: td.Tensor, y: td.Tensor, layer: Any = layer, optimizer: Any = optimizer, parts: Any = parts
        ) -> None:
            optimizer.zero_grad()
            for part in parts:
                (td.cross_entropy(layer(x[part]), y[part], reduction="sum") / 6).backward()
            optimizer.step()

        play = wrap(step)
        for i in range(3):
            play(*batch(i))
        found.append([*vectors(layer), np.array(layer.weight_orig.detach())])
        assert len({v.tobytes() for v in (vectors(moved_away())[0], vectors(layer)[0])}) == 2
    assert_close(found[1], found[0], 1e-11)


def test_a_module_that_has_moved_is_copied_and_pickled() -> None:
    """Also within a recorded step; the copy goes on as the layer does."""
    layer, (x, _) = moved_away(), batch()
    td.record(lambda x: layer(x))(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(vectors(other), vectors(layer), 0)
        updated(other)
        other(x)
        assert (vectors(other)[0] != vectors(layer)[0]).any()


def test_u_converges_over_updates() -> None:
    layer, x = moved_away(), batch()[0]
    exact = np.linalg.svd(np.array(layer.weight_orig.detach()))[1][0]
    for _ in range(200):
        updated(layer)
        layer(x)
    w = np.array(layer.weight_orig.detach()) / np.array(layer.weight.detach())
    np.testing.assert_allclose(w, exact, rtol=1e-9)


def test_a_second_forward_does_not_spoil_the_first_ones_backward() -> None:
    """A critic sees real samples, then fakes, before one backward."""
    layer, (x, _) = moved_away(), batch()
    first = layer(x).sum()
    layer(2 * x)
    found = td.grad(first, layer.weight_orig)[0].numpy()
    fresh = moved_away()
    wanted = td.grad(fresh(x).sum(), fresh.weight_orig)[0].numpy()
    assert found.tobytes() == wanted.tobytes()


def test_recorded_as_eager_bit_for_bit() -> None:
    found: list[Any] = []
    for wrap in (lambda step: step, td.record):
        layer = moved_away()
        optimizer = td.optim.SGD(layer.parameters(), 0.1)

        def step(
            x: td.Tensor, y: td.Tensor, layer: nn.Module = layer, optimizer: Any = optimizer
        ) -> td.Tensor:
            optimizer.zero_grad()
            loss = td.cross_entropy(layer(x), y)
            loss.backward()
            optimizer.step()
            return loss

        play = wrap(step)
        found.append([play(*batch(i)).item() for i in range(4)])
        found[-1] += [np.array(v).tobytes() for v in layer.state_dict().values()]
    assert found[0] == found[1]


def test_baking_keeps_the_outputs() -> None:
    """pytorch issue 8208."""
    layer, x = moved_away(), batch()[0]
    layer(x)
    expected = layer.eval()(x).detach().numpy()
    baked = remove_spectral_norm(layer)
    assert_close([baked(x).detach().numpy(), baked.train()(x).detach().numpy()], [expected] * 2)
    assert [name for name, _ in baked.named_parameters()] == ["bias", "weight"]
    assert not list(baked.buffers())
    assert len(baked._forward_pre_hooks) == 0


def test_misuse_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"^spectral_norm: expected a matrix of Linear \(weight\), got 'bias'"
    ):
        spectral_norm(nn.Linear(D, M), "bias")
    zero = nn.Linear(D, M)
    nn.init.zeros_(zero.weight)
    with pytest.raises(ValueError, match=r"^spectral_norm: expected weight other than zero"):
        spectral_norm(zero)
    with pytest.raises(ValueError, match=r"^remove_spectral_norm: expected a parameter under spectral_norm"):
        remove_spectral_norm(nn.Linear(D, M))
