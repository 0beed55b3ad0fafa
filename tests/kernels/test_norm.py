"""Batch normalization: statistics, and both derivatives against differences and
against torch's double backward.
"""

import numpy as np
import pytest
from tinydl_kernels import elementwise, norm
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.validate import agree

EPS = 1e-3
ULPS = {np.float32: 2e-5, np.float64: 1e-11}  # means are float64, but rounded to the dtype of x
SHAPES = [(5, 3), (1000, 40), (7, 4, 6, 5), (2, 3, 4), (64, 2, 31), (2, 1, 300, 300), (3, 5, 1, 1), (4, 0, 2)]


def draw(shape, dtype=np.float64):
    random = np.random.default_rng(0)
    v, g, x = random.standard_normal((3, *shape)).astype(dtype)
    v_gamma, v_beta, gamma, beta = random.standard_normal((4, shape[1])).astype(dtype)
    return v, v_gamma, v_beta, g, x + dtype(1), gamma, beta


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_reference(shape, affine, dtype):
    v, v_gamma, v_beta, g, x, gamma, beta = draw(shape, dtype)
    gamma, beta = (gamma, beta) if affine else (None, None)
    _, mean, var = agree(norm.batch_norm, x, gamma, beta, EPS, tolerance=ULPS[dtype])
    agree(norm.batch_norm_dx, g, x, gamma, mean, var, EPS, tolerance=2e-4 if dtype == np.float32 else None)
    implementations = norm.batch_norm_dx_dx.implementations
    tolerance = 2e-4 if dtype == np.float32 else 1e-11
    for cotangents in ((v, v_gamma, v_beta), (v, None, None), (None, v_gamma, None), (None, None, v_beta)):
        arguments = (*cotangents, g, x, gamma, mean, var, EPS)
        for got, expected in zip(
            implementations["cpu"](*arguments), implementations["reference"](*arguments), strict=True
        ):
            assert (got is None) == (expected is None)
            if expected is not None:
                assert got.dtype == expected.dtype == dtype
                np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_passes_apart(shape, affine, dtype):
    """Each against its reference; and together the bits of the whole, of an addition and of relu."""
    _, _, _, g, x, gamma, beta = draw(shape, dtype)
    gamma, beta = (gamma, beta) if affine else (None, None)
    other, tolerance = g[::-1].copy(), 2e-4 if dtype == np.float32 else 1e-11
    y, mean, var = norm.batch_norm(x, gamma, beta, EPS)
    agree(norm.statistics, x, gamma, beta, EPS, tolerance=ULPS[dtype])
    *statistics, factors = norm.statistics(x, gamma, beta, EPS)
    for a, b in zip(statistics, (mean, var), strict=True):
        np.testing.assert_array_equal(a, b)
    for settings, expected in [
        ((None, False), y),
        ((None, True), elementwise.relu(y)),
        ((other, False), elementwise.add(y, other)),
        ((other, True), elementwise.relu(elementwise.add(y, other))),
    ]:
        agree(norm.normalized, x, factors, *settings, tolerance=tolerance)
        np.testing.assert_array_equal(norm.normalized(x, factors, *settings), expected)
    dx, dgamma, dbeta = norm.batch_norm_dx(g, x, gamma, mean, var, EPS)
    agree(norm.dx_statistics, g, x, gamma, mean, var, EPS, tolerance=tolerance)
    *sums, factors = norm.dx_statistics(g, x, gamma, mean, var, EPS)
    if affine:
        for a, b in zip(sums, (dgamma, dbeta), strict=True):
            np.testing.assert_array_equal(a, b)
    for also, expected in ((None, dx), (other, elementwise.add(dx, other))):
        agree(norm.normalized_dx, g, x, factors, also, tolerance=tolerance)
        np.testing.assert_array_equal(norm.normalized_dx(g, x, factors, also), expected)


@pytest.mark.parametrize("shape", [(6, 3), (3, 4, 5, 2)])
def test_a_mean_that_float32_cannot_hold(shape):
    """Values near 2²⁴ lie 2 apart: their mean is not one of them, and yet nothing is off by half of that."""
    v, v_gamma, v_beta, g, x, gamma, beta = draw(shape)
    x = 2.0**24 + 2 * np.rint(4 * x)
    narrow = [a.astype(np.float32) for a in (v, v_gamma, v_beta, g, x, gamma, beta)]
    expected = _all_three(v, v_gamma, v_beta, g, x, gamma, beta)
    for backend in ("reference", "cpu"):
        with dispatch.use(backend):
            for name, a, b in zip(
                ["y", "dx", "dgamma", "dbeta", "ddg", "ddx", "ddgamma"], _all_three(*narrow), expected
            ):
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.abs(b).max(), err_msg=name)


def _all_three(v, v_gamma, v_beta, g, x, gamma, beta):
    y, mean, var = norm.batch_norm(x, gamma, beta, EPS)
    first = norm.batch_norm_dx(g, x, gamma, mean, var, EPS)
    return y, *first, *norm.batch_norm_dx_dx(v, v_gamma, v_beta, g, x, gamma, mean, var, EPS)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("shape", [(6, 3), (3, 4, 5, 2)])
def test_derivatives_against_differences(shape, backend):
    """Each as a directional derivative of the level below, with the statistics recomputed at every point."""
    v, v_gamma, v_beta, g, x, gamma, beta = draw(shape)
    batch_norm, dx, dx_dx = (
        op.implementations[backend] for op in (norm.batch_norm, norm.batch_norm_dx, norm.batch_norm_dx_dx)
    )

    def inner(*pairs):
        return sum((a * b).sum() for a, b in pairs)

    def first(g, x, gamma):
        return dx(g, x, gamma, *batch_norm(x, gamma, beta, EPS)[1:], EPS)

    def difference(f, *at):
        step = [np.random.default_rng(i).standard_normal(a.shape) for i, a in enumerate(at)]
        ahead, behind = (f(*[a + h * s for a, s in zip(at, step, strict=True)]) for h in (1e-5, -1e-5))
        return (ahead - behind) / 2e-5, step

    value, step = difference(
        lambda x, gamma, beta: inner((g, batch_norm(x, gamma, beta, EPS)[0])), x, gamma, beta
    )
    np.testing.assert_allclose(inner(*zip(first(g, x, gamma), step, strict=True)), value, rtol=1e-7)

    value, step = difference(
        lambda *at: inner(*zip((v, v_gamma, v_beta), first(*at), strict=True)), g, x, gamma
    )
    second = dx_dx(v, v_gamma, v_beta, g, x, gamma, *batch_norm(x, gamma, beta, EPS)[1:], EPS)
    np.testing.assert_allclose(inner(*zip(second, step, strict=True)), value, rtol=1e-7)


def test_double_backward_of_torch():
    torch = pytest.importorskip("torch")
    v, v_gamma, _, g, x, gamma, beta = draw((5, 3, 4, 2))
    leaves = [torch.tensor(a, requires_grad=True) for a in (g, x, gamma)]
    shift = torch.tensor(beta, requires_grad=True)
    y = torch.nn.functional.batch_norm(leaves[1], None, None, leaves[2], shift, training=True, eps=EPS)
    dx, dgamma = torch.autograd.grad(y, leaves[1:], leaves[0], create_graph=True)
    expected = torch.autograd.grad((dx, dgamma), leaves, (torch.tensor(v), torch.tensor(v_gamma)))
    _, mean, var = norm.batch_norm(x, gamma, beta, EPS)
    for a, b in zip(
        norm.batch_norm_dx_dx(v, v_gamma, None, g, x, gamma, mean, var, EPS), expected, strict=True
    ):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-11)


@pytest.mark.parametrize("shape", [(4, 2, 50), (200, 2)])
def test_the_variance_does_not_cancel(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    _, mean, var = norm.batch_norm(x + 1e8, None, None, EPS)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(var, x.var(axes), rtol=1e-6)
    np.testing.assert_allclose(mean - 1e8, x.mean(axes), atol=1e-6)


def test_shared_constants_cannot_be_written_to():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        norm._given(None, x, 1.0)[0] = 2
    assert norm._given(None, x, 1.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5)])
def test_read_only_inputs(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.flags.writeable = False
    y, mean, var = norm.batch_norm(x, None, None, 1e-5)
    agree(norm.batch_norm_dx, y, x, None, mean, var, 1e-5)


def test_nan_stays_in_its_channel():
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    x[1, 1, 2] = np.nan
    y, mean, _ = norm.batch_norm(x, None, None, EPS)
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, ::2]).all()
    assert list(np.isnan(mean)) == [False, True, False]


def test_running_update_is_torch_s():
    running_mean, running_var = np.zeros(2), np.ones(2)
    norm.running_update(running_mean, running_var, np.array([1.0, 2.0]), np.array([4.0, 8.0]), 0.1, 5)
    np.testing.assert_allclose(running_mean, [0.1, 0.2])
    np.testing.assert_allclose(running_var, [0.9 + 0.1 * 5, 0.9 + 0.1 * 10])
