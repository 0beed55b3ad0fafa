"""tinydl: a small neural engine on NumPy and CuPy. PyTorch's names, NumPy's manners, gradients of every
order.

The flat names are what the families of `ops` list in `__all__`, and the names below. Rooms above the calculus
are imported when they are first named: `import tinydl` stays quick.
"""

import importlib as _importlib
import math as _math
from typing import Any as _Any

import numpy as _numpy
from tinydl_kernels.cpu.threads import get_num_threads, set_num_threads
from tinydl_kernels.machine.dispatch import use as backend
from tinydl_kernels.machine.errors import (
    BackendError,
    DeviceError,
    DtypeError,
    GraphError,
    ShapeError,
    TinydlError,
)
from tinydl_kernels.machine.precision import get_float32_matmul_precision, set_float32_matmul_precision

from . import devices as _devices
from . import ops
from .engine.backward import grad
from .engine.core import Tensor, enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .engine.public import public as _public
from .gradcheck import GradcheckError, gradcheck
from .ops.activations import *
from .ops.arithmetic import *
from .ops.arranging import *
from .ops.attention import *
from .ops.bits import *
from .ops.channel_dropout import *
from .ops.choices import *
from .ops.conv import *
from .ops.creation import *
from .ops.ctc import *
from .ops.distances import *
from .ops.elementwise import *
from .ops.embedding import *
from .ops.functions import *
from .ops.generator import *
from .ops.grids import *
from .ops.indexing import *
from .ops.joining import *
from .ops.loss import *
from .ops.lp_pool import *
from .ops.margins import *
from .ops.matmul import *
from .ops.norm import *
from .ops.padding import *
from .ops.pool import *
from .ops.products import *
from .ops.random import *
from .ops.reduce import *
from .ops.reductions_by_index import *
from .ops.resample import *
from .ops.sampling import *
from .ops.scan import *
from .ops.second_names import *
from .ops.selection import *
from .ops.shape import *
from .ops.shrinkage import *
from .ops.softmax import *
from .ops.sort import *
from .ops.statistics import *
from .ops.subscript import *
from .ops.unfold import *
from .ops.views import *
from .record.recorder import record
from .version import __version__

cast = _public(ops.elementwise.to_dtype, "cast")
float32 = float = _numpy.dtype("float32")
float64 = double = _numpy.dtype("float64")
int8, int16, uint8 = (_numpy.dtype(name) for name in ("int8", "int16", "uint8"))
int32 = int = _numpy.dtype("int32")
int64 = long = _numpy.dtype("int64")
bool = _numpy.dtype("bool")
Size = tuple  # of which a shape is one
dtype, device, finfo, iinfo = _numpy.dtype, _devices.Device, _numpy.finfo, _numpy.iinfo
# What takes one of these ignores it: arrays are laid out row by row.
contiguous_format, preserve_format = "contiguous_format", "preserve_format"
channels_last, channels_last_3d = "channels_last", "channels_last_3d"
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e

_ROOMS = {
    *(
        "amp",
        "autograd",
        "backends",
        "cuda",
        "data",
        "debug",
        "distributed",
        "distributions",
        "func",
        "functional",
        "inspection",
        "interop",
        "linalg",
        "metrics",
        "models",
        "nn",
        "optim",
    ),
    *("regularizers", "study", "training", "utils", "viz"),
}
_HOMES = (
    dict.fromkeys(
        ("cholesky", "det", "inverse", "logdet", "matrix_power", "qr", "slogdet", "svd"), "decompositions"
    )
    | dict.fromkeys(
        ("grad_and_value", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "vjp", "vmap"),
        "functional",
    )
    | dict.fromkeys(
        (
            *("BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "IntTensor"),
            *("LongTensor", "ShortTensor"),
        ),
        "typed_tensors",
    )
    | {
        "autocast": "amp",
        "functional_call": "nn.module",
        "load": "interop.saving",
        "save": "interop.saving",
        "use_deterministic_algorithms": "backends",
    }
)


def __getattr__(name: str) -> _Any:
    """A room, or a function that lives in one, imported now."""
    if name in _ROOMS:
        return _importlib.import_module(f".{name}", __name__)
    if name in _HOMES:
        found = globals()[name] = getattr(_importlib.import_module(f".{_HOMES[name]}", __name__), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_HOMES})
