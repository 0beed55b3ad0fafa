"""`tinydl.autograd`: PyTorch's names for what scripts import from torch.autograd."""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError

import tinydl as td
from tinydl import autograd, nn


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
