"""Functions of tensors as ONNX models, through tf2onnx; runs under the TensorFlow backend only."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from zdckeras import backend
from zdckeras.backend import Tensor

UNSAFE = "TF2ONNX_CATCH_ERRORS"
LAST = 10**9  # end, at least, of a slice that goes to the end


def to_onnx(function: Callable, inputs: Mapping[str, np.ndarray], opset: int):
    """An ONNX model of a function of arrays with any number of rows B, from its compact graph.

    Whether every operator is one of ONNX is not looked at: tf2onnx says nothing of those it cannot translate.

    Arguments:
        function: of tensors (B, ...), one for each of `inputs`, in that order; gives {output name: tensor}.
        inputs: name -> (N, ...), an example of the same type.
        opset: version of the operators.

    Returns:
        (`onnx.ModelProto`, the same function as TensorFlow's ordinary graph, which is made when it is first called).

    Raises:
        ImportError: if tf2onnx is not installed.
    """
    import tensorflow as tf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of what tf2onnx imports
        import tf2onnx

        signature = [tf.TensorSpec((None, *values.shape[1:]), values.dtype, name) for name, values in inputs.items()]
        compact, graph = (tf.function(function, autograph=False, input_signature=signature) for _ in range(2))
        handlers = {"Log1p": (spelled_out, []), "Expm1": (spelled_out, []), "SelectV2": (chosen, [])}
        before = os.environ.setdefault(UNSAFE, "FALSE")  # or tf2onnx copies the whole graph before each of its passes
        try:
            with backend.compact_graphs():
                model, _ = tf2onnx.convert.from_function(compact, signature, opset=opset, custom_op_handlers=handlers)
        finally:
            if before == "FALSE":
                os.environ.pop(UNSAFE)
    without_idle_slices(model.graph)
    return model, graph


def valid_rows(valid: Tensor, name: str) -> Tensor:
    """1 for every valid row; where one is not, the graph stops at an operation of this name.

    TensorFlow's check of numbers has no counterpart in ONNX, but a look-up beyond the end of a table fails in both.

    Arguments:
        valid: (B,) boolean.
        name: of the operation, which is what an error message tells.

    Returns:
        (B,) float32.
    """
    import tensorflow as tf

    return tf.gather(tf.ones((1,)), tf.where(valid, 0, 1), name=name)


def graphs_within(node) -> list:
    """The graphs that an ONNX node holds, as loops and branches do."""
    return [inner for entry in node.attribute for inner in ([entry.g] if entry.HasField("g") else entry.graphs)]


def all_nodes(graph) -> Iterator:
    """Nodes of an ONNX graph and of the graphs within them."""
    for node in graph.node:
        yield node
        for inner in graphs_within(node):
            yield from all_nodes(inner)


def without_idle_slices(graph, known: Mapping[str, np.ndarray] | None = None) -> None:
    """Take out of an ONNX graph, and of those within it, slices that keep everything: each new axis brings one along.

    Arguments:
        graph: `onnx.GraphProto`, changed in place.
        known: name -> constant of the graphs around it.
    """
    from onnx.numpy_helper import to_array

    constants = {entry.name: to_array(entry) for entry in graph.initializer}
    constants |= {node.output[0]: to_array(node.attribute[0].t) for node in graph.node if node.op_type == "Constant"}
    constants, kept, outputs = {**(known or {}), **constants}, {}, {entry.name for entry in graph.output}
    for node in list(graph.node):
        for inner in graphs_within(node):
            without_idle_slices(inner, constants)
        if node.op_type != "Slice" or len(node.input) < 5 or node.output[0] in outputs:
            continue
        start, end, step = (constants.get(node.input[k], np.full(1, -1)) for k in (1, 2, 4))  # 3 are the axes
        if (start == 0).all() and (end >= LAST).all() and (step == 1).all():
            kept[node.output[0]] = node.input[0]
            graph.node.remove(node)
    _rename(graph, {old: _source(kept, old) for old in kept})


def _source(kept, name):
    while name in kept:
        name = kept[name]
    return name


def _rename(graph, names):
    """Read other values in a graph, and in those within it."""
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = names.get(name, name)
        for inner in graphs_within(node):
            _rename(inner, names)


def spelled_out(ctx, node, name, args):
    """tf2onnx handler: ln(1 + x) and exp(x) - 1, which ONNX lacks, by the operations that it has."""
    one = ctx.make_const(f"{name}_one", np.ones((), "float32")).output[0]
    shapes, dtypes = [ctx.get_shape(node.output[0])], [ctx.get_dtype(node.output[0])]
    kinds = ("Add", "Log") if node.type == "Log1p" else ("Exp", "Sub")
    inner = ctx.make_node(kinds[0], [node.input[0], one][: 1 + (kinds[0] == "Add")], shapes=shapes, dtypes=dtypes)
    outer = [inner.output[0], one][: 1 + (kinds[1] == "Sub")]
    ctx.remove_node(node.name)
    ctx.make_node(kinds[1], outer, outputs=node.output, name=name, shapes=shapes, dtypes=dtypes)


def chosen(ctx, node, name, args):
    """tf2onnx handler: a choice between two tensors as the one operator that ONNX has for it.

    tf2onnx itself writes c x + (1 - c) y, six operators, which is not y where x is not finite.
    """
    node.type = "Where"
