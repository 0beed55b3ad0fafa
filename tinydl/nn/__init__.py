"""Layers and networks. What each module lists in `__all__` is here."""

import importlib
import types
from typing import TYPE_CHECKING

from . import functional, init, utils
from .activation import *
from .attention import *
from .containers import *
from .convolution import *
from .dropout import *
from .embedding import *
from .extra_forward import *
from .linear import *
from .loss import *
from .module import *
from .normalization import *
from .parallel import *
from .parameter import *
from .pooling import *
from .recompute import *
from .recurrent import *
from .resizing import *
from .summary import *
from .transformer import *
from .utils import *

if TYPE_CHECKING:
    from .. import models
else:

    def __getattr__(name: str) -> types.ModuleType:
        """`nn.models` is another name of `tinydl.models`."""
        if name == "models":
            return importlib.import_module("tinydl.models")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
