"""What the contract promises to those who write optimizers, in either idiom, and to those who resume."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tinydl_kernels.cpu import jobs
from tinydl_kernels.update import State
from tinydl_kernels.update.expression import sqrt

import tinydl as td
from tinydl.ops.update import assign
from tinydl.optim import (
    ASGD,
    LAMB,
    LARS,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    Optimizer,
    Prodigy,
    RAdam,
    RMSprop,
    Rprop,
)
from tinydl.optim import optimizer as tinydl_optimizer
from tinydl.training import checkpoint


def parameters(seed: int = 0, dtype: Any = np.float64) -> list[td.nn.Parameter]:
    random = np.random.default_rng(seed)
    return [td.nn.Parameter(random.standard_normal(shape).astype(dtype)) for shape in ((3, 4), (4,), ())]


def give(params: list[td.nn.Parameter], seed: int) -> None:
    random = np.random.default_rng(seed)
    for p in params:
        p.grad = td.tensor(random.standard_normal(p.shape), dtype=p.dtype)


def same(a: list[td.nn.Parameter], b: list[td.nn.Parameter]) -> bool:
    return [p.numpy().tobytes() for p in a] == [p.numpy().tobytes() for p in b]


class Averaged(Optimizer):
    """A state at every level: the step is scaled by how often the optimizer and the group have stepped."""

    structural = frozenset({"power"})

    def __init__(self, params: Any, lr: float = 0.1, power: int = 1) -> None:
        super().__init__(params, {"lr": lr, "power": power})

    @classmethod
    def states(cls, options: Any) -> dict[str, State]:
        return {
            "calls": State("optimizer", whole=True),
            "total": State("group", initial=0.5),
            "step": State("parameter", whole=True),
            "largest": State("parameter", initial=2.0),
            "square": State(initial=1.0),
        }

    @classmethod
    def scalars(cls, o: Any, s: Any) -> dict[str, Any]:
        s.calls = s.calls + 1
        s.total = s.total + o.lr
        s.step = s.step + 1
        s.largest = s.largest * 0.5
        return {"rate": o.lr * s.total / (s.calls + s.step)}

    @classmethod
    def element(cls, o: Any, s: Any, c: Any, p: Any, g: Any) -> Any:
        for _ in range(o.power):
            s.square = s.square + g * g
        return p - c.rate * g / sqrt(s.square) - s.largest


class Numpy:
    """The same by hand."""

    def __init__(self, groups: list[list[np.ndarray]], lr: float, power: int) -> None:
        self.groups, self.lr, self.power, self.calls = groups, lr, power, 0
        self.totals = [0.5 for _ in groups]
        self.owns = [[{"step": 0, "largest": 2.0, "square": 1.0} for _ in group] for group in groups]

    def step(self, grads: list[list[Any]]) -> None:
        self.calls += 1
        for i, (group, own, gs) in enumerate(zip(self.groups, self.owns, grads, strict=True)):
            if all(g is None for g in gs):
                continue
            self.totals[i] += self.lr
            for p, state, g in zip(group, own, gs, strict=True):
                if g is not None:
                    state["step"] += 1
                    state["largest"] *= 0.5
                    state["square"] = state["square"] + self.power * g * g
                    rate = self.lr * self.totals[i] / (self.calls + state["step"])
                    p -= rate * g / np.sqrt(state["square"]) + state["largest"]


class TestStates:
    @pytest.mark.parametrize("record", [False, True], ids=["eager", "recorded"])
    @pytest.mark.parametrize("power", [1, 2])
    def test_every_level(self, power: int, record: bool, backend: str) -> None:
        a, b, c = params = parameters()
        by_hand = Numpy([[p.numpy().copy() for p in group] for group in ((a, b), (c,))], 0.1, power)
        optimizer = Averaged([{"params": [a, b]}, {"params": c}], power=power)
        step = td.record(optimizer.step) if record else optimizer.step
        for i in range(6):
            give(params, i)
            if not record:
                c.grad = None if i in (1, 2) else c.grad
                b.grad = None if i == 3 else b.grad
            grads = [[None if p.grad is None else p.grad.numpy() for p in group] for group in ((a, b), (c,))]
            by_hand.step(grads)
            step()
        for p, expected in zip(params, (x for group in by_hand.groups for x in group), strict=True):
            np.testing.assert_allclose(p.numpy(), expected, rtol=1e-12, atol=1e-12)
        assert optimizer.shared["calls"].item() == by_hand.calls
        np.testing.assert_allclose([group["total"] for group in optimizer.param_groups], by_hand.totals)

    def test_every_level_is_saved(self, tmp_path: Path) -> None:
        def made(seed: int) -> tuple[list[td.nn.Parameter], Averaged]:
            a, b, c = params = parameters(seed)
            return params, Averaged([{"params": [a, b]}, {"params": c}])

        first, one = made(0)
        for i in range(3):
            give(first, i)
            one.step()
        checkpoint.save(tmp_path / "c", params=first, optimizer=one)
        second, two = made(1)
        checkpoint.load(tmp_path / "c", params=second, optimizer=two)
        for i in range(3, 6):
            for params, optimizer in ((first, one), (second, two)):
                give(params, i)
                optimizer.step()
        assert same(first, second)
        assert two.state_dict()["shared"] == {"calls": 6}

    def test_a_structural_number(self) -> None:
        group = Averaged(parameters(), power=2).param_groups[0]
        assert group["power"] == 2
        assert sorted(group.buffers) == ["lr", "total"]


class Idiomatic(Optimizer):
    """SGD with momentum as it is written for PyTorch."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.9) -> None:
        defaults = dict(lr=lr, momentum=momentum)  # noqa: C408  the idiom
        super().__init__(params, defaults)

    @td.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["buffer"] = p.grad.clone()
                else:
                    assign(state["buffer"], group["momentum"] * state["buffer"] + p.grad)
                state["step"] += 1
                assign(p, p - group["lr"] * state["buffer"])
        return loss


class TestIdiom:
    def test_a_subclass_written_for_pytorch(self) -> None:
        a, b = parameters(), parameters()
        one, two = Idiomatic(a), SGD(b, lr=0.1, momentum=0.9)
        for i in range(5):
            if i == 3:
                one.param_groups[0]["lr"] = two.param_groups[0]["lr"] = 0.02
            for params, optimizer in ((a, one), (b, two)):
                give(params, i)
                params[1].grad = None if i == 0 else params[1].grad
                optimizer.step()
        for p, q in zip(a, b, strict=True):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-13)
        assert [one.state[p]["step"] for p in a] == [5, 4, 5]

    def test_closure_and_resuming(self) -> None:
        a = parameters()
        one = Idiomatic(a)
        give(a, 0)
        assert one.step(lambda: td.tensor(3.0)).item() == 3.0
        b = [td.nn.Parameter(p) for p in a]
        two = Idiomatic(b, lr=9.0)
        two.load_state_dict(one.state_dict())
        for params, optimizer in ((a, one), (b, two)):
            give(params, 1)
            optimizer.step()
        assert same(a, b)

    def test_a_step_around_the_formula(self) -> None:
        class Projected(SGD):
            @td.no_grad()
            def step(self, closure: Any = None) -> Any:
                result = super().step(closure)
                for group in self.param_groups:
                    for p in group["params"]:
                        assign(p, p.clip(-0.25, 0.25))
                return result

        params = parameters()
        optimizer = Projected(params, lr=0.1)
        step = td.record(optimizer.step)
        for i in range(3):
            give(params, i)
            step()
        assert max(abs(p.numpy()).max() for p in params) == 0.25


def test_the_example_at_the_head_of_the_contract() -> None:
    """It says what it does: Adam's first moment alone."""
    text = inspect.getdoc(tinydl_optimizer) or ""
    example = textwrap.dedent(text[text.index("    class FirstMoment") : text.index("`scalars` and")])
    namespace = {"Optimizer": Optimizer, "State": State, "at_least_0": tinydl_optimizer.at_least_0}
    exec(example, namespace)
    params = parameters()
    expected = [p.numpy().copy() for p in params]
    optimizer = namespace["FirstMoment"](params, lr=0.1, beta=0.8, maximize=True)  # type: ignore[operator]
    averages = [np.zeros(p.shape) for p in params]
    for t in range(1, 5):
        give(params, t)
        optimizer.step()
        for i, p in enumerate(params):
            averages[i] = 0.8 * averages[i] - 0.2 * p.grad.numpy()
            expected[i] = expected[i] - 0.1 / (1 - 0.8**t) * averages[i]
            np.testing.assert_allclose(p.numpy(), expected[i], rtol=1e-12)


class TestRecording:
    @pytest.mark.parametrize("kind", [RMSprop, LARS, LAMB, Prodigy])
    def test_a_recorded_step_is_one_compiled_call(self, kind: Any) -> None:
        """Scalars, sums and elements are loops alone."""
        params = [*parameters(), td.nn.Parameter(np.ones(5000))]
        optimizer = kind([{"params": params[:2]}, {"params": params[2:]}])
        step = td.record(optimizer.step)
        give(params, 0)
        with td.backend("cpu"):
            for _ in range(2):
                step()
        ((recording,),) = step.recordings.values()
        assert [type(part) for part in recording.parts] == [jobs.Jobs]

    def test_a_group_shows_what_it_is_now(self) -> None:
        optimizer = SGD(parameters(), lr=0.5)
        td.optim.MultiStepLR(optimizer, [0], gamma=0.5)
        assert "'lr': 0.25" in repr(optimizer.param_groups[0])

    def test_another_group_records_anew(self) -> None:
        a, b, c = parameters()
        optimizer = SGD([a, b], lr=0.1)
        step = td.record(optimizer.step)
        give([a, b, c], 0)
        step()
        optimizer.add_param_group({"params": c, "momentum": 0.5})
        before = c.numpy().copy()
        step()
        assert (c.numpy() != before).all()
        step()
        assert sum(map(len, step.recordings.values())) == 2

    def test_states_that_appear_later(self) -> None:
        """A momentum that is switched on makes its states outside of the memory of the recording."""
        found = []
        for wrap in (lambda step: step, td.record):
            params = parameters()
            optimizer = SGD(params, lr=0.1)
            step = wrap(optimizer.step)
            for i in range(6):
                if i == 2:
                    optimizer.param_groups[0]["momentum"] = 0.9
                give(params, i)
                step()
            found.append([x.numpy().tobytes() for p in params for x in (p, *optimizer.state[p].values())])
        assert found[0] == found[1]

    def test_gradients_with_other_strides(self) -> None:
        """They are laid out anew at each replay."""
        w = td.nn.Parameter(np.ones((3, 4)))
        optimizer = SGD([w], lr=1.0)

        @td.record
        def step(x: td.Tensor) -> None:
            w.grad = x.T
            optimizer.step()

        for i in range(4):
            x = np.random.default_rng(i).standard_normal((4, 3))
            before = w.numpy().copy()
            step(td.tensor(x))
            np.testing.assert_array_equal(w.numpy(), before - x.T)


TORCH = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    (Adam, {"lr": 0.1, "amsgrad": True}),
    (AdamW, {"lr": 0.1, "maximize": True}),
    (RMSprop, {"momentum": 0.9, "centered": True}),
    *(
        (kind, {"lr": 0.05, "maximize": True})
        for kind in (Adafactor, Adagrad, Adadelta, Adamax, NAdam, RAdam, ASGD, Rprop)
    ),
]


class TestOtherStates:
    @pytest.mark.parametrize(("kind", "options"), TORCH, ids=lambda x: getattr(x, "__name__", None))
    @pytest.mark.parametrize("steps", [0, 4])
    def test_pytorch_s(self, kind: Any, options: dict[str, Any], steps: int, double: None) -> None:
        """What PyTorch has begun goes on here, structural options included; its further keys are kept."""
        torch = pytest.importorskip("torch")
        start = parameters()
        theirs = [torch.nn.Parameter(torch.tensor(p.numpy().copy())) for p in start]
        other = getattr(torch.optim, kind.__name__)(theirs, **options)
        torch.optim.lr_scheduler.StepLR(other, 2)  # adds initial_lr

        def torch_step(seed: int) -> None:
            give(start, seed)
            for p, q in zip(start, theirs, strict=True):
                q.grad = torch.tensor(p.grad.numpy())
            other.step()

        for i in range(steps):
            torch_step(i)
        ours = [td.nn.Parameter(p.detach().numpy()) for p in theirs]
        optimizer = kind(ours)
        optimizer.load_state_dict(other.state_dict())
        group = optimizer.param_groups[0]
        assert {"foreach", "initial_lr", "maximize"} <= set(group)
        assert group["initial_lr"] == group["lr"] == other.param_groups[0]["lr"]
        for i in range(steps, steps + 4):
            torch_step(i)
            for p, q in zip(ours, theirs, strict=True):
                p.grad = td.tensor(q.grad.numpy())
            optimizer.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-13)

    def test_muon_s(self) -> None:
        """Whose steps PyTorch computes in bfloat16: what is loaded, not where it leads."""
        torch = pytest.importorskip("torch")
        theirs = torch.nn.Parameter(torch.ones(2, 3))
        other = torch.optim.Muon([theirs], lr=0.3, momentum=0.7, nesterov=False)
        theirs.grad = torch.arange(6.0).reshape(2, 3)
        other.step()
        p = td.nn.Parameter(np.ones((2, 3), np.float32))
        optimizer = Muon([p])
        optimizer.load_state_dict(other.state_dict())
        group = optimizer.param_groups[0]
        assert (group["lr"], group["momentum"], group["nesterov"]) == (0.3, 0.7, False)
        buffer = optimizer.state[p]["momentum_buffer"].numpy().copy()
        np.testing.assert_array_equal(buffer, other.state[theirs]["momentum_buffer"].numpy())
        p.grad = td.tensor(theirs.grad.numpy())
        optimizer.step()
        np.testing.assert_allclose(
            optimizer.state[p]["momentum_buffer"].numpy(), 0.7 * buffer + 0.3 * theirs.grad.numpy(), rtol=1e-6
        )

    def test_missing_states_are_refused(self) -> None:
        params = parameters()
        optimizer = Adam(params)
        saved = optimizer.state_dict()
        del saved["state"][1]["exp_avg_sq"]
        with pytest.raises(ValueError, match=r"Adam.load_state_dict: state: 1: expected .*exp_avg_sq.*, got"):
            optimizer.load_state_dict(saved)

    def test_former_checkpoints(self) -> None:
        """A file of the time before options were Buffers (three steps each) goes on with the same bits."""

        def made(kind: Any, **options: Any) -> tuple[list[td.nn.Parameter], Optimizer]:
            w = td.nn.Parameter(np.arange(6.0).reshape(2, 3).astype(np.float32))
            b = td.nn.Parameter(np.ones(2, np.float32))
            return [w, b], kind([{"params": [("w", w)]}, {"params": [("b", b)], "lr": 0.2}], **options)

        def step(params: list[td.nn.Parameter], optimizer: Optimizer, i: int) -> None:
            for k, p in enumerate(params):
                g = np.sin(np.arange(p.array.size) + i + k).reshape(p.shape)
                p.grad = td.tensor(g, dtype=td.float32)
            optimizer.step()

        cases: dict[str, tuple[Any, dict[str, Any]]] = {
            "adam": (Adam, {"lr": 0.1, "betas": (0.8, 0.9)}),
            "adamw": (AdamW, {}),
            "sgd": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        }
        resumed = {name: made(kind, **options) for name, (kind, options) in cases.items()}
        things = {name: optimizer for name, (_, optimizer) in resumed.items()}
        things |= {f"{name}_params": params for name, (params, _) in resumed.items()}
        checkpoint.load(Path(__file__).with_name("former_checkpoint.safetensors"), **things)
        for name, (kind, options) in cases.items():
            params, optimizer = made(kind, **options)
            for i in range(5):
                step(params, optimizer, i)
            for i in (3, 4):
                step(*resumed[name], i)
            for p, q in zip(params, resumed[name][0], strict=True):
                np.testing.assert_allclose(q.numpy(), p.numpy(), rtol=1e-6)
                assert optimizer.state[p]["step"].item() == 5
