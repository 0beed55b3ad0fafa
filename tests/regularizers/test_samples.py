"""Terms that change samples: every row of catalogue/terms.py, and what each one does to a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from catalogue.terms import TERMS, TermRow
from penalized import B, D, M, assert_close, batch, network

import tinydl as td
from tinydl import nn, regularizers
from tinydl.regularizers import (
    CutMix,
    Cutout,
    DataGrad,
    Distill,
    JensenShannon,
    ManifoldMixup,
    Mixup,
    Objective,
    Penalty,
    RandomErasing,
    SamplePairing,
    SelfDistill,
    Term,
    samples,
)
from tinydl.training import checkpoint

rows = pytest.mark.parametrize("row", TERMS, ids=lambda row: row.name)


# Every term
# ------------------------------------------------------------------------------------------------------------


def test_every_term_has_a_row() -> None:
    public = [getattr(regularizers, name) for name in regularizers.__all__]
    terms = [thing for thing in public if isinstance(thing, type) and issubclass(thing, Term)]
    valueless = {term.__name__ for term in terms if not issubclass(term, Penalty) and term is not Term}
    assert sorted(row.name for row in TERMS) == sorted(valueless)
    for row in TERMS:
        assert (type(row.make()).after is not Term.after) is row.after


def images(seed: int, n: int = 5) -> tuple[td.Tensor, td.Tensor]:
    r = np.random.default_rng(seed)
    return td.tensor(r.standard_normal((n, 2, 6, 8)).astype("f4")), td.tensor(r.integers(0, M, n))


def convolutions(generator: td.Generator) -> nn.Module:
    td.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Dropout(0.4, generator=generator),
        nn.Flatten(),
        nn.Linear(72, M),
    )


class Training:
    def __init__(self, row: TermRow, wrap: Callable[[Any], Any], seed: int = 1) -> None:
        self.dropout = td.Generator(seed)
        self.model = convolutions(self.dropout)
        self.model.load_state_dict({k: np.array(v) * seed for k, v in self.model.state_dict().items()})
        self.optimizer = td.optim.SGD(self.model.parameters(), lr=0.05)
        self.term = row.make(generator=td.Generator(seed, 3))
        self.objective = Objective(self.model, td.cross_entropy, [self.term, DataGrad(0.1)])
        self.play = wrap(self.step)

    def step(self, x: td.Tensor, y: td.Tensor) -> Any:
        self.optimizer.zero_grad()
        terms = self.objective(x, y)
        terms.total.backward()
        self.optimizer.step()
        self.objective.after(self.optimizer)
        return terms.total, terms.loss, terms.logits

    def go(self, *steps: int) -> list[Any]:
        return [[t.detach().numpy().tobytes() for t in self.play(*images(i))] for i in steps]

    def things(self) -> dict[str, Any]:
        return {"model": self.model, "objective": self.objective, "dropout": self.dropout}

    def bits(self) -> list[bytes]:
        return [np.array(x).tobytes() for x in self.model.state_dict().values()]


@rows
def test_recorded_as_eager_and_resumed_bit_for_bit(row: TermRow, tmp_path: Any) -> None:
    eager, recorded = Training(row, lambda step: step), Training(row, td.record)
    expected = eager.go(0, 1, 2, 3)
    assert recorded.go(0, 1) == expected[:2]
    checkpoint.save(tmp_path / "run.safetensors", **recorded.things())
    assert len(recorded.play.recordings) == 1
    resumed = Training(row, td.record, seed=2)
    resumed.go(5)
    checkpoint.load(tmp_path / "run.safetensors", **resumed.things())
    assert resumed.go(2, 3) == recorded.go(2, 3) == expected[2:]
    assert resumed.bits() == recorded.bits() == eager.bits()


@rows
def test_main_streams_stay_where_they_are_and_idle_terms_draw_nothing(row: TermRow) -> None:
    x, y = images(0)
    before = x.numpy().copy()
    values = []
    for term in (None, row.make(generator=td.Generator(5)), row.idle() if row.idle else None):
        td.manual_seed(2)
        dropout = td.Generator(9)
        model = convolutions(dropout)
        objective = Objective(model, td.cross_entropy, [term] if term else [])
        found = objective(x, y).total.item()
        objective.after(td.optim.SGD(model.parameters(), lr=0.5))
        values.append([found, [p.numpy().tobytes() for p in model.parameters()]])
        assert dropout.state_dict()["counter"] > 0
        assert td.default_generator.state_dict()["counter"] > 0
        after = [g.state_dict() for g in (dropout, td.default_generator, td.noise_generator)]
        values.append(after)
        if term is not None and term.generator.seed == 2:
            assert term.generator.state_dict()["counter"] == 0
    assert values[1] == values[3] == values[5]
    assert [a != b for a, b in zip(values[0], values[2], strict=True)] == [not row.after, row.after]
    assert values[0] == values[4]
    np.testing.assert_array_equal(x.numpy(), before)


@rows
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_stay_and_soft_targets_are_taken(row: TermRow, dtype: str) -> None:
    x, y = images(1)
    x = td.cast(x, dtype)
    soft = td.cast(td.one_hot(y, M), dtype)
    model = convolutions(td.Generator(9))
    model = model.double() if dtype == "float64" else model
    found = [
        Objective(model, td.cross_entropy, [row.make(generator=td.Generator(5))])(x, target)
        for target in ((y, soft) if row.soft else (y,))
    ]
    assert {t.dtype for terms in found for t in (terms.total, terms.logits)} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("refused", "error", "message"),
    [pytest.param(*bad, id=f"{row.name}, {bad[2]}") for row in TERMS for bad in row.bad],
)
def test_refusals(refused: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        refused()


# Mixing
# ------------------------------------------------------------------------------------------------------------


def draws_of_mixup(alpha: float, per: str, seed: int, n: int = B) -> tuple[np.ndarray, np.ndarray]:
    """λ (B,) and π: λ first."""
    g = td.Generator(seed)
    share = td.rand_beta(alpha, alpha, n if per == "sample" else 1, generator=g, dtype="float64").numpy()
    return np.broadcast_to(share, (n,)), td.randperm(n, generator=g).numpy()


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_mixup_mixes_losses_as_it_mixes_inputs(per: str) -> None:
    """For cross-entropy the same as the loss of mixed one-hot targets."""
    model, (x, y) = network(), batch()
    terms = Objective(model, td.cross_entropy, [Mixup(0.4, per, generator=td.Generator(3))])(x, y)
    share, order = draws_of_mixup(0.4, per, 3)
    column = share[:, None]
    mixed = column * x.numpy() + (1 - column) * x.numpy()[order]
    z = model(td.tensor(mixed))
    hot = np.eye(M)[y.numpy()]
    soft = td.tensor(column * hot + (1 - column) * hot[order])
    assert_close([terms.loss.item()], [td.cross_entropy(z, soft).item()])
    np.testing.assert_allclose(terms.logits.detach().numpy(), z.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_any_number_of_samples_is_mixed_by_a_permutation(n: int) -> None:
    """Also an odd one, or one: a flip would pair the middle one with itself on every batch."""
    partners = set()
    term = Mixup(generator=td.Generator(3))
    x, y = td.tensor(np.arange(n, dtype=np.float64)[:, None]), td.arange(n)
    for _ in range(30):
        mixed, target = term.before(None, x, y)  # type: ignore[arg-type]
        assert sorted(target.b.tolist()) == list(range(n))
        share = target.share.numpy()
        np.testing.assert_allclose(
            mixed.numpy()[:, 0], share * target.a.numpy() + (1 - share) * target.b.numpy()
        )
        partners |= {(n // 2, target.b.tolist()[n // 2])}
    assert len(partners) == n


def test_the_share_of_mixup_has_the_variance_of_beta() -> None:
    """1/(4(2α + 1)), and mean ½."""
    x = td.zeros(100_000, 1, dtype="float64")
    for alpha in (0.2, 1.0, 3.0):
        term = Mixup(alpha, "sample", generator=td.Generator(1))
        share = term.before(None, x, td.zeros(100_000, dtype="int64"))[1].share.numpy()  # type: ignore[arg-type]
        assert abs(share.mean() - 0.5) < 0.01
        np.testing.assert_allclose(share.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.02)


def test_mixup_of_a_linear_regression_in_expectation(monkeypatch: pytest.MonkeyPatch) -> None:
    """E = s·mean r² + (1 − s)(mean r)² with s = E[λ² + (1 − λ)²], over all permutations."""
    r = np.random.default_rng(0)
    x, y, w = r.standard_normal((4, D)), r.standard_normal(4), r.standard_normal(D)
    residual = y - x @ w
    model, lam, found = nn.Linear(D, 1, bias=False).double(), r.beta(2, 2, 4), []
    model.load_state_dict({"weight": w[None]})

    for order in itertools.permutations(range(4)):
        for s in lam:
            monkeypatch.setattr(samples, "rand_beta", lambda *_, s=s, **__: td.tensor([s]))
            monkeypatch.setattr(samples, "randperm", lambda *_, order=order, **__: td.tensor(list(order)))
            mixed, target = Mixup().before(model, td.tensor(x), td.tensor(y))
            z, targets = model(mixed), target.mixture(target.a, target.b)
            found.append(((z[:, 0] - targets) ** 2).mean().item())
    s = (lam**2 + (1 - lam) ** 2).mean()
    np.testing.assert_allclose(np.mean(found), s * (residual**2).mean() + (1 - s) * residual.mean() ** 2)


def test_class_weights_weigh_both_labels_of_a_mixed_sample() -> None:
    """Σ (λ w_y ℓ_y + (1 - λ) w_y' ℓ_y') by Σ (λ w_y + (1 - λ) w_y'); unmixed it is cross_entropy's own."""
    model, (x, y), w = network(), batch(), np.array([1.0, 4.0, 0.5])
    term = Mixup(1.0, per="sample", generator=td.Generator(4))
    objective = Objective(model, td.cross_entropy, [term])
    found = objective(x, y, class_weights=td.tensor(w)).loss
    term.generator = td.Generator(4)
    mixed, target = term.before(model, x, y)
    log_p = td.log_softmax(model(mixed), 1).detach().numpy()
    share, rows = target.share.numpy(), np.arange(len(log_p))
    a, b = target.a.numpy(), target.b.numpy()
    losses = -share * w[a] * log_p[rows, a] - (1 - share) * w[b] * log_p[rows, b]
    expected = losses.sum() / (share * w[a] + (1 - share) * w[b]).sum()
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)
    plain = Objective(model, td.cross_entropy)(x, y, class_weights=td.tensor(w)).loss
    np.testing.assert_allclose(plain.item(), td.cross_entropy(model(x), y, td.tensor(w)).item(), rtol=1e-12)
    for given, error, message in (
        ({"weights": td.ones(len(y))}, ValueError, "Objective: expected weights or class_weights, got both"),
        ({"class_weights": td.ones(3, 1)}, td.ShapeError, r"Objective: expected class_weights \(m,\) and"),
    ):
        with pytest.raises(error, match=f"^{message}"):
            Objective(model, td.cross_entropy)(x, y, **{"class_weights": td.tensor(w), **given})


def test_penalties_after_it_see_the_mixed_batch() -> None:
    model, (x, y) = network(), batch()
    terms = Objective(model, td.cross_entropy, [Mixup(generator=td.Generator(3)), DataGrad(1.0)])(x, y)
    share, order = draws_of_mixup(1.0, "batch", 3)
    mixed = td.tensor(share[:, None] * x.numpy() + (1 - share[:, None]) * x.numpy()[order])
    hot = np.eye(M)[y.numpy()]
    soft = td.tensor(share[:, None] * hot + (1 - share[:, None]) * hot[order])
    alone = Objective(model, td.cross_entropy, [DataGrad(1.0)])(mixed, soft)
    assert_close([terms.penalties[0].item()], [alone.penalties[0].item()])


def test_manifold_mixup_on_a_linear_tail_mixes_logits() -> None:
    model, (x, y) = network(), batch()
    terms = Objective(model, td.cross_entropy, [ManifoldMixup(2.0, "1", generator=td.Generator(3))])(x, y)
    share, order = draws_of_mixup(2.0, "batch", 3)
    z = model(x).detach().numpy()
    expected = share[:, None] * z + (1 - share[:, None]) * z[order]
    np.testing.assert_allclose(terms.logits.detach().numpy(), expected, rtol=1e-12)
    both = Objective(
        model,
        td.cross_entropy,
        [ManifoldMixup(2.0, "1", generator=td.Generator(3)), JensenShannon(1.0, lambda x: x)],
    )(x, y)
    assert both.penalties[0].item() == pytest.approx(0, abs=1e-15)  # its passes are mixed too


def test_manifold_mixup_draws_a_layer_for_each_batch() -> None:
    model, (x, y) = network(), batch()
    term = ManifoldMixup(2.0, ("0", "1"), generator=td.Generator(3))
    objective, layers = Objective(model, td.cross_entropy, [term]), []
    for _ in range(10):
        objective(x, y)
        layers += list(term.replace)
    assert set(layers) == {"0", "1"}
    assert len(layers) == 10
    twice = Objective(
        model, td.cross_entropy, [ManifoldMixup(2.0, "1"), ManifoldMixup(2.0, "1", name="again")]
    )
    with pytest.raises(td.ShapeError, match="ManifoldMixup: expected targets of one term that mixes"):
        twice(x, y)


def test_sample_pairing_is_mixup_at_one_half_with_one_label() -> None:
    x, y = batch()
    term = SamplePairing(generator=td.Generator(3))
    order = td.randperm(B, generator=td.Generator(3)).numpy()
    paired, target = term.before(None, x, y)  # type: ignore[arg-type]
    assert_close([paired.numpy()], [(x.numpy() + x.numpy()[order]) / 2])
    assert target is y
    play = td.record(lambda x: term.before(None, x, y)[0] * 1)  # type: ignore[arg-type]
    play(x)
    term.active = False
    np.testing.assert_array_equal(play(x).numpy(), x.numpy())
    assert len(play.recordings) == 1


# Boxes
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_the_share_of_cutmix_is_the_fraction_of_pixels(per: str) -> None:
    """On images that are not square, with boxes cut off at the edges."""
    n, (rows, columns) = 200, (6, 11)
    x = td.tensor(np.broadcast_to(np.arange(n, dtype=np.float64)[:, None, None, None], (n, 2, rows, columns)))
    g = td.Generator(4)
    for _ in range(5 if per == "batch" else 1):
        drawn = td.Generator(*[g.state_dict()[k] for k in ("seed", "stream")])
        drawn.load_state_dict(g.state_dict())
        mixed, target = CutMix(1.0, per, generator=g).before(None, x, td.arange(n))  # type: ignore[arg-type]
        own = (mixed.numpy() == x.numpy()).mean((1, 2, 3))
        other = target.b.numpy()
        away = other != np.arange(n)
        np.testing.assert_allclose(own[away], target.share.numpy()[away], rtol=1e-12)
        k = n if per == "sample" else 1
        lam = td.rand_beta(1.0, 1.0, k, generator=drawn, dtype="float64").numpy()
        row, column = (td.randint(0, size, (k,), generator=drawn).numpy() for size in (rows, columns))
        for b in np.flatnonzero(away)[:50]:
            i = b if per == "sample" else 0
            box = np.zeros((rows, columns), bool)
            for axis, (size, c) in enumerate(((rows, row[i]), (columns, column[i]))):
                side = int(size * np.sqrt(1 - lam[i]))
                line = np.zeros(size, bool)
                line[max(c - side // 2, 0) : c - side // 2 + side] = True
                box = box | False if axis == 0 else box
                box = np.broadcast_to(line[:, None], box.shape).copy() if axis == 0 else box & line[None]
            np.testing.assert_array_equal((mixed.numpy()[b] == other[b]).all(0), box)


def test_the_partner_of_cutmix_has_77_of_240_parts_on_average() -> None:
    """Not ½: boxes are cut off. α = 1, large images."""
    x = td.zeros(20_000, 1, 64, 64)
    target = CutMix(1.0, "sample", generator=td.Generator(1)).before(
        None, x, td.zeros(20_000, dtype="int64")
    )[1]  # type: ignore[arg-type]
    np.testing.assert_allclose(1 - target.share.numpy().mean(), 77 / 240, atol=0.01)


@pytest.mark.parametrize("size", [2, 14, 28])
def test_cutout_masks_what_lies_inside(size: int) -> None:
    """An axis: (ns − (s/2)²)/n² on average; at 28² and 14 that is .191, not .25."""
    x = td.ones(4000, 3, 28, 28)
    found = Cutout(size, generator=td.Generator(1)).before(None, x, None)[0].numpy()  # type: ignore[arg-type]
    axis = (28 * size - (size // 2) ** 2) / 28**2
    zeros = found == 0
    np.testing.assert_allclose(zeros.mean(), axis**2, rtol=0.05)
    assert (zeros == zeros[:, :1]).all()
    assert set(np.unique(found)) == {0, 1}
    assert len(np.unique(zeros.mean((1, 2, 3)))) > 1


def test_cutout_fills_with_a_number_one_per_channel_or_noise() -> None:
    x, y = images(0)
    for value in (2.0, (1.5, -3.0), "noise"):
        mixed, _ = Cutout(4, value, generator=td.Generator(7)).before(nn.Flatten(), x, y)
        plain, _ = Cutout(4, 0.0, generator=td.Generator(7)).before(nn.Flatten(), x, y)
        box = (plain.numpy() == 0)[:, 0]
        assert 0 < box.sum() < box.size
        inside = np.moveaxis(mixed.numpy(), 1, -1)[box]  # (pixels, channels)
        if value == "noise":
            assert len(np.unique(inside)) == inside.size
            assert abs(inside.mean()) < 0.5
        else:
            np.testing.assert_array_equal(inside, np.broadcast_to(value, inside.shape).astype("f4"))
        outside = np.moveaxis(mixed.numpy(), 1, -1)[~box]
        np.testing.assert_array_equal(outside, np.moveaxis(x.numpy(), 1, -1)[~box])


def test_random_erasing_draws_areas_and_ratios_within_their_bounds() -> None:
    n, (rows, columns) = 3000, (40, 60)
    x = td.ones(n, 2, rows, columns)
    term = RandomErasing(0.5, (0.05, 0.3), (0.5, 2.0), (0.0, -1.0), generator=td.Generator(1))
    found = term.before(None, x, None)[0].numpy()  # type: ignore[arg-type]
    erased = found[:, 0] == 0
    assert (found[:, 1][erased] == -1).all()
    assert (found[:, 1][~erased] == 1).all()
    some = erased.any((1, 2))
    np.testing.assert_allclose(some.mean(), 0.5, atol=5 * np.sqrt(0.25 / n))
    heights, widths = erased.any(2).sum(1)[some], erased.any(1).sum(1)[some]
    assert (heights * widths == erased.sum((1, 2))[some]).all()  # boxes, whole
    share, ratio = heights * widths / (rows * columns), heights / widths
    assert share.min() > 0.04
    assert share.max() < 0.32
    np.testing.assert_allclose(share.mean(), 0.175, atol=0.01)
    assert 0.45 < ratio.min() < 0.6
    assert 1.7 < ratio.max() < 2.2
    np.testing.assert_allclose(np.log(ratio).mean(), 0, atol=0.05)
    tops = erased.any(2).argmax(1)[some] / (rows - heights)
    np.testing.assert_allclose(tops.mean(), 0.5, atol=0.03)


def test_boxes_that_never_fit_erase_nothing() -> None:
    x = td.ones(50, 1, 4, 4)
    term = RandomErasing(1.0, (0.9, 0.9), (20.0, 20.0), generator=td.Generator(1))
    np.testing.assert_array_equal(term.before(None, x, None)[0].numpy(), x.numpy())  # type: ignore[arg-type]


def test_noise_is_as_wide_as_the_images() -> None:
    x = td.ones(500, 2, 8, 8)
    term = RandomErasing(1.0, (0.2, 0.2), (1.0, 1.0), "noise", generator=td.Generator(1))
    noise = term.before(None, x, None)[0].numpy()  # type: ignore[arg-type]
    noise = noise[noise != 1]
    assert noise.size > 5000
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


# Between predictions
# ------------------------------------------------------------------------------------------------------------


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_the_jensen_shannon_term_is_the_entropy_of_the_mean_less_the_mean_entropy() -> None:
    model, (x, y) = network(), batch()
    views = iter([0.5, -1.5])
    terms = Objective(model, td.cross_entropy, [JensenShannon(12.0, lambda x: x * next(views))])(x, y)
    with td.no_grad():
        p = [softmax(model(x * s).numpy()) for s in (1.0, 0.5, -1.5)]
    entropy = lambda p: -(p * np.log(p)).sum(1).mean()  # noqa: E731
    expected = entropy(np.mean(p, 0)) - np.mean([entropy(q) for q in p])
    assert_close([terms.penalties[0].item()], [expected])
    assert_close([terms.total.item()], [terms.loss.item() + 12 * expected])


def test_distillation_as_the_loss_and_in_the_limit() -> None:
    """(1 − α)CE + α·T²·KL; for large T its gradient is (centred z − centred t)/(mB)."""
    td.manual_seed(0)
    model, teacher = nn.Linear(D, M).double(), nn.Sequential(nn.Linear(D, M), nn.Dropout(0.5)).double()
    x, y = batch()
    terms = Objective(model, Distill(0.3, teacher, T=2.0, loss=td.cross_entropy))(x, y)
    z, t = model(x).detach().numpy(), teacher[0](x).detach().numpy()
    p, q = softmax(t / 2), softmax(z / 2)
    own = td.cross_entropy(model(x), y).item()
    assert_close([terms.total.item()], [0.7 * own + 0.3 * 4 * (p * np.log(p / q)).sum(1).mean()])
    assert teacher.training
    value = Objective(model, td.cross_entropy, [Distill(1.0, teacher, T=1e4)])(x, y).penalties[0]
    gradient = td.grad(value, [model.bias])[0].numpy()
    centred = lambda z: z - z.mean(1, keepdims=True)  # noqa: E731
    np.testing.assert_allclose(gradient, ((centred(z) - centred(t)) / (M * B)).sum(0), rtol=1e-3, atol=1e-6)
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("save", [False, True])
def test_a_teacher_is_in_the_checkpoint_on_request(save: bool) -> None:
    objective = Objective(network(), td.cross_entropy, [Distill(1.0, network(), save_teacher=save)])
    assert ("teacher" in objective.state_dict()["terms"]["distill"]) is save
    assert list(objective.parameters()) == []


def test_heads_learn_from_the_output_and_not_the_other_way_round() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            td.manual_seed(0)
            self.body, self.head, self.tail = nn.Linear(D, 5), nn.Linear(5, M), nn.Linear(5, M)
            self.double()

        def forward(self, x: td.Tensor) -> td.Tensor:
            h = td.tanh(self.body(x))
            self.head(h)
            return self.tail(h)

    model, (x, y) = Heads(), batch()
    terms = Objective(model, td.cross_entropy, [SelfDistill(1.0, "head", T=2.0)])(x, y)
    with td.no_grad():
        h = td.tanh(model.body(x))
        p, q = softmax(model.tail(h).numpy() / 2), softmax(model.head(h).numpy() / 2)
    assert_close([terms.penalties[0].item()], [4 * (p * np.log(p / q)).sum(1).mean()])
    terms.penalties[0].backward()
    assert_close([np.array(model.head.bias.grad)], [2 * (q - p).mean(0)])
    assert not model.tail.weight.grad.numpy().any()
