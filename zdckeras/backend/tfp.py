"""Trained flows as distributions of tensorflow-probability, on the TensorFlow backend."""

import keras


def as_distribution(flow, context=None):
    """p(x | c) of a flow as a `tfp.distributions.TransformedDistribution` of a standard normal.

        log p(x | c) = log N(z; 0, 1) + log |det dz/dx|

    The flow's weights are shared, not copied: the distribution follows further training.

    Arguments:
        flow: `zdckeras.flows.flow.Flow` of D variables and C context columns.
        context: None for a flow without context; else (C,) for one distribution, or (N, C) for a batch of N.

    Returns:
        A distribution with event shape (D,) and batch shape () or (N,); `log_prob`, `sample`, `prob` and `bijector`
        work eagerly and in `tf.function`.

    Raises:
        RuntimeError: if Keras does not run on TensorFlow.
        ImportError: if tensorflow-probability is not installed.
        ValueError: if the context does not fit the flow.

    Example:
        >>> from zdckeras.flows.flow import Flow
        >>> flow = Flow.maf(variables=3, steps=1, hidden=(8,))
        >>> if keras.config.backend() == "tensorflow":
        ...     assert as_distribution(flow).event_shape == (3,)
    """
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"Expected Keras on TensorFlow (KERAS_BACKEND=tensorflow), received the {keras.config.backend()} backend."
        )
    try:
        import tensorflow_probability as tfp
    except ImportError as error:
        raise ImportError(
            "as_distribution needs tensorflow-probability with tf-keras: pip install 'zdckeras[tensorflow,tfp]'."
        ) from error
    import tensorflow as tf

    if flow.context and context is None:
        raise ValueError(f"Expected a context of shape ({flow.context},) or (N, {flow.context}), received none.")
    if context is not None:
        context = tf.convert_to_tensor(context, dtype=flow.compute_dtype)
        if not flow.context or context.shape.rank not in (1, 2) or context.shape[-1] != flow.context:
            expected = f"({flow.context},) or (N, {flow.context})" if flow.context else "none"
            raise ValueError(f"Expected a context of shape {expected}, received {tuple(context.shape)}.")

    def fresh(values):
        """The same values as a tensor that tensorflow-probability, which keeps results by tensor, has not met."""
        return tf.identity(tf.convert_to_tensor(values, dtype=flow.compute_dtype))

    class FlowBijector(tfp.bijectors.Bijector):
        """The flow's bijection on arrays of any leading shape; nothing is kept: weights may change between calls."""

        def __init__(self):
            super().__init__(forward_min_event_ndims=1, dtype=flow.compute_dtype, name=flow.name)

        def _rows(self, function, values):
            shape, rows = tf.shape(values), None
            if context is not None:
                rows = tf.broadcast_to(context, tf.concat([shape[:-1], [flow.context]], axis=0))
                rows = tf.reshape(rows, (-1, flow.context))
            mapped, log_det = function(tf.reshape(values, (-1, flow.variables_count)), rows)
            return tf.reshape(mapped, shape), tf.reshape(log_det, shape[:-1])

        def encoded(self, x):
            return self._rows(flow.bijection.inverse_and_log_det, x)

        def _forward(self, z):
            return self._rows(flow.bijection.transform_and_log_det, z)[0]

        def _forward_log_det_jacobian(self, z):
            return self._rows(flow.bijection.transform_and_log_det, z)[1]

        def _inverse(self, x):
            return self.encoded(x)[0]

        def _inverse_log_det_jacobian(self, x):
            return self.encoded(x)[1]

        def forward(self, x, *words, **named):
            return super().forward(fresh(x), *words, **named)

        def inverse(self, y, *words, **named):
            return super().inverse(fresh(y), *words, **named)

        def forward_log_det_jacobian(self, x, *words, **named):
            return super().forward_log_det_jacobian(fresh(x), *words, **named)

        def inverse_log_det_jacobian(self, y, *words, **named):
            return super().inverse_log_det_jacobian(fresh(y), *words, **named)

    batch = [] if context is None else context.shape[:-1].as_list()
    base = tfp.distributions.MultivariateNormalDiag(tf.zeros([*batch, flow.variables_count], flow.compute_dtype))
    parts = base, FlowBijector()

    class FlowDistribution(type(tfp.distributions.TransformedDistribution(*parts))):
        """A density is of the inverse, which alone is run, and once."""

        def _log_prob(self, x):
            z, log_det = self.bijector.encoded(tf.convert_to_tensor(x, dtype=flow.compute_dtype))
            return self.distribution.log_prob(z) + log_det

        def experimental_local_measure(self, y, backward_compat=False, **named):
            return tfp.distributions.Distribution.experimental_local_measure(self, y, backward_compat, **named)

    return FlowDistribution(*parts, name=flow.name)
