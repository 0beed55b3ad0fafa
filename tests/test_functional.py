"""vjp, jvp, hvp, jacobian and hessian against finite differences and torch.func, nested, and
where there is nothing to find.
"""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td
from tinydl.engine.core import state

F = td.float64


pytestmark = pytest.mark.usefixtures("backend")


def draw(*shape: int, seed: int = 0, **settings) -> td.Tensor:
    return td.tensor(np.random.default_rng(seed).standard_normal(shape), **settings)


def vector(x, w):
    """(3,) and (3, 2) -> (2,), nonlinear in both."""
    return (x * x.exp()) @ w.tanh()


def scalar(x, w):
    return (vector(x, w) ** 3).sum() + (x * x[0]).sum()


X, W = draw(3), draw(3, 2, seed=1)


def difference(f, x: td.Tensor, t: td.Tensor, h: float = 1e-5) -> np.ndarray:
    """The central difference of f along t."""
    return (f(x + h * t).numpy() - f(x - h * t).numpy()) / (2 * h)


def differences(f, x: td.Tensor) -> np.ndarray:
    """The Jacobian of f, (*output, *input)."""
    units = np.eye(x.array.size).reshape(-1, *x.shape)
    columns = [difference(f, x, td.tensor(unit)) for unit in units]
    return np.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


def close(a: td.Tensor, b, tolerance: float = 1e-7) -> None:
    assert isinstance(a, td.Tensor)
    assert a.shape == np.shape(b)
    np.testing.assert_allclose(a.detach().numpy(), b, rtol=tolerance, atol=tolerance)


class TestAgainstDifferences:
    def test_vjp(self) -> None:
        v = draw(2, seed=2)
        y, vjp_fn = td.vjp(vector, X, W)
        close(y, vector(X, W).numpy(), 0)
        for _ in range(2):  # as often as asked
            gx, gw = vjp_fn(v)
            close(gx, v.numpy() @ differences(lambda x: vector(x, W), X))
            close(gw, np.tensordot(v.numpy(), differences(lambda w: vector(X, w), W), 1))

    def test_jvp(self) -> None:
        t, s = draw(3, seed=3), draw(3, 2, seed=4)
        y, tangent = td.jvp(vector, (X, W), (t, s))
        close(y, vector(X, W).numpy(), 0)
        h = 1e-5
        close(
            tangent, (vector(X + h * t, W + h * s).numpy() - vector(X - h * t, W - h * s).numpy()) / (2 * h)
        )

    def test_jacobian(self) -> None:
        close(td.jacobian(vector)(X, W), differences(lambda x: vector(x, W), X))
        for argnums in (1, -1):
            close(td.jacobian(vector, argnums)(X, W), differences(lambda w: vector(X, w), W))
        jx, jw = td.jacobian(vector, (0, 1))(X, W)
        close(jx, td.jacobian(vector, 0)(X, W).numpy(), 0)
        close(jw, td.jacobian(vector, 1)(X, W).numpy(), 0)

    def test_hessian_and_hvp(self) -> None:
        def gradient(x):
            return td.jacobian(scalar)(x, W)

        hessian = td.hessian(scalar)(X, W)
        close(hessian, differences(gradient, X), 1e-6)
        v = draw(3, seed=5)
        y, product = td.hvp(lambda x: scalar(x, W), X, v)
        close(y, scalar(X, W).numpy(), 0)
        close(product, hessian.numpy() @ v.numpy(), 1e-12)

    def test_blocks(self) -> None:
        blocks = td.hessian(scalar, (0, 1))(X, W)
        close(blocks[0][0], td.hessian(scalar)(X, W).numpy(), 1e-12)
        close(blocks[1][1], td.hessian(scalar, 1)(X, W).numpy(), 1e-12)
        close(blocks[0][1], differences(lambda w: td.jacobian(scalar)(X, w), W), 1e-6)
        close(blocks[1][0], np.moveaxis(blocks[0][1].numpy(), 0, -1), 1e-12)
        v = draw(3, seed=6), draw(3, 2, seed=7)
        products = td.hvp(scalar, (X, W), v)[1]
        expected = [
            sum(np.tensordot(block.numpy(), u.numpy(), u.ndim) for block, u in zip(row, v, strict=True))
            for row in blocks
        ]
        for got, wanted in zip(products, expected, strict=True):
            close(got, wanted, 1e-12)

    def test_third_order(self) -> None:
        """The Jacobian of the Hessian, and the Jacobian of a Jacobian."""
        third = td.jacobian(td.hessian(scalar))(X, W)
        close(third, differences(lambda x: td.hessian(scalar)(x, W), X), 1e-6)
        twice = td.jacobian(td.jacobian(vector))(X, W)
        close(twice, differences(lambda x: td.jacobian(vector)(x, W), X), 1e-6)
        mixed = td.jacobian(td.jacobian(vector, 0), 1)(X, W)
        close(mixed, differences(lambda w: td.jacobian(vector)(X, w), W), 1e-6)

    def test_jvp_in_jvp(self) -> None:
        t = draw(3, seed=8)

        def along(x):
            return td.jvp(lambda x: vector(x, W), (x,), (t,))[1]

        close(td.jvp(along, (X,), (t,))[1], difference(along, X, t), 1e-6)
        second = td.jacobian(td.jacobian(vector))(X, W).numpy()
        close(td.jvp(along, (X,), (t,))[1], second @ t.numpy() @ t.numpy(), 1e-12)


class TestAgainstTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def functions(self, torch):
        def theirs(x, w):
            return (x * x.exp()) @ w.tanh()

        return theirs, lambda x, w: (theirs(x, w) ** 3).sum() + (x * x[0]).sum()

    @pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
    def test_all(self, torch) -> None:
        theirs, theirs_scalar = self.functions(torch)
        x, w = torch.tensor(X.numpy().copy()), torch.tensor(W.numpy().copy())
        v, t, s = draw(2, seed=2), draw(3, seed=3), draw(3, 2, seed=4)
        as_torch = [torch.tensor(a.numpy().copy()) for a in (v, t, s)]
        for ours, reference in (
            (td.vjp(vector, X, W)[1](v), torch.func.vjp(theirs, x, w)[1](as_torch[0])),
            (td.jvp(vector, (X, W), (t, s)), torch.func.jvp(theirs, (x, w), tuple(as_torch[1:]))),
            (td.jacobian(vector, (0, 1))(X, W), torch.func.jacrev(theirs, (0, 1))(x, w)),
            (td.hessian(scalar, (0, 1))(X, W)[0], torch.func.hessian(theirs_scalar, (0, 1))(x, w)[0]),
            (td.hessian(scalar, (0, 1))(X, W)[1], torch.func.hessian(theirs_scalar, (0, 1))(x, w)[1]),
            (
                td.hvp(scalar, (X, W), (t, s))[1],
                torch.autograd.functional.hvp(theirs_scalar, (x, w), tuple(as_torch[1:]))[1],
            ),
        ):
            for a, b in zip(ours, reference, strict=True):
                close(a, b.detach().numpy(), 1e-10)


class TestNothingToFind:
    def test_constant_functions(self) -> None:
        c = draw(2, seed=9)
        y, vjp_fn = td.vjp(lambda x: c, X)
        close(y, c.numpy(), 0)
        close(vjp_fn(c)[0], np.zeros(3), 0)
        close(td.jvp(lambda x: c, (X,), (X,))[1], np.zeros(2), 0)
        close(td.jacobian(lambda x: c)(X), np.zeros((2, 3)), 0)
        close(td.hessian(lambda x: c.sum())(X), np.zeros((3, 3)), 0)
        close(td.hvp(lambda x: c.sum(), X, X)[1], np.zeros(3), 0)

    def test_linear_functions(self) -> None:
        close(td.hessian(lambda x: (2.0 * x).sum())(X), np.zeros((3, 3)), 0)
        close(td.hvp(lambda x: (2.0 * x).sum(), X, X)[1], np.zeros(3), 0)
        close(td.jacobian(td.jacobian(lambda x: 2.0 * x))(X), np.zeros((3, 3, 3)), 0)

    def test_unused_inputs(self) -> None:
        def first(x, w):
            return x.exp()

        gx, gw = td.vjp(first, X, W)[1](X)
        close(gx, (X * X.exp()).numpy(), 1e-14)
        close(gw, np.zeros((3, 2)), 0)
        close(td.jacobian(first, 1)(X, W), np.zeros((3, 3, 2)), 0)
        close(td.hessian(lambda x, w: first(x, w).sum(), 1)(X, W), np.zeros((3, 2, 3, 2)), 0)
        close(td.jvp(first, (X, W), (td.zeros_like(X), W))[1], np.zeros(3), 0)

    def test_identity(self) -> None:
        close(td.jacobian(lambda x: x)(X), np.eye(3), 0)
        close(td.jacobian(lambda x: X)(X), np.zeros((3, 3)), 0)  # the tensor itself is not the input
        close(td.jacobian(lambda x, y: x)(X, X), np.eye(3), 0)

    @pytest.mark.parametrize("shape", [(), (0,), (0, 2), (1, 1)])
    def test_shapes(self, shape) -> None:
        x = draw(*shape)
        close(td.jacobian(lambda x: x.exp())(x).reshape(-1).sum(), x.exp().sum().numpy(), 1e-14)
        assert td.jacobian(lambda x: x * x)(x).shape == shape * 2
        assert td.hessian(lambda x: (x * x).sum())(x).shape == shape * 2
        assert td.jacobian(lambda x: draw(0) * x.sum())(x).shape == (0, *shape)

    def test_several_outputs(self) -> None:
        def both(x):
            return x.exp(), td.tensor([1.0], dtype=F), x.sum()

        outputs, tangents = td.jvp(both, (X,), (X,))
        assert len(outputs) == len(tangents) == 3
        close(tangents[0], (X.exp() * X).numpy(), 1e-14)
        close(tangents[1], np.zeros(1), 0)
        one = td.ones(1, dtype=F)
        for given in ((X, one, one.sum()), [X, one, one.sum()]):
            close(td.vjp(both, X)[1](given)[0], (X.exp() * X + 1.0).numpy(), 1e-14)

    def test_float32(self) -> None:
        x = X.float()
        assert (
            td.jacobian(lambda x: x.exp())(x).dtype
            == td.hessian(lambda x: x.exp().sum())(x).dtype
            == np.float32
        )


class TestGraphs:
    def test_nothing_outside_nothing_kept(self) -> None:
        """Without anything to differentiate by, results have no graph; the inputs are left as they were."""
        y, vjp_fn = td.vjp(vector, X, W)
        results = [
            y,
            *vjp_fn(draw(2)),
            *td.jvp(vector, (X, W), (X, W)),
            td.jacobian(vector)(X, W),
            td.hessian(scalar)(X, W),
        ]
        results += [td.hvp(lambda x: scalar(x, W), X, X)[0], td.hvp(lambda x: scalar(x, W), X, X)[1]]
        assert not any(r.requires_grad for r in results)
        assert not X.requires_grad
        assert state.grad

    def test_inputs_outside(self) -> None:
        x = draw(3, requires_grad=True)
        penalty = (td.jacobian(vector)(x, W) ** 2).sum()
        penalty.backward()
        expected = differences(lambda x: (td.jacobian(vector)(x, W) ** 2).sum(), X)
        close(x.grad, expected, 1e-6)

    def test_tensors_closed_over(self) -> None:
        w = W.clone().requires_grad_()
        penalty = (td.jvp(lambda x: vector(x, w), (X,), (X,))[1] ** 2).sum()
        penalty.backward()
        expected = differences(lambda w: (td.jvp(lambda x: vector(x, w), (X,), (X,))[1] ** 2).sum(), W)
        close(w.grad, expected, 1e-6)

    def test_cotangents(self) -> None:
        v = draw(2, requires_grad=True)
        (g,) = td.grad((td.vjp(vector, X, W)[1](v)[0] * X).sum(), v)
        close(g, td.jvp(lambda x: vector(x, W), (X,), (X,))[1].numpy(), 1e-12)

    def test_no_grad(self) -> None:
        x = draw(3, requires_grad=True)
        with td.no_grad():
            results = [
                td.jacobian(vector)(x, W),
                td.hessian(scalar)(x, W),
                td.hvp(lambda x: scalar(x, W), x, X)[1],
            ]
            close(results[0], td.jacobian(vector)(X, W).numpy(), 0)
        assert not any(r.requires_grad for r in results)

    def test_a_module(self) -> None:
        model = td.nn.Linear(3, 2).double()
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        jacobian = td.jacobian(
            lambda weight: td.functional_call(model, {**parameters, "weight": weight}, (X,))
        )
        expected = np.zeros((2, 2, 3))
        expected[0, 0] = expected[1, 1] = X.numpy()
        close(jacobian(parameters["weight"]), expected, 1e-14)
        assert all(p.grad is None for p in model.parameters())

    def test_history_that_was_freed(self) -> None:
        """The derivative by an intermediate result does not need what came before it."""
        x = draw(3, requires_grad=True)
        y = x.exp()
        y.sum().backward()
        (g,) = td.grad((y * y).sum(), y)
        close(g, 2 * y.detach().numpy(), 1e-14)
        with pytest.raises(GraphError, match="freed"):
            td.grad((y * y).sum(), x)

    def test_inside_a_recorded_step(self) -> None:
        step = td.record(lambda x: td.hvp(lambda x: scalar(x, W), x, X)[1])
        for seed in range(3):
            x = draw(3, seed=seed)
            close(step(x), td.hvp(lambda x: scalar(x, W), x, X)[1].numpy(), 0)


class TestErrors:
    def test_messages(self) -> None:
        y, vjp_fn = td.vjp(vector, X, W)
        for call, error, message in (
            (
                lambda: td.vjp(vector, X.numpy(), W),
                TypeError,
                "vjp: expected tensors, got ndarray as input 0",
            ),
            (
                lambda: td.vjp(lambda x: x, td.tensor([1])),
                DtypeError,
                "requires_grad: expected a floating dtype, got int64",
            ),
            (lambda: vjp_fn(y, y), GraphError, "vjp: expected 1 cotangents, got 2"),
            (lambda: vjp_fn(X), GraphError, r"grad: expected a seed of \(2,\) float64, got \(3,\) float64"),
            (lambda: td.jvp(vector, (X, W), (X,)), ShapeError, "jvp: expected tangents like the inputs"),
            (lambda: td.jvp(vector, (X, W), (X, X)), ShapeError, "jvp: expected tangents like the inputs"),
            (lambda: td.hvp(scalar, (X, W), (X, X)), ShapeError, "hvp: expected v like the inputs"),
            (
                lambda: td.hvp(vector, (X, W), (X, W)),
                GraphError,
                r"hvp: expected a function that returns a scalar, got \(2,\)",
            ),
            (
                lambda: td.hessian(vector)(X, W),
                GraphError,
                "hessian: expected a function that returns a scalar",
            ),
            (
                lambda: td.jacobian(vector, 2)(X, W),
                ValueError,
                "jacobian: expected argnums of 2 inputs, got 2",
            ),
            (
                lambda: td.jacobian(lambda x: (x, x))(X),
                GraphError,
                "jacobian: expected a function that returns a tensor, got tuple",
            ),
        ):
            with pytest.raises(error, match=message):
                call()


def test_jacobians_by_columns_and_gradients_with_values() -> None:
    close(td.jacfwd(vector)(X, W), td.jacobian(vector)(X, W).numpy(), 1e-12)
    assert td.jacrev is td.jacobian
    jx, jw = td.jacfwd(vector, (0, 1))(X, W)
    close(jx, td.jacobian(vector, 0)(X, W).numpy(), 1e-12)
    close(jw, td.jacobian(vector, 1)(X, W).numpy(), 1e-12)
    assert td.jacfwd(vector)(X, W).shape == td.jacobian(vector)(X, W).shape
    close(td.jacfwd(td.jacrev(vector))(X, W), td.jacobian(td.jacobian(vector))(X, W).numpy(), 1e-12)
    slope, value = td.grad_and_value(scalar)(X, W)
    close(value, scalar(X, W).numpy(), 0)
    close(slope, differences(lambda x: scalar(x, W), X))
    (gx, gw), _ = td.grad_and_value(scalar, (0, 1))(X, W)
    close(gx, slope.numpy(), 0)
    close(gw, differences(lambda w: scalar(X, w), W))
    for wrong in (td.jacfwd, td.grad_and_value):
        with pytest.raises(ValueError, match=rf"{wrong.__name__}: expected argnums of 2 inputs, got 2"):
            wrong(scalar, 2)(X, W)
    with pytest.raises(GraphError, match="grad_and_value: expected a function that returns a scalar"):
        td.grad_and_value(vector)(X, W)
