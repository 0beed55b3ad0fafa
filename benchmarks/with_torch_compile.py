"""The training steps in PyTorch with the network under `torch.compile`, which needs a C++ compiler. It has no
second derivatives: steps with a gradient penalty end in its own error, and are left out.
"""

from __future__ import annotations

from typing import Any

from .cases import Arrays, Case
from .with_torch import VERSION, arrays, start, training_step

__all__ = ["VERSION", "arrays", "start", "step"]


def step(case: Case, d: Arrays) -> dict[str, Any]:
    return {"fused": training_step(case, d, True, compiled=True)}
