"""Penalties on the singular values of the weights, as matrices (out, rest), and spectral normalization."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices import follow, on_host
from ..engine.core import Tensor, add, cast, no_grad, state
from ..nn.extra_forward import buffers_are_frozen
from ..nn.module import Module
from ..nn.parameter import Buffer, Parameter
from ..ops.creation import eye
from ..ops.elementwise import clone, div, mul, sqrt, square, sub
from ..ops.matmul import matmul
from ..ops.random import randn
from ..ops.reduce import sum
from ..ops.shape import transpose
from ..ops.update import assign
from .contract import Weight
from .gradients import TINY, require_count
from .weights import TRANSPOSED, Held, WeightPenalty, as_matrix, axis_of, chosen

__all__ = ["SRIP", "Orthogonality", "SpectralNormPenalty", "remove_spectral_norm", "spectral_norm"]


def gram_less_one(W: Tensor) -> Tensor:
    """A - I with A the smaller of WWᵀ and WᵀW: only that can be the identity. Its singular values are
    |s² - 1| of all singular values s of W.
    """
    W = W if W.shape[0] <= W.shape[1] else transpose(W, 0, 1)
    return sub(matmul(W, transpose(W, 0, 1)), eye(W.shape[0], dtype=W.dtype, device=W.device))


def unit(v: Tensor) -> Tensor:
    """v/√(‖v‖² + 1e-16)."""
    return div(v, sqrt(add(sum(square(v)), TINY)))


class Orthogonality(WeightPenalty):
    """λ · Σ_W ‖A - I‖_F², A the smaller Gram matrix of W. Its derivative 4 (WWᵀ - I) W is that of either Gram
    matrix, and the larger one's value is |out - rest| more: it never reaches 0.

    Saxe et al., arXiv 1312.6120; Bansal et al., arXiv 1810.09102: λ 1e-4 to 1e-2. `diagonal=False` leaves the
    lengths alone (Brock et al., BigGAN, arXiv 1809.11096).
    """

    def __init__(self, weight: Weight, diagonal: bool = True, **options: Any) -> None:
        super().__init__(weight, **options)
        self.diagonal = diagonal

    def at(self, model: Module, name: str, w: Tensor) -> Tensor:
        rest = gram_less_one(as_matrix(w, axis_of(model, name, w)))
        if not self.diagonal:
            rest = mul(rest, sub(1.0, eye(rest.shape[0], dtype=w.dtype, device=w.device)))
        return sum(square(rest))


class SRIP(WeightPenalty):
    """λ · Σ_W σ(A - I), A the smaller Gram matrix of W: max |s² - 1| over the singular values s, by power
    iteration from a vector drawn anew for each W; the derivative goes through the iteration.

    Bansal et al., arXiv 1810.09102. The authors' code takes WᵀW of W (out, rest) whatever its shape: with
    out < rest its σ is 1 with no derivative as long as all s² ≤ 2. It squares σ, the paper does not.
    """

    def __init__(self, weight: Weight = 0.1, iterations: int = 2, **options: Any) -> None:
        super().__init__(weight, **options)
        self.iterations = require_count("SRIP", iterations=iterations)

    def at(self, model: Module, name: str, w: Tensor) -> Tensor:
        rest = gram_less_one(as_matrix(w, axis_of(model, name, w)))
        v = unit(randn((rest.shape[0],), generator=self.generator, dtype=w.dtype, device=w.device))
        for _ in range(self.iterations - 1):
            v = unit(matmul(rest, v))
        return sqrt(add(sum(square(matmul(rest, v))), TINY))


class SpectralNormPenalty(WeightPenalty):
    """λ · ½ Σ_W σ̂², σ̂ = uᵀWv with v = Wᵀu/‖Wᵀu‖ and a vector u for each W that makes one step of power
    iteration after each step of the optimizer; u and v are constants, so that ∂/∂W = σ̂uvᵀ. Yoshida and
    Miyato, arXiv 1705.10941.

    u starts as the left singular vector of the model's weights when an Objective takes the term, so that
    σ̂ = σ there; later on σ̂ ≤ σ. u is part of the state.
    """

    def __init__(self, weight: Weight = 0.01, **options: Any) -> None:
        super().__init__(weight, **options)
        self.u = Held()

    def attach(self, model: Module) -> None:
        for name, p in chosen(self.name, model, self.params).items() if not self.u else ():
            W = np.array(on_host(as_matrix(p.detach(), axis_of(model, name, p))), np.float64)
            self.u[name] = Buffer(np.linalg.svd(W, full_matrices=False)[0][:, 0].copy(), np.float64)

    def _right(self, name: str, W: Tensor) -> Tensor:
        if name not in self.u:
            raise ValueError(f"{self.name}: expected parameters out of {list(self.u)}, got {name!r}")
        follow([self.u[name]], W.device)
        return unit(matmul(cast(self.u[name], dtype=W.dtype), W)).detach()

    def at(self, model: Module, name: str, w: Tensor) -> Tensor:
        W = as_matrix(w, axis_of(model, name, w))
        v = self._right(name, W)
        return mul(square(sum(mul(cast(self.u[name], dtype=W.dtype), matmul(W, v)))), 0.5)

    def after(self, model: Module, optimizer: Any) -> None:
        for name, p in chosen(self.name, model, self.params).items():
            W = as_matrix(p, axis_of(model, name, p))
            assign(self.u[name], unit(matmul(W, self._right(name, W))))

    def state(self) -> dict[str, Any]:
        return {**super().state(), "u": self.u}


# Spectral normalization
# ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _SpectralNorm:
    """W/σ with σ = uᵀWv."""

    name: str
    axis: int
    moved_for: Any = None  # the recorder and the version of the weights that u and v made their step for

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "moved_for": None}

    def parts(self, module: Module) -> tuple[Tensor, Buffer, Buffer]:
        w, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        return w, u, v

    def __call__(self, module: Module) -> Tensor:
        w, u, v = self.parts(module)
        # Copies: the next forward may move u and v before this one's backward.
        sigma = sum(mul(clone(u), matmul(as_matrix(w, self.axis), clone(v))))
        return div(w, sigma)

    def move(self, module: Module, inputs: Any) -> None:
        """One step of power iteration, before the first forward of training after the weights were written;
        of a recording, which must hold one, before its first.
        """
        if not module.training or buffers_are_frozen():
            return
        w, u, v = self.parts(module)
        recorder = None if state.recorder is None else weakref.ref(state.recorder)
        weights = recorder, w.version.count
        if weights == self.moved_for:
            return
        self.moved_for = weights
        with no_grad():
            W = as_matrix(w, self.axis)
            assign(v, unit(matmul(u, W)))
            assign(u, unit(matmul(W, v)))


def spectral_norm(module: Module, name: str = "weight") -> Module:
    """Divide a parameter by its largest singular value as a matrix (out, rest), whenever it is read: the
    module becomes 1-Lipschitz. Miyato et al., arXiv 1802.05957. Returns the module.

    The value is σ = uᵀWv with vectors that make one step of power iteration for each update of W, before the
    first forward of training that follows it: not before those of further micro-batches, in evaluation, in
    extra passes or where a checkpoint is recomputed. They start as the singular vectors. The derivative goes
    through W alone. PyTorch's move with each forward. Parameter and buffers are named as
    torch.nn.utils.spectral_norm does: `<name>_orig`, `<name>_u`, `<name>_v`.

    Raises:
        ValueError: no parameter of that name, or one that is zero or has less than two dims.
    """
    w = module._parameters.get(name)
    if w is None or w.ndim < 2:
        known = ", ".join(key for key, p in module._parameters.items() if p is not None and p.ndim > 1)
        raise ValueError(
            f"spectral_norm: expected a matrix of {type(module).__name__} ({known or 'none'}), got {name!r}"
        )
    norm = _SpectralNorm(name, int(isinstance(module, TRANSPOSED)))
    W = np.array(on_host(as_matrix(w.detach(), norm.axis)), np.float64)
    left, sigmas, right = np.linalg.svd(W, full_matrices=False)
    if not sigmas[0] > 0:
        raise ValueError(f"spectral_norm: expected {name} other than zero, got a largest singular value of 0")
    delattr(module, name)
    module.register_parameter(f"{name}_orig", Parameter(w.detach()))
    module.register_buffer(f"{name}_u", Buffer(left[:, 0], w.dtype))
    module.register_buffer(f"{name}_v", Buffer(right[0], w.dtype))
    module.register_computed(name, norm)
    module.register_forward_pre_hook(norm.move)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make the parameter one again, with the value that it has now: outputs stay. Returns the module."""
    norm = module._computed.get(name)
    if not isinstance(norm, _SpectralNorm):
        raise ValueError(f"remove_spectral_norm: expected a parameter under spectral_norm, got {name!r}")
    w = Parameter(norm(module).detach())
    for each in (name, f"{name}_orig", f"{name}_u", f"{name}_v"):
        delattr(module, each)
    for key, hook in list(module._forward_pre_hooks.items()):
        if hook == norm.move:
            del module._forward_pre_hooks[key]
    module.register_parameter(name, w)
    return module
