"""Small inputs that PyTorch takes: 0-d, empty, one-tuples, arguments beside the usual ones. Values, first and
second derivatives in float64 are PyTorch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree

import tinydl as td

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("backend")]


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Any:
    with td.backend(request.param):
        yield


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + 17 * len(shape)).standard_normal(shape)


def check(call: Callable[..., Any], *arrays: Any, order: int = 2) -> None:
    """call(library, its functional, *tensors) gives the same in both."""
    torch = pytest.importorskip("torch")
    assert_agree(
        functools.partial(call, td, td.nn.functional),
        functools.partial(call, torch, torch.nn.functional),
        [np.asarray(a) for a in arrays],
        order=order,
    )


S, ZERO, ONE, YES, NO = np.array(2.0), np.array(0), np.array([0]), np.array(True), np.array(False)


@pytest.mark.parametrize(
    "call",
    [
        lambda t, F, x: t.softmax(x, 0),
        lambda t, F, x: t.log_softmax(x, -1),
        lambda t, F, x: F.softmin(x, 0),
        lambda t, F, x: t.transpose(x, 0, -1) * x,
        lambda t, F, x: t.movedim(x, -1, 0) * x,
        lambda t, F, x: t.movedim(x, (), ()) * x,
        lambda t, F, x: F.pad(x, ()) * x,
        lambda t, F, x: x[None][t.tensor(0)] * x,
        lambda t, F, x: x[t.tensor(True)] * x,
        lambda t, F, x: x[t.tensor(False)] * x,
        lambda t, F, x: x[True] * x,
        lambda t, F, x: x[None, False] * x,
        lambda t, F, x: t.masked_select(x, t.tensor(True)) * x,
        lambda t, F, x: F.prelu(x, x),
        lambda t, F, x: F.prelu(-x, x[None]),
        lambda t, F, x: t.repeat_interleave(x, 3) * x,
    ],
)
def test_0_d(call: Callable[..., Any]) -> None:
    check(call, S)


@pytest.mark.parametrize("index", [ZERO, ONE])
@pytest.mark.parametrize("x", [S, np.array([2.0])])
def test_0_d_and_one_element_by_places(index: np.ndarray, x: np.ndarray) -> None:
    check(lambda t, F, x, i: t.index_select(x, 0, i) * x, x, index)
    check(lambda t, F, x, i: t.gather(x, 0, i) * x, x, index)
    check(lambda t, F, x, i, y: t.scatter(x, 0, i, y) * y * x, x, index, np.full(index.shape, 5.0))
    check(lambda t, F, x, i: t.scatter(x, 0, i, 5.0) * x, x, index)
    check(lambda t, F, x, i, y: t.scatter_add(x, 0, i, y) ** 2, x, index, np.full(index.shape, 5.0))


def test_a_0_d_index_of_a_vector() -> None:
    x = drawn(3)
    check(lambda t, F, x, i: t.gather(x, 0, i) ** 2, x, np.array(1))
    check(lambda t, F, x, i: t.index_select(x, 0, i) ** 2, x, np.array(2))
    check(lambda t, F, x, i: t.narrow(x, 0, i, 2) ** 2, x, np.array(1))
    check(lambda t, F, x, i: x.narrow(0, i, 1) ** 2, x, np.array(-1))
    check(lambda t, F, x: x[t.tensor(True), 1:] ** 2, x)
    check(lambda t, F, x: x[1:, None, True] ** 2, drawn(3, 2))


@pytest.mark.parametrize("x", [S, np.array(0.0), drawn(2, 2)])
def test_nonzero_as_tuple(x: np.ndarray) -> None:
    check(lambda t, F, x: t.nonzero(x, as_tuple=True), x, order=0)
    check(lambda t, F, x: t.where(x > 0), x, order=0)
    check(lambda t, F, x: x[t.where(x > 0)] ** 2, np.atleast_1d(x))


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda t, F, x: F.layer_norm(x, (3,)), [(0, 3)]),
        (lambda t, F, x, w, b: F.layer_norm(x, (3,), w, b), [(2, 0, 3), (3,), (3,)]),
        (lambda t, F, x: F.layer_norm(x, (0,)), [(2, 0)]),
        (lambda t, F, x: F.rms_norm(x, (3,)), [(0, 3)]),
        (lambda t, F, x, w, b: F.group_norm(x, 2, w, b), [(0, 4, 2), (4,), (4,)]),
        (lambda t, F, x: F.group_norm(x, 2), [(2, 4, 0)]),
        (lambda t, F, x: F.instance_norm(x), [(0, 4, 3, 3)]),
        (lambda t, F, x, w: F.batch_norm(x, None, None, w, training=True), [(0, 4, 3), (4,)]),
        (lambda t, F, x: F.batch_norm(x, t.zeros(4).double(), t.ones(4).double()), [(0, 4)]),
        (lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v), [(0, 2, 4), (0, 3, 4), (0, 3, 5)]),
        (lambda t, F, q, k, v: F.scaled_dot_product_attention(q, k, v), [(2, 3, 4), (2, 0, 4), (2, 0, 5)]),
        (lambda t, F, x, y, w, b: F.bilinear(x, y, w, b), [(0, 3), (0, 2), (4, 3, 2), (4,)]),
        (lambda t, F, x: t.nn.Unflatten(1, (2, -1))(x), [(0, 6)]),
        (lambda t, F, x: x.reshape(-1, 2), [(0, 2)]),
        (lambda t, F, x, y: t.matmul(x, y), [(0, 2, 3), (3, 4)]),
        (lambda t, F, x, y: t.matmul(x, y), [(0, 2, 0), (0, 4)]),
        (lambda t, F, x, y: t.matmul(x, y), [(5, 0, 2, 3), (1, 3, 4)]),
        (lambda t, F, x, w: F.linear(x, w), [(2, 0, 3), (2, 3)]),
        (lambda t, F, x, w, b: F.linear(x, w, b), [(2, 3, 0), (2, 0), (2,)]),
        (lambda t, F, x: t.softmax(x, 1), [(3, 0)]),
        (lambda t, F, x: F.cross_entropy(x, t.zeros(0, 2).long(), reduction="sum"), [(0, 3, 2)]),
    ],
)
def test_empty(call: Callable[..., Any], shapes: Any) -> None:
    check(call, *(drawn(*s) for s in shapes))


def test_an_empty_batch_leaves_running_statistics_alone_and_counts() -> None:
    torch = pytest.importorskip("torch")
    for make in (lambda t: t.nn.BatchNorm1d(3), lambda t: t.nn.BatchNorm1d(3, momentum=None)):
        ours, theirs = make(td), make(torch)
        for layer, x in ((ours, td.zeros(0, 3)), (theirs, torch.zeros(0, 3))):
            assert layer(x).shape == (0, 3)
        assert ours.running_mean.tolist() == theirs.running_mean.tolist()
        assert ours.running_var.tolist() == theirs.running_var.tolist()
        assert ours.num_batches_tracked.item() == theirs.num_batches_tracked.item() == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda t, F, x, y: t.add(x, y, alpha=2),
        lambda t, F, x, y: t.sub(x, y * x, alpha=0.5),
        lambda t, F, x, y: x.add(y * x, alpha=-3.0) + x.sub(y, alpha=2),
        lambda t, F, x, y: t.add(x * x, 3, alpha=2),
        lambda t, F, x, y: t.div(x, y, rounding_mode="floor") * x,
        lambda t, F, x, y: t.div(x, y, rounding_mode="trunc") * y,
        lambda t, F, x, y: t.div(x, y, rounding_mode=None),
        lambda t, F, x, y: t.remainder(x, y) * x,
        lambda t, F, x, y: t.fmod(x, y) * y,
        lambda t, F, x, y: t.remainder(x * x, 0.7),
        lambda t, F, x, y: (x % y) ** 2 + (y % 0.3) + 0.5 % x.detach(),
        lambda t, F, x, y: (x.detach() // y.detach()) * x + 3 // y.detach(),
        lambda t, F, x, y: t.floor_divide(x.detach(), 0.1) * x,
        lambda t, F, x, y: t.max(x, y) ** 2,
        lambda t, F, x, y: t.min(x, other=y) ** 2,
        lambda t, F, x, y: x.max(y) * x.min(y),
        lambda t, F, x, y: t.round(x, decimals=2) * x,
        lambda t, F, x, y: t.round(100 * x, decimals=-1) * x,
    ],
)
def test_arithmetic(call: Callable[..., Any]) -> None:
    check(call, drawn(3, 4), drawn(3, 4, seed=1))
    check(call, drawn(2, 1), np.array(0.7))
    check(call, drawn(0, 2), drawn(2))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_arithmetic_of_integers(dtype: str) -> None:
    a, b = np.array([7, 200, 3, 0], dtype), np.array([2, 3, 7, 5], dtype)
    if dtype != "uint8":
        a, b = a * np.array([1, -1, -1, 1], dtype), b * np.array([-1, 1, 1, -1], dtype)
    for call in (
        lambda t, F, x, y: x // y,
        lambda t, F, x, y: x % y,
        lambda t, F, x, y: t.fmod(x, y),
        lambda t, F, x, y: t.div(x, y, rounding_mode="floor"),
        lambda t, F, x, y: t.div(x, y, rounding_mode="trunc"),
        lambda t, F, x, y: t.add(x, y, alpha=3),
        lambda t, F, x, y: x // 0.5,
    ):
        check(call, a, b, order=0)
    big = np.array([2**53 + 1, -(2**60) - 1])
    check(lambda t, F, x: (x // 3, x % 1000, t.div(x, 7, rounding_mode="trunc")), big, order=0)


IMAGE = drawn(1, 1, 4, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda t, F, x: F.max_pool2d(x, (2,)) ** 2,
        lambda t, F, x: F.max_pool2d(x, [2], (1,), (0,), (1,)) ** 2,
        lambda t, F, x: F.avg_pool2d(x, (2,), (1,), (1,)) ** 2,
        lambda t, F, x: F.conv2d(x, x[:, :, :2, :2], stride=(2,), padding=(1,), dilation=(1,)),
        lambda t, F, x: F.conv_transpose2d(
            x, x[:, :, :2, :2], stride=(2,), padding=(1,), output_padding=(0,)
        ),
        lambda t, F, x: t.nn.MaxPool2d((2,))(x) ** 2,
        lambda t, F, x: t.nn.AvgPool2d((2,))(x) ** 2,
    ],
)
def test_one_tuples(call: Callable[..., Any]) -> None:
    check(call, IMAGE)


def test_repeats() -> None:
    x = drawn(2)
    check(lambda t, F, x: t.repeat_interleave(x, 2, output_size=4) ** 2, x)
    check(lambda t, F, x: t.repeat_interleave(x, t.tensor([1, 2]), 0, output_size=3) ** 2, x)
    check(lambda t, F, n: t.repeat_interleave(n), np.array([1, 0, 2]), order=0)
    for wrong in (3, 5):
        with pytest.raises(td.ShapeError, match=f"repeat_interleave: expected output_size 4, got {wrong}"):
            td.repeat_interleave(td.tensor(x), 2, output_size=wrong)


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3), (2, 3), (2,)],
        [(2, 3), (2, 3), (2, 1)],
        [(2, 3), (3,), (2, 3)],
        [(3,), (2, 3), (3,)],
        [(2, 3), (), (2, 1)],
    ],
)
def test_gaussian_nll_loss_broadcasts(shapes: Any) -> None:
    x, y, v = (drawn(*s, seed=k) for k, s in enumerate(shapes))
    for reduction in ("mean", "sum", "none"):
        check(
            lambda t, F, x, y, v, r=reduction: F.gaussian_nll_loss(x, y, v, full=True, reduction=r),
            x,
            y,
            np.abs(v),
        )


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_at_their_ends(reduction: str) -> None:
    target = np.array([0.0, 1.0, 0.5])
    check(
        lambda t, F, x: F.kl_div(x, t.tensor(target), reduction=reduction) * x.sum(),
        np.array([-1.0, -2.0, -3.0]),
    )
    ignored = np.array([-100, -100])
    check(lambda t, F, x, y: F.cross_entropy(x, y, reduction=reduction), drawn(2, 3), ignored)
    some = np.array([-100, 1])
    check(lambda t, F, x, y: F.cross_entropy(x, y, reduction=reduction), drawn(2, 3), some)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: n.GroupNorm(2, 4, bias=False),
        lambda n: n.InstanceNorm2d(4, affine=True, bias=False),
        lambda n: n.BatchNorm2d(4, bias=False),
    ],
)
def test_norms_without_bias(make: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = make(td.nn), make(torch.nn)
    assert [name for name, _ in ours.named_parameters()] == ["weight"]
    ours.to("float64")
    assert_agree(ours, theirs.double(), [drawn(2, 4, 3, 3)])


def _same_weights(ours: Any, theirs: Any) -> None:
    """Both get the same numbers, which the state dict of PyTorch names."""
    torch = pytest.importorskip("torch")
    ours.to("float64"), theirs.double()
    state = {name: 0.5 * drawn(*p.shape, seed=k) for k, (name, p) in enumerate(theirs.state_dict().items())}
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.tensor(x) for name, x in state.items()})


@pytest.mark.parametrize(
    "settings",
    [
        {"add_bias_kv": True},
        {"add_zero_attn": True},
        {"kdim": 3, "vdim": 5},
        {"kdim": 4, "vdim": 5, "bias": False},
        {"kdim": 3, "vdim": 5, "add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_arguments_of_attention(settings: dict[str, Any], masked: bool) -> None:
    torch = pytest.importorskip("torch")
    ours = td.nn.MultiheadAttention(4, 2, **settings)
    theirs = torch.nn.MultiheadAttention(4, 2, **settings)
    _same_weights(ours, theirs)
    q = drawn(2, 2, 4)
    k, v = drawn(2, 2, settings.get("kdim", 4), seed=1), drawn(2, 2, settings.get("vdim", 4), seed=2)
    padding = np.array([[False, True], [False, False]])
    causal = np.triu(np.ones((2, 2), bool), 1)

    def call(t: Any, layer: Any) -> Callable[..., Any]:
        masks = {"key_padding_mask": t.tensor(padding), "attn_mask": t.tensor(causal)} if masked else {}
        return lambda q, k, v: layer(q, k, v, average_attn_weights=False, **masks)

    parameters = [
        [p for _, p in sorted(layer.named_parameters(), key=lambda pair: pair[0])] for layer in (ours, theirs)
    ]
    assert_agree(call(td, ours), call(torch, theirs), [q, k, v], parameters)


@pytest.mark.parametrize(
    "settings", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}]
)
def test_projected_lstm(settings: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours = td.nn.LSTM(3, 4, proj_size=2, **settings)
    theirs = torch.nn.LSTM(3, 4, proj_size=2, **settings)
    _same_weights(ours, theirs)

    def flat(layer: Any) -> Callable[..., Any]:
        def call(x: Any, *state: Any) -> Any:
            y, (h, c) = layer(x, state or None)
            return y, h, c

        return call

    count = len(ours.suffixes) * (1 + ours.bidirectional)
    parameters = [
        [p for _, p in sorted(layer.named_parameters(), key=lambda pair: pair[0])] for layer in (ours, theirs)
    ]
    x, h, c = drawn(3, 2, 3), drawn(count, 3 if ours.batch_first else 2, 2), drawn(count, 2, 4)
    if ours.batch_first:
        c = drawn(count, 3, 4)
    assert_agree(flat(ours), flat(theirs), [x], parameters)
    assert_agree(flat(ours), flat(theirs), [x, h, c], parameters)


@pytest.mark.parametrize("padding_idx", [None, 1])
def test_gradients_shared_by_frequency(padding_idx: int | None) -> None:
    """PyTorch's second derivative divides once, too; its bags are right where all are asked for as often."""
    index, even, table = np.array([[0, 1, 1], [3, 1, 3]]), np.array([[0, 1, 3], [3, 1, 0]]), drawn(5, 2)
    check(lambda t, F, i, w: F.embedding(i, w, padding_idx, scale_grad_by_freq=True) ** 3, index, table)
    for mode in ("sum", "mean"):
        check(
            lambda t, F, i, w, mode=mode: (
                F.embedding_bag(
                    i, w, mode=mode, scale_grad_by_freq=True, padding_idx=padding_idx, sparse=False
                )
                ** 3
            ),
            even,
            table,
            order=1,  # PyTorch has no second derivative
        )
    w = td.tensor(table, requires_grad=True)
    rows = td.embedding(td.tensor(index), w, padding_idx, scale_grad_by_freq=True)
    rows = rows if padding_idx is None else td.where(td.tensor(index != padding_idx)[..., None], rows, 0.0)
    bags = td.embedding_bag(td.tensor(index), w, mode="sum", scale_grad_by_freq=True, padding_idx=padding_idx)
    lookups = [td.grad((y * bags.detach()).sum(), w)[0].numpy() for y in (rows.sum(1), bags)]
    np.testing.assert_allclose(lookups[0], lookups[1], rtol=1e-12)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_bag_with_weights(scaled: bool) -> None:
    check(
        lambda t, F, i, w, f, o: F.embedding_bag(i, w, o, None, 2.0, scaled, "sum", False, f, True, -3) ** 3,
        np.array([0, 1, 1, 4, 2]),
        drawn(5, 2),
        drawn(5),
        np.array([0, 2, 2, 5]),
        order=1,
    )


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_layers_of_bags(mode: str) -> None:
    torch = pytest.importorskip("torch")
    table, index, offsets = drawn(5, 2), np.array([0, 1, 1, 4, 0]), np.array([0, 3, 5])

    def make(t: Any, from_array: Any) -> Any:
        return t.nn.EmbeddingBag.from_pretrained(
            from_array(table), False, 0.7, 1.5, mode == "sum", mode, False, True, 4
        )

    ours, theirs = make(td, td.tensor), make(torch, torch.tensor)
    assert repr(ours) == repr(theirs)
    for _ in range(2):  # rows are scaled down at the first call
        assert_agree(
            lambda i, o: ours(i, o) ** 3,
            lambda i, o: theirs(i, o) ** 3,
            [index, offsets],
            ([ours.weight], [theirs.weight]),
            1,
        )
        np.testing.assert_allclose(ours.weight.detach().numpy(), theirs.weight.detach().numpy(), rtol=1e-12)
    ours, theirs = (t.nn.EmbeddingBag(5, 2, 1.0, padding_idx=-1, sparse=True, mode=mode) for t in (td, torch))
    assert repr(ours) == repr(theirs)
    assert ours.weight.detach().numpy()[4].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("dropout1d", s) for s in ((3, 4), (2, 3, 4))),
        *(("dropout2d", s) for s in ((3, 4), (2, 3, 4), (2, 3, 4, 2))),
        *(("dropout3d", s) for s in ((3, 2, 2, 2), (2, 3, 2, 2, 2))),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_channels_that_drop_out(name: str, shape: tuple[int, ...]) -> None:
    check(lambda t, F, x: getattr(F, name)(x, 1.0) * x, drawn(*shape))
    check(lambda t, F, x: getattr(F, name)(x, 0.5, False) * x, drawn(*shape))
    torch = pytest.importorskip("torch")
    for t, F, ones in (
        (td, td.nn.functional, td.ones(shape)),
        (torch, torch.nn.functional, torch.ones(shape)),
    ):
        t.manual_seed(0)
        channels = len(shape) == {"dropout1d": 2, "dropout3d": 4}.get(name)  # without N
        flat = getattr(F, name)(ones).reshape(shape[0] if channels else shape[0] * shape[1], -1).numpy()
        assert (flat == flat[:, :1]).all(), "a channel drops out as a whole"


def test_memory_formats_are_taken_and_change_nothing() -> None:
    torch = pytest.importorskip("torch")

    def call(t: Any) -> list[Any]:
        x, f = t.arange(24.0).reshape(1, 2, 3, 4), t.channels_last
        layer = t.nn.Conv2d(2, 1, 1, bias=False).to(memory_format=f, non_blocking=True)
        return [
            *(x.to(memory_format=f), x.contiguous(memory_format=f), x.clone(memory_format=t.preserve_format)),
            *(t.zeros_like(x, memory_format=f), t.full_like(x, 2.0, memory_format=t.contiguous_format)),
            *(x.to(t.float64, True), x.to("cpu", non_blocking=True), x.to(t.float32, copy=True)),
            *(layer(x) * 0, x.type_as(t.arange(2)), t.tensor([x.is_floating_point(), x.is_contiguous()])),
            t.tensor([t.arange(2).is_floating_point(), x.transpose(2, 3).is_contiguous()]),
        ]

    for ours, theirs in zip(call(td), call(torch), strict=True):
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    x = td.ones(2)
    assert x.to(td.float32) is x
    assert x.to(td.float32, copy=True) is not x


def test_what_a_tensor_says_of_itself() -> None:
    torch = pytest.importorskip("torch")

    def call(t: Any) -> list[Any]:
        x = t.arange(24.0).reshape(2, 3, 4)
        y = x.transpose(0, 2)
        strides = x.stride(), x.stride(1), x.stride(-1), y.stride(), y.stride(dim=0), x[0, 0, 0].stride()
        kinds = t.finfo(t.float32), t.finfo(t.float64), t.iinfo(t.int8), t.iinfo(t.uint8), t.iinfo(t.int64)
        floats = [(k.eps, k.tiny, k.smallest_normal) for k in kinds[:2]]
        return [x.ndimension(), strides, floats, [(k.min, k.max, k.bits) for k in kinds]]

    assert call(td) == call(torch)
    for wrong in (3, -4):
        with pytest.raises(td.ShapeError, match="stride: expected dim in"):
            td.ones(2, 3, 4).stride(wrong)


def test_casts_by_name() -> None:
    call = lambda t, F, x: [x.short(), x.char(), x.byte(), x.type(t.int64), x.type(dtype=t.float32)]  # noqa: E731
    check(call, np.array([0.0, 1.5, 100.0]), order=0)
    assert td.ones(2).type() == "float32"


@pytest.mark.parametrize("shape", [(2, 3), (4, 2, 3), (0, 2)])
def test_transposed_matrices(shape: tuple[int, ...]) -> None:
    check(lambda t, F, x: x.mT**2, drawn(*shape))
    with pytest.raises(td.ShapeError, match="transpose: expected dim in"):
        _ = td.ones(2).mT


def test_flatten_parameters() -> None:
    torch = pytest.importorskip("torch")
    for n in (td.nn, torch.nn):
        assert [n.LSTM(2, 3).flatten_parameters(), n.GRU(2, 3).flatten_parameters()] == [None, None]


@pytest.mark.parametrize(
    "call",
    [
        lambda t, F, x: F.elu(x) * x,
        lambda t, F, x: F.elu(x, 0.3) * 2,
        lambda t, F, x: F.selu(x),
        lambda t, F, x: F.celu(x, 0.5) / 2,
        lambda t, F, x: t.atan2(x, x.detach() * 0 + 1.0),
        lambda t, F, x: F.hinge_embedding_loss(x, t.tensor([1.0, -1.0, 0.0, 2.0]), reduction="none"),
        lambda t, F, x: F.margin_ranking_loss(x, x.detach(), x.detach() * 0 - 1.0, reduction="none"),
        lambda t, F, x: F.triplet_margin_loss(x[:, None], x[:, None] + 1, x[:, None] - 2, 1.0, eps=0.0),
        lambda t, F, x: F.cosine_embedding_loss(
            x.reshape(2, 2) + t.eye(2).double() * 2,
            x.detach().reshape(2, 2).flip(1) * t.tensor([[0.0, 1.0]]).double() + t.eye(2).double().flip(1),
            t.tensor([-1.0, 0.5]),
            reduction="none",
        ),
    ],
)
def test_at_kinks(call: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(
        functools.partial(call, td, td.nn.functional),
        functools.partial(call, torch, torch.nn.functional),
        [np.array([0.0, -0.0, 1.0, -1.0])],
        tolerance=1e-7,  # PyTorch's celu has constants of float32
    )


@pytest.mark.filterwarnings("ignore:invalid value")  # sums of infinities
def test_angles_at_the_origin_and_sums_of_infinities() -> None:
    x, y = np.array([0.0, 1.0]), np.array([0.0, 0.0])
    check(lambda t, F, x, y: t.atan2(x, y), x, y, order=1)
    infinite, finite = np.array([np.inf, -np.inf, np.inf, 2.0]), np.array([1.0, 2.0, -np.inf, -np.inf])
    check(lambda t, F, x, y: t.logaddexp(x, y), infinite, finite, order=1)


def test_the_listed_difference_of_binary_cross_entropy() -> None:
    """README, "Differences from PyTorch": what is ours, and that PyTorch's is another."""
    torch = pytest.importorskip("torch")
    found = []
    for t in (td, torch):
        p = t.tensor([0.0, 1.0, 0.0, 1.0], dtype=t.float64).requires_grad_(True)
        y = t.tensor([0.0, 1.0, 1.0, 0.0], dtype=t.float64)
        t.nn.functional.binary_cross_entropy(p, y, reduction="sum").backward()
        found.append(p.grad.tolist())
    ours, theirs = found
    assert ours == [1.0, -1.0, 0.0, 0.0]
    assert theirs[:2] == [0.0, 0.0]
    assert np.abs(theirs[2:]).min() > 1e11


def test_a_power_of_one_half_is_the_square_root() -> None:
    check(lambda t, F, x: x**0.5, np.array([-np.inf, -0.0, 0.0, 0.25, 2.0, np.inf]), order=1)
    check(lambda t, F, x: t.pow(x, 0.5), drawn(3) ** 2)
