"""Subsets, normalization, and minibatches whose order a resumed run finds again."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

from tinydl.data import Batches, normalize, subset

ORDERS_OF_SEED_5 = [[9, 2, 4, 3, 1, 5, 0, 6, 7, 8], [7, 4, 5, 1, 9, 6, 8, 0, 2, 3]]


def batches(samples: int = 10, **settings) -> Batches:
    x = np.arange(samples)
    return Batches(x, 10.0 * x, **{"batch_size": 3, "seed": 5, **settings})


def one_epoch(of: Batches) -> np.ndarray:
    return np.concatenate([x for x, _ in of])


class TestSubset:
    def test_the_authors_subset(self) -> None:
        got = subset(3, 2000)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, np.random.RandomState(3).permutation(50_000)[:2000])
        np.testing.assert_array_equal(got[:500], subset(3, 500))

    def test_pool(self) -> None:
        assert sorted(subset(0, 7, pool=7)) == list(range(7))
        for size in (8, -1):
            with pytest.raises(ShapeError, match=f"subset: size: expected 0 to pool=7, got {size}"):
                subset(0, size, pool=7)


class TestNormalize:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_one_mean_and_deviation_of_the_training_images(self, dtype: type) -> None:
        rng = np.random.default_rng(0)
        train = rng.integers(0, 256, (3000, 28, 28)).astype(np.uint8)  # more than one piece
        test = rng.integers(0, 100, (5, 28, 28)).astype(np.uint8)
        before = train.copy()
        a, b = normalize(train, test, dtype=dtype)
        assert a.dtype == b.dtype == dtype
        tolerance = 1e-6 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(a, (train - train.mean()) / train.std(), atol=tolerance)
        np.testing.assert_allclose(b, (test - train.mean()) / train.std(), atol=tolerance)
        np.testing.assert_array_equal(train, before)

    def test_the_range_cancels(self) -> None:
        train = np.random.default_rng(0).integers(0, 256, (50, 8)).astype(np.uint8)
        np.testing.assert_allclose(
            *normalize(train, dtype=np.float64), *normalize(train / 255.0, dtype=np.float64), atol=1e-12
        )

    def test_constant_and_empty(self) -> None:
        np.testing.assert_array_equal(normalize(np.full((2, 3), 7))[0], np.zeros((2, 3)))
        with pytest.raises(ShapeError, match=r"normalize: expected training images, got shape \(0, 3\)"):
            normalize(np.zeros((0, 3)))


class TestBatches:
    def test_an_epoch_has_every_sample_once(self) -> None:
        whole = batches(drop_last=False)
        assert len(whole) == 4
        parts = list(whole)
        assert [len(x) for x, _ in parts] == [3, 3, 3, 1]
        assert sorted(np.concatenate([x for x, _ in parts])) == list(range(10))
        for x, y in parts:
            np.testing.assert_array_equal(y, 10.0 * x)
        assert (whole.epoch, whole.position) == (1, 0)

    def test_drop_last(self) -> None:
        dropped = batches()
        assert len(dropped) == 3
        assert [len(x) for x, _ in dropped] == [3, 3, 3]
        np.testing.assert_array_equal(one_epoch(batches()), one_epoch(batches(drop_last=False))[:9])

    def test_epochs_seeds_and_their_orders(self) -> None:
        orders = [
            one_epoch(of)
            for seed in (5, 6)
            for of in [batches(1000, seed=seed, batch_size=10)]
            for _ in range(3)
        ]
        assert len({tuple(order) for order in orders}) == 6
        np.testing.assert_array_equal(one_epoch(batches(1000, batch_size=10)), orders[0])

    def test_the_order_is_the_same_for_ever(self) -> None:
        # The raw words of Philox are fixed by its definition: these orders hold for
        # every version and machine.
        order = batches(batch_size=10)
        assert [one_epoch(order).tolist() for _ in range(2)] == ORDERS_OF_SEED_5

    def test_the_order_is_fair(self) -> None:
        of = batches(4, batch_size=4)
        firsts = np.bincount([of.next_batch()[0][0] for _ in range(4000)], minlength=4)
        assert np.abs(firsts - 1000).max() < 5 * np.sqrt(750)

    def test_without_shuffling(self) -> None:
        plain = batches(shuffle=False)
        for _ in range(2):
            np.testing.assert_array_equal(one_epoch(plain), np.arange(9))

    def test_batches_are_copies(self) -> None:
        plain = batches(shuffle=False)
        x, _ = plain.next_batch()
        x[:] = -1
        assert plain.arrays[0][0] == 0

    def test_next_batch_goes_through_the_epochs(self) -> None:
        endless, by_epoch = batches(), batches()
        got = [endless.next_batch()[0] for _ in range(7)]
        expected = [x for _ in range(3) for x, _ in by_epoch][:7]
        np.testing.assert_array_equal(got, expected)
        assert (endless.epoch, endless.position) == (2, 1)

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("drop_last", [True, False])
    def test_resumed_is_uninterrupted(self, shuffle: bool, drop_last: bool) -> None:
        settings = {"shuffle": shuffle, "drop_last": drop_last}
        straight = batches(**settings)
        states, seen = [], []
        for _ in range(11):
            states.append(json.loads(json.dumps(straight.state_dict())))
            seen.append(straight.next_batch()[0].tolist())
        for start, state in enumerate(states):
            resumed = batches(**{**settings, "seed": 99})
            resumed.next_batch()
            resumed.load_state_dict(state)
            assert [resumed.next_batch()[0].tolist() for _ in range(11 - start)] == seen[start:]

    def test_a_loop_after_a_resume_is_the_rest_of_the_epoch(self) -> None:
        straight, resumed = batches(), batches()
        straight.next_batch()
        resumed.load_state_dict(straight.state_dict())
        assert len(list(resumed)) == 2
        assert (resumed.epoch, resumed.position) == (1, 0)

    def test_large_seeds(self) -> None:
        orders = [one_epoch(batches(seed=seed)).tolist() for seed in (0, 2**63, 2**64 - 1)]
        assert all(a != b for a, b in pairwise(orders))

    def test_errors(self) -> None:
        with pytest.raises(
            ShapeError, match=r"expected arrays of one length, got the shapes \[\(3,\), \(4,\)\]"
        ):
            Batches(np.zeros(3), np.zeros(4), batch_size=1)
        with pytest.raises(ShapeError, match=r"expected arrays of one length, got the shapes \[\]"):
            Batches(batch_size=1)
        for size in (0, -1, 11):
            with pytest.raises(
                ShapeError, match=rf"batch_size: expected 1 to 10 \(the samples\), got {size}"
            ):
                batches(batch_size=size)
        with pytest.raises(TypeError):
            batches(batch_size=2.5)
        for seed in (-1, 2**64):
            with pytest.raises(ShapeError, match="seed: expected 0 to"):
                batches(seed=seed)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"batch_size": 4}, "batch_size: expected 3, got 4"),
            ({"samples": 11}, "samples: expected 10, got 11"),
            ({"shuffle": False}, "shuffle: expected True, got False"),
            ({"drop_last": False}, "drop_last: expected True, got False"),
            ({"position": 3}, "position: expected 0 to 2, got 3"),
            ({"epoch": -1}, "epoch: expected 0 to .*, got -1"),
            ({"seed": -1}, "seed: expected 0 to .*, got -1"),
            ({"extra": 1}, "expected the keys"),
        ],
    )
    def test_a_foreign_state_is_refused(self, change: dict, message: str) -> None:
        of = batches()
        with pytest.raises(ShapeError, match=message):
            of.load_state_dict({**of.state_dict(), **change})
        assert (of.epoch, of.position) == (0, 0)

    def test_an_incomplete_state_is_refused(self) -> None:
        state = batches().state_dict()
        del state["seed"]
        with pytest.raises(ShapeError, match="expected the keys"):
            batches().load_state_dict(state)
