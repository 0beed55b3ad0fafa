"""Exchange with other programs: `td.save` and `td.load` (saving), weights in files that other frameworks read
and write (weights), models from and to ONNX (onnx), scikit-learn's estimators (sklearn, imported by its
name).
"""

from . import onnx
from .weights import load_weights, save_weights
