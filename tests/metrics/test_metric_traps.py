"""Traps into which the metrics of others fell, each named, and the edges of ours."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import metrics
from tinydl.training import checkpoint

pytestmark = pytest.mark.usefixtures("reference")

FED = [
    (name, getattr(metrics, name))
    for name in metrics.__all__
    if isinstance(getattr(metrics, name), type) and metrics.Metric in getattr(metrics, name).__mro__[1:]
]
MASKS = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 1]], [[1, 1], [1, 1]]])


def batches(metric: metrics.Metric, *pieces: tuple[Any, Any]) -> tuple[Any, float]:
    """The value of all pieces, and the mean of their own values."""
    values = []
    for prediction, target in pieces:
        one = type(metric)()
        one.update(prediction, target)
        values.append(one.compute())
        metric.update(prediction, target)
    return metric.compute(), float(np.mean(values))


# ---- Means of batch means (chainer#1739, burn#5514, torchmetrics#445)


@pytest.mark.parametrize(
    ("metric", "first", "second", "whole"),
    [
        (metrics.Accuracy(), ([1], [1]), ([0, 0], [1, 1]), 1 / 3),  # the mean of the batches is 1/2
        (metrics.F1(), ([1, 1], [1, 0]), ([1, 0, 1], [1, 1, 1]), 3 / 4),
        (metrics.Dice(), (MASKS[:1], MASKS[2:]), (MASKS[1:2], MASKS[2:]), 2 / 3),
        (metrics.AUC(), ([0.1, 0.2], [0, 1]), ([0.8, 0.9], [0, 1]), 3 / 4),
        (metrics.MSE(), ([1.0], [0.0]), ([0.0, 0, 0], [0.0, 0, 0]), 1 / 4),
        (metrics.R2(), ([1.0, 2], [1.0, 2]), ([8.0, 9], [9.0, 8]), 1 - 2 / 50),
    ],
)
def test_a_metric_is_of_the_whole_not_the_mean_of_batches(
    metric: Any, first: Any, second: Any, whole: float
) -> None:
    value, mean = batches(metric, first, second)
    assert value == pytest.approx(whole, abs=1e-15)
    assert abs(mean - whole) > 0.01


def test_batches_of_one_class_spoil_nothing() -> None:
    """An AUC of each batch would be NaN."""
    metric = metrics.AUC()
    metric.update([0.1, 0.4], [0, 0])
    metric.update([0.3, 0.9], [1, 1])
    assert metric.compute() == 0.75


def test_sum_and_weight_are_kept_apart() -> None:
    """A weighted mean divides by Σ weights: shards disagree if each is divided by its own (pytorch#72047)."""
    p, t, w = np.array([0.9, 0.6, 0.2, 0.3]), np.array([1, 1, 1, 0]), np.array([1.0, 3, 10, 2])
    for function, metric in ((metrics.log_loss, metrics.LogLoss()), (metrics.brier, metrics.Brier())):
        for part in (slice(1), slice(1, 4)):
            metric.update(p[part], t[part], w[part])
        assert metric.compute() == pytest.approx(function(p, t, sample_weight=w), abs=1e-15)


# ---- Nothing is guessed


@pytest.mark.parametrize("function", [metrics.log_loss, metrics.brier, metrics.reliability_curve])
def test_values_above_one_never_go_through_a_sigmoid(function: Any) -> None:
    """torchmetrics#1989: a batch that happens to lie in [0, 1] was taken as it was, the next one squashed."""
    options = {"of": "positive"} if function is metrics.reliability_curve else {}
    with pytest.raises(td.ShapeError, match=r"got 1\.001: apply softmax or sigmoid to logits"):
        function([0.5, 1.001], [0, 1], **options)


def test_both_calibration_errors_of_two_classes_have_a_name() -> None:
    """torchmetrics#2519: of P(y = 1), or of the confidence in what was predicted?"""
    p, t = np.array([0.1, 0.1, 0.9, 0.9]), np.array([1, 0, 1, 1])
    positive = metrics.calibration_error(p, t, of="positive", bins=10)
    confidence = metrics.calibration_error(p, t, of="confidence", bins=10)
    assert positive == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert confidence == pytest.approx(0.9 - 0.75)
    with pytest.raises(td.ShapeError, match="they are two numbers"):
        metrics.calibration_error(p, t)
    both = np.stack([1 - p, p], 1)
    assert metrics.calibration_error(both, t, bins=10) == pytest.approx(confidence)


def test_probabilities_are_not_rounded_to_classes() -> None:
    """0.9 is no class: truncated to an integer it would be 0."""
    with pytest.raises(td.DtypeError, match="compare with a threshold first"):
        metrics.accuracy(td.tensor([0.9, 0.1]), [1, 0])
    assert metrics.accuracy(np.array([0.9, 0.1]) >= 0.5, np.array([1.0, 0.0], np.float32)) == 1.0


def test_columns_and_vectors_are_not_broadcast() -> None:
    """(n, 1) against (n,) would be n² errors, and a loss that looks fine."""
    with pytest.raises(td.ShapeError, match=r"of one shape, got \(3, 1\) and \(3,\)"):
        metrics.mse(np.zeros((3, 1)), np.zeros(3))


def test_two_columns_of_logits_are_no_scores() -> None:
    """The second logit alone ranks otherwise than the probability does."""
    logits, t = np.array([[0.0, 1.0], [5.0, 2.0], [9.0, 1.5]]), [1, 0, 0]
    with pytest.raises(td.ShapeError, match=r"prediction\[:, 1\] - prediction\[:, 0\] of logits"):
        metrics.auc(logits, t)
    assert metrics.auc(logits[:, 1] - logits[:, 0], t) == 1.0


# ---- Ties


def test_a_constant_prediction_is_chance() -> None:
    """Sorting makes up an order among equal scores: positives that stand last would win."""
    t = np.array([0, 0, 0, 1])
    for order in (t, t[::-1]):
        assert metrics.auc(np.zeros(4), order) == 0.5
        assert metrics.average_precision(np.zeros(4), order) == 0.25
    assert metrics.delong(np.ones(4), [0, 1, 0, 1]) == (0.5, 0.5, 0.5)
    classes = np.arange(10)
    assert metrics.top_k_accuracy(np.zeros((10, 10)), classes, k=3) == 0.3
    assert metrics.accuracy(np.zeros((10, 10)), classes) == 0.1
    assert metrics.top_k_accuracy(np.zeros((10, 10)), classes, k=1) == 0.1


# ---- Undefined


def test_an_empty_mask_found_empty_is_no_perfect_score() -> None:
    empty = np.zeros((2, 3, 3), int)
    for function in (metrics.dice, metrics.iou):
        with pytest.warns(metrics.UndefinedMetricWarning, match="undefined, 0 / 0"):
            assert np.isnan(function(empty, empty))
        target = np.where(np.eye(3, dtype=int) == 1, 2, empty)  # classes 0 and 2: there is no class 1
        assert function(target, target, average="macro") == 1.0
        assert function(target * 0, target, average="macro") < 0.5


def test_weights_do_not_hide_what_is_undefined() -> None:
    """total - tp - fp - fn of floating weights is 1e-17, and 1e-17 / 1e-17 a number."""
    weight = np.array([0.1, 0.2, 0.3, 0.7])
    for function in (metrics.specificity, metrics.fpr):
        with pytest.warns(metrics.UndefinedMetricWarning):
            assert np.isnan(function([1, 0, 1, 1], [1, 1, 1, 1], sample_weight=weight))
    with pytest.warns(metrics.UndefinedMetricWarning):
        assert np.isnan(metrics.specificity([2, 0, 1], [0, 0, 0], average=None, sample_weight=weight[:3])[0])


def test_samples_of_weight_zero_are_not_there() -> None:
    p, t = np.array([0.3, 0.9, 0.4, 0.6]), np.array([0, 1, 1, 0])
    weight = np.array([1.0, 1, 0, 1])
    kept = weight > 0
    for function, options in (
        (metrics.auc, {}),
        (metrics.average_precision, {}),
        (metrics.calibration_error, {"of": "positive", "strategy": "quantile", "bins": 3}),
    ):
        assert function(p, t, sample_weight=weight, **options) == function(p[kept], t[kept], **options)
    np.testing.assert_array_equal(
        metrics.roc_curve(p, t, sample_weight=weight).thresholds,
        metrics.roc_curve(p[kept], t[kept]).thresholds,
    )


def test_a_class_that_never_occurs_is_no_class_of_the_mean() -> None:
    """Classes 0 and 9 alone: eight zeros or NaNs would make the mean."""
    p, t = [0, 9, 9], [0, 9, 0]
    assert metrics.recall(p, t, average="macro") == 0.75
    assert metrics.recall(p, t, average="macro", num_classes=20) == 0.75
    assert metrics.specificity(p, t, average="macro") == 0.75
    with pytest.warns(metrics.UndefinedMetricWarning, match=r"for classes \[1, 2, 3, 4, 5, 6, 7, 8\]$"):
        assert np.isnan(metrics.recall(p, t, average=None)).sum() == 8
    with pytest.warns(metrics.UndefinedMetricWarning, match=r"for classes \[1\], left out of the mean"):
        assert metrics.precision([0, 0, 2], [0, 1, 2], average="macro") == 0.75


# ---- What is kept


def test_the_outputs_of_a_recorded_step_are_copied() -> None:
    """Its replay writes the same buffer again: kept by reference, all batches would be the last."""
    step = td.record(lambda x: x * 2.0)
    metric = metrics.AUC()
    inputs = [td.tensor([0.1, 0.9]), td.tensor([0.4, 0.2]), td.tensor([0.3, 0.5])]
    for x in inputs:
        metric.update(step(x), [0, 1])
    whole = metrics.auc(np.concatenate([2 * x.numpy() for x in inputs]), [0, 1] * 3)
    assert metric.compute() == whole
    mine = np.array([0.1, 0.9])
    metric.reset()
    metric.update(mine, [0, 1])
    mine[:] = mine[::-1].copy()
    assert metric.compute() == 1.0


def test_a_metric_inside_a_recorded_step_is_an_error() -> None:
    """It would be fed once, and never by a replay."""
    metric = metrics.Accuracy()

    @td.record
    def step(x: td.Tensor) -> td.Tensor:
        metric.update(x, [0, 1])
        return x * 2

    with pytest.raises(td.GraphError):
        step(td.ones(2, 3))


def test_gradients_and_devices_are_left_behind(gpu: Any) -> None:
    logits = td.tensor([[0.1, 0.9], [0.8, 0.2]], requires_grad=True)
    assert metrics.accuracy(logits, td.tensor([1, 0])) == 1.0
    with td.backend("cuda"):
        assert metrics.accuracy(logits.detach().to("cuda"), td.tensor([1, 1], device="cuda")) == 0.5


@pytest.mark.parametrize(("name", "metric"), FED)
def test_states_of_other_metrics_are_refused(name: str, metric: Any) -> None:
    with pytest.raises(td.ShapeError, match=f"{name}.load_state_dict: expected the keys .*'samples'.*got"):
        metric().load_state_dict({"samples": 3, "other": np.ones(3)})


@pytest.mark.parametrize(
    ("metric", "state", "message"),
    [
        (metrics.ConfusionMatrix, {"matrix": np.ones((2, 3))}, "matrix: expected (classes, classes)"),
        (lambda: metrics.ConfusionMatrix(num_classes=3), {"matrix": np.ones((2, 2))}, "expected (3, 3)"),
        (metrics.MCC, {"matrix": np.ones((4, 2, 2))}, "expected (classes, classes), got float64 (4, 2, 2)"),
        (lambda: metrics.F1(average="macro"), {"matrix": np.ones(4)}, "(classes, classes) or (labels, 2, 2)"),
        (metrics.Accuracy, {"sum": np.ones((2, 2)), "weight": 1.0}, "sum: expected () or (outputs,), got"),
        (metrics.Accuracy, {"sum": 1.0, "weight": np.ones(3)}, "weight: expected (), got float64 (3,)"),
        (metrics.Accuracy, {"sum": "much", "weight": 1.0}, "sum: expected numbers, got <U4 ()"),
        (
            metrics.AUC,
            {"prediction": np.ones(3), "target": np.ones(3), "weight": np.ones(2)},
            "weight: expected (3,), got float64 (2,)",
        ),
        (
            metrics.AUC,
            {"prediction": np.ones(2), "target": np.ones(3), "weight": np.ones(3)},
            "prediction: expected (3, ...), got float64 (2,)",
        ),
    ],
)
def test_states_of_other_shapes_are_refused(metric: Any, state: Any, message: str) -> None:
    fed = metric()
    with pytest.raises(td.ShapeError, match=re.escape(message)):
        fed.load_state_dict({"samples": 3, **state})
    assert fed.state_dict() == {"samples": 0}  # as it was


def test_a_negative_number_of_samples_is_refused() -> None:
    with pytest.raises(td.ShapeError, match="samples: expected 0 or more, got -1"):
        metrics.Accuracy().load_state_dict({"samples": -1, "sum": 1.0, "weight": 1.0})


def test_a_checkpoint_holds_metrics(tmp_path: Path) -> None:
    fed = {"auc": metrics.AUC(), "f1": metrics.F1(), "loss": metrics.LogLoss(), "empty": metrics.Dice()}
    for name, prediction in (("auc", [0.2, 0.7]), ("f1", [1, 1]), ("loss", [0.2, 0.7])):
        fed[name].update(prediction, [0, 1])
    checkpoint.save(tmp_path / "metrics", **fed)
    saved = checkpoint.read(tmp_path / "metrics").state
    others = {name: type(metric)() for name, metric in fed.items()}
    for name, metric in others.items():
        metric.load_state_dict(saved[name])
    for name in ("auc", "f1", "loss"):
        assert others[name].compute() == fed[name].compute()
    assert others["empty"].state_dict() == {"samples": 0}


def test_pieces_of_different_tasks_do_not_mix() -> None:
    metric = metrics.F1(average="macro")
    metric.update([0, 1], [0, 1])
    with pytest.raises(td.ShapeError, match=r"expected one task, got counts \(2, 2\) and labels \(3, 3\)"):
        metric.update(np.eye(3, dtype=int), np.eye(3, dtype=int))
    metric.reset()
    metric.update(np.eye(3, dtype=int), np.eye(3, dtype=int))
    with pytest.raises(
        td.ShapeError, match=r"expected one task, got counts \(3, 2, 2\) of labels, then classes"
    ):
        metric.update([0, 1], [0, 1])
    scores = metrics.AUC(multi_class="ovr")
    scores.update(np.eye(3), [0, 1, 2])
    with pytest.raises(td.ShapeError, match=r"expected \(n, 3\) as before, got \(2, 4\)"):
        scores.update(np.zeros((2, 4)), [0, 1])
    outputs = metrics.MAE()
    outputs.update(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(td.ShapeError, match=r"expected \(3,\) outputs as before, got \(1,\)"):
        outputs.update(np.zeros(2), np.zeros(2))


def test_counts_stay_integers() -> None:
    matrix = metrics.confusion_matrix([0, 1], [0, 1])
    assert matrix.dtype == np.int64
    metric = metrics.ConfusionMatrix()
    metric.update([0, 1], [0, 1])
    metric.compute()[:] = 7  # the caller's own
    metric.update([2], [0])
    np.testing.assert_array_equal(metric.compute(), [[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    metric.update([2], [2], [0.5])
    assert metric.compute()[2, 2] == 0.5


# ---- Operating point, temperature


def test_the_operating_point_is_for_other_data() -> None:
    """Chosen on validation, used on the test set: the wanted sensitivity is not had there by definition."""
    point = metrics.operating_point([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], sensitivity=0.9)
    assert point == (0.35, 1.0, 0.5)
    test = np.array([0.2, 0.34, 0.5, 0.9])
    assert metrics.sensitivity(test >= point.threshold, [0, 1, 1, 1]) == pytest.approx(2 / 3)
    nothing = metrics.operating_point([0.9, 0.1], [0, 1], specificity=1.0)
    assert nothing == (np.inf, 0.0, 1.0)
    # 4 · 0.3 of 5 · 0.3 are 0.8 less one bit
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.1]), [1, 1, 1, 1, 1, 0]
    found = metrics.operating_point(scores, labels, sensitivity=0.8, sample_weight=np.full(6, 0.3))
    assert found.threshold == 0.6


def test_temperature_undoes_a_temperature() -> None:
    generator = np.random.default_rng(0)
    z = generator.normal(size=(4000, 5)) * 2
    gumbel = -np.log(-np.log(generator.random(z.shape)))
    t = (z + gumbel).argmax(1)  # drawn from softmax(z)
    assert metrics.fit_temperature(z, t) == pytest.approx(1, abs=0.05)
    fitted = metrics.fit_temperature(3 * z, t)
    assert fitted == pytest.approx(3 * metrics.fit_temperature(z, t), rel=1e-12)
    assert metrics.fit_temperature(z + 1000.0, t) == pytest.approx(fitted / 3, rel=1e-9)
    assert metrics.fit_temperature(1e6 * z, t) == pytest.approx(1e6 * fitted / 3, rel=1e-12)
    assert metrics.fit_temperature(1e-6 * z, t) == pytest.approx(1e-6 * fitted / 3, rel=1e-12)

    def error(logits: np.ndarray) -> float:
        e = np.exp(logits - logits.max(1, keepdims=True))
        return metrics.calibration_error(e / e.sum(1, keepdims=True), t)

    assert error(3 * z) > 0.1
    assert error(3 * z / fitted) < 0.03


def test_temperature_in_closed_form() -> None:
    """Logits ± a, right in a share q: q = sigmoid(a / T)."""
    z = np.array([2.0] * 9 + [-2.0] * 3)
    t = (z > 0) ^ (np.arange(12) % 4 == 0)
    q = np.mean((z > 0) == t)
    assert metrics.fit_temperature(z, t) == pytest.approx(2 / np.log(q / (1 - q)), rel=1e-13)


# ---- Intervals


def test_wilson_at_the_ends_and_a_known_value() -> None:
    assert metrics.wilson(0, 10)[:2] == (0, 0)
    assert metrics.wilson(0, 10).high == pytest.approx(1.959963984540054**2 / (10 + 1.959963984540054**2))
    assert metrics.wilson(10, 10)[::2] == (1, 1)
    # R: prop.test(8, 10, correct = FALSE)
    assert metrics.wilson(8, 10) == pytest.approx((0.8, 0.4901625, 0.9433178), abs=5e-8)


def test_mcnemar_of_many_samples_and_of_none() -> None:
    """2 ** 3000 is no float; the sum of the tail is exact."""
    t = np.zeros(3000, int)
    first = (np.arange(3000) < 1400).astype(int)
    found = metrics.mcnemar(first, 1 - first, t)
    assert (found.only_first, found.only_second, found.statistic) == (1600, 1400, 1400)
    normal = 2 * NormalDist().cdf(-(200 - 1) / 3000**0.5)
    assert found.pvalue == pytest.approx(normal, rel=0.02)
    for exact in (True, False):
        assert metrics.mcnemar([0, 1], [0, 1], [0, 0], exact=exact).pvalue == 1.0


def draw(generator: np.random.Generator, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two scores of one AUC, Φ(1 / √2), correlated, and labels."""
    t = np.arange(n) % 2
    shared = generator.normal(size=n) * 0.8
    first, second = (t + shared + 0.6 * generator.normal(size=n) for _ in range(2))
    return first, second, t


def test_delong_covers_and_rejects_as_often_as_it_says() -> None:
    truth = NormalDist().cdf(1 / 2**0.5)
    generator, runs, hits, rejected = np.random.default_rng(0), 600, 0, 0
    for _ in range(runs):
        first, second, t = draw(generator)
        interval = metrics.delong(first, t)
        hits += interval.low <= truth <= interval.high
        rejected += metrics.delong_test(first, second, t).pvalue < 0.05
    assert 0.92 < hits / runs < 0.975
    assert 0.02 < rejected / runs < 0.08


def test_delong_is_paired() -> None:
    """Two models that agree are told apart where two intervals overlap."""
    first, _, t = draw(np.random.default_rng(1), 200)
    better = first + 0.3 * t
    found, back = metrics.delong_test(better, first, t), metrics.delong_test(first, better, t)
    assert found.pvalue < 0.05
    assert metrics.delong(first, t).high > metrics.delong(better, t).low
    assert (back.difference, back.z, back.pvalue) == (-found.difference, -found.z, found.pvalue)


def test_the_bootstrap_is_a_function_of_its_seed() -> None:
    x = np.arange(12.0) ** 2
    first = metrics.bootstrap(np.mean, x, seed=3, resamples=200)
    assert first == metrics.bootstrap(np.mean, td.tensor(x), seed=3, resamples=200)
    assert first != metrics.bootstrap(np.mean, x, seed=4, resamples=200)
    words = np.random.Philox(key=np.array([3, 0], np.uint64)).random_raw(200 * 12).reshape(200, 12)
    means = [np.mean([x[int(word) * 12 >> 64] for word in row]) for row in words]
    assert first == pytest.approx((x.mean(), *np.percentile(means, [2.5, 97.5])), abs=1e-9)


def test_the_bootstrap_resamples_arrays_together() -> None:
    first, second, t = draw(np.random.default_rng(2), 60)

    def difference(a: Any, b: Any, y: Any) -> float:
        return metrics.auc(a, y) - metrics.auc(b, y)

    same = metrics.bootstrap(difference, first, first, t, resamples=100, stratify=t)
    assert same == (0, 0, 0)
    found = metrics.bootstrap(difference, first, second, t, resamples=1000, stratify=t)
    test = metrics.delong_test(first, second, t)
    assert found.high - found.low == pytest.approx(2 * 1.96 * test.error, rel=0.15)


def test_a_rare_class_is_missing_from_plain_resamples_only() -> None:
    scores, t = np.linspace(0, 1, 20), np.arange(20) == 13
    with pytest.warns(metrics.UndefinedMetricWarning, match=r"undefined in \d+ of 200 resamples") as caught:
        metrics.bootstrap(metrics.auc, scores, t, resamples=200)
    assert len(caught) == 1
    interval = metrics.bootstrap(metrics.auc, scores, t, resamples=200, stratify=t)
    assert interval.low <= interval.estimate <= interval.high
