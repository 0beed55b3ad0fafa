"""Making tensors, exchanging them with other libraries, converting and comparing them."""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DeviceError, DtypeError, GraphError, ShapeError

import tinydl as td


def test_shapes_and_dtypes() -> None:
    like = td.ones(2, 3, dtype="float64")
    for made in (td.empty_like(like), td.full_like(like, 2), td.rand_like(like), td.randn_like(like)):
        assert (made.shape, made.dtype) == (like.shape, like.dtype)
    assert td.full_like(like, 2, dtype="int64").tolist() == [[2, 2, 2], [2, 2, 2]]
    assert td.rand_like(like, dtype="float32").dtype == np.float32
    assert td.empty(2, 0).shape == (2, 0)
    assert td.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert td.eye(2, dtype="int64", requires_grad=False).dtype == np.int64
    assert td.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert td.linspace(3, -1, 1, dtype="float64").tolist() == [3]
    assert td.linspace(0, 1, 0).shape == (0,)
    with pytest.raises(ShapeError, match="linspace: expected steps of at least 0, got -1"):
        td.linspace(0, 1, -1)


def test_linspace_and_eye_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(
        td.linspace(-3, 7, 23).numpy(), torch.linspace(-3, 7, 23).numpy(), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_array_equal(td.eye(3, 5).numpy(), torch.eye(3, 5).numpy())


def test_randperm_is_a_permutation_and_every_one_comes() -> None:
    assert td.randperm(0).shape == (0,)
    assert sorted(td.randperm(1000).tolist()) == list(range(1000))
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(1200):
        order = tuple(td.randperm(3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert min(counts.values()) > 140
    with pytest.raises(ShapeError, match="randperm: expected n of at least 0, got -1"):
        td.randperm(-1)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_randperm_is_recorded_and_the_same_on_every_backend(backend: str) -> None:
    generator = td.Generator(3)
    recorded = td.record(lambda: td.randperm(50, generator=generator))
    with td.backend(backend):
        drawn = [recorded().tolist() for _ in range(3)]
    generator.manual_seed(3)
    with td.backend("reference"):
        assert drawn == [td.randperm(50, generator=generator).tolist() for _ in range(3)]
    assert drawn[0] != drawn[1]


def test_normal() -> None:
    x = td.normal(3.0, 0.5, (10_000,))
    assert abs(x.mean().item() - 3) < 0.02
    assert abs(x.std().item() - 0.5) < 0.02
    mean = td.tensor([[0.0], [100.0]], dtype="float64", requires_grad=True)
    std = td.tensor([1.0, 2.0, 3.0], dtype="float64", requires_grad=True)
    y = td.normal(mean, std)
    assert (y.shape, y.dtype) == ((2, 3), np.float64)
    assert td.gradcheck(lambda mean, std: td.normal(mean, std) ** 2, [mean, std])
    with pytest.raises(ValueError, match="normal: expected std of at least 0, got -1"):
        td.normal(0.0, -1.0, 3)
    with pytest.raises(ShapeError, match="normal: expected a size"):
        td.normal()
    with pytest.raises(ShapeError, match="normal: expected shapes that broadcast"):
        td.normal(td.zeros(2), td.ones(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_dlpack_both_ways(dtype: type) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6).reshape(2, 3).to(getattr(torch, np.dtype(dtype).name))
    ours = td.from_dlpack(theirs)
    assert ours.dtype == dtype
    theirs[0, 0] = 9
    assert ours.tolist() == [[9, 1, 2], [3, 4, 5]]
    back = torch.from_dlpack(td.tensor(np.arange(6, dtype=dtype)))
    assert back.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.from_dlpack(ours).base is not None
    with pytest.raises(DtypeError, match="from_dlpack: expected an object with __dlpack__, got list"):
        td.from_dlpack([1.0])


def test_what_the_tape_holds_is_exported_read_only() -> None:
    x = td.ones(3, requires_grad=True)
    assert not np.from_dlpack(x).flags.writeable
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # before, all that it imports is read-only
        assert np.from_dlpack(td.ones(3)).flags.writeable


class _BeforeVersion1:
    """Asks as consumers did before DLPack 1.0, which cannot be told of read-only memory."""

    def __init__(self, x: td.Tensor) -> None:
        self.x = x

    def __dlpack__(self, stream: object = None) -> object:
        return self.x.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


def test_who_does_not_know_read_only_memory_gets_a_copy() -> None:
    x, plain = td.ones(3, requires_grad=True), td.ones(3)
    copy = np.from_dlpack(_BeforeVersion1(x))
    assert copy.tolist() == [1, 1, 1]
    assert not np.shares_memory(copy, x.array)
    assert np.shares_memory(np.from_dlpack(_BeforeVersion1(plain)), plain.array)


def test_conversions() -> None:
    x = td.tensor([0.0, 1.7, -2.2])
    assert x.to("float32") is x
    assert (
        x.to(np.float64).dtype
        == x.to(td.zeros(1, dtype="float64")).dtype
        == x.to("cpu", "float64").dtype
        == np.float64
    )
    assert x.to(device="cpu", dtype="int64").tolist() == x.long().tolist() == [0, 1, -2]
    assert x.int().dtype == np.int32
    assert x.bool().tolist() == [False, True, True]
    assert (x.float().dtype, x.double().dtype) == (np.float32, np.float64)
    assert td.cast(x, "float64").dtype == np.float64
    with pytest.raises(DeviceError, match="to: expected device 'cpu', 'cuda' or 'cuda:0', got 'cuda:1'"):
        x.to("cuda:1")


def test_comparisons_of_whole_tensors() -> None:
    x = td.tensor([1.0, 2.0])
    assert td.equal(x, td.tensor([1.0, 2.0]))
    assert not td.equal(x, td.tensor([[1.0, 2.0]]))
    assert not td.equal(x, td.tensor([1.0, 2.5]))
    assert x.allclose(x + 1e-7)
    assert not td.allclose(x, x + 1e-3)
    assert td.allclose(x / 0.0, x / 0.0)
    nan = td.tensor([float("nan")])
    assert not td.allclose(nan, nan)
    assert td.allclose(nan, nan, equal_nan=True)
    with pytest.raises(DtypeError, match="allclose: expected one dtype, got float32 and float64"):
        td.allclose(x, x.double())
    with pytest.raises(ShapeError, match="allclose: expected shapes that broadcast"):
        td.allclose(x, td.ones(3))
    with pytest.raises(GraphError, match="equal: expected no values to be read inside a recorded step"):
        td.record(lambda x: td.equal(x, x))(x)


def test_methods() -> None:
    x = td.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert x.T.contiguous().array.flags.c_contiguous
    assert x.contiguous() is x
    assert x.where(x > 0, 0.0).tolist() == [[1, 0], [3, 4]]
    assert td.ones(1, 2).expand_as(x).shape == x.view(-1).view_as(x).shape == (2, 2)
    assert ((x > 0) ^ (x > 2)).tolist() == [[True, False], [False, False]]
    assert x.isfinite().all().item()
    assert not x.isnan().any().item()


def test_bernoulli_and_randint_take_pytorchs_forms() -> None:
    p = td.tensor([[0.0, 1.0, 0.5]] * 1000, dtype="float64")
    drawn = td.bernoulli(p, generator=td.Generator(1))
    assert (drawn.dtype, drawn.shape) == (p.dtype, p.shape)
    zeros, ones, halves = drawn.numpy().mean(0)
    assert (zeros, ones) == (0, 1)
    assert abs(halves - 0.5) < 0.05
    assert abs(td.bernoulli(p, 0.25, generator=td.Generator(2)).numpy().mean() - 0.25) < 0.05
    with pytest.raises(DtypeError, match="bernoulli: expected float32 or float64, got int64"):
        td.bernoulli(td.zeros(3, dtype="int64"))
    first, second = (
        td.randint(*limits, (50,), generator=td.Generator(3)).tolist() for limits in ((0, 7), (7,))
    )
    assert first == second
    assert {*first} <= {*range(7)}


def test_sizes_and_dims_by_name() -> None:
    x = td.arange(6).reshape(shape=(2, 3))
    assert td.zeros(size=(2, 3)).shape == td.rand(size=(2, 3)).shape == x.shape
    assert td.permute(x, dims=(1, 0)).tolist() == x.T.tolist()
    assert td.flip(x, dims=[0]).tolist() == td.flip(x, dims=0).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert td.add(input=x, other=1).tolist() == td.add(x, other=1).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'other'"):
        td.add(x)


def test_format_is_that_of_the_number() -> None:
    x = td.tensor(3.14159, requires_grad=True)
    assert (f"{x:.3g}", f"{td.tensor(2.5)}", f"{td.tensor([2.5])}") == ("3.14", "2.5", str(td.tensor([2.5])))
    with pytest.raises(ShapeError, match=r"format: expected a 0-d tensor for '.3g', got \(1,\)"):
        f"{td.tensor([2.5]):.3g}"
    with pytest.raises(GraphError, match="format: expected no values to be read inside a recorded step"):
        td.record(lambda x: f"{x:.1f}" and x)(td.tensor(1.0))


def test_without_a_dtype_it_is_float32() -> None:
    for make in (td.zeros, td.ones, td.empty, td.eye, td.rand, td.randn):
        assert make(2, dtype=None).dtype == np.float32
    assert td.linspace(0, 1, 3, dtype=None).dtype == np.float32
    assert td.normal(0.0, 1.0, (2,), dtype=None).dtype == np.float32
    assert (
        td.arange(0).dtype
        == td.arange(3, dtype=None).dtype
        == td.randint(3, (2,), dtype=None).dtype
        == np.int64
    )
    assert td.arange(0.0).dtype == np.float32
    with pytest.raises(
        DtypeError, match="cast: expected float32, float64, an integer dtype or bool, got None"
    ):
        td.cast(td.ones(2), None)


@pytest.mark.parametrize("wanted", ["float64", np.float64, np.dtype(np.float64)])
def test_as_tensor_converts(wanted: object) -> None:
    for data in (td.ones(2), np.ones(2, np.float32), [1.0, 1.0]):
        assert td.as_tensor(data, wanted).dtype == np.float64


def test_randint_in_every_form() -> None:
    for drawn in (td.randint(5, (9,)), td.randint(0, 5, (9,)), td.randint(high=5, size=(9,))):
        assert drawn.dtype == np.int64
        assert set(drawn.tolist()) <= set(range(5))
    assert td.randint(2, 3, (4,), dtype="float64").tolist() == [2.0] * 4
    with pytest.raises(
        TypeError, match=r"randint: expected integers low and high and a size, got 0, 2\.5 and "
    ):
        td.randint(2.5, (2,))


def test_only_a_floating_conversion_carries_a_gradient() -> None:
    x = td.tensor([1.5, 2.5], requires_grad=True)
    assert not any(y.requires_grad for y in (x.long(), x.int(), x.bool(), td.cast(x, "int64")))
    assert x.double().requires_grad


def test_beta_and_gamma_numbers_in_a_recorded_step() -> None:
    """New ones at each replay, each element's the same whatever the shape; repeated like all draws."""
    draws = {
        "beta": lambda *size, g: td.rand_beta(0.4, 0.7, *size, generator=g, dtype="float64"),
        "gamma": lambda *size, g: td.rand_gamma(0.7, *size, generator=g, dtype="float64"),
    }
    for draw in draws.values():
        generator = td.Generator(3)
        play = td.record(lambda x, draw=draw, g=generator: x + draw(2, 3, g=g))
        zeros = td.zeros(2, 3, dtype="float64")
        found = [play(zeros).numpy().copy() for _ in range(3)]
        eager = td.Generator(3)
        assert [x.tolist() for x in found] == [draw(2, 3, g=eager).tolist() for _ in range(3)]
        assert generator.state_dict() == eager.state_dict()
        assert found[0].tolist() != found[1].tolist()
        assert draw(4, g=td.Generator(3)).tolist() == found[0].reshape(-1)[:4].tolist()
        with td.remember() as noted:
            once = draw(5, g=eager)
        with td.repeat(noted):
            assert draw(5, g=eager).tolist() == once.tolist()
    assert td.rand_beta(1, 1, ()).dtype == np.float32
