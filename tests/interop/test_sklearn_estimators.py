"""scikit-learn's own checks of the estimators, and what they do beyond them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import tinydl as td
from tinydl import nn
from tinydl.interop.sklearn import TinydlClassifier, TinydlRegressor
from tinydl.regularizers import ConfidencePenalty, DataGrad

QUIET = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RANDOM = np.random.default_rng(0)
X, Y = make_blobs(120, 4, centers=3, cluster_std=2.5, random_state=0)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([TinydlClassifier(max_iter=30), TinydlRegressor(max_iter=60)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@QUIET
@pytest.mark.parametrize("solver", ["lbfgs", "Adam", lambda p: td.optim.SGD(p, lr=0.05, momentum=0.9)])
def test_it_learns(solver):
    fitted = TinydlClassifier(solver=solver, max_iter=40, random_state=0, lr=1e-2).fit(X, Y)
    assert fitted.score(X, Y) > 0.85
    assert fitted.predict_proba(X).sum(1) == pytest.approx(np.ones(len(X)))
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    y = X @ [1.0, -2.0, 0.5, 0.0]
    line = TinydlRegressor(solver=solver, max_iter=40, random_state=0, lr=1e-2).fit(X / 10, y / 10)
    assert line.score(X / 10, y / 10) > 0.9


@QUIET
def test_the_seed_decides_and_nothing_outside_moves():
    td.manual_seed(5)
    before = td.rand(3).tolist()
    td.manual_seed(5)
    a, b = (TinydlClassifier(random_state=3, max_iter=5).fit(X, Y) for _ in range(2))
    assert td.rand(3).tolist() == before
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    other = TinydlClassifier(random_state=4, max_iter=5).fit(X, Y)
    assert not np.array_equal(other.predict_proba(X), a.predict_proba(X))


@QUIET
def test_parameters_of_the_module_are_searched_in_a_pipeline():
    model = make_pipeline(StandardScaler(), TinydlClassifier(max_iter=5, random_state=0, module__width=7))
    search = GridSearchCV(model, {"tinydlclassifier__module__width": [3, 5]}, cv=2).fit(X, Y)
    width = search.best_params_["tinydlclassifier__module__width"]
    assert search.best_estimator_[-1].module_[0].out_features == width in (3, 5)
    copied = clone(TinydlClassifier(module__depth=2, module__width=6))
    assert copied.get_params()["module__depth"] == 2
    assert copied.set_params(module__width=9, tol=1e-3).get_params()["module__width"] == 9
    with pytest.raises(TypeError, match="TinydlClassifier: got an unexpected parameter 'width'"):
        TinydlClassifier(width=3)
    with pytest.raises(ValueError, match="Invalid parameter 'width'"):
        TinydlClassifier().set_params(width=3)


@QUIET
@pytest.mark.parametrize("solver", ["lbfgs", "Adam"])
def test_penalties_act_and_stay_their_owners(solver):
    penalty = DataGrad(30.0)
    settings = {"solver": solver, "max_iter": 15, "random_state": 0, "lr": 1e-2}
    plain = TinydlClassifier(**settings).fit(X, Y)
    smooth = TinydlClassifier(penalties=[penalty, ConfidencePenalty(0.1)], **settings).fit(X, Y)
    assert slopes(smooth) < 0.8 * slopes(plain)
    assert smooth.penalties[0] is penalty


def slopes(fitted: TinydlClassifier) -> float:
    """The mean square of the loss's gradient by the inputs."""
    x = td.tensor(X, dtype="float64").requires_grad_()
    (g,) = td.grad(td.cross_entropy(fitted.module_(x), td.tensor(Y), reduction="sum"), x)
    return float((g**2).sum(1).mean())


@QUIET
def test_a_weight_is_a_number_of_copies():
    weights = RANDOM.integers(0, 4, len(X))
    settings = {"max_iter": 30, "module__width": 5, "weight_decay": 1e-2, "random_state": 0}
    weighted = TinydlClassifier(**settings).fit(X, Y, weights)
    repeated = TinydlClassifier(**settings).fit(np.repeat(X, weights, 0), np.repeat(Y, weights))
    np.testing.assert_array_equal(weighted.predict_proba(X), repeated.predict_proba(X))
    balanced = TinydlClassifier(class_weight="balanced", **settings).fit(X[:90], Y[:90])
    by_hand = TinydlClassifier(**settings).fit(X[:90], Y[:90], (90 / 3 / np.bincount(Y[:90]))[Y[:90]])
    np.testing.assert_allclose(balanced.predict_proba(X), by_hand.predict_proba(X), atol=1e-12)


def test_images_and_a_module_of_ones_own():
    def net(inputs, outputs, channels=2):
        height, width = inputs[1:]
        return nn.Sequential(
            nn.Conv2d(inputs[0], channels, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(channels * (height - 2) * (width - 2), outputs),
        )  # fmt: skip

    images = RANDOM.standard_normal((30, 1, 6, 6)) + (np.arange(30) % 2)[:, None, None, None]
    names = np.array(["even", "odd"])[np.arange(30) % 2]
    fitted = TinydlClassifier(
        net, solver="Adam", lr=1e-2, max_iter=30, module__channels=3, dtype="float32", random_state=0
    )
    fitted.fit(images, names)
    assert fitted.module_[0].out_channels == 3
    assert fitted.score(images, names) > 0.9
    assert fitted.predict_proba(images).dtype == np.float32


def test_early_stopping_ends_with_the_best_weights():
    noisy = RANDOM.integers(0, 3, len(X))
    settings = {"solver": "Adam", "lr": 0.05, "random_state": 0, "n_iter_no_change": 3, "max_iter": 60}
    fitted = TinydlClassifier(early_stopping=True, validation_fraction=0.3, **settings).fit(X, noisy)
    assert fitted.n_iter_ < 60


@pytest.mark.parametrize("solver", ["Adam", "SGD"])
def test_partial_fit_goes_on_also_after_a_pickle(solver):
    def passes(through):
        model = TinydlClassifier(solver=solver, random_state=0, lr=1e-2, penalties=[DataGrad(0.1)])
        for start in (0, 40, 80):
            model.partial_fit(X[start : start + 40], Y[start : start + 40], classes=[0, 1, 2])
            model = through(model)
        return model.predict_proba(X)

    expected = passes(lambda model: model)
    np.testing.assert_array_equal(passes(lambda model: pickle.loads(pickle.dumps(model))), expected)


def test_errors():
    with pytest.raises(AttributeError):
        TinydlClassifier().partial_fit  # noqa: B018
    with pytest.raises(ValueError, match="partial_fit: expected classes in the first call, got None"):
        TinydlClassifier(solver="Adam").partial_fit(X, Y)
    model = TinydlClassifier(solver="Adam").partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"partial_fit: expected labels among \[0 1 2\], got \[7\]"):
        model.partial_fit(X, np.full(len(X), 7))
    with pytest.raises(ValueError, match='expected solver "lbfgs", the name of an optimizer'):
        TinydlClassifier(solver="Adamm").fit(X, Y)
    with pytest.raises(ValueError, match="expected max_iter and batch_size of at least 1, got 0 and 50"):
        TinydlRegressor(max_iter=0).fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="stopped after max_iter=2 iterations with a gradient"):
        TinydlClassifier(max_iter=2).fit(X, Y)
