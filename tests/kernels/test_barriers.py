"""Every kernel of the package passes the checker; without any one of its barriers it does not."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import emulated
import numpy as np
import pytest
from emulated import needs_compiler
from launches import Barrier, Launch, barriers, complaint, noted, without
from tinydl_kernels import reduce
from tinydl_kernels.cuda import launching
from tinydl_kernels.machine import dispatch

pytestmark = needs_compiler

BARRIERS = sorted({barrier for module in launching.modules() for barrier in barriers(module)})
WALKS = ("test_*_cuda.py", "test_cuda_emulated.py")


@pytest.fixture(scope="module")
def launches() -> dict[str, list[Launch]]:
    """The launches of the families' own tests, by module, the cheap ones first."""
    here = Path(__file__).parent
    files = [str(file) for pattern in WALKS for file in sorted(here.glob(pattern))]
    one_order = {"forward": emulated.ORDERS["forward"]}  # all orders have the same launches
    with noted() as found, mock.patch.object(emulated, "ORDERS", one_order):
        # what fails there fails in its own run
        pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not checked", *files])
    by_module: dict[str, list[Launch]] = {}
    for launch in sorted(found, key=lambda launch: np.prod(launch.grid) * np.prod(launch.block)):
        by_module.setdefault(launch.module.name, []).append(launch)
    return by_module


@pytest.mark.full
@pytest.mark.parametrize("module", launching.modules(), ids=lambda module: module.name)
def test_every_launch_passes_the_checker(launches: dict[str, list[Launch]], module: launching.Module) -> None:
    assert launches[module.name]
    assert complaint(module, launches[module.name]) is None


@pytest.mark.full
@pytest.mark.parametrize("barrier", BARRIERS, ids=lambda barrier: f"{barrier.file}:{barrier.line}")
def test_no_barrier_can_be_left_out(launches: dict[str, list[Launch]], barrier: Barrier) -> None:
    """In one of the modules that have it: a source that several paste in need not matter to each of them."""
    # the short ones build at once
    written = set(launching.modules()) - set(
        launching.generated_modules.values()
    )  # those have none of their own
    for module in sorted(written, key=lambda module: len(module.source)):
        places = barriers(module)
        if barrier in places and complaint(without(module, places[barrier]), launches.get(module.name, [])):
            return
    pytest.fail("the kernels pass the checker without it")


def test_the_barrier_of_a_team() -> None:
    """The same in a moment, for the one that most families share."""
    x = np.random.default_rng(0).standard_normal((2, 1500)).astype(np.float32)
    with noted() as launches, dispatch.use("cuda-emulated"):
        reduce.logsumexp(x, (1,))
        reduce.logsumexp(x.reshape(75, 40), (0,))
    module = launches[0].module
    team = module.source.index("struct Team")
    at = next(at for barrier, at in barriers(module).items() if barrier.file == "common.cuh" and at > team)
    assert complaint(module, launches) is None
    assert re.match(
        r"common.cuh:\d+: (race|\w+ of uninitialized)", complaint(without(module, at), launches) or ""
    )
