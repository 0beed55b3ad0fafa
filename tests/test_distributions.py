"""`tinydl.distributions`: values and derivatives, samples, and PyTorch's where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td
from tinydl.distributions import Bernoulli, Categorical, Distribution, Normal, kl_divergence

RANDOM = np.random.default_rng(0)


def real(*shape):
    return td.tensor(RANDOM.standard_normal(shape))


def weights(*shape):
    return td.tensor(RANDOM.uniform(0.1, 1.0, shape))


LOC, SCALE, P, LOGITS, W = real(3, 1), weights(4) + 0.2, weights(5) * 0.9, real(2, 4), weights(2, 4)
ONES = td.tensor([0.0, 1.0, 1.0, 0.0, 1.0], dtype="float64")
MADE = {
    "Normal": (lambda d, a, b: d.Normal(a, b), (LOC, SCALE), real(3, 4)),
    "Uniform": (lambda d, a, b: d.Uniform(-a, b), (SCALE + 0.5, W + 0.5), real(2, 4) * 0.1),
    "Laplace": (lambda d, a, b: d.Laplace(a, b), (LOC, SCALE), real(3, 4)),
    "Exponential": (lambda d, a: d.Exponential(a), (SCALE,), weights(3, 4)),
    "Gamma": (lambda d, a, b: d.Gamma(a, b), (W, SCALE), weights(2, 4)),
    "Beta": (lambda d, a, b: d.Beta(a, b), (W, SCALE), weights(2, 4) * 0.9),
    "MultivariateNormal": (
        lambda d, a, b: d.MultivariateNormal(a, b @ b.mT + 0.5 * EYE[type(b)]),
        (real(2, 1, 3), real(4, 3, 3)),
        real(5, 1, 4, 3),
    ),
    "MultivariateNormal scale_tril": (
        lambda d, a, b: d.MultivariateNormal(a, scale_tril=b.tril() + EYE[type(b)]),
        (real(3), real(2, 3, 3) * 0.3),
        real(3),
    ),
    "Independent": (
        lambda d, a, b: d.Independent(d.Normal(a, b), 1),
        (LOC, SCALE),
        real(3, 4),
    ),
    "Bernoulli probs": (lambda d, a: d.Bernoulli(a), (P,), ONES),
    "Bernoulli logits": (
        lambda d, a: d.Bernoulli(logits=a),
        (real(5),),
        ONES,
    ),
    "Categorical probs": (lambda d, a: d.Categorical(a), (W,), td.tensor([3, 0])),
    "Categorical logits": (
        lambda d, a: d.Categorical(logits=a),
        (LOGITS,),
        td.tensor([[3, 0], [1, 1], [2, 3]]),
    ),
}
EYE = {td.Tensor: td.eye(3, dtype="float64")}
every = pytest.mark.parametrize("name", MADE)


@every
def test_densities_and_entropies_can_be_differentiated_twice(name):
    make, parameters, value = MADE[name]
    parameters = [p.detach().requires_grad_() for p in parameters]
    assert td.gradcheck(lambda *p: make(td.distributions, *p).log_prob(value), parameters, order=2)
    assert td.gradcheck(lambda *p: make(td.distributions, *p).entropy(), parameters, order=2)
    others = [1.1 * p.detach() - 0.03 for p in parameters]
    assert td.gradcheck(
        lambda *p: kl_divergence(make(td.distributions, *p), make(td.distributions, *others)),
        parameters,
        order=2,
    )


@every
def test_values_and_gradients_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    make, parameters, value = MADE[name]
    others = [1.1 * p - 0.03 for p in parameters]
    EYE[torch.Tensor] = torch.eye(3, dtype=torch.float64)

    def found(library, tensor):
        given = [tensor(p.numpy()).requires_grad_() for p in parameters]
        p, q = (
            make(library.distributions, *given),
            make(library.distributions, *map(tensor, [o.numpy() for o in others])),
        )
        results = [p.log_prob(tensor(value.numpy())), p.entropy(), library.distributions.kl_divergence(p, q)]
        results += (
            [x for x in (p.probs, p.logits) if True]
            if hasattr(p, "probs")
            else [p.mean, p.variance, p.stddev]
        )
        results += [p.cdf(tensor(value.numpy()))] if name in ("Normal", "Uniform") else []
        results += [p.covariance_matrix] if hasattr(p, "covariance_matrix") else []
        total = sum((r**2).sum() for r in results)
        gradients = (library.grad if library is td else library.autograd.grad)(total, given)
        shapes = tuple(p.batch_shape), tuple(p.event_shape)
        return [np.asarray(r.detach().numpy()) for r in (*results, *gradients)], shapes

    (ours, shape), (theirs, expected) = found(td, td.tensor), found(torch, torch.tensor)
    assert shape == expected
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6 if name in ("Beta", "Gamma") else 1e-9, atol=1e-12)


def test_a_normal_is_that_of_scipy():
    d, x = Normal(td.tensor(0.3, dtype="float64"), 2.0), td.tensor([-1.0, 0.5], dtype="float64")
    oracle = stats.norm(0.3, 2)
    np.testing.assert_allclose(d.log_prob(x).numpy(), oracle.logpdf(x.numpy()), rtol=1e-12)
    np.testing.assert_allclose(d.cdf(x).numpy(), oracle.cdf(x.numpy()), rtol=1e-12)
    assert d.entropy().item() == pytest.approx(float(oracle.entropy()), rel=1e-12)


def test_samples():
    generator = td.Generator(3)
    x = Normal(2.0, 0.5).sample((4000,), generator=generator)
    assert (x.shape, x.dtype, x.requires_grad) == ((4000,), td.float32, False)
    assert stats.kstest(x.numpy(), stats.norm(2, 0.5).cdf).pvalue > 1e-3
    b = Bernoulli(td.tensor([0.0, 0.3, 1.0])).sample((2000,), generator=generator).mean(0).tolist()
    assert b == pytest.approx([0.0, 0.3, 1.0], abs=0.05)
    c = Categorical(td.tensor([[1.0, 0.0, 3.0], [0.0, 5.0, 0.0]])).sample((3000,), generator=generator)
    assert (c.shape, c.dtype) == ((3000, 2), td.int64)
    assert np.bincount(c.numpy()[:, 0], minlength=3) / 3000 == pytest.approx([0.25, 0, 0.75], abs=0.03)
    assert set(c.numpy()[:, 1]) == {1}
    assert Categorical(td.ones(3)).sample().shape == ()


@pytest.mark.parametrize(
    ("make", "oracle"),
    [
        (lambda d: d.Uniform(td.tensor([-1.0, 2.0]), 3.0), lambda k: stats.uniform(*((-1, 4), (2, 1))[k])),
        (lambda d: d.Laplace(td.tensor([-1.0, 2.0]), 3.0), lambda k: stats.laplace((-1, 2)[k], 3)),
        (lambda d: d.Exponential(td.tensor([0.5, 2.0])), lambda k: stats.expon(scale=(2, 0.5)[k])),
        (lambda d: d.Gamma(td.tensor([0.5, 3.0]), 2.0), lambda k: stats.gamma((0.5, 3)[k], scale=0.5)),
        (lambda d: d.Beta(td.tensor([0.5, 3.0]), 2.0), lambda k: stats.beta((0.5, 3)[k], 2)),
        (
            lambda d: d.MultivariateNormal(td.tensor([1.0, -1.0]), td.tensor([[4.0, 1.0], [1.0, 1.0]])),
            lambda k: stats.norm((1, -1)[k], (2, 1)[k]),
        ),
        (
            lambda d: d.Independent(d.Normal(td.tensor([1.0, -1.0]), 2.0), 1),
            lambda k: stats.norm((1, -1)[k], 2),
        ),
    ],
)
def test_samples_of_each_number(make, oracle):
    d = make(td.distributions)
    x = d.sample((2000,), generator=td.Generator(5))
    assert (x.shape, x.dtype, x.requires_grad) == ((2000, 2), td.float32, False)
    for k in range(2):
        assert stats.kstest(x.numpy()[:, k], oracle(k).cdf).pvalue > 1e-3
    assert d.sample().shape == (2,)
    assert d.sample((0, 3)).shape == (0, 3, 2)


def test_samples_of_vectors_have_their_covariance():
    covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    factor = td.tensor(covariance).requires_grad_()
    d = td.distributions.MultivariateNormal(td.zeros(2, dtype="float64"), factor)
    x = d.rsample((4000,), generator=td.Generator(1))
    np.testing.assert_allclose(np.cov(x.detach().numpy().T), covariance, atol=0.25)
    (g,) = td.grad((x**2).mean(0).sum(), [factor])  # the sum of the variances, their mean over draws
    np.testing.assert_allclose(g.numpy(), np.eye(2), atol=0.1)


def test_draws_that_read_numbers_are_refused_in_a_recorded_step():
    for d in (td.distributions.Gamma(1.0, 2.0), td.distributions.Beta(1.0, 2.0)):
        with pytest.raises(GraphError, match=r"sample: expected no recorded step, which reads no numbers"):
            td.record(lambda x, d=d: d.sample() * x)(td.ones(1))
        with pytest.raises(NotImplementedError, match=r"rsample: expected sample\(\)"):
            d.rsample()


def test_gradients_flow_through_rsample_alone():
    loc, scale = td.tensor(1.0).requires_grad_(), td.tensor(2.0).requires_grad_()
    d = Normal(loc, scale)
    x = d.rsample((5,), generator=td.Generator(0))
    g_loc, g_scale = td.grad(x.sum(), [loc, scale])
    assert g_loc.item() == 5
    assert g_scale.item() == pytest.approx(float(((x - 1) / 2).sum()), rel=1e-5)
    assert not d.sample().requires_grad
    with pytest.raises(NotImplementedError, match=r"Categorical.rsample: expected sample\(\)"):
        Categorical(td.ones(3)).rsample()


def test_a_recorded_step_draws_and_scores_as_an_eager_one():
    logits = td.nn.Parameter(np.zeros(3))

    def step(x):
        d = Categorical(logits=logits * x)
        action = d.sample()
        return d.log_prob(action), d.entropy()

    recorded = td.record(step)
    td.manual_seed(0)
    eager = [step(td.ones(3, dtype="float64"))[0].item() for _ in range(4)]
    td.manual_seed(0)
    assert [recorded(td.ones(3, dtype="float64"))[0].item() for _ in range(4)] == eager


def test_divergences_at_the_edges():
    sure, even = Bernoulli(td.tensor(0.0)), Bernoulli(td.tensor(0.5))
    assert kl_divergence(sure, even).item() == pytest.approx(math.log(2), rel=1e-5)
    assert kl_divergence(even, sure).item() == math.inf
    a, b = Categorical(td.tensor([1.0, 0.0])), Categorical(td.tensor([0.5, 0.5]))
    assert kl_divergence(a, b).item() == pytest.approx(math.log(2), rel=1e-5)
    assert kl_divergence(b, a).item() == math.inf
    assert a.entropy().item() == pytest.approx(0.0, abs=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="Normal: expected scale above 0"):
        Normal(0.0, -1.0)
    D = td.distributions
    for make, message in (
        (lambda: D.Uniform(1.0, 1.0), "Uniform: expected low below high"),
        (lambda: D.Laplace(0.0, 0.0), "Laplace: expected scale above 0"),
        (lambda: D.Exponential(0.0), "Exponential: expected rate above 0"),
        (lambda: D.Gamma(0.0, 1.0), "Gamma: expected concentration above 0"),
        (lambda: D.Gamma(1.0, -1.0), "Gamma: expected rate above 0"),
        (lambda: D.Beta(1.0, 0.0), "Beta: expected concentrations above 0"),
        (lambda: D.MultivariateNormal(td.ones(2)), "expected covariance_matrix or scale_tril, got neither"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(ShapeError, match=r"expected loc \(\.\.\., n\) and a matrix \(\.\.\., n, n\), got"):
        D.MultivariateNormal(td.ones(2), td.ones(2, 3))
    with pytest.raises(ShapeError, match=r"Independent: expected 0 to 1 dims of the batch \(2,\), got 2"):
        D.Independent(Normal(td.ones(2), 1.0), 2)
    with pytest.raises(ShapeError, match="kl_divergence: expected as many joined dims, got 0 and 1"):
        kl_divergence(*(D.Independent(Normal(td.ones(2), 1.0), n) for n in (0, 1)))
    with pytest.raises(ValueError, match="Bernoulli: expected either probs or logits, got neither"):
        Bernoulli()
    with pytest.raises(ValueError, match="Categorical: expected either probs or logits, got both"):
        Categorical(td.ones(2), td.ones(2))
    with pytest.raises(ValueError, match=r"Bernoulli: expected probs in \[0, 1\]"):
        Bernoulli(1.5)
    with pytest.raises(ValueError, match="Categorical: expected weights of at least 0"):
        Categorical(td.tensor([1.0, -1.0]))
    with pytest.raises(ShapeError, match="Categorical: expected parameters of at least one dimension"):
        Categorical(td.tensor(1.0))
    with pytest.raises(DtypeError, match="Normal: expected parameters of a floating dtype, got int64"):
        Normal(td.tensor(1), td.tensor(1))
    with pytest.raises(
        NotImplementedError, match="expected two distributions of one kind, got Normal and Bernoulli"
    ):
        kl_divergence(Normal(0.0, 1.0), Bernoulli(0.5))
    with pytest.raises(NotImplementedError, match=r"Distribution\.log_prob"):
        Distribution().log_prob(td.ones(1))
