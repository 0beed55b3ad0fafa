"""Schedules: a row for every public class of tinydl.optim.lr_scheduler.

tests/optim/test_schedule_rows.py walks it. `make` takes the namespace beside the optimizer, so that the same
words make PyTorch's schedule.
"""

from __future__ import annotations

import numpy as np

from .schedule_row import Fed, Schedule, one_cycle, restarted, steady, triangle

ROWS = [
    Schedule(
        "PiecewiseConstant",
        lambda lr, o: lr.PiecewiseConstant(o, (4, 25), (0.1, 0.01)),
        lambda b, t: b * (1.0 if t < 4 else 0.1 if t < 25 else 0.01),
        bad={
            "boundaries: expected steps in ascending order, got [4, 2]": lambda lr, o: lr.PiecewiseConstant(
                o, (4, 2), (0.1, 0.1)
            ),
            "factors: expected 2 numbers of at least 0, got [0.1]": lambda lr, o: lr.PiecewiseConstant(
                o, (1, 2), (0.1,)
            ),
        },
        torch=False,
    ),
    Schedule(
        "MultiStepLR",
        lambda lr, o: lr.MultiStepLR(o, [9, 2, 30, 9], gamma=0.3),
        lambda b, t: b * 0.3 ** sum(m <= t for m in (9, 2, 30, 9)),
        bad={
            "expected milestones and gamma of at least 0, got [-1] and 0.1": lambda lr, o: lr.MultiStepLR(
                o, [-1]
            ),
        },
    ),
    Schedule(
        "MultiStepLR at once",
        lambda lr, o: lr.MultiStepLR(o, [0, 3]),
        lambda b, t: b * (0.1 if t < 3 else 0.1**2),
    ),
    Schedule(
        "CosineAnnealingLR",
        lambda lr, o: lr.CosineAnnealingLR(o, 50),
        lambda b, t: b * (1 + np.cos(np.pi * t / 50)) / 2,
        bad={
            "expected T_max above 0, got 0": lambda lr, o: lr.CosineAnnealingLR(o, 0),
        },
        steps=150,
    ),
    Schedule(
        "CosineAnnealingLR eta_min",
        lambda lr, o: lr.CosineAnnealingLR(o, 30, eta_min=0.01),
        lambda b, t: 0.01 + (b - 0.01) * (1 + np.cos(np.pi * t / 30)) / 2,
        steps=100,
    ),
    Schedule(
        "LinearLR",
        lambda lr, o: lr.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=40),
        lambda b, t: b * (0.2 + 0.7 * min(t, 40) / 40),
        bad={
            "expected start_factor in (0, 1] and end_factor in [0, 1], got 0.0 and 1.0": lambda lr, o: (
                lr.LinearLR(o, start_factor=0.0)
            ),
            "expected total_iters of at least 0, got -1": lambda lr, o: lr.LinearLR(o, total_iters=-1),
        },
    ),
    Schedule("LinearLR usual", lambda lr, o: lr.LinearLR(o), lambda b, t: b * (1 + 2 * min(t, 5) / 5) / 3),
    Schedule(
        "LinearLR of no steps",
        lambda lr, o: lr.LinearLR(o, total_iters=0),
        lambda b, t: b,
        torch=False,  # theirs keeps the factor of the start
    ),
    Schedule(
        "SequentialLR",
        lambda lr, o: lr.SequentialLR(
            o,
            [
                lr.LinearLR(o, start_factor=0.1, total_iters=10),
                lr.MultiStepLR(o, [4, 9]),
                lr.CosineAnnealingLR(o, 30),
            ],
            [10, 27],
        ),
        lambda b, t: (
            b
            * (
                0.1 + 0.9 * t / 10
                if t < 10
                else 0.1 ** ((t >= 14) + (t >= 19.0))
                if t < 27
                else (1 + np.cos(np.pi * (t - 27) / 30)) / 2
            )
        ),
        bad={
            "expected one milestone less than schedulers, got 1 and 1": lambda lr, o: lr.SequentialLR(
                o, [lr.LinearLR(o)], [3]
            ),
            "milestones: expected steps in ascending order, got [3, 3]": lambda lr, o: lr.SequentialLR(
                o, [lr.LinearLR(o)] * 3, [3, 3]
            ),
        },
        mistyped={
            "schedulers: expected schedules with a closed form, got str at 1": lambda lr, o: lr.SequentialLR(
                o, [lr.LinearLR(o), "LinearLR"], [3]
            ),
        },
        steps=57,
    ),
    Schedule(
        "SequentialLR with restarts",
        lambda lr, o: lr.SequentialLR(o, [lr.ConstantLR(o), lr.CosineAnnealingWarmRestarts(o, 4, 2)], [9]),
        lambda b, t: (
            b * (1 / 3 if t < 5 else 1.0 if t < 9 else (1 + np.cos(np.pi * restarted(t - 9, 4, 2))) / 2)
        ),
    ),
    Schedule(
        "ChainedScheduler",
        lambda lr, o: lr.ChainedScheduler(
            [
                lr.LinearLR(o, total_iters=7),
                lr.MultiStepLR(o, [5, 20], gamma=0.5),
                lr.CosineAnnealingLR(o, 70),
            ]
        ),
        lambda b, t: (
            b
            * ((1 + 2 * min(t, 7) / 7) / 3)
            * 0.5 ** ((t >= 5) + (t >= 20.0))
            * (1 + np.cos(np.pi * t / 70))
            / 2
        ),
        bad={
            "expected schedulers, got none": lambda lr, o: lr.ChainedScheduler([]),
            "schedulers: expected one optimizer, got another one's at 0": lambda lr, o: lr.ChainedScheduler(
                [lr.LinearLR(o)], type(o)(o.param_groups[0]["params"], 1.0)
            ),
        },
    ),
    Schedule(
        "ChainedScheduler beyond the cosine's end",
        lambda lr, o: lr.ChainedScheduler([lr.MultiStepLR(o, [5]), lr.CosineAnnealingLR(o, 20)]),
        lambda b, t: b * (0.1 if t >= 5 else 1.0) * (1 + np.cos(np.pi * t / 20)) / 2,
        torch=False,  # theirs leaves the product
    ),
    Schedule(
        "ChainedScheduler of sequences",
        lambda lr, o: lr.ChainedScheduler(
            [
                lr.SequentialLR(o, [lr.LinearLR(o), lr.MultiStepLR(o, [2])], [9]),
                lr.MultiStepLR(o, [30]),
            ]
        ),
        lambda b, t: (
            b * ((1 + 2 * min(t, 5) / 5) / 3 if t < 9 else 1.0 if t < 11 else 0.1) * (1.0 if t < 30 else 0.1)
        ),
        torch=False,
    ),
    Schedule(
        "SequentialLR from a milestone at 0",
        lambda lr, o: lr.SequentialLR(o, [lr.LinearLR(o)] * 2 + [lr.MultiStepLR(o, [2])], [0, 8]),
        lambda b, t: b * ((1 + 2 * min(t, 5) / 5) / 3 if t < 8 else 1.0 if t < 10 else 0.1),
        torch=False,
    ),
    Schedule(
        "StepLR",
        lambda lr, o: lr.StepLR(o, 7, gamma=0.8),
        lambda b, t: b * 0.8 ** (t // 7),
        bad={
            "expected step_size of at least 1 and gamma of at least 0, got 0 and 0.1": lambda lr, o: (
                lr.StepLR(o, 0)
            ),
        },
        steps=200,
    ),
    Schedule("StepLR to 0", lambda lr, o: lr.StepLR(o, 3, 0.0), lambda b, t: b * (t < 3)),
    Schedule(
        "ExponentialLR",
        lambda lr, o: lr.ExponentialLR(o, 0.97),
        lambda b, t: b * 0.97**t,
        bad={
            "expected gamma of at least 0, got -0.5": lambda lr, o: lr.ExponentialLR(o, -0.5),
        },
        steps=400,
    ),
    Schedule(
        "ConstantLR",
        lambda lr, o: lr.ConstantLR(o),
        lambda b, t: b * (1 / 3 if t < 5 else 1.0),
        bad={
            "expected factor in [0, 1] and total_iters of at least 0, got 1.5 and 5": lambda lr, o: (
                lr.ConstantLR(o, factor=1.5)
            ),
        },
    ),
    Schedule(
        "ConstantLR from 0",
        lambda lr, o: lr.ConstantLR(o, factor=0.0, total_iters=20),
        lambda b, t: b * (t >= 20),
        torch=False,  # theirs divides by the factor
    ),
    Schedule(
        "ConstantLR of no steps",
        lambda lr, o: lr.ConstantLR(o, total_iters=0),
        lambda b, t: b,
        torch=False,  # theirs keeps the factor
    ),
    Schedule(
        "PolynomialLR",
        lambda lr, o: lr.PolynomialLR(o, 50, power=0.9),
        lambda b, t: b * (1 - min(t, 50) / 50) ** 0.9,
        bad={
            "expected total_iters of at least 1 and power above 0, got 0 and 1.0": lambda lr, o: (
                lr.PolynomialLR(o, 0)
            ),
        },
    ),
    Schedule("PolynomialLR usual", lambda lr, o: lr.PolynomialLR(o), lambda b, t: b * (1 - min(t, 5) / 5)),
    Schedule(
        "LambdaLR",
        lambda lr, o: lr.LambdaLR(o, [lambda t: 1 / (1 + t), lambda t: 1 / (1 + t)]),
        lambda b, t: b / (1 + t),
        bad={
            "lr_lambda: expected one for each group, got 1 and a group 1": lambda lr, o: lr.LambdaLR(
                o, [lambda t: 1.0]
            ),
        },
        mistyped={
            "lr_lambda: expected functions of the step, got float": lambda lr, o: lr.LambdaLR(o, 0.5),
        },
        records=False,
    ),
    Schedule(
        "SequentialLR of functions",
        lambda lr, o: lr.SequentialLR(
            o, [lr.LambdaLR(o, lambda t: (1.0, 0.9, 0.8)[t]), lr.LambdaLR(o, lambda t: 0.5**t)], [3]
        ),
        lambda b, t: b * ((1.0, 0.9, 0.8)[t] if t < 3 else 0.5 ** (t - 3)),
        records=False,
    ),
    Schedule(
        "MultiplicativeLR",
        lambda lr, o: lr.MultiplicativeLR(o, lambda t: 1 - 0.5 / (t + 2)),
        lambda b, t: b * np.prod([1 - 0.5 / (k + 2) for k in range(1, t + 1)]),
        mistyped={
            "lr_lambda: expected functions of the step, got NoneType": lambda lr, o: lr.MultiplicativeLR(
                o, [None]
            ),
        },
        records=False,
    ),
    Schedule(
        "SequentialLR with a product that comes second",
        lambda lr, o: lr.SequentialLR(o, [lr.ConstantLR(o), lr.MultiplicativeLR(o, lambda t: 0.9)], [3]),
        lambda b, t: b * (1 / 3 if t < 3 else 0.9 ** (t - 3)),
        torch=False,  # theirs goes on from the rate that it finds
        records=False,
    ),
    Schedule(
        "CosineAnnealingWarmRestarts",
        lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 30),
        lambda b, t: b * (1 + np.cos(np.pi * (t % 30) / 30)) / 2,
        bad={
            ("expected T_0 and T_mult to be whole numbers of at least 1, got 3 and 1.5"): lambda lr, o: (
                lr.CosineAnnealingWarmRestarts(o, 3, T_mult=1.5)
            ),
        },
        steps=100,
    ),
    Schedule(
        "CosineAnnealingWarmRestarts by threes",  # where a quotient of logarithms falls short of 5
        lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 1, T_mult=3, eta_min=0.1),
        lambda b, t: 0.1 + (b - 0.1) * (1 + np.cos(np.pi * restarted(t, 1, 3))) / 2,
        steps=400,
    ),
    Schedule(
        "CosineAnnealingWarmRestarts by twos",
        lambda lr, o: lr.CosineAnnealingWarmRestarts(o, 5, T_mult=2),
        lambda b, t: b * (1 + np.cos(np.pi * restarted(t, 5, 2))) / 2,
        steps=160,
    ),
    Schedule(
        "CyclicLR",
        lambda lr, o: lr.CyclicLR(o, 0.1, 0.7, 5, 8, **steady(lr)),
        lambda b, t: 0.1 + 0.6 * triangle(t, 5, 8),
        bad={
            "expected step_size_up and step_size_down above 0, got 0 and None": lambda lr, o: lr.CyclicLR(
                o, 0.1, 0.7, 0
            ),
            "mode: expected one of ['triangular', 'triangular2', 'exp_range'], got 'square'": lambda lr, o: (
                lr.CyclicLR(o, 0.1, 0.7, mode="square")
            ),
            "scale_mode: expected 'cycle' or 'iterations', got 'epochs'": lambda lr, o: lr.CyclicLR(
                o, 0.1, 0.7, scale_mode="epochs"
            ),
            "base_lr: expected one for each group, got 1 and a group 1": lambda lr, o: lr.CyclicLR(
                o, [0.1], 0.7
            ),
        },
    ),
    Schedule(
        "CyclicLR triangular2",
        lambda lr, o: lr.CyclicLR(o, 0.1, [0.7, 0.7], 6, mode="triangular2", **steady(lr)),
        lambda b, t: 0.1 + 0.6 * triangle(t, 6, 6) * 0.5 ** (t // 12),
        steps=200,
    ),
    Schedule(
        "CyclicLR exp_range",
        lambda lr, o: lr.CyclicLR(o, 0.0, 0.7, 6, 3, mode="exp_range", gamma=0.99, **steady(lr)),
        lambda b, t: 0.7 * triangle(t, 6, 3) * 0.99**t,
        steps=200,
    ),
    Schedule(
        "CyclicLR by a function of the cycle",
        lambda lr, o: lr.CyclicLR(o, 0.1, 0.7, 4, scale_fn=lambda c: (1.0, 0.5)[c % 2], **steady(lr)),
        lambda b, t: 0.1 + 0.6 * triangle(t, 4, 4) * (1.0, 0.5)[(t // 8 + 1) % 2],
        records=False,
    ),
    Schedule(
        "CyclicLR by a function of the step",
        lambda lr, o: lr.CyclicLR(
            o, 0.1, 0.7, 4, scale_fn=lambda t: 1 / (t + 1), scale_mode="iterations", **steady(lr)
        ),
        lambda b, t: 0.1 + 0.6 * triangle(t, 4, 4) / (t + 1),
        records=False,
    ),
    Schedule(
        "OneCycleLR",
        lambda lr, o: lr.OneCycleLR(o, 0.7, 61, **steady(lr)),
        lambda b, t: one_cycle(t, 61, 0.3, 0.7, lambda q: (1 - np.cos(np.pi * q)) / 2),
        bad={
            (
                "expected total_steps, or epochs and steps_per_epoch, of at least 2, got None, 3 and None"
            ): lambda lr, o: lr.OneCycleLR(o, 0.7, epochs=3),
            "pct_start: expected a part in [0, 1], got 1.5": lambda lr, o: lr.OneCycleLR(
                o, 0.7, 10, pct_start=1.5
            ),
            "anneal_strategy: expected 'cos' or 'linear', got 'exp'": lambda lr, o: lr.OneCycleLR(
                o, 0.7, 10, anneal_strategy="exp"
            ),
            "expected div_factor and final_div_factor above 0, got 0.0 and 10000.0": lambda lr, o: (
                lr.OneCycleLR(o, 0.7, 10, div_factor=0.0)
            ),
            "max_lr: expected one for each group, got 1 and a group 1": lambda lr, o: lr.OneCycleLR(
                o, [0.7], 10
            ),
        },
    ),
    Schedule(
        "OneCycleLR linear",
        lambda lr, o: lr.OneCycleLR(
            o, [0.7, 0.7], epochs=8, steps_per_epoch=10, anneal_strategy="linear", **steady(lr)
        ),
        lambda b, t: one_cycle(t, 80, 0.3, 0.7, lambda q: q),
        steps=79,
    ),
    Schedule(
        "OneCycleLR in three phases",
        lambda lr, o: lr.OneCycleLR(o, 0.7, 50, pct_start=0.35, three_phase=True, **steady(lr)),
        lambda b, t: one_cycle(t, 50, 0.35, 0.7, lambda q: (1 - np.cos(np.pi * q)) / 2, three=True),
        steps=49,
    ),
    Schedule(
        "OneCycleLR from inside the fall",
        lambda lr, o: lr.OneCycleLR(o, 0.7, 40, pct_start=0.0, **steady(lr)),
        lambda b, t: one_cycle(t, 40, 0.0, 0.7, lambda q: (1 - np.cos(np.pi * q)) / 2),
        steps=39,
    ),
    Schedule(
        "OneCycleLR from the top",
        lambda lr, o: lr.OneCycleLR(o, 0.7, 40, pct_start=1 / 40, **steady(lr)),
        lambda b, t: one_cycle(t, 40, 1 / 40, 0.7, lambda q: (1 - np.cos(np.pi * q)) / 2),
        torch=False,  # theirs divides by 0
    ),
    Schedule(
        "OneCycleLR all the way up",
        lambda lr, o: lr.OneCycleLR(o, 0.7, 40, pct_start=1.0, **steady(lr)),
        lambda b, t: one_cycle(t, 40, 1.0, 0.7, lambda q: (1 - np.cos(np.pi * q)) / 2),
        steps=39,
    ),
    Schedule(
        "InverseTimeLR",
        lambda lr, o: lr.InverseTimeLR(o, 0.3, 7),
        lambda b, t: b / (1 + 0.3 * t / 7),
        bad={
            "expected decay_rate of at least 0 and decay_steps above 0, got 0.3 and 0": lambda lr, o: (
                lr.InverseTimeLR(o, 0.3, 0)
            ),
        },
        torch=False,
        steps=400,
    ),
    Schedule(
        "InverseTimeLR by stairs",
        lambda lr, o: lr.InverseTimeLR(o, 0.3, 7, staircase=True),
        lambda b, t: b / (1 + 0.3 * (t // 7)),
        torch=False,
    ),
    Schedule(
        "WarmupCosineLR",
        lambda lr, o: lr.WarmupCosineLR(o, 8, 50, eta_min=0.02),
        lambda b, t: (
            b * (1 / 8 + 7 / 8 * t / 8)
            if t < 8
            else 0.02 + (b - 0.02) * (1 + np.cos(np.pi * min(1, (t - 8) / 42))) / 2
        ),
        bad={
            "expected 0 <= warmup_steps < total_steps, got 8 and 8": lambda lr, o: lr.WarmupCosineLR(o, 8, 8),
            "start_factor: expected a part in [0, 1], got -1.0": lambda lr, o: lr.WarmupCosineLR(
                o, 2, 8, start_factor=-1.0
            ),
        },
        torch=False,
    ),
    Schedule(
        "WarmupCosineLR from 0",
        lambda lr, o: lr.WarmupCosineLR(o, 8, 50, start_factor=0.0),
        lambda b, t: b * (t / 8 if t < 8 else (1 + np.cos(np.pi * min(1, (t - 8) / 42))) / 2),
        torch=False,
    ),
    Schedule(
        "WarmupCosineLR without a warm-up",
        lambda lr, o: lr.WarmupCosineLR(o, 0, 50),
        lambda b, t: b * (1 + np.cos(np.pi * min(1, t / 50))) / 2,
        torch=False,
    ),
    Schedule(
        "SWALR",
        lambda lr, o: lr.SWALR(o, 0.05),
        lambda b, t: 0.05 + (b - 0.05) * (1 + np.cos(np.pi * min(1, t / 10))) / 2,
        bad={
            "anneal_strategy: expected 'cos' or 'linear', got 'exp'": lambda lr, o: lr.SWALR(
                o, 0.1, anneal_strategy="exp"
            ),
            "anneal_epochs: expected a whole number of at least 0, got -1": lambda lr, o: lr.SWALR(
                o, 0.1, -1
            ),
            "swa_lr: expected one for each group, got 1 and a group 1": lambda lr, o: lr.SWALR(o, [0.1]),
        },
        torch=False,  # PyTorch's is not there but in swa_utils: test_swa_utils.py compares
    ),
    Schedule(
        "SWALR linear",
        lambda lr, o: lr.SWALR(o, [0.9, 0.1], 20, "linear"),
        lambda b, t: b + ({0.5: 0.9, 3.0: 0.1}[b] - b) * min(1, t / 20),
        torch=False,
    ),
    Schedule("SWALR at once", lambda lr, o: lr.SWALR(o, 0.7, 0), lambda b, t: 0.7, torch=False),
    Schedule(
        "SequentialLR of SWALR",
        lambda lr, o: lr.SequentialLR(o, [lr.ConstantLR(o), lr.SWALR(o, 0.1, 4, "linear")], [8]),
        lambda b, t: b / 3 if t < 5 else b if t < 8 else b + (0.1 - b) * min(1, (t - 8) / 4),
        torch=False,
    ),
]

FED = [
    Fed(
        "ReduceLROnPlateau",
        lambda lr, o: lr.ReduceLROnPlateau(o, patience=3),
        lambda t: 1 / (1 + min(t, 20)),
        bad={
            "factor: expected a number in [0, 1), got 1.0": lambda lr, o: lr.ReduceLROnPlateau(o, factor=1.0),
            "mode: expected 'min' or 'max', got 'least'": lambda lr, o: lr.ReduceLROnPlateau(o, "least"),
            "threshold_mode: expected 'rel' or 'abs', got 'none'": lambda lr, o: lr.ReduceLROnPlateau(
                o, threshold_mode="none"
            ),
            "min_lr: expected one for each group, got 1 and a group 1": lambda lr, o: lr.ReduceLROnPlateau(
                o, min_lr=[0.1]
            ),
        },
        mistyped={
            "expected an optimizer, got list": lambda lr, o: lr.ReduceLROnPlateau([]),
        },
    ),
    Fed(
        "ReduceLROnPlateau with a cooldown",
        lambda lr, o: lr.ReduceLROnPlateau(o, factor=0.5, patience=2, cooldown=4, min_lr=[0.01, 0.2]),
        lambda t: np.cos(t / 3),
    ),
    Fed(
        "ReduceLROnPlateau max",
        lambda lr, o: lr.ReduceLROnPlateau(o, "max", patience=0, threshold=0.1),
        lambda t: np.sin(t / 7) + 1.5,
    ),
    Fed(
        "ReduceLROnPlateau max abs",
        lambda lr, o: lr.ReduceLROnPlateau(o, "max", 0.7, 1, threshold=0.3, threshold_mode="abs", cooldown=1),
        lambda t: t / 10 if t < 20 else 2.0,
    ),
    Fed(
        "ReduceLROnPlateau min abs",
        lambda lr, o: lr.ReduceLROnPlateau(o, patience=4, threshold=0.05, threshold_mode="abs", eps=1e-3),
        lambda t: -t / 100,
    ),
]
