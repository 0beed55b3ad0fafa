"""The lecture hall in a browser: `python -m tinydl.demo`.

Draw a digit and see what a LeNet makes of it; train a network on points in the plane under gradient
penalties; watch optimizers race. A server on the loopback interface, of the standard library alone, and
one page with nothing from outside.
"""

from .playground import Playground
from .race import race
from .recognizer import Recognizer
from .server import Server, serve

__all__ = ["Playground", "Recognizer", "Server", "race", "serve"]
