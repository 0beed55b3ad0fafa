"""Averaged models and the schedule that goes with them, beside PyTorch; recorded, resumed, swapped in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td
from tinydl import nn
from tinydl.ops.update import assign
from tinydl.optim import SGD, swa_utils
from tinydl.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)
from tinydl.training import checkpoint

RANDOM = np.random.default_rng(0)

AVERAGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "SWA": lambda swa: {},
    "SWA by a function": lambda swa: {"avg_fn": swa.get_swa_avg_fn()},
    "SWA of lists": lambda swa: {"multi_avg_fn": swa.get_swa_multi_avg_fn()},
    "EMA": lambda swa: {"avg_fn": swa.get_ema_avg_fn()},
    "EMA of lists": lambda swa: {"multi_avg_fn": swa.get_ema_multi_avg_fn(0.8)},
    "own": lambda swa: {"avg_fn": lambda e, x, n: e + (x - e) / (n + 2)},
    "EMA with buffers": lambda swa: {"avg_fn": swa.get_ema_avg_fn(0.7), "use_buffers": True},
}


def network(nn: Any) -> Any:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def disturb(model: nn.Module, step: int) -> dict[str, np.ndarray]:
    """Another value for every parameter and floating buffer, and the step for each count."""
    random = np.random.default_rng(step)
    values = {
        name: random.standard_normal(x.shape).astype(x.dtype) if x.dtype.kind == "f" else np.array(step)
        for name, x in model.state_dict().items()
    }
    model.load_state_dict(values)
    return values


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


# As PyTorch's
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch() -> Iterator[Any]:
    """With its default dtype, which 1 / (n + 1) has there, set to float64."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.parametrize("average", AVERAGES)
def test_as_torch(average: str, torch: Any, backend: str) -> None:
    ours, theirs = network(nn).double(), network(torch.nn).double()
    disturb(ours, 99)
    theirs.load_state_dict({name: torch.tensor(x) for name, x in arrays(ours).items()})
    mine = AveragedModel(ours, **AVERAGES[average](swa_utils))
    other = torch.optim.swa_utils.AveragedModel(theirs, **AVERAGES[average](torch.optim.swa_utils))
    assert list(mine.state_dict()) == list(other.state_dict())
    for step in range(12):
        values = disturb(ours, step)
        theirs.load_state_dict({name: torch.tensor(x) for name, x in values.items()})
        mine.update_parameters(ours)
        if other.use_buffers:  # theirs averages whole numbers by cutting them
            theirs[1].num_batches_tracked.fill_(0)
        other.update_parameters(theirs)
        for name, x in other.state_dict().items():
            if not (other.use_buffers and name.endswith("num_batches_tracked")):
                np.testing.assert_allclose(arrays(mine)[name], x.numpy(), rtol=1e-12, atol=1e-14)
    assert arrays(mine)["module.1.num_batches_tracked"] == 11
    x = RANDOM.standard_normal((5, 3))
    out = mine.eval()(td.tensor(x)).detach().numpy()
    np.testing.assert_allclose(out, other.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-12, atol=1e-14)


def test_signatures_as_torch() -> None:
    torch = pytest.importorskip("torch")
    assert set(swa_utils.__all__) == set(torch.optim.swa_utils.__all__)
    for name in set(swa_utils.__all__) - {"update_bn"}:
        found = []
        for module in (swa_utils, torch.optim.swa_utils):
            parameters = inspect.signature(getattr(module, name)).parameters.values()
            found.append([(p.name, p.default) for p in parameters if p.name != "warmup"])
        assert found[0] == found[1]
    assert update_bn is nn.utils.update_bn


@pytest.mark.parametrize(
    "options", [{}, {"anneal_epochs": 3, "anneal_strategy": "linear"}, {"anneal_epochs": 0}]
)
@pytest.mark.parametrize("late", [False, True])
def test_swalr_as_torch(options: dict[str, Any], late: bool) -> None:
    """Made before the training or in its midst, after another schedule has changed the rate."""
    torch = pytest.importorskip("torch")

    def rates(optim: Any, swalr: Any, params: list[Any]) -> list[list[float]]:
        groups = [{"params": [p], "lr": lr} for p, lr in zip(params, (0.5, 3.0), strict=True)]
        optimizer = optim.SGD(groups, lr=1.0)
        other, found = optim.lr_scheduler.ExponentialLR(optimizer, 0.9), []
        swa = None if late else swalr(optimizer, [0.05, 0.2], **options)
        for i in range(20):
            if i < 6:
                optimizer.step()
                other.step()
            else:
                swa = swa or swalr(optimizer, [0.05, 0.2], **options)
                optimizer.step()
                swa.step()
                found.append([group["lr"] for group in optimizer.param_groups])
        return found

    theirs = rates(
        torch.optim, torch.optim.swa_utils.SWALR, [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    )
    ours = rates(td.optim, SWALR, [nn.Parameter(np.ones(2)) for _ in range(2)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# Properties
# ------------------------------------------------------------------------------------------------------------


def test_closed_forms() -> None:
    """The mean of all; e_n = d^(n-1) x_1 + (1 - d) Σ d^(n-i) x_i; with a warm-up by its recursion."""
    xs = RANDOM.standard_normal((9, 3))
    model = nn.ParameterList([nn.Parameter(np.zeros(3))])
    made = {
        "swa": AveragedModel(model),
        "ema": AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
        "warm": AveragedModel(model, avg_fn=get_ema_avg_fn(0.35, warmup=True)),
    }
    warm = xs[0]
    for n, x in enumerate(xs):
        with td.no_grad():
            assign(model[0], td.tensor(x))
        for averaged in made.values():
            averaged.update_parameters(model)
        if n:
            decay = min(0.35, (1 + n) / (10 + n))
            warm = decay * warm + (1 - decay) * x
    powers = 0.9 ** np.arange(8, -1, -1)
    ema = powers[0] * xs[0] + 0.1 * (powers[1:, None] * xs[1:]).sum(0)
    for name, expected in (("swa", xs.mean(0)), ("ema", ema), ("warm", warm)):
        np.testing.assert_allclose(made[name].module[0].numpy(), expected, rtol=1e-12)


def test_statistics_of_the_averages() -> None:
    """update_bn gives the averaged model running statistics of its own."""
    model = network(nn).double()
    averaged = AveragedModel(model)
    for step in range(3):
        disturb(model, step)
        averaged.update_parameters(model)
    batches = [td.tensor(RANDOM.standard_normal((6, 3))) for _ in range(4)]
    update_bn(batches, averaged)
    hidden = [averaged.module[0](x).detach().numpy() for x in batches]
    norm = averaged.module[1]
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean([h.mean(0) for h in hidden], 0))
    np.testing.assert_allclose(norm.running_var.numpy(), np.mean([h.var(0, ddof=1) for h in hidden], 0))


def test_swapped_in_for_an_evaluation() -> None:
    model = network(nn)
    averaged = AveragedModel(model, avg_fn=get_ema_avg_fn(0.5))
    for step in range(3):
        disturb(model, step)
        averaged.update_parameters(model)
    disturb(model, 3)
    own, averages, params = arrays(model), arrays(averaged.module), list(model.parameters())
    x = td.randn(4, 3)
    with averaged.swapped_into(model) as swapped:
        assert swapped is model
        assert [p is q for p, q in zip(model.parameters(), params, strict=True)] == [True] * len(params)
        for name, value in arrays(model).items():
            np.testing.assert_array_equal(value, averages[name])
        expected = averaged.eval()(x).detach().numpy()
        np.testing.assert_array_equal(model.eval()(x).detach().numpy(), expected)
        model.train()(x)  # running statistics that move are put back, too
    with pytest.raises(ZeroDivisionError), averaged.swapped_into(model):
        raise ZeroDivisionError
    for name, value in arrays(model).items():
        np.testing.assert_array_equal(value, own[name])
    for name, value in arrays(averaged.module).items():
        np.testing.assert_array_equal(value, averages[name])


# Recorded and resumed
# ------------------------------------------------------------------------------------------------------------


class Loop:
    def __init__(self, average: str, wrap: Callable[[Any], Any], dtype: Any = np.float32) -> None:
        td.manual_seed(3)
        self.model = network(nn).to(dtype)
        self.optimizer = SGD(self.model.parameters(), lr=0.2)
        self.averaged = AveragedModel(self.model, **AVERAGES[average](swa_utils))
        self.schedule = SWALR(self.optimizer, 0.05, 4)
        self.data = np.random.default_rng(1).standard_normal((5, 6, 3)).astype(dtype)

        def step(x: td.Tensor) -> td.Tensor:
            self.optimizer.zero_grad()
            loss = self.model(x).square().mean()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.averaged.update_parameters(self.model)
            with self.averaged.swapped_into(self.model), nn.extra_forward(td.Generator(1)), td.no_grad():
                return loss + self.model(x).sum()

        self.step = wrap(step)

    def things(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("model", "optimizer", "averaged", "schedule")}

    def run(self, steps: range) -> list[bytes]:
        losses = [self.step(td.tensor(self.data[i % 5])).numpy() for i in steps]
        states = [x for model in (self.model, self.averaged) for x in arrays(model).values()]
        return [x.tobytes() for x in (*losses, *states)]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recorded_is_eager(average: str, dtype: Any, backend: str) -> None:
    eager, recorded = (Loop(average, wrap, dtype) for wrap in (lambda step: step, td.record))
    td.manual_seed(4)
    expected = eager.run(range(7))
    td.manual_seed(4)
    assert recorded.run(range(7)) == expected
    assert sum(map(len, recorded.step.recordings.values())) == 1


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_goes_on_with_the_same_bits(stop: int, tmp_path: Path) -> None:
    first, second = Loop("EMA of lists", td.record), Loop("EMA of lists", td.record)
    first.run(range(stop))
    checkpoint.save(tmp_path / "c", **first.things())
    expected = first.run(range(stop, stop + 5))
    second.run(range(2))
    checkpoint.load(tmp_path / "c", **second.things())
    assert second.run(range(stop, stop + 5)) == expected


def test_on_another_device(gpu: Any) -> None:
    """The copy follows its model, or lives where it is told to; on a GPU the host asks for nothing."""
    model = nn.Linear(3, 2, dtype=np.float64)
    here = AveragedModel(model)
    there = AveragedModel(model, device="cuda")
    model.cuda()
    beside = AveragedModel(model)
    for step in range(3):
        disturb(model, step)
        before = len(gpu.host)
        there.update_parameters(model)
        beside.update_parameters(model)
        assert step == 0 or gpu.host[before:] == []
        here.update_parameters(model)
    assert [x.module.weight.device for x in (here, there, beside)] == ["cpu", "cuda", "cuda"]
    for other in (there, beside):
        for name, x in other.cpu().state_dict().items():
            np.testing.assert_allclose(x.numpy(), here.state_dict()[name].numpy(), rtol=1e-12)
    with here.swapped_into(model):
        np.testing.assert_array_equal(
            model.weight.detach().cpu().numpy(), here.module.weight.detach().numpy()
        )


# Refusals
# ------------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(TypeError, match="AveragedModel: expected a Module, got list"):
        AveragedModel([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="AveragedModel: expected avg_fn or multi_avg_fn, got both"):
        AveragedModel(model, avg_fn=get_ema_avg_fn(), multi_avg_fn=get_swa_multi_avg_fn())
    for decay in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"get_ema_avg_fn: expected a decay in \[0, 1\], got {decay}"):
            get_ema_multi_avg_fn(decay)
    averaged = AveragedModel(model)
    for other in (nn.Linear(3, 3), nn.Linear(3, 2, bias=False)):
        with pytest.raises(ShapeError, match=r"AveragedModel.update_parameters: expected a model of \{'weig"):
            averaged.update_parameters(other)
        expected = pytest.raises(ShapeError, match=r"AveragedModel.swapped_into: expected a model of \{'weig")
        with expected, averaged.swapped_into(other):
            pass
    assert averaged.n_averaged.item() == 0
