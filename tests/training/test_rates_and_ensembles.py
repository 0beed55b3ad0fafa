"""The rate finder, ensembles, and what `Trainer.trial` brings back."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting import bits, data, loaders, network, trainer
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl.data import DataLoader
from tinydl.optim.lr_scheduler import CosineAnnealingWarmRestarts
from tinydl.training import (
    Ensemble,
    ModelCheckpoint,
    Schedule,
    SnapshotEnsemble,
    WeightAveraging,
    bagging,
    find_learning_rate,
    out_of_bag,
)


class TestRates:
    def test_everything_comes_back(self) -> None:
        found = trainer(
            lambda o: [Schedule(td.optim.lr_scheduler.StepLR(o, 1), per="step"), WeightAveraging(0.9)],
            lr=0.02,
        )
        train, _ = loaders()
        train.next_batch()
        before = bits(found.model), bits(found.optimizer), train.state_dict(), found.steps
        streams = td.dropout(td.ones(9), 0.5, True).tolist()
        again = trainer(lr=0.02)
        find_learning_rate(again, train, steps=20)
        assert td.dropout(td.ones(9), 0.5, True).tolist() == streams
        test = find_learning_rate(found, train, 1e-5, 1.0, steps=30)
        assert before == (bits(found.model), bits(found.optimizer), train.state_dict(), found.steps)
        assert len(test.rates) <= 30
        np.testing.assert_allclose(test.rates[0], 1e-5)

    def test_a_parabola(self) -> None:
        """SGD on ½ a x²: a step multiplies x by (1 - a lr), best at lr = 1/a, divergent from 2/a on."""
        a = 40.0

        class Point(td.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.x = td.nn.Parameter(np.ones(1))

            def forward(self, scale: Any) -> Any:
                return scale * self.x

        def loss(output: Any, target: Any, reduction: str = "mean") -> Any:
            return 0.5 * a * (output - target) ** 2

        point = Point()
        loader = DataLoader(td.data.TensorDataset(np.ones((8, 1)), np.zeros((8, 1))), 8)
        one = td.training.Trainer(point, loss, td.optim.SGD(point.parameters(), lr=1.0))
        test = find_learning_rate(one, loader, 1e-5, 1.0, steps=60, smoothing=0.0)
        x, expected = 1.0, []
        for rate in test.rates:
            expected.append(0.5 * a * x * x)
            x *= 1 - a * rate
        np.testing.assert_allclose(test.losses, expected, rtol=1e-9, atol=1e-30)
        assert test.rates[-1] < 1.0  # it stopped where it diverged
        assert 0.001 / a < test.suggestion < 1 / a
        assert point.x.item() == 1.0

    def test_groups_keep_their_ratio_and_the_plot_draws(self) -> None:
        pytest.importorskip("matplotlib")
        net = network()
        groups = [{"params": net[0].parameters()}, {"params": net[4].parameters(), "lr": 1e-4}]
        one = td.training.Trainer(net, td.cross_entropy, td.optim.SGD(groups, lr=1e-3))
        test = find_learning_rate(one, loaders()[0], 1e-4, 1e-1, steps=40)
        assert [group["lr"] for group in one.optimizer.param_groups] == [1e-3, 1e-4]
        (axes,) = test.plot().axes
        assert axes.get_xscale() == "log"
        assert list(axes.lines[0].get_xdata()) == test.rates.tolist()

    def test_refusals(self) -> None:
        up = functools.partial(td.optim.SGD, maximize=True)
        with pytest.raises(ValueError, match="expected 0 < start < end"):
            find_learning_rate(trainer(), loaders()[0], 1.0, 0.1)
        with pytest.raises(ShapeError, match="expected a loss that falls at some rate"):
            find_learning_rate(trainer(optimizer=up, terms=[]), loaders(50)[0], 1e-2, 1e-1, steps=9)


class TestEnsembles:
    def logits(self) -> tuple[list[Any], np.ndarray]:
        class Fixed(td.nn.Module):
            def __init__(self, z: np.ndarray) -> None:
                super().__init__()
                self.z = td.nn.Buffer(z)

            def forward(self, x: Any) -> Any:
                return self.z * 1.0

        z = np.random.default_rng(0).normal(size=(3, 5, 4))
        return [Fixed(part) for part in z], z

    def test_closed_forms(self) -> None:
        models, z = self.logits()
        p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
        x = td.zeros(5, 1)
        np.testing.assert_allclose(Ensemble(models)(x).numpy(), p.mean(0), rtol=1e-12)
        geometric = np.exp(np.log(p).mean(0))
        geometric /= geometric.sum(1, keepdims=True)
        np.testing.assert_allclose(Ensemble(models, "geometric")(x).numpy(), geometric, rtol=1e-12)
        votes = np.eye(4)[z.argmax(2)].sum(0)
        found = Ensemble(models, "vote")(x).numpy()
        np.testing.assert_allclose(found, (votes + p.mean(0) / 2) / 3.5)
        np.testing.assert_allclose(found.sum(1), 1)
        with pytest.raises(ValueError, match="expected models and 'probability', 'geometric' or 'vote'"):
            Ensemble(models, "median")
        with pytest.raises(ValueError, match="got 0 and 'probability'"):
            Ensemble([])

    def test_what_ensembles_gain(self) -> None:
        """NLL(mean p) ≤ mean NLL; of the geometric mean mean NLL + log Σ_k Π p^{1/M}, no more either."""
        models, z = self.logits()
        p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
        x = td.zeros(5, 1)
        each = -np.log(p).mean(0)  # (B, C): the loss of each class
        assert (-np.log(Ensemble(models)(x).numpy()) <= each + 1e-12).all()
        found = -np.log(Ensemble(models, "geometric")(x).numpy())
        gain = np.log(np.exp(np.log(p).mean(0)).sum(1, keepdims=True))
        np.testing.assert_allclose(found, each + gain, rtol=1e-12)
        assert (gain <= 0).all()
        softmax_of_mean = td.softmax(td.tensor(z.mean(0)), 1).numpy()
        np.testing.assert_allclose(Ensemble(models, "geometric")(x).numpy(), softmax_of_mean, rtol=1e-12)

    def test_the_rate_of_snapshots_is_the_papers(self) -> None:
        """α(t) = ½α₀(cos(π·((t-1) mod ⌈T/M⌉)/⌈T/M⌉) + 1), t = 1, …, T steps in M cycles."""
        T, M, rate = 20, 3, 0.2
        optimizer = td.optim.SGD(td.nn.Linear(1, 1).parameters(), lr=rate)
        cycle = -(-T // M)
        schedule = CosineAnnealingWarmRestarts(optimizer, cycle)
        for t in range(1, T + 1):
            expected = rate / 2 * (np.cos(np.pi * ((t - 1) % cycle) / cycle) + 1)
            np.testing.assert_allclose(optimizer.param_groups[0]["lr"], expected, rtol=1e-12, atol=1e-15)
            schedule.step()

    def test_a_bootstrap_has_two_thirds_of_the_samples(self) -> None:
        """1 - (1 - 1/n)^n of them, in the mean."""
        n, shares = 40, []

        def fit(train: Any, left: Any, number: int) -> Any:
            shares.append(len(np.unique(train.indices)) / n)
            return td.nn.Identity()

        bagging(fit, data(n), 400, seed=1)
        assert abs(np.mean(shares) - (1 - (1 - 1 / n) ** n)) < 0.01

    def test_a_vote_of_as_many_is_decided_by_the_sum_of_probabilities(self) -> None:
        """And no probability outweighs a vote."""
        p = np.array([[[0.98, 0.01, 0.01]], [[0.1, 0.5, 0.4]], [[0.0, 0.4, 0.6]], [[0.3, 0.4, 0.3]]])

        class Fixed(td.nn.Module):
            def __init__(self, p: np.ndarray) -> None:
                super().__init__()
                self.z = td.nn.Buffer(np.log(p + 1e-300))

            def forward(self, x: Any) -> Any:
                return self.z * 1.0

        for members, first in ((p[:2], 0), (p[1:3], 2), (p, 1)):
            found = Ensemble([Fixed(each) for each in members], "vote")(td.zeros(1, 1)).numpy()
            assert found.argmax() == first

    def test_snapshots_and_their_resume(self, tmp_path: Path) -> None:
        def make(snapshots: SnapshotEnsemble) -> Any:
            return trainer(
                lambda o: [
                    Schedule(CosineAnnealingWarmRestarts(o, 2)),
                    snapshots,
                    ModelCheckpoint(tmp_path),
                ]
            )

        whole, first, second = (SnapshotEnsemble(2, keep=2) for _ in range(3))
        make(whole).fit(loaders()[0], epochs=6)
        (tmp_path / "last.safetensors").unlink()
        make(first).fit(loaders()[0], epochs=5)
        make(second).fit(loaders()[0], epochs=6, resume=tmp_path / "last.safetensors")
        assert len(whole) == len(second) == 2
        x = td.from_numpy(data().inputs)
        with td.no_grad():
            expected = whole.ensemble()(x).numpy()
            np.testing.assert_array_equal(second.ensemble()(x).numpy(), expected)
            members = [td.softmax(model(x), 1).numpy() for model in whole.ensemble().models]
        np.testing.assert_allclose(np.mean(members, 0), expected, rtol=1e-6)
        assert not np.array_equal(*members)

    def test_bagging(self) -> None:
        seen = []

        def fit(train: Any, left: Any, number: int) -> Any:
            seen.append((train.indices, left.indices))
            one = trainer()
            one.fit(DataLoader(train, 10, shuffle=True, seed=number), epochs=1)
            return one.model

        ensemble = bagging(fit, data(), 3, seed=5)
        assert ensemble(td.from_numpy(data().inputs)).shape == (50, 2)
        assert len(ensemble.models) == 3
        assert not ensemble.models[0].training
        for drawn, left in seen:
            assert len(drawn) == 50
            assert sorted({*drawn.tolist(), *left.tolist()}) == list(range(50))
            assert not {*drawn.tolist()} & {*left.tolist()}
        expected = np.full((50, 2), np.nan)
        x = td.from_numpy(data().inputs)
        with td.no_grad():
            each = [td.softmax(model(x), 1).numpy() for model in ensemble.models]
        for i in range(50):
            own = [p[i] for p, (_, left) in zip(each, seen, strict=True) if i in left]
            expected[i] = np.mean(own, 0) if own else np.nan
        found = out_of_bag(ensemble, data(), seed=5, batch_size=7)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert np.isnan(found).any(1).sum() > 0
        bagging(fit, data(), 2, seed=5)
        np.testing.assert_array_equal(seen[1][0], seen[4][0])
        assert not np.array_equal(seen[0][0], seen[1][0])
        with pytest.raises(ValueError, match="members: expected at least 1, got 0"):
            bagging(fit, data(), 0)
