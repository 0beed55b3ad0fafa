"""One trained network, seen in every way that td.viz knows.

    python examples/seeing.py            the paper's LeNet on 2,000 digits, then everything on one sheet
    python examples/seeing.py --quick    a few steps of each: does everything work?

S_c is the score (logit) of class c, x an image, b a black one.

    saliency               ∂S_c/∂x                                  Simonyan et al., arXiv 1312.6034
    SmoothGrad             mean of ∂S_c/∂x over x + noise           Smilkov et al., arXiv 1706.03825
    integrated gradients   (x - b) ∫₀¹ ∂S_c/∂x(b + a (x - b)) da    Sundararajan et al., arXiv 1703.01365
    guided backpropagation relu's rule: g ↦ g [x > 0] [g > 0]       Springenberg et al., arXiv 1412.6806
    deconvolution          relu's rule: g ↦ max(g, 0)               Zeiler & Fergus, arXiv 1311.2901
    Grad-CAM               relu(Σ_k mean_ij(∂S_c/∂A_k) A_k)         Selvaraju et al., arXiv 1610.02391
    occlusion              by how much S_c falls under a patch      Zeiler & Fergus
    what a class likes     argmax_x S_c(x) - l2 ‖x‖² - tv TV(x)     Yosinski et al., arXiv 1506.06579
    the plane of the loss  L(w + a d₁ + b d₂), filter-normalized d  Li et al., arXiv 1712.09913

and filters, feature maps, t-SNE of the last features, confusion matrix, reliability diagram, augmentation,
the tape with the gradient's own operations on it.

Which map finds what matters? For each of some test images the pixels that a map puts highest are blackened,
and the fall of S_c is taken: deletion, after Samek et al. (arXiv 1509.06321). A map is better than chance if
the 95 % t interval of its fall minus that of pixels chosen by chance (all of those that are not black), in
pairs of images, is above 0.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import tinydl as td
from tinydl.data import Batches, mnist, normalize, subset
from tinydl.data.transforms import Compose, ElasticTransform, RandomAffine
from tinydl.study import estimate
from tinydl.study.program import program_options, run_program

try:
    from matplotlib.figure import Figure
    from scipy.stats import t as student_t

    from tinydl import viz
except ImportError as error:
    sys.exit(f"seeing: {error}: pip install '.[examples,sklearn]'")

SIZE, BATCH, PIXELS, SEED = 2_000, 50, 20, 0


def train(images: np.ndarray, labels: np.ndarray, steps: int) -> td.nn.Module:
    td.manual_seed(SEED)
    model = td.models.LeNet("dropout")
    adam = td.optim.Adam(model.parameters(), lr=1e-3)
    schedule = td.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    batches = Batches(images, labels, batch_size=BATCH, seed=SEED)

    @td.record
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        adam.zero_grad()
        loss = td.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    for _ in range(steps):
        step(*batches.next_batch())
        schedule.step()
    return model.eval()


def maps(model: td.nn.Module, x: np.ndarray, black: float) -> dict[str, np.ndarray]:
    return {
        "saliency": viz.saliency(model, x),
        "SmoothGrad": viz.smooth_grad(model, x),
        "integrated": viz.integrated_gradients(model, x, baseline=black),
        "guided": viz.guided_backpropagation(model, x),
        "deconvolution": viz.deconvolution(model, x),
        "Grad-CAM": viz.grad_cam(model, x, "conv2"),
        "occlusion": viz.occlusion(model, x, window=5, stride=2, value=black),
    }


def deletion(model: td.nn.Module, x: np.ndarray, black: float) -> dict[str, dict[str, float]]:
    """Of each map the mean fall of the score in excess of chance, and half of its 95 % interval."""
    inked = x[:, 0] > black
    by_chance = np.random.default_rng(SEED).random(inked.shape)
    with td.no_grad():
        before = model(td.tensor(x)).numpy()
    own, falls = before.argmax(1), {}
    for name, m in ({"chance": by_chance} | maps(model, x, black)).items():
        score = np.where(inked, m.reshape(inked.shape), -np.inf).reshape(len(x), -1)
        blackened = x.reshape(len(x), -1).copy()
        np.put_along_axis(blackened, np.argsort(-score, axis=1)[:, :PIXELS], black, 1)
        with td.no_grad():
            after = model(td.tensor(blackened.reshape(x.shape))).numpy()
        falls[name] = (before - after)[np.arange(len(x)), own]
    excess = {name: estimate(fall - falls["chance"]) for name, fall in falls.items() if name != "chance"}
    wide = float(student_t.ppf(0.975, len(x) - 1))
    return {name: {"mean": e.mean, "half": wide * e.error} for name, e in excess.items()}


def penalized_graph() -> viz.TapeGraph:
    net = td.nn.Sequential(td.nn.Linear(2, 3), td.nn.Tanh(), td.nn.Linear(3, 1))
    x = td.tensor([[1.0, 2.0]], requires_grad=True)
    loss = td.square(net(x)).mean()
    (slope,) = td.grad(loss, x, create_graph=True)
    leaves = {"x": x, **dict(net.named_parameters())}
    return viz.tape_graph({"loss": loss, "DataGrad": td.square(slope).sum()}, leaves)


def sheet_of(
    model: td.nn.Module, digits: Any, x: np.ndarray, y: np.ndarray, p: np.ndarray, quick: bool
) -> Figure:
    """Everything: x are the test digits, y their labels, p their probabilities."""
    points, shown, steps = (5, 60, 20) if quick else (21, 1_000, 200)
    wrong, black, names = p.argmax(1) != y, float(x.min()), [str(c) for c in range(10)]
    some = [int(np.flatnonzero(y == c)[0]) for c in (2, 3, 4, 5, 8)]
    first, moves = x[some], Compose([RandomAffine(15, (0.1, 0.1)), ElasticTransform(20.0, 4.0)])
    ascent = {"steps": steps, "l2": 0.005, "tv": 0.004, "jitter": 1, "blur": 0.6, "bounds": (black, x.max())}
    liked = viz.activation_maximization(model, None, range(10), x.shape[1:], **ascent)
    plane = viz.loss_surface(model, td.cross_entropy, x[:300], y[:300], points=points)
    flat = viz.tsne(viz.features(model, x[:shown]), perplexity=15)
    sheet = Figure(figsize=(12, 15), layout="constrained")
    top, middle, low, tape, bottom = sheet.subfigures(5, 1, height_ratios=(5.4, 4.6, 4.6, 2.8, 2.4))
    looks, holds = top.subfigures(1, 2, width_ratios=(9, 4.4))
    filters, features = holds.subfigures(2, 1, height_ratios=(1, 3.6))
    likes, confusions = middle.subfigures(1, 2, width_ratios=(8, 5.5))
    near, contours, calibrated = low.subfigures(1, 3, width_ratios=(5, 5, 3.5))
    viz.attribution_sheet(first, maps(model, first, black), title="what it looks at", figure=looks)
    viz.mosaic(viz.filters(model, "conv1"), title="its first filters", columns=6, figure=filters)
    two = viz.feature_maps(model, first[:1], "conv2")[0]
    viz.mosaic(two, each=True, columns=4, title="16 feature maps of the 2", figure=features)
    viz.mosaic(liked, names, each=True, columns=5, cmap="gray_r", title="what it likes", figure=likes)
    viz.confusion_matrix(p.argmax(1), y, names, figure=confusions)
    viz.embedding_map(flat, y[:shown], wrong=wrong[:shown], title="its last features, t-SNE", figure=near)
    viz.loss_contours(plane, title="its loss on test digits, around its weights", figure=contours)
    viz.reliability_diagram(p, y, title="do its probabilities come true?", figure=calibrated)
    viz.tape(penalized_graph(), title="a loss on the tape, and what its gradient's square adds", figure=tape)
    viz.augmentation_sheet(digits[some[:2], None], moves, columns=12, title="augmentation", figure=bottom)
    return sheet


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    steps = 100 if options.quick else 10_000 if options.full else 1_000
    digits, held = mnist("train", options.data), mnist("test", options.data)
    rows = subset(SEED, min(SIZE, len(digits.images)), len(digits.images))
    x, test = (a[:, None] for a in normalize(digits.images[rows], held.images))
    model = train(x, digits.labels[rows], steps)
    with td.no_grad():
        p = np.concatenate([td.softmax(model(td.tensor(part)), 1).numpy() for part in np.split(test, 10)])
    error, ece = 100 * (p.argmax(1) != held.labels).mean(), td.metrics.calibration_error(p, held.labels)
    print(f"{error:.2f} % of {len(p):,} digits wrong (published, 10,000 minibatches: 2.85); ECE {ece:.3f}")
    found = deletion(model, test[: 20 if options.quick else 300], float(test.min()))
    print(f"fall of the score beyond chance where {PIXELS} inked pixels are blackened:")
    for name, e in found.items():
        claim = "better" if e["mean"] > e["half"] else "no better"
        print(f"  {name:14} {e['mean']:+6.2f} ± {e['half']:.2f}  {claim} than chance")
    numbers = {"error": error, "ece": ece, "deletion": found, "minibatches": steps, "digits": held.source}
    return sheet_of(model, held.images, test, held.labels, p, options.quick), numbers


if __name__ == "__main__":
    sys.exit(run_program(experiment, program_options(__doc__, "seeing").parse_args()))
