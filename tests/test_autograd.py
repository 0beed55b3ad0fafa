"""`tinydl.autograd`: PyTorch's names for what scripts import from torch.autograd."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError

import tinydl as td
from tinydl import autograd, nn
from tinydl.function import FunctionCtx


def test_a_variable_is_the_tensor_off_the_tape():
    x = td.ones(3).requires_grad_()
    y = 2 * x
    v = autograd.Variable(y)
    assert (v.requires_grad, v.is_leaf) == (False, True)
    assert np.shares_memory(v.numpy(), y.detach().numpy())
    assert autograd.Variable(y, requires_grad=True).requires_grad
    assert isinstance(y, autograd.Variable)
    assert not isinstance(3.0, autograd.Variable)
    with pytest.raises(DtypeError, match="Variable: expected a tensor for 'data', got float"):
        autograd.Variable(3.0)


def test_backward_of_several_tensors_adds_up():
    x = td.tensor([1.0, 2.0], dtype="float64").requires_grad_()
    autograd.backward([(x**2).sum(), x * 3], [None, td.tensor([1.0, 10.0], dtype="float64")])
    assert x.grad.tolist() == [5.0, 34.0]
    autograd.backward((x**2).sum(), inputs=[x])
    assert x.grad.tolist() == [7.0, 38.0]
    with pytest.raises(GraphError, match=r"backward: expected one grad_tensor per tensor \(2\), got 1"):
        autograd.backward([x.sum(), x.sum()], [None])


def test_gradients_that_are_not_there_can_be_zeros():
    x, z = td.ones(2).requires_grad_(), td.ones(3).requires_grad_()
    found = autograd.grad((x**2).sum(), [x, z], only_inputs=True, materialize_grads=True)
    assert [g.tolist() for g in found] == [[2.0, 2.0], [0.0, 0.0, 0.0]]
    with pytest.raises(GraphError, match="allow_unused"):
        autograd.grad((x**2).sum(), [x, z])


def test_data_parallel_is_its_module():
    linear = nn.Linear(3, 2)
    wrapped = nn.DataParallel(linear)
    x = td.ones(4, 3)
    assert wrapped(x).tolist() == linear(x).tolist()
    assert [*wrapped.state_dict()] == ["module.weight", "module.bias"]
    with pytest.raises(ValueError, match=r"DataParallel: expected one device, got device_ids=\[0, 1\]"):
        nn.DataParallel(linear, device_ids=[0, 1])
    with pytest.raises(TypeError, match="DataParallel: expected a module, got int"):
        nn.DataParallel(3)


def test_the_seed_of_a_gpu_is_that_of_the_processor():
    td.manual_seed(3)
    first = td.rand(4).tolist()
    td.cuda.manual_seed_all(3)
    assert td.rand(4).tolist() == first


class Exp(autograd.Function):
    """Its derivative from its output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class Several(autograd.Function):
    """Three outputs, one of them without a derivative, and arguments that are no tensors."""

    @staticmethod
    def forward(ctx, x, k, w, twice=False):
        ctx.k = k
        ctx.save_for_backward(x, None, w)
        return x * w * k, x > 0, x + w

    @staticmethod
    def backward(ctx, a, positive, b):
        assert positive is not None
        x, nothing, w = ctx.saved_tensors
        assert nothing is None
        assert ctx.needs_input_grad[:3] == (True, False, True)
        return a * w * ctx.k + b, None, a * x * ctx.k + b, None


class Cube(autograd.Function):
    """In the newer of PyTorch's two styles."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * x**2


class Reversed(autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return -g


class TestFunction:
    X, W = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, 3.0])

    def leaves(self) -> tuple[td.Tensor, td.Tensor]:
        return td.tensor(self.X).requires_grad_(), td.tensor(self.W).requires_grad_()

    @pytest.mark.parametrize("backend", ["reference", "cpu"])
    def test_every_order(self, backend: str) -> None:
        with td.backend(backend):
            td.gradcheck(Exp.apply, self.leaves()[:1], order=2)
            td.gradcheck(Cube.apply, self.leaves()[:1], order=2)
            for k in (0, 2):
                td.gradcheck(lambda x, w, k=k: Several.apply(x, 2, w)[k], self.leaves(), order=2)
        x, _ = self.leaves()
        for _ in range(3):  # of exp and of what its rule computes: all are exp
            (g,) = td.grad(Exp.apply(x).sum(), x, create_graph=True)
            (h,) = td.grad(g.sum(), x, create_graph=True)
        np.testing.assert_allclose(td.grad(h.sum(), x)[0].numpy(), np.exp(self.X), rtol=1e-12)

    def test_outputs_without_a_derivative(self) -> None:
        x, w = self.leaves()
        a, positive, b = Several.apply(x, 2, w)
        assert [y.requires_grad for y in (a, positive, b)] == [True, False, True]
        (a * 0.5 + b).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), self.W + 1)

        class Marked(Several):
            @staticmethod
            def forward(ctx, x, k, w):
                outputs = Several.forward(ctx, x, k, w)
                ctx.mark_non_differentiable(outputs[2])
                return outputs

        assert [y.requires_grad for y in Marked.apply(x, 2, w)] == [True, False, False]

    def test_what_did_not_arrive_is_none_where_asked(self) -> None:
        seen = []

        class Two(autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.set_materialize_grads(False)
                return x * 2, x * 3

            @staticmethod
            def backward(ctx, a, b):
                seen.append((a, b))
                return None if a is None else 2 * a

        x, _ = self.leaves()
        Two.apply(x)[0].sum().backward()
        assert seen[0][1] is None
        (g,) = td.grad(Two.apply(x)[1].sum(), x)
        assert g.tolist() == [0, 0, 0]

    def test_an_argument_that_is_returned(self) -> None:
        x, _ = self.leaves()
        y = Reversed.apply(x)
        assert y is not x
        (y * y).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), -2 * self.X)
        with td.no_grad():
            off = Reversed.apply(x)
        assert (off.requires_grad, x.requires_grad) == (False, True)

    def test_labels_and_float32_beside_float64(self) -> None:
        class Picked(autograd.Function):
            @staticmethod
            def forward(ctx, x, labels, scale):
                ctx.save_for_backward(labels, scale)
                ctx.shape = x.shape
                return x[td.arange(len(x)), labels] * scale

            @staticmethod
            def backward(ctx, g):
                labels, scale = ctx.saved_tensors
                full = td.zeros(ctx.shape)
                full[td.arange(len(labels)), labels] = (g * scale).float()
                return full, None, None

        x, labels = td.ones(2, 3).requires_grad_(), td.tensor([2, 0])
        y = Picked.apply(x, labels, td.tensor([2.0, 5.0], dtype="float64"))
        assert y.dtype == td.float64
        y.sum().backward()
        assert x.grad.tolist() == [[0, 0, 2], [5, 0, 0]]

    def test_a_recorded_step(self) -> None:
        x, w = self.leaves()

        @td.record
        def step(t: td.Tensor) -> tuple[td.Tensor, ...]:
            y = Several.apply(Exp.apply(x * t), 3, w)[0].sum()
            (g,) = td.grad(y, x, create_graph=True)
            return y, g, td.grad((g * g).sum(), w)[0]

        for t in (0.5, 1.0, -2.0):
            e = np.exp(t * self.X)
            expected = 3 * (e * self.W).sum(), 3 * self.W * e * t, 2 * self.W * (3 * e * t) ** 2
            for got, wanted in zip(step(td.tensor(t, dtype="float64")), expected, strict=True):
                np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12)
        assert len(step.recordings) == 1

    def test_nothing_is_kept(self) -> None:
        """Neither by an output that is saved nor by gradients under create_graph."""
        x, _ = self.leaves()
        y = Exp.apply(x)
        y.sum().backward(create_graph=True)
        node = weakref.ref(y.node)
        gc.disable()
        try:
            del y
            x.grad = None
            assert node() is None
        finally:
            gc.enable()

    def test_refusals(self) -> None:
        class Wrong(autograd.Function):
            given: Any = None

            @staticmethod
            def forward(ctx, x, w):
                return x * w

            @staticmethod
            def backward(ctx, g):
                return Wrong.given(g)

        x, w = self.leaves()
        for given, message in (
            (lambda g: g, "Wrong.backward: expected 2 gradients, one for each argument of forward, got 1"),
            (lambda g: (g, g[:1]), r"expected \(3,\) float64 for argument 1, got \(1,\) float64"),
            (lambda g: (g, 1.0), "for argument 1, got float"),
        ):
            Wrong.given = given
            with pytest.raises(GraphError, match=message):
                Wrong.apply(x, w).sum().backward()
        Wrong.given = lambda g: (g, None, None)  # PyTorch lets Nones stand behind
        Wrong.apply(x, w).sum().backward()
        assert w.grad.tolist() == [0, 0, 0]
        y = Several.apply(x, 2, w)[0]
        with td.no_grad():
            w.zero_()
        with pytest.raises(GraphError, match="saved_tensors: expected tensor 2"):
            y.sum().backward()
        with pytest.raises(NotImplementedError, match="static method `forward`"):
            autograd.Function.apply(x)
        with pytest.raises(GraphError, match="mark_dirty"):
            FunctionCtx().mark_dirty(x)

    @pytest.mark.torch
    @pytest.mark.parametrize("name", ["Exp", "Several", "Cube"])
    def test_as_pytorch(self, name: str) -> None:
        torch = pytest.importorskip("torch")
        found = []
        for library in (td, torch):
            own = {k: v for k, v in vars(globals()[name]).items() if isinstance(v, staticmethod)}
            function = type(name, (library.autograd.Function,), own)
            x, w = (library.tensor(v, requires_grad=True) for v in (self.X, self.W))
            y = function.apply(x, 2, w) if name == "Several" else function.apply(x)
            parts = [part for part in (y if isinstance(y, tuple) else (y,)) if part.dtype != library.bool]
            y = sum((part * (k + 1)).sum() for k, part in enumerate(parts))
            first = library.autograd.grad(y**2, [x, w], create_graph=True, allow_unused=True)
            second = library.autograd.grad((first[0] ** 2).sum(), x)
            found.append([np.asarray(g.detach()) for g in (y, *first, *second) if g is not None])
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12)
