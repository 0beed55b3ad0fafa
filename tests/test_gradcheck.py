"""Who checks the checker: errors of 0.1 % are planted at orders 1 and 2, and must be
found where they were planted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError

import tinydl as td
from tinydl.engine.core import Primitive, Tensor
from tinydl.gradcheck import GradcheckError, gradcheck

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("reference")]


def leaf(*shape: int, seed: int = 0, low: float | None = None) -> Tensor:
    """A float64 tensor that requires grad; normal, or in [low, low + 1)."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape) if low is None else low + random.random(shape)
    return td.tensor(values, requires_grad=True)


def made(
    function: Callable[..., Any], properties: dict[str, Any] | None = None, **rules: Callable[..., Any]
) -> Primitive:
    """A primitive with the given, perhaps wrong, rules."""
    result = Primitive(function, **(properties or {"elementwise": True}))
    result.rule(**rules)
    return result


def fails(func: Callable[..., Any], inputs: Any, where: int, input: int, **settings: Any) -> str:
    """The message of a check that must fail at order `where`, with respect to `input`."""
    with pytest.raises(GradcheckError) as caught:
        gradcheck(func, inputs, **settings)
    assert (caught.value.order, caught.value.input) == (where, input)
    assert not gradcheck(func, inputs, raise_exception=False, **settings)
    return str(caught.value)


def cube(x):
    return x * x * x


# ---- right derivatives pass


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_right_rules_pass(order: int, full: bool) -> None:
    def func(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return td.exp(x) * td.tanh(y), td.sum(td.log(y * y + 1.0) * x, 0)

    assert gradcheck(func, [leaf(3, 2), leaf(3, 2, seed=1)], order, full=full)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_step_follows_the_size_of_the_input(size: float) -> None:
    x = td.tensor(leaf(5, low=1.0).numpy() * size, requires_grad=True)
    assert gradcheck(lambda x: td.log(x) + td.sqrt(x), x, atol=0)


def test_agreement_is_far_below_the_tolerance() -> None:
    assert gradcheck(lambda x: td.exp(td.tanh(x)), leaf(20), 3, atol=0, rtol=1e-8)


def test_unchecked_inputs_and_integer_outputs_are_left_alone() -> None:
    def func(x: Tensor, index: Tensor, scale: Tensor) -> Any:
        return td.max(x * scale + index, 1)

    inputs = [leaf(3, 4), td.tensor(np.arange(4)), td.tensor(np.ones(4))]
    assert gradcheck(func, inputs)


def test_empty_unused_and_identity() -> None:
    assert gradcheck(lambda x, y: x, [leaf(3), leaf(2)])
    assert gradcheck(lambda x: x * x, leaf(0, 3))
    assert gradcheck(lambda x: x * x, leaf(0, 3), full=True)


def test_inputs_are_not_modified() -> None:
    x = leaf(4)
    before = x.numpy().copy()
    assert gradcheck(td.relu, x)
    assert np.array_equal(x.numpy(), before)
    assert x.grad is None


def test_random_streams_are_frozen_and_do_not_move() -> None:
    own = td.Generator(5)
    before = td.default_generator.state_dict(), own.state_dict()
    assert gradcheck(lambda x: td.dropout(td.dropout(x * x, 0.5), 0.5, generator=own), leaf(50))
    assert before == (td.default_generator.state_dict(), own.state_dict())


def test_the_generator_draws_the_directions() -> None:
    wrong = made(cube, x=lambda g, x: g * (x * x) * 3.003)
    messages = {
        fails(wrong, leaf(5), 1, 0, generator=td.Generator(seed)).split("expected")[1] for seed in (1, 2)
    }
    assert len(messages) == 2


# ---- planted errors of 0.1 %


def test_wrong_factor_at_order_1() -> None:
    wrong = made(cube, x=lambda g, x: g * (x * x) * 3.003)
    message = fails(wrong, leaf(5), 1, 0)
    assert "order 1, derivative of output 0 with respect to input 0" in message
    assert 0.05 < float(message.split()[-2]) <= 0.1  # per cent


def test_wrong_factor_in_one_element_at_order_1() -> None:
    factor = np.array([3.0] * 19 + [3.003])
    wrong = made(cube, x=lambda g, x: g * (x * x) * factor)
    fails(wrong, leaf(20), 1, 0)
    fails(wrong, leaf(20), 1, 0, full=True)


def test_wrong_factor_at_order_2() -> None:
    square = made(lambda x: x * x, x=lambda g, x: g * x * 2.002)
    right_once = made(cube, x=lambda g, x: g * square(x) * 3.0)
    assert gradcheck(right_once, leaf(5), 1)
    message = fails(right_once, leaf(5), 2, 0)
    assert "order 2, derivative of the gradient of input 0 with respect to input 0" in message


def test_raw_saved_array_is_a_constant_at_order_2() -> None:
    wrong = made(lambda x: np.exp(x), x=lambda g, out: g * out.detach())
    assert gradcheck(wrong, leaf(5), 1)
    fails(wrong, leaf(5), 2, 0)
    fails(wrong, leaf(5), 2, 0, full=True)


def test_statistic_kept_from_the_forward_is_found_at_order_2() -> None:
    def normalize(x: Tensor) -> Tensor:
        deviation = td.sqrt(td.mean(x * x)).detach()  # treated as a constant
        return x / deviation

    fails(normalize, leaf(6), 1, 0)


def test_error_at_order_3_only() -> None:
    once = made(lambda x: np.exp(x), x=lambda g, out: g * out.detach())
    twice = made(lambda x: np.exp(x), x=lambda g, x: g * once(x))
    assert gradcheck(twice, leaf(5), 2)
    fails(twice, leaf(5), 3, 0, order=3)


def test_missing_gradient_at_order_1() -> None:
    half = made(lambda a, b: a * b, a=lambda g, b: g * b, b=lambda g, a: g * a * 0.0)
    fails(half, [leaf(4), leaf(4, seed=1)], 1, 1)
    fails(lambda x, y: x * y.detach(), [leaf(4), leaf(4, seed=1)], 1, 1)
    fails(lambda x: td.exp(x.detach()), leaf(4), 1, 0)


def test_error_in_one_argument_only() -> None:
    wrong = made(lambda a, b: a * b * b, a=lambda g, b: g * b * b, b=lambda g, a, b: g * a * b * 2.002)
    message = fails(wrong, [leaf(4), leaf(4, seed=1)], 1, 1)
    assert "with respect to input 1" in message


def test_error_in_one_argument_at_order_2() -> None:
    """The gradient of a, b², is right; how it depends on b is not."""
    square = made(lambda x: x * x, x=lambda g, x: g * x * 2.002)
    wrong = made(lambda a, b: a * b * b, a=lambda g, b: g * square(b), b=lambda g, a, b: g * a * b * 2.0)
    assert gradcheck(wrong, [leaf(4), leaf(4, seed=1)], 1)
    message = fails(wrong, [leaf(4), leaf(4, seed=1)], 2, 1)
    assert "gradient of input 0 with respect to input 1" in message


def test_error_in_one_of_several_outputs() -> None:
    wrong = made(cube, x=lambda g, x: g * (x * x) * 3.003)
    message = fails(lambda x: (x * x, wrong(x)), leaf(5), 1, 0)
    assert "output 1" in message


def test_dropout_mask_that_changes_in_the_backward() -> None:
    wrong = made(lambda x: td.dropout(Tensor(x)).array, x=lambda g: td.dropout(g))
    fails(wrong, leaf(30), 1, 0)


# ---- kinks


@pytest.mark.parametrize(
    "func", [td.relu, td.abs, lambda x: td.maximum(x, 0.0), lambda x: td.clip(x, 0.0, 1.0)]
)
def test_kinks_are_drawn_again(func: Callable[..., Any]) -> None:
    assert gradcheck(func, td.tensor(np.zeros(6), requires_grad=True))
    assert gradcheck(lambda x: func(x) * func(x) * func(x), td.tensor(np.full(6, 1e-5), requires_grad=True))


def test_ties_are_drawn_again() -> None:
    assert gradcheck(
        lambda x: td.amax(x, 1) * td.max(x, 1)[0], td.tensor(np.ones((3, 4)), requires_grad=True), full=True
    )


def test_a_kink_does_not_hide_an_error() -> None:
    wrong = made(lambda x: np.maximum(x, 0), x=lambda g, x: g * td.where(x > 0, 1.001, 0.0))
    fails(wrong, td.tensor(np.array([0.0, 1.0, -1.0, 2.0]), requires_grad=True), 1, 0)


def test_a_function_that_is_nowhere_smooth_is_reported() -> None:
    saw = made(lambda x: x + 1e-3 * np.abs((x * 1e6) % 2 - 1), x=lambda g: g)
    assert "kink" in fails(saw, leaf(5), 1, 0)


# ---- what it refuses


def test_refusals() -> None:
    with pytest.raises(
        DtypeError, match="gradcheck: expected float64 where a gradient is checked, got float32 for input 1"
    ):
        gradcheck(td.mul, [leaf(2), td.tensor([1.0, 2.0], requires_grad=True)])
    with pytest.raises(DtypeError, match="gradcheck: expected func to give float64, got float32"):
        gradcheck(lambda x: x.to("float32"), leaf(2))
    with pytest.raises(DtypeError, match="gradcheck: expected tensors as inputs, got float for input 1"):
        gradcheck(td.mul, [leaf(2), 2.0])
    with pytest.raises(GraphError, match="gradcheck: expected an input that requires grad, got none"):
        gradcheck(td.exp, leaf(2).detach())
    with pytest.raises(ValueError, match="gradcheck: expected order 1, 2 or 3, got 4"):
        gradcheck(td.exp, leaf(2), 4)


def test_a_function_that_changes_or_writes_is_refused() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(GradcheckError, match="other values at a second evaluation"):
        gradcheck(lambda x: x * random.random(), leaf(3))

    def writes(x: Tensor) -> Tensor:
        x.array[0] = 1.0
        return x * x

    with pytest.raises(GradcheckError, match="leave its inputs as they are, got input 0 written"):
        gradcheck(writes, leaf(3))


def test_a_derivative_that_does_not_exist_is_named() -> None:
    with pytest.raises(NotImplementedError, match="cube: no derivative with respect to 'x'"):
        gradcheck(made(cube), leaf(3))
