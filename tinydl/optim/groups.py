"""Weight decay only where it is asked for."""

from __future__ import annotations

from typing import Any

from ..nn.module import Module


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: weights of more than one dim decay, biases and the
    scales of normalizations do not.

        optimizer = SGD(decay_groups(model, 5e-4), lr=0.1, momentum=0.9)

    These are the convolution filters and the matrices of fully connected layers, what Varga et
    al. (arXiv 1712.09936) decay.
    """
    named = list(model.named_parameters())
    groups = [
        {"params": [(name, p) for name, p in named if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [(name, p) for name, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
