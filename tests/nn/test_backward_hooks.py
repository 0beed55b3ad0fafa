"""register_full_backward_hook beside PyTorch: what hooks see, what they change, when they are gone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl import nn

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((4, 3)), RANDOM.standard_normal((4, 3))
pytestmark = pytest.mark.usefixtures("reference")


def pair(t: Any) -> Any:
    """A module of two inputs and two outputs, of which the second may stay unused."""

    class Pair(t.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x * y, t.sin(x)

    return Pair()


def watched(t: Any, change: Any = None, unused: bool = False) -> list[np.ndarray]:
    seen: list[Any] = []

    def hook(module: Any, grad_input: Any, grad_output: Any) -> Any:
        seen.extend(g for g in (*grad_input, *grad_output) if g is not None)
        return change and change(grad_input)

    x, y = (t.tensor(a, requires_grad=True) for a in (X, Y))
    module = pair(t)
    handle = module.register_full_backward_hook(hook)
    a, b = module(x, y)
    (a.sum() if unused else (a * b).sum()).backward()
    handle.remove()
    module(x, y)[0].sum().backward()  # not seen any more
    return [np.asarray(g.detach().numpy()) for g in (*seen, x.grad, y.grad)]


@pytest.mark.parametrize("change", [None, lambda g: tuple(2 * x for x in g), lambda g: (g[1], g[0])])
def test_what_hooks_see_and_change(change: Any) -> None:
    torch = pytest.importorskip("torch")
    for ours, theirs in zip(watched(td, change), watched(torch, change), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_an_output_that_is_not_used() -> None:
    found = watched(td, unused=True)
    np.testing.assert_allclose(found[0], Y)
    np.testing.assert_allclose(found[-2], 2 * Y)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_layers_and_inputs_without_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    weight = RANDOM.standard_normal((2, 3))
    seen: dict[str, list[Any]] = {}
    for name, t in (("ours", td), ("theirs", torch)):
        layer = t.nn.Linear(
            3, 2, bias=False, **({"dtype": np.float64} if t is td else {"dtype": torch.float64})
        )
        layer.load_state_dict({"weight": weight if t is td else torch.tensor(weight)})
        calls = seen.setdefault(name, [])
        layer.register_full_backward_hook(lambda m, gi, go, calls=calls: calls.append((gi, go)))
        (layer(t.tensor(X)) ** 2).sum().backward()
        calls.append(layer.weight.grad)
    ours, theirs = seen["ours"], seen["theirs"]
    assert ours[0][0] == theirs[0][0] == (None,)
    np.testing.assert_allclose(ours[0][1][0].numpy(), theirs[0][1][0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours[1].numpy(), theirs[1].numpy(), rtol=1e-12)


def test_second_order_and_no_grad() -> None:
    module, calls = nn.Tanh(), []
    module.register_full_backward_hook(lambda m, gi, go: calls.append(len(gi)))
    x = td.tensor(X, requires_grad=True)
    assert td.gradcheck(module, [x], order=2)
    assert set(calls) == {1}
    calls.clear()
    with td.no_grad():
        module(x)
    assert not calls


def test_refused() -> None:
    module = nn.Tanh()
    module.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    x = td.tensor(X, requires_grad=True)
    with pytest.raises(
        GraphError, match="register_full_backward_hook: expected 1 gradients of Tanh's inputs"
    ):
        module(x).sum().backward()
    with pytest.raises(GraphError, match="register_full_backward_hook: expected an eager step"):
        td.record(lambda x: module(x))(x)
