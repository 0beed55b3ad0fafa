"""DataLoader and the samplers: every batch is a function of (seed, epoch, position), every augmented picture
of (seed, epoch, number of the sample).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from tinydl_kernels.cpu import threads
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import DtypeError, ShapeError

import tinydl as td
from tinydl.data import (
    Batches,
    BatchSampler,
    ClassBalancedSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
    transforms,
)
from tinydl.training import Trainer

LABELS = np.array([0] * 12 + [1] * 6 + [2] * 2)
SAMPLERS = {
    "sequential": lambda: SequentialSampler(range(20)),
    "random": lambda: RandomSampler(range(20)),
    "random, replaced": lambda: RandomSampler(range(20), True, 30),
    "random, more than there are": lambda: RandomSampler(range(20), num_samples=45),
    "subset": lambda: SubsetRandomSampler([3, 7, 19, 4]),
    "weighted": lambda: WeightedRandomSampler(np.arange(20), 25),
    "weighted, not replaced": lambda: WeightedRandomSampler(np.arange(20), 19, False),
    "balanced": lambda: ClassBalancedSampler(LABELS),
}


def digits(n: int = 23) -> TensorDataset:
    random = np.random.default_rng(0)
    return TensorDataset(random.integers(0, 256, (n, 1, 12, 12), np.uint8), np.arange(n) % 3, name="digits")


AUGMENT = transforms.Compose(
    [
        transforms.RandomAffine(15, (0.1, 0.1)),
        transforms.ElasticTransform(8.0, 3.0),
        transforms.RandomErasing(p=0.5),
    ]
)


def loader(**settings) -> DataLoader:
    return DataLoader(digits(), **{"batch_size": 4, "shuffle": True, "seed": 5, **settings})


def pictures(of: DataLoader, epochs: int = 2) -> dict[tuple[int, int], bytes]:
    """(epoch, sample) -> its bits; the sample is told by its own picture's place in the data."""
    found = {}
    for epoch in range(epochs):
        groups = of.batch_sampler.batches(of.seed, epoch)
        for rows, (x, y) in zip(groups, of, strict=True):
            assert np.array_equal(y.numpy(), rows % 3)
            found.update({(epoch, row): image.tobytes() for row, image in zip(rows.tolist(), x.numpy())})
    return found


class TestSamplers:
    @pytest.mark.parametrize("name", SAMPLERS)
    def test_an_order_is_a_function_of_seed_and_epoch(self, name: str) -> None:
        one, other = SAMPLERS[name](), SAMPLERS[name]()
        for seed, epoch in ((0, 3), (2**64 - 1, 0), (7, 7)):
            order = one.order(seed, epoch)
            assert order.dtype == np.int64
            assert order.shape == (len(one),)
            assert 0 <= order.min() <= order.max() < 20
            np.testing.assert_array_equal(order, other.order(seed, epoch))
        assert list(one) == one.order(0, 0).tolist()

    @pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "sequential"])
    def test_epochs_and_seeds_differ(self, name: str) -> None:
        sampler = SAMPLERS[name]()
        if name == "subset":
            sampler = SubsetRandomSampler(range(20))
        orders = {tuple(sampler.order(seed, epoch)) for seed in range(3) for epoch in range(3)}
        assert len(orders) == 9

    def test_without_replacement_every_sample_comes_once(self) -> None:
        assert sorted(RandomSampler(range(20)).order(1, 2)) == list(range(20))
        assert sorted(SubsetRandomSampler([3, 7, 19, 4]).order(1, 2)) == [3, 4, 7, 19]
        assert set(Counter(RandomSampler(range(20), num_samples=45).order(0, 0).tolist()).values()) == {2, 3}
        once = WeightedRandomSampler(np.ones(20), 20, False).order(0, 0)
        assert sorted(once) == list(range(20))

    @pytest.mark.parametrize("replacement", [True, False])
    def test_weights_are_met(self, replacement: bool) -> None:
        weights = np.array([0.0, 1, 2, 3, 0])
        sampler = WeightedRandomSampler(weights, 1 if not replacement else 6000, replacement)
        drawn = np.concatenate([sampler.order(0, e) for e in range(1 if replacement else 3000)])
        shares = np.bincount(drawn, minlength=5) / len(drawn)
        assert shares[0] == shares[4] == 0
        np.testing.assert_allclose(shares, weights / 6, atol=5 * np.sqrt(0.25 / len(drawn)))

    def test_a_second_draw_without_replacement_is_from_those_that_are_left(self) -> None:
        sampler = WeightedRandomSampler([1.0, 2.0, 3.0], 2, False)
        pairs = [tuple(sampler.order(1, e)) for e in range(4000)]
        share = np.mean([pair == (2, 1) for pair in pairs])  # 3/6 · 2/3
        assert abs(share - 1 / 3) < 5 * np.sqrt(2 / 9 / 4000)

    def test_a_weight_of_zero_is_never_drawn_at_the_end(self) -> None:
        sampler = WeightedRandomSampler([0.1, 0.0], 5000)
        assert sampler.order(3, 3).max() == 0

    def test_classes_in_balance(self) -> None:
        sampler = ClassBalancedSampler(LABELS)
        totals = np.zeros(3, int)
        for epoch in range(6):
            order = sampler.order(4, epoch)
            counts = np.bincount(LABELS[order], minlength=3)
            totals += counts
            assert np.ptp(counts) <= 1
            for kind in range(3):  # a sample comes again only after all the others
                seen = Counter(order[LABELS[order] == kind].tolist())
                members = np.count_nonzero(kind == LABELS)
                assert max(seen.values()) - (min(seen.values()) if len(seen) == members else 0) <= 1
        assert totals.tolist() == [40, 40, 40]

    def test_classes_of_any_numbers(self) -> None:
        order = ClassBalancedSampler([7, -2, 7, 7], 8).order(0, 0)
        assert np.count_nonzero(order == 1) == 4

    def test_batch_sampler(self) -> None:
        order = RandomSampler(range(20)).order(3, 1)
        kept, dropped = (BatchSampler(RandomSampler(range(20)), 6, drop) for drop in (False, True))
        assert [len(batch) for batch in kept.batches(3, 1)] == [6, 6, 6, 2]
        assert [len(batch) for batch in dropped.batches(3, 1)] == [6, 6, 6]
        np.testing.assert_array_equal(np.concatenate(kept.batches(3, 1)), order)
        assert list(BatchSampler([4, 2, 9], 2, False)) == [[4, 2], [9]]

    def test_refusals(self) -> None:
        cases = [
            (lambda: RandomSampler([]), ShapeError, "RandomSampler: num_samples: expected 1 or more, got 0"),
            (lambda: RandomSampler(range(3), num_samples=0), ShapeError, "expected 1 or more, got 0"),
            (lambda: SubsetRandomSampler([0.5]), DtypeError, "SubsetRandomSampler: indices: expected whole"),
            (lambda: SubsetRandomSampler([[1]]), ShapeError, r"expected whole numbers \(n,\), got \(1, 1\)"),
            (lambda: WeightedRandomSampler([1, -1], 1), ShapeError, "weights: expected finite numbers"),
            (lambda: WeightedRandomSampler([1, np.nan], 1), ShapeError, "weights: expected finite numbers"),
            (lambda: WeightedRandomSampler([0, 0], 1), ShapeError, "expected 1 or more above 0, got 0"),
            (
                lambda: WeightedRandomSampler([1, 0], 2, False),
                ShapeError,
                "expected 2 or more above 0, got 1",
            ),
            (lambda: BatchSampler([1], 0, False), ShapeError, "batch_size: expected 1 or more, got 0"),
            (lambda: BatchSampler(iter([1]), 1, False), TypeError, "expected a Sampler .* list_iterator"),
        ]
        for make, error, message in cases:
            with pytest.raises(error, match=message):
                make()


class TestAsPyTorch:
    def test_the_names(self) -> None:
        from tinydl.utils.data import DataLoader as Loader
        from tinydl.utils.data import TensorDataset as Tensors

        x, y = td.randn(10, 3), td.arange(10)
        got = list(Loader(Tensors(x, y), batch_size=4, shuffle=False, num_workers=2, pin_memory=True))
        assert [type(part) for part in got[0]] == [td.Tensor, td.Tensor]
        assert [tuple(a.shape) for a, _ in got] == [(4, 3), (4, 3), (2, 3)]
        np.testing.assert_array_equal(np.concatenate([b.numpy() for _, b in got]), np.arange(10))
        assert td.utils.data.DataLoader is DataLoader

    def test_a_data_set_of_ones_own(self) -> None:
        class Squares:
            def __len__(self) -> int:
                return 7

            def __getitem__(self, i: int):
                assert type(i) is int
                return td.tensor([i, i + 0.5]), i * i

        batches = list(DataLoader(Squares(), 3))
        assert [x.shape for x, _ in batches] == [(3, 2), (3, 2), (1, 2)]
        assert batches[1][1].tolist() == [9, 16, 25]
        assert (batches[0][0].dtype, batches[0][1].dtype) == (np.float32, np.int64)

    def test_samples_that_are_dicts_or_bare(self) -> None:
        x, y = {"image": np.zeros((2, 2)), "label": 1}, {"image": np.ones((2, 2)), "label": 0}
        (found,) = DataLoader([x, y], 2)
        assert found["image"].shape == (2, 2, 2)
        assert found["label"].tolist() == [1, 0]
        (numbers,) = DataLoader([0.5, 1.5], 2)
        assert numbers.dtype == np.float32
        assert default_collate([1, 2]).dtype == np.int64

    def test_samples_in_depth(self) -> None:
        class Named(NamedTuple):
            word: str
            more: Any

        samples = [Named(word, ([i, i + 0.5], {"x": np.full(2, i)})) for i, word in enumerate("ab")]
        (found,) = DataLoader(samples, 2)
        assert type(found) is Named
        assert found.word == ["a", "b"]
        (whole, half), named = found.more
        assert (whole.tolist(), half.tolist(), named["x"].tolist()) == ([0, 1], [0.5, 1.5], [[0, 0], [1, 1]])
        assert isinstance(default_collate(samples).more[1]["x"], td.Tensor)

    def test_a_subclass_that_says_what_one_sample_is(self) -> None:
        """As PyTorch's data sets do; also under Subset, ConcatDataset and random_split."""

        class Squares(Dataset):
            def __len__(self) -> int:
                return 5

            def __getitem__(self, i):
                assert isinstance(i, int)
                return td.tensor([i, i + 0.5]), {"square": i * i, "word": "ab"[i % 2]}

        x, y = next(iter(DataLoader(Squares(), 3)))
        assert (x.shape, y["square"].tolist(), y["word"]) == ((3, 2), [0, 1, 4], ["a", "b", "a"])
        both = ConcatDataset([Squares(), [(td.ones(2), {"square": -1, "word": "c"})]])
        assert [y["square"].tolist() for _, y in DataLoader(both, 4)] == [[0, 1, 4, 9], [16, -1]]
        some = Subset(both, [5, -4, 0])
        assert [some[i][1]["square"] for i in range(-1, 3)] == [0, -1, 4, 0]
        assert [y["word"] for _, y in DataLoader(some, 3)] == [["c", "a", "a"]]
        parts = random_split(Squares(), [3, 2], td.Generator(0))
        assert sorted(y["square"] for part in parts for _, y in part[:]) == [0, 1, 4, 9, 16]
        assert repr(parts[1]) == "Subset: 2 samples"
        with pytest.raises(IndexError, match="Squares: expected -5 to 4"):
            Subset(Squares(), [5])
        with pytest.raises(NotImplementedError, match="Squares: expected `arrays`"):
            assert Squares().mean

    def test_bare_samples_are_transformed_and_predicted(self) -> None:
        pictures = list(np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2))
        (found,) = DataLoader(pictures, 3, transform=transforms.RandomHorizontalFlip(1.0))
        np.testing.assert_array_equal(found.numpy(), np.stack(pictures)[..., ::-1])
        model = td.nn.Sequential(td.nn.Linear(2, 2))
        with td.no_grad():
            model[0].weight.copy_(td.eye(2))
            model[0].bias.zero_()
        trainer = Trainer(model, td.cross_entropy, td.optim.SGD(model.parameters(), 0.1))
        assert trainer.predict(DataLoader([td.ones(2), td.zeros(2)], 2)).tolist() == [[1, 1], [0, 0]]

    def test_collate_fn_gets_the_list_of_samples(self) -> None:
        of = DataLoader(digits(5), 2, collate_fn=lambda samples: [int(label) for _, label in samples])
        assert list(of) == [[0, 1], [2, 0], [1]]

    def test_a_fixed_order_and_batches_of_ones_own(self) -> None:
        assert [y.tolist() for _, y in DataLoader(digits(6), 2, sampler=[5, 1, 3])] == [[2, 1], [0]]

        both = ConcatDataset([digits(4), digits(3)])
        assert [y.tolist() for _, y in DataLoader(both, 2, sampler=[-1, 0, -7, 4])] == [[2, 0], [0, 0]]

        class Pairs(BatchSampler):
            def __init__(self) -> None: ...

            def batches(self, seed, epoch):
                return [np.array([epoch, epoch + 1]), [0]]

            def __len__(self) -> int:
                return 2

        own = DataLoader(digits(6), batch_sampler=Pairs())
        assert [y.tolist() for _ in range(2) for _, y in own] == [[0, 1], [0], [1, 2], [0]]

    def test_the_seed_is_that_of_the_default_generator_or_the_one_given(self) -> None:
        td.manual_seed(123)
        assert DataLoader(digits(), 4, True).seed == 123
        assert DataLoader(digits(), 4, True, generator=td.Generator(9)).seed == 9
        td.manual_seed(0)

    def test_lengths_and_shapes_are_pytorchs(self) -> None:
        data = pytest.importorskip("torch").utils.data
        for drop_last in (False, True):
            for size in (1, 4, 23):
                theirs = data.DataLoader(range(23), size, drop_last=drop_last)
                mine = DataLoader(range(23), size, drop_last=drop_last)
                assert len(mine) == len(theirs)
                assert [b.tolist() for b in mine] == [b.tolist() for b in theirs]


class TestPositions:
    def test_every_sample_once_and_a_new_order_each_epoch(self) -> None:
        of = loader()
        epochs = [np.concatenate([x.numpy().reshape(len(x), -1) for x, _ in of]) for _ in range(2)]
        assert len(np.unique(epochs[0], axis=0)) == 23
        assert not np.array_equal(*epochs)
        assert (of.epoch, of.position) == (2, 0)

    @pytest.mark.parametrize("workers", [0, 1, 3])
    @pytest.mark.parametrize("name", SAMPLERS)
    def test_resumed_in_mid_epoch(self, name: str, workers: int) -> None:
        """Trap 2 of other kits: the permutation drawn twice, samples seen twice or never after a resume."""
        make = lambda: DataLoader(  # noqa: E731
            digits(20), 4, sampler=SAMPLERS[name](), transform=AUGMENT, num_workers=workers, seed=3
        )
        straight, states, seen = make(), [], []
        for _ in range(2 * len(straight) + 1):
            states.append(json.loads(json.dumps(straight.state_dict())))
            seen.append([part.numpy().tobytes() for part in straight.next_batch()])
        for start, state in enumerate(states):
            resumed = make()
            resumed.next_batch()
            resumed.load_state_dict(state)
            got = [[p.numpy().tobytes() for p in resumed.next_batch()] for _ in range(len(seen) - start)]
            assert got == seen[start:]

    def test_a_loop_that_was_broken_off_is_over(self) -> None:
        """`next(iter(loader))`, to have a look, takes no batch out of the epochs that follow."""
        of = loader()
        next(iter(of))
        assert len(list(of)) == len(of) == 6
        for i, _ in enumerate(of):
            if i == 2:
                break
        assert of.position == 3
        assert len(list(of)) == 6

    def test_a_resumed_loop_is_the_rest_of_the_epoch(self) -> None:
        of = loader()
        for i, _ in enumerate(of):
            if i == 1:
                state = of.state_dict()
                break
        resumed = loader(seed=0)
        resumed.load_state_dict(state)
        assert len(list(resumed)) == 4
        assert len(list(resumed)) == 6

    def test_a_foreign_state_is_refused(self) -> None:
        state = loader().state_dict()
        with pytest.raises(ShapeError, match=r"DataLoader.load_state_dict: sampler: expected Sequential"):
            loader(shuffle=False, sampler=SequentialSampler(range(23))).load_state_dict(
                {**state, "shuffle": False}
            )
        with pytest.raises(ShapeError, match="batch_size: expected 5, got 4"):
            loader(batch_size=5).load_state_dict(state)

    def test_it_is_the_order_of_batches(self) -> None:
        """One idea, one place: `Batches` is a loader that hands out arrays."""
        data = digits()
        arrays = Batches(*data.arrays, batch_size=4, seed=5, drop_last=False)
        for (x, y), (u, v) in zip(arrays, loader(), strict=True):
            assert type(x) is np.ndarray
            np.testing.assert_array_equal(x, u.numpy())
            np.testing.assert_array_equal(y, v.numpy())

    def test_copies_and_pickles(self) -> None:
        import pickle

        of = loader(num_workers=1, transform=AUGMENT)
        of.next_batch()
        for other in (copy.deepcopy(of), pickle.loads(pickle.dumps(of))):
            assert other.state_dict() == of.state_dict()
            np.testing.assert_array_equal(other.next_batch()[0].numpy(), of.batch(0, 1)[0].numpy())


class TestAugmented:
    def test_whatever_batch_workers_threads_and_order(self) -> None:
        """Trap 3: the same augmentation in every worker or epoch. The same sample has the same bits in an
        epoch, whatever the batch size, the workers, the kernels' threads and the order; others in the next.
        """
        expected = pictures(loader(transform=AUGMENT))
        before = threads.get_num_threads()
        try:
            for settings in (
                {"batch_size": 1},
                {"batch_size": 23},
                {"batch_size": 7, "num_workers": 1},
                {"num_workers": 3, "prefetch_factor": 1},
                {"shuffle": False},
                {"sampler": SubsetRandomSampler(range(23)), "shuffle": False},
            ):
                for count in (1, 2):
                    threads.set_num_threads(count)
                    assert pictures(loader(transform=AUGMENT, **settings)) == expected
        finally:
            threads.set_num_threads(before)
        assert all(expected[0, row] != expected[1, row] for row in range(23))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_whatever_process(self) -> None:
        def digest() -> bytes:
            found = pictures(loader(transform=AUGMENT, batch_size=6, num_workers=1))
            return hashlib.sha256(b"".join(found[key] for key in sorted(found))).digest()

        expected = digest()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, digest())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            assert pipe.read() == expected
        assert os.waitpid(child, 0)[1] == 0

    def test_the_backend_of_the_scope_reaches_the_workers(self) -> None:
        seen = set()

        class Spy(transforms.Transform):
            def change(self, images, masks, draws):
                seen.add((dispatch.override(), threading.current_thread().name.split("_")[0]))
                return images, masks

        with td.backend("reference"):
            list(loader(transform=Spy(), num_workers=1))
        assert seen == {("reference", "DataLoader")}

    def test_each_sample_has_parameters_of_its_own(self) -> None:
        """Trap 4: one random parameter for the whole batch."""
        same = TensorDataset(np.repeat(digits(1).inputs, 6, 0), np.zeros(6, np.int64))
        (x, _), *_ = DataLoader(same, 6, transform=AUGMENT, seed=1)
        assert len(np.unique(x.numpy().reshape(6, -1), axis=0)) == 6

    def test_a_sample_that_comes_again_in_an_epoch_is_another_picture(self) -> None:
        drawn = DataLoader(digits(2), 10, sampler=[0] * 5 + [1] * 5, transform=AUGMENT, seed=1)
        ((x, _),) = drawn
        assert len(np.unique(x.numpy().reshape(10, -1), axis=0)) == 10
        ((first, _),) = DataLoader(digits(2), 2, transform=AUGMENT, seed=1)
        np.testing.assert_array_equal(x.numpy()[[0, 5]], first.numpy())

    def test_p_0_leaves_pictures_and_streams_untouched(self) -> None:
        """Trap 5: p ignored, numbers drawn at p = 0."""
        never = transforms.RandomApply([AUGMENT], p=0.0)
        default = td.default_generator.state_dict(), td.noise_generator.state_dict()  # type: ignore[attr-defined]
        for (x, _), (u, _) in zip(loader(transform=never), loader(), strict=True):
            np.testing.assert_array_equal(x.numpy(), u.numpy())
        assert default == (td.default_generator.state_dict(), td.noise_generator.state_dict())  # type: ignore[attr-defined]

    def test_masks_go_with_their_images_and_gain_no_label(self) -> None:
        """Trap 5: masks interpolated into new labels."""
        images = np.zeros((6, 1, 16, 16), np.uint8)
        masks = np.zeros((6, 16, 16), np.uint8)
        images[:, :, 4:12, 4:12], masks[:, 4:12, 4:12] = 255, 7
        data = TensorDataset(images, masks)
        turn = transforms.RandomAffine(30, (0.2, 0.2), interpolation="nearest")
        for x, m in DataLoader(data, 3, transform=turn, masks=True, seed=2):
            assert set(np.unique(m.numpy())) == {0, 7}
            np.testing.assert_array_equal(m.numpy() == 7, x.numpy()[:, 0] == 255)
            assert not np.array_equal(m.numpy()[0], masks[0])


class TestWorkers:
    @pytest.mark.parametrize("workers", [0, 1, 3])
    def test_the_present_epoch_without_going_there(self, workers: int) -> None:
        of, plain = (loader(transform=AUGMENT, num_workers=n) for n in (workers, 0))
        of.next_batch()
        before = of.state_dict()
        for limit, count in ((None, 6), (2, 2), (9, 6)):
            got = [batch[0].numpy().tobytes() for batch in of.present_epoch(limit)]
            assert got == [plain.batch(0, k)[0].numpy().tobytes() for k in range(count)]
            next(of.present_epoch())  # broken off
        assert of.state_dict() == before
        np.testing.assert_array_equal(of.next_batch()[0].numpy(), plain.batch(0, 1)[0].numpy())

    def test_evaluation_has_its_batches_made_ahead(self) -> None:
        """While the model is at one batch, a worker is at the next."""
        names, seen = [], threading.Event()

        class Spy(transforms.Transform):
            def change(self, images, masks, draws):
                names.append(threading.current_thread().name.split("_")[0])
                if len(names) == 2:
                    seen.set()
                return images, masks

        batches = loader(transform=Spy(), num_workers=1).present_epoch()
        next(batches)
        assert seen.wait(30)  # the second one is made though nobody asked for it
        assert set(names) == {"DataLoader"}
        assert len(list(batches)) == 5

    def test_an_error_comes_where_its_batch_does(self) -> None:
        class Bad(Dataset):
            def __len__(self) -> int:
                return 6

            def _take(self, rows):
                if 4 in rows:
                    raise ValueError("sample 4 is damaged")
                return rows, rows

            @property
            def arrays(self):
                return np.arange(6), np.arange(6)

        of = iter(DataLoader(Bad(), 2, num_workers=1))
        assert [next(of)[0].tolist(), next(of)[0].tolist()] == [[0, 1], [2, 3]]
        with pytest.raises(ValueError, match="sample 4 is damaged"):
            next(of)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_has_threads_of_its_own(self) -> None:
        of = DataLoader(digits(), 4, num_workers=1)
        of.next_batch()
        child = os.fork()
        if child == 0:
            np.testing.assert_array_equal(of.next_batch()[1].numpy(), of.batch(0, 1)[1].numpy())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    def test_refusals(self) -> None:
        cases = [
            ({"batch_size": 0}, ShapeError, r"DataLoader: batch_size: expected 1 to 23"),
            ({"batch_size": 24, "drop_last": True}, ShapeError, r"batch_size: expected 1 to 23"),
            ({"seed": -1}, ShapeError, "seed: expected 0 to"),
            ({"num_workers": -1}, ShapeError, "expected num_workers of 0 or more"),
            ({"sampler": [1]}, TypeError, "expected one of shuffle, sampler and batch_sampler, got two"),
            ({"batch_sampler": [[1]]}, TypeError, "expected one of shuffle, sampler"),
            ({"batch_sampler": [[1]], "shuffle": False}, TypeError, "expected a BatchSampler, got list"),
            ({"transform": 3}, TypeError, "transform: expected a Transform, got int"),
            ({"transform": AUGMENT, "collate_fn": list}, TypeError, "expected transform or collate_fn"),
            ({"masks": True}, TypeError, "masks=True: expected a transform, got none"),
            ({"sampler": iter([1]), "shuffle": False}, TypeError, "expected a Sampler"),
        ]
        for settings, error, message in cases:
            with pytest.raises(error, match=message):
                loader(**settings)
        with pytest.raises(IndexError, match="digits: expected -23 to 22, got 2 to 23"):
            loader(sampler=[2, 23], shuffle=False).next_batch()
        with pytest.raises(DtypeError, match="from_numpy"):
            DataLoader(TensorDataset(np.array(["a", "b"])), 1).next_batch()
        with pytest.raises(ShapeError, match=r"expected 1 to 0 \(the samples\)"):
            DataLoader([], 2)

    def test_what_a_sampler_of_ones_own_must_have(self) -> None:
        class Backwards(Sampler):
            def order(self, seed, epoch):
                return np.arange(5)[::-1]

            def __len__(self) -> int:
                return 5

        assert [y.tolist() for _, y in DataLoader(digits(), 3, sampler=Backwards())] == [[1, 0, 2], [1, 0]]
        with pytest.raises(NotImplementedError, match=r"Sampler.order"):
            Sampler().order(0, 0)

    def test_a_subset_loads_its_own_samples(self) -> None:
        labels = [y.tolist() for _, y in DataLoader(Subset(digits(), [4, 2, 0]), 2)]
        assert labels == [[1, 2], [0]]
        assert [len(a) != len(b) for a, b in pairwise(labels)] == [True]
