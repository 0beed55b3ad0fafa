"""LeNets: that of Varga, Csiszárik and Zombori, "Gradient regularization improves accuracy ..." (arXiv
1712.09936), and the wider one that came with Caffe.
"""

from __future__ import annotations

import math
from typing import Any

from ..engine.core import Tensor
from ..nn import init
from ..nn.containers import Identity
from ..nn.convolution import Conv2d
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.module import Module
from ..nn.normalization import BatchNorm1d
from ..ops.elementwise import relu
from ..ops.pool import max_pool2d
from ..ops.random import Generator
from ..ops.shape import flatten

__all__ = ["CaffeLeNet", "LeNet"]


class LeNet(Module):
    """conv 6@5×5 same, pool 2, conv 16@5×5, pool 2, conv 120@5×5, FC 84, FC `classes`; 61,706 numbers.

    For images (N, in_channels, 28, 28). `regularizer` stands between the FC layers: "dropout" (p = ½, the
    only one), "batchnorm" (with the batch's statistics in evaluation too, as the authors had it), or "none".
    Convolutions start uniform in ±√3 s with s = √(4 / (fan_in + fan_out)), fan = 25 · channels; the FC
    layers Glorot uniform; biases 0.
    """

    def __init__(
        self,
        regularizer: str = "dropout",
        classes: int = 10,
        generator: Generator | None = None,
        dtype: Any = None,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        between = {
            "dropout": lambda: Dropout(0.5, generator=generator),
            "batchnorm": lambda: BatchNorm1d(84, track_running_stats=False, dtype=dtype),
            "none": Identity,
        }
        if regularizer not in between:
            raise ValueError(f"LeNet: expected regularizer in {sorted(between)}, got {regularizer!r}")
        self.conv1 = Conv2d(in_channels, 6, 5, padding=2, dtype=dtype)
        self.conv2 = Conv2d(6, 16, 5, dtype=dtype)
        self.conv3 = Conv2d(16, 120, 5, dtype=dtype)
        self.fc1 = Linear(120, 84, dtype=dtype)
        self.between = between[regularizer]()
        self.fc2 = Linear(84, classes, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the authors' initialization."""
        for conv in (self.conv1, self.conv2, self.conv3):
            bound = math.sqrt(3 * 4 / sum(init.fans(conv.weight)))
            init.uniform_(conv.weight, -bound, bound)
        for fc in (self.fc1, self.fc2):
            init.xavier_uniform_(fc.weight)
        for layer in (self.conv1, self.conv2, self.conv3, self.fc1, self.fc2):
            if layer.bias is not None:
                init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        # as relu before pooling, with a quarter of the numbers
        h = relu(max_pool2d(self.conv1(x), 2))
        h = relu(max_pool2d(self.conv2(h), 2))
        h = flatten(relu(self.conv3(h)), 1)
        return self.fc2(self.between(relu(self.fc1(h))))


class CaffeLeNet(Module):
    """conv 20@5×5, pool 2, conv 50@5×5, pool 2, FC 500, FC `classes`; 431,080 numbers. For images (N,
    in_channels, 28, 28); ReLU after the first FC layer alone, everything Glorot uniform, biases 0
    (github.com/BVLC/caffe, examples/mnist/lenet.prototxt).
    """

    def __init__(self, classes: int = 10, in_channels: int = 1, dtype: Any = None) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, 20, 5, dtype=dtype)
        self.conv2 = Conv2d(20, 50, 5, dtype=dtype)
        self.fc1 = Linear(800, 500, dtype=dtype)
        self.fc2 = Linear(500, classes, dtype=dtype)
        for name, p in self.named_parameters():
            init.zeros_(p) if name.endswith("bias") else init.xavier_uniform_(p)

    def forward(self, x: Tensor) -> Tensor:
        h = max_pool2d(self.conv2(max_pool2d(self.conv1(x), 2)), 2)
        return self.fc2(relu(self.fc1(flatten(h, 1))))
