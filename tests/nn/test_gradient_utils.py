"""Norms of gradients, clipping, centralization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparisons import comparison
from hypothesis import given
from hypothesis import strategies as st
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl import nn

SHAPES = [(3, 4), (5,), (2, 3, 2, 2), (), (0, 2)]
BAD = {"finite": None, "inf": np.inf, "nan": np.nan}


def arrays(seed: int = 0, dtype: Any = np.float64) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [np.asarray(random.standard_normal(shape), dtype) for shape in SHAPES]


def parameters(grads: list[np.ndarray]) -> list[nn.Parameter]:
    """One more than there are gradients, which has none."""
    params = [nn.Parameter(x) for x in arrays(1, grads[0].dtype)]
    for p, g in zip(params, grads, strict=True):
        p.grad = td.tensor(g)
    return [*params, nn.Parameter(np.ones(3))]


def torch_parameters(torch: Any, grads: list[np.ndarray]) -> list[Any]:
    params = [torch.nn.Parameter(torch.tensor(x)) for x in arrays(1)]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g)
    return [*params, torch.nn.Parameter(torch.ones(3))]


def gradients(params: list[Any]) -> list[np.ndarray]:
    assert params[-1].grad is None
    return [np.array(p.grad.numpy()) for p in params[:-1]]


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


# As PyTorch's
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, 0.5, np.inf])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("max_norm", [0.7, 1e3])
def test_clip_grad_norm(norm_type: float, bad: str, max_norm: float, backend: str) -> None:
    torch = pytest.importorskip("torch")
    grads = arrays()
    if BAD[bad] is not None:
        grads[1][2] = BAD[bad]
    ours, theirs = parameters(grads), torch_parameters(torch, grads)
    if norm_type == np.inf:  # PyTorch asks for the largest element of none
        del ours[4], theirs[4]
    with comparison():
        total = nn.utils.clip_grad_norm_(ours, max_norm, norm_type)
        expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert (total.shape, total.dtype, total.requires_grad) == ((), np.float64, False)
    np.testing.assert_allclose(total.numpy(), expected.numpy(), rtol=1e-12)
    assert_same(gradients(ours), gradients(theirs))


def test_total_norm_and_clipping_by_it() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = parameters(arrays()), torch_parameters(torch, arrays())
    with comparison():
        total = nn.get_total_norm([p.grad for p in ours[:-1]], 3)
        expected = torch.nn.utils.get_total_norm([p.grad for p in theirs[:-1]], 3)
        nn.clip_grads_with_norm_(iter(ours), 0.5, total)
        torch.nn.utils.clip_grads_with_norm_(theirs, 0.5, expected)
    np.testing.assert_allclose(total.numpy(), expected.numpy(), rtol=1e-12)
    assert_same(gradients(ours), gradients(theirs))
    single, empty = nn.get_total_norm(td.tensor([3.0, 4.0])), nn.get_total_norm([])
    assert (single.item(), empty.item(), empty.shape) == (5.0, 0.0, ())
    assert nn.clip_grad_norm_([nn.Parameter(np.ones(2))], 1.0).item() == 0.0
    assert nn.get_total_norm([td.zeros(0), td.tensor([-2.0])], np.inf).item() == 2.0


def test_clip_grad_value() -> None:
    torch = pytest.importorskip("torch")
    grads = arrays()
    grads[0][0, :2] = np.nan, -np.inf
    ours, theirs = parameters(grads), torch_parameters(torch, grads)
    with comparison():
        nn.clip_grad_value_(ours, 0.3)
        torch.nn.utils.clip_grad_value_(theirs, 0.3)
    assert_same(gradients(ours), gradients(theirs))


def test_dtypes_are_kept() -> None:
    """The norm has the widest dtype of the gradients."""
    a, b = nn.Parameter(np.ones(2, np.float32)), nn.Parameter(np.ones(2))
    for p in (a, b):
        p.grad = td.ones(2, dtype=p.dtype) * 3.0
    assert nn.clip_grad_norm_([a, b], 1.0).dtype == np.float64
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose([*a.grad.numpy(), *b.grad.numpy()], 0.5, rtol=1e-6)


def test_other_holders_of_a_gradient_keep_it() -> None:
    a, b = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    a.grad = b.grad = held = td.tensor(np.array([6.0, 8.0]))
    nn.clip_grad_norm_([a], 5.0)
    assert (held.tolist(), b.grad.tolist()) == ([6.0, 8.0], [6.0, 8.0])
    np.testing.assert_allclose(a.grad.numpy(), [3.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize("bad", ["inf", "nan"])
def test_errors_of_norms_that_are_not_finite(bad: str) -> None:
    params = parameters(arrays())
    params[0].grad = td.full((3, 4), BAD[bad], dtype=np.float64)
    before = gradients(params)
    message = f"^clip_grad_norm_: expected a finite norm of order 2.0, got {bad}$"
    with pytest.raises(RuntimeError, match=message):
        nn.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert_same(gradients(params), before)
    with pytest.raises(RuntimeError, match=r"^get_total_norm: expected a finite norm"):
        nn.get_total_norm(params[0].grad, error_if_nonfinite=True)
    nn.clip_grad_norm_(params[1:], 1.0, error_if_nonfinite=True)
    with pytest.raises(
        GraphError, match=r"^clip_grad_norm_: expected error_if_nonfinite=False in a recorded"
    ):
        td.record(lambda: nn.clip_grad_norm_(params, 1.0, error_if_nonfinite=True))()


# Properties
# ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=1, max_size=9), st.floats(1e-3, 1e3)
)
def test_the_norm_afterwards(values: list[float], max_norm: float) -> None:
    """c n / (n + 1e-6) where that is less than n."""
    p = nn.Parameter(np.zeros(len(values)))
    p.grad = td.tensor(np.array(values))
    with td.backend("reference"):
        n = nn.clip_grad_norm_(p, max_norm).item()
        after = nn.get_total_norm(p.grad).item()
    expected = n * min(1.0, max_norm / (n + 1e-6))
    assert after <= max_norm * (1 + 1e-12)
    np.testing.assert_allclose(after, expected, rtol=1e-12)


def adaptive(p: np.ndarray, g: np.ndarray, factor: float, eps: float) -> np.ndarray:
    """In NumPy, unit by unit."""
    out = g.copy()
    rows = [(p, out)] if p.ndim < 2 else list(zip(p, out, strict=True))
    for w, d in rows:
        limit, length = factor * max(np.sqrt((w * w).sum()), eps), np.sqrt((d * d).sum())
        if length >= limit:
            d *= limit / max(length, 1e-6)
    return out


@pytest.mark.parametrize("factor", [0.01, 1.0, 50.0])
def test_adaptive_clipping(factor: float, backend: str) -> None:
    grads = arrays()
    grads[0][1] = 0.0
    params = parameters(grads)
    with td.no_grad():
        nn.vector_to_parameters(td.zeros(5, dtype=np.float64), [params[1]])  # below eps
    nn.adaptive_clip_grad_(params, factor)
    weights = [p.detach().numpy() for p in params]
    assert_same(
        gradients(params), [adaptive(w, g, factor, 1e-3) for w, g in zip(weights, grads, strict=False)]
    )
    once = gradients(params)
    nn.adaptive_clip_grad_(params, factor)
    assert_same(gradients(params), once)


def test_adaptive_clipping_where_all_is_0() -> None:
    p = nn.Parameter(np.zeros((2, 3)))
    p.grad = td.tensor(np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]]))
    nn.adaptive_clip_grad_(p, eps=0.0)
    np.testing.assert_array_equal(p.grad.numpy(), 0.0)
    p.grad = td.ones(2, 3, dtype=np.float64)
    nn.adaptive_clip_grad_(p)
    np.testing.assert_allclose(np.linalg.norm(p.grad.numpy(), axis=1), 1e-5, rtol=1e-12)


def test_centralization(backend: str) -> None:
    grads = arrays()
    params = parameters(grads)
    nn.centralize_grad_(params)
    for was, g in zip(grads, gradients(params), strict=True):
        axes = tuple(range(1, was.ndim))
        expected = was - was.mean(axes, keepdims=True) if was.ndim > 1 and was.size else was
        np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-15)
        if was.ndim > 1:
            np.testing.assert_allclose(g.sum(axes), 0, atol=1e-14)
    once = gradients(params)
    nn.centralize_grad_(params)
    for a, b in zip(gradients(params), once, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-15)


# In recorded steps
# ------------------------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[list[Any]], Any]] = {
    "clip_grad_norm_": lambda params: nn.clip_grad_norm_(params, 0.05),
    "clip_grad_norm_ inf": lambda params: nn.clip_grad_norm_(params, 0.01, np.inf),
    "clip_grad_value_": lambda params: nn.clip_grad_value_(params, 0.01),
    "adaptive_clip_grad_": nn.adaptive_clip_grad_,
    "centralize_grad_": nn.centralize_grad_,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("change", CHANGES)
def test_recorded_is_eager(change: str, dtype: Any, backend: str) -> None:
    """Bit for bit, the norms that are returned too."""

    def run(wrap: Callable[[Any], Any], changes: Callable[[list[Any]], Any]) -> list[bytes]:
        random = np.random.default_rng(0)
        params = [nn.Parameter(random.standard_normal(s).astype(dtype)) for s in ((3, 4), (4,))]
        optimizer = td.optim.SGD(params, lr=0.5, momentum=0.9)

        def step(x: td.Tensor) -> Any:
            optimizer.zero_grad()
            w, b = params
            (x @ w + b).tanh().square().mean().backward()
            total = changes(params)
            optimizer.step()
            return total

        step, seen = wrap(step), []
        for _ in range(5):
            total = step(td.tensor(random.standard_normal((6, 3)).astype(dtype)))
            seen += [x.numpy().tobytes() for x in (*params, *([] if total is None else [total]))]
        return seen

    eager = run(lambda step: step, CHANGES[change])
    assert eager == run(td.record, CHANGES[change])
    assert eager != run(lambda step: step, lambda params: None)


def test_a_bound_that_varies_between_replays() -> None:
    bound = nn.Buffer(np.array(1.0))
    p = nn.Parameter(np.zeros(2))

    @td.record
    def step(g: td.Tensor) -> td.Tensor:
        p.grad = g.clone()
        return nn.clip_grad_norm_(p, bound)

    for value in (1.0, 2.5):
        with td.no_grad():
            td.ops.update.assign(bound, value)
        assert step(td.tensor(np.array([3.0, 4.0]))).item() == 5.0
        np.testing.assert_allclose(np.linalg.norm(p.grad.numpy()), value, rtol=1e-6)


def test_on_a_gpu_the_host_asks_for_nothing(gpu: Any) -> None:
    expected = nn.clip_grad_norm_(parameters(arrays()), 1.0).item()
    model = nn.ParameterList([nn.Parameter(x) for x in arrays()[:4]]).cuda()
    params = list(model.parameters())
    for p, g in zip(params, arrays(), strict=False):
        p.grad = td.tensor(g, device="cuda")
    before = len(gpu.host)
    total = nn.clip_grad_norm_(params, 1.0)
    assert gpu.host[before:] == []
    assert total.device == "cuda"
    np.testing.assert_allclose(total.item(), expected, rtol=1e-12)
    np.testing.assert_allclose(nn.get_total_norm([p.grad for p in params]).item(), 1.0, rtol=1e-6)
