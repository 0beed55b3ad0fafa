"""ONNX in and out: a graph of the ai.onnx domain becomes a Module, a Module a graph.

    model = td.interop.onnx.load("resnet.onnx")
    logits = model(x)
    td.interop.onnx.export(model, x, "copy.onnx")

`load` reads the file (graph.py), looks every operator up (operators/) and says at once which are missing.
What the graph computes goes through tinydl's operations, so it has derivatives of every order, records, and
its weights train. `export` writes what a forward does at the door of the primitives (exporter.py,
emissions/).
"""

from .exporter import export
from .graph import Graph, load
