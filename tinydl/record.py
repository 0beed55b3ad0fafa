"""Recording: run a step once, keep its kernel calls with their arrays, then replay them without a tape.

The recorder stands at the door of the primitives. It notes each call with its arrays and every buffer that the call takes from
the allocator. When the step is over it lays the buffers out by how long each is needed, binds the calls to them, and from then
on a replay is a list of kernel calls: no tape, no wrapping, no rules, no allocation; and the same bits as an eager step.

What varies between steps must be an array that goes through the door: the arguments, parameters, buffers, the counters of the
random generators. A Python number or a branch inside the step is a constant of the recording, and so is `model.training`.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels import dispatch, memory
from tinydl_kernels.errors import GraphError

from .core import Array, Primitive, Tensor, Version, state

_UNSEEN = object()


class _Recorder:
    """What a step does, noted at the door."""

    def __init__(self) -> None:
        self.calls: list[tuple[Primitive, list[Any], dict[str, Any], str | None, range]] = []
        self.buffers: list[Array] = []  # in the order in which the allocator gave them
        self.number_of: dict[int, int] = {}  # id of a buffer -> its place in that order
        self.tensors: dict[int, weakref.ref[Tensor]] = {}  # id of an array from outside -> the tensor it belongs to
        self.written: list[Version] = []
        self.grads: dict[int, tuple[weakref.ref[Tensor], Any]] = {}  # leaf -> its .grad when the step first looked, or _UNSEEN

    def supply(self, shape: tuple[int, ...], dtype: np.dtype, like: Array) -> Array:
        """A buffer for a kernel's output or scratch."""
        buffer = memory.fresh(shape, dtype, like)
        self.number_of[id(buffer)] = len(self.buffers)
        self.buffers.append(buffer)
        return buffer

    def run(self, primitive: Primitive, tensors: Sequence[Any], arrays: list[Any], settings: dict[str, Any]) -> Any:
        """Run a primitive and note it."""
        before = len(self.buffers)
        if state.tracer is None:
            results = primitive.function(*arrays, **settings)
        else:
            results = state.tracer.run(primitive, arrays, settings)
        for x in tensors:
            if x is not None and self.buffer_of(x.array) is None:
                self.tensors.setdefault(id(x.array), weakref.ref(x))
        if primitive.view:
            return results
        for out in results if isinstance(results, tuple) else (results,):
            if out is not None and self.buffer_of(out) is None:
                raise GraphError(f"{primitive.name}: expected outputs in the allocator's buffers, got an array of its own")
        if hasattr(primitive, "writes"):
            self.written += [tensors[i].version for i in primitive.writes(len(tensors)) if tensors[i] is not None]
        self.calls.append((primitive, arrays, settings, dispatch.override(), range(before, len(self.buffers))))
        return results

    def grad_read(self, leaf: Tensor) -> None:
        """`.grad` was looked at: a replay needs it as it is now."""
        self.grads.setdefault(id(leaf), (weakref.ref(leaf), leaf._grad))

    def grad_written(self, leaf: Tensor) -> None:
        """`.grad` was set without a look: what it was before is of no matter."""
        self.grads.setdefault(id(leaf), (weakref.ref(leaf), _UNSEEN))

    def buffer_of(self, array: Array) -> int | None:
        """The number of the buffer that `array` lies in; None for an array from outside."""
        return self.number_of.get(id(_owner(array)))


class _Recording:
    """A recorded step, bound to its static arrays."""

    def __init__(self, recorder: _Recorder, inputs: list[Tensor], outputs: Any) -> None:
        self.inputs = inputs
        self.written = recorder.written
        touched: list[tuple[Any, Any]] = [(ref(), before) for ref, before in recorder.grads.values()]
        leaves = [(leaf, before) for leaf, before in touched if leaf is not None and all(leaf is not x for x in inputs)]
        results = [x.array for x in _tensors(outputs)] + [leaf._grad.array for leaf, _ in leaves if leaf._grad is not None]
        self.buffers = _plan(recorder, keep={recorder.buffer_of(a) for a in results})
        bind = functools.partial(_bind, recorder, self.buffers)
        self.outputs = _map(outputs, lambda x: Tensor(bind(x.array)))
        self.before = [(weakref.ref(leaf), before) for leaf, before in leaves if before is not _UNSEEN]
        self.after = [(weakref.ref(leaf), None if leaf._grad is None else Tensor(bind(leaf._grad.array))) for leaf, _ in leaves]
        self.outside = [(ref, x.array) for ref, x in ((ref, ref()) for ref in recorder.tensors.values()) if x is not None]
        self.calls: list[tuple[str | None, list[Callable[[], Any]]]] = []  # in runs of one backend
        for backend, run in itertools.groupby(recorder.calls, key=lambda call: call[3]):
            bound: list[Callable[[], Any]] = []
            for primitive, arrays, settings, _, _ in run:
                arrays = [None if a is None else bind(a) for a in arrays]
                bound.append(functools.partial(primitive.function, *arrays, **settings))
            self.calls.append((backend, bound))
        for leaf, _ in leaves:
            leaf._grad = None if leaf._grad is None else leaf._grad.detach()

    def replay(self, arguments: list[Tensor]) -> Any:
        self._check()
        for static, given in zip(self.inputs, arguments, strict=True):
            static.array[...] = given.array
        supply, tracer = iter(self.buffers), state.tracer
        with memory.supplied_by(lambda shape, dtype, like: next(supply)):
            for backend, calls in self.calls:
                with dispatch.use(backend):
                    for call in calls:
                        call() if tracer is None else tracer.replay(call)
        for version in self.written:
            version.count += 1
        for ref, grad in self.after:
            leaf = ref()
            if leaf is not None:
                leaf._grad = grad
                if grad is not None:
                    grad.version.count += 1
        return _map(self.outputs, lambda x: Tensor(x.array.copy()))

    def _check(self) -> None:
        """Refuse what the recording would not see; bring gradients that the step adds to into place."""
        for origin, array in self.outside:
            x = origin()
            if x is not None and x.array is not array:
                raise GraphError(
                    f"record: expected the tensor {x.shape} that was recorded, got one bound to another array since"
                )
        for ref, before in self.before:
            leaf: Any = ref()
            if leaf is None:
                continue
            if (leaf._grad is None) is not (before is None):
                pattern = ("without .grad", "with a .grad")
                raise GraphError(
                    f"record: expected a leaf {leaf.shape} {pattern[before is not None]} as in the recorded step, "
                    f"got it {pattern[before is None]}: call zero_grad() at the same place each time"
                )
            if before is not None and leaf._grad.array is not before.array:
                before.array[...] = leaf._grad.array


class Recorded:
    """A step that runs eagerly once for each signature of its arguments, and is replayed from then on."""

    def __init__(self, step: Callable[..., Any]) -> None:
        functools.update_wrapper(self, step)
        self.step = step
        self.recordings: dict[Any, _Recording] = {}

    def __call__(self, *arguments: Any) -> Any:
        given = [Tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
        signature = tuple((x.shape, x.dtype, x.device, x.requires_grad) if isinstance(x, Tensor) else x for x in given)
        tensors = [x for x in given if isinstance(x, Tensor)]
        if signature in self.recordings:
            return self.recordings[signature].replay(tensors)
        if state.recorder is not None:
            raise GraphError("record: expected no recording inside a recording")
        static = [Tensor(x.array.copy()).requires_grad_(x.requires_grad) for x in tensors]
        replaced = iter(static)
        recorder = state.recorder = _Recorder()
        try:
            with memory.supplied_by(recorder.supply):
                outputs = self.step(*[next(replaced) if isinstance(x, Tensor) else x for x in given])
        finally:
            state.recorder = None
        for x in _tensors(outputs):
            if not isinstance(x, Tensor):
                raise GraphError(
                    f"record: expected the step to return tensors, tuples, lists or dicts of them, got {type(x).__name__}"
                )
        results = _map(outputs, lambda x: Tensor(x.array.copy()))
        self.recordings[signature] = _Recording(recorder, static, outputs)
        return results


def record(step: Callable[..., Any]) -> Recorded:
    """Record `step(*arguments)` at its first call and replay it later: the same results, bit for bit, in less time.

    Arguments are tensors or arrays, whose values may differ from call to call; anything else is a constant, and a new value or a
    new shape is recorded anew. The step returns tensors (or tuples, lists, dicts of them, or None); a replay returns copies.
    A replay refuses a `.grad` that is there where the recorded step found none, and the other way round, and a tensor that was
    bound to another array since.
    """
    return Recorded(step)


def _owner(array: Array) -> Array:
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _address(array: Array) -> int:
    return array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr


def _plan(recorder: _Recorder, keep: set[int | None]) -> list[Array]:
    """Arrays in place of the recorder's buffers, which share memory where their lives do not overlap."""
    last = {}
    for number, (_, arrays, _, _, made) in enumerate(recorder.calls):
        for buffer in (*made, *(recorder.buffer_of(a) for a in arrays if a is not None)):
            last[buffer] = number
    free: list[Array] = []  # blocks of bytes
    dying: dict[int, list[Array]] = {}
    planned: list[Array] = []
    for number, (_, _, _, _, made) in enumerate(recorder.calls):
        free += dying.pop(number - 1, [])
        for buffer in made:
            like = recorder.buffers[buffer]
            fits = [block for block in free if like.nbytes <= block.nbytes <= 2 * like.nbytes + 4096]
            block = min(fits, key=lambda block: block.nbytes, default=None)
            if block is None:
                block = memory.fresh((like.nbytes,), np.uint8, like)
            else:
                free = [other for other in free if other is not block]
            if buffer not in keep:
                dying.setdefault(last[buffer], []).append(block)
            planned.append(block[: like.nbytes].view(like.dtype).reshape(like.shape))
    return planned


def _bind(recorder: _Recorder, planned: list[Array], array: Array) -> Array:
    """The same view of the planned buffer; an array from outside as it is."""
    number = recorder.buffer_of(array)
    if number is None:
        return array
    owner, new = recorder.buffers[number], planned[number]
    if array is owner:
        return new
    offset = _address(array) - _address(owner)
    if isinstance(array, np.ndarray):
        return np.ndarray(array.shape, array.dtype, new, offset, array.strides)
    return type(array)(array.shape, array.dtype, new.data + offset, array.strides)


def _tensors(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, (tuple, list)):
        return [x for part in structure for x in _tensors(part)]
    return [] if structure is None else [structure]


def _map(structure: Any, function: Callable[[Tensor], Any]) -> Any:
    if isinstance(structure, dict):
        return {key: _map(value, function) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        return type(structure)(_map(part, function) for part in structure)
    return None if structure is None else function(structure)
