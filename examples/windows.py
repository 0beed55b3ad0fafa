"""What a convolution sees: dilated windows, linear layers as convolutions, strides for pools, shared weights.

    python examples/windows.py            a minute
    python examples/windows.py --full     wide nets, all training digits, 5,000 minibatches
    python examples/windows.py --quick    a few steps of each: does everything work?

1. The field. An output of layers with kernels k, dilations d and strides s depends on
   r = 1 + Σ_l (k_l - 1) d_l Π_{i<l} s_i pixels a side. Dilations 1, 2, 4, 8 make r grow exponentially at full
   resolution (Yu & Koltun, arXiv 1511.07122), strides at less. Measured: rms of ∂y/∂x, y in the middle.
2. FC ↔ convolution. A linear layer on maps (C, H, W) is a convolution with a kernel of H × W, its weights
   (O, C·H·W) reshaped to (O, C, H, W): a trained net slides over larger images, and windows share what they
   have in common (LeCun et al. 1998, section VII). 32 × 32 pixels have four answers at once, 56 × 56 have 64.
3. Strided convolution for pooling (Springenberg et al., arXiv 1412.6806): in place of y = max of a window,
   y = Σ w x with stride 2, instead of the pool ("all") or in the convolution before it ("strided"). Published
   errors, base C on CIFAR-10: pool 9.74, strided 10.19, convpool 9.31, all 9.08 %.
4. Locally connected: y_p = Σ_q w_pq x_(p+q); a convolution has w_pq = w_q, a linear layer no windows at all
   (LeCun, Generalization and network design strategies, 1989). Published, 320 training digits of 16 × 16:
   13.0 % wrong with full connections, 11.5 with local ones, 1.6 with shared weights.

What differs: in 3 MNIST of 14 × 14 and narrow nets without dropout; in 4 two layers of 1,152 and 256 units
below the classes in all three nets, 150 minibatches; the published ones were smaller, trained for longer.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import tinydl as td
from tinydl import nn
from tinydl.data import Batches, mnist, normalize
from tinydl.models import AllCNN, CaffeLeNet
from tinydl.study import differences, draw_runs, error_rate, program_options, run_program, train

try:
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f"windows: {error}: pip install '.[examples]'")

FIELDS = {  # title -> dilations, stride
    "four 3 × 3": ((1, 1, 1, 1), 1),
    "dilated 1, 2, 4, 8": ((1, 2, 4, 8), 1),
    "stride 2 each": ((1, 1, 1, 1), 2),
}
local = nn.LocallyConnected2d
HALVING = ("pool", "strided", "convpool", "all")
CONNECTED = {
    "fully": lambda: (nn.Flatten(), nn.Linear(784, 1152), nn.ReLU(), nn.Linear(1152, 256)),
    "locally": lambda: (local(1, 8, 28, 5, 2), nn.ReLU(), local(8, 16, 12, 5, 2), nn.Flatten()),
    "shared": lambda: (nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2), nn.Flatten()),
}
PAIRS = [("strided", "pool"), ("all", "convpool"), ("locally", "fully"), ("shared", "locally")]


def field(dilations: tuple[int, ...], stride: int, x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """rms over images and 10 nets of ∂y/∂x, y in the middle; its side as measured, and by the formula."""
    squares = np.zeros(x.shape[2:])
    for _ in range(10):
        channels = zip((1, 8, 8, 8), dilations, strict=True)
        layers = [layer for c, d in channels for layer in (nn.Conv2d(c, 8, 3, stride, d, d), nn.ReLU())]
        at = td.tensor(x).requires_grad_()
        y = nn.Sequential(*layers)(at)
        (slope,) = td.grad(y[:, :, y.shape[2] // 2, y.shape[3] // 2].sum(), at)
        squares += np.square(slope.numpy()[:, 0]).mean(0)
    side = int(np.ptp(np.flatnonzero(squares.any(0)))) + 1
    return np.sqrt(squares / 10), side, 1 + sum(2 * d * stride**k for k, d in enumerate(dilations))


def convolutional(net: CaffeLeNet) -> nn.Sequential:
    """The same net for images of any size: its linear layers as convolutions."""
    fc1, fc2 = nn.Conv2d(50, 500, 4), nn.Conv2d(500, 10, 1)
    for conv, fc in ((fc1, net.fc1), (fc2, net.fc2)):
        conv.load_state_dict({"weight": fc.weight.detach().reshape(conv.weight.shape), "bias": fc.bias})
    return nn.Sequential(net.conv1, nn.MaxPool2d(2), net.conv2, nn.MaxPool2d(2), fc1, nn.ReLU(), fc2).eval()


def slide(net: CaffeLeNet, mosaic: np.ndarray) -> dict[str, Any]:
    """All answers at once, and those of the windows one by one."""
    large, windows = mosaic[None, None], np.lib.stride_tricks.sliding_window_view(mosaic, (28, 28))[::4, ::4]
    with td.no_grad():
        wide = convolutional(net)
        at_once = td.softmax(wide(td.tensor(large)), 1).numpy()[0]
        each = td.softmax(net(td.tensor(np.ascontiguousarray(windows.reshape(-1, 1, 28, 28)))), 1).numpy()
    apart = float(np.abs(at_once.reshape(10, -1).T - each).max())
    work = [nn.summary(m, shape).flops for m, shape in ((wide, large.shape), (net, (len(each), 1, 28, 28)))]
    return {"answers": at_once, "apart": apart, "saved": work[1] / work[0]}


def picture(fields: dict[str, Any], mosaic: np.ndarray, slid: dict[str, Any], errors: Any) -> Figure:
    figure = Figure(figsize=(13, 8.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    for axes, (title, (found, side, formula)) in zip(upper.subplots(1, 3), fields.items(), strict=True):
        edge = (len(found) - 41) // 2
        axes.imshow(found[edge : edge + 41, edge : edge + 41], cmap="magma")
        axes.set(title=f"{title}: field {side} × {side} (formula: {formula})", xticks=(), yticks=())
    upper.supylabel("rms ∂y/∂x of one output")
    left, *right = lower.subplots(1, 3, width_ratios=(1.25, 1, 1))
    left.imshow(mosaic, cmap="gray_r", alpha=0.4)
    for i, j in np.ndindex(slid["answers"].shape[1:]):
        best = slid["answers"][:, i, j]
        corner = {"color": "#b2182b", "weight": "bold"} if {i, j} <= {0, 7} else {"color": "#2166ac"}
        at, style = (13.5 + 4 * j, 13.5 + 4 * i), {"ha": "center", "va": "center", **corner}
        left.text(*at, best.argmax(), alpha=best.max() ** 4, **style)
    left.set(xticks=(), yticks=(), title="FC as convolution: 8 × 8 answers in one pass")
    for axes, names in zip(right, (HALVING, CONNECTED), strict=True):
        draw_runs(axes, {name: errors[name] for name in names})
        axes.set(xlabel="error on test images (%)")
    right[0].set_title("what halves the image of 14 × 14")
    right[1].set_title("windows and weights, 320 training digits")
    return figure


def net(name: str, full: bool) -> nn.Module:
    if name in CONNECTED:
        return nn.Sequential(*CONNECTED[name](), nn.ReLU(), nn.Linear(256, 10))
    model = AllCNN("C", name, width=96 if full else 12, in_channels=1)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return model


def experiment(options: argparse.Namespace) -> tuple[Figure, dict[str, Any]]:
    sizes = (60_000, 10_000, 5_000) if options.full else (10_000, 2_000, 150)
    n, tn, steps = (1_600, 100, 3) if options.quick else sizes
    (x, y, _), (tx, ty, _) = (mnist(split, options.data) for split in ("train", "test"))
    y, ty, (x, tx) = y[:n], ty[:tn], normalize(x[:n, None], tx[:tn, None])
    td.manual_seed(0)
    wide = np.pad(tx[:20], ((0, 0), (0, 0), (20, 21), (20, 21)))
    fields = {title: field(*given, wide) for title, given in FIELDS.items()}
    lenet = CaffeLeNet()
    train(lenet, td.optim.Adam(lenet.parameters()), Batches(x, y, batch_size=64), steps)
    a, b, c, d = (tx[np.argmax(ty == digit), 0] for digit in (3, 5, 8, 2))
    mosaic = np.block([[a, b], [c, d]])
    slid = slide(lenet, mosaic)
    small, tsmall = (v.reshape(-1, 1, 14, 2, 14, 2).mean((3, 5)) for v in (x, tx))
    errors: dict[str, list[float]] = {name: [] for name in (*HALVING, *CONNECTED)}
    for run in range(2 if options.quick else 5):
        few = slice(320 * run, 320 * (run + 1))
        for name, own in errors.items():
            given, test = ((small, y), tsmall) if name in HALVING else ((x[few], y[few]), tx)
            with td.random_from(td.Generator(run)):
                model = net(name, options.full)
            optimizer = td.optim.Adam(model.parameters(), lr=1e-3)
            train(model, optimizer, Batches(*given, batch_size=64, seed=run), steps)
            own.append(error_rate(model, test, ty))
        print(f"  run {run}: " + ", ".join(f"{k} {own[-1]:.1f}" for k, own in errors.items()), flush=True)
    print("errors in %, differences")
    found = differences(errors, PAIRS)
    print("64 windows in one pass: to {apart:.0e} the same, 1/{saved:.1f} of the work".format_map(slid))
    print(
        "published: pool 9.74, strided 10.19, convpool 9.31, all 9.08; fully 13.0, locally 11.5, shared 1.6"
    )
    return picture(fields, mosaic, slid, errors), {"slide": slid, "errors": errors, "differences": found}


def main(arguments: list[str] | None = None) -> int:
    return run_program(experiment, program_options(__doc__ or "", "windows").parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
