"""On a GPU, `pytest -m gpu`: the catalogue against the CPU, equal random numbers,
graphs, no leak, and the sanitizer.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from catalogue import ROWS, Row
from catalogue.orders import assert_close, assert_same_bits, derivatives, to_second_order
from tinydl_kernels.machine import device

import tinydl as td
from tinydl import decompositions
from tinydl.data import DataLoader, TensorDataset
from tinydl.regularizers import DataGrad, Objective

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not device.is_available(), reason=str(device.unavailable())),
]

STEPS = 10_000
NOT_RECORDED = {"masked_select", "bincount", "random.dropout", "backward_hooks.gate"}
"""Rows whose shapes depend on values, that copy from the CPU, or whose hooks a replay cannot call."""
SANITIZER = shutil.which("compute-sanitizer")


def require_solver(row: Row) -> None:
    """CuPy's factorizations are cuSOLVER's, which comes with CUDA's toolkit and not with CuPy."""
    name = row.name.split()[0]
    if name.startswith("linalg.") or name in decompositions.__all__:
        pytest.importorskip("cupy_backends.cuda.libs.cusolver", exc_type=ImportError)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_the_catalogue_to_the_second_order(row: Row) -> None:
    """Against the CPU's reference: 1e-12 in float64, the row's tolerance (1e-5) in float32."""
    require_solver(row)
    for sample in row.samples:
        for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 20 * row.tolerance)):
            if dtype in row.dtypes:
                arrays = row.arrays(sample, dtype)
                with td.backend("reference"):
                    expected = to_second_order(row, arrays)
                assert_close(to_second_order(row, arrays, "cuda"), expected, tolerance)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_the_catalogue_as_graphs(row: Row) -> None:
    """The second derivatives replayed are the eager ones, bit for bit; a random
    row goes on with its generator.
    """
    require_solver(row)
    inputs = [
        x.cuda().detach().requires_grad_(x.requires_grad)
        for x in row.tensors(row.arrays(row.samples[0], row.dtypes[0]))
    ]
    found = []
    for record in (False, True):
        generator = td.Generator()

        def step(*inputs: td.Tensor, generator: td.Generator = generator) -> list[td.Tensor]:
            with td.random_from(generator):
                return [y.detach() for y in derivatives(row, inputs)]

        if record and row.name in NOT_RECORDED:
            with pytest.raises(td.GraphError):
                td.record(step)(*inputs)
            return
        run = td.record(step) if record else step
        found.append([y.cpu().numpy() for _ in range(3) for y in run(*inputs)])
    assert_same_bits(*found)


DRAWS: dict[str, Callable[..., td.Tensor]] = {
    "uniform float32": lambda on: td.rand(1001, device=on),
    "uniform float64": lambda on: td.rand(1001, dtype=td.float64, device=on),
    "integers": lambda on: td.randint(-5, 2**40, (1001,), device=on),
    "permutation": lambda on: td.randperm(1001, device=on),
    "mask": lambda on: td.dropout(td.ones(1001, device=on), 0.3),
    "probabilities": lambda on: td.bernoulli(td.full((1001,), 0.3, device=on)),
    "normal float32": lambda on: td.randn(1001, device=on),
    "normal float64": lambda on: td.randn(1001, dtype=td.float64, device=on),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_random_numbers_are_those_of_the_cpu(draw: str) -> None:
    """Bit for bit; normal numbers too, whose logarithm and sine are our own."""
    found = []
    for on in ("cpu", "cuda"):
        td.manual_seed(5)
        found.append([DRAWS[draw](on).cpu().numpy() for _ in range(2)])
    assert_same_bits(*found)


def training(record: bool) -> tuple[td.nn.Module, Callable[..., td.Tensor]]:
    """The paper's LeNet with dropout, DataGrad and Adam on the GPU, and its step."""
    td.manual_seed(1)
    model = td.nn.models.LeNet().cuda()
    optimizer = td.optim.Adam(model.parameters(), lr=1e-3)
    objective = Objective(model, td.cross_entropy, [DataGrad(50.0)])

    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        optimizer.zero_grad()
        terms = objective(x, y)
        terms.total.backward()
        optimizer.step()
        return terms.total.detach()

    return model, td.record(step) if record else step


def minibatch() -> tuple[td.Tensor, td.Tensor]:
    return td.randn(50, 1, 28, 28, generator=td.Generator(), device="cuda"), td.tensor(
        np.arange(50) % 10, device="cuda"
    )


def test_a_graph_gives_the_bits_of_the_eager_step() -> None:
    found = []
    x, y = minibatch()
    for record in (False, True):
        model, step = training(record)
        losses = [step(x, y).cpu().numpy() for _ in range(10)]
        found.append(losses + [p.detach().cpu().numpy() for p in model.parameters()])
    assert_same_bits(*found)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("record", [False, True], ids=["eager", "recorded"])
def test_steps_without_a_leak(record: bool) -> None:
    """As much memory after ten thousand steps as after a hundred, the collector off."""
    _, step = training(record)
    x, y = minibatch()
    gc.disable()
    try:
        held = []
        for number in range(1, STEPS + 1):
            step(x, y)
            if number in (100, STEPS):
                td.cuda.synchronize()
                held.append((td.cuda.memory_allocated(), td.cuda.memory_reserved()))
        assert held[0] == held[1]
    finally:
        gc.enable()


def test_streams_and_figures() -> None:
    x, _ = minibatch()
    stream = td.cuda.Stream()
    stream.wait_stream(td.cuda.current_stream())
    with td.cuda.stream(stream):
        y = x * 2
    td.cuda.current_stream().wait_stream(stream)
    assert td.equal(y, x + x)
    td.cuda.reset_peak_memory_stats()
    before = td.cuda.memory_allocated()
    big = td.zeros(1 << 22, device="cuda")
    assert td.cuda.memory_allocated() >= before + big.numel() * 4
    assert td.cuda.max_memory_allocated() >= before + big.numel() * 4
    with pytest.raises(td.DeviceError, match=r"cuda: out of memory: .*, got [\d,]+ free of [\d,]+"):
        td.empty(1 << 45, device="cuda")


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_copied_through_pinned_memory(workers: int) -> None:
    """Page-locked on their way, so that the copy need not wait for the host, nor the host for the copy."""
    import cupy

    pool = cupy.get_default_pinned_memory_pool()
    td.cuda.synchronize()
    pool.free_all_blocks()
    x = np.arange(60_000, dtype=np.float32).reshape(60, 1_000)
    loader = DataLoader(TensorDataset(x), 20, pin_memory=True, num_workers=workers, device="cuda")
    batches = [batch for (batch,) in loader]
    td.cuda.synchronize()
    assert pool.n_free_blocks() > 0  # what the copies have gone through, free again
    np.testing.assert_array_equal(td.cat(batches).cpu().numpy(), x)


@pytest.mark.timeout(0)
@pytest.mark.skipif(SANITIZER is None, reason="compute-sanitizer is not on the PATH")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck", "initcheck"])
def test_compute_sanitizer_finds_nothing(tool: str) -> None:
    """A step of LeNet, eager and as a graph."""
    program = (
        f"import sys; sys.path[:0] = {[os.path.dirname(__file__), *sys.path]!r}\n"
        "from test_on_the_device import minibatch, training\n"
        "x, y = minibatch()\n"
        "for record in (False, True):\n"
        "    _, step = training(record)\n"
        "    print([step(x, y).item() for _ in range(2)])"
    )
    command = [str(SANITIZER), "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", program]
    done: Any = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
