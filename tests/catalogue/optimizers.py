"""The optimizers: a row for each public class, and for what its structural options make of it.

tests/optim/test_optimizer_rows.py walks the rows. An optimizer is its file in tinydl/optim/ and its rows
here:

    Row("Momentum", {"lr": 0.1}, oracle)

The oracle, in optimizer_oracles.py, is a function of the options that returns step(p, g, own): the update in
NumPy and float64, written apart from the class, with `own` a dict of the parameter's own. It begins with
"group" alone, a dict that the parameters share, in which "step" is the number of the step, from 1. PyTorch's
class of the name is a second one, where it is installed, unless `torch` says False.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .optimizer_oracles import (
    adabelief,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    asgd,
    lamb,
    lars,
    lion,
    momentum,
    muon,
    nadam,
    prodigy,
    radam,
    rmsprop,
    rprop,
    schedule_free,
    sgd,
    shampoo,
    soap,
)
from .optimizer_refusals import (
    ADAFACTOR_BAD,
    ADAGRAD_BAD,
    ADAM_BAD,
    EVERY,
    FREE,
    MUON_BAD,
    OPEN,
    PRODIGY_BAD,
    RMSPROP_BAD,
    RPROP_BAD,
    SGD_BAD,
    SOAP_BAD,
    UNIT,
    negative,
)


@dataclass(frozen=True)
class Row:
    name: str  # of the class in tinydl.optim; then what tells variants apart
    options: Mapping[str, Any]
    oracle: Callable[[Mapping[str, Any]], Any]
    dynamic: Mapping[str, Any] = field(default_factory=lambda: {"lr": 0.03})  # changes that a replay sees
    structural: Mapping[str, Any] = field(default_factory=dict)  # changes that record the step anew
    bad: Sequence[tuple[Mapping[str, Any], str]] = ()  # (options, message of the ValueError)
    torch: bool = True
    joint: bool = False  # the oracle takes lists of all parameters, gradients (or None) and their own
    recorded: bool = True  # else a recorded step refuses it by name
    matrices: bool = False  # takes parameters of two or more dims alone
    solves: Mapping[str, Any] = field(default_factory=dict)  # options at which it solves every problem

    @property
    def kind(self) -> str:
        return self.name.split()[0]


CLOSURES = {"GradientDescent", "LBFGS"}
"""Those whose steps need a closure, so that nothing here fits them: they have test files of their own."""

ROWS = [
    Row(
        "SGD",
        {"lr": 0.1},
        sgd,
        structural={"momentum": 0.5},
        bad=SGD_BAD,
        solves={"lr": 3e-3, "momentum": 0.9},
    ),
    Row("SGD decay", {"lr": 0.1, "weight_decay": 0.2, "maximize": True}, sgd, {"weight_decay": 0.1}),
    Row("SGD momentum", {"lr": 0.1, "momentum": 0.9}, sgd, {"momentum": 0.5}, {"momentum": 0.0}),
    Row(
        "SGD dampening",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.2},
        sgd,
        {"dampening": 0.1},
        {"maximize": True},
    ),
    Row("SGD nesterov", {"lr": 0.1, "momentum": 0.8, "nesterov": True}, sgd, structural={"nesterov": False}),
    Row(
        "Adam",
        {"lr": 0.1, "weight_decay": 0.2},
        adam,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        ADAM_BAD,
        solves={"lr": 0.1},
    ),
    Row(
        "Adam amsgrad", {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.8)}, adam, structural={"amsgrad": False}
    ),
    Row("Adam maximize", {"lr": 0.1, "eps": 1e-3, "maximize": True}, adam, {"eps": 1e-4}),
    Row(
        "AdamW",
        {"lr": 0.1},
        adamw,
        {"weight_decay": 0.2},
        {"amsgrad": True},
        ADAM_BAD,
        solves={"lr": 0.1, "weight_decay": 0.0},
    ),
    Row("AdamW amsgrad", {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True, "maximize": True}, adamw),
    Row("RMSprop", {}, rmsprop, {"alpha": 0.9}, {"momentum": 0.5}, RMSPROP_BAD, solves={"lr": 1e-3}),
    Row(
        "RMSprop momentum",
        {"momentum": 0.9, "weight_decay": 0.1},
        rmsprop,
        {"momentum": 0.5},
        {"momentum": 0.0},
    ),
    Row(
        "RMSprop centered",
        {"momentum": 0.5, "centered": True, "alpha": 0.9, "maximize": True},
        rmsprop,
        structural={"centered": False},
    ),
    Row("RMSprop lecture", {"eps_inside": True, "eps": 1e-3}, rmsprop, {"eps": 1e-2}, torch=False),
    Row(
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.1},
        adagrad,
        {"lr_decay": 0.3},
        {"maximize": True},
        ADAGRAD_BAD,
        solves={"lr": 0.3},
    ),
    Row(
        "Adagrad begun",
        {"lr": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.2, "maximize": True},
        adagrad,
    ),
    Row(
        "Adagrad theory",
        {"lr": 0.1, "eps": 1e-2, "eps_inside": True},
        adagrad,
        {"eps": 1e-3},
        {"eps_inside": False},
        torch=False,
    ),
    Row(
        "Adadelta",
        {},
        adadelta,
        {"rho": 0.8},
        {"maximize": True},
        [*negative("lr", "eps", "weight_decay"), ({"rho": 1.0}, f"rho: {UNIT}1.0")],
        solves={"lr": 0.1},
    ),
    Row("Adadelta decay", {"lr": 0.5, "eps": 1e-3, "weight_decay": 0.2, "maximize": True}, adadelta),
    Row(
        "Adafactor",
        {"lr": 0.1},
        adafactor,
        {"beta2_decay": -0.5},
        {"maximize": True},
        ADAFACTOR_BAD,
        solves={"lr": 3e-3, "beta2_decay": -0.5},
    ),
    Row(
        "Adafactor bounded",
        {"lr": 0.3, "eps": (1e-4, 0.5), "d": 1.5, "weight_decay": 0.2, "maximize": True},
        adafactor,
        {"eps": (1e-2, 0.1), "d": 2.0},
    ),
    Row(
        "Adamax",
        {"lr": 0.1, "weight_decay": 0.2},
        adamax,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        ADAM_BAD,
        solves={"lr": 0.3},
    ),
    Row("Adamax maximize", {"eps": 0.1, "maximize": True}, adamax, {"eps": 0.2}),
    Row(
        "NAdam",
        {"lr": 0.1, "weight_decay": 0.2},
        nadam,
        {"momentum_decay": 0.1},
        {"maximize": True},
        [*ADAM_BAD, *negative("momentum_decay")],
        solves={"lr": 0.03},
    ),
    Row(
        "NAdam decoupled",
        {"weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True},
        nadam,
        structural={"decoupled_weight_decay": False},
    ),
    Row(
        "RAdam",
        {"lr": 0.1, "weight_decay": 0.2},
        radam,
        {"betas": (0.7, 0.95)},
        {"maximize": True},
        ADAM_BAD,
        solves={"lr": 2e-3, "betas": (0.9, 0.9)},
    ),
    Row(
        "RAdam decoupled",
        {
            "lr": 0.1,
            "betas": (0.8, 0.9),
            "weight_decay": 0.3,
            "decoupled_weight_decay": True,
            "maximize": True,
        },
        radam,
        structural={"decoupled_weight_decay": False},
    ),
    Row(
        "AdaBelief",
        {"lr": 0.1, "weight_decay": 0.2},
        adabelief,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        ADAM_BAD,
        torch=False,
        solves={"lr": 0.1},
    ),
    Row(
        "AdaBelief coupled",
        {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.3, "decoupled_weight_decay": False, "maximize": True},
        adabelief,
        {"eps": 1e-4},
        torch=False,
    ),
    Row(
        "Lion",
        {"lr": 0.01, "weight_decay": 0.2},
        lion,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        [*negative("lr", "weight_decay"), *ADAM_BAD[-3:]],
        torch=False,
        solves={"lr": 3e-3},
    ),
    Row(
        "Momentum",
        {"lr": 0.1},
        momentum,
        {"beta": 0.5},
        {"maximize": True},
        [*negative("lr", "weight_decay"), ({"beta": 1.0}, f"beta: {UNIT}1.0")],
        torch=False,
        solves={"lr": 0.03},
    ),
    Row(
        "Momentum decay",
        {"weight_decay": 0.2, "maximize": True},
        momentum,
        {"weight_decay": 0.4},
        torch=False,
    ),
    Row(
        "ASGD",
        {"lr": 0.1, "t0": 20},
        asgd,
        {"lr": 0.03, "alpha": 0.5},
        {"maximize": True},
        negative("lr", "lambd", "alpha", "t0", "weight_decay"),
        solves={"lr": 1e-3},
    ),
    Row("ASGD decay", {"lambd": 0.1, "weight_decay": 0.2, "maximize": True}, asgd, {"lambd": 0.2}),
    Row("Rprop", {}, rprop, {"etas": (0.4, 1.3)}, {"maximize": True}, RPROP_BAD, solves={"lr": 0.01}),
    Row(
        "Rprop bounded",
        {"lr": 0.1, "step_sizes": (0.05, 0.3), "maximize": True},
        rprop,
        {"step_sizes": (0.01, 0.4)},
    ),
    Row(
        "LARS",
        {"lr": 2.0, "trust_coeff": 0.05, "weight_decay": 0.2},
        lars,
        {"trust_coeff": 0.1},
        {"always_adapt": True},
        [*SGD_BAD, *negative("trust_coeff", "eps")],
        torch=False,
        solves={"lr": 0.1, "trust_coeff": 0.1, "always_adapt": True},
    ),
    Row(
        "LARS plain",
        {"lr": 0.1, "maximize": True},
        lars,
        {"weight_decay": 0.3},
        {"momentum": 0.5},
        torch=False,
    ),
    Row(
        "LARS nesterov",
        {"trust_coeff": 0.05, "momentum": 0.8, "nesterov": True, "always_adapt": True, "eps": 0.1},
        lars,
        {"eps": 0.2},
        torch=False,
    ),
    Row(
        "LARS clipped",
        {
            "lr": 0.1,
            "trust_coeff": 0.1,
            "momentum": 0.9,
            "dampening": 0.5,
            "trust_clip": True,
            "always_adapt": True,
        },
        lars,
        structural={"trust_clip": False},
        torch=False,
    ),
    Row(
        "LAMB",
        {"lr": 0.1},
        lamb,
        {"betas": (0.7, 0.9)},
        {"maximize": True},
        ADAM_BAD,
        torch=False,
        solves={"lr": 0.01, "weight_decay": 0.0},
    ),
    Row(
        "LAMB decay",
        {"lr": 0.02, "weight_decay": 0.5, "eps": 0.1, "maximize": True},
        lamb,
        {"weight_decay": 0.2},
        torch=False,
    ),
    Row(
        "Muon",
        {"lr": 0.05},
        muon,
        {"weight_decay": 0.5},
        {"nesterov": False},
        MUON_BAD,
        torch=False,
        matrices=True,
        solves={"lr": 0.07, "weight_decay": 0.0},
    ),
    Row(
        "Muon scaled",
        {"lr": 0.1, "nesterov": False, "momentum": 0.8, "adjust_lr_fn": "match_rms_adamw", "maximize": True},
        muon,
        {"momentum": 0.5},
        {"adjust_lr_fn": "original"},
        torch=False,
        matrices=True,
    ),
    Row(
        "Muon three",
        {"ns_steps": 3, "eps": 2.0},
        muon,
        {"eps": 1.0},
        {"ns_steps": 4},
        torch=False,
        matrices=True,
    ),
    Row(
        "ScheduleFreeSGD",
        {"lr": 0.2, "warmup_steps": 10},
        schedule_free,
        {"lr": 0.3},
        {"maximize": True},
        [*FREE, ({"momentum": 0.0}, f"momentum: {OPEN}0.0")],
        torch=False,
        solves={"lr": 3e-3},
    ),
    Row(
        "ScheduleFreeSGD weighted",
        {"lr": 0.1, "weight_decay": 0.2, "r": 1.0, "weight_lr_power": 1.0, "maximize": True},
        schedule_free,
        {"weight_decay": 0.1},
        torch=False,
    ),
    Row(
        "ScheduleFreeAdamW",
        {"lr": 0.1, "betas": (0.9, 0.99)},
        schedule_free,
        {"betas": (0.9, 0.8)},
        {"maximize": True},
        [*FREE, *ADAM_BAD, ({"betas": (0.0, 0.9)}, rf"betas\[0\]: {OPEN}0.0")],
        torch=False,
        solves={"lr": 0.1, "betas": (0.9, 0.999)},
    ),
    Row(
        "ScheduleFreeAdamW decay",
        {
            "lr": 0.05,
            "betas": (0.8, 0.9),
            "weight_decay": 0.3,
            "warmup_steps": 5,
            "eps": 1e-2,
            "maximize": True,
        },
        schedule_free,
        torch=False,
    ),
    Row(
        "Prodigy",
        {"d0": 1e-2},
        prodigy,
        {"lr": 0.5},
        {"use_bias_correction": True},
        PRODIGY_BAD,
        torch=False,
        joint=True,
        solves={"d0": 1e-3},
    ),
    Row(
        "Prodigy corrected",
        {
            "d0": 1e-2,
            "use_bias_correction": True,
            "safeguard_warmup": True,
            "growth_rate": 1.05,
            "d_coef": 30.0,
            "weight_decay": 0.1,
            "lr": 0.5,
            "beta3": 0.9,
        },
        prodigy,
        {"beta3": 0.95},
        {"maximize": True},
        torch=False,
        joint=True,
    ),
    Row(
        "Prodigy maximize",
        {"d0": 0.1, "d_coef": 2.0, "eps": 1e-3, "maximize": True},
        prodigy,
        {"d_coef": 0.5},
        torch=False,
        joint=True,
    ),
    Row(
        "Shampoo",
        {"lr": 0.1, "weight_decay": 0.1},
        shampoo,
        bad=[*negative("lr", "eps", "weight_decay"), EVERY],
        torch=False,
        recorded=False,
        solves={"lr": 1.0},
    ),
    Row(
        "Shampoo seldom",
        {"lr": 0.1, "every": 3, "eps": 1e-2, "maximize": True},
        shampoo,
        {"weight_decay": 0.2},
        torch=False,
        recorded=False,
    ),
    Row(
        "SOAP",
        {"lr": 0.1},
        soap,
        {"lr": 0.03, "weight_decay": 0.1},
        bad=SOAP_BAD,
        torch=False,
        recorded=False,
        solves={"lr": 0.1, "weight_decay": 0.0},
    ),
    Row(
        "SOAP uncorrected",
        {"every": 3, "correct_bias": False, "betas": (0.8, 0.9), "shampoo_beta": 0.7, "maximize": True},
        soap,
        {"eps": 1e-2},
        torch=False,
        recorded=False,
    ),
]
