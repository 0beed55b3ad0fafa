"""What gradient penalties do to a function: its derivatives by the input on digits, between and far from
them; the step in one dimension; small perturbations. Images after training image 50,000 serve, never the
official test images, but for Hoffman's example, which measures on those.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinydl as td
from small_data_study.training import LATE, OFFICIAL, Cell, Data, fit, network_input, softmax
from tinydl.models import MLP
from tinydl.regularizers import DataGrad, Objective, SpectReg
from tinydl.study import Outcome

CHUNK = 250


def jacobians(model: Any, x: np.ndarray, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """‖∂logits/∂x‖_F² of each sample (n,), exactly, and the logits (n, classes); in evaluation mode."""
    model.eval()
    squares, logits = np.zeros(len(x)), np.zeros((len(x), classes), np.float32)
    for i in range(0, len(x), CHUNK):
        inputs = td.tensor(x[i : i + CHUNK], requires_grad=True)
        out = model(inputs)
        logits[i : i + CHUNK] = out.detach().numpy()
        for k in range(classes):
            (slope,) = td.grad(out[:, k].sum(), [inputs], retain_graph=k < classes - 1)
            flat = slope.numpy().reshape(len(slope.numpy()), -1).astype(np.float64)
            squares[i : i + CHUNK] += np.square(flat).sum(1)
    model.train()
    return squares, logits


def example(cell: Cell, data: Data) -> Outcome:
    """Hoffman's example: ½ mean ‖J‖_F² over all official test images, before and after."""
    few = cell.get("predict")
    images = network_input(data.held_out[OFFICIAL].images[:few], cell, data.pool.images)
    found = fit(cell, data, watch=lambda model: 0.5 * jacobians(model, images)[0].mean())
    after = 0.5 * jacobians(found.model, images)[0].mean()
    numbers = {
        "loss": round(found.loss, 5),
        "half J² before": float(found.before),
        "half J² after": float(after),
    }
    return Outcome(numbers, {OFFICIAL: found.predict(images).argmax(1)}, data.checksum)


# ---- Places in input space


def places(x: np.ndarray, train: np.ndarray, y: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Inputs, normalized (n, 1, 28, 28), of many kinds, from held-out digits x with labels y: on the data,
    between the data, off them.
    """
    random = np.random.RandomState(1_000 + seed)
    n, low, high = len(x), float(x.min()), float(x.max())
    partner = (
        np.array([random.choice(np.flatnonzero(y != own)) for own in y]) if len(set(y.tolist())) > 1 else y
    )
    pixels = x.reshape(n, -1)
    shuffled = np.stack([row[random.permutation(pixels.shape[1])] for row in pixels]).reshape(x.shape)
    found = {
        "training digits": train[:n],
        "held-out digits": x,
        "digits + noise .3": x + 0.3 * random.standard_normal(x.shape),
        "half-way between two classes": 0.5 * (x + x[partner]),
        "beyond: 2a - b": 2 * x - x[partner],
        "inverted": low + high - x,
        "pixels shuffled": shuffled,
        "uniform noise": random.uniform(low, high, x.shape),
        "Gaussian noise": random.standard_normal(x.shape),
    }
    return {name: np.asarray(some, np.float32) for name, some in found.items()}


def accuracy(found: Any, x: np.ndarray, y: np.ndarray) -> float:
    return round(100 * float(np.mean(found.predict(x).argmax(1) == y)), 3)


def loss_slopes(model: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """∂ℓ_b/∂x_b (n, 1, 28, 28) in evaluation mode."""
    model.eval()
    parts = []
    for i in range(0, len(x), CHUNK):
        inputs = td.tensor(x[i : i + CHUNK], requires_grad=True)
        loss = td.cross_entropy(model(inputs), td.tensor(y[i : i + CHUNK]), reduction="sum")
        parts.append(td.grad(loss, [inputs])[0].numpy())
    model.train()
    return np.concatenate(parts)


def mechanism(cell: Cell, data: Data) -> Outcome:
    """Medians over 1,000 inputs of ‖J‖_F, of it over the length of the centred logits, and the mean top
    probability, at each place; accuracy under noise and under one step along the loss's gradient.
    """
    found, few = fit(cell, data), cell.get("predict")
    late = data.held_out[LATE]
    x = network_input(late.images[:few], cell, found.train.images)
    y = late.labels[:few]
    train = network_input(found.train.images, cell, found.train.images)
    n = min(1_000, len(x), len(train))
    numbers: dict[str, Any] = {"loss": round(found.loss, 5), "accuracy": accuracy(found, x, y), "places": {}}
    for name, some in places(x[:n], train, y[:n], cell["seed"]).items():
        squares, logits = jacobians(found.model, some)
        size = np.linalg.norm(logits - logits.mean(1, keepdims=True), axis=1)
        norm = np.sqrt(squares)
        row = np.median(norm), np.median(norm / np.maximum(size, 1e-9)), softmax(logits).max(1).mean()
        numbers["places"][name] = [round(float(value), 4) for value in row]
    random = np.random.RandomState(2_000 + cell["seed"])
    noise = random.standard_normal(x.shape).astype(np.float32)
    slopes = loss_slopes(found.model, x, y)
    length = np.sqrt(np.square(slopes).sum((1, 2, 3), keepdims=True))
    along = slopes / np.maximum(length, 1e-30)
    numbers["noise"] = {f"{sd:g}": accuracy(found, x + np.float32(sd) * noise, y) for sd in (0.3, 0.6, 1.0)}
    numbers["attack"] = {f"{r:g}": accuracy(found, x + np.float32(r) * along, y) for r in (0.5, 1.0, 2.0)}
    norms = [float(np.sqrt(np.square(p.numpy()).sum())) for name, p in found.model.named_parameters()
             if name.endswith("weight")]  # fmt: skip
    numbers["weights"] = [round(norm, 3) for norm in norms]
    return Outcome(numbers, data=data.checksum)


# ---- A step of one variable


def step_function(cell: Cell, data: Data) -> Outcome:
    """Eight points of the line, two classes, a tanh MLP: the difference of the logits and its slope."""
    x = np.array([-1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1], np.float32)[:, None]
    y = (x[:, 0] > 0).astype(np.int64)
    seed = cell["seed"]
    with td.random_from(td.Generator(seed)):
        model = MLP(1, (50, 50), 2, activation="tanh")
    terms = {
        "none": [],
        "SpectReg": [SpectReg(cell["weight"], generator=td.Generator(seed, 2))],
        "DataGrad": [DataGrad(cell["weight"])],
    }[cell["penalty"]]
    smoothing = cell["smoothing"]

    def loss(logits: Any, target: Any, reduction: str = "mean") -> Any:
        return td.cross_entropy(logits, target, reduction=reduction, label_smoothing=smoothing)

    objective, optimizer = Objective(model, loss, terms), td.optim.Adam(model.parameters(), lr=1e-2)

    @td.record
    def step(inputs: td.Tensor, target: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        found = objective(inputs, target)
        found.total.backward()
        optimizer.step()
        return found.loss

    value = None
    for _ in range(cell["steps"]):
        value = step(td.tensor(x), td.tensor(y))
    grid = np.linspace(-1.5, 1.5, 121, dtype=np.float32)[:, None]

    def slopes(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = td.tensor(at, requires_grad=True)
        out = model(inputs)
        difference = out[:, 1] - out[:, 0]
        (slope,) = td.grad(difference.sum(), [inputs])
        return difference.detach().numpy(), slope.numpy()[:, 0]

    curve, steep = slopes(grid)
    gap = np.abs(grid[:, 0]) < 0.25
    numbers = {
        "loss": float(value.item()) if value is not None else None,
        "slope at the points": float(np.abs(slopes(x)[1]).mean()),
        "steepest in the gap": float(np.abs(steep[gap]).max()),
        "curve": [round(float(v), 3) for v in curve],
    }
    return Outcome(numbers, data="eight points")
