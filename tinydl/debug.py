"""Watching the door: an anomaly detector and a profile. Both see every call of a
primitive while their scope is open.

A tracer is what `state.tracer` holds:

    run(primitive, arrays, settings)        in place of primitive.function(*arrays, **settings)
    replay(call)                            in place of call(), one bound call of a recorded step
    gradients(node, needs, cotangents)      in place of node.primitive.gradients(...) in a backward pass
    site()                                  what a new node remembers of the place that it was made at
    enter(module), leave()                  around each module's forward
    eager                                   must recorded steps run eagerly here?
"""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import tinydl_kernels
from tinydl_kernels.machine.errors import TinydlError

from .engine.core import Array, Primitive, Tensor, state
from .engine.tape import Node

INSIDE = (
    os.path.dirname(__file__) + os.sep,
    os.path.dirname(tinydl_kernels.__file__) + os.sep,
    contextlib.__file__,
)


class AnomalyError(TinydlError, ArithmeticError):
    """NaN or Inf, found by `detect_anomaly`."""


class Site(NamedTuple):
    """Where a node was made: the user's line, the modules around it, and the operation whose
    gradient made it, if one did.
    """

    file: str
    line: int
    modules: tuple[Any, ...]
    gradient_of: str = ""

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        within = f" for the gradient of {self.gradient_of}" if self.gradient_of else ""
        return f"called{within} at {self.file}:{self.line}" + (f": {source}" if source else "")

    def layers(self) -> tuple[str, ...]:
        """The path of the innermost module, seen from the outermost."""
        return tuple(
            next((name for name, module in parent.named_modules() if module is child), type(child).__name__)
            for parent, child in pairwise(self.modules)
        )


class Tracer:
    """Sees and does nothing of its own."""

    eager = False

    def run(self, primitive: Primitive, arrays: list[Array], settings: dict[str, Any]) -> Any:
        return primitive.function(*arrays, **settings)

    def replay(self, call: Callable[[], Any]) -> None:
        call()

    def gradients(
        self, node: Node, needs: list[bool], cotangents: list[Tensor | None]
    ) -> list[Tensor | None]:
        return node.primitive.gradients(node, needs, cotangents)

    def site(self) -> Any:
        return None

    def enter(self, module: Any) -> None:
        pass

    def leave(self) -> None:
        pass


# Anomalies
# ------------------------------------------------------------------------------------------------------------


class _Detector(Tracer):
    eager = True  # a replay knows no lines

    def __init__(self, inf: bool) -> None:
        self.inf = inf
        self.modules: list[Any] = []
        self.node: Node | None = None  # whose gradient is being computed

    def run(self, primitive: Primitive, arrays: list[Array], settings: dict[str, Any]) -> Any:
        results = primitive.function(*arrays, **settings)
        # inside a rule `where` may yet discard it: the gradient decides
        if self.node is None and not primitive.view:
            written = primitive.writes(len(arrays), settings)
            outputs = results if isinstance(results, tuple) else (results,)
            found = [
                *zip(primitive.outputs, outputs, strict=False),
                *((str(primitive.input_name(i)), arrays[i]) for i in written),
            ]
            for name, array in found:
                if problem := self._problem(array):
                    given = [
                        str(primitive.input_name(i))
                        for i, x in enumerate(arrays)
                        if i not in written and self._problem(x)
                    ]
                    already = f" (already in {', '.join(given)})" if given else ""
                    site = self.site()
                    raise AnomalyError(
                        f"{primitive.name}: expected finite {name}, got {problem}{already}; {site}"
                    )
        return results

    def gradients(
        self, node: Node, needs: list[bool], cotangents: list[Tensor | None]
    ) -> list[Tensor | None]:
        outer, self.node = self.node, node
        try:
            gradients = super().gradients(node, needs, cotangents)
        finally:
            self.node = outer
        for i, g in enumerate(gradients):
            if g is not None and (problem := self._problem(g.array)):
                who = f"gradient of {node.primitive.name} with respect to {node.primitive.input_name(i)}"
                given = any(c is not None and self._problem(c.array) for c in cotangents)
                site = node.site if isinstance(node.site, Site) else "called outside of detect_anomaly"
                error = AnomalyError(
                    f"{who}: expected finite values, got {problem}{' (already in the cotangent)' * given}; "
                    f"{site}"
                )
                error.layers = node.site.layers() if isinstance(node.site, Site) else ()
                raise error
        return gradients

    def site(self) -> Site | None:
        if self.node is not None:
            made = self.node.site
            return made._replace(gradient_of=self.node.primitive.name) if isinstance(made, Site) else None
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
            frame = frame.f_back
        return Site(frame.f_code.co_filename, frame.f_lineno, tuple(self.modules))

    def enter(self, module: Any) -> None:
        self.modules.append(module)

    def leave(self) -> None:
        if self.modules:  # the scope may have been opened inside of the module
            self.modules.pop()

    def _problem(self, array: Array | None) -> str:
        if array is None or array.dtype.kind != "f":
            return ""
        nans, infs = int(np.isnan(array).sum()), int(np.isinf(array).sum()) if self.inf else 0
        found = [f"{count} {what}" for count, what in ((nans, "NaN"), (infs, "Inf")) if count]
        return f"{' and '.join(found)} in {array.shape} {array.dtype}" if found else ""


@contextmanager
def detect_anomaly(inf: bool = True) -> Iterator[None]:
    """Within the scope every result, every write and every gradient is searched for NaN and
    (unless `inf` is False) Inf.

    The error names the operation, the path of its layer and the line of yours that called it, also where it
    is the gradient that went wrong. Recorded steps run eagerly here. Slow; for looking, not for training.

    Raises:
        AnomalyError: at the first one found.
    """
    with state.replaced(tracer=_Detector(inf)):
        yield


# Profile
# ------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One operation: how often, how long, and the bytes of its results (views and writes in place: 0)."""

    name: str
    calls: int
    seconds: float
    bytes: int


class Profile(Tracer):
    """What `profile` has counted. Print it."""

    def __init__(self) -> None:
        self.wall = 0.0
        self._counted: dict[str, tuple[int, float, int]] = {}

    @property
    def rows(self) -> list[Row]:
        """One per operation, the longest first."""
        return sorted(
            (Row(name, *counted) for name, counted in self._counted.items()), key=lambda row: -row.seconds
        )

    def run(self, primitive: Primitive, arrays: list[Array], settings: dict[str, Any]) -> Any:
        start = time.perf_counter()
        results = primitive.function(*arrays, **settings)
        self._count(primitive.name, time.perf_counter() - start, () if primitive.view else results)
        return results

    def replay(self, call: Callable[[], Any]) -> None:
        start = time.perf_counter()
        results = call()
        self._count(call.func.__name__.strip("_"), time.perf_counter() - start, results)  # type: ignore[attr-defined]

    def _count(self, name: str, seconds: float, results: Any) -> None:
        made = sum(
            out.nbytes for out in (results if isinstance(results, tuple) else (results,)) if out is not None
        )
        calls, before, total = self._counted.get(name, (0, 0.0, 0))
        self._counted[name] = calls + 1, before + seconds, total + made

    def __str__(self) -> str:
        rows = self.rows
        inside = sum(row.seconds for row in rows)
        every = [*rows, Row("between operations", 0, max(self.wall - inside, 0.0), 0)] if self.wall else rows
        whole = sum(row.seconds for row in every) or 1.0
        table = [("operation", "calls", "ms", "share", "µs a call", "MiB")]
        for row in every:
            mean = f"{1e6 * row.seconds / row.calls:.1f}" if row.calls else ""
            calls, size = (str(row.calls), f"{row.bytes / 2**20:.2f}") if row.calls else ("", "")
            table.append(
                (row.name, calls, f"{1e3 * row.seconds:.2f}", f"{row.seconds / whole:.1%}", mean, size)
            )
        return _aligned(table)


@contextmanager
def profile() -> Iterator[Profile]:
    """Within the scope count each operation's calls, time (wall clock) and bytes;
    replays of recorded steps too.

    with profile() as p:
        step(x, y)
    print(p)
    """
    counted = Profile()
    start = time.perf_counter()
    try:
        with state.replaced(tracer=counted):
            yield counted
    finally:
        counted.wall = time.perf_counter() - start


def _aligned(table: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            (text.rjust, text.ljust)[i == 0](width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )
