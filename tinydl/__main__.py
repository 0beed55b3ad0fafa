"""Commands: `python -m tinydl derivatives`, `warmup` and `predict`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinydl_kernels.machine.errors import BackendError

from . import warmup as ahead
from .files import DataError
from .training import bundle as bundles


def derivatives(names: Sequence[str], backends: Sequence[str], graphs: bool = False) -> str:
    """The page of derivatives, of operations or of imported graphs. The checks are the tests' catalogue,
    which is there in a source tree only.
    """
    tests = Path(__file__).parents[1] / "tests"
    place = tests / "catalogue" / "__init__.py"
    if not place.is_file():
        raise ValueError(
            f"derivatives: expected a source tree with the catalogue of the tests, got none at {tests}"
        )
    if "catalogue" not in sys.modules:  # this package alone: nothing else of the tests can be imported
        spec: Any = importlib.util.spec_from_file_location("catalogue", place)
        sys.modules["catalogue"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["catalogue"])
    if graphs:
        return importlib.import_module("catalogue.graphs").page()
    return importlib.import_module("catalogue.page").page(names, backends)


def warmup(dtypes: Sequence[str]) -> str:
    """Compile the kernels of the usual networks, and say what there is."""
    begin = time.perf_counter()
    held, new = ahead.warmup(dtypes)
    return f"{held} compiled kernels, {new} of them new, in {time.perf_counter() - begin:.1f} s\n"


def predict(bundle: str, files: Sequence[str]) -> str:
    """What a trained model says of pictures, a line for each."""
    return bundles.table(bundles.load_bundle(bundle).predict(list(files)), files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tinydl", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checks = commands.add_parser(
        "derivatives", help="check the derivatives of every operation and print the page as Markdown"
    )
    checks.add_argument("names", nargs="*", help="operations of the catalogue; all without any")
    checks.add_argument("--backends", nargs="+", default=["reference", "cpu"], help="default: reference cpu")
    checks.add_argument("--graphs", action="store_true", help="instead, of the graphs in ONNX's own tests")
    compiles = commands.add_parser(
        "warmup", help="compile the kernels of the usual networks now, for all processes to come"
    )
    compiles.add_argument(
        "--dtypes", nargs="+", default=["float32"], choices=["float32", "float64"], help="default: float32"
    )
    classes = commands.add_parser("predict", help="classes of pictures, by a model from `save_bundle`")
    classes.add_argument("bundle", help="the file of the model")
    classes.add_argument("files", nargs="+", help="pictures")
    given = parser.parse_args(arguments)
    run = {
        "derivatives": lambda: derivatives(given.names, given.backends, given.graphs),
        "warmup": lambda: warmup(given.dtypes),
        "predict": lambda: predict(given.bundle, given.files),
    }
    try:
        sys.stdout.write(run[given.command]())
    except (ValueError, BackendError, DataError, ImportError) as error:
        parser.exit(2, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
