"""Hooks before and after the steps of an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinydl as td
from tinydl import nn
from tinydl.optim import SGD, Adam


def parameter() -> nn.Parameter:
    p = nn.Parameter(np.array([1.0, -2.0]))
    p.grad = td.tensor(np.array([3.0, 4.0]))
    return p


def story(optimizer: Any, closure: Callable[[], Any]) -> list[Any]:
    """What hooks see, and when, in the words of either library."""
    seen: list[Any] = []

    def note(word: str) -> Callable[..., Any]:
        def hook(given: Any, args: Any, kwargs: Any) -> None:
            whole = args[0] is given is optimizer
            value = float(given.param_groups[0]["params"][0][0].item())
            seen.append((word, whole, len(args), sorted(kwargs), value))

        return hook

    first = optimizer.register_step_pre_hook(note("before"))
    optimizer.register_step_pre_hook(note("then"))
    last = optimizer.register_step_post_hook(note("after"))
    optimizer.step()
    optimizer.step(closure)
    optimizer.step(closure=closure)
    first.remove()
    first.remove()
    optimizer.step()
    with last:
        optimizer.step()
    optimizer.step()
    return seen


def test_as_torch() -> None:
    torch = pytest.importorskip("torch")
    p = parameter()
    q = torch.nn.Parameter(torch.tensor(p.numpy().copy()))
    q.grad = torch.tensor(p.grad.numpy())
    ours, theirs = SGD([p], lr=0.125), torch.optim.SGD([q], lr=0.125)  # no rounding
    assert story(ours, lambda: None) == story(theirs, lambda: None)


def test_arguments_are_changed() -> None:
    torch = pytest.importorskip("torch")
    for make, p in ((SGD, parameter()), (torch.optim.SGD, torch.nn.Parameter(torch.zeros(2)))):
        optimizer = make([p], lr=0.1)
        optimizer.register_step_pre_hook(lambda o, args, kwargs: ((*args, lambda: 7.0), kwargs))
        optimizer.register_step_pre_hook(lambda o, args, kwargs: ((args[0],), {"closure": args[1]}))
        assert optimizer.step() == 7.0
    optimizer = SGD([parameter()], lr=0.1)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: args)
    with pytest.raises(RuntimeError, match=r"SGD.step: expected a pre-hook to return None or \(args, kw"):
        optimizer.step()


def test_a_step_around_a_step_is_one() -> None:
    """Counted once, its hooks run once; also after an error."""

    class Twice(Adam):
        def step(self, closure: Any = None) -> Any:
            super().step()
            return super().step(closure)

    optimizer, seen = Twice([parameter()]), []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert (seen, optimizer.steps_taken.count) == (["before"], 0)
    optimizer.step()
    assert (seen, optimizer.steps_taken.count) == (["before", "before", "after"], 1)


def clipped(optimizer: Any, args: Any, kwargs: Any) -> None:
    nn.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.1)


def test_recorded() -> None:
    """What hooks do is recorded; one that comes or goes records anew."""

    def run(wrap: Callable[[Any], Any]) -> tuple[list[bytes], Any]:
        p, seen = parameter(), []
        optimizer = SGD([p], lr=0.5, momentum=0.5)
        count = nn.Buffer(0)

        def step() -> None:
            optimizer.zero_grad()
            p.square().sum().backward()
            optimizer.step()

        step = wrap(step)
        for i in range(9):
            if i == 2:
                handle = optimizer.register_step_pre_hook(clipped)
            if i == 4:
                optimizer.register_step_post_hook(lambda *_: td.ops.update.increment(count))
            if i == 7:
                handle.remove()
            step()
            seen.append(p.numpy().tobytes())
        assert count.item() == 5
        return seen, step

    eager, _ = run(lambda step: step)
    recorded, step = run(td.record)
    assert eager == recorded
    assert sum(map(len, step.recordings.values())) == 4
