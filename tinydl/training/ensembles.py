"""Several models as one."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset, Subset
from ..data.samplers import uniform
from ..devices import on_host
from ..engine.core import Tensor, no_grad
from ..nn.containers import ModuleList
from ..nn.module import Module
from ..ops.creation import as_tensor
from ..ops.elementwise import add, cast, div, mul
from ..ops.indexing import one_hot
from ..ops.padding import pad
from ..ops.softmax import log_softmax, softmax
from ..regularizers.passes import in_mode
from .callbacks import Callback
from .checkpoint import restore, state_of

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Ensemble", "SnapshotEnsemble", "TestTimeAugmentation", "bagging", "out_of_bag"]


class Ensemble(Module):
    """Models whose predictions are put together: logits (B, C, *) of each become probabilities (B, C, *).

    Args:
        models: at least one.
        how: "probability", the mean of their probabilities; "geometric", their geometric mean, brought to
            sum 1; "vote", the share of the models that have the class in the first place, where their mean
            probabilities count as half a vote: they decide between classes of as many votes.

    Raises:
        ValueError: no models, or another `how`.
    """

    def __init__(self, models: Sequence[Module], how: str = "probability") -> None:
        super().__init__()
        if not models or how not in ("probability", "geometric", "vote"):
            raise ValueError(
                "Ensemble: expected models and 'probability', 'geometric' or 'vote', got "
                f"{len(models)} and {how!r}"
            )
        self.models, self.how = ModuleList(models), how

    def forward(self, *inputs: Any) -> Tensor:
        logits = [model(*inputs) for model in self.models]
        if self.how == "geometric":
            return softmax(_mean([log_softmax(z, 1) for z in logits]), 1)
        probabilities = _mean([softmax(z, 1) for z in logits])
        if self.how == "probability":
            return probabilities
        votes = [one_hot(z.argmax(1), z.shape[1]).movedim(-1, 1) for z in logits]  # (B, C, *)
        half = 0.5 / len(logits)
        share = _mean([cast(each, dtype=probabilities.dtype) for each in votes])
        return div(add(share, mul(probabilities, half)), 1 + half)


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return div(functools.reduce(add, parts), float(len(parts)))


class TestTimeAugmentation(Module):
    """A model that looks at several views of its input, and puts together what it sees of each, as an
    `Ensemble` of one model: logits become probabilities.

        TestTimeAugmentation(model, [lambda x: x, lambda x: td.flip(x, -1)])

    Args:
        model: of images (B, C, H, W), or whatever the views take.
        views: functions of the input; by default the image, and the image shifted by a pixel to each side
            (edges repeated). Mirror images are another view only where left and right mean nothing.
        how: as in `Ensemble`.

    Raises:
        ValueError: no views, or another `how`.
    """

    __test__ = False  # for pytest, which takes it for a test

    def __init__(
        self,
        model: Module,
        views: Sequence[Callable[[Tensor], Tensor]] | None = None,
        how: str = "probability",
    ) -> None:
        super().__init__()
        chosen = SHIFTS if views is None else views
        self.ensemble = Ensemble([_View(model, view) for view in chosen], how)

    def forward(self, x: Tensor) -> Tensor:
        return self.ensemble(x)


class _View(Module):
    def __init__(self, model: Module, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.view(x))


def _shifted(down: int, right: int) -> Callable[[Tensor], Tensor]:
    def view(x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        padded = pad(x, (1, 1, 1, 1), "replicate")
        return padded[..., 1 - down : 1 - down + H, 1 - right : 1 - right + W]

    return view


SHIFTS = [lambda x: x, *(_shifted(*by) for by in ((1, 0), (-1, 0), (0, 1), (0, -1)))]


class SnapshotEnsemble(Callback):
    """Keep the weights at the end of each cycle of a cyclic rate: an ensemble for the price of one training
    (Huang et al. 2017, arXiv 1704.00109).

        snapshots = SnapshotEnsemble(every=10)
        Trainer(..., callbacks=[Schedule(CosineAnnealingWarmRestarts(optimizer, 10)), snapshots]).fit(...)
        model = snapshots.ensemble()

    Args:
        every: epochs of a cycle.
        keep: the last so many; None: all.
    """

    state_grows = True  # (checkpoint.py)

    def __init__(self, every: int, keep: int | None = None) -> None:
        if every < 1 or (keep is not None and keep < 1):
            raise ValueError(
                f"SnapshotEnsemble: expected every and keep of at least 1, got {every} and {keep}"
            )
        self.every, self.keep = every, keep
        self._weights: list[Any] = []
        self._model: Module | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._model = trainer.model

    def on_epoch_end(self, trainer: Trainer) -> None:
        if trainer.epoch % self.every == 0:
            with trainer.evaluating():
                self._weights.append(state_of(trainer.model))
            if self.keep is not None:
                del self._weights[: -self.keep]

    def __len__(self) -> int:
        return len(self._weights)

    def ensemble(self, how: str = "probability") -> Ensemble:
        """Of copies of the model, in evaluation mode.

        Raises:
            ValueError: no cycle has ended yet.
        """
        models = [copy.deepcopy(self._model) for _ in self._weights]
        for model, weights in zip(models, self._weights, strict=True):
            restore(model, weights)
        return Ensemble(models, how).eval()  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        return {"weights": {str(i): weights for i, weights in enumerate(self._weights)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved = state["weights"]
        self._weights = [saved[str(i)] for i in range(len(saved))]


def bagging(
    fit: Callable[[Dataset, Dataset, int], Module],
    dataset: Dataset,
    members: int = 10,
    *,
    how: str = "probability",
    seed: int = 0,
) -> Ensemble:
    """An ensemble of models, each trained on a bootstrap sample (Breiman 1996).

    Args:
        fit: called with n samples drawn from the data set with replacement, those that were not drawn (about
            37 %, to stop by), and the member's number; returns a trained model of its own.
        dataset: n samples.
        members: how many.
        how: as in `Ensemble`.
        seed: of the draws, 0 to 2**64 - 1; those of a member do not depend on how many there are.

    Raises:
        ValueError: fewer than one member.
    """
    if members < 1:
        raise ValueError(f"bagging: members: expected at least 1, got {members}")
    n, models = len(dataset), []
    for number in range(members):
        drawn, left = _bootstrap(seed, number, n)
        models.append(fit(Subset(dataset, drawn), Subset(dataset, left), number))
    return Ensemble(models, how).eval()


def _bootstrap(seed: int, number: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples that a member draws, and those that it does not."""
    drawn = (uniform(seed, number, n) * n).astype(np.int64)
    return drawn, np.setdiff1d(np.arange(n), drawn)


def out_of_bag(ensemble: Ensemble, dataset: Dataset, *, seed: int = 0, batch_size: int = 500) -> np.ndarray:
    """What the members of `bagging` say of samples that they were not trained on: a validation that costs no
    samples (Breiman 1996, "Out-of-bag estimation").

        ensemble = bagging(fit, dataset, seed=1)
        accuracy(out_of_bag(ensemble, dataset, seed=1), dataset.targets)

    Args:
        ensemble, dataset, seed: those of `bagging`.
        batch_size: of the passes.

    Returns:
        (n, C, *): the mean probabilities of each sample over the members that did not draw it, NaN where all
        of them did.
    """
    n = len(dataset)
    total: Any = None
    counts = np.zeros(n)
    for number, model in enumerate(ensemble.models):
        _, left = _bootstrap(seed, number, n)
        counts[left] += 1
        with no_grad(), in_mode(model, "eval"):
            for rows in np.array_split(left, max(-(-len(left) // batch_size), 1)):
                inputs, *_ = dataset[rows]
                p = on_host(softmax(model(as_tensor(inputs)), 1))
                total = np.zeros((n, *p.shape[1:])) if total is None else total
                total[rows] += p
    with np.errstate(invalid="ignore"):
        return total / counts.reshape(-1, *(1,) * (total.ndim - 1))
