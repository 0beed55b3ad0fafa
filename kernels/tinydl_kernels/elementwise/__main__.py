"""Validate and time the family: `python -m tinydl_kernels.elementwise`."""

from . import main

main()
