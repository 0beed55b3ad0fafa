"""Noise in the net and in the data, in training mode only: in evaluation each is exactly the identity.

A probability or a deviation of 0 draws nothing. Layers draw from the stream of dropout if they are given no
generator, terms from their own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..devices import constant
from ..engine.core import Tensor, add, no_grad
from ..nn.attention import MultiheadAttention
from ..nn.dropout import Dropout, GaussianNoise
from ..nn.extra_forward import extra_forward
from ..nn.linear import Linear
from ..nn.module import Module, functional_call
from ..nn.recurrent import GRU, LSTM, RNN
from ..ops.elementwise import div, exp, lt, maximum, mul, neg, sqrt, square, sub, where
from ..ops.matmul import linear, matmul
from ..ops.padding import pad
from ..ops.pool import max_pool2d
from ..ops.random import (
    Generator,
    bernoulli,
    dropout,
    noise_generator,
    of_batch,
    of_samples,
    rand,
    randint,
    randn,
    require_probability,
)
from ..ops.reduce import mean, sum
from ..ops.shape import broadcast_to, reshape, stack, transpose
from ..ops.softmax import log_softmax
from .contract import Term
from .gradients import require_count
from .passes import in_mode

__all__ = [
    "DisturbLabel",
    "DropBlock",
    "DropConnect",
    "DropPath",
    "GaussianDropout",
    "InputNoise",
    "Uncertainty",
    "WeightNoise",
    "drop_path_rates",
    "mc_dropout",
]


def _require_std(who: str, std: float) -> float:
    if not 0 <= std < math.inf:
        raise ValueError(f"{who}: expected std of at least 0, got {std!r}")
    return float(std)


# Layers
# ------------------------------------------------------------------------------------------------------------


class GaussianDropout(Module):
    """In training x · N(1, p/(1 - p)) element by element: the mean and the variance of dropout's factors.

    Srivastava et al., JMLR 2014, section 10.
    """

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"GaussianDropout: expected p in [0, 1), got {p!r}")
        self.p, self.generator = float(p), generator

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        source = self.generator or noise_generator
        drawn = of_samples(randn, input.shape, generator=source, dtype=input.dtype, device=input.device)
        return mul(input, add(mul(drawn, math.sqrt(self.p / (1 - self.p))), 1.0))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropConnect(Linear):
    """A linear layer of which training zeroes each *weight* with probability p and scales the others by
    1/(1 - p). Evaluation uses the weights themselves, their mean.

    Wan et al., ICML 2013, who sample in evaluation instead: `sampled`. What TensorFlow's code calls
    drop_connect is `DropPath`.

    per      "sample": a mask (out, in) for each sample; "batch": one for all, which is cheap and couples the
             samples
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        p: float = 0.5,
        per: str = "sample",
        bias: bool = True,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, dtype)
        require_probability("DropConnect", p)
        if per not in ("sample", "batch"):
            raise ValueError(f"DropConnect: expected per in ('sample', 'batch'), got {per!r}")
        self.p, self.per, self.generator = p, per, generator

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return super().forward(input)
        if input.ndim < 2 or input.shape[-1] != self.in_features:
            raise ShapeError(f"DropConnect: expected input (B, *, {self.in_features}), got {input.shape}")
        shape = (input.shape[0], *self.weight.shape) if self.per == "sample" else self.weight.shape
        draw = of_samples if self.per == "sample" else of_batch
        kept = draw(dropout, broadcast_to(self.weight, shape), self.p, True, generator=self.generator)
        positions = math.prod(input.shape[1:-1])
        rows = reshape(input, (input.shape[0], positions, self.in_features))
        found = matmul(rows, transpose(kept, -2, -1))
        found = reshape(found, (*input.shape[:-1], self.out_features))
        return found if self.bias is None else add(found, self.bias)

    def sampled(
        self,
        input: Tensor,
        activation: Callable[[Tensor], Tensor],
        samples: int = 1000,
        generator: Generator | None = None,
    ) -> Tensor:
        """The paper's evaluation: the mean of activation(u) over draws of u from the normal distribution with
        the mean Wv + b and the variance p/(1 - p) · W²v² of what training computes, v the input (*, in).
        """
        samples = require_count("DropConnect", samples=samples)
        if self.p == 1:
            raise ValueError("DropConnect.sampled: expected p below 1, got 1")
        middle = super().forward(input)
        variance = mul(linear(square(input), square(self.weight)), self.p / (1 - self.p))
        shape = (samples, *middle.shape)
        drawn = randn(shape, generator=generator or noise_generator, dtype=middle.dtype, device=middle.device)
        return mean(activation(add(middle, mul(drawn, sqrt(variance)))), 0)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}, per={self.per!r}"


class DropPath(Module):
    """What a residual branch puts out, in training zero with probability p and else scaled by 1/(1 - p):
    `h + drop(branch(h))`. Stochastic depth, Huang et al., arXiv 1603.09382, which scales in
    evaluation instead.

    A branch that is dropped still runs, and its BatchNorm's statistics move. `drop_path_rates` gives p for
    each block.

    mode     "row": drawn for each sample (axis 0); "batch": one draw for all
    """

    def __init__(self, p: float, mode: str = "row", generator: Generator | None = None) -> None:
        super().__init__()
        require_probability("DropPath", p)
        if mode not in ("row", "batch"):
            raise ValueError(f"DropPath: expected mode in ('row', 'batch'), got {mode!r}")
        self.p, self.mode, self.generator = p, mode, generator

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        if input.ndim < 1:
            raise ShapeError(f"DropPath: expected input (B, *), got {input.shape}")
        draw = of_samples if self.mode == "row" else of_batch
        shape = (input.shape[0] if self.mode == "row" else 1, *(1,) * (input.ndim - 1))
        return mul(
            input,
            draw(
                dropout, constant(input, np.ones(shape, input.dtype)), self.p, True, generator=self.generator
            ),
        )

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode!r}"


def drop_path_rates(p: float, blocks: int) -> list[float]:
    """p_l = p · l/L for l = 1, …, L blocks (arXiv 1603.09382, eq. (4))."""
    require_probability("drop_path_rates", p)
    blocks = require_count("drop_path_rates", blocks=blocks)
    return [p * block / blocks for block in range(1, blocks + 1)]


class DropBlock(Module):
    """In training, zero squares of block_size² of maps (N, C, H, W) so that a share p of the positions is
    expected to be zero, and scale the rest. Ghiasi et al., arXiv 1810.12890.

    Blocks lie inside the map; one larger than a side of it is as large as that side. The paper's rate γ of
    blocks counts overlaps twice and drops too little: .0947 for p .1, .2555 for .3 on 7 x 7 with blocks of 3;
    here γ is solved for the share p.

    Args:
        per_channel: a mask for each channel, or one for all channels of a sample.
        scale: "sample": by total/kept of the sample (of the channel, with per_channel); "expected": by
            1/(1 - p).
    """

    def __init__(
        self,
        p: float = 0.1,
        block_size: int = 7,
        per_channel: bool = True,
        scale: str = "sample",
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"DropBlock: expected p in [0, 1), got {p!r}")
        if scale not in ("sample", "expected"):
            raise ValueError(f"DropBlock: expected scale in ('sample', 'expected'), got {scale!r}")
        self.p, self.block_size = float(p), require_count("DropBlock", block_size=block_size)
        self.per_channel, self.scale, self.generator = per_channel, scale, generator

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 4:
            raise ShapeError(f"DropBlock: expected input (N, C, H, W), got {input.shape}")
        if not self.training or self.p == 0 or 0 in input.shape:
            return input
        N, C, H, W = input.shape
        high, wide = min(self.block_size, H), min(self.block_size, W)
        corners = (N, C if self.per_channel else 1, H - high + 1, W - wide + 1)
        rate = block_rate(self.p, (H, W), (high, wide))
        seeds = of_samples(
            bernoulli,
            constant(input, np.zeros(corners, input.dtype)),
            rate,
            generator=self.generator or noise_generator,
        )
        around = (wide - 1, wide - 1, high - 1, high - 1)
        kept = sub(1.0, max_pool2d(pad(seeds, around), (high, wide), stride=1))
        if self.scale == "expected":
            return mul(input, div(kept, 1 - self.p))
        # A map without a kept position is zero, whatever the scale.
        share = maximum(mean(kept, (2, 3) if self.per_channel else (1, 2, 3), keepdim=True), 0.5 / (H * W))
        return mul(input, div(kept, share))

    def extra_repr(self) -> str:
        return f"p={self.p}, block_size={self.block_size}, per_channel={self.per_channel}"


@functools.lru_cache(maxsize=256)
def block_rate(p: float, size: tuple[int, int], block: tuple[int, int]) -> float:
    """γ such that blocks of that size whose corner is at each place where they fit with probability γ cover a
    share p of the positions: mean 1 - (1 - γ)^(number of corners that cover a position) = p, by bisection.
    """
    axes = [
        [min(i, n - k) - max(0, i - k + 1) + 1 for i in range(n)] for n, k in zip(size, block, strict=True)
    ]
    cover = np.multiply.outer(*axes)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(1 - (1 - middle) ** cover) < p else (low, middle)
    return (low + high) / 2


class WeightNoise(Module):
    """A model whose parameters carry N(0, std²) in each forward pass of training: in place of the model,
    `Objective(WeightNoise(model, 0.01), loss)`. The stored parameters do not change and get the gradient.

    A quadratic loss grows by ½ std² tr H in expectation. Murray and Edwards, IEEE Trans. Neural Networks
    1994. One draw for all samples, a parameter after the other; only those that require grad.
    """

    def __init__(self, model: Module, std: float, generator: Generator | None = None) -> None:
        super().__init__()
        self.model, self.std, self.generator = model, _require_std("WeightNoise", std), generator

    def forward(self, *inputs: Any) -> Any:
        if not self.training or self.std == 0:
            return self.model(*inputs)
        source = self.generator or noise_generator
        noisy = {
            name: add(p, mul(randn(p.shape, generator=source, dtype=p.dtype, device=p.device), self.std))
            for name, p in self.model.named_parameters()
            if p.requires_grad
        }
        return functional_call(self.model, noisy, inputs)

    def extra_repr(self) -> str:
        return f"std={self.std}"


# Terms
# ------------------------------------------------------------------------------------------------------------


class InputNoise(Term):
    """x + N(0, std²) for each floating input, while the model trains. For a linear model and the square loss
    it is in expectation the penalty std² ‖w‖² (Bishop, Neural Computation 1995).
    """

    def __init__(self, std: float, *, generator: Generator | None = None, name: str | None = None) -> None:
        super().__init__(generator=generator, name=name)
        self.std = _require_std("InputNoise", std)

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        if not model.training or self.std == 0:
            return x, target
        return (tuple(map(self._noisy, x)) if isinstance(x, tuple) else self._noisy(x)), target

    def _noisy(self, x: Tensor) -> Tensor:
        if x.dtype.kind != "f":
            return x
        return add(
            x,
            mul(
                of_samples(randn, x.shape, generator=self.generator, dtype=x.dtype, device=x.device), self.std
            ),
        )

    def __repr__(self) -> str:
        return f"InputNoise({self.std})"


class DisturbLabel(Term):
    """Each label, with probability gamma, in favor of one drawn from all classes, the true one among them,
    while the model trains. Xie et al., arXiv 1605.00055.

    The mean of cross-entropy over the draws is cross-entropy with label smoothing gamma: not both at once.
    Draws the probabilities first, then the classes.

    Raises:
        DtypeError: targets that are no class indices.
    """

    def __init__(
        self,
        gamma: float = 0.1,
        *,
        classes: int,
        generator: Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(generator=generator, name=name)
        require_probability("DisturbLabel", gamma)
        self.gamma, self.classes = float(gamma), require_count("DisturbLabel", classes=classes)

    def before(self, model: Module, x: Any, target: Any) -> tuple[Any, Any]:
        if not isinstance(target, Tensor) or target.dtype.kind not in "iu":
            got = target.dtype if isinstance(target, Tensor) else type(target).__name__
            raise DtypeError(f"DisturbLabel: expected class indices as targets, got {got}")
        if not model.training or self.gamma == 0:
            return x, target
        options = {"generator": self.generator, "device": target.device}
        disturbed = lt(of_samples(rand, target.shape, dtype=np.float64, **options), self.gamma)
        drawn = of_samples(randint, 0, self.classes, target.shape, dtype=target.dtype, **options)
        return x, where(disturbed, drawn, target)

    def __repr__(self) -> str:
        return f"DisturbLabel({self.gamma})"


# Predictions
# ------------------------------------------------------------------------------------------------------------


class Uncertainty(NamedTuple):
    """What `mc_dropout` finds, each (B, *) but the first.

    Attributes:
        probabilities: (B, m, *), p̄ = mean_t p_t.
        entropy: H[p̄], of the prediction.
        expected_entropy: mean_t H[p_t], what no knowledge of the weights would remove.
        mutual_information: their difference, mean_t KL(p_t ‖ p̄): at least 0.
    """

    probabilities: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor


def mc_dropout(model: Module, x: Any, samples: int = 20, generator: Generator | None = None) -> Uncertainty:
    """The mean prediction of softmax(model(x)), logits (B, m, *), over random masks.

    Gal and Ghahramani, arXiv 1506.02142. Only layers of noise (dropout of all kinds, `DropConnect`,
    `DropPath`, `DropBlock`, `GaussianNoise`, `WeightNoise`, recurrent layers and attention that drop) are in
    training mode: `model.train()` would switch BatchNorm to batch statistics. Probabilities are averaged, not
    logits. Leaves no trace.

    Args:
        generator: where masks are drawn; by default one of seed 0, so that a second call finds the same.

    Raises:
        ValueError: samples below 1, a model without noise.
    """
    samples = require_count("mc_dropout", samples=samples)
    noisy = [
        module
        for module in model.modules()
        if isinstance(module, NOISE) or (isinstance(module, DROPPING) and module.dropout > 0)
    ]
    if not noisy:
        raise ValueError(f"mc_dropout: expected layers of noise in {type(model).__name__}, got none")
    inputs = x if isinstance(x, tuple) else (x,)
    with no_grad(), in_mode(model, "eval"), extra_forward(Generator() if generator is None else generator):
        for module in noisy:
            object.__setattr__(module, "training", True)
        log_p = stack([log_softmax(model(*inputs), 1) for _ in range(samples)])
        p = exp(log_p)
        middle = mean(p, 0)
        # p log p is 0 at 0; a mean of probabilities may underflow.
        logs = where(middle.gt(0), middle, 1.0).log()
        entropy = neg(sum(mul(middle, logs), 1))
        expected = mean(neg(sum(mul(p, log_p), 2)), 0)
        information = mean(sum(mul(p, sub(log_p, logs)), 2), 0)
    return Uncertainty(middle, entropy, expected, information)


NOISE = (Dropout, GaussianNoise, GaussianDropout, DropConnect, DropPath, DropBlock, WeightNoise)
DROPPING = (RNN, LSTM, GRU, MultiheadAttention)  # where they are told to
