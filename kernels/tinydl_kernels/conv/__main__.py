"""Validate and time the family: `python -m tinydl_kernels.conv`."""

from . import main

main()
