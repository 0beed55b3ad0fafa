"""Inference in ONNX Runtime, of the file that tinydl exports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tinydl.interop import onnx

from .cases import Arrays, Case
from .with_tinydl import evaluated

VERSION = onnxruntime.__version__
options = onnxruntime.SessionOptions()


def start(threads: int) -> None:
    options.intra_op_num_threads = threads


def arrays(result: Any) -> list[np.ndarray]:
    return result


def infer(case: Case, d: Arrays) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.export(evaluated(case, d), d["x"], path, dynamic_batch=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return {"": lambda: session.run(None, {given.name: d["x"]})}
