"""Tensor: an array and its place on the tape.

What it computes with (operators, methods) is attached in ops/__init__.py, `backward` in backward.py,
`device` in devices.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from tinydl_kernels.machine.errors import DtypeError, GraphError

from .face import Face
from .hooks import RemovableHandle
from .state import state
from .tape import Key, Node, Slot, Version

Array = Any  # numpy.ndarray or cupy.ndarray
T = TypeVar("T", bound="Tensor")


def _plain(array: Any) -> Array:
    """The same memory as an array that no subclass of NumPy's gives other manners."""
    if not hasattr(array, "dtype"):
        raise DtypeError(f"Tensor: expected an array, got {type(array).__name__}: use tinydl.tensor")
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        raise DtypeError("Tensor: expected an array without masked elements: use filled()")
    return array.view(np.ndarray) if isinstance(array, np.ndarray) else array


class Tensor(Face):
    """An array and its place on the tape. Make one with `tinydl.tensor` (copies) or
    `tinydl.from_numpy` (shares).
    """

    __slots__ = ("__weakref__", "_grad", "_version", "array", "index", "node", "slot")
    __array_ufunc__ = None  # `ndarray * tensor` is the tensor's to answer

    def __init__(
        self,
        array: Array,
        version: Version | None = None,
        node: Node | None = None,
        index: int = 0,
        slot: Slot | None = None,
    ) -> None:
        if type(array) is not np.ndarray:
            array = _plain(array)
        self.array, self._version = array, version
        self.node, self.index, self.slot = node, index, slot
        self._grad: Tensor | None = None

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    device: Any  # a property that devices.py attaches
    is_leaf = property(lambda self: self.node is None)
    is_cuda = property(lambda self: self.device == "cuda")
    grad_fn = property(
        lambda self: None if self.node is None else self.node.primitive.name,
        doc="The name of the operation whose result this is, or None.",
    )

    @property
    def version(self) -> Version:
        """How often the storage was written; made when it is first asked for."""
        if self._version is None:
            self._version = Version()
        return self._version

    @version.setter
    def version(self, version: Version) -> None:
        self._version = version

    @property
    def requires_grad(self) -> bool:
        return self.node is not None or self.slot is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self.node is not None:
            if not wanted:
                raise GraphError(
                    "requires_grad: expected a leaf, got the result of an operation: use detach()"
                )
        elif wanted and self.dtype.kind != "f":
            raise DtypeError(f"requires_grad: expected a floating dtype, got {self.dtype}")
        elif wanted is not (self.slot is not None):
            if state.recorder is not None:
                state.recorder.seen.found(self)
            self.slot = Slot(self) if wanted else None

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` has added up, or None."""
        if state.recorder is not None:
            state.recorder.gradients.read(self)
        return self._grad

    @grad.setter
    def grad(self, grad: Tensor | None) -> None:
        if grad is not None and (grad.shape, grad.dtype) != (self.shape, self.dtype):
            raise GraphError(f"grad: expected {self.shape} {self.dtype}, got {grad.shape} {grad.dtype}")
        if state.recorder is not None:
            state.recorder.gradients.written(self)
        self._grad = grad

    def detach(self) -> Tensor:
        """The same array off the tape; shares memory and version."""
        detached = Tensor(self.array, self.version)
        self.version.share(self, detached)
        return detached

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(grad)` once this tensor's gradient is complete; what it returns replaces it. The handle
        removes it: `handle.remove()`, or `handle()`.
        """
        return RemovableHandle(self._watched().hooks, hook)

    def retain_grad(self) -> None:
        """Fill `.grad` in `backward` although this is an intermediate result."""
        self._watched().owner = weakref.ref(self)

    @property
    def key(self) -> Key:
        return self.slot if self.node is None else (self.node, self.index)

    def _watched(self) -> Slot:
        slot = self.slot if self.node is None else self.node.slots.setdefault(self.index, Slot())
        if slot is None:
            raise GraphError("expected a tensor that requires grad, got one that does not")
        return slot
