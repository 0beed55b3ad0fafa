"""`python -m tinydl.demo`: draw digits, play with gradient penalties, watch optimizers race, in a browser.

Everything happens on this machine: the server answers 127.0.0.1 alone, the page needs nothing from outside.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .recognizer import Recognizer
from .server import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tinydl.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8017, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="open no window")
    parser.add_argument("--data", help="learn anew, from this folder's mnist/ (default: a kept network)")
    parser.add_argument(
        "--bundle", help="a network of digits from `save_bundle`, in the place of the own one"
    )
    given = parser.parse_args(arguments)
    if not 0 <= given.port < 1 << 16:
        parser.error(f"--port: expected 0 to 65535, got {given.port}")
    try:
        serve(Recognizer.cached(given.data, given.bundle), given.port, not given.no_browser)
    except OSError as error:
        parser.exit(2, f"port {given.port}: {error}\n")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a kernel that is being compiled would be waited for
