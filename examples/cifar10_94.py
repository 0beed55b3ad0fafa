"""94 % on CIFAR-10: a small fast net, trained whole on two cores.

    python examples/cifar10_94.py            one epoch, one seed: some minutes on two cores
    python examples/cifar10_94.py --full     the recipe, seeds 0, 1, 2: forty minutes each
    python examples/cifar10_94.py --quick    a few steps of a narrow net: does everything work?

Net and recipe are those of github.com/KellerJordan/cifar10-airbench, file airbench94 (94.01 %, the mean of
1,000 runs; .36 PFLOP), all settings as published, so that none was chosen here. What each part says:

    whitening      Σ = mean of p pᵀ over 2 × 2 patches p of training images, Σ vᵢ = λᵢ vᵢ: the first filters
                   are ± vᵢ / √(λᵢ + .0005) and stay, so that their maps are of one size and uncorrelated
    dirac          the first filters of a 3 × 3 convolution pass their channel on: depth costs nothing at
                   the start
    biases         BatchNorm's learn at 64 times the rate of all else; its weights stay 1
    the rate       η (1 + 1 / (1 - momentum)) = 11.5 / 1,024 for a *sum* of losses; from .2 η up to η over the
                   first 23 % of the steps, then in a line down to .07 η
    look-ahead     every 5 steps s ← d s + (1 - d) w, w ← s, with d = .95⁵ (t / T)³ (Zhang et al., 1907.08610)
    alternation    each image is mirrored in every second epoch, not at random in each; shifts by up to 2
                   pixels
    six views      of a test image: its logits and its mirror image's, and those of windows a pixel up and
                   left, down and right, which together weigh as much as the image

A run is scored once, after its last step. A run that is stopped goes on from its last checkpoint under --out
with the bits of one that was not; runs.jsonl there has a line for each that came to its end.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import cifar10
from tinydl.optim.lr_scheduler import LambdaLR
from tinydl.study import environment, estimate, program_options, run_cells, run_program
from tinydl.training import checkpoint

try:
    from matplotlib.figure import Figure
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f"cifar10_94: {error}: pip install '.[examples]'")

SIDE, SHIFT, PUBLISHED = 32, 2, 94.01
MEAN = 255 * np.array((0.4914, 0.4822, 0.4465), np.float32)
STD = 255 * np.array((0.2470, 0.2435, 0.2616), np.float32)
MOMENTUM = 0.85
RATE, DECAY = 11.5 / 1_024 / (1 + 1 / (1 - MOMENTUM)), 0.0153 / (1 + 1 / (1 - MOMENTUM))
WHITENED, SAVED = 3, 16  # epochs in which the whitening layer's bias learns; steps between checkpoints


class Recipe(NamedTuple):
    epochs: float = 9.9
    images: int = 50_000
    test: int = 10_000
    batch: int = 1_024
    widths: tuple[int, int, int] = (64, 256, 256)


FULL, SHORT = Recipe(), Recipe(epochs=1)
QUICK = Recipe(epochs=4, images=60, test=50, batch=20, widths=(24, 24, 24))


class Block(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        for name, given in (("1", channels), ("2", width)):
            conv = nn.Conv2d(given, width, 3, padding=1, bias=False)
            nn.init.dirac_(conv.weight.data[:given])
            norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
            for own, p in norm.named_parameters():
                p.requires_grad_(own == "bias")
            self.add_module(f"conv{name}", conv)
            self.add_module(f"norm{name}", norm)

    def forward(self, x: td.Tensor) -> td.Tensor:
        x = td.gelu(self.norm1(td.max_pool2d(self.conv1(x), 2)))
        return td.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    """Images (n, 3, 32, 32) to logits (n, 10)."""

    def __init__(self, images: np.ndarray, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2, bias=False)
        self.whiten.weight.data.copy_(td.tensor(whitening(images)))
        self.whiten.weight.requires_grad_(False)
        self.bias = nn.Parameter(td.zeros(24, 1, 1))
        self.blocks = nn.Sequential(*map(Block, (24, *widths), widths))
        self.head = nn.Linear(widths[-1], 10, bias=False)

    def forward(self, x: td.Tensor) -> td.Tensor:
        x = self.blocks(td.gelu(self.whiten(x) + self.bias))
        return self.head(td.max_pool2d(x, 3).flatten(1)) / 9


def whitening(images: np.ndarray) -> np.ndarray:
    """Filters (24, 3, 2, 2) that whiten the patches of images (n, 3, 32, 32), and their negatives."""
    patches = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (2, 3)).transpose(0, 2, 3, 1, 4, 5)
    patches = patches.reshape(-1, 12).astype(np.float64)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / np.sqrt(values + 5e-4)).T.reshape(12, 3, 2, 2)
    return np.concatenate([filters, -filters]).astype(np.float32)


def windows(padded: np.ndarray, index: Any, corner: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Of uint8 images padded (N, H, W, 3) those of index (n,), from corner (n, 2) on, mirrored (n,) or not:
    float32 (n, 3, 32, 32), scaled.
    """
    along = np.arange(SIDE)
    rows = corner[:, :1] + along
    columns = corner[:, 1:] + np.where(mirrored[:, None], along[::-1], along)
    pixels = padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(0, 3, 1, 2))


def padded(images: np.ndarray, by: int) -> np.ndarray:
    """Images (n, 3, 32, 32) with their reflection around, (n, 32 + 2 by, 32 + 2 by, 3)."""
    return np.pad(images.transpose(0, 2, 3, 1), ((0, 0), (by, by), (by, by), (0, 0)), "reflect")


def accuracies(model: Net, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """In %, by six views and by the image alone."""
    model.eval()
    frame, right = padded(images, 1), np.zeros(2)
    for index in np.split(np.arange(len(labels)), range(500, len(labels), 500)):
        views = []
        for at in (1, 0, 2):
            for mirrored in (False, True):
                corner, flags = np.full((len(index), 2), at), np.full(len(index), mirrored)
                with td.no_grad():
                    views.append(model(td.tensor(windows(frame, index, corner, flags))).numpy())
        six = np.tensordot((0.25, 0.25, 0.125, 0.125, 0.125, 0.125), np.stack(views), 1)
        right += [(found.argmax(1) == labels[index]).sum() for found in (six, views[0])]
    six_views, alone = 100 * right / len(labels)
    return float(six_views), float(alone)


def one_run(seed: int, recipe: Recipe, train: Any, test: Any, path: Path) -> dict[str, Any]:
    """Train and score. The seed decides start, order, shifts and first mirroring; `path` is a checkpoint."""
    images, labels = train
    frame, everyone = padded(images, SHIFT), np.arange(min(len(images), 5_000))
    middle, plain = np.full((len(everyone), 2), SHIFT), np.zeros(len(everyone), bool)
    with td.random_from(td.Generator(seed)):
        model = Net(windows(frame, everyone, middle, plain), recipe.widths)
    groups = [
        {
            "params": [p for name, p in learned(model) if ("norm" in name) == norm],
            "lr": rate,
            "weight_decay": DECAY / rate,
        }
        for norm, rate in ((True, 64 * RATE), (False, RATE))
    ]
    optimizer = td.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, nesterov=True)
    per_epoch = len(images) // recipe.batch
    steps = math.ceil(recipe.epochs * per_epoch)
    knots = (0, int(0.23 * steps), steps)
    schedule = LambdaLR(optimizer, lambda t: float(np.interp(t, knots, (0.2, 1, 0.07))))
    fast = [t for t in (*model.parameters(), *model.buffers()) if t.dtype == td.float32]
    slow = [t.detach().clone() for t in fast]

    def look_ahead(decay: float) -> None:
        with td.no_grad():
            for s, w in zip(slow, fast, strict=True):
                w.copy_(s.mul_(decay).add_(w, alpha=1 - decay))

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> tuple[td.Tensor, td.Tensor]:
        optimizer.zero_grad()
        logits = model(x)
        loss = td.cross_entropy(logits, y, label_smoothing=0.2, reduction="sum")
        loss.backward()
        optimizer.step()
        return loss, (logits.argmax(1) == y).sum()

    things = {"model": model, "optimizer": optimizer, "schedule": schedule, "slow": slow}
    losses: list[float] = []
    right: list[int] = []
    spent = np.zeros(2)
    if path.exists():
        saved = checkpoint.load(path, **things)
        losses, right, spent = saved["losses"], saved["right"], np.array(saved["spent"])
    first = np.random.default_rng((0, seed)).random(len(images)) < 0.5
    before, began = spent, clocks()
    model.train()
    for t in tqdm(range(len(losses), steps), f"seed {seed}", steps, initial=len(losses), unit="step"):
        epoch, place = divmod(t, per_epoch)
        rng = np.random.default_rng((1, seed, epoch))
        index = rng.permutation(len(images))[place * recipe.batch :][: recipe.batch]
        corner = rng.integers(0, 2 * SHIFT + 1, (len(images), 2))[index]
        model.bias.requires_grad_(epoch < WHITENED)
        loss, hits = step(windows(frame, index, corner, first[index] ^ (epoch % 2 == 1)), labels[index])
        schedule.step()
        losses.append(loss.item() / recipe.batch)
        right.append(int(hits.item()))
        if len(losses) % 5 == 0:
            look_ahead(0.95**5 * (len(losses) / steps) ** 3)
        if len(losses) % SAVED == 0:
            spent = before + clocks() - began
            checkpoint.save(path, **things, losses=losses, right=right, spent=spent.tolist())
    look_ahead(1.0)
    six_views, alone = accuracies(model, *test)
    spent = before + clocks() - began
    path.unlink(missing_ok=True)
    return {
        "accuracy": six_views,
        "accuracy of the image alone": alone,
        "losses": losses,
        "training accuracy": [100 * k / recipe.batch for k in right],
        "minutes": spent[0] / 60,
        "processor minutes": spent[1] / 60,
        "environment": environment(),
    }


def learned(model: Net) -> list[tuple[str, td.Tensor]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def clocks() -> np.ndarray:
    """Seconds on the wall and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def picture(runs: list[dict[str, Any]], per_epoch: int) -> Figure:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for seed, run in enumerate(runs):
        at = (1 + np.arange(len(run["losses"]))) / per_epoch
        for axes, what in ((left, "losses"), (right, "training accuracy")):
            axes.plot(at, run[what], lw=0.8, color=f"C{seed}", label=f"seed {seed}")
        right.axhline(run["accuracy"], color=f"C{seed}", ls="--", lw=1)
    right.axhline(PUBLISHED, color="k", ls=":", lw=1)
    right.text(0, PUBLISHED, "published 94.01", va="bottom", fontsize=8)
    left.set(xlabel="epoch", ylabel="loss of a minibatch, labels smoothed by .2")
    right.set(xlabel="epoch", ylabel="% right", title="Minibatches; test images at the end (dashed)")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    return figure


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    recipe = QUICK if options.quick else FULL if options.full else SHORT
    parts = (("train", recipe.images), ("test", recipe.test))
    train, test = ([x[:n] for x in cifar10(split, options.data)[:2]] for split, n in parts)
    options.out.mkdir(parents=True, exist_ok=True)

    def run(cell: dict[str, Any]) -> dict[str, Any]:
        return one_run(cell["seed"], recipe, train, test, options.out / f"seed-{cell['seed']}.safetensors")

    def told(cell: dict[str, Any], result: dict[str, Any], _: Any) -> None:
        times = f"{result['minutes']:.1f} minutes, {result['processor minutes']:.1f} of the processor"
        print(f"  seed {cell['seed']}: {result['accuracy']:.2f} %, {times}", flush=True)

    cells = [{**recipe._asdict(), "seed": seed} for seed in range(3 if options.full else 1)]
    runs = run_cells(run, cells, options.out / "runs.jsonl", progress=told)
    found = estimate([result["accuracy"] for result in runs])
    low, high = found.interval()
    interval = f"95 % t interval {low:.2f} to {high:.2f}, seeds: {found.n}" if found.n > 1 else "one seed"
    print(f"{found.mean:.2f} % ({interval}); published {PUBLISHED}")
    summary = {"accuracy": found, "interval": (low, high), "published": PUBLISHED}
    return picture(runs, recipe.images // recipe.batch), summary


def main(arguments: list[str] | None = None) -> int:
    return run_program(experiment, program_options(__doc__ or "", "cifar10_94").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
