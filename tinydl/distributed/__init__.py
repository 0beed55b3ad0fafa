"""Data parallelism over MPI and NCCL: `mpiexec -n 4 python program.py`.

PLACEHOLDER
"""

from ..rooms import collect

__all__ = collect(__name__)
