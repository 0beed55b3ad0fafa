"""SAM and ASAM: where they climb to, that they come back, and that a step leaves the traces of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError
from wrapped import Loop, plain, require_recorded_is_eager, require_resumes

import tinydl as td
from tinydl import nn
from tinydl.optim import ASAM, SAM, SGD, Adam
from tinydl.optim.lr_scheduler import StepLR
from tinydl.regularizers import L2, GradientNorm, Objective

KINDS = {
    "SAM": lambda base: SAM(base, 0.1),
    "ASAM": lambda base: ASAM(base, 0.7),
    "ASAM eta": lambda base: ASAM(base, 0.7, eta=0.01),
    "SAM, a share": lambda base: SAM(base, 0.1, alpha=0.8),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, lr: float = 0.1) -> Any:
    return lambda params: KINDS[kind](SGD(params, lr=lr, momentum=0.9, weight_decay=0.05))


# What it computes
# ------------------------------------------------------------------------------------------------------------


def test_on_a_parabola() -> None:
    """The gradient of xᵀAx / 2 at x + e is Ax + rho A Ax / ‖Ax‖."""
    random = np.random.default_rng(0)
    root = random.standard_normal((4, 4))
    a, start = root @ root.T, random.standard_normal(4)
    x = nn.Parameter(start)
    optimizer = SAM(SGD([x], lr=1.0), rho=0.3)

    def closure() -> td.Tensor:
        loss = (x * (td.tensor(a) @ x)).sum() / 2.0
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    g = a @ start
    np.testing.assert_allclose(loss.item(), start @ g / 2, rtol=1e-12)
    expected = g + 0.3 * a @ g / np.linalg.norm(g)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(x.numpy(), start - expected, rtol=1e-12)


def gradients(w: np.ndarray, b: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """Of the mean of (tanh(x w + b) - 0.5)²."""
    y = np.tanh(x @ w + b)
    d = 2 * (y - 0.5) * (1 - y * y) / y.size
    return [x.T @ d, d.sum(0)]


@pytest.mark.parametrize("kind", ["SAM", "ASAM", "ASAM eta"])
def test_trajectory(kind: str, backend: str) -> None:
    """60 steps of a net beside NumPy."""
    random = np.random.default_rng(0)
    arrays, velocities = [random.standard_normal((3, 4)), random.standard_normal(4)], [0.0, 0.0]
    w, b = params = [nn.Parameter(x) for x in arrays]
    optimizer = made(kind)(params)
    eta = {"SAM": None, "ASAM": 0.0, "ASAM eta": 0.01}[kind]
    for _ in range(60):
        x = random.standard_normal((6, 3))

        def closure(x: np.ndarray = x) -> td.Tensor:
            optimizer.zero_grad()
            loss = ((td.tensor(x) @ w + b).tanh() - 0.5).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        sizes = [np.ones(p.shape) if eta is None else np.abs(p) + eta for p in arrays]
        scaled = [s * g for s, g in zip(sizes, gradients(*arrays, x), strict=True)]
        length = np.sqrt(sum((g * g).sum() for g in scaled))
        near = [
            p + optimizer.rho * s * g / (length + 1e-12)
            for p, s, g in zip(arrays, sizes, scaled, strict=True)
        ]
        grads = [g + 0.05 * p for g, p in zip(gradients(*near, x), arrays, strict=True)]
        velocities = [0.9 * v + g for v, g in zip(velocities, grads, strict=True)]
        arrays = [p - 0.1 * v for p, v in zip(arrays, velocities, strict=True)]
    for p, expected in zip(params, arrays, strict=True):
        np.testing.assert_allclose(p.numpy(), expected, rtol=1e-12, atol=1e-13)


def climbed(optimizer: Any, grads: list[np.ndarray]) -> list[np.ndarray]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.numpy().copy() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = td.tensor(g)
    optimizer.first_step()
    return [p.numpy() - was for p, was in zip(params, before, strict=True)]


def test_lengths_and_scales() -> None:
    """‖e‖ = rho; of ASAM ‖e / |param|‖ = rho, and scaled parameters (whose gradients scale inversely) give a
    scaled e.
    """
    random = np.random.default_rng(0)
    arrays, grads, scales = ([random.standard_normal(n) for n in (4, 7)] for _ in range(3))
    e = climbed(SAM(SGD([nn.Parameter(p) for p in arrays]), 0.2), grads)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(e)), 0.2, rtol=1e-9)
    e = climbed(ASAM(SGD([nn.Parameter(p) for p in arrays]), 0.2), grads)
    relative = np.concatenate([x / np.abs(p) for x, p in zip(e, arrays, strict=True)])
    np.testing.assert_allclose(np.linalg.norm(relative), 0.2, rtol=1e-9)
    scaled = climbed(
        ASAM(SGD([nn.Parameter(s * p) for s, p in zip(scales, arrays, strict=True)]), 0.2),
        [g / s for s, g in zip(scales, grads, strict=True)],
    )
    for a, s, b in zip(scaled, scales, e, strict=True):
        np.testing.assert_allclose(a, s * b, rtol=1e-9)


# What it leaves
# ------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("wrap", [plain, td.record])
def test_parameters_come_back_exactly(kind: str, wrap: Any) -> None:
    loop = Loop(made(kind, lr=0.0), wrap)
    before = [p.numpy().copy() for p in loop.model.parameters()]
    loop.run(range(4))
    for p, was in zip(loop.model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), was)


def test_statistics_and_streams_move_once() -> None:
    """With rho 0 a step is that of the optimizer inside, running statistics and streams included."""
    sam, alone = Loop(lambda params: SAM(Adam(params), 0.0)), Loop(Adam)
    td.manual_seed(5)
    found = sam.run(range(5))
    moved = td.noise_generator.state_dict()
    td.manual_seed(5)
    assert alone.run(range(5)) == found
    assert td.noise_generator.state_dict() == moved


def test_both_passes_draw_the_same() -> None:
    p, masks = nn.Parameter(np.ones(50)), []
    optimizer = SAM(SGD([p]))

    def closure() -> td.Tensor:
        x = td.dropout(td.ones(50, dtype=np.float64), 0.5) * td.rand(50, dtype=np.float64)
        masks.append(x.numpy())
        loss = (p * x).sum()
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[2], masks[3])
    assert (masks[0] != masks[2]).any()


def test_an_error_in_the_second_pass() -> None:
    p, calls = nn.Parameter(np.array([0.1, 0.2])), []
    optimizer = SAM(SGD([p], lr=1.0), rho=10.0)

    def closure() -> td.Tensor:
        calls.append(p.numpy().copy())
        if len(calls) == 2:
            raise ZeroDivisionError
        loss = p.square().sum()
        loss.backward()
        return loss

    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure)
    assert (calls[0] != calls[1]).all()
    np.testing.assert_array_equal(p.numpy(), calls[0])
    optimizer.zero_grad()
    optimizer.step(closure)


def test_an_objective_counts_one_step() -> None:
    td.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    objective = Objective(model, td.cross_entropy, [L2(lambda step: td.exp(-step)), L2(0.1, every=2)])
    optimizer = SAM(SGD(model.parameters(), lr=0.1))
    for i in range(4):
        x, y, due = td.randn(5, 3), td.randint(0, 2, 5), []

        def closure(x: td.Tensor = x, y: td.Tensor = y, due: list[bool] = due) -> td.Tensor:
            optimizer.zero_grad()
            terms = objective(x, y)
            due.append(terms.penalties.l2_1 is not None)
            terms.backward()
            return terms.total

        optimizer.step(closure)
        objective.after()
        assert due == [i % 2 == 0] * 2
    assert objective.step.item() == optimizer.base.steps_taken.count == 4
    optimizer.step(closure)
    with pytest.raises(GraphError, match=r"expected objective.after\(\) after each step of the optimizer"):
        optimizer.step(closure)


@pytest.mark.parametrize("wrap", [plain, td.record])
def test_a_share_of_the_gradient_is_the_penalty_on_its_norm_where_the_loss_is_quadratic(wrap: Any) -> None:
    """(1 - α) ∇L + α ∇L(θ + r∇L/‖∇L‖) = ∇(L + αr‖∇L‖) for L = ½θᵀAθ: Aθ + αr·AAθ/‖Aθ‖."""
    r = np.random.default_rng(0).standard_normal((3, 3))
    A, start = r @ r.T, np.array([1.0, -2.0, 0.5])
    p = nn.Parameter(start)
    optimizer = SAM(SGD([p], lr=0.1), rho=0.3, alpha=0.8)

    def closure() -> td.Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (p * (td.tensor(A) @ p)).sum()
        loss.backward()
        return loss

    step = wrap(lambda: optimizer.step(closure))
    theta = start
    for _ in range(3):
        slope = A @ theta
        theta = theta - 0.1 * (slope + 0.8 * 0.3 * A @ slope / np.linalg.norm(slope))
        step()
        np.testing.assert_allclose(p.numpy(), theta, rtol=1e-9)
    model = nn.Sequential(nn.Linear(3, 2)).double()
    x, y = td.tensor(r), td.tensor([0, 1, 0])
    squares = lambda z, y, reduction: (z * z).sum(1)  # noqa: E731
    objective = Objective(model, squares, [GradientNorm(0.24)])
    slopes = td.grad(objective(x, y).total, list(model.parameters()))
    again = SAM(SGD(model.parameters(), lr=1.0), rho=0.3, alpha=0.8)
    before = [q.numpy().copy() for q in model.parameters()]

    def squared() -> td.Tensor:
        again.zero_grad()
        loss = (model(x) ** 2).sum(1).mean()
        loss.backward()
        return loss

    again.step(squared)
    for q, old, slope in zip(model.parameters(), before, slopes, strict=True):
        np.testing.assert_allclose(q.numpy(), old - slope.numpy(), rtol=1e-9)
    with pytest.raises(ValueError, match=r"^SAM: alpha: expected a number in \[0, 1\], got 2"):
        again.alpha = 2


# Recorded, resumed, by hand
# ------------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recorded_is_eager(kind: str, dtype: Any, backend: str) -> None:
    def change(optimizer: Any) -> None:
        optimizer.rho = 0.4
        optimizer.param_groups[0]["lr"] = 0.03

    require_recorded_is_eager(made(kind), dtype, change)


@every_kind
@pytest.mark.parametrize("wrap", [plain, td.record])
def test_goes_on_with_the_same_bits(kind: str, wrap: Any, tmp_path: Path) -> None:
    require_resumes(made(kind), tmp_path / "c", wrap)


@pytest.mark.parametrize("wrap", [plain, td.record])
def test_by_hand(wrap: Any) -> None:
    """In two phases, each recorded by itself, the bits are those of the closure."""
    loop, other = Loop(made("SAM")), Loop(made("SAM"))
    td.manual_seed(5)
    expected = loop.run(range(4))
    model, optimizer = other.model, other.optimizer
    td.manual_seed(5)

    @wrap
    def step(x: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        with td.remember() as draws:
            loss = (model(x) - 0.3).square().mean()
            loss.backward()
        optimizer.first_step()
        optimizer.zero_grad()
        with nn.extra_forward(), td.repeat(draws):
            (model(x) - 0.3).square().mean().backward()
        optimizer.second_step()
        return loss

    losses = [step(td.tensor(other.data[i])).numpy() for i in range(4)]
    assert [x.tobytes() for x in (*losses, *other.arrays())] == expected


def test_the_phases_recorded_apart() -> None:
    found = []
    for wrap in (plain, td.record):
        p = nn.Parameter(np.array([1.0, -2.0]))
        optimizer = SAM(SGD([p], lr=0.1), 0.5)

        def slope(p: nn.Parameter = p, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            (p.square().square().sum()).backward()

        first, second = wrap(optimizer.first_step), wrap(optimizer.second_step)
        for _ in range(4):
            slope()
            first()
            slope()
            second()
            found.append(p.numpy().copy())
    np.testing.assert_array_equal(found[:4], found[4:])


def test_a_schedule_of_it() -> None:
    p = nn.Parameter(np.ones(1))
    optimizer = SAM(SGD([p], lr=1.0))
    schedule = StepLR(optimizer, 1, 0.5)
    schedule.step()
    assert optimizer.base.param_groups[0]["lr"] == schedule.get_last_lr()[0] == 0.5
    optimizer.add_param_group({"params": nn.Parameter(np.ones(2))})
    assert len(optimizer.base.param_groups) == 2


def test_on_a_gpu_the_host_asks_for_nothing(gpu: Any) -> None:
    model = nn.Linear(3, 2).cuda()
    optimizer, x = SAM(SGD(model.parameters(), lr=0.1)), td.ones(4, 3, device="cuda")

    def closure() -> td.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    before = len(gpu.host)
    optimizer.step(closure)
    assert gpu.host[before:] == []


# Refusals
# ------------------------------------------------------------------------------------------------------------


def test_settings_are_saved_whole_or_not_at_all() -> None:
    def fresh() -> ASAM:
        return ASAM(SGD([nn.Parameter(np.ones(2))], lr=0.5))

    first, second = ASAM(SGD([nn.Parameter(np.ones(2))], lr=0.1), 2.0, eta=0.3), fresh()
    second.load_state_dict(first.state_dict())
    assert (second.rho, second.eta, second.param_groups[0]["lr"]) == (2.0, 0.3, 0.1)
    saved = first.state_dict()
    for wrong in ({"eta": -1.0}, {"base": SGD([nn.Parameter(np.ones(2))]).state_dict()}):
        third = fresh()
        if "base" in wrong:
            wrong["base"]["param_groups"][0]["lr"] = -1.0
        with pytest.raises(ValueError, match=r"expected at least 0, got -1\.0"):
            third.load_state_dict({**saved, **wrong})
        assert (third.rho, third.eta, third.param_groups[0]["lr"]) == (0.5, 0.0, 0.5)


def test_another_eta_records_anew() -> None:
    p = nn.Parameter(np.zeros(2))
    optimizer = ASAM(SGD([p], lr=0.0), 1.0)

    @td.record
    def climb() -> None:
        optimizer.zero_grad()
        (p * td.tensor(np.array([3.0, 4.0]))).sum().backward()
        optimizer.first_step()

    for eta, length in ((0.0, 0.0), (0.5, 0.5), (2.0, 2.0)):
        optimizer.eta = eta
        climb()
        np.testing.assert_allclose(p.numpy(), np.array([0.6, 0.8]) * length, rtol=1e-9)
        optimizer.second_step()
        assert not p.numpy().any()


def test_refusals() -> None:
    p = nn.Parameter(np.ones(2))
    with pytest.raises(TypeError, match="SAM: expected an optimizer to wrap, got type"):
        SAM(SGD)  # type: ignore[arg-type]
    for x in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"SAM: rho: expected at least 0, got {x}"):
            SAM(SGD([p]), x)
        with pytest.raises(ValueError, match=f"ASAM: eta: expected at least 0, got {x}"):
            ASAM(SGD([p]), eta=x)
    optimizer = SAM(SGD([p]))
    with pytest.raises(ValueError, match="SAM: rho: expected at least 0, got -2"):
        optimizer.rho = -2
    with pytest.raises(TypeError, match=r"SAM.step: expected a closure that computes loss and gradients"):
        optimizer.step()
    with pytest.raises(GraphError, match=r"SAM.second_step: expected first_step\(\) before it, got none"):
        optimizer.second_step()
    p.grad = td.ones(2, dtype=np.float64)
    optimizer.first_step()
    with pytest.raises(GraphError, match=r"SAM.first_step: expected second_step\(\) after the last one"):
        optimizer.first_step()
    with pytest.raises(GraphError, match=r"SAM.state_dict: expected parameters that are in their place"):
        optimizer.state_dict()
    optimizer.second_step()
    with pytest.raises(
        ValueError, match=r"SAM.load_state_dict: expected the keys \['alpha', 'base', 'rho'\], got"
    ):
        optimizer.load_state_dict(optimizer.base.state_dict())
    p.array = p.array.astype(np.float32)
    p.grad = td.ones(2)
    with pytest.raises(DtypeError, match=r"SAM: expected a parameter \(2,\) in float64, got float32"):
        optimizer.first_step()
