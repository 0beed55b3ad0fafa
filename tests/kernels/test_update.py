"""Update rules: what may be stated, what is computed in which order, and that the compiled loops do it."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import rules
from tinydl_kernels import update
from tinydl_kernels.cpu import threads
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.validate import agree
from tinydl_kernels.update import State, trace
from tinydl_kernels.update.expression import GROUP, OPTIMIZER, PARAMETER, apply, exp, load, total, where

FLOATS = (np.float32, np.float64)
RULES = {"plain": rules.plain, "mean": rules.mean, "everything": rules.everything}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("make", RULES.values(), ids=RULES)
def test_against_the_reference(make, dtype):
    """Gradients and options are left alone: `agree` compares the arguments afterwards."""
    shapes = (*rules.SHAPES, (40000,))
    agree(update.optimizer_step, *rules.group(make(), [dtype] * len(shapes), shapes))


@pytest.mark.parametrize("dtype", FLOATS)
def test_both_passes_of_a_rule_with_sums(dtype):
    """Of no, one and many pieces."""
    shapes = (*rules.SHAPES, (4096,), (40000,))
    arguments = rules.group(rules.summed(), [dtype] * len(shapes), shapes)
    agree(update.optimizer_step, *arguments)
    agree(update.optimizer_step, *rules.again(arguments))


def test_what_sums_are():
    """In float64, of all elements once, and again the same bits whatever the number of threads."""
    rule = rules.summed()
    for n in (0, 5, 512, 4096, 4097, 1_000_003):
        arguments = rules.group(rule, [np.float32], [(n,)])
        p, g, m = (
            np.float64(arrays[0]) for arrays in (*arguments[:2], arguments[2][rule.moments.index("mean")])
        )
        mean = np.float64(np.float32(0.9) * np.float32(m) + np.float32(1.0 - 0.9) * np.float32(p))
        before = copy.deepcopy(arguments)
        sums = update.optimizer_step(*arguments)
        expected = {PARAMETER: [(mean**2).sum(), (p * g).sum()], OPTIMIZER: [abs(p).sum()]}
        for level, found in zip(rule.sums, sums[0], strict=True):
            wanted = expected[level].pop(0)
            assert abs(found - wanted) <= 1e-6 * (1 + abs(wanted))
        kept = threads.get_num_threads()
        for count in (1, 3):
            threads.set_num_threads(count)
            assert update.optimizer_step(*copy.deepcopy(before)).tobytes() == sums.tobytes()
        threads.set_num_threads(kept)


def test_moments_are_written_first_the_rest_last():
    first, second = (
        [name for x in each.programs.values() for name, _ in x.stores] for each in rules.summed().passes
    )
    assert first == ["mean"]
    assert sorted(second) == ["largest", "late", "param", "rate", "seen", "step"]


def test_a_group_of_both_dtypes_and_one_that_does_not_lead():
    *arguments, _ = rules.group(rules.everything(), FLOATS * 3)
    agree(update.optimizer_step, *arguments, False)
    calls = dict(zip(arguments[6].shared, arguments[4], strict=True))["calls"]
    for leads, expected in ((False, 2), (True, 3), (False, 3)):
        update.optimizer_step(*arguments, leads)
        assert calls == expected


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_is_put_in_another_order(backend, dtype):
    """(p + g) - p is not g in floating point, literals have the parameter's dtype, coefficients are cast
    once.
    """

    def element(o, s, c, p, g):
        return ((p + g) - p) * 0.1 + o.lr

    rule = trace("order", {"lr": None}, {}, {}, lambda o, s: None, element)
    (only,) = rule.passes
    assert [x.op for x in only.elements.steps if x.operands] == [
        "add",
        "sub",
        "mul",
        "coefficient",
        "add",
        "normal",
    ]
    p, g = (np.random.default_rng(0).standard_normal(500).astype(dtype) for _ in range(2))
    g /= 1000
    expected = ((p + g) - p) * dtype(0.1) + dtype(1 / 3)
    assert (expected != g * dtype(0.1) + dtype(1 / 3)).any()
    with dispatch.use(backend):
        update.optimizer_step([p], [g], [], [], [], [np.array(1 / 3)], rule, True)
    np.testing.assert_array_equal(p, expected)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_moments_of_a_gradient_that_stays_zero_end_at_zero(dtype, backend):
    """They would stop at the smallest subnormal numbers, with which processors compute slowly. Each of them:
    the second moments too.
    """
    rule = rules.mean()
    tiny = np.finfo(dtype).tiny
    m = np.array([1.05 * tiny, 2 * tiny, np.nan, 0, 3 * tiny / 1e6, -1.05 * tiny] * 9, dtype)
    for count, moment in enumerate(rule.moments):
        params, grads, moments, *rest = rules.group(rule, [dtype], [m.shape], {"betas": np.array([0.9, 0.9])})
        grads[0][...] = 0
        for x in moments:
            x[0][...] = abs(m) if moment == "square" else m
        before = moments[count][0].copy()
        with dispatch.use(backend):
            update.optimizer_step(params, grads, moments, *rest)
        scaled = dtype(0.9) * before
        expected = np.where(abs(before) > 1.5 * tiny, scaled, np.where(np.isnan(before), before, 0))
        np.testing.assert_array_equal(moments[count][0], expected)


def made(states, scalars=lambda o, s: None, element=lambda o, s, c, p, g: p - g):
    return trace("made", {"lr": None, "betas": 2}, {"flag": True}, states, scalars, element)


def setting(name, value):
    def scalars(o, s):
        setattr(s, name, value(o, s))

    return scalars


def overwritten(s, p):
    old = s.m
    s.m = s.m + p
    return p - total(p) * old


STATES = {"m": State(), "n": State("parameter", whole=True), "w": State("group"), "x": State("parameter")}


@pytest.mark.parametrize(
    ("formulas", "error", "message"),
    [
        ({"element": lambda o, s, c, p, g: p if p > g else g}, TypeError, "expected no branch on a number"),
        ({"element": lambda o, s, c, p, g: p * float(g)}, TypeError, "expected operations on symbols alone"),
        (
            {"element": lambda o, s, c, p, g: p * np.ones(2)},
            TypeError,
            "expected symbols and finite numbers, got",
        ),
        (
            {"element": lambda o, s, c, p, g: p * float("inf")},
            TypeError,
            "expected symbols and finite numbers",
        ),
        ({"element": lambda o, s, c, p, g: p * (p < g)}, TypeError, "expected a number, got a comparison"),
        ({"element": lambda o, s, c, p, g: where(p, p, g)}, TypeError, "where: expected a comparison"),
        ({"element": lambda o, s, c, p, g: o.lr}, TypeError, "made: element: expected the new parameter"),
        (
            {"element": lambda o, s, c, p, g: None},
            TypeError,
            "made: element: expected the new parameter, got None",
        ),
        (
            {"element": lambda o, s, c, p, g: p * o.rate},
            AttributeError,
            r"options \['betas', 'flag', 'lr'\], got 'rate'",
        ),
        ({"element": lambda o, s, c, p, g: p * c.rate}, AttributeError, r"coefficients \[\], got 'rate'"),
        (
            {"element": lambda o, s, c, p, g: p * s.k},
            AttributeError,
            r"states \['m', 'n', 'w', 'x'\], got 'k'",
        ),
        (
            {"element": lambda o, s, c, p, g: setattr(s, "x", s.x) or p},
            AttributeError,
            "'x' to be set in scalars",
        ),
        (
            {"element": lambda o, s, c, p, g: p - total(o.lr) * g},
            TypeError,
            "a sum of what each element has",
        ),
        ({"element": lambda o, s, c, p, g: p - total(1.0) * g}, TypeError, "a sum of what each element has"),
        (
            {"element": lambda o, s, c, p, g: p - total(total(p) * g) * g},
            TypeError,
            "what is known before any sum",
        ),
        (
            {"element": lambda o, s, c, p, g: setattr(s, "w", total(p)) or p},
            TypeError,
            "w: expected what is known once per group",
        ),
        (
            {"element": lambda o, s, c, p, g: overwritten(s, p)},
            TypeError,
            r"expected the new value of \['m'\]: the old one is written over",
        ),
        ({"scalars": lambda o, s: s.m}, AttributeError, r"one of the states \['n', 'w', 'x'\], got 'm'"),
        ({"scalars": setting("n", lambda o, s: s.n + 0.5)}, TypeError, "n: expected a whole number"),
        ({"scalars": setting("x", lambda o, s: 1.0)}, TypeError, "x: expected a formula, got 1.0"),
        (
            {"scalars": setting("w", lambda o, s: s.w + s.x)},
            TypeError,
            "w: expected what is known once per group",
        ),
        ({"states": {name: State() for name in "abcde"}}, TypeError, "expected at most 4 states per element"),
        (
            {"states": {"lr": State(), "grad": State()}},
            TypeError,
            r"names of their own, got \['grad', 'lr'\]",
        ),
    ],
)
def test_what_is_no_formula_is_refused(formulas, error, message):
    with pytest.raises(error, match=message):
        made(**{"states": STATES} | formulas)


def test_the_old_value_of_a_group_s_state_is_gone():
    def scalars(o, s):
        old = s.w
        s.w = s.w + o.lr
        s.x = old * 2.0

    with pytest.raises(TypeError, match=r"expected the new value of \['w'\]"):
        made(STATES, scalars)


def test_a_symbol_is_needed():
    with pytest.raises(TypeError, match="exp: expected a symbol among the operands"):
        exp(1.0)
    whole = apply("add", load("n", GROUP, "i"), 1)
    assert (whole.kind, (whole + 0.5).kind, (whole / 2).kind) == ("i", "f", "f")


def test_equal_formulas_share_their_loops():
    assert rules.mean() == rules.mean()
    assert update.loops(rules.mean()) is update.loops(rules.mean())
    assert rules.mean() != rules.plain()


CALL = """
import numpy as np, rules
from tinydl_kernels import update
update.optimizer_step(*rules.group(rules.mean(), [np.float32] * 6))
(programs,) = update.loops(rules.mean())
for loop in programs.values():
    print("hit" if loop.dispatcher.stats.cache_hits.total() else "miss")
"""


def test_another_process_finds_the_code_on_disk(tmp_path):
    """Generated functions are described by what they compute, so a changed formula is compiled."""
    here, kernels = os.path.dirname(__file__), os.path.dirname(os.path.dirname(update.__path__[0]))
    environment = os.environ | {
        "TINYDL_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([here, kernels]),
    }

    def words(call):
        done = subprocess.run(
            [sys.executable, "-c", call], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())

    assert words(CALL) == {"miss"}
    assert words(CALL) == {"hit"}
    other = "import tinydl_kernels.update.expression as e; e.sqrt = lambda x: x * x\n" + CALL
    assert words(other) == {"miss"}


def test_small_effects():
    counter, other, target = np.array([41]), np.array(0), np.zeros((2, 3), np.float32)
    assert update.increment(counter, other) is None
    assert counter == 42
    assert other == 1
    update.assign(target, np.arange(3))
    np.testing.assert_array_equal(target, [[0, 1, 2], [0, 1, 2]])
    update.fill(target, 0.5)
    assert (target == 0.5).all()
