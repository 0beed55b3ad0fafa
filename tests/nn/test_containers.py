"""Containers, and activations and losses as layers: names, settings, what they hand on."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from pytorch_differences import limit

import tinydl as td
from tinydl import nn

pytestmark = pytest.mark.usefixtures("reference")
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(scale=2, size=(2, 5, 4))

ACTIVATIONS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("ReLU", (), {}),
    ("LeakyReLU", (0.2,), {}),
    ("PReLU", (4,), {}),
    ("PReLU", (), {"init": 0.1}),
    ("ELU", (1.5,), {}),
    ("SELU", (), {}),
    ("CELU", (), {}),
    ("GELU", (), {"approximate": "tanh"}),
    ("SiLU", (), {}),
    ("Mish", (), {}),
    ("Softplus", (2.0, 5.0), {}),
    ("Softsign", (), {}),
    ("Hardtanh", (), {"max_val": 0.5}),
    ("Hardswish", (), {}),
    ("Hardsigmoid", (), {}),
    ("ReLU6", (), {}),
    ("Threshold", (0.1, 7.0), {}),
    ("GLU", (), {"dim": 1}),
    ("LogSigmoid", (), {}),
    ("Tanh", (), {}),
    ("Sigmoid", (), {}),
    ("Softmax", (), {"dim": 0}),
    ("LogSoftmax", (1,), {}),
]
LOSSES: list[tuple[str, dict[str, Any], np.ndarray]] = [
    ("MSELoss", {}, Y),
    ("L1Loss", {"reduction": "sum"}, Y),
    ("SmoothL1Loss", {"beta": 0.5}, Y),
    ("HuberLoss", {"delta": 0.5}, Y),
    ("BCELoss", {"weight": np.abs(Y)}, np.abs(np.tanh(Y))),
    ("BCEWithLogitsLoss", {"pos_weight": np.arange(1.0, 5.0), "reduction": "none"}, np.abs(np.tanh(Y))),
    ("KLDivLoss", {"log_target": True, "reduction": "batchmean"}, Y),
    ("NLLLoss", {"weight": np.arange(1.0, 5.0)}, np.array([0, 1, 2, 3, 0])),
    ("CrossEntropyLoss", {"weight": np.arange(1.0, 5.0), "label_smoothing": 0.1}, np.array([0, 1, 2, 3, 0])),
    ("CrossEntropyLoss", {"ignore_index": 2, "reduction": "sum"}, np.array([0, 1, 2, 3, 0])),
]


@pytest.mark.parametrize(
    ("name", "args", "settings"), ACTIVATIONS, ids=lambda value: value if isinstance(value, str) else ""
)
@pytest.mark.parametrize("training", [True, False])
def test_activations_against_torch(
    name: str, args: tuple[Any, ...], settings: dict[str, Any], training: bool
) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(*args, **settings), getattr(torch.nn, name)(*args, **settings)
    ours, theirs = ours.double().train(training), theirs.double().train(training)
    parameters = (list(ours.parameters()), list(theirs.parameters()))
    assert_agree(ours, theirs, [X], parameters, *limit(name))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_activations_have_the_settings_of_their_functions() -> None:
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert list(inspect.signature(nn.Softplus).parameters) == ["beta", "threshold"]
    layer = nn.LeakyReLU()
    assert layer.negative_slope == 0.01
    layer.negative_slope = 0.5
    assert layer(td.tensor([-2.0, 2.0])).tolist() == [-1.0, 2.0]
    assert nn.Hardtanh(max_val=2.0).max_val == 2.0
    assert nn.SmoothL1Loss(beta=0.5).beta == 0.5
    with pytest.raises(TypeError, match="Threshold: expected value a number, got 'a'"):
        nn.Threshold(0.1, "a")
    assert nn.ELU.__doc__ == td.elu.__doc__
    with pytest.raises(TypeError, match="slope"):
        nn.LeakyReLU(slope=0.2)
    np.testing.assert_array_equal(nn.Maxout(2)(td.tensor(X)).numpy(), X.reshape(5, 2, 2).max(2))


@pytest.mark.parametrize(
    ("name", "settings", "target"), LOSSES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_losses_against_torch(name: str, settings: dict[str, Any], target: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    x = 0.5 + 0.4 * np.tanh(X) if name == "BCELoss" else X

    def built(module: Any, tensor: Any) -> Any:
        given = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
        return getattr(module, name)(**given)

    assert_agree(built(nn, td.tensor), built(torch.nn, torch.tensor), [x, target], tolerance=1e-9)


def test_module_list() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])
    assert layers.append(nn.Linear(2, 1)) is layers
    layers.extend([nn.Tanh()])
    assert len(layers) == 4
    assert isinstance(layers[-1], nn.Tanh)
    assert isinstance(layers[1:], nn.ModuleList)
    assert [type(m).__name__ for m in layers] == ["Linear", "ReLU", "Linear", "Tanh"]
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    with pytest.raises(NotImplementedError, match=r"ModuleList\.forward"):
        layers(td.ones(1, 2))


def test_module_dict() -> None:
    layers = nn.ModuleDict({"a": nn.Linear(2, 2)})
    layers["b"] = nn.ReLU()
    assert list(layers) == list(layers.keys()) == ["a", "b"]
    assert "b" in layers
    assert "c" not in layers
    assert len(layers) == 2
    assert layers["b"] is list(layers.values())[1] is dict(layers.items())["b"]
    assert list(layers.state_dict()) == ["a.weight", "a.bias"]
    with pytest.raises(ValueError, match=r"\w+: expected a name without dots, got 'a\.b'"):
        layers["a.b"] = nn.ReLU()


def test_parameter_list() -> None:
    numbers = nn.ParameterList([np.zeros(2), nn.Parameter(np.ones(3))])
    numbers.append(td.ones(1))
    assert [p.shape for p in numbers] == [(2,), (3,), (1,)]
    assert len(numbers) == 3
    assert all(isinstance(p, nn.Parameter) for p in numbers)
    assert list(numbers.state_dict()) == ["0", "1", "2"]
    assert numbers[-1] is list(numbers.parameters())[2]
    assert len(numbers.extend([td.ones(1), nn.Parameter(td.ones(2))])) == 5
    assert numbers[4].shape == (2,)


def test_parameter_dict() -> None:
    first = nn.Parameter(np.ones(3))
    numbers = nn.ParameterDict({"b": first, "a": np.zeros(2)})
    numbers["c"] = td.ones(1)
    assert list(numbers) == list(numbers.keys()) == list(numbers.state_dict()) == ["b", "a", "c"]
    assert all(isinstance(p, nn.Parameter) for p in numbers.values())
    assert numbers["b"] is first is dict(numbers.items())["b"] is next(iter(numbers.parameters()))
    assert numbers.pop("a").shape == (2,)
    del numbers["c"]
    assert "a" not in numbers
    assert len(numbers) == len(list(numbers.parameters())) == 1
    numbers.update({"b": np.zeros(4)})
    assert numbers["b"].shape == (4,)
    numbers.clear()
    assert not list(numbers.parameters())


def test_register_module() -> None:
    model = nn.Module()
    model.register_module("part", nn.Linear(2, 3))
    assert [name for name, _ in model.named_parameters()] == ["part.weight", "part.bias"]


def test_residual_lambda_identity() -> None:
    x = td.tensor(X)
    double = nn.Lambda(lambda x: 2 * x)
    np.testing.assert_array_equal(nn.Residual(double)(x).numpy(), 3 * X)
    np.testing.assert_array_equal(nn.Residual(double, nn.Lambda(td.neg))(x).numpy(), X)
    assert nn.Lambda(lambda a, b: a + b)(1, 2) == 3
    assert repr(nn.Lambda(td.flatten)) == "Lambda(flatten)"
    assert nn.Identity()(x) is x


@pytest.mark.parametrize(("dim", "sizes"), [(1, (2, 2)), (-1, (-1, 2)), (0, (5, 1)), (-2, (1, 5))])
def test_unflatten_against_torch(dim: int, sizes: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    assert_agree(nn.Unflatten(dim, sizes), torch.nn.Unflatten(dim, sizes), [X])


def test_noise_and_dropout_layers_rest_in_evaluation() -> None:
    for layer, shape in (
        (nn.Dropout1d(), (2, 3, 4)),
        (nn.Dropout2d(), (2, 3, 4, 4)),
        (nn.AlphaDropout(), (3, 4)),
        (nn.GaussianNoise(), (3, 4)),
    ):
        x = td.ones(*shape)
        assert (layer(x).numpy() != 1).any()
        assert layer.eval()(x) is x
    assert repr(nn.GaussianNoise(0.2)) == "GaussianNoise(std=0.2)"
    with pytest.raises(ValueError, match="GaussianNoise: expected std of at least 0, got -1"):
        nn.GaussianNoise(-1)
    with pytest.raises(ValueError, match=r"AlphaDropout: expected a probability in \[0, 1\], got 2"):
        nn.AlphaDropout(2)
