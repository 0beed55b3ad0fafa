"""Optimizers, parameter groups, schedules."""

from .adam import Adam, AdamW
from .decay import decay_groups
from .optimizer import Optimizer
from .schedule import MultiStepLR, PiecewiseConstant
from .sgd import SGD
