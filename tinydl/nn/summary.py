"""What a network is made of: a table of layers, shapes, parameters and FLOPs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..engine.core import Tensor, no_grad
from ..engine.public import public
from ..ops.creation import zeros
from ..ops.random import Generator
from .extra_forward import extra_forward
from .module import Module

__all__ = [
    "summary",
]


class Row(NamedTuple):
    """One layer without children, in the order of the forward pass."""

    path: str
    kind: str
    output: Any
    parameters: int
    flops: int


class Summary(NamedTuple):
    """Rows and totals; prints as a table."""

    rows: list[Row]
    parameters: int
    trainable: int
    flops: int

    @property
    def multiply_adds(self) -> int:
        """Half the FLOPs: what papers mostly call FLOPs."""
        return self.flops // 2

    def __str__(self) -> str:
        cells = [("layer", "type", "output", "parameters", "FLOPs")]
        cells += [(r.path, r.kind, str(r.output), f"{r.parameters:,}", f"{r.flops:,}") for r in self.rows]
        cells += [("total", "", f"{self.trainable:,} trainable", f"{self.parameters:,}", f"{self.flops:,}")]
        widths = [max(len(row[i]) for row in cells) for i in range(5)]
        lines = [
            "  ".join(
                f"{c:<{w}}" if i < 3 else f"{c:>{w}}"
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


@public
def summary(model: Module, input_shape: tuple[int, ...], dtype: Any = None) -> Summary:
    """Run zeros of `input_shape` (batch included) through the model, leaving no trace,
    and list what each layer did.

    FLOPs are those of products and convolutions, a multiply and an add counting as two.
    """
    first = next(model.parameters(), None)
    dtype = dtype or (np.float32 if first is None else first.dtype)
    device = "cpu" if first is None else first.device
    rows: list[Row] = []
    counted: set[int] = set()

    def note(path: str) -> Any:
        def hook(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
            own = [p for p in module.parameters() if id(p) not in counted]
            counted.update(map(id, own))
            flops = module.flops(inputs[0], output) if hasattr(module, "flops") else 0
            shape = output.shape if isinstance(output, Tensor) else [y.shape for y in output]
            rows.append(Row(path, type(module).__name__, shape, sum(p.array.size for p in own), flops))

        return hook

    removers = [
        m.register_forward_hook(note(path or "(model)"))
        for path, m in model.named_modules()
        if not m._modules
    ]
    modes = [(m, m.training) for m in model.modules()]
    try:
        with no_grad(), extra_forward(Generator()):
            model.eval()(zeros(input_shape, dtype=dtype, device=device))
    finally:
        for remove in removers:
            remove()
        for module, mode in modes:
            object.__setattr__(module, "training", mode)
    parameters = list(model.parameters())
    total, trainable = (
        sum(p.array.size for p in parameters if p.requires_grad or every) for every in (True, False)
    )
    return Summary(rows, total, trainable, sum(row.flops for row in rows))
