"""td.linalg beside torch.linalg: values, first and second derivatives, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from tinydl_kernels import linalg as kernels
from tinydl_kernels.machine.errors import GraphError, LinAlgError, ShapeError

import tinydl as td
from tinydl.engine import core

rng = np.random.default_rng(0)
ONE, STACK = rng.standard_normal((3, 3)), rng.standard_normal((2, 1, 3, 3))
TALL, WIDE, RIGHT = (
    rng.standard_normal((2, 4, 3)),
    rng.standard_normal((3, 5)),
    rng.standard_normal((4, 3, 2)),
)


def symmetric(x: Any) -> Any:
    return x + x.transpose(-1, -2)


def positive(t: Any, x: Any) -> Any:
    return x @ x.transpose(-1, -2) + t.eye(x.shape[-1], dtype=x.dtype)


def without_signs(*vectors: Any) -> tuple[Any, ...]:
    return tuple(v * v for v in vectors)


def of_svd(u: Any, s: Any, vh: Any) -> Any:
    return *without_signs(u, vh), s, (u * s[..., None, :]) @ vh


# the same expression of tinydl and of torch
CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "det": (lambda t, x: t.linalg.det(x), [STACK]),
    "det of one": (lambda t, x: t.linalg.det(x), [ONE[:1, :1]]),
    "slogdet": (lambda t, x: t.linalg.slogdet(x).logabsdet, [STACK]),
    "inv": (lambda t, x: t.linalg.inv(x), [STACK]),
    "solve": (lambda t, a, b: t.linalg.solve(a, b), [STACK, RIGHT]),
    "solve of a vector": (lambda t, a, b: t.linalg.solve(a, b), [ONE, ONE[0]]),
    "solve of vectors": (lambda t, a, b: t.linalg.solve(a, b), [STACK[:, 0], RIGHT[:2, :, 0]]),
    "solve from the right": (lambda t, a, b: t.linalg.solve(a, b, left=False), [STACK, TALL]),
    "cholesky": (lambda t, x: t.linalg.cholesky(positive(t, x)), [STACK]),
    "cholesky upper": (lambda t, x: t.linalg.cholesky(positive(t, x), upper=True), [ONE]),
    "cholesky of a matrix": (lambda t, x: t.linalg.cholesky(x), [ONE @ ONE.T + np.eye(3)]),
    "qr": (lambda t, x: without_signs(*t.linalg.qr(x)), [TALL]),
    "qr wide": (lambda t, x: without_signs(*t.linalg.qr(x)), [WIDE]),
    "qr complete": (lambda t, x: without_signs(*t.linalg.qr(x, mode="complete")), [WIDE]),
    "eigh": (lambda t, x: (lambda w, v: (w, *without_signs(v)))(*t.linalg.eigh(symmetric(x))), [STACK]),
    "eigh upper": (lambda t, x: t.linalg.eigh(symmetric(x), UPLO="U").eigenvalues, [STACK]),
    "eigvalsh": (lambda t, x: t.linalg.eigvalsh(symmetric(x), UPLO="U"), [STACK]),
    "svd": (lambda t, x: of_svd(*t.linalg.svd(x, full_matrices=False)), [TALL]),
    "svd wide": (lambda t, x: of_svd(*t.linalg.svd(x, full_matrices=False)), [WIDE]),
    "svd square": (lambda t, x: of_svd(*t.linalg.svd(x)), [ONE]),
    "svd full": (lambda t, x: t.linalg.svd(x).S, [WIDE]),
    "svdvals": (lambda t, x: t.linalg.svdvals(x), [TALL]),
}


@pytest.mark.parametrize("case", CASES)
def test_as_pytorch(case: str) -> None:
    torch = pytest.importorskip("torch")
    expression, arrays = CASES[case]
    ours, theirs = (lambda *x, t=t: expression(t, *x) for t in (td, torch))
    assert_agree(ours, theirs, arrays, tolerance=1e-9)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3, 3), (2, 0, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x = np.zeros(shape)
    for call in (
        lambda t, x: t.linalg.det(x),
        lambda t, x: t.linalg.inv(x),
        lambda t, x: t.linalg.slogdet(x).logabsdet,
        lambda t, x: t.linalg.cholesky(x),
        lambda t, x: t.linalg.eigvalsh(x),
        lambda t, x: t.linalg.svdvals(x),
        lambda t, x: t.linalg.qr(x).R,
    ):
        assert_agree(lambda x, call=call: call(td, x), lambda x, call=call: call(torch, x), [x], order=1)


def test_a_singular_matrix_has_the_gradient_of_its_determinant() -> None:
    """Its cofactors; PyTorch has zeros."""
    x = td.tensor([[1.0, 2, 3], [2, 4, 6], [0, 1, 5]], dtype="float64", requires_grad=True)
    td.linalg.det(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), [[14, -10, 2], [-7, 5, -1], [0, 0, 0]], atol=1e-13)
    assert td.gradcheck(td.linalg.det, [x], order=1)
    sign, logarithm = td.linalg.slogdet(td.zeros(2, 2))
    assert (sign.item(), logarithm.item()) == (0.0, -np.inf)


def test_a_matrix_without_an_answer_is_named() -> None:
    torch = pytest.importorskip("torch")
    singular = np.stack([np.eye(2), np.ones((2, 2)), np.zeros((2, 2))]).reshape(3, 1, 2, 2)
    for name, x, more, message in (
        ("inv", singular, (), r"inv: expected invertible matrices, got matrix \(1, 0\) that is not"),
        (
            "solve",
            singular[1, 0],
            (np.ones(2),),
            "solve: expected invertible matrices, got a matrix that is not",
        ),
        (
            "cholesky",
            -np.eye(2),
            (),
            "cholesky: expected positive-definite matrices, got a matrix that is not",
        ),
        ("eigh", np.full((2, 2), np.nan), (), "eigh: expected finite numbers, got NaN or infinity"),
        ("svd", np.full((2, 2), np.inf), (), "svd: expected finite numbers, got NaN or infinity"),
    ):
        with pytest.raises(LinAlgError, match=message):
            getattr(td.linalg, name)(td.tensor(x), *map(td.tensor, more))
        if np.isfinite(x).all():  # where not, it depends on PyTorch's LAPACK
            with pytest.raises(torch.linalg.LinAlgError):
                getattr(torch.linalg, name)(torch.tensor(x), *map(torch.tensor, more))
    assert issubclass(LinAlgError, RuntimeError)
    assert issubclass(torch.linalg.LinAlgError, RuntimeError)


def test_what_is_not_determined_has_no_gradient() -> None:
    x = td.tensor(TALL, requires_grad=True)
    u, s, vh = td.linalg.svd(x)
    assert (u.shape, s.shape, vh.shape) == ((2, 4, 4), (2, 3), (2, 3, 3))
    with pytest.raises(GraphError, match="svd: expected full_matrices=False for a gradient of U or Vh"):
        u.sum().backward()
    q, r = td.linalg.qr(x, "complete")
    assert (q.shape, r.shape) == ((2, 4, 4), (2, 4, 3))
    np.testing.assert_allclose((q @ r).numpy(), TALL, atol=1e-12)
    with pytest.raises(GraphError, match='qr: expected mode "reduced" for a gradient'):
        r.sum().backward()
    assert td.linalg.qr(x, "r")[0].shape == (0,)


def test_refused_settings() -> None:
    with pytest.raises(ShapeError, match="qr: expected mode 'reduced', 'complete' or 'r', got 'full'"):
        td.linalg.qr(td.eye(2), "full")
    for function in (td.linalg.eigh, td.linalg.eigvalsh):
        with pytest.raises(ShapeError, match=f"{function.__name__}: expected UPLO 'L' or 'U', got 'X'"):
            function(td.eye(2), "X")


def test_a_recorded_step() -> None:
    """Negative log-likelihood of a Gaussian process, eager and recorded."""

    def step(x: Any, y: Any, noise: Any) -> Any:
        k = td.exp(-0.5 * td.cdist(x, x).square()) + noise * td.eye(5, dtype="float64")
        loss = 0.5 * (y * td.linalg.solve(k, y)).sum() + td.linalg.cholesky(k).diagonal().log().sum()
        return loss, td.grad(loss, [noise])[0]

    points, values = rng.standard_normal((5, 2)), rng.standard_normal(5)
    recorded = td.record(step)
    for size in (0.5, 0.7, 0.9):
        noise = td.tensor(size, dtype="float64", requires_grad=True)
        eager = step(td.tensor(points), td.tensor(values), noise)
        replayed = recorded(td.tensor(points), td.tensor(values), noise)
        for a, b in zip(eager, replayed, strict=True):
            assert a.item() == b.item()


def test_cofactors_of_a_matrix_of_one_element() -> None:
    np.testing.assert_array_equal(kernels.cofactor(np.array([[[3.0]], [[0.0]]])), np.ones((2, 1, 1)))


def test_a_product_copies_no_transpose(monkeypatch):
    def copying(x):
        raise AssertionError("copied")

    monkeypatch.setattr(core, "contiguous", copying)
    a, b = td.randn(2, 4, 3), td.randn(2, 5, 4)
    expected = np.swapaxes(a.numpy(), 1, 2) @ np.swapaxes(b.numpy(), 1, 2)
    np.testing.assert_allclose((a.transpose(1, 2) @ b.transpose(1, 2)).numpy(), expected, 1e-5, 1e-6)
    np.testing.assert_allclose((a[0].T @ b[0].T).numpy(), expected[0], 1e-5, 1e-6)
