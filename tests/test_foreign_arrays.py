"""What comes from outside: subclasses of NumPy's array, another byte order, memory that is read-only;
comparison with what is no tensor; pickles.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td

VALUES = np.array([[1.0, 2.0], [3.0, 4.0]])


class Own(np.ndarray):
    """A user's subclass."""


def mapped(folder: Path, mode: Any) -> np.ndarray:
    np.save(folder / "values.npy", VALUES)
    return np.load(folder / "values.npy", mmap_mode=mode)


USES: list[Callable[[Any], Any]] = [
    lambda a: td.exp(a),
    lambda a: a + td.ones(2, 2, dtype="float64"),
    lambda a: td.ones(2, 2, dtype="float64") * a,
    lambda a: td.ones(2, 2, dtype="float64") @ a,
    lambda a: td.linear(a, td.ones(3, 2, dtype="float64")),
    lambda a: td.mse_loss(a, td.ones(2, 2, dtype="float64")),
    lambda a: td.cross_entropy(a, [0, 1]),
    lambda a: td.sum(a),
    lambda a: td.softmax(td.as_tensor(a), 1),
    lambda a: td.cat([td.as_tensor(a), td.as_tensor(a)]),
    lambda a: td.conv1d(td.as_tensor(a)[None], td.ones(1, 2, 1, dtype="float64")),
    lambda a: td.as_tensor(a)[a > 1],
    lambda a: td.Tensor(a) + 1,
    lambda a: td.nn.Parameter(a) * 2,
]


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["matrix", "own", "unmasked", "swapped", "map", "writable map"])
def test_subclasses_and_byte_orders_are_the_arrays_that_they_are(
    use: Callable[[Any], Any], kind: str, tmp_path: Path
) -> None:
    if kind == "swapped" and use is USES[-2]:
        pytest.skip("a Tensor is made of what the kernels read")
    given = {
        "matrix": lambda: np.matrix(VALUES),
        "own": lambda: VALUES.copy().view(Own),
        "unmasked": lambda: np.ma.array(VALUES),
        "swapped": lambda: VALUES.astype(">f8"),
        "map": lambda: mapped(tmp_path, "r"),
        "writable map": lambda: mapped(tmp_path, "r+"),
    }[kind]()
    with td.backend("reference"):
        found, expected = use(given), use(VALUES)
    assert type(found.array) is np.ndarray
    assert found.dtype.isnative
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("take", [td.tensor, td.as_tensor, td.from_numpy, td.Tensor, td.exp, td.nn.Parameter])
def test_masked_elements_are_refused(take: Callable[..., Any]) -> None:
    with pytest.raises(DtypeError, match=r"\w+: expected an array without masked elements: use filled\(\)"):
        take(np.ma.array(VALUES, mask=[[0, 1], [0, 0]]))


def test_a_view_of_another_byte_order_cannot_be_shared() -> None:
    swapped = VALUES.astype(">f4")
    with pytest.raises(
        DtypeError, match="from_numpy: expected an array of this machine's byte order, got >f4"
    ):
        td.from_numpy(swapped)
    assert td.tensor(swapped).dtype == td.as_tensor(swapped).dtype == np.float32
    labels = np.array([0, 1], ">i8")
    assert (
        td.cross_entropy(td.tensor(VALUES), labels).item()
        == td.cross_entropy(td.tensor(VALUES), [0, 1]).item()
    )


@pytest.mark.parametrize("labels", [[0, 1], (0, 1), range(2), np.array([0, 1]), np.array([0, 1], np.uint8)])
def test_labels_may_be_lists_and_arrays(labels: Any) -> None:
    x = td.tensor(VALUES)
    for loss in (td.cross_entropy, td.nll_loss, td.multi_margin_loss, td.nn.NLLLoss(td.ones(2).double())):
        assert loss(x, labels).item() == loss(x, td.tensor([0, 1])).item()
    assert x[range(2), labels].tolist() == [1, 4]
    assert td.nll_loss(x[0], labels[1]).item() == -2


# ---- Memory that may not be written

WRITES: list[Callable[[td.Tensor], Any]] = [
    lambda p: p.add_(1),
    lambda p: p.zero_(),
    lambda p: p.__setitem__(0, 1.0),
    lambda p: p.__setitem__([0, 1], 2.0),
    lambda p: p.__imul__(2),
    lambda p: p.copy_(td.ones(2, 2).double()),
    lambda p: p.normal_(),
    lambda p: td.nn.init.ones_(p),
]


@pytest.mark.parametrize("write", WRITES)
def test_writes_to_read_only_memory_are_refused(write: Callable[[td.Tensor], Any], tmp_path: Path) -> None:
    p = td.from_numpy(mapped(tmp_path, "r"))
    with (
        td.no_grad(),
        pytest.raises(GraphError, match=r"expected memory that may be written, got \(2.* read-only"),
    ):
        write(p)


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS"])
def test_a_step_on_a_read_only_map_is_an_error_not_a_crash(name: str, tmp_path: Path) -> None:
    mapped(tmp_path, "r")
    code = f"""
import sys, numpy as np, tinydl as td
p = td.from_numpy(np.load(sys.argv[1], mmap_mode="r")).requires_grad_()
optimizer = td.optim.{name}([p], lr=0.1)
def closure():
    optimizer.zero_grad()
    loss = (p * p).sum()
    loss.backward()
    return loss
try:
    optimizer.step(closure)
except td.GraphError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "values.npy")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "expected memory that may be written, got (2, 2) read-only" in done.stdout


# ---- What is no tensor


def test_comparison_with_another_thing_is_false() -> None:
    x = td.tensor([1.0, 2.0])
    for other in (None, "a", [1.0, 2.0], (1, 2), object(), 1j, ...):
        assert (x == other) is False
        assert (other == x) is False
        assert (x != other) is True
        assert other not in [x]
    assert x in [None, x]
    assert [None, x].index(x) == 1
    assert (x == np.array([1.0, 3.0])).tolist() == [True, False]
    assert (x == 2).tolist() == [False, True]


@pytest.mark.parametrize(
    "use", [lambda x, y: x + y, lambda x, y: x < y, lambda x, y: x**y, lambda x, y: td.mul(x, y)]
)
@pytest.mark.parametrize(("other", "kind"), [(None, "NoneType"), ("a", "str"), ([1, 2], "list")])
def test_arithmetic_with_another_thing_is_refused(use: Callable[..., Any], other: Any, kind: str) -> None:
    with pytest.raises(DtypeError, match=rf"\w+: expected a tensor, an array or a number, got {kind}"):
        use(td.ones(2), other)


def test_numbers_that_a_dtype_cannot_hold_are_refused_by_name() -> None:
    for make in (
        lambda n: td.full((2,), n, dtype="uint8"),
        lambda n: td.tensor([n], dtype="uint8"),
        lambda n: td.full_like(td.zeros(2, dtype="uint8"), n),
    ):
        for number in (300, -300):  # -1 is 255, as in PyTorch
            with pytest.raises(DtypeError, match=rf"\w+: expected numbers that uint8 can hold: .*{number}"):
                make(number)


def test_one_number_is_asked_for_by_name() -> None:
    for ask, name in ((bool, "bool"), (lambda x: x.item(), "item"), (float, "item"), (int, "item")):
        for x in (td.ones(2), td.ones(0)):
            with pytest.raises(ValueError, match=rf"{name}: expected a tensor of one element, got \(\d,\)"):
                ask(x)


def test_sizes_may_be_tensors_of_one_integer() -> None:
    two = td.tensor(2)
    assert td.zeros(two, 3).shape == td.rand(two, 3).shape == td.ones(6).reshape(two, -1).shape == (2, 3)
    with pytest.raises(
        ShapeError, match=r"reshape: expected a size in the place of -1, which 0 elements leave open"
    ):
        td.zeros(0, 2).reshape(-1, 0)


@pytest.mark.parametrize("layer", [td.nn.GRU, td.nn.LSTM, td.nn.RNN])
def test_no_steps_are_refused(layer: Any) -> None:
    with pytest.raises(ShapeError, match=r"\w+: expected at least one step, got input \(0, 2, 3\)"):
        layer(3, 4)(td.zeros(0, 2, 3))
    assert layer(3, 4)(td.zeros(3, 0, 3))[0].shape == (3, 0, 4)


INITIALIZERS = [
    getattr(td.nn.init, f"{name}_{kind}_")
    for name in ("kaiming", "xavier", "lecun")
    for kind in ("uniform", "normal")
]


@pytest.mark.parametrize("initialize", INITIALIZERS)
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0), (3, 0, 2, 2)])
def test_empty_weights_are_initialized(initialize: Callable[..., Any], shape: tuple[int, ...]) -> None:
    assert initialize(td.zeros(*shape)).shape == shape


# ---- Pickles


def same(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


def test_tensors_travel() -> None:
    for x in (
        td.tensor([1, 2]),
        td.ones(2, requires_grad=True),
        td.nn.Parameter(td.ones(2)),
        td.nn.Buffer([1.0]),
    ):
        y = same(x)
        assert (type(y), y.dtype, y.requires_grad, y.tolist()) == (
            type(x),
            x.dtype,
            x.requires_grad,
            x.tolist(),
        )
        assert y.is_leaf
    result = same(td.ones(2, requires_grad=True) * 3)
    assert (result.is_leaf, result.requires_grad, result.tolist()) == (True, True, [3, 3])
    view = same(td.arange(6).reshape(2, 3).T)
    assert view.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_model_with_its_optimizer_goes_on_as_if_nothing_happened() -> None:
    def steps(model: Any, optimizer: Any, schedule: Any, generator: Any, count: int) -> list[float]:
        losses = []
        for _ in range(count):
            optimizer.zero_grad()
            x = td.randn(4, 3, generator=generator)
            loss = (model(x) ** 2).sum()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        return losses

    model = td.nn.Sequential(td.nn.Linear(3, 3), td.nn.BatchNorm1d(3), td.nn.Tanh(), td.nn.Linear(3, 2))
    optimizer = td.optim.Adam(model.parameters(), lr=0.01)
    everything = model, optimizer, td.optim.lr_scheduler.StepLR(optimizer, 2), td.Generator(3)
    with td.backend("reference"):
        steps(*everything, 3)
        copies = same(everything)
        assert copies[1].param_groups[0]["params"][0] is next(copies[0].parameters())
        assert steps(*everything, 4) == steps(*copies, 4)


ODD = [np.ones(3, ">f4"), np.ones((2, 2), ">f8"), np.ma.masked_array([1.0, 2.0]), np.arange(3, dtype=">u2")]


@pytest.mark.parametrize("odd", ODD, ids=lambda x: x.dtype.str)
def test_recorded_steps_take_odd_arrays(odd: np.ndarray) -> None:
    step = td.record(lambda x: x * 2.0 + 1.0)
    for _ in range(3):
        y = step(odd).numpy()
        assert type(y) is np.ndarray
        assert y.dtype.isnative
        np.testing.assert_array_equal(y, np.asarray(odd) * 2 + 1)


@pytest.mark.parametrize(
    "refused",
    [np.ones(2, np.float16), np.ones(2, complex), np.ones(2, object), np.array(["a"]), np.zeros(1, "f4,i4")],
    ids=lambda x: x.dtype.name,
)
def test_recorded_steps_refuse_dtypes_without_kernels(refused: np.ndarray) -> None:
    with pytest.raises(
        DtypeError, match=r"^record: expected float32, float64, an integer dtype or bool, got"
    ):
        td.record(lambda x: x * 2.0)(refused)
