import numpy as np
import pytest

from zdckeras.export.serving import field, predict_request, read_fields, read_response, read_tensor, tensor, warm_up

RNG = np.random.default_rng(0)
ARRAYS = [RNG.standard_normal((3, 9), "float32"), RNG.integers(-5, 2**31 - 1, (2, 4, 4)).astype("int32"),
          np.zeros((0, 44, 44), "int32"), np.full((5, 2), 2.5, "float32"), np.array(3, "int32")]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_tensors_are_those_of_tensorflow(array):
    """Written here and read by TensorFlow, and the other way round, in both its ways of writing values."""
    tf = pytest.importorskip("tensorflow")
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    assert np.array_equal(tf.make_ndarray(TensorProto.FromString(tensor(array))), array)
    one_by_one = TensorProto(dtype=array.dtype.name.upper().replace("32", "") == "FLOAT" and 1 or 3)
    one_by_one.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    (one_by_one.float_val if array.dtype.kind == "f" else one_by_one.int_val).extend(array.ravel().tolist())
    for written in (tf.make_tensor_proto(array), one_by_one):
        read = read_tensor(written.SerializeToString())
        assert read.dtype == array.dtype and np.array_equal(read, array)


def test_equal_values_are_written_once():
    assert len(tensor(np.zeros((1, 5837), "float32"))) < 30 < len(tensor(np.arange(9, dtype="float32")))


def test_requests_are_those_of_the_published_messages():
    """Read by protocol buffers that are described here as tensorflow/serving publishes them."""
    pytest.importorskip("tensorflow")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    file = descriptor_pb2.FileDescriptorProto(name="log.proto", package="t", syntax="proto3",
                                              dependency=[tensor_pb2.DESCRIPTOR.name])
    kinds = {"string": 9, "message": 11}
    messages = {"ModelSpec": [("name", 1, "string", ""), ("signature_name", 3, "string", "")],
                "Entry": [("key", 1, "string", ""), ("value", 2, "message", ".tensorflow.TensorProto")],
                "PredictRequest": [("model_spec", 1, "message", ".t.ModelSpec"), ("inputs", 2, "message", ".t.Entry")],
                "PredictLog": [("request", 1, "message", ".t.PredictRequest")],
                "PredictionLog": [("predict_log", 6, "message", ".t.PredictLog")]}
    for name, fields in messages.items():
        added = file.message_type.add(name=name)
        for label, number, kind, type_name in fields:
            added.field.add(name=label, number=number, type=kinds[kind], type_name=type_name or None,
                            label=3 if label == "inputs" else 1)
    pool = descriptor_pool.Default()
    pool.Add(file)
    log = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.PredictionLog"))
    condition = RNG.standard_normal((2, 9), "float32")
    asked = predict_request({"condition": condition, "seed": np.array([1, 2], "int32")}, "sample", "zn")
    read = log.FromString(warm_up([asked])[0]).predict_log.request
    assert (read.model_spec.name, read.model_spec.signature_name) == ("zn", "sample")
    inputs = {entry.key: read_tensor(entry.value.SerializeToString()) for entry in read.inputs}
    assert set(inputs) == {"condition", "seed"} and np.array_equal(inputs["condition"], condition)


def test_answers_are_read_by_name():
    photons = np.arange(8, dtype="int32").reshape(2, 2, 2)
    answer = field(2, field(1, b"zn")) + field(1, field(1, b"photons") + field(2, tensor(photons)))
    assert np.array_equal(read_response(answer)["photons"], photons)


@pytest.mark.parametrize(("data", "message"), [
    (b"\x0a\xff", "end within a number"), (b"\x0a\x7fzn", "stop making sense"), (b"\x0f\x01", "stop making sense")])
def test_bytes_that_are_no_message(data, message):
    with pytest.raises(ValueError, match=message):
        list(read_fields(data))


def test_tensors_of_other_types_and_sizes():
    with pytest.raises(ValueError, match="Expected float32 or int32, received float64"):
        tensor(np.zeros(3))
    with pytest.raises(ValueError, match="Expected float32 or int32 values, received type 9"):
        read_tensor(field(1, 9))
    with pytest.raises(ValueError, match="Expected 3 values, received 4"):
        read_tensor(field(1, 1) + field(2, field(2, field(1, 3))) + field(4, bytes(16)))
