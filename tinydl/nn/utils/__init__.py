"""What is done to layers and their parameters from outside."""

from . import gradients, parameters, reshaping, rnn, statistics, weight_normalization
from .gradients import *
from .parameters import *
from .reshaping import *
from .statistics import *
from .weight_normalization import *

__all__ = [
    *gradients.__all__,
    *parameters.__all__,
    *reshaping.__all__,
    *statistics.__all__,
    *weight_normalization.__all__,
]
