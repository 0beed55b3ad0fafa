"""Machine code kept on disk between processes, and never stale.

One file per kernel and argument types, in one directory per *build*:
`<cache>/numba-<key>/<kernel>-<digest>.nbc`. The key hashes the sources of this package, the versions of
Python, NumPy, Numba and llvmlite, Numba's settings and the CPU's features. The digest hashes the kernel's
bytecode and all that it refers to (constants, closures, other kernels), so that a kernel from outside this
package is safe as well; one that refers to something that cannot be described is not kept.

`<cache>` is TINYDL_CACHE_DIR, else the user's cache directory, else a private one among the temporary files:
the first that can be written, or that holds this build already. What lies there is executed, so a folder that
belongs to another user, or that others may write to, is refused with a warning. Each file ends with a
checksum; a damaged one counts as none. Nothing that goes wrong here keeps a kernel from running.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import stat
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from . import internals
from .internals import Module

shutil, tempfile = Module("shutil"), Module("tempfile")  # seldom asked, and a tenth of our own import
PACKAGE = __name__.partition(".")[0]
DESCRIBED_BY_NAME = {PACKAGE, "llvmlite", "numba", "numpy", *sys.stdlib_module_names}
"""Packages whose functions, types and modules are known by name alone, because the key covers their contents.
"""
SAME_CODE = {"NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY"}
"""Settings that change no code, as the loops are not Numba's own; joblib gives the first to its workers."""
KEEP_DAYS = 30
"""The directory of another build is removed when no process has started with it for so long."""


class Store:
    """The files of one kernel, with the methods that a Numba dispatcher wants of its cache."""

    def __init__(self, directory: Path, name: str, fingerprint: str) -> None:
        self.cache_path = str(directory)
        self._directory, self._name, self._fingerprint = directory, name, fingerprint

    def _file(self, signature: Any) -> Path:
        digest = hashlib.sha256(f"{self._fingerprint} {signature}".encode()).hexdigest()[:32]
        return self._directory / f"{self._name}-{digest}.nbc"

    def holds(self, signature: Any) -> bool:
        return self._file(signature).exists()

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled code for these argument types; None where there is none, or a broken one."""
        try:
            content = checked(self._file(signature).read_bytes())
            result = internals.from_reduced(context, pickle.loads(content))
        except Exception:
            return None
        # Named tuples have types of one name for classes of the same name.
        return result if tuple(result.signature.args) == tuple(signature) else None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep compiled code, unless it holds addresses of this process or cannot be written."""
        if not internals.portable(result):
            return
        file = self._file(signature)
        part = file.with_name(f"{file.name}.{os.urandom(8).hex()}")
        try:
            part.write_bytes(with_checksum(internals.to_bytes(result)))
            part.replace(file)  # atomic: another process sees all of it or nothing
        except Exception:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def with_checksum(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def checked(entry: bytes) -> memoryview:
    """What `with_checksum` was given. ValueError if a bit of it has changed since."""
    content, checksum = memoryview(entry)[:-32], entry[-32:]
    if hashlib.sha256(content).digest() != checksum:
        raise ValueError("a damaged file in the cache")
    return content


class Cacheable:
    """Looks like a Python function and stands for its compiled form; `options`
    are those of the compilation.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        functools.update_wrapper(cast(Any, self), function)
        self.function = function
        self.options = options

    def store(self) -> Store | None:
        """Where the compiled code of this function is kept, if it can be."""
        directory = build_directory()
        if directory is None:
            return None
        try:
            lines = "\n".join([internals.state(), *_describe(self, set())])
        except _IndescribableError:
            return None
        return Store(
            directory, self.function.__name__.strip("<>"), hashlib.sha256(lines.encode()).hexdigest()
        )


class _IndescribableError(Exception):
    """A compiled function refers to an object whose contents a hash cannot follow."""


def _describe(value: Any, seen: set[int]) -> Iterator[str]:
    """Lines that differ whenever the code compiled from `value` may differ."""
    if isinstance(value, Cacheable):
        yield type(value).__name__
        if id(value) not in seen:
            yield from _describe(tuple(sorted(value.options.items())), seen)
            seen.add(id(value))
            yield from _describe_function(value.function, seen)
    elif isinstance(value, types.FunctionType) and not _known_by_name(value) and id(value) not in seen:
        seen.add(id(value))
        yield from _describe_function(value, seen)
    elif isinstance(value, types.CodeType):
        code, handlers = value.co_code.hex(), value.co_exceptiontable.hex()
        yield f"{value.co_name} {value.co_argcount} {value.co_names} {code} {handlers}"
        for constant in value.co_consts:
            yield from _describe(constant, seen)
    elif value is None or value is Ellipsis or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, (tuple, set, frozenset)):
        yield f"{type(value).__name__} {len(value)}"
        for item in value if isinstance(value, tuple) else sorted(value, key=repr):
            yield from _describe(item, seen)
    elif isinstance(value, (np.ndarray, np.generic)):
        yield f"{value.dtype!r} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    elif _known_by_name(value):
        yield f"{_home(value)} {getattr(value, '__qualname__', None) or repr(value)}"
    else:
        raise _IndescribableError(value)


def _describe_function(function: Any, seen: set[int]) -> Iterator[str]:
    yield function.__module__
    yield from _describe(function.__code__, seen)
    yield from _describe(function.__defaults__, seen)
    for cell in function.__closure__ or ():
        yield from _describe(cell.cell_contents, seen)
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield name
            yield from _describe(function.__globals__[name], seen)


def _names(code: types.CodeType) -> list[str]:
    """The names that `code` and the code nested in it look up, as globals or as attributes."""
    nested = (
        name
        for constant in code.co_consts
        if isinstance(constant, types.CodeType)
        for name in _names(constant)
    )
    return sorted({*code.co_names, *nested})


def _home(value: Any) -> str:
    """The module that `value` comes from."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    return getattr(value, "__module__", None) or type(value).__module__


def _known_by_name(value: Any) -> bool:
    """Does `value` stand under a name of its own in a package that the key covers?"""
    name = getattr(value, "__qualname__", None) or repr(value)
    return (
        _home(value).partition(".")[0] in DESCRIBED_BY_NAME
        and "<locals>" not in name
        and " at 0x" not in name
    )


@functools.cache
def build_directory() -> Path | None:
    """The directory of this build's code, or None where no cache can be had."""
    with internals.importing:
        internals.distinguish_names()
        build = f"numba-{_build_key()}"
    for directory in folders(build):
        with contextlib.suppress(OSError):
            os.utime(directory)  # in use: not to be pruned
        _prune(directory.parent)
        return directory
    warnings.warn(
        "tinydl: no directory to keep compiled kernels in; set TINYDL_CACHE_DIR to a writable one",
        stacklevel=2,
    )
    return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        after_in_child=lambda: (
            internals.distinguish_names() if build_directory.cache_info().currsize else None
        )
    )


def _build_key() -> str:
    settings = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith("NUMBA_") and name not in SAME_CODE
    )
    versions = (sys.version, np.__version__, *map(internals.version, ("numba", "llvmlite")))
    key = hashlib.sha256(repr((versions, settings, internals.target())).encode())
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        key.update(source.name.encode() + source.read_bytes())
    return key.hexdigest()[:20]


def folders(name: str) -> Iterator[Path]:
    """The folders of this name in the caches that nobody else can have written to, best
    first; made where there are none.
    """
    for candidate in _candidates():
        try:
            root = candidate.absolute()
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (reason := _distrust(root)):
                folder = root / name
                folder.mkdir(mode=0o700, exist_ok=True)
                reason = _distrust(folder)
        except OSError:  # of others, full, read-only, below a file, a name too long
            continue
        if reason:
            _refuse(reason)
        else:
            yield folder


def _distrust(folder: Path) -> str | None:
    """Why somebody else may have written code into a folder, or None. Windows has no simple
    answer: it is trusted there.
    """
    if hasattr(os, "getuid"):
        for status in (folder.lstat(), folder.stat()):  # of a link, and of what it points to
            if status.st_uid != os.getuid():
                return f"{folder} belongs to another user ({status.st_uid})"
            if status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode):
                return f"others may write to {folder} (mode {stat.S_IMODE(status.st_mode):o})"
    return None


@functools.cache
def _refuse(reason: str) -> None:
    """Warn, once."""
    message = f"tinydl: no compiled kernels are kept in, nor taken from, a folder that is not safe: {reason}"
    warnings.warn(message, stacklevel=2)


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("TINYDL_CACHE_DIR"):
        yield Path(chosen)
    with contextlib.suppress(RuntimeError):  # no home directory
        yield _user_cache() / "tinydl"
    with contextlib.suppress(OSError):  # no directory of temporary files
        yield Path(tempfile.gettempdir()) / f"tinydl-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def _user_cache() -> Path:
    if platform.system() == "Windows" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _prune(directory: Path) -> None:
    """Remove the builds that nobody uses any more."""
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    for build in directory.glob("numba-*"):
        with contextlib.suppress(OSError):
            if build.stat().st_mtime < oldest:
                shutil.rmtree(build, ignore_errors=True)
