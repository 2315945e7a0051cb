"""A generator as an ONNX file that opens at once: its photons are those of no training."""

import numpy as np
import pytest

import zdckeras as zdc


def write_particles(folder, size, times):
    """An npz file of so many embedded particles, so many times over, with their PDG ids."""
    showers = zdc.load("zn", "test", size)
    np.savez(folder / "particles.npz", np.tile(np.column_stack([showers.particles, showers.pdg]), (times, 1)))
    return folder / "particles.npz"


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory):
    """Function of further metadata, by name, that gives a file: as many photons in the first cell as the energy
    has GeV, the whole part."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    def write(**about):
        weights = np.zeros((9, 1936), "float32")
        weights[0, 0] = 1.0
        nodes = [helper.make_node("MatMul", ["condition", "weights"], ["light"]),
                 helper.make_node("Cast", ["light"], ["whole"], to=TensorProto.INT32),
                 helper.make_node("Reshape", ["whole", "shape"], ["photons"])]
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width])
                  for name, width in (("noise", 3), ("condition", 9))]
        output = helper.make_tensor_value_info("photons", TensorProto.INT32, ["B", 44, 44])
        constants = [numpy_helper.from_array(weights, "weights"),
                     numpy_helper.from_array(np.array([-1, 44, 44]), "shape")]
        model = helper.make_model(helper.make_graph(nodes, "small", inputs, [output], constants),
                                  opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        for name, value in {"name": "small", "detector": "zn", **about}.items():
            model.metadata_props.add(key=name, value=value)
        path = tmp_path_factory.mktemp("onnx") / "small.onnx"
        onnx.save(model, path)
        return path

    return write
