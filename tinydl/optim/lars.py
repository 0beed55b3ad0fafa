"""LARS: every tensor has a rate of its own, in the proportion of its length to that of its gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tinydl_kernels.update.expression import length, minimum, where

from .optimizer import Optimizer, at_least_0
from .sgd import SGD

__all__ = ["LARS"]


class LARS(SGD):
    """SGD with layer-wise rates. You, Gitman & Ginsburg, Large batch training of convolutional networks,
    arXiv 1708.03888.

        q = trust_coeff |param| / (|grad| + weight_decay |param| + eps), and 1 where either length is 0
        g = q (grad + weight_decay param)
        param -= lr u, where u is g after SGD's momentum

    |x| is the 2-norm of a whole tensor. Biases and scales of normalizations are better left to SGD.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, >= 0.
        momentum, dampening, weight_decay, nesterov: as of SGD.
        trust_coeff: >= 0: with no decay and no momentum a step is lr trust_coeff |param| long.
        eps: >= 0.
        trust_clip: min(q / lr, 1) in the place of q.
        always_adapt: q acts without weight decay too; else it is 1 there.
        maximize: step up the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        trust_coeff: float = 1e-3,
        eps: float = 1e-8,
        trust_clip: bool = False,
        always_adapt: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        numbers = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        numbers |= {"trust_coeff": trust_coeff, "eps": eps}
        flags = {"nesterov": nesterov, "trust_clip": trust_clip, "always_adapt": always_adapt}
        Optimizer.__init__(self, params, numbers | flags | {"maximize": maximize})

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        at_least_0(cls, options, "trust_coeff", "eps")

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        weights, slopes = length(p), length(g)
        q = o.trust_coeff * weights / (slopes + o.weight_decay * weights + o.eps)
        q = minimum(q / o.lr, 1.0) if o.trust_clip else q
        q = where(weights > 0.0, where(slopes > 0.0, q, 1.0), 1.0)
        q = q if o.always_adapt else where(o.weight_decay > 0.0, q, 1.0)
        d = q * ((-g if o.maximize else g) + o.weight_decay * p)
        return p - o.lr * cls.along(o, s, c, d)
