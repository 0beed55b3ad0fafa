"""The tests of register tiles, products, convolutions, pooling and reductions again, with registers of 8, 4
and 2 numbers, as processors without AVX-512 have them: Numba compiles for another one's name. Whole tiles use
no masks.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tinydl_kernels.cpu import simd, tiles
from tinydl_kernels.cpu.compiler import kernel

HERE = Path(__file__).parent
CPUS = {  # its name and features, lanes of float32; of float64 there are half as many
    "haswell": ("+avx,+avx2,+fma", 8),
    "x86-64": ("", 4),
}
SAMPLE = {
    "test_simd.py": "test_multiply_add or test_strip or test_pack_rows or test_transpose",
    "test_matmul.py": "test_bias",
    "test_winograd.py": "test_transforms",
    "test_reduce.py": "test_winners",
}
ALL = dict.fromkeys(
    ("test_simd.py", "test_matmul.py", "test_conv.py", "test_winograd.py", "test_pool.py", "test_reduce.py"),
    "not without_registers",
)

narrow = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="names processors of x86-64"
)


def run(cpu: str, file: str, tests: str) -> None:
    features, lanes = CPUS[cpu]
    code = f"import pytest; from tinydl_kernels.cpu import simd; assert simd.lanes(4) == {lanes}; "
    code += f"assert simd.lanes(8) == {lanes // 2}; raise SystemExit(pytest.main([{str(HERE / file)!r}, "
    code += f"'-q', '-p', 'no:cacheprovider', '-k', {tests!r}]))"
    environment = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@narrow
@pytest.mark.parametrize("file", SAMPLE)
def test_a_sample_with_the_narrowest(file: str) -> None:
    run("x86-64", file, SAMPLE[file])


@narrow
@pytest.mark.full
@pytest.mark.parametrize("file", ALL)
@pytest.mark.parametrize("cpu", CPUS)
def test_all(cpu: str, file: str) -> None:
    run(cpu, file, ALL[file])


# ---- Masks


class Emitted:
    """How often loads and stores were emitted, and how many of them with masks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: dict[tuple[str, bool], int] = {}
        for name in ("load", "store"):
            monkeypatch.setattr(simd._Emitter, name, self.noting(name, getattr(simd._Emitter, name)))

    def noting(self, name: str, emit: object) -> object:
        def noted(emitter: object, *args: object) -> object:
            masked = args[-1] is not None
            self.counts[name, masked] = self.counts.get((name, masked), 0) + 1
            return emit(emitter, *args)  # type: ignore[operator]

        return noted


def assembly_of(function: object, *args: object) -> str:
    compiled = kernel(function)
    compiled.dispatcher._cache = numba_without_cache()
    compiled(*args)
    (code,) = compiled.dispatcher.inspect_llvm().values()
    return code


def numba_without_cache() -> object:
    from numba.core.caching import NullCache

    return NullCache()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bound_costs_masks_and_none_costs_none(dtype: type) -> None:
    def whole(x, y):
        simd.store(
            simd.load(2, 2, simd.pointer(x, 0), 0, 0, None, None), simd.pointer(y, 0), 0, 0, None, None
        )

    def bounded(x, y):
        tile = simd.load(2, 2, simd.pointer(x, 0), 0, 0, None, x.size - 1)
        simd.store(tile, simd.pointer(y, 0), 0, 0, None, x.size - 1)

    x = np.ones(64, dtype)
    assert "masked" not in assembly_of(whole, x, x.copy())
    assert "masked" in assembly_of(bounded, x, x.copy())


@pytest.mark.parametrize("few", [0, 2, 1])
def test_whole_tiles_of_a_product_have_a_way_without_masks(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block of three registers: each load of what is added to, and each store, exists once with masks
    and once without, and the loop over the terms has none at all.
    """
    emitted = Emitted(monkeypatch)
    block = tiles._strip(3, few)

    def strip(x, w, y, columns):
        x, w, y = simd.pointer(x, 0), simd.pointer(w, 0), simd.pointer(y, 0)
        return block(8, y, 48, y, 48, w, 2, 1, x, 48, 2, columns, 0)

    x, w, y = np.ones((2, 48)), np.ones((8, 2)), np.zeros((8, 48))
    strip = kernel(strip)
    strip.dispatcher._cache = numba_without_cache()
    columns = 3 * simd.lanes(8)
    assert strip(x.reshape(-1), w.reshape(-1), y.reshape(-1), columns) == 8
    np.testing.assert_array_equal(y[:, :columns], 2.0)
    assert emitted.counts["store", True] == emitted.counts["store", False] >= 3 * (few or 4)
    # of the loads without masks the others are those of the terms: 3 vectors, at three places
    assert emitted.counts["load", False] - emitted.counts["load", True] == 9


def test_whole_tiles_of_a_convolution_have_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted = Emitted(monkeypatch)
    wide = tiles._block(4, True)

    def call(y, w, x, terms, n):
        y, w, x, terms = simd.pointer(y, 0), simd.pointer(w, 0), simd.pointer(x, 0), simd.pointer(terms, 0)
        return wide(y, 300, 0, 300, w, 1, terms, x, terms, 1, y, False, n, 0)

    y, w, x, terms = np.zeros((4, 300)), np.ones(4), np.ones(300), np.zeros(1, np.int64)
    call = kernel(call)
    call.dispatcher._cache = numba_without_cache()
    done = call(y.reshape(-1), w, x, terms, 300)
    np.testing.assert_array_equal(y[:, :done], 1.0)
    assert done >= 200
    assert ("load", True) not in emitted.counts
    assert emitted.counts["store", True] == emitted.counts["store", False]
