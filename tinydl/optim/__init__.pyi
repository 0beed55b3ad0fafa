"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils
from tinydl.optim.accumulation import micro_batches as micro_batches
from tinydl.optim.adabelief import AdaBelief as AdaBelief
from tinydl.optim.adadelta import Adadelta as Adadelta
from tinydl.optim.adafactor import Adafactor as Adafactor
from tinydl.optim.adagrad import Adagrad as Adagrad
from tinydl.optim.adam import Adam as Adam
from tinydl.optim.adam import AdamW as AdamW
from tinydl.optim.adamax import Adamax as Adamax
from tinydl.optim.asgd import ASGD as ASGD
from tinydl.optim.dadaptation import DAdaptAdam as DAdaptAdam
from tinydl.optim.dadaptation import DAdaptSGD as DAdaptSGD
from tinydl.optim.gradient_descent import Descent as Descent
from tinydl.optim.gradient_descent import GradientDescent as GradientDescent
from tinydl.optim.gradient_noise import GradientNoise as GradientNoise
from tinydl.optim.groups import decay_groups as decay_groups
from tinydl.optim.groups import layer_groups as layer_groups
from tinydl.optim.lamb import LAMB as LAMB
from tinydl.optim.lars import LARS as LARS
from tinydl.optim.lbfgs import LBFGS as LBFGS
from tinydl.optim.lion import Lion as Lion
from tinydl.optim.lookahead import Lookahead as Lookahead
from tinydl.optim.lr_scheduler.multi_step import MultiStepLR as MultiStepLR
from tinydl.optim.lr_scheduler.piecewise import PiecewiseConstant as PiecewiseConstant
from tinydl.optim.momentum import Momentum as Momentum
from tinydl.optim.muon import Muon as Muon
from tinydl.optim.nadam import NAdam as NAdam
from tinydl.optim.optimizer import Optimizer as Optimizer
from tinydl.optim.prodigy import Prodigy as Prodigy
from tinydl.optim.radam import RAdam as RAdam
from tinydl.optim.rmsprop import RMSprop as RMSprop
from tinydl.optim.rprop import Rprop as Rprop
from tinydl.optim.sam import ASAM as ASAM
from tinydl.optim.sam import SAM as SAM
from tinydl.optim.schedule_free import ScheduleFreeAdamW as ScheduleFreeAdamW
from tinydl.optim.schedule_free import ScheduleFreeSGD as ScheduleFreeSGD
from tinydl.optim.sgd import SGD as SGD
from tinydl.optim.shampoo import Shampoo as Shampoo
from tinydl.optim.soap import SOAP as SOAP

__all__: list[str]
