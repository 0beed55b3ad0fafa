"""What a training run needs around its steps: checkpoints, statistics over seeds, results with their environment."""

from . import checkpoint
from .report import environment, write_json
from .statistics import Comparison, Difference, Estimate, compare, estimate, paired_difference
