"""What goes on around the steps of a Trainer: small objects with some of the points of `Callback`. One, or
one family of them, is a file here with `__all__`, and a row of tests/catalogue/callbacks.py.
"""

from ...rooms import collect

__all__ = collect(__name__)
