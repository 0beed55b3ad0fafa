"""The questions on which NumPy, PyTorch and Keras differ, and the answers given here:
each line of the table a test.

So are the lines on kinks, on dtypes and on what an error says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DeviceError, DtypeError, GraphError, ShapeError, TinydlError

import tinydl as td
from tinydl import nn


def derivative(function: Callable[[td.Tensor], td.Tensor], *at: float) -> list[float]:
    """The gradient of the summed function at a few points."""
    x = td.tensor(np.array(at), requires_grad=True)
    return td.grad(function(x).sum(), x)[0].tolist()


def told(error: type[Exception], call: Callable[[], Any]) -> str:
    """What the error says that the call raises."""
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


class TestDim:
    def test_axis_is_accepted_for_dim(self) -> None:
        x = td.tensor(np.arange(24.0).reshape(2, 3, 4))
        for name in (
            "sum",
            "mean",
            "logsumexp",
            "amax",
            "softmax",
            "cumsum",
            "argmax",
            "var",
            "std",
            "prod",
            "unsqueeze",
        ):
            function = getattr(td, name)
            assert np.array_equal(function(x, dim=1).numpy(), function(x, axis=1).numpy()), name
        assert np.array_equal(x.sum(axis=1).numpy(), x.sum(dim=1).numpy())
        assert np.array_equal(td.cat([x, x], axis=2).numpy(), td.cat([x, x], dim=2).numpy())

    def test_both_are_refused(self) -> None:
        with pytest.raises(TypeError, match="sum: expected dim or axis, got both"):
            td.sum(td.ones(2, 2), dim=0, axis=0)


class TestExtremes:
    def test_max_with_dim_gives_values_and_indices_of_the_first_winner(self) -> None:
        values, indices = td.max(td.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 0.0]]), 1)
        assert values.tolist() == [3.0, 2.0]
        assert indices.tolist() == [1, 0]
        assert td.min(td.tensor([[1.0, 0.0, 0.0]]), 1)[1].tolist() == [1]

    def test_max_with_dim_has_one_winner(self) -> None:
        assert derivative(lambda x: td.max(x, 0)[0], 1.0, 3.0, 3.0) == [0.0, 1.0, 0.0]
        assert derivative(lambda x: td.min(x, 0)[0], 1.0, 1.0, 3.0) == [1.0, 0.0, 0.0]

    def test_amax_spreads_the_gradient_over_ties(self) -> None:
        assert derivative(lambda x: td.amax(x, 0), 1.0, 3.0, 3.0) == [0.0, 0.5, 0.5]
        assert derivative(lambda x: td.max(x), 1.0, 3.0, 3.0) == [0.0, 0.5, 0.5]
        assert derivative(lambda x: td.amin(x, 0), 1.0, 1.0, 3.0) == [0.5, 0.5, 0.0]

    def test_pooling_has_one_winner(self) -> None:
        pooled = lambda x: td.max_pool2d(x.reshape(1, 1, 2, 2), 2)  # noqa: E731
        assert derivative(pooled, 1.0, 3.0, 3.0, 3.0) == [0.0, 1.0, 0.0, 0.0]


class TestStatistics:
    def test_var_and_std_are_unbiased(self) -> None:
        x = np.array([1.0, 2.0, 4.0])
        assert td.var(td.tensor(x)).item() == pytest.approx(x.var(ddof=1))
        assert td.std(td.tensor(x)).item() == pytest.approx(x.std(ddof=1))
        assert td.var(td.tensor(x), correction=0).item() == pytest.approx(x.var())
        assert td.std(td.tensor(x), correction=0).item() == pytest.approx(x.std())


class TestShapes:
    def test_repeat_tiles(self) -> None:
        assert td.tensor([1, 2]).repeat(2, 2).tolist() == [[1, 2, 1, 2], [1, 2, 1, 2]]

    def test_split_takes_sizes(self) -> None:
        assert [part.shape for part in td.split(td.ones(5), 2)] == [(2,), (2,), (1,)]
        assert [part.shape for part in td.split(td.ones(5), [1, 4])] == [(1,), (4,)]

    def test_transpose_takes_two_dims_and_permute_all(self) -> None:
        x = td.ones(2, 3, 4)
        assert td.transpose(x, 0, 2).shape == (4, 3, 2)
        assert td.permute(x, (1, 2, 0)).shape == x.permute(1, 2, 0).shape == (3, 4, 2)


class TestDtypes:
    @pytest.mark.parametrize("weak", [2, 2.5, True, np.float64(2.5), np.int64(2), td.tensor(np.float64(2.5))])
    def test_numbers_and_0d_tensors_never_promote_float32(self, weak: Any) -> None:
        for y in (td.ones(2) * weak, weak + td.ones(2), td.where(td.tensor([True, False]), td.ones(2), weak)):
            assert y.dtype == np.float32

    def test_integer_division_gives_float32(self) -> None:
        for quotient in (td.tensor([1, 2]) / td.tensor([2, 2]), td.tensor([1, 2]) / 2, 1 / td.tensor([1, 2])):
            assert quotient.dtype == np.float32

    def test_dtype_of_new_tensors(self) -> None:
        assert td.tensor(np.ones(2)).dtype == np.float64
        assert td.tensor([1.0]).dtype == np.float32
        assert td.tensor([1]).dtype == np.int64

    def test_stronger_arrays_and_categories_decide(self) -> None:
        whole, yes = td.tensor([1, 2]), td.tensor([True, False])
        assert (td.ones(2) + td.ones(2, dtype="float64")).dtype == np.float64
        assert (whole + 0.5).dtype == (whole + td.ones(2)).dtype == np.float32
        assert (yes + 1).dtype == (yes + whole).dtype == np.int64

    def test_a_cast_is_differentiable_to_every_order(self) -> None:
        x = td.tensor([2.0, -1.0], requires_grad=True)
        y = td.cast(x, "float64") ** 3
        for expected in ([12.0, 3.0], [12.0, -6.0], [6.0, 6.0]):
            (y,) = td.grad(y.sum(), x, create_graph=True)
            assert (y.dtype, y.tolist()) == (np.float32, expected)


class TestKinks:
    def test_abs_and_relu_have_derivative_0(self) -> None:
        assert derivative(td.abs, 0.0, -0.0) == [0.0, 0.0]
        assert derivative(td.relu, 0.0, -0.0) == [0.0, 0.0]

    def test_clip_has_derivative_1_at_its_bounds(self) -> None:
        assert derivative(lambda x: td.clip(x, -1.0, 2.0), -1.5, -1.0, 2.0, 2.5) == [0.0, 1.0, 1.0, 0.0]

    def test_norm_at_0_is_0_and_sqrt_infinite(self) -> None:
        assert derivative(td.norm, 0.0, 0.0) == [0.0, 0.0]
        assert derivative(td.sqrt, 0.0) == [math.inf]

    def test_maximum_and_minimum_share_a_tie(self) -> None:
        assert derivative(lambda x: td.maximum(x, 1.0), 0.0, 1.0, 2.0) == [0.0, 0.5, 1.0]
        assert derivative(lambda x: td.minimum(x, 1.0), 0.0, 1.0, 2.0) == [1.0, 0.5, 0.0]

    def test_std_at_0_is_0(self) -> None:
        assert derivative(td.std, 2.0, 2.0) == [0.0, 0.0]

    def test_rounding_and_sign_have_derivative_0(self) -> None:
        for function in (td.round, td.floor, td.ceil, td.trunc, td.sign):
            assert derivative(function, -1.0, 0.0, 0.5) == [0.0, 0.0, 0.0]

    def test_prod_with_zeros_is_exact(self) -> None:
        assert derivative(td.prod, 2.0, 0.0, 3.0) == [0.0, 6.0, 0.0]
        assert derivative(td.prod, 0.0, 0.0, 3.0) == [0.0, 0.0, 0.0]

    def test_where_never_lets_nan_through(self) -> None:
        safe = lambda x: td.where(x > 0, td.log(td.where(x > 0, x, 1.0)), 0.0)  # noqa: E731
        assert derivative(safe, -1.0, 2.0) == [0.0, 0.5]
        beside_nan = lambda x: td.where(td.tensor([True, True]), x, math.nan)  # noqa: E731
        assert derivative(beside_nan, 1.0, 1.0) == [1.0, 1.0]


class TestErrors:
    def test_the_types_are_a_small_family(self) -> None:
        family = {
            ShapeError: ValueError,
            DtypeError: TypeError,
            DeviceError: RuntimeError,
            GraphError: RuntimeError,
        }
        for error, base in family.items():
            assert issubclass(error, TinydlError)
            assert issubclass(error, base)

    def test_shapes_and_dtypes_are_told(self) -> None:
        x = td.ones(2, 3)
        assert (
            told(ShapeError, lambda: x @ x) == "matmul: expected inner sizes that agree, got (2, 3) @ (2, 3)"
        )
        assert (
            told(DtypeError, lambda: x.T @ x.double())
            == "matmul: expected one dtype, got float32 and float64"
        )

    def test_the_path_to_the_layer_is_told(self) -> None:
        model = nn.Sequential({"body": nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 2)), "head": nn.ReLU()})
        assert told(ShapeError, lambda: model(td.ones(5, 4))).startswith(
            "body.1: linear: expected input (*, in), weight (out, in)"
        )
        assert (
            told(DtypeError, lambda: model("a")) == "body.0: Linear: expected a tensor for 'input', got str"
        )

    def test_settings_are_refused_where_they_are_given(self) -> None:
        assert (
            told(ShapeError, lambda: nn.Conv2d(3, 4, 2, stride=0))
            == "Conv2d: expected stride of at least 1, got 0"
        )
        assert (
            told(ValueError, lambda: nn.MSELoss("max"))
            == "MSELoss: expected reduction 'mean', 'sum' or 'none', got 'max'"
        )

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
    def test_dtypes_without_kernels_are_refused_by_name(self, dtype: str) -> None:
        for call in (lambda: td.zeros(2, dtype=dtype), lambda: td.cast(td.ones(2), dtype)):
            assert told(DtypeError, call).replace("'", "").endswith(f"an integer dtype or bool, got {dtype}")

    def test_what_has_no_derivative_says_so(self) -> None:
        condition = td.ones(2, requires_grad=True) > 0
        message = "backward: expected an output that requires grad, got (2,) bool without a graph"
        assert told(GraphError, condition.backward) == message
