"""Losses as layers: a loss function with its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..engine.core import Tensor
from ..ops import loss, softmax
from ..ops.ctc import ctc_loss
from .module import Module
from .parameter import Buffer

WEIGHTS = {"weight", "pos_weight"}  # settings that are tensors: they move and are saved with the model


class _Loss(Module):
    """A loss function with its settings, which have the names, the order and the
    defaults that they have there.
    """

    function: Any
    signature: inspect.Signature
    reductions: tuple[str, ...] = ()  # beyond the usual

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        name = type(self).__name__
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: expected settings {self.signature}: {error}") from None
        bound.apply_defaults()
        for key, value in bound.arguments.items():
            if key == "reduction":
                softmax.require_reduction(name, value, *self.reductions)
            elif key == "label_smoothing":
                softmax.require_smoothing(name, value)
            elif key == "beta" and value < 0:
                raise ValueError(f"{name}: expected beta of at least 0, got {value}")
            elif key == "delta" and value <= 0:
                raise ValueError(f"{name}: expected delta above 0, got {value}")
            setattr(self, key, Buffer(value) if key in WEIGHTS and value is not None else value)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        return self.function(
            *inputs, **named, **{key: getattr(self, key) for key in self.signature.parameters}
        )

    def extra_repr(self) -> str:
        return ", ".join(
            f"{key}={getattr(self, key)!r}" for key in self.signature.parameters if key not in WEIGHTS
        )


def _layer(name: str, function: Callable[..., Tensor], **members: Any) -> type[_Loss]:
    """The layer of a loss function: what has a default there is a setting, what has none an input."""
    parameters = inspect.signature(function).parameters.values()
    signature = inspect.Signature([p for p in parameters if p.default is not p.empty])
    members |= {
        "function": staticmethod(function),
        "signature": signature,
        "__signature__": signature,
    }
    return type(name, (_Loss,), {**members, "__doc__": function.__doc__, "__module__": __name__})


CrossEntropyLoss = _layer("CrossEntropyLoss", softmax.cross_entropy)
NLLLoss = _layer("NLLLoss", loss.nll_loss)
MSELoss = _layer("MSELoss", loss.mse_loss)
L1Loss = _layer("L1Loss", loss.l1_loss)
SmoothL1Loss = _layer("SmoothL1Loss", loss.smooth_l1_loss)
HuberLoss = _layer("HuberLoss", loss.huber_loss)
BCELoss = _layer("BCELoss", loss.binary_cross_entropy)
BCEWithLogitsLoss = _layer("BCEWithLogitsLoss", loss.binary_cross_entropy_with_logits)
KLDivLoss = _layer("KLDivLoss", loss.kl_div, reductions=("batchmean",))
HingeEmbeddingLoss = _layer("HingeEmbeddingLoss", loss.hinge_embedding_loss)
MultiMarginLoss = _layer("MultiMarginLoss", loss.multi_margin_loss)
CosineSimilarity = _layer("CosineSimilarity", loss.cosine_similarity)
CosineEmbeddingLoss = _layer("CosineEmbeddingLoss", loss.cosine_embedding_loss)
TripletMarginLoss = _layer("TripletMarginLoss", loss.triplet_margin_loss)
GaussianNLLLoss = _layer("GaussianNLLLoss", loss.gaussian_nll_loss)
PoissonNLLLoss = _layer("PoissonNLLLoss", loss.poisson_nll_loss)
CTCLoss = _layer("CTCLoss", ctc_loss)
