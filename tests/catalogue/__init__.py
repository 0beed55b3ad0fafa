"""The catalogue: a row for every public differentiable function, every primitive,
and every layer in both modes.

test_catalogue.py walks it and says what is left out. To add an operation, add a
row to the file of its family:

    Row("logsumexp", lambda x: td.logsumexp(x, 1), [[(3, 4)], [(2, 1)]], lambda x: ref.logsumexp(x, 1))

A *sample* lists the inputs: a shape stands for normal numbers, a function of a NumPy generator for anything
else (row.py). The first sample is the usual case; the others are empty, of size one, or otherwise on an edge.
The reference is NumPy's or SciPy's, or stands in references.py. What has no derivative is listed in
tests/no_derivative.txt instead. Every public name has at least one bad input with its message: in its row
where the row's call can say it, else in refusals.py (functions) or refusals_layers.py (layers and utilities
of nn), where a line is an idea and names the functions that share it.
"""

from . import (
    arithmetic,
    arranging,
    choices,
    conv,
    distributed,
    elementwise,
    embedding,
    functions,
    image_layers,
    indexing,
    layers,
    linalg,
    loss,
    loss_layers,
    margins,
    norm,
    pool,
    recurrent,
    reduce,
    refusals,
    refusals_layers,
    resizing,
    shape,
    transformer_layers,
    utilities,
    views,
)
from .row import Refusal as Refusal
from .row import Row as Row

FAMILIES = (
    arithmetic,
    arranging,
    choices,
    margins,
    elementwise,
    functions,
    shape,
    views,
    indexing,
    embedding,
    reduce,
    linalg,
    conv,
    pool,
    norm,
    loss,
    layers,
    recurrent,
    transformer_layers,
    loss_layers,
    image_layers,
    resizing,
    utilities,
    distributed,
)
REFUSALS: list[Refusal] = [*refusals.REFUSALS, *refusals_layers.REFUSALS]
ROWS: list[Row] = [row for family in FAMILIES for row in family.ROWS]
