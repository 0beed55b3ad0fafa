"""Schedules: a learning rate that depends on the step, by PyTorch's names.

Every schedule is a file of its own; what its `__all__` names is found here.
"""

from ...rooms import collect

__all__ = collect(__name__)
