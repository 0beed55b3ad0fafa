"""What every backend needs: dispatch, memory, windows, layouts, errors, validation."""
