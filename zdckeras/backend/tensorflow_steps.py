"""Gradients and training steps of models with several losses, on TensorFlow."""

import tensorflow as tf


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


class Steps:
    """`train_step` and `test_step` as TensorFlow's trainer calls them."""

    def train_step(self, data):
        return self.train_on(data)

    def test_step(self, data):
        return self.test_on(data)
