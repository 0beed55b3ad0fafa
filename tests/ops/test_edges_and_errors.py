"""Zeros among factors, norms at 0, places named twice, sizes of zero and one; and
what wrong arguments are told.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_surface import NAMES
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.engine.core import Primitive, Tensor
from tinydl.ops import second_names

X = td.ones(3, 4)
CUBE = td.ones(2, 3, 4)


def leaf(values: Any) -> Tensor:
    return td.tensor(np.array(values, np.float64), requires_grad=True)


# ---- Exact where division or roots would not be


@pytest.mark.parametrize(
    "values", [[2.0, 3.0, -1.0], [2.0, 0.0, -1.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [5.0]]
)
@pytest.mark.parametrize(
    "function", [td.prod, lambda x: td.cumprod(x, 0), lambda x: td.prod(x, 0, keepdim=True) * x]
)
def test_products_with_zeros(function: Callable[..., Any], values: list[float]) -> None:
    assert td.gradcheck(function, leaf(values), 3, full=True)


def test_every_third_derivative_of_a_product_with_zeros() -> None:
    x = leaf([0.0, 0.0, 3.0, 0.0])
    (g,) = td.grad(td.prod(x), x, create_graph=True)
    (h,) = td.grad(g[0], x, create_graph=True)
    (t,) = td.grad(h[1], x)
    assert (g.tolist(), h.tolist(), t.tolist()) == ([0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 3])


@pytest.mark.parametrize(
    "function",
    [td.norm, lambda x: td.norm(x, 3), lambda x: td.norm(x, 1.5), lambda x: td.std(x, unbiased=False)],
)
def test_roots_at_zero_have_derivatives_of_zero(function: Callable[..., Any]) -> None:
    x = leaf([0.0, 0.0, 0.0])
    (g,) = td.grad(function(x), x, create_graph=True)
    (h,) = td.grad((g * td.tensor([1.0, 2.0, 3.0], dtype="float64")).sum(), x)
    assert g.tolist() == h.tolist() == [0, 0, 0]


def test_norms_are_numpys() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    for p in (0, 0.5, 1, 1.7, 2, 3, 4, -1, -2, np.inf, -np.inf):
        np.testing.assert_allclose(td.norm(td.tensor(x), p, 1).numpy(), np.linalg.norm(x, p, 1))
        if p not in (0, 1, np.inf, -np.inf):
            assert td.gradcheck(lambda x, p=p: td.norm(x, p, 1), leaf(x), 3)
    assert td.norm(td.tensor([0.0, 2.0]), -1).item() == 0


def test_the_winner_of_a_scatter_has_the_gradient() -> None:
    places = td.tensor([[0, 1, 0], [2, 2, 2]])
    x, source = leaf(np.arange(8.0).reshape(2, 4)), leaf([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    y = td.scatter(x, 1, places, source)
    assert y.tolist() == [[3, 2, 2, 3], [4, 5, 6, 7]]
    gx, gs = td.grad((y * y).sum(), (x, source))
    assert gs.tolist() == [[0, 4, 6], [0, 0, 12]]
    assert gx.tolist() == [[0, 0, 4, 6], [8, 10, 0, 14]]
    assert td.gradcheck(lambda x, s: td.scatter(x, 1, places, s) ** 2, [x, source], 3)


def test_shares_of_duplicates_are_added_in_order() -> None:
    values = np.random.default_rng(0).standard_normal((1000,)).astype(np.float32)
    index = td.tensor(np.random.default_rng(1).integers(0, 3, 1000))
    x = td.zeros(3, requires_grad=True)
    first, again = (td.grad(x[index], x, td.tensor(values))[0].numpy().tobytes() for _ in range(2))
    assert first == again


def test_sizes_of_zero_and_one() -> None:
    empty = td.zeros(0, 3)
    assert td.cumsum(empty, 0).shape == td.cumprod(empty, 1).shape == td.sort(empty, 0)[0].shape == (0, 3)
    assert td.prod(empty, 0).tolist() == [1, 1, 1]
    assert td.any(empty, 0).tolist() == [False] * 3
    assert td.all(empty, 0).tolist() == [True] * 3
    assert td.index_select(td.zeros(3, 0), 0, td.tensor([1, 1])).shape == (2, 0)
    assert td.unique(empty).shape == (0,)
    assert td.einsum("ij,jk->ik", td.zeros(2, 0), td.zeros(0, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert td.unbind(empty) == ()
    assert td.tile(X, 2, 0).shape == (6, 0)
    assert td.topk(X, 0)[0].shape == (3, 0)
    assert td.bincount(td.zeros(0, dtype="int64")).shape == (0,)
    scalar = td.tensor(2.0)
    assert (
        td.cumsum(scalar, 0).shape
        == td.cumprod(scalar, -1).shape
        == td.sort(scalar)[0].shape
        == td.prod(scalar, 0).shape
        == ()
    )
    assert td.argsort(scalar).item() == td.topk(scalar, 1)[1].item() == 0
    assert td.gradcheck(lambda x: td.cumprod(x, 1) * td.cumsum(x, 1), leaf(np.zeros((2, 0))))


def test_a_view_shares_memory_or_is_refused() -> None:
    x = td.zeros(2, 6)
    y = x.view(3, -1)
    assert np.shares_memory(x.array, y.array)
    assert td.zeros(2, 3, 4)[:, :, :2].view(6, 2).shape == (6, 2)  # merged dims whose strides allow it
    with pytest.raises(ShapeError, match=r"view: expected strides that allow a view, got \(6, 2\)"):
        x.T.view(12)
    assert x.T.reshape(12).shape == (12,)


def test_parts_are_views() -> None:
    for dim in (0, 1, 2):
        parts = (*td.unbind(CUBE, dim), *td.split(CUBE, 2, dim), *td.chunk(CUBE, 2, dim), td.flip(CUBE, dim))
        assert all(np.shares_memory(part.array, CUBE.array) for part in parts)


def test_einsum_with_lists_and_many_operands() -> None:
    random = np.random.default_rng(0)
    a, b, c, d = (random.standard_normal(shape) for shape in ((3, 4), (4, 5), (5, 3), (3,)))
    ours = td.einsum(td.tensor(a), [0, 1], td.tensor(b), [1, 2], [2, 0])
    np.testing.assert_allclose(ours.numpy(), np.einsum(a, [0, 1], b, [1, 2], [2, 0]))
    np.testing.assert_allclose(td.einsum(td.tensor(a), [..., 0], [0, ...]).numpy(), a.T)
    equation = "ij,jk,kl,l,i->jl"
    tensors = [leaf(x) for x in (a, b, c, d, d)]
    np.testing.assert_allclose(
        td.einsum(equation, *tensors).detach().numpy(), np.einsum(equation, a, b, c, d, d)
    )
    assert td.gradcheck(lambda *xs: td.einsum(equation, xs), tensors, 3)


def test_gradients_through_order() -> None:
    x = leaf(np.random.default_rng(0).permutation(12.0 * np.linspace(0.1, 1, 12)).reshape(3, 4))
    assert td.gradcheck(lambda x: td.sort(x, 1, descending=True)[0] ** 3, x, 3)
    assert td.gradcheck(lambda x: td.topk(x, 2, 0)[0] ** 3, x, 3)


# ---- Who, expected, got

BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: td.movedim(X, (0, 0), (0, 1)),
        ShapeError,
        "movedim: expected as many different sources as destinations, got (0, 0)",
    ),
    (lambda: td.split(X, 0), ShapeError, "split: expected a positive size, got 0"),
    (
        lambda: td.split(X, [1, 1]),
        ShapeError,
        "split: expected sizes that add up to 3 along dim 0 of (3, 4), got (1, 1)",
    ),
    (lambda: td.chunk(X, 0), ShapeError, "chunk: expected at least one chunk, got 0"),
    (lambda: td.unbind(td.tensor(1.0)), ShapeError, "unbind: expected at least one dim, got a 0-d tensor"),
    (
        lambda: td.narrow(X, 0, 2, 2),
        ShapeError,
        "narrow: expected start and length within 3 along dim 0, got 2 and 2",
    ),
    (lambda: td.flip(X, 0, -2), ShapeError, "flip: expected each dim once, got (0, -2)"),
    (lambda: td.roll(X, (1, 2), 0), ShapeError, "roll: expected as many shifts as dims, got (1, 2) and 0"),
    (lambda: td.rot90(X, 1, (0, 0)), ShapeError, "rot90: expected two different dims of (3, 4), got (0, 0)"),
    (lambda: td.tile(X, -1), ShapeError, "tile: expected counts of at least 0, got (-1,)"),
    (lambda: X.repeat(2), ShapeError, "repeat: expected at least 2 counts for (3, 4), got (2,)"),
    (lambda: td.meshgrid(X), ShapeError, "meshgrid: expected vectors, got (3, 4)"),
    (
        lambda: td.meshgrid(td.ones(2), indexing="ab"),
        ValueError,
        "meshgrid: expected indexing 'ij' or 'xy', got 'ab'",
    ),
    (lambda: td.diag(CUBE), ShapeError, "diag: expected a vector or a matrix, got (2, 3, 4)"),
    (
        lambda: td.diagonal(X, 0, 1, 1),
        ShapeError,
        "diagonal: expected two different dims of (3, 4), got 1 and 1",
    ),
    (
        lambda: td.pad(X, (4, 0), "reflect"),
        ShapeError,
        "pad: expected at most 3 along dim 1 of (3, 4) in mode 'reflect', got (4, 0)",
    ),
    (
        lambda: td.pad(X, (5, 0), "circular"),
        ShapeError,
        "pad: expected at most 4 along dim 1 of (3, 4) in mode 'circular'",
    ),
    (
        lambda: td.pad(X, (1, 1), "mirror"),
        ValueError,
        "pad: expected mode 'constant', 'reflect', 'replicate' or 'circular'",
    ),
    (lambda: td.pixel_shuffle(CUBE, 2), ShapeError, "pixel_shuffle: expected (*, C·2², H, W), got (2, 3, 4)"),
    (
        lambda: td.pixel_unshuffle(CUBE, 2),
        ShapeError,
        "pixel_unshuffle: expected (*, C, H·2, W·2), got (2, 3, 4)",
    ),
    (
        lambda: td.broadcast_tensors(X, CUBE, td.ones(5)),
        ShapeError,
        "broadcast_tensors: expected shapes that broadcast",
    ),
    (lambda: td.tril(td.ones(3)), ShapeError, "tril: expected matrices, got (3,)"),
    (
        lambda: td.index_select(X, 0, td.tensor([3])),
        IndexError,
        "index_select: expected indices from 0 to 2, got 3 to 3",
    ),
    (
        lambda: td.index_select(X, 0, td.tensor([1.0])),
        DtypeError,
        "index_select: expected an index of integers, got float32",
    ),
    (
        lambda: td.gather(X, 0, td.tensor([0])),
        ShapeError,
        "gather: expected an index no larger than the input (3, 4) but for dim 0",
    ),
    (
        lambda: td.scatter_add(X, 0, td.tensor([[0, 1]]), td.ones(1, 1)),
        ShapeError,
        "scatter_add: expected src at least as large",
    ),
    (
        lambda: td.take_along_dim(X, td.tensor([0]), 0),
        ShapeError,
        "take_along_dim: expected indices of 2 dims for (3, 4), got (1,)",
    ),
    (lambda: td.masked_fill(X, X, 0.0), DtypeError, "masked_fill: expected a mask of booleans, got float32"),
    (
        lambda: td.masked_select(X, td.ones(3) > 0),
        ShapeError,
        "masked_select: expected shapes that broadcast, got (3, 4), (3,)",
    ),
    (
        lambda: td.repeat_interleave(X, -1),
        ShapeError,
        "repeat_interleave: expected counts of at least 0, got -1",
    ),
    (
        lambda: td.repeat_interleave(X, td.tensor([1, 2]), 0),
        ShapeError,
        "repeat_interleave: expected 3 counts of at least 0, got (2,)",
    ),
    (lambda: td.one_hot(td.tensor([3]), 3), IndexError, "one_hot: expected indices from 0 to 2, got 3 to 3"),
    (
        lambda: td.bincount(td.tensor([[1]])),
        ShapeError,
        "bincount: expected a vector, and weights of its shape, got (1, 1)",
    ),
    (lambda: td.topk(X, 5), ShapeError, "topk: expected k from 0 to 4 for (3, 4) along dim 1, got 5"),
    (lambda: td.sort(X, 2), ShapeError, "sort: expected dim in [-2, 1], got 2"),
    (lambda: td.cumsum(X, 2), ShapeError, "cumsum: expected dim in [-2, 1], got 2"),
    (lambda: td.prod(X, 2), ShapeError, "prod: expected dim in [-2, 1], got 2"),
    (lambda: td.var(X, 2), ShapeError, "var: expected dim in [-2, 1], got 2"),
    (lambda: td.norm(X, "nuc"), ValueError, "norm: expected p a number or 'fro', got 'nuc'"),
    (lambda: td.mm(X, X), ShapeError, "mm: expected (n, k) and (k, m), got (3, 4) and (3, 4)"),
    (lambda: td.bmm(CUBE, X), ShapeError, "bmm: expected (b, n, k) and (b, k, m), got (2, 3, 4) and (3, 4)"),
    (lambda: td.mv(X, td.ones(3)), ShapeError, "mv: expected (n, k) and (k,), got (3, 4) and (3,)"),
    (lambda: td.dot(X, td.ones(4)), ShapeError, "dot: expected (k,) and (k,), got (3, 4) and (4,)"),
    (lambda: td.outer(X, td.ones(4)), ShapeError, "outer: expected (n,) and (m,), got (3, 4) and (4,)"),
    (lambda: td.cross(td.ones(4), td.ones(4)), ShapeError, "cross: expected a dim of size 3, got (4,)"),
    (
        lambda: td.cross(X, X, 1),
        ShapeError,
        "cross: expected size 3 along dim 1 and as many dims, got (3, 4) and (3, 4)",
    ),
    (
        lambda: td.einsum("ij,jk", X),
        ShapeError,
        "einsum: expected an operand for each of 2 terms of 'ij,jk', got 1",
    ),
    (
        lambda: td.einsum("ijk", X),
        ShapeError,
        "einsum: expected 'ijk' of 'ijk' to label the dims of its operand, got (3, 4)",
    ),
    (lambda: td.einsum("ii", X), ShapeError, "einsum: expected equal sizes under 'i' of 'ii', got (3, 4)"),
    (
        lambda: td.einsum("ij,ij", X, td.ones(3, 5)),
        ShapeError,
        "einsum: expected one size under 'j' of 'ij,ij', got 4 and 5",
    ),
    (
        lambda: td.einsum("ij->k", X),
        ValueError,
        "einsum: expected an output with labels of the operands, each once, got 'ij->k'",
    ),
    (lambda: td.einsum("i1", X), ValueError, "einsum: expected letters, commas, '...' and '->', got 'i1'"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [pytest.param(*bad, id=bad[2].partition(":")[0]) for bad in BAD]
)
def test_wrong_arguments_are_refused_by_name(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


# ---- What is no tensor, where one belongs

STAND_INS: dict[str, Any] = {
    "index": td.zeros(2, 2, dtype="int64"),
    "mask": td.ones(2, 2) > 0,
    "dtype": "float32",
    "min": 0.0,
    "reduce": "sum",
    "training": True,
}
"""What the walk hands over by name; other tensors are matrices and other settings 1."""

FUNCTIONS = [name for name in NAMES if not name.startswith("nn.")]


def misfed(function: Any) -> dict[str, Any] | None:
    """Arguments for a function of tensors, the first tensor replaced by a string;
    None where it takes none.
    """
    given: dict[str, Any] = {}
    fed = False
    for p in inspect.signature(function).parameters.values():
        is_tensor = isinstance(function, Primitive) or str(p.annotation).startswith(
            ("Tensor", "Sequence[Tensor")
        )
        if is_tensor and not fed:
            given[p.name], fed = "a", True
        elif p.name in STAND_INS or (p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD):
            given[p.name] = STAND_INS.get(p.name, td.ones(2, 2) if is_tensor else 1)
    return given if fed else None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_names_itself_where_it_is_given_no_tensor(name: str) -> None:
    function = operator.attrgetter(name)(td)
    inputs = misfed(function)
    if inputs is not None:
        own = name.removeprefix("linalg.")
        if name in (*second_names.__all__, "row_stack", "clamp"):  # the first name
            own = function.name if isinstance(function, Primitive) else function.__name__
        with pytest.raises(DtypeError, match=f"^{own}: expected (a tensor|tensors|an index of integers)"):
            function(**inputs)


NO_TENSOR: list[tuple[Callable[[], Any], str]] = [
    (lambda: td.matmul(X, 2.0), "matmul: expected a tensor for 'other', got float"),
    (lambda: X @ 2.0, "matmul: expected a tensor for 'other', got float"),
    (lambda: 2.0 @ X, "matmul: expected a tensor for 'input', got float"),
    (lambda: X.matmul(2.0), "matmul: expected a tensor for 'other', got float"),
    (lambda: td.conv2d([1.0], td.ones(1, 1, 2, 2)), "conv2d: expected a tensor for 'input', got list"),
    (
        lambda: td.conv2d(td.ones(1, 1, 2, 2), td.ones(1, 1, 2, 2), 1.0),
        "conv2d: expected a tensor for 'bias', got float",
    ),
    (lambda: td.stack([X, None]), "stack: expected tensors for 'tensors', got NoneType"),
    (lambda: td.broadcast_tensors(X, 1.0), "broadcast_tensors: expected tensors for 'tensors', got float"),
    (lambda: td.grad("a", leaf(1.0)), "grad: expected tensors for 'outputs', got str"),
    (lambda: td.pow("a", 2), "pow: expected a tensor for 'input', got str"),
    (lambda: td.nn.init.kaiming_uniform_("a"), "kaiming_uniform_: expected a tensor for 'tensor', got str"),
    (lambda: td.nn.Linear(2, 3)("a"), "Linear: expected a tensor for 'input', got str"),
    (lambda: td.nn.Sequential(td.nn.Linear(2, 3))("a"), "0: Linear: expected a tensor for 'input', got str"),
]


@pytest.mark.parametrize(
    ("call", "message"), [pytest.param(*bad, id=bad[1].partition(" expected")[0]) for bad in NO_TENSOR]
)
def test_what_is_no_tensor_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(DtypeError) as caught:
        call()
    assert str(caught.value) == message


def test_unions_sequences_and_foreign_annotations() -> None:
    """What an annotation takes besides tensors and numbers is not held against an argument."""

    class Layer(td.nn.Module):
        def forward(self, input: Nowhere) -> Any:  # type: ignore[name-defined]  # noqa: F821
            return input.missing

    with pytest.raises(AttributeError, match="missing"):
        Layer()(X)
    with pytest.raises(DtypeError, match="roll: expected integers for 'shifts', got None"):
        td.roll(X, None)
    with pytest.raises((AttributeError, TypeError)) as caught:
        td.norm(X, p=[1])
    assert "expected a number for 'p'" not in str(caught.value)


def test_a_fault_of_the_users_own_stays_what_it_is() -> None:
    """Inside a layer or a function given to one, an AttributeError has nothing to do with the arguments."""
    with pytest.raises(AttributeError, match="missing"):
        td.vjp(lambda x: x.array.missing, X)
    with pytest.raises(AttributeError, match="missing"):
        td.nn.Lambda(lambda x: x.array.missing)(X)


def test_numbers_and_arrays_stay_welcome_where_they_were() -> None:
    ones = np.ones((3, 4), np.float32)
    for y in (
        td.add(X, 1.0),
        X + ones,
        td.maximum(X, 2.0),
        td.where(X > 0, 2.0, ones),
        td.lerp(X, ones * 3, 0.5),
    ):
        assert y.tolist() == [[2.0] * 4] * 3


def test_integers_to_powers_and_bounds_that_are_not() -> None:
    x = td.tensor([0, 1, 4])
    assert (x**0.5).tolist() == [0.0, 1.0, 2.0]
    assert (x**2).dtype == np.int64
    assert x.clamp(min=0.5).tolist() == [0.5, 1.0, 4.0]
    assert x.clamp(max=2).dtype == np.int64
    with pytest.raises(ValueError, match="pow: expected an exponent of at least 0 for integers, got -1"):
        x**-1


def test_operators_of_masks() -> None:
    mask = td.tensor([True, False])
    assert [(mask & True).tolist(), (mask | mask).tolist(), (~mask).tolist()] == [
        [True, False],
        [True, False],
        [False, True],
    ]
    assert (mask ^ True).tolist() == [False, True]
    for call in (lambda: mask & 1.0, lambda: 1.0 | mask, lambda: td.ones(2) ^ mask, lambda: ~td.ones(2)):
        with pytest.raises(DtypeError, match=r"^bitwise_\w+: expected integers or bool, got float32"):
            call()
    with pytest.raises(DtypeError, match=r"^bitwise_left_shift: expected integers, got bool"):
        mask << mask


def test_what_orders_names_its_two_results() -> None:
    x = td.tensor([2.0, 3.0, 1.0])
    for found in (x.sort(), x.topk(3, largest=False), td.max(x, 0), x.min(0)):
        assert found.values is found[0]
        assert found.indices is found[1]
    assert td.record(lambda x: x.sort())(x).indices.tolist() == [2, 0, 1]


def test_forms_of_arguments() -> None:
    x = td.ones(1, 2, 1)
    assert td.squeeze(x, (0, 1)).shape == (2, 1)
    assert td.reshape(input=x, shape=(2,)).shape == (2,)
    assert td.pad(x, (1, 0), value=None).tolist() == [[[0.0, 1.0], [0.0, 1.0]]]
    assert td.scatter(td.zeros(3), dim=0, index=td.tensor([1]), value=2.0).tolist() == [0.0, 2.0, 0.0]
    assert [part.shape for part in td.split(td.ones(4), np.int64(2))] == [(2,), (2,)]
    assert td.ones(2, 3).softmax(-1).tolist() == td.softmax(td.ones(2, 3), -1).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: td.split(x, td.tensor([1, 2])),
            "split: expected an integer or a sequence of them, got tensor",
        ),
        (lambda x: td.topk(x, 1.5), "topk: expected an integer for 'k', got 1.5"),
        (lambda x: td.roll(x, 1.5), "roll: expected integers for 'shifts', got 1.5"),
        (lambda x: td.linspace(0, "a", 2), "linspace: expected a number for 'end', got 'a'"),
        (lambda x: td.leaky_relu(x, "a"), "leaky_relu: expected a number for 'negative_slope', got 'a'"),
        (lambda x: td.arange("a"), "arange: expected numbers, got 0, 'a' and 1"),
        (lambda x: td.reshape(x, 3.0), "reshape: expected integers, got"),
        (lambda x: td.one_hot(td.tensor([1]), 2.5), "one_hot: expected num_classes an integer, got 2.5"),
        (lambda x: td.scatter(x, 0, td.tensor([1])), "scatter: expected src or value, got neither"),
    ],
)
def test_what_is_no_number_is_named(call: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        call(td.ones(3))
    assert str(caught.value).startswith(message)


def test_a_kernel_size_is_of_integers() -> None:
    for setting in ("a", 2.0, (2, 1.5)):
        with pytest.raises(ShapeError, match="max_pool2d: kernel_size expected an int or 2 of them, got "):
            td.max_pool2d(td.ones(1, 1, 3, 3), setting)


def test_binary_cross_entropy_of_certain_predictions_has_a_finite_gradient() -> None:
    p = td.tensor([0.0, 1.0, 0.0, 1.0], dtype="float64", requires_grad=True)
    loss = td.binary_cross_entropy(p, td.tensor([0.0, 1.0, 1.0, 0.0], dtype="float64"), reduction="sum")
    assert loss.item() == 200
    assert td.grad(loss, p)[0].tolist() == [1.0, -1.0, 0.0, 0.0]


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_a_loss_of_one_sample(loss: str) -> None:
    function, x = getattr(td, loss), td.log_softmax(td.tensor([0.5, -1.0, 2.0]))
    for reduction in ("mean", "sum", "none"):
        one = function(x, td.tensor(2), reduction=reduction)
        assert (one.shape, one.item()) == ((), function(x.unsqueeze(0), td.tensor([2])).item())
