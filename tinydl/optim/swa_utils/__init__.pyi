"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.nn.utils.statistics import update_bn as update_bn
from tinydl.optim.lr_scheduler.swalr import SWALR as SWALR
from tinydl.optim.swa_utils.averaged_model import AveragedModel as AveragedModel
from tinydl.optim.swa_utils.averaged_model import get_ema_avg_fn as get_ema_avg_fn
from tinydl.optim.swa_utils.averaged_model import get_ema_multi_avg_fn as get_ema_multi_avg_fn
from tinydl.optim.swa_utils.averaged_model import get_swa_avg_fn as get_swa_avg_fn
from tinydl.optim.swa_utils.averaged_model import get_swa_multi_avg_fn as get_swa_multi_avg_fn

__all__: list[str]
