"""Arrays by DLPack, both ways, between tinydl and what is installed: the same memory, in both directions of
writing, and a copy only where a strided or read-only one must be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import fake_cupy
import numpy as np
import pytest
from comparisons import comparison
from tinydl_kernels.machine.errors import DtypeError

import tinydl as td

DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]
SHAPES = [(), (3,), (2, 3, 4), (0, 2)]


class Library(NamedTuple):
    make: Callable[[np.ndarray], Any]  # of a NumPy array, in memory of its own
    take: Callable[[Any], Any]  # its from_dlpack
    read: Callable[[Any], np.ndarray]
    transpose: Callable[[Any], Any]
    fill: Callable[[Any, int], Any]  # writes into every place


def _fill(x: Any, value: int) -> None:
    x[...] = value


def numpy_itself() -> Library:
    return Library(np.array, np.from_dlpack, np.asarray, np.transpose, _fill)


def torch_itself() -> Library:
    torch = pytest.importorskip("torch")
    return Library(
        lambda x: torch.tensor(x),
        torch.from_dlpack,
        lambda x: x.numpy(),
        lambda x: x.T,
        lambda x, v: x.fill_(v),
    )


LIBRARIES = {"numpy": numpy_itself, "torch": torch_itself}
every_library = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.torch] if name == "torch" else []) for name in LIBRARIES]
)


def filled(x: td.Tensor, value: int) -> None:
    with td.no_grad():
        x.fill_(value)


@every_library
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_and_out_share_memory(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    library = LIBRARIES[name]()
    values = (np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype)
    theirs = library.make(values)
    ours = td.from_dlpack(theirs)
    assert (ours.dtype, ours.shape, ours.device) == (np.dtype(dtype), shape, "cpu")
    np.testing.assert_array_equal(ours.numpy(), values)
    library.fill(theirs, 1)
    np.testing.assert_array_equal(ours.numpy(), np.ones(shape, dtype))
    filled(ours, 0)
    np.testing.assert_array_equal(library.read(theirs), np.zeros(shape, dtype))

    ours = td.tensor(values)
    theirs = library.take(ours)
    np.testing.assert_array_equal(library.read(theirs), values)
    assert library.read(theirs).dtype == dtype
    filled(ours, 1)
    np.testing.assert_array_equal(library.read(theirs), np.ones(shape, dtype))


@every_library
def test_strides_stay(name: str) -> None:
    library = LIBRARIES[name]()
    values = np.arange(6.0).reshape(2, 3)
    theirs = library.make(values)
    ours = td.from_dlpack(library.transpose(theirs))
    np.testing.assert_array_equal(ours.numpy(), values.T)
    library.fill(theirs, 7)
    assert ours.tolist() == [[7, 7]] * 3
    back = library.take(td.tensor(values).T)
    np.testing.assert_array_equal(library.read(back), values.T)


@every_library
def test_there_and_back_is_the_same_memory(name: str) -> None:
    library = LIBRARIES[name]()
    x = td.tensor([1.0, 2.0])
    y = td.from_dlpack(library.take(x))
    filled(y, 5)
    assert x.tolist() == [5, 5]


@every_library
def test_the_memory_lives_as_long_as_who_sees_it(name: str) -> None:
    library = LIBRARIES[name]()
    ours = td.from_dlpack(library.make(np.arange(100_000.0)))
    theirs = library.take(td.arange(100_000).to("float64"))
    junk = [np.full(100_000, 9.0) for _ in range(5)]  # would take freed memory
    assert len(junk) == 5
    assert ours.sum().item() == library.read(theirs).sum() == sum(range(100_000))


def test_between_torch_and_the_tape() -> None:
    """What is followed goes out read-only, a mark that PyTorch does not heed; its own followed tensors it
    refuses to give.
    """
    torch = pytest.importorskip("torch")
    x = td.ones(3, requires_grad=True)
    assert torch.from_dlpack(x).tolist() == [1, 1, 1]
    assert not np.from_dlpack(x).flags.writeable
    with pytest.raises(BufferError, match="require"):
        td.from_dlpack(torch.ones(2, requires_grad=True))
    y = td.from_dlpack(torch.ones(2, requires_grad=True).detach()).requires_grad_()
    (y * y).sum().backward()
    assert y.grad.tolist() == [2, 2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64"])
def test_dtypes_that_no_tensor_has(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(DtypeError, match=rf"from_\w+: .*{dtype}"):
        td.from_dlpack(torch.ones(2, dtype=getattr(torch, dtype)))


@every_library
def test_a_copy_has_memory_of_its_own(name: str) -> None:
    library = LIBRARIES[name]()
    theirs = library.make(np.arange(6.0).reshape(2, 3))
    ours, shared = td.from_dlpack(library.transpose(theirs), copy=True), td.from_dlpack(theirs, copy=False)
    library.fill(theirs, 7)
    np.testing.assert_array_equal(ours.numpy(), np.arange(6.0).reshape(2, 3).T)
    assert shared.tolist() == [[7, 7, 7]] * 2
    filled(ours, 5)
    assert shared.tolist() == [[7, 7, 7]] * 2


def test_a_copy_as_pytorch_makes_it() -> None:
    torch = pytest.importorskip("torch")
    for copy in (None, False, True):
        with comparison():
            for t in (td, torch):
                array = np.ones(2)
                x = t.from_dlpack(array, copy=copy)
                array[:] = 2
                assert x.tolist() == ([1, 1] if copy else [2, 2])


# ---- CuPy: its stand-in, whose arrays are on a device that the host may not touch


def test_arrays_of_cupy_share_memory_both_ways(gpu: Any) -> None:
    theirs = fake_cupy.array([1.0, 2.0])
    ours, copy = td.from_dlpack(theirs), td.from_dlpack(theirs, copy=True)
    assert (ours.device, ours.dtype) == ("cuda", theirs.dtype)
    assert (copy.device, copy.dtype) == ("cuda", theirs.dtype)
    theirs[...] = 3.0
    assert ours.tolist() == [3, 3]
    assert copy.tolist() == [1, 2]
    filled(ours, 4)
    assert theirs.tolist() == [4, 4]
    assert ours.__dlpack_device__() == (2, 0)
    back = fake_cupy.from_dlpack(ours.array)
    back[...] = 5.0
    assert ours.tolist() == [5, 5]


def test_a_host_array_does_not_become_one_of_the_device(gpu: Any) -> None:
    assert td.from_dlpack(np.ones(2)).device == "cpu"
    assert td.ones(2).__dlpack_device__() == (1, 0)
    assert td.ones(2, device="cuda").__dlpack_device__() == (2, 0)
