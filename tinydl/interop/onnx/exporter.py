"""A model to a file: what its forward does at the door of the primitives, as nodes of ONNX.

The model runs twice, on batches of two sizes and of other numbers. What differs in shapes is the batch, and
the graph says so; what differs in numbers that did not go through the door would be a wrong constant, and is
refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import nn
from ...devices import move, on_host
from ...engine.core import Array, Primitive, Tensor, no_grad, state
from ...nn.module import Module
from .emissions import EMISSIONS, emission_of
from .operators import UnsupportedError
from .storing import store
from .writer import NUMBERS, Call, Writer

SIZES = {"calls", "index", "rows", "shape", "size", "sizes"}
"""Settings that may follow the batch; an emission looks at both runs."""


class _Traced(NamedTuple):
    calls: list[Call]
    inputs: list[Array]
    outputs: list[Array]


class _Tracer:
    """Notes calls at the door; see debug.py. Those of a layer that ONNX may have an operator for are one."""

    eager = True

    def __init__(self, model: Module, inputs: Sequence[Array]) -> None:
        self.paths = {id(module): name for name, module in model.named_modules()}
        self.weights = {id(x.array) for x in (*model.parameters(), *model.buffers())}
        self.modules: list[tuple[Module, int, str]] = []  # that run, the number of calls before, path
        self.ends: tuple[Any, list[Array], list[Array]] = None, [], []  # a layer, what it took and gave
        self.calls: list[Call] = []
        self.values = set(map(id, inputs))  # what came through the door; alive in calls

    def run(self, primitive: Primitive, arrays: list[Any], settings: dict[str, Any]) -> Any:
        results = primitive.function(*arrays, **settings)
        outputs = list(results) if isinstance(results, tuple) else [results]
        if primitive.writes(len(arrays), settings):
            raise UnsupportedError(
                f"onnx.export: {primitive.key} writes into a tensor; a graph has values only"
            )
        path = self.modules[-1][2] if self.modules else ""
        self.calls.append(Call(primitive.key, arrays, outputs, settings, path))
        self.values |= set(map(id, outputs))
        return results

    def enter(self, module: Module) -> None:
        path = self.paths.get(id(module)) or (self.modules[-1][2] if self.modules else "")
        self.modules.append((module, len(self.calls), path))

    def ran(self, module: Module, inputs: Any, output: Any) -> None:
        """A forward hook."""
        self.ends = module, _arrays(inputs), _arrays(output)

    def leave(self) -> None:
        module, first, path = self.modules.pop()
        (ran, inputs, outputs), calls = self.ends, self.calls[first:]
        if ran is not module or len(module._forward_hooks) > 1 or module._forward_pre_hooks or not calls:
            return
        made = {id(y) for call in calls for y in call.outputs}
        outside = {id(x): x for call in calls for x in call.inputs if id(x) not in made | self.weights}
        own = set(map(id, inputs))
        # a state that came by keyword, say, would be lost: but for its inputs a layer has weights and numbers
        constants = [x for at, x in outside.items() if at not in own | self.values and x is not None]
        if outside.keys() & self.values <= own and not any(x.ndim and x.any() for x in constants):
            layer = {"layer": module, "calls": calls}
            self.calls[first:] = [Call(_key(module), inputs, outputs, layer, path)]

    def site(self) -> None:
        return None


def _key(module: Module) -> str:
    """Of a layer in the table of emissions; a subclass may compute something else."""
    name = type(module).__name__
    return f"nn.{name}" if getattr(nn, name, None) is type(module) else ""


def _flat(given: Any) -> list[Any]:
    """What is in tuples of tuples."""
    return [x for part in given for x in _flat(part)] if isinstance(given, (tuple, list)) else [given]


def _arrays(given: Any) -> list[Array]:
    return [x.array for x in _flat(given) if isinstance(x, Tensor)]


def export(
    model: Module,
    example_inputs: Any,
    path: str | os.PathLike[str],
    opset: int = 17,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = True,
    normalization: tuple[Any, Any] | None = None,
    softmax: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a model in eval mode as an ONNX file, whole or not at all. Weights beyond 2 GB lie beside it, in
    `path`.digest.data. Layers are ONNX's operators where the opset has them, all else is what the forward
    did, call by call. A model on a GPU stays there; its numbers are copied.

    Args:
        example_inputs: a tensor or array, or a tuple of them, whose first dims are the batch.
        opset: 13 to 22 of the ai.onnx domain; younger operators are written out in older ones.
        dynamic_batch: the file takes batches of any size; otherwise that of the example.
        normalization: (mean, standard deviation) of the channels (C,) of the first input, made part of the
            graph.
        softmax: the output over dim 1 as probabilities.
        metadata: names and values that the file holds beside the graph: classes, say.

    Weights keep their names of state_dict, nodes those of their modules.

    Raises:
        ValueError: a model in training mode; an opset out of range; names that do not fit.
        UnsupportedError: an operation that ONNX lacks, or that depends on more of the input than its shape
            outside of tinydl's operations.
    """
    from onnx import helper

    if not 13 <= opset <= 22:
        raise ValueError(f"onnx.export: expected an opset from 13 to 22, got {opset}")
    training = [name or type(module).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise ValueError(
            f"onnx.export: expected a model in eval mode, got {training[0]} in training: dropout and batch "
            "statistics are no part of a file; call model.eval()"
        )
    given = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    arrays = [on_host(x) for x in given]
    first = _trace(model, arrays)
    try:
        second = _trace(model, [_other(x, dynamic_batch) for x in arrays])
    except (ValueError, TypeError, IndexError) as error:  # among them this library's own of shapes
        raise UnsupportedError(
            "onnx.export: the model: expected a forward that takes inputs of these shapes whatever their "
            f"numbers, got: {error}"
        ) from error
    writer = Writer(opset, arrays[0].shape[0] if dynamic_batch else None)
    ins = _names("input", input_names, len(first.inputs))
    outs = _names("output", output_names, len(first.outputs))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        writer.weight(name, tensor.array)
    for name, array in zip(ins, first.inputs, strict=True):
        writer.input(name, array)
    if normalization is not None:
        writer.normalize(first.inputs[0], *normalization)
    _emit(writer, first.calls, second.calls)
    for name, array, other in zip(outs, first.outputs, second.outputs, strict=True):
        writer.end(name, array, other, softmax)
    nodes, stored = writer.needed(outs)
    graph = helper.make_graph(
        nodes,
        "tinydl",
        list(map(_described, ins, first.inputs, second.inputs)),
        list(map(_described, outs, first.outputs, second.outputs)),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="tinydl")
    made.ir_version = helper.find_min_ir_version_for(list(made.opset_import))
    helper.set_model_props(made, {key: str(value) for key, value in (metadata or {}).items()})
    store(made, stored, Path(path))


def _emit(writer: Writer, calls: list[Call], twins: list[Call]) -> None:
    if [call.key for call in calls] != [call.key for call in twins]:
        raise writer.refused("expected the same operations for every batch, got others")
    for call, twin in zip(calls, twins, strict=True):
        writer.path, emission = call.path, emission_of(call.key)
        if emission is None:
            raise writer.refused(f"{call.key} has no form in ONNX")
        for name, setting in call.settings.items():
            if name not in SIZES and setting != twin.settings[name]:
                raise writer.refused(
                    f"{call.key}: expected one {name} for every batch, got {setting} and others"
                )
        if not writer.call(call, twin, emission):
            _emit(writer, call.settings["calls"], twin.settings["calls"])


def _described(name: str, array: Array, twin: Array) -> Any:
    """A value of the graph, with the batch where the runs differ."""
    from onnx import helper

    shape = [n if n == m else "batch" for n, m in zip(array.shape, twin.shape, strict=True)]
    return helper.make_tensor_value_info(name, NUMBERS[array.dtype], shape)


def _trace(model: Module, arrays: Sequence[np.ndarray]) -> _Traced:
    device = next((x.device for x in (*model.parameters(), *model.buffers())), "cpu")
    inputs = [Tensor(move(x, device)) for x in arrays]
    tracer = _Tracer(model, _arrays(inputs))
    hooks = [x.register_forward_hook(tracer.ran) for x in model.modules() if _key(x) in EMISSIONS]
    try:
        with no_grad(), state.replaced(tracer=tracer):
            outputs = model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for y in _flat(outputs):
        if not isinstance(y, Tensor):
            raise ValueError(f"onnx.export: expected a tensor or a tuple of them, got {type(y).__name__}")
    return _Traced(tracer.calls, _arrays(inputs), _arrays(outputs))


def _other(x: np.ndarray, grow: bool) -> np.ndarray:
    """Other numbers of the same kind, one sample more."""
    size = (x.shape[0] + 1, *x.shape[1:]) if grow else x.shape
    rng = np.random.default_rng(0)
    if x.dtype.kind == "f":
        return np.asarray(rng.uniform(-1, 1, size), x.dtype)
    return np.asarray(rng.choice(x.ravel(), size) if x.size else np.zeros(size), x.dtype)


def _names(kind: str, given: Sequence[str] | None, count: int) -> list[str]:
    names = list(given or ([kind] if count == 1 else [f"{kind}_{i}" for i in range(count)]))
    if len(set(names)) != count:
        raise ValueError(f"onnx.export: expected {count} {kind} names, got {names}")
    return names
