"""The emulator runs right CUDA kernels in any order of their threads, and its checker names
what is wrong with a wrong one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from emulated import each_mode, needs_compiler
from tinydl_kernels import emulator, rejection
from tinydl_kernels import random as kernels
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import BackendError, DtypeError, ShapeError

__all__ = ["each_mode"]  # a fixture, used by its name

pytestmark = needs_compiler

HERE = Path(__file__).parent


# ---- Kernels of the package

KEY, START = np.array([0x0123456789ABCDEF, 0xFEDCBA9876543210], np.uint64), np.array([2**32 - 5], np.uint64)


def rejected(draw, dtype, parameters, shape):
    return draw(KEY, START, shape, dtype, *parameters)


DRAWS: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
    "integers": lambda shape: kernels.integers(KEY, START, shape),
    "randint": lambda shape: kernels.randint(KEY, START, shape, -7, 2**62),
    "uniform float32": lambda shape: kernels.uniform(KEY, START, shape, np.float32),
    "uniform float64": lambda shape: kernels.uniform(KEY, START, shape, np.float64),
    "normal float32": lambda shape: kernels.normal(KEY, START, shape, np.float32),
    "normal float64": lambda shape: kernels.normal(KEY, START, shape, np.float64),
    "bernoulli": lambda shape: kernels.bernoulli(KEY, START, shape, 0.3),
    "dropout float32": lambda shape: kernels.dropout(np.full(shape, 3, np.float32), KEY, START, 0.3),
    "dropout float64": lambda shape: kernels.dropout(np.full(shape, 3, np.float64), KEY, START, 0.3),
}
for draw, *parameters in (
    *((rejection.beta, 0.2, 0.7), (rejection.beta, 5.0, 2.0), (rejection.beta, 0.3, 4.0)),
    *((rejection.gamma, 0.3), (rejection.gamma, 2.5)),
):
    for real in launching.REAL:
        DRAWS[f"{draw.__name__} {parameters} {real}"] = partial(rejected, draw, real, parameters)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2,), (7,), (3, 5, 41)])
def test_random_numbers_are_those_of_the_reference(each_mode, draw, shape):
    with dispatch.use("reference"):
        expected = DRAWS[draw](shape)
    with dispatch.use("cuda-emulated"):
        result = DRAWS[draw](shape)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_more_items_than_threads(monkeypatch):
    """The grid-stride loops."""
    monkeypatch.setattr(launching, "MAX_BLOCKS", 2)
    with dispatch.use("reference"):
        expected = kernels.integers(KEY, START, (5000,))
    with dispatch.use("cuda-emulated"):
        np.testing.assert_array_equal(kernels.integers(KEY, START, (5000,)), expected)


def test_arrays_off_the_vector_alignment(each_mode):
    x = np.arange(1, 102, dtype=np.float32)[1:]
    with dispatch.use("reference"):
        expected = kernels.dropout(x, KEY, START, 0.5)
    with dispatch.use("cuda-emulated"):
        np.testing.assert_array_equal(kernels.dropout(x, KEY, START, 0.5), expected)


def test_reserve(each_mode):
    counter = np.array([2**64 - 2], np.uint64)
    with dispatch.use("cuda-emulated"):
        before = kernels.reserve(counter, 5)
    assert before == 2**64 - 2
    assert counter == 3


# ---- Correct kernels


def check_matmul(module: launching.Module) -> None:
    rng = np.random.default_rng(0)
    A, B, C = (
        rng.standard_normal((11, 19), np.float32),
        rng.standard_normal((19, 9), np.float32),
        np.empty((11, 9), np.float32),
    )
    module.get_function("matmul")((2, 2), (8, 8), (A, B, C, np.int32(11), np.int32(9), np.int32(19)))
    np.testing.assert_allclose(C, A @ B, atol=1e-5)


def check_total(module: launching.Module) -> None:
    x = np.random.default_rng(1).standard_normal(1000, np.float32)
    y = np.zeros(1, np.float32)
    module.get_function("total")(
        (3,), (64,), (x, np.empty(3, np.float32), np.zeros(1, np.uint32), y, np.int32(x.size))
    )
    np.testing.assert_allclose(y[0], x.sum(), atol=1e-4)


def check_histogram(module: launching.Module) -> None:
    x = np.random.default_rng(2).integers(0, 256, 2000, np.uint8)
    counts = np.zeros(256, np.uint32)
    module.get_function("histogram")((2,), (96,), (x, counts, np.int32(x.size)))
    np.testing.assert_array_equal(counts, np.bincount(x, minlength=256))


def check_scan(module: launching.Module) -> None:
    x = np.random.default_rng(3).standard_normal((2, 64), np.float32)
    y = np.empty_like(x)
    module.get_function("scan")((2,), (64,), (x, y), shared_mem=256)
    np.testing.assert_allclose(y, x.cumsum(1), atol=1e-5)


def check_exchange(module: launching.Module) -> None:
    x = np.abs(np.random.default_rng(4).standard_normal(64, np.float32))
    x[33] = -1  # in the second warp
    y = np.empty_like(x)
    module.get_function("exchange")((1,), (64,), (x, y))
    pair = x.reshape(-1, 2)[:, ::-1].reshape(-1)
    np.testing.assert_array_equal(y, np.where(np.arange(64) < 32, x[3], pair))


CHECKS = [check_matmul, check_total, check_histogram, check_scan, check_exchange]


@pytest.fixture(scope="module")
def correct() -> launching.Module:
    return launching.Module(HERE / "correct.cu")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_correct_kernels(each_mode, correct, check):
    check(correct)


def test_barriers_return_counts(tmp_path, each_mode):
    source = """extern "C" __global__ void votes(const int* x, int* y) {
        const int v = x[threadIdx.x];
        y[3 * threadIdx.x] = __syncthreads_count(v > 2);
        y[3 * threadIdx.x + 1] = __syncthreads_or(v > 9);
        y[3 * threadIdx.x + 2] = __syncthreads_and(v >= 0);
    }"""
    y = np.empty((6, 3), np.int32)
    launching.Module(write(tmp_path, source)).get_function("votes")(
        (1,), (6,), (np.arange(6, dtype=np.int32), y)
    )
    np.testing.assert_array_equal(y, np.tile([3, 0, 1], (6, 1)))


# ---- The checker


def planted() -> list[tuple[str, int, str]]:
    """(kernel, line, words) of each bug in bugs.cu."""
    bugs, kernel = [], ""
    for number, line in enumerate((HERE / "bugs.cu").read_text().splitlines(), 1):
        if found := re.search(r"void (\w+)\(", line):
            kernel = found[1]
        if "// REPORT " in line:
            bugs.append((kernel, number, line.partition("// REPORT ")[2]))
    return bugs


@pytest.fixture(scope="module")
def bugs() -> launching.Module:
    return launching.Module(HERE / "bugs.cu")


@pytest.mark.parametrize(("kernel", "line", "words"), planted())
def test_planted_bugs_are_reported(bugs, kernel, line, words):
    x, y = np.arange(1, 65, dtype=np.float32), np.zeros(64, np.float32)
    with emulator.mode(check=True), pytest.raises(emulator.EmulatorError) as error:
        bugs.get_function(kernel)((3,), (64,), (x, y), shared_mem=256)
    assert str(error.value).startswith(f"bugs.cu:{line}: ")
    assert words in str(error.value)
    assert f"[kernel {kernel} block (" in str(error.value)


def test_every_planted_bug_has_a_report_line(bugs):
    assert [kernel for kernel, _, _ in planted()] == list(bugs.signatures)


@pytest.mark.parametrize("kernel", ["divergent_lines", "divergent_return", "deadlock", "missing_lane"])
def test_barriers_are_watched_without_the_checker(each_mode, bugs, kernel):
    with pytest.raises(emulator.EmulatorError, match=r"divergent|deadlock|mask"):
        bugs.get_function(kernel)((1,), (64,), (np.ones(64, np.float32), np.zeros(64, np.float32)))


def barriers() -> list[int]:
    return [
        match.start()
        for match in re.finditer(r"__sync(threads|warp)\(\);", (HERE / "correct.cu").read_text())
    ]


@pytest.mark.parametrize("mutant", range(len(barriers())))
def test_every_missing_barrier_is_reported(tmp_path, mutant):
    source = (HERE / "correct.cu").read_text()
    at = barriers()[mutant]
    source = source[:at] + re.sub(r"^__sync\w+\(\);", "", source[at:])
    module = launching.Module(write(tmp_path, source))
    reports = []
    with emulator.mode(check=True):
        for check in CHECKS:
            try:
                check(module)
            except emulator.EmulatorError as error:
                reports.append(str(error))
    assert len(reports) == 1
    assert re.match(r"kernels.cu:\d+: (race|\w+ of uninitialized)", reports[0])


def write(directory: Path, source: str) -> Path:
    path = directory / "kernels.cu"
    path.write_text(source)
    return path


# ---- Launches


@pytest.fixture
def scale(tmp_path) -> launching.Function:
    source = """extern "C" __global__ void scale(const float* x, float* y, int n, float c) {
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n) y[i] = x ? c * x[i] : c;
    }"""
    return launching.Module(write(tmp_path, source)).get_function("scale")


X = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((X, X.copy(), np.int32(4)), r"kernels.cu: scale: expected 4 arguments \(x, y, n, c\), got 3"),
        ((X, X.copy(), 4, np.float32(2)), "n: expected a numpy.int32 scalar, got int"),
        ((X, X.copy(), np.int64(4), np.float32(2)), "n: expected a numpy.int32 scalar, got a int64 scalar"),
        ((X, X.copy(), np.int32(4), 2.0), "c: expected a numpy.float32 scalar, got float"),
        ((X, X.copy(), None, np.float32(2)), "n: expected a numpy.int32 scalar, got NoneType"),
        (
            (X, X.astype(np.float64), np.int32(4), np.float32(2)),
            "y: expected a float32 array, got a float64 array",
        ),
        ((X, [1.0], np.int32(4), np.float32(2)), "y: expected a float32 array, got list"),
        ((X, np.float32(1), np.int32(4), np.float32(2)), "y: expected a float32 array, got a float32 scalar"),
        ((X, X.copy(), X, np.float32(2)), "n: expected a numpy.int32 scalar, got a float32 array"),
    ],
)
def test_arguments_are_held_to_the_signature(scale, args, message):
    with pytest.raises(DtypeError, match=message):
        scale((1,), (4,), args)


def test_strided_arrays_are_refused(scale):
    with pytest.raises(ShapeError, match="x: expected a C-contiguous array, got shape"):
        scale((1,), (4,), (np.ones(8, np.float32)[::2], X.copy(), np.int32(4), np.float32(2)))


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [
        ((1,), (1025,), 0),
        ((1,), (0,), 0),
        ((1,), (2, 2, 65), 0),
        ((0,), (1,), 0),
        ((1, 65536), (1,), 0),
        ((1,), (1,), 1 << 20),
    ],
)
def test_limits_of_a_launch(scale, grid, block, shared):
    with pytest.raises(ShapeError, match="scale: expected"):
        scale(grid, block, (X, X.copy(), np.int32(4), np.float32(2)), shared_mem=shared)


def test_none_is_a_null_pointer(scale, each_mode):
    y = np.empty(4, np.float32)
    scale((1,), (4,), (None, y, np.int32(4), np.float32(2)))
    np.testing.assert_array_equal(y, 2)


def test_one_source_for_both_floating_dtypes(tmp_path, each_mode):
    write(tmp_path, "__device__ real twice(real x) { return x + x; }").rename(tmp_path / "twice.cuh")
    include = '#include "twice.cuh"\n'
    kernel = "void twice_all(const real* x, real* y, real c) { y[threadIdx.x] = c * twice(x[threadIdx.x]); }"
    path = write(tmp_path, f'{include}{include}extern "C" __global__ {kernel}')
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        x = np.arange(4, dtype=dtype)
        kernel = launching.Module(path, dtype).get_function("twice_all")
        kernel((1,), (4,), (x, y := np.empty_like(x), dtype.type(3)))
        np.testing.assert_array_equal(y, 6 * x)
        with pytest.raises(DtypeError, match=f"c: expected a numpy.{dtype} scalar, got a int64 scalar"):
            kernel((1,), (4,), (x, y, np.int64(3)))
    with pytest.raises(DtypeError, match=r"kernels.cu: expected float32 or float64 for real, got int64"):
        launching.Module(path, np.dtype(np.int64))


def test_a_macro_makes_a_kernel_a_line(tmp_path, each_mode):
    source = """
    #define UNARY(name, result, ...)                                                          \\
        extern "C" __global__ void map_##name(const number* x, result* y) {                   \\
            const number a = x[threadIdx.x];                                                  \\
            y[threadIdx.x] = __VA_ARGS__;                                                     \\
        }
    UNARY(twice, number, a + a)
    UNARY(larger, bool, max(a, number(1)) > 1)
    """.replace("\n    ", "\n")
    path = write(tmp_path, source)
    for dtype in (np.dtype(np.float32), np.dtype(np.int64)):
        module = launching.Module(path, dtype)
        assert list(module.signatures) == ["map_twice", "map_larger"]
        x = np.arange(3, dtype=dtype)
        module.get_function("map_twice")((1,), (3,), (x, y := np.empty_like(x)))
        np.testing.assert_array_equal(y, x + x)
        module.get_function("map_larger")((1,), (3,), (x, y := np.empty(3, np.bool_)))
        np.testing.assert_array_equal(y, x > 1)


def test_tables_and_lists_of_arrays(tmp_path, each_mode):
    common = (Path(launching.__file__).parent / "common.cuh").read_text()
    kernel = """extern "C" __global__ void add_all(Arrays<float> sums,
                                                   Arrays<const float> x, const Table sizes) {
        for (int k = 0; k < sizes.at[blockIdx.x]; ++k) sums.at[blockIdx.x][0] += x.at[blockIdx.x][k];
    }"""
    function = launching.Module(write(tmp_path, common + kernel)).get_function("add_all")
    arrays = [np.arange(n, dtype=np.float32) for n in (3, 5)]
    sums = [np.zeros(1, np.float32) for _ in arrays]
    function((2,), (1,), (sums, arrays, launching.table([3, 5])))
    np.testing.assert_array_equal(np.concatenate(sums), [3, 10])
    with pytest.raises(DtypeError, match="add_all: x: expected a list of at most 64 arrays, got 65 of them"):
        function((2,), (1,), (sums, [arrays[0]] * 65, launching.table([3, 5])))
    with pytest.raises(DtypeError, match="add_all: x: expected a float32 array, got a int64 array"):
        function((2,), (1,), (sums, [arrays[0], np.arange(5)], launching.table([3, 5])))
    with (
        emulator.mode(check=True),
        pytest.raises(emulator.EmulatorError, match="offset 20 of argument x, which has 20 bytes"),
    ):
        function((2,), (1,), (sums, arrays, launching.table([3, 6])))


def test_unknown_names(scale):
    with pytest.raises(BackendError, match=r"expected one of the kernels scale, got 'skale'"):
        scale.module.get_function("skale")
    with pytest.raises(BackendError, match="expected order 'forward', 'reversed', 'random', got 'backward'"):
        emulator.mode("backward").__enter__()


def test_an_error_of_the_compiler_is_shown(tmp_path):
    module = launching.Module(
        write(tmp_path, 'extern "C" __global__ void f(float* x) { x[0] = undeclared; }')
    )
    with pytest.raises(BackendError, match=r"kernels.cu:1.*undeclared"):
        module.get_function("f")((1,), (1,), (X.copy(),))


def test_no_compiler_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    module = launching.Module(write(tmp_path, 'extern "C" __global__ void other(float* x) { x[0] = 1; }'))
    with pytest.raises(BackendError, match=r"needs g\+\+"):
        module.get_function("other")((1,), (1,), (X.copy(),))


def test_device_arrays_go_to_cupy(scale, monkeypatch):
    """Through a stand-in for CuPy: the source, one module a device, the arguments as they
    are, shared memory beyond 48 KB.
    """
    calls: list[tuple] = []

    class Kernel:
        max_dynamic_shared_size_bytes = 0

        def __call__(self, grid, block, args, shared_mem):
            calls.append((grid, block, args, shared_mem, self.max_dynamic_shared_size_bytes))

    class RawModule:
        def __init__(self, code, options):
            calls.append((code, options))

        def get_function(self, name):
            calls.append((name,))
            return Kernel()

    class DeviceArray:
        dtype = np.dtype(np.float32)
        flags = SimpleNamespace(c_contiguous=True)
        device = SimpleNamespace(id=0)

    runtime = SimpleNamespace(getDevice=lambda: 0)
    monkeypatch.setitem(
        sys.modules, "cupy", SimpleNamespace(RawModule=RawModule, cuda=SimpleNamespace(runtime=runtime))
    )
    args = (DeviceArray(), DeviceArray(), np.int32(4), np.float32(2))
    scale((1,), (4,), args)
    scale((2,), (8,), args, shared_mem=50_000)
    launches = [((1,), (4,), args, 0, 0), ((2,), (8,), args, 50_000, 50_000)]
    assert calls == [(scale.module.source, ("-std=c++17",)), ("scale",), *launches]


def test_is_available_never_raises(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert launching.is_available() is False


def test_processes_build_at_once(tmp_path):
    """Two processes with an empty cache: both build, both run."""
    program = (
        "import numpy as np; from tinydl_kernels import random; from tinydl_kernels.machine import dispatch\n"
        "key, start = np.array([1, 2], np.uint64), np.array([3], np.uint64)\n"
        "with dispatch.use('cuda-emulated'): print(random.integers(key, start, (2,)).tolist())"
    )
    environment = {**os.environ, "TINYDL_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    first, second = (process.communicate()[0] for process in both)
    assert first == second
    assert first.startswith("[")
    assert sorted(path.name.split("-")[0] for path in tmp_path.rglob("*.so")) == ["emulator", "random"]


@pytest.mark.full
def test_fibers_by_ucontext(tmp_path):
    """The switch for processors that fiber.h has no assembly for."""
    program = (
        "from pathlib import Path; import numpy as np\n"
        "from tinydl_kernels.cuda import launching; from tinydl_kernels.emulator import build\n"
        "build._RUNTIME_FLAGS += ('-DEMU_UCONTEXT',)\n"
        f"module, x = launching.Module(Path({str(HERE / 'correct.cu')!r})), np.ones((2, 64), np.float32)\n"
        "module.get_function('scan')((2,), (64,), (x, y := np.empty_like(x)), shared_mem=256); "
        "print(int(y.sum()))"
    )
    environment = {**os.environ, "TINYDL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.strip() == str(64 * 65), done.stderr
