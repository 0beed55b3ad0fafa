"""Metrics: what a model is judged by, exactly, over whole data sets. On the host, in NumPy and float64.

Each metric is a function, `f1(prediction, target)`, and a class that is fed in pieces:

    metric = F1(average="macro")
    for x, y in loader:
        metric.update(model(x), y)
    metric.compute()  # of all samples, never the mean of the batches' values

Predictions come first, as in `td.cross_entropy`. What is undefined (0 / 0) is NaN, with one
UndefinedMetricWarning. The oracle is scikit-learn.
"""

from __future__ import annotations

from . import calibration, classification, confusion, intervals, ranking, ratios, regression, segmentation
from .calibration import *  # noqa: F403
from .checks import UndefinedMetricWarning
from .classification import *  # noqa: F403
from .confusion import *  # noqa: F403
from .intervals import *  # noqa: F403
from .metric import Metric
from .ranking import *  # noqa: F403
from .ratios import *  # noqa: F403
from .regression import *  # noqa: F403
from .segmentation import *  # noqa: F403

__all__ = ["Metric", "UndefinedMetricWarning"]
__all__ += calibration.__all__
__all__ += classification.__all__
__all__ += confusion.__all__
__all__ += intervals.__all__
__all__ += ranking.__all__
__all__ += ratios.__all__
__all__ += regression.__all__
__all__ += segmentation.__all__
