"""Gradients of plain and penalized losses of LeNets with BatchNorm, in float64: against
PyTorch's and against differences.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures import lenet

import tinydl as td
from tinydl.nn import Module
from tinydl.regularizers import DataGrad, Objective, data_grad, spect_reg

LOSSES = ("plain", "datagrad", "spectreg")

pytestmark = pytest.mark.usefixtures("backend")


def build(kind: str, mode: str) -> Module:
    model = lenet.network(kind, td.nn)
    model.load_state_dict(lenet.state({name: value.shape for name, value in model.state_dict().items()}))
    return model.train(mode == "train")


def total(loss: str, model: Module) -> td.Tensor:
    images, classes, r = map(td.tensor, lenet.batch())
    x = images.requires_grad_()
    logits = model(x)
    losses = td.cross_entropy(logits, classes, reduction="none")
    if loss == "plain":
        return losses.mean()
    penalty = data_grad(losses, x) if loss == "datagrad" else spect_reg(logits, x, r)
    return losses.mean() + lenet.WEIGHT[loss] * penalty


def results(kind: str, mode: str) -> dict[str, np.ndarray]:
    """What `make_fixtures.torch_results` gives, by the same names."""
    model = build(kind, mode)
    found: dict[str, np.ndarray] = {}
    for loss in LOSSES:
        model.zero_grad()
        value = total(loss, model)
        value.backward()
        found[loss] = value.detach().numpy()
        found |= {f"{loss}/{name}": p.grad.numpy() for name, p in model.named_parameters()}
        if loss == "plain":
            found |= {name: np.array(buffer) for name, buffer in model.named_buffers()}
    return found


def assert_agree(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Names and shapes are equal, losses and gradients to 1e-9 of the largest gradient entry of that loss."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        loss, separator, _ = name.partition("/")
        entries = [np.abs(v).max() for k, v in theirs.items() if separator and k.startswith(f"{loss}/")]
        np.testing.assert_allclose(
            value,
            theirs[name],
            rtol=0 if entries else 1e-12,
            atol=1e-9 * max(entries, default=0),
            err_msg=name,
        )


@pytest.mark.parametrize(("kind", "mode"), lenet.CASES)
def test_against_committed_results_of_torch(kind: str, mode: str) -> None:
    with np.load(Path(__file__).parent / "fixtures" / f"lenet_{kind}_{mode}.npz") as file:
        theirs = {name.replace(":", "/"): file[name] for name in file.files}
    ours = {
        name: lenet.sample(value) if "/" in name else value for name, value in results(kind, mode).items()
    }
    assert_agree(ours, theirs)


@pytest.mark.parametrize(("kind", "mode"), lenet.CASES)
def test_against_torch(kind: str, mode: str) -> None:
    pytest.importorskip("torch")
    from fixtures import make_fixtures

    assert_agree(results(kind, mode), make_fixtures.torch_results(kind, mode))


def test_the_lenet_of_the_paper_is_that_lenet_and_knows_no_evaluation_mode() -> None:
    plain, named = build("paper", "train"), td.nn.models.LeNet("batchnorm", dtype="float64")
    names = [name for name, _ in named.named_parameters()]
    named.load_state_dict(dict(zip(names, plain.parameters(), strict=True)))
    images, classes, _ = map(td.tensor, lenet.batch())
    found = []
    for model in (plain, named):
        for training in (True, False):
            model.train(training)
            terms = Objective(model, td.cross_entropy, [DataGrad(lenet.WEIGHT["datagrad"])])(images, classes)
            found.append([terms.total, *td.grad(terms.total, list(model.parameters()))])
    for others in found[1:]:
        for value, expected in zip(others, found[0], strict=True):
            np.testing.assert_array_equal(value.numpy(), expected.numpy())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("kind", "mode"), lenet.CASES)
def test_against_differences(kind: str, mode: str, loss: str) -> None:
    """Along a random direction of all parameters at once, of length 1."""
    model = build(kind, mode)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = td.grad(total(loss, model), parameters)
    random = np.random.default_rng(3)
    direction = [random.standard_normal(p.shape) for p in parameters]
    length = np.sqrt(sum(np.sum(d**2) for d in direction))

    def at(h: float) -> float:
        moved = {
            name: td.tensor(p.numpy() + h / length * d, requires_grad=True)
            for name, p, d in zip(names, parameters, direction, strict=True)
        }
        return total(loss, _Functional(model, moved)).item()

    slope = sum(np.sum(g.numpy() * d) for g, d in zip(gradients, direction, strict=True)) / length
    norm = np.sqrt(sum(np.sum(g.numpy() ** 2) for g in gradients))
    h = 1e-6
    np.testing.assert_allclose(slope, (at(h) - at(-h)) / (2 * h), rtol=0, atol=2e-8 * norm)


class _Functional:
    """A model at other parameters."""

    def __init__(self, model: Module, parameters: dict[str, td.Tensor]) -> None:
        self.model, self.parameters = model, parameters

    def __call__(self, x: td.Tensor) -> Any:
        return td.functional_call(self.model, self.parameters, (x,))
