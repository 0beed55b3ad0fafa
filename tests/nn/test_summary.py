"""The table of layers: shapes, parameters and FLOPs counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import nn


def test_lenet_counted_by_hand() -> None:
    summary = nn.summary(nn.models.LeNet("batchnorm"), (2, 1, 28, 28))
    assert [tuple(row) for row in summary.rows] == [
        ("conv1", "Conv2d", (2, 6, 28, 28), 156, 2 * (2 * 6 * 28 * 28) * 25),
        ("conv2", "Conv2d", (2, 16, 10, 10), 2_416, 2 * (2 * 16 * 10 * 10) * 150),
        ("conv3", "Conv2d", (2, 120, 1, 1), 48_120, 2 * (2 * 120) * 400),
        ("fc1", "Linear", (2, 84), 10_164, 2 * (2 * 84) * 120),
        ("between", "BatchNorm1d", (2, 84), 168, 0),
        ("fc2", "Linear", (2, 10), 850, 2 * (2 * 10) * 84),
    ]
    assert (summary.parameters, summary.trainable) == (61_874, 61_874)
    assert summary.flops == 2 * 833_040
    assert summary.multiply_adds == 833_040


def test_groups_sequences_and_dtype() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=4, padding=1), nn.MaxPool2d(2, return_indices=True)
    ).double()
    rows = nn.summary(model, (1, 4, 6, 6)).rows
    assert rows[0].flops == 2 * (8 * 36) * 9
    assert rows[1].output == [(1, 8, 3, 3)] * 2
    assert nn.summary(nn.Linear(3, 5), (2, 7, 3)).rows == [
        ("(model)", "Linear", (2, 7, 5), 20, 2 * (2 * 7 * 5) * 3)
    ]


def test_frozen_and_shared_parameters_count_once() -> None:
    first = nn.Linear(3, 3)
    model = nn.Sequential(first, nn.ReLU(), first, nn.Linear(3, 1))
    first.requires_grad_(False)
    summary = nn.summary(model, (1, 3))
    assert [(row.path, row.parameters) for row in summary.rows] == [("0", 12), ("1", 0), ("0", 0), ("3", 4)]
    assert (summary.parameters, summary.trainable) == (16, 4)


def test_it_prints_as_a_table() -> None:
    assert str(nn.summary(nn.Sequential(nn.Linear(30, 50), nn.ReLU()), (1, 30))).splitlines() == [
        "layer  type    output           parameters  FLOPs",
        "-------------------------------------------------",
        "0      Linear  (1, 50)               1,550  3,000",
        "1      ReLU    (1, 50)                   0      0",
        "-------------------------------------------------",
        "total          1,550 trainable       1,550  3,000",
    ]


def test_it_leaves_no_trace() -> None:
    generator = td.Generator(4)
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Dropout(0.5, generator=generator)
    )
    model[1].eval()
    model(td.randn(5, 3)).sum().backward()

    def everything() -> list[Any]:
        arrays = [np.array(t) for t in model.state_dict().values()] + [
            np.array(p.grad) for p in model.parameters()
        ]
        streams = [g.state_dict() for g in (generator, td.default_generator)]
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
        return [[a.tobytes() for a in arrays], streams, [m.training for m in model.modules()], hooks]

    before = everything()
    nn.summary(model, (1, 3))
    assert everything() == before
    with pytest.raises(td.ShapeError, match=r"^0: linear: expected input"):
        nn.summary(model, (1, 4))
    assert everything() == before
