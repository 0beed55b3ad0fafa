"""The error types of the house: each says who complains, what it expected and what it got."""

from __future__ import annotations


class TinydlError(Exception):
    """Base of every error raised on purpose. `layers` is filled in by the modules that the error passes
    through.
    """

    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        message = super().__str__()
        return f"{'.'.join(self.layers)}: {message}" if self.layers else message


class ShapeError(TinydlError, ValueError):
    """Shapes that do not fit together, or a size that is out of range."""


class DtypeError(TinydlError, TypeError):
    """A dtype that the operation does not take, or dtypes that must not be mixed."""


class LinAlgError(TinydlError, RuntimeError):
    """A matrix without an answer: singular where the inverse is asked for, or not positive-definite."""


class DeviceError(TinydlError, RuntimeError):
    """Arrays of different devices in one operation, or a device that is not there."""


class GraphError(TinydlError, RuntimeError):
    """A misuse of the tape: a freed graph, a recorded array that was written, a gradient that does not
    exist.
    """


class BackendError(TinydlError, RuntimeError):
    """A backend that cannot run what was asked of it."""
