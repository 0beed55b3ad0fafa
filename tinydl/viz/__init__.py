"""Pictures of experiments. Needs matplotlib (the `examples` extra), and never a display."""

from __future__ import annotations

from .calibration import reliability_diagram
from .experiment import learning_curves, misclassified, save
from .schedules import schedule

__all__ = ["learning_curves", "misclassified", "reliability_diagram", "save", "schedule"]
