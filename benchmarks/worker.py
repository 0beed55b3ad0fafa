"""One framework's process: it prepares a case, has its turns, and sleeps in between.

    python -m benchmarks.worker FRAMEWORK THREADS              answers requests, pickled, from stdin on stdout
    python -m benchmarks.worker FRAMEWORK THREADS CASE MODE STARTED
            one case, new process: 3 calls, a JSON line

STARTED is the clock (time.time) when the process was asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import pickle
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import cases
from .cases import Case

SAMPLE = 2e-4
"""Seconds that a sample takes at least: shorter calls are timed several at once."""
FEWEST, WARMUP = 3, 0.02
FRESH_CALLS = 3


class Worker:
    """The contenders of one framework for one case at a time."""

    def __init__(self, framework: str, threads: int) -> None:
        self.side = importlib.import_module(f".with_{framework.replace('-', '_')}", __package__)
        self.side.start(threads)
        self.calls: dict[str, Callable[[], Any]] = {}

    def hello(self) -> str:
        """The framework's version."""
        return self.side.VERSION

    def prepare(self, case: Case) -> dict[str, dict[str, Any]]:
        """mode -> what the first calls returned, their seconds, and the work where
        only this side knows it.
        """
        self.calls.clear()
        build = getattr(self.side, case.operation, None)
        answer = {}
        for mode, contender in (build(case, cases.data(case)) if build else {}).items():
            call = getattr(contender, "call", contender)
            before = time.perf_counter()
            returned = [[np.array(a) for a in self.side.arrays(call())] for _ in range(case.checks)] or call()
            seconds = time.perf_counter() - before
            results = [np.stack(parts) for parts in zip(*returned, strict=True)] if case.checks else []
            answer[mode] = {
                "results": results,
                "first": seconds,
                "work": getattr(contender, "work", case.work),
            }
            self.calls[mode] = call
        return answer

    def turn(self, mode: str, seconds: float, processor: bool = False) -> tuple[float, float]:
        """Median and least seconds of a call, over about `seconds` of calls; of the processor's time, which
        does not run while other processes do, if that is wanted.
        """
        call, clock = self.calls[mode], time.perf_counter
        watch = time.process_time if processor else clock
        begin, count = clock(), 0
        while count == 0 or (clock() - begin < WARMUP and count < 1000):
            call()
            count += 1
        repeat = max(1, math.ceil(SAMPLE * count / (clock() - begin)))
        samples: list[float] = []
        stop = clock() + seconds
        while len(samples) < FEWEST or clock() < stop:
            before = watch()
            for _ in range(repeat):
                call()
            samples.append((watch() - before) / repeat)
        return statistics.median(samples), min(samples)

    def drop(self) -> None:
        """Forget the case."""
        self.calls.clear()


def serve(framework: str, threads: int) -> None:
    """Answer (method, arguments) with ("ok", result) or ("error", message) until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends this process
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not get among the answers
    worker: Worker | None = None
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            worker = worker or Worker(framework, threads)
            answer = ("ok", getattr(worker, method)(*arguments))
        except Exception as error:
            answer = ("error", f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()


def high_water() -> int:
    """The largest resident memory of this process so far, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def fresh(framework: str, threads: int, case: Case, mode: str, started: float) -> dict[str, float]:
    """Seconds from the start of the process to the end of its first call; memory over
    the import after a few more.
    """
    side = importlib.import_module(f".with_{framework}", __package__)
    side.start(threads)
    imported = high_water()
    call = getattr(side, case.operation)(case, cases.data(case))[mode]
    side.arrays(call())
    seconds = time.time() - started
    for _ in range(FRESH_CALLS - 1):
        side.arrays(call())
    return {"seconds": seconds, "bytes": high_water() - imported}


def main(framework: str, threads: str, *once: str) -> None:
    count = int(threads)
    if hasattr(os, "sched_setaffinity"):  # some frameworks have no other way to be told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    if once:
        name, mode, started = once
        print(json.dumps(fresh(framework, count, cases.CASES[name], mode, float(started))))
    else:
        serve(framework, count)


if __name__ == "__main__":
    main(*sys.argv[1:])
