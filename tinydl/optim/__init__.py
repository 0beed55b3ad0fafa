"""Optimizers, parameter groups, schedules: the `__all__` of each module beside this one.

optimizer.py says how to write an optimizer; its file with `__all__` is all that this package needs.
"""

from ..rooms import collect
from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils

__all__ = collect(__name__)

PiecewiseConstant, MultiStepLR = lr_scheduler.PiecewiseConstant, lr_scheduler.MultiStepLR
