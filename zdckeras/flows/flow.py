"""Normalizing flows: a standard normal base and a bijection, with the MAF and IAF compositions."""

import inspect
import math

import keras
import numpy as np
from keras import ops

from zdckeras import backend
from zdckeras.flows.autoregressive import Autoregressive, InverseAutoregressive, MaskedAutoregressive
from zdckeras.flows.bijections import Bijection, Chain, Permutation
from zdckeras.flows.iteration import can_iterate, generate_at_once

ITERATED = 32  # variables up to which compact graphs sample a MAF by iteration


@keras.saving.register_keras_serializable("zdckeras")
class Flow(keras.Model):
    """Density of x given a context c through a bijection of standard normal z.

        log p(x | c) = log N(z; 0, 1) + log |det dz/dx|,  z = f^{-1}(x; c)

    A call gives log p, so a flow is one term of any Keras model; on its own, `compile(optimizer)` and `fit(x)` or
    `fit([x, context])` minimise the mean of -log p, times `sample_weight`. All weights exist once the object does.

    Arguments:
        bijection: f, whose `transform_and_log_det` leads from latent to data; the flow has its precision.

    Returns:
        From a call on x (B, D) and context (B, C) or None, or on the pair [x, context]: log p (B,), in nats.

    Raises:
        ValueError: if an input does not fit the sizes of the bijection.

    Source:
        G. Papamakarios et al., Normalizing flows for probabilistic modeling and inference, arXiv:1912.02762.

    Example:
        >>> import numpy as np
        >>> flow = Flow.maf(variables=2, context=3, steps=2, hidden=(8, 8))
        >>> log_p = flow(np.zeros((1, 2), "float32"), np.zeros((1, 3), "float32"))
        >>> round(float(ops.convert_to_numpy(log_p)[0]), 4)
        -1.8379
    """

    def __init__(self, bijection: Bijection, **kwargs):
        super().__init__(**{"dtype": bijection.dtype_policy, **kwargs})
        self.bijection = bijection
        self.built = True

    @classmethod
    def maf(cls, variables: int, context: int = 0, steps: int = 4, permutation_seed: int | None = None,
            seed: int | None = None, name: str | None = None, alternating: bool = False, **step) -> "Flow":
        """Masked autoregressive flow A_1, P_1, A_2, ..., P_{n-1}, A_n (A_1 next to the latent space): the teacher.

        Arguments:
            variables: number D of variables.
            context: number C of context columns, 0 for none.
            steps: number n of autoregressive steps.
            permutation_seed: integer for random orders between the steps, None for reversals. A MAF and an IAF with
                the same variables, steps and permutation seed have the same permutations in the same places.
            seed: integer seed of the initial weights, or None.
            name: Keras name.
            alternating: reversals and random orders in turns, a reversal next to the data.
            step: `hidden`, `univariate`, `activation`, `context_layers` and `dtype` of every step.

        Returns:
            A `Flow` that evaluates densities in one pass and samples by the exact one-sweep solution.
        """
        chain = _chain(MaskedAutoregressive, variables, context, steps, permutation_seed, seed, alternating, step)
        return cls(chain, name=name)

    @classmethod
    def iaf(cls, variables: int, context: int = 0, steps: int = 4, permutation_seed: int | None = None,
            seed: int | None = None, name: str | None = None, alternating: bool = False, **step) -> "Flow":
        """Inverse autoregressive flow with the arguments and the layout of `maf`: the student.

        Returns:
            A `Flow` that samples in one pass and evaluates densities by the exact one-sweep solution.
        """
        chain = _chain(InverseAutoregressive, variables, context, steps, permutation_seed, seed, alternating, step)
        return cls(chain, name=name)

    @property
    def variables_count(self):
        """Number D of variables."""
        return self.bijection.variables_count

    @property
    def context(self):
        """Number C of context columns, 0 for none."""
        return self.bijection.context

    def log_prob(self, x, context=None):
        """log p(x | c) in nats, (B,), of data (B, D) given context (B, C)."""
        z, log_det = self.encode(x, context)
        return log_det - 0.5 * (ops.sum(ops.square(z), axis=-1) + self.variables_count * math.log(2.0 * math.pi))

    def generate(self, noise, context=None):
        """Data (B, D) from standard normal noise (B, D) and context (B, C); in compact graphs by `generate_at_once`."""
        parts = self._chained()
        if backend.is_compact() and self.variables_count <= ITERATED and can_iterate(parts):
            return generate_at_once(parts, *self.bijection.checked(noise, context))
        return self.bijection.transform_and_log_det(noise, context)[0]

    def encode(self, x, context=None):
        """Latent (B, D) and log |det dz/dx| (B,) of data (B, D) given context (B, C)."""
        return self.bijection.inverse_and_log_det(x, context)

    def transform_path(self, z, context=None):
        """Every state from latent to data, z = u_0, ..., u_n = x, and the parameters of every network passed.

        Arguments:
            z: (B, D) latent variables.
            context: (B, C) or None.

        Returns:
            states: list of n + 1 arrays (B, D); u_k is the output of the k-th autoregressive step.
            parameters: list of n arrays (B, D, P); the k-th leads from u_{k-1} to u_k.

        Raises:
            TypeError: unless all autoregressive steps run from latent to data in one pass (an IAF).
        """
        z, context = self.bijection.checked(z, context)
        states, parameters = [z], []
        for part in self._parts(InverseAutoregressive, "latent to data"):
            if isinstance(part, Autoregressive):
                z, _, theta = part.transform_and_parameters(z, context)
                states.append(z)
                parameters.append(theta)
            else:
                z, _ = part.transform_and_log_det(z, context)
        return states, parameters

    def inverse_path(self, x, context=None):
        """The same states and parameters as `transform_path`, in the same order, found from data x = u_n back to u_0.

        So the paths of a MAF and of an IAF made with the same permutations compare entry by entry.

        Arguments:
            x: (B, D) data.
            context: (B, C) or None.

        Returns:
            states: list of n + 1 arrays (B, D), u_0 = z first.
            parameters: list of n arrays (B, D, P).

        Raises:
            TypeError: unless all autoregressive steps run from data to latent in one pass (a MAF).
        """
        x, context = self.bijection.checked(x, context)
        states, parameters = [], []
        for part in reversed(self._parts(MaskedAutoregressive, "data to latent")):
            if isinstance(part, Autoregressive):
                states.append(x)
                x, _, theta = part.inverse_and_parameters(x, context)
                parameters.append(theta)
            else:
                x, _ = part.inverse_and_log_det(x, context)
        return [x, *states[::-1]], parameters[::-1]

    def _chained(self):
        """The bijections, the first next to the latent space."""
        return self.bijection.bijections if isinstance(self.bijection, Chain) else [self.bijection]

    def _parts(self, kind, direction):
        """The chain's bijections, if every autoregressive one among them is of the kind."""
        parts = self._chained()
        for part in parts:
            if isinstance(part, Autoregressive) and not isinstance(part, kind):
                raise TypeError(
                    f"Expected steps of type {kind.__name__}, which run from {direction} in one pass, "
                    f"received {type(part).__name__}."
                )
        return parts

    def call(self, x, context=None):
        if isinstance(x, (list, tuple)):
            x, context = x
        return self.log_prob(x, context)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean of -log p, or the compiled loss where `compile` was given one."""
        if self._compile_loss is not None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        weight = 1.0 if sample_weight is None else ops.reshape(ops.cast(sample_weight, y_pred.dtype), ops.shape(y_pred))
        return backend.per_replica(-ops.mean(weight * y_pred))

    def fit(self, x=None, y=None, *args, **options):
        """As Keras's, but weights count without targets, too, in the training and in `validation_data`."""
        options = _named(super().fit, x, y, *args, **options)
        held = options.get("validation_data")
        if isinstance(held, (list, tuple)) and len(held) == 3:
            options["validation_data"] = held[0], _targets(held[1], held[2]), held[2]
        return super().fit(x, _targets(y, options.get("sample_weight")), **options)

    def evaluate(self, x=None, y=None, *args, **options):
        """As Keras's, but weights count without targets, too."""
        options = _named(super().evaluate, x, y, *args, **options)
        return super().evaluate(x, _targets(y, options.get("sample_weight")), **options)

    def get_config(self):
        return {"name": self.name, "bijection": keras.saving.serialize_keras_object(self.bijection)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "bijection": keras.saving.deserialize_keras_object(config["bijection"])})


@keras.saving.register_keras_serializable("zdckeras")
class Generator(keras.Model):
    """A flow run from latent to data as a model of its own: `predict` compiles it once, `export` ships it.

        x = f(z; c)

    Arguments:
        flow: the `Flow`, whose weights are shared.

    Returns:
        From a call on noise z (B, D) and context (B, C) or None, or on the pair [noise, context]: x (B, D).

    Raises:
        ValueError: if an input does not fit the sizes of the flow.

    Example:
        >>> import numpy as np
        >>> generator = Generator(Flow.iaf(variables=2, steps=1, hidden=(8,)))
        >>> generator.predict(np.ones((3, 2), "float32"), verbose=0).tolist()[0]
        [1.0, 1.0]
    """

    def __init__(self, flow, **kwargs):
        super().__init__(**{"dtype": flow.dtype_policy, **kwargs})
        self.flow = flow
        self.built = True

    def call(self, noise, context=None):
        if isinstance(noise, (list, tuple)):
            noise, context = noise
        return self.flow.generate(noise, context)

    def get_config(self):
        return {"name": self.name, "flow": keras.saving.serialize_keras_object(self.flow)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "flow": keras.saving.deserialize_keras_object(config["flow"])})


def _named(method, x, y, *args, **options):
    """What a method is given beside x and y, by name."""
    given = dict(list(inspect.signature(method).bind(x, y, *args, **options).arguments.items())[2:])
    further = given.pop("kwargs", {})
    return {**given, **further}


def _targets(y, sample_weight):
    """Zeros in place of targets that there are none of, without which Keras leaves weights out."""
    return np.zeros(len(sample_weight), "float32") if y is None and sample_weight is not None else y


def _chain(kind, variables, context, steps, permutation_seed, seed, alternating, step):
    """Chain of steps with permutations between; weights and orders of the k-th seeded apart."""
    if steps < 1:
        raise ValueError(f"Expected at least one step, received {steps}.")
    if alternating and permutation_seed is None:
        raise ValueError("Expected a permutation_seed, of the random orders, with alternating=True, received None.")
    policy = {"dtype": step["dtype"]} if "dtype" in step else {}
    parts = []
    for index in range(steps):
        if index:
            reverse = permutation_seed is None or alternating and (steps - index) % 2 == 1
            order = None if reverse else permutation_seed + index
            parts.append(Permutation(variables, seed=order, context=context, **policy))
        parts.append(kind(variables, context, seed=None if seed is None else seed + 1000 * index, **step))
    return Chain(parts, **policy)
