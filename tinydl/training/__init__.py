"""What a training run needs around its steps: checkpoints."""

from . import checkpoint
