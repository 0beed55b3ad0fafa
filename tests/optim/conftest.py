"""What the tests of the optimizers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def double() -> Iterator[None]:
    """PyTorch keeps numbers that are no tensors of the user's (NAdam's mu_product) in its default dtype."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
