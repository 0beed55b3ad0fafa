"""What is done to layers and their parameters from outside."""

from . import parameters, reshaping, statistics, weight_normalization
from .parameters import *
from .reshaping import *
from .statistics import *
from .weight_normalization import *

__all__ = [*parameters.__all__, *reshaping.__all__, *statistics.__all__, *weight_normalization.__all__]
