"""Layers by mode against PyTorch in float64: outputs, first and second derivatives,
buffers; and what they refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparisons import comparison
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl import nn

IMAGE = (3, 4, 7, 6)
LAYERS: list[tuple[str, Callable[[Any], Any], tuple[int, ...]]] = [
    ("Linear", lambda nn: nn.Linear(4, 3), (5, 4)),
    ("Linear without bias", lambda nn: nn.Linear(4, 3, bias=False), (5, 4)),
    ("Linear of a vector", lambda nn: nn.Linear(4, 3), (4,)),
    ("Linear of a sequence", lambda nn: nn.Linear(4, 3), (2, 5, 4)),
    ("Linear of nothing", lambda nn: nn.Linear(4, 3), (0, 4)),
    ("Conv2d", lambda nn: nn.Conv2d(4, 6, 3), IMAGE),
    ("Conv2d 1x1 without bias", lambda nn: nn.Conv2d(4, 6, 1, bias=False), IMAGE),
    ("Conv2d of nothing", lambda nn: nn.Conv2d(4, 6, 3), (0, 4, 7, 6)),
    ("Conv2d stride", lambda nn: nn.Conv2d(4, 6, 3, stride=2, padding=1), IMAGE),
    ("Conv2d uneven", lambda nn: nn.Conv2d(4, 5, (2, 3), (3, 2), (0, 2), (1, 2)), IMAGE),
    ("Conv2d same", lambda nn: nn.Conv2d(4, 3, (3, 5), padding="same"), IMAGE),
    (
        "Conv2d same, even and dilated",
        lambda nn: nn.Conv2d(4, 3, (2, 4), padding="same", dilation=(3, 1)),
        IMAGE,
    ),
    ("Conv2d valid", lambda nn: nn.Conv2d(4, 3, 3, padding="valid"), IMAGE),
    ("Conv2d groups", lambda nn: nn.Conv2d(4, 6, 3, padding=1, groups=2), IMAGE),
    ("Conv2d depthwise", lambda nn: nn.Conv2d(4, 8, 3, stride=2, groups=4), IMAGE),
    ("MaxPool2d", lambda nn: nn.MaxPool2d(2), IMAGE),
    ("MaxPool2d padding", lambda nn: nn.MaxPool2d(3, 2, 1), IMAGE),
    ("MaxPool2d ceil_mode", lambda nn: nn.MaxPool2d((2, 4), ceil_mode=True), IMAGE),
    ("MaxPool2d dilation", lambda nn: nn.MaxPool2d(3, 1, 1, dilation=2), IMAGE),
    ("AvgPool2d", lambda nn: nn.AvgPool2d(2), IMAGE),
    ("AvgPool2d padding", lambda nn: nn.AvgPool2d(3, 2, 1), IMAGE),
    ("AvgPool2d padding not counted", lambda nn: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    ("AvgPool2d ceil_mode", lambda nn: nn.AvgPool2d((3, 4), 2, (1, 2), ceil_mode=True), IMAGE),
    ("AdaptiveAvgPool2d to one", lambda nn: nn.AdaptiveAvgPool2d(1), IMAGE),
    ("AdaptiveAvgPool2d even", lambda nn: nn.AdaptiveAvgPool2d((7, 3)), IMAGE),
    ("AdaptiveAvgPool2d uneven", lambda nn: nn.AdaptiveAvgPool2d((3, 4)), IMAGE),
    ("AdaptiveAvgPool2d larger", lambda nn: nn.AdaptiveAvgPool2d((9, None)), IMAGE),
    ("BatchNorm1d", lambda nn: nn.BatchNorm1d(4), (6, 4)),
    ("BatchNorm1d of sequences", lambda nn: nn.BatchNorm1d(4, eps=1e-2, momentum=0.7), (3, 4, 5)),
    ("BatchNorm2d", lambda nn: nn.BatchNorm2d(4), IMAGE),
    ("BatchNorm2d cumulative", lambda nn: nn.BatchNorm2d(4, momentum=None), IMAGE),
    ("SyncBatchNorm of one process", lambda nn: nn.SyncBatchNorm(4), IMAGE),
    ("SyncBatchNorm without a shift", lambda nn: nn.SyncBatchNorm(4, eps=1e-2, bias=False), IMAGE),
    ("SyncBatchNorm not affine", lambda nn: nn.SyncBatchNorm(4, affine=False), IMAGE),
    ("SyncBatchNorm not tracked", lambda nn: nn.SyncBatchNorm(4, track_running_stats=False), IMAGE),
    (
        "SyncBatchNorm in the place of others",
        lambda nn: nn.SyncBatchNorm.convert_sync_batchnorm(
            nn.Sequential(nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4, momentum=None)))
        ),
        IMAGE,
    ),
    ("BatchNorm2d not affine", lambda nn: nn.BatchNorm2d(4, affine=False), IMAGE),
    ("BatchNorm2d not tracked", lambda nn: nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    ("BatchNorm2d neither", lambda nn: nn.BatchNorm2d(4, affine=False, track_running_stats=False), IMAGE),
    ("Flatten", lambda nn: nn.Flatten(), IMAGE),
    ("Flatten some", lambda nn: nn.Flatten(0, 2), IMAGE),
    ("Identity", lambda nn: nn.Identity(), IMAGE),
    ("DataParallel", lambda nn: nn.DataParallel(nn.Tanh()), IMAGE),
    ("ReLU", lambda nn: nn.ReLU(), IMAGE),
    ("Tanh", lambda nn: nn.Tanh(), IMAGE),
    ("Sigmoid", lambda nn: nn.Sigmoid(), IMAGE),
    ("Softmax", lambda nn: nn.Softmax(1), IMAGE),
    ("LogSoftmax", lambda nn: nn.LogSoftmax(-1), IMAGE),
    ("Dropout of nothing", lambda nn: nn.Dropout(0.0), IMAGE),
    ("Dropout of everything", lambda nn: nn.Dropout(1.0), IMAGE),
    (
        "Sequential",
        lambda nn: nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Sigmoid(), nn.MaxPool2d(2)),
        IMAGE,
    ),
]


def derivatives(y: Any, x: Any, parameters: list[Any], grad: Callable[..., Any]) -> list[Any]:
    """∂f/∂(x, parameters) and ∂‖∂f/∂x‖²/∂(x, parameters) of a cubic function f of y."""
    wanted = [x, *parameters]
    first = grad((y * y * y).sum() + y.sum(), wanted, create_graph=True)
    return [*first, *grad((first[0] * first[0]).sum(), wanted, allow_unused=True)]


def array(x: Any) -> np.ndarray:
    return np.asarray(x.detach())


def assert_close(ours: Any, theirs: Any) -> None:
    """None, where nothing depends on the input, is as good as zero."""
    if ours is None or theirs is None:
        assert not any(array(g).any() for g in (ours, theirs) if g is not None)
    else:
        np.testing.assert_allclose(array(ours), array(theirs), rtol=1e-10, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("build", "shape"), [case[1:] for case in LAYERS], ids=[case[0] for case in LAYERS])
def test_against_torch(backend: str, build: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    theirs, ours = build(torch.nn).double(), build(nn).double()
    for p in theirs.parameters():
        p.data += torch.from_numpy(random.uniform(0.1, 0.5, p.shape))
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    for training in (True, True, False):  # twice, so that running statistics leave their initial values
        ours.train(training), theirs.train(training)
        values = 1 + 2 * random.standard_normal(shape)
        x, t = td.tensor(values, requires_grad=True), torch.from_numpy(values).requires_grad_()
        with comparison():
            y, u = ours(x), theirs(t)
        np.testing.assert_allclose(array(y), array(u), rtol=1e-12, atol=1e-12)
        found = derivatives(y, x, list(ours.parameters()), td.grad)
        expected = derivatives(u, t, list(theirs.parameters()), torch.autograd.grad)
        for g, e in zip(found, expected, strict=True):
            assert_close(g, e)
        for (name, buffer), (other, expected_buffer) in zip(
            ours.named_buffers(), theirs.named_buffers(), strict=True
        ):
            assert (name, buffer.dtype) == (other, array(expected_buffer).dtype)
            np.testing.assert_allclose(array(buffer), array(expected_buffer), rtol=1e-12)


def test_padding_by_side(backend: str) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal(IMAGE)
    layer = nn.Conv2d(4, 3, (2, 3), 2, padding=((1, 0), (0, 3))).double()
    padded = torch.nn.functional.pad(torch.from_numpy(values), (0, 3, 1, 0))
    weight, bias = (torch.from_numpy(np.array(p)) for p in layer.parameters())
    expected = torch.nn.functional.conv2d(padded, weight, bias, 2)
    np.testing.assert_allclose(array(layer(td.tensor(values))), expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [(2,), (3, 2, 1), (3, 1, 1, 2)])
def test_indices_of_max_pooling(backend: str, settings: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    # ties, and all below the padding's 0
    values = np.random.default_rng(0).integers(-9, 0, IMAGE).astype(np.float64)
    y, indices = nn.MaxPool2d(*settings, return_indices=True)(td.tensor(values))
    expected, where = torch.nn.MaxPool2d(*settings, return_indices=True)(torch.from_numpy(values))
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    np.testing.assert_array_equal(indices.numpy(), where.numpy())
    assert indices.dtype == np.int64


@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}, {"reduction": "none"}], ids=str
)
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2), (2, 4, 3, 2)])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_against_torch(
    backend: str, settings: dict[str, Any], shape: tuple[int, ...], soft: bool
) -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    values = 3 * random.standard_normal(shape)
    target = random.uniform(0, 1, shape) if soft else random.integers(0, 4, shape[:1] + shape[2:])
    x, t = td.tensor(values, requires_grad=True), torch.from_numpy(values).requires_grad_()
    y = nn.CrossEntropyLoss(**settings)(x, td.tensor(target))
    u = torch.nn.CrossEntropyLoss(**settings)(t, torch.from_numpy(target))
    np.testing.assert_allclose(array(y), array(u), rtol=1e-12)
    for g, e in zip(derivatives(y, x, [], td.grad), derivatives(u, t, [], torch.autograd.grad), strict=True):
        assert_close(g, e)


def test_soft_targets_carry_a_gradient(backend: str) -> None:
    torch = pytest.importorskip("torch")
    values, weights = np.random.default_rng(0).uniform(0, 1, (2, 5, 4))
    x, target = (td.tensor(a, requires_grad=True) for a in (values, weights))
    t, soft = (torch.from_numpy(a).requires_grad_() for a in (values, weights))
    y = td.cross_entropy(x, target, label_smoothing=0.2)
    u = torch.nn.functional.cross_entropy(t, soft, label_smoothing=0.2)
    for g, e in zip(
        derivatives(y, x, [target], td.grad), derivatives(u, t, [soft], torch.autograd.grad), strict=True
    ):
        assert_close(g, e)


# Dropout
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_zeroes_a_share_and_scales_the_rest(backend: str, p: float) -> None:
    layer, x = nn.Dropout(p, generator=td.Generator(5)), td.ones(400, 500, requires_grad=True)
    y = layer(x)
    kept = np.float32(1 / (1 - p))
    assert set(np.unique(y.detach().numpy())) == {np.float32(0), kept}
    share = float((y.detach().numpy() == 0).mean())
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / x.numel())
    # backward has the same mask
    np.testing.assert_array_equal(td.grad(y.sum(), x)[0].numpy(), y.detach().numpy())
    assert (layer(x).detach().numpy() != y.detach().numpy()).any()  # the next pass another
    rows = (y.detach().numpy() == 0).mean(axis=1)  # and neighbours do not follow each other
    assert np.std(rows) < 1.3 * np.sqrt(p * (1 - p) / 500)
    assert layer.eval()(x) is x


def test_masks_do_not_depend_on_what_was_drawn_before_nor_draws_on_masks() -> None:
    masks, weights = [], []
    for layers, passes in ((1, 1), (3, 2)):
        td.manual_seed(7)
        for _ in range(layers):
            nn.Linear(4, 4)
        masks.append(nn.Dropout(0.5)(td.ones(50)).tolist())
        td.manual_seed(7)
        for _ in range(passes):
            td.gaussian_noise(td.ones(50))
        weights.append(nn.Linear(4, 4).weight.tolist())
    assert masks[0] == masks[1]
    assert weights[0] == weights[1]


def test_dropout_streams() -> None:
    x = td.ones(50)
    own, default = nn.Dropout(0.5, generator=td.Generator(5)), nn.Dropout(0.5)
    before = td.noise_generator.state_dict()
    first = own(x).numpy()
    assert td.noise_generator.state_dict() == before
    np.testing.assert_array_equal(nn.Dropout(0.5, generator=td.Generator(5))(x).numpy(), first)
    td.manual_seed(3)
    a = default(x).numpy()
    td.manual_seed(3)
    np.testing.assert_array_equal(default(x).numpy(), a)


# Sequential, messages
# -----------------------------------------------------------------------------------------------------


def test_sequential_is_a_sequence() -> None:
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    model = nn.Sequential(*layers)
    assert len(model) == 3
    assert list(model) == layers
    assert model[-1] is layers[2]
    assert list(model[1:].state_dict()) == ["2.weight", "2.bias"]  # a slice keeps its names, as in torch
    named = nn.Sequential({"in": layers[0], "out": layers[2]})
    assert [name for name, _ in named.named_modules()] == ["", "in", "out"]
    assert nn.Sequential()(3) == 3


def test_dtypes_of_layers() -> None:
    for dtype in (np.float32, np.float64):
        x = td.ones(4, 2, 5, 5, dtype=dtype)
        for layer in (nn.Conv2d(2, 3, 3, dtype=dtype), nn.BatchNorm2d(2, dtype=dtype), nn.Dropout(0.3)):
            y = layer(x)
            assert y.dtype == dtype
            assert all(p.dtype == dtype for p in layer.parameters())
    for model, data in ((np.float32, np.float64), (np.float64, np.float32)):
        with pytest.raises(DtypeError, match="expected one dtype, got float32 and float64"):
            nn.Linear(2, 2, dtype=model)(td.ones(1, 2, dtype=data))
        with pytest.raises(DtypeError, match="expected one dtype, got float32 and float64"):
            nn.Conv2d(1, 2, 1, dtype=model)(td.ones(1, 1, 2, 2, dtype=data))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: nn.Linear(3, 2)(x),
            r"linear: expected input \(\*, in\), .* got input \(2, 4, 5, 5\), weight \(2, 3\)",
        ),
        (
            lambda x: nn.Conv2d(3, 2, 3)(x),
            r"conv2d: x has C=4, weight expects C=3 .*x \(2, 4, 5, 5\), weight \(2, 3, 3, 3\)",
        ),
        (
            lambda x: nn.Conv2d(4, 2, 6)(x),
            r"conv2d: expected a padded input at least as large as .* \(6, 6\), got \(5, 5\)",
        ),
        (
            lambda x: nn.Conv2d(4, 2, 3, stride=2, padding="same")(x),
            r'conv2d: padding "same" expected stride 1, got',
        ),
        (lambda x: nn.Conv2d(4, 2, 3, padding="some")(x), r"Conv2d: expected padding sizes, .* got 'some'"),
        (lambda x: nn.Conv2d(4, 2, 3)(x[0, 0]), r"conv2d: x expected 4 axes \(N, C, H, W\), got 2"),
        (
            lambda x: nn.Conv2d(4, 2, 3, groups=3),
            r"Conv2d: expected channels divisible by groups=3, got 4 and 2",
        ),
        (
            lambda x: nn.MaxPool2d(2)(x[0, 0]),
            r"max_pool2d: expected input \(N, C, H, W\) or \(C, H, W\), got \(5, 5\)",
        ),
        (lambda x: nn.MaxPool2d(2, padding=2)(x), r"max_pool2d: padding expected at most half the kernel"),
        (lambda x: nn.AvgPool2d(7)(x), r"avg_pool2d: expected a padded input at least as large"),
        (
            lambda x: nn.AdaptiveAvgPool2d(0)(x),
            r"AdaptiveAvgPool2d: expected output_size of at least 1, got 0",
        ),
        (lambda x: nn.BatchNorm1d(4)(x), r"BatchNorm1d: expected 2-d or 3-d input, got \(2, 4, 5, 5\)"),
        (
            lambda x: nn.BatchNorm2d(3)(x),
            r"batch_norm: expected input \(N, C, \*\) and .* \(C,\), got input \(2, 4, 5, 5\), ",
        ),
        (
            lambda x: nn.BatchNorm1d(4)(td.ones(1, 4)),
            r"batch_norm: expected more than one value per channel in training",
        ),
        (lambda x: nn.Dropout(1.5), r"Dropout: expected a probability in \[0, 1\], got 1.5"),
        (lambda x: nn.Flatten(2, 1)(x), r"flatten: "),
        (lambda x: nn.Softmax(4)(x), r"softmax: "),
        (lambda x: nn.Sequential(td.relu), r"Sequential: expected a Module or None for '0', got function"),
        (
            lambda x: td.cross_entropy(td.ones(3, 2), td.tensor([0, 1])),
            r"cross_entropy: expected .* got \(3, 2\) and \(2,\)",
        ),
        (
            lambda x: td.cross_entropy(td.ones(2, 2), td.tensor([0, 2])),
            r"expected classes in \[0, 2\), got 2 .. 2",
        ),
        (
            lambda x: td.cross_entropy(td.ones(2, 2), td.tensor([True, False])),
            r"cross_entropy: expected class indices",
        ),
        (
            lambda x: nn.CrossEntropyLoss(reduction="all")(td.ones(1, 2), td.tensor([0])),
            r"reduction .*got 'all'",
        ),
        (
            lambda x: td.cross_entropy(td.ones(1, 2), td.tensor([0]), label_smoothing=2.0),
            r"label_smoothing in \[0, 1\], got 2",
        ),
    ],
)
def test_messages(call: Callable[[td.Tensor], Any], message: str) -> None:
    with pytest.raises((ShapeError, DtypeError, ValueError, TypeError), match=message):
        call(td.ones(2, 4, 5, 5))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.Linear(2, 3, dtype="int64"),
            DtypeError,
            "Linear: expected float32 or float64, got int64",
        ),
        (
            lambda: nn.Conv2d(2, 3, 1, dtype="colour"),
            DtypeError,
            "Conv2d: expected float32, float64, an integer dtype",
        ),
        (lambda: nn.GRU(2, 3, dtype=bool), DtypeError, "GRU: expected float32 or float64, got bool"),
        (lambda: nn.BatchNorm1d(2, eps="a"), TypeError, "BatchNorm1d: expected eps a number, got 'a'"),
        (
            lambda: nn.BatchNorm2d(2, momentum="a"),
            TypeError,
            "BatchNorm2d: expected momentum a number, got 'a'",
        ),
        (
            lambda: nn.InstanceNorm1d(2, momentum=None),
            TypeError,
            "InstanceNorm1d: expected momentum a number, got None",
        ),
        (lambda: nn.LayerNorm(2, eps="a"), TypeError, "LayerNorm: expected eps a number, got 'a'"),
        (lambda: nn.LeakyReLU("a"), TypeError, "LeakyReLU: expected negative_slope a number, got 'a'"),
        (lambda: nn.GaussianNoise("a"), TypeError, "GaussianNoise: expected std a number, got 'a'"),
        (lambda: nn.ModuleList(3), TypeError, "ModuleList: expected its members in an iterable, got 3"),
        (lambda: nn.ModuleDict(3), TypeError, "ModuleDict: expected its members in an iterable, got 3"),
        (lambda: nn.ParameterDict(3), TypeError, "ParameterDict: expected its members in an iterable, got 3"),
        (lambda: nn.ParameterList(3), TypeError, "ParameterList: expected its members in an iterable, got 3"),
    ],
)
def test_wrong_settings_are_told_where_they_are_given(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_layers_are_float32_if_nothing_is_said() -> None:
    for layer in (
        nn.Linear(2, 3, dtype=None),
        nn.BatchNorm1d(2, dtype=None),
        nn.LSTM(2, 3, dtype=None),
        nn.PReLU(dtype=None),
    ):
        assert {p.dtype for p in layer.parameters()} == {np.dtype(np.float32)}


def test_instance_norm_and_attention_take_one_sample() -> None:
    x = td.randn(3, 4, generator=td.Generator(1), dtype="float64")
    norm, attention = (
        nn.InstanceNorm1d(3, track_running_stats=True).double(),
        nn.MultiheadAttention(4, 2).double(),
    )
    np.testing.assert_array_equal(norm(x).numpy(), norm(x.unsqueeze(0)).numpy()[0])
    assert norm.num_batches_tracked.item() == 0
    out, weights = attention(x, x, x, key_padding_mask=td.tensor([False, False, True]))
    others = attention(*[x.unsqueeze(1)] * 3, key_padding_mask=td.tensor([[False, False, True]]))
    np.testing.assert_array_equal(out.numpy(), others[0].numpy()[:, 0])
    np.testing.assert_array_equal(weights.numpy(), others[1].numpy()[0])
