import keras
import numpy as np
import pytest

import zdckeras as zdc
from zdckeras.backend.tensorflow_onnx import all_nodes, without_idle_slices
from zdckeras.data.particles import Scaler
from zdckeras.export.onnx import trial
from zdckeras.export.precision import LARGE, _sort, reduced
from zdckeras.export.session import open_session
from zdckeras.gan.networks import ResponseNetwork

onnx = pytest.importorskip("onnx")
pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")
SKIP = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="written in this process by TensorFlow only")
MATRIX = np.random.default_rng(0).normal(size=(40, 64)).astype("float32")


def product(name, matrix=MATRIX):
    """A model of one product with a matrix."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name=name)], "one",
        [helper.make_tensor_value_info("x", kind, [None, 40])], [helper.make_tensor_value_info("y", kind, [None, 64])],
        [onnx.numpy_helper.from_array(matrix, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model, rows=9):
    x = np.random.default_rng(1).normal(size=(rows, 40)).astype("float32")
    return x @ MATRIX, open_session(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize(("precision", "size", "wrong"), [
    ("float32", 1.0, 1e-6), ("float16", 0.5, 1e-3), ("int8", 0.25, 2e-2)])
def test_size_and_loss_of_a_product(precision, size, wrong):
    model = reduced(product("dense/MatMul"), precision)
    true, made = run(model)
    assert len(model.SerializeToString()) / MATRIX.nbytes == pytest.approx(size, abs=0.25)
    assert np.abs(made - true).max() / np.abs(true).max() < wrong
    assert run(model, 0)[1].shape == (0, 64)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_what_has_to_be_exact_is(precision):
    true, made = run(reduced(product("cell_noise/exact"), precision))
    np.testing.assert_allclose(made, true, rtol=1e-5, atol=1e-5)


def test_exact_products_of_weights_that_half_precision_holds_are_halved():
    matrix = MATRIX.astype("float16").astype("float32")
    model = reduced(product("cell_noise/exact", matrix), "float16")
    assert [entry.data_type for entry in model.graph.initializer] == [onnx.TensorProto.FLOAT16] and matrix.size > LARGE
    x = np.ones((1, 40), "float32")
    made = open_session(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(made, x @ matrix, rtol=1e-5)


@SKIP
def test_files_of_a_generator(tmp_path):
    """Whole numbers of eight bits move some photons and keep the sums, nearly."""
    scaler = Scaler.fit(zdc.load("zn", "test", 50).particles).get_config()
    generator = zdc.GanGenerator(ResponseNetwork("zn", scaler, 10, 64, (64, 64), (8, 4, 2), 2, seed=3))
    files = {precision: zdc.export_onnx(generator, tmp_path / f"{precision}.onnx", precision=precision)
             for precision in ("float32", "float16", "int8")}
    inputs = trial(generator, 10, 64)
    made = {name: open_session(file).run(None, inputs)[0].astype(int) for name, file in files.items()}
    size = {name: file.stat().st_size for name, file in files.items()}
    assert size["float16"] < 0.7 * size["float32"]
    assert size["int8"] < 0.9 * size["float32"]  # of a model so small the graph is most; large products alone shrink
    total = made["float32"].sum()
    assert np.abs(made["float16"] - made["float32"]).sum() <= 0.1 * total
    assert made["float16"].sum() == pytest.approx(total, rel=0.02)
    assert 0 < np.abs(made["int8"] - made["float32"]).sum() < 0.5 * total
    assert made["int8"].sum() == pytest.approx(total, rel=0.05)
    about = {entry.key: entry.value for entry in onnx.load(files["int8"]).metadata_props}
    assert about["precision"] == "int8"
    assert "MatMulInteger" in {node.op_type for node in all_nodes(onnx.load(files["int8"]).graph)}


def test_nodes_are_put_behind_what_their_branches_read():
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    inner = helper.make_graph([helper.make_node("Neg", ["b"], ["o"])], "inner", [],
                              [helper.make_tensor_value_info("o", kind, [None])])
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner),
         helper.make_node("Abs", ["a"], ["b"]), helper.make_node("Exp", ["x"], ["a"])], "outer", [], [])
    _sort(graph)
    assert [node.op_type for node in graph.node] == ["Exp", "Abs", "If"]


def test_other_precisions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected a precision of float32, float16, int8, received 'int4'"):
        zdc.export_onnx(zdc.pretrained("zn"), tmp_path / "zn.onnx", precision="int4")
    assert list(tmp_path.iterdir()) == []


def test_slices_that_keep_everything_are_taken_out():
    """Also one behind another, and within branches; outputs stay, and those that cut, maybe where only a run knows."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    constants = {"zero": [0], "end": [10**9], "two": [2], "one": [1]}
    entries = [onnx.numpy_helper.from_array(np.array(v, "int64"), k) for k, v in constants.items()]

    def cut(source, target, end, start="zero"):
        return helper.make_node("Slice", [source, start, end, "zero", "one"], [target])

    inner = helper.make_graph([cut("b", "i", "end"), helper.make_node("Neg", ["i"], ["o"])], "inner", [],
                              [helper.make_tensor_value_info("o", kind, [None])])
    graph = helper.make_graph(
        [cut("x", "a", "end"), cut("a", "b", "end"), cut("b", "c", "two"),
         helper.make_node("If", ["flag"], ["d"], then_branch=inner, else_branch=inner),
         cut("c", "e", "end", "told"), cut("e", "y", "end")], "outer",
        [helper.make_tensor_value_info("x", kind, [None]), helper.make_tensor_value_info("flag", 9, []),
         helper.make_tensor_value_info("told", 7, [1])],
        [helper.make_tensor_value_info(name, kind, [None]) for name in ("y", "d")], entries)
    without_idle_slices(graph)
    assert [(node.op_type, *node.input[:1]) for node in graph.node] == [
        ("Slice", "x"), ("If", "flag"), ("Slice", "c"), ("Slice", "e")]
    assert [node.input[0] for node in all_nodes(graph) if node.op_type == "Neg"] == ["x", "x"]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.array([1.0, 2.0, 3.0], "float32")
    inputs = {"x": x, "flag": np.array(True), "told": np.array([1])}
    y, d = open_session(model.SerializeToString()).run(None, inputs)
    assert y.tolist() == [2.0] and d.tolist() == [-1.0, -2.0, -3.0]
