"""Exchange with other programs: `td.save` and `td.load` (saving), weights in files that other frameworks read
and write (weights), scikit-learn's estimators (sklearn, imported by its name).
"""

from .weights import load_weights, save_weights
