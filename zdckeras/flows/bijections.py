"""Invertible maps between latent and data space, with their log-determinants."""

import keras
import numpy as np
from keras import ops


class Bijection(keras.layers.Layer):
    """Invertible map z -> x given a context c, with log |det dx/dz|; the base class checks shapes, subclasses map.

    A subclass writes `_transform(z, context)` (latent to data) and `_inverse(x, context)` (data to latent); each
    returns the mapped (B, D) array and the log-determinant of its own direction, summed over variables, (B,).
    All weights exist once the object does. Whatever the global policy, flows compute in float32.

    Arguments:
        variables: number D of variables.
        context: number C of context columns, 0 for none.

    Raises:
        ValueError: if a size is out of range, an input does not fit the sizes, or half precision is asked for.

    Example:
        >>> z, log_det = Permutation(3).transform_and_log_det(np.array([[1.0, 2.0, 3.0]], "float32"))
        >>> ops.convert_to_numpy(z).tolist()
        [[3.0, 2.0, 1.0]]
    """

    def __init__(self, variables, context=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if int(variables) < 1 or int(context) < 0:
            raise ValueError(f"Expected variables >= 1 and context >= 0, received {variables} and {context}.")
        if self.compute_dtype not in ("float32", "float64"):
            raise ValueError(f"{self.name}: expected to compute in float32, or densities and inverses are lost; "
                             f"received the policy {self.dtype_policy.name}.")
        self.variables_count, self.context = int(variables), int(context)
        self.built = True

    def transform_and_log_det(self, z, context=None):
        """Latent (B, D) and context (B, C) to data (B, D) and log |det dx/dz| (B,)."""
        return self._transform(*self.checked(z, context))

    def inverse_and_log_det(self, x, context=None):
        """Data (B, D) and context (B, C) to latent (B, D) and log |det dz/dx| (B,)."""
        return self._inverse(*self.checked(x, context))

    def call(self, z, context=None):
        return self.transform_and_log_det(z, context)

    def checked(self, x, context):
        """Inputs as tensors of the compute dtype; ValueError unless their shapes fit."""
        x = ops.convert_to_tensor(x, dtype=self.compute_dtype)
        if len(x.shape) != 2 or x.shape[1] != self.variables_count:
            raise ValueError(
                f"{self.name}: expected an input of shape (batch, {self.variables_count}), received {tuple(x.shape)}."
            )
        if not self.context:
            if context is not None:
                raise ValueError(f"{self.name}: expected no context, received one.")
            return x, None
        if context is None:
            raise ValueError(f"{self.name}: expected a context of shape (batch, {self.context}), received none.")
        context = ops.convert_to_tensor(context, dtype=self.compute_dtype)
        if len(context.shape) != 2 or context.shape[1] != self.context:
            raise ValueError(
                f"{self.name}: expected a context of shape (batch, {self.context}), received {tuple(context.shape)}."
            )
        if None not in (x.shape[0], context.shape[0]) and x.shape[0] != context.shape[0]:
            raise ValueError(
                f"{self.name}: expected as many context rows as inputs, received {context.shape[0]} and {x.shape[0]}."
            )
        return x, context

    def get_config(self):
        return {**super().get_config(), "variables": self.variables_count, "context": self.context}


@keras.saving.register_keras_serializable("zdckeras")
class Permutation(Bijection):
    """Fixed reordering of the variables, x_i = z_{o_i}, log-determinant 0; takes any context and ignores it.

    Arguments:
        variables: number D of variables.
        order: (D,) indices o; by default the reverse, D-1, ..., 0.
        seed: integer; a random order drawn from it instead.
        context: number C of context columns that it is called with.

    Raises:
        ValueError: if `order` is no permutation of 0..D-1, or both `order` and `seed` are given.

    Example:
        >>> Permutation(4, seed=1).order.tolist() == Permutation(4, seed=1).order.tolist()
        True
    """

    def __init__(self, variables, order=None, seed=None, context=0, **kwargs):
        super().__init__(variables, context, **kwargs)
        if order is not None and seed is not None:
            raise ValueError("Expected an order or a seed, received both.")
        if order is None:
            order = np.arange(variables)[::-1] if seed is None else np.random.default_rng(seed).permutation(variables)
        self.order = np.array(order)
        if not np.array_equal(np.sort(self.order), np.arange(variables)):
            raise ValueError(f"Expected a permutation of 0..{variables - 1}, received {self.order.tolist()[:20]}.")
        self.order = self.order.astype("int32")

    def _transform(self, z, context):
        return ops.take(z, self.order, axis=1), ops.zeros_like(z[:, 0])

    def _inverse(self, x, context):
        return ops.take(x, np.argsort(self.order), axis=1), ops.zeros_like(x[:, 0])

    def get_config(self):
        return {**super().get_config(), "order": self.order.tolist()}


@keras.saving.register_keras_serializable("zdckeras")
class Chain(Bijection):
    """Composition x = f_n(... f_2(f_1(z))): the FIRST bijection of the list is next to the latent space.

        log |det dx/dz| = sum_k log |det df_k|

    Arguments:
        bijections: list of bijections of the same variables and context.

    Raises:
        ValueError: if the list is empty or the sizes differ.

    Example:
        >>> chain = Chain([Permutation(3, [1, 2, 0]), Permutation(3)])
        >>> ops.convert_to_numpy(chain.transform_and_log_det(np.array([[1.0, 2.0, 3.0]], "float32"))[0]).tolist()
        [[1.0, 3.0, 2.0]]
    """

    def __init__(self, bijections, **kwargs):
        sizes = [(part.variables_count, part.context) for part in bijections]
        if not sizes or len(set(sizes)) != 1:
            raise ValueError(f"Expected bijections of equal (variables, context), received {sizes}.")
        super().__init__(*sizes[0], **kwargs)
        self.bijections = list(bijections)

    def _transform(self, z, context):
        total = ops.zeros_like(z[:, 0])
        for part in self.bijections:
            z, log_det = part.transform_and_log_det(z, context)
            total = total + log_det
        return z, total

    def _inverse(self, x, context):
        total = ops.zeros_like(x[:, 0])
        for part in reversed(self.bijections):
            x, log_det = part.inverse_and_log_det(x, context)
            total = total + log_det
        return x, total

    def get_config(self):
        config = super().get_config()
        del config["variables"], config["context"]
        return {**config, "bijections": [keras.saving.serialize_keras_object(part) for part in self.bijections]}

    @classmethod
    def from_config(cls, config):
        parts = [keras.saving.deserialize_keras_object(part) for part in config["bijections"]]
        return cls(**{**config, "bijections": parts})
