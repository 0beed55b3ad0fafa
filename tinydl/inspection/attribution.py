"""What in an input a network looks at: gradients of a class's score, plain, averaged, along a path, or by the
changed rules of relu; Grad-CAM; occlusion.

All take a batch x (N, ...), array or tensor, and a `target`: None for each sample's most probable class, a
class, one for each sample (N,), or a function of the output that gives scores (N,). The score is the logit,
over positions (N, K, *) their sum. They return NumPy arrays.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import GraphError, ShapeError

from ..debug import Tracer
from ..devices import on_host
from ..engine.backward import grad
from ..engine.core import Tensor, no_grad, state
from ..engine.tape import Node
from ..nn.module import Module
from ..ops.elementwise import mul, relu
from ..ops.random import Generator, randn
from ..ops.reduce import max, mean, sum
from ..ops.resample import interpolate
from ..ops.shape import reshape
from .looking import Target, as_input, classes_of, fixed, forward, looking, scores

__all__ = [
    "deconvolution",
    "grad_cam",
    "guided_backpropagation",
    "integrated_gradients",
    "occlusion",
    "saliency",
    "smooth_grad",
]


def saliency(model: Module, x: Any, target: Target = None) -> np.ndarray:
    """∂score/∂x, with its sign, in the shape and dtype of the input. Simonyan, Vedaldi & Zisserman
    (arXiv 1312.6034) show its magnitude, the largest of the channels.

    Raises:
        ShapeError: a target that is no class of the output.
        DtypeError: an input that is not floating.
    """
    return _gradient("saliency", model, x, target)


def _gradient(who: str, model: Module, x: Any, target: Target) -> np.ndarray:
    with looking(model):
        leaf = as_input(model, x, follow=True)
        score = sum(scores(who, forward(who, model, leaf).output, target))
        return on_host(grad(score, leaf)[0])


def smooth_grad(
    model: Module,
    x: Any,
    target: Target = None,
    *,
    sigma: float = 0.15,
    samples: int = 25,
    generator: Generator | None = None,
) -> np.ndarray:
    """The mean of ∂score/∂x over inputs with Gaussian noise. Smilkov et al. (arXiv 1706.03825).

    Args:
        target: as `saliency`'s; None is the class of x without noise.
        sigma: the noise's standard deviation, in parts of each sample's range (max - min).
        samples: how many noisy inputs.
        generator: of the noise; None: one of seed 0, so that the same call gives the same map.

    Raises:
        ValueError: a negative sigma, no samples.
    """
    if not sigma >= 0 or samples < 1:
        raise ValueError(f"smooth_grad: expected sigma >= 0 and samples >= 1, got {sigma} and {samples}")
    target = fixed("smooth_grad", model, x, target)
    clean = on_host(as_input(model, x, follow=True))
    axes = tuple(range(1, clean.ndim))
    spread = sigma * (clean.max(axes, keepdims=True) - clean.min(axes, keepdims=True)) if clean.size else 0.0
    source = generator or Generator()
    total = np.zeros(clean.shape, np.float64)
    for _ in range(samples):
        with no_grad():
            noise = on_host(randn(*clean.shape, dtype=clean.dtype, generator=source))
        total += _gradient("smooth_grad", model, (clean + spread * noise).astype(clean.dtype), target)
    return (total / samples).astype(clean.dtype)


def integrated_gradients(
    model: Module, x: Any, target: Target = None, *, baseline: Any = 0.0, steps: int = 50
) -> np.ndarray:
    """(x - b) · ∫ ∂score/∂x at b + a (x - b) over a of 0 to 1, by the midpoint rule. Sundararajan, Taly & Yan
    (arXiv 1703.01365). Complete: the sum over a sample is score(x) - score(b), up to the rule's error.

    Args:
        target: as `saliency`'s; None is the class of x.
        baseline: b, a number or an array that broadcasts to x.
        steps: points along the path, each a forward and a backward pass.

    Raises:
        ValueError: no steps.
        ShapeError: a baseline that does not fit.
    """
    if steps < 1:
        raise ValueError(f"integrated_gradients: expected steps >= 1, got {steps}")
    target = fixed("integrated_gradients", model, x, target)
    end = on_host(as_input(model, x, follow=True))
    try:
        start = np.broadcast_to(on_host(baseline), end.shape).astype(end.dtype)
    except ValueError:
        wanted, got = end.shape, on_host(baseline).shape
        raise ShapeError(f"integrated_gradients: expected a baseline that fits {wanted}, got {got}") from None
    total = np.zeros(end.shape, np.float64)
    for k in range(steps):
        at = (start + (k + 0.5) / steps * (end - start)).astype(end.dtype)
        total += _gradient("integrated_gradients", model, at, target)
    return ((end - start) * total / steps).astype(end.dtype)


# By other rules for relu
# ------------------------------------------------------------------------------------------------------------


class _ReluRule(Tracer):
    """Another rule for relu, wherever in the walk backward it stands: as a layer or as a function."""

    def __init__(self, gated: bool) -> None:
        self.gated, self.met = gated, 0

    def gradients(
        self, node: Node, needs: list[bool], cotangents: list[Tensor | None]
    ) -> list[Tensor | None]:
        if node.primitive.key != "elementwise.relu":
            return super().gradients(node, needs, cotangents)
        self.met += 1
        (g,) = cotangents
        positive = None if g is None else relu(g)
        return super().gradients(node, needs, [positive]) if self.gated else [positive]


def _by_rule(who: str, gated: bool, model: Module, x: Any, target: Target, layer: str | None) -> np.ndarray:
    with looking(model):
        leaf = as_input(model, x, follow=True)
        seen = forward(who, model, leaf, *(() if layer is None else (layer,)))
        if layer is None:
            score = scores(who, seen.output, target)
        else:
            maps = seen.layers[layer]
            wide = max(reshape(maps, (*maps.shape[:2], -1)), 2)[0] if maps.ndim > 2 else maps
            score = scores(who, wide, target)
        rule = _ReluRule(gated)
        with state.replaced(tracer=rule):
            (found,) = grad(sum(score), leaf)
    if layer is None and not rule.met:
        raise GraphError(f"{who}: expected a relu between the input and the output, got none on the tape")
    return on_host(found)


def guided_backpropagation(
    model: Module, x: Any, target: Target = None, *, layer: str | None = None
) -> np.ndarray:
    """∂score/∂x where each relu lets pass what is positive both in the forward pass and in the backward one:
    g ↦ g · [x > 0] · [g > 0]. Springenberg et al. (arXiv 1412.6806).

    The rule holds for `td.relu` inside a forward as for `nn.ReLU`; other activations keep their derivative.

    Args:
        target: as `saliency`'s; with `layer` the channel.
        layer: a dotted path: the score is the strongest position of the channel in that layer's output. None:
            the model's output.

    Raises:
        AttributeError: no layer of that name.
        GraphError: no relu between the input and the model's output.
    """
    return _by_rule("guided_backpropagation", True, model, x, target, layer)


def deconvolution(model: Module, x: Any, target: Target = None, *, layer: str | None = None) -> np.ndarray:
    """The map back to the input of a deconvolutional net: as a gradient, but each relu is applied to what
    comes back, whatever went forward: g ↦ max(g, 0). Pooling goes back by its switches. Zeiler & Fergus
    (arXiv 1311.2901).

    Args, errors: as `guided_backpropagation`'s.
    """
    return _by_rule("deconvolution", False, model, x, target, layer)


# Maps
# ------------------------------------------------------------------------------------------------------------


def grad_cam(
    model: Module, x: Any, layer: str, target: Target = None, *, upsample: bool = True
) -> np.ndarray:
    """(N, H, W), never negative: relu(Σ_k a_k A_k), the channels A_k of a layer's output weighted by the
    means over positions a_k of ∂score/∂A_k. Selvaraju et al. (arXiv 1610.02391).

    Args:
        layer: dotted path of a layer that gives (N, C, h, w), the last convolution, say.
        target: as `saliency`'s.
        upsample: to the size of x (N, C, H, W), bilinearly; else (N, h, w).

    Raises:
        AttributeError: no layer of that name.
        ShapeError: an output that is no map; or x that is no image, to be upsampled to.
    """
    with looking(model):
        values = on_host(x)
        seen = forward("grad_cam", model, as_input(model, x, follow=values.dtype.kind == "f"), layer)
        maps = seen.layers[layer]
        if maps.ndim != 4 or (upsample and values.ndim != 4):
            raise ShapeError(
                f"grad_cam: expected a layer (N, C, h, w) and images (N, C, H, W), got {maps.shape} of "
                f"{layer!r} and {values.shape}"
            )
        score = sum(scores("grad_cam", seen.output, target))
        slopes: Any = grad(score, maps, allow_unused=True, materialize_grads=True)[0]
        with no_grad():
            weights = mean(slopes, (2, 3), keepdim=True)
            cam = relu(sum(mul(maps, weights), 1, keepdim=True))
            if upsample:
                cam = interpolate(cam, values.shape[2:], mode="bilinear", align_corners=False)
            return on_host(cam)[:, 0]


def occlusion(
    model: Module,
    x: Any,
    target: Target = None,
    *,
    window: int | tuple[int, int] = 5,
    stride: int | tuple[int, int] = 1,
    value: float = 0.0,
    batch_size: int = 256,
) -> np.ndarray:
    """(N, H, W): by how much the score falls when a rectangle of the image is covered, for each pixel the
    mean over the rectangles that cover it; NaN for one that none covers. Zeiler & Fergus (arXiv 1311.2901).

    Args:
        x: images (N, C, H, W).
        target: as `saliency`'s, a class.
        window, stride: of the rectangle and its steps, in pixels (rows, columns).
        value: what covers.
        batch_size: images in a forward pass.

    Raises:
        ShapeError: no images, or a window larger than they are.
    """
    images = on_host(as_input(model, x))
    (rows, columns), (down, right) = (np.broadcast_to(n, 2).tolist() for n in (window, stride))
    if images.ndim != 4 or not (0 < rows <= images.shape[2] and 0 < columns <= images.shape[3]):
        got = f"{images.shape} and {(rows, columns)}"
        raise ShapeError(f"occlusion: expected images (N, C, H, W) and a window within them, got {got}")
    if min(down, right, batch_size) < 1:
        raise ValueError(f"occlusion: expected stride and batch_size >= 1, got {stride} and {batch_size}")
    height, width = images.shape[2:]
    places = [*itertools.product(range(0, height - rows + 1, down), range(0, width - columns + 1, right))]
    with looking(model), no_grad():
        output = forward("occlusion", model, as_input(model, images)).output
        target = classes_of("occlusion", output, target) if not callable(target) else target
        whole = on_host(scores("occlusion", output, target)).astype(np.float64)
        fall = np.zeros((len(images), height, width))
        covers = np.zeros((height, width))
        for sample, image in enumerate(images):
            wanted = target if callable(target) else int(target[sample])
            for first in range(0, len(places), batch_size):
                chunk = places[first : first + batch_size]
                covered = np.repeat(image[None], len(chunk), 0)
                for one, (i, j) in zip(covered, chunk, strict=True):
                    one[:, i : i + rows, j : j + columns] = value
                output = forward("occlusion", model, as_input(model, covered)).output
                scored = on_host(scores("occlusion", output, wanted)).astype(np.float64)
                for (i, j), score in zip(chunk, scored, strict=True):
                    fall[sample, i : i + rows, j : j + columns] += whole[sample] - score
        for i, j in places:
            covers[i : i + rows, j : j + columns] += 1
    return np.divide(fall, covers, out=np.full(fall.shape, np.nan), where=covers > 0)
