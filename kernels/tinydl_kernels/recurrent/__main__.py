"""Validate and time the family: `python -m tinydl_kernels.recurrent`."""

from . import main

main()
