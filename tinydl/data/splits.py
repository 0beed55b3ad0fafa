"""Training, validation and test: which samples go where, as index arrays that are functions of a seed.

Splits shuffle, and stratify where they are given labels: "the last 20 %" of a set that is stored class by
class is another set. Samples of one group (a patient, a recording day) never stand on both sides. The random
order is that of raw Philox words under the key (seed, 2**64 - 1): the same in every version of NumPy, and no
order of an epoch of `Batches`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, ShapeError

from ..engine.core import Tensor

__all__ = ["kfold", "leave_one_group_out", "n_per_class", "nested_subsets", "split"]

STREAM = 2**64 - 1


def split(
    labels: Any,
    sizes: Sequence[float] = (0.8, 0.2),
    *,
    stratified: bool | None = None,
    groups: Any = None,
    shuffle: bool = True,
    seed: int = 0,
) -> tuple[np.ndarray, ...]:
    """Disjoint parts of a data set.

        train, validation, test = split(labels, (0.7, 0.15, 0.15), groups=patients)

    Args:
        labels: classes (n,), integers or words; or n, the number of samples.
        sizes: of the parts, in samples (integers) or in shares of n (floats); what they leave is in no part.
        stratified: each class in the proportion of the whole, within a sample or so (a class of very few
            samples can be missing from a small part). By default where labels are given.
        groups: (n,); all samples of a group go to one part, and the sizes are met as nearly as that allows.
        shuffle: else the parts are consecutive rows, for series in time; labels that are sorted, or whose
            shares change beyond chance from part to part, are refused.
        seed: 0 to 2**64 - 1.

    Returns:
        One int64 array of indices per part, in random order (consecutive rows in theirs).

    Raises:
        ShapeError: sizes out of range or parts without samples, arrays that do not fit, fewer groups than
            parts, consecutive rows of sorted labels.
        DtypeError: labels that are numbers with fractions, to be stratified.
    """
    n, kinds = _labels("split", labels, stratified)
    counts = _counts(sizes, n)
    names = f"of sizes {tuple(sizes)}"
    if not shuffle:
        if groups is not None or stratified:
            raise ShapeError("split: shuffle=False: expected neither groups nor stratified=True")
        ends = np.cumsum(counts)
        parts = [np.arange(end - count, end) for end, count in zip(ends, counts)]
        if not isinstance(labels, (int, np.integer)):
            _refuse_sorted(np.unique(_array(labels), return_inverse=True)[1], parts)
        return tuple(parts)
    order = _order("split", n, seed)
    if groups is not None:
        part = _by_group("split", groups, kinds, counts, order)
    else:
        part = np.full(n, len(counts))
        part[_stratified(kinds, order)[: sum(counts)]] = np.repeat(np.arange(len(counts)), counts)
    parts = [order[part[order] == number] for number in range(len(counts))]
    if not all(map(len, parts)):
        raise ShapeError(
            f"split: expected samples in every part {names}, got {[len(p) for p in parts]} of {n}"
        )
    return tuple(parts)


def kfold(
    labels: Any, k: int = 5, *, stratified: bool | None = None, groups: Any = None, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cross-validation: k pairs (training, held out), in which each sample is held out once.

    Args:
        labels, groups, seed: as in `split`.
        k: 2 to n, and at most the number of groups.
        stratified: numbers of a class in two folds differ by at most 1 (with groups: as little as can be). By
            default where labels are given.

    Returns:
        k pairs of int64 indices in random order; without groups the folds' sizes differ by at most 1.

    Raises:
        ShapeError: k out of range, arrays that do not fit, a class with fewer samples than folds.
        DtypeError: labels that are numbers with fractions, to be stratified.
    """
    n, kinds = _labels("kfold", labels, stratified)
    k = operator.index(k)
    if not 2 <= k <= n:
        raise ShapeError(f"kfold: k: expected 2 to {n} (the samples), got {k}")
    order = _order("kfold", n, seed)
    if groups is not None:
        part = _by_group("kfold", groups, kinds, [n / k] * k, order)
    else:
        rare = np.bincount(kinds).min()
        if rare < k and kinds.any():
            raise ShapeError(
                f"kfold: expected k={k} samples or more of every class, got {rare} of one: "
                "choose a smaller k or stratified=False"
            )
        part = np.empty(n, np.int64)
        part[order[np.argsort(kinds[order], kind="stable")]] = np.arange(n) % k  # dealt out class by class
    folds = part[order]
    return [(order[folds != fold], order[folds == fold]) for fold in range(k)]


def leave_one_group_out(groups: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """One pair (training, held out) per group, which is held out whole; groups and indices in their order.

    Raises:
        ShapeError: groups that are not (n,), or fewer than two.
    """
    which = _groups("leave_one_group_out", groups, None)
    if which.max(initial=0) < 1:
        raise ShapeError("leave_one_group_out: expected two groups or more, got one or none")
    return [(np.flatnonzero(which != g), np.flatnonzero(which == g)) for g in range(which.max() + 1)]


def n_per_class(labels: Any, n: int, *, start: int = 0, order: Any = None, seed: int = 0) -> np.ndarray:
    """The same number of samples of every class. Those of one seed are nested: fewer are the first of more.

    Protocols of others have an order of their own: `order=np.random.RandomState(s).permutation(50_000)` for
    draw s of MNIST, `order=np.arange(50_000), start=50 * i` for split i of CIFAR-10 with 50 images per class.

    Args:
        labels: classes (m,), integers or words.
        n: samples of each class, 1 or more.
        start: how many of each class to pass over.
        order: (k,), the indices to take from, in this order; by default all of them in the seed's.
        seed: 0 to 2**64 - 1.

    Returns:
        int64 (n * classes,): first one of each class, then a second one of each, and so on.

    Raises:
        ShapeError: a class with fewer than start + n samples, labels that are not (m,), indices out of range.
        DtypeError: labels that are numbers with fractions.
    """
    m, kinds = _labels("n_per_class", labels, True)
    if n < 1 or start < 0:
        raise ShapeError(f"n_per_class: expected n >= 1 and start >= 0, got n={n} and start={start}")
    rows = _order("n_per_class", m, seed) if order is None else np.asarray(order)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(np.unique(rows)) < len(rows):
        raise ShapeError(
            f"n_per_class: order: expected different integers (k,), got {rows.dtype} {rows.shape}"
        )
    if rows.size and not 0 <= rows.min() <= rows.max() < m:
        raise ShapeError(
            f"n_per_class: order: expected indices 0 to {m - 1}, got {rows.min()} to {rows.max()}"
        )
    fewest = np.bincount(kinds[rows], minlength=kinds.max(initial=-1) + 1).min(initial=m)
    if not m or fewest < start + n:
        raise ShapeError(
            f"n_per_class: expected {start + n} samples or more of every class, got {fewest} of one"
        )
    rank = _ranks(kinds[rows])
    wanted = np.flatnonzero((start <= rank) & (rank < start + n))
    return rows[wanted[np.argsort(rank[wanted], kind="stable")]].astype(np.int64)


def nested_subsets(
    labels: Any, sizes: Sequence[int], *, stratified: bool | None = None, seed: int = 0
) -> list[np.ndarray]:
    """Subsets of growing size for learning curves: each one begins with all samples of the smaller ones.

    Args:
        labels, stratified, seed: as in `split`.
        sizes: in samples, 1 to n.

    Returns:
        One int64 array per size.

    Raises:
        ShapeError: a size out of range, labels that are not (n,).
        DtypeError: labels that are numbers with fractions, to be stratified.
    """
    n, kinds = _labels("nested_subsets", labels, stratified)
    for size in sizes:
        if not 1 <= operator.index(size) <= n:
            raise ShapeError(f"nested_subsets: sizes: expected 1 to {n} (the samples), got {size}")
    order = _stratified(kinds, _order("nested_subsets", n, seed))
    return [order[:size].copy() for size in sizes]


# ---- What they are made of


def _array(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _labels(who: str, labels: Any, stratified: bool | None) -> tuple[int, np.ndarray]:
    """Number of samples, and their classes as 0, 1, ...; all 0 where nothing is to be stratified."""
    if isinstance(labels, (int, np.integer)):
        if labels < 1 or stratified:
            raise ShapeError(f"{who}: expected labels (n,) or, not stratified, n >= 1, got {labels}")
        return int(labels), np.zeros(labels, np.int64)
    array = _array(labels)
    if array.ndim == 0 or not len(array):
        raise ShapeError(f"{who}: labels: expected (n,), n >= 1, got {array.shape}")
    if stratified is False:
        return len(array), np.zeros(len(array), np.int64)
    if array.ndim != 1:
        raise ShapeError(
            f"{who}: labels: expected one class per sample (n,), got {array.shape}: stratified=False?"
        )
    if array.dtype.kind not in "biuUS":
        raise DtypeError(f"{who}: labels: expected integers or words, got {array.dtype}: stratified=False?")
    return len(array), np.unique(array, return_inverse=True)[1]


def _order(who: str, n: int, seed: int) -> np.ndarray:
    seed = operator.index(seed)
    if not 0 <= seed < 1 << 64:
        raise ShapeError(f"{who}: seed: expected 0 to 2**64 - 1, got {seed}")
    words = np.random.Philox(key=np.array([seed, STREAM], np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable")


def _ranks(kinds: np.ndarray) -> np.ndarray:
    """The how-manieth of its class each element is, from 0."""
    by_class = np.argsort(kinds, kind="stable")
    counts = np.bincount(kinds)
    ranks = np.empty(len(kinds), np.int64)
    ranks[by_class] = np.arange(len(kinds)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _stratified(kinds: np.ndarray, order: np.ndarray) -> np.ndarray:
    """A random order of which every stretch has the classes in proportion: the members of a class stand at
    even distances, the r-th of m at (r + 1/2) / m of the whole.
    """
    mine = kinds[order]
    place = (2 * _ranks(mine) + 1) / (2 * np.bincount(mine)[mine])
    return order[np.argsort(place, kind="stable")]


def _counts(sizes: Sequence[float], n: int) -> list[int]:
    """Samples of each part."""
    values = list(sizes)
    if not values or any(not size > 0 for size in values):
        raise ShapeError(f"split: sizes: expected numbers above 0, got {tuple(values)}")
    if all(isinstance(size, (int, np.integer)) for size in values):
        if sum(values) > n:
            raise ShapeError(f"split: sizes: expected at most {n} samples in all, got {sum(values)}")
        return [int(size) for size in values]
    if not all(isinstance(size, (float, np.floating)) for size in values) or sum(values) > 1 + 1e-9:
        raise ShapeError(
            f"split: sizes: expected integers, or shares (floats) of at most 1 in all, got {tuple(values)}"
        )
    ends = np.rint(np.cumsum(values) * n).astype(int).tolist()
    return np.diff(ends, prepend=0).tolist()


def _groups(who: str, groups: Any, n: int | None) -> np.ndarray:
    array = _array(groups)
    if array.ndim != 1 or (n is not None and len(array) != n):
        raise ShapeError(f"{who}: groups: expected {'(n,)' if n is None else (n,)}, got {array.shape}")
    return np.unique(array, return_inverse=True)[1]


def _by_group(
    who: str, groups: Any, kinds: np.ndarray, counts: Sequence[float], order: np.ndarray
) -> np.ndarray:
    """The part of each sample. The largest groups are placed first, each where the parts come nearest to
    their shares of every class; the seed decides among equals.
    """
    n, parts = len(kinds), len(counts)
    which = _groups(who, groups, n)
    number = which.max() + 1
    if number < parts:
        raise ShapeError(f"{who}: expected as many groups as parts, {parts}, or more, got {number}")
    tables = np.zeros((number, kinds.max() + 1))
    np.add.at(tables, (which, kinds), 1)
    shares = np.append(counts, n - sum(counts)) / n  # the last: in no part
    shares = shares if shares[-1] > 1e-9 else shares[:-1]
    totals = tables.sum(0)
    left = shares[:, None] * totals  # what each part still wants
    first_seen = which[order]
    shuffled = first_seen[np.sort(np.unique(first_seen, return_index=True)[1])]
    largest_first = shuffled[np.argsort(-tables[shuffled].sum(1), kind="stable")]
    place, empty = np.empty(number, np.int64), set(range(parts))
    for i, group in enumerate(largest_first):
        # Each part's change of Σ (wanted - given)² / total, over the classes
        change = ((tables[group] - 2 * left) * tables[group] / totals).sum(1)
        if number - i <= len(empty):  # just enough groups are left for the parts that have none
            change[[part for part in range(len(shares)) if part not in empty]] = np.inf
        best = int(np.argmin(change))
        place[group] = best
        left[best] -= tables[group]
        empty.discard(best)
    return place[which]


def _refuse_sorted(kinds: np.ndarray, parts: Sequence[np.ndarray]) -> None:
    """Consecutive rows of labels that are sorted, wholly or in part, are no samples of the whole."""
    n, totals = len(kinds), np.bincount(kinds)
    advice = "shuffle, or pass the number of samples instead of labels if the order is what you want"
    steps = np.diff(kinds)
    if len(totals) > 1 and ((steps >= 0).all() or (steps <= 0).all()):
        raise ShapeError(f"split: shuffle=False: expected labels in mixed order, got sorted ones: {advice}")
    for number, part in enumerate(parts):
        m, share = len(part), totals / n
        found = np.bincount(kinds[part], minlength=len(totals))
        spread = np.sqrt(m * share * (1 - share) * (n - m) / max(n - 1, 1))  # of draws without replacement
        far = np.abs(found - m * share) > 6 * spread + 0.5
        if far.any():
            raise ShapeError(
                f"split: shuffle=False: expected the classes of part {number} in the shares of the whole, "
                f"got {found.tolist()} of {totals.tolist()}: {advice}"
            )
