"""Cross-validation: scores of folds, their mean and its standard error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tinydl_kernels.machine.errors import ShapeError

from ..data import Dataset, Subset, kfold
from .statistics import Estimate, estimate


class CrossValidation:
    """The scores of each fold, and `scores["accuracy"]`, the mean with its standard error.

    Folds share most of their training samples, so the error is rather too small (Bengio and Grandvalet 2004):
    it says how sure the mean is for samples like these, not for other data.

    Attributes:
        folds: a dict of numbers for each.
    """

    def __init__(self, folds: list[dict[str, float]]) -> None:
        self.folds = folds

    @property
    def names(self) -> list[str]:
        """Of the scores that every fold has."""
        return [name for name in self.folds[0] if all(name in fold for fold in self.folds)]

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.names:
            raise KeyError(f"CrossValidation: expected one of {', '.join(self.names)}, got {name!r}")
        return estimate([fold[name] for fold in self.folds])

    def __str__(self) -> str:
        width = max(map(len, self.names), default=0)
        rows = [(name, self[name]) for name in self.names]
        lines = [f"{name:{width}}  {found.mean:.4f} ± {found.error:.4f}" for name, found in rows]
        return "\n".join([f"{len(self.folds)} folds, mean ± standard error", *lines])

    def __repr__(self) -> str:
        return f"CrossValidation({str(self)!r})"


def cross_validate(
    fit: Callable[[Dataset, Dataset, int], Mapping[str, Any]],
    dataset: Dataset,
    k: int = 5,
    *,
    groups: Any = None,
    stratified: bool | None = None,
    seed: int = 0,
) -> CrossValidation:
    """Train and score k times, each sample held out once.

        def fit(train, held_out, fold):
            trainer = ...
            trainer.fit(DataLoader(train, 50, shuffle=True), epochs=20)
            return trainer.evaluate(DataLoader(held_out, 500))

    Args:
        fit: called with both parts and the number of the fold; makes a model of its own and returns scores by
            name; what is no number is left out.
        dataset: of classes, where the folds are to be stratified.
        k, groups, stratified, seed: as in `td.data.kfold`. Stratified by default where the targets are
            classes (n,).

    Raises:
        ShapeError, DtypeError: what `kfold` refuses; a fold without scores.
    """
    targets = dataset.targets
    classes = targets is not None and targets.ndim == 1 and targets.dtype.kind in "biu"
    labels = targets if classes and stratified is not False else len(dataset)
    folds = []
    for number, (train, held) in enumerate(
        kfold(labels, k, groups=groups, stratified=stratified if classes else None, seed=seed)
    ):
        scores = fit(Subset(dataset, train), Subset(dataset, held), number)
        folds.append({name: float(x) for name, x in scores.items() if isinstance(x, (int, float))})
        if not folds[-1]:
            raise ShapeError(f"cross_validate: fold {number}: expected scores by name, got {scores}")
    return CrossValidation(folds)
