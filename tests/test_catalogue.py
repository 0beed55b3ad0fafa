"""Walks the catalogue: values, derivatives, layouts, dtypes, recordings and errors of
every row; and nothing left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import REFUSALS, ROWS, Refusal, Row
from test_surface import NAMES as SURFACE
from test_surface import found as named
from tinydl_kernels.machine.errors import GraphError, TinydlError

import tinydl as td
from tinydl import decompositions
from tinydl.debug import Tracer
from tinydl.engine import core
from tinydl.engine.core import Primitive, Tensor
from tinydl.engine.effect import Effect
from tinydl.engine.state import state
from tinydl.ops import METHODS, OPERATORS

BACKENDS = ["reference", "cpu"]
TOLERANCE = 1e-10  # of float64, relative to the largest value
ELSEWHERE = {
    "devices.transfer",  # needs two devices: test_devices.py
    "function.attached",  # has a rule of the user's: test_autograd.py
}
NO_DERIVATIVE = Path(__file__).with_name("no_derivative.txt")

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
every_backend = pytest.mark.parametrize("backend", BACKENDS)
# Numba's kernels are compiled for each dtype: those of single precision, row by row, in the full run.
compiled = pytest.mark.full
every_dtype = pytest.mark.parametrize(
    ("dtype", "backend"),
    [
        pytest.param(np.float32, "reference", id="float32-reference"),
        pytest.param(np.float32, "cpu", id="float32-cpu", marks=compiled),
        pytest.param(np.float64, "reference", id="float64-reference"),
        pytest.param(np.float64, "cpu", id="float64-cpu"),
    ],
)
single_precision = pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=compiled)])
tiny_functions = pytest.mark.parametrize(
    ("row", "backend"),
    [
        pytest.param(
            row, backend, id=f"{backend}-{row.name.replace(' ', '-')}", marks=[pytest.mark.tiny] * tiny
        )
        for backend in BACKENDS
        for row in ROWS
        for tiny in [backend == "reference" and not row.name.startswith("nn.")]
    ],
)


def one(function: Callable[..., Any], x: Tensor) -> Any:
    return function(x)


def two(function: Callable[..., Any], x: Tensor) -> Any:
    return function(x, x)


def drawn_in(scope: Any, noted: bool = False) -> Any:
    """A random tensor of a scope, or what the scope noted of it."""
    with scope as notes:
        found = td.randn(2)
    return notes if noted else found


def several(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def outputs(row: Row, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What the row gives, with random numbers of a fresh generator."""
    with td.random_from(td.Generator()):
        return several(row.call(*inputs))


def gradients(row: Row, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs, then the gradient of Σ <cotangent, output> for each input that requires one;
    cotangents are not constant.
    """
    found = outputs(row, inputs)
    seeded = [
        (y, td.from_numpy(np.cos(np.arange(y.array.size)).reshape(y.shape).astype(y.dtype))) for y in found
    ]
    seeded = [(y, c) for y, c in seeded if y.requires_grad]
    wanted = [x for x in inputs if x.requires_grad]
    if not seeded:
        return found
    return found + list(td.grad([y for y, _ in seeded], wanted, [c for _, c in seeded]))


def assert_close(got: Sequence[Tensor], expected: Sequence[Any], tolerance: float) -> None:
    assert len(got) == len(expected)
    for y, value in zip(got, expected, strict=True):
        value = np.asarray(value)
        assert y.shape == value.shape
        largest = np.abs(value[np.isfinite(value)]).max(initial=1.0)
        np.testing.assert_allclose(y.array, value, rtol=0, atol=tolerance * largest)


def assert_same(got: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Bit for bit."""
    assert len(got) == len(expected)
    for y, value in zip(got, expected, strict=True):
        assert (y.shape, y.dtype) == (value.shape, value.dtype)
        assert np.ascontiguousarray(y.array).tobytes() == np.ascontiguousarray(value.array).tobytes()


# ---- Values


@every_row
@every_dtype
def test_values_equal_the_reference(row: Row, backend: str, dtype: Any) -> None:
    for sample in row.samples if dtype in row.dtypes else ():
        arrays = row.arrays(sample, dtype)
        before = [x.copy() for x in arrays]
        with td.backend(backend):
            found = outputs(row, row.tensors(arrays))
        for x, y in zip(arrays, before, strict=True):
            assert np.array_equal(x, y), "an input was modified"
        with np.errstate(all="ignore"):
            expected = several(
                row.reference(*[x.astype(np.float64) if x.dtype.kind == "f" else x for x in before])
            )
        assert_close(found, expected, TOLERANCE if dtype is np.float64 else row.tolerance)
        for y, value in zip(found, expected, strict=True):
            assert y.dtype == (dtype if np.asarray(value).dtype.kind == "f" else np.asarray(value).dtype)


def strided(x: np.ndarray) -> np.ndarray:
    """The same values with gaps, backwards and axes reversed."""
    wide = np.zeros((*reversed(x.shape), 2), x.dtype)
    view = wide[(*(slice(None, None, -1) for _ in x.shape), 1, ...)].T
    view[...] = x
    return view


@every_row
@every_backend
def test_any_layout_gives_the_same(row: Row, backend: str) -> None:
    arrays = row.arrays(row.samples[0])
    with td.backend(backend):
        settled = gradients(row, row.tensors(arrays))
        for layout in (strided, np.asfortranarray):
            assert_close(
                gradients(row, row.tensors([layout(x) for x in arrays])), [y.array for y in settled], 1e-13
            )


@every_row
@single_precision
def test_float32_gradients_are_those_of_float64(row: Row, backend: str) -> None:
    for sample in row.samples if np.float32 in row.dtypes else ():
        single = row.arrays(sample, np.float32)
        double = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in single]
        with td.backend(backend):
            found, expected = gradients(row, row.tensors(single)), gradients(row, row.tensors(double))
        assert_close(found, [y.array for y in expected], 10 * row.tolerance)
        assert all(y.dtype != np.float64 for y in found)


# ---- Derivatives


@tiny_functions
def test_first_and_second_derivatives(row: Row, backend: str) -> None:
    for sample in row.samples[: min(row.order, 1) * len(row.samples)]:
        with td.backend(backend):
            assert td.gradcheck(row.call, row.tensors(row.arrays(sample)), min(row.order, 2))


@pytest.mark.full
@every_row
@every_backend
def test_third_derivatives(row: Row, backend: str) -> None:
    if row.order == 3:
        with td.backend(backend):
            assert td.gradcheck(row.call, row.tensors(row.arrays(row.samples[0])), 3)


# ---- Recording


@every_row
@every_dtype
def test_a_replay_gives_the_same_bits(row: Row, backend: str, dtype: Any) -> None:
    """The recorded values and gradients, replayed on the arguments of other seeds:
    first call by call, then as jobs.

    Before these the memory of the recording is spoilt, so that they cannot find what
    only the calls have written.
    """
    if not row.records:
        with td.backend(backend), pytest.raises(GraphError, match="expected an eager step"):
            td.record(row.call)(*row.tensors(row.arrays(row.samples[0])))
        return
    generator = td.Generator()

    def step(*inputs: Any) -> Any:
        leaves = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
        with td.random_from(generator):
            found = several(row.call(*leaves))
        seeded = [(y, y.detach() * 0.5 + 1.0) for y in found if y.requires_grad]
        wanted = [x for x in leaves if x.requires_grad]
        grads = td.grad([y for y, _ in seeded], wanted, [c for _, c in seeded]) if seeded else ()
        return [*(y.detach() for y in found), *grads]

    with td.backend(backend):
        recorded = td.record(step)
        for seed in (0, 1, 2):
            if seed == 2:
                for (recording,) in recorded.recordings.values():
                    for buffer in (buffer for call in recording.calls for buffer in call.buffers):
                        buffer.reshape(-1).view(np.uint8).fill(255)
            inputs = row.tensors(row.arrays(row.samples[0], dtype, seed))
            generator.load_state_dict({"seed": seed, "stream": 0, "counter": 0})
            expected = [td.tensor(y) for y in step(*inputs)]
            generator.load_state_dict({"seed": seed, "stream": 0, "counter": 0})
            assert_same(recorded(*inputs), expected)


# ---- Errors


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("row", "inputs", "error", "message"),
    [
        pytest.param(row, inputs, error, message, id=f"{row.name}-{k}".replace(" ", "-"))
        for row in ROWS
        for k, (inputs, error, message) in enumerate(row.bad)
    ],
)
def test_bad_inputs_are_refused_by_name(row: Row, inputs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        row.call(*inputs)
    assert_says(caught.value, error, message)


@pytest.mark.tiny
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.name}-{case.message[:40]}".replace(" ", "-")) for case in REFUSALS]
)
def test_what_is_wrong_otherwise_is_refused_by_name(case: Refusal) -> None:
    with td.backend("reference"), pytest.raises(case.error) as caught:
        case.call()
    assert_says(caught.value, case.error, case.message)


def assert_says(caught: Exception, error: type[Exception], message: str) -> None:
    assert message in str(caught)
    assert re.match(r"\w+: .+", str(caught)), "an error begins with who raises it"
    assert not issubclass(error, TinydlError) or type(caught) is error


# ---- Completeness

ACCEPTS_ALL = {"nn.Identity", "nn.DataParallel", "is_tensor"}
"""What takes anything, or hands it on: there is nothing to refuse."""


def public() -> dict[str, Any]:
    """The functions over tensors that tinydl offers, by name."""
    return {
        name: value
        for name, value in vars(td).items()
        if isinstance(value, Primitive)
        or (inspect.isfunction(value) and value.__module__.startswith("tinydl.ops."))
    }


def registered() -> dict[str, Primitive]:
    """The primitives of tinydl; those that tests make are not among them."""
    return {name: p for name, p in core.primitives.items() if p.function.__module__.startswith("tinydl")}


def key(p: Primitive) -> str:
    return f"{p.function.__module__.rpartition('.')[2]}.{p.name}"


def without_derivative() -> set[str]:
    lines = NO_DERIVATIVE.read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def catalogued() -> set[str]:
    """Public names, primitives and layers that have a row."""
    names = {row.name.split()[0] for row in ROWS} | {row.covers for row in ROWS}
    names |= {key(row.call) for row in ROWS if isinstance(row.call, Primitive)}
    # clamp = clip
    same = {name for name, value in public().items() for other in names if value is getattr(td, other, None)}
    return names | same


@pytest.mark.tiny
def test_every_public_function_is_listed() -> None:
    assert sorted(set(public()) - catalogued() - without_derivative()) == []


@pytest.mark.tiny
def test_every_public_name_refuses_something() -> None:
    """Functions, layers and utilities: each has a bad input whose message is tested."""
    tested = {row.name.split()[0] for row in ROWS if row.bad} | {case.name for case in REFUSALS} | ACCEPTS_ALL
    names = {row.name.split()[0] for row in ROWS if row.name.startswith("nn.") or "." not in row.name} | set(
        SURFACE
    )
    # clamp = clip
    same = {name for name in names if any(named(td, name) is named(td, other) for other in tested)}
    assert sorted(names - tested - same) == []


@pytest.mark.tiny
def test_every_primitive_is_listed() -> None:
    assert sorted(set(registered()) - catalogued() - without_derivative() - ELSEWHERE) == []


@pytest.mark.tiny
def test_every_layer_is_listed_in_both_modes() -> None:
    layers = {
        n
        for n, v in vars(td.nn).items()
        if inspect.isclass(v) and issubclass(v, td.nn.Module) and v is not td.nn.Module
    }
    listed = {" ".join(row.name.split()[:2]) for row in ROWS}
    assert sorted({f"nn.{layer} {mode}" for layer in layers for mode in ("train", "eval")} - listed) == []


@pytest.mark.tiny
def test_no_row_is_of_something_that_is_gone() -> None:
    layers = {f"nn.{name}" for name in vars(td.nn)}
    tensor = {f"Tensor.{name}" for name in (*METHODS, *OPERATORS, "T")}
    known = set(public()) | set(registered()) | layers | tensor | {f"linalg.{n}" for n in td.linalg.__all__}
    known |= {*decompositions.__all__}
    assert sorted({row.name.split()[0] for row in ROWS} - known) == []
    assert sorted({row.covers for row in ROWS} - {""} - set(registered())) == []
    assert len({row.name for row in ROWS}) == len(ROWS)


@every_row
def test_a_row_calls_the_primitive_that_it_covers(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    class Seeing(Tracer):
        def run(self, primitive: Primitive, arrays: Any, settings: Any) -> Any:
            seen.add(key(primitive))
            return super().run(primitive, arrays, settings)

    with td.backend("reference"), monkeypatch.context() as patched:
        patched.setattr(state, "tracer", Seeing())
        outputs(row, row.tensors(row.arrays(row.samples[0])))
    if row.covers:
        assert row.covers in seen


CONSTANT: dict[str, Callable[[Any, Tensor], Any]] = {
    **dict.fromkeys(
        [
            "all",
            "any",
            "argmax",
            "argmin",
            "argsort",
            "isfinite",
            "isinf",
            "isnan",
            "logical_not",
            "nonzero",
            "argwhere",
            "numel",
        ],
        one,
    ),
    **dict.fromkeys(["unique", "rand_like", "randn_like", "zeros_like", "ones_like", "empty_like"], one),
    **dict.fromkeys(
        [
            "eq",
            "ge",
            "gt",
            "le",
            "lt",
            "ne",
            "logical_and",
            "logical_or",
            "logical_xor",
            "allclose",
            "equal",
            "isclose",
        ],
        two,
    ),
    **dict.fromkeys(
        ["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"],
        lambda f, x: f(td.tensor([1, 2]), td.tensor([3, 1])),
    ),
    "bitwise_not": lambda f, x: f(td.tensor([1, 2])),
    "is_tensor": lambda f, x: f(x),
    **dict.fromkeys(["ones", "zeros", "empty", "rand", "randn"], lambda f, x: f(*x.shape)),
    "rand_beta": lambda f, x: f(0.5, 2.0, *x.shape),
    "rand_gamma": lambda f, x: f(2.0, *x.shape),
    **dict.fromkeys(["arange", "eye", "randperm"], lambda f, x: f(3)),
    "bernoulli": lambda f, x: f(td.sigmoid(x)),
    "from_dlpack": lambda f, x: f(x.detach().numpy()),
    "from_numpy": lambda f, x: f(x.detach().numpy()),
    "full": lambda f, x: f((2, 3), 1.0),
    "full_like": lambda f, x: f(x, 1.0),
    "linspace": lambda f, x: f(0, 1, 5),
    "count_nonzero": lambda f, x: f(x),
    "isin": lambda f, x: f(x, 1.0),
    **dict.fromkeys(("tril_indices", "triu_indices"), lambda f, x: f(2, 3)),
    **dict.fromkeys(("greater", "greater_equal", "less", "less_equal", "not_equal"), lambda f, x: f(x, 1.0)),
    "manual_seed": lambda f, x: f(0),
    "multinomial": lambda f, x: f(td.sigmoid(x), 2),
    "one_hot": lambda f, x: f(td.argmax(x, 1), 3),
    "randint": lambda f, x: f(0, 5, (2,)),
    "random_from": lambda f, x: drawn_in(f(td.Generator())),
    "remember": lambda f, x: drawn_in(f()),
    "repeat": lambda f, x: drawn_in(f(drawn_in(td.remember(), noted=True))),
    "searchsorted": lambda f, x: f(x[1], x),
    "tensor": lambda f, x: f(x),
}
"""How to call what has no derivative: of x, or of what is in it, where it takes tensors."""


@pytest.mark.tiny
def test_what_has_no_derivative_has_none() -> None:
    listed, primitives, functions = without_derivative(), registered(), public()
    assert sorted(listed - set(primitives) - set(functions)) == [], "gone"
    assert sorted(listed & catalogued()) == [], "in both lists"
    for name in listed & set(primitives):
        p = primitives[name]
        assert isinstance(p, Effect) or not p.differentiable, name
    assert sorted(listed & set(functions)) == sorted(CONSTANT), "each has its call"
    x = td.tensor([[0.5, -1.0], [2.0, 1.0]], requires_grad=True)
    with td.backend("reference"), td.random_from(td.Generator()):
        for name, call in CONSTANT.items():
            result = call(functions[name], x)
            assert all(not y.requires_grad for y in several(result) if isinstance(y, Tensor)), name
