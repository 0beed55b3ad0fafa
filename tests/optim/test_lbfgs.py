"""L-BFGS: PyTorch's iterates and evaluations on losses that do not amplify rounding; what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparisons import comparison
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl.optim import LBFGS
from tinydl.optim.line_search import Point, _cubic, strong_wolfe

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    a, b = x[:-1], x[1:]
    g = np.zeros_like(x)
    g[1:] += 200 * (b - a**2)
    g[:-1] += -400 * a * (b - a**2) - 2 * (1 - a)
    return float(np.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2)), g


def quartic(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Convex, of condition 100."""
    scale = np.linspace(0.1, 10, x.size)
    return float(np.sum(scale * x**2 / 2 + x**4 / 4)), scale * x + x**3


STARTS: dict[Loss, np.ndarray] = {
    rosenbrock: np.array([-1.2, 1.0, 0.5, -0.3]),
    quartic: np.random.default_rng(0).standard_normal(8),
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"lr": 0.01},
    {"lr": 0.3, "history_size": 3},
    {"max_iter": 1, "lr": 0.1},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "history_size": 4, "max_iter": 5},
    {"line_search_fn": "strong_wolfe", "lr": 0.1, "tolerance_grad": 1e-6},
    {"line_search_fn": "strong_wolfe", "max_eval": 6},
]


def split(x: np.ndarray, dtype: Any = np.float64) -> list[td.nn.Parameter]:
    """Two parameters of the elements of x."""
    half = x.size // 2
    return [td.nn.Parameter(x[:half].reshape(1, -1).astype(dtype)), td.nn.Parameter(x[half:].astype(dtype))]


def joined(params: list[td.nn.Parameter]) -> np.ndarray:
    return np.concatenate([p.numpy().ravel() for p in params])


def closure(loss: Loss, params: list[td.nn.Parameter]) -> Callable[[], td.Tensor]:
    def evaluate() -> td.Tensor:
        value, g = loss(joined(params).astype(np.float64))
        for p, part in zip(params, np.split(g, 2), strict=True):
            p.grad = td.tensor(part.reshape(p.shape), dtype=p.dtype)
        return td.tensor(value, dtype=td.float64)

    return evaluate


@pytest.mark.parametrize("loss", STARTS, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_torch(loss: Loss, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    params, p = split(STARTS[loss]), torch.tensor(STARTS[loss], requires_grad=True)
    ours, theirs = LBFGS(params, **options), torch.optim.LBFGS([p], **options)

    def evaluate() -> Any:
        value, g = loss(p.detach().numpy())
        p.grad = torch.tensor(g)
        return torch.tensor(value, dtype=torch.float64)

    for _ in range(6):
        with comparison():
            returned, wanted = ours.step(closure(loss, params)), theirs.step(evaluate)
        if not np.isfinite(p.detach().numpy()).all() or abs(p.detach().numpy()).max() > 1e6:
            break  # without a line search Rosenbrock's valley can be left for good
        np.testing.assert_allclose(returned.item(), wanted.item(), rtol=1e-9, atol=1e-20)
        np.testing.assert_allclose(joined(params), p.detach().numpy(), rtol=1e-10, atol=1e-10)
        own = ours.state[params[0]]
        assert (own["func_evals"], own["n_iter"]) == (
            theirs.state[p]["func_evals"],
            theirs.state[p]["n_iter"],
        )


@pytest.mark.parametrize("loss", STARTS, ids=lambda loss: loss.__name__)
def test_it_solves(loss: Loss) -> None:
    """In float32 as far as its gradients carry."""
    for dtype, tolerance in ((np.float64, 1e-5), (np.float32, 2e-3)):
        params = split(STARTS[loss][: 2 if loss is rosenbrock else 8], dtype)
        optimizer = LBFGS(params, line_search_fn="strong_wolfe", max_iter=100, tolerance_change=1e-16)
        optimizer.step(closure(loss, params))
        minimum = np.ones(2) if loss is rosenbrock else np.zeros(8)
        np.testing.assert_allclose(joined(params), minimum, atol=tolerance)


def test_the_second_direction_is_that_of_one_pair() -> None:
    """-H g with the BFGS formula, and H y = s."""
    params = split(STARTS[quartic])
    optimizer = LBFGS(params, max_iter=1, line_search_fn="strong_wolfe")
    evaluate = closure(quartic, params)
    points, gradients = [joined(params)], [quartic(joined(params))[1]]
    for _ in range(2):
        optimizer.step(evaluate)
        points.append(joined(params))
        gradients.append(quartic(joined(params))[1])
    s, y = points[1] - points[0], gradients[1] - gradients[0]
    cut = np.eye(s.size) - np.outer(s, y) / (y @ s)
    h = cut @ cut.T * (y @ s) / (y @ y) + np.outer(s, s) / (y @ s)
    np.testing.assert_allclose(h @ y, s, rtol=1e-9)
    np.testing.assert_allclose(optimizer.state[params[0]]["d"].numpy(), -h @ gradients[1], rtol=1e-9)


def test_goes_on_with_the_same_bits() -> None:
    options = {"line_search_fn": "strong_wolfe", "max_iter": 4, "history_size": 3}
    a = split(STARTS[rosenbrock])
    one = LBFGS(a, **options)
    for _ in range(3):
        one.step(closure(rosenbrock, a))
    b = [td.nn.Parameter(p) for p in a]
    two = LBFGS(b, **options)
    saved = one.state_dict()
    own = {
        name: x.numpy().copy() if isinstance(x, td.Tensor) else json.loads(json.dumps(x))
        for name, x in saved["state"][0].items()
    }
    two.load_state_dict({**saved, "state": {0: own}})
    for params, optimizer in ((a, one), (b, two)):
        for _ in range(2):
            optimizer.step(closure(rosenbrock, params))
    assert joined(a).tobytes() == joined(b).tobytes()


def test_pytorch_s_state() -> None:
    torch = pytest.importorskip("torch")
    options = {"line_search_fn": "strong_wolfe", "max_iter": 4}
    p = torch.tensor(STARTS[quartic], requires_grad=True)
    theirs = torch.optim.LBFGS([p], **options)

    def evaluate() -> Any:
        value, g = quartic(p.detach().numpy())
        p.grad = torch.tensor(g)
        return torch.tensor(value, dtype=torch.float64)

    theirs.step(evaluate)
    ours = [td.nn.Parameter(p.detach().numpy().copy())]
    optimizer = LBFGS(ours)
    optimizer.load_state_dict(theirs.state_dict())

    def ours_evaluate() -> td.Tensor:
        value, g = quartic(ours[0].numpy())
        ours[0].grad = td.tensor(g)
        return td.tensor(value, dtype=td.float64)

    theirs.step(evaluate)
    optimizer.step(ours_evaluate)
    np.testing.assert_allclose(ours[0].numpy(), p.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert optimizer.state[ours[0]]["func_evals"] == theirs.state[p]["func_evals"]


def test_a_memory_that_does_not_descend_begins_anew() -> None:
    params = split(STARTS[quartic])
    optimizer = LBFGS(params, max_iter=3, max_eval=20, line_search_fn="strong_wolfe")
    evaluate = closure(quartic, params)
    optimizer.step(evaluate)
    own = optimizer.state[params[0]]
    own["old_dirs"] = -own["old_dirs"] * 1e-3  # y·s < 0
    own["prev_flat_grad"] = td.tensor(quartic(joined(params))[1])  # y = 0: no pair is added
    before = quartic(joined(params))[0]
    optimizer.step(evaluate)
    assert quartic(joined(params))[0] < before
    assert len(own["old_dirs"]) == 2


def test_a_parameter_without_a_gradient_stays() -> None:
    params = split(STARTS[quartic])
    optimizer = LBFGS(params, line_search_fn="strong_wolfe")
    evaluate = closure(quartic, params)

    def half() -> td.Tensor:
        loss = evaluate()
        params[1].grad = None
        return loss

    before = [p.numpy().copy() for p in params]
    optimizer.step(half)
    np.testing.assert_array_equal(params[1].numpy(), before[1])
    assert abs(params[0].numpy()).max() < 0.1 * abs(before[0]).max()


def test_a_changed_rate_acts() -> None:
    moved = []
    for lr in (0.1, 0.2):
        params = split(STARTS[quartic])
        optimizer = LBFGS(params, max_iter=1)
        optimizer.param_groups[0]["lr"] = lr
        before = joined(params)
        optimizer.step(closure(quartic, params))
        moved.append(joined(params) - before)
    np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-12)


def test_the_search_turns_back_from_what_is_no_number() -> None:
    """-log(1 - t) - 2 t, whose minimum is at 1/2, is NaN beyond 1."""

    def at(t: float) -> Point:
        value = -np.log(1 - t) - 2 * t if t < 1 else np.nan
        slope = 1 / (1 - t) - 2
        return Point(t, float(value), None, slope)

    found = strong_wolfe(at, at(0.0), 3.0, 1.0, 1e-9, 25)
    assert found.value < at(0.0).value + 1e-4 * found.t * at(0.0).slope
    assert abs(found.slope) <= 0.9


def test_the_lowest_point_is_kept_when_trials_are_over() -> None:
    def at(t: float) -> Point:
        return Point(t, (t - 1) ** 2, None, 2 * (t - 1))

    assert strong_wolfe(at, at(0.0), 50.0, 1.0, 1e-9, 0).t == 0.0
    assert strong_wolfe(at, at(0.0), 1.5, 1.0, 1e-9, 0).t == 1.5


def test_refusals() -> None:
    params = split(STARTS[quartic])
    optimizer = LBFGS(params)
    with pytest.raises(TypeError, match=r"LBFGS.step: expected a closure, got None"):
        optimizer.step()
    with pytest.raises(GraphError, match=r"LBFGS.step: expected a call outside a recorded step"):
        td.record(lambda: optimizer.step(closure(quartic, params)))()
    with pytest.raises(ValueError, match="LBFGS: expected one group of parameters, got another"):
        LBFGS([{"params": [p]} for p in params])
    for name in ("lr", "tolerance_grad", "tolerance_change"):
        with pytest.raises(ValueError, match=f"LBFGS: {name}: expected at least 0, got -1"):
            LBFGS(params, **{name: -1})
    for name in ("max_iter", "max_eval", "history_size"):
        with pytest.raises(ValueError, match=f"LBFGS: {name}: expected at least 1, got 0"):
            LBFGS(params, **{name: 0})
    with pytest.raises(ValueError, match="LBFGS: line_search_fn: expected None or 'strong_wolfe', got 'x'"):
        LBFGS(params, line_search_fn="x")


def test_a_bracket_that_has_no_width_left_is_not_divided():
    """A jump is never flat: halving ends at two neighbours, and with tolerance 0 nothing else ends it."""

    def at(t):
        return Point(t, -t if t <= 0.3 else 10.0, None, -1.0)

    found = strong_wolfe(at, at(0.0), 1.0, 1.0, 0.0, 500)
    assert found.t == pytest.approx(0.3)


def test_a_straight_line_between_two_points_is_halved():
    assert _cubic(Point(0.0, 0.0, None, -1.0), Point(1.0, -1.0, None, -1.0), 0.0, 1.0) == 0.5
