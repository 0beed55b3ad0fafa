"""g++ builds of the emulator: the runtime, and each .cu in two flavours, kept in the cache directory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..cpu import cache
from ..machine.errors import BackendError

if TYPE_CHECKING:
    from ..cuda.launching import Module
    from ..cuda.signatures import Parameter

_HERE = Path(__file__).parent
_FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti")
_RUNTIME_FLAGS = (*_FLAGS, "-O2", "-Wall")
_KERNEL_FLAGS = (
    *_FLAGS,
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-Wno-unknown-pragmas",
    "-Wno-attributes",
)
_FAST_FLAGS = (*_KERNEL_FLAGS, "-O2")
# -fsanitize while compiling, not linking: the call-outs are answered by the runtime. -Og, since -O1 drops
# loads that race. DWARF 4, since g++ 12 mislabels the files of `#line` in DWARF 5.
_UNDEFINED = "-fsanitize=bounds,alignment,shift,signed-integer-overflow,integer-divide-by-zero"
_CHECKED_FLAGS = (*_KERNEL_FLAGS, "-Og", "-g1", "-gdwarf-4", "-fsanitize=thread", _UNDEFINED)
_DYNAMIC_SHARED = re.compile(
    r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s+)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;"
)


def unavailable() -> str | None:
    """Why the emulator cannot run here, or None."""
    if sys.platform != "linux":
        return f"the CUDA emulator needs Linux, got {sys.platform}"
    return None if shutil.which("g++") else "the CUDA emulator needs g++, which is not on the PATH"


@functools.cache
def runtime() -> ctypes.CDLL:
    """The scheduler and the checker. BackendError if they cannot be built."""
    sources = [_HERE / "runtime.cpp", _HERE / "checker.cpp"]
    contents = [
        file.read_text(encoding="utf-8") for file in (*sources, _HERE / "runtime.h", _HERE / "fiber.h")
    ]
    library = ctypes.CDLL(str(_build("emulator", _RUNTIME_FLAGS, sources, [], contents)))
    library.emu_error.restype = ctypes.c_char_p
    return library


@functools.cache
def library(module: Module, checked: bool) -> ctypes.CDLL:
    """The kernels of a .cu as a shared library, plain or with a call-out before every memory access."""
    below = Path(runtime()._name)
    source = _translate(module)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, f"{module.name}.cpp")
        file.write_text(source, encoding="utf-8")
        name, flags = (
            (f"{module.name}-checked", _CHECKED_FLAGS) if checked else (f"{module.name}-fast", _FAST_FLAGS)
        )
        return ctypes.CDLL(str(_build(name, flags, [file], [below], [source, below.name])))


def _translate(module: Module) -> str:
    """cuda_emu.h, the .cu with its dynamic shared memory as a pointer, and the exports of its kernels.

    Lines are named by the file's name alone, so that a build does not depend on where the file lies.
    """
    header = (_HERE / "cuda_emu.h").read_text(encoding="utf-8")
    body = _DYNAMIC_SHARED.sub(r"\1* \2 = static_cast<\1*>(emu_dynamic_shared());", module.source)
    exports = (
        f"EMU_KERNEL({', '.join([name, *map(_c_type, signature)])})"
        for name, signature in module.signatures.items()
    )
    return "\n".join(['#line 1 "cuda_emu.h"', header, body, *exports, ""])


def _c_type(parameter: Parameter) -> str:
    pointee = f"{'const ' * parameter.const}{parameter.type}"
    if parameter.many:
        return f"Arrays<{pointee}>"
    return f"{pointee}*" if parameter.pointer else parameter.type


def _build(
    name: str,
    flags: Sequence[str],
    sources: Sequence[Path],
    libraries: Sequence[Path],
    contents: Sequence[str],
) -> Path:
    """Compile and link into the cache, unless it is there: `contents` is all that the result
    depends on besides the flags.

    Several processes may do so at once: the file appears whole, by a rename. It ends with a checksum, which
    loaders and linkers do not see; a damaged one is built anew.
    """
    if reason := unavailable():
        raise BackendError(reason)
    digest = hashlib.sha256(repr((_compiler(), flags, contents)).encode()).hexdigest()[:16]
    path = _directory() / f"{name}-{digest}.so"
    if _whole(path):
        return path
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        objects = [f"{scratch}/{source.stem}.o" for source in sources]
        for source, compiled in zip(sources, objects, strict=True):
            _gxx(name, *flags, "-c", str(source), "-o", compiled)
        # A module of kernels has in its .bss nothing but shared memory: no variables of
        # the compiler's start files
        plain = ("-nostartfiles",) if libraries else ()
        linking = ("-shared", *plain, f"-Wl,-soname,{path.name}", "-Wl,-rpath,$ORIGIN")
        _gxx(name, *linking, *objects, *map(str, libraries), "-o", f"{scratch}/{path.name}")
        built = Path(scratch, path.name)
        built.write_bytes(cache.with_checksum(built.read_bytes()))
        built.replace(path)
    return path


def _whole(path: Path) -> bool:
    """Is the file there, as it was built?"""
    try:
        cache.checked(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _gxx(name: str, *arguments: str) -> None:
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"g++ could not build {name}:\n{done.stderr}")


@functools.cache
def _compiler() -> str:
    version = subprocess.run(
        ["g++", "--version"], capture_output=True, text=True, check=False
    ).stdout.splitlines()[:1]
    return f"{platform.machine()} {version}"


@functools.cache
def _directory() -> Path:
    """The first cache directory that can be written. Builds older than a month are removed from it."""
    for directory in cache.folders("emulator"):
        try:
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError:
            continue
        oldest = time.time() - cache.KEEP_DAYS * 24 * 3600
        for build in directory.glob("*.so"):
            with contextlib.suppress(OSError):  # another process was faster
                if build.stat().st_mtime < oldest:
                    build.unlink()
        return directory
    raise BackendError(
        "the CUDA emulator found no directory for its builds; set TINYDL_CACHE_DIR to one that can be written"
    )
