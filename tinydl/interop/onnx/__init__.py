"""ONNX in: a graph of the ai.onnx domain becomes a Module.

    model = td.interop.onnx.load("resnet.onnx")
    logits = model(x)

`load` reads the file (graph.py), looks every operator up (operators/) and says at once which are missing.
What the graph computes goes through tinydl's operations, so it has derivatives of every order, records, and
its weights train.
"""

from .graph import Graph, load
