"""Smaller ONNX files: weights in half precision, or matrices of whole numbers of eight bits."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from zdckeras.backend import EXACT
from zdckeras.backend.tensorflow_onnx import all_nodes, graphs_within

PRECISIONS = {"float32": 0.01, "float16": 0.05, "int8": 0.5}  # -> share of the light that may be elsewhere
LARGE = 1024  # weights that are worth it
SHAPING = {"Gather", "Concat", "Unsqueeze", "Reshape", "Transpose", "Mul", "Slice", "Squeeze", "Identity"}


def reduced(model: Any, precision: str) -> Any:
    """An ONNX model in another precision.

    float16: weights are stored in half precision and computed with in single; half the size, the same speed.
    int8: products with large weights are of whole numbers from -127 to 127, with a scale for each column of the weight
    and one for the rows of a call; a quarter of the size. What has to be exact, such as noise of the cells and sums, is
    so in both.

    Arguments:
        model: `onnx.ModelProto`.
        precision: one of `PRECISIONS`.

    Returns:
        A model; for float32 the same.

    Raises:
        ValueError: for another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Expected a precision of {', '.join(PRECISIONS)}, received {precision!r}.")
    if precision == "float32":
        return model
    return in_half(model) if precision == "float16" else in_eight_bits(model)


def in_half(model: Any) -> Any:
    """Weights as float16, which a Cast makes float32 again as the file is opened.

    Those of exact products only where that changes nothing, as in the generators that come with this package.
    """
    import onnx
    from onnx.numpy_helper import from_array, to_array

    exact, graph = _inputs_of_exact(model.graph), model.graph
    for entry in list(graph.initializer):
        if entry.data_type != onnx.TensorProto.FLOAT or np.prod(entry.dims, dtype=int) < LARGE:
            continue
        values = to_array(entry)
        with np.errstate(over="ignore"):
            half = values.astype("float16")
        if not np.isfinite(half).all() or (entry.name in exact and (half != values).any()):
            continue
        graph.initializer.remove(entry)
        graph.initializer.append(from_array(half, f"{entry.name}__half"))
        graph.node.insert(0, onnx.helper.make_node("Cast", [f"{entry.name}__half"], [entry.name],
                                                   name=f"{entry.name}__cast", to=onnx.TensorProto.FLOAT))
    return model


def in_eight_bits(model: Any) -> Any:
    """Products with large weights by MatMulInteger, the other factor rounded in every call."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = {entry.name for entry in model.graph.initializer if np.prod(entry.dims, dtype=int) >= LARGE}
    chosen = [node.name for node in model.graph.node
              if node.op_type == "MatMul" and node.input[1] in large and EXACT not in node.name]
    if not chosen:
        return model
    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "before.onnx", Path(scratch) / "after.onnx"
        onnx.save(model, before)
        quantize_dynamic(before, after, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
                         nodes_to_quantize=chosen, extra_options={"MatMulConstBOnly": True})
        model = onnx.load(after)
    _sort(model.graph)
    return model


def _sort(graph) -> None:
    """Put nodes behind what they read, branches and loops included: the quantiser does not look into these."""
    made_by = {name: k for k, node in enumerate(graph.node) for name in node.output}
    nodes, order, seen = list(graph.node), [], set()
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            k = stack[-1]
            wanted = {name for inner in graphs_within(nodes[k]) for node in all_nodes(inner) for name in node.input}
            before = {made_by[name] for name in {*nodes[k].input, *wanted} if name in made_by} - seen - {k}
            if before:
                stack += sorted(before)
                continue
            stack.pop()
            if k not in seen:
                seen.add(k)
                order.append(nodes[k])
    del graph.node[:]
    graph.node.extend(order)


def _inputs_of_exact(graph) -> set:
    """Names of what goes into exact products, in a graph and those within it, also by way of other operations."""
    nodes = list(all_nodes(graph))
    wanted = {name for node in nodes if node.op_type == "MatMul" and EXACT in node.name for name in node.input}
    makers = {name: node for node in nodes for name in node.output}
    open_ones = list(wanted)
    while open_ones:
        node = makers.get(open_ones.pop())
        for name in node.input if node is not None and node.op_type in SHAPING else ():
            if name not in wanted:
                wanted.add(name)
                open_ones.append(name)
    return wanted
