"""Attacks: functions on a model that find inputs near given ones on which it is wrong.

ε, steps and bounds are in the units of the model's input; where a channel has its own, they are sequences of
one number per channel (axis 1). `bounds=None` clips nothing: normalized data lie outside [0, 1]. The model is
attacked in eval mode unless `mode` says otherwise, and left as it was: modes module by module, running
statistics, streams of random numbers (what is drawn comes from `generator`), `.grad`. Inputs come back
detached.
"""

from .bounded import fgsm, pgd
from .minimal import Minimal, cw, deepfool, lbfgs, universal

__all__ = ["Minimal", "cw", "deepfool", "fgsm", "lbfgs", "pgd", "universal"]
