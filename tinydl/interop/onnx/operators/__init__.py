"""The operators of the ai.onnx domain, one function each, by families.

To add one, write a function in its family's file under `@operator(name)`: `node` has the attributes, the
opset and the number of outputs; ONNX's own tests then run its cases.
"""

from . import (
    attention,
    elementwise,
    norms,
    quantized,
    recurrent,
    reductions,
    sampling,
    shapes,
    signals,
    windows,
)
from .elementwise import DTYPES
from .table import (
    FLOATS,
    REFUSED,
    TABLE,
    Node,
    Operator,
    UnsupportedError,
    is_floating,
    missing,
    on_host,
    value,
)
