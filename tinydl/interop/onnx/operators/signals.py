"""Signals and their frequencies. A transform is a product with cosines and sines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....engine.core import Tensor
from . import operations as td
from .elementwise import dtype_of
from .table import Node, Value, operator, tensor, value


@operator("DFT", host=(1, 2))
def dft(node: Node, x: Tensor, length: Any = None, axis: Any = None) -> Tensor:
    """x (..., 1) real or (..., 2) complex; the axis is an attribute below opset 20."""
    at = int(node.get("axis", 1) if node.opset < 20 else -2 if axis is None else np.ravel(axis)[0])
    size = None if length is None else int(np.ravel(length)[0])
    return _transformed(node, x, at % x.ndim, size, node.get("inverse", 0))


def _transformed(node: Node, x: Tensor, axis: int, size: int | None, inverse: bool) -> Tensor:
    onesided, given = node.get("onesided", 0), x.shape[axis]
    whole = inverse and onesided  # half of the frequencies, and a real signal from them
    size = size or (2 * (given - 1) if whole else given)
    kept = min(given, size // 2 + 1 if whole else size)
    places = np.arange(size // 2 + 1 if onesided and not inverse else size)
    turns = 2 * np.pi * np.outer(np.arange(kept), places) / size
    share = np.full((kept, 1), 1.0)
    if inverse:
        share /= size
    if whole:  # the frequencies that are left out are conjugates of these
        share[1 : (size + 1) // 2] *= 2
    cos, sin = (tensor((share * f(turns)).astype(x.dtype), x) for f in (np.cos, np.sin))
    lines = td.movedim(x, axis, -1)[..., :kept]
    real, imaginary = lines[..., 0, :], lines[..., 1, :] if x.shape[-1] == 2 else None
    sign = 1.0 if inverse else -1.0
    parts = [td.matmul(real, cos), td.mul(td.matmul(real, sin), sign)]
    if imaginary is not None:
        parts[0] = td.sub(parts[0], td.mul(td.matmul(imaginary, sin), sign))
        parts[1] = td.add(parts[1], td.matmul(imaginary, cos))
    y = td.stack(parts[:1] if whole else parts, -1)  # (..., places, parts), the last dim of x gone
    return td.movedim(y, -2, axis)


@operator("STFT", host=(1, 3))
def stft(node: Node, x: Tensor, step: Any, window: Value = None, length: Any = None) -> Tensor:
    """x (N, samples, 1 or 2) in frames: (N, frames, frequencies, 2)."""
    hop = int(np.ravel(step)[0])
    size = (
        int(np.ravel(length)[0]) if length is not None else x.shape[1] if window is None else window.shape[0]
    )
    starts = np.arange(1 + (x.shape[1] - size) // hop) * hop
    places = (starts[:, None] + np.arange(size)).ravel()
    frames = td.index_select(x, 1, tensor(places, x)).reshape((x.shape[0], len(starts), size, x.shape[2]))
    frames = frames if window is None else td.mul(frames, window.reshape((1, 1, -1, 1)))
    settings = {"onesided": node.get("onesided", 1)}
    return _transformed(Node(node.kind, node.name, (), (), settings), frames, 2, None, False)


@operator("MelWeightMatrix", arrays=True, host=(0, 1, 2, 3, 4))
def mel_weight_matrix(node: Node, bins: Any, length: Any, rate: Any, low: Any, high: Any) -> Value:
    """Triangles over the frequencies, evenly apart in mel."""
    count, size = int(bins), int(length)
    first, last = (2595 * np.log10(1 + float(edge) / 700) for edge in (low, high))
    mels = first + np.arange(count + 2) * (last - first) / (count + 2)
    edges = ((size + 1) * (700 * (10 ** (mels / 2595) - 1)) // int(rate)).astype(np.int64)
    matrix, places = np.zeros((size // 2 + 1, count)), np.arange(size // 2 + 1)
    for i, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising = (places - a) / (b - a) if b > a else (places == b).astype(float)
        falling = (c - places) / (c - b) if c > b else np.where(places == b, rising, 0)
        inside = (places >= a) & (places <= max(b, c - 1))
        matrix[:, i] = np.where(inside, np.where((places < b) | (c == b), rising, falling), 0)
    return value(matrix.astype(dtype_of(node, node.get("output_datatype", 1))))
