"""The processor: Numba made lazy and parallel, registers and tiles, the matrix product."""
