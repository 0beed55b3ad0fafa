"""Exchange with other programs: `td.save` and `td.load` (saving), weights in files that other frameworks read
and write (weights, keras, pickled, fitting), models from and to ONNX (onnx), scikit-learn's perceptrons
(coefficients) and estimators (sklearn, imported by its name).
"""

from . import onnx
from .coefficients import from_sklearn
from .fitting import Fitted, cut, fit_weights
from .keras import from_keras
from .weights import load_weights, save_weights
