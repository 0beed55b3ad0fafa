"""What nets are made of, by itself: derivatives, shapes, the cosine transform by another way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import models

pytestmark = pytest.mark.usefixtures("reference")


def test_second_derivatives() -> None:
    x = td.randn(2, 3, 4, 5, dtype="float64", requires_grad=True)
    blocks = [
        models.Inception(3, 2, 2, 2, 1, 2, 1, kernel=5, dtype="float64"),
        models.HarmonicConv2d(3, 4, 3, 2, 1, dtype="float64"),
        models.HarmonicConv2d(3, 4, 2, bn=False, dtype="float64"),
    ]
    for block in blocks:
        assert td.gradcheck(block, [x], order=2)
    assert blocks[0](x).shape == (2, 7, 4, 5)
    with pytest.raises(ShapeError, match=r"branch1\.conv: conv2d: x has C=2"):
        blocks[0](td.zeros(1, 2, 4, 4, dtype="float64"))
    with pytest.raises(ValueError, match="HarmonicConv2d: expected kernel_size"):
        models.HarmonicConv2d(3, 4, 0)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_a_harmonic_convolution_is_one_of_sums_of_cosines(k: int) -> None:
    """Without BatchNorm: the convolution with Σ_f a_f DCT_f, the filters by SciPy's transform."""
    layer = models.HarmonicConv2d(3, 4, k, 2, 1, bn=False, dtype="float64")
    filters = np.stack([dctn(unit, 2) for unit in np.eye(k * k).reshape(-1, k, k)], -1).reshape(-1, k, k)
    filters /= np.abs(filters).sum((1, 2), keepdims=True)
    a = layer.mix.weight.detach().numpy().reshape(4, 3, k * k)
    kernel = np.einsum("ocf,fij->ocij", a, filters)
    x = td.randn(2, 3, 9, 8, dtype="float64")
    expected = td.conv2d(x, td.tensor(kernel), None, 2, 1)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected.numpy(), rtol=1e-10, atol=1e-12)
    assert sum(p.numel() for p in layer.parameters()) == 4 * 3 * k * k
    assert list(layer.state_dict()) == ["mix.weight"]  # the filters are not saved


def test_the_classifiers_on_googlenets_way_answer_in_training_alone() -> None:
    net = models.GoogLeNet(5, aux_logits=True, width=2)
    x = td.randn(2, 3, 32, 32)
    found = net(x)
    assert isinstance(found, models.GoogLeNetOutputs)
    assert [y.shape for y in found] == [(2, 5)] * 3
    assert net.eval()(x).shape == (2, 5)
