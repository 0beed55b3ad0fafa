"""The run that compares with PyTorch: `pytest --torch`, and what it has compared.

A public name counts as compared if a comparison called it and its counterpart in PyTorch: that of
tests/surface.txt or, for optimizers and schedules, the one of the same name. Both are seen at work by a
profile function, not by the text of the tests; what one side's library calls on its own account does not
count. After a whole run each name was compared or stands in `UNCOMPARED`.

Tests that import torch, themselves or through a helper or a fixture, carry the marker `torch`. Without
PyTorch they are skipped; with `--torch` they are all that runs, and a skipped one is a failure.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from keywords import keywords, made_with, other_than_defaults, remember_constructors
from pytorch_differences import UNTRIED

UNCOMPARED: dict[str, str] = {"optim.Muon": "PyTorch iterates in bfloat16"}
"""Names whose values need not be PyTorch's, and why."""

BASES = {"Optimizer", "LRScheduler"}
"""Of optimizers and schedules; they do not step themselves."""

compared: set[str] = set()
"""What comparisons of this process, and of the workers that have ended, called on both sides."""

tried: dict[str, set[str]] = {}
"""By name, the keywords that such comparisons gave a value that is not the default."""

recording = False  # only with --torch: a profile function makes compilers slow

# ---- What a comparison calls


@contextmanager
def watched(calls: set[Any]) -> Iterator[None]:
    """Add to `calls` what is called in this scope of tinydl and of PyTorch. What hypothesis draws is left to
    chance, so it counts for nothing.
    """
    if not recording or hypothesis.currently_in_test_context():
        yield
        return
    outer = sys.getprofile()
    sys.setprofile(_watcher(calls))
    try:
        yield
    finally:
        sys.setprofile(outer)


def count(calls: set[Any]) -> None:
    """A comparison of what these calls gave held: names that are among them on both sides are compared."""
    if not recording:
        return
    uses = [call for call in calls if isinstance(call, tuple)]
    for name, (ours, theirs) in _table().items():
        if ours & calls and theirs & calls:
            compared.add(name)
            tried.setdefault(name, set()).update(keyword for value, keyword in uses if value in ours)


@contextmanager
def comparison() -> Iterator[None]:
    """A scope that calls both sides and compares what they give."""
    calls: set[Any] = set()
    with watched(calls):
        yield
    count(calls)


def _watcher(calls: set[Any]) -> Callable[..., None]:
    """A call is known by its code, the class of its object, its primitive or, built in, its name."""
    from tinydl.engine.core import Primitive

    wrappers, known = _wrappers(), _signatures()

    def watch(frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            if _outside(frame, wrappers):
                calls.add(argument.__name__)
        elif event == "call":
            code = frame.f_code
            if code.co_name in ("forward", "step", "__init__"):
                owner = type(frame.f_locals.get("self"))
                if code.co_name != "__init__" or _holds_only(owner):
                    calls.add(owner)
                    if code.co_name == "forward" and owner in known:
                        layer = frame.f_locals["self"]
                        words = made_with.get(layer, set()) | other_than_defaults(known[owner], frame)
                        calls.update((owner, word) for word in words)
                    elif code is getattr(owner.__init__, "__code__", None) and owner in known:
                        words = other_than_defaults(inspect.signature(owner), frame)
                        calls.update((owner, word) for word in words)
            elif _outside(frame.f_back, wrappers):
                called = frame.f_locals.get("self") if code.co_name == "__call__" else None
                calls.add(called if isinstance(called, Primitive) else code)
                if code in known:
                    calls.update((code, word) for word in other_than_defaults(known[code], frame))

    return watch


def _outside(frame: types.FrameType | None, wrappers: set[Any]) -> bool:
    """Is this, past wrappers of public functions and PyTorch's compiler, a frame of neither library?"""
    while frame is not None and (frame.f_code in wrappers or _module(frame).startswith("torch._dynamo")):
        frame = frame.f_back
    return frame is None or _module(frame).split(".")[0] not in ("tinydl", "torch")


def _module(frame: types.FrameType) -> str:
    return frame.f_globals.get("__name__", "")


@cache
def _holds_only(owner: type) -> bool:
    """A module that has no forward of its own, such as ModuleList: to make one is to call it."""
    forward = getattr(owner, "forward", None)
    return forward is not None and forward.__qualname__ in ("Module.forward", "_forward_unimplemented")


@cache
def _table() -> dict[str, tuple[set[Any], set[Any]]]:
    """By public name: what its calls are known by, and those of its counterpart."""
    return {name: (_known_by(ours), _known_by(theirs)) for name, ours, theirs in _pairs()}


@cache
def _signatures() -> dict[Any, inspect.Signature]:
    """Of public functions, by their code, and of the forward of layers, by their class."""
    return {
        key: inspect.signature(ours.forward if inspect.isclass(ours) else ours)
        for name, ours, _ in _pairs()
        if not name.startswith("optim.") and (inspect.isfunction(ours) or inspect.isclass(ours))
        for key in _known_by(ours)
    }


def _keywords(name: str, ours: Any) -> list[str]:
    """Which a comparison has to try."""
    if name.startswith("optim."):
        return []
    found = keywords(inspect.signature(ours))
    return [*found, *keywords(inspect.signature(ours.forward))] if inspect.isclass(ours) else found


def untried() -> dict[str, list[str]]:
    """By name, the keywords that no comparison gave a value that is not the default."""
    missing = {
        name: sorted(set(_keywords(name, ours)) - tried.get(name, set())) for name, ours, _ in _pairs()
    }
    return {name: words for name, words in missing.items() if words}


@cache
def _wrappers() -> set[Any]:
    functions = [f for _, *pair in _pairs() for f in pair if inspect.isfunction(f)]
    return {f.__code__ for f in functions if inspect.unwrap(f) is not f or _branches(f)}


def _pairs() -> list[tuple[str, Any, Any]]:
    import torch
    from test_surface import PAIRS, found

    import tinydl as td

    def counterpart(name: str) -> Any:
        return found(torch.nn.functional if name.startswith("F.") else torch, name.removeprefix("F."))

    listed = [(name, found(td, name), counterpart(theirs)) for name, theirs in PAIRS if theirs != "-"]
    theirs = vars(torch.optim) | vars(torch.optim.lr_scheduler)
    stepping = [
        (f"optim.{name}", ours, theirs[name])
        for name, ours in (vars(td.optim) | vars(td.optim.lr_scheduler)).items()
        if inspect.isclass(ours) and ours.__module__.startswith("tinydl.") and name not in BASES
        if inspect.isclass(theirs.get(name))
    ]
    return listed + stepping


def _known_by(value: Any) -> set[Any]:
    if inspect.isfunction(value):
        branches = _branches(value)
        return set().union(*map(_known_by, branches)) if branches else {inspect.unwrap(value).__code__}
    return {value.__name__} if inspect.isbuiltin(value) else {value}


def _branches(function: Any) -> list[Any]:
    """The functions between which one of PyTorch chooses by a flag, such as max_pool2d by return_indices."""
    chosen = inspect.getclosurevars(function).nonlocals
    return [chosen["if_true"], chosen["if_false"]] if "if_true" in chosen else []


# ---- Which tests need PyTorch

TESTS = Path(__file__).parent


@cache
def imports_torch(function: Any) -> bool:
    """Does a test or a fixture import torch, or call a function of the tests that does?"""
    todo, seen = [function], set()
    for value in todo:
        value = inspect.unwrap(value) if callable(value) else value
        value = getattr(value, "__func__", value)  # a fixture of a class is bound to it
        if not inspect.isfunction(value) or value in seen:
            continue
        value = value.hypothesis.inner_test if hasattr(value, "hypothesis") else value
        seen.add(value)
        if not _of_tests(value.__code__.co_filename):
            continue
        codes = [value.__code__]
        for code in codes:
            codes += [c for c in code.co_consts if inspect.iscode(c)]
            if "importorskip" in code.co_names and "torch" in code.co_consts:
                return True
        names = [name for code in codes for name in code.co_names]
        known = [value.__globals__.get(name) for name in names]
        helpers = [m for m in known if inspect.ismodule(m) and _of_tests(getattr(m, "__file__", None))]
        todo += known + [getattr(module, name, None) for module in helpers for name in names]
    return False


def _of_tests(file: str | None) -> bool:
    return file is not None and TESTS in Path(file).parents


def needs_torch(item: pytest.Item) -> bool:
    """Does its marker say so, or does its module import torch for all of its tests, or it, by a helper or by
    a fixture?
    """
    module = item.module  # type: ignore[attr-defined]
    if item.get_closest_marker("torch") or inspect.ismodule(getattr(module, "torch", None)):
        return True
    fixtures = [d.func for ds in item._fixtureinfo.name2fixturedefs.values() for d in ds]  # type: ignore[attr-defined]
    return any(imports_torch(f) for f in (item.function, *fixtures))  # type: ignore[attr-defined]


# ---- The run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torch", action="store_true", help="run what compares with PyTorch, skipping nothing")


def pytest_configure(config: pytest.Config) -> None:
    global recording
    if config.getoption("--torch"):
        try:
            import torch  # noqa: F401
        except ImportError as error:
            raise pytest.UsageError(f"--torch: expected PyTorch, the extra `torch`: {error}") from error
        import tinydl as td

        recording = True
        remember_constructors(td.nn.Module)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    others = []
    for item in items:
        if needs_torch(item):
            item.add_marker("torch")
        else:
            others.append(item)
    if config.getoption("--torch"):
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.get_closest_marker("torch")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """A skipped comparison is a failure where PyTorch is; nothing else is skipped for want of it."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        marked = item.get_closest_marker("torch") is not None
        if item.config.getoption("--torch"):
            report.outcome, report.longrepr = "failed", f"a comparison with PyTorch was skipped: {reason}"
        elif not marked and "could not import 'torch'" in reason:
            report.outcome, report.longrepr = "failed", f"needs_torch does not see this test: {reason}"
    return report


def problems(config: pytest.Config) -> list[str]:
    """What is wrong with what a whole run compared; nothing after another run."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.getoption("-k")
    whole = whole and not config.option.collectonly
    if not config.getoption("--torch") or not whole:
        return []
    wanted = _table().keys() - UNCOMPARED.keys()
    missing, stale = sorted(wanted - compared), sorted(UNCOMPARED.keys() & compared)
    gone = sorted(UNCOMPARED.keys() - _table().keys())
    words = {f"{name} {word}" for name, words in untried().items() for word in words}
    listed = {
        f"{name} {word}" for names, words, _ in UNTRIED for name in names.split() for word in words.split()
    }
    return [
        *(
            f"{word}: no comparison gave this keyword another value than the default"
            for word in sorted(words - listed)
        ),
        *(f"{word}: UNTRIED says that it is not tried, and it was" for word in sorted(listed - words)),
        *(f"{name}: no comparison with PyTorch called it and its counterpart" for name in missing),
        *(f"{name}: UNCOMPARED says that it is not compared, and it was" for name in stale),
        *(f"{name}: UNCOMPARED has it, tests/surface.txt has not" for name in gone),
    ]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    for line in problems(config):
        terminalreporter.write_line(line, red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist has ended: what it compared counts here."""
    output = getattr(node, "workeroutput", {})
    compared.update(output.get("compared_with_torch", ()))
    for name, words in output.get("tried_with_torch", {}).items():
        tried.setdefault(name, set()).update(words)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["compared_with_torch"] = sorted(compared)
        session.config.workeroutput["tried_with_torch"] = {name: sorted(w) for name, w in tried.items()}
    elif session.exitstatus == pytest.ExitCode.OK and problems(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
