"""Statistics over seeds and folds, what may be claimed, tables of runs, results with their environment."""

from .cells import CellError, read_cells, run_cells
from .claims import Claim, claims, reproduction, t_interval, t_probability, t_quantile
from .looks import Looks, SecondLookError
from .predictions import Predictions
from .program import program_options, run_program
from .report import environment, markdown_table, write_json
from .statistics import Comparison, Difference, Estimate, compare, estimate, paired_difference
from .tables import Outcome, Study, Table, choose
from .validation import CrossValidation, cross_validate
