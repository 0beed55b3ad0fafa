"""Every penalty and every other term of the catalogue is trained by the Trainer as by a plain loop, to the
bit; and what a validation leaves alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catalogue
import numpy as np
import pytest
from catalogue.penalties import PenaltyRow
from catalogue.terms import TERMS, TermRow

import tinydl as td
from tinydl import nn
from tinydl.data import DataLoader, TensorDataset
from tinydl.metrics import Accuracy
from tinydl.regularizers import (
    MART,
    AdversarialTraining,
    CutMix,
    Mixup,
    Objective,
    RDrop,
    TemporalEnsemble,
    TrainingSignalAnnealing,
    Wasserstein,
    attack,
)
from tinydl.training import ModelCheckpoint, Trainer

ROWS: list[PenaltyRow] = [
    row
    for found in pkgutil.iter_modules(catalogue.__path__)
    if found.name.startswith("penalties")
    for row in importlib.import_module(f"catalogue.{found.name}").ROWS
]
BATCH = 5


def loader(outputs: int, *shape: int) -> DataLoader:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((3 * BATCH, *(shape or (4,)))), random.integers(0, outputs, 3 * BATCH)
    return DataLoader(TensorDataset(x, y), BATCH, seed=0)


def network(outputs: int = 3, *middle: nn.Module, images: bool = False) -> nn.Module:
    td.manual_seed(0)
    flat = [nn.Flatten()] if images else []
    return nn.Sequential(*flat, nn.Linear(4, 6), nn.Tanh(), *middle, nn.Linear(6, outputs)).double()


def made(row: PenaltyRow) -> tuple[Any, Any, Any]:
    model = network(row.outputs)
    penalty = row.of(model, 0.1)
    return model, penalty, td.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def weights(model: nn.Module) -> list[list[float]]:
    return [p.reshape(-1).tolist() for p in model.parameters()]


def looped(model: nn.Module, term: Any, optimizer: Any, batches: DataLoader, given: Any = None) -> Any:
    objective = Objective(model, td.cross_entropy, [term])
    for i, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        objective(x, y, due=objective.due(i), **(given(x) if given else {})).backward()
        optimizer.step()
        objective.after(optimizer)
    return weights(model)


@pytest.mark.filterwarnings("ignore:Trainer. its steps are not recorded", "ignore:.*critic whose samples")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_trainer_does_what_a_plain_loop_does(row: PenaltyRow) -> None:
    expected = looped(*made(row), loader(row.outputs), row.given)
    model, penalty, optimizer = made(row)
    names = row.given(td.zeros(BATCH, 4, dtype="float64"))
    trainer = Trainer(
        model,
        td.cross_entropy,
        optimizer,
        terms=[penalty],
        given={name: lambda x, y, name=name: row.given(x)[name] for name in names},
        progress=False,
        record=row.records,
    )
    history = trainer.fit(loader(row.outputs))
    assert weights(model) == expected
    assert {"loss", "total", penalty.name} <= set(history.rows[0])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_is_coupled_is_not_accumulated(row: PenaltyRow) -> None:
    """Its error; what is not coupled may be, and a loss too."""
    model, penalty, optimizer = made(row)
    if not row.coupled:
        assert Trainer(model, td.cross_entropy, optimizer, terms=[penalty], accumulate=2).accumulate == 2
        return
    wanted = (
        rf"^Trainer: accumulate: expected terms that are means over samples, got {penalty.name}, of which"
    )
    with pytest.raises(ValueError, match=wanted):
        Trainer(model, td.cross_entropy, optimizer, terms=[penalty], accumulate=2)
    with pytest.raises(ValueError, match=wanted):
        Trainer(model, penalty, optimizer, accumulate=2)


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row.name)
def test_a_term_without_a_value_too(row: TermRow) -> None:
    found = []
    for by in (looped, None):
        model, batches = network(images=row.images), loader(3, *((1, 2, 2) if row.images else (4,)))
        optimizer = td.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        if by:
            found.append(by(model, row.make(), optimizer, batches))
        else:
            Trainer(model, td.cross_entropy, optimizer, terms=[row.make()], progress=False).fit(batches)
            found.append(weights(model))
    assert found[0] == found[1]
    plain = network(images=row.images)
    Trainer(plain, td.cross_entropy, td.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)).fit(
        loader(3, *((1, 2, 2) if row.images else (4,)))
    )
    assert weights(plain) != found[0]


# Mixed labels
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("term", [Mixup, CutMix], ids=lambda term: term.__name__)
def test_class_weights_and_accuracy_are_of_mixed_labels(term: Any, record: bool) -> None:
    """Both labels weigh by their shares, and the larger share is the label that counts."""
    w, batches = [1.0, 5.0, 0.25], loader(3, 1, 2, 2)
    model = network(images=True)
    objective = Objective(model, td.cross_entropy, [term(1.0, per="sample")])
    losses, plain, counted, right = [], [], [], []
    for x, y in batches:
        terms = objective(x, y, class_weights=td.tensor(w, dtype="float64"))
        mixed, z = terms.target, terms.logits
        losses.append(terms.loss.item())
        plain.append(objective.loss(z, mixed.a, reduction="none") * mixed.share)
        plain.append(objective.loss(z, mixed.b, reduction="none") * (1 - mixed.share))
        share = mixed.share.numpy()
        a, b = mixed.a.numpy(), mixed.b.numpy()
        counted.append((share * np.array(w)[a] + (1 - share) * np.array(w)[b]).sum())
        right += [*(z.detach().numpy().argmax(1) == np.where(share >= 0.5, a, b))]
    model = network(images=True)
    trainer = Trainer(
        model,
        td.cross_entropy,
        td.optim.SGD(model.parameters(), lr=0.0),
        terms=[term(1.0, per="sample")],
        metrics=[Accuracy()],
        class_weight=w,
        record=record,
    )
    row = trainer.fit(loader(3, 1, 2, 2)).rows[0]
    np.testing.assert_allclose(row["loss"], np.average(losses, weights=counted), rtol=1e-12)
    total = sum(each.sum().item() for each in plain) / (3 * BATCH)
    np.testing.assert_allclose(row["unweighted_loss"], total, rtol=1e-12)
    assert row["accuracy"] == np.mean(right)


# What is given besides
# ------------------------------------------------------------------------------------------------------------


def indexed() -> DataLoader:
    random = np.random.default_rng(0)
    n = 3 * BATCH
    arrays = random.standard_normal((n, 4)), random.integers(0, 3, n), np.arange(n)
    return DataLoader(TensorDataset(*arrays), BATCH, shuffle=True, seed=0)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_part_of_the_batch_is_the_samples_number(accumulate: int) -> None:
    model = network()
    term = TemporalEnsemble(1.0, 3 * BATCH, classes=3)
    trainer = Trainer(
        model,
        td.cross_entropy,
        td.optim.SGD(model.parameters(), lr=0.1),
        terms=[term],
        metrics=[Accuracy()],
        given={"index": 2},
        accumulate=accumulate,
    )
    history = trainer.fit(indexed(), DataLoader(indexed().dataset, 4), 3)
    assert term.visits.numpy().tolist() == [2] * (3 * BATCH)  # the third waits
    assert {"accuracy", "val_accuracy", "temporal_ensemble"} <= set(history.rows[0])
    assert trainer.predict(DataLoader(indexed().dataset, 4)).shape == (3 * BATCH, 3)


def test_another_loader_goes_along_and_is_in_the_checkpoint(tmp_path: Path) -> None:
    def fit(epochs: int, resume: bool = False) -> tuple[Any, list[Any]]:
        model = network(3, nn.Dropout(0.3))
        seen: list[Any] = []

        class Unlabeled(td.regularizers.VAT):
            def __call__(self, seen_pass: Any) -> Any:
                seen.append(seen_pass.given["unlabeled"].numpy().tobytes())
                return super().__call__(seen_pass)

        more = DataLoader(TensorDataset(np.random.default_rng(1).standard_normal((14, 4))), 4, True, seed=3)
        trainer = Trainer(
            model,
            td.cross_entropy,
            td.optim.SGD(model.parameters(), lr=0.1),
            terms=[Unlabeled(1.0, eps=0.5, on="unlabeled")],
            given={"unlabeled": more},
            callbacks=[ModelCheckpoint(tmp_path, every_n_steps=1)],
            record=False,
        )
        path = tmp_path / "last.safetensors"
        trainer.fit(loader(3), loader(3), epochs, resume=path if resume else None)
        return weights(model), seen

    whole = fit(4)
    assert len(set(whole[1])) > 4  # it shuffles
    first = fit(2)
    last = fit(4, resume=True)
    assert (last[0], first[1] + last[1]) == whole


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("source", ["function", "loader", "place"])
def test_a_loss_that_compares_is_given_the_same_in_validation(source: str, record: bool) -> None:
    model, random = network(1), np.random.default_rng(2)
    x, fake = random.standard_normal((3 * BATCH, 4)), random.standard_normal((3 * BATCH, 4))
    y = np.zeros(3 * BATCH, np.int64)
    sources: dict[str, Any] = {
        "function": lambda x, y: 0.5 * x * x,
        "loader": DataLoader(TensorDataset(fake), BATCH, seed=0),
        "place": 2,
    }
    arrays = (x, y, fake) if source == "place" else (x, y)
    batches = [DataLoader(TensorDataset(*arrays), BATCH, seed=0) for _ in range(2)]
    trainer = Trainer(
        model,
        Wasserstein(),
        td.optim.SGD(model.parameters(), lr=0.0),
        given={"fake": sources[source]},
        record=record,
    )
    row = trainer.fit(*batches).rows[0]
    scores = lambda z: model(td.tensor(z)).detach().numpy().mean()  # noqa: E731
    if source == "loader":  # of whose batches a validation takes the one that comes next
        assert row["loss"] == pytest.approx(scores(fake) - scores(x), rel=1e-9)
        assert row["val_loss"] == pytest.approx(scores(fake[:BATCH]) - scores(x), rel=1e-9)
    else:
        expected = scores(0.5 * x * x if source == "function" else fake) - scores(x)
        assert [row["loss"], row["val_loss"]] == pytest.approx([expected] * 2, rel=1e-9)


def test_sources_of_another_kind() -> None:
    model = network()
    optimizer = td.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"^Trainer: given: index: expected a place in the batch .* got -1"):
        Trainer(model, td.cross_entropy, optimizer, given={"index": -1})


# Validation
# ------------------------------------------------------------------------------------------------------------


def streams(trainer: Trainer) -> list[Any]:
    state = trainer.objective.state_dict()
    held = [g.state_dict() for g in (td.noise_generator, td.default_generator)]
    return [held, [(n, t.get("generator"), str(t.get("weight"))) for n, t in state["terms"].items()]]


ATTACKS: list[int] = []


def attacked(model: nn.Module, x: td.Tensor, y: td.Tensor) -> td.Tensor:
    ATTACKS.append(1)
    return attack.pgd(model, x, y, 0.3, steps=1)


LOSSES: dict[str, Callable[[], Any]] = {
    "RDrop": lambda: RDrop(1.0, td.cross_entropy),
    "AdversarialTraining": lambda: AdversarialTraining(td.cross_entropy, attacked),
    "AdversarialTraining, Madry's": lambda: AdversarialTraining(td.cross_entropy, attacked, alpha=0.0),
    "MART": lambda: MART(attack=attacked),
    "TrainingSignalAnnealing": lambda: TrainingSignalAnnealing(100),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_validation_moves_no_stream_and_attacks_nobody(name: str) -> None:
    model = network(3, nn.Dropout(0.5), nn.GaussianNoise(0.1))
    trainer = Trainer(model, LOSSES[name](), td.optim.SGD(model.parameters(), lr=0.1), record=False)
    trainer.fit(loader(3))
    before = streams(trainer)
    ATTACKS.clear()
    found = trainer.evaluate(loader(3))["loss"]
    assert streams(trainer) == before
    assert not ATTACKS
    x, y = (td.tensor(array) for array in loader(3).dataset.arrays)
    model.eval()
    log_p = td.log_softmax(model(x), 1).detach().numpy()[np.arange(3 * BATCH), y.numpy()]
    clean = -log_p if name != "MART" else -log_p - np.log1p(-others(model, x, y))
    np.testing.assert_allclose(found, clean.mean(), rtol=1e-6)


def others(model: nn.Module, x: td.Tensor, y: td.Tensor) -> np.ndarray:
    """The largest probability of a wrong class."""
    p = td.softmax(model(x), 1).detach().numpy().copy()
    p[np.arange(len(p)), y.numpy()] = 0
    return p.max(1)


def test_a_fit_has_the_bits_of_one_without_validation() -> None:
    found = []
    for validation in (None, loader(3)):
        model = network(3, nn.Dropout(0.5))
        loss = AdversarialTraining(td.cross_entropy, attacked, alpha=0.0)
        trainer = Trainer(model, loss, td.optim.SGD(model.parameters(), lr=0.1), record=False)
        trainer.fit(loader(3), validation, 2)
        found.append(weights(model))
    assert found[0] == found[1]
