"""No kernel goes unproven: each `__global__` of each module ran in a test of this session that compared what it gives."""

from __future__ import annotations

import pytest
from tinydl_kernels import emulator


@pytest.mark.last
@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
def test_every_kernel_was_launched_and_compared(request: pytest.FixtureRequest, never_compared: list[tuple[str, str]]) -> None:
    walked = {item.path.name for item in request.session.items}
    chosen = request.config.getoption("-k") or not {"test_catalogue_cuda.py", "test_cuda_emulated.py"} <= walked
    if never_compared and chosen:
        pytest.skip("only some of the tests run")
    assert never_compared == []
