"""Frameworks in processes of their own, taking turns."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .cases import CASES, PEAKS, Case

FRAMEWORKS = ("tinydl", "torch", "jax", "numpy", "onnxruntime")
ON_REQUEST = ("torch-compile",)
"""Takes long to compile: not among the frameworks unless it is named."""
TRAINING = ("tinydl", "torch", "jax")
"""Those whose training steps are measured in processes of their own."""
MODES = {"tinydl": ("recorded", "eager")}
"""The modes of a training step, where there are several that start differently."""
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""What holds a worker to vectors of 8 numbers; ONNX Runtime has no such setting."""
QUIET = 0.03
"""Seconds between turns, for the threads of the last one to fall asleep."""
LIMIT = 600.0
"""Seconds after which a worker is taken to hang."""


class WorkerError(Exception):
    """A worker died, hung, or could not do what it was asked to."""


@dataclass(eq=False)
class Contender:
    """One side's numbers for a case: a value for each round, in seconds or bytes."""

    framework: str
    mode: str
    values: list[float] = field(default_factory=list)
    least: float = float("inf")  # of all calls
    first: float | None = None  # seconds of the first, compared calls, compilation included
    work: float = 0
    error: float | None = None  # largest difference from the first contender, relative to its largest value

    @property
    def label(self) -> str:
        return f"{self.framework} {self.mode}".strip()


@dataclass
class Measurement:
    case: Case
    contenders: list[Contender]
    problems: list[str] = field(default_factory=list)


def installed(frameworks: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those that can be imported, and those that cannot."""
    found = {name: importlib.util.find_spec(name.partition("-")[0]) is not None for name in frameworks}
    return [name for name in found if found[name]], [name for name in found if not found[name]]


def environment(threads: int, **more: str) -> dict[str, str]:
    """A worker's environment: as many threads for every library that has a say."""
    names = ("TINYDL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    return {
        **os.environ,
        **dict.fromkeys(names, str(threads)),
        "PYTHONPATH": path,
        "JAX_PLATFORMS": "cpu",
        **more,
    }


class Process:
    """A framework's worker, started when it is first asked and again after it has died."""

    def __init__(self, framework: str, threads: int) -> None:
        self.framework, self.threads = framework, threads
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, method: str, *arguments: Any) -> Any:
        """The worker's answer. Raises WorkerError."""
        if self.process is None:
            command = [sys.executable, "-m", f"{__package__}.worker", self.framework, str(self.threads)]
            root = Path(__file__).parents[1]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=root,
                env=environment(self.threads),
            )
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        hung = threading.Event()

        def give_up() -> None:
            hung.set()
            process.kill()

        timer = threading.Timer(LIMIT, give_up)
        timer.start()
        try:
            pickle.dump((method, arguments), process.stdin)
            process.stdin.flush()
            kind, answer = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()
            what = (
                f"no answer in {LIMIT:.0f} s"
                if hung.is_set()
                else f"died with exit code {process.returncode}"
            )
            raise WorkerError(f"{self.framework}: {what}") from None
        finally:
            timer.cancel()
        if kind == "error":
            raise WorkerError(f"{self.framework}: {answer}")
        return answer

    def drop(self) -> None:
        """Let the worker forget the case; one that cannot is ended."""
        if self.process is not None:
            try:
                self.ask("drop")
            except WorkerError:
                self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            process, self.process = self.process, None
            process.kill()
            process.communicate()


@contextmanager
def workers(frameworks: Iterable[str], threads: int) -> Iterator[dict[str, Process]]:
    """A process for each framework; none is left when the block ends, however it does."""
    with ExitStack() as stack:
        processes = {}
        for name in frameworks:
            processes[name] = Process(name, threads)
            stack.callback(processes[name].close)
        yield processes


def by_turns(
    case: Case, processes: dict[str, Process], rounds: int, seconds: float, processor: bool = False
) -> Measurement:
    """Let every contender of a case run for about `seconds` in each of the rounds."""
    done = Measurement(case, [])
    expected: list[np.ndarray] | None = None
    for name, process in processes.items():
        try:
            prepared = process.ask("prepare", case)
        except WorkerError as error:
            done.problems.append(str(error))
            continue
        for mode, found in prepared.items():
            contender = Contender(name, mode, first=found["first"], work=found["work"])
            if case.checks:
                expected = expected or found["results"]
                contender.error = difference(found["results"], expected)
                if not contender.error <= case.tolerance:
                    done.problems.append(
                        f"{contender.label}: differs from {(done.contenders or [contender])[0].label} by "
                        f"{contender.error:.1e}"
                    )
            done.contenders.append(contender)
    for turn in range(rounds):
        shift = turn % max(1, len(done.contenders))
        for contender in done.contenders[shift:] + done.contenders[:shift]:
            if contender not in done.contenders:
                continue
            time.sleep(QUIET)
            try:
                median, least = processes[contender.framework].ask("turn", contender.mode, seconds, processor)
            except WorkerError as error:
                done.problems.append(str(error))
                done.contenders = [c for c in done.contenders if c.framework != contender.framework]
            else:
                contender.values.append(median)
                contender.least = min(contender.least, least)
    for process in processes.values():
        process.drop()
    return done


def difference(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Largest difference between arrays, each relative to the largest value in b's; inf
    where shapes or counts differ.
    """
    if [x.shape for x in a] != [y.shape for y in b]:
        return float("inf")
    with np.errstate(all="ignore"):
        return float(max(np.abs(x - y).max() / (np.abs(y).max() or 1) for x, y in zip(a, b, strict=True)))


def in_fresh_processes(case: Case, frameworks: Iterable[str], threads: int, rounds: int) -> Measurement:
    """A new process for each number. An "empty" cache is a new folder, and what that run
    leaves there is the "full" one.
    """
    sides = [name for name in frameworks if name in TRAINING]
    done = Measurement(case, [Contender(name, mode) for name in sides for mode in MODES.get(name, ("",))])
    empty = "empty" in case.name
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + (not empty)):  # the first one fills the cache
            for contender in list(done.contenders):
                path = Path(folder, contender.framework, f"{contender.mode}{turn if empty else ''}")
                try:
                    found = one_process(case, contender, threads, path)
                except WorkerError as error:
                    done.problems.append(str(error))
                    done.contenders.remove(contender)
                    continue
                if empty or turn:
                    contender.values.append(found[case.fresh])
                    contender.least = min(contender.values)
    return done


def one_process(case: Case, contender: Contender, threads: int, cache: Path) -> dict[str, float]:
    """Run the case once in a new process whose compilers keep their results in the folder `cache`."""
    caches = {
        "TINYDL_CACHE_DIR": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [
        sys.executable,
        "-m",
        f"{__package__}.worker",
        contender.framework,
        str(threads),
        case.name,
        contender.mode,
    ]
    try:
        ended = subprocess.run(
            [*command, str(time.time())], env=environment(threads, **caches), cwd=Path(__file__).parents[1],
            capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise WorkerError(f"{contender.label}: no answer in {LIMIT:.0f} s") from None
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [""])[-1]
        raise WorkerError(f"{contender.label}: died with exit code {ended.returncode}: {last}")
    return json.loads(ended.stdout.splitlines()[-1])


def choose(families: Iterable[str], match: str, quick: bool) -> list[Case]:
    """Cases of these families in whose names the regular expression `match` is found."""
    wanted, pattern = set(families), re.compile(match, re.IGNORECASE)
    found = [case for case in CASES.values() if case.family in wanted and pattern.search(case.name)]
    return [case for case in found if case.quick or not quick]


def run(
    chosen: list[Case],
    frameworks: list[str],
    threads: int,
    rounds: int,
    seconds: float,
    say: Callable[[Measurement, dict[str, float]], None],
    processor: bool = False,
) -> tuple[list[Measurement], dict[str, float], dict[str, str]]:
    """Measure the cases, and the machine before and after. Returns them, the
    machine's best rates, the versions.
    """
    rates: dict[str, float] = {}
    done: list[Measurement] = []
    with workers(frameworks, threads) as processes:
        versions = {}
        for name, process in list(processes.items()):
            try:
                versions[name] = process.ask("hello")
            except WorkerError as error:
                print(f"{error}: left out", flush=True)
                del processes[name]

        def machine() -> None:
            for unit, case in PEAKS.items() if "tinydl" in processes else ():
                found = by_turns(case, {"tinydl": processes["tinydl"]}, rounds, seconds, processor)
                for problem in found.problems:
                    print(f"{case.name}: {problem}", flush=True)
                for contender in found.contenders:
                    rates[unit] = max(rates.get(unit, 0.0), contender.work / contender.least)

        machine()
        for case in chosen:
            if case.fresh:
                measured = in_fresh_processes(case, processes, threads, rounds)
            else:
                measured = by_turns(case, processes, rounds, seconds, processor)
            done.append(measured)
            say(measured, rates)
        machine()
    return done, rates, versions
