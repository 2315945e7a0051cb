"""Requests to TensorFlow Serving and its answers, as bytes: protocol buffers without the packages that define them."""

import struct
from collections.abc import Iterator, Mapping

import numpy as np

FLOAT, INT = 1, 3  # numbers of the types in a TensorProto
TYPES = {FLOAT: np.dtype("<f4"), INT: np.dtype("<i4")}
LISTED = {5: np.dtype("<f4"), 7: np.dtype("<i4")}  # fields of a TensorProto that hold values one by one


def varint(number: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first.

    Example:
        >>> varint(5), varint(300)
        (b'\\x05', b'\\xac\\x02')
    """
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, payload: bytes | int) -> bytes:
    """A field of a message: bytes (strings, messages, arrays) with their length, or a whole number."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def read_fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and content of the fields of a message, in their order.

    Raises:
        ValueError: for bytes that are no message.

    Example:
        >>> list(read_fields(field(1, b"zn") + field(3, 300)))
        [(1, b'zn'), (3, 300)]
    """
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _number(message, place)
        else:
            size, place = _number(message, place) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), place)
            if size < 0 or place + size > len(message):
                raise ValueError(f"Expected a protocol buffer, received bytes that stop making sense at {place}.")
            value, place = bytes(message[place : place + size]), place + size
        yield key >> 3, value


def _number(message, place):
    value, shift = 0, 0
    while place < len(message):
        byte = message[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
    raise ValueError("Expected a protocol buffer, received bytes that end within a number.")


def tensor(values: np.ndarray) -> bytes:
    """A TensorProto of float32 or int32 values; those that are all the same are written once.

    Raises:
        ValueError: for other types.
    """
    values = np.asarray(values)
    kind = {"f": FLOAT, "i": INT}.get(values.dtype.kind)
    if kind is None or values.dtype.itemsize != 4:
        raise ValueError(f"Expected float32 or int32, received {values.dtype}.")
    shape = b"".join(field(2, field(1, size)) for size in values.shape)
    head = field(1, kind) + field(2, shape)
    if kind == FLOAT and values.size and (values == values.flat[0]).all():
        return head + field(5, struct.pack("<f", values.flat[0]))
    return head + field(4, np.ascontiguousarray(values, TYPES[kind]).tobytes())


def read_tensor(message: bytes) -> np.ndarray:
    """The values of a TensorProto, whichever of its two ways of writing them was taken.

    Raises:
        ValueError: for other types than float32 and int32, or too few values.

    Example:
        >>> arrays = np.array([[1, 2]], "int32"), np.zeros(2, "float32")
        >>> [read_tensor(tensor(values)).tolist() for values in arrays]
        [[[1, 2]], [0.0, 0.0]]
    """
    shape, values, kind = [], np.zeros(0), 0
    for number, content in read_fields(message):
        if number == 1:
            kind = content
        elif number == 2:
            shape = [dict(read_fields(size)).get(1, 0) for part, size in read_fields(content) if part == 2]
        elif number == 4:
            values = np.frombuffer(content, TYPES.get(kind, np.dtype("u1")))
        elif number in LISTED and LISTED[number].kind == "f":
            values = np.append(values, np.frombuffer(content, LISTED[number]))
        elif number in LISTED:
            values = np.append(values, content if isinstance(content, int) else _numbers(content))
    if kind not in TYPES:
        raise ValueError(f"Expected float32 or int32 values, received type {kind}.")
    size = int(np.prod(shape))
    if 0 < len(values) < size:
        values = np.concatenate([values, np.full(size - len(values), values[-1])])  # the last one is repeated
    if len(values) != size:
        raise ValueError(f"Expected {size} values, received {len(values)}.")
    return values.astype(TYPES[kind]).reshape(shape)


def _numbers(packed):
    """Whole numbers of a packed field; negative ones have ten bytes."""
    values, place = [], 0
    while place < len(packed):
        value, place = _number(packed, place)
        values.append(value - (1 << 64) if value >> 63 else value)
    return values


def predict_request(inputs: Mapping[str, np.ndarray], signature: str = "serving_default", model: str = "") -> bytes:
    """A PredictRequest: what PredictionService/Predict of a server takes.

    Arguments:
        inputs: name -> values.
        signature: of the SavedModel.
        model: name under which the server knows it.

    Source:
        TensorFlow Serving, apis/predict.proto and apis/model.proto.
    """
    asked = field(1, model.encode()) + field(3, signature.encode())
    return field(1, asked) + b"".join(field(2, field(1, name.encode()) + field(2, tensor(values)))
                                      for name, values in inputs.items())


def read_response(message: bytes) -> dict[str, np.ndarray]:
    """The outputs of a PredictResponse: name -> values."""
    entries = (dict(read_fields(content)) for number, content in read_fields(message) if number == 1)
    return {entry[1].decode(): read_tensor(entry[2]) for entry in entries}


def warm_up(requests: list[bytes]) -> list[bytes]:
    """Records (PredictionLog) of `assets.extra/tf_serving_warmup_requests`, which a server answers before all others.

    Source:
        TensorFlow Serving, apis/prediction_log.proto and saved_model_warmup.md.
    """
    return [field(6, field(1, request)) for request in requests]
