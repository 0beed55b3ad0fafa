"""Seeing a network: pictures of what it holds, of what it looks at, and of how it was trained.

The pictures need matplotlib (the `examples` extra), and never a display. Most take arrays; the functions that
compute these from a model are those of `tinydl.inspection`, which needs no matplotlib, and are named here
too:

    viz.mosaic(viz.filters(model, "conv1"))
    viz.attribution_sheet(x, {"guided": viz.guided_backpropagation(model, x)})
"""

from __future__ import annotations

from .. import inspection as _inspection
from ..inspection import *
from .calibration import reliability_diagram
from .classes import confusion_matrix, embedding_map
from .experiment import learning_curves, misclassified, save
from .schedules import schedule
from .sheets import attribution_sheet, augmentation_sheet, mosaic
from .surfaces import loss_contours
from .tape import tape

__all__ = [
    "attribution_sheet",
    "augmentation_sheet",
    "confusion_matrix",
    "embedding_map",
    "learning_curves",
    "loss_contours",
    "misclassified",
    "mosaic",
    "reliability_diagram",
    "save",
    "schedule",
    "tape",
]
__all__ += _inspection.__all__
