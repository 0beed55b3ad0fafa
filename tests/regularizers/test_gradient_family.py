"""What the penalties on gradients mean: expectations, the readings of "the Jacobian", layers, and the errors
that are known from other codes.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, M, assert_close, batch, grads, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    R1,
    R2,
    CurvaturePenalty,
    DataGrad,
    Dragan,
    FisherPenalty,
    FrobeniusJacobian,
    GradAlign,
    GradientNorm,
    GradientPenalty,
    HessianTrace,
    JacobianNorm,
    JacobianRegularizer,
    L1DataGrad,
    LipschitzPenalty,
    Objective,
    OneHotGradient,
    Penalty,
    SoftmaxJacobian,
    SpectReg,
    curvature,
    gradients,
)


def value(penalty: Penalty, model: nn.Module, x: td.Tensor, y: Any, loss: Any = td.cross_entropy) -> float:
    return Objective(model, loss, [penalty])(x, y).penalties[0].item()


def jacobians(model: nn.Module, x: td.Tensor) -> np.ndarray:
    """(B, m, B, d): every logit by every input."""
    return td.jacobian(model)(x).detach().numpy()


def own(jacobian: np.ndarray) -> np.ndarray:
    """(B, m, d): each sample's logits by its own input."""
    return np.einsum("bmbd->bmd", jacobian)


def half_square(z: td.Tensor, y: Any, reduction: str) -> td.Tensor:
    """½ ‖z_b‖², (B,)."""
    return 0.5 * (z * z).sum(1)


# The readings of "the Jacobian"
# ------------------------------------------------------------------------------------------------------------


def test_under_batch_statistics_three_readings_of_the_jacobian_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Σ_b' ‖∂z_b'/∂x_b‖² is what r or v per sample mean; ‖Σ_b' ∂z_b'/∂x_b‖² what the exact penalty and one
    r per batch mean; ‖∂z_b/∂x_b‖² alone is nobody's.
    """
    td.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    r = np.random.default_rng(0)
    x, y = td.tensor(r.standard_normal((3, 2))), td.tensor([0, 1, 1])
    jacobian = jacobians(model, x)
    each = (jacobian**2).sum() / 3
    summed = (jacobian.sum(0) ** 2).sum() / 3
    alone = (own(jacobian) ** 2).sum() / 3
    assert each > 1.2 * alone
    assert alone > 1.2 * summed

    def expectation(penalty: Penalty, drawn: tuple[int, int]) -> float:
        values = []
        for signs in itertools.product((-1.0, 1.0), repeat=drawn[0] * drawn[1]):
            monkeypatch.setattr(
                gradients, "randn", lambda *_, s=signs, **__: td.tensor(s).double().reshape(drawn)
            )
            values.append(value(penalty, model, x, y))
        return float(np.mean(values))

    np.testing.assert_allclose(expectation(SpectReg(1.0), (3, 2)), each, rtol=1e-12)
    np.testing.assert_allclose(expectation(JacobianRegularizer(1.0), (3, 2)), each / 2, rtol=1e-12)
    np.testing.assert_allclose(expectation(SpectReg(1.0, per="batch"), (1, 2)), summed, rtol=1e-12)
    np.testing.assert_allclose(value(FrobeniusJacobian(1.0), model, x, y), summed, rtol=1e-12)


@pytest.mark.parametrize("penalty", [FrobeniusJacobian, JacobianNorm, lambda w: SpectReg(w, per="batch")])
def test_a_batchnorm_on_the_logits_makes_sums_over_samples_constant(penalty: Callable[..., Penalty]) -> None:
    model, (x, y) = nn.Sequential(nn.Linear(D, M), nn.BatchNorm1d(M)).double(), batch()
    with pytest.warns(UserWarning, match="identically zero"):
        assert value(penalty(1.0), model, x, y) < 1e-7
    assert value(DataGrad(1.0), model, x, y) > 1e-3
    assert value(SoftmaxJacobian(1.0), model, x, y) > 1e-3


@pytest.mark.filterwarnings("ignore:.*expected a critic whose samples do not meet")
@pytest.mark.parametrize("penalty", [R1, R2, LipschitzPenalty, GradientPenalty, Dragan])
@pytest.mark.parametrize("flat", [False, True])
def test_a_batchnorm_on_the_score_is_warned_of(penalty: Callable[..., Penalty], flat: bool) -> None:
    """R1 and R2 are then zero; norms are, and (0 - 1)² is no less constant."""
    outputs = nn.Flatten(0) if flat else nn.Identity()
    model, (x, _) = nn.Sequential(nn.Linear(D, 1), nn.BatchNorm1d(1), outputs).double(), batch()
    loss = lambda z, y, reduction: z.reshape(-1)  # noqa: E731
    objective = Objective(model, loss, [penalty(1.0)])
    with pytest.warns(UserWarning, match="identically zero"):
        found = objective(x, fake=0.5 * x * x).penalties[0].item()
    assert min(abs(found), abs(found - 1)) < 1e-6
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective(x, fake=0.5 * x * x)


# Each at a layer, and in the units of the input
# ------------------------------------------------------------------------------------------------------------

BY_INPUT: dict[str, Callable[..., Penalty]] = {
    "DataGrad": DataGrad,
    "L1DataGrad": L1DataGrad,
    "FrobeniusJacobian": FrobeniusJacobian,
    "SoftmaxJacobian": SoftmaxJacobian,
    "OneHotGradient": OneHotGradient,
    "JacobianNorm": JacobianNorm,
    "JacobianRegularizer": lambda w, **more: JacobianRegularizer(w, generator=td.Generator(3), **more),
    "CurvaturePenalty": CurvaturePenalty,
    "GradAlign": lambda w, **more: GradAlign(w, eps=0.3, generator=td.Generator(3), **more),
    "HessianTrace": lambda w, **more: HessianTrace(w, generator=td.Generator(3), **more),
}


@pytest.mark.parametrize("name", BY_INPUT)
def test_at_a_layer_it_is_the_penalty_of_the_rest_of_the_net(name: str) -> None:
    model, (x, y) = network(nn.BatchNorm1d(6)), batch()
    terms = Objective(model, td.cross_entropy, [BY_INPUT[name](1.0, wrt="1")])(x, y)
    tail = nn.Sequential(model[2], model[3])
    h = model[1](model[0](x)).detach()
    expected = Objective(tail, td.cross_entropy, [BY_INPUT[name](1.0)])(h, y).penalties[0]
    assert_close([terms.penalties[0].item()], [expected.item()])
    found, wanted = (td.grad(v, tail[1].weight) for v in (terms.penalties[0], expected))
    assert_close([found[0].numpy()], [wanted[0].numpy()])


@pytest.mark.parametrize("name", ["R1", "R2", "GradientPenalty", "Dragan", "LipschitzPenalty"])
def test_a_critics_penalty_at_a_layer_is_that_of_its_head(name: str) -> None:
    """Where the samples are moved they are moved before the layer."""
    penalty = getattr(td.regularizers, name)
    td.manual_seed(1)
    layers = nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)
    model, (x, _) = nn.Sequential(*layers).double(), batch()
    loss = lambda z, y, reduction: z.reshape(-1)  # noqa: E731
    seen: list[td.Tensor] = []
    handle = model[1].register_forward_hook(lambda m, i, o: seen.append(o))
    term = penalty(1.0, wrt="1", generator=td.Generator(3))
    found = Objective(model, loss, [term])(x, fake=0.5 * x * x).penalties[0]
    handle.remove()
    head, h = model[2:], seen[-1].detach()
    scale = 0.5 if name in ("R1", "R2") else 1.0
    norms = np.linalg.norm(td.grad(head(h.requires_grad_()).sum(), h)[0].numpy(), axis=1)
    values = norms**2 if name in ("R1", "R2") else (norms - 1) ** 2
    np.testing.assert_allclose(found.item(), scale * values.mean(), rtol=1e-10)
    assert len(seen) == (1 if name in ("R1", "LipschitzPenalty") else 2)


def test_a_penalty_on_raw_inputs_is_that_on_normalized_ones_by_the_variance() -> None:
    """A net that divides by std sees derivatives std times larger."""
    model, (x, y) = network(), batch()

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: td.Tensor) -> td.Tensor:
            return self.model(x / 0.25)

    for penalty in (DataGrad, SoftmaxJacobian, FrobeniusJacobian):
        raw, normalized = value(penalty(1.0), Scaled(), x * 0.25, y), value(penalty(1.0), model, x, y)
        np.testing.assert_allclose(raw * 0.25**2, normalized, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in BY_INPUT if "Jacobian" in name and "Soft" not in name])
def test_a_last_bias_without_a_part_in_it_gets_the_gradient_of_the_loss(name: str) -> None:
    """Not None, and no error: pytorch issue 47562."""
    model, (x, y) = network(), batch()
    Objective(model, td.cross_entropy, [BY_INPUT[name](1.0)])(x, y).total.backward()
    penalized = grads(model)[-1]
    model.zero_grad()
    td.cross_entropy(model(x), y).backward()
    assert_close([penalized], [grads(model)[-1]])


# Norms and draws
# ------------------------------------------------------------------------------------------------------------


def test_norms_are_of_samples_not_of_the_batch() -> None:
    """pytorch-wgan issue 48: one norm over the batch; Jakubovitz's script: the first sample's alone."""
    model, (x, y) = network(), batch()
    norms = np.sqrt((own(jacobians(model, x)) ** 2).sum((1, 2)))
    assert np.ptp(norms) > 0.1
    np.testing.assert_allclose(value(JacobianNorm(), model, x, y), norms.mean(), rtol=1e-12)
    critic = nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    norms = np.sqrt((own(jacobians(critic, x)) ** 2).sum((1, 2)))
    found = value(LipschitzPenalty(), critic, x, td.zeros(B, 1).double(), td.mse_loss)
    np.testing.assert_allclose(found, ((norms - 1) ** 2).mean(), rtol=1e-12)
    flat = nn.Sequential(critic, nn.Flatten(0))
    assert value(LipschitzPenalty(), flat, x, td.zeros(B).double(), td.mse_loss) == found
    one_sided = value(LipschitzPenalty(one_sided=True), critic, x, td.zeros(B, 1).double(), td.mse_loss)
    np.testing.assert_allclose(one_sided, (np.maximum(norms - 1, 0) ** 2).mean(), rtol=1e-12, atol=1e-15)


def test_a_random_class_is_any_of_them() -> None:
    """The authors' code never draws the last one."""
    model, (x, y) = network(), batch()
    wanted = (own(jacobians(model, x)) ** 2).sum(2)
    penalty, seen = OneHotGradient(1.0, "random", generator=td.Generator(3)), set()
    for _ in range(40):
        classes = td.randint(0, M, (B,), generator=_copy(penalty.generator)).numpy()
        seen |= set(classes.tolist())
        expected = wanted[np.arange(B), classes].mean()
        np.testing.assert_allclose(value(penalty, model, x, y), expected, rtol=1e-12)
    assert seen == set(range(M))


def _copy(generator: td.Generator) -> td.Generator:
    copy = td.Generator()
    copy.load_state_dict(generator.state_dict())
    return copy


def test_soft_targets_take_the_mixture_of_logits() -> None:
    model, (x, _) = network(), batch()
    q = np.random.default_rng(2).dirichlet(np.ones(M), B)
    expected = (np.einsum("bm,bmd->bd", q, own(jacobians(model, x))) ** 2).sum(1).mean()
    np.testing.assert_allclose(value(OneHotGradient(1.0), model, x, td.tensor(q)), expected, rtol=1e-12)


def test_projections_have_the_factor_m_and_the_variance_of_the_sphere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eq. (8) of the paper lacks m. Five directions of a regular pentagon have the circle's moments to the
    fourth order.
    """
    td.manual_seed(1)
    model, (x, y) = nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 2)).double(), batch()
    x, y = x[:1], td.tensor([1])
    J, values = jacobians(model, x)[0, :, 0], []
    for k in range(5):
        v = 3.0 * np.array([[np.cos(0.4 * np.pi * k + 0.1), np.sin(0.4 * np.pi * k + 0.1)]])
        monkeypatch.setattr(gradients, "randn", lambda *_, v=v, **__: td.tensor(v))
        values.append(2 * value(JacobianRegularizer(1.0), model, x, y))
    square, m = (J**2).sum(), 2
    np.testing.assert_allclose(np.mean(values), square, rtol=1e-12)
    variance = 2 * m / (m + 2) * ((J @ J.T) ** 2).sum() - 2 / (m + 2) * square**2
    np.testing.assert_allclose(np.var(values), variance, rtol=1e-11)
    assert variance < 2 * ((J @ J.T) ** 2).sum()  # a Gaussian r's


def test_l1_is_the_first_order_of_a_signed_step() -> None:
    model, (x, y) = network(), batch()
    leaf = x.detach().requires_grad_()
    sign = td.sign(td.grad(td.cross_entropy(model(leaf), y, reduction="sum"), leaf)[0])
    eps = 1e-5
    ends = [td.cross_entropy(model(x + e * sign), y).item() for e in (eps, -eps)]
    np.testing.assert_allclose(
        value(L1DataGrad(1.0), model, x, y), (ends[0] - ends[1]) / (2 * eps), rtol=1e-8
    )


# Curvature
# ------------------------------------------------------------------------------------------------------------


def test_curvature_of_a_quadratic_loss_is_squared_and_not_divided_by_h() -> None:
    """h² ‖A ẑ‖², A = WᵀW; CURE's code takes the norm."""
    model, (x, y) = nn.Linear(D, M, bias=False).double(), batch()
    W = model.weight.numpy()
    A = W.T @ W
    signs = np.sign(x.numpy() @ A)
    unit = signs / np.linalg.norm(signs, axis=1, keepdims=True)
    expected = 1.5**2 * ((unit @ A) ** 2).sum(1).mean()
    np.testing.assert_allclose(value(CurvaturePenalty(), model, x, y, half_square), expected, rtol=1e-12)


def test_the_second_gradient_has_the_dropout_mask_of_the_first() -> None:
    """A loss that is linear in x given its mask does not bend; another mask would look like curvature."""
    td.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Dropout(0.5), nn.Linear(D, M)).double(), batch()
    linear = lambda z, y, reduction: z.sum(1)  # noqa: E731
    assert value(CurvaturePenalty(), model, x, y, linear) == 0
    np.testing.assert_allclose(value(GradAlign(eps=0.5), model, x, y, linear), 0, atol=1e-15)


def test_gradients_of_one_logit_are_aligned() -> None:
    model, (x, _) = nn.Linear(D, 1).double(), batch()
    logistic = lambda z, y, reduction: td.log(1 + td.exp(-y * z))  # noqa: E731
    y = td.tensor(np.where(np.arange(B) % 2, 1.0, -1.0)[:, None])
    found = Objective(model, logistic, [GradAlign(eps=0.5)])(x, y).penalties[0]
    np.testing.assert_allclose(found.item(), 0, atol=1e-15)
    for g in td.grad(found, list(model.parameters()), allow_unused=True):
        np.testing.assert_allclose(0 if g is None else g.numpy(), 0, atol=1e-15)


def test_samples_without_a_gradient_are_left_out_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = network(), batch()
    monkeypatch.setattr(curvature, "rand", lambda shape, **_: td.tensor(np.tile(noise, (shape[0], 1))))
    noise = np.random.default_rng(5).random(D)
    rest = value(GradAlign(eps=0.5), model, x[1:], y[1:])

    def but_the_first(z: td.Tensor, y: td.Tensor, reduction: str) -> td.Tensor:
        return td.cross_entropy(z, y, reduction="none") * td.tensor([0.0, *[1.0] * (B - 1)], dtype="float64")

    found = Objective(model, but_the_first, [GradAlign(eps=0.5)])(x, y).penalties[0]
    np.testing.assert_allclose(found.item(), rest, rtol=1e-12)
    assert np.isfinite(td.grad(found, model[0].weight)[0].numpy()).all()


def test_a_trace_over_all_signs_is_exact_and_has_hutchinsons_variance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Softmax cross-entropy by the input: H = WᵀSW; with ReLU below it JᵀSJ."""
    td.manual_seed(2)
    model, (x, y) = nn.Sequential(nn.Linear(D, 5), nn.ReLU(), nn.Linear(5, M)).double(), batch()
    x, y = x[:1], y[:1]
    p, J = td.softmax(model(x), 1).detach().numpy()[0], jacobians(model, x)[0, :, 0]
    H = J.T @ (np.diag(p) - np.outer(p, p)) @ J
    values = []
    for bits in itertools.product((0, 1), repeat=D):
        monkeypatch.setattr(curvature, "randint", lambda *_, b=bits, **__: td.tensor([b]))
        values.append(value(HessianTrace(1.0), model, x, y))
    np.testing.assert_allclose(np.mean(values), np.trace(H), rtol=1e-12)
    np.testing.assert_allclose(np.var(values), 2 * ((H**2).sum() - (np.diag(H) ** 2).sum()), rtol=1e-11)


class Quadratic(nn.Module):
    """½ θᵀAθ for each sample."""

    def __init__(self) -> None:
        super().__init__()
        r = np.random.default_rng(0)
        root = r.standard_normal((D, D))
        self.A = root @ root.T
        self.theta = nn.Parameter(td.tensor(r.standard_normal(D)))

    def forward(self, x: td.Tensor) -> td.Tensor:
        return 0.5 * (self.theta * (td.tensor(self.A) @ self.theta)).sum() + 0 * x.sum(1)


def mean_of(z: td.Tensor, y: Any, reduction: str) -> td.Tensor:
    return z


def test_gradient_norms_of_a_quadratic() -> None:
    """AAθ/‖Aθ‖ and 2AAθ."""
    model, (x, y) = Quadratic(), batch()
    A, theta = model.A, model.theta.numpy()
    for penalty, norm, slope in (
        (GradientNorm(1.0), np.linalg.norm(A @ theta), A @ A @ theta / np.linalg.norm(A @ theta)),
        (GradientNorm(1.0, squared=True), (A @ theta) @ (A @ theta), 2 * A @ A @ theta),
    ):
        found = Objective(model, mean_of, [penalty])(x, y).penalties[0]
        np.testing.assert_allclose(found.item(), norm, rtol=1e-12)
        np.testing.assert_allclose(td.grad(found, model.theta)[0].numpy(), slope, rtol=1e-11)


def test_drawn_labels_have_the_models_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample, the logits as parameters: E ‖∂/∂z‖² = 1 - ‖p‖². Each label has its share of [0, 1)."""

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z = nn.Parameter(td.tensor([[0.3, -1.0, 0.8]], dtype="float64"))

        def forward(self, x: td.Tensor) -> td.Tensor:
            return self.z + 0 * x[:, :3]

    model = Logits()
    p = td.softmax(model.z, 1).detach().numpy()[0]
    edges, mean = np.concatenate([[0], np.cumsum(p)]), 0.0
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        expected = ((p - np.eye(3)[k]) ** 2).sum()
        for u in (low + 1e-9, (low + high) / 2, high - 1e-9):
            monkeypatch.setattr(curvature, "rand", lambda *_, u=u, **__: td.tensor([[u]], dtype="float64"))
            found = value(FisherPenalty(1.0), model, td.ones(1, D).double(), td.tensor([0]))
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        mean += p[k] * expected
    np.testing.assert_allclose(mean, 1 - (p**2).sum(), rtol=1e-12)


def test_an_input_that_the_loss_ignores_is_told_where_inputs_are_moved() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(D, M).double()

        def forward(self, x: td.Tensor, unused: td.Tensor) -> td.Tensor:
            return self.linear(x)

    x, y = batch()
    wanted = "^curvature_penalty: expected losses that depend on each of 2 followed inputs, got 1 that matter"
    with pytest.raises(td.GraphError, match=wanted):
        Objective(First(), td.cross_entropy, [CurvaturePenalty()])((x, x), y)


def test_several_inputs_are_moved_together() -> None:
    """As one input of all their features."""
    model, (x, y) = network(), batch()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, a: td.Tensor, b: td.Tensor) -> td.Tensor:
            return self.model(td.cat([a, b], 1))

    for penalty in (CurvaturePenalty, L1DataGrad, JacobianNorm):
        found = value(penalty(1.0), Both(), (x[:, :1], x[:, 1:]), y)
        np.testing.assert_allclose(found, value(penalty(1.0), model, x, y), rtol=1e-12)


@pytest.mark.parametrize("of", ["input", "weights"])
def test_losses_that_do_not_bend_have_no_trace_to_train(of: str) -> None:
    linear = lambda z, y, reduction: z.sum(1)  # noqa: E731
    objective = Objective(nn.Linear(D, M).double(), linear, [HessianTrace(1.0, of=of)])
    with pytest.raises(
        td.GraphError, match=r"^hessian_trace: expected losses that bend, got some whose Hess"
    ):
        objective(*batch())


def test_on_maps_losses_count_by_their_mean_and_empty_batches_are_zero() -> None:
    model = nn.Conv2d(1, M, 1).double()
    r = np.random.default_rng(0)
    x, y = td.tensor(r.standard_normal((2, 1, 3, 3))), td.tensor(r.integers(0, M, (2, 3, 3)))

    def mean_over_positions(z: td.Tensor, y: td.Tensor, reduction: str) -> td.Tensor:
        return td.cross_entropy(z, y, reduction="none").mean((1, 2))

    for make in (L1DataGrad, CurvaturePenalty, GradientNorm, BY_INPUT["GradAlign"], BY_INPUT["HessianTrace"]):
        found, expected = (
            value(make(1.0), model, x, y, loss) for loss in (td.cross_entropy, mean_over_positions)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert found > 0
    for name in (
        "L1DataGrad",
        "SoftmaxJacobian",
        "OneHotGradient",
        "JacobianNorm",
        "JacobianRegularizer",
        "CurvaturePenalty",
        "GradAlign",
        "HessianTrace",
    ):
        assert value(BY_INPUT[name](1.0), network(), batch()[0][:0], batch()[1][:0]) == 0


@pytest.mark.parametrize("m", [1, 2, 5])
def test_the_jacobian_of_softmax_takes_a_pass_less_than_classes(
    m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last row is minus the sum of the others, under batch statistics too; of one class it is 0."""
    td.manual_seed(1)
    layers = nn.Linear(D, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, m)
    model, x = nn.Sequential(*layers).double(), batch()[0]
    y = td.tensor(np.zeros(B, np.int64))
    leaf = x.detach().requires_grad_()
    p = td.softmax(model(leaf), 1)
    slopes = [td.grad(p[:, k].sum(), leaf, retain_graph=True)[0].numpy() for k in range(m)]
    calls: list[Any] = []
    own = gradients.SoftmaxJacobian.rows
    counted = lambda self, *given: calls.append(1) or own(self, *given)  # noqa: E731
    monkeypatch.setattr(gradients.SoftmaxJacobian, "rows", counted)
    found = value(SoftmaxJacobian(1.0), model, x, y)
    np.testing.assert_allclose(found, sum((g**2).sum() for g in slopes) / B, rtol=1e-11, atol=1e-30)
    assert len(calls) == max(m - 1, 1)
