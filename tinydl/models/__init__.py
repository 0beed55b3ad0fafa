"""Networks of the literature, under the names of their published weights. One family of nets is a file here
with `__all__`, and its rows in tests/catalogue/models.py.
"""

from ..rooms import collect

__all__ = collect(__name__)
