"""The cases in tinydl: its kernels, and its training steps eager and recorded."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tinydl_kernels import conv, norm, pool, random, softmax
from tinydl_kernels.cpu import threads
from tinydl_kernels.machine.window import Window
from tinydl_kernels.matmul import matmul as product

import tinydl as td
from tinydl import nn, regularizers
from tinydl.models import LeNet, resnet20
from tinydl.regularizers import DataGrad, Objective, Pass, Penalty, spect_reg

from . import machine
from .cases import EPS, LEARNING_RATE, PENALTIES, RECURRENT, VGG, Arrays, Case
from .penalties import PRICED, Net

VERSION = td.__version__
Contenders = dict[str, Any]


def start(count: int) -> None:
    threads.set_num_threads(count)


def arrays(result: Any) -> list[np.ndarray]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [np.asarray(part.array if isinstance(part, td.Tensor) else part) for part in parts]


def _window(case: Case, d: Arrays) -> Window:
    s = case.settings
    return Window.conv("benchmarks", d["x"].shape, d["w"].shape, s.stride, s.pad, s.dilation, s.groups)


def conv_forward(case: Case, d: Arrays) -> Contenders:
    window = _window(case, d)
    return {"": lambda: conv.forward(d["x"], d["w"], None, window)}


def conv_grad_input(case: Case, d: Arrays) -> Contenders:
    window = _window(case, d)
    return {"": lambda: conv.grad_input(d["g"], d["w"], window)}


def conv_grad_weight(case: Case, d: Arrays) -> Contenders:
    window = _window(case, d)
    return {"": lambda: conv.grad_weight(d["x"], d["g"], window)}


def matmul(case: Case, d: Arrays) -> Contenders:
    return {"": lambda: product(d["a"], d["b"])}


def norm_forward(case: Case, d: Arrays) -> Contenders:
    return {"": lambda: norm.batch_norm(d["x"], d["gamma"], d["beta"], EPS)[0]}


def norm_backward(case: Case, d: Arrays) -> Contenders:
    _, mean, var = norm.batch_norm(d["x"], d["gamma"], d["beta"], EPS)
    return {"": lambda: norm.batch_norm_dx(d["g"], d["x"], d["gamma"], mean, var, EPS)}


def norm_second(case: Case, d: Arrays) -> Contenders:
    _, mean, var = norm.batch_norm(d["x"], d["gamma"], d["beta"], EPS)
    return {"": lambda: norm.batch_norm_dx_dx(d["v"], None, None, d["g"], d["x"], d["gamma"], mean, var, EPS)}


def _pool_window(case: Case, d: Arrays) -> Window:
    s = case.settings
    return Window.pool("benchmarks", d["x"].shape, s.k, s.stride, s.pad)


def pool_forward(case: Case, d: Arrays) -> Contenders:
    window = _pool_window(case, d)
    return {"": lambda: pool.max_forward(d["x"], window)[0]}


def pool_backward(case: Case, d: Arrays) -> Contenders:
    window = _pool_window(case, d)
    _, indices = pool.max_forward(d["x"], window)
    return {"": lambda: pool.scatter(d["g"], indices, d["x"].shape[2:], window)}


def loss(case: Case, d: Arrays) -> Contenders:
    return {"": lambda: softmax.cross_entropy(d["x"], d["target"], 0.0, -100)}


def loss_backward(case: Case, d: Arrays) -> Contenders:
    return {"": lambda: softmax.cross_entropy_dx(d["g"], d["x"], d["target"], 0.0, -100)}


def dropout(case: Case, d: Arrays) -> Contenders:
    key, counter = np.array([1, 2], np.uint64), np.zeros(1, np.uint64)
    blocks = random.blocks(d["x"].shape, np.bool_)
    return {"": lambda: random.dropout(d["x"], key, random.reserve(counter, blocks), 0.5)}


def adam(case: Case, d: Arrays) -> Contenders:
    return _optimizer(td.optim.Adam, d)


def rmsprop(case: Case, d: Arrays) -> Contenders:
    return _optimizer(td.optim.RMSprop, d)


def _optimizer(kind: Any, d: Arrays) -> Contenders:
    params = [nn.Parameter(p) for p in d["params"]]
    for p, g in zip(params, d["grads"], strict=True):
        p.grad = td.tensor(g)
    optimizer = kind(params, lr=LEARNING_RATE)

    def step() -> td.Tensor:
        optimizer.step()
        return params[0]

    return {"": step}


# ---- training steps


class Block(nn.Module):
    """Two convolutions and a shortcut, a 1×1 convolution where sizes change."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        projection = (nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.shortcut = nn.Sequential(*projection if channels != width else ())

    def forward(self, x: td.Tensor) -> td.Tensor:
        return td.relu(self.bn2(self.conv2(td.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class ResNet18(nn.Module):
    """He et al., arXiv 1512.03385, with a first convolution for small images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        for number, (c, width, stride) in enumerate(
            ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)), 1
        ):
            self.add_module(f"layer{number}", nn.Sequential(Block(c, width, stride), Block(width, width, 1)))
        self.linear = nn.Linear(512, 10)

    def forward(self, x: td.Tensor) -> td.Tensor:
        h = td.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer4(self.layer3(self.layer2(self.layer1(h)))).mean((2, 3)))


class Reader(nn.Module):
    """A recurrent network whose last output is made logits of."""

    def __init__(self, kind: str, steps: int, N: int, size: int, layers: int) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(size, size, layers, batch_first=True)
        self.linear = nn.Linear(size, 10)

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.linear(self.rnn(x)[0][:, -1])


def vgg() -> tuple[nn.Module, ...]:
    layers: list[nn.Module] = []
    for channels, width in zip((1, *VGG), VGG, strict=False):
        for c in (channels, width):
            layers += [nn.Conv2d(c, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return (*layers, nn.Flatten(), nn.Linear(9 * VGG[-1], 10))


def model(name: str) -> nn.Module:
    if name == "lenet":
        return LeNet("none")
    if name == "resnet20":
        return resnet20()
    if name == "resnet18":
        return ResNet18()
    if name in RECURRENT:
        return Reader(*RECURRENT[name])
    layers = {
        "mlp": lambda: (nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)),
        "caffe": lambda: (
            *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
        ),
        "vgg": vgg,
    }
    return nn.Sequential(*layers[name]())


class GivenSpectReg(Penalty):
    """SpectReg with an r that is given and stays."""

    follows = True

    def __init__(self, weight: float, r: td.Tensor) -> None:
        super().__init__(weight)
        self.r = r

    def __call__(self, seen: Pass) -> td.Tensor:
        return spect_reg(seen.logits, seen.x, self.r)


def training_step(case: Case, d: Arrays) -> Any:
    """(x, y) -> (loss, penalties)"""
    network = model(case.settings.model).to(td.tensor(d["x"]).device)
    network.load_state_dict(d["params"], strict=False)
    optimizer = td.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    penalty, weight = case.settings.penalty, PENALTIES[case.settings.penalty]
    terms: dict[str, list[Penalty]] = {
        "plain": [],
        "datagrad": [DataGrad(weight)],
        "spectreg": [GivenSpectReg(weight, td.tensor(d["r"]))],
    }
    objective = Objective(network, td.cross_entropy, terms[penalty])

    def step(x: td.Tensor, y: td.Tensor) -> tuple[td.Tensor, ...]:
        optimizer.zero_grad()
        found = objective(x, y)
        found.total.backward()
        optimizer.step()
        return found.loss, *found.penalties

    return step


def step(case: Case, d: Arrays) -> Contenders:
    x, y = td.tensor(d["x"]), td.tensor(d["y"])
    recorded, eager = td.record(training_step(case, d)), training_step(case, d)
    return {"recorded": lambda: recorded(x, y), "eager": lambda: eager(x, y)}


def evaluated(case: Case, d: Arrays) -> nn.Module:
    """The network in eval mode."""
    network = model(case.settings.model)
    network.load_state_dict(d["params"], strict=False)
    return network.eval()


def infer(case: Case, d: Arrays) -> Contenders:
    network, x = evaluated(case, d), td.tensor(d["x"])

    def forward(x: td.Tensor) -> td.Tensor:
        with td.no_grad():
            return network(x)

    recorded = td.record(forward)
    return {"recorded": lambda: recorded(x), "eager": lambda: forward(x)}


class First(nn.Module):
    """The first output alone, as a critic's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.model(x)[:, :1]


def _of_scores(z: td.Tensor, target: Any, reduction: str) -> td.Tensor:
    return td.softplus(-z).sum(1)


def priced_step(case: Case, d: Arrays, terms: bool) -> Any:
    """(x, y) -> total, with the case's terms or without."""
    priced, x = PRICED[case.settings.penalty], td.tensor(d["x"])
    network = model(case.settings.model)
    network.load_state_dict(d["params"], strict=False)
    middle = "conv3" if case.settings.model == "lenet" else "layer2"
    shared = "fc1.weight" if case.settings.model == "lenet" else "layer3.2.conv2.weight"
    last = "fc2" if case.settings.model == "lenet" else "linear"
    if priced.single:
        network, middle, shared, last = First(network), *(f"model.{name}" for name in (middle, shared, last))
    index = td.tensor(np.arange(len(d["y"])))
    net = Net(network, middle, shared, last, nn.Linear(10, 1), x, x * 0.5, index)
    loss: Any = _of_scores if priced.single else td.cross_entropy
    given: dict[str, Any] = {}
    combine = None
    if terms:
        made, given = priced.make(regularizers, net), priced.given(net)
        loss, added = made if isinstance(made, tuple) else (loss, [made])
        if isinstance(loss, regularizers.PCGrad):
            loss, combine = td.cross_entropy, loss
    else:
        added = []
    objective = Objective(network, loss, added, combine=combine)
    optimizer = td.optim.Adam([*network.parameters(), *objective.parameters()], lr=LEARNING_RATE)

    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        found = objective(x, y, **given)
        found.backward()
        optimizer.step()
        objective.after(optimizer)
        return found.total

    return step


def price(case: Case, d: Arrays) -> Contenders:
    """A recorded step with a penalty, and one without."""
    x, y = td.tensor(d["x"]), td.tensor(d["y"])
    calls = {}
    for mode, terms in (("with it", True), ("plain", False)):
        calls[mode] = functools.partial(td.record(priced_step(case, d, terms)), x, y)
    return calls


# ---- the machine


def peak_flops(case: Case, d: Arrays) -> Contenders:
    return {"": machine.peak_flops()}


def copy(case: Case, d: Arrays) -> Contenders:
    return {"": machine.copy()}
