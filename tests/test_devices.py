"""Tensors, modules, optimizers, generators and checkpoints on "cuda", and what is refused
there; on a stand-in for CuPy.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import fake_cupy
import numpy as np
import pytest
from tinydl_kernels import emulator
from tinydl_kernels import random as kernels_random
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine import device as kernels_device
from tinydl_kernels.machine.errors import DeviceError, GraphError

import tinydl as td
from benchmarks import gpu as benchmark
from benchmarks.cases import CASES, MODELS, Case, Conv
from tinydl.training import checkpoint

pytestmark = pytest.mark.usefixtures("gpu")


def on_gpu(*shape: int, **more: Any) -> td.Tensor:
    return td.tensor(np.random.default_rng(0).standard_normal(shape), device="cuda", **more)


# ---- Moving


def test_to_and_back() -> None:
    x = td.tensor([[1.0, 2.0], [3.0, 4.0]])
    y = x.cuda()
    assert (x.device, y.device, y.cpu().device) == ("cpu", "cuda", "cpu")
    assert y.cuda() is y
    assert x.cpu() is x
    assert x.to("cuda:0", td.float64).dtype == np.float64
    assert x.to(y).device == y.to(0).device == "cuda"
    assert y.cpu().tolist() == y.tolist() == x.tolist()
    assert repr(y) == repr(x)[:-1] + ", device='cuda')"
    assert x.T.cuda().tolist() == x.T.tolist()


def test_gradients_travel_back_in_every_order() -> None:
    x = td.tensor([1.0, 2.0], dtype=td.float64, requires_grad=True)

    def f(x: td.Tensor) -> td.Tensor:
        y = x.cuda() ** 3
        return (y.cpu() * x).sum()  # x^4

    (g,) = td.grad(f(x), x, create_graph=True)
    (h,) = td.grad(g.sum(), x, create_graph=True)
    (third,) = td.grad(h.sum(), x)
    assert (g.device, h.device, third.device) == ("cpu",) * 3
    np.testing.assert_allclose(
        [g.tolist(), h.tolist(), third.tolist()], [[4, 32], [12, 48], [24, 48]], rtol=1e-14
    )
    assert td.gradcheck(f, x, order=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda **on: td.zeros(2, 3, **on),
        lambda **on: td.ones(2, **on),
        lambda **on: td.full((2, 2), 7.0, **on),
        lambda **on: td.eye(3, **on),
        lambda **on: td.arange(5, **on),
        lambda **on: td.linspace(0, 1, 5, **on),
        lambda **on: td.tensor([1, 2], **on),
        lambda **on: td.as_tensor(np.ones(3), **on),
        lambda **on: td.randn(2, 9, **on),
        lambda **on: td.rand(7, **on),
        lambda **on: td.randint(0, 9, (4,), **on),
        lambda **on: td.rand_beta(0.4, 0.7, 9, **on),
        lambda **on: td.rand_gamma(2.5, (3, 3), **on),
        lambda **on: td.bernoulli(td.full((9,), 0.5, **on)),
        lambda **on: td.randperm(9, **on),
    ],
)
def test_creation_on_a_device(make: Any) -> None:
    """The same values and dtypes on both; random numbers too, and the counter goes on where it was."""
    td.manual_seed(3)
    first, second = make(), make(device="cpu")
    td.manual_seed(3)
    on_device, again = make(device="cuda"), make(device="cpu")
    assert (on_device.device, on_device.dtype) == ("cuda", first.dtype)
    assert on_device.tolist() == first.tolist()
    assert again.tolist() == second.tolist()


def test_like_functions_stay_on_the_device() -> None:
    x = td.ones(2, 3, device="cuda")
    for make in (td.zeros_like, td.ones_like, td.empty_like, td.randn_like, td.rand_like):
        assert make(x).device == "cuda"
    assert td.full_like(x, 2).tolist() == [[2.0] * 3] * 2
    assert td.zeros_like(x, device="cpu").device == "cpu"
    assert td.tensor(x).device == "cuda"


# ---- What does not mix


def test_two_devices_are_named() -> None:
    x, y = td.ones(2), td.ones(2, device="cuda")
    with pytest.raises(
        DeviceError, match=r"^add: expected all inputs on one device, got input on cpu, other on cuda$"
    ):
        x + y
    with pytest.raises(
        DeviceError, match="matmul: expected all inputs on one device, got a on cuda, b on cpu"
    ):
        td.linear(td.ones(1, 2, device="cuda"), td.ones(3, 2))


def test_numpy_arrays_do_not_travel_silently() -> None:
    x = td.arange(4, device="cuda") * 2.0
    for mix in (lambda: x + np.ones(4), lambda: np.ones(4) * x, lambda: td.where(x > 0, x, np.zeros(4))):
        with pytest.raises(DeviceError, match="expected all inputs on one device"):
            mix()
    with pytest.raises(
        DeviceError, match=r"numpy: expected a tensor on cpu, got one on cuda: use .cpu\(\) first"
    ):
        np.asarray(x)
    with pytest.raises(DeviceError, match="indexing: expected a tensor on cuda or a list, got a NumPy array"):
        x[np.array([1, 2])]
    with pytest.raises(DeviceError):
        x[np.array([1, 2])] = 0.0
    with pytest.raises(DeviceError):
        x[:] = np.ones(4)


def test_python_numbers_go_anywhere(gpu: Any) -> None:
    x = td.arange(4, device="cuda") * 2.0
    before = len(gpu.host)
    y = td.clip((1 + x * 2 - np.float32(3)) / 2**1, min=0) ** 2
    y[0] = 5.0
    assert gpu.host[before:] == [], "numbers are written on the device, not copied to it"
    assert y.tolist() == [5.0, 1.0, 9.0, 25.0]
    assert x[[1, 2]].tolist() == [2.0, 4.0]


def test_arrays_of_cupy_are_as_good_as_tensors() -> None:
    x = td.arange(4, device="cuda") * 2.0
    array = fake_cupy.array([1, 2])
    assert x[array].tolist() == [2.0, 4.0]
    assert (x[1:3] + array).tolist() == [3.0, 6.0]
    assert td.as_tensor(array).device == td.from_dlpack(array).device == "cuda"
    with pytest.raises(DeviceError, match="indexing: expected a tensor on cpu or a list, got a CuPy array"):
        x.cpu()[array]


@pytest.mark.parametrize("name", ["gpu", "cuda:1", "cuda:x", 2, None])
def test_unknown_devices(name: Any) -> None:
    with pytest.raises(DeviceError, match="zeros: expected device 'cpu', 'cuda' or 'cuda:0', got"):
        td.zeros(2, device=name)


# ---- Modules, optimizers, generators, checkpoints


def steps(model: td.nn.Module, optimizer: Any, x: td.Tensor, count: int) -> list[float]:
    found = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def net() -> td.nn.Module:
    td.manual_seed(1)
    return td.nn.Sequential(td.nn.Linear(3, 4), td.nn.Tanh(), td.nn.Dropout(0.5), td.nn.Linear(4, 2))


def test_state_follows_the_model() -> None:
    """The same losses when the model, with an optimizer and a schedule in full swing,
    goes to the GPU and returns.
    """

    def losses(*where: str) -> list[float]:
        model = net()
        optimizer = td.optim.Adam(model.parameters(), lr=0.1)
        schedule = td.optim.MultiStepLR(optimizer, [2, 4])
        x = td.tensor(np.linspace(-1, 1, 12).reshape(4, 3), dtype=td.float32)
        found = []
        for device in where:
            assert model.to(device) is model
            found += steps(model, optimizer, x.to(device), 2)
            schedule.step()
            kept = [
                *model.parameters(),
                optimizer.param_groups[0].buffer("lr"),
                *optimizer.state[next(model.parameters())].values(),
            ]
            assert {p.device for p in kept} == {device}
        return found

    np.testing.assert_allclose(losses("cpu", "cuda", "cpu"), losses("cpu", "cpu", "cpu"), rtol=1e-5)


def test_buffers_and_dtypes_move_together() -> None:
    model = td.nn.BatchNorm1d(3).to("cuda", td.float64)
    assert {x.device for x in (*model.parameters(), *model.buffers())} == {"cuda"}
    assert model.running_mean.dtype == np.float64
    assert model.num_batches_tracked.dtype == np.int64
    assert model.cpu().cuda().weight.device == "cuda"


def test_checkpoints_are_the_same_from_both(tmp_path: Path) -> None:
    model = net().cuda()
    optimizer = td.optim.Adam(model.parameters(), lr=0.1)
    x = on_gpu(4, 3, dtype=td.float32)
    steps(model, optimizer, x, 2)
    checkpoint.save(tmp_path / "c", model=model, optimizer=optimizer)
    expected = steps(model, optimizer, x, 2)
    for device in ("cuda", "cpu"):
        resumed = net().to(device)
        again = td.optim.Adam(resumed.parameters(), lr=0.1)
        checkpoint.load(tmp_path / "c", model=resumed, optimizer=again)
        assert {p.device for p in resumed.parameters()} == {device}
        np.testing.assert_allclose(
            steps(resumed, again, x.to(device), 2), expected, rtol=0 if device == "cuda" else 1e-5
        )


def test_state_dicts_go_between_devices(tmp_path: Path) -> None:
    there, here = (
        net().cuda(),
        td.nn.Sequential(td.nn.Linear(3, 4), td.nn.Tanh(), td.nn.Dropout(0.5), td.nn.Linear(4, 2)),
    )
    here.load_state_dict(there.state_dict())
    assert here[0].weight.device == "cpu"
    assert here[0].weight.tolist() == there[0].weight.tolist()
    there.load_state_dict(here.state_dict())
    assert there[0].weight.device == "cuda"
    td.interop.save_weights(tmp_path / "w.safetensors", there)
    assert td.interop.load_weights(tmp_path / "w.safetensors")["0.weight"].tolist() == here[0].weight.tolist()


@pytest.mark.parametrize(
    "init", ["orthogonal_", "eye_", "xavier_uniform_", "trunc_normal_", "kaiming_normal_"]
)
def test_initialization_on_the_device(init: str) -> None:
    td.manual_seed(0)
    here = getattr(td.nn.init, init)(td.zeros(4, 4))
    td.manual_seed(0)
    there = getattr(td.nn.init, init)(td.zeros(4, 4, device="cuda"))
    assert there.device == "cuda"
    np.testing.assert_allclose(there.tolist(), here.tolist(), rtol=1e-6)


# ---- td.cuda


def test_the_namespace(gpu: Any) -> None:
    assert td.cuda.is_available()
    assert (td.cuda.device_count(), td.cuda.get_device_name(), td.cuda.get_device_capability()) == (
        1,
        "Emulated GPU",
        (8, 0),
    )
    td.cuda.synchronize()
    assert gpu.host[-1] == "synchronize"
    stream = td.cuda.Stream()
    with td.cuda.stream(stream) as entered, td.cuda.stream(None):
        assert entered is stream
        assert td.cuda.current_stream() == stream
    assert td.cuda.current_stream() == td.cuda.default_stream()
    stream.wait_stream(td.cuda.current_stream())
    stream.synchronize()
    assert stream.query()


def test_memory_figures() -> None:
    before = td.cuda.memory_allocated()
    td.cuda.reset_peak_memory_stats()
    x = td.zeros(1000, device="cuda")
    assert td.cuda.memory_allocated() == before + 4000
    assert td.cuda.memory_reserved() >= 4000
    free, total = td.cuda.mem_get_info()
    assert 0 < free <= total - 4000
    del x
    td.cuda.empty_cache()
    assert td.cuda.memory_allocated() == before
    assert td.cuda.max_memory_allocated() >= before + 4000


def test_each_thread_watches_its_own_peak() -> None:
    td.cuda.reset_peak_memory_stats()
    td.cuda.reset_peak_memory_stats()
    found: list[Any] = []

    def elsewhere() -> None:
        with pytest.raises(
            DeviceError, match=r"max_memory_allocated: expected reset_peak_memory_stats\(\) first"
        ):
            td.cuda.max_memory_allocated()
        td.cuda.reset_peak_memory_stats()
        found.append((td.zeros(1000, device="cuda"), td.cuda.max_memory_allocated()))

    before = td.cuda.max_memory_allocated()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[0][1] >= before + 4000
    assert td.cuda.max_memory_allocated() == before


# ---- What can be wrong with a machine


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert not td.cuda.is_available()
    assert td.cuda.device_count() == 0
    td.cuda.empty_cache()
    with pytest.raises(DeviceError, match=r"^cuda: expected CuPy, got none: pip install tinydl\[gpu\]"):
        td.ones(2).cuda()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"driver": 0}, r"^cuda: expected an NVIDIA driver, got none$"),
        (
            {"driver": 12020},
            r"^cuda: expected a driver for CUDA 13.0, got one for CUDA 12.2: update the driver, or",
        ),
        ({"count": 0}, r"^cuda: expected a GPU, got none: cudaErrorNoDevice"),
        (
            {"capability": "61"},
            r"^cuda: expected a GPU of compute capability 7.5 or newer, got Emulated GPU \(6.1\)$",
        ),
    ],
)
def test_machines_that_will_not_do(gpu: Any, facts: dict[str, Any], message: str) -> None:
    for name, value in facts.items():
        setattr(gpu, name, value)
    assert not td.cuda.is_available()
    with pytest.raises(DeviceError, match=message):
        td.zeros(2, device="cuda")


def test_out_of_memory_comes_with_figures() -> None:
    figures = (
        r"expected 4,000,000,000 bytes, got [\d,]+ free of 1,073,741,824 \(Out of memory allocating "
        r"4,000,000,000"
    )
    with pytest.raises(DeviceError, match=f"^cuda: out of memory: {figures}"):
        td.empty(1000, device="cuda").expand(10**6, 1000).contiguous() + 0
    for make in (td.zeros, td.empty):
        with pytest.raises(DeviceError, match=r"^cuda: out of memory: .* free of 1,073,741,824"):
            make(10**9, device="cuda")


def test_a_source_that_does_not_compile_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, name: str) -> Any:
        raise RuntimeError("NVRTC_ERROR_INVALID_OPTION")

    monkeypatch.setattr(fake_cupy.RawModule, "get_function", refuse)
    with pytest.raises(
        DeviceError, match=r"random.cu: expected to compile for the GPU, got for Emulated GPU \(8.0\): NVRTC"
    ):
        td.randn(3, device="cuda")


def test_a_kernel_runs_where_its_arrays_are() -> None:
    cupy = sys.modules["cupy"]
    key, start = (cupy.asarray(np.ones(n, np.uint64)) for n in (2, 1))
    with cupy.cuda.Device(1):
        there = [cupy.asarray(np.ones(n, np.uint64)) for n in (2, 1)]
        out = cupy.empty((3,), np.uint32)
    random = launching.module("random").get_function("integers")
    random((1,), (32,), (*there, out, np.int64(3)))
    assert cupy.cuda.runtime.getDevice() == 0
    assert out.get().tolist() == kernels_random.integers(key, start, (3,)).get().tolist()


def test_checks_are_the_kernels_own(gpu: Any) -> None:
    """tinydl_kernels says the same to who uses it alone."""
    gpu.count = 0
    with pytest.raises(DeviceError, match="expected a GPU"):
        kernels_device.cupy()
    assert not launching.is_available()


# ---- Recording


def test_a_recorded_step_stays_on_one_device() -> None:
    x = td.ones(3)
    with pytest.raises(
        GraphError, match="to: expected one device in a recorded step, got a cpu tensor on its way to cuda"
    ):
        td.record(lambda x: x.cuda() * 2)(x)
    y = td.ones(3, device="cuda")
    with pytest.raises(
        GraphError, match="record: expected a step on one device, got mul on cpu, mul on cuda"
    ):
        td.record(lambda x, y: (x * 2, y * 2))(x, y)


# ---- The benchmark


def test_the_benchmark_says_when_there_is_nothing_to_measure(
    gpu: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.count = 0
    assert benchmark.main(["--quick"]) == 0
    assert "benchmarks.gpu: nothing was measured: cuda: expected a GPU, got none" in capsys.readouterr().err
    assert benchmark.main(["--list", "--match", "lenet"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "steps    LeNet 6-16-120-84, plain", "steps    LeNet 6-16-120-84, datagrad"
    ]  # fmt: skip


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_the_benchmark_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tinydl alone, on a case for the emulator."""
    small = Conv(2, 1, 3, 6, 3, 1, 1)
    chosen = [Case("conv", "small", "conv_grad_weight", small, work=small.flops, quick=True)]
    monkeypatch.setattr(benchmark, "gpu_cases", lambda: iter(chosen))
    assert benchmark.main(["--quick", "--match", "small", "--out", str(tmp_path)]) == 0
    assert "small [TF32]: tinydl" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert [case["precision"] for case in results["cases"]] == ["float32", "TF32"]


def test_the_benchmark_has_what_is_to_be_compared() -> None:
    found = list(benchmark.gpu_cases())
    assert [case for case in found if case.family == "conv"] == [
        case for case in CASES.values() if case.family == "conv"
    ]
    steps = {(case.settings.model, case.settings.penalty) for case in found if case.family == "steps"}
    assert steps == {
        (model, penalty) for model in ("lenet", "resnet20", "resnet18") for penalty in ("plain", "datagrad")
    }
    batches = [MODELS[model].input for model in ("lenet", "resnet20", "resnet18")]
    assert batches == [(50, 1, 28, 28), (128, 3, 32, 32), (128, 3, 32, 32)]
    assert (benchmark.THEANO_BATCH, benchmark.THEANO_STEPS) == (500, 20_000)


@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_theanos_lenet_trains_alike_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "THEANO_BATCH", 1)
    losses = []
    for device in ("cpu", "cuda"):
        td.manual_seed(0)
        with td.backend("reference"):  # on the CPU; arrays of the GPU keep their own
            step = benchmark.theano(device)
            losses.append([step().item() for _ in range(3)])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][-1] < losses[0][0]
