"""The GPU as Python sees it: is there one, and what is wrong if not. Each trouble is one DeviceError."""

from __future__ import annotations

from typing import Any

from .errors import DeviceError

OLDEST = (7, 5)
"""The least compute capability (Turing) that the sources are compiled and proven for."""


def cupy() -> Any:
    """CuPy, where there is a GPU for it. DeviceError: no CuPy, no driver or an old one, no GPU, a GPU before
    `OLDEST`.
    """
    try:
        import cupy  # optional package
    except ModuleNotFoundError as error:
        raise DeviceError(
            "cuda: expected CuPy, got none: pip install tinydl[gpu], or tinydl[gpu12] for CUDA 12"
        ) from error
    except Exception as error:  # whatever the libraries under it say
        raise DeviceError(f"cuda: expected CuPy, got one that cannot be imported: {error}") from error
    runtime = cupy.cuda.runtime
    try:
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if not driver:
            raise DeviceError("cuda: expected an NVIDIA driver, got none")
        if driver // 1000 < needed // 1000:
            raise DeviceError(
                f"cuda: expected a driver for CUDA {_version(needed)}, got one for CUDA {_version(driver)}: "
                "update the driver, or install the CuPy of its CUDA version"
            )
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceError(f"cuda: expected a GPU, got none: {error}") from error
    if not count:
        raise DeviceError("cuda: expected a GPU, got none")
    if capability(cupy) < OLDEST:
        raise DeviceError(
            f"cuda: expected a GPU of compute capability {_dotted(OLDEST)} or newer, got {described(cupy)}"
        )
    return cupy


def unavailable() -> str | None:
    """Why no GPU can be used, or None. Never raises."""
    try:
        cupy()
    except Exception as error:
        return str(error)
    return None


def is_available() -> bool:
    """Is there a GPU that can be used? Never raises."""
    return unavailable() is None


def capability(cupy: Any) -> tuple[int, int]:
    """The compute capability of the present GPU, (8, 0) for an A100."""
    digits = cupy.cuda.Device().compute_capability
    return int(digits[:-1]), int(digits[-1])


def name(cupy: Any) -> str:
    """The present GPU's name."""
    return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()


def described(cupy: Any) -> str:
    """Name and compute capability, for messages."""
    return f"{name(cupy)} ({_dotted(capability(cupy))})"


def exhausted(error: MemoryError, requested: int | None = None) -> DeviceError:
    """What to raise for CuPy's MemoryError: how many bytes were asked for, how many the GPU has free and in
    all.
    """
    import cupy  # optional package

    free, total = cupy.cuda.runtime.memGetInfo()
    asked = "more memory" if requested is None else f"{requested:,} bytes"
    return DeviceError(f"cuda: out of memory: expected {asked}, got {free:,} free of {total:,} ({error})")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _dotted(pair: tuple[int, int]) -> str:
    return ".".join(map(str, pair))
