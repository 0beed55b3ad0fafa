"""tinydl: a small neural engine on NumPy and CuPy. PyTorch's names, NumPy's
manners, gradients of every order.
"""

import importlib
import types

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

from . import cuda, debug, nn, ops, optim, regularizers
from .engine.core import Tensor, enable_grad, grad, no_grad
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
from .ops.attention import scaled_dot_product_attention
from .ops.conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .ops.creation import (
    allclose,
    arange,
    as_tensor,
    empty,
    empty_like,
    equal,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from .ops.ctc import ctc_loss
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
from .ops.embedding import embedding
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
from .ops.indexing import (
    bincount,
    gather,
    index_select,
    masked_fill,
    masked_select,
    nonzero,
    one_hot,
    repeat_interleave,
    scatter,
    scatter_add,
    take_along_dim,
    tril,
    triu,
)
from .ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cosine_similarity,
    gaussian_nll_loss,
    hinge_embedding_loss,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    multi_margin_loss,
    nll_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    sum_of_squares,
    triplet_margin_loss,
)
from .ops.matmul import bilinear, linear, matmul
from .ops.norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
    rms_norm,
)
from .ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from .ops.products import bmm, cross, dot, einsum, kron, mm, mv, outer
from .ops.random import (
    Generator,
    alpha_dropout,
    bernoulli,
    default_generator,
    dropout,
    dropout1d,
    dropout2d,
    gaussian_noise,
    manual_seed,
    noise_generator,
    normal,
    rand,
    rand_beta,
    rand_gamma,
    rand_like,
    randint,
    randn,
    randn_like,
    random_from,
    randperm,
    remember,
    repeat,
)
from .ops.reduce import all, amax, amin, any, argmax, argmin, logsumexp, max, mean, min, sum
from .ops.resample import interpolate
from .ops.scan import cumprod, cumsum, prod
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
from .ops.softmax import cross_entropy, log_softmax, softmax, softmin
from .ops.sort import argsort, sort, topk, unique
from .ops.statistics import norm, std, var, var_mean
from .ops.unfold import fold, unfold
from .record.recorder import record
from .version import __version__

for _room in (globals(), vars(nn), vars(nn.init)):
    for _name, _function in list(_room.items()):
        if str(getattr(_function, "__module__", "")).startswith("tinydl."):
            _room[_name] = ops.public(_function)

add = ops.add
cast = ops.public(ops.elementwise.to_dtype, "cast")
concatenate = cat
clamp = clip
float32, float64, int64, bool = "float32", "float64", "int64", "bool"


def __getattr__(name: str) -> types.ModuleType:
    """Rooms above the engine are imported when they are first named."""
    if name in ("data", "interop", "models", "study", "training", "viz"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
