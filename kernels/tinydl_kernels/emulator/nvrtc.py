"""NVIDIA's run-time compiler without a driver or a GPU: proves that a .cu is CUDA, and shows what ptxas made
of it.

    usage = resources(compile(source, "sm_80").log)["uniform_float32"]  # registers, spills, shared memory

    used = instructions(compile(source, "sm_80"))["uniform_float32"]     # names of machine instructions

The library comes from the wheel nvidia-cuda-nvrtc (the `test` extra), the disassembler from
nvidia-cuda-nvdisasm. It has no headers at all, which suits kernels that include nothing.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cuda.launching import OPTIONS
from ..machine.errors import BackendError

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""Turing to Blackwell: all that NVRTC 13 knows and people own."""
_PTXAS = re.compile(
    r"Compiling entry function '(\w+)'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
    r"Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?",
    re.DOTALL,
)
_SASS = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)


@dataclass(frozen=True)
class Binary:
    """A compiled program: machine code (ELF) for `sm_..`, text for `compute_..`, and what the compiler
    said.
    """

    code: bytes
    log: str

    @property
    def architecture(self) -> int:
        """The compute capability times ten that the machine code is for. BackendError if it is no machine
        code.
        """
        if self.code[:4] != b"\x7fELF":
            raise BackendError(f"NVRTC: expected an ELF image, got {len(self.code)} bytes {self.code[:8]!r}")
        return self.code[49]  # the second byte of e_flags


@dataclass(frozen=True)
class Resources:
    """What ptxas reports of a kernel: registers a thread, bytes of stack, spills and static shared memory."""

    registers: int
    stack: int
    spilled: int
    shared: int


def resources(log: str) -> dict[str, Resources]:
    """The kernels in the log of a compilation and what they take."""
    return {
        name: Resources(int(registers), int(stack), int(stores) + int(loads), int(shared or 0))
        for name, stack, stores, loads, registers, shared in _PTXAS.findall(log)
    }


def instructions(binary: Binary) -> dict[str, set[str]]:
    """The kernels of a machine code and the instructions in each: {"matmul": {"FFMA", "LDS.128", ...}}."""
    tool = _disassembler()
    if tool is None:
        raise BackendError(str(disassembler_unavailable()))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.code)
        file.flush()
        done = subprocess.run([tool, "--print-code", file.name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"nvdisasm: {done.stderr}")
    kernels = re.split(r"^\.text\.(\w+):$", done.stdout, flags=re.MULTILINE)[1:]
    return {name: set(_SASS.findall(code)) for name, code in zip(kernels[::2], kernels[1::2], strict=True)}


def unavailable() -> str | None:
    """Why there is no NVRTC here, or None."""
    return None if _library_path() else "NVRTC is absent: pip install nvidia-cuda-nvrtc==13.0.88"


def compile(source: str, architecture: str, options: Sequence[str] = ()) -> Binary:
    """Compile with CuPy's options to machine code (`sm_80`) or PTX (`compute_80`). BackendError with the log
    if it fails.

    A missing `__device__` is an error here, whereas CuPy's --device-as-default-execution-space would hide it.
    """
    nvrtc = _load()
    program = ctypes.c_void_p()
    _check(
        nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    )
    try:
        flags = [f"--gpu-architecture={architecture}", *OPTIONS, "-ftz=true", "--ptxas-options=-v", *options]
        failed = nvrtc.nvrtcCompileProgram(
            program, len(flags), (ctypes.c_char_p * len(flags))(*map(str.encode, flags))
        )
        log = _get(nvrtc, program, "ProgramLog").rstrip(b"\0").decode()
        if failed:
            raise BackendError(
                f"NVRTC for {architecture}: {nvrtc.nvrtcGetErrorString(failed).decode()}\n{log}"
            )
        return Binary(_get(nvrtc, program, "CUBIN" if architecture.startswith("sm_") else "PTX"), log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _get(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(nvrtc: ctypes.CDLL, error: int) -> None:
    if error:
        raise BackendError(f"NVRTC: {nvrtc.nvrtcGetErrorString(error).decode()}")


def disassembler_unavailable() -> str | None:
    """Why machine code cannot be read here, or None."""
    return None if _disassembler() else "nvdisasm is absent: pip install nvidia-cuda-nvdisasm==13.5.37"


def _of_wheels(pattern: str) -> Path | None:
    """The newest file that NVIDIA's wheels have by that pattern."""
    spec = importlib.util.find_spec("nvidia")
    roots = spec.submodule_search_locations if spec else None
    return max(
        (path for root in roots or () for path in Path(root).glob(pattern) if ".alt" not in path.name),
        default=None,
    )


@functools.cache
def _library_path() -> Path | None:
    return _of_wheels("*/lib/libnvrtc.so.*")


@functools.cache
def _disassembler() -> Path | None:
    return _of_wheels("*/bin/nvdisasm")


@functools.cache
def _load() -> ctypes.CDLL:
    path = _library_path()
    if path is None:
        raise BackendError(str(unavailable()))
    for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
        if ".alt" not in builtins.name:
            # NVRTC looks for it by name, and not beside itself
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library
