"""Connectionist temporal classification."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinydl_kernels.indexing import check_index
from tinydl_kernels.machine.errors import ShapeError

from ..devices import constant, on_host
from ..engine.core import Tensor, add
from ..engine.public import public
from .elementwise import (
    clip,
    div,
    eq,
    isfinite,
    logical_and,
    logical_or,
    lt,
    mul,
    ne,
    neg,
    sub,
    to_dtype,
    where,
)
from .indexing import _gather, places, refuse_recording
from .padding import pad
from .reduce import logsumexp
from .shape import cat, permute, reshape, stack, unsqueeze
from .softmax import reduced
from .subscript import getitem

__all__ = [
    "ctc_loss",
]

NEVER = -math.inf  # the logarithm of probability 0


@public
def ctc_loss(
    log_probs: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability that the classes drawn at each step, repeats merged and
    blanks removed, spell the target.

    log_probs         (T, N, C), or (T, C) for one sample: logarithms of probabilities
    targets           (N, S), or (sum(target_lengths),) one after another: classes other than `blank`
    input_lengths     (N,) integers: steps of log_probs that count, at most T
    target_lengths    (N,) integers: classes of each target, at most S
    reduction         "mean" divides each loss by its target's length, then averages over the batch; "sum";
                      "none" for (N,)
    zero_infinity     losses of targets too long for their input, which are infinite, count 0 and have no
                      gradient

    Graves et al., ICML 2006, in the log domain: with the target extended by blanks to l' =
    (blank, l_1, blank, ..., blank),

        alpha_t[s] = log_probs_t[l'_s] + logsumexp(alpha_{t-1}[s], alpha_{t-1}[s-1],
        alpha_{t-1}[s-2] if l'_s ≠ l'_{s-2})

    and the loss is -logsumexp of the last two elements at the last step. Differentiable in every
    order. The gradient is that for log_probs as they are; torch.nn.functional.ctc_loss gives the
    one for the logits behind them.
    """
    if log_probs.ndim not in (2, 3):
        raise ShapeError(f"ctc_loss: expected log_probs (T, N, C) or (T, C), got {log_probs.shape}")
    single = log_probs.ndim == 2
    x = unsqueeze(log_probs, 1) if single else log_probs
    steps, batch, classes = x.shape
    check_index("ctc_loss: blank", np.asarray(blank), 0, classes)
    input_ends = _lengths("input_lengths", input_lengths, batch, steps, x)
    labels, target_ends = _labels(targets, target_lengths, batch, blank, x)
    check_index("ctc_loss: targets", labels.array, 0, classes)

    extended = _extended(labels, blank)  # (N, L), L = 2 S + 1
    positions = constant(x, np.arange(extended.shape[1]))
    # (N, C, T) -> (T, N, L)
    emitted = permute(_gather(permute(x, 1, 2, 0), unsqueeze(extended, 2), dim=1), 2, 0, 1)
    before = getitem(pad(extended, (2, 0), value=blank), (slice(None), slice(0, extended.shape[1])))
    may_skip = logical_and(ne(extended, blank), ne(extended, before))

    start = np.full((batch, extended.shape[1]), NEVER, x.dtype)
    start[:, :1] = 0.0
    alpha = constant(x, start)  # before the first step
    for t in range(steps):
        wide = pad(alpha, (2, 0), value=NEVER)
        skip, step, stay = (getitem(wide, (slice(None), slice(k, k + extended.shape[1]))) for k in range(3))
        moved = logsumexp(stack([stay, step, where(may_skip, skip, NEVER)]), 0)
        alpha = where(lt(t, input_ends), add(moved, getitem(emitted, t)), alpha)
    last = mul(target_ends, 2)
    losses = neg(
        logsumexp(where(logical_or(eq(positions, last), eq(positions, sub(last, 1))), alpha, NEVER), 1)
    )
    if zero_infinity:
        losses = where(isfinite(losses), losses, 0.0)
    if reduction == "mean":
        losses = div(losses, to_dtype(reshape(clip(target_ends, min=1), -1), x.dtype))
    losses = reshape(losses, ()) if single and reduction == "none" else losses
    return reduced("ctc_loss", losses, reduction)


def _lengths(name: str, lengths: Any, batch: int, most: int, like: Tensor) -> Tensor:
    """Lengths as a column (N, 1) of integers in [0, most]."""
    ends = places(f"ctc_loss: {name}", lengths, like)
    if ends.array.size != batch or ends.ndim > 1:
        raise ShapeError(f"ctc_loss: expected {name} ({batch},), got {ends.shape}")
    check_index(f"ctc_loss: {name}", ends.array, 0, most + 1)
    return reshape(ends, (batch, 1))


def _labels(targets: Any, target_lengths: Any, batch: int, blank: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (N, S) with blanks behind their ends, and their lengths (N, 1)."""
    labels = places("ctc_loss: targets", targets, like)
    if labels.ndim == 1 and batch != 1:
        labels = _padded(labels, target_lengths)
    labels = reshape(labels, (1, -1)) if labels.ndim == 1 else labels
    if labels.ndim != 2 or labels.shape[0] != batch:
        raise ShapeError(
            f"ctc_loss: expected targets ({batch}, S) or (sum(target_lengths),), got {labels.shape}"
        )
    ends = _lengths("target_lengths", target_lengths, batch, labels.shape[1], like)
    return where(lt(constant(like, np.arange(labels.shape[1])), ends), labels, blank), ends


def _padded(labels: Tensor, target_lengths: Any) -> Tensor:
    """Targets that stand one after another, as the rows of a table as wide as the longest."""
    if isinstance(target_lengths, Tensor):
        refuse_recording("ctc_loss with targets one after another")
    counts = on_host(target_lengths).reshape(-1)
    if counts.sum() != labels.shape[0]:
        raise ShapeError(f"ctc_loss: expected sum(target_lengths)={counts.sum()} targets, got {labels.shape}")
    first = np.cumsum(counts) - counts
    index = first[:, None] + np.minimum(np.arange(counts.max(initial=0)), np.maximum(counts - 1, 0)[:, None])
    if not labels.shape[0]:
        return reshape(labels, index.shape)
    return getitem(labels, constant(labels, np.minimum(index, labels.shape[0] - 1)))


def _extended(labels: Tensor, blank: int) -> Tensor:
    """(N, S) to (N, 2 S + 1): a blank before, between and behind the labels."""
    batch, length = labels.shape
    blanks = constant(labels, np.full((batch, length + 1), blank))
    pairs = stack([getitem(blanks, (slice(None), slice(0, length))), labels], 2)
    return cat([reshape(pairs, (batch, 2 * length)), getitem(blanks, (slice(None), slice(length, None)))], 1)
