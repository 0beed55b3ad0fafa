"""Images in another size: against PyTorch to second order, recorded steps, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td

AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


@st.composite
def cases(draw: Any) -> tuple[tuple[int, ...], dict[str, Any]]:
    """(spatial sizes, settings)"""
    mode = draw(st.sampled_from([*AXES, "nearest", "nearest-exact", "area"]))
    axes = AXES.get(mode) or draw(st.integers(1, 3))
    sizes = tuple(draw(st.integers(1, (12, 7, 4)[axes - 1])) for _ in range(axes))
    found: dict[str, Any] = {"mode": mode}
    if draw(st.booleans()):
        found["size"] = tuple(draw(st.integers(1, (15, 9, 5)[axes - 1])) for _ in range(axes))
    else:
        found["scale_factor"] = tuple(
            draw(st.sampled_from([0.4, 0.5, 0.75, 1.0, 1.3, 1.7, 2.0, 2.5])) for _ in range(axes)
        )
        found["recompute_scale_factor"] = draw(st.sampled_from([None, True, False]))
    if mode in AXES:
        found["align_corners"] = draw(st.sampled_from([None, True, False]))
    return sizes, found


@settings(max_examples=120, deadline=None)
@given(cases())
def test_against_torch(case: tuple[tuple[int, ...], dict[str, Any]]) -> None:
    sizes, found = case
    interpolate = pytest.importorskip("torch").nn.functional.interpolate
    for n, s in zip(sizes, found.get("scale_factor", ()), strict=False):
        assume(math.floor(n * s) >= 1)
        # PyTorch's gradients, not its values, take these scales for exact
        if not found["mode"].endswith("linear"):
            assume(math.floor(n * s) not in (n, 2 * n) or s in (1, 2))
    x = np.random.default_rng(sizes).standard_normal((2, 2, *sizes))
    assert_agree(lambda t: td.interpolate(t, **found), lambda t: interpolate(t, **found), [x])


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_the_nearest_in_float32(mode: str) -> None:
    """The same pixels as PyTorch, which reckons their places in the image's dtype."""
    torch = pytest.importorskip("torch")
    for n in range(3, 30):
        for m in range(3, 30):
            x = np.arange(n, dtype=np.float32).reshape(1, 1, n)
            expected = torch.nn.functional.interpolate(torch.tensor(x), m, mode=mode).numpy()
            np.testing.assert_array_equal(td.interpolate(td.tensor(x), m, mode=mode).numpy(), expected)


def test_what_stays_is_not_touched() -> None:
    x = td.tensor(np.random.default_rng(0).standard_normal((1, 1, 3, 4)))
    assert td.interpolate(x, (3, 4), mode="bilinear") is x
    for mode in ("bilinear", "bicubic"):  # every second of five rows, every third of ten columns
        y = td.interpolate(x, (5, 10), mode=mode, align_corners=True)
        np.testing.assert_allclose(y.numpy()[..., ::2, ::3], x.numpy(), atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_third_derivatives(backend: str) -> None:
    x = td.tensor(np.random.default_rng(0).standard_normal((1, 2, 3, 4)), requires_grad=True)
    with td.backend(backend):
        for mode in ("bilinear", "bicubic", "nearest", "area"):
            assert td.gradcheck(lambda t, mode=mode: td.interpolate(t * t * t, (5, 3), mode=mode), [x], 3)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_replay_is_the_eager_step(backend: str) -> None:
    def step(x: Any) -> Any:
        x = x.detach().requires_grad_()
        y = td.interpolate(td.interpolate(x, scale_factor=1.6, mode="bilinear").tanh(), (4, 5))
        (dx,) = td.grad((y * y).sum(), x, create_graph=True)
        return y, dx, *td.grad((dx * dx).sum(), x)

    with td.backend(backend):
        recorded = td.record(step)
        for seed in range(3):
            x = td.tensor(np.random.default_rng(seed).standard_normal((2, 3, 4, 3)).astype(np.float32))
            for a, b in zip(step(x), recorded(x), strict=True):
                np.testing.assert_array_equal(a.detach().numpy(), b.numpy())


def test_an_empty_batch() -> None:
    x = td.zeros(0, 2, 3, requires_grad=True)
    y = td.interpolate(x, 5, mode="linear")
    assert y.shape == (0, 2, 5)
    assert td.grad(y.sum(), x)[0].shape == (0, 2, 3)


IMAGE = td.ones(1, 2, 4, 4)
ERRORS = [
    (
        (td.ones(2, 3), 4),
        {},
        ShapeError,
        "interpolate: expected input of 3 to 5 dims (N, C, *spatial), got (2, 3)",
    ),
    (
        (IMAGE, 4),
        {"mode": "linear"},
        ShapeError,
        "interpolate: expected input of 3 dims in mode 'linear', got (1, 2, 4, 4)",
    ),
    (
        (IMAGE, 4),
        {"mode": "cubic"},
        ValueError,
        "interpolate: expected mode one of ['linear', 'bilinear', 'bicubic',",
    ),
    ((IMAGE,), {}, ValueError, "interpolate: expected either size or scale_factor, got None and None"),
    ((IMAGE, 4, 2.0), {}, ValueError, "interpolate: expected either size or scale_factor, got 4 and 2.0"),
    ((IMAGE, (4, 4, 4)), {}, ShapeError, "interpolate: expected size a number or 2 of them, got (4, 4, 4)"),
    (
        (IMAGE, None, (2,)),
        {},
        ShapeError,
        "interpolate: expected scale_factor a number or 2 of them, got (2,)",
    ),
    ((IMAGE, None, -1), {}, ValueError, "interpolate: expected a scale_factor above 0, got -1"),
    (
        (IMAGE, None, 0.2),
        {},
        ShapeError,
        "interpolate: expected sizes of at least 1, got (1, 2, 4, 4) to (0, 0)",
    ),
    (
        (IMAGE, 4),
        {"align_corners": True},
        ValueError,
        "interpolate: expected align_corners in modes ['linear', 'bilinear',",
    ),
    ((IMAGE.to("int64"), 8), {}, DtypeError, "interpolate: expected float32 or float64, got int64"),
]


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("inputs", "settings", "error", "message"), ERRORS, ids=[row[3].split(", got")[0] for row in ERRORS]
)
def test_errors(inputs: Any, settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        td.interpolate(*inputs, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_scales_just_above_a_whole_number(mode: str, axes: int) -> None:
    """PyTorch copies or doubles images of mode "nearest" where the sizes say so, whatever the scale says."""
    torch = pytest.importorskip("torch")
    for scale in (1.01, 1.05, 2.01, 2.05, (2.05, 1.3, 1.05)[:axes]):
        for n in (5, 7):
            x = np.arange(float(n**axes)).reshape(1, 1, *(n,) * axes)
            settings = {"scale_factor": scale, "mode": mode}
            theirs = torch.nn.functional.interpolate(torch.tensor(x), **settings).numpy()
            np.testing.assert_array_equal(td.interpolate(td.tensor(x), **settings).numpy(), theirs)
