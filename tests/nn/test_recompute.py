"""Activation checkpointing: the values, gradients and gradients of gradients of the
plain network, with less kept.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.engine.tape import Node

pytestmark = pytest.mark.usefixtures("reference")


def plain(function: Callable[..., Any], *inputs: Any) -> Any:
    return function(*inputs)


def block(*, dtype: Any = np.float64) -> nn.Module:
    """Everything that a second run could get wrong: batch statistics, random numbers, a layer used twice."""
    return nn.Sequential(
        nn.Linear(4, 6, dtype=dtype),
        nn.BatchNorm1d(6, dtype=dtype),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Linear(6, 4, dtype=dtype),
    )


def some(*shape: int, seed: int = 0) -> td.Tensor:
    return td.tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def compared(loss: Callable[[Any, nn.Module, td.Tensor], td.Tensor], tolerance: float = 1e-12) -> None:
    """`loss(run, model, x)`, its gradients and the buffers after it, with run = plain and = nn.checkpoint."""
    found = []
    for run in (plain, nn.checkpoint):
        td.manual_seed(1)
        model, x = block(), some(5, 4)
        value = loss(run, model, x)
        gradients = td.grad(value, [x, *model.parameters()])
        found.append([value.detach(), *gradients, *model.buffers()])
        counter = td.noise_generator.state_dict()["counter"]
        found[-1].append(td.tensor(counter))
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance)


def test_first_order() -> None:
    compared(lambda run, model, x: run(model, run(model, x * x)).sin().sum())


def test_second_order() -> None:
    def penalized(run: Any, model: nn.Module, x: td.Tensor) -> td.Tensor:
        value = run(model, run(model, x * x)).sin().sum()
        (g,) = td.grad(value, x, create_graph=True)
        return value + (g * g).sum()

    compared(penalized)


def test_third_order() -> None:
    def penalized(run: Any, model: nn.Module, x: td.Tensor) -> td.Tensor:
        value = run(model, x * x).sin().sum()
        for _ in range(2):
            (g,) = td.grad(value, x, create_graph=True)
            value = value + (g * g).sum()
        return value

    compared(penalized, 1e-10)


def test_checkpoints_in_checkpoints() -> None:
    def penalized(run: Any, model: nn.Module, x: td.Tensor) -> td.Tensor:
        value = run(lambda x: run(model, run(model, x).tanh()), x).square().sum()
        (g,) = td.grad(value, x, create_graph=True)
        return value + (g * g).sum()

    compared(penalized, 1e-11)


def test_backward_and_what_is_captured() -> None:
    """Gradients reach leaves and results from outside, once, through their hooks,
    and not by way of the inputs.
    """
    found = []
    for run in (plain, nn.checkpoint):
        p, x = some(3, seed=1), some(3)
        seen: list[int] = []
        p.register_hook(lambda g, seen=seen: seen.append(1) or g * 2)
        outside, h = p * p, x * p  # the input depends on p too

        def used(
            h: td.Tensor, count: int, p: td.Tensor = p, outside: td.Tensor = outside
        ) -> tuple[td.Tensor, ...]:
            return h * outside * count, p, h, outside.sin() + p

        outputs = run(used, h, 3)
        total = sum((y * y).sum() for y in outputs)
        (g,) = td.grad(total, h, create_graph=True)
        (total + (g * g).sum()).backward()
        assert seen == [1]
        found.append([*(y.detach() for y in outputs), g.detach(), p.grad.detach(), x.grad.detach()])
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-13)


def test_checked_against_differences() -> None:
    model = block().eval()
    assert td.gradcheck(lambda x: nn.checkpoint(model, x).sin(), some(2, 4), 3)


def test_outputs_without_a_gradient() -> None:
    x = some(4)
    y, place, constant = nn.checkpoint(lambda x: (x * 2, x.argmax(), td.ones(2)), x)
    assert (y.requires_grad, place.requires_grad, constant.requires_grad) == (True, False, False)
    np.testing.assert_array_equal(td.grad(y.sum(), x)[0].numpy(), 2)
    assert nn.checkpoint(lambda x: x + 1, x.detach()).node is None
    with td.no_grad():
        assert nn.checkpoint(block(), some(2, 4)).node is None


def kept(depth: int, run: Any) -> int:
    """How many activations a forward through `depth` blocks of four layers leaves alive."""
    layers = [
        nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4))) for _ in range(depth)
    ]
    x = td.randn(128, 8).requires_grad_()
    gc.collect()
    before = {id(node) for node in gc.get_objects() if type(node) is Node}
    h = x
    for layer in layers:
        h = run(layer, h)
    activations: set[int] = set()
    for node in gc.get_objects():
        if type(node) is Node and id(node) not in before:
            for edge in (*node.edges, *node.results.values()):
                if edge is not None and edge.array is not None and edge.shape == x.shape:
                    activations.add(edge.array.__array_interface__["data"][0])
    td.grad(h.sum(), x)
    return len(activations)


def test_one_activation_a_block_is_kept() -> None:
    assert kept(6, plain) - kept(2, plain) == 16
    assert kept(6, nn.checkpoint) - kept(2, nn.checkpoint) == 4


def test_nothing_is_left_behind() -> None:
    model, x = block(), some(5, 4)

    def step() -> None:
        value = nn.checkpoint(model, x * x).sum()
        (g,) = td.grad(value, x, create_graph=True)
        (value + (g * g).sum()).backward()
        x.grad = None
        model.zero_grad()

    gc.collect()
    gc.disable()
    try:
        counts = []
        for _ in range(6):
            step()
            counts.append(sum(type(thing) in (td.Tensor, Node) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert counts[1:] == counts[1:2] * 5


def test_recorded() -> None:
    td.manual_seed(3)
    model = block(dtype=np.float32)
    generator = td.Generator(5)

    def step(x: td.Tensor) -> tuple[td.Tensor, ...]:
        x = x.detach().requires_grad_()
        with td.random_from(generator):
            value = nn.checkpoint(model, x).square().sum()
        (g,) = td.grad(value, x, create_graph=True)
        return (
            value.detach(),
            *(y.detach() for y in td.grad(value + (g * g).sum(), [x, *model.parameters()])),
        )

    state = {name: np.array(value) for name, value in model.state_dict().items()}
    runs = []
    for run in (step, td.record(step)):
        model.load_state_dict(state)
        generator.manual_seed(5)
        runs.append([[np.array(y) for y in run(some(5, 4, seed=k).detach().float())] for k in range(3)])
    for eager, recorded in zip(*runs, strict=True):
        for a, b in zip(eager, recorded, strict=True):
            np.testing.assert_array_equal(a, b)


def test_refused() -> None:
    x, w = some(3), some(3, seed=1)
    with pytest.raises(
        TypeError, match="checkpoint: expected a function that gives a tensor or a tuple of them, got int"
    ):
        nn.checkpoint(lambda x: 3, x)
    y = nn.checkpoint(lambda x: x * w, x)
    with td.no_grad():
        w[0] = 5.0
    with pytest.raises(
        td.GraphError, match=r"checkpoint: expected its recorded array .* it was written before the backward"
    ):
        td.grad(y.sum(), x)
    others = iter([some(3, seed=2), some(3, seed=3)])
    y = nn.checkpoint(lambda x: x * next(others), x)
    with pytest.raises(
        td.GraphError, match="checkpoint: expected a function that uses the same tensors again, got 1 others"
    ):
        td.grad(y.sum(), x)
    td.manual_seed(0)
    y = nn.checkpoint(lambda x: td.dropout(x, 0.5), x)
    td.manual_seed(1)
    with pytest.raises(td.GraphError, match=r"checkpoint: expected its recorded array \(2,\) uint64"):
        td.grad(y.sum(), x)
