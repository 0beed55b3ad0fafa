"""Normalizations against PyTorch to second order, and dropout of whole channels, of SELU nets, and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import assert_agree
from tinydl_kernels.machine.errors import DtypeError

import tinydl as td

pytestmark = pytest.mark.usefixtures("reference")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 6, 4, 2))
W, B = RANDOM.normal(size=(2, 6))
LAST = RANDOM.normal(size=(2, 4, 2))

CASES: dict[str, tuple[Any, list[np.ndarray]]] = {
    "layer_norm": (lambda f, x, w, b: f.layer_norm(x, (4, 2), w, b), [X, *LAST]),
    "layer_norm plain": (lambda f, x: f.layer_norm(x, (2,), eps=0.1), [X]),
    "layer_norm all": (lambda f, x: f.layer_norm(x, (4, 2)), [X[0, 0]]),
    "rms_norm": (lambda f, x, w: f.rms_norm(x, (4, 2), w), [X, LAST[0]]),
    "rms_norm eps": (lambda f, x: f.rms_norm(x, (2,), eps=0.3), [X]),
    "group_norm": (lambda f, x, w, b: f.group_norm(x, 3, w, b), [X, W, B]),
    "group_norm one": (lambda f, x: f.group_norm(x, 1), [X[:, :, 0, 0]]),
    "group_norm each": (lambda f, x, w: f.group_norm(x, 6, w), [X, W]),
    "instance_norm": (lambda f, x, w, b: f.instance_norm(x, weight=w, bias=b), [X, W, B]),
    "local_response_norm": (lambda f, x: f.local_response_norm(x, 3, 0.1, 0.6, 2.0), [X]),
    "local_response_norm even": (lambda f, x: f.local_response_norm(x, 4, 0.2), [X]),
    "local_response_norm wide": (lambda f, x: f.local_response_norm(x, 15, 0.1), [X]),
    "local_response_norm one": (lambda f, x: f.local_response_norm(x, 1), [X]),
    "normalize": (lambda f, x: f.normalize(x), [X]),
    "normalize p": (lambda f, x: f.normalize(x, 3.0, -1), [X]),
    "normalize 1": (lambda f, x: f.normalize(x, 1.0, 0), [X]),
}


@pytest.mark.parametrize(("call", "arrays"), CASES.values(), ids=CASES)
def test_against_torch(call: Any, arrays: list[np.ndarray]) -> None:
    functional = pytest.importorskip("torch").nn.functional
    assert_agree(lambda *x: call(td, *x), lambda *x: call(functional, *x), arrays)


def test_running_statistics_of_instances() -> None:
    torch = pytest.importorskip("torch")
    mean, var = np.zeros(6), np.ones(6)
    ours, theirs = [td.tensor(a) for a in (mean, var)], [torch.tensor(a) for a in (mean, var)]
    for _ in range(2):
        td.instance_norm(td.tensor(X), *ours, momentum=0.3)
        torch.nn.functional.instance_norm(torch.tensor(X), *theirs, momentum=0.3)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy())
    assert_agree(
        lambda x: td.instance_norm(x, *ours, use_input_stats=False),
        lambda x: torch.nn.functional.instance_norm(x, *theirs, use_input_stats=False),
        [X],
    )


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda-emulated"])
def test_running_statistics_of_instances_in_float32(backend: str) -> None:
    mean, var = (td.tensor(a) for a in (np.zeros(6, np.float32), np.ones(6, np.float32)))
    with td.backend(backend):
        td.instance_norm(td.tensor(X.astype(np.float32)), mean, var, momentum=0.3)
        td.instance_norm(td.zeros(2, 6, 0), mean, var)  # of nothing: they stay
    np.testing.assert_allclose(mean.numpy(), 0.3 * X.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var.numpy(), 0.7 + 0.3 * X.var((2, 3), ddof=1).mean(0), rtol=1e-5)


def test_norms_of_networks_take_floating_tensors_of_one_dtype() -> None:
    x, mean, var = td.ones(2, 3, 4), td.zeros(3), td.ones(3)
    for training in (True, False):
        with pytest.raises(DtypeError, match="batch_norm: expected float32 or float64, got int64"):
            td.batch_norm(x.to("int64"), mean, var, training=training)
        with pytest.raises(DtypeError, match="batch_norm: expected one dtype, got float32 and float64"):
            td.batch_norm(x.double(), mean, var, training=training)
    with pytest.raises(DtypeError, match="local_response_norm: expected float32 or float64, got bool"):
        td.local_response_norm(x > 0, 2)


NORMS: dict[str, Any] = {
    "batch_norm": lambda x, w, b: td.batch_norm(x, None, None, w, b, training=True),
    "group_norm": lambda x, w, b: td.group_norm(x, 2, w, b),
    "instance_norm": lambda x, w, b: td.instance_norm(x, weight=w, bias=b),
    "layer_norm": lambda x, w, b: td.layer_norm(x.transpose(1, 2), (6,), w, b),
    "rms_norm": lambda x, w, b: td.rms_norm(x.transpose(1, 2), (6,), w, 1e-6) + b,
}
EXTREMES: dict[str, np.ndarray] = {
    "large mean": 1e5 + X.reshape(3, 6, 8),
    "huge": 1e20 * X.reshape(3, 6, 8),
    "tiny": 1e-25 * X.reshape(3, 6, 8),
    "constant": np.where(np.arange(6) % 3 == 0, X.reshape(3, 8, 6), 12345.678).transpose(0, 2, 1),
    "constant everywhere": np.full((3, 6, 8), -3e7),
}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("name", NORMS)
def test_float32_at_extremes_is_near_float64(name: str, extreme: str, backend: str) -> None:
    def results(dtype: str) -> list[np.ndarray]:
        arrays = [a.astype(np.float32).astype(dtype) for a in (EXTREMES[extreme], W, B)]
        inputs = [td.tensor(a, requires_grad=True) for a in arrays]
        y = NORMS[name](*inputs)
        seed = td.tensor(np.cos(np.arange(y.array.size)).reshape(y.shape).astype(dtype))
        return [t.detach().numpy() for t in (y, *td.grad((y * seed).sum(), inputs))]

    truth = results("float64")
    with td.backend(backend):
        for got, expected in zip(results("float32"), truth, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_zero_vector_has_no_direction() -> None:
    x = td.tensor(np.zeros((2, 3)), requires_grad=True)
    y = td.normalize(x)
    assert not y.detach().numpy().any()
    assert np.isfinite(td.grad(y.sum(), x)[0].numpy()).all()


# Dropout and noise
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (td.dropout1d, (40, 50, 3)),
        (td.dropout2d, (40, 50, 2, 3)),
        (td.dropout3d, (40, 50, 2, 3, 1)),
    ],
)
def test_whole_channels_are_dropped(function: Any, shape: tuple[int, ...]) -> None:
    x = td.tensor(np.ones(shape), requires_grad=True)
    y = function(x, 0.3, generator=td.Generator(1))
    channels = y.detach().numpy().reshape(40 * 50, -1)
    assert (channels == channels[:, :1]).all()
    assert set(np.unique(channels)) == {0, 1 / 0.7}
    assert abs((channels[:, 0] == 0).mean() - 0.3) < 0.05
    np.testing.assert_array_equal(td.grad(y.sum(), x)[0].numpy(), y.detach().numpy())
    assert function(x, 0.3, training=False) is x


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = td.randn(200_000, generator=td.Generator(2), dtype="float64")
    for p in (0.1, 0.5, 0.9):
        y = td.alpha_dropout(x, p, True, generator=td.Generator(3)).numpy()
        assert abs(y.mean()) < 0.02
        assert abs(y.var() - 1) < 0.02
        changed = np.unique(np.round(y, 12), return_counts=True)[1].max() / y.size
        assert abs(changed - p) < 0.01
    assert not td.alpha_dropout(x, 1.0, True).numpy().any()
    assert td.alpha_dropout(x, training=False) is x
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    values = np.round(
        np.unique(torch.nn.functional.alpha_dropout(torch.ones(50, dtype=torch.float64), 0.3, True).numpy()),
        12,
    )
    np.testing.assert_allclose(
        np.unique(np.round(td.alpha_dropout(td.ones(50, dtype="float64"), 0.3, True).numpy(), 12)), values
    )


def test_noise() -> None:
    x = td.tensor(np.full(100_000, 5.0), requires_grad=True)
    y = td.gaussian_noise(x, 0.2, generator=td.Generator(4))
    noise = y.detach().numpy() - 5
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 0.2) < 0.005
    np.testing.assert_array_equal(td.grad(y.sum(), x)[0].numpy(), 1)
    assert td.gaussian_noise(x, 0.2, training=False) is x
