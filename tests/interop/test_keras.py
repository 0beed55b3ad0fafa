"""Weights of Keras: files that Keras wrote, names and layouts, what is refused, and a published net."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl import nn
from tinydl.files import DataError
from tinydl.interop import from_keras, load_weights

pytestmark = pytest.mark.usefixtures("reference")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "keras"


class Net(nn.Module):
    """The net of tests/fixtures/keras/make_fixtures.py, layers by Keras's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(2, 3, 3, 2)
        self.batch_normalization = nn.BatchNorm2d(3, eps=1e-3)
        self.depthwise_conv2d = nn.Conv2d(3, 6, 2, groups=3)
        self.conv2d_transpose = nn.ConvTranspose2d(6, 2, 2, 2)
        self.layer_normalization = nn.LayerNorm(2, eps=1e-3)
        self.dense = nn.Linear(32, 5)
        self.dense_1 = nn.Linear(5, 3, bias=False)

    def forward(self, x: td.Tensor) -> td.Tensor:
        x = self.conv2d(td.pad(x, (0, 1, 0, 1)))  # 'same' at stride 2: one row more at the end
        x = self.depthwise_conv2d(td.relu(self.batch_normalization(x)))
        x = self.conv2d_transpose(x)
        x = td.permute(self.layer_normalization(td.permute(x, (0, 2, 3, 1))), (0, 3, 1, 2))
        return self.dense_1(td.relu(self.dense(td.flatten(x, 1))))


@pytest.mark.parametrize("file", ["net.weights.h5", "net.h5"])
def test_a_net_of_keras_gives_what_it_gave_there(file: str) -> None:
    pytest.importorskip("h5py")
    net = Net().eval()
    state = from_keras(load_weights(FIXTURES / file), {"dense": (4, 4, 2)})
    assert net.load_state_dict(state) == ([], [])
    with np.load(FIXTURES / "net.npz") as held:
        y = net(td.tensor(held["x"].transpose(0, 3, 1, 2)))
        np.testing.assert_allclose(y.detach().numpy(), held["y"], rtol=1e-5)


def written(path: Path, **arrays: np.ndarray) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def test_names_of_keras_2_and_of_nets_within_nets(tmp_path: Path) -> None:
    one, two = np.ones((2, 3), np.float32), np.zeros(3, np.float32)
    path = written(tmp_path / "2.h5", **{"dense__dense__kernel:0": one, "dense__dense__bias:0": two})
    assert {name: x.shape for name, x in load_weights(path).items()} == {
        "dense/kernel": (2, 3),
        "dense/bias": (3,),
    }
    path = written(tmp_path / "n.h5", **{"model_weights__top__inner__kernel:0": one})
    assert list(load_weights(path)) == ["top/inner/kernel"]
    path = written(
        tmp_path / "3.h5",
        layers__functional__layers__dense_4__vars__0=one,
        optimizer__vars__0=two,
        layers__dropout__seed_generator__vars__0=two,
    )
    assert list(from_keras(load_weights(path))) == ["functional.dense_4.weight"]


def test_names_of_keras_1(tmp_path: Path) -> None:
    """Those of its applications as they were published: VGG (numbered) and ResNet-50."""
    names = {
        "block1_conv1__block1_conv1_W_1:0": "block1_conv1.weight",
        "block1_conv1__block1_conv1_b_1:0": "block1_conv1.bias",
        "res2a_branch1__res2a_branch1_W:0": "res2a_branch1.weight",
        "bn_conv1__bn_conv1_gamma:0": "bn_conv1.weight",
        "bn_conv1__bn_conv1_beta:0": "bn_conv1.bias",
        "bn_conv1__bn_conv1_running_mean:0": "bn_conv1.running_mean",
        "bn_conv1__bn_conv1_running_std:0": "bn_conv1.running_var",
    }
    rng = np.random.default_rng(0)
    shapes = {name: (3, 3, 2, 4) if "_W" in name else (4,) for name in names}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    state = from_keras(load_weights(written(tmp_path / "1.h5", **arrays)))
    assert sorted(state) == sorted(names.values())
    for name, ours in names.items():
        expected = arrays[name].transpose(3, 2, 0, 1) if arrays[name].ndim == 4 else arrays[name]
        np.testing.assert_array_equal(state[ours], expected)


@pytest.mark.parametrize(
    "of", ["block2_sepconv1__block2_sepconv1__{}:0", "layers__separable_conv2d__vars__{}"]
)
def test_a_separable_convolution_is_two(tmp_path: Path, of: str) -> None:
    rng, x = np.random.default_rng(0), np.random.default_rng(1).normal(size=(2, 2, 2)).astype(np.float32)
    arrays = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in (
            ("depthwise_kernel", (2, 2, 2, 3)),
            ("pointwise_kernel", (1, 1, 6, 5)),
            ("bias", (5,)),
        )
    }
    depthwise, pointwise, bias = arrays.values()
    numbered = [of.format(k if of.endswith("vars__{}") else name) for k, name in enumerate(arrays)]
    state = from_keras(load_weights(written(tmp_path / "s.h5", **dict(zip(numbered, arrays.values())))))
    net = nn.Sequential(
        {"depthwise": nn.Conv2d(2, 6, 2, groups=2, bias=False), "pointwise": nn.Conv2d(6, 5, 1)}
    )
    net.load_state_dict({name.partition(".")[2]: value for name, value in state.items()})
    expected = np.einsum("hwc,hwcm->cm", x, depthwise).reshape(-1) @ pointwise[0, 0] + bias
    y = net(td.tensor(x.transpose(2, 0, 1)[None])).detach().numpy()
    np.testing.assert_allclose(y[0, :, 0, 0], expected, rtol=1e-5)


def test_other_layouts_by_their_definition() -> None:
    """Each kernel against the sum that Keras documents, on one position."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 4))
    weight = from_keras({"conv1d/kernel": kernel})["conv1d.weight"]
    x = rng.normal(size=(2, 3))  # (in, time)
    np.testing.assert_allclose(
        td.conv1d(td.tensor(x[None]), td.tensor(weight)).numpy()[0, :, 0],
        np.einsum("kio,ik->o", kernel, x),
    )
    assert from_keras({"conv3d/kernel": np.ones((3, 4, 5, 1, 2))})["conv3d.weight"].shape == (2, 1, 3, 4, 5)
    assert from_keras({"e/embeddings": np.ones((7, 2))})["e.weight"].shape == (7, 2)


def test_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with pytest.raises(
        ValueError, match=r"from_keras: expected layer/variable of .* got lstm/recurrent_kernel"
    ):
        from_keras({"lstm/recurrent_kernel": np.ones((2, 8))})
    with pytest.raises(ShapeError, match=r"from_keras: dense: expected 8 inputs, got maps \(2, 2, 3\)"):
        from_keras({"dense/kernel": np.ones((8, 2))}, {"dense": (2, 2, 3)})
    with pytest.raises(ValueError, match=r"from_keras: c: expected a kernel of 2 to 5 axes, got \(3,\)"):
        from_keras({"c/kernel": np.ones(3)})
    with pytest.raises(ValueError, match=r"from_keras: depthwise: expected a kernel of 4 axes, got \(3,\)"):
        from_keras({"depthwise/kernel": np.ones(3)})
    a, b = np.ones((2, 2)), np.ones(2)
    for name, content, message in (
        ("lstm", {"layers__lstm__vars__0": a}, "expected layers out of .* got 1 of lstm"),
        ("norm", {"layers__batch_normalization__vars__0": b}, "got 1 of batch_normalization"),
        ("empty", {"optimizer__vars__0": a}, "holds no variables of layers"),
    ):
        with pytest.raises(DataError, match=rf"{name}\.h5: .*{message}"):
            load_weights(written(tmp_path / f"{name}.h5", **content))
    with pytest.raises(DtypeError, match=r"words\.h5: expected real numbers, got object for dense/kernel"):
        load_weights(written(tmp_path / "words.h5", **{"dense__kernel:0": np.array([b"a", b"b"], object)}))
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(DataError, match=r"links\.h5: not read: layers/dense/vars/0 is a link"):
        load_weights(tmp_path / "links.h5")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("dense/kernel:0", (1 << 20, 1 << 20), "f4", chunks=(1, 1 << 10))
    with pytest.raises(DataError, match=r"bomb\.h5: not read: it unpacks to more than"):
        load_weights(tmp_path / "bomb.h5")
    (tmp_path / "short.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    for name in ("short.h5", "missing.h5"):
        with pytest.raises(DataError, match=name):
            load_weights(tmp_path / name)


# ---- A published net: ResNet-8 of MLPerf Tiny, from an .npz file with Keras's names


class ResNet8(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        plan = [(3, 16, 3, 1), (16, 16, 3, 1), (16, 16, 3, 1), (16, 32, 3, 2), (32, 32, 3, 1), (16, 32, 1, 2)]
        plan += [(32, 64, 3, 2), (64, 64, 3, 1), (32, 64, 1, 2)]
        for k, (a, b, kernel, stride) in enumerate(plan):
            padding: Any = 0 if kernel == 1 or stride == 2 else 1
            self.add_module(f"conv2d_{k}" if k else "conv2d", nn.Conv2d(a, b, kernel, stride, padding))
        for k, channels in enumerate((16, 16, 16, 32, 32, 64, 64)):
            name = f"batch_normalization_{k}" if k else "batch_normalization"
            self.add_module(name, nn.BatchNorm2d(channels, eps=1e-3))
        self.dense = nn.Linear(64, 10)

    def forward(self, x: td.Tensor) -> td.Tensor:
        def conv(k: int, x: td.Tensor) -> td.Tensor:
            layer = getattr(self, f"conv2d_{k}" if k else "conv2d")
            return layer(td.pad(x, (0, 1, 0, 1)) if layer.stride == 2 and layer.kernel_size[0] == 3 else x)

        def norm(k: int, x: td.Tensor) -> td.Tensor:
            return getattr(self, f"batch_normalization_{k}" if k else "batch_normalization")(x)

        x = td.relu(norm(0, conv(0, x)))
        x = td.relu(x + norm(2, conv(2, td.relu(norm(1, conv(1, x))))))
        x = td.relu(conv(5, x) + norm(4, conv(4, td.relu(norm(3, conv(3, x))))))
        x = td.relu(conv(8, x) + norm(6, conv(7, td.relu(norm(5, conv(6, x))))))
        return self.dense(x.mean((2, 3)))


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_resnet8_of_mlperf_tiny_scores_as_stated() -> None:
    """87.19 % of the whole test set of CIFAR-10, raw pixels; skipped without the data."""
    folder = Path(os.environ.get("TINYDL_DATA", "/nowhere"))
    path = folder / "models" / "cifar10-resnet8-mlperftiny.npz"
    if not path.exists() or not (folder / "cifar-10").is_dir():
        pytest.skip(f"{path} or {folder}/cifar-10 is not there")
    from tinydl.data import cifar10

    model = ResNet8().eval()
    assert model.load_state_dict(from_keras(load_weights(path))) == ([], [])
    images, labels, _ = cifar10("test", data=folder)
    correct = 0
    with td.no_grad(), td.backend("cpu"):
        for start in range(0, len(labels), 500):
            predicted = model(td.tensor(images[start : start + 500].astype(np.float32))).argmax(1)
            correct += int((predicted.numpy() == labels[start : start + 500]).sum())
    assert correct == 8719
