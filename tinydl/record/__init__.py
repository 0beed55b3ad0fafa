"""The recorder: a step becomes a list of kernel calls, and they are replayed."""

from .recorder import Recorded, record
