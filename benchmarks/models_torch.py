"""The networks in PyTorch, under the parameter names of cases.py."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from .cases import RECURRENT, VGG


class LeNet(nn.Module):
    """conv 6@5×5 same, pool, conv 16@5×5, pool, conv 120@5×5, FC 84, FC 10. Varga
    et al., arXiv 1712.09936.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(1, 6, 5, padding=2),
            nn.Conv2d(6, 16, 5),
            nn.Conv2d(16, 120, 5),
        )
        self.fc1, self.fc2 = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(F.max_pool2d(self.conv1(x), 2))
        h = F.relu(F.max_pool2d(self.conv2(h), 2))
        h = F.relu(self.conv3(h)).flatten(1)
        return self.fc2(F.relu(self.fc1(h)))


class Block(nn.Module):
    """Two convolutions and a shortcut: without parameters, or, where it is projected and
    sizes change, a 1×1 convolution.
    """

    def __init__(self, channels: int, width: int, stride: int, projected: bool = False) -> None:
        super().__init__()
        self.stride, self.grown = stride, width - channels
        if projected and self.grown:
            self.grown = 0
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "shortcut"):
            x = self.shortcut(x)
        elif self.grown:
            half = self.grown // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.grown - half))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """He et al., arXiv 1512.03385, section 4.2, option A."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(h))).mean((2, 3)))


class ResNet18(nn.Module):
    """The same paper's, with a first convolution for small images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        sizes = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        groups = (nn.Sequential(Block(c, width, s, True), Block(width, width, 1)) for c, width, s in sizes)
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.linear = nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer4(self.layer3(self.layer2(self.layer1(h)))).mean((2, 3)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))


def caffe() -> nn.Module:
    """Caffe's LeNet: its convolutions have no nonlinearity but the pooling."""
    convolutions = (nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2))
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, width in zip((1, *VGG), VGG, strict=False):
        for c in (channels, width):
            layers += [nn.Conv2d(c, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(9 * VGG[-1], 10))


class Reader(nn.Module):
    """A recurrent network whose last output is made logits of."""

    def __init__(self, kind: str, steps: int, N: int, size: int, layers: int) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(size, size, layers, batch_first=True)
        self.linear = nn.Linear(size, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.rnn(x)[0][:, -1])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "lenet": LeNet,
    "caffe": caffe,
    "vgg": vgg,
    "resnet20": ResNet20,
    "resnet18": ResNet18,
    **{name: functools.partial(Reader, *sizes) for name, sizes in RECURRENT.items()},
}
