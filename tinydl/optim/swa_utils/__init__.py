"""Averages of weights, by the names of torch.optim.swa_utils."""

from ...nn.utils.statistics import update_bn as update_bn
from ...rooms import collect
from ..lr_scheduler.swalr import SWALR as SWALR

__all__ = [*collect(__name__), "SWALR", "update_bn"]
