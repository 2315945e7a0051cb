"""Sessions of ONNX Runtime. Nothing here imports Keras: what runs a file does without."""

import os
from pathlib import Path


def open_session(model: str | Path | bytes, threads: int = 1):
    """A session of ONNX Runtime on the CPU, from a file or its content."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else os.fspath(model), options,
                                        providers=["CPUExecutionProvider"])
