"""Optimizers, parameter groups, schedules."""

from .adam import Adam, AdamW
from .groups import decay_groups
from .lr_scheduler.multi_step import MultiStepLR
from .lr_scheduler.piecewise import PiecewiseConstant
from .optimizer import Optimizer
from .sgd import SGD
