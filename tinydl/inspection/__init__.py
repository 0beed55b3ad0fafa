"""What a trained network does, as numbers: maps of what it looks at, what its layers hold, the surface of its
loss, its tape as a graph. Arrays in, arrays out; `tinydl.viz` has the same names, and makes pictures of them.

Layers go by the dotted paths of `named_modules`. Every function looks and leaves no trace: modes, running
statistics, streams of random numbers, `.grad` and hooks stay as they were, bit for bit, also after an
exception. A file names in its `__all__` what it adds.
"""

from ..rooms import collect

__all__ = collect(__name__)
