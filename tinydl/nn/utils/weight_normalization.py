"""Weight normalization: a parameter as length and direction."""

from __future__ import annotations

from dataclasses import dataclass

from tinydl_kernels.machine.errors import ShapeError

from ...engine.core import Tensor, no_grad
from ...engine.public import public
from ...ops.elementwise import abs, div, mul
from ...ops.statistics import norm
from ..checks import require_instance
from ..module import Module
from ..parameter import Parameter

__all__ = ["remove_weight_norm", "weight_norm"]


@dataclass(frozen=True)
class _WeightNorm:
    """g v / ‖v‖, with a norm for each index of `dim` (None or -1: one for all)."""

    name: str
    dim: int | None

    def length(self, v: Tensor) -> Tensor:
        if self.dim in (None, -1):
            return norm(v)
        others = tuple(d for d in range(v.ndim) if d != self.dim)
        return norm(v, 2.0, others, keepdim=True) if others else abs(v)

    def __call__(self, module: Module) -> Tensor:
        v = getattr(module, f"{self.name}_v")
        return mul(v, div(getattr(module, f"{self.name}_g"), self.length(v)))


@public
def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a parameter into its length `<name>_g` and its direction `<name>_v`: w = g v / ‖v‖,
    computed whenever w is read.

    `dim` keeps a length for each of its indices; None, and as in PyTorch -1, is one length for all. The names
    are those of torch.nn.utils.weight_norm. Salimans & Kingma, arXiv 1602.07868. Returns the module.

    The derivative by v is orthogonal to v, so that without decay ‖v‖ only grows. Weight decay, and every
    penalty on weights, acts on the parameters g and v, not on w: that of v changes nothing but the rate at
    which w turns. `td.optim.decay_groups` leaves v out and lets g decay, which is the length of w.
    """
    require_instance("weight_norm", Module, module)
    w = module._parameters.get(name)
    if w is None:
        known = ", ".join(key for key, p in module._parameters.items() if p is not None) or "none"
        raise ValueError(
            f"weight_norm: expected a parameter of {type(module).__name__} ({known}), got {name!r}"
        )
    if dim is not None and not -1 <= dim < w.ndim:
        raise ShapeError(
            f"weight_norm: expected dim in [-1, {w.ndim - 1}] or None for {name} {w.shape}, got {dim}"
        )
    norm = _WeightNorm(name, dim)
    with no_grad():
        length = norm.length(w)
    delattr(module, name)
    module.register_parameter(f"{name}_g", Parameter(length))
    module.register_parameter(f"{name}_v", Parameter(w.detach()))
    module.register_computed(name, norm)
    return module


@public
def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make the parameter one again, with the value that it has now. Returns the module."""
    norm = module._computed.get(name)
    if not isinstance(norm, _WeightNorm):
        raise ValueError(f"remove_weight_norm: expected a parameter under weight_norm, got {name!r}")
    w = Parameter(norm(module).detach())
    for each in (name, f"{name}_g", f"{name}_v"):
        delattr(module, each)
    module.register_parameter(name, w)
    return module
