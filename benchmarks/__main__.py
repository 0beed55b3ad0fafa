"""The command line; `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from pathlib import Path

from tinydl_kernels.cpu import processors
from tinydl_kernels.machine.errors import TinydlError

import benchmarks

from . import report
from .cases import FAMILIES
from .turns import AVX2, FRAMEWORKS, ON_REQUEST, Measurement, choose, installed, run

ROUNDS, SECONDS = 5, 0.25
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.02


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("families", nargs="*", metavar="FAMILY", help=f"out of {', '.join(FAMILIES)} (default: all)")
    add("--match", default="", metavar="REGEX", help="cases in whose names it is found, in capitals or not")
    add(
        "--frameworks",
        nargs="+",
        choices=(*FRAMEWORKS, *ON_REQUEST),
        default=FRAMEWORKS,
        metavar="NAME",
        help=f"out of %(choices)s (default: without {', '.join(ON_REQUEST)})",
    )
    add("--rounds", type=int, metavar="N", help=f"turns of each contender (default {ROUNDS})")
    add("--seconds", type=float, metavar="S", help=f"that a turn takes, about (default {SECONDS})")
    add(
        "--threads",
        type=int,
        default=processors.available_cpus(),
        metavar="N",
        help="of each framework (default: processors)",
    )
    add(
        "--processor-time",
        action="store_true",
        help="in place of the clock's, for a busy machine; needs --threads 1",
    )
    add("--avx2", action="store_true", help="vectors of 8 numbers where the processor has longer ones")
    add("--quick", action="store_true", help="one short round of a small case a family")
    add(
        "--out",
        type=Path,
        default=Path("results/benchmarks"),
        help="folder of the results (default %(default)s)",
    )
    add("--list", action="store_true", help="print the cases and stop")
    options = parser.parse_args(arguments)
    for family in options.families:
        if family not in FAMILIES:
            parser.error(f"expected families out of {', '.join(FAMILIES)}, got {family!r}")
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    if options.rounds < 1 or options.seconds <= 0 or options.threads < 1:
        parser.error("expected at least one round, some seconds and one thread")
    if options.processor_time and options.threads > 1:
        parser.error("--processor-time: expected --threads 1: threads that wait use the processor too")
    if options.avx2 and platform.machine() not in ("x86_64", "AMD64"):
        parser.error(f"--avx2: expected a processor of x86-64, got {platform.machine()}")
    try:
        options.cases = choose(options.families or FAMILIES, options.match, options.quick)
    except re.error as error:
        parser.error(f"--match: {error}")
    if not options.cases:
        parser.error("no such case; --list shows them")
    return options


def benchmark(options: argparse.Namespace) -> None:
    found, missing = installed(options.frameworks)
    for name in missing:
        print(f"{report.NAMES[name]} is not installed: left out", flush=True)

    if options.avx2:
        print("Held to AVX2: vectors of 8 numbers", flush=True)
        os.environ.update(AVX2)  # workers inherit it
        if "onnxruntime" in found:
            print(f"{report.NAMES['onnxruntime']} cannot be held: left out", flush=True)
            found.remove("onnxruntime")

    def say(measured: Measurement, rates: dict[str, float]) -> None:
        print(report.line(measured, rates), flush=True)

    busy = report.load()
    if busy > 0.3:
        print(
            f"This machine is busy (load {busy:.1f}): threads that spin for each other suffer most. Trust "
            "no ratio."
        )
    options.out.mkdir(parents=True, exist_ok=True)
    measured, rates, versions = run(
        options.cases, found, options.threads, options.rounds, options.seconds, say, options.processor_time
    )
    about = report.stamp(
        versions,
        options.threads,
        load=busy,
        rounds=options.rounds,
        seconds=options.seconds,
        clock="processor" if options.processor_time else "wall",
        avx2=options.avx2,
    )
    report.write(options.out, measured, rates, about)
    print("\n" + report.summary(measured, rates))
    try:
        drawn = report.picture(options.out / "ratios.png", measured, about)
    except ImportError as error:
        print(f"no picture: {error}")
        drawn = False
    print(f"results.json{' and ratios.png are' if drawn else ' is'} in {options.out}")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.list:
        print("\n".join(f"{case.family:8} {case.name}" for case in options.cases))
        return 0
    try:
        benchmark(options)
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    except (TinydlError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
