"""Masked dense networks (MADE) whose hidden units are sorted by degree, and their exact solution in one sweep."""

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.arguments import whole_number


def edges(units, levels):
    """Where each of the `levels` even groups of consecutive units starts: (levels + 1,) int; the last is largest."""
    return np.arange(levels + 1) * units // levels


def degrees(units, variables, levels):
    """Degrees of the units of one hidden layer, sorted and evenly spread: a unit of degree k sees variables 1..k.

        m_i = floor(l_i D / G),  l_i = 0, ..., G-1 non-decreasing in i

    Arguments:
        units: width of the layer, at least `levels`.
        variables: number D of variables.
        levels: number G <= D of distinct degrees.

    Returns:
        (units,) int array of degrees in 0..D-1. Degree 0 sees the context alone.

    Raises:
        ValueError: if there are fewer units or variables than levels.

    Source:
        M. Germain et al., MADE, arXiv:1502.03509, section 4.

    Example:
        >>> degrees(6, 3, 3).tolist(), degrees(2, 8, 2).tolist()
        ([0, 0, 1, 1, 2, 2], [0, 4])
    """
    if not 1 <= levels <= min(units, variables):
        raise ValueError(
            "Expected 1 <= levels <= min(units, variables), received "
            f"{levels} levels, {units} units, {variables} variables."
        )
    return np.repeat(edges(variables, levels)[:-1], np.diff(edges(units, levels)))


@keras.saving.register_keras_serializable("zdckeras")
class MaskedDense(keras.layers.Layer):
    """Dense layer whose connections never lead from a higher to a lower degree.

        y_j = b_j + sum_i [m_j >= m_i] W_ij x_i

    The mask is made from the degrees, so it is neither a weight nor saved; only the weights are.

    Arguments:
        in_degrees: (I,) degrees m_i of the inputs.
        out_degrees: (J,) degrees m_j of the outputs.
        kernel_initializer: initializer of W; the bias starts at zero.

    Returns:
        From a call on (B, I): (B, J).

    Raises:
        ValueError: if degrees are not one-dimensional.

    Source:
        M. Germain et al., MADE, arXiv:1502.03509, eq. 6.

    Example:
        >>> layer = MaskedDense([1, 2], [0, 1, 2], kernel_initializer="ones")
        >>> ops.convert_to_numpy(layer(np.array([[1.0, 10.0]], "float32"))).tolist()
        [[0.0, 1.0, 11.0]]
    """

    def __init__(self, in_degrees, out_degrees, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.in_degrees, self.out_degrees = np.asarray(in_degrees, "int32"), np.asarray(out_degrees, "int32")
        if self.in_degrees.ndim != 1 or self.out_degrees.ndim != 1:
            raise ValueError(
                f"Expected one-dimensional degrees, received {self.in_degrees.shape} and {self.out_degrees.shape}."
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        shape = len(self.in_degrees), len(self.out_degrees)
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=shape[1:], initializer="zeros", name="bias")
        self.built = True

    def masked_kernel(self):
        """W with zeros where there is no connection, (I, J)."""
        mask = ops.greater_equal(self.out_degrees[None, :], self.in_degrees[:, None])
        return self.kernel * ops.cast(mask, self.compute_dtype)

    def call(self, inputs):
        return ops.matmul(inputs, self.masked_kernel()) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], len(self.out_degrees))

    def get_config(self):
        return {
            **super().get_config(),
            "in_degrees": self.in_degrees.tolist(),
            "out_degrees": self.out_degrees.tolist(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("zdckeras")
class MaskedNetwork(keras.layers.Layer):
    """Network whose outputs for variable d depend on the variables before d, and on the whole context.

        h_1 = a(M_1 x + C_1 c),  h_l = a(M_l h_{l-1} + C_l c),  theta = M_out h_L + C_out c

    with masked M (`MaskedDense`) and full C, where not all layers see the context of the first `context_layers`. All
    layers share G = min(D, *hidden) distinct degrees; where a layer is narrower than D, about D / G consecutive
    variables see the same hidden units. The last layer starts at zero, so every parameter of a fresh network is zero.

    Arguments:
        variables: number D of variables.
        outputs_per_variable: number P of outputs per variable.
        context: number C of context columns, 0 for none.
        hidden: widths of the hidden layers.
        activation: name of a Keras activation.
        seed: integer seed of the initial weights, or None.
        context_layers: number of layers, from the first, that see the context; None: all.

    Returns:
        From a call on x (B, D) and context (B, C) or None: theta (B, D, P).

    Raises:
        ValueError: if a size is not positive, or more layers are to see the context than there are.

    Source:
        M. Germain et al., MADE, arXiv:1502.03509.

    Example:
        >>> network = MaskedNetwork(variables=4, outputs_per_variable=2, context=3, hidden=(16, 16))
        >>> tuple(network(np.zeros((5, 4), "float32"), np.zeros((5, 3), "float32")).shape)
        (5, 4, 2)
    """

    def __init__(
        self, variables, outputs_per_variable, context=0, hidden=(256, 256), activation="silu", seed=None,
        context_layers=None, **kwargs
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        hidden = tuple(int(width) for width in hidden)
        if not hidden or min(variables, outputs_per_variable, *hidden) < 1 or context < 0:
            raise ValueError(
                "Expected positive variables, outputs_per_variable and hidden widths and context >= 0, received "
                f"{variables}, {outputs_per_variable}, {hidden} and {context}."
            )
        if context_layers is not None and whole_number(context_layers, "context_layers") > len(hidden) + 1:
            raise ValueError(f"context_layers: expected at most {len(hidden) + 1}, as many as there are, received "
                             f"{context_layers}.")
        self.variables_count, self.outputs_per_variable, self.context = variables, outputs_per_variable, context
        self.hidden, self.seed, self.context_layers = hidden, seed, context_layers
        self.activation = keras.activations.get(activation)
        self.levels = min(variables, *hidden)

        def glorot(index):
            return keras.initializers.GlorotUniform(None if seed is None else seed + index)

        ladder = [
            np.arange(1, variables + 1),
            *(degrees(width, variables, self.levels) for width in hidden),
            np.repeat(np.arange(variables), outputs_per_variable),
        ]
        kinds = [*(glorot(index) for index in range(len(hidden))), keras.initializers.Zeros()]
        self.masked = [
            MaskedDense(*pair, kernel_initializer=kind, dtype=self.dtype_policy)
            for pair, kind in zip(zip(ladder, ladder[1:], strict=False), kinds, strict=True)
        ]
        self.conditioned = []
        if context:
            kinds[:-1] = [glorot(len(hidden) + index) for index in range(len(hidden))]
            self.conditioned = [
                keras.layers.Dense(len(rung), use_bias=False, kernel_initializer=kind, dtype=self.dtype_policy)
                for rung, kind in [*zip(ladder[1:], kinds, strict=True)][:context_layers]
            ]
            for layer in self.conditioned:
                layer.build((None, context))
        self.built = True

    def call(self, x, context=None):
        h = x
        for index, layer in enumerate(self.masked):
            h = self.activation(h) if index else h
            h = layer(h) + self.conditioned[index](context) if index < len(self.conditioned) else layer(h)
        return ops.reshape(h, (-1, self.variables_count, self.outputs_per_variable))

    def compute_output_shape(self, x_shape, context_shape=None):
        return (x_shape[0], self.variables_count, self.outputs_per_variable)

    def solve(self, update, y, context=None):
        """Solve x_d = f(y_d, theta_d(x_1, ..., x_{d-1}, c)) for all d in one sweep of the work of about one call.

        The degrees are swept upwards. Every hidden unit is computed once, as soon as the variables it sees are
        known, and passed on at once; the parameters of the next group of variables are then read off the last
        hidden layer, in which units not yet known are zero. So no mask is needed at all. Exact up to rounding.

        Arguments:
            update: f; takes y (g, B) and theta (g, B, P), returns x (g, B) and log |dx/dy| (g, B).
            y: (B, D).
            context: (B, C) or None.

        Returns:
            x (B, D) and the sum over variables of log |dx/dy|, (B,).
        """
        if y.shape[0] == 0:  # which scattering refuses
            return y, y[:, 0]
        d, p, batch = self.variables_count, self.outputs_per_variable, ops.shape(y)[0]
        kernels = [ops.convert_to_tensor(layer.kernel) for layer in self.masked]
        widths = [d, *self.hidden]
        starts = [ops.convert_to_tensor(edges(width, self.levels).astype("int32")) for width in widths]
        sizes = [-(-width // self.levels) for width in widths]
        valid = [
            (np.arange(size) < np.diff(edges(width, self.levels))[:, None])[..., None]
            for width, size in zip(widths, sizes, strict=True)
        ]
        valid = [None if flags.all() else ops.convert_to_tensor(flags.astype(self.compute_dtype)) for flags in valid]

        def keep(values, index, level):  # groups differ in size by one: zero what belongs to the next group
            return values if valid[index] is None else values * valid[index][level]

        def rows(matrix, start, size):
            return ops.slice(matrix, (start, 0), (size, batch))

        def write(matrix, start, size, values):
            places = ops.expand_dims(start + ops.arange(size, dtype="int32"), 1)
            return ops.scatter_update(matrix, places, values)

        def push(index, start, size, values):  # contribution of a few units to all units of the next layer
            kernel = ops.slice(kernels[index], (start, 0), (size, kernels[index].shape[1]))
            return backend.exact_matmul(ops.transpose(kernel), values)

        def known(index):  # bias and context, feature-first: (units, B)
            bias = ops.expand_dims(ops.convert_to_tensor(self.masked[index].bias), 1)
            if index < len(self.conditioned):
                return ops.transpose(self.conditioned[index](context)) + bias
            return ops.broadcast_to(bias, (bias.shape[0], batch))

        y = ops.transpose(y)
        read = len(self.conditioned) > len(self.hidden)  # the last layer sees the context
        offset = known(len(self.hidden)) if read else ops.expand_dims(self.masked[-1].bias, 1)

        def level(j, carry):
            *z, h, x, log_det = carry
            for index, size in enumerate(sizes[1:]):
                start = starts[index + 1][j]
                unit = keep(self.activation(rows(z[index], start, size)), index + 1, j)
                if index + 1 < len(z):
                    z[index + 1] = z[index + 1] + push(index + 1, start, size, unit)
            h = write(h, start, size, unit)
            start, size = starts[0][j], sizes[0]
            kernel = ops.slice(kernels[-1], (0, start * p), (widths[-1], size * p))
            theta = backend.exact_matmul(ops.transpose(kernel), h)
            theta = theta + ops.slice(offset, (start * p, 0), (size * p, batch if read else 1))
            theta = ops.transpose(ops.reshape(theta, (size, p, batch)), (0, 2, 1))
            new, slope = update(rows(y, start, size), theta)
            x = write(x, start, size, new)
            z[0] = z[0] + push(0, start, size, keep(new, 0, j))
            return (*z, h, x, log_det + keep(slope, 0, j))

        h = ops.zeros((widths[-1], batch), y.dtype)
        carry = (*(known(index) for index in range(len(self.hidden))), h, y, ops.zeros_like(y[: sizes[0]]))
        *_, x, log_det = ops.fori_loop(0, self.levels, level, carry)
        return ops.transpose(x), ops.sum(log_det, axis=0)

    def get_config(self):
        return {
            **super().get_config(),
            "variables": self.variables_count,
            "outputs_per_variable": self.outputs_per_variable,
            "context": self.context,
            "hidden": self.hidden,
            "activation": keras.activations.serialize(self.activation),
            "seed": self.seed,
            "context_layers": self.context_layers,
        }
