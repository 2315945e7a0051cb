"""Spectral normalisation as the published CorrVAE has it: dense layers that lengthen no vector."""

import keras
from keras import layers, ops

LONGEST = 0.97  # spectral norm of a kernel, at most
ROUNDS = 5  # of the power iteration, a step


@keras.saving.register_keras_serializable("zdckeras")
class SpectralDense(layers.Layer):
    """A dense layer of bounded spectral norm, y = x K / max(1, s / 0.97) + b.

    s is the largest singular value of the kernel K, by power iteration: five rounds u -> K^T K u / |K^T K u| in every
    step of a training, of which the direction u is kept; s = |K u|, with gradients by K, not by u.

    Arguments:
        units: outputs.
        kernel_initializer: as of `keras.layers.Dense`; b begins at 0.

    Returns:
        call((B, inputs)) gives (B, units).

    Source:
        Miyato et al., arXiv:1802.05957, with the bound of Gouk et al., arXiv:1804.04368.

    Example:
        >>> layer = SpectralDense(2)
        >>> layer.build((None, 2))
        >>> _ = layer.kernel.assign([[3.0, 0.0], [0.0, 1.0]])
        >>> x = ops.ones((1, 2))
        >>> for _ in range(3):
        ...     y = layer(x, training=True)
        >>> [round(float(number), 4) for number in y[0]]
        [0.97, 0.3233]
    """

    def __init__(self, units: int, kernel_initializer: str | keras.initializers.Initializer = "he_uniform", **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.units, self.initializer = units, keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer=self.initializer, name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.direction = self.add_weight(shape=(self.units, 1), initializer="ones", trainable=False, name="direction",
                                         aggregation="only_first_replica")

    def call(self, inputs, training=False):
        kernel, along = ops.convert_to_tensor(self.kernel), _unit(self.direction)
        if training:
            still = ops.stop_gradient(kernel)
            for _ in range(ROUNDS):
                along = _unit(ops.matmul(ops.transpose(still), ops.matmul(still, along)))
            self.direction.assign(along)
        longest = ops.sqrt(ops.sum(ops.square(ops.matmul(kernel, along))) + 1e-12)
        return ops.matmul(inputs, kernel / ops.maximum(longest / LONGEST, 1.0)) + self.bias

    def get_config(self):
        return {**super().get_config(), "units": self.units,
                "kernel_initializer": keras.initializers.serialize(self.initializer)}


def _unit(vector):
    return vector * ops.rsqrt(ops.sum(ops.square(vector)) + 1e-24)
