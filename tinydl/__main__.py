"""Commands: `python -m tinydl derivatives`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path


def derivatives(names: Sequence[str], backends: Sequence[str]) -> str:
    """The page of derivatives. The checks are the tests' catalogue, which is there in a source tree only."""
    tests = Path(__file__).parents[1] / "tests"
    if not (tests / "catalogue").is_dir():
        raise ValueError(f"derivatives: expected a source tree with the catalogue of the tests, got none at {tests}")
    sys.path.insert(0, str(tests))
    try:
        return importlib.import_module("catalogue.page").page(names, backends)
    finally:
        sys.path.remove(str(tests))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tinydl", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    page = commands.add_parser("derivatives", help="check the derivatives of every operation and print the page as Markdown")
    page.add_argument("names", nargs="*", help="operations of the catalogue; all without any")
    page.add_argument("--backends", nargs="+", default=["reference", "cpu"], help="default: reference cpu")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(derivatives(given.names, given.backends))
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
