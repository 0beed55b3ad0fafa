"""tinydl: a small neural engine on NumPy and CuPy. PyTorch's names, NumPy's manners, gradients of every
order.

The flat names are what the families of `ops` list in `__all__`, and the names below. Rooms above the calculus
are imported when they are first named: `import tinydl` stays quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

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

from . import ops
from .engine.backward import grad
from .engine.core import Tensor, enable_grad, no_grad
from .engine.public import public as _public
from .gradcheck import GradcheckError, gradcheck
from .ops.activations import *
from .ops.attention import *
from .ops.conv import *
from .ops.creation import *
from .ops.ctc import *
from .ops.elementwise import *
from .ops.embedding import *
from .ops.functions import *
from .ops.indexing import *
from .ops.loss import *
from .ops.matmul import *
from .ops.norm import *
from .ops.padding import *
from .ops.pool import *
from .ops.products import *
from .ops.random import *
from .ops.reduce import *
from .ops.resample import *
from .ops.scan import *
from .ops.shape import *
from .ops.softmax import *
from .ops.sort import *
from .ops.statistics import *
from .ops.subscript import *
from .ops.unfold import *
from .record.recorder import record
from .version import __version__

if TYPE_CHECKING:
    from . import cuda, data, debug, interop, metrics, models, nn, optim, regularizers, study, training, viz
    from .functional import hessian, hvp, jacobian, jvp, vjp
    from .nn.module import functional_call

cast = _public(ops.elementwise.to_dtype, "cast")
float32, float64, int64, bool = "float32", "float64", "int64", "bool"

_ROOMS = {
    *("cuda", "data", "debug", "functional", "interop", "metrics", "models", "nn", "optim", "regularizers"),
    *("study", "training", "viz"),
}
_HOMES = dict.fromkeys(("hessian", "hvp", "jacobian", "jvp", "vjp"), "functional") | {
    "functional_call": "nn.module"
}


def __getattr__(name: str) -> Any:
    """A room, or a function that lives in one, imported now."""
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _HOMES:
        found = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_HOMES})
