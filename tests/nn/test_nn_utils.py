"""Parameters as a vector, weight normalization, population statistics, linear layers as convolutions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from comparisons import comparison
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn

pytestmark = pytest.mark.usefixtures("reference")
RANDOM = np.random.default_rng(0)


# One vector
# ------------------------------------------------------------------------------------------------------------


def test_parameters_there_and_back() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.PReLU(2), nn.Linear(2, 1))
    vector = nn.parameters_to_vector(model.parameters())
    assert vector.shape == (3 * 2 + 2 + 2 + 2 + 1,)
    np.testing.assert_array_equal(vector.detach().numpy()[:6], model[0].weight.numpy().ravel())
    (g,) = td.grad((vector * vector).sum(), model[2].weight)
    np.testing.assert_array_equal(g.numpy(), 2 * model[2].weight.numpy())
    twin, weight = copy.deepcopy(model), model[0].weight
    nn.vector_to_parameters(vector.detach() * 0, model.parameters())
    assert model[0].weight is weight
    assert not any(p.numpy().any() for p in model.parameters())
    nn.vector_to_parameters(vector, model.parameters())
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    with pytest.raises(
        ShapeError, match=r"vector_to_parameters: expected a vector of 13 elements, got \(12,\)"
    ):
        nn.vector_to_parameters(vector[1:], model.parameters())


def test_writing_parameters_ends_older_graphs() -> None:
    layer, x = nn.Linear(2, 1), td.ones(1, 2, requires_grad=True)  # x lives on, so its gradient is asked for
    y = layer(x).sum()
    nn.vector_to_parameters(td.zeros(3), layer.parameters())
    with pytest.raises(td.GraphError, match="written before the backward pass"):
        y.backward()


# Weight normalization
# -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("dim", [0, 1, -1, None])
@pytest.mark.parametrize(
    ("build", "shape"),
    [(lambda nn: nn.Linear(4, 3), (5, 4)), (lambda nn: nn.Conv2d(2, 3, 2, bias=False), (2, 2, 4, 4))],
    ids=["linear", "conv"],
)
def test_weight_norm_against_torch(build: Any, shape: tuple[int, ...], dim: int | None) -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = build(torch.nn).double(), build(nn).double()
    with comparison():
        torch.nn.utils.weight_norm(theirs, dim=dim)
        assert nn.weight_norm(ours, dim=dim) is ours
    torch.nn.init.normal_(theirs.weight_g)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    parameters = (list(ours.parameters()), list(theirs.parameters()))
    x = RANDOM.normal(size=shape)
    # torch's fused kernel takes ‖v‖ for a constant at second order
    assert_agree(ours, theirs, [x], parameters, order=1)
    expected = ours(td.tensor(x)).detach().numpy()
    nn.remove_weight_norm(ours)
    torch.nn.utils.remove_weight_norm(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.weight.is_leaf
    np.testing.assert_allclose(ours(td.tensor(x)).detach().numpy(), expected, rtol=1e-13)


def test_weight_norm_changes_nothing_at_first() -> None:
    layer, x = nn.Linear(4, 3, dtype=np.float64), td.tensor(RANDOM.normal(size=(2, 4)))
    before = layer(x).detach().numpy()
    nn.weight_norm(layer)
    np.testing.assert_allclose(layer(x).detach().numpy(), before, rtol=1e-14)
    np.testing.assert_allclose(copy.deepcopy(layer)(x).detach().numpy(), before, rtol=1e-14)
    loss = layer(x).square().sum()
    (g,) = td.grad(loss, layer.weight_v)
    # lengths are another's
    np.testing.assert_allclose((g.numpy() * layer.weight_v.numpy()).sum(1), 0, atol=1e-12)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_against_differences(dim: int | None) -> None:
    layer = nn.weight_norm(nn.Linear(4, 3, dtype=np.float64), dim=dim)
    names = [name for name, _ in layer.named_parameters()]

    def loss(x: td.Tensor, *parameters: td.Tensor) -> td.Tensor:
        return td.functional_call(layer, dict(zip(names, parameters, strict=True)), x).sin()

    inputs = [
        td.tensor(RANDOM.normal(size=shape), requires_grad=True)
        for shape in [(2, 4), *(p.shape for p in layer.parameters())]
    ]
    assert td.gradcheck(loss, inputs, 3)


def test_weight_norm_of_gates() -> None:
    layer = nn.GRU(3, 4)
    x = td.randn(5, 2, 3)
    before = layer(x)[0].detach().numpy()
    nn.weight_norm(layer, "weight_hh_l0")
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), before, atol=1e-6)
    assert "weight_hh_l0_v" in layer.state_dict()


def test_weight_norm_refuses() -> None:
    layer = nn.Linear(2, 2, bias=False)
    with pytest.raises(
        ValueError, match=r"weight_norm: expected a parameter of Linear \(weight\), got 'bias'"
    ):
        nn.weight_norm(layer, "bias")
    with pytest.raises(
        ShapeError, match=r"weight_norm: expected dim in \[-1, 1\] or None for weight \(2, 2\), got 2"
    ):
        nn.weight_norm(layer, dim=2)
    with pytest.raises(
        ValueError, match="remove_weight_norm: expected a parameter under weight_norm, got 'weight'"
    ):
        nn.remove_weight_norm(layer)


# Population statistics
# ----------------------------------------------------------------------------------------------------


def test_update_bn_averages_over_batches() -> None:
    """The mean of batch means, and of unbiased variances."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.1), nn.Dropout(0.5)).double().eval()
    batches = [td.tensor(RANDOM.normal(size=(n, 3))) for n in (5, 5, 7)]
    model[1](td.tensor(RANDOM.normal(size=(9, 4))))
    model[2].train()
    hidden = [model[0](x).detach().numpy() for x in batches]
    counter = td.default_generator.state_dict()
    nn.update_bn([(x, "labels") for x in batches], model, td.Generator(1))
    norm = model[1]
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean([h.mean(0) for h in hidden], 0))
    np.testing.assert_allclose(norm.running_var.numpy(), np.mean([h.var(0, ddof=1) for h in hidden], 0))
    assert norm.num_batches_tracked.item() == 3
    assert norm.momentum == 0.1
    assert [m.training for m in model.modules()] == [False, False, False, True]
    assert td.default_generator.state_dict() == counter


def test_update_bn_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    batches = list(RANDOM.normal(size=(4, 6, 2, 3, 3)))
    theirs = torch.nn.Sequential(
        torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2, track_running_stats=False)
    ).double()
    ours = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False)).double()
    with comparison():
        torch.optim.swa_utils.update_bn([torch.tensor(x) for x in batches], theirs)
        nn.update_bn(map(td.tensor, batches), ours)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-12)


def test_update_bn_restores_after_an_error() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4)).eval()
    with pytest.raises(ShapeError):
        nn.update_bn([td.ones(3, 5)], model)
    assert model[0].momentum == 0.1
    assert not model[0].training
    nn.update_bn([td.ones(3, 5)], nn.Identity())  # nothing to estimate


# Linear layers as convolutions
# --------------------------------------------------------------------------------------------


def test_a_network_runs_on_larger_images() -> None:
    """Its linear layers made convolutions, it gives at each place what it gave for the patch there."""
    flat = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 5, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    maps = [nn.linear_to_conv(flat[3], (3, 4, 5)), nn.linear_to_conv(flat[5], (6, 1, 1))]
    wide = nn.Sequential(flat[0], flat[1], maps[0], nn.ReLU(), maps[1])
    image = td.randn(2, 1, 9, 10)
    scores = wide(image).detach().numpy()
    assert scores.shape == (2, 2, 4, 4)
    for i, j in ((0, 0), (3, 2)):
        patch = flat(image[:, :, i : i + 6, j : j + 7]).detach().numpy()
        np.testing.assert_allclose(scores[:, :, i, j], patch, atol=1e-5)
    back = nn.conv_to_linear(maps[0])
    for name, value in flat[3].state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name].numpy(), value.numpy())
    assert (
        nn.linear_to_conv(nn.Linear(4, 2, bias=False, dtype=np.float64), (1, 2, 2)).weight.dtype == np.float64
    )


def test_conversions_refuse() -> None:
    with pytest.raises(
        ShapeError, match=r"linear_to_conv: expected \(C, H, W\) of 12 elements, got \(3, 2, 3\)"
    ):
        nn.linear_to_conv(nn.Linear(12, 2), (3, 2, 3))
    with pytest.raises(ValueError, match="conv_to_linear: expected groups=1, got 2"):
        nn.conv_to_linear(nn.Conv2d(4, 4, 2, groups=2))
