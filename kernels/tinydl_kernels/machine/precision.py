"""How exact products of float32 matrices are on a GPU, convolutions included: PyTorch's setting of that name.

    "highest"   every product and sum in float32
    "high"      factors rounded to TF32 (10 bits of mantissa, errors of 5e-4), summed up in float32: tensor
            cores,
                Ampere on

It is one setting for the whole process. The CPU always computes in full.
"""

from __future__ import annotations

from .errors import GraphError
from .memory import planned

PRECISIONS = ("highest", "high")
_precision = "highest"


def get_float32_matmul_precision() -> str:
    """ "highest" (the default) or "high". As torch.get_float32_matmul_precision."""
    return _precision


def set_float32_matmul_precision(precision: str) -> None:
    """Set it to "highest" or "high". As torch.set_float32_matmul_precision, whose "medium" (bfloat16) is
    refused.

    ValueError for another word, GraphError while a step is recorded.
    """
    global _precision
    if precision not in PRECISIONS:
        expected = " or ".join(map(repr, PRECISIONS))
        raise ValueError(f"set_float32_matmul_precision: expected {expected}, got {precision!r}")
    if planned() and precision != _precision:
        raise GraphError(
            "set_float32_matmul_precision: expected to be called outside of a recorded step, got a call "
            "within"
        )
    _precision = precision
