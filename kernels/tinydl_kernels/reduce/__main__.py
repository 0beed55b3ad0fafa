"""Validate and time the family: `python -m tinydl_kernels.reduce`."""

from . import main

main()
