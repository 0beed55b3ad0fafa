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
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tinydl_kernels import dispatch, memory
from tinydl_kernels.errors import GraphError

from .core import Array, Primitive, Tensor, state
from .tape import Version

_UNSEEN = object()


class _Recorder:
    """What a step does, noted at the door."""

    def __init__(self) -> None:
        self.calls: list[tuple[Primitive, list[Any], dict[str, Any], str | None, range]] = []
        self.buffers: list[Array] = []  # in the order in which the allocator gave them
        self.number_of: dict[int, int] = {}  # id of a buffer -> its place in that order
        self.tensors: dict[int, tuple[weakref.ref[Tensor], Array]] = {}  # id -> a tensor from outside and its array
        self.written: list[Version] = []
        self.grads: dict[int, tuple[weakref.ref[Tensor], Any]] = {}  # id -> a leaf, its .grad at the first look or _UNSEEN

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
                self.tensors[id(x)] = (weakref.ref(x), x.array)
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
        self._note(leaf, leaf._grad)

    def grad_written(self, leaf: Tensor) -> None:
        """`.grad` was set without a look: what it was before is of no matter."""
        self._note(leaf, _UNSEEN)

    def _note(self, leaf: Tensor, before: Any) -> None:
        if id(leaf) not in self.grads or self.grads[id(leaf)][0]() is not leaf:  # a dead leaf's id may have come again
            self.grads[id(leaf)] = (weakref.ref(leaf), before)

    def buffer_of(self, array: Array) -> int | None:
        """The number of the buffer that `array` lies in; None for an array from outside."""
        return self.number_of.get(id(_owner(array)))


class _Recording:
    """A recorded step, bound to its static arrays."""

    def __init__(self, recorder: _Recorder, inputs: list[Tensor], outputs: Any) -> None:
        self.inputs = inputs
        self.written = recorder.written
        leaves: list[Any] = [(ref(), before) for ref, before in recorder.grads.values()]
        leaves = [(leaf, before) for leaf, before in leaves if leaf is not None and all(leaf is not x for x in inputs)]
        changed = [leaf for leaf, before in leaves if leaf._grad is not before]
        results = [x.array for x in _tensors(outputs)] + [leaf._grad.array for leaf in changed if leaf._grad is not None]
        bound = _plan(recorder, keep={recorder.buffer_of(a) for a in results})
        self.buffers = [bound[id(recorder.buffers[number])] for call in recorder.calls for number in call[4]]
        # Gradients that were there at the start: a copy of the recording's own, which replays bring up to date.
        seen = [(leaf, before) for leaf, before in leaves if before is not _UNSEEN]
        owners = [_owner(before.array) for _, before in seen if before is not None]
        bound |= {id(owner): owner.copy(order="K") for owner in owners}
        bind = functools.partial(_bind, bound)
        self.before = [(weakref.ref(leaf), None if before is None else bind(before.array)) for leaf, before in seen]
        self.after = [(weakref.ref(x), None if x._grad is None else Tensor(bind(x._grad.array))) for x in changed]
        self.outputs = _map(outputs, lambda x: Tensor(bind(x.array)))
        self.outside = [(ref, array, x.requires_grad) for ref, array in recorder.tensors.values() if (x := ref()) is not None]
        self.calls = [
            (backend, [functools.partial(p.function, *map(bind, arrays), **settings) for p, arrays, settings, _, _ in group])
            for backend, group in itertools.groupby(recorder.calls, key=lambda call: call[3])
        ]
        for leaf in changed:
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
        for ref, array, required in self.outside:
            x = ref()
            if x is not None and (x.array is not array or x.requires_grad is not required):
                change = "whose requires_grad was changed" if x.array is array else "bound to another array"
                raise GraphError(f"record: expected the tensor {x.shape} that was recorded, got it {change} since")
        leaves: list[Any] = [(ref(), static) for ref, static in self.before]
        leaves = [(leaf, static) for leaf, static in leaves if leaf is not None]
        for leaf, static in leaves:
            if (leaf._grad is None) is not (static is None):
                pattern = ("without .grad", "with a .grad")
                raise GraphError(
                    f"record: expected a leaf {leaf.shape} {pattern[static is not None]} as in the recorded step, "
                    f"got it {pattern[static is None]}: call zero_grad() at the same place each time"
                )
        for leaf, static in leaves:
            if static is not None:
                static[...] = leaf._grad.array


class Recorded:
    """A step that runs eagerly once for each signature of its arguments, and is replayed from then on."""

    def __init__(self, step: Callable[..., Any]) -> None:
        functools.update_wrapper(self, step)
        self.step = step
        self.recordings: dict[Any, _Recording] = {}
        self._lock = threading.Lock()  # the static arrays serve one thread at a time

    def __call__(self, *arguments: Any) -> Any:
        if state.recorder is not None:
            raise GraphError("record: expected no recorded step inside a recorded step")
        given = [Tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
        tensors = [x for x in given if isinstance(x, Tensor)]
        with self._lock:
            recording = None if state.tracer is not None and state.tracer.eager else self.recordings.get(_signature(given))
            return self._run(given, tensors) if recording is None else recording.replay(tensors)

    def _run(self, given: list[Any], tensors: list[Tensor]) -> Any:
        """Run the step eagerly on copies of its tensors, and keep what it does."""
        static = [Tensor(x.array.copy()).requires_grad_(x.requires_grad) for x in tensors]
        replaced = iter(static)
        arguments = [next(replaced) if isinstance(x, Tensor) else x for x in given]
        if state.tracer is not None and state.tracer.eager:
            return _map(self.step(*arguments), lambda x: Tensor(x.array.copy()))
        recorder = state.recorder = _Recorder()
        try:
            with memory.supplied_by(recorder.supply):
                outputs = self.step(*arguments)
        finally:
            state.recorder = None
        for x in _tensors(outputs):
            if not isinstance(x, Tensor):
                raise GraphError(
                    f"record: expected the step to return tensors, tuples, lists or dicts of them, got {type(x).__name__}"
                )
        results = _map(outputs, lambda x: Tensor(x.array.copy()))
        self.recordings[_signature(given)] = _Recording(recorder, static, outputs)
        return results


def _signature(arguments: list[Any]) -> Any:
    """What a recording depends on: the scope, tensors but for their values, and everything else."""
    signature = tuple(
        (x.shape, x.dtype, x.device, x.requires_grad) if isinstance(x, Tensor) else (type(x), x) for x in arguments
    )
    try:
        hash(signature)
    except TypeError:
        kinds = ", ".join(type(x).__name__ for x in arguments)
        raise TypeError(f"record: expected tensors, arrays and hashable constants, got ({kinds})") from None
    return dispatch.override(), state.grad, signature


def record(step: Callable[..., Any]) -> Recorded:
    """Record `step(*arguments)` at its first call and replay it later: the same results, bit for bit, in less time.

    Arguments are tensors or arrays, whose values may differ from call to call; anything else is a constant, and a new value, a
    new shape or another scope (backend, grad mode) is recorded anew. The step works on copies of the tensors: their own `.grad`
    stays as it is. It returns tensors (or tuples, lists, dicts of them, or None); a replay returns copies.

    A replay refuses a `.grad` that is there where the recorded step found none, and the other way round, and a tensor that was
    bound to another array or frozen since. It leaves `.grad` in an array of the recording, which the next replay writes again.
    """
    return Recorded(step)


def _owner(array: Array) -> Array:
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _address(array: Array) -> int:
    return array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr


def _plan(recorder: _Recorder, keep: set[int | None]) -> dict[int, Array]:
    """An array in place of each of the recorder's buffers, by its id. They share memory where their lives do not overlap."""
    last = {}
    for number, (_, arrays, _, _, made) in enumerate(recorder.calls):
        for buffer in (*made, *(recorder.buffer_of(a) for a in arrays if a is not None)):
            last[buffer] = number
    free: list[Array] = []  # blocks of bytes
    dying: dict[int, list[Array]] = {}
    planned: dict[int, Array] = {}
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
            planned[id(like)] = block[: like.nbytes].view(like.dtype).reshape(like.shape)
    return planned


def _bind(bound: dict[int, Array], array: Array | None) -> Array | None:
    """The same view of the array that stands in for the owner of its memory; an array without such as it is."""
    owner = None if array is None else _owner(array)
    new = bound.get(id(owner))
    if array is None or new is None:
        return array
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
        parts = [_map(part, function) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    return None if structure is None else function(structure)
