"""x[index] as NumPy has it, for drawn indices: values, the transpose, assignment; and
what a recorded step refuses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices, integer_array_indices
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td


@st.composite
def shapes_and_indices(draw: Any) -> tuple[tuple[int, ...], Any]:
    """A shape, and an index of every kind: parts are slices, None, Ellipsis, integers,
    arrays that broadcast, masks.
    """
    shape = draw(array_shapes(max_dims=4, max_side=4))
    if draw(st.booleans()):
        return shape, draw(basic_indices(shape, allow_newaxis=True))
    if draw(st.booleans()):
        return shape, draw(
            integer_array_indices(shape, result_shape=array_shapes(min_dims=0, max_dims=2, max_side=3))
        )
    parts: list[Any] = []
    common = draw(array_shapes(min_dims=0, max_dims=2, max_side=3))
    count = draw(st.integers(1, len(shape)))
    dots = draw(st.integers(0, count))  # how many of the parts stand before the Ellipsis, if there is one
    with_dots = draw(st.booleans())
    for k, n in enumerate(
        (*shape[:dots], *shape[len(shape) - count + dots :]) if with_dots else shape[:count]
    ):
        if with_dots and k == dots:
            parts.append(...)
        kind = draw(st.sampled_from(["array", "integer", "slice", "new axis and slice"]))
        if kind == "new axis and slice":
            parts.append(None)
        if kind == "integer":
            parts.append(draw(st.integers(-n, n - 1)))
        elif kind == "array":
            own = draw(st.sampled_from([common, tuple(1 for _ in common), common[1:]]))
            values = draw(
                st.lists(st.integers(-n, n - 1), min_size=int(np.prod(own)), max_size=int(np.prod(own)))
            )
            parts.append(np.array(values, np.int64).reshape(own))
        else:
            parts.append(draw(st.slices(n)))
    return shape, tuple(parts)


def strided(x: np.ndarray) -> np.ndarray:
    return np.asfortranarray(x) if x.size else x


@settings(max_examples=300, deadline=None)
@given(shapes_and_indices(), st.booleans())
def test_indexing_is_numpys(drawn: Any, fortran: bool) -> None:
    shape, index = drawn
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = td.from_numpy(strided(values) if fortran else values).requires_grad_()
    y = x[index]
    np.testing.assert_array_equal(y.detach().numpy(), values[index])
    c = np.random.default_rng(0).standard_normal(y.shape)
    expected = np.zeros(shape)
    np.add.at(expected, index, c)
    (g,) = td.grad(y, x, td.from_numpy(np.asarray(c)), create_graph=False) if y.requires_grad else (None,)
    np.testing.assert_allclose(g.numpy(), expected, atol=1e-12)

    x, replaced = td.tensor(values), values.copy()
    x[index] = td.tensor(c)
    replaced[index] = c
    np.testing.assert_array_equal(x.numpy(), replaced)
    x[index] = -1
    replaced[index] = -1
    np.testing.assert_array_equal(x.numpy(), replaced)


@pytest.mark.parametrize("axes", [(0, 1), (1,), (2,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("before", [0, 1])
def test_masks_stand_for_the_dims_they_cover(axes: tuple[int, ...], before: int) -> None:
    values = np.random.default_rng(1).standard_normal((3, 2, 4))
    mask = np.random.default_rng(2).random([values.shape[d] for d in axes]) < 0.6
    index = (*(slice(None),) * axes[0], mask)
    x = td.tensor(values, requires_grad=True)
    ours = (*index[:-1], td.tensor(mask)) if before else index
    np.testing.assert_array_equal(x[ours].detach().numpy(), values[index])
    assert td.gradcheck(lambda x: x[ours] ** 2, x)
    with td.no_grad():
        x[ours] = 5.0
    values[index] = 5.0
    np.testing.assert_array_equal(x.detach().numpy(), values)


def test_a_mask_beside_arrays() -> None:
    values, mask = np.arange(24.0).reshape(2, 3, 4), np.array([True, False, True])
    np.testing.assert_array_equal(td.tensor(values)[1, mask, [0, 3]].numpy(), values[1, mask, [0, 3]])
    np.testing.assert_array_equal(
        td.tensor(values)[[0], ..., mask[:, None] & [True] * 4].numpy(),
        values[[0], ..., mask[:, None] & [True] * 4],
    )


def test_lists_and_arrays_of_any_integers() -> None:
    x = td.arange(10)
    assert x[[3, -1]].tolist() == [3, 9]
    assert x[np.array([3, 1], np.uint8)].tolist() == [3, 1]
    assert x[td.tensor(4)].item() == 4
    assert x[[]].shape == (0,)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (([0, 1], [0, 4]), IndexError, "indexing: expected indices from -4 to 3, got 0 to 4"),
        (([0.5],), DtypeError, "indexing: expected an index of integers, got float64"),
        ((0, 0, [0]), ShapeError, "indexing: expected at most 2 indices for (3, 4), got 3"),
        ((np.ones((3, 3), bool),), ShapeError, "indexing: expected a mask of shape (3, 4), got (3, 3)"),
        ((..., [0], ...), IndexError, "indexing: expected at most one Ellipsis, got 2"),
        (
            ("a",),
            TypeError,
            "indexing: expected integers, slices, None, Ellipsis, arrays of integers or masks, got str",
        ),
        (([0, 1], [0, 1, 2]), ShapeError, "indexing: expected indices that broadcast, got (2,), (3,)"),
    ],
)
def test_bad_indices(index: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        td.zeros(3, 4)[index]
    assert message in str(caught.value)


def test_bad_assignments() -> None:
    x = td.zeros(3, 4)
    with pytest.raises(ShapeError, match="indexing assignment: "):
        x[[0, 1]] = td.ones(3)
    with pytest.raises(GraphError, match="indexing assignment: expected no_grad"):
        td.zeros(3, requires_grad=True)[[0]] = 1.0
    y = td.zeros(3, requires_grad=True)
    z = (y * y).sum()
    with td.no_grad():
        y[[1]] = 2.0
    with pytest.raises(GraphError, match="written before the backward pass"):
        z.backward()


def test_assignment_is_recorded() -> None:
    def step(x: td.Tensor, mask: td.Tensor) -> td.Tensor:
        y = x.clone()
        y[[0, 2]] = x[1] * 2.0
        y[mask] = 7.0
        return y

    recorded = td.record(step)
    for seed in (0, 1):
        values = np.random.default_rng(seed).standard_normal((3, 4))
        mask = values > 0
        np.testing.assert_array_equal(
            recorded(values, mask).numpy(), step(td.tensor(values), td.tensor(mask)).numpy()
        )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[x > 0],
        lambda x: td.masked_select(x, x > 0),
        lambda x: td.nonzero(x),
        lambda x: td.unique(x),
        lambda x: td.bincount(x.long()),
        lambda x: td.one_hot(x.long()),
        lambda x: td.repeat_interleave(x, x.long()),
    ],
)
def test_shapes_that_depend_on_values_are_not_recorded(function: Any) -> None:
    with pytest.raises(
        GraphError,
        match=r"expected an eager step, got a recorded one: the shape of the result depends on values",
    ):
        td.record(function)(td.ones(3))
