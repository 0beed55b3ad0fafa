"""Networks without convolutions: multi-layer perceptrons, Cireşan's large one, maxout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine.core import Tensor
from ..nn import init
from ..nn.activation import Maxout, ReLU, Sigmoid, Tanh
from ..nn.containers import Sequential
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.module import Module
from ..ops.elementwise import mul, tanh
from ..ops.shape import flatten

__all__ = ["MLP", "MaxoutNet", "ciresan"]


class ScaledTanh(Module):
    """1.7159 tanh(.6666 x), of LeCun et al., "Efficient BackProp" (1998)."""

    def forward(self, x: Tensor) -> Tensor:
        return mul(tanh(mul(x, 0.6666)), 1.7159)


ACTIVATIONS: dict[str, type[Module]] = {
    "relu": ReLU,
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "scaled_tanh": ScaledTanh,
}


class MLP(Sequential):
    """Linear layers of `hidden` units, each with its activation and dropout, and one of `classes`. Samples of
    any shape (N, ...) of in_features numbers, an image's channels · height · width.

    Parameter names are those of torchvision.ops.MLP. `activation`: relu, tanh, sigmoid or scaled_tanh.
    """

    def __init__(
        self,
        in_features: int = 784,
        hidden: Sequence[int] = (200, 200),
        classes: int = 10,
        dropout: float = 0.0,
        activation: str = "relu",
        dtype: Any = None,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"MLP: expected activation one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        layers: list[Module] = []
        for units in hidden:
            layers += [Linear(in_features, units, dtype=dtype), ACTIVATIONS[activation](), Dropout(dropout)]
            in_features = units
        super().__init__(*layers, Linear(in_features, classes, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(flatten(x, 1))


def ciresan(classes: int = 10, in_features: int = 29 * 29, **settings: Any) -> MLP:
    """Fully connected and nothing else: 2500-2000-1500-1000-500-classes, scaled tanh, 12.1 million weights
    for digits of 29 × 29; weights start uniform in ±.05. Cireşan et al., "Deep big simple neural nets excel
    on handwritten digit recognition" (arXiv 1003.0358).
    """
    settings = {"hidden": (2500, 2000, 1500, 1000, 500), "activation": "scaled_tanh"} | settings
    net = MLP(in_features, classes=classes, **settings)
    for p in net.parameters():
        init.uniform_(p, -0.05, 0.05)
    return net


class MaxoutNet(Sequential):
    """Two maxout layers of `units` units, each the largest of `pieces` linear functions, and a linear one of
    `classes`; dropout of .2 on the input, .5 on the units. Samples (N, ...) of in_features numbers.

    Goodfellow et al. (arXiv 1302.4389), the net for permutation-invariant digits; weights start uniform in
    ±.005, biases 0.
    """

    def __init__(
        self, in_features: int = 784, units: int = 240, pieces: int = 5, classes: int = 10, dtype: Any = None
    ) -> None:
        super().__init__(
            *(Dropout(0.2), Linear(in_features, units * pieces, dtype=dtype), Maxout(pieces)),
            *(Dropout(0.5), Linear(units, units * pieces, dtype=dtype), Maxout(pieces)),
            *(Dropout(0.5), Linear(units, classes, dtype=dtype)),
        )
        for name, p in self.named_parameters():
            init.zeros_(p) if name.endswith("bias") else init.uniform_(p, -0.005, 0.005)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(flatten(x, 1))
