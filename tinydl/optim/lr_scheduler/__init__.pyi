"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from tinydl.optim.lr_scheduler.chained import ChainedScheduler as ChainedScheduler
from tinydl.optim.lr_scheduler.constant import ConstantLR as ConstantLR
from tinydl.optim.lr_scheduler.cosine import CosineAnnealingLR as CosineAnnealingLR
from tinydl.optim.lr_scheduler.cyclic import CyclicLR as CyclicLR
from tinydl.optim.lr_scheduler.exponential import ExponentialLR as ExponentialLR
from tinydl.optim.lr_scheduler.inverse_time import InverseTimeLR as InverseTimeLR
from tinydl.optim.lr_scheduler.lambdas import LambdaLR as LambdaLR
from tinydl.optim.lr_scheduler.linear import LinearLR as LinearLR
from tinydl.optim.lr_scheduler.multi_step import MultiStepLR as MultiStepLR
from tinydl.optim.lr_scheduler.multiplicative import MultiplicativeLR as MultiplicativeLR
from tinydl.optim.lr_scheduler.one_cycle import OneCycleLR as OneCycleLR
from tinydl.optim.lr_scheduler.piecewise import PiecewiseConstant as PiecewiseConstant
from tinydl.optim.lr_scheduler.plateau import ReduceLROnPlateau as ReduceLROnPlateau
from tinydl.optim.lr_scheduler.polynomial import PolynomialLR as PolynomialLR
from tinydl.optim.lr_scheduler.schedule import LRScheduler as LRScheduler
from tinydl.optim.lr_scheduler.sequential import SequentialLR as SequentialLR
from tinydl.optim.lr_scheduler.step import StepLR as StepLR
from tinydl.optim.lr_scheduler.swalr import SWALR as SWALR
from tinydl.optim.lr_scheduler.warm_restarts import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from tinydl.optim.lr_scheduler.warmup_cosine import WarmupCosineLR as WarmupCosineLR

__all__: list[str]
