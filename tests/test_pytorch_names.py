"""What the catalogue's rows do not hold against PyTorch (test_catalogue_against_pytorch.py does): other
settings, what is random, containers, queries. With them every name that both have is called in a comparison;
comparisons.py counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import Held, Made, assert_agree, assert_agree_everywhere, single
from comparisons import comparison
from pytorch_differences import limit

import tinydl as td

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
P, Q = rng.uniform(0.3, 2.0, (3, 4)), rng.uniform(0.3, 2.0, (3, 4))
SIGN, CLASS = np.sign(rng.standard_normal((3, 4))), rng.integers(0, 4, 3)
IMAGES, VOLUMES = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((2, 3, 5, 4, 6))
MAPS, ONES = rng.standard_normal((2, 3, 8)), np.sign(rng.standard_normal(3))

# The same expression of `t`, tinydl or torch, with its `nn` and its `F`, of the arrays.
Expression = Callable[..., Any]
EXPRESSIONS: dict[str, tuple[Expression, tuple[np.ndarray, ...]]] = {
    **{
        f"max_unpool{axes}d": (
            lambda t, nn, F, x, axes=axes: getattr(F, f"max_unpool{axes}d")(
                *getattr(F, f"max_pool{axes}d")(x, 2, return_indices=True), 2
            ),
            (x,),
        )
        for axes, x in ((1, MAPS), (2, IMAGES[..., :4]), (3, VOLUMES[..., :4, :, :]))
    },
    "batch_norm": (lambda t, nn, F, x: F.batch_norm(x, None, None, training=True), (IMAGES,)),
    "clamp": (lambda t, nn, F, x: t.clamp(x, min=-0.2), (X,)),
    "clamp_min": (lambda t, nn, F, x, y: t.clamp_min(x, min=-0.2) * t.clamp_min(x, y[0]), (X, Y)),
    "clamp_max": (lambda t, nn, F, x, y: t.clamp_max(x, max=0.2) * t.clamp_max(x, y[0]), (X, Y)),
    "interpolate": (lambda t, nn, F, x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), (IMAGES,)),
    "MaxUnpool1d": (lambda t, nn, F, x: nn.MaxUnpool1d(2)(*nn.MaxPool1d(2, return_indices=True)(x)), (MAPS,)),
    "MaxUnpool2d": (
        lambda t, nn, F, x: nn.MaxUnpool2d(2)(*nn.MaxPool2d(2, return_indices=True)(x)),
        (IMAGES[..., :4],),
    ),
    "MaxUnpool3d": (
        lambda t, nn, F, x: nn.MaxUnpool3d(2)(*nn.MaxPool3d(2, return_indices=True)(x)),
        (VOLUMES[..., :4, :, :],),
    ),
    # what is random between these leaves no choice at the ends
    **{
        f"{name} of {what}": (lambda t, nn, F, x, name=name, p=p: getattr(F, name)(x, p, True), (MAPS,))
        for name in ("dropout", "dropout1d", "alpha_dropout")
        for what, p in (("nothing", 0.0), ("everything", 1.0))
    },
    "dropout2d": (lambda t, nn, F, x: F.dropout2d(x, 1.0), (IMAGES,)),
    "dropout3d": (lambda t, nn, F, x: F.dropout3d(x, 1.0), (VOLUMES,)),
    "Dropout1d": (lambda t, nn, F, x: nn.Dropout1d(1.0)(x), (MAPS,)),
    "Dropout2d": (lambda t, nn, F, x: nn.Dropout2d(1.0)(x), (IMAGES,)),
    "Dropout3d": (lambda t, nn, F, x: nn.Dropout3d(1.0)(x), (VOLUMES,)),
    "AlphaDropout": (lambda t, nn, F, x: nn.AlphaDropout(1.0)(x), (X,)),
    "ModuleList": (lambda t, nn, F, x: [f(x) for f in nn.ModuleList([nn.Tanh(), nn.Sigmoid()])], (X,)),
    "ModuleDict": (
        lambda t, nn, F, x: [f(x) for f in nn.ModuleDict({"b": nn.Tanh(), "a": nn.Sigmoid()}).values()],
        (X,),
    ),
    "ParameterDict": (
        lambda t, nn, F, x: [p.detach() * x for p in nn.ParameterDict({"a": t.ones(4), "b": x[0]}).values()],
        (X,),
    ),
    "ParameterList": (
        lambda t, nn, F, x: [p.detach() * x for p in nn.ParameterList([nn.Parameter(t.ones(4)), x[0]])],
        (X,),
    ),
    "HingeEmbeddingLoss": (lambda t, nn, F, x, y: nn.HingeEmbeddingLoss(0.7)(x, y.detach()), (P, SIGN)),
    "multi_margin_loss": (lambda t, nn, F, x, y: F.multi_margin_loss(x, y, 2), (X, CLASS)),
    "MultiMarginLoss": (lambda t, nn, F, x, y: nn.MultiMarginLoss(p=2)(x, y), (X, CLASS)),
    "CosineSimilarity": (lambda t, nn, F, x, y: nn.CosineSimilarity(1)(x, y), (X, Y)),
    "CosineEmbeddingLoss": (
        lambda t, nn, F, x, y, z: nn.CosineEmbeddingLoss(0.1)(x, y, z.detach()),
        (X, Y, ONES),
    ),
    "TripletMarginLoss": (lambda t, nn, F, x, y, z: nn.TripletMarginLoss()(x, y, z), (X, Y, P)),
    "GaussianNLLLoss": (lambda t, nn, F, x, y, z: nn.GaussianNLLLoss(full=True)(x, y, z), (X, Y, P)),
    "PoissonNLLLoss": (lambda t, nn, F, x, y: nn.PoissonNLLLoss(full=True)(x, y.detach()), (X, P + 1.2)),
    "ctc_loss": (
        lambda t, nn, F, x, y: F.ctc_loss(t.log_softmax(x, 2), y, t.tensor([6, 5]), t.tensor([2, 2])),
        (rng.standard_normal((6, 2, 4)), rng.integers(1, 4, (2, 2))),
    ),
    "CTCLoss": (
        lambda t, nn, F, x, y: nn.CTCLoss()(t.log_softmax(x, 2), y, t.tensor([6, 5]), t.tensor([2, 2])),
        (rng.standard_normal((6, 2, 4)), rng.integers(1, 4, (2, 2))),
    ),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_derivatives(name: str) -> None:
    expression, arrays = EXPRESSIONS[name]

    def make(library: Any, dtype: str) -> Made:
        return lambda *x: expression(library, library.nn, library.nn.functional, *x), Held()

    assert_agree_everywhere(make, [single(x) for x in arrays], *limit(name))


# Queries of two tensors and of one, which have no gradient.
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")
PAIRED = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "equal", "allclose")
SINGLE = ("logical_not", "argmax", "isfinite", "isinf", "isnan")


@pytest.mark.parametrize("name", [*PAIRED, *SINGLE])
def test_queries(name: str) -> None:
    torch = pytest.importorskip("torch")
    x, y = (np.array(rows, float) for rows in ([[0, 1, 2], [3, 0, 1]], [[0, 2, 1], [3, 1, 0]]))
    x[0, 2] = np.inf if name in SINGLE else 2.0
    x[1, 1] = np.nan if name.startswith("is") else 0.0
    given = (x, y) if name in PAIRED else (x,)
    with comparison():
        ours = getattr(td, name)(*map(td.tensor, given))
        theirs = getattr(torch, name)(*map(torch.tensor, given))
    if isinstance(theirs, bool):
        assert ours is theirs
    else:
        assert ours.numpy().dtype == theirs.numpy().dtype
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("name", [*BITS, "bitwise_not"])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "int8"])
def test_bits(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    given = np.array([0, 1, 100, 77], dtype), np.array([7, 2, 70, 9], dtype)
    given = given if name in BITS else given[:1]
    with comparison():
        results = [getattr(td, name)(*map(td.tensor, given)), getattr(torch, name)(*map(torch.tensor, given))]
        for lib in (td, torch):
            written = lib.tensor(given[0].copy())
            assert getattr(written, name + "_")(*map(lib.tensor, given[1:])) is written
            results.append(written)
    assert len({y.numpy().dtype for y in results}) == 1
    for y in results[1:]:
        np.testing.assert_array_equal(results[0].numpy(), y.numpy())


def test_t() -> None:
    torch = pytest.importorskip("torch")
    assert_agree(td.t, torch.t, [X])


def test_checkpoint() -> None:
    torch = pytest.importorskip("torch")
    assert_agree(
        lambda x: td.nn.checkpoint(lambda z: td.sin(z) * z, x),
        lambda x: torch.utils.checkpoint.checkpoint(lambda z: torch.sin(z) * z, x, use_reentrant=False),
        [X],
    )


def test_parameters_as_a_vector() -> None:
    torch = pytest.importorskip("torch")
    assert_agree(
        lambda *x: td.nn.parameters_to_vector(x),
        lambda *x: torch.nn.utils.parameters_to_vector(x),
        [X, MAPS],
    )
    vector = np.arange(20.0)
    ours = [td.nn.Parameter(np.zeros(shape)) for shape in ((3, 4), (2, 4))]
    theirs = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in ((3, 4), (2, 4))]
    with comparison():
        td.nn.vector_to_parameters(td.tensor(vector), ours)
        torch.nn.utils.vector_to_parameters(torch.tensor(vector), theirs)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
