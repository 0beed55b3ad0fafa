"""What PyTorch's users type without thinking: dtypes, devices, constants, small methods."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DeviceError, DtypeError, GraphError, ShapeError

import tinydl as td
from tinydl import nn

DTYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
OTHER_NAMES = {"float": "float32", "double": "float64", "int": "int32", "long": "int64"}


class TestDtypes:
    @pytest.mark.parametrize("name", DTYPES)
    def test_they_hash_and_compare(self, name) -> None:
        dtype = getattr(td, name)
        x = td.ones(2, dtype=dtype)
        assert x.dtype is dtype
        assert {dtype: 1}[x.dtype] == 1
        assert hash(x.dtype) == hash(dtype)
        assert str(dtype) == name
        assert dtype == name
        assert isinstance(dtype, td.dtype)
        assert [other for other in DTYPES if getattr(td, other) == dtype] == [name]
        assert x.to(td.float64).dtype == td.float64

    def test_other_names(self) -> None:
        for name, dtype in OTHER_NAMES.items():
            assert getattr(td, name) is getattr(td, dtype)
            assert getattr(td.ones(1), name)().dtype == getattr(td, name)

    def test_a_constant_of_a_recorded_step(self) -> None:
        step = td.record(lambda x, dtype: x.to(dtype))
        for dtype in (td.float64, td.int64, td.float64):
            assert step(td.ones(2), dtype).dtype == dtype
        assert len(step.recordings) == 2


def test_numbers() -> None:
    assert (td.inf, td.pi, td.e) == (math.inf, math.pi, math.e)
    assert math.isnan(td.nan)


class TestDevices:
    def test_device(self) -> None:
        cpu = td.device("cuda" if td.cuda.is_available() else "cpu")
        assert (td.device("cpu"), td.device("cpu").type, td.device("cpu").index) == ("cpu", "cpu", None)
        assert td.ones(1, device=cpu).to(cpu).device == cpu
        assert td.device("cuda:0") == td.device("cuda", 0) == "cuda"
        with pytest.raises(DeviceError, match="device: expected device 'cpu', 'cuda'"):
            td.device("tpu")
        assert not td.ones(1).is_cuda

    @pytest.mark.parametrize(
        "make",
        [
            lambda **k: nn.Linear(2, 3, **k),
            lambda **k: nn.Conv2d(1, 2, 3, **k),
            lambda **k: nn.BatchNorm1d(2, **k),
            lambda **k: nn.LayerNorm(2, **k),
            lambda **k: nn.Embedding(2, 3, **k),
            lambda **k: nn.LSTM(2, 3, **k),
            lambda **k: nn.MultiheadAttention(2, 1, **k),
            lambda **k: nn.PReLU(**k),
        ],
    )
    def test_layers_take_one(self, make, monkeypatch) -> None:
        layer = make(device="cpu", dtype=td.float64)
        assert {x.dtype.name for x in layer.parameters()} == {"float64"}
        with pytest.raises(DeviceError, match="to: expected device 'cpu', 'cuda'"):
            make(device="tpu")
        moved = []
        monkeypatch.setattr(nn.Module, "to", lambda self, *a, **k: moved.append((type(self), k)))
        assert make() is not None
        assert moved == []
        assert make(device="cuda") is not None
        assert moved == [(type(layer), {"device": "cuda"})]

    def test_classes_of_users_are_left_alone(self) -> None:
        class Own(nn.Module):
            def __init__(self, dtype=None) -> None:
                super().__init__()

        with pytest.raises(TypeError, match="device"):
            Own(device="cpu")


class TestTensors:
    def test_sizes(self) -> None:
        x = td.ones(2, 3, dtype=td.float64)
        assert (x.nelement(), x.element_size()) == (6, 8)
        assert x.t().shape == (3, 2)

    def test_new(self) -> None:
        x = td.ones(2, dtype=td.float64)
        assert x.new_zeros(2, 3).shape == x.new_empty((2, 3)).shape == (2, 3)
        assert x.new_ones((1,)).tolist() == [1.0]
        assert x.new_full((2,), 7).tolist() == [7.0, 7.0]
        assert x.new_tensor([1, 2]).dtype == x.new_zeros(1).dtype == x.new_full((1,), 1).dtype == td.float64
        assert x.new_zeros(1, dtype=td.int64).dtype == td.int64
        assert x.new_tensor(1.0, requires_grad=True).requires_grad
        assert not np.shares_memory(x.new_tensor(x).numpy(), x.numpy())

    def test_new_tensors_in_a_recorded_step(self) -> None:
        @td.record
        def step(x):
            h = x.new_zeros(2)
            h += x
            return h * 2.0

        assert [step(td.tensor([i, 1.0])).tolist() for i in range(3)] == [[2.0 * i, 2.0] for i in range(3)]

    def test_index(self) -> None:
        i = td.tensor(2)
        assert [10, 20, 30][i] == 30
        assert list(range(i)) == [0, 1]
        assert np.arange(5)[i] == 2
        assert [10, 20, 30][td.tensor([[1]])] == [10, 20][td.tensor(True)] == 20
        for wrong in (td.tensor(1.0), td.tensor([1, 2])):
            with pytest.raises(TypeError, match="index: expected one integer"):
                range(wrong)
        with pytest.raises(GraphError, match="index: expected no values to be read"):
            td.record(lambda x: x[: x.__index__()])(i)

    def test_round(self) -> None:
        x = td.tensor([1.256, -2.5])
        assert round(x).tolist() == [1.0, -2.0]
        np.testing.assert_allclose(round(x, 1).numpy(), [1.3, -2.5], rtol=1e-6)

    def test_grad_fn(self) -> None:
        x = td.ones(1, requires_grad=True)
        assert (x.grad_fn, td.ones(1).grad_fn, (x * 2.0).grad_fn) == (None, None, "mul")


class TestBackward:
    def test_inputs(self) -> None:
        a, b = (td.tensor([v], requires_grad=True) for v in (2.0, 3.0))
        for inputs in (a, [a], [a, a]):
            (a * b).backward(inputs=inputs)
        assert (a.grad.tolist(), b.grad) == ([9.0], None)
        h = a * b
        (h * h).backward(inputs=[h, b])
        assert (h.grad.tolist(), b.grad.tolist()) == ([12.0], [24.0])
        (a * 2.0).backward(inputs=[b])  # which it does not depend on
        assert b.grad.tolist() == [24.0]
        with pytest.raises(GraphError, match="backward: expected inputs that require grad, got input 0"):
            a.backward(inputs=[td.ones(1)])

    def test_recorded(self) -> None:
        def run(wrap) -> list:
            a, b = (nn.Parameter([v]) for v in (2.0, 3.0))

            @wrap
            def step(x):
                a.grad = None
                (a * b * x).backward(inputs=[a])

            return [(step(td.tensor([i])), a.grad.tolist(), b.grad) for i in (1.0, 2.0, 3.0)]

        assert run(td.record) == run(lambda f: f)


def test_t_refuses_more() -> None:
    with pytest.raises(ShapeError, match="t: expected at most two dims"):
        td.ones(1, 1, 1).t()


def test_mixed_precision_is_taken_and_changes_nothing() -> None:
    layer = nn.Linear(3, 2)
    optimizer = td.optim.SGD(layer.parameters(), lr=0.5)
    scaler = td.amp.GradScaler("cuda", enabled=False)
    x, before = td.ones(4, 3), layer.bias.detach().clone()
    with td.autocast(device_type="cuda", dtype=td.float32), td.cuda.amp.autocast(enabled=True):
        loss = layer(x).sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose(layer.bias.detach().numpy(), before.numpy() - 2, rtol=1e-6)
    assert (scaler.get_scale(), scaler.is_enabled(), scaler.state_dict()) == (1.0, False, {})
    scaler.load_state_dict({"scale": 65536.0})
    with pytest.raises(DtypeError, match=r"GradScaler\.load_state_dict: expected a mapping, got list"):
        scaler.load_state_dict([])

    @td.autocast("cpu")
    def forward(z: td.Tensor) -> td.Tensor:
        return layer(z)

    assert forward(x).dtype == td.float32


VIEWS = {
    "diagonal": lambda x: x.diagonal(1),
    "diag": td.diag,
    "transposed": lambda x: x.T,
    "moved": lambda x: td.movedim(x, 0, 1),
    "viewed": lambda x: x.view(2, 6),
    "reshaped": lambda x: x.reshape(-1),
    "squeezed": lambda x: x[None].squeeze(0),
    "narrowed": lambda x: x.narrow(0, 1, 2),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: td.split(x, 2, 1)[0],
    "row": lambda x: x.unbind(0)[2],
    "every second": lambda x: x[1:, ::2],
    "backwards": lambda x: x[-1],
    "unflattened": lambda x: x.unflatten(1, (2, 2)),
    "detached": lambda x: x.detach(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_what_is_written_to_a_view_stands_in_the_base(name: str) -> None:
    base = np.arange(12.0).reshape(3, 4)
    x = td.tensor(base)
    places = VIEWS[name](td.tensor(np.arange(12).reshape(3, 4))).numpy().ravel()
    y = VIEWS[name](x)
    y.add_(100)
    y *= 2
    y[...] += 1
    base.reshape(-1)[places] = 2 * (base.reshape(-1)[places] + 100) + 1
    np.testing.assert_array_equal(x.numpy(), base)
    x.fill_(3.0)
    assert (y.numpy() == 3).all()


class TestWordsOfOtherPrograms:
    """What scripts say at their beginning, and the older names."""

    def test_backends(self) -> None:
        td.backends.cudnn.benchmark = True
        try:
            assert not td.backends.mps.is_available()
            with td.backends.cudnn.flags(enabled=False):
                assert td.nn.LSTM(2, 3)(td.ones(4, 1, 2))[0].shape == (4, 1, 3)
        finally:
            td.backends.cudnn.benchmark = False
        td.use_deterministic_algorithms(True, warn_only=True)
        assert td.manual_seed(5).initial_seed() == 5
        before = td.get_num_threads()
        td.set_num_threads(1)
        assert td.get_num_threads() == 1
        td.set_num_threads(before)

    def test_the_device_of_a_tensor(self) -> None:
        device = td.ones(1).device
        assert (device.type, device, str(device)) == ("cpu", "cpu", "cpu")
        assert td.zeros(2, device=device).device is device
        assert pickle.loads(pickle.dumps(device)) == device

    def test_typed_tensors(self) -> None:
        assert td.FloatTensor([1, 2]).dtype == td.float32
        assert td.LongTensor(np.array([1.5])).tolist() == [1]
        assert td.DoubleTensor(2, 3).shape == (2, 3)
        assert td.BoolTensor().shape == (0,)
        assert isinstance(td.ones(1), td.FloatTensor)
        assert not isinstance(td.ones(1), td.LongTensor)
        assert td.ones(2).type(td.LongTensor).dtype == td.int64
        made = td.FloatTensor(2, 1).fill_(0.5)
        assert td.autograd.Variable(made, requires_grad=False).tolist() == [[0.5], [0.5]]
        with pytest.raises(AttributeError, match="no attribute 'HalfTensor'"):
            assert td.HalfTensor

    def test_second_names(self) -> None:
        x, y = td.tensor([-1.0, 2.0]), td.tensor([2.0, 2.0])
        assert td.subtract(x, y, alpha=2).tolist() == x.subtract(y, alpha=2).tolist() == [-5, -2]
        assert td.multiply(x, y).divide(2).negative().absolute().tolist() == [1, 2]
        assert td.less(x, y).tolist() == x.not_equal(y).tolist() == [True, False]
        assert td.greater_equal(x, y).tolist() == td.less_equal(y, x).tolist() == [False, True]
        assert td.concat([x, y]).shape == (4,)
        assert td.moveaxis(td.ones(2, 3), 0, 1).shape == (3, 2)

    def test_func_and_checkpoint(self) -> None:
        x = td.tensor([1.0, 2.0])
        assert td.func.grad(lambda v: (v**3).sum())(x).tolist() == [3, 12]
        assert td.func.vmap(td.func.grad(lambda v: v**2))(x).tolist() == [2, 4]
        slopes = td.func.grad(lambda v, w: (v * w).sum(), argnums=(0, 1))(x, 2 * x)
        assert [g.tolist() for g in slopes] == [[2, 4], [1, 2]]
        assert td.autograd.functional.jacobian is td.func.jacrev
        w = x.requires_grad_()
        td.utils.checkpoint.checkpoint(lambda v: v * v, w, use_reentrant=False).sum().backward()
        assert w.grad.tolist() == [2, 4]
        with pytest.raises(ValueError, match="checkpoint: expected use_reentrant False or None, got True"):
            td.utils.checkpoint.checkpoint(lambda v: v, w, use_reentrant=True)
