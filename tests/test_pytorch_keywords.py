"""Every keyword of functions and layers at a value that is not its default: values, first and second
derivatives, those of parameters too, in float64, in float32 on the kernels of the processor, and recorded.
comparisons.py says which keywords are left.

A line is an expression of `t`, `nn`, `F` and `init`, tinydl's or PyTorch's, and of the arrays that it names
in capitals; `made(layer)` fills a layer with the same numbers in both.
"""

from __future__ import annotations

import ast
import re
import types
from typing import Any

import numpy as np
import pytest
from agreement import Held, Made, assert_agree_everywhere, single
from comparisons import comparison
from pytorch_differences import limit

import tinydl as td

pytestmark = [
    pytest.mark.torch,
    pytest.mark.usefixtures("reference"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # PyTorch's, of its defaults
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of its names
]

rng = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "A": rng.standard_normal((3, 4)),
    "B": rng.standard_normal((3, 4)),
    "C": rng.standard_normal((3, 4)),
    "P": rng.uniform(0.2, 0.9, (3, 4)),
    "W": rng.uniform(0.5, 2.0, 4),
    "N": rng.uniform(0.5, 2.0, 3),
    "S": np.sign(rng.standard_normal((3, 4))),
    "LINE": rng.standard_normal((2, 4, 9)),
    "IMAGE": rng.standard_normal((2, 4, 7, 6)),
    "CUBE": rng.standard_normal((1, 4, 5, 4, 6)),
    "SEQ": rng.standard_normal((3, 2, 4)),
    "MEMORY": rng.standard_normal((5, 2, 4)),
    "H": rng.standard_normal((4, 2, 3)),
    "SQUARE": rng.standard_normal((3, 3)),
    "THETA": rng.standard_normal((2, 2, 3)),
    "CLASS": rng.integers(0, 4, 3),
    "LABELS": rng.integers(0, 2, (3, 4)),
    "ODD": np.array([[np.nan, 1.0, np.inf, -np.inf], [0.5, np.nan, 2.0, 3.0]]),
    "TIES": np.array([[3.0, 1.0, 2.0, 1.0], [0.0, 0.5, 0.25, 4.0]]),
    "SORTED": np.array([0.0, 1.0, 1.0, 2.5]),
    "COUNTS": np.array([3, 1, 3, 0, 1]),
    "WORDS": np.array([[0, 1, 4], [4, 2, 1]]),
    "TABLE": rng.standard_normal((5, 3)),
    "HIDDEN": np.array([[False, False, True], [False, False, False]]),
    "UNSEEN": np.array([[False] * 4 + [True], [False] * 5]),
    "CAUSAL": np.triu(np.ones((3, 3), bool), 1),
    "BIAS": rng.standard_normal((3, 5)),
    "HOLED": np.where(
        np.arange(12).reshape(3, 4) % 4 == [[1], [2], [0]], np.nan, rng.standard_normal((3, 4))
    ),
}
ARRAYS = {name: single(x) for name, x in ARRAYS.items()}

REDUCED = "reduction='mean'", "reduction='sum'", "reduction='none'"
SPACES = {1: "LINE", 2: "IMAGE", 3: "CUBE"}
LINES = [
    "t.all(A > 0, dim=1, keepdim=True), t.any(A > 0, dim=0, keepdim=True), t.all(A > 0, 1), t.any(A > 9)",
    "t.tensor(t.allclose(A, A + 0.1, atol=0.2)), t.tensor(t.allclose(A, 1.1 * A, rtol=0.2))",
    "t.tensor([t.allclose(ODD, ODD, equal_nan=True), t.allclose(ODD, ODD)])",
    "t.isclose(A, A + 0.1, atol=0.2), t.isclose(A, 1.1 * A, rtol=0.2), t.isclose(ODD, ODD, equal_nan=True)",
    "t.amax(A, 1, keepdim=True) * A, t.amin(A, (0, 1), keepdim=True) * A",
    "t.arange(1, end=7, step=2), t.arange(1.0, 2.0, 0.25)",
    "t.argmax(A, dim=1, keepdim=True), t.argmin(A, dim=0, keepdim=True), t.argmax(A), t.argmin(A, 1)",
    "t.argsort(TIES, dim=0, descending=True, stable=True), t.argsort(TIES, descending=True, stable=True)",
    "t.sort(A, dim=0, descending=True), t.sort(TIES, dim=0, descending=True, stable=True)",
    "t.topk(A, 2, dim=0, largest=False, sorted=True)[0] ** 2",
    "t.topk(A, 2, largest=False)[1], t.topk(A, 4, sorted=False)[0].sum(1) ** 2",
    "t.kthvalue(A, 2, dim=0, keepdim=True)[0] ** 2, t.kthvalue(A, 2, dim=0, keepdim=True)[1]",
    "t.median(A, dim=0, keepdim=True)[0] ** 2, t.median(A, dim=0, keepdim=True)[1]",
    "t.max(A, 1, keepdim=True)[0] * A, t.min(A, 0, keepdim=True)[0] * A, t.max(A, other=B), t.min(A,"
    " other=B)",
    "t.mean(A, 1, keepdim=True) * A, t.prod(A, 1, keepdim=True) * A, t.norm(A, 3, 1, keepdim=True) * A",
    "t.quantile(A, 0.3, dim=1, keepdim=True) * A",
    "t.std(A, 1, correction=2, keepdim=True) * A, t.var(A, 1, correction=0, keepdim=True) * A",
    "t.var_mean(A, 0, correction=0, keepdim=True)[0] * A, t.var_mean(A, 0, unbiased=False)[0]",
    "t.var(A, unbiased=False), t.std(A, 0, unbiased=False), t.var(A, dim=1), t.var(A, False)",
    "t.std_mean(A, 0, correction=0, keepdim=True)[0] * A, t.std_mean(A, 0, unbiased=False)[0] ** 2",
    "t.std_mean(SEQ, dim=(0, 2))[1] ** 2, t.std_mean(A, False)[0] * A",
    "t.nansum(HOLED, 0, keepdim=True) * A, t.nansum(HOLED, dtype=t.float64) * A, ODD.nansum(dim=0)",
    "t.nanmean(HOLED, dim=1, keepdim=True) * A, t.nanmean(HOLED, (0, 1)) * A, HOLED.nanmean(0) ** 2",
    "t.nanmean(HOLED, 0, dtype=t.float64) ** 2, t.nanmedian(HOLED, dim=0, keepdim=True)[0] ** 2",
    "t.nanmedian(HOLED, 1)[0], t.nanmedian(HOLED, 1)[1][:2], t.nanmedian(HOLED) * A, ODD.nanmedian()",
    "t.take(A, index=LABELS * 2 - 5) ** 2, A.take(CLASS[:, None]) ** 2",
    "t.isin(WORDS, WORDS[:1, :2], assume_unique=True, invert=True), t.isin(TIES, 1.0), t.isin(1, LABELS)",
    "t.isin(ODD, ODD), t.isin(LABELS, A)",
    "t.unique(COUNTS, return_inverse=True, return_counts=True)",
    "t.unique(TIES.detach(), dim=1, return_inverse=True, return_counts=True)",
    "t.cdist(A, B, p=1.0), t.cdist(A, B, p=3.0) ** 2, t.cdist(A, B, p=float('inf'))",
    "t.cross(SQUARE, SQUARE * SQUARE, dim=1)",
    "t.diagonal(SEQ, dim1=0, dim2=2) ** 2, t.diagonal(SEQ, 1, 1, 2) ** 2, t.tril(A, diagonal=1) ** 2",
    "t.eye(2, m=3), t.flatten(SEQ, end_dim=1) ** 2, t.flatten(SEQ, 1, -1) ** 2",
    "t.linalg.norm(A, ord=1, dim=(0, 1), keepdim=True) * A, t.linalg.norm(A, 3.0, 1) ** 2",
    "t.linalg.norm(W, ord=0)",
    "t.linalg.vector_norm(SEQ, ord=3, dim=(0, 2), keepdim=True) * SEQ",
    "t.linalg.vector_norm(A, float('-inf'))",
    "t.linalg.matrix_norm(SEQ, ord='nuc', dim=(0, 2), keepdim=True), t.linalg.matrix_norm(SEQ) ** 2",
    "t.cholesky(SQUARE @ SQUARE.T, upper=True) ** 2, t.qr(A, some=False).R ** 2",
    "t.svd(A, compute_uv=False).S",
    "t.svd(SQUARE, some=False).V ** 2, A.svd().U ** 2, SQUARE.det(), SQUARE.inverse(), SQUARE.slogdet()[1]",
    "(SQUARE @ SQUARE.T + t.eye(3)).logdet(), SQUARE.matrix_power(3), SQUARE.qr().R ** 2",
    "(SQUARE @ SQUARE.T).cholesky()",
    "nn.PairwiseDistance(p=3.0, eps=0.1, keepdim=True)(A, B) ** 2, nn.PairwiseDistance()(A, B)",
    "t.linalg.eigvalsh(SQUARE @ SQUARE.T, UPLO='U') ** 2",
    "t.meshgrid(W, N, indexing='xy')",
    "t.nan_to_num(ODD, nan=2.0, posinf=3.0, neginf=-3.0) ** 2",
    "t.select(A, 1, -2) ** 2, A.select(0, 1), t.tensor_split(A, 3, dim=1), t.tensor_split(A, (1, 3), dim=-1)",
    "t.tensor_split(A, [2, 1]), t.tensor_split(W, 5), t.hsplit(A, 2), t.hsplit(W, [1])",
    "t.vsplit(A, 3)",
    "t.dsplit(SEQ, [1, 2]), t.atleast_1d(A, W.sum()), t.atleast_2d(W), t.atleast_3d(W)",
    "t.atleast_3d([A, SEQ])",
    "t.column_stack((N, A)), t.dstack((A, B)), t.dstack((W, W)), t.row_stack((W, A)), t.fliplr(A)",
    "t.flipud(W)",
    "t.diag_embed(A, 1) ** 2, t.diag_embed(A, offset=-2, dim1=0, dim2=1) ** 2",
    "t.diag_embed(A, 1, dim1=2, dim2=0)",
    "t.count_nonzero(LABELS), t.count_nonzero(LABELS, dim=1), t.count_nonzero(SEQ, (0, 2))",
    "t.tril_indices(3, 4, offset=1, dtype=t.int32), t.triu_indices(3, 4, offset=-1), t.triu_indices(2, 2)",
    "F.softshrink(A, lambd=0.2) ** 2, F.softshrink(A), F.hardshrink(A, lambd=0.2) ** 2, F.tanhshrink(A) ** 2",
    "nn.Softshrink(lambd=0.2)(A), nn.Hardshrink(lambd=0.2)(A), nn.Tanhshrink()(A), nn.Softmin(dim=0)(A)",
    "t.absolute(A) ** 2, t.negative(A) ** 2, t.subtract(A, B, alpha=2.0) ** 2, t.multiply(A, B) ** 2",
    "t.divide(A, W) ** 2, t.divide(A, W, rounding_mode='floor'), t.concat([A, B], dim=1) ** 2",
    "t.moveaxis(SEQ, 0, 2) ** 2, t.greater(A, B), t.greater_equal(A, B), t.less(A, B), t.less_equal(A, B)",
    "t.not_equal(A, B), t.not_equal(A, A.detach())",
    "t.rot90(A, k=2) ** 2, t.rot90(SEQ, 1, dims=(1, 2)) ** 2, t.rot90(A, -1) ** 2",
    "t.scatter(A, 1, CLASS[:, None], value=5.0) ** 2",
    "t.searchsorted(SORTED, A, right=True), t.searchsorted(SORTED, A, side='right', out_int32=True)",
    "t.searchsorted(W, A, sorter=t.argsort(W)), t.searchsorted(SORTED, SORTED, side='left')",
    "F.affine_grid(THETA, (2, 1, 3, 4), align_corners=True) ** 2",
    "F.softplus(A, beta=2.0, threshold=0.5) ** 2, F.glu(A, dim=1) ** 2, F.hardtanh(A, min_val=-0.3,"
    " max_val=0.2)",
    "F.cosine_similarity(A, B, dim=0, eps=1e-3) ** 2, F.cosine_similarity(A.detach(), B.detach(),"
    " eps=3.0), F.pairwise_distance(A, B, p=3.0, eps=0.1, keepdim=True) ** 2",
    "F.normalize(A, p=3.0, dim=0, eps=2.0) ** 2, F.normalize(A, eps=5.0) ** 2",
    "F.pad(LINE, (2, 1), mode='reflect') ** 2, F.pad(LINE, (2, 1), mode='replicate') ** 2",
    "F.pad(LINE, (2, 1), mode='circular') ** 2, F.pad(LINE, (2, 1), value=0.5) ** 2",
    "F.one_hot(CLASS, num_classes=6), F.dropout1d(LINE, training=False), F.dropout2d(IMAGE, training=False)",
    "F.dropout3d(CUBE, training=False), F.dropout(A, training=False), F.alpha_dropout(A, training=False)",
    "F.unfold(IMAGE, 2, dilation=2, padding=1, stride=2) ** 2",
    "F.fold(F.unfold(IMAGE, 2, 2, 1, 2), (7, 6), 2, dilation=2, padding=1, stride=2) ** 2",
    "nn.Unfold(2, dilation=2, padding=1, stride=2)(IMAGE) ** 2",
    "nn.Fold((7, 6), 2, dilation=2, padding=1, stride=2)(F.unfold(IMAGE, 2, 2, 1, 2)) ** 2",
    "F.local_response_norm(LINE, 3, alpha=0.1, beta=0.5, k=2.0), nn.LocalResponseNorm(3, 0.1, 0.5,"
    " 2.0)(LINE)",
    # norms
    "F.batch_norm(IMAGE, W.detach(), W.detach(), training=False, eps=0.1, momentum=0.5)",
    "F.batch_norm(LINE, None, None, W, W, True, 0.3, 0.1), F.layer_norm(A, (4,), W, W, eps=0.1)",
    "F.group_norm(LINE, 2, W, W, eps=0.1), F.rms_norm(A, (4,), W, eps=0.1)",
    "F.instance_norm(LINE, W.detach(), W.detach(), W, W, use_input_stats=False, momentum=0.4, eps=0.1)",
    *[
        f"made(nn.{kind}Norm{n}d(4, {settings}))({x})"
        for n, x in SPACES.items()
        for kind, settings in (
            ("Batch", "eps=0.1, momentum=0.3, bias=False"),
            ("Batch", "affine=False, track_running_stats=False"),
            ("Instance", "eps=0.1, momentum=0.3, affine=True, track_running_stats=True, bias=False"),
        )
    ],
    "made(nn.GroupNorm(2, 4, eps=0.1, affine=False))(LINE), made(nn.GroupNorm(2, 4, bias=False))(LINE)",
    "made(nn.LayerNorm(4, eps=0.1, elementwise_affine=False))(A), made(nn.LayerNorm((4,), bias=False))(A)",
    "made(nn.RMSNorm(4, eps=0.1, elementwise_affine=False))(A)",
    # convolutions and pools
    *[
        line.format(n=n, x=x)
        for n, x in SPACES.items()
        for line in (
            "F.conv{n}d({x}, {x}[0][:, None] * 0.3, stride=2, padding=8, dilation=2, groups=4)",
            "F.conv_transpose{n}d({x}, {x}[:, :1].flip(0).expand(2, *{x}[:, :1].shape[1:]).repeat(2, *[1]"
            " * {n}, 1)"
            " * 0.3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)",
            "made(nn.Conv{n}d(4, 2, 2, 2, 1, dilation=2, groups=2, bias=False,"
            " padding_mode='circular'))({x})",
            "made(nn.Conv{n}d(4, 2, 3, padding=1, padding_mode='reflect'))({x})",
            "made(nn.ConvTranspose{n}d(4, 2, 2, 2, 1, 1, groups=2, bias=False, dilation=2))({x})",
            "made(nn.ConvTranspose{n}d(4, 2, 2, 2, 1))({x}, output_size=[2 * k - 1 for k in {x}.shape[2:]])",
            "F.avg_pool{n}d({x}, 2, stride=1, padding=1, ceil_mode=True, count_include_pad=False) ** 2",
            "nn.AvgPool{n}d(2, stride=3, padding=1, ceil_mode=True, count_include_pad=False)({x}) ** 2",
            "F.max_pool{n}d({x}, 2, stride=1, padding=1, dilation=2, ceil_mode=True) ** 2",
            "nn.MaxPool{n}d(2, stride=3, padding=1, dilation=2, ceil_mode=True)({x}) ** 2",
            "F.lp_pool{n}d({x}.exp(), 3, 2, stride=3, ceil_mode=True) ** 2",
            "nn.LPPool{n}d(3, 2, stride=3, ceil_mode=True)({x}.exp()) ** 2",
            "F.adaptive_max_pool{n}d({x}, 2, return_indices=True)",
            "nn.AdaptiveMaxPool{n}d(2, return_indices=True)({x})",
            "F.max_unpool{n}d(*F.max_pool{n}d({x}, 2, 2, 1, return_indices=True), 2, stride=2, padding=1,"
            " output_size={x}.shape) ** 2",
            "nn.MaxUnpool{n}d(2, stride=2, padding=1)(*F.max_pool{n}d({x}, 2, 2, 1, return_indices=True),"
            " output_size={x}.shape) ** 2",
        )
    ],
    "F.avg_pool2d(IMAGE, 2, divisor_override=3) ** 2, F.avg_pool3d(CUBE, 2, divisor_override=3) ** 2",
    "nn.AvgPool2d(2, divisor_override=3)(IMAGE), nn.AvgPool3d(2, divisor_override=3)(CUBE)",
    "F.interpolate(IMAGE, scale_factor=1.3, mode='bilinear', align_corners=True) ** 2",
    "F.interpolate(IMAGE, scale_factor=1.3, mode='bilinear', recompute_scale_factor=True) ** 2",
    *[
        f"F.interpolate(IMAGE, {to}, mode={mode!r}, antialias=True{more}) ** 2"
        for mode in ("bilinear", "bicubic", "lanczos")
        for to in ("(3, 9)", "(7, 2)", "scale_factor=(0.35, 1.6)", "(1, 1)")
        for more in (("", ", align_corners=True") if mode != "lanczos" else ("",))
    ],
    "nn.Upsample(size=(9, 5), mode='bicubic', align_corners=True)(IMAGE) ** 2",
    "nn.Upsample(scale_factor=1.3, mode='bilinear', recompute_scale_factor=True)(IMAGE) ** 2",
    "nn.UpsamplingBilinear2d(scale_factor=2)(IMAGE) ** 2, nn.UpsamplingNearest2d(size=(9, 5))(IMAGE) ** 2",
    # losses
    *[
        line.format(r=r)
        for r in REDUCED
        for line in (
            "F.binary_cross_entropy(P, P.detach() ** 2, weight=W.detach(), {r}) ** 2",
            "F.binary_cross_entropy_with_logits(A, P.detach(), W.detach(), {r}, pos_weight=W.detach() **"
            " 2) ** 2",
            "nn.BCELoss(weight=W.detach(), {r})(P, P.detach() ** 2) ** 2",
            "nn.BCEWithLogitsLoss(weight=W.detach(), {r}, pos_weight=W.detach() ** 2)(A, P.detach()) ** 2",
            "F.cosine_embedding_loss(A, B, S[:, 0].detach(), margin=0.1, {r}) ** 2",
            "nn.CosineEmbeddingLoss(margin=0.1, {r})(A, B, S[:, 0].detach()) ** 2",
            "F.gaussian_nll_loss(A, B, P, full=True, eps=0.5, {r}) ** 2",
            "nn.GaussianNLLLoss(full=True, eps=0.5, {r})(A, B, P) ** 2",
            "F.hinge_embedding_loss(A, S.detach(), margin=0.5, {r}) ** 2",
            "nn.HingeEmbeddingLoss(margin=0.5, {r})(A, S.detach()) ** 2",
            "F.huber_loss(A, B, {r}, delta=0.4) ** 2, F.smooth_l1_loss(A, B, {r}, beta=0.4) ** 2",
            "nn.HuberLoss({r}, delta=0.4)(A, B) ** 2, nn.SmoothL1Loss({r}, beta=0.4)(A, B) ** 2",
            "F.l1_loss(A, B, {r}) ** 2, F.mse_loss(A, B, {r}) ** 2, nn.L1Loss({r})(A, B),"
            " nn.MSELoss({r})(A, B)",
            "F.mse_loss(A, B, {r}, weight=P) ** 2, F.l1_loss(A, B, {r}, weight=P) ** 2",
            "F.huber_loss(A, B, {r}, delta=0.4, weight=P) ** 2",
            "F.kl_div(A, P, {r}, log_target=True) ** 2, nn.KLDivLoss({r}, log_target=True)(A, P) ** 2",
            "F.margin_ranking_loss(A, B, S.detach(), margin=0.3, {r}) ** 2",
            "nn.MarginRankingLoss(margin=0.3, {r})(A, B, S.detach()) ** 2",
            "F.soft_margin_loss(A, S.detach(), {r}) ** 2, nn.SoftMarginLoss({r})(A, S.detach()) ** 2",
            "F.multilabel_soft_margin_loss(A, P.detach(), weight=W.detach(), {r}) ** 2",
            "nn.MultiLabelSoftMarginLoss(weight=W.detach(), {r})(A, P.detach()) ** 2",
            "F.nll_loss(A, CLASS, weight=W.detach(), ignore_index=1, {r}) ** 2",
            "nn.NLLLoss(weight=W.detach(), ignore_index=1, {r})(A, CLASS) ** 2",
            "F.cross_entropy(A, CLASS, weight=W.detach(), ignore_index=1, {r}, label_smoothing=0.2) ** 2",
            "nn.CrossEntropyLoss(W.detach(), ignore_index=1, {r}, label_smoothing=0.2)(A, CLASS) ** 2",
            "F.cross_entropy(A, CLASS, {r}) ** 2, F.cross_entropy(A, P, {r}) ** 2, F.nll_loss(A, CLASS, {r})",
            "F.poisson_nll_loss(P, B.detach().exp() * 2, log_input=False, full=True, eps=0.2, {r}) ** 2",
            "nn.PoissonNLLLoss(log_input=False, full=True, eps=0.2, {r})(P, B.detach().exp() * 2) ** 2",
            "F.triplet_margin_loss(A, B, C, margin=0.7, p=3.0, eps=0.1, swap=True, {r}) ** 2",
            "nn.TripletMarginLoss(margin=0.7, p=3.0, eps=0.1, swap=True, {r})(A, B, C) ** 2",
            "F.multi_margin_loss(A, CLASS, p=2, margin=0.7, weight=W.detach(), {r})",
            "nn.MultiMarginLoss(p=2, margin=0.7, weight=W.detach(), {r})(A, CLASS)",
            "F.multilabel_margin_loss(A, LABELS, {r}), nn.MultiLabelMarginLoss({r})(A, LABELS)",
            "F.ctc_loss(t.log_softmax(SEQ, 2), WORDS[:, :2].clamp(0, 2), t.tensor([3, 3]), t.tensor([1, 2]),"
            " blank=3, {r}, zero_infinity=True)",
            "nn.CTCLoss(blank=3, {r}, zero_infinity=True)(t.log_softmax(SEQ, 2), WORDS[:, :2].clamp(0, 2),"
            " t.tensor([3, 3]), t.tensor([1, 2]))",
        )
    ],
    "F.kl_div(A, P, reduction='batchmean') ** 2, nn.KLDivLoss(reduction='batchmean')(A, P) ** 2",
    # layers
    "nn.CosineSimilarity(dim=0, eps=1e-3)(A, B) ** 2, nn.GELU(approximate='tanh')(A) ** 2,"
    " nn.GLU(dim=0)(B[:2])",
    "nn.Softmax(dim=0)(A), nn.Softplus(beta=2.0, threshold=0.5)(A), nn.Flatten(start_dim=0, end_dim=1)(SEQ)",
    "made(nn.Bilinear(4, 4, 2, bias=False))(A, B), nn.PReLU(4, init=0.7).to(real)(A)",
    "made(nn.Embedding(5, 3, padding_idx=1, scale_grad_by_freq=True))(WORDS) ** 2",
    "made(nn.Embedding(5, 3, 1, 0.5, norm_type=1.0, _freeze=True))(WORDS) ** 2",
    "nn.Embedding(5, 3, _weight=TABLE.detach())(WORDS) ** 2",
    "F.embedding(WORDS, TABLE.detach() * 1.0, max_norm=0.5, norm_type=3.0)",
    "F.embedding_bag(WORDS, TABLE.detach() * 1.0, max_norm=0.5, norm_type=3.0)",
    "made(nn.EmbeddingBag(5, 4, mode='sum'))(WORDS, per_sample_weights=A[:2, :3].contiguous())",
    *[
        line.format(k=kind)
        for kind in ("RNN", "GRU", "LSTM")
        for line in (
            "flat(made(nn.{k}(4, 3, num_layers=2, bias=False, batch_first=True, bidirectional=True))(SEQ))",
            "flat(made(nn.{k}(4, 3, 2, bidirectional=True))(SEQ, {h}))",
            "flat(made(nn.{k}(4, 3, 2, dropout=0.5)).eval()(SEQ))",
            "flat(made(nn.{k}Cell(4, 3, bias=False))(SEQ[0])), flat(made(nn.{k}Cell(4, 3))(SEQ[0], {c}))",
        )
        for line in [line.replace("{h}", "(H, H * 2)" if kind == "LSTM" else "H")]
        for line in [line.replace("{c}", "(H[0], H[1])" if kind == "LSTM" else "H[0]")]
    ],
    "flat(made(nn.LSTM(4, 3, proj_size=2))(SEQ)), flat(made(nn.RNN(4, 3, nonlinearity='relu'))(SEQ))",
    "made(nn.RNNCell(4, 3, nonlinearity='relu'))(SEQ[0], H[0])",
    "made(nn.MultiheadAttention(4, 2, dropout=0.5)).eval()(SEQ, SEQ, SEQ, attn_mask=CAUSAL,"
    " is_causal=True)[0]",
    "F.scaled_dot_product_attention(SEQ, SEQ, SEQ, attn_mask=SEQ[:, :, :2] * 2, scale=0.3)",
    "F.scaled_dot_product_attention(SEQ, SEQ, SEQ, dropout_p=0.0, is_causal=True)",
    "F.scaled_dot_product_attention(IMAGE, IMAGE[:, :2], IMAGE[:, 1:3, :, :3], LINE[0, :, None, :7],"
    " enable_gqa=True)",
    "F.scaled_dot_product_attention(LINE.flip(0), LINE[:1], LINE[1:], enable_gqa=True)",
    "F.scaled_dot_product_attention(SEQ, SEQ[:1], SEQ[1:2], is_causal=True, enable_gqa=True)",
    "F.mse_loss(A, B, weight=P) ** 2, F.l1_loss(A, B, weight=P), F.huber_loss(A, B, weight=P)",
    "made(nn.Transformer(4, 2, 1, 1, 6, 0.0, batch_first=True))(SEQ, SEQ, src_mask=CAUSAL[:2, :2],"
    " src_is_causal=True, memory_mask=CAUSAL[:2, :2], memory_is_causal=True)",
    "made(nn.Transformer(4, 2,"
    " custom_encoder=nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, 0.0), 1),"
    " custom_decoder=nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6, 0.0), 1)))(SEQ, SEQ)",
    "made(nn.TransformerDecoderLayer(4, 2, 6, 0.0, batch_first=True))(SEQ, SEQ, memory_mask=CAUSAL[:2, :2],"
    " memory_is_causal=True)",
    "made(nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6, 0.0, batch_first=True), 1))(SEQ, SEQ,"
    " memory_mask=CAUSAL[:2, :2], memory_is_causal=True)",
    "made(nn.utils.weight_norm(nn.Linear(4, 3), name='bias', dim=0))(A)",
    "made(nn.utils.weight_norm(nn.Linear(4, 3), dim=1))(A), made(nn.utils.weight_norm(nn.Linear(4, 3),"
    " dim=None))(A)",
    # utilities
    "t.bernoulli(P.detach(), p=1.0), t.unique(COUNTS, sorted=False).sort()[0]",
    "t.tensor(init.calculate_gain('leaky_relu', param=0.3))",
    "init.dirac_(t.ones(4, 2, 3), groups=2), init.orthogonal_(t.ones(3, 3), gain=0.0)",
    "init.normal_(t.ones(3), mean=2.0, std=0.0), init.uniform_(t.ones(3), a=2.0, b=2.0)",
    "init.xavier_normal_(t.ones(3, 2), gain=0.0), init.xavier_uniform_(t.ones(3, 2), gain=0.0)",
    "init.sparse_(t.ones(3, 3), 0.4, std=0.0)",
    "t.normal(mean=2.0, std=0.0, size=(3,)), t.randint(low=3, high=4, size=(2,))",
    "nn.utils.get_total_norm([A.detach(), B.detach()], norm_type=3.0, error_if_nonfinite=True)",
    "nn.ModuleList(modules=[nn.Tanh()])[0](A), nn.ModuleDict(modules={'a': nn.Tanh()})['a'](A)",
    "nn.ParameterList(values=[nn.Parameter(t.ones(4))])[0].detach() * A",
    "nn.ParameterDict(parameters={'a': nn.Parameter(t.ones(4))})['a'].detach() * A",
]
TRANSFORMERS = {
    "TransformerEncoderLayer(4, 2, 6, 0.0, {s})": "(SEQ, src_mask=CAUSAL, src_key_padding_mask=HIDDEN,"
    " is_causal=True)",
    "TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, 0.0, {s}), 2, enable_nested_tensor=False,"
    " mask_check=False)": "(SEQ, mask=CAUSAL, src_key_padding_mask=HIDDEN, is_causal=True)",
    "TransformerDecoderLayer(4, 2, 6, 0.0, {s})": "(SEQ, MEMORY, tgt_mask=CAUSAL, memory_mask=BIAS,"
    " tgt_key_padding_mask=HIDDEN, memory_key_padding_mask=UNSEEN, tgt_is_causal=True)",
    "TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6, 0.0, {s}), 2)": "(SEQ, MEMORY, tgt_mask=CAUSAL,"
    " memory_mask=BIAS, tgt_key_padding_mask=HIDDEN, memory_key_padding_mask=UNSEEN, tgt_is_causal=True)",
    "Transformer(4, 2, 1, 1, 6, 0.0, {s})": "(MEMORY, SEQ, tgt_mask=CAUSAL, memory_mask=BIAS,"
    " src_key_padding_mask=UNSEEN,"
    " tgt_key_padding_mask=HIDDEN, memory_key_padding_mask=UNSEEN, tgt_is_causal=True,"
    " src_mask=t.zeros(5, 5).to(real))",
}
LINES += [
    f"made(nn.{layer.format(s=settings)}){call}"
    for layer, call in TRANSFORMERS.items()
    for settings in (
        "activation='gelu', layer_norm_eps=0.1, bias=False",
        "norm_first=True, activation=F.gelu",
    )
]


# What these names do reads values, or depends on them in its shape: no step that does can be recorded.
EAGER = {"allclose", "unique", "error_if_nonfinite"}


class Hoisted(ast.NodeTransformer):
    """Layers are made once: `made(nn.Linear(4, 3))(A)` is `once(0, lambda: made(nn.Linear(4, 3)))(A)`."""

    def __init__(self) -> None:
        self.count = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        if name != "made" and not re.fullmatch(r"nn\.[A-Z]\w*", name):
            return self.generic_visit(node)
        once = ast.parse(f"once({self.count}, lambda: 0)", mode="eval").body
        once.args[1].body = node
        self.count += 1
        return once


def compiled_line(line: str) -> types.CodeType:
    tree = Hoisted().visit(ast.parse(line, mode="eval"))
    return compile(ast.fix_missing_locations(tree), "keywords", "eval")


def inputs_of(line: str) -> list[str]:
    return sorted({word for word in re.findall(r"\b[A-Z]+\b", line) if word in ARRAYS})


@pytest.mark.parametrize("line", LINES)
def test_keywords(line: str) -> None:
    names, code = inputs_of(line), compiled_line(line)

    def make(library: Any, dtype: str) -> Made:
        real, held, layers = getattr(library, dtype), Held(), {}

        def made(layer: Any) -> Any:
            layer = layer.to(real)
            shapes = sorted((name, tuple(x.shape), str(x.dtype)) for name, x in layer.state_dict().items())
            fill = np.random.default_rng(1)
            values = {n: single(fill.uniform(0.3, 0.9, s)) for n, s, dtype in shapes if "float" in dtype}
            values |= {n: np.zeros(s, np.int64) for n, s, dtype in shapes if "float" not in dtype}
            layer.load_state_dict({n: library.tensor(x) for n, x in values.items()})
            held.parameters.extend(p for _, p in sorted(layer.named_parameters(), key=lambda pair: pair[0]))
            held.buffers.extend(layer.buffers())
            return layer

        def once(number: int, build: Any) -> Any:
            if number not in layers:
                layers[number] = build()
            return layers[number]

        known = {"t": library, "nn": library.nn, "F": library.nn.functional, "init": library.nn.init}
        known |= {"once": once, "made": made, "flat": flat, "real": real}

        def run(*tensors: Any) -> Any:
            return flat(eval(code, known | dict(zip(names, tensors, strict=True))))

        return run, held

    called = re.findall(r"(?:F|nn|t)\.(\w+)", line)
    order = (
        1
        if "per_sample_weights" in line or "weight_norm" in line
        else min(limit(name)[0] for name in ["", *called])
    )
    tolerance = max(limit(name, 1e-9)[1] for name in ["", *called])
    records = not EAGER & set(re.findall(r"\w+", line))
    assert_agree_everywhere(make, [ARRAYS[n] for n in names], order, tolerance, records=records)


def flat(value: Any) -> list[Any]:
    """The tensors in nested tuples."""
    if isinstance(value, (tuple, list)):
        return [x for part in value for x in flat(part)]
    return [value]


def test_clipping_of_finite_gradients() -> None:
    torch = pytest.importorskip("torch")
    found = []
    for t in (td, torch):
        p = t.nn.Parameter(t.tensor(ARRAYS["A"]))
        p.grad = t.tensor(ARRAYS["B"])
        found.append((t, p))
    with comparison():
        norms = [
            t.nn.utils.clip_grad_norm_([p], 0.5, norm_type=3.0, error_if_nonfinite=True).item()
            for t, p in found
        ]
    np.testing.assert_allclose(*norms, rtol=1e-12)
    np.testing.assert_allclose(*(p.grad.numpy() for _, p in found), rtol=1e-12)
