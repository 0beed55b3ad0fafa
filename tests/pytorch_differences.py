"""Where tinydl differs from PyTorch 2.13, so far as the comparisons see it: the list may only shrink.

A difference that is not listed fails a test, and so does a listed one that is none any more.
"""

from __future__ import annotations

from typing import NamedTuple

# ---- Signatures, held by test_signatures.py

WITHOUT_MEANING = {
    *("out", "layout", "device", "force", "pin_memory", "memory_format", "inplace", "names"),
    *("size_average", "reduce", "_stacklevel", "foreach", "driver", "sparse"),
}
"""Parameters that are not compared: without meaning here, deprecated there, or (`device`) left to `to`."""

OWN = {"generator", "dtype", "requires_grad"}
"""Ours in addition where PyTorch has none: the source of random numbers, the dtype of a layer."""


class Signature(NamedTuple):
    names: str  # below tinydl, or a method
    what: str  # as the comparison words it
    why: str


DOCUMENTED_OTHERWISE = "PyTorch takes our name; its documentation has another."
TWO_FORMS = "Two of PyTorch's forms in one signature."

SIGNATURES: list[Signature] = [
    Signature("meshgrid", "indexing: default 'ij', PyTorch's None", "PyTorch means 'ij' and warns."),
    Signature(
        "nn.checkpoint",
        "use_reentrant is missing",
        "A segment is always run again, without reentrance; there is nothing to choose.",
    ),
    Signature(
        "nn.checkpoint",
        "context_fn is missing",
        "A segment is always run again, without reentrance; there is nothing to choose.",
    ),
    Signature(
        "nn.checkpoint",
        "determinism_check is missing",
        "A segment is always run again, without reentrance; there is nothing to choose.",
    ),
    Signature(
        "nn.checkpoint",
        "debug is missing",
        "A segment is always run again, without reentrance; there is nothing to choose.",
    ),
    Signature(
        "nn.checkpoint",
        "early_stop is missing",
        "A segment is always run again, without reentrance; there is nothing to choose.",
    ),
    Signature("linalg.norm linalg.vector_norm linalg.matrix_norm", "dtype is missing", "Cast the input."),
    Signature("Tensor.random_", "from is missing", "A word of Python: from_."),
    Signature("Tensor.random_", "from_ is none of PyTorch's", "A word of Python: from_."),
    Signature("nn.checkpoint", "** is missing", "Arguments of the segment are not there yet."),
    Signature("Tensor.to", "* is none of PyTorch's", "Its forms are told apart by what is given."),
    Signature(
        "randperm softmax log_softmax softmin mean norm Tensor.mean Tensor.norm "
        "Tensor.softmax Tensor.log_softmax",
        "dtype is missing",
        "Cast the input, or the result.",
    ),
    Signature("Tensor.cuda", "non_blocking is missing", "Copies from host memory wait."),
    Signature("nn.Hardtanh", "min_value is missing", "Deprecated in PyTorch."),
    Signature("nn.Hardtanh", "max_value is missing", "Deprecated in PyTorch."),
    Signature(
        "topk Tensor.topk kthvalue Tensor.kthvalue",
        "dim: default -1, PyTorch's None",
        "PyTorch takes the last one.",
    ),
    Signature(
        "Tensor.softmax",
        "dim: default None, PyTorch's none",
        "The functions have a default.",
    ),
    Signature(
        "squeeze Tensor.squeeze", "dim: default None, PyTorch's none", "PyTorch has a form without dim."
    ),
    Signature("gather Tensor.gather", "sparse_grad is missing", "There are no sparse gradients."),
    Signature(
        "arange zeros_like ones_like full_like empty_like rand_like randn_like randint randperm",
        "requires_grad is missing",
        "Written x.requires_grad_().",
    ),
    Signature("Tensor.uniform_", "from is missing", "A word of Python: from_."),
    Signature("Tensor.uniform_", "from_ is none of PyTorch's", "A word of Python: from_."),
    Signature("max min Tensor.max Tensor.min", "other is none of PyTorch's", TWO_FORMS),
    Signature(
        "median nanmedian Tensor.median Tensor.nanmedian", "dim: default None, PyTorch's -1", TWO_FORMS
    ),
    Signature("cdist", "compute_mode is missing", "There is one way, the exact one."),
    Signature("searchsorted", "input is none of PyTorch's", "Its documentation says values, its code input."),
    Signature("searchsorted", "values is missing", "Its documentation says values, its code input."),
    Signature("repeat_interleave", "repeats: default None, PyTorch's none", TWO_FORMS),
    Signature("arange", "start: default none, PyTorch's 0", TWO_FORMS),
    Signature("arange", "end: default None, PyTorch's none", TWO_FORMS),
    Signature("randint", "high: default None, PyTorch's none", TWO_FORMS),
    Signature("randint", "size: default None, PyTorch's none", TWO_FORMS),
    Signature("bernoulli", "p is none of PyTorch's", TWO_FORMS),
    Signature("normal", "size is none of PyTorch's", TWO_FORMS),
    Signature("normal", "std: default 1.0, PyTorch's none", TWO_FORMS),
    Signature("var std var_mean std_mean Tensor.var Tensor.std", "unbiased is none of PyTorch's", TWO_FORMS),
    Signature("var std var_mean std_mean", "the order is not input, dim, correction, keepdim", TWO_FORMS),
    Signature(
        "var std var_mean std_mean Tensor.var Tensor.std",
        "correction: default None, PyTorch's 1",
        TWO_FORMS,
    ),
    Signature("scatter Tensor.scatter Tensor.scatter_", "value is none of PyTorch's", TWO_FORMS),
    Signature("scatter Tensor.scatter", "src: default None, PyTorch's none", TWO_FORMS),
    *(
        Signature(names, f"{what} PyTorch's" if what.endswith("of") else what, DOCUMENTED_OTHERWISE)
        for names, *both in (
            ("Tensor.remainder_ Tensor.fmod_", "other is none of", "divisor is missing"),
            ("Tensor.index_copy_", "source is none of", "tensor is missing"),
            ("Tensor.floor_divide_", "other is none of", "value is missing"),
            ("Tensor.bitwise_and_ Tensor.bitwise_or_ Tensor.bitwise_xor_", "other is none of"),
        )
        for what in both
    ),
    Signature("Tensor.atanh_", "other is missing", "Of one tensor, whatever its documentation says."),
    Signature("Tensor.logit_", "eps is none of PyTorch's", DOCUMENTED_OTHERWISE),
    Signature("Tensor.type", "** is missing", "An old keyword of PyTorch's that warns."),
    Signature("Tensor.stride", "dim: default None, PyTorch's none", "Documented without."),
    Signature("Tensor.var Tensor.std", "the order is not dim, correction, keepdim", TWO_FORMS),
]

# ---- Values, held by test_catalogue_against_pytorch.py


class Limit(NamedTuple):
    order: int  # up to which the derivatives agree
    tolerance: float  # relative, in float64
    why: str


NO_SECOND = "PyTorch has no second derivative."
FLASH = "PyTorch's attention without weights has no second derivative."
VALUES: dict[str, Limit] = {
    "multi_margin_loss MultiMarginLoss": Limit(1, 1e-10, NO_SECOND),
    "multilabel_margin_loss MultiLabelMarginLoss cdist": Limit(1, 1e-10, NO_SECOND),
    "ctc_loss CTCLoss": Limit(1, 1e-10, NO_SECOND),
    "hardsigmoid Hardsigmoid": Limit(1, 1e-7, "PyTorch has no second derivative, and constants of float32."),
    "celu CELU": Limit(2, 1e-7, "PyTorch has constants of float32."),
    "TransformerEncoderLayer TransformerDecoderLayer TransformerEncoder TransformerDecoder": Limit(
        1, 1e-10, FLASH
    ),
    "Transformer": Limit(1, 1e-10, FLASH),
    "floor_divide bincount": Limit(0, 1e-10, "PyTorch has no derivative."),
    "lgamma digamma polygamma": Limit(2, 1e-5, "PyTorch's polygamma is good to six digits."),
}


def limit(name: str, tolerance: float = 1e-10) -> tuple[int, float]:
    """Up to which order and tolerance a name agrees, of the second order and this tolerance."""
    found = next((limit for names, limit in VALUES.items() if name in names.split()), Limit(2, tolerance, ""))
    return found.order, max(found.tolerance, tolerance)


# ---- Rows of the catalogue, held by test_catalogue_against_pytorch.py

DRAWS = "Each draws numbers of its own."
APART: dict[str, str] = {
    **dict.fromkeys(
        ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "gumbel_softmax", "normal"), DRAWS
    ),
    **dict.fromkeys(
        (f"nn.{x} train" for x in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout")), DRAWS
    ),
    **dict.fromkeys(("nn.Conv2d train odd", "nn.Conv2d eval odd"), "Padding by side is ours alone."),
    **dict.fromkeys(
        ("nn.DataParallel train", "nn.DataParallel eval"), "PyTorch's takes no state from functional_call."
    ),
    **dict.fromkeys(
        ("index_copy", "scatter twice"),
        "Places that are written twice: PyTorch gives the gradient to each who wrote.",
    ),
    **dict.fromkeys(
        ("nn.CTCLoss train", "nn.CTCLoss eval"),
        "PyTorch's gradient is that through a log_softmax, whatever the input.",
    ),
    "embedding_bag weights": NO_SECOND,
    "affine_grid of nothing": "PyTorch refuses it.",
    "quantile several": "PyTorch takes no list.",
    "linalg.qr r": "PyTorch keeps no Q to differentiate by.",
    "nn.checkpoint": "PyTorch's default, with reentrance, does not serve torch.autograd.grad.",
    "nn.weight_norm": "Its row runs on a backend of tinydl.",
}
"""Rows that PyTorch cannot run or answers otherwise, and why."""

STILL: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("soft_margin_loss", "nn.SoftMarginLoss train", "nn.SoftMarginLoss eval"), (1,)),
    "batch_norm running": (1, 2),
}
"""Inputs of rows, by their places, through which PyTorch has no gradient."""


# ---- Keywords, held by comparisons.py


class Untried(NamedTuple):
    names: str
    keywords: str
    why: str


UNTRIED: list[Untried] = [
    Untried("gumbel_softmax", "eps", DRAWS),
    Untried("scaled_dot_product_attention", "dropout_p", DRAWS),
    Untried("nn.init.kaiming_normal_", "a", DRAWS),
    Untried("nn.init.trunc_normal_", "mean", DRAWS),
    Untried("nn.SyncBatchNorm", "process_group", "It needs several processes."),
    Untried(
        "nn.ConvTranspose1d nn.ConvTranspose2d nn.ConvTranspose3d", "padding_mode", "There is one value."
    ),
    Untried("nn.DataParallel", "device_ids output_device dim", "They need several devices."),
]
"""Keywords that no comparison gives a value that is not their default."""


# ---- Kinds of inputs, held by test_pytorch_inputs.py


class Input(NamedTuple):
    names: str
    kind: str
    outcome: str
    why: str


INTEGERS = "Integers become float32, as with a Python float; PyTorch has no kernel."
NETWORKS = "What is made for networks takes floating tensors of one dtype; PyTorch has some such kernels."
WRAPS = "PyTorch negates or subtracts in uint8, which wraps around."
WHOLE = "PyTorch cuts a fraction off the numbers beside the integers: 0.5 becomes 0."
SHAPES = "A shape that broadcasts by mistake is refused."
ORDER = "Which of equal values comes first is not promised."
NOTHING = "Of nothing there is a result."
EPSILON = "PyTorch adds 1e-12 to the squares, and a rank deficient matrix is as good as its rounding."
GUESSED = "PyTorch guesses what the dims are, and warns."
MARGINS = "Margins of the last dims are the same under any dims, of any dtype; PyTorch has a few kernels."
MARGIN_LAYERS = " ".join(f"{kind}Pad{axes}d" for kind in ("Reflection", "Replication") for axes in (1, 2, 3))
UNREAD = "PyTorch gives gradients only where src has the shape of the index."
REFUSED, COMPUTED = "ours refuses", "theirs refuses"
LOSSES = (
    "soft_margin_loss multilabel_soft_margin_loss kl_div mse_loss l1_loss smooth_l1_loss huber_loss "
    "hinge_embedding_loss poisson_nll_loss"
)
ACTIVATIONS = "logsigmoid leaky_relu prelu gelu silu mish softplus glu"
CONVOLUTIONS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
OF_BOTH = (  # of integers and of booleans
    f"{ACTIVATIONS} PReLU Hardsigmoid Hardswish round logaddexp frac hypot lerp addcdiv meshgrid mean var "
    "std var_mean std_mean cross cross_entropy nll_loss kl_div mse_loss l1_loss smooth_l1_loss huber_loss "
    "binary_cross_entropy binary_cross_entropy_with_logits gaussian_nll_loss multi_margin_loss "
    "cosine_similarity soft_margin_loss multilabel_soft_margin_loss multilabel_margin_loss embedding_bag "
    "addmm baddbmm"
)
INPUTS: list[Input] = [
    Input(f"{LOSSES} linear", "0-d", REFUSED, SHAPES),
    Input("multilabel_soft_margin_loss clip cosine_embedding_loss", "0-d", COMPUTED, NOTHING),
    Input(
        f"{LOSSES} tensordot take_along_dim linear cosine_embedding_loss triplet_margin_loss ctc_loss",
        "broadcast",
        REFUSED,
        SHAPES,
    ),
    Input("Softmax Softmin Dropout2d Dropout3d", "rank", REFUSED, GUESSED),
    Input("Dropout2d Dropout3d", "0-d", REFUSED, GUESSED),
    Input(f"{MARGIN_LAYERS} CircularPad1d CircularPad2d CircularPad3d", "rank", COMPUTED, MARGINS),
    Input(MARGIN_LAYERS, "bool", COMPUTED, MARGINS),
    Input("clip scatter scatter_add scatter_reduce", "broadcast", COMPUTED, UNREAD),
    Input("scatter_reduce", "broadcast", "other values", UNREAD),
    Input("tensordot take_along_dim linear cosine_embedding_loss", "one", REFUSED, SHAPES),
    Input("linalg.cholesky cholesky cosine_embedding_loss", "one", "other values", EPSILON),
    Input(
        "quantile multilabel_margin_loss pixel_shuffle pixel_unshuffle norm conv1d conv2d conv3d affine_grid "
        "EmbeddingBag InstanceNorm1d InstanceNorm2d InstanceNorm3d",
        "empty",
        COMPUTED,
        NOTHING,
    ),
    Input(
        "multilabel_margin_loss multi_margin_loss", "empty", "other values", "PyTorch reads no man's land."
    ),
    Input("GroupNorm", "empty", "other values", "PyTorch's gradient by the weight is NaN of nothing, not 0."),
    Input("BatchNorm1d", "empty", REFUSED, "PyTorch does not count channels where there is nothing."),
    Input("bincount", "empty", "another dtype", "PyTorch forgets the weights where there is nothing."),
    Input(f"{OF_BOTH} elu selu celu hardtanh hinge_embedding_loss", "integer", COMPUTED, INTEGERS),
    Input("linalg.matrix_norm", "integer", COMPUTED, INTEGERS),
    Input("addmm baddbmm addcmul threshold Hardtanh", "integer", "another dtype", WHOLE),
    Input(
        "pairwise_distance margin_ranking_loss soft_margin_loss multilabel_soft_margin_loss atan2 l1_loss",
        "integer",
        "other values",
        WRAPS,
    ),
    Input("topk", "integer", "other values", ORDER),
    Input(
        f"{CONVOLUTIONS} max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d "
        "lp_pool3d linear bilinear einsum matrix_power linalg.matrix_power interpolate rms_norm "
        "local_response_norm LocalResponseNorm AvgPool1d UpsamplingNearest2d UpsamplingBilinear2d "
        "parameters_to_vector",
        "integer",
        REFUSED,
        NETWORKS,
    ),
    Input(
        f"{OF_BOTH} sub kthvalue median nanmedian pairwise_distance tensordot margin_ranking_loss pow clip "
        "atan2 addcmul threshold trace topk matmul mm bmm mv dot einsum triplet_margin_loss argmax argmin "
        "searchsorted one_hot",
        "bool",
        COMPUTED,
        "Booleans are 0 and 1 in arithmetic.",
    ),
    Input(
        "conv_transpose1d conv_transpose2d lp_pool1d lp_pool2d lp_pool3d unfold fold Unfold Fold rms_norm "
        "einsum linalg.matrix_power parameters_to_vector",
        "bool",
        REFUSED,
        NETWORKS,
    ),
    Input("sign index_add mse_loss poisson_nll_loss", "bool", REFUSED, "Booleans have no sign."),
    Input(
        "einsum conv_transpose1d conv_transpose2d rms_norm RMSNorm parameters_to_vector",
        "float32",
        REFUSED,
        NETWORKS,
    ),
    Input(
        "lerp prelu PReLU meshgrid cross cross_entropy huber_loss binary_cross_entropy",
        "float32",
        COMPUTED,
        "The wider dtype is the result's.",
    ),
    Input(
        "soft_margin_loss binary_cross_entropy_with_logits cross_entropy",
        "float32",
        "another dtype",
        "That of soft_margin_loss and the binary one is the wider dtype, that of cross_entropy the logits'.",
    ),
]
"""What a function or layer does with a kind of input, if it is not what PyTorch does: all rows together. A
layer that is a function with its settings does what its function does, too.
"""

CRASHES = {
    *(("embedding_bag", kind) for kind in ("0-d", "empty", "one", "broadcast")),
    *(("scaled_dot_product_attention", kind) for kind in ("empty", "broadcast")),
}
"""PyTorch ends the process: it divides by no heads, and reads beyond offsets."""
