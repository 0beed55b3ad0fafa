"""What a model is judged by. One metric, or one family of them, is a file here with `__all__`, and a row of
tests/catalogue/metrics.py.

A metric is a class with `update(...)` for each batch, `compute()`, `reset()` and `state_dict()`, and a
function of the same settings over whole arrays. It keeps counts or predictions, never means of means, so that
batches of any sizes give the value of the whole. The oracle is scikit-learn.
"""

from typing import TYPE_CHECKING, Any

from ..rooms import collect

__all__ = collect(__name__)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
