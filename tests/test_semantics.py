"""The questions on which NumPy, PyTorch and Keras differ, and the answers given here: each line of the table a test."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinydl as td


def derivative(function: Callable[[td.Tensor], td.Tensor], *at: float) -> list[float]:
    """The gradient of the summed function at a few points."""
    x = td.tensor(np.array(at), requires_grad=True)
    return td.grad(function(x).sum(), x)[0].tolist()


class TestDim:
    def test_axis_is_accepted_for_dim(self) -> None:
        x = td.tensor(np.arange(24.0).reshape(2, 3, 4))
        for name in ("sum", "mean", "logsumexp", "amax", "softmax", "cumsum", "argmax", "var", "std", "prod", "unsqueeze"):
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

    def test_amax_spreads_the_gradient_over_ties(self) -> None:
        assert derivative(lambda x: td.amax(x, 0), 1.0, 3.0, 3.0) == [0.0, 0.5, 0.5]
        assert derivative(lambda x: td.max(x), 1.0, 3.0, 3.0) == [0.0, 0.5, 0.5]

    def test_pooling_has_one_winner(self) -> None:
        pooled = lambda x: td.max_pool2d(x.reshape(1, 1, 2, 2), 2)  # noqa: E731
        assert derivative(pooled, 1.0, 3.0, 3.0, 3.0) == [0.0, 1.0, 0.0, 0.0]


class TestStatistics:
    def test_var_and_std_are_unbiased(self) -> None:
        x = np.array([1.0, 2.0, 4.0])
        assert td.var(td.tensor(x)).item() == pytest.approx(x.var(ddof=1))
        assert td.std(td.tensor(x)).item() == pytest.approx(x.std(ddof=1))
        assert td.var(td.tensor(x), correction=0).item() == pytest.approx(x.var())


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
        assert (td.tensor([1, 2]) / td.tensor([2, 2])).dtype == np.float32

    def test_dtype_of_new_tensors(self) -> None:
        assert td.tensor(np.ones(2)).dtype == np.float64
        assert td.tensor([1.0]).dtype == np.float32
        assert td.tensor([1]).dtype == np.int64


class TestKinks:
    def test_abs_and_relu_have_derivative_0(self) -> None:
        assert derivative(td.abs, 0.0, -0.0) == [0.0, 0.0]
        assert derivative(td.relu, 0.0, -0.0) == [0.0, 0.0]

    def test_clip_has_derivative_1_at_its_bounds(self) -> None:
        assert derivative(lambda x: td.clip(x, -1.0, 2.0), -1.5, -1.0, 2.0, 2.5) == [0.0, 1.0, 1.0, 0.0]

    def test_norm_at_0_is_0_and_sqrt_infinite(self) -> None:
        assert derivative(td.norm, 0.0, 0.0) == [0.0, 0.0]
        assert derivative(td.sqrt, 0.0) == [math.inf]

    def test_prod_with_zeros_is_exact(self) -> None:
        assert derivative(td.prod, 2.0, 0.0, 3.0) == [0.0, 6.0, 0.0]
        assert derivative(td.prod, 0.0, 0.0, 3.0) == [0.0, 0.0, 0.0]

    def test_where_never_lets_nan_through(self) -> None:
        safe = lambda x: td.where(x > 0, td.log(td.where(x > 0, x, 1.0)), 0.0)  # noqa: E731
        assert derivative(safe, -1.0, 2.0) == [0.0, 0.5]
        beside_nan = lambda x: td.where(td.tensor([True, True]), x, math.nan)  # noqa: E731
        assert derivative(beside_nan, 1.0, 1.0) == [1.0, 1.0]
