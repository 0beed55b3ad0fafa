"""What is measured: one table of cases, and the arrays that every framework gets for each of them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .penalties import PRICED

Arrays = dict[str, Any]

FAMILIES = (
    *("conv", "matmul", "norm", "pool", "loss", "dropout", "adam"),
    *("steps", "inference", "penalties", "start", "memory"),
)
PENALTIES = {"plain": 0.0, "datagrad": 50.0, "spectreg": 0.03}
"""A step's penalty and its weight."""
LEARNING_RATE = 1e-3
EPS = 1e-5


@dataclass(frozen=True)
class Case:
    """One line of the report.

    operation    the function of each with_*.py that has its contenders; a framework may lack it
    settings     of the operation: a named tuple
    unit, work   "flop" or "byte" and how many of them a call needs at least; 0 where a rate means little
    checks       calls whose results are compared, from the first on; 0 where they are random
    tolerance    of the comparison, relative to the largest value
    fresh        measured on new processes, not by turns: "seconds" from their start, or "bytes" over the
                 import
    quick        part of a --quick run
    """

    family: str
    name: str
    operation: str
    settings: Any
    unit: str = "flop"
    work: float = 0
    checks: int = 1
    tolerance: float = 1e-4
    fresh: str = ""
    quick: bool = False


class Conv(NamedTuple):
    N: int
    C: int
    O: int
    H: int
    k: int
    stride: int
    pad: int
    dilation: int = 1
    groups: int = 1

    @property
    def out(self) -> int:
        return (self.H + 2 * self.pad - self.dilation * (self.k - 1) - 1) // self.stride + 1

    @property
    def flops(self) -> int:
        return 2 * self.N * self.O * self.out**2 * self.C // self.groups * self.k**2

    @property
    def bytes(self) -> int:
        return 4 * (
            self.N * (self.C * self.H**2 + self.O * self.out**2) + self.O * self.C // self.groups * self.k**2
        )


class Matmul(NamedTuple):
    I: int
    K: int
    J: int


class Images(NamedTuple):
    N: int
    C: int
    H: int


class Pool(NamedTuple):
    N: int
    C: int
    H: int
    k: int
    stride: int
    pad: int

    @property
    def out(self) -> int:
        return (self.H + 2 * self.pad - self.k) // self.stride + 1


class Rows(NamedTuple):
    N: int
    K: int


class Parameters(NamedTuple):
    shapes: tuple[tuple[int, ...], ...]


class Step(NamedTuple):
    model: str
    penalty: str


class Forward(NamedTuple):
    model: str
    N: int


# ---- networks: the shapes of their parameters by name, and of a minibatch


class Model(NamedTuple):
    title: str
    input: tuple[int, ...]  # of a minibatch
    shapes: dict[str, tuple[int, ...]]


def _layers(**weights: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Weights and biases of layers; "_0" stands for the name "0"."""
    named = {name.removeprefix("_"): shape for name, shape in weights.items()}
    return {
        f"{name}.{part}": s
        for name, shape in named.items()
        for part, s in (("weight", shape), ("bias", shape[:1]))
    }


def _normalized(conv: str, norm: str, channels: int, out: int, k: int = 3) -> dict[str, tuple[int, ...]]:
    """A k×k convolution without bias, and BatchNorm."""
    return {f"{conv}.weight": (out, channels, k, k), f"{norm}.weight": (out,), f"{norm}.bias": (out,)}


VGG = (32, 64, 128)
"""Channels of the blocks: twice a 3×3 convolution, BatchNorm and relu, then a pool; in a Sequential, so that
a block has the numbers from 7 times its own on.
"""


def _vgg() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 1
    for block, width in enumerate(VGG):
        for at, c in ((7 * block, channels), (7 * block + 3, width)):
            shapes |= _normalized(str(at), str(at + 1), c, width)
        channels = width
    return shapes | _layers(_22=(10, 9 * channels))


def _residual(widths: tuple[int, ...], blocks: int, projected: bool) -> dict[str, tuple[int, ...]]:
    """3×3 convolutions in groups of blocks, the first of a group with a shortcut of
    its own if they are projected.
    """
    shapes = _normalized("conv1", "bn1", 3, widths[0])
    channels = widths[0]
    for group, width in enumerate(widths, 1):
        for block in range(blocks):
            path = f"layer{group}.{block}"
            for number, c in ((1, channels), (2, width)):
                shapes |= _normalized(f"{path}.conv{number}", f"{path}.bn{number}", c, width)
            if projected and channels != width:
                shapes |= _normalized(f"{path}.shortcut.0", f"{path}.shortcut.1", channels, width, 1)
            channels = width
    return shapes | _layers(linear=(10, channels))


RECURRENT = {
    "lstm 35": ("LSTM", 35, 8, 16, 2),
    "gru 35": ("GRU", 35, 8, 16, 2),
    "lstm 28": ("LSTM", 28, 100, 128, 1),
    "gru 28": ("GRU", 28, 100, 128, 1),
}
"""Kind, steps, minibatch, size of the input and of the state, layers; logits are made of the last output."""


def _recurrent(kind: str, steps: int, N: int, size: int, layers: int) -> Model:
    rows = {"LSTM": 4, "GRU": 3}[kind] * size
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(layers):
        shapes |= {f"rnn.weight_{part}_l{k}": (rows, size) for part in ("ih", "hh")}
        shapes |= {f"rnn.bias_{part}_l{k}": (rows,) for part in ("ih", "hh")}
    title = f"{kind} {steps}x{N}x{size}, {layers} layer{'s' * (layers > 1)}"
    return Model(title, (N, steps, size), shapes | _layers(linear=(10, size)))


MODELS = {
    "mlp": Model("MLP 784-200-200-10", (50, 784), _layers(_0=(200, 784), _2=(200, 200), _4=(10, 200))),
    "lenet": Model(
        "LeNet 6-16-120-84",
        (50, 1, 28, 28),
        _layers(conv1=(6, 1, 5, 5), conv2=(16, 6, 5, 5), conv3=(120, 16, 5, 5), fc1=(84, 120), fc2=(10, 84)),
    ),
    "caffe": Model(
        "LeNet 20-50-500",
        (50, 1, 28, 28),
        _layers(_0=(20, 1, 5, 5), _2=(50, 20, 5, 5), _5=(500, 800), _7=(10, 500)),
    ),
    "vgg": Model("VGG 32-64-128 28²", (50, 1, 28, 28), _vgg()),
    "resnet20": Model("ResNet-20", (128, 3, 32, 32), _residual((16, 32, 64), 3, False)),
    "resnet18": Model("ResNet-18 32²", (128, 3, 32, 32), _residual((64, 128, 256, 512), 2, True)),
    **{name: _recurrent(*sizes) for name, sizes in RECURRENT.items()},
}
"""Varga et al.'s LeNet without its dropout, Caffe's LeNet, a small net after Simonyan and Zisserman, He et
al.'s ResNet-20, and their ResNet-18 with a first convolution for small images, which is for GPUs; the names
are those of state dicts.
"""


def _resnet18() -> tuple[tuple[int, ...], ...]:
    """The 62 parameters of He et al.'s ResNet-18, arXiv 1512.03385: 11.7 million numbers."""
    shapes = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width in (64, 128, 256, 512):
        for c in (channels, width, width, width):
            shapes += [(width, c, 3, 3), (width,), (width,)]
        if width != channels:
            shapes += [(width, channels, 1, 1), (width,), (width,)]
        channels = width
    return (*shapes, (1000, 512), (1000,))


# ---- the table

CONVOLUTIONS = (  # N, C, O, H, k, stride, pad
    Conv(50, 1, 20, 28, 5, 1, 0),
    Conv(50, 20, 50, 12, 5, 1, 0),
    Conv(50, 1, 6, 28, 5, 1, 2),
    Conv(50, 6, 16, 14, 5, 1, 0),
    Conv(50, 16, 120, 5, 5, 1, 0),
    Conv(50, 3, 64, 32, 3, 1, 1),
    Conv(50, 16, 16, 32, 3, 1, 1),
    Conv(50, 32, 32, 16, 3, 1, 1),
    Conv(50, 64, 64, 8, 3, 1, 1),
    Conv(50, 64, 64, 32, 3, 1, 1),
    Conv(50, 128, 128, 16, 3, 1, 1),
    Conv(50, 256, 256, 8, 3, 1, 1),
    Conv(50, 64, 128, 32, 3, 2, 1),
    Conv(50, 64, 256, 16, 1, 1, 0),
    Conv(50, 64, 64, 32, 3, 1, 1, groups=64),
    Conv(50, 32, 32, 16, 3, 1, 2, dilation=2),
)
DIRECTIONS = {
    "conv_forward": "forward",
    "conv_grad_input": "input gradient",
    "conv_grad_weight": "filter gradient",
}
PEAKS = {
    "flop": Case("machine", "fused multiply-adds", "peak_flops", None, "flop", checks=0),
    "byte": Case("machine", "copy", "copy", None, "byte", checks=0),
}
"""The machine's own limits, measured in the same run. Their work depends on the threads: the worker knows it.
"""


def _convolutions() -> Iterator[Case]:
    for s in CONVOLUTIONS:
        kind = (f" dilation {s.dilation}" if s.dilation > 1 else "") + (" depthwise" if s.groups > 1 else "")
        name = f"{s.C}→{s.O} {s.H}² {s.k}×{s.k} /{s.stride} +{s.pad}{kind}"
        unit, work = ("byte", s.bytes) if s.groups > 1 else ("flop", s.flops)
        for operation, direction in DIRECTIONS.items():
            yield Case("conv", f"{name}, {direction}", operation, s, unit, work, quick=(s.C, s.O) == (1, 6))


def _matmuls() -> Iterator[Case]:
    for sizes in ((50, 800, 500), (50, 500, 10), (128, 4096, 1000), (1024,) * 3, (2048,) * 3):
        s = Matmul(*sizes)
        yield Case("matmul", f"{s.I}×{s.K}×{s.J}", "matmul", s, work=2 * math.prod(s), quick=s.J == 10)


def _passes_over_memory() -> Iterator[Case]:
    for s in (Images(128, 16, 32), Images(50, 64, 32)):
        size, quick = 4 * s.N * s.C * s.H**2, s.C == 16
        name = f"batch norm {s.N}×{s.C}×{s.H}²"
        for operation, order, arrays in (
            ("norm_forward", "forward", 2),
            ("norm_backward", "backward", 3),
            ("norm_second", "second order", 5),
        ):
            yield Case(
                "norm", f"{name}, {order}", operation, s, "byte", arrays * size, tolerance=2e-3, quick=quick
            )
    for p in (Pool(50, 6, 28, 2, 2, 0), Pool(128, 64, 32, 3, 2, 1)):
        planes, name = p.N * p.C, f"max pool {p.N}×{p.C}×{p.H}² {p.k}×{p.k} /{p.stride} +{p.pad}"
        for operation, direction in (("pool_forward", "forward"), ("pool_backward", "backward")):
            work = planes * (4 * p.H**2 + 12 * p.out**2)  # values in float32, indices in int64
            yield Case("pool", f"{name}, {direction}", operation, p, "byte", work, quick=p.C == 6)
    for r in (Rows(50, 10), Rows(128, 1000)):
        for operation, direction, arrays in (("loss", "forward", 1), ("loss_backward", "backward", 2)):
            name = f"softmax + cross-entropy {r.N}×{r.K}, {direction}"
            yield Case("loss", name, operation, r, "byte", 4 * arrays * r.N * r.K, quick=r.K == 10)
    for r in (Rows(50, 500), Rows(128, 16384)):
        yield Case(
            "dropout", f"dropout {r.N}×{r.K}", "dropout", r, "byte", 8 * r.N * r.K, checks=0, quick=r.K == 500
        )
    for title, shapes in (("LeNet's", tuple(MODELS["lenet"].shapes.values())), ("ResNet-18's", _resnet18())):
        numbers = sum(map(math.prod, shapes))
        quick = numbers < 1e5
        for kind, arrays in (("Adam", 7), ("RMSprop", 5)):  # read or written
            name, settings = f"{kind}, {title} {numbers:,} parameters", Parameters(shapes)
            work = 4 * arrays * numbers
            yield Case("adam", name, kind.lower(), settings, "byte", work, checks=3, quick=quick)


def _steps() -> Iterator[Case]:
    for model, penalty in (
        (model, penalty) for model in MODELS if model != "resnet18" for penalty in PENALTIES
    ):
        if model in RECURRENT and penalty == "spectreg":
            continue
        settings, quick = Step(model, penalty), model == "mlp" and penalty != "spectreg"
        name = f"{MODELS[model].title}, {penalty}"
        yield Case("steps", name, "step", settings, checks=3, tolerance=5e-3, quick=quick)


def _inference() -> Iterator[Case]:
    yield Case("inference", f"{MODELS['lenet'].title}, batch 1", "infer", Forward("lenet", 1), quick=True)


def _prices() -> Iterator[Case]:
    for model in ("lenet", "resnet20"):
        for penalty in PRICED:
            name = f"{MODELS[model].title} with {penalty}"
            quick = (model, penalty) == ("lenet", "L2")
            yield Case("penalties", name, "price", Step(model, penalty), checks=0, quick=quick)


def _fresh() -> Iterator[Case]:
    for cache in ("empty", "full"):
        name = f"import and first LeNet step, {cache} cache"
        yield Case("start", name, "step", Step("lenet", "plain"), fresh="seconds", quick=cache == "full")
    for penalty in ("plain", "datagrad"):
        yield Case(
            "memory",
            f"ResNet-20, {penalty}: over the import",
            "step",
            Step("resnet20", penalty),
            fresh="bytes",
        )


CASES = {
    case.name: case
    for make in (_convolutions, _matmuls, _passes_over_memory, _steps, _inference, _prices, _fresh)
    for case in make()
}


# ---- the arrays


def data(case: Case) -> Arrays:
    """The inputs of a case, the same in every process: float32, indices int64."""
    random = np.random.default_rng(zlib.crc32(f"{case.operation} {case.settings}".encode()))
    return _DATA[case.operation](
        case.settings, lambda *shape: random.standard_normal(shape, np.float32), random
    )


def _conv(s: Conv, normal: Callable[..., Any], random: Any) -> Arrays:
    w = normal(s.O, s.C // s.groups, s.k, s.k)
    return {"x": normal(s.N, s.C, s.H, s.H), "w": w, "g": normal(s.N, s.O, s.out, s.out)}


def _matmul(s: Matmul, normal: Callable[..., Any], random: Any) -> Arrays:
    return {"a": normal(s.I, s.K), "b": normal(s.K, s.J)}


def _norm(s: Images, normal: Callable[..., Any], random: Any) -> Arrays:
    images = {name: normal(*s, s.H) for name in ("x", "g", "v")}
    return images | {"gamma": 1 + normal(s.C) / 8, "beta": normal(s.C)}


def _pool(s: Pool, normal: Callable[..., Any], random: Any) -> Arrays:
    return {"x": normal(s.N, s.C, s.H, s.H), "g": normal(s.N, s.C, s.out, s.out)}


def _loss(s: Rows, normal: Callable[..., Any], random: Any) -> Arrays:
    return {"x": normal(*s), "target": random.integers(0, s.K, s.N), "g": normal(s.N)}


def _rows(s: Rows, normal: Callable[..., Any], random: Any) -> Arrays:
    return {"x": normal(*s)}


def _update(s: Parameters, normal: Callable[..., Any], random: Any) -> Arrays:
    return {"params": [normal(*shape) for shape in s.shapes], "grads": [normal(*shape) for shape in s.shapes]}


def _initial(model: Model, normal: Callable[..., Any]) -> Arrays:
    """He et al.'s initial weights; vectors are biases, or a norm's scale."""

    def initial(name: str, shape: tuple[int, ...]) -> Any:
        if len(shape) == 1:
            return (np.ones if name.endswith("weight") else np.zeros)(shape, np.float32)
        return normal(*shape) * np.float32(math.sqrt(2 / math.prod(shape[1:])))

    return {name: initial(name, shape) for name, shape in model.shapes.items()}


def _step(s: Step, normal: Callable[..., Any], random: Any) -> Arrays:
    """Weights, a minibatch with its labels, and SpectReg's r."""
    model = MODELS[s.model]
    params, N = _initial(model, normal), model.input[0]
    return {"params": params, "x": normal(*model.input), "y": random.integers(0, 10, N), "r": normal(N, 10)}


def _forward(s: Forward, normal: Callable[..., Any], random: Any) -> Arrays:
    model = MODELS[s.model]
    return {"params": _initial(model, normal), "x": normal(s.N, *model.input[1:])}


def _nothing(s: None, normal: Callable[..., Any], random: Any) -> Arrays:
    return {}


_DATA: dict[str, Callable[..., Arrays]] = {
    **dict.fromkeys(DIRECTIONS, _conv),
    **dict.fromkeys(("norm_forward", "norm_backward", "norm_second"), _norm),
    **dict.fromkeys(("pool_forward", "pool_backward"), _pool),
    **dict.fromkeys(("loss", "loss_backward"), _loss),
    **dict.fromkeys(("peak_flops", "copy"), _nothing),
    "matmul": _matmul,
    "dropout": _rows,
    "adam": _update,
    "rmsprop": _update,
    "step": _step,
    "price": _step,
    "infer": _forward,
}
