"""What operations take by themselves, of profiles as TensorFlow writes them."""

import keras
import numpy as np
import pytest

pytestmark = [pytest.mark.neutral, pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="its profiler")]


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("bench_profile")


def test_own_times_are_without_those_inside(tool):
    """A loop of 10 ps with two sums of 2 and 3 ps in it, another thread, and a line that is no operation."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    space = XSpace()
    plane = space.planes.add(name="/host:CPU")
    for key, name in enumerate(("model/loop:While", "model/dense_1/sum:Sum", "Iterator::Root", "model/sum:Sum")):
        plane.event_metadata[key].name = name
    for events in (((0, 0, 10), (1, 1, 2), (2, 3, 1), (1, 5, 3), (3, 10, 4)), ((3, 2, 7),)):
        line = plane.lines.add()
        for key, start, length in events:
            line.events.add(metadata_id=key, offset_ps=start, duration_ps=length)
    found = tool.own_times(space)
    assert found == {("model/loop", "While"): 5, ("model/dense_1/sum", "Sum"): 5, ("model/sum", "Sum"): 11}
    lines = tool.report(found, 1, 5).splitlines()
    assert [line.split()[2:] for line in lines[2:4]] == [["76%", "Sum"], ["24%", "While"]]
    assert [" ".join(line.split()[3:]) for line in lines[5:]] == [
        "Sum in model/sum", "While in model/loop", "Sum in model/dense/sum"]


def test_layers_have_no_numbers_and_no_wrapping(tool):
    assert tool.layer("StatefulPartitionedCall/gradient_tape/vae_1/dense_12/MatMul") == "vae/dense/MatMul"


def test_a_real_product_of_matrices(tool):
    import tensorflow as tf

    a = tf.constant(np.ones((512, 512), "float32"))
    product = tf.function(lambda a: tf.math.exp(tf.matmul(a, a) * 1e-9))
    product(a)
    found = tool.profiled(lambda: product(a).numpy())
    taken = {kind: sum(t for (_, k), t in found.items() if k == kind) for _, kind in found}
    slowest = max(taken, key=taken.get)
    assert "MatMul" in slowest and 1e6 < taken[slowest] < 1e12, taken  # 268 million operations: 1 microsecond to 1 s
