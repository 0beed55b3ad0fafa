"""One run of a cell: digits, network, penalties, steps; what it predicts, unscored.

A cell is a dict; tables.py shows which settings there are. Its seed draws the digits and is that of four
streams of random numbers (initialization, dropout, penalty, order), as in small_data_mnist.py.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import DataLoader, mnist, n_per_class, normalize, subset
from tinydl.data.datasets import TensorDataset
from tinydl.data.transforms import Compose, ElasticTransform, Normalize, RandomAffine
from tinydl.models import MLP, LeNet
from tinydl.nn import init
from tinydl.optim import SGD, Adam, AdamW, PiecewiseConstant, decay_groups
from tinydl.optim.lr_scheduler import WarmupCosineLR
from tinydl.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tinydl.regularizers import (
    AdversarialFeatures,
    ConfidencePenalty,
    DataGrad,
    FrobeniusJacobian,
    JacobianRegularizer,
    Objective,
    OneHotGradient,
    Penalty,
    SoftmaxJacobian,
    SpectReg,
    layerwise_groups,
    measured_ratios,
    predicted_ratios,
)
from tinydl.study import Outcome

INIT, DROPOUT, PENALTY = range(3)  # streams of a seed; the order of the batches has its own
POOL = 50_000  # training images to draw from; those after them are held out
MEAN, STD = 0.1307, 0.3081  # of pixels of 0 to 1, as PyTorch's examples have them
LATE, OFFICIAL = "train 50000-59999", "t10k"
"""The two held-out sets. The authors of tables a and b developed on the second and tested on the first; here
everything else is tuned on the first and scored on the second.
"""

Cell = dict[str, Any]


class Digits(NamedTuple):
    images: np.ndarray  # uint8 (n, 28, 28)
    labels: np.ndarray  # int64 (n,)


class Data(NamedTuple):
    pool: Digits
    held_out: dict[str, Digits]
    checksum: str


@functools.cache
def load(name: str = "mnist", folder: str | None = None) -> Data:
    """The digits, or what is shaped like them."""
    train, official = (mnist(split, folder, name) for split in ("train", "test"))
    pool = min(POOL, len(train.images) - len(official.images))
    whole = hashlib.sha256()
    for part in (train, official):
        whole.update(part.images.tobytes() + part.labels.tobytes())
    late = Digits(train.images[pool:], train.labels[pool:])
    held_out = {LATE: late, OFFICIAL: Digits(official.images, official.labels)}
    return Data(Digits(train.images, train.labels), held_out, whole.hexdigest()[:12])


# ---- Networks


class SmallConvNet(nn.Sequential):
    """conv 5×5, pool, conv 5×5, pool, FC; BatchNorm after each, dropout ½ before the last."""

    def __init__(self, widths: tuple[int, int, int], generator: td.Generator) -> None:
        a, b, c = widths
        super().__init__(
            *(nn.Conv2d(1, a, 5, padding=2, bias=False), nn.BatchNorm2d(a), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(a, b, 5, padding=2, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(49 * b, c, bias=False), nn.BatchNorm1d(c), nn.ReLU()),
            *(nn.Dropout(0.5, generator=generator), nn.Linear(c, 10)),
        )


class DeepNet(nn.Sequential):
    """Eight layers with weights, He initialization, no BatchNorm: six 3×3 convolutions and two FC."""

    def __init__(self, generator: td.Generator) -> None:
        layers: list[nn.Module] = []
        channels = 1
        for width in (8, 16, 32):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(9 * 32, 64), nn.ReLU(), nn.Linear(64, 10))
        for name, p in self.named_parameters():
            init.zeros_(p) if name.endswith("bias") else init.kaiming_normal_(p, nonlinearity="relu")


def jacobian_mlp(generator: td.Generator) -> MLP:
    """784-200-200-10 as Hoffman's example starts it: Xavier matrices, PyTorch's biases."""
    model = MLP()
    for name, p in model.named_parameters():
        if name.endswith("weight"):
            init.xavier_uniform_(p)
    return model


NETS: dict[str, Callable[[td.Generator], Any]] = {
    "LeNet, dropout": lambda g: LeNet("dropout", generator=g),
    "LeNet, none": lambda g: LeNet("none"),
    "LeNet, batchnorm": lambda g: LeNet("batchnorm"),
    "deep": DeepNet,
    "MLP": jacobian_mlp,
    "cnn5": lambda g: SmallConvNet((32, 64, 256), g),
    "cnn5s": lambda g: SmallConvNet((16, 32, 128), g),
}

PENALTIES: dict[str, Callable[[Any, td.Generator], Penalty]] = {
    "DataGrad": lambda weight, g: DataGrad(weight),
    # one r a batch, and a forward pass of its own: the authors' form
    "SpectReg": lambda weight, g: SpectReg(weight, per="batch", forward="second", generator=g),
    "EP": lambda weight, g: ConfidencePenalty(50 * weight),  # theirs is of a sum over 50 digits
    "JacReg": lambda weight, g: SoftmaxJacobian(weight),
    "FrobReg": lambda weight, g: FrobeniusJacobian(weight),
    "OneHot": lambda weight, g: OneHotGradient(weight),
    "Jacobian": lambda weight, g: JacobianRegularizer(weight, generator=g),
    "AFG": lambda given, g: AdversarialFeatures(
        1.0, ("conv1", "conv2", "conv3", "fc1"), given[0], xi=given[1], generator=g
    ),
}


# ---- Optimizers


def _decayed(cell: Cell, model: Any, batches: Callable[[], Any]) -> Any:
    """Parameter groups: one decay for all matrices and filters, for each its own, or for everything."""
    how, decay = cell.get("decay by", "matrices"), cell["decay"]
    if how == "matrices":
        return decay_groups(model, decay)
    if how == "all":
        return [{"params": list(model.parameters()), "weight_decay": decay}]
    ratios = (
        measured_ratios(model, td.cross_entropy, batches())
        if how == "measured"
        else predicted_ratios(model, (1, 28, 28))
    )
    return layerwise_groups(model, decay, ratios)


def _optimizer(cell: Cell, model: Any, batches: Callable[[], Any]) -> tuple[Any, Any]:
    """And its schedule."""
    steps, groups = cell["steps"], _decayed(cell, model, batches)
    if cell["optimizer"] == "AdamW":
        adamw = AdamW(groups, lr=cell["lr"])
        return adamw, WarmupCosineLR(adamw, max(1, steps // 20), max(2, steps))
    if cell["optimizer"] == "Adam":
        optimizer: Any = Adam(groups, lr=cell["lr"])
    else:
        optimizer = SGD(groups, lr=cell["lr"], momentum=cell.get("momentum", 0.0))
    falls = ((steps // 2, 0.1), (3 * steps // 4, 0.01)) if cell.get("falls", True) and steps > 3 else ()
    return optimizer, PiecewiseConstant(optimizer, [at for at, _ in falls], [factor for _, factor in falls])


# ---- Digits


def chosen(cell: Cell, data: Data) -> Digits:
    """The training digits of the cell's seed."""
    size, draw, labels = cell["size"], cell["seed"], data.pool.labels
    if size is None:  # all of them
        return data.pool
    pool = len(labels) - len(data.held_out[LATE].labels)
    if cell.get("balanced"):
        order = subset(draw, pool, pool)
        rows = n_per_class(labels, size // 10, order=order)
    else:
        rows = subset(draw, min(size, pool), pool)
    return Digits(data.pool.images[rows], labels[rows])


def augmentation(given: dict[str, float]) -> list[Any]:
    """Of pixels: degrees, shift (pixels), scale, shear (degrees), elastic (alpha at a sigma of 4)."""
    shift, scale = given.get("shift", 0) / 28, given.get("scale", 0)
    maps: list[Any] = [
        RandomAffine(given.get("degrees", 0), (shift, shift), (1 - scale, 1 + scale), given.get("shear", 0))
    ]
    return [*maps, ElasticTransform(given["elastic"], 4.0)] if given.get("elastic") else maps


def network_input(images: np.ndarray, cell: Cell, train: np.ndarray) -> np.ndarray:
    """float32 (n, 1, 28, 28) of mean 0 and deviation 1: by the set's own numbers, by the training digits', or
    by those that PyTorch's examples have.
    """
    how = cell.get("normalize", "train")
    if how == "MNIST":
        return ((images[:, None] / np.float32(255) - np.float32(MEAN)) / np.float32(STD)).astype(np.float32)
    return normalize(images)[0][:, None] if how == "own" else normalize(train, images)[1][:, None]


# ---- A run


class Trained(NamedTuple):
    model: Any
    predict: Callable[[np.ndarray], np.ndarray]  # images (n, 1, 28, 28) -> logits (n, 10)
    train: Digits
    loss: float  # of the last tenth of the steps
    before: Any  # what `watch` said at the start


def fit(cell: Cell, data: Data, watch: Callable[[Any], Any] = lambda model: None) -> Trained:
    """Train a network of the cell; the last iterate, or the moving average where the cell has one."""
    seed, steps = cell["seed"], cell["steps"]
    dropout, penalty = (td.Generator(seed, stream) for stream in (DROPOUT, PENALTY))
    digits = chosen(cell, data)
    with td.random_from(td.Generator(seed + 1_000 * cell.get("member", 0), INIT)):
        model = NETS[cell["net"]](dropout)
    before = watch(model)
    batch = min(cell["batch"], len(digits.labels))
    if "augment" in cell:
        mean, std = float(digits.images.mean(dtype=np.float64)), float(digits.images.std(dtype=np.float64))
        pixels = digits.images[:, None].astype(np.float32)
        change = Compose([*augmentation(cell["augment"]), Normalize([mean], [std])])
    else:
        pixels, change = network_input(digits.images, cell, digits.images), None
    loader = DataLoader(
        TensorDataset(pixels, digits.labels),
        batch,
        shuffle=True,
        drop_last=cell.get("whole batches", True),
        transform=change,
        seed=seed,
    )

    def first_batches() -> Any:
        plain = network_input(digits.images, cell, digits.images)
        return [(td.tensor(plain[i : i + batch]), td.tensor(digits.labels[i : i + batch]))
                for i in range(0, min(len(plain), 10 * batch), batch)]  # fmt: skip

    optimizer, schedule = _optimizer(cell, model, first_batches)
    smoothing = cell.get("smoothing", 0.0)
    loss = functools.partial(td.cross_entropy, label_smoothing=smoothing) if smoothing else td.cross_entropy
    terms = [PENALTIES[name](weight, penalty) for name, weight in cell["penalties"].items()]
    objective = Objective(model, loss, terms)
    ema = cell.get("ema")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        found = objective(x, y)
        found.total.backward()
        optimizer.step()
        schedule.step()
        if average is not None:
            average.update_parameters(model)
        return found.loss

    last = []
    for k in range(steps):
        value = step(*loader.next_batch())
        if k >= steps - max(1, steps // 10):
            last.append(value.item())
    final = model if average is None else average.module
    return Trained(final, prediction(final), digits, float(np.mean(last)), before)


def prediction(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Images (n, 1, 28, 28) -> logits (n, 10), in evaluation mode. A LeNet with BatchNorm takes
    statistics of batches of 50 in evaluation, too: those of one fixed order.
    """

    @td.record
    def logits(x: td.Tensor) -> td.Tensor:
        return model(x)

    by_batch = isinstance(getattr(model, "between", None), nn.BatchNorm1d)

    def predict(images: np.ndarray) -> np.ndarray:
        n, batch = len(images), 50 if by_batch else 500
        order = np.random.RandomState(0).permutation(n) if by_batch else np.arange(n)
        found = np.empty((n, 10), np.float32)
        model.eval()
        with td.no_grad():
            for i in range(0, n, batch):
                rows = order[i : i + batch]
                found[rows] = logits(td.tensor(images[rows])).numpy()
        return found

    return predict


def shifted(images: np.ndarray, right: int, down: int) -> np.ndarray:
    """uint8 images (n, 28, 28) moved by at most one pixel, black from outside."""
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return wide[:, 1 - down : 29 - down, 1 - right : 29 - right]


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def classify(cell: Cell, data: Data) -> Outcome:
    """Train and predict. A trial is scored at once, on the images that trials are for; others predict both
    held-out sets and score nothing.
    """
    found = fit(cell, data)
    few = cell.get("predict")  # of a quick run

    def look(name: str, right: int = 0, down: int = 0) -> np.ndarray:
        images = shifted(data.held_out[name].images[:few], right, down)
        return found.predict(network_input(images, cell, found.train.images))

    numbers = {"loss": round(found.loss, 5)}
    if "trial" in cell and "group" in cell:
        classes = look(LATE).argmax(1)
        right = float(np.mean(classes == data.held_out[LATE].labels[:few]))
        return Outcome(numbers | {"validation": round(100 * right, 3)}, data=data.checksum)
    predicted = {name: look(name).argmax(1) for name in (LATE, OFFICIAL)}
    if cell.get("views"):
        moves = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
        mean = sum(softmax(look(OFFICIAL, *move)) for move in moves)
        predicted[f"{OFFICIAL}, five views"] = np.asarray(mean).argmax(1)
    return Outcome(numbers, predicted, data.checksum)
