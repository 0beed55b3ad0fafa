"""Losses against PyTorch, to second order where it has one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from pytorch_differences import limit
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td

pytestmark = pytest.mark.usefixtures("reference")
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
RANDOM = np.random.default_rng(0)
X, Y, Z = (RANDOM.normal(size=(5, 4)) for _ in range(3))
P, Q = (RANDOM.uniform(0.1, 0.9, (5, 4)) for _ in range(2))
SIGNS, CLASSES, WEIGHTS = np.where(Y > 0, 1, -1), RANDOM.integers(0, 4, 5), RANDOM.uniform(0.5, 2.0, 4)
PLANES, PLANE_CLASSES = RANDOM.normal(size=(3, 4, 2, 2)), RANDOM.integers(0, 4, (3, 2, 2))

CASES: list[tuple[str, list[np.ndarray], dict[str, Any]]] = [
    ("mse_loss", [X, Y], {}),
    ("l1_loss", [X, Y], {}),
    ("smooth_l1_loss", [X, Y], {}),
    ("smooth_l1_loss", [X, Y], {"beta": 0.3}),
    ("smooth_l1_loss", [X, Y], {"beta": 0.0}),
    ("huber_loss", [X, Y], {"delta": 0.6}),
    ("kl_div", [X, P], {}),
    ("kl_div", [X, Y], {"log_target": True}),
    ("poisson_nll_loss", [X, 5 * Q], {"full": True}),
    ("poisson_nll_loss", [P, 5 * Q], {"log_input": False}),
    ("gaussian_nll_loss", [X, Y, P], {"full": True}),
    ("gaussian_nll_loss", [X, Y, P[:, 0]], {}),
    ("triplet_margin_loss", [X, Y, Z], {}),
    ("triplet_margin_loss", [X, Y, Z], {"margin": 3.0, "p": 3.0, "swap": True}),
    ("multi_margin_loss", [X, CLASSES], {}),
    ("nll_loss", [X, CLASSES], {}),
    ("nll_loss", [PLANES, PLANE_CLASSES], {"ignore_index": 2}),
]
WITH_TENSORS: list[tuple[str, list[np.ndarray], dict[str, Any]]] = [
    ("binary_cross_entropy", [P, Q], {"weight": Z}),
    ("binary_cross_entropy_with_logits", [X, Q], {}),
    ("binary_cross_entropy_with_logits", [30 * X, Q], {"weight": P, "pos_weight": WEIGHTS}),
    ("hinge_embedding_loss", [P], {"target": SIGNS, "margin": 0.5}),
    ("cosine_embedding_loss", [X, Y], {"target": SIGNS[:, 0], "margin": 0.1}),
    ("multi_margin_loss", [X, CLASSES], {"p": 2, "margin": 0.7, "weight": WEIGHTS}),
    ("nll_loss", [X, CLASSES], {"weight": WEIGHTS, "ignore_index": 1}),
    ("cross_entropy", [X, CLASSES], {"weight": WEIGHTS}),
    ("cross_entropy", [X, CLASSES], {"ignore_index": int(CLASSES[0])}),
    ("cross_entropy", [PLANES, PLANE_CLASSES], {"ignore_index": 2, "label_smoothing": 0.2}),
    ("cross_entropy", [X, CLASSES], {"weight": WEIGHTS, "label_smoothing": 0.1, "ignore_index": 2}),
    ("cross_entropy", [PLANES, PLANE_CLASSES], {"weight": WEIGHTS, "label_smoothing": 0.2}),
    ("cross_entropy", [X, P], {"weight": WEIGHTS, "label_smoothing": 0.1}),
]


def agree(name: str, arrays: list[np.ndarray], settings: dict[str, Any], order: int = 2) -> None:
    torch = pytest.importorskip("torch")

    def call(function: Any, tensor: Any) -> Any:
        given = {
            key: tensor(value) if isinstance(value, np.ndarray) else value for key, value in settings.items()
        }
        return lambda *inputs: function(*inputs, **given)

    ours, theirs = getattr(td, name), getattr(torch.nn.functional, name)
    most, tolerance = limit(name, 1e-9)
    assert_agree(
        call(ours, td.tensor), call(theirs, torch.tensor), arrays, order=min(order, most), tolerance=tolerance
    )


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")  # torch's word on kl_div
@REDUCTIONS
@pytest.mark.parametrize(
    ("name", "arrays", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_against_torch(name: str, arrays: list[np.ndarray], settings: dict[str, Any], reduction: str) -> None:
    agree(name, arrays, {**settings, "reduction": reduction})


@REDUCTIONS
@pytest.mark.parametrize(
    ("name", "arrays", "settings"), WITH_TENSORS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_with_weights_and_targets_against_torch(
    name: str, arrays: list[np.ndarray], settings: dict[str, Any], reduction: str
) -> None:
    agree(name, arrays, {**settings, "reduction": reduction})


def test_batchmean_is_the_divergence_of_the_definition() -> None:
    agree("kl_div", [X, P], {"reduction": "batchmean"})


def test_zeros_in_targets_and_probabilities() -> None:
    """0 log 0 is 0, and the logarithm of 0 counts as -100, in values and gradients."""
    agree("kl_div", [X[0], np.array([0.0, 1.0, 0.5, 0.0])], {"reduction": "sum"}, order=0)
    x = td.tensor(X[0], requires_grad=True)
    target = td.tensor(np.array([0.0, 1.0, 0.5, 0.0]))
    np.testing.assert_array_equal(
        td.grad(td.kl_div(x, target, reduction="sum"), x)[0].numpy(), -target.numpy()
    )
    certain, wrong = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    agree("binary_cross_entropy", [certain, wrong], {"reduction": "none"}, order=0)
    agree(
        "binary_cross_entropy_with_logits",
        [np.array([-800.0, 800.0, 800.0, -800.0]), wrong],
        {"reduction": "none"},
        order=1,
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cosine_similarity(dim: int) -> None:
    functional = pytest.importorskip("torch").nn.functional
    ours, theirs = (
        lambda a, b, f=f: f(a, b, dim) for f in (td.cosine_similarity, functional.cosine_similarity)
    )
    assert_agree(ours, theirs, [X, Y])


def test_cosine_similarity_of_nothing_has_finite_gradients() -> None:
    x = td.tensor(np.zeros((1, 3)), requires_grad=True)
    assert np.isfinite(
        td.grad(td.cosine_similarity(x, td.ones(1, 3, dtype="float64")).sum(), x)[0].numpy()
    ).all()


def test_losses_that_torch_has_not() -> None:
    x, y = td.tensor(X, requires_grad=True), td.tensor(Y)
    half = td.sum_of_squares(x, y)
    np.testing.assert_allclose(half.item(), 0.5 * ((X - Y) ** 2).sum() / len(X))
    np.testing.assert_allclose(td.grad(half, x)[0].numpy(), (X - Y) / len(X))
    np.testing.assert_allclose(td.sum_of_squares(x, y, "none").detach().numpy(), 0.5 * ((X - Y) ** 2).sum(1))
    hinge = td.hinge_loss(x, td.tensor(SIGNS.astype(float)), margin=0.5, reduction="none")
    np.testing.assert_allclose(hinge.detach().numpy(), np.maximum(0, 0.5 - SIGNS * X))


def test_variance_below_eps() -> None:
    """It counts as eps, and has the gradient of eps, as PyTorch documents."""
    x, y, var = (
        td.tensor(X, requires_grad=True),
        td.tensor(Y),
        td.tensor(np.full(X.shape, 1e-9), requires_grad=True),
    )
    loss = td.gaussian_nll_loss(x, y, var, eps=0.1)
    np.testing.assert_allclose(loss.item(), (0.5 * (np.log(0.1) + (X - Y) ** 2 / 0.1)).mean())
    expected = 0.5 * (1 / 0.1 - (X - Y) ** 2 / 0.1**2) / X.size
    np.testing.assert_allclose(td.grad(loss, var)[0].numpy(), expected)
    np.testing.assert_allclose(td.gaussian_nll_loss(x, y, 0.1).item(), loss.item())


# CTC
# ------------------------------------------------------------------------------------------------------------

STEPS, BATCH, SYMBOLS = 9, 4, 5
LOGITS = RANDOM.normal(size=(STEPS, BATCH, SYMBOLS))
# the last needs 7 steps, and has 4
TEXTS = np.array([[1, 2, 2, 4], [3, 3, 1, 0], [2, 4, 1, 3], [4, 4, 4, 4]])
INPUTS, TARGETS = [9, 7, 8, 4], [4, 3, 0, 4]


def ctc(framework: Any, single: bool = False, joined: bool = False, **settings: Any) -> Any:
    functional = framework if framework is td else framework.nn.functional
    rows = [text[:n] for text, n in zip(TEXTS, TARGETS, strict=True)]
    targets = framework.tensor(np.concatenate(rows) if joined else TEXTS)
    lengths = [framework.tensor(np.array(n)) for n in (INPUTS, TARGETS)]
    if single:
        targets, lengths = targets[0], [framework.tensor(np.array(n[0])) for n in (INPUTS, TARGETS)]
    return lambda x: functional.ctc_loss(functional.log_softmax(x, -1), targets, *lengths, **settings)


@REDUCTIONS
@pytest.mark.parametrize("joined", [False, True])
def test_ctc_against_torch(reduction: str, joined: bool) -> None:
    torch = pytest.importorskip("torch")
    settings = {"joined": joined, "reduction": reduction, "zero_infinity": True}
    assert_agree(ctc(td, **settings), ctc(torch, **settings), [LOGITS], order=1)
    assert_agree(
        ctc(td, joined=joined, reduction=reduction),
        ctc(torch, joined=joined, reduction=reduction),
        [LOGITS],
        order=0,
    )
    assert_agree(
        ctc(td, True, reduction=reduction), ctc(torch, True, reduction=reduction), [LOGITS[:, 0]], order=1
    )


def test_ctc_is_the_sum_over_all_paths() -> None:
    """Every path of 4 steps over 3 symbols, merged and stripped of blanks, by brute
    force; blank is the last symbol.
    """
    import itertools

    p = np.exp(LOGITS[:4, 0, :3])
    p /= p.sum(1, keepdims=True)
    for text in ([], [0], [1, 0], [1, 1]):
        total = 0.0
        for path in itertools.product(range(3), repeat=4):
            if [symbol for symbol, _ in itertools.groupby(path) if symbol != 2] == text:
                total += np.prod(p[np.arange(4), list(path)])
        loss = td.ctc_loss(
            td.tensor(np.log(p)), td.tensor(np.array(text, np.int64)), 4, len(text), blank=2, reduction="sum"
        )
        np.testing.assert_allclose(loss.item(), -np.log(total))


def test_ctc_has_every_order() -> None:
    x = td.tensor(LOGITS, requires_grad=True)
    assert td.gradcheck(ctc(td, zero_infinity=True, reduction="none"), x, 3)
    assert td.gradcheck(
        lambda x: td.ctc_loss(x, td.tensor(TEXTS), INPUTS, [2, 3, 0, 1], reduction="none"), x, 2
    )


def test_ctc_of_what_cannot_be() -> None:
    """Infinite, or 0, and never NaN in the gradient."""
    x = td.tensor(LOGITS, requires_grad=True)
    losses = ctc(td, reduction="none")(x)
    assert np.isinf(losses.detach().numpy()).tolist() == [False, False, False, True]
    assert np.isfinite(td.grad(losses.sum(), x)[0].numpy()).all()
    nothing = td.ctc_loss(
        td.zeros(3, 2, 4), td.tensor(np.zeros((2, 0), np.int64)), [0, 3], [0, 0], reduction="none"
    )
    np.testing.assert_array_equal(nothing.numpy(), [0, 0])


def test_ctc_recorded() -> None:
    """Lengths and padded targets are arguments like any other; targets one after another are refused."""
    arguments = [td.tensor(np.array(value)) for value in (LOGITS, TEXTS, INPUTS, TARGETS)]

    def step(x: td.Tensor, texts: td.Tensor, inputs: td.Tensor, targets: td.Tensor) -> td.Tensor:
        x = x.detach().requires_grad_()
        return td.grad(td.ctc_loss(td.log_softmax(x, 2), texts, inputs, targets, zero_infinity=True), x)[0]

    recorded = td.record(step)
    recorded(*arguments)
    others = [
        arguments[0] * 2,
        *(td.tensor(np.array(value)) for value in (TEXTS[::-1], [9, 9, 5, 6], [1, 4, 2, 0])),
    ]
    np.testing.assert_array_equal(recorded(*others).numpy(), step(*others).numpy())
    with pytest.raises(GraphError, match="ctc_loss with targets one after another: expected an eager step"):
        td.record(step)(arguments[0], td.tensor(TEXTS.reshape(-1)[:11]), *arguments[2:])


def test_ctc_refuses() -> None:
    x, t = td.zeros(5, 2, 4), td.tensor(np.ones((2, 3), np.int64))
    for arguments, error, message in (
        (
            (x[0, 0], t, [5, 5], [3, 3]),
            ShapeError,
            r"ctc_loss: expected log_probs \(T, N, C\) or \(T, C\), got \(4,\)",
        ),
        ((x, t[:1], [5, 5], [3, 3]), ShapeError, r"ctc_loss: expected targets \(2, S\) or .*, got \(1, 3\)"),
        ((x, t, [5], [3, 3]), ShapeError, r"ctc_loss: expected input_lengths \(2,\), got \(1,\)"),
        (
            (x, t, [5, 6], [3, 3]),
            IndexError,
            r"ctc_loss: input_lengths: expected indices from 0 to 5, got 5 to 6",
        ),
        (
            (x, t, [5, 5], [3, 4]),
            IndexError,
            r"ctc_loss: target_lengths: expected indices from 0 to 3, got 3 to 4",
        ),
        (
            (x, t + 3, [5, 5], [3, 3]),
            IndexError,
            r"ctc_loss: targets: expected indices from 0 to 3, got 4 to 4",
        ),
        (
            (x, t[0], [5, 5], [3, 3]),
            ShapeError,
            r"ctc_loss: expected sum\(target_lengths\)=6 targets, got \(3,\)",
        ),
        ((x, t, [5, 5], [3, 3], 4), IndexError, r"ctc_loss: blank: expected indices from 0 to 3, got 4 to 4"),
        (
            (x, t, [5.0, 5.0], [3, 3]),
            DtypeError,
            r"ctc_loss: input_lengths: expected an index of integers, got float64",
        ),
        (
            (x, t, [5, 5], [3, 3], 0, "all"),
            ValueError,
            "ctc_loss: expected reduction 'mean', 'sum' or 'none', got 'all'",
        ),
    ):
        with pytest.raises(error, match=message):
            td.ctc_loss(*arguments)


@pytest.mark.parametrize(
    "settings", [{}, {"ignore_index": 1}, {"reduction": "sum", "label_smoothing": 0.1}, {"weight": True}]
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_replay_may_ignore_other_labels_than_the_recording(backend: str, settings: dict[str, Any]) -> None:
    settings = settings | ({"weight": td.tensor(WEIGHTS)} if "weight" in settings else {})
    ignored = settings.get("ignore_index", -100)

    def step(x: Any, t: Any) -> tuple[Any, ...]:
        x = x.detach().requires_grad_()
        loss = td.cross_entropy(x, t, **settings)
        (g,) = td.grad(loss, x, create_graph=True)
        return (loss.detach(), g.detach(), *td.grad((g * g).sum(), x))

    with td.backend(backend):
        recorded = td.record(step)
        for labels in ([0, 2, 3, 0, 2], [0, ignored, 3, 2, ignored], [ignored, 0, 0, 0, 0], [0, 2, 3, 0, 2]):
            inputs = td.tensor(X), td.tensor(labels)
            for ours, eager in zip(recorded(*inputs), step(*inputs), strict=True):
                assert ours.numpy().tobytes() == eager.numpy().tobytes()


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, t, w: td.cross_entropy(x, t),
        lambda x, t, w: td.cross_entropy(x, t, w, label_smoothing=0.1),
        lambda x, t, w: td.nll_loss(x, t, w),
        lambda x, t, w: td.nll_loss(x, t, ignore_index=-1),
        lambda x, t, w: td.multi_margin_loss(x, t),
    ],
)
def test_a_label_that_is_no_class_shows_in_a_replay(loss: Any) -> None:
    def step(t: Any) -> Any:
        x = td.tensor(X, requires_grad=True)
        value = loss(x, t, td.tensor(WEIGHTS))
        return value.detach(), *td.grad(value, x)

    recorded = td.record(step)
    for labels in ([0, 1, 2, 3, 0], [0, 1, 2, 3, 4], [0, 1, -7, 3, 2], [0, 1, 2, 3, 0]):
        value, g = recorded(td.tensor(labels))
        right = [0 <= label < 4 for label in labels]
        assert np.isfinite(value.item()) == all(right)
        assert [bool(row.any()) for row in np.isnan(g.numpy())] in (
            [not known for known in right],
            [not all(right)] * 5,
        )


def test_a_mean_of_nothing() -> None:
    assert np.isnan(td.cross_entropy(td.tensor(X), td.tensor([-100] * 5)).item())
