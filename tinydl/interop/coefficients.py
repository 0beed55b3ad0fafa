"""scikit-learn's multi-layer perceptrons as modules, by their coefficients; scikit-learn need not be here."""

from __future__ import annotations

from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import ShapeError

from ..engine.core import Tensor
from ..nn.activation import ReLU, Sigmoid, Softmax, Tanh
from ..nn.containers import Identity, Sequential
from ..nn.linear import Linear
from ..nn.module import Module
from ..ops.elementwise import sub
from ..ops.joining import cat

ACTIVATIONS: dict[str, type[Module]] = {"identity": Identity, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU}
OUTPUTS = ("softmax", "logistic", "identity")


class TwoClasses(Module):
    """(N, 1), the logit of the second class, to the probabilities (N, 2) of both."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        p = self.sigmoid(x)
        return cat([sub(1.0, p), p], 1)


def from_sklearn(estimator: Any, probabilities: bool = False, dtype: Any = "float64") -> Sequential:
    """An MLPClassifier or MLPRegressor that was fitted, as linear layers and activations.

    Args:
        estimator: it is read for coefs_, intercepts_, activation and out_activation_, and for classes_.
        probabilities: with its last function: the module gives predict_proba, (N, classes), two columns also
            for two classes. Without, logits: (N, classes), (N, 1) for two classes. A regressor gives
            predict's numbers, (N, outputs), either way.
        dtype: of the parameters.

    Raises:
        TypeError: what has no coefficients, such as an estimator that was not fitted.
        ValueError: an activation that is not known.
        ShapeError: coefficients that do not follow each other.
    """
    wanted = ("coefs_", "intercepts_", "activation", "out_activation_")
    if missing := [name for name in wanted if not hasattr(estimator, name)]:
        raise TypeError(
            f"from_sklearn: expected a fitted MLPClassifier or MLPRegressor, got {type(estimator).__name__} "
            f"without {', '.join(missing)}"
        )
    hidden, last = estimator.activation, estimator.out_activation_
    if hidden not in ACTIVATIONS or last not in OUTPUTS:
        raise ValueError(
            f"from_sklearn: expected activations {', '.join(ACTIVATIONS)} and {', '.join(OUTPUTS)}, "
            f"got {hidden!r} and {last!r}"
        )
    layers: list[Module] = []
    width = None
    for weight, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        weight, bias = np.asarray(weight), np.asarray(bias)
        if weight.ndim != 2 or bias.shape != weight.shape[1:] or width not in (None, len(weight)):
            raise ShapeError(
                f"from_sklearn: expected ({width}, n) and (n,), got {weight.shape}, {bias.shape}"
            )
        width = weight.shape[1]
        layer = Linear(len(weight), width, dtype=dtype)
        layer.load_state_dict({"weight": weight.T, "bias": bias})
        layers += [layer, ACTIVATIONS[hidden]()]
    layers.pop()
    if probabilities and last == "softmax":
        layers.append(Softmax(1))
    elif probabilities and last == "logistic":  # of two classes, or of several labels at once
        layers.append(TwoClasses() if width == 1 else Sigmoid())
    return Sequential(*layers)
