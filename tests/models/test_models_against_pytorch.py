"""Networks against PyTorch's, weights shared by their names: outputs, in training and after, and the gradient
of a loss with a gradient penalty. Torchvision's own nets where it has them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from models import pytorch_twins as twins

import tinydl as td
from tinydl import models
from tinydl.regularizers import DataGrad, Objective

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("reference")]


def vision(file: str) -> Any:
    """A module of torchvision.models, without the package around it: its compiled operators may be of another
    build of PyTorch than the one that is here, and no net needs them.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("torchvision is not installed")
    root = spec.submodule_search_locations[0]
    for name, path in (("torchvision", root), ("torchvision.models", f"{root}/models")):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__, package.__spec__ = [path], importlib.machinery.ModuleSpec(name, None)
            package.__spec__.submodule_search_locations = [path]
            sys.modules[name] = package
    return importlib.import_module(f"torchvision.models.{file}")


def still(model: Any) -> Any:
    """In training, but for dropout."""
    for layer in model.train().modules():
        if type(layer).__name__ == "Dropout":
            layer.eval()
    return model


def moved(model: Any, x: Any) -> Any:
    """Running statistics that are not those of the beginning."""
    for _ in range(3):
        still(model)(x)
    return model


def assert_same(
    ours: td.nn.Module,
    forward: Callable[[dict[str, Any], Any, bool], Any],
    x: np.ndarray,
    penalized: bool = True,
    maps: bool = False,
) -> None:
    """Outputs in evaluation and training, and the gradient of loss + penalty, in float64."""
    import torch

    moved(ours.double(), td.tensor(x))
    state = {name: torch.tensor(value.numpy()) for name, value in ours.state_dict().items()}
    X = torch.tensor(x)
    for training in (False, True):
        expected = forward(state, X, training).detach().numpy()
        assert np.abs(expected).max() > 1e-4
        found = (still(ours) if training else ours.eval())(td.tensor(x))
        found = found if isinstance(found, tuple) else (found,)
        np.testing.assert_allclose(found[0].detach().numpy(), expected, rtol=1e-8, atol=1e-10)
    if not penalized:
        return
    shape = (len(x), *x.shape[2:]) if maps else (len(x),)
    y = np.arange(np.prod(shape)).reshape(shape) % 7
    still(ours).zero_grad()
    Objective(ours, td.cross_entropy, [DataGrad(0.3)])(td.tensor(x), td.tensor(y)).total.backward()
    leaves = {name: state[name].requires_grad_() for name, _ in ours.named_parameters()}
    X.requires_grad_()
    losses = torch.nn.functional.cross_entropy(forward(state, X, True), torch.tensor(y), reduction="none")
    losses = losses.mean((1, 2)) if maps else losses
    (dx,) = torch.autograd.grad(losses.sum(), X, create_graph=True)
    total = losses.mean() + 0.3 * dx.square().sum() / len(x)
    expected = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    largest = {name: float(g.abs().max()) for name, g in expected.items()}
    for name, p in ours.named_parameters():  # some are 0 but for rounding: biases before BatchNorm
        limit = 1e-8 * largest[name] + 1e-11 * max(largest.values())
        np.testing.assert_allclose(p.grad.numpy(), expected[name], rtol=0, atol=limit, err_msg=name)


TWINS: dict[str, tuple[Callable[[], td.nn.Module], tuple[int, ...], Callable[..., Any]]] = {
    "LeNet": (lambda: models.LeNet(classes=7), (1, 28, 28), twins.lenet),
    "LeNet batchnorm": (lambda: models.LeNet("batchnorm", 7, in_channels=2), (2, 28, 28), twins.lenet),
    "CaffeLeNet": (lambda: models.CaffeLeNet(7, 2), (2, 28, 28), twins.caffe),
    **{
        f"ResNet {option}": (
            lambda option=option: models.ResNet(2, 7, (2, 4, 8), shortcut=option),
            (3, 9, 10),
            twins.cifar_resnet(option),
        )
        for option in ("A", "B", "C", "none")
    },
    "WideResNet": (lambda: models.WideResNet(16, 1, 7, dropout=0.2), (3, 8, 12), twins.wide_resnet),
    "WideResNet harmonic": (
        lambda: models.WideResNet(10, 1, 7, harmonic=True, in_channels=2, dtype="float64"),
        (2, 8, 8),
        twins.wide_resnet,
    ),
    **{
        f"AllCNN {base} {kind}": (
            lambda base=base, kind=kind: models.AllCNN(base, kind, 7, 3),
            (3, 11, 12),
            twins.all_cnn(base, kind),
        )
        for base, kind in (("C", "all"), ("C", "pool"), ("B", "strided"), ("A", "convpool"))
    },
    "UNet": (lambda: models.UNet(7, 2, 2), (2, 16, 32), twins.unet),
    "MLP": (lambda: models.MLP(24, (9, 8), 7, 0.3, "tanh"), (2, 3, 4), twins.mlp),
    "ciresan": (lambda: models.ciresan(7, 24, hidden=(9, 8)), (2, 3, 4), twins.ciresan),
    "MaxoutNet": (lambda: models.MaxoutNet(24, 5, 3, 7), (2, 3, 4), twins.maxout),
}


@pytest.mark.parametrize("name", TWINS)
def test_as_written_in_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    make, shape, forward = TWINS[name]
    ours = make()
    x = np.random.default_rng(0).normal(size=(4, *shape))
    if name in ("ciresan", "MaxoutNet"):  # they start with small weights, and so with outputs near 0
        with td.no_grad():
            for p in ours.parameters():
                p.mul_(10)
    assert_same(
        ours,
        lambda state, X, training: forward(twins.Net(torch, state, training), X),
        x,
        maps=name == "UNet",
    )


def functional(theirs: Any) -> Callable[[dict[str, Any], Any, bool], Any]:
    """A net of torchvision as a function of its state; the buffers that it moves are copies."""
    import torch

    def forward(state: dict[str, Any], X: Any, training: bool) -> Any:
        model = still(theirs) if training else theirs.eval()
        moving = {k: v.clone() if "running" in k or "num_b" in k else v for k, v in state.items()}
        y = torch.func.functional_call(model, moving, (X,))
        return y[0] if isinstance(y, tuple) else y

    return forward


def narrow_vgg(layers: int, bn: bool) -> tuple[td.nn.Module, Any]:
    import torch

    vgg, nn = vision("vgg"), torch.nn
    ours = models.VGG(layers, 7, bn, width=4, hidden=6)
    letters = {11: "A", 13: "B", 16: "D", 19: "E"}
    plan = [c if c == "M" else c // 16 for c in vgg.cfgs[letters[layers]]]
    with torch.device("meta"):
        theirs = vgg.VGG(vgg.make_layers(plan, batch_norm=bn), 7, init_weights=False)
    theirs.features = vgg.make_layers(plan, batch_norm=bn)
    theirs.classifier = nn.Sequential(
        *(nn.Linear(49 * 32, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 6), nn.ReLU(), nn.Dropout()),
        nn.Linear(6, 7),
    )
    return ours, theirs


def narrow_alexnet() -> tuple[td.nn.Module, Any]:
    import torch

    nn = torch.nn
    with torch.device("meta"):
        theirs = vision("alexnet").AlexNet(7)
    theirs.features = nn.Sequential(
        *(nn.Conv2d(3, 4, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(4, 12, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )
    theirs.classifier[1], theirs.classifier[4] = nn.Linear(576, 6), nn.Linear(6, 6)
    theirs.classifier[6] = nn.Linear(6, 7)
    return models.AlexNet(7, width=4, hidden=6), theirs


def short_resnet(bottleneck: bool) -> tuple[td.nn.Module, Any]:
    resnet = vision("resnet")
    block = resnet.Bottleneck if bottleneck else resnet.BasicBlock
    return models.ImageNetResNet((2, 1, 1, 1), 7, bottleneck), resnet.ResNet(block, [2, 1, 1, 1], 7)


SHORT: dict[str, tuple[Callable[[], tuple[td.nn.Module, Any]], tuple[int, ...]]] = {
    "resnet": (functools.partial(short_resnet, False), (3, 33, 40)),
    "resnet bottleneck": (functools.partial(short_resnet, True), (3, 33, 33)),
    "vgg": (functools.partial(narrow_vgg, 11, False), (3, 32, 35)),
    "vgg bn": (functools.partial(narrow_vgg, 13, True), (3, 33, 32)),
    "alexnet": (narrow_alexnet, (3, 80, 75)),
    "densenet": (
        lambda: (
            models.DenseNet(4, (2, 3), 8, 7, drop_rate=0.2),
            vision("densenet").DenseNet(4, (2, 3), 8, drop_rate=0.0, num_classes=7),
        ),
        (3, 33, 40),
    ),
    "googlenet": (
        lambda: (
            models.GoogLeNet(7, aux_logits=True),
            vision("googlenet").GoogLeNet(7, init_weights=False, aux_logits=True),
        ),
        (3, 70, 64),
    ),
}


@pytest.mark.parametrize("name", SHORT)
def test_as_in_torchvision(name: str) -> None:
    pytest.importorskip("torch")
    make, shape = SHORT[name]
    ours, theirs = make()
    theirs = theirs.double()
    x = np.random.default_rng(0).normal(size=(3, *shape))
    if name == "googlenet":
        theirs.load_state_dict({k: v.double() for k, v in theirs.state_dict().items()})
        ours.double().load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
        assert_all_outputs_of_googlenet(ours, theirs, x)
    if name.startswith("vgg"):  # narrow, with small weights at the end: its outputs would be 1e-5
        with td.no_grad():
            for key, p in ours.named_parameters():
                p.mul_(30.0 if key.startswith("classifier") else 1.2)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    assert_same(ours, functional(theirs), x, penalized="net" not in name or name in ("alexnet", "densenet"))


def assert_all_outputs_of_googlenet(ours: Any, theirs: Any, x: np.ndarray) -> None:
    """Logits and those of the two classifiers on the way, by their names."""
    import torch

    found, expected = still(ours)(td.tensor(x)), still(theirs)(torch.tensor(x))
    assert found._fields == expected._fields
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("file", "name"),
    [("resnet", "resnet18"), ("resnet", "resnet50"), ("densenet", "densenet121"), ("googlenet", "googlenet")],
)
def test_names_and_shapes_of_torchvision(file: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    settings = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    with torch.device("meta"):
        theirs = getattr(vision(file), name)(**settings)
    found = {k: v.shape for k, v in getattr(models, name)().state_dict().items()}
    assert found == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("layers", [11, 13, 16, 19])
@pytest.mark.parametrize("bn", [False, True])
def test_names_of_torchvisions_vggs(layers: int, bn: bool) -> None:
    torch = pytest.importorskip("torch")
    name = f"vgg{layers}{'_bn' * bn}"
    with torch.device("meta"):
        theirs = getattr(vision("vgg"), name)()
    ours = getattr(models, name)(width=2, hidden=3, classes=4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
