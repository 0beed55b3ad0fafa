"""Poolings over one to three axes: against PyTorch to second order, kinks and
ties, recorded steps, errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

SETTINGS = settings(max_examples=40, deadline=None)
BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu"])


@pytest.fixture(scope="module")
def functional() -> Any:
    pytest.importorskip("torch")
    import torch.nn.functional

    return torch.nn.functional


def apart(*shape: int) -> np.ndarray:
    """Without ties."""
    return np.random.default_rng(shape).permutation(np.linspace(-2, 2, int(np.prod(shape)))).reshape(shape)


def per_axis(draw: Any, axes: int, least: int, most: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(least, most)) for _ in range(axes))


@st.composite
def images(draw: Any) -> tuple[int, np.ndarray]:
    """(axes, x), with and without N."""
    axes = draw(st.integers(1, 3))
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return axes, apart(*batch, draw(st.integers(1, 2)), *per_axis(draw, axes, 1, (9, 6, 4)[axes - 1]))


def pair(name: str, axes: int, functional: Any) -> tuple[Any, Any]:
    return getattr(td, f"{name}{axes}d"), getattr(functional, f"{name}{axes}d")


def assert_same(ours: Any, theirs: Any, x: np.ndarray, **settings: Any) -> None:
    """To second order; what we refuse is not compared."""
    try:
        ours(td.tensor(x), **settings)
    except ShapeError:
        assume(False)
    assert_agree(lambda t: ours(t, **settings), lambda t: theirs(t, **settings), [x])


@SETTINGS
@given(case=images(), data=st.data())
def test_max(functional: Any, case: Any, data: Any) -> None:
    axes, x = case
    kernel = per_axis(data.draw, axes, 1, 3)
    assert_same(
        *pair("max_pool", axes, functional),
        x,
        kernel_size=kernel,
        stride=data.draw(st.sampled_from([None, 1, 2])),
        padding=tuple(data.draw(st.integers(0, k // 2)) for k in kernel),
        dilation=per_axis(data.draw, axes, 1, 2),
        ceil_mode=data.draw(st.booleans()),
        return_indices=True,
    )


@SETTINGS
@given(case=images(), data=st.data())
def test_average(functional: Any, case: Any, data: Any) -> None:
    axes, x = case
    kernel = per_axis(data.draw, axes, 1, 3)
    # PyTorch's avg_pool3d refuses the rest
    assume(all(k <= n for k, n in zip(kernel, x.shape[-axes:], strict=True)))
    override = {"divisor_override": data.draw(st.sampled_from([None, 3, -2]))} if axes > 1 else {}
    assert_same(
        *pair("avg_pool", axes, functional),
        x,
        kernel_size=kernel,
        stride=data.draw(st.sampled_from([None, 1, 2])),
        padding=tuple(data.draw(st.integers(0, k // 2)) for k in kernel),
        ceil_mode=data.draw(st.booleans()),
        count_include_pad=data.draw(st.booleans()),
        **override,
    )


@SETTINGS
@given(case=images(), data=st.data())
def test_lp(functional: Any, case: Any, data: Any) -> None:
    axes, x = case
    kernel = per_axis(data.draw, axes, 1, 3)
    assume(all(k <= n for k, n in zip(kernel, x.shape[-axes:], strict=True)))
    assert_same(
        *pair("lp_pool", axes, functional),
        np.abs(x) + 0.1,
        norm_type=data.draw(st.sampled_from([1, 2, 3, 1.5, -1])),
        kernel_size=kernel[0] if axes == 1 else kernel,
        stride=data.draw(st.sampled_from([None, 1, 2])),
        ceil_mode=data.draw(st.booleans()),
    )


@SETTINGS
@given(case=images(), data=st.data())
def test_adaptive(functional: Any, case: Any, data: Any) -> None:
    axes, x = case
    size = data.draw(
        st.one_of(st.integers(1, 6), st.tuples(*[st.one_of(st.none(), st.integers(1, 6))] * axes))
    )
    size = size[0] or 2 if axes == 1 and isinstance(size, tuple) else size  # PyTorch has no None there
    assert_same(*pair("adaptive_avg_pool", axes, functional), x, output_size=size)
    assert_same(*pair("adaptive_max_pool", axes, functional), x, output_size=size, return_indices=True)


@SETTINGS
@given(case=images(), data=st.data())
def test_unpooling(functional: Any, case: Any, data: Any) -> None:
    """Of windows that do not overlap: where several values meet, PyTorch gives each the whole gradient."""
    axes, x = case
    kernel = per_axis(data.draw, axes, 1, 3)
    pads = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    pool, unpool = f"max_pool{axes}d", f"max_unpool{axes}d"
    try:
        y, indices = getattr(td, pool)(td.tensor(x), kernel, None, pads, return_indices=True)
        restored = getattr(td, unpool)(y, indices, kernel, None, pads, x.shape)
    except ShapeError:
        assume(False)
    y, indices = y.numpy(), indices.numpy()
    usual = [n * k - 2 * p for n, k, p in zip(y.shape[-axes:], kernel, pads, strict=True)]
    for size in [x.shape[-axes:], None] if indices.max() < np.prod(usual) else [x.shape[-axes:]]:
        assert_agree(
            lambda t, i, size=size: getattr(td, unpool)(t, i, kernel, None, pads, size),
            lambda t, i, size=size: getattr(functional, unpool)(t, i, kernel, None, pads, size),
            [y, indices],
        )
    kept = restored.numpy()[restored.numpy() != 0]
    np.testing.assert_array_equal(np.sort(kept), np.sort(y[y != 0], axis=None))


# ---- Kinks, ties, and numbers that are none


@BACKENDS
@pytest.mark.parametrize("norm_type", [1, 2, 3, 4.0])
def test_lp_of_zeros(backend: str, norm_type: float) -> None:
    """Its first two derivatives are 0, not NaN, and do not spoil the others."""
    with td.backend(backend):
        x = td.tensor([[[0.0, 0.0, 1.0, 2.0]]], dtype="float64", requires_grad=True)
        y = td.lp_pool1d(x, norm_type, 2)
        (dx,) = td.grad(y.sum(), x, create_graph=True)
        (dxx,) = td.grad((dx * dx).sum(), x)
        assert y[0, 0, 0].item() == 0
        assert y[0, 0, 1].item() == pytest.approx((1 + 2**norm_type) ** (1 / norm_type))
        for g in (dx.detach().numpy(), dxx.numpy()):
            assert np.isfinite(g).all()
            assert (g[..., :2] == 0).all()


@BACKENDS
def test_adaptive_max_of_ties_and_nan(backend: str) -> None:
    """Of equal values the first wins, of NaNs the last, as in PyTorch."""
    x = np.array([[[2.0, 2.0, 1.0, np.nan, 0.0, np.nan, -np.inf, -np.inf]]])
    with td.backend(backend):
        values, indices = td.adaptive_max_pool1d(td.tensor(x), 3, True)
    np.testing.assert_array_equal(values.numpy(), [[[2, np.nan, np.nan]]])
    np.testing.assert_array_equal(indices.numpy(), [[[0, 5, 5]]])
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(
        torch.nn.functional.adaptive_max_pool1d(torch.tensor(x), 3, True)[1], indices.numpy()
    )


@BACKENDS
def test_means_of_infinities_stay_where_they_are(backend: str) -> None:
    with td.backend(backend):
        y = td.adaptive_avg_pool1d(td.tensor([[[np.inf, 1.0, 2.0, 3.0, np.nan]]]), 3).numpy()
    np.testing.assert_array_equal(y, [[[np.inf, 2, np.nan]]])


@BACKENDS
def test_unpooling_to_one_place(backend: str) -> None:
    """The last value wins, and alone has a gradient, of every order."""
    indices = td.tensor([[[1, 3, 1]]])
    with td.backend(backend):
        x = td.tensor([[[5.0, 6.0, 7.0]]], dtype="float64", requires_grad=True)
        y = td.max_unpool1d(x, indices, 2)
        np.testing.assert_array_equal(y.detach().numpy(), [[[0, 7, 0, 6, 0, 0]]])
        np.testing.assert_array_equal(td.grad(y.sum(), x)[0].numpy(), [[[0, 1, 1]]])
        assert td.gradcheck(lambda t: td.max_unpool1d(t, indices, 2) ** 3, [x], 3)


@BACKENDS
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_third_derivatives(backend: str, axes: int) -> None:
    x = td.tensor(np.abs(apart(1, 2, *(5, 4, 3)[:axes])) + 0.2, requires_grad=True)
    functions = [
        lambda t: getattr(td, f"lp_pool{axes}d")(t, 3, 2, 1),
        lambda t: getattr(td, f"adaptive_avg_pool{axes}d")(t * t * t, (3, 3, 2)[:axes]),
        lambda t: getattr(td, f"adaptive_max_pool{axes}d")(t * t * t, (3, 3, 2)[:axes]),
    ]
    with td.backend(backend):
        for function in functions:
            assert td.gradcheck(function, [x], 3)


def test_an_empty_batch() -> None:
    x = td.zeros(0, 3, 5, 5, requires_grad=True)
    for y in (
        td.adaptive_max_pool2d(x, 2),
        td.adaptive_avg_pool2d(x, 3),
        td.lp_pool2d(x, 2, 2),
        td.max_pool2d(x, 2),
    ):
        assert y.shape[:2] == (0, 3)
        assert td.grad(y.sum(), x)[0].shape == x.shape


@BACKENDS
def test_a_replay_is_the_eager_step(backend: str) -> None:
    def step(x: Any) -> Any:
        x = x.detach().requires_grad_()
        y, indices = td.max_pool2d(x, 2, return_indices=True)
        z = td.max_unpool2d(y * y, indices, 2, output_size=x.shape)
        total = (td.lp_pool2d(z, 2, 3, 1) + td.adaptive_avg_pool2d(z, 3) * td.adaptive_max_pool2d(x, 3)).sum()
        (dx,) = td.grad(total, x, create_graph=True)
        return total, indices, dx, *td.grad((dx * dx).sum(), x)

    with td.backend(backend):
        recorded = td.record(step)
        for seed in range(3):
            x = td.tensor(np.random.default_rng(seed).standard_normal((2, 2, 5, 5)))
            for a, b in zip(step(x), recorded(x), strict=True):
                np.testing.assert_array_equal(a.detach().numpy(), b.numpy())


# ---- Errors

LINE, IMAGE = td.ones(1, 2, 6), td.ones(1, 2, 4, 4)
ERRORS = [
    *[
        (
            lambda call=call: call(td.ones(4, 4, 4, 4)),
            ShapeError,
            f"{name}1d: expected input (N, C, W) or (C, W), got (4, 4",
        )
        for name, call in {
            "max_pool": lambda x: td.max_pool1d(x, 2),
            "avg_pool": lambda x: td.avg_pool1d(x, 2),
            "lp_pool": lambda x: td.lp_pool1d(x, 2, 2),
            "max_unpool": lambda x: td.max_unpool1d(x, x, 2),
            "adaptive_avg_pool": lambda x: td.adaptive_avg_pool1d(x, 2),
            "adaptive_max_pool": lambda x: td.adaptive_max_pool1d(x, 2),
        }.items()
    ],
    (
        lambda: td.max_pool3d(IMAGE[0], 2),
        ShapeError,
        "max_pool3d: expected input (N, C, D, H, W) or (C, D, H, W), got (2",
    ),
    (
        lambda: td.max_pool1d(LINE, 2, padding=2),
        ShapeError,
        "max_pool1d: padding expected at most half the kernel (2,)",
    ),
    (
        lambda: td.avg_pool1d(LINE, (2, 2)),
        ShapeError,
        "avg_pool1d: kernel_size expected an int or 1 of them, got (2, 2)",
    ),
    (
        lambda: td.avg_pool2d(IMAGE, 2, divisor_override=0),
        ValueError,
        "avg_pool2d: expected divisor_override other than 0",
    ),
    (
        lambda: td.lp_pool1d(LINE, 0, 2),
        ValueError,
        "lp_pool1d: expected a finite norm_type other than 0, got 0",
    ),
    (
        lambda: td.lp_pool1d(LINE, np.inf, 2),
        ValueError,
        "lp_pool1d: expected a finite norm_type other than 0, got inf",
    ),
    (
        lambda: td.adaptive_max_pool2d(IMAGE, (1, 2, 3)),
        ShapeError,
        "adaptive_max_pool2d: expected output_size an int or 2 of",
    ),
    (
        lambda: td.adaptive_avg_pool1d(LINE, 0),
        ShapeError,
        "adaptive_avg_pool1d: expected output sizes of at least 1, got 0",
    ),
    (
        lambda: td.adaptive_avg_pool1d(td.ones(1, 2, 0), 1),
        ShapeError,
        "adaptive_avg_pool1d: expected input sizes of at least 1",
    ),
    (
        lambda: td.max_unpool1d(LINE, td.zeros(1, dtype="int64"), 2),
        ShapeError,
        "max_unpool1d: expected indices (1, 2, 6)",
    ),
    (
        lambda: td.max_unpool1d(LINE, LINE, 2, None, 0, (14,)),
        ShapeError,
        "max_unpool1d: expected output_size less than a stride",
    ),
    (
        lambda: td.max_unpool1d(LINE, LINE, 2, 1, 6),
        ShapeError,
        "max_unpool1d: expected an output of at least 1 along each axis",
    ),
    (
        lambda: td.max_unpool1d(LINE, LINE.to("int64") + 11, 2),
        IndexError,
        "expected indices from 0 to 11, got 12 to 12",
    ),
]


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("call", "error", "message"), ERRORS, ids=[message.split(", got")[0] for *_, message in ERRORS]
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@BACKENDS
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "sizes"), [("float64", (1e200, 1e-200)), ("float32", (1e30, 1e-30))])
@pytest.mark.parametrize("norm_type", [2, 3.0, 1.5, -2])
def test_lp_of_any_size(
    backend: str, axes: int, dtype: str, sizes: tuple[float, float], norm_type: float
) -> None:
    """A norm of c x is c times that of x, its gradient the same, its second derivative 1/c. Windows of both
    sizes may lie side by side.
    """
    x = 1.0 + np.random.default_rng(axes).random((1, 2, *(6,) * axes))
    tolerance = {"rtol": 1e-12 if dtype == "float64" else 2e-5}

    def derivatives(x: np.ndarray, ceil_mode: bool) -> list[np.ndarray]:
        t = td.tensor(x, dtype=dtype, requires_grad=True)
        y = getattr(td, f"lp_pool{axes}d")(t, norm_type, 4, 2, ceil_mode)
        (dx,) = td.grad(y.sum(), t, create_graph=True)
        (dxx,) = td.grad((dx * td.tensor(np.cos(np.arange(x.size)).reshape(x.shape), dtype=dtype)).sum(), t)
        return [z.detach().numpy() for z in (y, dx, dxx)]

    with td.backend(backend):
        for ceil_mode in (False, True):
            plain = derivatives(x, ceil_mode)
            for c in sizes:
                found = derivatives(c * x, ceil_mode)
                for value, expected, power in zip(found, plain, (1, 0, -1), strict=True):
                    np.testing.assert_allclose(
                        value * np.float64(c) ** -power, expected, **tolerance, atol=1e-6
                    )
        both = np.concatenate([c * x for c in sizes], -1)
        y = getattr(td, f"lp_pool{axes}d")(td.tensor(both, dtype=dtype), norm_type, 2).numpy()
        for part, c in zip(np.split(y, 2, -1), sizes, strict=True):
            expected = getattr(td, f"lp_pool{axes}d")(td.tensor(x), norm_type, 2).numpy()
            np.testing.assert_allclose(part / np.float64(c), expected, rtol=2e-5)
