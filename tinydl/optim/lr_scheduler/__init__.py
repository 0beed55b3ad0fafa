"""Schedules: a learning rate that depends on the step."""

from .piecewise import MultiStepLR, PiecewiseConstant
