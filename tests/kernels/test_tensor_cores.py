"""Asynchronous copies and tensor cores: the emulator's model of them, and the
instructions in the machine code.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from emulated import each_mode, needs_compiler
from tinydl_kernels import emulator
from tinydl_kernels.cuda import launching
from tinydl_kernels.emulator import nvrtc

__all__ = ["each_mode"]  # a fixture, used by its name

KERNELS = """#include "ptx.cuh"
extern "C" __global__ void round_all(const float* x, float* y) {
    y[threadIdx.x] = __uint_as_float(to_tf32(x[threadIdx.x]));
}

extern "C" __global__ void multiply(const float* a, const float* b, float* d) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const u32 a_part[4] = {__float_as_uint(a[g * 8 + t]), __float_as_uint(a[(g + 8) * 8 + t]),
                           __float_as_uint(a[g * 8 + t + 4]), __float_as_uint(a[(g + 8) * 8 + t + 4])};
    const u32 b_part[2] = {__float_as_uint(b[t * 8 + g]), __float_as_uint(b[(t + 4) * 8 + g])};
    float d_part[4];
    for (int q = 0; q < 4; ++q) d_part[q] = d[(g + q / 2 * 8) * 8 + 2 * t + q % 2];
    mma_m16n8k8(d_part, a_part, b_part);
    for (int q = 0; q < 4; ++q) d[(g + q / 2 * 8) * 8 + 2 * t + q % 2] = d_part[q];
}

extern "C" __global__ void copy(const float* x, float* y, int n) {  // x, zeros from n on
    __shared__ __align__(16) float s[32];
    if (threadIdx.x < 4) cp_async<16>(s + 4 * threadIdx.x, x + 4 * threadIdx.x, 4 * int(threadIdx.x) < n);
    if (threadIdx.x >= 16) cp_async<4>(s + threadIdx.x, x + threadIdx.x, int(threadIdx.x) < n);
    cp_async_wait_all();
    __syncthreads();
    y[threadIdx.x] = s[31 - threadIdx.x];
}

extern "C" __global__ void copy_without_wait(const float* x, float* y) {
    __shared__ float s[32];
    cp_async<4>(s + threadIdx.x, x + threadIdx.x, true);
    y[threadIdx.x] = s[threadIdx.x];
    cp_async_wait_all();
}

extern "C" __global__ void copy_without_barrier(const float* x, float* y) {
    __shared__ float s[32];
    cp_async<4>(s + threadIdx.x, x + threadIdx.x, true);
    cp_async_wait_all();
    y[threadIdx.x] = s[31 - threadIdx.x];
}

extern "C" __global__ void copy_over(const float* x, float* y) {  // while others still read
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    cp_async<4>(s + threadIdx.x, x + threadIdx.x, true);
    y[threadIdx.x] = s[31 - threadIdx.x];
    cp_async_wait_all();
}

extern "C" __global__ void copy_beyond(const float* x, float* y) {
    __shared__ float s[32];
    cp_async<4>(s + threadIdx.x, x + threadIdx.x + 1, true);
    cp_async_wait_all();
    y[threadIdx.x] = s[threadIdx.x];
}

extern "C" __global__ void copy_askew(const float* x, float* y) {
    __shared__ __align__(16) float s[36];
    if (threadIdx.x < 8) cp_async<16>(s + 4 * threadIdx.x, x + 1, true);
    cp_async_wait_all();
    y[threadIdx.x] = s[threadIdx.x];
}
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> launching.Module:
    path = tmp_path_factory.mktemp("tensor_cores") / "kernels.cu"
    path.write_text(KERNELS)
    for header in ("ptx.cuh", "common.cuh"):
        shutil.copy(Path(launching.__file__).with_name(header), path.parent)
    return launching.Module(path)


def run(module, kernel, *args, threads=32):
    module.get_function(kernel)((1,), (threads,), args)


def tf32(x):
    """The nearest number of 10 bits of mantissa, ties away from zero."""
    with np.errstate(invalid="ignore"):
        mantissa, exponent = np.frexp(x.astype(np.float64))
        return np.where(
            np.isfinite(x), np.trunc(mantissa * 2048 + np.copysign(0.5, mantissa)) * 2.0 ** (exponent - 11), x
        )


@needs_compiler
def test_rounding(module, each_mode):
    random = np.random.default_rng(0)
    x = (random.standard_normal(32) * 10.0 ** random.integers(-30, 30, 32)).astype(np.float32)
    x[:8] = 1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11, 1 + 2**-12, np.inf, -np.inf, 0, np.nan
    run(module, "round_all", x, y := np.empty_like(x))
    np.testing.assert_array_equal(y, tf32(x))


@needs_compiler
def test_product(module, each_mode):
    random = np.random.default_rng(1)
    a, b, d = (random.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (8, 8), (16, 8)))
    a[3, 2] = np.inf
    truncated = [
        (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64) for x in (a, b)
    ]
    expected = d + truncated[0] @ truncated[1]
    run(module, "multiply", a, b, d)
    np.testing.assert_allclose(d, expected, rtol=1e-6)


@needs_compiler
def test_a_product_needs_all_lanes(module, each_mode):
    a = np.zeros((16, 8), np.float32)
    with pytest.raises(
        emulator.EmulatorError, match=r"kernels.cu:13: mma.sync: expected all 32 lanes of the warp"
    ):
        run(module, "multiply", a, a[:8], a.copy(), threads=31)


@needs_compiler
def test_copies(module, each_mode):
    x = np.arange(1, 33, dtype=np.float32)
    for n in (0, 4, 8, 20, 32):
        run(module, "copy", x, y := np.empty_like(x), np.int32(n))
        np.testing.assert_array_equal(y, np.where(np.arange(32) < n, x, 0)[::-1])


@needs_compiler
def test_a_copy_is_not_there_before_the_wait(module):
    x = np.arange(1, 33, dtype=np.float32)
    run(module, "copy_without_wait", x, y := np.empty_like(x))
    assert np.isnan(y).all()


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("copy_without_barrier", "(race: read|read of uninitialized) .*static shared memory"),
        ("copy_over", "race: (read|write) of static shared memory"),
        ("copy_beyond", "out of bounds: read of 4 bytes at offset 128 of argument x"),
        ("copy_askew", "cp.async: misaligned address"),
    ],
)
def test_wrong_copies_are_reported(module, kernel, message):
    x = np.arange(1, 33, dtype=np.float32)
    with emulator.mode(check=True), pytest.raises(emulator.EmulatorError, match=message) as error:
        run(module, kernel, x, np.empty_like(x))
    first = next(number for number, line in enumerate(KERNELS.splitlines(), 1) if f"void {kernel}(" in line)
    assert first < int(str(error.value).split(":")[1]) < first + 8


# ---- Machine code

needs_nvrtc = pytest.mark.skipif(nvrtc.unavailable() is not None, reason=str(nvrtc.unavailable()))
needs_disassembler = pytest.mark.skipif(
    nvrtc.disassembler_unavailable() is not None, reason=str(nvrtc.disassembler_unavailable())
)


def instructions(family: str, tensor_cores: bool, architecture: str) -> set[str]:
    """Of the kernels with the tile of 64 x 64."""
    source = launching.module(family, np.dtype(np.float32), tensor_cores).source
    source = re.sub(r"^[A-Z]+\((?!64x64)\w+, \d.*\)$", "", source, flags=re.MULTILINE)
    found = nvrtc.instructions(nvrtc.compile(source, architecture))
    return set.intersection(*(used for kernel, used in found.items() if kernel.endswith("64x64")))


@needs_nvrtc
@needs_disassembler
@pytest.mark.parametrize("family", ["matmul", "conv"])
def test_the_intended_instructions(family):
    """Tensor cores on TF32, asynchronous copies, packs of 16 bytes from shared memory; none
    of the first two before sm_80.
    """
    used = instructions(family, True, "sm_80")
    assert {"HMMA.1688.F32.TF32", "LDGSTS.E"} <= used
    assert "FFMA.FTZ" not in used
    used = instructions(family, False, "sm_80")
    assert {"FFMA.FTZ", "LDGSTS.E", "LDS.128"} <= used
    assert not any(name.startswith("HMMA") for name in used)
    used = instructions(family, True, "sm_75")
    assert {"FFMA.FTZ", "LDS.U.128"} <= used
    assert not any(name.startswith(("HMMA", "LDGSTS")) for name in used)
