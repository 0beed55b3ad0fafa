"""Validate and time the family: `python -m tinydl_kernels.norm`."""

from . import main

main()
