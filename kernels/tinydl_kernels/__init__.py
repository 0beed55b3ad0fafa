"""Kernels of tinydl: arrays in, arrays out. NumPy reference, Numba on the CPU, CUDA through CuPy on the
GPU.
"""

from .machine import precision as precision
