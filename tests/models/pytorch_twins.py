"""The forward pass of our networks once more, in PyTorch and by the names of the state: what is compared with
where torchvision has no such net. Each is a function of a Net and x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Net:
    """Layers by the names of their weights; BatchNorm by the batch's statistics in training."""

    def __init__(self, torch: Any, state: dict[str, Any], training: bool) -> None:
        self.torch, self.F, self.state, self.training = torch, torch.nn.functional, state, training

    def conv(self, name: str, x: Any, stride: int = 1, padding: int = 0) -> Any:
        weight = self.state[f"{name}.weight"]
        return self.F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding)

    def linear(self, name: str, x: Any) -> Any:
        return self.F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def bn(self, name: str, x: Any) -> Any:
        get = self.state.get
        mean, var = (None if self.training else get(f"{name}.running_{s}") for s in ("mean", "var"))
        weight, bias = get(f"{name}.weight"), get(f"{name}.bias")
        return self.F.batch_norm(x, mean, var, weight, bias, self.training or mean is None)

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.state)


def lenet(net: Net, x: Any) -> Any:
    F = net.F
    h = F.max_pool2d(F.relu(net.conv("conv1", x, padding=2)), 2)
    h = F.max_pool2d(F.relu(net.conv("conv2", h)), 2)
    h = F.relu(net.linear("fc1", F.relu(net.conv("conv3", h)).flatten(1)))
    return net.linear("fc2", net.bn("between", h) if net.has("between") else h)


def caffe(net: Net, x: Any) -> Any:
    F = net.F
    h = F.max_pool2d(net.conv("conv2", F.max_pool2d(net.conv("conv1", x), 2)), 2)
    return net.linear("fc2", F.relu(net.linear("fc1", h.flatten(1))))


def cifar_resnet(option: str) -> Callable[[Net, Any], Any]:
    def forward(net: Net, x: Any) -> Any:
        F = net.F
        x = F.relu(net.bn("bn1", net.conv("conv1", x, 1, 1)))
        for layer in (1, 2, 3):
            k = 0
            while net.has(block := f"layer{layer}.{k}"):
                stride = 2 if layer > 1 and k == 0 else 1
                h = F.relu(net.bn(f"{block}.bn1", net.conv(f"{block}.conv1", x, stride, 1)))
                h = net.bn(f"{block}.bn2", net.conv(f"{block}.conv2", h, 1, 1))
                if net.has(f"{block}.shortcut"):
                    x = net.bn(f"{block}.shortcut.1", net.conv(f"{block}.shortcut.0", x, stride))
                elif option != "none" and stride == 2:
                    more = (h.shape[1] - x.shape[1]) // 2
                    x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
                x = F.relu(h if option == "none" else h + x)
                k += 1
        return net.linear("linear", x.mean((2, 3)))

    return forward


def cosine_filters(k: int) -> np.ndarray:
    """By SciPy's transform of the unit images: another way to the same filters."""
    from scipy.fft import dctn

    units = np.eye(k * k).reshape(k * k, k, k)
    filters = np.stack([dctn(u, 2) for u in units], -1).reshape(k * k, k, k)
    return filters / np.abs(filters).sum((1, 2), keepdims=True)


def harmonic(net: Net, name: str, x: Any, padding: int) -> Any:
    mixing = net.state[f"{name}.mix.weight"]
    k = round((mixing.shape[1] / x.shape[1]) ** 0.5)
    bank = net.torch.tensor(cosine_filters(k), dtype=x.dtype)[:, None].repeat(x.shape[1], 1, 1, 1)
    h = net.F.conv2d(x, bank, padding=padding, groups=x.shape[1])
    h = net.bn(f"{name}.bn", h) if net.has(f"{name}.bn") else h
    return net.F.conv2d(h, mixing)


def wide_resnet(net: Net, x: Any) -> Any:
    F = net.F
    x = harmonic(net, "conv1", x, 1) if net.has("conv1.mix") else net.conv("conv1", x, 1, 1)
    for group in (1, 2, 3):
        k = 0
        while net.has(block := f"block{group}.layer.{k}"):
            stride = 2 if group > 1 and k == 0 else 1
            a = F.relu(net.bn(f"{block}.bn1", x))
            h = F.relu(net.bn(f"{block}.bn2", net.conv(f"{block}.conv1", a, stride, 1)))
            projected = net.has(f"{block}.convShortcut")
            x = net.conv(f"{block}.conv2", h, 1, 1) + (
                net.conv(f"{block}.convShortcut", a, stride) if projected else x
            )
            k += 1
    return net.linear("fc", F.relu(net.bn("bn1", x)).mean((2, 3)))


def all_cnn(base: str, kind: str) -> Callable[[Net, Any], Any]:
    """The plan is written out: kernel size and stride, or "max" for a pool."""
    groups: dict[tuple[str, str], list[Any]] = {
        ("C", "all"): [(3, 1), (3, 1), (3, 2)],
        ("C", "pool"): [(3, 1), (3, 1), "max"],
        ("B", "strided"): [(5, 1), (1, 2)],
        ("A", "convpool"): [(5, 1), (3, 1), "max"],
    }

    def forward(net: Net, x: Any) -> Any:
        F = net.F
        names = sorted(
            {key.rpartition(".")[0] for key in net.state}, key=lambda name: int(name.split(".")[1])
        )
        remaining = iter(names)
        for step in [*groups[base, kind] * 2, (3, 1), (1, 1), (1, 1)]:
            if step == "max":
                x = F.max_pool2d(x, 3, 2, 1)
            else:
                kernel, stride = step
                x = F.relu(net.conv(next(remaining), x, stride, kernel // 2))
        assert next(remaining, None) is None
        return x.mean((2, 3))

    return forward


def unet(net: Net, x: Any) -> Any:
    F = net.F

    def twice(where: str, name: str, x: Any) -> Any:
        for k in (1, 2):
            x = net.conv(f"{where}.{name}conv{k}", x, 1, 1)
            x = F.relu(net.bn(f"{where}.{name}norm{k}", x))
        return x

    e1 = twice("encoder1", "enc1", x)
    e2 = twice("encoder2", "enc2", F.max_pool2d(e1, 2))
    e3 = twice("encoder3", "enc3", F.max_pool2d(e2, 2))
    e4 = twice("encoder4", "enc4", F.max_pool2d(e3, 2))
    x = twice("bottleneck", "bottleneck", F.max_pool2d(e4, 2))
    for level, beside in ((4, e4), (3, e3), (2, e2), (1, e1)):
        weight, bias = (net.state[f"upconv{level}.{p}"] for p in ("weight", "bias"))
        up = F.conv_transpose2d(x, weight, bias, 2)
        x = twice(f"decoder{level}", f"dec{level}", net.torch.cat([up, beside], 1))
    return net.conv("conv", x)


def mlp(net: Net, x: Any) -> Any:
    x = net.torch.tanh(net.linear("0", x.flatten(1)))
    return net.linear("6", net.torch.tanh(net.linear("3", x)))


def ciresan(net: Net, x: Any) -> Any:
    x = x.flatten(1)
    for name in ("0", "3"):
        x = 1.7159 * net.torch.tanh(0.6666 * net.linear(name, x))
    return net.linear("6", x)


def maxout(net: Net, x: Any) -> Any:
    x = x.flatten(1)
    for name in ("1", "4"):
        x = net.linear(name, x).unflatten(1, (-1, 3)).amax(2)
    return net.linear("7", x)
