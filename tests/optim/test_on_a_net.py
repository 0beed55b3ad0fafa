"""60 steps on a net that is not convex: groups with options of their own, one of them added on the way, a
parameter that is frozen and thawed, a rate that changes. Beside the oracle, and beside PyTorch's class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from catalogue.optimizers import ROWS, Row
from comparisons import comparison
from tinydl_kernels.machine.errors import DeviceError

import tinydl as td

STEPS, LATER, FROZEN, CHANGE = 60, 12, range(20, 30), 40
NAMES = "A", "b", "C", "s", "E"
SHAPES = {"A": (3, 4), "b": (4,), "C": (4, 2), "s": (), "E": (3, 2)}
SHARES = {"A": 1.0, "b": 1.0, "C": 0.5, "s": 0.5, "E": 0.25}
"""Of the rate, by parameter: those of a group have the same."""
SUMS = "LARS", "LAMB", "Prodigy", "DAdaptAdam", "DAdaptSGD"
Arrays = dict[str, np.ndarray]


def gradients(row: Row, at: Arrays, t: int) -> Arrays:
    """Of Σ |tanh(x A + b) C s + x E - y|² / 10, on minibatch t; of its negative to maximize."""
    random = np.random.default_rng(t)
    x, y = random.standard_normal((5, 3)), random.standard_normal((5, 2))
    h = np.tanh(x @ at["A"] + at["b"])
    error = ((h @ at["C"]) * at["s"] + x @ at["E"] - y) / (-5 if row.options.get("maximize") else 5)
    slope = (error * at["s"]) @ at["C"].T * (1 - h**2)
    return {
        "A": x.T @ slope,
        "b": slope.sum(0),
        "C": h.T @ error * at["s"],
        "s": np.array(np.sum(error * (h @ at["C"]))),
        "E": x.T @ error,
    }


def start() -> Arrays:
    random = np.random.default_rng(0)
    return {name: np.asarray(random.standard_normal(shape)) for name, shape in SHAPES.items()}


def trained(row: Row, t: int) -> list[str]:
    """Who has a gradient at step t."""
    names = [name for name in NAMES if len(SHAPES[name]) > 1 or not row.matrices]
    return [name for name in names if not (name == "E" and t < LATER) and not (name == "C" and t in FROZEN)]


def options(row: Row, share: float, t: int = 0) -> dict[str, Any]:
    """Those of the group with this share of the rate. What is found for all parameters at once is the same
    for all.
    """
    defaults = getattr(td.optim, row.kind)([td.nn.Parameter(np.ones((2, 2)))], **row.options).defaults
    found = {**row.options, "lr": defaults["lr"]}
    if row.joint:
        return found
    found["lr"] = defaults["lr"] * share * (0.5 if t >= CHANGE and share == 1.0 else 1.0)
    if "weight_decay" in defaults:
        found["weight_decay"] = 0.1 * share
    if "betas" in defaults:
        found["betas"] = (0.8 * defaults["betas"][0] + 0.1 * share, defaults["betas"][1])
    return found


def by_oracle(row: Row) -> Arrays:
    at = start()
    shares = sorted(set(SHARES.values()))
    groups: dict[float, dict[str, Any]] = {share: {"step": 0} for share in shares}
    one = groups[1.0]  # what is found for all parameters at once
    owns = {name: {"group": one if row.joint else groups[SHARES[name]]} for name in NAMES}
    for t in range(STEPS):
        found, now = gradients(row, at, t), trained(row, t)
        for share in shares:
            groups[share]["step"] += any(SHARES[name] == share for name in now)
        if row.joint:
            made = row.oracle(options(row, 1.0))(
                [at[name] for name in now], [found[name] for name in now], [owns[name] for name in now]
            )
            at |= dict(zip(now, made, strict=True))
            continue
        at |= {
            name: row.oracle(options(row, SHARES[name], t))(at[name], found[name], owns[name]) for name in now
        }
    return at


def run(row: Row, kind: Any, made: Callable[[np.ndarray], Any], tensor: Any, value: Any) -> Arrays:
    """The same by a class, this library's or PyTorch's."""
    at = {name: made(x) for name, x in start().items()}
    first = trained(row, 0)

    def group(names: Sequence[str]) -> dict[str, Any]:
        return {"params": [at[name] for name in names], **options(row, SHARES[names[0]])}

    parts = [[name for name in first if SHARES[name] == share] for share in (1.0, 0.5)]
    optimizer = kind([group(part) for part in parts], **row.options)
    for t in range(STEPS):
        if t == LATER:
            optimizer.add_param_group(group(["E"]))
        if t == CHANGE:
            optimizer.param_groups[0]["lr"] = options(row, 1.0, t)["lr"]
        found, now = gradients(row, {name: value(p) for name, p in at.items()}, t), trained(row, t)
        for name, p in at.items():
            p.grad = tensor(found[name]) if name in now else None
        optimizer.step()
    return {name: value(p) for name, p in at.items()}


def ours(row: Row, dtype: Any = np.float64) -> Arrays:
    return run(
        row,
        getattr(td.optim, row.kind),
        lambda x: td.nn.Parameter(x.astype(dtype)),
        lambda g: td.tensor(g, dtype=dtype),
        lambda p: p.numpy().astype(np.float64),
    )


def close(got: Arrays, wanted: Arrays, tolerance: float) -> None:
    for name in NAMES:
        np.testing.assert_allclose(got[name], wanted[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_oracle(row: Row) -> None:
    wanted = by_oracle(row)
    assert np.isfinite([np.sum(x) for x in wanted.values()]).all()
    close(ours(row), wanted, 1e-10)


@pytest.mark.parametrize("row", [row for row in ROWS if row.torch], ids=lambda row: row.name)
def test_torch(row: Row, double: None) -> None:
    torch = pytest.importorskip("torch")
    with comparison():
        wanted = run(
            row,
            getattr(torch.optim, row.kind),
            lambda x: torch.nn.Parameter(torch.tensor(x)),
            torch.tensor,
            lambda p: p.detach().numpy().copy(),
        )
        found = ours(row)
    close(found, wanted, 1e-10)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_to_maximize_is_to_minimize_the_negative(row: Row) -> None:
    """With the same bits."""
    steps = np.random.default_rng(0).standard_normal((4, 2, 3))

    def end(maximize: bool, sign: float) -> bytes:
        p = td.nn.Parameter(np.ones((2, 3)))
        optimizer = getattr(td.optim, row.kind)([p], **{**row.options, "maximize": maximize})
        for g in steps:
            p.grad = td.tensor(sign * g)
            optimizer.step()
        return p.numpy().tobytes()

    assert end(True, 1.0) == end(False, -1.0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_empty_groups(row: Row) -> None:
    """They change nothing, wherever they stand, and are saved."""

    def end(before: bool, after: bool) -> bytes:
        p = td.nn.Parameter(np.ones((2, 3)))
        groups = [{"params": []}] * before + [{"params": [p]}] + [{"params": []}] * after
        optimizer = getattr(td.optim, row.kind)(groups, **row.options)
        for i in range(3):
            p.grad = td.tensor(np.random.default_rng(i).standard_normal((2, 3)))
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        return p.numpy().tobytes()

    assert end(True, False) == end(False, True) == end(False, False)


def test_two_passes_where_there_are_sums() -> None:
    made = [getattr(td.optim, row.kind)([td.nn.Parameter(np.ones((2, 2)))], **row.options) for row in ROWS]
    passes = {(type(x).__name__, len(rule.passes)) for x in made for rule in x.rules()}
    assert {kind for kind, count in passes if count == 2} == {
        "LARS",
        "LAMB",
        "Prodigy",
        "DAdaptAdam",
        "DAdaptSGD",
    }
    assert {count for _, count in passes} == {1, 2}


@pytest.mark.parametrize("name", SUMS)
def test_sums_on_a_gpu(name: str, gpu: Any) -> None:
    """The host asks for none of them."""
    found = []
    for device in ("cpu", "cuda"):
        td.manual_seed(0)
        model = td.nn.Linear(3, 2, dtype=np.float64)
        model.to(device)
        optimizer = getattr(td.optim, name)([{"params": [p]} for p in model.parameters()])
        for i in range(4):
            optimizer.zero_grad()
            model(td.ones(4, 3, device=device, dtype=np.float64)).square().mean().backward()
            before = len(gpu.host)
            optimizer.step()
            assert i == 0 or gpu.host[before:] == []
        found.append([p.cpu().numpy() for p in model.parameters()])
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


@pytest.mark.parametrize("name", ["Shampoo", "SOAP"])
def test_no_eigenvectors_on_a_gpu(name: str, gpu: Any) -> None:
    p = td.nn.Parameter(td.ones(2, 2, device="cuda"))
    p.grad = td.ones(2, 2, device="cuda")
    with pytest.raises(DeviceError, match=f"{name}: expected parameters on the CPU, got one on cuda"):
        getattr(td.optim, name)([p]).step()
