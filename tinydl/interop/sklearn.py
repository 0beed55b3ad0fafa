"""scikit-learn's estimators over a module of tinydl: `TinydlClassifier`, `TinydlRegressor`.

    model = make_pipeline(StandardScaler(), TinydlClassifier(module__width=50, penalties=[DataGrad(0.1)]))
    GridSearchCV(model, {"tinydlclassifier__module__width": [20, 50]}).fit(X, y)

Needs scikit-learn (the extra `sklearn`); `import tinydl` does not.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import optim
from ..data import DataLoader, TensorDataset
from ..engine.core import Tensor, no_grad
from ..nn import Linear, Module, ReLU, Sequential
from ..ops.creation import from_numpy
from ..ops.elementwise import square, sub
from ..ops.random import Generator, random_from
from ..ops.reduce import mean
from ..ops.softmax import cross_entropy, softmax
from ..record.recorder import record
from ..regularizers import L2
from ..regularizers.contract import Term
from ..regularizers.objective import Objective
from ..regularizers.passes import in_mode

__all__ = ["TinydlClassifier", "TinydlRegressor"]

PREFIX = "module__"
PREDICTED = 1024
"""Samples of one forward pass of a prediction."""


def _by_batches(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit: expected a solver that works by batches, got solver='lbfgs', which has all samples"
        )
    return True


def mlp(inputs: int, outputs: int, width: int = 100, depth: int = 1) -> Module:
    """`depth` hidden layers of `width` units with ReLU between: the module where none is given."""
    layers: list[Module] = []
    for _ in range(depth):
        layers += [Linear(inputs, width), ReLU()]
        inputs = width
    return Sequential(*layers, Linear(inputs, outputs))


class _Estimator(BaseEstimator):
    """What both have in common.

    Args:
        module: called as module(inputs, outputs, **settings), with the number of features (of samples that
            are no vectors: their shape) and of outputs; returns a Module. None: `mlp`.
        solver: "lbfgs", which takes all samples at once (the same ones together), is deterministic and right
            for small data and models without noise or BatchNorm; else the name of an optimizer of
            `tinydl.optim`, or a function of the parameters that makes one, for minibatches.
        lr: of an optimizer by name.
        max_iter: iterations of "lbfgs", epochs of the others.
        batch_size: of the others.
        weight_decay: λ of λ/2 Σ w² over weights, biases left out, beside the mean loss.
        penalties: further terms of the `Objective`; each fit works on copies.
        early_stopping: minibatches only: end after `n_iter_no_change` epochs in a row whose score on
            `validation_fraction` of the samples (stratified) was no better by `tol`, and take the best
            weights.
        tol: of "lbfgs", the largest element of a gradient that counts as 0.
        dtype: "float64" or "float32".
        random_state: of the first weights, the order of samples and all noise.
        module__...: further arguments of `module`, also by `set_params`.

    Attributes:
        module_: the Module. n_iter_: iterations or epochs done. loss_curve_: the total objective after each
        epoch, or of each evaluation of "lbfgs". n_features_in_: features of a sample.
    """

    def __init__(
        self,
        module: Callable[..., Module] | None = None,
        *,
        solver: Any = "lbfgs",
        lr: float = 1e-3,
        max_iter: int = 200,
        batch_size: int = 50,
        weight_decay: float = 1e-4,
        penalties: Sequence[Term] = (),
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-5,
        dtype: str = "float64",
        random_state: Any = None,
        **module__: Any,
    ) -> None:
        self.module, self.solver, self.lr = module, solver, lr
        self.max_iter, self.batch_size, self.weight_decay = max_iter, batch_size, weight_decay
        self.penalties, self.early_stopping = penalties, early_stopping
        self.validation_fraction, self.n_iter_no_change = validation_fraction, n_iter_no_change
        self.tol, self.dtype, self.random_state = tol, dtype, random_state
        self._set(module__)

    # Parameters
    # --------------------------------------------------------------------------------------------------------

    def _set(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            if not name.startswith(PREFIX):
                raise TypeError(f"{type(self).__name__}: got an unexpected parameter {name!r}")
            setattr(self, name, value)

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name.startswith(PREFIX)}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, those of the module among them."""
        return super().get_params(deep=False) | self._settings()

    def set_params(self, **params: Any) -> _Estimator:
        """Set parameters; `module__width=50` is an argument of the module."""
        own = {name: params.pop(name) for name in [*params] if name.startswith(PREFIX)}
        super().set_params(**params)
        self._set(own)
        return self

    # Fitting
    # --------------------------------------------------------------------------------------------------------

    def _loss(self, output: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        raise NotImplementedError

    def _begin(self, x: np.ndarray, outputs: int) -> None:
        """A new module, and where its random numbers come from."""
        if self.max_iter < 1 or self.batch_size < 1:
            got = f"{self.max_iter} and {self.batch_size}"
            raise ValueError(
                f"{type(self).__name__}: expected max_iter and batch_size of at least 1, got {got}"
            )
        self._generator = Generator(int(check_random_state(self.random_state).randint(2**31)))
        settings = {name.removeprefix(PREFIX): value for name, value in self._settings().items()}
        inputs: Any = x.shape[1] if x.ndim == 2 else x.shape[1:]
        with random_from(self._generator):
            self.module_ = (self.module or mlp)(inputs, outputs, **settings).to(self.dtype)
        self.loss_curve_: list[float] = []
        self.n_iter_ = 0
        self._work = _Work(self)

    def _fit(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, outputs: int) -> None:
        self._begin(x, outputs)
        with random_from(self._generator), in_mode(self.module_, "train"):
            if self.solver == "lbfgs":
                self._fit_whole(x, y, weights)
            else:
                self._fit_batches(x, y, weights)

    def _fit_whole(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> None:
        given = [from_numpy(part) for part in _distinct(x, y, weights)]
        parameters = [*self.module_.parameters()]
        optimizer = optim.LBFGS(
            parameters,
            max_iter=self.max_iter,
            max_eval=20 * self.max_iter,
            tolerance_grad=self.tol,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = self._work.backward(self._work.objective.due(0), *given)
            self.loss_curve_.append(total.item())
            return total

        optimizer.step(closure)
        self.n_iter_ = max(1, int(optimizer.state[parameters[0]].get("n_iter", 0)))
        steepest = max(float(np.abs(p.grad.numpy()).max()) for p in parameters if p.grad is not None)
        optimizer.zero_grad()
        if self.n_iter_ >= self.max_iter and steepest > self.tol:
            warnings.warn(
                f"{type(self).__name__}: stopped after max_iter={self.max_iter} iterations with a gradient "
                f"of {steepest:.2g}, above tol={self.tol}",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _fit_batches(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> None:
        held: list[Any] = []
        parts: list[Any] = [x, y, weights]
        if self.early_stopping:
            parts, held = self._split(*parts)
        loader = self._loader(*parts)
        best, waited, kept = -math.inf, 0, None
        for _ in range(self.max_iter):
            self._epoch(loader)
            if held:
                score = self._score(*held)
                better = score > best + self.tol
                best, waited = (score, 0) if better else (best, waited + 1)
                if better or kept is None:
                    kept = {name: value.clone() for name, value in self.module_.state_dict().items()}
                if waited >= self.n_iter_no_change:
                    break
        if kept is not None:
            self.module_.load_state_dict(kept)

    def _split(self, *parts: Any) -> list[list[Any]]:
        """The parts for training, and those for validation."""
        y = parts[1]
        strata = y if isinstance(self, ClassifierMixin) else None
        rows = np.arange(len(y))
        seed = int(self._generator.seed) % 2**32
        kept, held = train_test_split(
            rows, test_size=self.validation_fraction, random_state=seed, stratify=strata
        )
        return [[None if part is None else part[chosen] for part in parts] for chosen in (kept, held)]

    def _score(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> float:
        """Minus the mean loss."""
        with no_grad():
            losses = self._loss(from_numpy(self._outputs(x)), from_numpy(y), reduction="none").numpy()
        return -float(np.average(losses, weights=weights))

    def _loader(self, *parts: np.ndarray | None) -> DataLoader:
        there = [part for part in parts if part is not None]
        return DataLoader(TensorDataset(*there), self.batch_size, shuffle=True, seed=self._generator.seed)

    def _epoch(self, loader: DataLoader) -> None:
        """One pass over the loader."""
        total = 0.0
        for batch in loader:
            total += self._work.step(*batch) * len(batch[0])
        self.n_iter_ += 1
        self.loss_curve_.append(total / len(loader.dataset))

    def _continue(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, outputs: int) -> None:
        """One more epoch, from the first one on."""
        if not hasattr(self, "module_"):
            self._begin(x, outputs)
        loader = self._loader(x, y, weights)
        loader.epoch = self.n_iter_
        with random_from(self._generator), in_mode(self.module_, "train"):
            self._epoch(loader)

    def _given(self, x: Any, y: Any, reset: bool, **how: Any) -> Any:
        return validate_data(self, x, y, reset=reset, allow_nd=True, dtype=self.dtype, **how)

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        """The module's outputs, in evaluation mode."""
        with no_grad(), in_mode(self.module_, "eval"):
            pieces = [x[i : i + PREDICTED] for i in range(0, len(x), PREDICTED)]
            return np.concatenate([self.module_(from_numpy(piece)).numpy() for piece in pieces])

    def _predicted(self, x: Any) -> np.ndarray:
        check_is_fitted(self)
        x = validate_data(self, x, reset=False, allow_nd=True, dtype=self.dtype)
        return self._outputs(np.ascontiguousarray(x))

    def __getstate__(self) -> dict[str, Any]:
        """Without what a recording holds; `partial_fit` goes on from the optimizer's state."""
        state = dict(super().__getstate__())
        work = state.pop("_work", None)
        if work is not None:
            state["_optimizer_state"] = work.state_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_optimizer_state", None)
        super().__setstate__(state)
        if saved is not None:
            self._work = _Work(self)
            self._work.load_state_dict(saved)


def _distinct(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Samples that are the same as one with the sum of their weights, in an order of their own, and none of
    weight 0: so a weight of 2 gives the same bits as two copies.
    """
    rows = np.concatenate([part.reshape(len(x), -1).astype(np.float64) for part in (x, y)], 1)
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    summed = np.bincount(inverse.reshape(-1), weights, len(first)).astype(np.float64)
    return x[first[summed > 0]], y[first[summed > 0]], summed[summed > 0]


class _Work:
    """The objective of an estimator's module, and the steps on it."""

    def __init__(self, estimator: _Estimator) -> None:
        decay = [L2(estimator.weight_decay)] if estimator.weight_decay else []
        terms = [*decay, *copy.deepcopy([*estimator.penalties])]
        self.objective = Objective(estimator.module_, estimator._loss, terms)
        self.steps = 0
        self.optimizer: Any = None
        solver = estimator.solver
        if solver != "lbfgs":
            made = getattr(optim, solver, None) if isinstance(solver, str) else solver
            if made is None:
                raise ValueError(
                    f'{type(estimator).__name__}: expected solver "lbfgs", the name of an optimizer of '
                    f"tinydl.optim or a function, got {solver!r}"
                )
            parameters = [*estimator.module_.parameters(), *self.objective.parameters()]
            self.optimizer = (
                made(parameters, lr=estimator.lr) if isinstance(solver, str) else made(parameters)
            )
        self._recorded = record(self._stepped)

    def backward(self, due: Sequence[str], x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Leave the gradients of the total in `.grad`; returns the total."""
        terms = self.objective(x, y, due=due, **({} if weights is None else {"weights": weights}))
        terms.backward()
        return terms.total.detach()

    def step(self, *batch: Tensor) -> float:
        """One step of the optimizer; returns the total."""
        total = self._recorded(self.objective.due(self.steps), *batch)
        self.steps += 1
        return total.item()

    def _stepped(self, due: Sequence[str], *batch: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        total = self.backward(due, *batch)
        self.optimizer.step()
        self.objective.after(self.optimizer)
        return total

    def state_dict(self) -> dict[str, Any]:
        own = {"steps": self.steps, "objective": self.objective.state_dict()}
        return own if self.optimizer is None else own | {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.steps = saved["steps"]
        self.objective.load_state_dict(saved["objective"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(saved["optimizer"])


class TinydlClassifier(ClassifierMixin, _Estimator):
    """A classifier with a module of tinydl and cross-entropy.

    classes_: labels, sorted. Samples are (n, features), or of more dims for modules that take them. Targets
    are labels (n,). `class_weight` as scikit-learn's: None, "balanced" or a dict of weights by label.
    """

    def __init__(
        self,
        module: Callable[..., Module] | None = None,
        *,
        solver: Any = "lbfgs",
        lr: float = 1e-3,
        max_iter: int = 200,
        batch_size: int = 50,
        weight_decay: float = 1e-4,
        penalties: Sequence[Term] = (),
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-5,
        dtype: str = "float64",
        random_state: Any = None,
        **module__: Any,
    ) -> None:
        self.module, self.solver, self.lr = module, solver, lr
        self.max_iter, self.batch_size, self.weight_decay = max_iter, batch_size, weight_decay
        self.penalties, self.class_weight, self.early_stopping = penalties, class_weight, early_stopping
        self.validation_fraction, self.n_iter_no_change = validation_fraction, n_iter_no_change
        self.tol, self.dtype, self.random_state = tol, dtype, random_state
        self._set(module__)

    def _loss(self, output: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        return cross_entropy(output, target, reduction=reduction)

    def _weights(self, x: np.ndarray, y: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        if sample_weight is None and self.class_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        return weights if self.class_weight is None else weights * compute_sample_weight(self.class_weight, y)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TinydlClassifier:
        """Train a new module on samples X and labels y, each of weight `sample_weight`."""
        X, y = self._given(X, y, reset=True)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        weights = self._weights(X, y, sample_weight)
        self._fit(X, index.astype(np.int64), weights, len(self.classes_))
        return self

    @available_if(_by_batches)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> TinydlClassifier:
        """One epoch more on these samples. The first call names all `classes`."""
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("partial_fit: expected classes in the first call, got None")
        X, y = self._given(X, y, reset=first)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"partial_fit: expected the classes {self.classes_} of the first call, got {classes}"
            )
        strange = np.setdiff1d(y, self.classes_)
        if strange.size:
            raise ValueError(f"partial_fit: expected labels among {self.classes_}, got {strange}")
        index = np.searchsorted(self.classes_, y).astype(np.int64)
        self._continue(X, index, self._weights(X, y, sample_weight), len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, classes)."""
        with no_grad():
            return softmax(from_numpy(self._predicted(X)), 1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Labels (n,)."""
        best = self._predicted(X).argmax(1)
        return self.classes_[best]


class TinydlRegressor(RegressorMixin, _Estimator):
    """A regressor with a module of tinydl and the mean squared error. Targets are (n,) or (n, outputs)."""

    def _loss(self, output: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        losses = mean(square(sub(output, target)), 1)
        return losses if reduction == "none" else mean(losses)

    def _targets(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, Any, Any]:
        X, y = self._given(X, y, reset=reset, multi_output=True, y_numeric=True)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if reset:
            self._single = y.ndim == 1
        return X, y.reshape(len(y), -1).astype(self.dtype), weights

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TinydlRegressor:
        """Train a new module on samples X and numbers y, each of weight `sample_weight`."""
        X, y, weights = self._targets(X, y, sample_weight, reset=True)
        self._fit(X, y, weights, y.shape[1])
        return self

    @available_if(_by_batches)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> TinydlRegressor:
        """One epoch more on these samples."""
        X, y, weights = self._targets(X, y, sample_weight, reset=not hasattr(self, "module_"))
        self._continue(X, y, weights, y.shape[1])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Numbers (n,) or (n, outputs), as the targets were."""
        outputs = self._predicted(X)
        return outputs[:, 0] if self._single else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
