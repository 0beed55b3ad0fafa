"""What layers hold: their filters, their feature maps, the last features, and these in two dimensions."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..devices import on_host
from ..engine.core import Tensor, no_grad
from ..nn.module import Module
from .looking import as_input, forward, layer_of, looking

__all__ = ["feature_maps", "features", "filters", "tsne"]


def filters(model: Module, layer: str) -> np.ndarray:
    """A copy of a layer's weight, (filters, channels, kh, kw) of a Conv2d.

    Raises:
        AttributeError: no layer of that name, or one without a weight.
    """
    found = layer_of("filters", model, layer)
    weight = getattr(found, "weight", None)
    if not isinstance(weight, Tensor):
        raise AttributeError(f"filters: expected a layer with a weight, got {type(found).__name__} {layer!r}")
    return on_host(weight).copy()


def feature_maps(model: Module, x: Any, layer: str) -> np.ndarray:
    """What a layer puts out for a batch x (N, ...), in eval mode: (N, channels, h, w) of a convolution.

    Raises:
        AttributeError: no layer of that name.
    """
    with looking(model), no_grad():
        return on_host(forward("feature_maps", model, as_input(model, x), layer).layers[layer]).copy()


def features(model: Module, x: Any, layer: str | None = None, *, batch_size: int = 500) -> np.ndarray:
    """(N, features): what a layer puts out, flattened; without a name what the last layer that has a weight
    takes: the features that the classifier sees.

    Raises:
        AttributeError: no layer of that name.
        ShapeError: a model in which no layer has a weight.
    """
    if layer is not None:
        layer_of("features", model, layer)
    taken: list[Tensor] = []

    def take(module: Module, inputs: tuple[Any, ...]) -> None:
        taken[:] = [inputs[0]]

    values = on_host(x)
    found = []
    with looking(model), no_grad(), ExitStack() as scope:
        if layer is None:
            for module in model.modules():
                if isinstance(module._parameters.get("weight"), Tensor):
                    scope.callback(module.register_forward_pre_hook(take).remove)
        for first in range(0, len(values), batch_size):
            part = as_input(model, values[first : first + batch_size])
            if layer is not None:
                found.append(on_host(forward("features", model, part, layer).layers[layer]))
                continue
            model(part)
            if not taken:
                raise ShapeError("features: expected a layer with a weight, got none that ran")
            found.append(on_host(taken[0]))
    rows = np.concatenate(found) if found else np.zeros((0, 0), np.float32)
    return rows.reshape(len(values), -1).copy()


def tsne(rows: np.ndarray, *, perplexity: float = 30.0, seed: int = 0, **settings: Any) -> np.ndarray:
    """float32 (N, 2): t-SNE (van der Maaten & Hinton, JMLR 9, 2008) by scikit-learn, from principal
    components. Distances between groups mean little; that there are groups means something.

    Args:
        rows: (N, features), of `features`, say.
        perplexity: about how many neighbours count; less than N.
        seed: of the places at the start.
        settings: further ones of sklearn.manifold.TSNE.

    Raises:
        ShapeError: rows that are not (N, features), or too few of them.
        ImportError: scikit-learn is not there.
    """
    if rows.ndim != 2 or not 0 < perplexity < len(rows):
        got = f"{rows.shape} and {perplexity}"
        raise ShapeError(f"tsne: expected rows (N, features) and a perplexity of less than N, got {got}")
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError(f"tsne: {error}: pip install 'tinydl[sklearn]'") from None
    given = {"init": "pca", "random_state": seed, "perplexity": perplexity, **settings}
    with threadpool_limits(1):  # in thousands of short loops threads that wait for each other cost far more
        return np.asarray(TSNE(2, **given).fit_transform(np.asarray(rows, np.float32)), np.float32)
