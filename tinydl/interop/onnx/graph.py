"""Reading a graph and running it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...archives import check_regular, parsing
from ...engine.core import no_grad
from ...files import DataError
from ...nn.module import Buffer, Module, Parameter
from .operators import DTYPES, FLOATS, TABLE, Node, UnsupportedError, is_floating, missing, value

LARGEST = 1 << 31
"""Bytes of a file: protobuf reads no more. Larger weights lie beside it."""

NODES = 1 << 18
"""Of a graph, with its functions written out."""

FOLDED = 1 << 22
"""Elements of all values together that are computed once, when the graph is read."""

GROW = {
    *("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "EyeLike", "Pad", "Resize", "Upsample"),
    *(
        "CenterCropPad",
        "MaxUnpool",
        "Col2Im",
        "Dropout",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "QLinearConv",
    ),
    *("AveragePool", "LpPool", "MaxPool", "LRN", "DeformConv", "RoiAlign", "AffineGrid", "DFT", "STFT"),
    *("MelWeightMatrix", "QuantizeLinear", "DequantizeLinear"),
}
"""Operators whose results may have more elements than the sizes of their inputs multiplied: never computed
ahead, whatever a file says.
"""

PASSING = {
    *(
        "Identity",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Cast",
        "Split",
        "Slice",
        "Concat",
    )
}
"""A weight that goes through these is a weight still."""


def load(source: str | os.PathLike[str] | Any) -> Graph:
    """The model of a file (or a ModelProto) as a Module, whose forward takes the graph's inputs in order and
    returns its output, or a tuple of them.

    Stored floating numbers become Parameters where an operator trains them (weights of convolutions,
    products, norms; names with dots become modules, as in state_dict), else Buffers. Opsets 7 to the newest
    of the installed onnx; functions of the model and of the operators' definitions are written out.

    Raises:
        DataError: no ONNX model, or a damaged one; stored numbers outside of the model's folder.
        UnsupportedError: operators (all, with counts) or forms of them that are not there.
    """
    onnx = _onnx()
    if isinstance(source, onnx.ModelProto):
        return _read(source, "the model", None)
    path = Path(source)
    check_regular(path)
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: expected at most {LARGEST} bytes, got {path.stat().st_size}")
    model = onnx.ModelProto()
    with parsing(path, "no ONNX model"):
        try:
            model.ParseFromString(path.read_bytes())
        except Exception as error:  # of protobuf's own kinds, which differ from version to version
            raise ValueError(str(error)) from error
    return _read(model, str(path), path.parent)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("interop.onnx: expected the extra `onnx`: pip install tinydl[onnx]") from error
    return onnx


def _read(model: Any, who: str, folder: Path | None) -> Graph:
    with parsing(who, "a damaged ONNX model"):
        graph = model.graph
        if not graph.node and not graph.output:
            raise ValueError("expected a graph with nodes, got none")
        opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        opset = opsets.get("ai.onnx", 1)
        stored = {x.name: _array(x, folder) for x in graph.initializer}
        functions = {(f.domain, f.name): f for f in model.functions}
        nodes = list(_nodes(graph.node, opset, functions, iter(range(NODES))))
        if graph.sparse_initializer:
            raise ValueError("expected dense initializers, got sparse ones")
        inputs = [x.name for x in graph.input if x.name not in stored]
        outputs = [x.name for x in graph.output]
        _check_order(nodes, {*inputs, *stored}, outputs)
        absent = missing(nodes)
        if absent:
            raise UnsupportedError(f"{who}: operators that are not supported: {absent}")
        return Graph(nodes, stored, inputs, outputs, {x.key: x.value for x in model.metadata_props})


def _check_order(nodes: Sequence[Node], known: set[str], outputs: Sequence[str]) -> None:
    for node in nodes:
        for name in node.inputs:
            if name and name not in known:
                raise ValueError(f"{node}: expected a value {name!r} before it, got none")
        known |= set(node.outputs)
    for name in outputs:
        if name not in known:
            raise ValueError(f"expected an output {name!r}, got no node that gives it")


def _array(stored: Any, folder: Path | None) -> np.ndarray:
    """The numbers of a TensorProto; those that lie in another file only if it is below the model's folder."""
    from onnx import TensorProto, numpy_helper

    if stored.data_type == TensorProto.STRING:
        raise ValueError(f"{stored.name}: expected numbers, got text")
    if stored.data_location != TensorProto.EXTERNAL:
        return np.array(numpy_helper.to_array(stored))
    if folder is None:
        raise ValueError(f"{stored.name}: expected numbers in the model, which has no folder")
    where = {entry.key: entry.value for entry in stored.external_data}
    path = (folder / where["location"]).resolve()
    if folder.resolve() not in path.parents:
        at = where["location"]
        raise ValueError(f"{stored.name}: expected a file below the model's folder, got {at!r}")
    check_regular(path)
    kind = np.dtype(_dtype(stored.data_type))
    size = int(np.prod([int(n) for n in stored.dims], dtype=object)) * kind.itemsize
    offset, length = int(where.get("offset", 0)), int(where.get("length", size))
    if length != size or offset < 0 or offset + length > path.stat().st_size:
        raise ValueError(f"{stored.name}: expected {size} bytes at {offset} of {path.name}, got less or more")
    with path.open("rb") as file:
        file.seek(offset)
        numbers = np.frombuffer(file.read(length), kind.newbyteorder("<"))
    return numbers.astype(kind).reshape(tuple(stored.dims))


def _dtype(number: int) -> Any:
    if number not in DTYPES:
        raise ValueError(f"expected a dtype of {sorted(DTYPES)}, got {number}")
    return DTYPES[number]


# ---- Nodes, with the functions among them written out


def _nodes(
    protos: Any, opset: int, functions: dict[tuple[str, str], Any], room: Iterator[int], depth: int = 0
) -> Iterator[Node]:
    if depth > 32:
        raise ValueError("expected functions that end, got 32 inside of each other")
    for proto in protos:
        if next(room, None) is None:
            raise ValueError(f"expected at most {NODES} nodes with the functions written out, got more")
        node = _node(proto, opset)
        body = functions.get((proto.domain, proto.op_type))
        if body is None and node.kind not in TABLE and node.domain in ("", "ai.onnx"):
            body = _definition(node.kind, opset)
        if body is None:
            yield node
        else:
            yield from _nodes(_written_out(body, proto), _opset_of(body, opset), functions, room, depth + 1)


def _node(proto: Any, opset: int) -> Node:
    return Node(
        proto.op_type,
        proto.name,
        tuple(proto.input),
        tuple(proto.output),
        {a.name: _attribute(a) for a in proto.attribute},
        opset,
        proto.domain,
    )


def _attribute(attribute: Any) -> Any:
    from onnx import AttributeProto, TensorProto, helper

    if attribute.type == AttributeProto.TENSOR:
        return attribute.t if attribute.t.data_type == TensorProto.STRING else _array(attribute.t, None)
    found = helper.get_attribute_value(attribute)
    if isinstance(found, bytes):
        return found.decode()
    if attribute.type == AttributeProto.STRINGS:
        return [text.decode() for text in found]
    return list(found) if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS) else found


def _definition(kind: str, opset: int) -> Any:
    """The body by which ONNX defines an operator, or None."""
    from onnx import FunctionProto, defs

    try:
        schema: Any = defs.get_schema(kind, opset, "")
    except Exception:  # of a kind of its own, in the compiled module
        return None
    if not schema.has_function:
        return None
    body = FunctionProto()
    body.ParseFromString(schema.get_function_with_opset_version(max(schema.function_opset_versions)))
    usual = (a.default_value for a in schema.attributes.values())
    body.attribute_proto.extend(a for a in usual if a.name)
    return body


def _opset_of(body: Any, opset: int) -> int:
    return next((x.version for x in body.opset_import if x.domain in ("", "ai.onnx")), opset)


def _written_out(body: Any, call: Any) -> list[Any]:
    """The nodes of a function's body under the names of a call, with its attributes."""
    from onnx import AttributeProto, NodeProto

    given = {a.name: a for a in call.attribute}
    given = {a.name: a for a in body.attribute_proto} | given
    inputs = [*call.input, *[""] * (len(body.input) - len(call.input))]
    names = dict(zip(body.input, inputs, strict=False)) | dict(zip(body.output, call.output, strict=False))
    prefix = f"{call.op_type}/{'/'.join(call.output)}/"
    nodes = []
    for inner in body.node:
        node = NodeProto()
        node.CopyFrom(inner)
        for ends in (node.input, node.output):
            renamed = [names.get(name, prefix + name) if name else "" for name in ends]
            del ends[:]
            ends.extend(renamed)
        attributes = []
        for a in node.attribute:
            if a.ref_attr_name and a.ref_attr_name not in given:
                continue
            own = AttributeProto()
            own.CopyFrom(given[a.ref_attr_name] if a.ref_attr_name else a)
            own.name = a.name
            attributes.append(own)
        del node.attribute[:]
        node.attribute.extend(attributes)
        nodes.append(node)
    return nodes


# ---- Running


class Graph(Module):
    """A graph as a Module; made by `load`. `metadata` is what the file holds beside it."""

    def __init__(
        self,
        nodes: Sequence[Node],
        stored: dict[str, np.ndarray],
        inputs: Sequence[str],
        outputs: Sequence[str],
        metadata: dict[str, str],
    ) -> None:
        super().__init__()
        self.metadata = metadata
        self.input_names, self.output_names = list(inputs), list(outputs)
        self._arrays: dict[str, Any] = {"": None}  # values that are no tensors, and what is left out
        self._places: dict[str, tuple[Module, str]] = {}  # of tensors, by their names in the graph
        weights = _weights(nodes)
        for name, array in stored.items():
            if array.dtype in FLOATS:
                kind = Parameter if name in weights and array.ndim else Buffer
                self._keep(name, kind(array), True)
            else:
                self._arrays[name] = array
        self._calls = [(node, TABLE[node.kind]) for node in self._unfolded(nodes)]
        last = {name: i for i, (node, _) in enumerate(self._calls) for name in node.inputs}
        self._ends: list[list[str]] = [[] for _ in self._calls]
        for name, i in last.items():
            if name and name not in outputs:
                self._ends[i].append(name)

    def _keep(self, name: str, tensor: Parameter | Buffer, persistent: bool) -> None:
        """Register a tensor under its name, whose dots lead through modules."""
        module: Module = self
        *path, last = name.split(".") if all(name.split(".")) else [name.replace(".", "_")]
        for part in path:
            if part in module._modules:
                module = module._modules[part]
            elif hasattr(module, part):
                last, path = name.replace(".", "_"), []
                module = self
                break
            else:
                module.add_module(part, Module())
                module = module._modules[part]
        while hasattr(module, last):
            last += "_"
        if isinstance(tensor, Parameter):
            module.register_parameter(last, tensor)
        else:
            module.register_buffer(last, tensor, persistent)
        self._places[name] = module, last

    def _unfolded(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes that depend on inputs or weights; the values of the others are computed once."""
        rest, left = [], FOLDED
        parameters = {name for name, (m, last) in self._places.items() if last in m._parameters}
        moving = {*self.input_names, *parameters}
        for node in nodes:
            given = [self._value(name) for name in node.inputs if name and name not in moving]
            most = math.prod(max(math.prod(x.shape), 1) for x in given)
            if node.kind in GROW or most > left or any(name in moving for name in node.inputs):
                rest.append(node)
                moving |= set(node.outputs)
                continue
            with no_grad():
                results = TABLE[node.kind](node, [self._value(name) for name in node.inputs])
            for name, result in zip(node.outputs, results, strict=False):
                left -= math.prod(result.shape)
                if is_floating(result):
                    self._keep(name, Buffer(result.detach()), False)
                else:
                    self._arrays[name] = result
        return rest

    def _value(self, name: str) -> Any:
        if name in self._places:
            module, last = self._places[name]
            return getattr(module, last)
        return self._arrays[name]

    def forward(self, *inputs: Any) -> Any:
        """Tensors or arrays for the graph's inputs, in order."""
        if len(inputs) != len(self.input_names):
            raise TypeError(f"Graph: expected the inputs {self.input_names}, got {len(inputs)}")
        values: dict[str, Any] = dict(self._arrays)
        values.update({name: getattr(module, last) for name, (module, last) in self._places.items()})
        for name, given in zip(self.input_names, inputs, strict=True):
            values[name] = value(given)
        for (node, operator), ends in zip(self._calls, self._ends, strict=True):
            results = operator(node, [values[name] for name in node.inputs])
            values.update(zip(node.outputs, results, strict=False))
            for name in ends:
                del values[name]
        found = tuple(values[name] for name in self.output_names)
        return found if len(found) > 1 else found[0]

    def extra_repr(self) -> str:
        kinds = Counter(node.kind for node, _ in self._calls)
        return f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}; {dict(kinds)}"


def _weights(nodes: Sequence[Node]) -> set[str]:
    """The names that reach, through nothing but changes of shape, an input that its operator trains."""
    weights: set[str] = set()
    for node in reversed(nodes):
        trained = TABLE[node.kind].trained
        weights |= {name for i, name in enumerate(node.inputs) if i in trained}
        if node.kind in PASSING and weights & set(node.outputs):
            weights |= set(node.inputs)
    return weights


__all__ = ["Graph", "load"]
