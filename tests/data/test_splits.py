"""Splits: disjoint, whole, in proportion, by group, functions of a seed; and the traps, by name."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinydl as td
from tinydl import data
from tinydl.data import kfold, leave_one_group_out, n_per_class, nested_subsets, split, splits

LABELS = np.repeat([0, 1, 2], [60, 30, 10])  # stored class by class
PATIENTS = np.arange(100) // 4
SEED = st.integers(0, 2**64 - 1)
CLASSES = st.lists(st.integers(0, 3), min_size=8, max_size=60).map(np.array)

CALLS: list[Any] = [
    lambda seed: split(LABELS, (0.5, 0.3, 0.2), seed=seed),
    lambda seed: split(100, (50, 20), seed=seed),
    lambda seed: split(LABELS, (0.5, 0.5), groups=PATIENTS, seed=seed),
    lambda seed: [part for pair in kfold(LABELS, 5, seed=seed) for part in pair],
    lambda seed: [part for pair in kfold(100, 3, seed=seed) for part in pair],
    lambda seed: [part for pair in kfold(LABELS, 4, groups=PATIENTS, seed=seed) for part in pair],
    lambda seed: [n_per_class(LABELS, 4, seed=seed)],
    lambda seed: nested_subsets(LABELS, (10, 40), seed=seed),
]


def whole(parts: Any, n: int) -> None:
    """Each sample once."""
    assert all(part.dtype == np.int64 for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))


@pytest.mark.parametrize("call", CALLS)
def test_a_split_is_a_function_of_its_seed(call: Any) -> None:
    first, again, other = call(3), call(3), call(4)
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert [part.tolist() for part in first] != [part.tolist() for part in other]


def test_the_order_is_the_same_in_every_version() -> None:
    words = np.random.Philox(key=np.array([7, 2**64 - 1], np.uint64)).random_raw(10)
    (part,) = split(10, (1.0,), seed=7)
    assert [words[i] for i in part] == sorted(words)


def test_the_order_is_no_epoch_of_the_loader() -> None:
    """Split and loader under one seed: one order would feed the first batches from one end of a part."""
    batches = data.Batches(np.arange(100), batch_size=100, seed=0)
    (rows,) = batches.next_batch()
    assert rows.tolist() != split(100, (1.0,), seed=0)[0].tolist()


# ---- split


@settings(max_examples=60, deadline=None)
@given(CLASSES, st.integers(1, 6), SEED)
def test_parts_are_disjoint_whole_and_in_proportion(labels: np.ndarray, count: int, seed: int) -> None:
    n = len(labels)
    parts = split(labels, (n - count, count), seed=seed)
    whole(parts, n)
    assert [len(part) for part in parts] == [n - count, count]
    share = np.bincount(labels) / n
    present = (share > 0).sum()
    for part in parts:
        away = np.abs(np.bincount(labels[part], minlength=len(share)) - share * len(part))
        assert (away <= 1 + share * present).all()


def test_shares_and_counts() -> None:
    parts = split(LABELS, (0.7, 0.15, 0.15), seed=1)
    assert [len(part) for part in parts] == [70, 15, 15]
    assert np.bincount(LABELS[parts[0]]).tolist() == [42, 21, 7]
    rest = split(LABELS, (20, 10), seed=1)
    assert [np.bincount(LABELS[part]).tolist() for part in rest] == [[12, 6, 2], [6, 3, 1]]
    assert not set(rest[0]) & set(rest[1])
    thirds = split(100, (1 / 3, 1 / 3, 1 / 3))
    assert [len(part) for part in thirds] == [33, 34, 33]


def test_random_splits_take_no_notice_of_labels() -> None:
    found = [np.bincount(LABELS[split(LABELS, (50, 50), stratified=False, seed=s)[0]])[0] for s in range(40)]
    assert len(set(found)) > 4
    assert np.mean(found) == pytest.approx(30, abs=2)
    targets = np.linspace(0, 1, 100)  # no classes
    assert len(split(targets, stratified=False)[1]) == 20


def test_words_and_tensors_are_labels() -> None:
    words = np.array(["no", "some", "much"])[LABELS]
    for labels in (td.tensor(LABELS), LABELS.tolist(), LABELS.astype(np.uint8), LABELS > 0):
        assert len(split(labels, seed=5)[1]) == 20
    # The order of the classes' names is no matter
    assert sorted(np.unique(words[split(words)[1]], return_counts=True)[1]) == [2, 6, 12]


@settings(max_examples=60, deadline=None)
@given(CLASSES, SEED, st.integers(2, 5), st.booleans())
def test_no_group_is_in_two_parts(labels: np.ndarray, seed: int, parts: int, by_class: bool) -> None:
    n = len(labels)
    groups = np.random.default_rng(seed).integers(0, 9, n)
    groups[:parts] = np.arange(parts)
    found = split(labels, (1 / parts,) * parts, groups=groups, stratified=by_class, seed=seed)
    whole(found, n)
    seen = [set(groups[part]) for part in found]
    assert sum(map(len, seen)) == len(set(groups))
    for train, held in kfold(labels, parts, groups=groups, stratified=by_class, seed=seed):
        assert not set(groups[train]) & set(groups[held])
        whole((train, held), n)


def test_groups_meet_sizes_and_classes_as_nearly_as_they_can() -> None:
    """Thirty patients with one to nine pictures each, a third of the patients ill."""
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), generator.integers(1, 10, 30))
    ill = (np.arange(30) % 3 == 0)[patients].astype(int)
    for seed in range(5):
        parts = split(ill, (0.6, 0.2, 0.2), groups=patients, seed=seed)
        sizes = np.array([len(part) for part in parts]) / len(ill)
        np.testing.assert_allclose(sizes, (0.6, 0.2, 0.2), atol=0.03)
        np.testing.assert_allclose([ill[part].mean() for part in parts], ill.mean(), atol=0.06)
        # Both groups fit the large part better than the small one, which needs one of them
        halves = split(np.zeros(100, int), (0.8, 0.2), groups=np.arange(100) % 2, seed=seed)
        assert [len(part) for part in halves] == [50, 50]
        (some,) = split(ill, (0.5,), groups=patients, seed=seed)
        assert abs(len(some) / len(ill) - 0.5) < 0.03


# ---- Traps


def test_the_last_rows_of_a_sorted_set_are_refused() -> None:
    """keras#597, keras#8346: "the last 20 %" of labels that are stored class by class is one class."""
    for labels in (LABELS, LABELS[::-1]):
        with pytest.raises(
            td.ShapeError, match="shuffle=False: expected labels in mixed order, got sorted ones"
        ):
            split(labels, (0.8, 0.2), shuffle=False)
    train, validation = split(LABELS)
    np.testing.assert_array_equal(np.bincount(LABELS[validation]), [12, 6, 2])
    assert not (np.diff(LABELS[train]) >= 0).all()  # nor do batches come class by class


def test_a_tail_of_one_class_is_refused() -> None:
    """PneumoniaMNIST's training file: mixed, and then 826 images of one class at the end of 4,708."""
    mixed = (np.random.default_rng(0).random(4708 - 826) < 0.65).astype(int)
    labels = np.append(mixed, np.ones(826, int))
    with pytest.raises(td.ShapeError, match="expected the classes of part 0 in the shares of the whole, got"):
        split(labels, (0.8, 0.2), shuffle=False)
    series = split(mixed, (0.8, 0.2), shuffle=False)  # a series in time
    np.testing.assert_array_equal(np.concatenate(series), np.arange(len(mixed)))
    parts = split(4708, (0.8, 0.2), shuffle=False)
    assert parts[1][0] == 3766


def test_pictures_of_one_patient_are_no_test_of_each_other() -> None:
    """Without groups nearly every patient is on both sides."""
    train, test = split(100, groups=PATIENTS)
    assert not set(PATIENTS[train]) & set(PATIENTS[test])
    plain_train, plain_test = split(100)
    assert len(set(PATIENTS[plain_train]) & set(PATIENTS[plain_test])) > 10


# ---- k-fold


@settings(max_examples=60, deadline=None)
@given(CLASSES, st.integers(2, 6), SEED)
def test_folds_hold_each_sample_out_once(labels: np.ndarray, k: int, seed: int) -> None:
    labels = np.concatenate([labels, np.repeat(np.unique(labels), k)])
    for pairs, stratified in ((kfold(labels, k, seed=seed), True), (kfold(len(labels), k, seed=seed), False)):
        whole([held for _, held in pairs], len(labels))
        for train, held in pairs:
            whole((train, held), len(labels))
        assert np.ptp([len(held) for _, held in pairs]) <= 1
        if stratified:
            counts = [np.bincount(labels[held], minlength=4) for _, held in pairs]
            assert (np.ptp(counts, axis=0) <= 1).all()


def test_leave_one_group_out() -> None:
    pairs = leave_one_group_out(["b", "a", "b", "c"])
    assert [held.tolist() for _, held in pairs] == [[1], [0, 2], [3]]
    assert [train.tolist() for train, _ in pairs] == [[0, 2, 3], [1, 3], [0, 1, 2]]


# ---- Few labels


def test_n_per_class_is_nested() -> None:
    small, large = n_per_class(LABELS, 3, seed=2), n_per_class(LABELS, 10, seed=2)
    np.testing.assert_array_equal(large[:9], small)
    np.testing.assert_array_equal(np.bincount(LABELS[large]), [10, 10, 10])
    for row in LABELS[large].reshape(10, 3):
        assert sorted(row) == [0, 1, 2]
    passed = n_per_class(LABELS, 7, start=3, seed=2)
    np.testing.assert_array_equal(np.concatenate([small, passed]), large)


def test_published_draws() -> None:
    """MNIST's draw s is the first of each class in a permutation; CIFAR-10's split i is in stored order."""
    labels = np.random.default_rng(0).integers(0, 10, 5000)
    order = np.random.RandomState(1).permutation(5000)
    drawn = n_per_class(labels, 10, order=order)
    slow = [[i for i in order if labels[i] == c][:10] for c in range(10)]
    assert set(drawn) == {i for row in slow for i in row}
    stored = n_per_class(labels, 30, start=50, order=np.arange(5000))
    slow = [np.flatnonzero(labels == c)[50:80] for c in range(10)]
    assert set(stored) == set(np.concatenate(slow))


def test_subsets_are_nested_and_in_proportion() -> None:
    subsets = nested_subsets(LABELS, (10, 50, 100), seed=3)
    assert [len(subset) for subset in subsets] == [10, 50, 100]
    for small, large in itertools.pairwise(subsets):
        np.testing.assert_array_equal(large[: len(small)], small)
    assert [np.bincount(LABELS[subset]).tolist() for subset in subsets] == [
        [6, 3, 1],
        [30, 15, 5],
        [60, 30, 10],
    ]
    whole([subsets[-1]], 100)
    rare = np.repeat([0, 1], [95, 5])  # is not put first: one of four would be a quarter
    assert np.bincount(rare[nested_subsets(rare, (4,))[0]]).tolist() == [4]


# ---- Errors

BAD: list[Any] = [
    (lambda: split(LABELS, (0.8, 0.3)), td.ShapeError, "split: sizes: expected integers, or shares (floats)"),
    (lambda: split(LABELS, (80, 0.2)), td.ShapeError, "shares (floats) of at most 1 in all, got (80, 0.2)"),
    (
        lambda: split(LABELS, (80, 30)),
        td.ShapeError,
        "split: sizes: expected at most 100 samples in all, got 110",
    ),
    (lambda: split(LABELS, ()), td.ShapeError, "split: sizes: expected numbers above 0, got ()"),
    (lambda: split(LABELS, (0.5, -0.5)), td.ShapeError, "expected numbers above 0, got (0.5, -0.5)"),
    (
        lambda: split(5, (0.99, 0.01)),
        td.ShapeError,
        "split: expected samples in every part of sizes (0.99, 0.01)",
    ),
    (lambda: split(0), td.ShapeError, "split: expected labels (n,) or, not stratified, n >= 1, got 0"),
    (
        lambda: split(9, stratified=True),
        td.ShapeError,
        "expected labels (n,) or, not stratified, n >= 1, got 9",
    ),
    (lambda: split([]), td.ShapeError, "split: labels: expected (n,), n >= 1, got (0,)"),
    (
        lambda: split(np.ones((4, 2), int)),
        td.ShapeError,
        "labels: expected one class per sample (n,), got (4, 2)",
    ),
    (lambda: split([0.5, 1.5]), td.DtypeError, "split: labels: expected integers or words, got float64"),
    (lambda: split(LABELS, groups=[1, 2]), td.ShapeError, "split: groups: expected (100,), got (2,)"),
    (
        lambda: split(LABELS, groups=np.zeros(100)),
        td.ShapeError,
        "split: expected as many groups as parts, 2, or more, got 1",
    ),
    (lambda: split(LABELS, seed=-1), td.ShapeError, "split: seed: expected 0 to 2**64 - 1, got -1"),
    (
        lambda: split(9, groups=np.arange(9), shuffle=False),
        td.ShapeError,
        "split: shuffle=False: expected neither groups nor stratified=True",
    ),
    (lambda: kfold(LABELS, 1), td.ShapeError, "kfold: k: expected 2 to 100 (the samples), got 1"),
    (
        lambda: kfold(LABELS, 20),
        td.ShapeError,
        "kfold: expected k=20 samples or more of every class, got 10 of one",
    ),
    (
        lambda: kfold(LABELS, 5, groups=np.arange(100) % 3),
        td.ShapeError,
        "kfold: expected as many groups as parts, 5, or more, got 3",
    ),
    (lambda: leave_one_group_out([1, 1]), td.ShapeError, "leave_one_group_out: expected two groups or more"),
    (
        lambda: leave_one_group_out([[1]]),
        td.ShapeError,
        "leave_one_group_out: groups: expected (n,), got (1, 1)",
    ),
    (
        lambda: n_per_class(LABELS, 11),
        td.ShapeError,
        "n_per_class: expected 11 samples or more of every class, got 10 of one",
    ),
    (
        lambda: n_per_class(LABELS, 5, order=np.arange(60)),
        td.ShapeError,
        "expected 5 samples or more of every class, got 0 of one",
    ),
    (lambda: n_per_class(LABELS, 0), td.ShapeError, "n_per_class: expected n >= 1 and start >= 0, got n=0"),
    (lambda: n_per_class(LABELS, 1, order=[1, 1]), td.ShapeError, "order: expected different integers (k,)"),
    (
        lambda: n_per_class(LABELS, 1, order=[100]),
        td.ShapeError,
        "order: expected indices 0 to 99, got 100 to 100",
    ),
    (
        lambda: nested_subsets(LABELS, (101,)),
        td.ShapeError,
        "nested_subsets: sizes: expected 1 to 100 (the samples)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_errors_say_who_expected_got(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_every_public_name_is_offered_and_refuses_something() -> None:
    assert set(splits.__all__) <= set(data.__all__)
    refusing = set()
    for call, error, _ in BAD:
        with pytest.raises(error) as caught:
            call()
        refusing.add(str(caught.value).split(":")[0])
    assert refusing == set(splits.__all__)
