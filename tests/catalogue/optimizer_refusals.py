"""What the optimizers of optimizers.py refuse: (options, message of the ValueError)."""

from __future__ import annotations

from typing import Any


def negative(*names: str) -> list[tuple[dict[str, Any], str]]:
    """Options that are refused below 0, and when they are NaN."""
    return [
        ({name: x}, f"{name}: expected at least 0, got {x}") for name in names for x in (-1, float("nan"))
    ]


UNIT = r"expected a number in \[0, 1\), got "
NESTEROV = "nesterov: expected a momentum and no dampening, got momentum="
BETAS = r"betas: expected two numbers in \[0, 1\), got \("
SGD_BAD = [
    *negative("lr", "momentum", "weight_decay"),
    ({"nesterov": True}, f"{NESTEROV}0.0, dampening=0.0"),
    ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, f"{NESTEROV}0.9, dampening=0.1"),
]
ADAM_BAD = [
    *negative("lr", "eps", "weight_decay"),
    ({"betas": (1.0, 0.9)}, BETAS),
    ({"betas": (0.9, -0.1)}, BETAS),
    ({"betas": (0.9,)}, BETAS),
]
RMSPROP_BAD = [
    *negative("lr", "eps", "weight_decay", "momentum"),
    ({"alpha": 1.0}, f"alpha: {UNIT}1.0"),
    ({"alpha": -0.1}, f"alpha: {UNIT}-0.1"),
]
PAIR = "eps: expected None or a number of at least 0, and a number of at least 0, got "
ADAFACTOR_BAD = [
    *negative("lr", "weight_decay"),
    ({"beta2_decay": 0.1}, "beta2_decay: expected at most 0, got 0.1"),
    ({"d": 0.5}, "d: expected at least 1, got 0.5"),
    *(({"eps": eps}, PAIR) for eps in ((-1, 1e-3), (None, -1), (1e-3,))),
]
DADAPT_BAD = [
    *negative("lr", "weight_decay"),
    ({"d0": 0.0}, "d0: expected a number above 0, got 0.0"),
    ({"growth_rate": 0.9}, "growth_rate: expected at least 1, got 0.9"),
]
ADAGRAD_BAD = negative("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
ETAS = r"etas: expected 0 < etas\[0\] < 1 < etas\[1\], got \("
SIZES = r"step_sizes: expected 0 <= step_sizes\[0\] <= step_sizes\[1\], got \("
MUON_BAD = [
    *negative("lr", "weight_decay", "eps"),
    ({"momentum": 1.0}, f"momentum: {UNIT}1.0"),
    ({"ns_steps": 0}, "ns_steps: expected at least 1, got 0"),
    ({"ns_coefficients": (1.0, 2.0)}, r"ns_coefficients: expected three numbers, got \(1.0, 2.0\)"),
    ({"adjust_lr_fn": "x"}, "adjust_lr_fn: expected None, 'original' or 'match_rms_adamw', got 'x'"),
]
FREE = negative("lr", "weight_decay", "warmup_steps", "r", "weight_lr_power")
OPEN = r"expected a number in \(0, 1\), got "
RPROP_BAD = [
    *negative("lr"),
    *(({"etas": etas}, ETAS) for etas in ((1.0, 1.2), (0.5, 1.0), (0.0, 2.0), (0.5,))),
    *(({"step_sizes": sizes}, SIZES) for sizes in ((2.0, 1.0), (-1.0, 1.0), (1.0,))),
]
PRODIGY_BAD = [
    *ADAM_BAD,
    *negative("d_coef"),
    ({"beta3": 1.0}, r"beta3: expected None or a number in \[0, 1\), got 1.0"),
    ({"d0": 0.0}, "d0: expected a number above 0, got 0.0"),
    ({"growth_rate": 0.5}, "growth_rate: expected at least 1, got 0.5"),
]
EVERY = ({"every": 0}, "every: expected at least 1, got 0")
SOAP_BAD = [
    *ADAM_BAD,
    EVERY,
    ({"shampoo_beta": 1.0}, r"shampoo_beta: expected None or a number in \[0, 1\), got 1.0"),
]
