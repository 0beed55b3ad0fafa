"""Attacks on models: the optima of linear ones, what is left behind, and the units of what is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, M, assert_close, batch, network
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    TRADES,
    AdversarialFeatures,
    AdversarialTraining,
    DataGrad,
    Objective,
    attack,
)

INF = math.inf


class OneLogit(nn.Module):
    """Two logits whose difference is w·x + c."""

    def __init__(self, w: Any, c: float = 0.0) -> None:
        super().__init__()
        self.w, self.c = nn.Parameter(np.asarray(w, np.float64)), nn.Parameter(np.array(c))

    def forward(self, x: td.Tensor) -> td.Tensor:
        z = (x * self.w).sum(1) + self.c
        return td.stack([0 * z, z], 1)


def one_logit() -> tuple[OneLogit, td.Tensor, td.Tensor, np.ndarray, np.ndarray]:
    r = np.random.default_rng(0)
    w, x, y = r.standard_normal(D), r.standard_normal((B, D)), r.integers(0, 2, B)
    return OneLogit(w, 0.3), td.tensor(x), td.tensor(y), w, 2 * y - 1


def softplus(z: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(z))


def losses(model: nn.Module, x: td.Tensor, y: td.Tensor) -> np.ndarray:
    return td.cross_entropy(model(x), y, reduction="none").detach().numpy()


# Within a radius
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "norm"), [("fgsm", INF), ("pgd", INF), ("pgd", 2), ("pgd from x", INF), ("pgd from x", 2)]
)
def test_the_worst_of_a_linear_model(how: str, norm: float) -> None:
    """softplus(−y(w·x + c) + ε‖w‖), ‖·‖ the dual norm."""
    model, x, y, w, sign = one_logit()
    if how == "fgsm":
        found = attack.fgsm(model, x, y, 0.2)
    else:
        found = attack.pgd(model, x, y, 0.2, 0.1, steps=80, norm=norm, start=how == "pgd")
    dual = np.abs(w).sum() if norm == INF else np.linalg.norm(w)
    margin = sign * (x.numpy() @ w + 0.3)
    np.testing.assert_allclose(losses(model, found, y), softplus(-margin + 0.2 * dual), rtol=1e-9)
    moved = found.numpy() - x.numpy()
    length = np.abs(moved).max(1) if norm == INF else np.linalg.norm(moved, axis=1)
    assert length.max() <= 0.2 * (1 + 1e-12)
    assert not found.requires_grad


def test_adversarial_training_of_a_linear_model_has_the_gradient_of_the_worst_loss() -> None:
    """Danskin: that of softplus(−y(w·x + c) + ε‖w‖₁). At α = 0 the adversarial pass is the main one."""
    model, x, y, w, sign = one_logit()
    for_all = lambda model, x, y: attack.fgsm(model, x, y, 0.2)  # noqa: E731
    terms = Objective(model, AdversarialTraining(td.cross_entropy, for_all, 0.0))(x, y)
    z = -sign * (x.numpy() @ w + 0.3) + 0.2 * np.abs(w).sum()
    assert_close([terms.total.item()], [softplus(z).mean()])
    terms.total.backward()
    s = 1 / (1 + np.exp(-z))
    expected = (s[:, None] * (-sign[:, None] * x.numpy() + 0.2 * np.sign(w))).mean(0)
    assert_close([np.array(model.w.grad), np.array(model.c.grad)], [expected, (-sign * s).mean()])
    np.testing.assert_allclose(terms.logits.detach().numpy(), model(for_all(model, x, y)).detach().numpy())


def test_adversarial_statistics_come_from_the_main_pass() -> None:
    """Of α = 0 that is the adversarial one: once a step either way."""
    for_all = lambda model, x, y: attack.pgd(model, x, y, 0.5, steps=3)  # noqa: E731
    for alpha in (0.0, 0.5):
        model = network(nn.BatchNorm1d(6))
        x, y = batch()
        main = for_all(model, x, y) if alpha == 0 else x
        td.manual_seed(5)
        generator = td.Generator(1)
        moved = attack.pgd(model, x, y, 0.5, steps=3, generator=td.Generator(1))
        main = moved if alpha == 0 else x
        expected = 0.1 * np.array(model[0](main).detach()).mean(0)
        Objective(model, AdversarialTraining(td.cross_entropy, for_all, alpha, generator=generator))(x, y)
        assert_close([np.array(model[1].running_mean)], [expected])
        assert model[1].num_batches_tracked.item() == 1


def test_a_targeted_attack_steps_down() -> None:
    model, x, y, w, sign = one_logit()
    found = attack.fgsm(model, x, y, 0.2, targeted=True)
    assert_close([found.numpy()], [x.numpy() + 0.2 * sign[:, None] * np.sign(w)])


def test_where_there_is_no_gradient_nothing_moves() -> None:
    """sign(0) = 0, and the unit vector of 0 is 0."""
    model, (x, y) = OneLogit([0.0, 1.0, 0.0, -2.0]), batch()
    y = td.tensor(np.zeros(B, np.int64))
    moved = attack.fgsm(model, x, y, 0.5).numpy() - x.numpy()
    assert_close([moved], [np.tile([0, 0.5, 0, -0.5], (B, 1))])
    still = OneLogit([0.0] * 4)
    assert_close([attack.pgd(still, x, y, 0.5, norm=2, start=False).numpy()], [x.numpy()])


def test_bounds_are_asked_for() -> None:
    """Normalized data lie outside [0, 1]: without bounds nothing is clipped."""
    model, x, y, *_ = one_logit()
    free = attack.pgd(model, x, y, 0.3, generator=td.Generator(1)).numpy()
    assert free.min() < -0.5
    assert free.max() > 1.2
    inside = attack.pgd(model, x, y, 0.3, bounds=(0, 1), generator=td.Generator(1)).numpy()
    assert inside.min() == 0
    assert inside.max() == 1


def colours(scale: np.ndarray, shift: np.ndarray) -> nn.Module:
    """A net on pixels that normalizes them itself where scale is not 1."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            td.manual_seed(7)
            self.body = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 9, M)
            ).double()

        def forward(self, x: td.Tensor) -> td.Tensor:
            return self.body((x - td.tensor(shift)) / td.tensor(scale))

    return Net()


@pytest.mark.parametrize("norm", [INF, 2])
def test_an_attack_on_pixels_is_one_on_normalized_inputs_with_its_eps_by_std(norm: float) -> None:
    r = np.random.default_rng(0)
    std = np.array([0.2, 0.3, 0.5]) if norm == INF else np.full(3, 0.4)
    mean, one, zero = np.array([0.5, 0.4, 0.3]), np.ones((3, 1, 1)), np.zeros((3, 1, 1))
    pixels, y = r.uniform(size=(4, 3, 5, 5)), td.tensor(r.integers(0, M, 4))
    s, m = std.reshape(3, 1, 1), mean.reshape(3, 1, 1)
    options: dict[str, Any] = {"steps": 5, "norm": norm, "start": False}
    raw = attack.pgd(colours(s, m), td.tensor(pixels), y, 0.1, 0.04, bounds=(0, 1), **options).numpy()
    eps, step = (0.1 / std, 0.04 / std) if norm == INF else (0.25, 0.1)
    bounds = (tuple(-mean / std), tuple((1 - mean) / std))
    x = td.tensor((pixels - m) / s)
    normalized = attack.pgd(colours(one, zero), x, y, eps, step, bounds=bounds, **options).numpy()
    np.testing.assert_allclose(normalized * s + m, raw, atol=1e-12)


@pytest.mark.parametrize("norm", [INF, 2])
def test_starts_are_uniform_in_the_box_or_the_ball(norm: float) -> None:
    n = 20_000
    x = td.zeros(n, 3, dtype="float64")
    start = attack.pgd(OneLogit([1.0] * 3), x, td.zeros(n, dtype="int64"), 0.5, steps=0, norm=norm).numpy()
    share = np.abs(start).max(1) / 0.5 if norm == INF else np.linalg.norm(start, axis=1) / 0.5
    np.testing.assert_allclose((share**3).mean(), 0.5, atol=5 * np.sqrt(1 / 12 / n))
    np.testing.assert_allclose(start.mean(0), 0, atol=0.02)


def test_restarts_keep_the_worst_of_each_sample() -> None:
    """Losses on a bumpy net rise with the restarts, sample by sample."""
    td.manual_seed(3)
    model = nn.Sequential(nn.Linear(D, 30), nn.Tanh(), nn.Linear(30, M)).double()
    model[0].load_state_dict({"weight": 6 * np.array(model[0].weight)}, strict=False)
    x, y = batch()
    alone = []
    generator = td.Generator(2)
    for _ in range(5):
        alone.append(losses(model, attack.pgd(model, x, y, 1.0, steps=3, generator=generator), y))
    worst = attack.pgd(model, x, y, 1.0, steps=3, restarts=5, generator=td.Generator(2))
    np.testing.assert_allclose(losses(model, worst, y), np.max(alone, 0))
    assert len(set(np.argmax(alone, 0))) > 1


# Minimal norms
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [2, INF])
def test_deepfool_on_a_linear_model_is_one_exact_step(norm: float) -> None:
    """To the nearest of the boundaries, |f_k − f_c| by the dual norm of w_k − w_c, and nothing on top."""
    model = nn.Linear(D, M).double()
    x, _ = batch()
    found = attack.deepfool(model, x, norm, steps=1, overshoot=1e-9)
    W, c = (np.array(p) for p in model.parameters())
    z = x.numpy() @ W.T + c
    label = z.argmax(1)
    gaps = z[range(B), label][:, None] - z
    w = W[None] - W[label][:, None]
    size = np.linalg.norm(w, axis=2) if norm == 2 else np.abs(w).sum(2)
    distance = np.where(gaps > 0, gaps / np.where(size > 0, size, 1), INF).min(1)
    np.testing.assert_allclose(found.distance.numpy(), distance, rtol=1e-8)
    assert (model(found.x).detach().numpy().argmax(1) != label).all()
    fooled = attack.deepfool(network(), x)
    assert np.isfinite(fooled.distance.numpy()).all()


def test_nothing_found_is_an_infinite_distance() -> None:
    class Constant(nn.Module):
        def forward(self, x: td.Tensor) -> td.Tensor:
            return td.stack([1 + 0 * x.sum(1), 0 * x.sum(1)], 1)

    x, zeros = td.ones(2, D, dtype="float64") * 0.5, td.tensor([0, 0])
    for found in (
        attack.deepfool(Constant(), x, steps=3),
        attack.cw(Constant(), x, zeros, steps=3, bisections=2),
        attack.lbfgs(Constant(), x, td.tensor([1, 1]), iterations=3, bisections=2),
    ):
        assert found.distance.tolist() == [INF, INF]
        np.testing.assert_array_equal(found.x.numpy(), x.numpy())


@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_cw_on_a_linear_model(kappa: float) -> None:
    """(margin + κ)/‖w‖ away, once c is large enough; already wrong samples need nothing."""
    model, x, y, w, sign = one_logit()
    quick: dict[str, Any] = {"steps": 150, "lr": 0.03, "c": 0.1, "bisections": 6}
    found = attack.cw(model, x, y, kappa, bounds=None, **quick)
    margin = sign * (x.numpy() @ w + 0.3)
    expected = np.maximum(margin + kappa, 0) / np.linalg.norm(w)
    np.testing.assert_allclose(found.distance.numpy(), expected, rtol=0.02, atol=0.01)
    inside = attack.cw(model, td.clip(x, 0, 1), y, **quick)
    assert inside.x.numpy().min() >= 0
    assert inside.x.numpy().max() <= 1
    away = model(inside.x).detach().numpy().argmax(1) != y.numpy()
    assert (away == np.isfinite(inside.distance.numpy())).all()
    assert away.any()
    towards = attack.cw(model, x, 1 - y, targeted=True, bounds=None, **quick)
    np.testing.assert_allclose(
        towards.distance.numpy(), np.maximum(margin, 0) / np.linalg.norm(w), rtol=0.02, atol=0.01
    )


def test_lbfgs_on_a_linear_model() -> None:
    """The margin by ‖w‖: c‖r‖ + softplus(margin − ‖w‖‖r‖) turns over where c = ‖w‖/2."""
    model, x, y, w, sign = one_logit()
    found = attack.lbfgs(model, x, 1 - y)
    margin = sign * (x.numpy() @ w + 0.3)
    expected = np.maximum(margin, 0) / np.linalg.norm(w)
    np.testing.assert_allclose(found.distance.numpy(), expected, rtol=0.01, atol=1e-6)
    inside = attack.lbfgs(model, td.clip(x, 0, 1), 1 - y, bounds=(0, 1))
    assert inside.x.numpy().min() >= 0
    assert inside.x.numpy().max() <= 1
    assert np.isfinite(inside.distance.numpy()).any()


@pytest.mark.parametrize("norm", [2, INF])
def test_one_perturbation_for_all(norm: float) -> None:
    model, x, _, w, _ = one_logit()
    inputs = td.tensor(np.abs(x.numpy() @ w + 0.3)[:, None] * w / (w @ w))  # all of one class
    eps = float(np.abs(inputs.numpy()).max() if norm == INF else np.linalg.norm(inputs.numpy(), axis=1).max())
    r = attack.universal(model, inputs, 2 * eps, norm)
    length = np.abs(r.numpy()).max() if norm == INF else np.linalg.norm(r.numpy())
    assert r.shape == (1, D)
    assert length <= 2 * eps * (1 + 1e-12)
    clean, moved = (model(each).detach().numpy().argmax(1) for each in (inputs, inputs + r))
    assert (clean != moved).mean() >= 0.8


# What is left behind, and what is refused
# ------------------------------------------------------------------------------------------------------------


ATTACKS: dict[str, Callable[..., Any]] = {
    "fgsm": lambda model, x, y, **more: attack.fgsm(model, x, y, 0.3, **more),
    "pgd": lambda model, x, y, **more: attack.pgd(model, x, y, 0.3, restarts=2, **more),
    "deepfool": lambda model, x, y, **more: attack.deepfool(model, x, steps=3, **more).x,
    "cw": lambda model, x, y, **more: attack.cw(model, x, y, steps=3, bisections=2, **more).x,
    "lbfgs": lambda model, x, y, **more: attack.lbfgs(model, x, y, iterations=2, bisections=1, **more).x,
    "universal": lambda model, x, y, **more: attack.universal(model, x, 0.3, passes=1, **more),
}


@pytest.mark.parametrize("mode", ["eval", "train", None])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_leaves_no_trace(name: str, mode: Any) -> None:
    """Modes module by module, also after an exception; running statistics, streams, `.grad`; in no_grad
    too.
    """
    alone = mode == "train" and name in ("lbfgs", "universal")  # one sample at a time: no batch statistics
    model = network(nn.LayerNorm(6) if alone else nn.BatchNorm1d(6), nn.Dropout(0.5))
    model[1].eval()
    modes = [m.training for m in model.modules()]
    buffers = [np.array(b).tobytes() for b in model.buffers()]
    x, y = batch()
    streams = td.noise_generator.state_dict(), td.default_generator.state_dict()
    with td.no_grad():
        ATTACKS[name](model, x, y, mode=mode, generator=td.Generator(1))

    def stop(*_: Any) -> None:
        raise RuntimeError

    remove = model[3].register_forward_hook(stop)
    with pytest.raises(RuntimeError):
        ATTACKS[name](model, x, y, mode=mode, generator=td.Generator(1))
    remove()
    assert [m.training for m in model.modules()] == modes
    assert [np.array(b).tobytes() for b in model.buffers()] == buffers
    assert (td.noise_generator.state_dict(), td.default_generator.state_dict()) == streams
    assert all(p.grad is None for p in model.parameters())


def test_the_mode_is_eval_unless_another_is_asked_for() -> None:
    model, (x, y), seen = network(nn.Dropout(0.5)), batch(), []
    model[1].register_forward_hook(lambda module, *_: seen.append(module.training))
    for mode in ("eval", "train", None):
        model[1].train(mode is None)
        attack.fgsm(model, x, y, 0.1, **({} if mode == "eval" else {"mode": mode}))
    assert seen == [False, True, True]
    with pytest.raises(ValueError, match=r"attack: expected mode in \(None, 'train', 'eval'\), got 'test'"):
        attack.fgsm(model, x, y, 0.1, mode="test")


def test_an_attack_in_train_mode_draws_from_its_generator() -> None:
    model, (x, y) = network(nn.Dropout(0.5)), batch()
    one, two, three = (
        attack.pgd(model, x, y, 0.3, mode="train", generator=td.Generator(seed)).numpy() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()


@pytest.mark.parametrize(
    ("refused", "error", "message"),
    [
        (lambda m, x, y: attack.pgd(m, x, y, -0.1), ValueError, "pgd: expected eps of at least 0, got -0.1"),
        (lambda m, x, y: attack.pgd(m, x, y, 0.1, norm=1), ValueError, r"pgd: expected norm in \(2, inf\)"),
        (lambda m, x, y: attack.pgd(m, x, y, [0.1] * 4, norm=2), ValueError, "pgd: expected eps as a number"),
        (
            lambda m, x, y: attack.pgd(m, x, y, [0.1] * 3),
            ShapeError,
            "pgd: expected eps as a number or one",
        ),
        (lambda m, x, y: attack.pgd(m, x, y, 0.1, restarts=0), ValueError, "pgd: expected steps of at least"),
        (lambda m, x, y: attack.pgd(m, (x, x), y, 0.1), ShapeError, r"pgd: expected one input \(B, \*\)"),
        (lambda m, x, y: attack.fgsm(m, y, y, 0.1), DtypeError, "fgsm: expected a floating input to perturb"),
        (lambda m, x, y: attack.deepfool(m, x, 1), ValueError, "deepfool: expected norm in"),
        (lambda m, x, y: attack.cw(m, x, y, -1.0), ValueError, "cw: expected kappa of at least 0, c above 0"),
        (lambda m, x, y: attack.lbfgs(m, x, y, iterations=0), ValueError, "lbfgs: expected iterations of"),
        (lambda m, x, y: attack.universal(m, x, -1.0), ValueError, "universal: expected eps of at least 0"),
    ],
)
def test_refusals(refused: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        refused(network(), *batch())


@pytest.mark.parametrize("name", ["deepfool", "cw", "lbfgs", "universal"])
def test_minimal_norms_are_not_for_recorded_steps(name: str) -> None:
    model, (x, y) = network(), batch()
    if name == "cw":  # reads nothing on the host
        play = td.record(lambda x, y: ATTACKS["cw"](model, x, y))
        np.testing.assert_array_equal(play(x, y).numpy(), ATTACKS["cw"](model, x, y).numpy())
        return
    with pytest.raises(
        GraphError, match="attack: expected no recorded step around an attack of minimal norm"
    ):
        td.record(lambda x, y: ATTACKS[name](model, x, y))(x, y)


# As terms
# ------------------------------------------------------------------------------------------------------------


def test_adversarial_features_of_several_layers_draw_one_each_call() -> None:
    """A branch on the host: refused in a recorded step, which takes one layer."""
    model, (x, y) = network(), batch()
    term = AdversarialFeatures(1.0, ("0", "1"), 0.5, generator=td.Generator(3))
    objective, drawn = Objective(model, td.cross_entropy, [term]), []
    own = term.adversary
    term.adversary = lambda seen: drawn.append(own(seen)) or drawn[-1]  # type: ignore[method-assign, func-returns-value]
    for _ in range(12):
        objective(x, y)
    assert {layer for layer, _ in drawn} == {"0", "1"}
    for layer, r in drawn:
        h = model[0](x) if layer == "0" else model[1](model[0](x))
        assert_close([np.linalg.norm(r.numpy(), axis=1)], [0.5 * np.linalg.norm(h.detach().numpy(), axis=1)])


def test_adversarial_training_lets_terms_see_the_losses() -> None:
    model, (x, y) = network(), batch()
    quick = lambda *given: attack.fgsm(*given, 0.1)  # noqa: E731
    terms = Objective(model, AdversarialTraining(td.cross_entropy, quick), [DataGrad(1.0)])(x, y)
    alone = Objective(model, td.cross_entropy, [DataGrad(1.0)])(x, y)
    assert terms.penalties[0].item() == alone.penalties[0].item()


def test_trades_sees_the_running_statistics_as_the_main_pass_left_them() -> None:
    model, (x, y) = network(nn.BatchNorm1d(6)), batch()
    term = TRADES(1.0, 0.5, 0.2, steps=1, generator=td.Generator(1))
    used = []
    model[1].register_forward_hook(
        lambda module, *_: used.append((module.training, np.array(module.running_mean)))
    )
    Objective(model, td.cross_entropy, [term])(x, y)
    assert [training for training, _ in used] == [True, False, False, True]
    for _, running in used:
        np.testing.assert_array_equal(running, np.array(model[1].running_mean))
    assert np.abs(used[1][1]).max() > 0


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_errors_are_of_the_function_that_was_called(name: str) -> None:
    model, attacked = nn.Linear(4, 3), getattr(attack, name)
    y = td.tensor([0, 1])
    with pytest.raises(td.ShapeError, match=rf"^{name}: expected one input \(B, \*\) to perturb, got 2"):
        attacked(model, (td.ones(2, 4), td.ones(2, 4)), y, 0.1)
    with pytest.raises(ValueError, match=rf"^{name}: expected eps of at least 0, got -1"):
        attacked(model, td.ones(2, 4), y, -1)
    with pytest.raises(td.ShapeError, match=rf"^{name}: expected eps as a number or one per channel"):
        attacked(model, td.ones(2, 4), y, (0.1, 0.2))
    with pytest.raises(td.ShapeError, match=rf"^{name}: expected bounds as a number or one per channel"):
        attacked(model, td.ones(2, 4), y, 0.1, bounds=((0.0, 0.1), 1.0))
