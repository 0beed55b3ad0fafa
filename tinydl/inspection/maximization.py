"""Inputs that a unit answers to most, found by ascent from noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..data.transforms.adjustments import blur as blurred
from ..devices import on_host
from ..engine.backward import grad
from ..engine.core import Tensor, add, no_grad
from ..nn.module import Module
from ..ops.elementwise import abs, mul, square, sub
from ..ops.random import Generator, randint, randn
from ..ops.reduce import mean, sum
from ..ops.shape import reshape, roll
from .looking import as_input, forward, looking, scores

__all__ = ["activation_maximization", "total_variation"]


def total_variation(x: Tensor) -> Tensor:
    """(N,): the sum of |differences| of neighbours down and across, of images (N, C, H, W)."""
    down, across = sub(x[:, :, 1:], x[:, :, :-1]), sub(x[:, :, :, 1:], x[:, :, :, :-1])
    return add(sum(abs(down), (1, 2, 3)), sum(abs(across), (1, 2, 3)))


def activation_maximization(
    model: Module,
    layer: str | None,
    channels: int | Sequence[int],
    shape: tuple[int, int, int],
    *,
    steps: int = 200,
    lr: float = 0.05,
    l2: float = 0.0,
    tv: float = 0.0,
    jitter: int = 0,
    blur: float = 0.0,
    blur_every: int = 8,
    start: float = 0.1,
    bounds: tuple[float, float] | None = None,
    generator: Generator | None = None,
) -> np.ndarray:
    """(channels, C, H, W): images that ascend mean_ij a_c(x) - l2 Σ x² - tv TV(x) by steps of `lr` along the
    gradient divided by its root mean square. Erhan et al. 2009; Simonyan et al. (arXiv 1312.6034);
    Yosinski et al. (arXiv 1506.06579) on regularizers.

    Args:
        layer: dotted path of the layer whose channels answer; None: the model's output.
        channels: one, or several, an image for each.
        shape: (C, H, W) of an image.
        steps, lr: of the ascent.
        l2, tv: weights of the square and of the total variation.
        jitter: the image is shifted by up to so many pixels, cyclically and by chance, in each step.
        blur: standard deviation, in pixels, of a Gaussian that smooths it each `blur_every` steps; 0: none.
        start: standard deviation of the noise at the start.
        bounds: (lowest, highest) value of a pixel; None: any.
        generator: of the noise and the shifts; None: one of seed 0.

    Raises:
        AttributeError: no layer of that name.
        ShapeError: a channel that is none, a shape that is not (C, H, W).
        ValueError: settings out of range.
    """
    who = "activation_maximization"
    if len(shape) != 3:
        raise ShapeError(f"{who}: expected the shape (C, H, W) of an image, got {shape}")
    if steps < 0 or jitter < 0 or blur < 0 or blur_every < 1 or not lr > 0:
        raise ValueError(
            f"{who}: expected steps, jitter, blur >= 0, blur_every >= 1 and lr > 0, got "
            f"{steps}, {jitter}, {blur}, {blur_every} and {lr}"
        )
    wanted = np.atleast_1d(np.asarray(channels))
    source = generator or Generator()
    with looking(model):
        with no_grad():
            images = mul(randn(len(wanted), *shape, generator=source), start)
        x = as_input(model, images)
        for step in range(steps):
            with no_grad():
                shifts = [int(n) for n in on_host(randint(-jitter, jitter + 1, (2,), generator=source))]
            leaf = (roll(x, shifts, (2, 3)) if jitter else x).detach().requires_grad_()
            seen = forward(who, model, leaf, *(() if layer is None else (layer,)))
            activity = seen.output if layer is None else seen.layers[layer]
            if activity.ndim > 2:
                activity = mean(reshape(activity, (*activity.shape[:2], -1)), 2)
            aim = scores(who, activity, wanted)
            if l2:
                aim = sub(aim, mul(sum(square(leaf), (1, 2, 3)), l2))
            if tv:
                aim = sub(aim, mul(total_variation(leaf), tv))
            g: Any = grad(sum(aim), leaf)[0]
            with no_grad():
                x = _ascended(leaf, g, lr, [-n for n in shifts] if jitter else None, bounds)
                if blur and (step + 1) % blur_every == 0:
                    smooth = blurred(on_host(x).astype(np.float32), np.full(len(wanted), blur))
                    x = as_input(model, smooth)
    return on_host(x).copy()


def _ascended(x: Tensor, g: Tensor, lr: float, back: Any, bounds: tuple[float, float] | None) -> Tensor:
    """A step along each image's normalized gradient, shifted back, within the bounds."""
    scale = (mean(square(g), (1, 2, 3), keepdim=True) + 1e-20).sqrt()
    x = add(x, mul(g / scale, lr))
    if back is not None:
        x = roll(x, back, (2, 3))
    return x if bounds is None else x.clip(*bounds)
