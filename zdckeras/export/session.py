"""Sessions of ONNX Runtime, and what exported files say. Nothing here imports Keras: what runs a file does without."""

import json
import os
from pathlib import Path

ABOUT = "assets.extra/provenance.json"  # in the folder of a SavedModel's version
TAKES_IDS = {"takes_ids": "true"}  # what a file says whose generator takes the PDG id, which the file is not told
TOLD_IDS = {"takes_ids": "input"}  # and of which it is an input


def open_session(model: str | Path | bytes, threads: int = 1):
    """A session of ONNX Runtime on the CPU, from a file or its content."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else os.fspath(model), options,
                                        providers=["CPUExecutionProvider"])


def about_served(folder: str | Path) -> dict[str, str]:
    """What the folder of a SavedModel's version says it was made from; nothing if it does not say.

    Raises:
        ValueError: for a file that is damaged.
    """
    file = Path(folder) / ABOUT
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
    except ValueError:
        pass
    raise ValueError(f"{file}: expected a dictionary of text as JSON, received something else.")
