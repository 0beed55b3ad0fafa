"""Layers over spatial axes: PyTorch's, by state_dict, to second order; padding modes; small
nets that train; larger images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn

LINE, IMAGE, VOLUME = (2, 4, 9), (2, 4, 6, 5), (1, 4, 4, 3, 4)
LAYERS: list[tuple[str, Callable[[Any], Any], tuple[int, ...]]] = [
    ("Conv1d", lambda nn: nn.Conv1d(4, 6, 3, 2, 1, 2, 2), LINE),
    ("Conv1d same", lambda nn: nn.Conv1d(4, 3, 3, padding="same", bias=False), LINE),
    ("Conv1d without N", lambda nn: nn.Conv1d(4, 3, 3), LINE[1:]),
    ("Conv3d", lambda nn: nn.Conv3d(4, 3, (2, 3, 1), (1, 2, 1), (0, 1, 0)), VOLUME),
    ("Conv3d without N", lambda nn: nn.Conv3d(4, 2, 2), VOLUME[1:]),
    ("Conv1d circular", lambda nn: nn.Conv1d(4, 3, 3, padding=2, padding_mode="circular"), LINE),
    ("Conv2d reflect", lambda nn: nn.Conv2d(4, 3, 3, 2, (2, 1), padding_mode="reflect"), IMAGE),
    (
        "Conv2d reflect, same",
        lambda nn: nn.Conv2d(4, 3, (3, 2), padding="same", padding_mode="reflect"),
        IMAGE,
    ),
    (
        "Conv2d replicate without N",
        lambda nn: nn.Conv2d(4, 3, 3, 1, (0, 3), padding_mode="replicate"),
        IMAGE[1:],
    ),
    ("Conv2d circular", lambda nn: nn.Conv2d(4, 4, 3, 1, (1, 2), (2, 1), 2, padding_mode="circular"), IMAGE),
    ("Conv3d replicate", lambda nn: nn.Conv3d(4, 2, 3, padding=(1, 0, 2), padding_mode="replicate"), VOLUME),
    ("ConvTranspose1d", lambda nn: nn.ConvTranspose1d(4, 6, 3, 3, 1, 2, 2, dilation=2), LINE),
    ("ConvTranspose2d", lambda nn: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2), IMAGE),
    ("ConvTranspose2d without N", lambda nn: nn.ConvTranspose2d(4, 3, 2, 2, bias=False), IMAGE[1:]),
    ("ConvTranspose3d", lambda nn: nn.ConvTranspose3d(4, 2, 2, (1, 2, 3), 1), VOLUME),
    ("MaxPool1d", lambda nn: nn.MaxPool1d(3, 2, 1, return_indices=True), LINE),
    ("MaxPool2d without N", lambda nn: nn.MaxPool2d(2, ceil_mode=True), IMAGE[1:]),
    ("MaxPool3d", lambda nn: nn.MaxPool3d(2, 1, dilation=(2, 1, 1)), VOLUME),
    ("AvgPool1d", lambda nn: nn.AvgPool1d(3, 2, 1, True, False), LINE),
    ("AvgPool2d divided", lambda nn: nn.AvgPool2d((2, 3), divisor_override=2), IMAGE),
    ("AvgPool3d", lambda nn: nn.AvgPool3d((2, 3, 1), divisor_override=5), VOLUME),
    ("LPPool1d", lambda nn: nn.LPPool1d(4, 3), LINE),
    ("LPPool2d", lambda nn: nn.LPPool2d(2, (2, 3), 1, True), IMAGE),
    ("LPPool3d", lambda nn: nn.LPPool3d(2.0, 2), VOLUME),
    ("AdaptiveAvgPool1d", lambda nn: nn.AdaptiveAvgPool1d(4), LINE),
    ("AdaptiveAvgPool2d uneven", lambda nn: nn.AdaptiveAvgPool2d((4, None)), IMAGE),
    ("AdaptiveAvgPool3d", lambda nn: nn.AdaptiveAvgPool3d((2, 2, 3)), VOLUME),
    ("AdaptiveMaxPool1d", lambda nn: nn.AdaptiveMaxPool1d(4), LINE),
    ("AdaptiveMaxPool2d", lambda nn: nn.AdaptiveMaxPool2d((4, 3), return_indices=True), IMAGE),
    ("AdaptiveMaxPool3d", lambda nn: nn.AdaptiveMaxPool3d(2), VOLUME),
    ("Unfold", lambda nn: nn.Unfold((2, 3), 1, (1, 0), 2), IMAGE),
    ("Fold", lambda nn: nn.Fold((3, 4), 2), (2, 8, 6)),
]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("build", "shape"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])
def test_against_torch(build: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = build(nn).double(), build(torch.nn).double()
    assert [(name, p.shape) for name, p in ours.named_parameters()] == [
        (name, tuple(p.shape)) for name, p in theirs.named_parameters()
    ]
    ours.load_state_dict({name: p.numpy() for name, p in theirs.state_dict().items()})
    assert_agree(ours, theirs, [normal(*shape)], [[*ours.parameters()], [*theirs.parameters()]])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_unpooling_undoes_pooling(axes: int) -> None:
    x = td.tensor(np.abs(normal(2, 3, *(5, 4, 4)[:axes])))
    values, indices = getattr(nn, f"MaxPool{axes}d")(2, return_indices=True)(x)
    y = getattr(nn, f"MaxUnpool{axes}d")(2)(values, indices, output_size=x.shape)
    kept = y.numpy() != 0
    assert y.shape == x.shape
    assert kept.sum() == values.numpy().size
    np.testing.assert_array_equal(y.numpy()[kept], x.numpy()[kept])
    again, places = getattr(nn, f"MaxPool{axes}d")(2, return_indices=True)(y)
    np.testing.assert_array_equal(again.numpy(), values.numpy())
    np.testing.assert_array_equal(places.numpy(), indices.numpy())


@pytest.mark.parametrize("size", [(11, 9), (12, 10), (2, 6, 12, 9)])
def test_output_size_of_transposed_convolutions(size: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = (
        nn.ConvTranspose2d(4, 6, 3, 2, 1).double(),
        torch.nn.ConvTranspose2d(4, 6, 3, 2, 1).double(),
    )
    ours.load_state_dict({name: p.numpy() for name, p in theirs.state_dict().items()})
    x = normal(*IMAGE)
    y = ours(td.tensor(x), output_size=size)
    expected = theirs(torch.tensor(x), output_size=list(size))
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), atol=1e-12)
    with pytest.raises(
        ShapeError,
        match=r"ConvTranspose2d: expected output_size of \(11, 9\) or up to a stride \(2, 2\) above",
    ):
        ours(td.tensor(x), output_size=(13, 9))


def test_global_pooling() -> None:
    x = normal(2, 3, 4, 5)
    for layer, pool in ((nn.GlobalAvgPool2d, np.mean), (nn.GlobalMaxPool2d, np.max)):
        np.testing.assert_allclose(layer()(td.tensor(x)).numpy(), pool(x, (2, 3)))
        np.testing.assert_allclose(layer(True)(td.tensor(x)).numpy(), pool(x, (2, 3), keepdims=True))
        np.testing.assert_allclose(layer()(td.tensor(x[0])).numpy(), pool(x[0], (1, 2)))


def test_the_first_of_equal_maxima_has_the_gradient() -> None:
    x = td.ones(1, 1, 2, 3, requires_grad=True)
    (dx,) = td.grad(nn.GlobalMaxPool2d()(x).sum(), x)
    np.testing.assert_array_equal(dx.numpy(), [[[[1, 0, 0], [0, 0, 0]]]])


def test_locally_connected() -> None:
    layer = nn.LocallyConnected2d(2, 3, (5, 4), (2, 3), 2, 1, dtype=np.float64)
    assert layer.weight.shape == (3, 2, 3, 12)
    assert layer.bias.shape == (3, 3, 2)
    assert np.abs(layer.weight.detach().numpy()).max() <= 12**-0.5
    x = normal(2, 2, 5, 4)
    y = layer(td.tensor(x)).detach().numpy()
    padded, w, b = (
        np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))),
        layer.weight.detach().numpy(),
        layer.bias.detach().numpy(),
    )
    for i, j in np.ndindex(3, 2):
        window = padded[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 3].reshape(2, 12)
        np.testing.assert_allclose(y[:, :, i, j], window @ w[i, j].T + b[:, i, j])
    with pytest.raises(ShapeError, match="locally_connected2d: expected weight"):
        layer(td.zeros(1, 2, 6, 4, dtype="float64"))


def test_initialization_is_pytorchs() -> None:
    """U(±1/√(shape[1] · kernel)), for transposed convolutions too."""
    td.manual_seed(0)
    for layer in (
        nn.Conv1d(8, 30, 5),
        nn.Conv3d(4, 20, 3, groups=2),
        nn.ConvTranspose2d(20, 16, 3, groups=2),
    ):
        bound = np.prod(layer.weight.shape[1:]) ** -0.5
        for p in layer.parameters():
            assert np.abs(p.detach().numpy()).max() <= bound
        w = layer.weight.detach().numpy()
        assert w.var() == pytest.approx(bound**2 / 3, rel=0.15)


def test_what_layers_say_of_themselves() -> None:
    assert repr(nn.Conv1d(2, 3, 5, padding="same")) == "Conv1d(2, 3, kernel_size=(5,), padding='same')"
    assert repr(nn.ConvTranspose2d(2, 4, 3, 2, output_padding=1, bias=False)) == (
        "ConvTranspose2d(2, 4, kernel_size=(3, 3), stride=2, output_padding=1, bias=False)"
    )
    assert repr(nn.LPPool1d(2, 3)) == "LPPool1d(norm_type=2, kernel_size=3, stride=3, ceil_mode=False)"
    assert repr(nn.AdaptiveMaxPool3d(2)) == "AdaptiveMaxPool3d(output_size=2)"
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.ConvTranspose1d(3, 4, 2, 2))
    assert [row.flops for row in nn.summary(model, (1, 2, 8)).rows] == [2 * 4 * 3 * 10, 2 * 4 * 3 * 4 * 2]


ERRORS = [
    (
        lambda: nn.Conv1d(3, 4, 3, groups=2),
        ValueError,
        "Conv1d: expected channels divisible by groups=2, got 3 and 4",
    ),
    (
        lambda: nn.ConvTranspose3d(4, 3, 3, groups=2),
        ValueError,
        "ConvTranspose3d: expected channels divisible by groups=2",
    ),
    (
        lambda: nn.Conv2d(3, 4, (3, 3, 3)),
        ShapeError,
        "Conv2d: kernel_size expected an int or 2 of them, got (3, 3, 3)",
    ),
    (
        lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"),
        ValueError,
        "Conv2d: expected padding_mode one of ['zeros', 'reflect'",
    ),
    (
        lambda: nn.LocallyConnected2d(2, 3, 4, 5),
        ShapeError,
        "LocallyConnected2d: expected a padded input at least as large as",
    ),
    (
        lambda: nn.Conv3d(2, 3, 3)(td.ones(2, 4, 4)),
        ShapeError,
        "conv3d: x expected 5 axes (N, C, D, H, W), got 3",
    ),
    (
        lambda: nn.AdaptiveAvgPool3d(2)(td.ones(2, 4, 4)),
        ShapeError,
        "adaptive_avg_pool3d: expected input (N, C, D, H, W) or",
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


# ---- Networks


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 1, 3, padding=1, padding_mode="replicate"),
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_net_with_a_transposed_convolution_trains(backend: str) -> None:
    """Eager and recorded give the same bits, with a penalty on the gradient by the
    data too, and the loss falls.
    """

    def training(wrap: Callable[..., Any]) -> list[np.ndarray]:
        td.manual_seed(3)
        model = autoencoder()
        optimizer = td.optim.Adam(model.parameters(), lr=0.02)

        def step(x: td.Tensor) -> Any:
            optimizer.zero_grad()
            x = x.detach().requires_grad_()
            error = model(x) - x.detach()
            loss = (error * error).mean()
            (dx,) = td.grad(loss, x, create_graph=True)
            (loss + 10.0 * (dx * dx).sum()).backward()
            optimizer.step()
            return loss

        run, x = wrap(step), td.from_numpy(np.cos(np.arange(8 * 64)).reshape(8, 1, 8, 8).astype(np.float32))
        losses = [run(x).detach().numpy() for _ in range(40)]
        return [*losses, *(p.detach().numpy() for p in model.parameters())]

    with td.backend(backend):
        eager, recorded = training(lambda step: step), training(td.record)
    for a, b in zip(eager, recorded, strict=True):
        np.testing.assert_array_equal(a, b)
    assert eager[39] < 0.3 * eager[0]


def test_a_fully_connected_net_on_a_larger_image() -> None:
    """As convolutions its layers give what the net gives on each window."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 4 * 3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    layers = [nn.linear_to_conv(net[1], (2, 4, 3)), nn.Tanh(), nn.linear_to_conv(net[3], (5, 1, 1))]
    x = td.tensor(normal(2, 2, 6, 5))
    maps = nn.Sequential(*layers)(x).detach().numpy()
    assert maps.shape == (2, 3, 3, 3)
    for i, j in np.ndindex(3, 3):
        window = net(x[:, :, i : i + 4, j : j + 3]).detach().numpy()
        np.testing.assert_allclose(maps[:, :, i, j], window, atol=1e-12)
    back = nn.conv_to_linear(layers[0])
    np.testing.assert_array_equal(back.weight.detach().numpy(), net[1].weight.detach().numpy())
    np.testing.assert_array_equal(back.bias.detach().numpy(), net[1].bias.detach().numpy())
