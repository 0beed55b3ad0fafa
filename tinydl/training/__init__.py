"""What goes on around training steps: the trainer with its callbacks and history, checkpoints."""

from ..rooms import collect
from . import callbacks, checkpoint
from .callbacks import *

__all__ = [*collect(__name__), *callbacks.__all__, "callbacks", "checkpoint"]
