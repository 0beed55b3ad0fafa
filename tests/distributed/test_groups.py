"""Groups without other processes: one rank, transports that stand in for others, and what is refused."""

from __future__ import annotations

import builtins
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.data import DataLoader, TensorDataset
from tinydl.distributed import DataParallel, Group, RankError, average_gradients, nccl, serial, world
from tinydl.distributed import group as groups
from tinydl.distributed.transport import Mpi


class Mirror:
    """Rank 0 of n, whose others have the same."""

    rank, device = 0, "cpu"

    def __init__(self, size: int = 2) -> None:
        self.size, self.calls = size, 0

    def sum(self, x: Any, out: Any) -> None:
        self.calls += 1
        out[...] = self.size * x

    def sum_parts(self, x: Any, out: Any, counts: Any) -> None:
        out[...] = self.size * x[: counts[0]]

    def gather(self, x: Any, out: Any, counts: Any) -> None:
        out[...] = np.tile(x, self.size)[: out.size]

    def broadcast(self, x: Any, root: int) -> None: ...

    def barrier(self) -> None: ...

    def abort(self, code: int) -> None: ...


def test_one_rank() -> None:
    group = serial()
    x = td.tensor([1.0, 2.0])
    assert (group.rank, group.size) == (0, 1)
    for same in (group.all_reduce(x), group.all_gather(x), group.broadcast(x), group.shard(2).mean(x)):
        assert same.tolist() == [1.0, 2.0]
    group.barrier()
    assert group.exchange({"a": 1}) == [{"a": 1}]
    assert group.first(lambda: 3) == 3
    with group.shard(5) as shard:
        assert (shard.start, shard.samples, shard.total, shard.share) == (0, 5, 5, 1.0)
        assert nn.BatchNorm1d(2)(td.ones(5, 2)).shape == (5, 2)  # whose batch is whole
    with pytest.raises(ZeroDivisionError):
        group.first(lambda: 1 / 0)


def test_world_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_worlds", [])
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("mpi4py"):
            raise ImportError("No module named 'mpi4py'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(groups, "one_of_many", lambda: False)
    assert world().size == 1
    monkeypatch.setattr(groups, "one_of_many", lambda: True)
    with pytest.raises(ImportError, match=r"pip install 'tinydl\[mpi\]'"):
        world()


def test_a_recording_keeps_what_others_wait_for() -> None:
    """Also where nobody reads the result: another rank may be recording, and makes the call."""
    transport = Mirror()
    group = Group(transport)

    @td.record
    def step(x: td.Tensor) -> td.Tensor:
        group.all_reduce(x)
        return x + 1

    for calls in (1, 2, 3):
        step(td.ones(3))
        assert transport.calls == calls


def test_a_recording_is_of_one_way_to_share() -> None:
    group = Group(Mirror())
    seen = []

    @td.record
    def step(x: td.Tensor) -> td.Tensor:
        seen.append(1)
        return td.dropout(x, 0.5)

    for shard in (groups.Shard(group, (3, 3)), groups.Shard(group, (3, 4)), groups.Shard(group, (3, 3))):
        with shard:
            step(td.ones(3, 5))
    assert len(seen) == 2
    step(td.ones(3, 5))
    assert len(seen) == 3


def test_draws_for_places_in_the_whole_batch() -> None:
    """Each kind of draw, cut anywhere, is part of the whole draw; and the counters end at one place."""
    from tinydl.ops.random import of_batch, of_samples

    draws = {
        "rand": lambda n, **k: of_samples(td.rand, (n, 3), **k),
        "randn": lambda n, **k: of_samples(td.randn, (n, 5), dtype=td.float64, **k),
        "randint": lambda n, **k: of_samples(td.randint, 0, 1000, (n,), **k),
        "rand_beta": lambda n, **k: of_samples(td.rand_beta, 0.4, 2.0, n, **k),
        "dropout": lambda n, **k: td.dropout(td.ones(n, 7), 0.5, **k),
        "dropout2d": lambda n, **k: td.dropout2d(td.ones(n, 3, 2, 2), 0.5, **k),
        "alpha_dropout": lambda n, **k: td.alpha_dropout(td.ones(n, 3), 0.5, True, **k),
        "gaussian_noise": lambda n, **k: td.gaussian_noise(td.ones(n, 3), **k),
        "bernoulli": lambda n, **k: of_samples(td.bernoulli, td.ones(n, 3), 0.5, **k),
    }
    for name, draw in draws.items():
        whole = td.Generator(1)
        expected = draw(11, generator=whole).numpy()
        for counts in ((4, 7), (1, 2, 3, 5), (0, 11)):
            parts = []
            for rank in range(len(counts)):
                group = Group(Mirror(len(counts)))
                group.rank = rank
                own = td.Generator(1)
                with groups.Shard(group, counts):
                    parts.append(draw(counts[rank], generator=own).numpy())
                assert own.state_dict() == whole.state_dict(), name
            np.testing.assert_array_equal(np.concatenate(parts), expected, err_msg=name)
    group = Group(Mirror())
    with groups.Shard(group, (4, 7)):
        same = of_batch(td.dropout, td.ones(4, 3), 0.5, generator=td.Generator(2))
    np.testing.assert_array_equal(
        same.numpy(), td.dropout(td.ones(4, 3), 0.5, generator=td.Generator(2)).numpy()
    )


def test_loaders_cut_batches() -> None:
    data = TensorDataset(np.arange(10.0), np.arange(10))
    parts = [DataLoader(data, 4, group=SimpleNamespace(rank=rank, size=3)) for rank in range(3)]
    for _ in range(3):
        rows = [part.next_batch()[1].tolist() for part in parts]
        assert [len(own) for own in rows] in ([1, 1, 2], [0, 1, 1])
        together = [row for own in rows for row in own]
        assert together == list(range(together[0], together[0] + len(together)))
    assert parts[0].state_dict() == DataLoader(data, 4).state_dict() | {"epoch": 1}


def test_what_is_refused() -> None:
    group = Group(Mirror())
    for call, error, message in (
        (lambda: group.all_reduce(3.0), TypeError, "all_reduce: expected a tensor, got float"),
        (lambda: group.all_gather(td.tensor(1.0)), td.ShapeError, "expected rows"),
        (
            lambda: group.all_gather(td.ones(3), (2, 1)),
            td.ShapeError,
            "expected counts of 2 ranks, 3 of rank 0",
        ),
        (lambda: group.broadcast(td.ones(3), 2), td.ShapeError, r"expected root in \[0, 2\), got 2"),
        (lambda: group.shard(-1), td.ShapeError, "expected 0 samples or more"),
        (lambda: DataParallel(3, group), TypeError, "expected a module, got int"),
        (lambda: DataParallel(nn.Linear(1, 1), 2), TypeError, "expected a Group, got int"),
        (lambda: nccl(object()), TypeError, "expected rank and size"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_gradients_of_several_dtypes_and_none() -> None:
    transport = Mirror()
    a, b, c = (nn.Parameter(np.ones(3, dtype)) for dtype in (np.float32, np.float64, np.float32))
    a.grad, b.grad = td.tensor([1.0, 2.0, 3.0]), td.tensor(np.ones(3))
    average_gradients([a, b, c], Group(transport))
    assert (a.grad.tolist(), b.grad.tolist(), c.grad) == ([2.0, 4.0, 6.0], [2.0, 2.0, 2.0], None)
    assert (a.grad.dtype, b.grad.dtype, transport.calls) == (td.float32, td.float64, 2)
    average_gradients([a], serial())
    assert a.grad.tolist() == [2.0, 4.0, 6.0]


def test_a_rank_that_is_not_heard_of() -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is absent: pip install 'tinydl[mpi]'")
    transport = object.__new__(Mpi)
    transport.rank, transport.size, transport.spin, transport.timeout = 0, 3, 0.0, 0.15
    transport.world = SimpleNamespace(Iprobe=lambda *_: False)
    with pytest.raises(RankError, match="rank 0 has waited 0 s for the other 2"):
        transport._wait(SimpleNamespace(Test=lambda: False))
    transport.world = SimpleNamespace(Iprobe=lambda rank, tag: rank == 2)
    with pytest.raises(RankError, match="rank 0 waits for rank 2, which has ended"):
        transport._wait(SimpleNamespace(Test=lambda: False))
