"""Validate and time the family: `python -m tinydl_kernels.pool`."""

from . import main

main()
