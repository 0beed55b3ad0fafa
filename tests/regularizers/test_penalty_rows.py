"""Every row of catalogue/penalties*.py: closed form, derivatives, parts and whole, dtype, trace, recording,
checkpoint, refusals, PyTorch; and that no penalty is without a row.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import catalogue
import numpy as np
import pytest
from catalogue.penalties import Linear, PenaltyRow, TorchPass
from tinydl_kernels.machine.errors import GraphError

import tinydl as td
from tinydl import nn, regularizers
from tinydl.regularizers import Objective, Pass, Penalty
from tinydl.training import checkpoint

B, D, M = 5, 4, 3  # samples, inputs, classes
FILES = [found.name for found in pkgutil.iter_modules(catalogue.__path__)]
ROWS: list[PenaltyRow] = [
    row
    for name in FILES
    if name.startswith("penalties")
    for row in importlib.import_module(f"catalogue.{name}").ROWS
]

# Its extra layers are there to be moved; that they mix the samples is told.
pytestmark = pytest.mark.filterwarnings("ignore:.*expected a critic whose samples do not meet:UserWarning")
rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_every_penalty_has_a_row_and_every_row_a_penalty() -> None:
    """Functions and terms without a value have tests of their own."""
    assert len(set(regularizers.__all__)) == len(regularizers.__all__)
    public = {name: getattr(regularizers, name) for name in regularizers.__all__}
    assert {row.name.partition(",")[0].split()[0] for row in ROWS} == {
        name
        for name, thing in public.items()
        if isinstance(thing, type) and issubclass(thing, Penalty) and thing is not Penalty
    }
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        penalty = row.of(nn.Linear(D, M), 1.0)
        assert type(penalty).__name__ == row.name.partition(",")[0].split()[0]
        assert penalty.coupled is row.coupled


def linear_batch(outputs: int = M) -> Linear:
    r = np.random.default_rng(0)
    W, c, x = r.standard_normal((outputs, D)), r.standard_normal(outputs), r.standard_normal((B, D))
    return Linear(W, c, x, r.integers(0, outputs, B))


def linear_model(at: Linear) -> nn.Module:
    model = nn.Linear(D, len(at.c)).double()
    model.load_state_dict({"weight": at.W, "bias": at.c})
    return model


def gradients(value: td.Tensor, model: nn.Module) -> list[np.ndarray]:
    """By each parameter; zeros for one that the value does not depend on."""
    parameters = list(model.parameters())
    found = td.grad(value, parameters, allow_unused=True)
    return [np.zeros(p.shape) if g is None else g.numpy() for p, g in zip(parameters, found, strict=True)]


# What it computes
# ------------------------------------------------------------------------------------------------------------


@rows
def test_closed_form_on_a_linear_model(backend: str, row: PenaltyRow) -> None:
    at = linear_batch(row.outputs)
    model = linear_model(at)
    terms = Objective(model, td.cross_entropy, [row.of(model, 0.3)])(
        td.tensor(at.x), td.tensor(at.y), **row.given(td.tensor(at.x))
    )
    value, dW, dc = row.linear(at)
    np.testing.assert_allclose(terms.penalties[0].item(), value, rtol=1e-12)
    for found, expected in zip(gradients(terms.penalties[0], model), (dW, dc), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(terms.total.item(), terms.loss.item() + 0.3 * value, rtol=1e-12)


@rows
def test_the_derivative_is_finite_where_every_parameter_is_zero(backend: str, row: PenaltyRow) -> None:
    at = linear_batch(row.outputs)
    zero = Linear(np.zeros_like(at.W), np.zeros_like(at.c), at.x, at.y)
    model = linear_model(zero)
    objective, x = Objective(model, td.cross_entropy, [row.of(model, 1.0)]), td.tensor(at.x)
    value = objective(x, td.tensor(at.y), **row.given(x)).penalties[0]
    expected = row.linear(zero)[0] if row.at_zero is None else row.at_zero
    np.testing.assert_allclose(value.item(), expected, rtol=1e-14, atol=1e-15)
    found = gradients(value, model)
    assert all(np.isfinite(g).all() for g in found)
    assert max(np.abs(g).max() for g in found) < 1e-15 or not row.flat_at_zero


def mlp(outputs: int = M) -> nn.Module:
    td.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, outputs)).double()


class Held:
    """A function that gives its first result for good, one for each name among its arguments: a constant of
    the penalty's derivative.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] = function
        self.results: dict[Any, Any] = {}

    def __call__(self, *given: Any) -> Any:
        key = tuple(x for x in given if isinstance(x, str))
        if key not in self.results:
            self.results[key] = self.function(*given)
        return self.results[key]


class Value(nn.Module):
    """The penalty as a function of the model's parameters, for functional_call."""

    def __init__(self, model: nn.Module, row: PenaltyRow) -> None:
        super().__init__()
        self.model, self.row = model, row
        penalty = row.of(model, 1.0)
        for name in row.held:
            setattr(penalty, name, Held(getattr(penalty, name)))
        self.objective = Objective(model, td.cross_entropy, [penalty])

    def forward(self, x: td.Tensor, y: td.Tensor) -> td.Tensor:
        return self.objective(x, y, **self.row.given(x)).penalties[0]


@rows
def test_derivatives_to_the_second_order_against_differences(row: PenaltyRow) -> None:
    at, value = linear_batch(row.outputs), Value(mlp(row.outputs), row)
    names, parameters = zip(*value.named_parameters(), strict=True)
    x, y = td.tensor(at.x), td.tensor(at.y)

    def of(*tensors: td.Tensor) -> td.Tensor:
        return td.functional_call(value, dict(zip(names, tensors, strict=True)), (x, y))

    assert td.gradcheck(of, [p.detach().requires_grad_() for p in parameters], order=2)


@rows
def test_the_whole_is_the_mean_of_its_parts(row: PenaltyRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that are drawn for keep their numbers whichever part they are in. What is coupled draws as it
    comes.
    """
    at, model = linear_batch(row.outputs), mlp(row.outputs)
    penalty = row.of(model, 1.0)
    module = sys.modules[type(penalty).__module__]

    def part_of(draw: Callable[..., Any], *given: Any, generator: Any, **options: Any) -> Any:
        *bounds, shape = given
        sampled = row.draws_per_sample and shape[0] == stop - start
        drawn = draw(*bounds, (B, *shape[1:]) if sampled else shape, generator=stream, **options)
        return drawn[start:stop] if sampled else drawn

    for name in ("rand", "randn", "randint"):
        if hasattr(module, name) and not row.coupled:
            monkeypatch.setattr(module, name, functools.partial(part_of, getattr(module, name)))
    of = Objective(model, td.cross_entropy, [penalty])
    parts = []
    for start, stop in ((0, B), (0, 2), (2, B)):
        stream = td.Generator(5)
        part = {name: value[start:stop] for name, value in row.given(td.tensor(at.x)).items()}
        terms = of(td.tensor(at.x[start:stop]), td.tensor(at.y[start:stop]), **part)
        parts.append(terms.penalties[0].item())
    whole = parts[0]
    assert np.isclose(whole, (2 * parts[1] + 3 * parts[2]) / B, rtol=1e-13) is not row.coupled


@rows
def test_float32_stays(row: PenaltyRow) -> None:
    at, model = linear_batch(row.outputs), mlp(row.outputs).float()
    penalty, x = row.of(model, 0.1), td.tensor(at.x.astype("f4"))
    terms = Objective(model, td.cross_entropy, [penalty])(x, td.tensor(at.y), **row.given(x))
    assert {t.dtype for t in (terms.total, terms.loss, *terms.penalties)} == {np.dtype("float32")}
    terms.total.backward()
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype("float32")}
    assert penalty.weight.dtype == np.float64


# What it leaves behind
# ------------------------------------------------------------------------------------------------------------


def network(generator: td.Generator, outputs: int) -> nn.Module:
    """Every kind of state that a forward pass moves, in mixed modes."""
    td.manual_seed(1)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout2d(0.3), nn.Tanh(), nn.MaxPool2d(2)),
        *(
            nn.Flatten(),
            nn.Linear(12, 6),
            nn.BatchNorm1d(6, momentum=None),
            nn.Dropout(0.5, generator=generator),
        ),
        *(nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Linear(6, outputs)),
    )
    model[9].eval()
    return model


def images(seed: int, outputs: int) -> tuple[td.Tensor, td.Tensor]:
    r = np.random.default_rng(seed)
    return td.tensor(r.standard_normal((B, 1, 6, 6)).astype("f4")), td.tensor(r.integers(0, outputs, B))


def left(model: nn.Module, generator: td.Generator) -> list[Any]:
    """All that a pass may have moved."""
    streams = [g.state_dict() for g in (generator, td.noise_generator, td.default_generator)]
    modes = [module.training for module in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return [[(name, np.array(b).tobytes()) for name, b in model.named_buffers()], streams, modes, hooks]


@rows
def test_a_penalized_step_leaves_what_a_plain_one_leaves(row: PenaltyRow) -> None:
    found = []
    for penalized in (False, True):
        generator = td.Generator(9)
        model = network(generator, row.outputs)
        objective = Objective(model, td.cross_entropy, [row.of(model, 1.0)] if penalized else [])
        found.append([])
        for step in range(2):
            x, y = images(step, row.outputs)
            answer = objective(x, y, **row.given(x))
            answer.total.backward()
            bits = [t.detach().numpy().tobytes() for t in (answer.loss, answer.logits)]
            found[-1].append([bits, left(model, generator)])
    assert found[0] == found[1]


class _StopError(Exception):
    pass


@rows
def test_an_exception_leaves_no_trace_either(row: PenaltyRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the penalty's own code, and in any layer of an extra pass."""
    found = []
    for fails in (None, "penalty", *(f"layer {i}" for i in range(12))):
        generator = td.Generator(9)
        model, calls = network(generator, row.outputs), []
        penalty = row.of(model, 1.0)

        def failing(module: nn.Module, *_: Any, calls: list[Any] = calls) -> None:
            calls.append(module)
            if len(calls) == 2:
                raise _StopError

        if fails and fails != "penalty":
            model[int(fails.split()[1])].register_forward_hook(failing)
        stopped = False
        with monkeypatch.context() as patch:
            if fails == "penalty":
                own = type(penalty).__call__
                patch.setattr(type(penalty), "__call__", functools.partialmethod(_then_stop, own))
            try:
                x, y = images(0, row.outputs)
                Objective(model, td.cross_entropy, [penalty] if fails else [])(x, y, **row.given(x))
            except _StopError:
                stopped = True
        assert stopped is (fails == "penalty" or (fails is not None and row.extra))
        for module in model.modules():
            if failing in module._forward_hooks.values():
                module._forward_hooks.clear()
        found.append(left(model, generator))
    assert all(state == found[0] for state in found[1:])


def _then_stop(self: Penalty, own: Callable[..., Any], seen: Pass) -> None:
    own(self, seen)
    raise _StopError


# In a recorded step, and from a checkpoint
# ------------------------------------------------------------------------------------------------------------


def rising(step: td.Tensor) -> td.Tensor:
    return 0.05 * td.minimum((step + 1) / 3, 1)


class Training:
    """A few steps with one penalty: `go` gives the bits of their answers, `bits` of all that is left."""

    def __init__(self, row: PenaltyRow, wrap: Callable[[Any], Any], weight: Any, every: int, seed: int = 1):
        self.generator = td.Generator(seed, 5)
        self.model = network(self.generator, row.outputs)
        self.model.load_state_dict({k: np.array(v) * seed for k, v in self.model.state_dict().items()})
        self.objective = Objective(self.model, td.cross_entropy, [row.of(self.model, weight, every=every)])
        trained = [*self.model.parameters(), *self.objective.parameters()]
        self.optimizer = td.optim.Adam(trained, lr=0.01)
        self.given, self.outputs = row.given, row.outputs
        self.play, self.done = wrap(self.step), 0

    def step(self, x: td.Tensor, y: td.Tensor, due: tuple[str, ...]) -> Any:
        self.optimizer.zero_grad()
        terms = self.objective(x, y, due=due, **self.given(x))
        terms.total.backward()
        self.optimizer.step()
        self.objective.after()
        return terms

    def go(self, steps: int) -> list[list[bytes]]:
        found = []
        for i in range(self.done, self.done + steps):
            terms = self.play(*images(i, self.outputs), self.objective.due(i))
            values = [terms.total, terms.loss, terms.logits, *(p for p in terms.penalties if p is not None)]
            found.append([t.detach().numpy().tobytes() for t in values])
        self.done += steps
        return found

    def things(self) -> dict[str, Any]:
        things = {"model": self.model, "optimizer": self.optimizer, "objective": self.objective}
        return {**things, "dropout": self.generator}

    def bits(self) -> list[Any]:
        def flat(x: Any) -> Iterator[Any]:
            if isinstance(x, dict):
                for key in x:
                    yield from flat(x[key])
            else:
                yield np.array(x.detach() if isinstance(x, td.Tensor) else x).tobytes()

        state = [self.model, self.objective, self.generator, td.noise_generator]
        return [list(flat(thing.state_dict())) for thing in state]


HOW = {"plain": (0.05, 1), "schedule": (rising, 1), "every": (0.05, 2), "schedule and every": (rising, 2)}


@rows
@pytest.mark.parametrize("how", HOW)
def test_recorded_as_eager_bit_for_bit(row: PenaltyRow, how: str) -> None:
    """One recording for each pattern of what is due."""
    weight, every = HOW[how]
    if not row.records:
        with pytest.raises(GraphError):
            Training(row, td.record, weight, every).go(1)
        return
    bits = []
    for wrap in (lambda step: step, td.record):
        td.manual_seed(3)
        training = Training(row, wrap, weight, every)
        bits.append([training.go(5), training.bits()])
    assert bits[0] == bits[1]
    assert len(training.play.recordings) == every
    last = 4 if every == 2 else 5  # the last step on which the schedule was asked
    expected = weight if weight != rising else rising(td.tensor(last - (every == 1), dtype="float64")).item()
    assert training.objective.penalties[0].weight.item() == expected


@rows
def test_a_resumed_run_has_the_same_bits(row: PenaltyRow, tmp_path: Any) -> None:
    path = tmp_path / "run.safetensors"
    td.manual_seed(3)
    whole = Training(row, td.record, rising, 2)
    answers = whole.go(5)
    state = whole.bits()
    td.manual_seed(3)
    first = Training(row, td.record, rising, 2)
    assert first.go(3) == answers[:3]
    checkpoint.save(path, **first.things(), step=3)
    second = Training(row, td.record, rising, 2, seed=2)
    assert second.go(2) != answers[:2]  # recorded before: the recordings must see what is loaded
    second.done = checkpoint.load(path, **second.things())["step"]
    assert second.go(2) == answers[3:]
    assert second.bits() == state


# What it refuses
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "error", "message"),
    [pytest.param(*bad, id=f"{row.name}, {bad[2]}") for row in ROWS for bad in row.bad],
)
def test_refusals(refused: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        refused()


@rows
def test_no_grad_is_refused_by_name(row: PenaltyRow) -> None:
    at, model = linear_batch(), linear_model(linear_batch())
    penalty, x = row.of(model, 0.5), td.tensor(at.x)
    objective = Objective(model, td.cross_entropy, [penalty])
    wanted = rf"^Objective: expected grad mode for {type(penalty).__name__}\(0.5\), got no_grad"
    with td.no_grad(), pytest.raises(GraphError, match=wanted):
        objective(x, td.tensor(at.y), **row.given(x))


# Beside PyTorch
# ------------------------------------------------------------------------------------------------------------


def linear(layers: Any, outputs: int) -> Any:
    return layers.Sequential(layers.Linear(D, outputs))


def tanh_mlp(layers: Any, outputs: int) -> Any:
    return layers.Sequential(layers.Linear(D, 6), layers.Tanh(), layers.Linear(6, outputs))


def convolutions(layers: Any, outputs: int) -> Any:
    return layers.Sequential(
        *(layers.Conv2d(1, 3, 3), layers.BatchNorm2d(3), layers.Tanh(), layers.MaxPool2d(2)),
        *(
            layers.Flatten(),
            layers.Linear(12, 5),
            layers.BatchNorm1d(5),
            layers.Tanh(),
            layers.Linear(5, outputs),
        ),
    )


def batch_norm(
    x: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool, _: float, eps: float
) -> Any:
    """PyTorch's, out of its elementary operations: the third derivatives of its own are wrong in training
    mode (differences of its own second derivatives show it).
    """
    shape = (1, -1, *(1,) * (x.ndim - 2))
    if training:
        dims = [0, *range(2, x.ndim)]
        mean, var = x.mean(dims), x.var(dims, unbiased=False)
    unit = (x - mean.reshape(shape)) / (var.reshape(shape) + eps).sqrt()
    return unit * weight.reshape(shape) + bias.reshape(shape)


@rows
@pytest.mark.parametrize(
    ("build", "shape"),
    [(linear, (B, D)), (tanh_mlp, (B, D)), (convolutions, (B, 1, 6, 6))],
    ids=["linear", "MLP", "convolutions"],
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_against_torch(
    row: PenaltyRow, build: Callable[[Any, int], Any], shape: tuple[int, ...], mode: str, monkeypatch: Any
) -> None:
    torch = pytest.importorskip("torch")
    if row.third_order:
        monkeypatch.setattr(torch.nn.functional, "batch_norm", batch_norm)
    r = np.random.default_rng(4)
    x, y = r.standard_normal(shape), r.integers(0, row.outputs, B)
    model, theirs = build(nn, row.outputs).double(), build(torch.nn, row.outputs).double()
    for name, p in (*model.named_parameters(), *model.named_buffers()):
        if p.dtype.kind == "f":
            model.load_state_dict({name: r.uniform(0.5, 1.5, p.shape)}, strict=False)
    for name, p in model.named_parameters():
        if p.ndim > 1:
            model.load_state_dict({name: r.standard_normal(p.shape)}, strict=False)
    theirs.load_state_dict({name: torch.tensor(np.array(p)) for name, p in model.state_dict().items()})
    model.train(mode == "train")
    theirs.train(mode == "train")

    objective = Objective(model, td.cross_entropy, [row.of(model, 0.3)])
    terms = objective(td.tensor(x), td.tensor(y), **row.given(td.tensor(x)))
    ours = td.grad(terms.total, list(model.parameters()))

    leaf, classes = torch.tensor(x, requires_grad=True), torch.tensor(y)
    start = {name: value.clone() for name, value in theirs.state_dict().items()}
    logits = theirs(leaf)
    losses = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
    value = row.torch(TorchPass(torch, theirs, leaf, classes, logits, losses, start))
    total = losses.mean() + 0.3 * value
    np.testing.assert_allclose(terms.penalties[0].item(), value.item(), rtol=1e-9)
    np.testing.assert_allclose(terms.total.item(), total.item(), rtol=1e-9)
    wanted = torch.autograd.grad(total, list(theirs.parameters()))
    for (name, _), got, expected in zip(model.named_parameters(), ours, wanted, strict=True):
        scale = max(float(expected.abs().max()), 1.0)
        np.testing.assert_allclose(got.numpy() / scale, expected.numpy() / scale, atol=1e-9, err_msg=name)
