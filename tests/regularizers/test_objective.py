"""The contract of objectives: names, weights, schedules, `every`, `due` and `after`, streams, state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from penalized import B, D, M, MaxNorm, assert_close, batch, grads, network
from tinydl_kernels.machine.errors import GraphError, ShapeError

import tinydl as td
from tinydl import nn
from tinydl.regularizers import (
    L2,
    VAT,
    ConfidencePenalty,
    DataGrad,
    Objective,
    Pass,
    Penalty,
    SpectReg,
    Term,
)
from tinydl.training import checkpoint

# Names and what comes back
# ------------------------------------------------------------------------------------------------------------


def test_terms_by_position_by_name_and_for_a_log() -> None:
    objective = Objective(network(), td.cross_entropy, [DataGrad(1.0), L2(0.1), DataGrad(2.0), MaxNorm(1.0)])
    assert list(objective.terms) == ["data_grad", "l2", "data_grad_2", "max_norm"]
    terms = objective(*batch())
    total, loss, penalties, logits = terms
    assert penalties._fields == ("data_grad", "l2", "data_grad_2")
    assert penalties.l2 is penalties[1]
    assert terms.named() == {
        "loss": loss, "data_grad": penalties[0], "l2": penalties[1], "data_grad_2": penalties[2],
        "total": total,
    }  # fmt: skip
    assert logits.shape == (B, M)
    assert [type(p).__name__ for p in objective.penalties] == ["DataGrad", "L2", "DataGrad"]


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        (lambda: [3.0], TypeError, "Objective: expected terms as Term or Penalty, got float"),
        (lambda: [L2(1.0)] * 2, ValueError, "Objective: expected each term once, got l2 again"),
        (lambda: [L2(1.0, name="loss")], ValueError, "Objective: expected names that differ from loss"),
        (lambda: [L2(1.0, name="l2_2"), L2(1.0), L2(1.0)], ValueError, ".*each other, got l2_2"),
        (lambda: [L2(1.0, name="two words")], ValueError, "L2: expected a name that is an identifier"),
        (lambda: [L2(1.0, name="_x")], ValueError, "L2: expected a name that is an identifier, got '_x'"),
        (lambda: [L2(1.0, every=0)], ValueError, "L2: expected every as a whole number of at least 1, got 0"),
        (lambda: [L2(1.0, every=1.5)], ValueError, "L2: expected every as a .*, got 1.5"),
        (lambda: [L2(nn.Buffer(1))], ValueError, r"L2: .* a Buffer \(\) float64, got Buffer \(\) int64"),
        (lambda: [L2(td.tensor(1.0))], ValueError, r"L2: .* Buffer \(\) float64, got Tensor \(\) float32"),
    ],
)  # fmt: skip
def test_terms_that_are_refused(terms: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        Objective(network(), td.cross_entropy, terms())


def test_values_that_are_refused() -> None:
    class Vector(Penalty):
        def __call__(self, seen: Pass) -> td.Tensor:
            return seen.losses

    class Number(Penalty):
        def __call__(self, seen: Pass) -> Any:
            return 1.0

    for penalty, message in (
        (Vector(1.0), r"vector: .* of shape \(\), got \(6,\)"),
        (Number(1.0), "number: .* float"),
    ):
        with pytest.raises(ShapeError, match=f"^{message}"):
            Objective(network(), td.cross_entropy, [penalty])(*batch())
    with pytest.raises(
        TypeError, match=r"^Objective: expected a tensor or a tuple of tensors as x, got \(ndarray\)"
    ):
        Objective(network(), td.cross_entropy)(batch()[0].numpy(), batch()[1])
    with pytest.raises(ValueError, match=r"^Objective: expected due out of \['l2'\], got \['l1'\]"):
        Objective(network(), td.cross_entropy, [L2(1.0)])(*batch(), due=("l1",))


# Weights
# ------------------------------------------------------------------------------------------------------------


def test_a_new_weight_is_seen_by_replays() -> None:
    penalty = L2(0.5)
    objective = Objective(network(), td.cross_entropy, [penalty])
    play = td.record(lambda x, y: objective(x, y))
    for weight in (0.5, 0.25, 3.0):
        penalty.weight = weight
        terms = play(*batch())
        assert_close([terms.total.item()], [terms.loss.item() + weight * terms.penalties.l2.item()])
    assert len(play.recordings) == 1
    assert repr(penalty) == "L2(3.0)"
    with pytest.raises(ValueError, match="L2: expected a weight of at least 0, got -1"):
        penalty.weight = -1
    assert penalty.weight.item() == 3.0


def test_terms_may_share_a_buffer_as_their_weight() -> None:
    shared = nn.Buffer(0.5, np.float64)
    objective = Objective(network(), td.cross_entropy, [L2(shared), ConfidencePenalty(shared)])
    objective.penalties[0].weight = 2.0
    terms = objective(*batch())
    values = sum(p.item() for p in terms.penalties)
    assert_close([terms.total.item()], [terms.loss.item() + 2.0 * values])


def test_a_schedule_inside_one_recorded_step() -> None:
    """It is asked for the number of `after`s: 0 on the first step."""
    model, asked = network(), []
    schedule = lambda step: asked.append(step.dtype) or td.exp(-step)  # noqa: E731
    objective = Objective(model, td.cross_entropy, [L2(schedule)])
    optimizer = td.optim.SGD(model.parameters(), lr=0.1)

    @td.record
    def play(x: td.Tensor, y: td.Tensor) -> Any:
        optimizer.zero_grad()
        terms = objective(x, y)
        terms.total.backward()
        optimizer.step()
        objective.after()
        return terms

    for i in range(4):
        terms = play(*batch(i))
        assert_close([terms.total.item()], [terms.loss.item() + np.exp(-i) * terms.penalties.l2.item()])
    assert asked == [np.float64]  # at the recording
    assert objective.step.item() == optimizer.steps_taken.count == 4
    with pytest.raises(ValueError, match="L2: expected its schedule to give the weight, got 1"):
        objective.penalties[0].weight = 1


# every, due and after
# ------------------------------------------------------------------------------------------------------------


def test_every_counts_by_itself_and_weighs_its_turns() -> None:
    model = network()
    objective = Objective(model, td.cross_entropy, [L2(0.1, every=3), ConfidencePenalty(0.5)])
    optimizer = td.optim.SGD(model.parameters(), lr=0.1)
    for i in range(7):
        optimizer.zero_grad()
        micro = [objective(*batch(2 * i + k)) for k in range(2)]  # both of a step are due or not
        for terms in micro:
            assert (terms.penalties.l2 is not None) is (i % 3 == 0)
            parts = terms.loss.item() + 0.5 * terms.penalties.confidence_penalty.item()
            parts += 0.3 * terms.penalties.l2.item() if i % 3 == 0 else 0.0
            assert_close([terms.total.item()], [parts])
            assert ("l2" in terms.named()) is (i % 3 == 0)
            terms.total.backward()
        optimizer.step()
        objective.after()
    assert objective.due(3) == ("l2", "confidence_penalty")
    assert objective.due(4) == ("confidence_penalty",)


def test_accumulated_micro_batches_are_one_batch() -> None:
    x, y = batch()
    found = []
    for parts in (1, 2):
        model = network()
        objective = Objective(model, td.cross_entropy, [DataGrad(0.3), L2(0.1)])
        for i in range(parts):
            part = slice(i * B // parts, (i + 1) * B // parts)
            (objective(x[part], y[part]).total * (1 / parts)).backward()
        found.append(grads(model))
    assert_close(found[0], found[1])


def test_due_left_out_of_a_recording_is_an_error_that_names_it() -> None:
    objective = Objective(network(), td.cross_entropy, [SpectReg(0.1, every=4), L2(0.1)])
    with pytest.raises(GraphError, match=r"due=objective\.due\(i\) .* for spect_reg with every=4, got none"):
        td.record(lambda x, y: objective(x, y).total)(*batch())
    assert td.record(lambda x, y: objective(x, y, due=("l2",)).total)(*batch()).shape == ()


def steps_without_after(wrap: Callable[[Any], Any], terms: list[Term], inside: bool, outside: bool) -> None:
    """Three steps, `after` inside the step that `wrap` wraps, or after it, or nowhere."""
    model = network()
    objective, optimizer = Objective(model, td.cross_entropy, terms), td.optim.Adam(model.parameters())

    def step(x: td.Tensor, y: td.Tensor, due: Any) -> td.Tensor:
        optimizer.zero_grad()
        terms = objective(x, y, due=due)
        terms.total.backward()
        optimizer.step()
        if inside:
            objective.after()
        return terms.total

    play = wrap(step)
    for i in range(3):
        play(*batch(i), objective.due(i))
        if outside:
            objective.after()


@pytest.mark.parametrize("wrap", [lambda step: step, td.record], ids=["eager", "recorded"])
@pytest.mark.parametrize(
    "terms",
    [lambda: [L2(lambda step: step)], lambda: [SpectReg(0.1, every=2)], lambda: [MaxNorm(1.0)]],
    ids=["schedule", "every", "after"],
)
def test_a_forgotten_after_is_told(wrap: Callable[[Any], Any], terms: Callable[[], list[Term]]) -> None:
    """At the second step, a replay's too."""
    steps_without_after(wrap, terms(), True, False)
    steps_without_after(wrap, terms(), False, True)
    with pytest.raises(
        GraphError, match=r"expected objective\.after\(\) after each step of the optimizer, for "
    ):
        steps_without_after(wrap, terms(), False, False)


def test_an_after_that_is_forgotten_later_on_is_told() -> None:
    """Steps of replays are counted."""
    model = network()
    objective = Objective(model, td.cross_entropy, [L2(lambda step: step)])
    optimizer = td.optim.SGD(model.parameters(), lr=0.1)

    @td.record
    def play(x: td.Tensor, y: td.Tensor) -> None:
        optimizer.zero_grad()
        objective(x, y).total.backward()
        optimizer.step()

    for _ in range(3):
        play(*batch())
        objective.after()
    play(*batch())
    with pytest.raises(
        GraphError, match=r"objective\.after\(\) after each step of the optimizer, for L2\(<lambda>\)"
    ):
        play(*batch())


@pytest.mark.parametrize("wrap", [lambda step: step, td.record], ids=["eager", "recorded"])
def test_nobody_waits_for_an_after_that_nobody_needs(wrap: Callable[[Any], Any]) -> None:
    steps_without_after(wrap, [DataGrad(0.1), L2(0.1)], False, False)


def test_what_moves_parameters_without_being_a_step_is_no_forgotten_after() -> None:
    """SAM's way up and back, an average written into the model, another model's optimizer, validation, and a
    second objective that takes its turns on the same model.
    """
    model, critic = network(), network()
    objective = Objective(model, td.cross_entropy, [L2(lambda step: step)])
    other = Objective(model, td.cross_entropy, [ConfidencePenalty(0.1, every=2)])
    optimizer, critics = (td.optim.SGD(m.parameters(), lr=0.1) for m in (model, critic))
    for i in range(3):
        critic(batch(i)[0]).sum().backward()
        critics.step()
        objective(*batch(i)).total.backward()
        with td.no_grad():
            for p in model.parameters():
                td.ops.update.assign(p, p + 0.01 * p.grad)
        objective(*batch(i)).total.backward()
        optimizer.step()
        objective.after()
        with td.no_grad():
            objective(*batch(9), due=())
        other(*batch(i)).total.backward()
        optimizer.step()
        other.after()
    assert objective.step.item() == other.step.item() == 3


def test_after_gives_its_optimizer_and_constrains_recorded_as_eager() -> None:
    found = []
    for wrap in (lambda step: step, td.record):
        model, term = network(), MaxNorm(0.5)
        objective, optimizer = (
            Objective(model, td.cross_entropy, [term]),
            td.optim.SGD(model.parameters(), 1.0),
        )

        def step(x: td.Tensor, y: td.Tensor, objective: Any = objective, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            terms = objective(x, y)
            terms.total.backward()
            optimizer.step()
            objective.after(optimizer)
            return terms

        play = wrap(step)
        for i in range(3):
            play(*batch(i))
        assert term.optimizers[0] is optimizer
        norms = [np.linalg.norm(np.array(p), axis=1).max() for p in model.parameters() if p.ndim > 1]
        assert max(norms) <= 0.5 + 1e-12
        found.append([np.array(p).tobytes() for p in model.parameters()])
    assert found[0] == found[1]


# Streams, state, parameters
# ------------------------------------------------------------------------------------------------------------


def test_two_of_a_kind_draw_different_numbers() -> None:
    objective = Objective(network(), td.cross_entropy, [SpectReg(1.0), SpectReg(1.0), SpectReg(1.0)])
    values = [p.item() for p in objective(*batch()).penalties]
    assert len(set(values)) == 3
    alone = Objective(network(), td.cross_entropy, [SpectReg(1.0)])(*batch()).penalties[0].item()
    assert values[0] == alone
    shared = td.Generator(5)
    both = Objective(
        network(), td.cross_entropy, [SpectReg(1.0, generator=shared), SpectReg(1.0, generator=shared)]
    )
    assert both.penalties[0].generator is both.penalties[1].generator


def test_streams_come_from_the_name_and_the_seed() -> None:
    """So a term beside it changes no draw, and manual_seed reaches what is made afterwards."""

    class Drawing(Penalty):
        def __call__(self, seen: Pass) -> td.Tensor:
            return (seen.logits * td.randn(B, M, generator=self.generator, dtype="float64")).sum()

    values = []
    for kind in (Drawing, SpectReg):
        values.clear()
        for seed, terms in ((1, []), (1, [L2(1.0), VAT(1.0, eps=1.0)]), (2, [])):
            model = network()
            td.manual_seed(seed)
            objective = Objective(model, td.cross_entropy, [kind(1.0), *terms])
            values.append(objective(*batch()).penalties[0].item())
        assert values[0] == values[1] != values[2]


class Uncertain(Penalty):
    """exp(-s) · entropy + s, with s a parameter; a teacher and a count beside it."""

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.s, self.count = nn.Parameter(np.array(0.5)), nn.Buffer(0)
        self.teacher = nn.Linear(D, M).double()

    def __call__(self, seen: Pass) -> td.Tensor:
        p = td.exp(seen.log_probabilities)
        return td.exp(-self.s) * (p * seen.log_probabilities).sum() / B + self.s

    def after(self, model: nn.Module, optimizer: Any) -> None:
        td.ops.update.increment(self.count)


def test_parameters_of_terms_are_trained() -> None:
    model = network()
    objective = Objective(model, td.cross_entropy, [Uncertain(0.7)])
    (s,) = objective.parameters()
    assert s is objective.penalties[0].s
    optimizer = td.optim.SGD([*model.parameters(), *objective.parameters()], lr=0.1)
    objective(*batch()).total.backward()
    optimizer.step()
    objective.after()
    assert s.item() != 0.5


def test_combine_takes_the_place_of_backward() -> None:
    """Here it adds up the gradients of the parts, scaled to length 1."""
    model, seen = network(), []

    def normalized(parts: Any, parameters: list[Any]) -> None:
        seen.append((len(parts), len(parameters)))
        for part in parts:
            found = td.grad(part, parameters, allow_unused=True, retain_graph=True)
            with td.no_grad():
                for p, g in zip(parameters, found, strict=True):
                    if g is not None:
                        p.grad = g if p.grad is None else p.grad + g

    objective = Objective(model, td.cross_entropy, [L2(0.3), Uncertain(0.7)], combine=normalized)
    terms = objective(*batch())
    terms.backward()
    combined = grads(model)
    assert seen == [(3, 5)]
    model.zero_grad()
    plain = Objective(model, td.cross_entropy, objective.penalties)(*batch())
    plain.backward()
    assert_close(combined, grads(model))


def test_state_is_by_name_and_loads_in_place(tmp_path: Any) -> None:
    def made(seed: int) -> Objective:
        td.manual_seed(seed)
        objective = Objective(
            network(), td.cross_entropy, [SpectReg(0.1, every=2), Uncertain(0.5), SpectReg(0.2)]
        )
        for i in range(seed):
            objective(*batch(i))
            objective.after()
        return objective

    first, second = made(3), made(1)
    state = first.state_dict()
    assert list(state["terms"]) == ["spect_reg", "uncertain", "spect_reg_2"]
    assert list(state["terms"]["spect_reg"]) == ["generator", "weight"]
    assert sorted(state["terms"]["uncertain"]) == ["count", "generator", "s", "teacher", "weight"]
    first.penalties[2].weight = 0.75
    with td.no_grad():
        td.ops.update.assign(first.penalties[1].teacher.weight, 2.0)
    checkpoint.save(tmp_path / "a.safetensors", objective=first)
    held = second.penalties[2].weight, second.step, second.penalties[1].s
    checkpoint.load(tmp_path / "a.safetensors", objective=second)
    assert all(a is b for a, b in zip(held, (second.penalties[2].weight, second.step, second.penalties[1].s)))
    assert second.penalties[2].weight.item() == 0.75
    assert second.step.item() == 3
    assert second.penalties[1].count.item() == 3
    assert (np.array(second.penalties[1].teacher.weight) == 2).all()
    assert second.generators()["penalty2"].state_dict() == first.generators()["penalty2"].state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("step"), r"state: expected \['step', 'terms'\], got \['terms'\]"),
        (lambda s: s["terms"].pop("l2"), r"terms: expected \['l2', 'spect_reg'\], got \['spect_reg'\]"),
        (
            lambda s: s["terms"]["l2"].update(weight=np.ones(2)),
            r"terms\.l2\.weight: expected \(\), got \(2,\)",
        ),
        (lambda s: s["terms"]["l2"].update(weight={}), r"terms\.l2\.weight: expected \(\), got a dict"),
        (lambda s: s["terms"].update(l2=3), r"terms\.l2: expected \['generator', 'weight'\], got int"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_whole(change: Callable[[Any], Any], message: str) -> None:
    objective = Objective(network(), td.cross_entropy, [L2(0.5), SpectReg(0.1)])
    state = {
        "step": 7,
        "terms": {
            name: dict(own, weight=np.array(9.0)) for name, own in objective.state_dict()["terms"].items()
        },
    }
    change(state)
    with pytest.raises(ValueError, match=f"^Objective.load_state_dict: {message}"):
        objective.load_state_dict(state)
    assert objective.step.item() == 0
    assert [p.weight.item() for p in objective.penalties] == [0.5, 0.1]


def test_a_state_from_before_there_were_names_loads(tmp_path: Any) -> None:
    """{"penalty0": the state of a generator, ...}, beside the schedule of that time."""
    objective = Objective(network(), td.cross_entropy, [DataGrad(0.5), SpectReg(0.1)])
    old = {
        "penalty0": {"seed": 0, "stream": 4, "counter": 0},
        "penalty1": {"seed": 3, "stream": 4, "counter": 12},
    }
    objective.load_state_dict(old)
    assert objective.penalties[1].generator.state_dict() == old["penalty1"]
    objective.load_state_dict({"penalty1": {"seed": 5, "stream": 4, "counter": 1}})
    assert objective.penalties[1].generator.seed == 5
    with pytest.raises(
        ValueError, match=r"penalty1: expected \['counter', 'seed', 'stream'\], got \['seed'\]"
    ):
        objective.load_state_dict({"penalty1": {"seed": 5}})

    class Saved:  # as a file of that time has it: objective.generators() in a dict of generators
        def state_dict(self) -> Any:
            return old["penalty1"]

        def load_state_dict(self, state: Any) -> None:
            raise AssertionError

    checkpoint.save(
        tmp_path / "old.safetensors", generators={"penalty0": td.Generator(0, 4), "penalty1": Saved()}
    )
    checkpoint.load(tmp_path / "old.safetensors", generators=objective.generators())
    assert objective.penalties[1].generator.state_dict() == old["penalty1"]
