"""Made by tests/stubs.py of what is there at run time."""

# mypy: ignore-errors

from . import callbacks as callbacks
from . import checkpoint as checkpoint
from tinydl.training.bundle import Bundle as Bundle
from tinydl.training.bundle import Predictions as Predictions
from tinydl.training.bundle import load_bundle as load_bundle
from tinydl.training.bundle import save_bundle as save_bundle
from tinydl.training.callbacks.averaging import WeightAveraging as WeightAveraging
from tinydl.training.callbacks.callback import Callback as Callback
from tinydl.training.callbacks.early_stopping import EarlyStopping as EarlyStopping
from tinydl.training.callbacks.freezing import Freeze as Freeze
from tinydl.training.callbacks.gradients import ClipGradNorm as ClipGradNorm
from tinydl.training.callbacks.limits import TimeLimit as TimeLimit
from tinydl.training.callbacks.logs import Log as Log
from tinydl.training.callbacks.model_checkpoint import ModelCheckpoint as ModelCheckpoint
from tinydl.training.callbacks.nan_guard import DivergedError as DivergedError
from tinydl.training.callbacks.nan_guard import NaNGuard as NaNGuard
from tinydl.training.callbacks.picture import LivePlot as LivePlot
from tinydl.training.callbacks.progress import Progress as Progress
from tinydl.training.callbacks.rates import Schedule as Schedule
from tinydl.training.ensembles import Ensemble as Ensemble
from tinydl.training.ensembles import SnapshotEnsemble as SnapshotEnsemble
from tinydl.training.ensembles import TestTimeAugmentation as TestTimeAugmentation
from tinydl.training.ensembles import bagging as bagging
from tinydl.training.ensembles import out_of_bag as out_of_bag
from tinydl.training.history import History as History
from tinydl.training.rate_finder import RateTest as RateTest
from tinydl.training.rate_finder import find_learning_rate as find_learning_rate
from tinydl.training.trainer import Trainer as Trainer
from tinydl.training.tuning import Tuning as Tuning
from tinydl.training.tuning import tune as tune

__all__: list[str]
