"""Critics and several tasks: what their rows cannot show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, assert_close, batch, grads, network

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L2,
    R1,
    R2,
    ConfidencePenalty,
    Consistency,
    FeatureMatching,
    GradientPenalty,
    GradNorm,
    MinibatchDiscrimination,
    Objective,
    PCGrad,
    Relativistic,
    UncertaintyWeighting,
    Wasserstein,
)

# Critics
# ------------------------------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """D = xᵀAx, (B,) or (B, 1)."""

    def __init__(self, A: np.ndarray, column: bool = False) -> None:
        super().__init__()
        self.A, self.column = nn.Parameter(A), column

    def forward(self, x: td.Tensor) -> td.Tensor:
        return ((x @ self.A) * x).sum(1, keepdim=self.column)


def pair(n: int = B) -> tuple[np.ndarray, td.Tensor, td.Tensor]:
    r = np.random.default_rng(0)
    return (
        r.standard_normal((D, D)),
        td.tensor(r.standard_normal((B, D))),
        td.tensor(r.standard_normal((n, D))),
    )


@pytest.mark.parametrize("column", [False, True])
def test_slopes_are_of_the_critic_itself_on_each_sample(column: bool) -> None:
    """½ mean ‖(A + Aᵀ)x‖²: of D, not of softplus D, which would shrink where the critic is sure; the mean of
    samples' lengths, not the length of the batch.
    """
    A, x, fake = pair()
    model = Quadratic(A, column)
    one, two, both = Objective(
        model, Relativistic(), [R1(1.0), R2(1.0), GradientPenalty(generator=td.Generator(2))]
    )(x, fake=fake).penalties
    S = A + A.T
    t = td.rand(B, 1, generator=td.Generator(2), dtype="float64").numpy()
    length = np.linalg.norm((t * x.numpy() + (1 - t) * fake.numpy()) @ S, axis=1)
    assert_close(
        [one.item(), two.item(), both.item()],
        [
            ((x.numpy() @ S) ** 2).sum(1).mean() / 2,
            ((fake.numpy() @ S) ** 2).sum(1).mean() / 2,
            ((length - 1) ** 2).mean(),
        ],
    )
    one.backward(retain_graph=True)
    gram = x.numpy().T @ x.numpy() / B
    assert_close([np.array(model.A.grad)], [S @ gram + gram @ S], rtol=1e-10)


def test_a_lazy_penalty_has_the_every_step_gradient_in_the_mean() -> None:
    """Each c-th step with c times the weight: a factor that is easily forgotten."""
    A, x, fake = pair()
    found = []
    for every in (1, 4):
        model = Quadratic(A)
        objective = Objective(model, Wasserstein(), [R1(0.3, every=every)])
        for step in range(4):
            objective(x, fake=fake, due=objective.due(step)).total.backward()
        found.append(np.array(model.A.grad))
    assert_close([found[1]], [found[0]])


def test_fakes_may_be_more_than_the_real_samples() -> None:
    A, x, fake = pair(9)
    value = Objective(Quadratic(A), Wasserstein())(x, fake=fake).total.item()
    score = lambda x: np.einsum("bi,ij,bj->b", x, A, x)  # noqa: E731
    assert_close([value], [score(fake.numpy()).mean() - score(x.numpy()).mean()])


def test_a_generator_is_trained_through_its_fakes() -> None:
    """Real and fake change places in the relativistic loss; feature matching leaves the real side alone."""
    A, x, noise = pair()
    critic, generator = Quadratic(A), nn.Linear(D, D).double()
    made = generator(noise)
    fake = made.detach().numpy()
    score = lambda x: np.einsum("bi,ij,bj->b", x, A, x)  # noqa: E731
    terms = Objective(critic, Relativistic())(made, fake=x)
    terms.total.backward()
    d = score(fake) - score(x.numpy())
    dx = -(fake @ (A + A.T)) / (1 + np.exp(d))[:, None] / B
    assert_close([terms.total.item()], [np.log1p(np.exp(-d)).mean()])
    assert_close([np.array(generator.weight.grad)], [dx.T @ noise.numpy()])
    generator.zero_grad()
    body = nn.Sequential(nn.Linear(D, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    matched = Objective(body, FeatureMatching(1.0, "0"))(x, fake=generator(noise))
    matched.total.backward()
    W = np.array(body[0].weight)
    difference = (x.numpy() - fake).mean(0) @ W.T
    assert_close([matched.total.item()], [(difference**2).sum()])
    assert_close([np.array(generator.bias.grad)], [-2 * difference @ W])


def test_consistency_draws_from_its_own_stream() -> None:
    model, (x, _) = nn.Linear(D, 1).double(), batch()
    before = td.default_generator.state_dict()
    noisy = lambda x: x + td.randn(x.shape, dtype=x.dtype)  # noqa: E731
    term = Consistency(1.0, noisy, generator=td.Generator(5))
    value = Objective(model, Wasserstein(), [term])(x, fake=x).penalties[0].item()
    assert td.default_generator.state_dict() == before
    noise = td.randn(B, D, generator=td.Generator(5), dtype="float64").numpy()
    assert_close([value], [((noise @ np.array(model.weight)[0]) ** 2).mean()])


def test_minibatch_discrimination() -> None:
    """Σ over the others of exp(−distance), appended; a single sample is refused."""
    layer = MinibatchDiscrimination(D, 3, 2).double()
    x, _ = batch()
    out = layer(x).detach().numpy()
    m = (x.numpy() @ np.array(layer.weight)).reshape(B, 3, 2)
    near = np.exp(-np.abs(m[:, None] - m[None]).sum(3))
    assert_close([out], [np.concatenate([x.numpy(), near.sum(1) - 1], 1)])
    weight = layer.weight.detach().requires_grad_()
    assert td.gradcheck(
        lambda x, w: td.functional_call(layer, {"weight": w}, (x,)),
        (x.detach().requires_grad_(), weight),
        order=2,
    )
    assert abs(np.array(MinibatchDiscrimination(200).weight).std() - 0.05) < 0.002
    assert repr(layer) == f"MinibatchDiscrimination({D}, kernels=3, dims=2)"
    for bad in (x[:1], td.ones(2, D + 1, dtype="float64")):
        with pytest.raises(
            td.ShapeError, match=rf"^MinibatchDiscrimination: expected input \(B, {D}\) of at least 2"
        ):
            layer(bad)
    with pytest.raises(
        ValueError, match="MinibatchDiscrimination: expected in_features, kernels and dims of"
    ):
        MinibatchDiscrimination(D, 0)


# Several tasks
# ------------------------------------------------------------------------------------------------------------


TASKS = (lambda z, y: td.cross_entropy(z, y), lambda z, y: (z * z).mean())


def test_uncertainties_find_their_losses() -> None:
    """At the optimum e^s = 2L for classification, L for regression; value ½(1 + log 2L), ½(1 + log L)."""
    model, (x, y) = network().requires_grad_(False), batch()
    weighting = UncertaintyWeighting(TASKS, ("classification", "regression"))
    objective = Objective(model, weighting)
    optimizer = td.optim.SGD(list(objective.parameters()), lr=0.5)
    assert [p.shape for p in objective.parameters()] == [(2,)]
    for _ in range(400):
        optimizer.zero_grad()
        terms = objective(x, y)
        terms.total.backward()
        optimizer.step()
    own, square = (task(model(x), y).item() for task in TASKS)
    np.testing.assert_allclose(np.exp(np.array(weighting.s)), [2 * own, square], rtol=1e-6)
    np.testing.assert_allclose(terms.total.item(), (2 + np.log(2 * own) + np.log(square)) / 2, rtol=1e-6)


def test_grad_norm_moves_its_shares_down_the_papers_slope() -> None:
    """sign(G_i − mean G · r_i^α)·‖∇L_i‖, then Σw = the number of tasks; L⁰ is of the first step."""
    model, (x, y) = network(), batch()
    balance = GradNorm(TASKS, "2.weight", alpha=1.5, lr=0.1)
    objective = Objective(model, balance)
    optimizer = td.optim.SGD(model.parameters(), lr=0.2)
    shares, first = np.ones(2), None
    for _ in range(4):
        losses = [task(model(x), y) for task in TASKS]
        length = np.array([np.linalg.norm(td.grad(loss, [model[2].weight])[0].numpy()) for loss in losses])
        value = np.array([task(model(x), y).item() for task in TASKS])
        first = value if first is None else first
        optimizer.zero_grad()
        terms = objective(x, y)
        objective(x, y)  # a second call before `after` changes nothing
        assert_close([terms.total.item()], [(shares * value).sum()])
        terms.total.backward()
        optimizer.step()
        objective.after()
        ratio = value / first / (value / first).mean()
        size = shares * length
        shares = shares - 0.1 * np.sign(size - size.mean() * ratio**1.5) * length
        shares = shares / shares.sum() * 2
        assert_close([np.array(balance.shares)], [shares])
    assert abs(shares[0] - 1) > 0.01


def flat(model: nn.Module) -> np.ndarray:
    return np.concatenate([g.ravel() for g in grads(model)])


def by_part(model: nn.Module, terms: Any, weights: list[float]) -> list[np.ndarray]:
    rows = []
    for value, weight in zip((terms.loss, *terms.penalties), weights, strict=True):
        found = td.grad(value, list(model.parameters()), retain_graph=True, allow_unused=True)
        each = zip(found, model.parameters(), strict=True)
        rows.append(
            np.concatenate([(np.zeros(p.shape) if g is None else g.numpy()).ravel() for g, p in each])
            * weight
        )
    return rows


def against(g: np.ndarray, other: np.ndarray) -> np.ndarray:
    return g - min(0, g @ other / (other @ other)) * other


def test_pc_grad_of_a_pair() -> None:
    """Where two gradients oppose each other, what is left of each stands upright on the other."""
    model, (x, _) = network(), batch()
    y = td.argmax(model(x).detach(), 1)  # the loss asks for more confidence
    terms = Objective(model, td.cross_entropy, [ConfidencePenalty(3.0)], combine=PCGrad())(x, y)
    one, two = by_part(model, terms, [1.0, 3.0])
    assert one @ two < 0
    terms.backward()
    assert_close([flat(model)], [against(one, two) + against(two, one)], rtol=1e-9)
    assert abs(against(one, two) @ two) < 1e-12


def test_pc_grad_of_parts_that_agree_is_their_sum_and_adds_up() -> None:
    model, (x, y) = network(), batch()
    terms = Objective(model, td.cross_entropy, [L2(1e-9)], combine=PCGrad())(x, y)
    one, two = by_part(model, terms, [1.0, 1e-9])
    terms.backward()
    once = flat(model)
    assert_close([once], [against(one, two) + against(two, one)], rtol=1e-9)
    terms = Objective(model, td.cross_entropy, combine=PCGrad())(x, y)
    terms.backward()  # one part: its gradient, beside what is there
    assert_close([flat(model)], [once + one], rtol=1e-9)


class Towards(L2):
    """A linear function of the parameters: its gradient is a constant."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(1.0, **options)
        self.seed = seed

    def __call__(self, seen: Any) -> td.Tensor:
        r = np.random.default_rng(self.seed)
        return sum((p * td.tensor(r.standard_normal(p.shape))).sum() for p in seen.model.parameters())


def test_pc_grad_projects_on_the_others_as_they_were_in_an_order_of_its_own() -> None:
    """Also in a recorded step; the order is drawn anew for each part and each step."""
    model, (x, y) = network(), batch()
    terms = [Towards(seed, name=f"to{seed}") for seed in range(3)]

    def run(wrap: Callable[[Any], Any]) -> tuple[list[np.ndarray], td.Generator]:
        surgery = PCGrad(td.Generator(7))
        objective = Objective(model, td.cross_entropy, terms, combine=surgery)

        def step(x: td.Tensor, y: td.Tensor) -> Any:
            model.zero_grad()
            found = objective(x, y)
            found.backward()
            return found.total

        play, found = wrap(step), []
        for _ in range(3):
            play(x, y)
            found.append(flat(model))
        return found, surgery.generator

    eager, generator = run(lambda step: step)
    recorded, other = run(td.record)
    assert [g.tobytes() for g in eager] == [g.tobytes() for g in recorded]
    assert generator.state_dict() == other.state_dict()
    assert not np.array_equal(eager[0], eager[1])
    rows = by_part(model, Objective(model, td.cross_entropy, terms)(x, y), [1.0] * 4)
    again = td.Generator(7)
    for found in eager:
        total = 0.0
        for i, row in enumerate(rows):
            others = [g for j, g in enumerate(rows) if j != i]
            for k in td.randperm(3, again).tolist():
                row = against(row, others[k])
            total = total + row
        assert_close([found], [total], rtol=1e-9)


def test_pc_grad_keeps_the_dtypes_of_parameters() -> None:
    model, (x, y) = network().float(), batch()
    weighting = UncertaintyWeighting(TASKS, ("classification", "regression"))
    objective = Objective(model, weighting, [L2(0.1)], combine=PCGrad())
    objective(td.cast(x, "float32"), y).backward()
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype("float32")}
    assert weighting.s.grad.dtype == np.float64
