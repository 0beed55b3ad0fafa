"""PyTorch's `utils`: what a program takes from `torch.utils.data` and `torch.utils.checkpoint` has the same
name here. It lives in `tinydl.data` and `tinydl.nn`.
"""

from . import checkpoint, data
