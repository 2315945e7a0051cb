"""State files of trainings: the weights, how far they are, and which data and settings they belong to."""

import json
import warnings
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from zdckeras.data.atomic import atomic_path, is_npz, open_npz
from zdckeras.mapped import in_blocks

RECORD = "record"  # member with JSON, beside the variables v0, v1, ...
NAMED = 3  # differences that a message names
_BEGUN = WeakKeyDictionary()  # optimizer -> state file, settings as its training left and as it began with them


class StateError(ValueError):
    """A state file that is damaged, or of another training; the message names the file."""


def digest(arrays: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits for the content of named arrays: names, types, shapes and every value.

    Arguments:
        arrays: name -> (N, ...), in memory or read in blocks of rows.

    Example:
        >>> a, b = np.arange(4.0), np.arange(4.0)
        >>> digest({"x": a}) == digest({"x": b}), digest({"x": a}) == digest({"x": b[::-1]})
        (True, False)
    """
    found = blake2b(digest_size=8)
    for name in sorted(arrays):
        values = arrays[name]
        values = values if hasattr(values, "shape") else np.asarray(values)
        found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        for _, block in in_blocks(values):
            found.update(np.asarray(block).tobytes())
    return found.hexdigest()


def identity(batches, optimizer: keras.optimizers.Optimizer, path: Path) -> dict[str, Any]:
    """What a training depends on beside its model: data, batches, noise and optimizer, as plain values by name.

    Arguments:
        batches: `Batches`; put back to the first epoch.
        optimizer: compiled, as it is before the first step, or as a training of the same state file left it: then as it
            was before, since callbacks change rates.
        path: of the state file.
    """
    batches.start_epoch(0)
    noise = {**(batches.uniform or {}), **(batches.normal or {})}
    found = {"data": digest(batches.arrays), "rows": batches.rows, "batch size": batches.batch_size,
             "seed": batches.seed, "noise": ", ".join(f"{name} {tuple(shape)}" for name, shape in noise.items())}
    if batches.drawn:
        found["noise of the device"] = ", ".join(f"{name} {tuple(shape)}" for name, shape in batches.drawn.items())
    settings = _settings(optimizer)
    *known, begun = _BEGUN.get(optimizer, (None,))
    return json.loads(json.dumps(found, default=str)) | (begun if known == [path.resolve(), settings] else settings)


def keep_identity(found: dict[str, Any], optimizer: keras.optimizers.Optimizer, path: Path) -> None:
    """Remember what an optimizer was when a training began, as it ends: it may go on in the same session.

    Arguments:
        found: `identity` of the training.
        optimizer: as the training left it.
        path: of the state file.
    """
    begun = {name: value for name, value in found.items() if name.startswith("optimizer")}
    _BEGUN[optimizer] = (path.resolve(), _settings(optimizer), begun)


def _settings(optimizer):
    """Of an optimizer, as plain values by dotted name."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer), default=str))
    return dict(_flat(config, "optimizer"))


def write_left(path: str | Path, values: list[np.ndarray] | None, further: dict) -> None:
    """Add to a state what callbacks made of the weights when the training ended, and to its record what it says.

    Arguments:
        path: of the state file.
        values: of the variables of the model, or None where they are those of the state.
        further: of the record.
    """
    with open_npz(path) as state:
        record, count = json.loads(str(state[RECORD])) | further, sum(name.startswith("v") for name in state.files)
        trained = [state[f"v{i}"] for i in range(count)]
    write_state(path, trained, record, values)


def write_state(path: str | Path, values: list[np.ndarray], record: dict,
                left: list[np.ndarray] | None = None) -> None:
    """Write values of variables and a record of plain values, whole or not at all.

    Types that NumPy does not know, such as bfloat16, are written as float32, which holds their values exactly.

    Arguments:
        path: of the file.
        values: of the variables, in order.
        record: plain values by name.
        left: values of the model's variables, where callbacks changed them when the training had ended.
    """
    arrays = {f"{kind}{i}": value.astype("float32") if value.dtype.kind == "V" else value
              for kind, group in (("v", values), ("left", left or [])) for i, value in enumerate(group)}
    with atomic_path(path) as temporary:
        np.savez(temporary, **{RECORD: np.array(json.dumps(record))}, **arrays)


def read_state(path: str | Path, variables: list | None = None, left: bool = False) -> dict:
    """The record of a state file, and, if variables are given, their values put into them.

    Arguments:
        path: of the file.
        variables: Keras variables, as many and of the shapes that were written.
        left: whether they get what callbacks left of them, if that is written, in place of what was trained.

    Raises:
        StateError: if the file is damaged, or holds other variables; then none has been touched.
    """
    try:
        if not is_npz(path):
            raise ValueError("no npz archive, empty or truncated")
        with open_npz(path) as state:
            record = json.loads(str(state[RECORD]))
            if not isinstance(record["epochs"], int) or not isinstance(record["history"], dict):
                raise ValueError("its record is not one of a training")
            kind = "left" if left else "v"
            names = [f"{kind}{i}" for i in range(sum(name.startswith(kind) for name in state.files))]
            values = [state[name] for name in names] if variables is not None else []
    except Exception as error:  # damaged files raise a dozen unrelated kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise StateError(f"{path}: expected the whole state of a training, received a damaged file ({reason}); remove "
                         "it to train anew.") from None
    if variables is not None and (values or not left):
        shapes, saved = [tuple(v.shape) for v in variables], [value.shape for value in values]
        if shapes != saved:
            raise StateError(f"{path} holds the state of another model: expected {len(shapes)} variables "
                             f"of shapes {shapes[:3]}..., received {len(saved)} of {saved[:3]}...")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return record


def check_identity(path: str | Path, record: dict, expected: dict[str, Any]) -> None:
    """Raise StateError if a state is of other data or settings than expected; warn if it does not say.

    Arguments:
        path: of the file, for the message.
        record: as from `read_state`.
        expected: as from `identity`.
    """
    if "training" not in record:
        warnings.warn(f"{path} does not say which data and settings it belongs to; it is taken up as it is.",
                      stacklevel=4)
        return
    found = record["training"]
    other = [f"{name} {expected.get(name)!r}, received {found.get(name)!r}"
             for name in dict.fromkeys([*expected, *found]) if expected.get(name) != found.get(name)]
    if other:
        raise StateError(f"{path} is the state of another training: expected {'; '.join(other[:NAMED])}. Give another "
                         "file, or remove this one to train anew.")


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted name, plain value); names that Keras counts up are left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("name", "module", "registered_name", "build_config"):
                yield from _flat(item, name if key == "config" else f"{name}.{key}")
    else:
        yield name, value
