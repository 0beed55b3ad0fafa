"""Fine-tuning: the lower layers of a trained ResNet-20, on 50 images of each class of CIFAR-10.

    python examples/fine_tune.py            5 draws of 500 images: some minutes on two cores
    python examples/fine_tune.py --quick    a few steps of each: does everything work?

Lower layers see edges and textures, which few images cannot teach: θ_lower ← θ_lower of a net that was
trained elsewhere, θ_upper ~ He's initialization, then the same descent for all (Yosinski et al., How
transferable are features in deep neural networks?, arXiv 1411.1792). Three ways, in pairs of the same images
and minibatches:

    scratch   all layers start at random
    tuned     conv1 to layer2 are loaded, all layers are trained
    frozen    conv1 to layer2 are loaded and stay as they are, running statistics too

What this does not show: learning from 500 images alone. The published net (akamaster/pytorch_resnet_cifar10,
91.73 % of the test images) was trained on all 50,000 training images, the 500 among them. Published from
scratch: 55.2 % (WRN-16-8, tuned, 500 epochs, github.com/cvjena/deic), on ciFAIR-10, another test set.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tinydl as td
from tinydl.data import Batches, cifar10, n_per_class
from tinydl.data.transforms import Compose, RandomCrop, RandomHorizontalFlip
from tinydl.interop import fit_weights, load_weights
from tinydl.models import ResNet, resnet20
from tinydl.optim.lr_scheduler import CosineAnnealingLR
from tinydl.study import compare, environment, write_json

try:
    from tinydl import viz
except ImportError as error:
    sys.exit(f"fine_tune: {error}: pip install '.[examples]'")

WAYS = ("scratch", "tuned", "frozen")
LOWER = ("conv1", "bn1", "layer1", "layer2")
PER_CLASS, BATCH_SIZE, POINTS, RATE = 50, 50, 4, 0.05
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]  # the published net's
STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 (n, 3, 32, 32) to float32, as the published net takes them."""
    return (images.astype(np.float32) / 255 - MEAN) / STD


def weights_of(path: Path) -> Mapping[str, np.ndarray]:
    """A file of arrays by akamaster's names, or akamaster's own, where they are within a run."""
    return load_weights(path, "state_dict" if path.suffix == ".th" else None)


def train(
    way: str, draw: int, images: np.ndarray, labels: np.ndarray, test: Any, weights: Any, steps: int
) -> tuple[np.ndarray, ResNet]:
    """Test accuracies in % at POINTS points, and the net. The draw decides images, start and minibatches."""
    chosen = n_per_class(labels, PER_CLASS, order=np.arange(len(labels)), start=PER_CLASS * draw)
    with td.random_from(td.Generator(draw)):
        model = resnet20()
    if way != "scratch":
        fit_weights(model, weights, only=LOWER)
    fixed = [getattr(model, name) for name in LOWER] if way == "frozen" else []
    for layer in fixed:
        layer.requires_grad_(False)
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = td.optim.SGD(moving, lr=RATE, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = CosineAnnealingLR(optimizer, steps)
    batches = Batches(images[chosen], labels[chosen], batch_size=BATCH_SIZE, seed=draw)
    augment = Compose([RandomCrop(32, 4), RandomHorizontalFlip()])

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        loss = td.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    curve = []
    for k in range(1, steps + 1):
        model.train()
        for layer in fixed:
            layer.eval()
        x, y = batches.next_batch()
        step(scaled(augment(x, index=np.arange(len(x)), epoch=k, seed=draw)), y)
        if k * POINTS % steps < POINTS:
            curve.append(accuracy(model, *test))
    return np.array(curve), model


def accuracy(model: ResNet, images: np.ndarray, labels: np.ndarray) -> float:
    """In %."""
    model.eval()
    with td.no_grad():
        parts = range(0, len(labels), 500)
        found = [model(td.tensor(scaled(images[i : i + 500]))).argmax(1).numpy() for i in parts]
    return 100 * float((np.concatenate(found) == labels).mean())


def load(options: argparse.Namespace) -> tuple[Any, Any, Mapping[str, np.ndarray]]:
    """Training and test images with their labels, and the published weights."""
    folder = options.data or os.environ.get("TINYDL_DATA") or "."
    weights = weights_of(options.weights or Path(folder) / "models" / "cifar10-resnet20.npz")
    train, test = cifar10("train", options.data), cifar10("test", options.data)
    return train[:2], test[:2], weights


def experiment(options: argparse.Namespace) -> None:
    (images, labels), test, weights = load(options)
    steps, draws = (POINTS, 2) if options.quick else (options.steps, options.draws)
    test = tuple(x[: 100 if options.quick else options.test] for x in test)
    curves: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    for draw in range(draws):
        for way in WAYS:
            curves[way].append(train(way, draw, images, labels, test, weights, steps)[0])
        scores = ", ".join(f"{way} {own[-1][-1]:.2f} %" for way, own in curves.items())
        print(f"  draw {draw}: {scores}", flush=True)
    found = compare({way: [curve[-1] for curve in own] for way, own in curves.items()})
    print(f"\naccuracy on {len(test[1]):,} test images after {steps} minibatches of {BATCH_SIZE}\n{found}")
    options.out.mkdir(parents=True, exist_ok=True)
    points = [round(steps * k / POINTS) for k in range(1, POINTS + 1)]
    panel = {"test error (%)": {way: 100 - np.array(own) for way, own in curves.items()}}
    title = f"ResNet-20 on {PER_CLASS} images a class, {draws} draws"
    viz.save(viz.learning_curves(points, panel, title), options.out / "fine_tune.png")
    results = {"environment": environment(), "steps": steps, "test": len(test[1]), "found": found}
    write_json(options.out / "results.json", results | {"curves": curves})
    print(f"\nfine_tune.png and results.json are in {options.out}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder above cifar-10/ and models/ (default: TINYDL_DATA)")
    parser.add_argument("--weights", type=Path, help="default: models/cifar10-resnet20.npz in that folder")
    parser.add_argument("--steps", type=int, default=60, help="minibatches (default %(default)s)")
    parser.add_argument("--draws", type=int, default=5, help="pairs (default %(default)s)")
    parser.add_argument("--test", type=int, default=500, help="test images (default %(default)s)")
    parser.add_argument("--full", action="store_true", help="2,000 minibatches, all 10,000 test images")
    parser.add_argument("--quick", action="store_true", help="a few steps of each")
    parser.add_argument("--out", type=Path, default=Path("results/fine_tune"), help="folder of the results")
    options = parser.parse_args(arguments)
    if options.full:
        options.steps, options.test = 2_000, 10_000
    if options.steps < POINTS or options.draws < 1 or options.test < 1:
        parser.error(f"expected {POINTS} minibatches, 1 draw and 1 test image or more")
    try:
        experiment(options)
    except (td.TinydlError, OSError) as error:
        print(f"fine_tune: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
