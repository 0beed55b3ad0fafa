"""Metrics: what a model is judged by, exactly, over whole data sets. On the host, in NumPy and float64.

Each metric is a function, `f1(prediction, target)`, and a class that is fed in pieces:

    metric = F1(average="macro")
    for x, y in loader:
        metric.update(model(x), y)
    metric.compute()  # of all samples, never the mean of the batches' values

Predictions come first, as in `td.cross_entropy`. What is undefined (0 / 0) is NaN, with one
UndefinedMetricWarning. The oracle is scikit-learn. One metric, or one family of them, is a file here with
`__all__`, and a row of tests/catalogue/metrics.py.
"""

from ..rooms import collect

__all__ = collect(__name__)
