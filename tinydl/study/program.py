"""What the programs of `examples/` share: their options, where results go, errors in one line."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import mnist, normalize
from ..files import DataError, atomic_write
from .report import environment, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE, THUMBNAIL = 1_200, 320  # pixels across


def program_options(description: str, name: str) -> argparse.ArgumentParser:
    """A parser with the options of every program: --data, --quick, --full, --out, --thumbnail.

    Args:
        description: the program's docstring; shown as it is by --help.
        name: of the program; its picture, and the folder under ``results/`` where it lands.
    """
    parser = argparse.ArgumentParser(
        prog=f"{name}.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of the data sets (default: TINYDL_DATA, else the cache)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="a few steps of each: does everything work?")
    length.add_argument("--full", action="store_true", help="the long schedule")
    parser.add_argument("--out", type=Path, default=Path("results") / name, help="(default %(default)s)")
    parser.add_argument("--thumbnail", type=Path, metavar="PNG", help="write a small copy of the picture too")
    parser.set_defaults(program=name)
    return parser


def program_images(
    options: argparse.Namespace, train: int, test: int, name: str = "mnist"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The first so many training and test images of MNIST or Fashion-MNIST, or all there are.

    Args:
        options: whose `data` is the folder, see `tinydl.data.mnist`, which raises the errors.
        train, test: how many.
        name: "mnist" or "fashion-mnist".

    Returns:
        Training images float32 (train, 1, 28, 28) and labels int64 (train,), then those of the test; all
        images by the mean and the standard deviation of the training images.
    """
    (x, y, _), (x_test, y_test, _) = mnist("train", options.data, name), mnist("test", options.data, name)
    images = normalize(x[:train, None], x_test[:test, None])
    return images[0], y[:train], images[1], y_test[:test]


def run_program(
    experiment: Callable[[argparse.Namespace], tuple[Figure, dict[str, Any]]], options: argparse.Namespace
) -> int:
    """Run `experiment(options)`; its figure and its numbers land in `options.out`, whole or not at all.

    Args:
        experiment: gives a figure (written as ``<name>.png``) and what ``results.json`` holds, beside the
            environment and the seconds that it took.
        options: of a parser that `program_options` made.

    Returns:
        0, or 1 after an error that a user can mend (data, files), told in one line.
    """
    start = time.perf_counter()
    picture = options.out / f"{options.program}.png"
    try:
        figure, results = experiment(options)
        seconds = time.perf_counter() - start
        options.out.mkdir(parents=True, exist_ok=True)
        for path, width in ((picture, PICTURE), (options.thumbnail, THUMBNAIL)):
            if path is not None:
                with atomic_write(path) as file:
                    figure.savefig(file, format="png", dpi=width / figure.get_figwidth())
        write_json(options.out / "results.json", {"environment": environment(), "seconds": seconds} | results)
    except (DataError, OSError) as error:
        print(f"{options.program}: {error}", file=sys.stderr)
        return 1
    print(f"{picture} and results.json beside it; {seconds:.0f} s")
    return 0
