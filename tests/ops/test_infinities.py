"""What a mask leaves out has no part in a result: infinities and NaN there, derivatives of two orders, in
both widths, on the reference and the loops, eager and recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

INF, NAN = np.inf, np.nan
BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])
BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu"])


def results(f: Callable[..., Any], inputs: list[Any], dtype: str) -> list[np.ndarray]:
    """The value of f, its gradients, and the gradients of Σ cos(k) gradient_k."""
    xs = [td.tensor(np.array(x, dtype), requires_grad=True) for x in inputs]

    def step(*xs: Any) -> tuple[Any, ...]:
        y = f(*xs)
        first = td.grad(y.sum(), xs, create_graph=True)
        dots = [
            (g * td.tensor(np.cos(np.arange(g.array.size)).reshape(g.shape).astype(dtype))).sum()
            for g in first
        ]
        total = sum(dots[1:], dots[0])
        second = td.grad(total, xs, allow_unused=True) if total.requires_grad else [None] * len(xs)
        zeros = [
            td.tensor(np.zeros(x.shape, dtype)) if h is None else h for h, x in zip(second, xs, strict=True)
        ]
        return (y.detach(), *(g.detach() for g in first), *(h.detach() for h in zeros))

    eager = [y.numpy().copy() for y in step(*xs)]
    recorded = td.record(step)
    for _ in range(2):
        for a, b in zip(recorded(*xs), eager, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
    return eager


CLASSES = td.tensor([0, -100])
LABEL = td.tensor([0])
ONE_ROW = [[1.0, -INF, 2.0]]
# name, function, inputs, value, gradients of the inputs (None: only finite is asked)
LEFT_OUT: list[tuple[str, Callable[..., Any], list[Any], Any, list[Any]]] = [
    (
        "nll_loss",
        lambda x: td.nll_loss(td.log_softmax(x, 1), LABEL),
        [ONE_ROW],
        1.3132616,
        [[[-0.7310586, 0, 0.7310586]]],
    ),
    (
        "nll_loss ignored",
        lambda x: td.nll_loss(x, CLASSES),
        [[[-1.0, -2.0], [NAN, INF]]],
        1.0,
        [[[-1, 0], [0, 0]]],
    ),
    (
        "nll_loss weight",
        lambda x, w: td.nll_loss(x, LABEL, w),
        [[[-1.0, -INF]], [2.0, 3.0]],
        1.0,
        [[[-1, 0]], [0, 0]],
    ),
    (
        "cross_entropy",
        lambda x: td.cross_entropy(x, CLASSES),
        [[[0.0, -INF], [NAN, INF]]],
        0.0,
        [np.zeros((2, 2))],
    ),
    (
        "cross_entropy weight",
        lambda x: td.cross_entropy(x, CLASSES, td.tensor([2.0, INF]).to(x.dtype)),
        [[[0.0, -INF], [NAN, INF]]],
        0.0,
        [np.zeros((2, 2))],
    ),
    (
        "cross_entropy smoothed",
        lambda x: td.cross_entropy(x, CLASSES, td.tensor([2.0, 2.0]).to(x.dtype), label_smoothing=0.5),
        [[[0.0, 0.0], [NAN, INF]]],
        np.log(2),
        [[[-0.25, 0.25], [0, 0]]],
    ),
    ("soft targets", lambda x, t: td.cross_entropy(x, t), [ONE_ROW, [[1.0, 0.0, 0.0]]], 1.3132616, None),
    ("multi_margin", lambda x: td.multi_margin_loss(x, LABEL), [[[3.0, -INF]]], 0.0, [[[0, 0]]]),
    ("multi_margin own", lambda x: td.multi_margin_loss(x, LABEL), [[[INF, 1.0]]], 0.0, [[[0, 0]]]),
    ("sqrt of maximum", lambda x: td.sqrt(td.maximum(x, 0.0)), [[-1.0, 4.0]], [0.0, 2.0], [[0, 0.25]]),
    ("sqrt of minimum", lambda x: td.sqrt(-td.minimum(x, 0.0)), [[1.0, -4.0]], [0.0, 2.0], [[0, -0.25]]),
    ("sqrt of relu", lambda x: td.sqrt(td.relu(x)), [[-1.0, 4.0]], [0.0, 2.0], [[0, 0.25]]),
    ("sqrt of clip", lambda x: td.sqrt(td.clip(x, 0.0)), [[-1.0, 4.0]], [0.0, 2.0], [[0, 0.25]]),
    (
        "sqrt of clip, tensors",
        lambda x: td.sqrt(td.clip(x, td.zeros_like(x))),
        [[-1.0, 4.0]],
        [0.0, 2.0],
        [[0, 0.25]],
    ),
    ("sqrt of hardtanh", lambda x: td.sqrt(td.hardtanh(x, 0.0, 1.0)), [[-1.0, 0.25]], [0.0, 0.5], [[0, 1.0]]),
    ("sqrt of sign", lambda x: td.sqrt(td.sign(x)) + x, [[0.0, 4.0]], [0.0, 5.0], [[1, 1]]),
    ("sqrt of floor", lambda x: td.sqrt(td.floor(x)) + x, [[0.5, 4.5]], [0.5, 6.5], [[1, 1]]),
    ("sqrt of amax", lambda x: td.sqrt(td.amax(x)), [[-1.0, 4.0]], 2.0, [[0, 0.25]]),
    ("sqrt of max", lambda x: td.sqrt(td.max(x, 0)[0] - 3.9999999), [[-1.0, 4.0]], None, None),
    (
        "sqrt of max_pool",
        lambda x: td.sqrt(td.max_pool1d(x, 2)),
        [[[[-1.0, 4.0]]]],
        [[[2.0]]],
        [[[[0, 0.25]]]],
    ),
    ("pow 0", lambda x: td.pow(x, 0) + td.where(td.isfinite(x), x, 0.0), [[INF, 2.0]], [1.0, 3.0], [[0, 1]]),
    (
        "bce with logits",
        lambda x: td.binary_cross_entropy_with_logits(x, td.zeros_like(x)),
        [[-INF]],
        0.0,
        [[0]],
    ),
    (
        "bce with logits 1",
        lambda x: td.binary_cross_entropy_with_logits(x, td.ones_like(x)),
        [[INF]],
        0.0,
        [[0]],
    ),
    (
        "bce with logits, wrong",
        lambda x: td.binary_cross_entropy_with_logits(x, td.ones_like(x)),
        [[-INF]],
        INF,
        [[-1]],
    ),
    ("bce", lambda x: td.binary_cross_entropy(x, td.tensor([0.0, 1.0]).to(x.dtype)), [[0.0, 1.0]], 0.0, None),
    (
        "kl_div",
        lambda x: td.kl_div(x, td.tensor([0.0, 1.0]).to(x.dtype), "sum"),
        [[-INF, 0.0]],
        0.0,
        [[0, -1]],
    ),
    (
        "kl_div log",
        lambda x, t: td.kl_div(x, t, "sum", log_target=True),
        [[-INF, 0.0], [-INF, 0.0]],
        0.0,
        [[0, -1], [0, 1]],
    ),
    ("poisson", lambda x: td.poisson_nll_loss(x, td.zeros_like(x)), [[-INF]], 0.0, [[0]]),
    (
        "poisson rate",
        lambda x: td.poisson_nll_loss(x, td.zeros_like(x), log_input=False, eps=0),
        [[0.0]],
        0.0,
        [[1]],
    ),
    ("huber", lambda x: td.huber_loss(x, td.zeros_like(x), "none"), [[INF, -INF]], [INF, INF], [[1, -1]]),
    (
        "smooth_l1",
        lambda x: td.smooth_l1_loss(x, td.zeros_like(x), "none"),
        [[INF, -INF]],
        [INF, INF],
        [[1, -1]],
    ),
    ("l1", lambda x: td.l1_loss(x, td.zeros_like(x), "none"), [[INF, -INF]], [INF, INF], [[1, -1]]),
    (
        "gaussian",
        lambda x: td.gaussian_nll_loss(x, td.zeros_like(x), 1.0, reduction="none"),
        [[INF]],
        [INF],
        [[INF]],
    ),
    ("prelu", td.prelu, [[INF, -1.0], [0.5]], [INF, -0.5], [[1, 0.5], [-1]]),
    ("hardswish", td.hardswish, [[INF, -INF]], [INF, 0], [[1, 0]]),
    ("dropout2d", lambda x: td.dropout2d(x, 1.0), [[[[[INF, NAN]]]]], [[[[0, 0]]]], [[[[[0, 0]]]]]),
    ("alpha_dropout", lambda x: td.alpha_dropout(x, 1.0, True), [[INF, NAN]], [0, 0], [[0, 0]]),
]


@BACKENDS
@BOTH
@pytest.mark.parametrize(
    ("name", "f", "inputs", "value", "gradients"), LEFT_OUT, ids=[case[0] for case in LEFT_OUT]
)
def test_what_is_left_out(
    name: str, f: Callable[..., Any], inputs: list[Any], value: Any, gradients: Any, dtype: str, backend: str
) -> None:
    with td.backend(backend):
        found = results(f, inputs, dtype)
    near = {"rtol": 1e-5, "atol": 1e-6, "err_msg": name}
    if value is not None:
        np.testing.assert_allclose(found[0], value, **near)
    first, second = found[1 : 1 + len(inputs)], found[1 + len(inputs) :]
    if gradients is not None:
        for g, expected in zip(first, gradients, strict=True):
            np.testing.assert_allclose(g, expected, **near)
    assert not any(np.isnan(g).any() for g in (*first, *second)), found


# ---- Attention and recurrent layers


@BACKENDS
@BOTH
@pytest.mark.parametrize("kind", ["bool", "numbers"])
def test_a_row_of_attention_without_keys_gives_0(dtype: str, backend: str, kind: str) -> None:
    seen = np.array([[True, False, True], [False, False, False]])
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((2, n, 4)) for n in (2, 3, 3))

    def attend(*qkv: Any) -> Any:
        given = seen if kind == "bool" else np.where(seen, 0.0, -INF).astype(dtype)
        return td.scaled_dot_product_attention(*qkv, attn_mask=td.tensor(given))

    with td.backend(backend):
        found = results(attend, [q, k, v], dtype)
        alone = results(
            lambda q, k, v: td.scaled_dot_product_attention(q, k, v), [q[:, :1], k[:, ::2], v[:, ::2]], dtype
        )
    assert all(np.isfinite(part).all() for part in found)
    assert not found[0][:, 1].any()
    assert not found[1][:, 1].any()
    for part, whole in zip(
        alone, (found[0][:, :1], found[1][:, :1], found[2][:, ::2], found[3][:, ::2]), strict=False
    ):
        np.testing.assert_allclose(whole, part, rtol=1e-4, atol=1e-6)


@BOTH
def test_multi_head_attention_without_keys(dtype: str) -> None:
    layer = td.nn.MultiheadAttention(4, 2, batch_first=True, dtype=dtype)
    padding = td.tensor([[False, True, True], [True, True, True]])
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    found = results(lambda x: layer(x, x, x, key_padding_mask=padding)[0], [x], dtype)
    assert all(np.isfinite(part).all() for part in found)
    weights = layer(*[td.tensor(x.astype(dtype))] * 3, key_padding_mask=padding)[1]
    np.testing.assert_allclose(weights.detach().numpy(), [[[1, 0, 0]] * 3, [[0, 0, 0]] * 3])


@pytest.mark.parametrize("masked", ["key_padding_mask", "attn_mask"])
def test_causal_beside_another_mask(masked: str) -> None:
    """As one mask that says both."""
    layer = td.nn.MultiheadAttention(4, 2, batch_first=True, dtype="float64")
    x = td.tensor(np.random.default_rng(0).standard_normal((2, 3, 4)))
    ahead = np.triu(np.ones((3, 3), np.bool_), 1)
    if masked == "key_padding_mask":
        other = np.array([[False, False, True], [False, True, False]])
        both = np.repeat(ahead | other[:, None], 2, 0)
    else:
        other = np.array([[False, False, False], [True, False, False], [False, True, False]])
        both = np.repeat((ahead | other)[None], 4, 0)
    expected = layer(x, x, x, attn_mask=td.tensor(both))
    found = layer(x, x, x, is_causal=True, **{masked: td.tensor(other)})
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-15)


RECURRENT = pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])


@RECURRENT
@BOTH
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_reaches_no_gradient(name: str, bidirectional: bool, dtype: str) -> None:
    layer = getattr(td.nn, name)(2, 3, num_layers=2, bidirectional=bidirectional, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((4, 2, 2))
    poisoned = x.copy()
    poisoned[2:, 0], poisoned[3:, 1] = NAN, INF
    parameters = list(layer.parameters())

    def of(x: np.ndarray) -> list[np.ndarray]:
        leaf = td.tensor(x.astype(dtype), requires_grad=True)
        out = layer(leaf, lengths=np.array([2, 3]))[0]
        first = td.grad((out * out).sum(), [leaf, *parameters], create_graph=True)
        second = td.grad(sum((g * g).sum() for g in first), parameters)
        return [y.detach().numpy() for y in (out, *first, *second)]

    for a, b in zip(of(poisoned), of(x), strict=True):
        np.testing.assert_array_equal(a, b)


@RECURRENT
@pytest.mark.parametrize("lengths", [[0, 2], [-1, 2], [2, 5]])
def test_lengths_beyond_the_steps(name: str, lengths: list[int]) -> None:
    message = rf"{name}: expected lengths in \[1, 4\], got"
    with pytest.raises(ShapeError, match=message):
        getattr(td.nn, name)(2, 3)(td.zeros(4, 2, 2), lengths=lengths)


# ---- NaN is seen


@BACKENDS
@BOTH
def test_comparisons_do_not_hide_nan(dtype: str, backend: str) -> None:
    x = td.tensor(np.array([[NAN, 1.0]], dtype))
    y = td.tensor(np.array([[1.0, 1.0]], dtype))
    with td.backend(backend):
        for name, hidden in {
            "normalize": td.normalize(x),
            "normalize 3": td.normalize(x, 3.0),
            "threshold": td.threshold(x, 0.0, 7.0)[:, :1],
            "cosine_similarity": td.cosine_similarity(x, y),
            "triplet": td.triplet_margin_loss(y, y, y + 1, swap=True)
            + td.triplet_margin_loss(x, y, y, swap=True),
            "triplet swap": td.triplet_margin_loss(y, x, y, swap=True),
            "hardtanh": td.hardtanh(x)[:, :1],
            "norm": td.norm(x),
            "std": td.std(x),
            "kl_div": td.kl_div(x, td.zeros_like(x), "sum"),
            "clip": td.clip(y, x, None)[:, :1],
        }.items():
            assert np.isnan(hidden.numpy()).all(), name


NAN_GRADIENTS: list[tuple[Callable[[Any], Any], Any]] = [
    (td.relu, 1),
    (td.elu, 1),
    (td.celu, 1),
    (td.relu6, 0),
    (td.hardtanh, 0),
    (td.abs, 0),
    (lambda x: td.threshold(x, 0.0, 7.0), 1),
    (td.softplus, NAN),
    (td.leaky_relu, 0.01),
    (td.hardswish, 1),
    (td.hardsigmoid, 0),
    (lambda x: td.maximum(x, 1.0), 1),
    (lambda x: td.maximum(1.0, x), 1),
    (lambda x: td.minimum(x, 1.0), 1),
    (lambda x: td.clip(x, 0.0, 1.0), 0),
    (lambda x: td.clip(x, td.zeros_like(x.detach())), 0),
    (lambda x: td.clip(td.ones_like(x.detach()), max=x), 0),
    (lambda x: td.logsumexp(x, 0), NAN),
]


@BACKENDS
@BOTH
@pytest.mark.parametrize(("f", "expected"), NAN_GRADIENTS)
def test_gradients_at_nan_are_pytorchs(f: Any, expected: float, dtype: str, backend: str) -> None:
    x = td.tensor(np.array([NAN], dtype), requires_grad=True)
    with td.backend(backend):
        np.testing.assert_allclose(td.grad(f(x).sum(), x)[0].numpy(), [expected])


BESIDE: list[tuple[Callable[[Any], Any], Any, Any, Any]] = [
    (td.norm, [1, INF], INF, [0, NAN]),
    (lambda x: td.norm(x, 3), [1, -INF], INF, [0, NAN]),
    (lambda x: td.norm(x, 0), [NAN, 0, 2], 2, [0, 0, 0]),
    (lambda x: td.norm(x, -2), [1, INF], 1, [1, 0]),
    (lambda x: td.cdist(x[None], x[None] * 0.0 + 1.0), [1, 3], 2, [0, 1]),
    (lambda x: td.quantile(x, 0.5), [-INF, 0], -INF, [0.5, 0.5]),
    (lambda x: td.quantile(x, 0.25), [0, INF], INF, [0.75, 0.25]),
    (lambda x: td.quantile(x, 0.25), [-INF, -INF], -INF, [0.75, 0.25]),
    (lambda x: td.quantile(x, 0.25), [-3e38, 3e38], -1.5e38, [0.75, 0.25]),
]


@BACKENDS
@BOTH
@pytest.mark.parametrize(("f", "x", "value", "gradient"), BESIDE)
def test_gradients_beside_infinity(
    f: Any, x: Any, value: Any, gradient: Any, dtype: str, backend: str
) -> None:
    with td.backend(backend):
        found = results(f, [x], dtype)
    np.testing.assert_allclose(found[0].reshape(()), value, rtol=1e-6)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-6)


@BACKENDS
@BOTH
def test_gradients_of_logsumexp(dtype: str, backend: str) -> None:
    """Of a row with NaN all are; that of -inf alone has 0, where PyTorch has NaN."""
    rows = np.array([[NAN, 1], [INF, 1], [-INF, 1], [-INF, -INF], [INF, -INF]], dtype)
    x = td.tensor(rows, requires_grad=True)
    with td.backend(backend):
        g = td.grad(td.logsumexp(x, 1).sum(), x)[0].numpy()
    np.testing.assert_allclose(g, [[NAN, NAN], [NAN, 0], [0, 1], [0, 0], [NAN, 0]])


# ---- Statistics that neither overflow nor cancel


@BACKENDS
def test_statistics_of_extremes(backend: str) -> None:
    def f(*values: float) -> Any:
        return td.tensor(np.array(values, np.float32), requires_grad=True)

    with td.backend(backend):
        for name, value, expected in [
            ("std", td.std(f(1e-30, 3e-30)), 2**0.5 * 1e-30),
            ("std large", td.std(f(1e30, 3e30)), 2**0.5 * 1e30),
            ("std about", td.std(f(2.0**24, 2**24 + 2)), 2**0.5),
            ("var", td.var(f(2.0**24, 2**24 + 2)), 2.0),
            ("var_mean", td.var_mean(f(2.0**24, 2**24 + 2))[0], 2.0),
            ("norm", td.norm(f(1e20, 1, 1)), 1e20),
            ("norm small", td.norm(f(3e-30, 4e-30)), 5e-30),
            ("norm 3", td.norm(f(1e20, 1, 1), 3), 1e20),
            ("norm -2", td.norm(f(1e-30, 1e-30), -2), 1e-30 / 2**0.5),
            ("normalize", td.normalize(f(3e20, 4e20), dim=0), [0.6, 0.8]),
            ("normalize 3", td.normalize(f(2e20, 2e20), 3.0, 0), [2 ** (-1 / 3)] * 2),
            ("mean", td.mean(f(3e38, 3.2e38)), 3.1e38),
            ("mean dim", td.mean(td.stack([f(3e38, 3e38)] * 3), 1), [3e38] * 3),
            ("cosine", td.cosine_similarity(f(3e25, 4e25), f(3e-25, 4e-25), 0, eps=0), 1.0),
            ("rms_norm", td.rms_norm(f(1e20, 1e20), 2), [1, 1]),
            ("rms_norm small", td.rms_norm(f(1e-30, 1e-30), 2, eps=0.0), [1, 1]),
            ("triplet", td.triplet_margin_loss(f(3e20, 4e20), f(0, 0), f(0, 0), 1.0), 1.0),
        ]:
            np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-6, err_msg=name)
        x = f(1e20, 1, 1)
        np.testing.assert_allclose(td.grad(td.norm(x), x)[0].numpy(), [1, 1e-20, 1e-20], rtol=1e-6)
        x = f(1e-30, 3e-30)
        np.testing.assert_allclose(td.grad(td.std(x), x)[0].numpy(), [-(0.5**0.5), 0.5**0.5], rtol=1e-6)
    double = td.tensor(np.array([3e200, 4e200]))
    assert td.norm(double).item() == pytest.approx(5e200)
    assert td.std(double * 1e-100).item() == pytest.approx(0.5**0.5 * 1e100)


@BACKENDS
def test_means_of_ordinary_values_keep_their_bits(backend: str) -> None:
    x = np.random.default_rng(0).standard_normal((37, 91)).astype(np.float32)
    with td.backend(backend):
        total = td.sum(td.tensor(x), 0).numpy()
        np.testing.assert_array_equal(td.mean(td.tensor(x), 0).numpy(), total / np.float32(37))


@BACKENDS
def test_large_means_cost_normalizations_no_digits(backend: str) -> None:
    random = np.random.default_rng(0)
    x, gamma, v = (
        2.0**24 + 2 * np.rint(4 * random.standard_normal((6, 5))),
        random.standard_normal(5),
        np.arange(30.0),
    )

    def steps(dtype: str) -> list[np.ndarray]:
        found = []
        for norm in (
            lambda x, w: td.layer_norm(x, 5, w),
            lambda x, w: td.batch_norm(x, None, None, w, training=True),
            lambda x, w: td.group_norm(td.reshape(x, (2, 3, 5)), 1) + w,
        ):
            leaf, w = (td.tensor(a.astype(dtype), requires_grad=True) for a in (x, gamma))
            y = norm(leaf, w)
            seed = td.tensor(np.cos(v).reshape(y.shape).astype(dtype))
            first = td.grad((y * seed).sum(), [leaf, w], create_graph=True)
            second = td.grad((first[0] * td.tensor(np.sin(v).reshape(6, 5).astype(dtype))).sum(), leaf)
            found += [a.detach().numpy() for a in (y, *first, *second)]
        return found

    with td.backend(backend):
        for a, b in zip(steps("float32"), steps("float64"), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


# ---- A bound that is a tensor


@BACKENDS
def test_derivatives_at_a_bound_that_is_a_tensor(backend: str) -> None:
    x, low, high = (td.tensor([0.0, 1.0, 2.0, -1.0, 1.0], requires_grad=True) for _ in range(3))
    low, high = (
        td.tensor([0.0, 0, 0, 0, 2], requires_grad=True),
        td.tensor([1.0, 1, 1, 1, 0], requires_grad=True),
    )
    with td.backend(backend):
        y = td.clip(x, low, high)
        gradients = [g.tolist() for g in td.grad(y.sum(), (x, low, high))]
    assert y.tolist() == [0, 1, 1, 0, 0]
    assert gradients == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 1]]


@BACKENDS
def test_sums_of_infinities_and_sums_that_overflow_say_nothing(backend: str) -> None:
    with td.backend(backend):
        assert np.isnan([td.tensor([INF, -INF]).sum().item(), td.tensor([INF, -INF]).nansum().item()]).all()
        assert td.tensor([3e38, 3e38]).sum().item() == INF


@BACKENDS
def test_attention_to_infinite_keys_is_nan_without_a_mask_and_nothing_with_one(backend: str) -> None:
    q, v = (
        td.tensor([[1.0, 2.0]], requires_grad=True),
        td.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
    )
    k = td.tensor([[-INF, -1.0], [-INF, 1.0]], requires_grad=True)
    with td.backend(backend):
        y = td.scaled_dot_product_attention(q, k, v)
        assert np.isnan([y.tolist(), *(g.tolist()[:1] for g in td.grad(y.sum(), (q, k, v)))]).all()
        y = td.scaled_dot_product_attention(q, k, v, td.tensor([[False, False]]))
        for zeros in (y, *td.grad(y.sum(), (q, k, v))):
            assert not zeros.detach().numpy().any()


@BOTH
@BACKENDS
def test_a_broken_power_of_minus_infinity(backend: str, dtype: str) -> None:
    """As in C: (-inf)^b is inf for b > 0 and 0 for b < 0. NumPy has NaN for one exponent of 0.5."""
    x = [-INF, -INF, 4.0]
    with td.backend(backend):
        for exponent in (1.5, td.tensor(1.5, dtype=dtype), td.tensor([1.5] * 3, dtype=dtype)):
            value, slope, bend = results(lambda x, b=exponent: td.pow(x, b), [x], dtype)
            np.testing.assert_allclose(value, [INF, INF, 8], 1e-6)
            np.testing.assert_allclose(slope, [INF, INF, 3], 1e-6)
            np.testing.assert_allclose(bend, [0, 0, 0.375 * np.cos(2)], 1e-6)


@BACKENDS
@pytest.mark.parametrize("name", ["digamma", "lgamma"])
def test_functions_of_the_gamma_function_at_their_ends(name: str, backend: str) -> None:
    """Where a power overflows in a reciprocal there is infinity, no error of Python's."""
    x = np.array([1e-300, 1e-160, 1e300, np.inf, -np.inf, 1e308])
    expected = {
        "digamma": (
            [-1e300, -1e160, np.log(1e300), np.inf, np.nan, np.log(1e308)],
            [np.inf, np.inf, 1e-300, 0],
        ),
        "lgamma": (
            [np.log(1e300), np.log(1e160), 6.897755278982137e302, np.inf, np.inf, np.inf],
            [-1e300, -1e160],
        ),
    }[name]
    with td.backend(backend):
        for value, y, slope in zip(x, expected[0], [*expected[1], *[None] * 4], strict=False):
            given = td.tensor(np.array([value])).requires_grad_()
            out = getattr(td, name)(given)
            np.testing.assert_allclose(out.item(), y, rtol=1e-12)
            (g,) = td.grad(out.sum(), [given])
            if slope is not None:
                np.testing.assert_allclose(g.item(), slope, rtol=1e-12)
            assert td.lgamma(given.float().detach()).shape == (1,)
