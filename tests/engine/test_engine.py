"""The engine: tape, versions, hooks, gradients of gradients, memory, scopes. Values and derivatives of
operations are the catalogue's; here it is what happens between them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import DeviceError, DtypeError, GraphError

import tinydl as td
from tinydl.engine.core import Primitive, Tensor
from tinydl.engine.tape import Node
from tinydl.ops.update import assign

pytestmark = pytest.mark.usefixtures("reference")


def leaf(*values: float) -> Tensor:
    return td.tensor(list(values), requires_grad=True)


def live(kind: type) -> int:
    return sum(type(obj) is kind for obj in gc.get_objects())


# ---- Walks


@pytest.mark.parametrize("length", [20_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_a_long_chain_is_walked_without_recursion(length: int) -> None:
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y + 1.0
    y.backward(retain_graph=True)
    assert x.grad.item() == 1.0
    del y  # the graph dies without recursion too


def test_a_diamond_of_shared_results_is_walked_once() -> None:
    x = leaf(2.0)
    y = x
    for _ in range(60):  # 2⁶⁰ paths
        y = (y + y) * 0.5
    y.backward()
    assert x.grad.item() == 1.0


def test_gradients_of_gradients() -> None:
    x = leaf(0.5, 2.0)
    y = td.sum(x * x * x * x)
    expected = [4 * x.numpy() ** 3, 12 * x.numpy() ** 2, 24 * x.numpy(), np.full(2, 24.0)]
    for value in expected:
        (g,) = td.grad(y, x, create_graph=True)
        np.testing.assert_allclose(g.numpy(), value)
        y = td.sum(g)


def test_several_outputs_with_grad_outputs() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0)
    outputs = [x * y, td.sum(x) * 2.0, y * y]
    gx, gy = td.grad(outputs, [x, y], [td.tensor([1.0, 10.0]), td.tensor(1.0), None])
    assert gx.tolist() == [3.0 + 2.0, 30.0 + 2.0]
    assert gy.tolist() == [1.0 + 20.0 + 6.0]


def test_gradient_of_an_intermediate_result() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3.0
    y = td.sum(h * h)
    gh, gx = td.grad(y, [h, x])
    assert gh.tolist() == [6.0, 12.0]
    assert gx.tolist() == [18.0, 36.0]
    assert x.grad is None


def test_an_output_that_is_the_input() -> None:
    x = leaf(1.0, 2.0)
    (g,) = td.grad(x, x, td.tensor([5.0, 6.0]))
    assert g.tolist() == [5.0, 6.0]


def test_only_what_is_asked_for_is_computed() -> None:
    calls = []
    probe = Primitive(lambda a, b: a * b, elementwise=True)
    probe.rule(a=lambda g, b: calls.append("a") or g * b, b=lambda g, a: calls.append("b") or g * a)
    x, w = leaf(2.0), leaf(3.0)
    td.grad(probe(x, w), w)
    probe(x, w.detach()).backward()
    assert calls == ["b", "a"]


# ---- Misuse


def test_a_write_to_a_recorded_array_is_a_version_error() -> None:
    shared = np.array([1.0, 2.0], np.float32)
    writes: list[Callable[[Tensor], Any]] = [
        lambda x: assign(x, 0.0),
        lambda x: x.__setitem__(0, 5.0),
        lambda x: x[1:].__setitem__(0, 5.0),  # through a view
        lambda x: x.reshape(2, 1).T.__setitem__((0, 0), 5.0),
        lambda x: x.detach().__setitem__(0, 5.0),
        lambda x: assign(x.detach()[:1], 0.0),
    ]
    for write in writes:
        for x in (leaf(1.0, 2.0), td.from_numpy(shared).requires_grad_()):
            y = td.sum(x * x)
            with td.no_grad():
                write(x)
            with pytest.raises(
                GraphError,
                match=r"mul: expected its recorded array \(2,\) float32 at version 0, got version 1",
            ):
                y.backward()


def test_a_write_to_a_result_that_a_rule_reads_is_a_version_error() -> None:
    x = leaf(1.0)
    y = td.exp(x)
    with td.no_grad():
        y.detach()[0] = 3.0
    with pytest.raises(GraphError, match="exp: expected its recorded array"):
        y.backward()


def test_a_write_that_no_rule_reads_is_allowed() -> None:
    x = leaf(1.0, 2.0)
    y = td.sum(x + 1.0)
    with td.no_grad():
        x[0] = 7.0
    y.backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_writes_to_what_requires_grad_need_no_grad() -> None:
    x = leaf(1.0)
    with pytest.raises(GraphError, match="indexing assignment: expected no_grad"):
        x[0] = 2.0
    with pytest.raises(GraphError, match="assign: expected no_grad around a write"):
        assign(x, 2.0)


def test_a_graph_is_freed_by_backward() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8.0
    with pytest.raises(GraphError, match=r"mul: expected a live graph, .*retain_graph=True keeps it"):
        y.backward()


def test_an_unused_input() -> None:
    x, unused = leaf(1.0), leaf(1.0, 2.0)
    with pytest.raises(
        GraphError, match=r"grad: expected outputs that depend on input 1 \(2,\), .*allow_unused"
    ):
        td.grad(x * x, [x, unused])
    gx, none = td.grad(x * x, [x, unused], allow_unused=True)
    assert gx.item() == 2.0
    assert none is None


def test_seeds() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(
        GraphError, match=r"backward: expected a scalar output or a seed gradient, got .*\(2,\) and no seed"
    ):
        (x * x).backward()
    with pytest.raises(GraphError, match=r"backward: expected a seed of \(2,\) float32, got \(3,\) float32"):
        (x * x).backward(td.ones(3))
    with pytest.raises(GraphError, match=r"grad: expected one grad_output per output \(2\), got 1"):
        td.grad([x * x, x + x], x, [td.ones(2)])
    (x * x).backward(td.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 40.0]


def test_what_does_not_require_grad() -> None:
    x = leaf(1.0)
    with pytest.raises(GraphError, match="backward: expected an output that requires grad"):
        td.ones(1).backward()
    with pytest.raises(GraphError, match="grad: expected inputs that require grad, got input 1"):
        td.grad(x * x, [x, td.ones(1)])
    with pytest.raises(GraphError, match="requires_grad: expected a leaf"):
        (x * x).requires_grad = False
    with pytest.raises(DtypeError, match="requires_grad: expected a floating dtype, got int64"):
        td.tensor([1], requires_grad=True)
    with pytest.raises(GraphError, match="expected a tensor that requires grad"):
        td.ones(1).register_hook(print)


def test_devices_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(np.ndarray):
        """Stands in for an array of another device."""

    monkeypatch.setattr(
        dispatch, "device_of", lambda array: "cuda" if isinstance(array, Elsewhere) else "cpu"
    )
    far = Tensor(np.ones(2, np.float32))
    far.array = far.array.view(Elsewhere)
    message = "mul: expected all inputs on one device, got input on cpu, other on cuda"
    with pytest.raises(DeviceError, match=message):
        td.ones(2) * far
    with pytest.raises(
        DeviceError, match=r"numpy: expected a tensor on cpu, got one on cuda: use \.cpu\(\) first"
    ):
        far.numpy()


def test_dtypes_are_refused_by_name() -> None:
    refused = (
        (np.ones(2, np.float16), "float16"),
        (np.ones(2, complex), "complex128"),
        (np.array(["a"]), "(U1|str32)"),
    )
    for array, name in refused:
        for make in (td.tensor, td.from_numpy):
            with pytest.raises(DtypeError, match=rf"\w+: expected .+, got .*{name}"):
                make(array)
    for dtype in ("float16", "complex64"):
        with pytest.raises(DtypeError, match=dtype):
            td.zeros(2, dtype=dtype)
        with pytest.raises(DtypeError, match=dtype):
            td.ones(2).to(dtype)
    with pytest.raises(
        DtypeError, match="mul: expected float32, float64, an integer dtype or bool, got float16"
    ):
        td.ones(2) * np.ones(2, np.float16)
    with pytest.raises(DtypeError, match="mul: expected a tensor, an array or a number, got str"):
        td.ones(2) * "two"


@pytest.mark.parametrize(
    "call",
    [
        lambda i: td.softmax(i),
        lambda i: td.log_softmax(i),
        lambda i: td.cross_entropy(i, i[:, 0]),
        lambda i: td.batch_norm(i, None, None, training=True),
        lambda i: td.dropout(i),
        lambda i: td.conv2d(i[None, None], i[None, None]),
        lambda i: td.max_pool2d(i[None, None], 2),
        lambda i: td.avg_pool2d(i[None, None], 2),
    ],
)
def test_integers_are_refused_where_floating_point_is_needed(call: Callable[[Tensor], Any]) -> None:
    with pytest.raises(DtypeError, match="expected float32 or float64, got int64"):
        call(td.tensor([[1, 2], [0, 1]]))


def test_a_missing_rule_is_named() -> None:
    probe = Primitive(lambda a, b: a * b, elementwise=True)
    probe.rule(a=lambda g, b: g * b)
    x = leaf(1.0)
    probe(x, 2.0).backward()
    with pytest.raises(NotImplementedError, match="no derivative with respect to 'b'"):
        probe(2.0, x).backward()


def test_a_rule_must_give_the_shape_and_dtype_of_its_input() -> None:
    wrong = Primitive(lambda x: x.sum(keepdims=True))
    wrong.rule(x=lambda g: g)
    x = leaf(1.0, 2.0)
    with pytest.raises(
        GraphError, match=r"expected its rule to give \(2,\) float32 for 'x', got \(1,\) float32"
    ):
        wrong(x).backward()


def test_a_leaf_that_is_gone_costs_nothing() -> None:
    """What only it would need is not computed; results on the way to it that are
    watched get their gradients.
    """
    asked = []
    probe = Primitive(lambda a: a * 2.0, elementwise=True)
    probe.rule(a=lambda g: asked.append(1) or g * 2.0)
    kept = leaf(3.0)
    (probe(leaf(5.0)) * kept).backward()
    assert not asked
    assert kept.grad.item() == 10.0
    watched = probe(leaf(5.0))
    watched.retain_grad()
    probe(watched).backward()
    assert len(asked) == 1
    assert watched.grad.item() == 2.0
    seen, gone = [], leaf(5.0)
    gone.register_hook(seen.append)
    y = probe(gone)
    del gone
    y.backward()
    assert len(asked) == 2
    assert seen[0].item() == 2.0


# ---- Hooks, .grad


def test_hooks_see_and_replace_complete_gradients() -> None:
    x = leaf(1.0, 2.0)
    h = x * 1.0
    seen: list[list[float]] = []
    remove = h.register_hook(lambda g: seen.append(g.tolist()) or g * 10.0)
    leaf_hook = x.register_hook(lambda g: seen.append(g.tolist()))
    td.sum(h + h).backward(retain_graph=True)
    assert seen == [[2.0, 2.0], [20.0, 20.0]]
    assert x.grad.tolist() == [20.0, 20.0]
    remove()
    leaf_hook()
    leaf_hook()  # again is harmless
    td.sum(h * 1.0).backward()
    assert len(seen) == 2
    assert x.grad.tolist() == [21.0, 21.0]


def test_hooks_count_in_grad_too() -> None:
    x = leaf(1.0)
    h = x * 2.0
    h.register_hook(lambda g: g * 5.0)
    x.register_hook(lambda g: g + 1.0)
    gh, gx = td.grad(td.sum(h), [h, x])
    assert (gh.item(), gx.item()) == (5.0, 11.0)


def test_retain_grad() -> None:
    x = leaf(1.0, 2.0)
    h = x * 2.0
    h.retain_grad()
    td.sum(h * h).backward()
    assert h.grad.tolist() == [4.0, 8.0]
    assert x.grad.tolist() == [8.0, 16.0]


def test_grad_adds_up() -> None:
    x = leaf(1.0)
    (x * 2.0).backward()
    first = x.grad
    (x * 3.0).backward()
    assert x.grad.item() == 5.0
    assert first.item() == 2.0  # an older .grad is not written
    x.grad = None
    (x * 3.0).backward()
    assert x.grad.item() == 3.0
    with pytest.raises(GraphError, match=r"grad: expected \(1,\) float32, got \(2,\) float32"):
        x.grad = td.ones(2)


def test_no_two_gradients_share_memory() -> None:
    a, b, seed = leaf(1.0, 2.0), leaf(3.0, 4.0), td.ones(2)
    (a + b).backward(seed)
    arrays = [a.grad.array, b.grad.array, seed.array]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(arrays) for q in arrays[:i])
    big = td.zeros(3, 2, requires_grad=True)
    td.sum(big).backward()
    assert big.grad.array.flags.writeable
    assert big.grad.array.flags.c_contiguous


def test_create_graph_leaves_a_differentiable_grad() -> None:
    x = leaf(3.0)
    (x * x * x).backward(create_graph=True)
    (g,) = td.grad(x.grad, x)
    assert g.item() == 18.0


# ---- Memory


def penalty_steps(n: int) -> tuple[int, int]:
    """(tensors, nodes) alive after n steps with a gradient penalty."""
    w, x = td.ones(3, 2, requires_grad=True), td.ones(4, 3, requires_grad=True)
    for _ in range(n):
        loss = td.sum(td.tanh(x @ w))
        (g,) = td.grad(loss, x, create_graph=True)
        # .grad carries a graph that leads back to its own leaf
        (loss + td.sum(g * g)).backward(create_graph=True)
        with td.no_grad():
            assign(w, w - 0.01 * w.grad)
        w.grad = x.grad = None
    return live(Tensor), live(Node)


@pytest.mark.parametrize("steps", [1_000, pytest.param(10_000, marks=pytest.mark.full)])
def test_nothing_is_left_of_penalty_steps(steps: int) -> None:
    gc.collect()
    gc.disable()
    try:
        after_100 = penalty_steps(100)
        after_all = penalty_steps(steps)
    finally:
        gc.enable()
    assert after_all == after_100


def test_a_graph_dies_with_its_last_tensor() -> None:
    gc.collect()
    gc.disable()
    try:
        before = live(Node)
        x = leaf(1.0)
        y = td.sum(x * x)
        y.backward(create_graph=True)
        assert live(Node) > before
        del y
        x.grad = None
        assert live(Node) == before
    finally:
        gc.enable()


def test_the_tape_keeps_what_rules_name_and_nothing_else() -> None:
    x = leaf(1.0, 2.0)
    kept = {
        name: [e.array is not None for e in y.node.edges]
        for name, y in {"add": x + x, "mul": x * x, "exp": td.exp(x)}.items()
    }
    assert kept == {"add": [False, False], "mul": [True, True], "exp": [False]}
    assert (x * 2.0).node.edges[0].array is None  # the gradient of the number is not needed


# ---- Scopes


def test_no_grad_and_enable_grad_as_scopes_and_decorators() -> None:
    x = leaf(1.0)
    with td.no_grad():
        assert not (x * x).requires_grad
        with td.enable_grad():
            assert (x * x).requires_grad
    off, on = td.no_grad()(lambda: x * x), td.enable_grad()(lambda: x * x)
    for _ in range(2):
        assert not off().requires_grad
        with td.no_grad():
            assert on().requires_grad
        assert (x * x).requires_grad
    with pytest.raises(ZeroDivisionError), td.no_grad():
        1 / 0  # noqa: B018
    assert (x * x).requires_grad


def test_backward_runs_where_forward_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node remembers the backend of its forward."""
    backends: list[str | None] = []
    probe = Primitive(lambda x: x * 2, elementwise=True)
    probe.rule(x=lambda g: backends.append(dispatch.override()) or g * 2.0)
    x = leaf(1.0)
    with td.backend("reference"):
        y = probe(x)
    with td.backend("cpu"):
        z = probe(y)
        with td.backend(None):
            w = probe(z)
            w.backward()
    assert backends == [None, "cpu", "reference"]


def test_detach_leaves_the_tape() -> None:
    x = leaf(2.0)
    y = x * x
    (y.detach() * x).backward()
    assert x.grad.item() == 4.0
    assert np.shares_memory(y.detach().array, y.array)
    assert y.detach().version is y.version


def test_the_worked_example() -> None:
    """What the docstring of tinydl.engine tells of one product."""
    x, w = leaf(3.0), leaf(2.0)
    y = x * w
    first, second = y.node.edges
    assert (y.node.primitive.name, first.array, second.array) == ("mul", 3.0, 2.0)
    assert (first.slot, second.slot, first.slot.owner()) == (x.slot, w.slot, x)
    (dx,) = td.grad(y, x, create_graph=True)
    assert dx.array == 2.0
    assert [edge.slot for edge in dx.node.edges] == [None, w.slot]
    (dxdw,) = td.grad(dx, w)
    assert dxdw.array == 1.0
    assert dxdw.node is None
    assert dx.node.edges is None
