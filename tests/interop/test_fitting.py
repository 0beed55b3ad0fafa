"""Weights that do not quite fit: names brought to the model's, the report, nets cut at a layer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import models, nn
from tinydl.interop import cut, fit_weights, save_weights

pytestmark = pytest.mark.usefixtures("reference")


def resnet(classes: int = 10, **settings: Any) -> models.ResNet:
    return models.ResNet(1, classes, (2, 4, 8), **settings)


def state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "state_dict.module.", "model._orig_mod."])
def test_prefixes_of_wrappers_come_off(prefix: str) -> None:
    given = {prefix + name: value for name, value in state(resnet()).items()}
    model = resnet()
    fitted = fit_weights(model, given)
    assert (fitted.prefix, fitted.missing, fitted.unexpected, fitted.wrong_shape) == (prefix, [], [], [])
    assert len(fitted.loaded) == len(given)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), given[prefix + name])


def test_a_prefix_that_is_the_models_own_stays() -> None:
    wrapped = nn.Sequential({"module": nn.Linear(2, 3)})
    assert fit_weights(wrapped, state(wrapped)).prefix == ""
    given = state(nn.Linear(2, 3)) | {"model.other": np.ones(2)}
    fitted = fit_weights(nn.Linear(2, 3), given)
    assert (fitted.prefix, fitted.unexpected) == ("", ["model.other"])
    given = {f"net.{name}": value for name, value in state(nn.Linear(2, 3)).items()}
    assert fit_weights(nn.Linear(2, 3), given, prefix="net.").loaded == ["weight", "bias"]


def test_the_report(tmp_path: Path) -> None:
    given = state(resnet(7))
    del given["layer1.0.bn1.weight"], given["bn1.num_batches_tracked"]
    given["extra"] = np.ones(1)
    save_weights(tmp_path / "seven.safetensors", given)
    model = resnet(10)
    before = state(model)
    fitted = fit_weights(model, tmp_path / "seven.safetensors")
    assert fitted.missing == ["layer1.0.bn1.weight", "linear.weight", "linear.bias"]
    assert fitted.unexpected == ["extra"]
    assert fitted.wrong_shape == [
        "linear.weight: expected (10, 8), got (7, 8)",
        "linear.bias: expected (10,), got (7,)",
    ]
    after = state(model)
    for name in before:
        source = given if name in fitted.loaded else before
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(after[name], source[name])
    lines = str(fitted).splitlines()
    assert lines[0] == f"loaded {len(fitted.loaded)} of {len(fitted.loaded) + 3}"
    assert lines[1] == "missing (3): layer1.0.bn1.weight, linear.weight, linear.bias"
    assert lines[2:] == ["unexpected (1): extra", f"wrong shape (2): {', '.join(fitted.wrong_shape)}"]
    many = fit_weights(model, {"conv1.weight": given["conv1.weight"]})
    assert str(many).endswith(", ...")


def test_layers_that_are_left_out() -> None:
    given, model = state(resnet()), resnet()
    before = state(model)
    fitted = fit_weights(model, given, only=["conv1", "bn1", "layer1"], skip=["layer1.0.bn2"])
    after = state(model)
    for name in before:
        lower = name.startswith(("conv1.", "bn1.", "layer1.")) and not name.startswith("layer1.0.bn2")
        np.testing.assert_array_equal(after[name], (given if lower else before)[name])
        assert (name in fitted.loaded, name in fitted.skipped) == (lower, not lower)
    assert (fitted.missing, fitted.unexpected) == ([], [])


TIMM = {
    "vgg11": "d25c9adcf7bc1089",
    "vgg11_bn": "b14f0feb8809e92d",
    "vgg13": "d3bba7c0c111f718",
    "vgg13_bn": "2f56d8a14c55d1fd",
    "vgg16": "d7e4570566e92ed5",
    "vgg16_bn": "3fe09a6c824582c8",
    "vgg19": "eb39f7b96a5ef01b",
    "vgg19_bn": "054ce11577f7f4ab",
    "resnet18": "1b222b5edf28815d",
    "resnet34": "11e446a2639455a0",
    "resnet50": "87b9390070d0ad82",
    "densenet121": "c7c858119b3a3323",
    "densenet161": "e1b33e61ee2e4813",
    "densenet169": "439b81c377136727",
    "densenet201": "dc384d8aae7ec932",
}
"""SHA-256 of the sorted names in a state_dict of timm 1.0.31, a line each: its first digits."""


def of_timm(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state_dict of td.models as timm has it."""
    found = {}
    for name, value in given.items():
        for ours, theirs in (("0", "pre_logits.fc1"), ("3", "pre_logits.fc2"), ("6", "head.fc")):
            name = name.replace(f"classifier.{ours}.", f"{theirs}.")
        if name == "pre_logits.fc1.weight":
            value = value.reshape(len(value), -1, 7, 7)
        found[name] = value[..., None, None] if name == "pre_logits.fc2.weight" else value
    return found


@pytest.mark.parametrize("net", TIMM)
def test_names_of_timm(net: str) -> None:
    small = {"width": 2} if "vgg" in net or net.startswith("resnet") else {}
    small |= {"hidden": 4} if "vgg" in net else {}
    make = getattr(td.models, net)
    if small:
        model, other = make(3, **small), make(3, **small)
    else:
        blocks = {"121": (6, 12, 24, 16), "161": (6, 12, 36, 24), "169": (6, 12, 32, 32)}.get(net[-3:])
        model, other = (models.DenseNet(1, blocks or (6, 12, 48, 32), 2, 3) for _ in range(2))
    given = of_timm(state(model))
    names = "\n".join(sorted(given))
    assert hashlib.sha256(names.encode()).hexdigest().startswith(TIMM[net])
    fitted = fit_weights(other, given)
    assert (fitted.missing, fitted.unexpected, fitted.wrong_shape) == ([], [], [])
    loaded = state(other)
    for name, value in state(model).items():
        np.testing.assert_array_equal(loaded[name], value)


def test_the_head_of_timms_vgg_computes_the_same() -> None:
    """It is convolutions there, before the mean over the image."""
    net = models.vgg11(3, width=2, hidden=4, dropout=0.0)
    rng = np.random.default_rng(0)
    given = of_timm({name: rng.normal(size=v.shape) for name, v in state(net).items()})
    fit_weights(net, {f"module.{name}": value for name, value in given.items()}, prefix=None)
    head = {name: td.tensor(value.astype(np.float32)) for name, value in given.items()}
    x = td.randn(2, 3, 224, 224)
    h = net.features(x)
    for layer in ("pre_logits.fc1", "pre_logits.fc2"):
        h = td.relu(td.conv2d(h, head[f"{layer}.weight"], head[f"{layer}.bias"]))
    expected = td.linear(h.mean((2, 3)), head["head.fc.weight"], head["head.fc.bias"])
    np.testing.assert_allclose(net(x).detach().numpy(), expected.detach().numpy(), rtol=1e-4)


def test_old_names_of_densenet() -> None:
    """Torchvision's files of 2017 write norm.1 for norm1."""
    net = models.DenseNet(4, (2,), 4, 3)
    old = {
        name.replace("norm1", "norm.1")
        .replace("conv2", "conv.2")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1"): value
        for name, value in state(net).items()
    }
    other = models.DenseNet(4, (2,), 4, 3)
    assert len(fit_weights(other, old).missing) == 20
    fitted = fit_weights(other, old, rename={r"(norm|conv)\.([12])\.": r"\1\2."})
    assert (fitted.missing, fitted.unexpected) == ([], [])
    np.testing.assert_array_equal(state(other)["features.norm5.bias"], state(net)["features.norm5.bias"])


def test_refused() -> None:
    model = resnet()
    before = state(model)
    with pytest.raises(ShapeError, match=r"fit_weights: nothing fits ResNet: it has conv1\.weight, \.\.\.,"):
        fit_weights(model, {"a": np.ones(2)})
    with pytest.raises(ShapeError, match=r"nothing fits ResNet: conv1\.weight: expected \(2, 3, 3, 3\), got"):
        fit_weights(model, {"conv1.weight": np.ones(2)})
    with pytest.raises(ValueError, match="fit_weights: ResNet has no layer 'layer9'"):
        fit_weights(model, state(model), skip=["layer9"])
    with pytest.raises(
        ValueError, match=r"fit_weights: two of the names become 'conv1\.weight', one of them"
    ):
        fit_weights(model, {"a": np.ones(2), "b": np.ones(2)}, rename={"^[ab]$": "conv1.weight"})
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_cut_at_a_layer() -> None:
    model = resnet().eval()
    x = td.randn(2, 3, 8, 8)
    features = cut(model, "layer2")
    expected = model.layer2(model.layer1(td.relu(model.bn1(model.conv1(x)))))
    np.testing.assert_array_equal(features(x).detach().numpy(), expected.detach().numpy())
    assert model(x).shape == (2, 10)  # no hook has stayed
    recorded = td.record(lambda x: features(x).square().mean())
    for _ in range(2):
        assert recorded(x).item() == expected.square().mean().item()
    features(x).sum().backward()
    silent = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    assert silent == {"layer3", "linear"}
    head = nn.Sequential(features, nn.GlobalAvgPool2d(), nn.Linear(4, 5))
    assert head(x).shape == (2, 5)
    with pytest.raises(ValueError, match="cut: ResNet has no layer 'layer9'"):
        cut(model, "layer9")
    unused = nn.Sequential({"a": nn.ReLU(), "b": nn.Sequential(nn.ReLU())})
    unused.forward = lambda x: unused.a(x)
    with pytest.raises(ValueError, match=r"Cut: 'b' took no part in this forward pass"):
        cut(unused, "b")(x)


def test_a_run_of_akamasters_kind(tmp_path: Path) -> None:
    """A .th file: state_dict within a run, of a DataParallel."""
    torch = pytest.importorskip("torch")
    given = {f"module.{name}": torch.tensor(value) for name, value in state(resnet()).items()}
    torch.save({"state_dict": given, "best_prec1": 91.73}, tmp_path / "resnet.th")
    model = resnet()
    fitted = fit_weights(model, tmp_path / "resnet.th", key="state_dict")
    assert (fitted.prefix, fitted.missing, fitted.unexpected) == ("module.", [], [])
    np.testing.assert_array_equal(state(model)["linear.weight"], given["module.linear.weight"].numpy())
