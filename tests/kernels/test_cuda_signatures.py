"""The signatures of the kernels, read from their sources, and the numbers that CUDA shares with Python."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tinydl_kernels
from tinydl_kernels.cuda import launching
from tinydl_kernels.cuda.signatures import TABLE, Parameter, signatures
from tinydl_kernels.machine import constants
from tinydl_kernels.machine.errors import BackendError

pytestmark = pytest.mark.tiny

SOURCES = sorted(Path(tinydl_kernels.__file__).parent.rglob("*.cu*"))


def parameter(name: str, type_: str, dtype: object, **more: bool) -> Parameter:
    return Parameter(name, type_, np.dtype(dtype), **{"pointer": False, "const": False, **more})  # type: ignore[arg-type]


def test_every_form_of_a_parameter() -> None:
    source = """
    // extern "C" __global__ void commented(size_t n) {}
    extern "C" __global__ void __launch_bounds__(256, (2 + 1)) first(const float* __restrict__ x, /* in */
        unsigned long long *y, const Table sizes, Arrays<const unsigned char> many,
        Arrays< double > more, bool last) { call(x, y[0]); }
    __device__ void no_kernel(size_t n) {}
    extern "C" __global__ void
        __launch_bounds__(N) none() {}
    """
    assert signatures(source) == {
        "first": (
            parameter("x", "float", np.float32, pointer=True, const=True),
            parameter("y", "unsigned long long", np.uint64, pointer=True),
            parameter("sizes", "Table", TABLE, const=True),
            parameter("many", "unsigned char", np.uint8, pointer=True, const=True, many=True),
            parameter("more", "double", np.float64, pointer=True, many=True),
            parameter("last", "bool", np.bool_),
        ),
        "none": (),
    }


def test_macros_make_kernels() -> None:
    source = r"""
#define UNARY(name, result, ...)                                       \
    extern "C" __global__ void map_##name(const real* a, result* y) {  \
        *y = __VA_ARGS__;                                              \
    }
#define PRODUCT(SIZE, ...) extern "C" __global__ void product_##SIZE##_of(number n) { f(__VA_ARGS__); }
#define OTHER(x) (x)
UNARY(neg, real, -*a)
UNARY(pair, bool, f(*a, 1), g{2, 3})  // commas enough
PRODUCT(2x4, 1, 2)
  UNARY(not_at_the_beginning, real, 0)
OTHER(1)
    """
    found = signatures(source, np.dtype(np.float64))
    assert list(found) == ["map_neg", "map_pair", "product_2x4_of"]
    a = parameter("a", "real", np.float64, pointer=True, const=True)
    assert found["map_neg"] == (a, parameter("y", "real", np.float64, pointer=True))
    assert found["map_pair"] == (a, parameter("y", "bool", np.bool_, pointer=True))
    assert found["product_2x4_of"] == (parameter("n", "number", np.float64),)


@pytest.mark.parametrize(
    "text",
    ["size_t n", "real n", "float** x", "float& x", "Arrays<size_t> x", "float", "float x[4]", "int n,"],
)
def test_other_parameters_are_refused(text: str) -> None:
    with pytest.raises(
        BackendError, match=r"f: expected a parameter of type bool, .* or a pointer to it, got"
    ):
        signatures(f'extern "C" __global__ void f(const float* x, {text}) {{}}')


def test_brackets_must_close() -> None:
    with pytest.raises(BackendError, match=r"signatures: expected brackets that close, got 'f \( int n'"):
        signatures('extern "C" __global__ void f(int n')


def test_every_kernel_of_the_package_is_found() -> None:
    """As many as the sources say `__global__`, a macro at each of its uses."""
    for module in launching.modules():
        text = re.sub(r"//[^\n]*", "", module.source).replace("\\\n", " ")
        macros = re.findall(r"^#define (\w+)\(.*?\)(.*__global__.*)", text, re.MULTILINE)
        count = len(re.findall(r"^(?!#).*__global__", text, re.MULTILINE))
        for name, body in macros:
            count += body.count("__global__") * len(re.findall(rf"^{name}\(", text, re.MULTILINE))
        assert len(module.signatures) == count > 0, module.name


def test_shared_numbers_stand_once() -> None:
    """The constants of every file and of its own head a module; no source has them again."""
    named = {path.stem: path for path in SOURCES if path.suffix == ".cu"}
    assert set(constants.OF_FILE) <= set(named)
    for module in launching.modules():
        own = constants.EVERY | constants.OF_FILE.get(module.path.stem, {})
        for name, value in own.items():
            assert module.source.count(constants.line(name, value)) == 1
        if module.path.stem not in named:  # generated: its source is in no file
            continue
        text = module.path.read_text(encoding="utf-8")
        for name in constants.OF_FILE.get(module.path.stem, {}):
            assert re.search(rf"\b{name}\b", text), f"{module.name} does not use {name}"
            assert not re.search(rf"constexpr \w+ (\w+ = [^;]*, )?{name} =|#define {name}\b", text)
