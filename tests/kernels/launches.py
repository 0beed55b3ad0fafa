"""Launches of kernels, noted while something else runs, to be made again: with the
checker, or on a source with a bug.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from emulated import CHECKED, use
from tinydl_kernels import emulator
from tinydl_kernels.cuda import launching

BARRIER = re.compile(r"__sync(?:threads|warp)\(\);")
ENOUGH = 40
"""Launches of a kernel that are noted: of different grids, blocks, sizes and numbers."""


class Launch(NamedTuple):
    """What a kernel was called with; the arrays as they were before."""

    module: launching.Module
    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    args: tuple[Any, ...]
    shared: int

    def again(self, module: launching.Module) -> None:
        """The same on a module with the same kernels; nobody looks at the result."""
        emulator.launch(module, self.kernel, self.grid, self.block, copy.deepcopy(self.args), self.shared)


class Barrier(NamedTuple):
    """Where a barrier stands."""

    file: str
    line: int


@contextmanager
def noted() -> Iterator[list[Launch]]:
    """The launches of the scope on modules of the package, each kind once."""
    found: list[Launch] = []
    seen: dict[tuple[str, str], set[str]] = {}
    run, package = emulator.launch, {module.name: module.source for module in launching.modules()}

    def launch(module: Any, kernel: str, grid: Any, block: Any, args: Any, shared: int) -> None:
        kinds = seen.setdefault((module.name, kernel), set())
        kind = repr([grid, block, shared, *map(_kind, args)])
        if kind not in kinds and len(kinds) < ENOUGH and package.get(module.name) == module.source:
            kinds.add(kind)
            found.append(Launch(module, kernel, grid, block, copy.deepcopy(tuple(args)), shared))
        run(module, kernel, grid, block, args, shared)

    with mock.patch.object(emulator, "launch", launch):
        yield found


def _kind(argument: Any) -> Any:
    if isinstance(argument, list):
        return list(map(_kind, argument))
    return argument.shape if isinstance(argument, np.ndarray) else argument


def barriers(module: launching.Module) -> dict[Barrier, int]:
    """The barriers of a module's source, and where in the source each is."""
    found: dict[Barrier, int] = {}
    file, number, position = "", 0, 0
    for text in module.source.splitlines(keepends=True):
        if directive := re.match(r'#line (\d+) "(.*)"', text):
            number, file = int(directive[1]) - 1, directive[2]
        elif hit := BARRIER.search(text):
            found[Barrier(file, number)] = position + hit.start()
        number, position = number + 1, position + len(text)
    return found


def without(module: launching.Module, at: int) -> launching.Module:
    """The module with the barrier that begins there taken out."""
    mutant = copy.copy(module)
    mutant.source = module.source[:at] + BARRIER.sub("", module.source[at:], count=1)
    return mutant


def complaint(module: launching.Module, launches: list[Launch]) -> str | None:
    """What the checker says first of a module in these launches of it."""
    for launch in launches:
        try:
            with use(CHECKED):
                launch.again(module)
        except emulator.EmulatorError as error:
            return str(error)
    return None
