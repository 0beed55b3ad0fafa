"""Recording: run a step once, keep its kernel calls with their arrays, then replay them without a tape.

The recorder stands at the door of the primitives. It notes each call, where its arrays lie, and every buffer
that it takes from the allocator, but holds none of them: recording takes no more memory than an eager step.
When the step is over, the calls that matter are bound to memory of their own (plan.py), and from then on a
replay is a list of kernel calls: no tape, no wrapping, no rules, no allocation; and the same bits as an eager
step. The first replay makes less of that list: on a GPU one CUDA graph, on the processor one compiled call
for all kernels in a row that are nothing but loops (jobs.py).

What varies between steps must be an array that goes through the door: the arguments, parameters, buffers,
the counters of the random generators. A Python number or a branch inside the step is a constant of the
recording. The modes (`training`) and settings of the modules that ran, and which tensors require grad, are
asked before a replay: where they are others than when the step was recorded, it is recorded anew.
"""

from __future__ import annotations

import functools
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tinydl_kernels.cpu import jobs
from tinydl_kernels.machine import dispatch, memory
from tinydl_kernels.machine.errors import GraphError

from ..devices import NAMES, Graph
from ..engine.core import Array, Primitive, Tensor, state
from ..engine.promotion import checked, native
from ..engine.tape import Version
from .gradients import Gradients, Noted
from .made import Made
from .normalization import join_norm, split_norm
from .outside import Outside, Seen
from .plan import Buffer, Call, Place, address, fuse, join_relu, lay_out, live, owner, view
from .recompute import recompute
from .signature import signature

RECORDINGS = 64
"""How many recordings a step keeps: those that were used last."""


class _Recorder:
    """What a step does, noted at the door."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.buffers: list[Buffer] = []  # in the order in which the allocator gave them
        # id -> a buffer and its place in that order
        self.number_of: dict[int, tuple[weakref.ref[Array], int]] = {}
        self.made = Made()
        self.overwritten: set[int] = set()  # ids of arrays that are written, which the calls keep alive
        self.written: list[Version] = []
        self.guards: list[Callable[[], None]] = []  # what a replay asks before it begins
        self.gradients = Noted()
        self.seen = Seen()

    def supply(self, shape: tuple[int, ...], dtype: np.dtype, like: Array) -> Array:
        """A buffer for a kernel's output or scratch."""
        buffer = memory.fresh(shape, dtype, like)
        self.number_of[id(buffer)] = weakref.ref(buffer), len(self.buffers)
        self.buffers.append(Buffer(buffer.shape, buffer.dtype, buffer.nbytes, memory.array_module(buffer)))
        return buffer

    def run(
        self, primitive: Primitive, tensors: Sequence[Any], arrays: list[Any], settings: dict[str, Any]
    ) -> Any:
        """Run a primitive and note it."""
        before = len(self.buffers)
        positions = primitive.writes(len(tensors), settings)
        for i in positions:
            if arrays[i] is not None:
                self.made.written(primitive.name, arrays[i])
                self.overwritten.add(id(owner(arrays[i])))
        if state.tracer is None:
            results = primitive.function(*arrays, **settings)
        else:
            results = state.tracer.run(primitive, arrays, settings)
        arguments = [self.place(array) for array in arrays]
        for x, place in zip(tensors, arguments, strict=True):
            if x is not None and place is x.array:
                self.seen.found(x)
        if primitive.view:
            return results
        for out in results if isinstance(results, tuple) else (results,):
            if out is not None and not isinstance(self.place(out), Place):
                raise GraphError(
                    f"{primitive.name}: expected outputs in the allocator's buffers, got an array of its own"
                )
        self.written += [tensors[i].version for i in positions if tensors[i] is not None]
        self.calls.append(
            Call(primitive, arguments, settings, dispatch.override(), range(before, len(self.buffers)))
        )
        return results

    def has_written(self, x: Tensor) -> bool:
        """Has the step written into a tensor so far?"""
        return id(owner(x.array)) in self.overwritten

    def place(self, array: Array | None) -> Any:
        """Where `array` lies among the buffers; an array from outside, or None, as it is."""
        base = None if array is None else owner(array)
        ref, number = self.number_of.get(id(base), (None, 0))
        if array is None or ref is None or ref() is not base:  # a dead buffer's id may have come again
            return array
        offset = 0 if array is base else address(array) - address(base)
        return Place(number, offset, array.shape, array.strides, array.dtype, array is base)


class _Call(NamedTuple):
    """A kernel call on its arrays."""

    backend: str | None
    run: Callable[[], Any]
    buffers: list[Array]  # that it takes from the allocator, in this order

    def __call__(self) -> None:
        supply, tracer = iter(self.buffers), state.tracer
        with memory.supplied_by(lambda shape, dtype, like: next(supply)), dispatch.use(self.backend):
            self.run() if tracer is None else tracer.replay(self.run)


class _Binding:
    """Gives the array of a recording that stands in for an array of its step: a place in the planned buffers,
    a copy where the array is (a view of) one in `copied`, else the array itself.
    """

    def __init__(self, recorder: _Recorder, planned: dict[int, Array], copied: Sequence[Array]) -> None:
        self.recorder, self.planned = recorder, planned
        bases = {id(base): base for base in map(owner, copied)}
        self.copies = {key: (base, base.copy(order="K")) for key, base in bases.items()}

    def __call__(self, array: Any) -> Any:
        place = array if isinstance(array, Place) else self.recorder.place(array)
        if isinstance(place, Place):
            base = self.planned[place.buffer]
            return base if place.whole else view(base, place.offset, place.shape, place.strides, place.dtype)
        base, copy = (None, None) if array is None else self.copies.get(id(owner(array)), (None, None))
        if base is None:
            return array
        if array is base:
            return copy
        return view(copy, address(array) - address(base), array.shape, array.strides, array.dtype)


def _simplified(recorder: _Recorder, live_out: set[int]) -> list[Call]:
    """The calls that are needed, relu and elementwise chains joined."""
    calls = join_relu(live(recorder.calls, live_out), recorder.buffers, live_out)
    calls = join_norm(split_norm(calls, recorder.buffers), recorder.buffers, live_out)
    return fuse(calls, recorder.buffers, live_out)


class _Recording:
    """A recorded step, bound to its static arrays."""

    def __init__(
        self,
        recorder: _Recorder,
        inputs: list[Tensor],
        arrays: list[Array],
        outputs: Any,
        sparing: bool,
    ) -> None:
        self.inputs = arrays  # of the inputs before the step, which may have bound them to others
        self.written, self.guards = recorder.written, recorder.guards
        changed, found = recorder.gradients.leaves(inputs)
        results = [x.array for x in _tensors(outputs)]
        results += [leaf._grad.array for leaf in changed if leaf._grad is not None]
        live_out = {place.buffer for array in results if isinstance(place := recorder.place(array), Place)}
        calls = _simplified(recorder, live_out)
        if sparing:
            calls = recompute(calls, recorder.buffers, live_out)
        memory.release()
        planned = lay_out(recorder.buffers, calls, live_out)
        bind = _Binding(recorder, planned, [g.array for _, g in found if g is not None])
        self.outputs = _map(outputs, lambda x: Tensor(bind(x.array)))
        alive = recorder.seen.alive(inputs)
        self.outside = Outside(alive, recorder.seen.structures())
        self.renewed = recorder.made.renewed([x for x, *_ in alive], results)
        self.calls = [
            _Call(call.backend, call.bound(bind), [planned[n] for n in call.buffers]) for call in calls
        ]
        self.parts: list[Callable[[], Any]] = []  # the same for replays on the processor
        self.gradients = Gradients(changed, found, recorder.overwritten, bind)
        self.device = _device(recorder.buffers, calls)
        self.graph: Graph | None = None

    def replay(self, arguments: list[Tensor]) -> Any:
        for guard in self.guards:
            guard()
        self.gradients.bring()
        for array, before in self.renewed:
            array[...] = before
        for static, given in zip(self.inputs, arguments, strict=True):
            static[...] = given.array
        if state.tracer is not None:
            self._launch()
        elif self.device != "cpu":
            self.graph = self.graph or Graph(self._launch)
            self.graph.launch()
        elif self.parts:
            for part in self.parts:
                part()
        else:
            self.parts = jobs.compiled(self.calls)
        for version in self.written:
            version.count += 1
        self.gradients.leave()
        self.outside.leave()
        return _map(self.outputs, lambda x: Tensor(x.array.copy()))

    def _launch(self) -> None:
        """The kernel calls, one by one."""
        for call in self.calls:
            call()


def _device(buffers: Sequence[Buffer], calls: Sequence[Call]) -> str:
    """The device of all calls. GraphError if there are two."""
    seen = {}
    for call in calls:
        for x in call.arguments:
            if x is not None:
                device = (
                    dispatch.device_of(x)
                    if not isinstance(x, Place)
                    else NAMES[buffers[x.buffer].module is not np]
                )
                seen[device] = call.primitive.name
    if len(seen) > 1:
        places = ", ".join(f"{name} on {device}" for device, name in seen.items())
        raise GraphError(f"record: expected a step on one device, got {places}")
    return next(iter(seen), "cpu")


class Recorded:
    """A step that runs eagerly once for each signature of its arguments, and is replayed from then on.

    The `RECORDINGS` that were used last are kept. On a class it is a method, recorded for each instance.
    """

    def __init__(self, step: Callable[..., Any], recompute: bool = False) -> None:
        functools.update_wrapper(self, step)
        self.step, self.recompute = step, recompute
        # by signature, those used last at the end; several differ in what the step depends on besides
        self.recordings: OrderedDict[Any, list[_Recording]] = OrderedDict()
        self._of: dict[int, tuple[weakref.ref[Any], Recorded]] = {}  # by the id of the instance
        self._crowded = False
        self._lock = threading.Lock()  # the static arrays serve one thread at a time

    def __call__(self, *arguments: Any) -> Any:
        if state.recorder is not None:
            raise GraphError("record: expected no recorded step inside a recorded step")
        given = [_tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
        tensors = [x for x in given if isinstance(x, Tensor)]
        with self._lock:
            if state.tracer is not None and state.tracer.eager:
                return self._run(given, tensors, None)
            key = signature(given)
            known = self.recordings.get(key, [])
            for recording in known:
                if recording.outside.fits():
                    self.recordings.move_to_end(key)
                    if recording is not known[-1]:
                        known.remove(recording)
                        known.append(recording)
                    return recording.replay(tensors)
            return self._run(given, tensors, key)

    def __get__(self, instance: Any, owner: type) -> Recorded:
        """The step of an instance, which it does not keep alive."""
        if instance is None:
            return self
        ref, recorded = self._of.get(id(instance), (None, self))
        if ref is None or ref() is not instance:
            ref = weakref.ref(instance, functools.partial(_forget, weakref.ref(self), id(instance)))
            recorded = Recorded(_Method(self.step, ref), self.recompute)
            self._of[id(instance)] = ref, recorded
        return recorded

    def _run(self, given: list[Any], tensors: list[Tensor], key: Any) -> Any:
        """Run the step eagerly on copies of its tensors, and keep what it does if there is a key."""
        static = [Tensor(x.array.copy()).requires_grad_(x.requires_grad) for x in tensors]
        arrays = [x.array for x in static]
        replaced = iter(static)
        arguments = [next(replaced) if isinstance(x, Tensor) else x for x in given]
        if key is None:
            return _map(self.step(*arguments), lambda x: Tensor(x.array.copy()))
        recorder = _Recorder()
        with state.replaced(recorder=recorder), memory.supplied_by(recorder.supply):
            outputs = self.step(*arguments)
        for x in _tensors(outputs):
            if not isinstance(x, Tensor):
                raise GraphError(
                    "record: expected the step to return tensors, tuples, lists or dicts of them, got "
                    f"{type(x).__name__}"
                )
        results = _map(outputs, lambda x: Tensor(x.array.copy()))
        self._keep(key, _Recording(recorder, static, arrays, outputs, self.recompute))
        return results

    def _keep(self, key: Any, recording: _Recording) -> None:
        """Keep a recording, and drop the one that was not used for longest if it is one too many."""
        self.recordings.setdefault(key, []).append(recording)
        self.recordings.move_to_end(key)
        if sum(map(len, self.recordings.values())) > RECORDINGS:
            if not self._crowded:
                self._crowded = True
                name = getattr(self.step, "__qualname__", type(self.step).__name__)
                warnings.warn(
                    f"record: {name} was recorded more than {RECORDINGS} times: a constant that varies is "
                    "better given as a tensor",
                    RuntimeWarning,
                    stacklevel=4,
                )
            oldest = next(iter(self.recordings))
            del self.recordings[oldest][0]
            if not self.recordings[oldest]:
                del self.recordings[oldest]


class _Method:
    """A function bound to an instance that it does not keep alive."""

    def __init__(self, function: Callable[..., Any], instance: weakref.ref[Any]) -> None:
        functools.update_wrapper(self, function)
        self.function, self.instance = function, instance

    def __call__(self, *arguments: Any) -> Any:
        return self.function(self.instance(), *arguments)


def _tensor(array: np.ndarray) -> Tensor:
    """An argument that NumPy holds, of whatever subclass and byte order."""
    checked(array.dtype, "record")
    return Tensor(native(np.asarray(array)))


def _forget(recorded: weakref.ref[Recorded], number: int, dead: weakref.ref[Any]) -> None:
    """The end of an instance is the end of its recordings."""
    method = recorded()
    if method is not None and method._of.get(number, (None,))[0] is dead:
        del method._of[number]


def record(step: Callable[..., Any] | None = None, *, recompute: bool = False) -> Any:
    """Record `step(*arguments)` at its first call and replay it later: the same results, bit for bit, in less
    time.

    Arguments are tensors or arrays, whose values may differ from call to call; anything else is a constant
    (equal means of one type and the same bits: 0.0 is not -0.0, (2,) not (2.0,), but NaN is NaN), and a new
    value, a new shape or another scope (backend, grad mode, matmul precision) is recorded anew; so is a
    change of the structural options of an optimizer that the step uses, of the modes of the modules that ran
    (train, eval), their numbers, words, layers and hooks, and of which tensors require grad. The step works
    on copies of the tensors: their own `.grad` stays as it is. It returns tensors (or tuples, lists, dicts of
    them, or None); a replay returns copies. The 64 recordings that were used last are kept, and a warning
    tells of the first that is dropped.
    On a method it records for each instance, which is no argument but a constant.

    A replay refuses a `.grad` that is there where the recorded step found none, and the other way round, and
    a tensor that was bound to another array since. It leaves `.grad` in an array of the recording, which the
    next replay writes again. What the step makes (`td.zeros`) and writes into begins anew in each replay; if
    it lives on, as state that was not there before the step, recording it is refused.

    With `recompute` a recording takes less memory and more time, for the same bits: of what the step keeps
    for its backward passes, cheap outputs (batch normalization, relu and all else that goes element by
    element) are dropped where it takes the most and computed again before they are read; random numbers are
    not drawn again. The first call runs eagerly in any case, and takes what an eager step takes.
    `@td.record(recompute=True)` decorates.
    """
    if not isinstance(recompute, bool):
        raise TypeError(f"record: expected recompute to be True or False, got {recompute!r}")
    if step is None:
        return functools.partial(record, recompute=recompute)
    return Recorded(step, recompute)


def _tensors(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, (tuple, list)):
        return [x for part in structure for x in _tensors(part)]
    return [] if structure is None else [structure]


def _map(structure: Any, function: Callable[[Tensor], Any]) -> Any:
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, dict):
        return {key: _map(value, function) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        parts = [_map(part, function) for part in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    return None if structure is None else function(structure)
