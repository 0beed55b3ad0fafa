"""Data parallelism: every rank has the model, and its own samples of each batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinydl_kernels.machine.errors import GraphError

from ..engine.core import Tensor, no_grad, state
from ..nn.module import Module
from ..ops.update import assign
from .group import Group, packed, unpacked

__all__ = ["DataParallel", "average_gradients"]


def average_gradients(parameters: Iterable[Tensor], group: Group) -> None:
    """Set each `.grad` to its sum over the ranks: in one message for each dtype, added in the order of the
    ranks, so with the same bits on all of them.

    Each rank's gradients are those of its part of the objective, share · (the mean over its samples),
    whatever the shares (see `Shard`): the sum is the gradient of the mean over all samples. Norms of these
    gradients (clipping, SAM, LARS, LAMB) are the global ones. Parameters without `.grad` are left alone; they
    must be the same ones on all ranks. May stand in a recorded step.
    """
    if group.size == 1:
        return
    given = [p for p in parameters if p.grad is not None]
    with no_grad():
        for dtype in dict.fromkeys(p.dtype for p in given):
            own = [p for p in given if p.dtype == dtype]
            sums = group.all_reduce(packed([p.grad for p in own]))  # type: ignore[misc]
            for p, g in zip(own, unpacked(sums, [p.shape for p in own]), strict=True):
                p.grad = g


class DataParallel(Module):
    """A model whose ranks begin with the parameters and buffers of rank 0, and average their gradients.

        group = td.distributed.world()
        model = DataParallel(LeNet(), group)
        loader = DataLoader(train, 50, shuffle=True, group=group)  # this rank's rows of each batch of 50

        @td.record
        def step(x, y):
            optimizer.zero_grad()
            objective(x, y).total.backward()
            model.average_gradients()
            optimizer.step()

        for x, y in loader:
            with group.shard(x.shape[0]):
                step(x, y)

    In training the forward pass of several ranks needs the scope of a `Shard`. The wrapped model is
    `module`, whose state is what one process would save.
    """

    def __init__(self, model: Module, group: Group) -> None:
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"DataParallel: expected a module, got {type(model).__name__}")
        if not isinstance(group, Group):
            raise TypeError(f"DataParallel: expected a Group, got {type(group).__name__}")
        self.module, self.group = model, group
        if group.size > 1:
            with no_grad():
                for x in (*model.parameters(), *model.buffers()):
                    assign(x, group.broadcast(x.detach()))

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        if self.training and self.group.size > 1 and state.shard is None:
            raise GraphError(
                "DataParallel: expected the scope of group.shard(samples) around a step, got none: which of "
                "the batch's samples are this rank's?"
            )
        return self.module(*inputs, **settings)

    def average_gradients(self) -> None:
        """`average_gradients` of the model's parameters."""
        average_gradients(self.parameters(), self.group)
