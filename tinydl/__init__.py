"""tinydl: a small neural engine on NumPy and CuPy. PyTorch's names, NumPy's manners, gradients of every order."""

from tinydl_kernels.dispatch import use as backend
from tinydl_kernels.errors import BackendError, DeviceError, DtypeError, GraphError, ShapeError, TinydlError

from . import debug, nn, ops, optim, regularizers
from .core import Tensor, enable_grad, grad, no_grad
from .functional import hessian, hvp, jacobian, jvp, vjp
from .gradcheck import GradcheckError, gradcheck
from .nn.module import functional_call
from .ops.activations import (
    celu,
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    maxout,
    mish,
    prelu,
    relu6,
    selu,
    silu,
    softplus,
    softsign,
    threshold,
)
from .ops.conv import conv2d
from .ops.creation import arange, as_tensor, from_numpy, full, ones, ones_like, tensor, zeros, zeros_like
from .ops.elementwise import (
    abs,
    clip,
    clone,
    div,
    eq,
    exp,
    ge,
    gt,
    isfinite,
    le,
    log,
    logical_and,
    logical_not,
    logical_or,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    pow,
    relu,
    sigmoid,
    sign,
    sqrt,
    square,
    sub,
    tanh,
    where,
)
from .ops.functions import (
    acos,
    acosh,
    addcdiv,
    addcmul,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    cos,
    cosh,
    digamma,
    erf,
    erfc,
    exp2,
    expm1,
    floor,
    hypot,
    isinf,
    isnan,
    lerp,
    lgamma,
    log1p,
    log2,
    log10,
    logical_xor,
    logsigmoid,
    polygamma,
    reciprocal,
    round,
    rsqrt,
    sin,
    sinh,
    tan,
    trunc,
)
from .ops.linalg import linear, matmul
from .ops.loss import cross_entropy, log_softmax, softmax
from .ops.norm import batch_norm
from .ops.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from .ops.random import (
    Generator,
    bernoulli,
    default_generator,
    dropout,
    manual_seed,
    rand,
    randint,
    randn,
    random_from,
    remember,
    repeat,
)
from .ops.reduce import amax, amin, argmax, logsumexp, max, mean, min, sum
from .ops.shape import (
    broadcast_tensors,
    broadcast_to,
    cat,
    chunk,
    diag,
    diagonal,
    flatten,
    flip,
    meshgrid,
    movedim,
    narrow,
    pad,
    permute,
    pixel_shuffle,
    pixel_unshuffle,
    reshape,
    roll,
    rot90,
    split,
    squeeze,
    stack,
    tile,
    transpose,
    unbind,
    unsqueeze,
)
from .record import record
from .version import __version__

add = ops.add
concatenate = cat
clamp = clip
float32, float64, int64, bool = "float32", "float64", "int64", "bool"
