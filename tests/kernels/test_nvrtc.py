"""Every .cu of the package is CUDA: NVIDIA's compiler makes machine code of it for each
generation of GPUs, without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tinydl_kernels.cuda import launching
from tinydl_kernels.emulator import nvrtc
from tinydl_kernels.machine.errors import BackendError

pytestmark = pytest.mark.skipif(nvrtc.unavailable() is not None, reason=str(nvrtc.unavailable()))

REDUCES_ANGLES = {"map_sin", "map_cos", "map_tan"}
"""CUDA's own functions keep a few words on the stack to divide huge angles by pi."""
LONG = {"conv", "matmul"}
"""Sources of many tiles; test_tensor_cores.py has machine code made of one of each, which
is enough for the quick run.
"""
EVERY_INSTANCE = {"sm_75", "sm_80", "sm_120"}
"""The first, the one that most kernels are written for and the last are tried
with every instance of a source.
"""


def builds() -> Iterator[Any]:
    """(module, architecture); quick are those of sm_80, each source once."""
    for module in launching.modules():
        source = module.path.stem
        kind = module.name.removeprefix(source).removeprefix("-")
        for architecture in nvrtc.ARCHITECTURES:
            quick = architecture == "sm_80" and kind in ("", "float32") and source not in LONG
            if architecture in EVERY_INSTANCE or kind in ("", "float32", "tf32"):
                yield pytest.param(
                    module,
                    architecture,
                    id=f"{module.name}-{architecture}",
                    marks=[pytest.mark.full] * (not quick),
                )


@pytest.mark.parametrize(("module", "architecture"), list(builds()))
def test_compiles(module, architecture):
    binary = nvrtc.compile(module.source, architecture)
    assert binary.architecture == int(architecture.removeprefix("sm_"))
    assert "warning" not in binary.log
    resources = nvrtc.resources(binary.log)
    assert sorted(resources) == sorted(module.signatures)
    for kernel, used in resources.items():
        assert used.spilled == 0, (kernel, used)
        assert used.stack == 0 or kernel in REDUCES_ANGLES, (kernel, used)
        assert used.shared <= launching.STATIC_SHARED, (kernel, used)


def test_normal_numbers_are_rounded_as_on_the_cpu():
    """No fused multiply-add: it would give other bits. Whole packs are written by one instruction."""
    ptx = nvrtc.compile(launching.module("random").source, "compute_80").code.decode()
    assert "mul.rn.f64" in ptx
    assert "fma.rn.f64" not in ptx
    assert {"st.global.v4.f32", "st.global.v2.f64", "st.global.v4.u8"} <= set(ptx.split())


def test_errors_come_with_the_log():
    with pytest.raises(
        BackendError, match=r'(?s)sm_80: NVRTC_ERROR_COMPILATION.*identifier "undeclared" is undefined'
    ):
        nvrtc.compile('extern "C" __global__ void f(float* x) { x[0] = undeclared; }', "sm_80")


def test_a_missing_device_specifier_is_an_error():
    with pytest.raises(BackendError, match="considered a host function"):
        nvrtc.compile(
            'int one() { return 1; }\nextern "C" __global__ void f(int* x) { x[0] = one(); }', "sm_80"
        )


def test_text_is_no_machine_code():
    with pytest.raises(BackendError, match="expected an ELF image"):
        _ = nvrtc.compile('extern "C" __global__ void f(int* x) { x[0] = 1; }', "compute_80").architecture


def test_spills_are_seen():
    """A kernel that keeps more than its registers can hold."""
    source = """extern "C" __global__ void __launch_bounds__(1024, 2) f(const float* x, float* y) {
        float v[64];
        for (int i = 0; i < 64; ++i) v[i] = x[i * 1024 + threadIdx.x];
        __syncthreads();
        for (int i = 0; i < 64; ++i) y[i * 1024 + threadIdx.x] = v[i] * v[63 - i];
    }"""
    assert nvrtc.resources(nvrtc.compile(source, "sm_80").log)["f"].spilled > 0
