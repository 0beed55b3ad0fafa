"""Convolutions over one to three axes, their transposes, windows as columns: against PyTorch
to second order, and errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tinydl_kernels.machine.errors import ShapeError
from tinydl_kernels.machine.window import Window

import tinydl as td
from tinydl.ops.unfold import locally_connected2d

SETTINGS = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def functional() -> Any:
    pytest.importorskip("torch")
    import torch.nn.functional

    return torch.nn.functional


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def per_axis(draw: Any, axes: int, least: int, most: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(least, most)) for _ in range(axes))


@st.composite
def convolutions(draw: Any, most: int = 3, least: int = 1) -> tuple[int, list[np.ndarray], dict[str, Any]]:
    """(axes, [x, w, b], settings); w for a plain one."""
    axes, groups = draw(st.integers(least, most)), draw(st.integers(1, 3))
    C, O = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    sizes, kernel = per_axis(draw, axes, 1, (9, 6, 4)[axes - 1]), per_axis(draw, axes, 1, 3)
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    found = {name: per_axis(draw, axes, *range_) for name, range_ in
             (("stride", (1, 3)), ("padding", (0, 2)), ("dilation", (1, 2)))}  # fmt: skip
    arrays = [normal(*batch, C, *sizes), normal(O, C // groups, *kernel), normal(O)]
    return axes, arrays, found | {"groups": groups}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@SETTINGS
@given(case=convolutions(), word=st.sampled_from([None, None, "same", "valid"]))
def test_conv(functional: Any, case: Any, word: str | None) -> None:
    axes, arrays, found = case
    if word is not None:
        found = found | {"padding": word, "stride": 1}
    try:
        getattr(td, f"conv{axes}d")(*map(td.tensor, arrays), **found)
    except ShapeError:
        assume(False)
    assert_agree(
        lambda *t: getattr(td, f"conv{axes}d")(*t, **found),
        lambda *t: getattr(functional, f"conv{axes}d")(*t, **found),
        arrays,
    )


@SETTINGS
@given(case=convolutions(), more=st.tuples(*[st.integers(0, 2)] * 3))
def test_conv_transpose(functional: Any, case: Any, more: tuple[int, ...]) -> None:
    axes, (x, w, b), found = case
    groups = found["groups"]
    w = normal(x.shape[-axes - 1], len(b) // groups, *w.shape[2:])
    below = [max(s, d) - 1 for s, d in zip(found["stride"], found["dilation"], strict=True)]
    found = found | {"output_padding": tuple(min(pair) for pair in zip(more, below, strict=False))}
    try:
        getattr(td, f"conv_transpose{axes}d")(*map(td.tensor, (x, w, b)), **found)
    except ShapeError:
        assume(False)
    assert_agree(
        lambda *t: getattr(td, f"conv_transpose{axes}d")(*t, **found),
        lambda *t: getattr(functional, f"conv_transpose{axes}d")(*t, **found),
        [x, w, b],
    )


@SETTINGS
@given(case=convolutions())
def test_transposed_is_the_transpose(case: Any) -> None:
    """<conv(x), y> = <x, conv_transpose(y)>, the rest of a stride put back by output_padding."""
    axes, (x, w, _), found = case
    x = x if x.ndim == axes + 2 else x[None]
    try:
        window = Window.conv("conv", x.shape, w.shape, **found, axes=axes)
    except ShapeError:
        assume(False)
    rest = [
        n + low + high - e
        for n, low, high, e in zip(window.input, window.low, window.high, window.extent, strict=True)
    ]
    y = normal(len(x), len(w), *window.out, seed=1)
    forward = getattr(td, f"conv{axes}d")(td.tensor(x), td.tensor(w), **found).numpy()
    back = getattr(td, f"conv_transpose{axes}d")(
        td.tensor(y), td.tensor(w), **found, output_padding=rest
    ).numpy()
    np.testing.assert_allclose(np.vdot(forward, y), np.vdot(x, back), atol=1e-9)


@pytest.mark.parametrize(
    ("axes", "pairs"), [(1, [(2, 0)]), (2, [(1, 0), (0, 2)]), (3, [(1, 0), (0, 1), (2, 2)])]
)
def test_pads_by_side(functional: Any, axes: int, pairs: Any) -> None:
    arrays = [normal(2, 2, *(4, 3, 3)[:axes]), normal(3, 2, *(2, 3, 1)[:axes])]
    sides = [side for pair in reversed(pairs) for side in pair]
    assert_agree(
        lambda x, w: getattr(td, f"conv{axes}d")(x, w, padding=pairs),
        lambda x, w: getattr(functional, f"conv{axes}d")(functional.pad(x, sides), w),
        arrays,
    )
    y = getattr(td, f"conv_transpose{axes}d")(
        td.tensor(arrays[0]), td.ones(2, 1, *(3,) * axes).double(), None, 2, pairs
    )
    whole = getattr(td, f"conv_transpose{axes}d")(
        td.tensor(arrays[0]), td.ones(2, 1, *(3,) * axes).double(), None, 2
    )
    inside = tuple(slice(low, n - high) for (low, high), n in zip(pairs, whole.shape[2:], strict=True))
    np.testing.assert_array_equal(y.numpy(), whole.numpy()[(..., *inside)])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_third_derivatives(backend: str) -> None:
    with td.backend(backend):
        for x, w, b in (((1, 2, 3), (2, 1, 2), (2,)), ((1, 2, 2, 3), (2, 1, 2, 2), (2,))):
            function = (td.conv_transpose1d, td.conv_transpose2d)[len(x) - 3]
            inputs = [td.tensor(normal(*shape), requires_grad=True) for shape in (x, w, b)]
            assert td.gradcheck(lambda *t, f=function: f(*t, 2, 1, 1, 2, 2), inputs, order=3)


def test_an_empty_batch() -> None:
    x, w = td.zeros(0, 2, 4, 4), td.ones(2, 3, 2, 2, requires_grad=True)
    y = td.conv_transpose2d(x, w, td.ones(3), 2)
    assert y.shape == (0, 3, 8, 8)
    assert not td.grad(y.sum(), w)[0].numpy().any()


# ---- Windows as columns


@SETTINGS
@given(case=convolutions(2, 2))
def test_unfold_and_fold(functional: Any, case: Any) -> None:
    _, (x, w, _), found = case
    found = {name: value for name, value in found.items() if name != "groups"} | {"kernel_size": w.shape[2:]}
    try:
        columns = td.unfold(td.tensor(x), **found)
    except ShapeError:
        assume(False)
    assert_agree(lambda t: td.unfold(t, **found), lambda t: functional.unfold(t, **found), [x])
    size = x.shape[-2:]
    assert_agree(
        lambda t: td.fold(t, size, **found),
        lambda t: functional.fold(t, size, **found),
        [normal(*columns.shape)],
    )


def test_a_convolution_is_a_product_with_the_columns() -> None:
    x, w = td.tensor(normal(2, 3, 5, 6)), td.tensor(normal(4, 3, 2, 3))
    product = w.reshape(4, -1) @ td.unfold(x, (2, 3), padding=1, stride=2)
    np.testing.assert_allclose(
        product.reshape(2, 4, 3, 3).numpy(), td.conv2d(x, w, None, 2, 1).numpy(), atol=1e-12
    )


def test_equal_weights_everywhere_are_a_convolution() -> None:
    def local(x: Any, w: Any, b: Any) -> Any:
        weight = td.broadcast_to(w.reshape(1, 1, 4, -1), 3, 3, 4, 18)
        bias = td.broadcast_to(b.reshape(4, 1, 1), 4, 3, 3)
        return locally_connected2d(x, weight, bias, (2, 3), 2, 1)

    pytest.importorskip("torch")
    from torch.nn.functional import conv2d

    for batch in ((2,), ()):
        arrays = [normal(*batch, 3, 5, 6), normal(4, 3, 2, 3), normal(4)]
        assert_agree(local, lambda *t: conv2d(*t, 2, 1), arrays)


# ---- Recorded steps and errors


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_replay_is_the_eager_step(backend: str) -> None:
    def step(x: Any, w: Any, v: Any) -> Any:
        x, w, v = (t.detach().requires_grad_() for t in (x, w, v))
        y = td.conv_transpose1d(td.conv1d(x, w, None, 2), w, None, 2, output_padding=1)
        z = td.fold(td.unfold(v, 2).tanh(), v.shape[-2:], 2)
        total = (y * y * y).sum() + (z * z).sum()
        dx, dw, dv = td.grad(total, (x, w, v), create_graph=True)
        return total, *td.grad((dx * dx).sum() + (dv * dv).sum(), (x, w, v)), dw

    with td.backend(backend):
        recorded = td.record(step)
        for seed in range(3):
            arrays = [normal(*shape, seed=seed) for shape in ((2, 3, 6), (4, 3, 2), (2, 3, 4))]
            inputs = [td.tensor(x) for x in arrays]
            for a, b in zip(step(*inputs), recorded(*inputs), strict=True):
                np.testing.assert_array_equal(a.detach().numpy(), b.numpy())


X, W = td.ones(2, 4, 5), td.ones(4, 3, 3)
IMAGE = td.ones(1, 2, 4, 4)
ERRORS = [
    (
        lambda: td.conv1d(X, td.ones(2, 3, 3)),
        "conv1d: x has C=4, weight expects C=3 (groups 1): x (2, 4, 5), weight (2, 3, 3)",
    ),
    (
        lambda: td.conv3d(X, W),
        "conv3d: x expected 5 axes (N, C, D, H, W), got 3: x (2, 4, 5), weight (4, 3, 3)",
    ),
    (
        lambda: td.conv1d(X, td.ones(2, 4, 6)),
        "conv1d: expected a padded input at least as large as the dilated kernel (6,)",
    ),
    (
        lambda: td.conv_transpose1d(X, td.ones(3, 3, 3)),
        "conv_transpose1d: x has C=4, weight expects C=3: x (2, 4, 5)",
    ),
    (lambda: td.conv_transpose1d(X, W, td.ones(4)), "conv_transpose1d: expected bias (3,), got (4,)"),
    (
        lambda: td.conv_transpose1d(X, W, groups=3),
        "conv_transpose1d: weight has C=4, expected a multiple of groups 3",
    ),
    (lambda: td.conv_transpose1d(X, W, groups=0), "conv_transpose1d: groups expected at least 1, got 0"),
    (
        lambda: td.conv_transpose1d(X, td.ones(4, 3)),
        "conv_transpose1d: weight expected 3 axes (C, O / groups, KW), got 2",
    ),
    (
        lambda: td.conv_transpose1d(X, W, padding="same"),
        "conv_transpose1d: padding expected sizes, got 'same'",
    ),
    (
        lambda: td.conv_transpose1d(X, W, stride=2, output_padding=2),
        "conv_transpose1d: output_padding expected below",
    ),
    (
        lambda: td.conv_transpose1d(X, W, output_padding=-1),
        "conv_transpose1d: output_padding expected at least 0",
    ),
    (
        lambda: td.conv_transpose1d(X, W, padding=4),
        "conv_transpose1d: expected sizes of at least 1, got a result of (-1,)",
    ),
    (
        lambda: td.conv_transpose2d(IMAGE, td.ones(2, 1, 2, 2), stride=(1, 2, 3)),
        "conv_transpose2d: stride expected an int or 2",
    ),
    (lambda: td.unfold(td.ones(4, 4), 2), "unfold: expected input (N, C, H, W) or (C, H, W), got (4, 4)"),
    (
        lambda: td.fold(td.ones(4, 4, 2, 2), 4, 2),
        "fold: expected input (N, C·4, L) for kernel_size (2, 2), got (4, 4, 2, 2)",
    ),
    (
        lambda: td.fold(td.ones(1, 8, 8), 4, 2),
        "fold: expected 9 columns for output_size (4, 4), got (1, 8, 8)",
    ),
    (
        lambda: locally_connected2d(IMAGE, td.ones(3, 3, 2, 7), None, 2),
        "locally_connected2d: expected weight (3, 3, 'O', 8), got input (1, 2, 4, 4), weight (3, 3, 2, 7)",
    ),
    (
        lambda: locally_connected2d(IMAGE, td.ones(3, 3, 2, 8), td.ones(2), 2),
        "locally_connected2d: expected bias (2, 3, 3), got (2,)",
    ),
]


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("call", "message"), ERRORS, ids=[message.split(", got")[0] for _, message in ERRORS]
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        call()
    assert message in str(caught.value)
