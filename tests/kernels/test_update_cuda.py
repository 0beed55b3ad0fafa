"""Update rules on the emulator: groups of many sizes and dtypes, more of them than one launch takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import rules
from catalogue.optimizers import ROWS, Row
from emulated import agrees, agrees_checked, needs_compiler
from tinydl_kernels import emulator, update
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine import dispatch
from tinydl_kernels.machine.errors import ShapeError

import tinydl as td

pytestmark = needs_compiler
FLOATS = (np.float32, np.float64)
MANY = ((1,), (2,), (3,)) * 44
RULES = {"plain": rules.plain, "mean": rules.mean, "everything": rules.everything}

every_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES)


@every_rule
@pytest.mark.parametrize("dtype", FLOATS)
def test_steps(make: Any, dtype: Any) -> None:
    agrees(update.optimizer_step, *rules.group(make(), [dtype] * len(rules.SHAPES)))


@every_rule
def test_many_of_both_dtypes(make: Any) -> None:
    agrees(update.optimizer_step, *rules.group(make(), FLOATS * 66, MANY))


@every_rule
def test_checked(make: Any) -> None:
    agrees_checked(update.optimizer_step, *rules.group(make(), [np.float32] * 3, ((), (1030,), (3,))))


@pytest.mark.parametrize("dtype", FLOATS)
def test_both_passes_of_a_rule_with_sums(dtype: Any) -> None:
    """Of no, one and many chunks."""
    arguments = rules.group(rules.summed(), [dtype] * 4, ((), (0, 2), (2048,), (7, 2048)))
    for given in (arguments, rules.again(arguments)):
        agrees(update.optimizer_step, *given)


def test_sums_of_many_of_both_dtypes() -> None:
    arguments = rules.group(rules.summed(), FLOATS * 66, MANY)
    for given in (arguments, rules.again(arguments)):
        agrees(update.optimizer_step, *given)


def test_sums_checked() -> None:
    arguments = rules.group(rules.summed(), [np.float32] * 3, ((), (4100,), (3,)))
    for given in (arguments, rules.again(arguments)):
        agrees_checked(update.optimizer_step, *given)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_optimizer(row: Row, dtype: Any) -> None:
    params = [td.nn.Parameter(np.ones((1, 1)))]
    (rule,) = getattr(td.optim, row.kind)(params, **row.options).rules()
    options = {"alpha": np.array(0.9), "eps": np.array(1e-3)}
    options |= {"etas": np.array([0.5, 1.2]), "step_sizes": np.array([1e-6, 50.0])}
    arguments = rules.group(rule, [dtype] * 3, ((), (1030,), (3,)), options)
    for given in [arguments, rules.again(arguments)][: len(rule.passes)]:
        agrees(update.optimizer_step, *given)


@every_rule
def test_one_launch_of_elements_serves_64_tensors(make: Any) -> None:
    arguments = rules.group(make(), [np.float32] * len(MANY), MANY)
    with (
        mock.patch.object(emulator, "launch", wraps=emulator.launch) as launch,
        dispatch.use("cuda-emulated"),
    ):
        update.optimizer_step(*arguments)
    kernels = [call.args[1] for call in launch.call_args_list]
    assert kernels.count("elements") == 3  # of 132 tensors
    assert len(kernels) <= 8


def test_parameters_beyond_4096_bytes_are_refused() -> None:
    """What a rule may have fits; a kernel that takes more does not start."""
    module = update.cuda_module(rules.everything(), np.dtype(np.float32))
    taken = {name: launching.parameter_bytes(signature) for name, signature in module.signatures.items()}
    assert max(taken.values()) == taken["elements"] == 8 + 6 * 512 + 512 + 256
    lists = [f"Arrays<float> a{i}" for i in range(8)]
    for more, bytes_ in (([], 4096), (["bool b"], 4097)):
        source = f'#include "common.cuh"\nextern "C" __global__ void f({", ".join(lists + more)}) {{}}\n'
        module = launching.Module(Path("large.cu"), text=source)
        assert launching.parameter_bytes(module.signatures["f"]) == bytes_
        arguments = [[] for _ in lists] + [np.bool_(True)] * len(more)
        call = (module, "f", (1,), (1,), arguments, 0)
        if more:
            with pytest.raises(ShapeError, match="f: expected at most 4096 bytes of parameters, got 4097"):
                emulator.launch(*call)
        else:
            emulator.launch(*call)


def test_counters() -> None:
    agrees(update.increment, *[np.array(i) for i in range(70)], np.array([5, 6, 7]))
    agrees_checked(update.increment, np.array([41]), np.array(-1))
