"""PyTorch's `utils`: what a program takes from `torch.utils.data` has the same name here. It lives in
`tinydl.data`.
"""

from . import data
