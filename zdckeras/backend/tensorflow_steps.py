"""Gradients and training steps of models with several losses, on TensorFlow."""

from contextlib import nullcontext, suppress

import keras
import tensorflow as tf

from zdckeras import backend

KEPT = -8192  # mask of the sign, the exponent and the 10 bits of a float32 that TF32 keeps


def value_and_grad(loss, variables):
    """Value, remarks and gradients of a loss: see `zdckeras.backend.steps`."""
    with tf.GradientTape() as tape:
        value, remarks = loss()
    values = [v.value for v in variables]
    return value, remarks, tape.gradient(value, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def grad(function, x):
    """Gradient of sum(function(x)) by x: see `zdckeras.backend.steps`."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = tf.reduce_sum(function(x))
    return tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def apply(optimizer, gradients, variables):
    """One update of an optimizer: see `zdckeras.backend.steps`."""
    optimizer.apply(gradients, list(variables))


def matmul(a, b):
    """A product in float32 proper, or in float64 of two such factors: see `zdckeras.backend.exact_matmul`."""
    a, b = map(keras.ops.convert_to_tensor, (a, b))
    if a.dtype == b.dtype == tf.float64:
        return tf.matmul(a, b)
    a, b = (keras.ops.cast(x, "float32") for x in (a, b))
    rounds = tf.config.list_physical_devices("GPU") and tf.config.experimental.tensor_float_32_execution_enabled()
    return split_matmul(a, b, tf.matmul) if rounds else tf.matmul(a, b, name=backend.EXACT)


def split_matmul(a, b, multiply):
    """The product of float32 factors by a `multiply` that rounds them to 11 bits: TensorFlow has no switch for one.

    a = a_1 + a_2 + a_3 with parts of at most 11 bits, and so b: what is left out of sum a_i b_j is below 2^-22 of the
    product. The gradient is that of the rounded product.
    """
    (a1, a2, a3), (b1, b2, b3) = _parts(a), _parts(b)
    exact = multiply(a1, b1) + (multiply(a1, b2) + multiply(a2, b1)) + multiply(a2, b2)
    rounded = multiply(a, b)
    rest = multiply(a3, tf.stop_gradient(b)) + multiply(tf.stop_gradient(a), b3)
    return exact + rest + (rounded - tf.stop_gradient(rounded))


def _parts(x):
    """Three constants of 11, 11 and 2 bits that add up to x."""
    rest, parts = tf.stop_gradient(x), []
    for _ in range(2):
        kept = tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(rest, tf.int32), KEPT), tf.float32)
        parts.append(kept)
        rest = rest - kept
    return *parts, rest


def use_devices(number):
    """Names of the devices there are, of which the first are used from now on: see `zdckeras.backend.use_devices`."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU":
        with suppress(RuntimeError):  # too late once TensorFlow has looked for devices
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                                       [tf.config.LogicalDeviceConfiguration()] * number)
    found = [f"{kind}:{k}" for k in range(len(tf.config.list_logical_devices(kind)))]
    if len(found) >= number:
        reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
        tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(found[:number], reduction))
    return found


def shared(model):
    """Nothing: the strategy holds from the beginning."""
    return nullcontext()


class Steps:
    """`train_step` and `test_step` as TensorFlow's trainer calls them."""

    def train_step(self, data):
        return self.train_on(data)

    def test_step(self, data):
        return self.test_on(data)
