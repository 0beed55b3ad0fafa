"""Statistics over seeds and folds, what may be claimed, tables of runs, results with their environment."""

from .cells import CellError, read_cells, run_cells
from .claims import Claim, claims, reproduction
from .looks import Looks, SecondLookError
from .loop import descend, error_rate
from .predictions import Predictions
from .program import program_images, program_options, run_program
from .report import environment, markdown_table, write_json
from .runs import differences, draw_runs, train
from .statistics import (
    Comparison,
    Difference,
    Estimate,
    compare,
    estimate,
    paired_difference,
    t_probability,
    t_quantile,
)
from .tables import Outcome, Study, Table, choose
from .validation import CrossValidation, cross_validate
from .walk import beale, recurrent_cliff, walk
