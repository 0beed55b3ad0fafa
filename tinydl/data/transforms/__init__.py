"""What changes images on their way to a model. One transform, or one family of them, is a file here with
`__all__`, and a row of tests/catalogue/transforms.py.

A transform takes a batch of arrays (N, C, H, W) and gives one. Each sample has parameters of its own, drawn
from (seed, epoch, index of the sample) alone: the same picture whatever the batch, the thread or the order.
Images and masks go through together, and a mask is never interpolated into new labels. p = 0 is the identity
and draws nothing.
"""

from ...rooms import collect

__all__ = collect(__name__)
