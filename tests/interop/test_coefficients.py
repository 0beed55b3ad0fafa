"""scikit-learn's perceptrons as modules: the same probabilities and numbers."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl.interop import from_sklearn

pytestmark = pytest.mark.usefixtures("reference")

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 5))


def fitted(kind: str, y: np.ndarray, **settings: Any) -> Any:
    neural = pytest.importorskip("sklearn.neural_network")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that five iterations have not converged
        return getattr(neural, kind)(max_iter=5, random_state=0, **settings).fit(X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("target", ["three", "two", "labels"])
def test_probabilities_of_a_classifier(activation: str, target: str) -> None:
    y = {
        "three": np.arange(40) % 3,
        "two": np.array(["no", "yes"])[np.arange(40) % 2],
        "labels": rng.integers(0, 2, (40, 3)),
    }[target]
    estimator = fitted("MLPClassifier", y, activation=activation, hidden_layer_sizes=(7, 4))
    net = from_sklearn(estimator, probabilities=True)
    expected = estimator.predict_proba(X)
    np.testing.assert_allclose(net(td.tensor(X)).detach().numpy(), expected, rtol=1e-12)
    logits = from_sklearn(estimator)(td.tensor(X))
    assert logits.shape == (40, 1 if target == "two" else 3)
    if target == "three":
        np.testing.assert_allclose(td.softmax(logits, 1).detach().numpy(), expected, rtol=1e-12)
        assert (estimator.classes_[logits.argmax(1).numpy()] == estimator.predict(X)).all()
    assert [p.dtype for p in from_sklearn(estimator, dtype="float32").parameters()] == [np.float32] * 6


def test_numbers_of_a_regressor_and_training_on() -> None:
    for y in (X[:, 0], X[:, :2]):
        estimator = fitted("MLPRegressor", y, hidden_layer_sizes=(6,))
        net = from_sklearn(estimator)
        found = net(td.tensor(X))
        np.testing.assert_allclose(found.detach().numpy().squeeze(), estimator.predict(X), rtol=1e-12)
        td.mse_loss(found.squeeze(), td.tensor(y)).backward()
        assert all(p.grad is not None for p in net.parameters())
    assert from_sklearn(fitted("MLPRegressor", X[:, 0], hidden_layer_sizes=(2, 3)))[0].weight.shape == (2, 5)


def test_refused() -> None:
    neural = pytest.importorskip("sklearn.neural_network")
    with pytest.raises(
        TypeError,
        match=r"from_sklearn: expected a fitted .* got MLPClassifier without coefs_, intercepts_, out_",
    ):
        from_sklearn(neural.MLPClassifier())
    made = {"coefs_": [np.ones((2, 3))], "intercepts_": [np.ones(3)], "activation": "relu"}
    with pytest.raises(ValueError, match=r"from_sklearn: expected activations .* got 'relu' and 'maximum'"):
        from_sklearn(SimpleNamespace(**made, out_activation_="maximum"))
    made["intercepts_"] = [np.ones(2)]
    with pytest.raises(ShapeError, match=r"from_sklearn: expected .* got \(2, 3\), \(2,\)"):
        from_sklearn(SimpleNamespace(**made, out_activation_="softmax"))
