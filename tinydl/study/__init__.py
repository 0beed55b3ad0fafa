"""Statistics over seeds and folds, results with their environment."""

from .cells import CellError, run_cells
from .loop import descend, error_rate
from .program import program_images, program_options, run_program
from .report import environment, write_json
from .statistics import Comparison, Difference, Estimate, compare, estimate, paired_difference
from .validation import CrossValidation, cross_validate
from .walk import beale, recurrent_cliff, walk
