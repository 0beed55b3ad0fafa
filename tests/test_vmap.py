"""vmap beside torch.vmap, with derivatives; what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

RANDOM = np.random.default_rng(0)
X, W, B = RANDOM.standard_normal((4, 3)), RANDOM.standard_normal((3, 3)), RANDOM.standard_normal((3, 4))
pytestmark = pytest.mark.usefixtures("reference")

CASES: dict[str, tuple[Any, list[np.ndarray]]] = {
    "the leading dim": (lambda t, x: t.vmap(lambda v: (v * v).sum())(x), [X]),
    "an input for all": (lambda t, x, w: t.vmap(lambda v, w: w @ t.tanh(v), (0, None))(x, w), [X, W]),
    "another dim": (lambda t, x, b: t.vmap(lambda v, u: t.sin(v) * u, in_dims=(0, 1))(x, b), [X, B]),
    "from the end": (lambda t, b: t.vmap(lambda v: v.cumsum(0) ** 2, in_dims=-1, out_dims=-1)(b), [B]),
    "two outputs": (
        lambda t, x: t.vmap(lambda v: (t.exp(v), t.outer(v, v)), out_dims=(1, 2))(x), [X],
    ),
    "nested": (lambda t, x, y: t.vmap(lambda v: t.vmap(lambda u: (v * u).sum() ** 2)(y))(x), [X, X[:2]]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_as_pytorch(case: str) -> None:
    torch = pytest.importorskip("torch")
    call, arrays = CASES[case]
    assert_agree(lambda *x: call(td, *x), lambda *x: call(torch, *x), arrays)


def test_gradients_of_each_sample() -> None:
    """The use that it is known for."""
    torch = pytest.importorskip("torch")

    def loss(t: Any) -> Any:
        return lambda w, x: t.tanh(w @ x).square().sum()

    per_sample = td.vmap(lambda x: td.grad_and_value(loss(td))(td.tensor(W), x)[0])(td.tensor(X))
    theirs = torch.vmap(torch.func.grad(loss(torch)), (None, 0))(torch.tensor(W), torch.tensor(X))
    np.testing.assert_allclose(per_sample.numpy(), theirs.numpy(), rtol=1e-10)


def test_in_a_recorded_step() -> None:
    step = td.record(lambda x: td.vmap(lambda v: td.softmax(v, 0) * v)(x))
    for x in (X, 2 * X, -X):
        eager = td.vmap(lambda v: td.softmax(v, 0) * v)(td.tensor(x))
        np.testing.assert_array_equal(step(x).numpy(), eager.numpy())


def test_refused() -> None:
    x = td.tensor(X)
    for call, message in (
        (lambda: td.vmap(lambda a, b: a, (0,))(x, x), "expected in_dims for 2 inputs, got"),
        (
            lambda: td.vmap(lambda a: a)(td.tensor(1.0)),
            "expected in_dims None, or a dim of a tensor, got 0 for",
        ),
        (lambda: td.vmap(lambda a: a)([x, x]), "expected in_dims None, or a dim of a tensor, got 0 for list"),
        (lambda: td.vmap(lambda a: a, 2)(x), "expected dim in"),
        (lambda: td.vmap(lambda a, b: a)(x, x[:2]), "expected one size, at least 1, of the sliced dims, got"),
        (lambda: td.vmap(lambda a: a)(x[:0]), "expected one size, at least 1, of the sliced dims, got"),
        (lambda: td.vmap(lambda a: a, (None,))(x), "expected one size, at least 1, of the sliced dims, got"),
        (lambda: td.vmap(lambda a: (a, a), out_dims=(0,))(x), "expected out_dims for 2 outputs, got"),
        (lambda: td.vmap(lambda a: a, out_dims=(0, 1))(x), "expected one number for out_dims of one output"),
    ):
        with pytest.raises(ShapeError, match="vmap: " + message):
            call()
    with pytest.raises(ValueError, match="vmap: expected randomness 'error' or 'different', got 'same'"):
        td.vmap(lambda a: a, randomness="same")
