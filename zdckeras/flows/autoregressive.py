"""Autoregressive steps of a flow: one masked network and one univariate map, in two directions."""

import keras
from keras import ops

from zdckeras.flows.bijections import Bijection
from zdckeras.flows.masked import MaskedNetwork
from zdckeras.flows.univariate import Affine


class Autoregressive(Bijection):
    """What both directions share: x_d = f(z_d; theta_d), with f a univariate map and theta from a masked network.

    Arguments:
        variables: number D of variables.
        context: number C of context columns, 0 for none.
        hidden: widths of the network's hidden layers.
        univariate: the map f, `Affine()` by default.
        activation: name of a Keras activation.
        seed: integer seed of the initial weights, or None.
        context_layers: layers of the network that see the context, all by default.
    """

    def __init__(
        self, variables, context=0, hidden=(256, 256), univariate=None, activation="silu", seed=None,
        context_layers=None, **kwargs
    ):
        super().__init__(variables, context, **kwargs)
        self.univariate = Affine() if univariate is None else univariate
        self.network = MaskedNetwork(
            self.variables_count,
            self.univariate.parameters,
            self.context,
            hidden=hidden,
            activation=activation,
            seed=seed,
            context_layers=context_layers,
            dtype=self.dtype_policy,
        )

    def _parallel(self, update, values, context):
        theta = self.network(values, context)
        values, log_det = update(values, theta)
        return values, ops.sum(log_det, axis=-1), theta

    def get_config(self):
        config = self.network.get_config()
        return {
            **super().get_config(),
            "univariate": keras.saving.serialize_keras_object(self.univariate),
            **{key: config[key] for key in ("hidden", "activation", "seed", "context_layers")},
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "univariate": keras.saving.deserialize_keras_object(config["univariate"])})


@keras.saving.register_keras_serializable("zdckeras")
class MaskedAutoregressive(Autoregressive):
    """MAF step: the parameters come from the data, so data to latent is one pass.

        x_d = f(z_d; theta_d(x_1, ..., x_{d-1}, c))

    Latent to data is exact too, in the work of about one pass (`MaskedNetwork.solve`).

    Arguments:
        variables, context, hidden, univariate, activation, seed, context_layers: as in `Autoregressive`.

    Raises:
        ValueError: if a size is out of range, or an input does not fit the sizes.

    Source:
        G. Papamakarios et al., Masked autoregressive flow, arXiv:1705.07057.

    Example:
        >>> import numpy as np
        >>> step = MaskedAutoregressive(3, hidden=(8,))
        >>> x, log_det = step.transform_and_log_det(np.ones((2, 3), "float32"))
        >>> ops.convert_to_numpy(x).tolist()[0], tuple(log_det.shape)
        ([1.0, 1.0, 1.0], (2,))
    """

    def _transform(self, z, context):
        return self.network.solve(self.univariate.transform_and_log_det, z, context)

    def _inverse(self, x, context):
        return self.inverse_and_parameters(x, context)[:2]

    def inverse_and_parameters(self, x, context=None):
        """Latent (B, D), log |det dz/dx| (B,) and the network's parameters (B, D, P) of the one pass from data."""
        return self._parallel(self.univariate.inverse_and_log_det, *self.checked(x, context))


@keras.saving.register_keras_serializable("zdckeras")
class InverseAutoregressive(Autoregressive):
    """IAF step: the parameters come from the latent variables, so latent to data is one pass.

        x_d = f(z_d; theta_d(z_1, ..., z_{d-1}, c))

    Data to latent is exact too, in the work of about one pass (`MaskedNetwork.solve`).

    Arguments:
        variables, context, hidden, univariate, activation, seed, context_layers: as in `Autoregressive`.

    Raises:
        ValueError: if a size is out of range, or an input does not fit the sizes.

    Source:
        D. P. Kingma et al., Inverse autoregressive flow, arXiv:1606.04934.

    Example:
        >>> import numpy as np
        >>> step = InverseAutoregressive(3, hidden=(8,))
        >>> x, log_det, theta = step.transform_and_parameters(np.ones((2, 3), "float32"))
        >>> ops.convert_to_numpy(x).tolist()[0], tuple(theta.shape)
        ([1.0, 1.0, 1.0], (2, 3, 2))
    """

    def _transform(self, z, context):
        return self.transform_and_parameters(z, context)[:2]

    def _inverse(self, x, context):
        return self.network.solve(self.univariate.inverse_and_log_det, x, context)

    def transform_and_parameters(self, z, context=None):
        """Data (B, D), log |det dx/dz| (B,) and the network's parameters (B, D, P) of the one pass from latent."""
        return self._parallel(self.univariate.transform_and_log_det, *self.checked(z, context))
