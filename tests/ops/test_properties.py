"""Reductions, scans, pads, norms and indexing over random shapes and settings,
against PyTorch to second order.

Convolutions, pooling, unfolding, resizing and NumPy's indexing have such tests in their own files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import tinydl as td

torch = pytest.importorskip("torch")
F = torch.nn.functional
SEVERAL = ("sum", "mean", "amax", "amin", "logsumexp", "var", "std")
ONE = ("prod", "cumsum", "cumprod", "max", "min", "softmax", "log_softmax", "sort", "flip", "unbind")


def filled(shape: tuple[int, ...]) -> np.ndarray:
    """Different values, none of them 0."""
    x = np.random.default_rng(shape).permutation(np.arange(1.0, 1 + np.prod(shape, dtype=int))) / 7
    return np.where(np.arange(x.size) % 3, x, -x).reshape(shape)


def backends() -> st.SearchStrategy[str]:
    return st.sampled_from(["reference", "cpu"])


@settings(max_examples=40, deadline=None)
@given(backends(), array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), st.data())
def test_reductions(backend: str, shape: tuple[int, ...], data: Any) -> None:
    name = data.draw(st.sampled_from(SEVERAL))
    dims = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    keepdim = data.draw(st.booleans())
    count = int(np.prod([shape[d] for d in dims]))
    if name in ("amax", "amin") and 0 in [shape[d] for d in dims]:
        return  # refused
    if name in ("var", "std", "logsumexp") and (count < 2 or 0 in shape):
        return  # NaN, with a warning of PyTorch's
    dim = tuple(d - data.draw(st.sampled_from([0, len(shape)])) for d in dims)
    with td.backend(backend):
        assert_agree(
            lambda x: getattr(td, name)(x, dim=dim, keepdim=keepdim),
            lambda x: getattr(torch, name)(x, dim=dim, keepdim=keepdim),
            [filled(shape)],
        )


@settings(max_examples=40, deadline=None)
@given(backends(), array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), st.data())
def test_along_one_dim(backend: str, shape: tuple[int, ...], data: Any) -> None:
    name = data.draw(st.sampled_from(ONE))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    if shape[dim] == 0 and name in ("max", "min", "unbind"):
        return
    argument = (dim,) if name != "flip" else ((dim,),)
    with td.backend(backend):
        assert_agree(
            lambda x: getattr(td, name)(x, *argument),
            lambda x: getattr(torch, name)(x, *argument),
            [filled(shape)],
        )


@settings(max_examples=30, deadline=None)
@given(backends(), st.sampled_from(["constant", "reflect", "replicate", "circular"]), st.data())
def test_pad(backend: str, mode: str, data: Any) -> None:
    axes = data.draw(st.integers(1, 3))
    spatial = data.draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes))
    pads: list[int] = []
    for n in reversed(spatial):
        limit = {"reflect": n - 1, "circular": n}.get(mode, 3)
        pads += [data.draw(st.integers(-1 if n > 2 and mode == "constant" else 0, limit)) for _ in range(2)]
    value = data.draw(st.sampled_from([None, 0.5])) if mode == "constant" else None
    with td.backend(backend):
        assert_agree(
            lambda x: td.pad(x, pads, mode, value),
            lambda x: F.pad(x, pads, mode, value),
            [filled((2, 1, *spatial))],
        )


@settings(max_examples=30, deadline=None)
@given(backends(), st.sampled_from(["batch", "instance", "group", "layer", "rms"]), st.booleans(), st.data())
def test_norms(backend: str, kind: str, affine: bool, data: Any) -> None:
    spatial = data.draw(st.lists(st.integers(1, 4), max_size=3))
    groups, each, batch = (data.draw(st.integers(1, 3)) for _ in range(3))
    shape = (batch, groups * each, *spatial)
    room = int(np.prod(shape[2:]))
    if (kind in ("batch", "group") and batch * room < 2) or (
        kind == "instance" and (not spatial or room < 2)
    ):
        return  # refused
    last = shape[data.draw(st.integers(1, len(shape) - 1)) :]
    size = last if kind in ("layer", "rms") else shape[1:2]
    parameters = [filled(size), filled(size)[::-1].copy()][: (1 if kind == "rms" else 2) if affine else 0]

    def call(room: Any) -> Any:
        return {
            "batch": lambda x, *p: room.batch_norm(x, None, None, *(p or (None, None)), True),
            "instance": lambda x, *p: room.instance_norm(x, None, None, *p),
            "group": lambda x, *p: room.group_norm(x, groups, *p),
            "layer": lambda x, *p: room.layer_norm(x, last, *p),
            "rms": lambda x, *p: room.rms_norm(x, last, *p, eps=1e-3),
        }[kind]

    with td.backend(backend):
        assert_agree(call(td), call(F), [filled(shape), *parameters], tolerance=1e-8)


@settings(max_examples=30, deadline=None)
@given(backends(), st.sampled_from(["gather", "scatter", "scatter_add", "index_select"]), st.data())
def test_gather_and_scatter(backend: str, name: str, data: Any) -> None:
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    at = dim % len(shape)
    random = np.random.default_rng(shape)
    if name == "index_select":
        index = random.integers(0, shape[at], data.draw(st.integers(0, 5)))
    else:
        most = shape[at] if name == "scatter" else 5
        part = tuple(data.draw(st.integers(0, most if d == at else n)) for d, n in enumerate(shape))
        places = np.broadcast_to(
            np.expand_dims(np.arange(shape[at]), [d for d in range(len(shape)) if d != at]), shape
        )
        chosen = random.permuted(places, axis=at)[tuple(slice(n) for n in part)]  # each place once
        index = chosen.copy() if name == "scatter" else random.integers(0, shape[at], part)
    arrays = [filled(shape), index, *[filled(index.shape)] * name.startswith("scatter")]
    with td.backend(backend):
        assert_agree(
            lambda x, i, *s: getattr(td, name)(x, dim, i, *s),
            lambda x, i, *s: getattr(torch, name)(x, dim, i, *s),
            arrays,
        )
