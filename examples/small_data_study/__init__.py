"""The parts of examples/small_data_study.py, and what it found: README.md."""
