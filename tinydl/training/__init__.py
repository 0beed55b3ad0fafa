"""Training: the trainer with its callbacks and history, checkpoints, bundles, ensembles, the finder of a
learning rate.
"""

from ..rooms import collect
from . import callbacks, checkpoint
from .callbacks import *

__all__ = [*collect(__name__), *callbacks.__all__, "callbacks", "checkpoint"]
