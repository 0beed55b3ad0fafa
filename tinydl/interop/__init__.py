"""Exchange with other frameworks: weights in files that they read and write."""

from .weights import load_weights, save_weights
