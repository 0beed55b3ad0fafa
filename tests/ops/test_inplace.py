"""In-place operators and methods: effects off the tape, a new value of the same object on it."""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td
from tinydl import nn

Y, Z = [0.5, 2.0, -1.0], [4.0, 1.0, 2.0]


def iadd(x, y, z):
    x += y


def isub(x, y, z):
    x -= y


def imul(x, y, z):
    x *= y


def itruediv(x, y, z):
    x /= y


def ipow(x, y, z):
    x **= 2


OPERATIONS = {
    "+=": iadd,
    "-=": isub,
    "*=": imul,
    "/=": itruediv,
    "**=": ipow,
    "+= number": lambda x, y, z: iadd(x, 2, z),
    "add_": lambda x, y, z: x.add_(y),
    "add_ alpha": lambda x, y, z: x.add_(y, alpha=-0.5),
    "add_ number": lambda x, y, z: x.add_(3.0, alpha=2.0),
    "sub_": lambda x, y, z: x.sub_(y, alpha=3.0),
    "mul_": lambda x, y, z: x.mul_(y),
    "mul_ then add_": lambda x, y, z: x.mul_(0.9).add_(y, alpha=0.1),
    "div_": lambda x, y, z: x.div_(y),
    "clamp_": lambda x, y, z: x.clamp_(-0.5, 1.5),
    "clamp_ of tensors": lambda x, y, z: x.clamp_(min=y),
    "lerp_": lambda x, y, z: x.lerp_(y, 0.25),
    "addcmul_": lambda x, y, z: x.addcmul_(y, z, value=0.5),
    "addcdiv_": lambda x, y, z: x.addcdiv_(y, z, value=-0.5),
    "copy_": lambda x, y, z: x.copy_(y),
    "fill_": lambda x, y, z: x.fill_(7.0),
    "fill_ of a tensor": lambda x, y, z: x.fill_(y[1]),
    "zero_": lambda x, y, z: x.zero_(),
    "clip_": lambda x, y, z: x.clip_(-0.5, 1.5),
    "clamp_min_": lambda x, y, z: x.clamp_min_(0.5),
    "clamp_max_ of a tensor": lambda x, y, z: x.clamp_max_(y),
    "abs_": lambda x, y, z: x.abs_(),
    "neg_": lambda x, y, z: x.neg_(),
    "sign_": lambda x, y, z: x.sign_(),
    "square_": lambda x, y, z: x.square_(),
    "sqrt_": lambda x, y, z: x.abs_().sqrt_(),
    "rsqrt_": lambda x, y, z: x.abs_().rsqrt_(),
    "reciprocal_": lambda x, y, z: x.reciprocal_(),
    "exp_": lambda x, y, z: x.exp_(),
    "expm1_": lambda x, y, z: x.expm1_(),
    "log_": lambda x, y, z: x.abs_().add_(0.5).log_(),
    "log1p_": lambda x, y, z: x.abs_().log1p_(),
    "pow_": lambda x, y, z: x.pow_(3),
    "pow_ of a tensor": lambda x, y, z: x.abs_().pow_(z),
    "relu_": lambda x, y, z: x.relu_(),
    "sigmoid_": lambda x, y, z: x.sigmoid_(),
    "tanh_": lambda x, y, z: x.tanh_(),
    "erf_": lambda x, y, z: x.erf_(),
    "sin_": lambda x, y, z: x.sin_(),
    "cos_": lambda x, y, z: x.cos_(),
    "tan_": lambda x, y, z: x.tan_(),
    "asin_": lambda x, y, z: x.mul_(0.3).asin_(),
    "acos_": lambda x, y, z: x.mul_(0.3).acos_(),
    "atan_": lambda x, y, z: x.atan_(),
    "sinh_": lambda x, y, z: x.sinh_(),
    "cosh_": lambda x, y, z: x.cosh_(),
    "exp2_": lambda x, y, z: x.exp2_(),
    "log2_": lambda x, y, z: x.abs_().add_(0.5).log2_(),
    "log10_": lambda x, y, z: x.abs_().add_(0.5).log10_(),
    "erfc_": lambda x, y, z: x.erfc_(),
    "lgamma_": lambda x, y, z: x.abs_().add_(0.5).lgamma_(),
    "frac_": lambda x, y, z: x.mul_(0.7).frac_(),
    "atan2_": lambda x, y, z: x.atan2_(y),
    "hypot_": lambda x, y, z: x.hypot_(z),
    "logit_": lambda x, y, z: x.abs_().mul_(0.3).logit_(),
    "xlogy_": lambda x, y, z: x.xlogy_(z),
    "cumsum_": lambda x, y, z: x.cumsum_(0),
    "cumprod_": lambda x, y, z: x.cumprod_(0),
    "floor_": lambda x, y, z: x.mul_(0.7).floor_(),
    "ceil_": lambda x, y, z: x.mul_(0.7).ceil_(),
    "round_": lambda x, y, z: x.mul_(0.7).round_(),
    "trunc_": lambda x, y, z: x.mul_(0.7).trunc_(),
    "remainder_": lambda x, y, z: x.mul_(0.7).remainder_(z),
    "fmod_": lambda x, y, z: x.mul_(1.7).fmod_(z),
    "masked_fill_": lambda x, y, z: x.masked_fill_(y > 0, 9.0),
    "masked_fill_ of a tensor": lambda x, y, z: x.masked_fill_(y > 0, z[0]),
    "scatter_": lambda x, y, z: x.scatter_(0, y.argsort(), z),
    "scatter_ of a number": lambda x, y, z: x.scatter_(0, y.argsort()[:2], 9.0),
    "scatter_add_": lambda x, y, z: x.scatter_add_(0, (y > 0).long(), z),
    "scatter_reduce_": lambda x, y, z: x.scatter_reduce_(0, (y > 0).long(), z, "prod"),
    "index_add_": lambda x, y, z: x.index_add_(0, (y > 0).long(), z, alpha=0.5),
    "index_copy_": lambda x, y, z: x.index_copy_(0, y.argsort(), z),
    "index_fill_": lambda x, y, z: x.index_fill_(0, (y > 0).long(), 9.0),
}
BOTH = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def values(library, requires_grad=False):
    tensors = [library.tensor(v, dtype=library.float64) for v in ([1.0, -2.0, 3.0], Y, Z)]
    for x in tensors[1:]:
        x.requires_grad_(requires_grad)
    return tensors


class TestOffTheTape:
    @BOTH
    def test_pytorchs_values(self, operation) -> None:
        torch = pytest.importorskip("torch")
        ours, theirs = values(td), values(torch)
        operation(*ours)
        operation(*theirs)
        # the last bit of exp and its kin is each library's own
        np.testing.assert_allclose(ours[0].numpy(), theirs[0].numpy(), rtol=1e-15)

    @BOTH
    def test_the_memory_is_written_and_its_views_see_it(self, operation) -> None:
        x, y, z = values(td)
        array, view, part, before = x.numpy(), x.detach(), x[1:], x.numpy().copy()
        count = x.version.count
        operation(x, y, z)
        assert np.shares_memory(x.numpy(), array)
        assert not np.array_equal(x.numpy(), before)
        np.testing.assert_array_equal(view.numpy(), x.numpy())
        np.testing.assert_array_equal(part.numpy(), x.numpy()[1:])
        assert view.version.count > count

    @BOTH
    def test_recorded(self, operation) -> None:
        """State from outside is written at each replay; a tensor of the step's own begins anew."""

        def run(wrap) -> list:
            state, y, z = values(td)

            def step(scale):
                own = td.ones(3, dtype=td.float64) * scale
                made = td.ones(3, dtype=td.float64)
                for x in (state, own, made):
                    operation(x, y * scale, z)
                return own, made, state * 1.0

            step = wrap(step)
            found = []
            for scale in (1.0, 2.0, 0.5):
                found += [t.tolist() for t in step(td.tensor(scale, dtype=td.float64))]
            return [*found, state.tolist()]

        assert run(td.record) == run(lambda f: f)

    def test_every_backend(self, backend) -> None:
        x = td.tensor([1.0, 2.0])
        part = x[:1]
        x += td.tensor([1.0, 1.0])
        part.mul_(10.0)
        x.clamp_(max=15.0)
        assert x.tolist() == [15.0, 3.0]

    @pytest.mark.parametrize("change", range(7))
    @pytest.mark.parametrize("wrap", [lambda f: f, td.record], ids=["eager", "recorded"])
    def test_sgd_by_hand(self, wrap, change) -> None:
        """`p -= lr * p.grad` and its forms change the parameter."""
        changes = [
            lambda p: p.__isub__(0.1 * p.grad),
            lambda p: p.sub_(0.1 * p.grad),
            lambda p: p.add_(p.grad, alpha=-0.1),
            lambda p: p.copy_(p - 0.1 * p.grad),
            lambda p: p.data.sub_(0.1 * p.grad),
            lambda p: p.data.add_(p.grad.data, alpha=-0.1),
            lambda p: setattr(p, "data", p.data - 0.1 * p.grad.data),
        ]
        w = nn.Parameter(np.array([1.0, 2.0]))

        @wrap
        def step(x):
            w.grad = None
            (w * x).square().sum().backward()
            with td.no_grad():
                changes[change](w)

        for _ in range(3):
            step(td.tensor([1.0, 0.5], dtype=td.float64))
        np.testing.assert_allclose(w.detach().numpy(), [1.0 * 0.8**3, 2.0 * 0.95**3], rtol=1e-12)
        assert w.requires_grad
        assert w.is_leaf

    def test_gradients_that_are_scaled_in_place(self) -> None:
        def run(wrap) -> list:
            w = nn.Parameter(np.ones(2))

            @wrap
            def clip():
                w.grad.mul_(0.5)

            found = []
            for value in (1.0, 2.0, 3.0):
                w.grad = td.full((2,), value, dtype=td.float64)
                clip()
                found.append(w.grad.tolist())
            return found

        assert run(td.record) == run(lambda f: f) == [[0.5, 0.5], [1.0, 1.0], [1.5, 1.5]]

    def test_the_tape_notices(self) -> None:
        w = nn.Parameter(np.array([2.0]))
        y = (w * w).sum()
        with td.no_grad():
            w += 1.0
        with pytest.raises(GraphError, match="was written before the backward pass"):
            y.backward()

    def test_draws(self) -> None:
        for draw in (
            lambda x, g: x.normal_(3.0, 0.1, generator=g),
            lambda x, g: x.uniform_(2.0, 4.0, generator=g),
        ):
            x = td.zeros(1000, dtype=td.float64)
            assert draw(x, td.Generator(1)) is x
            assert 2.9 < x.mean().item() < 3.1
            again = draw(td.zeros(1000, dtype=td.float64), td.Generator(1))
            np.testing.assert_array_equal(x.numpy(), again.numpy())
            assert len(np.unique(x.numpy())) == 1000


class TestOnTheTape:
    @BOTH
    @pytest.mark.parametrize("leading", [True, False], ids=["result", "constant"])
    def test_pytorchs_gradients(self, operation, leading) -> None:
        """Of the result of an operation, and of a constant that meets what requires grad."""
        torch = pytest.importorskip("torch")
        found = []
        for library in (td, torch):
            x, y, z = values(library, True)
            leaf = library.tensor([1.0, -2.0, 3.0], dtype=library.float64).requires_grad_(True)
            out = leaf * 2.0 if leading else x
            same = out
            operation(out, y, z)
            assert same is out
            if out.requires_grad:
                (out.square() * out).sum().backward()
            found.append([out, *(t.grad for t in (leaf, y, z))])
        for ours, theirs in zip(*found, strict=True):
            # a gradient of zeros is none where the value that it belongs to is gone
            theirs = np.zeros(3) if theirs is None else theirs.detach().numpy()
            np.testing.assert_allclose(
                np.zeros(3) if ours is None else ours.detach().numpy(), theirs, rtol=1e-12, atol=1e-300
            )

    def test_second_order_and_recorded(self) -> None:
        def step(x):
            out = x * x
            out *= x
            out += x
            (g,) = td.grad(out.sum(), x, create_graph=True)
            return td.grad(g.sum(), x)[0], out

        recorded = td.record(step)
        for value in (1.0, 2.0, 3.0):
            x = td.tensor([value], requires_grad=True)
            for a, b in zip(step(x), recorded(x), strict=True):
                assert a.tolist() == b.tolist()
        assert step(x)[0].tolist() == [18.0]

    def test_a_residual_block(self) -> None:
        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(3, 3)

            def forward(self, x):
                identity = x
                out = self.layer(x)
                out += identity
                return out

        block, x = Block(), td.randn(2, 3)
        np.testing.assert_array_equal(block(x).detach().numpy(), (block.layer(x) + x).detach().numpy())
        block(x).sum().backward()
        assert block.layer.bias.grad.tolist() == [2.0] * 3

    def test_a_running_sum(self) -> None:
        w = nn.Parameter([2.0])
        total = td.zeros(1)
        for i in range(3):
            total += w * i
        total.sum().backward()
        assert w.grad.tolist() == [3.0]

    def test_an_argument_of_a_recorded_step(self) -> None:
        w = nn.Parameter([2.0])

        @td.record
        def step(x):
            x += w
            return x * 3.0

        for value in (1.0, 2.0, 3.0):
            assert step(td.tensor([value])).tolist() == [3.0 * (value + 2.0)]

    def test_the_memory_stays(self) -> None:
        """What the tape has saved before is as it was."""
        w = nn.Parameter([3.0])
        out = w * 2.0
        y = out * out
        out += 1.0
        y.sum().backward()
        assert w.grad.tolist() == [24.0]


class TestRefused:
    def test_leaves(self) -> None:
        for leaf in (nn.Parameter([1.0]), td.ones(1, requires_grad=True)):
            with pytest.raises(GraphError, match=r"\+=: expected no_grad around a write to a leaf"):
                leaf += 1.0
            with pytest.raises(GraphError, match="zero_: expected no_grad"):
                leaf.zero_()
            with pytest.raises(GraphError, match="normal_: expected no_grad"):
                leaf.normal_()
            assert leaf.tolist() == [1.0]
        buffer = nn.Buffer([1.0])
        buffer += 1.0
        with pytest.raises(GraphError, match=r"expected no_grad around a write .* a Buffer"):
            buffer += nn.Parameter([1.0])
        assert buffer.tolist() == [2.0]

    def test_views(self) -> None:
        w = nn.Parameter([1.0, 2.0])
        base = w * 2.0
        view = base[:1]
        for x in (base, view):
            with pytest.raises(GraphError, match="mul_: expected a tensor without live views in grad mode"):
                x.mul_(2.0)
        del x, view
        base.mul_(2.0)
        assert base.tolist() == [4.0, 8.0]
        alone = (w * 2.0)[:1]
        alone += 1.0  # the base is gone: nobody else sees the memory
        assert alone.tolist() == [3.0]
        for _ in range(100):
            w.detach()
        assert not w.version.shared(w)

    def test_shapes_and_dtypes(self) -> None:
        with pytest.raises(ShapeError, match=r"add_: expected operands that broadcast to \(1,\), got \(3,\)"):
            td.ones(1).add_(td.ones(3))
        with pytest.raises(ShapeError, match=r"copy_: expected operands that broadcast to \(2,\), got"):
            td.ones(2).copy_(td.ones(3))
        with pytest.raises(ShapeError, match=r"fill_: expected one value, got \(2,\)"):
            td.ones(2).fill_(td.ones(2))
        integers = td.tensor([1, 2])
        with pytest.raises(DtypeError, match="/=: expected a value that int64 can hold, got float32"):
            integers /= 2
        with pytest.raises(DtypeError, match="mul_: expected a value that int64 can hold"):
            integers.mul_(0.5)
        integers += 1
        integers.copy_(td.tensor([5.7, -1.2]))
        assert integers.tolist() == [5, -1]
        single = td.ones(2)
        single += td.ones(2, dtype=td.float64)
        assert single.dtype == "float32"
        mask = td.tensor([True, False])
        mask &= td.tensor([True, True])
        mask |= td.tensor([False, True])
        mask ^= td.tensor([True, False])
        assert mask.tolist() == [False, True]

    def test_memory_that_may_not_be_written(self) -> None:
        frozen = np.ones(2)
        frozen.flags.writeable = False
        for x in (td.ones(1).expand(3), td.from_numpy(frozen)):
            with pytest.raises(GraphError, match=r"\*=: expected memory that may be written"):
                x *= 2.0

    def test_deprecated_forms(self) -> None:
        with pytest.raises(TypeError):
            td.ones(2).add_(0.5, td.ones(2))


class TestData:
    def test_it_shares_and_takes(self) -> None:
        w = nn.Parameter([1.0, 2.0])
        assert not w.data.requires_grad
        w.data[0] = 5.0
        assert w.tolist() == [5.0, 2.0]
        array = w.array
        w.data = td.tensor([7.0, 8.0])
        assert w.array is array
        assert w.tolist() == [7.0, 8.0]
        w.data = td.ones(3, dtype=td.float64)
        assert (w.shape, w.requires_grad) == ((3,), True)
        with pytest.raises(GraphError, match="data: expected a leaf or a value of"):
            (w * 2.0).data = td.ones(1)
        with pytest.raises(DtypeError, match="data: expected a tensor, got list"):
            w.data = [1.0]

    def test_an_overlap(self) -> None:
        x = td.arange(5.0)
        x[1:].copy_(x[:-1])
        assert x.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0]


SHAPES = {
    "unsqueeze_": lambda x: x.unsqueeze_(1),
    "squeeze_": lambda x: x.squeeze_(),
    "squeeze_ of a dim": lambda x: x.squeeze_(-1),
    "t_": lambda x: x.squeeze_(1).t_(),
    "transpose_": lambda x: x.transpose_(0, -1),
    "several": lambda x: x.transpose_(0, 2).unsqueeze_(0).squeeze_(),
}


FUNCTIONS = {
    "asinh": (),
    "acosh": (),
    "atanh": (),
    "digamma": (),
    "floor_divide": (0.3,),
    "nan_to_num": (0.25,),
    "tril": (-1,),
    "triu": (1,),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("on_the_tape", [False, True])
def test_what_pytorch_does_not_follow_is_what_the_function_gives(name, on_the_tape) -> None:
    value = np.array([[1.25, np.nan], [0.5, 1.5]] if name == "nan_to_num" else [[1.25, 0.75], [0.5, 1.5]])
    x = td.tensor(value).requires_grad_(on_the_tape) * 1.0
    expected = getattr(td, name)(x, *FUNCTIONS[name])
    y = x.clone()
    assert getattr(y, f"{name}_")(*FUNCTIONS[name]) is y
    np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())
    assert y.requires_grad is on_the_tape


class TestAnotherShape:
    @pytest.mark.parametrize("change", SHAPES.values(), ids=SHAPES)
    def test_as_pytorch(self, change) -> None:
        torch = pytest.importorskip("torch")
        found = []
        for t in (td, torch):
            x = t.arange(6.0).reshape(2, 1, 3)
            first = x[0]
            assert change(x) is x
            x.mul_(2.0)
            first.add_(1.0)
            w = t.arange(6.0).reshape(2, 1, 3).requires_grad_()
            y = w * w
            change(y)
            y.mul_(3.0).square().sum().backward()
            found.append([x.tolist(), first.tolist(), y.tolist(), w.grad.tolist()])
        assert found[0] == found[1]

    def test_refused(self) -> None:
        for x in (td.ones(2, requires_grad=True), nn.Parameter(np.ones(2)), nn.Buffer(np.ones(2))):
            with pytest.raises(
                GraphError, match="unsqueeze_: expected no leaf that requires grad, Parameter or"
            ):
                x.unsqueeze_(0)
        with pytest.raises(GraphError, match="t_: expected t, which returns the view, in a recorded step"):
            td.record(lambda x: x.t_() * 2)(td.ones(2, 3))
        with pytest.raises(ShapeError, match="unsqueeze"):
            td.ones(2).unsqueeze_(3)

    def test_a_result_in_a_recorded_step(self) -> None:
        w = nn.Parameter(np.ones((2, 3)))

        def step(x):
            y = w * x
            y.t_().unsqueeze_(0)
            return (y * y[0]).sum()

        recorded = td.record(step)
        for scale in (1.0, 2.0, 3.0):
            x = td.full((2, 3), scale, dtype=td.float64)
            assert recorded(x).item() == step(x).item() == 6 * scale**2


class TestDraws:
    def test_bernoulli(self) -> None:
        x = td.zeros(4000, dtype=td.int64)
        part = x[:1]
        assert x.bernoulli_(0.25, generator=td.Generator(0)) is x
        assert set(x.tolist()) == {0, 1}
        assert 0.22 < x.double().mean().item() < 0.28
        assert part.tolist() == x[:1].tolist()
        chances = td.tensor([0.0, 1.0, 1.0])
        assert td.full((2, 3), 5.0).bernoulli_(chances).tolist() == [[0, 1, 1]] * 2
        with pytest.raises(ValueError, match="bernoulli: expected a probability in"):
            x.bernoulli_(1.5)

    def test_exponential(self) -> None:
        from scipy import stats

        x = td.empty(4000, dtype=td.float64).exponential_(2.0, generator=td.Generator(0))
        assert stats.kstest(x.numpy(), stats.expon(scale=0.5).cdf).pvalue > 1e-3
        with pytest.raises(ValueError, match="exponential_: expected lambd above 0, got 0"):
            x.exponential_(0)

    def test_whole_numbers(self) -> None:
        generator = td.Generator(0)
        assert set(td.empty(500).random_(3, generator=generator).tolist()) == {0, 1, 2}
        assert set(td.empty(500, dtype=td.int64).random_(-2, 1, generator=generator).tolist()) == {-2, -1, 0}
        bytes_ = td.empty(4000, dtype=td.uint8).random_(generator=generator)
        assert (bytes_.min().item(), bytes_.max().item()) == (0, 255)
        assert set(td.empty(100, dtype=td.bool).random_(generator=generator).tolist()) == {False, True}
        large = td.empty(100, dtype=td.int64).random_(generator=generator)
        assert large.min().item() >= 0
        assert large.max().item() > 1 << 60
        single = td.empty(4000).random_(generator=generator)
        assert 1 << 23 < single.max().item() <= 1 << 24
        assert (single == single.round()).all()
        with pytest.raises(ValueError, match="randint: expected low < high, got 3 and 3"):
            large.random_(3, 3)

    def test_a_replay_draws_anew(self) -> None:
        x = td.zeros(20)
        recorded = td.record(lambda: (x.exponential_().bernoulli_().random_(100), None)[1])
        found = []
        for _ in range(3):
            recorded()
            found.append(x.tolist())
        assert len(set(map(tuple, found))) == 3
