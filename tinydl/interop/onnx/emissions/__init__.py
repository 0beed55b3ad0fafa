"""Primitives as nodes of ONNX: one function each, by families.

To add one, write a function in its family's file under `@emission(name)`: it takes the writer, the call and
its twin on a batch of one sample more, and gives the names of the outputs, in order. layers.py has those of
whole layers, as @emission("nn.GELU").
"""

from . import elementwise, layers, reductions, shapes, windows
from .table import EMISSIONS, emission_of
