"""Validate and time the family: `python -m tinydl_kernels.matmul`."""

from . import main

main()
