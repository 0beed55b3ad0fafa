"""What ops/__init__.py and backward.py attach to Tensor. Type checkers read face.pyi, which tests/stubs.py
makes of it.
"""


class Face:
    """The operators and methods of a Tensor."""

    __slots__ = ()
