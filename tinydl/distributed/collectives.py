"""The collectives as primitives: every rank makes the same call, and each is a linear map between the arrays
of all ranks.

What is differentiated is the *sum* of the ranks' losses. Under it the rules are the transposes of those maps:

    all_reduce    is its own transpose
    all_gather    and scatter_sum (the sum over the ranks, of which each keeps its rows) are each other's
    broadcast     and reduce (the sum at one rank, zeros elsewhere) are each other's

and so every order of derivative is there. A loss that is the same on all ranks counts once for each of them.
"""

from __future__ import annotations

from typing import Any

from tinydl_kernels.cpu import jobs
from tinydl_kernels.machine import memory

from ..engine.core import Array, primitive


def _flat(x: Array) -> Array:
    """As a transport takes it. Something other than a loop is about to write."""
    jobs.spoil()
    return x.reshape(-1)


@primitive(numeric=True, collective=True)
def all_reduce(x: Array, *, group: Any) -> Array:
    """The sum over the ranks."""
    out = memory.empty_like(x)
    group.transport.sum(_flat(x), out.reshape(-1))
    return out


@primitive(numeric=True, collective=True)
def all_gather(x: Array, *, group: Any, counts: tuple[int, ...]) -> Array:
    """The ranks' rows (along axis 0), one after the other; `counts` of them."""
    out = memory.empty((sum(counts), *x.shape[1:]), x.dtype, x)
    width = _width(x)
    group.transport.gather(_flat(x), out.reshape(-1), [count * width for count in counts])
    return out


@primitive(numeric=True, collective=True)
def scatter_sum(x: Array, *, group: Any, counts: tuple[int, ...]) -> Array:
    """This rank's rows of the sum over the ranks."""
    out = memory.empty((counts[group.rank], *x.shape[1:]), x.dtype, x)
    width = _width(x)
    group.transport.sum_parts(_flat(x), out.reshape(-1), [count * width for count in counts])
    return out


@primitive(numeric=True, collective=True)
def broadcast(x: Array, *, group: Any, root: int) -> Array:
    """What the rank `root` has."""
    out = memory.empty_like(x)
    out[...] = x
    group.transport.broadcast(_flat(out), root)
    return out


@primitive(numeric=True, collective=True)
def reduce(x: Array, *, group: Any, root: int) -> Array:
    """The sum over the ranks at the rank `root`, zeros elsewhere."""
    out = memory.empty_like(x)
    group.transport.sum(_flat(x), out.reshape(-1))
    if group.rank != root:
        out[...] = 0
    return out


def _width(x: Array) -> int:
    """Numbers in a row."""
    width = 1
    for n in x.shape[1:]:
        width *= n
    return width


all_reduce.rule(x=lambda g, *, group: all_reduce(g, group=group))
all_gather.rule(x=lambda g, *, group, counts: scatter_sum(g, group=group, counts=counts))
scatter_sum.rule(x=lambda g, *, group, counts: all_gather(g, group=group, counts=counts))
broadcast.rule(x=lambda g, *, group, root: reduce(g, group=group, root=root))
reduce.rule(x=lambda g, *, group, root: broadcast(g, group=group, root=root))
