"""What all optimizers share: groups, errors, saving and loading."""

from __future__ import annotations

import numpy as np
import pytest
from tinydl_kernels.machine.errors import DtypeError, GraphError, ShapeError

import tinydl as td
from tinydl.optim import SGD, Adam, decay_groups, layer_groups

SHAPES = [(3, 4), (4,), ()]


def arrays(random, dtype=np.float64) -> list[np.ndarray]:
    return [np.asarray(random.standard_normal(shape), dtype) for shape in SHAPES]


def parameters(random, dtype=np.float64) -> list[td.nn.Parameter]:
    return [td.nn.Parameter(a) for a in arrays(random, dtype)]


def give(params, gradients) -> None:
    for p, g in zip(params, gradients, strict=True):
        p.grad = None if g is None else td.tensor(g)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


class TestGroups:
    def test_options_of_their_own(self, random) -> None:
        a, b, c = parameters(random)
        optimizer = SGD([{"params": [a, b]}, {"params": c, "lr": 0.5}], lr=0.25)
        before = [p.numpy().copy() for p in (a, b, c)]
        give((a, b, c), [np.ones(p.shape) for p in (a, b, c)])
        optimizer.step()
        for p, was, lr in zip((a, b, c), before, (0.25, 0.25, 0.5), strict=True):
            np.testing.assert_array_equal(p.numpy(), was - lr)
        assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]

    def test_decay_only_weights(self) -> None:
        model = td.nn.Sequential(
            td.nn.Conv2d(1, 2, 3), td.nn.BatchNorm2d(2), td.nn.Flatten(), td.nn.Linear(8, 3)
        )
        optimizer = SGD(decay_groups(model, 0.1), lr=1.0)
        names = {group["weight_decay"]: group["param_names"] for group in optimizer.param_groups}
        assert names == {0.1: ["0.weight", "3.weight"], 0.0: ["0.bias", "1.weight", "1.bias", "3.bias"]}
        before = {name: p.numpy().copy() for name, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = td.zeros_like(p)
        optimizer.step()
        for name, p in model.named_parameters():
            decay = np.float32(0.1) if name in names[0.1] else np.float32(0)
            np.testing.assert_allclose(p.numpy(), before[name] * (1 - decay), rtol=1e-6)

    def test_rates_fall_from_layer_to_layer(self) -> None:
        """A bias after the weights of another module, and a normalization, go with the layer before."""
        model = td.nn.Sequential(
            td.nn.BatchNorm2d(1),
            td.nn.Conv2d(1, 2, 3),
            td.nn.BatchNorm2d(2),
            td.nn.Flatten(),
            td.nn.Sequential(td.nn.Linear(8, 3), td.nn.Linear(3, 3, bias=False)),
        )
        optimizer = SGD(layer_groups(model, 0.5), lr=0.4)
        rates = [(group["lr"], group["param_names"]) for group in optimizer.param_groups]
        first = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
        assert rates == [(0.1, first), (0.2, ["4.0.weight", "4.0.bias"]), (0.4, ["4.1.weight"])]
        td.optim.MultiStepLR(optimizer, [0], gamma=0.5)
        assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.1, 0.2]
        assert [group["lr_scale"] for group in layer_groups(td.nn.BatchNorm2d(2))] == [1.0]
        with pytest.raises(ValueError, match="layer_groups: decay: expected a number above 0, got 0"):
            layer_groups(model, 0)

    def test_a_rate_of_its_own_is_not_scaled(self, random) -> None:
        optimizer = SGD([{"params": parameters(random), "lr": 0.5, "lr_scale": 0.1}], lr=1.0)
        assert optimizer.param_groups[0]["lr"] == 0.5

    def test_numbers_are_buffers(self, random) -> None:
        """Reading gives a snapshot; the Buffer stays, and assignment writes into it."""
        group = Adam(parameters(random), lr=0.1).param_groups[0]
        rate, betas = group.buffer("lr"), group.buffer("betas")
        assert isinstance(rate, td.nn.Buffer)
        assert (rate.dtype, rate.shape, betas.dtype, betas.shape) == (np.float64, (), np.float64, (2,))
        before = group["lr"]
        group["lr"] = 0.02
        group["lr"] *= 0.5
        assert type(before) is float
        assert (before, group["lr"], rate.item()) == (0.1, 0.01, 0.01)
        assert group["betas"] == (0.9, 0.999)
        group["betas"] = [0.5, 0.75]
        assert group["betas"] == (0.5, 0.75)
        assert betas.tolist() == [0.5, 0.75]
        group.update(lr=0.3, eps=1, weight_decay=td.tensor(0.25))
        assert (rate.item(), group["eps"], group["weight_decay"]) == (0.3, 1.0, 0.25)
        assert group.buffer("lr") is rate
        with pytest.raises(KeyError, match=r"Adam: expected one of the buffers .*'lr'.*, got 'amsgrad'"):
            group.buffer("amsgrad")

    def test_a_snapshot_in_a_recorded_step_is_refused(self, random) -> None:
        params = parameters(random)
        group = SGD(params, lr=0.1).param_groups[0]

        @td.record
        def snapshot(x):
            return x * group["lr"]

        @td.record
        def live(x):
            group["lr"] = group.buffer("lr") * 0.5
            return x * group.buffer("lr")

        with pytest.raises(GraphError, match=r"SGD: expected group\.buffer\('lr'\) in a recorded step"):
            snapshot(td.tensor(1.0))
        x = td.tensor(1.0, dtype=td.float64)
        assert [live(x).item() for _ in range(3)] == [0.05, 0.025, 0.0125]
        assert group["lr"] == 0.0125

    def test_keys_of_the_user(self, random) -> None:
        a, b, _ = parameters(random)
        optimizer = SGD([{"params": [a], "name": "weights"}, {"params": [b]}], lr=0.1)
        optimizer.param_groups[1]["name"] = "bias"
        optimizer.param_groups[1].setdefault("initial_lr", optimizer.param_groups[1]["lr"])
        assert [group["name"] for group in optimizer.param_groups] == ["weights", "bias"]
        optimizer.state[a]["seen"] = 3
        optimizer.state[a]["mean"] = td.tensor([1.0, 2.0])
        saved = optimizer.state_dict()
        other = SGD([{"params": [a]}, {"params": [b]}])
        other.load_state_dict(saved)
        assert [group["name"] for group in other.param_groups] == ["weights", "bias"]
        assert other.param_groups[1]["initial_lr"] == 0.1
        assert other.state[a]["seen"] == 3
        assert other.state[a]["mean"].tolist() == [1.0, 2.0]
        del other.param_groups[1]["name"]
        assert "name" not in other.param_groups[1]

    def test_options_that_are_set_are_checked(self, random) -> None:
        group = SGD(parameters(random)).param_groups[0]
        with pytest.raises(ValueError, match="SGD: lr: expected at least 0, got -1"):
            group["lr"] = -1.0
        with pytest.raises(ValueError, match="SGD: lr: expected a number, got"):
            group["lr"] = (0.1, 0.2)
        with pytest.raises(ValueError, match="nesterov: expected a momentum and no dampening"):
            group["nesterov"] = True
        with pytest.raises(KeyError, match="SGD: expected 'params' to stay"):
            group["params"] = []
        with pytest.raises(KeyError, match="to stay"):
            del group["lr"]

    def test_momentum_switched_on_later(self, random) -> None:
        params = parameters(random)
        optimizer = SGD(params, lr=0.1)
        optimizer.param_groups[0]["momentum"] = 0.9
        give(params, arrays(random))
        optimizer.step()
        assert [own["step"].item() for own in optimizer.state.values()] == [1, 1, 1]

    def test_without_gradients_nothing_happens(self, random) -> None:
        params = parameters(random)
        before = [p.numpy().copy() for p in params]
        optimizer = Adam(params)
        optimizer.step()
        assert all(own["step"].item() == 0 for own in optimizer.state.values())
        for p, was in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.numpy(), was)

    def test_zero_grad_and_closure(self, random) -> None:
        params = parameters(random)
        optimizer = SGD(params)

        def closure():
            optimizer.zero_grad()
            loss = sum(p.square().sum() for p in params)
            loss.backward()
            return loss

        with td.no_grad():
            assert optimizer.step(closure).item() > 0
        assert all(p.grad is not None for p in params)
        optimizer.zero_grad()
        assert all(p.grad is None for p in params)


class TestErrors:
    def test_parameters(self, random) -> None:
        p = td.nn.Parameter(np.ones((2, 3)))
        for params, error, message in (
            ([], ValueError, "SGD: expected parameters, got an empty list"),
            (p, TypeError, "SGD: expected a list of parameters, got Parameter"),
            ({p}, TypeError, "SGD: expected a list of parameters, got set"),
            ([np.ones(2)], TypeError, "SGD: expected parameter 0 to be a tensor, got ndarray"),
            ([("w", 1.0)], TypeError, "SGD: expected parameter w to be a tensor, got float"),
            ([p, p * 2.0], GraphError, "SGD: expected parameter 1 to be a leaf, got the result of mul"),
            ([td.tensor([1, 2])], DtypeError, "SGD: expected parameter 0 in floating point, got int64"),
            ([td.from_numpy(np.ones((2, 3)).T)], ShapeError, "SGD: expected parameter 0 contiguous"),
            ([p, p], ValueError, r"SGD: expected each parameter once, got 1 \(2, 3\) again"),
            (
                [{"params": [("a", p)]}, {"params": [("b", p)]}],
                ValueError,
                "SGD: expected each parameter once, got b",
            ),
            ([{"lr": 0.1}], TypeError, "SGD: expected a dict with 'params' for each group, got dict"),
            (
                [{"params": [p]}, [p]],
                TypeError,
                "SGD: expected a dict with 'params' for each group, got list",
            ),
        ):
            with pytest.raises(error, match=message):
                SGD(params)

    def test_a_model_that_changed_its_dtype(self) -> None:
        model = td.nn.Linear(2, 1)
        optimizer = Adam(model.parameters())
        model.double()
        model(td.ones(1, 2, dtype=td.float64)).sum().backward()
        with pytest.raises(
            DtypeError, match="Adam: expected exp_avg in its parameter's float64, got float32"
        ):
            optimizer.step()


class TestStateDict:
    def test_in_place(self, random) -> None:
        """States stay the Buffers that they are, so recordings go on."""
        params = parameters(random)
        first, second = Adam(params), Adam(params)
        give(params, arrays(random))
        first.step()
        kept = [t for own in second.state.values() for t in own.values()]
        second.load_state_dict(first.state_dict())
        after = [t for own in second.state.values() for t in own.values()]
        assert all(t is s for t, s in zip(kept, after, strict=True))
        assert [own["step"].item() for own in second.state.values()] == [1, 1, 1]

    def test_layout_is_torch_s(self, random) -> None:
        torch = pytest.importorskip("torch")
        params = parameters(random)
        theirs = torch.optim.Adam([torch.nn.Parameter(torch.tensor(p.numpy().copy())) for p in params])
        for p in theirs.param_groups[0]["params"]:
            p.grad = torch.ones_like(p)
        theirs.step()
        ours = Adam(params)
        a, b = ours.state_dict(), theirs.state_dict()
        assert {i: set(own) for i, own in a["state"].items()} == {
            i: set(own) for i, own in b["state"].items()
        }
        assert a["param_groups"][0]["params"] == b["param_groups"][0]["params"]
        ours.load_state_dict({"state": b["state"], "param_groups": a["param_groups"]})
        for own, other in zip(ours.state.values(), b["state"].values(), strict=True):
            for name in other:
                np.testing.assert_array_equal(own[name].numpy(), other[name].numpy())

    def test_refused_whole(self, random) -> None:
        params = parameters(random)
        optimizer = SGD(params, momentum=0.9)
        saved = optimizer.state_dict()
        for other, what in (
            (SGD(params[:2], momentum=0.9), "groups"),
            (SGD([{"params": params[:2]}, {"params": params[2:]}], momentum=0.9), "groups"),
            (Adam(params), "groups"),
        ):
            with pytest.raises(ValueError, match=f"load_state_dict: {what}: expected"):
                other.load_state_dict(saved)
        named = [SGD(list(zip(names, params, strict=True))) for names in ("abc", "abd")]
        with pytest.raises(ValueError, match=r"groups: expected \['a', 'b', 'd'\], got \['a', 'b', 'c'\]"):
            named[1].load_state_dict(named[0].state_dict())
        damaged = {
            **saved,
            "state": {**saved["state"], 0: {**saved["state"][0], "momentum_buffer": np.ones((4, 3))}},
        }
        with pytest.raises(
            ValueError, match=r"SGD\.load_state_dict: state: 0: expected .*\(3, 4\).*, got .*\(4, 3\)"
        ):
            optimizer.load_state_dict(damaged)
        with pytest.raises(ValueError, match="SGD: lr: expected at least 0, got -1"):
            optimizer.load_state_dict({**saved, "param_groups": [{**saved["param_groups"][0], "lr": -1}]})
        assert optimizer.state[params[0]]["momentum_buffer"].numpy().sum() == 0
