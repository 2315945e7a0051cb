"""Models trained by several losses with several optimizers: a train step of named phases, the same on every backend."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import ops

from zdckeras import backend

_steps = backend.steps()


@dataclass(frozen=True)
class Phase:
    """One part of a train step: minimise a loss over the variables of some layers.

    Arguments:
        loss: function (batch, training) -> {term: scalar tensor}; what is minimised is the sum of the terms.
        layers: layers whose trainable variables move; all others are constants of this phase.
        terms: names that `loss` returns, in any order.
        repeats: how often the phase runs in a step. A batch is cut into as many equal parts as the most frequent
            phase has repeats; the k-th repetition sees the k-th part.
        watched: further names that `loss` returns, recorded but not minimised, such as a critic's accuracy.
    """

    loss: Callable
    layers: tuple
    terms: tuple
    repeats: int = 1
    watched: tuple = ()

    @property
    def variables(self):
        """The variables that this phase moves."""
        return [variable for layer in self.layers for variable in layer.trainable_variables]

    def total(self, terms):
        """What is minimised: the sum of the terms that are not only watched."""
        return sum(value for term, value in terms.items() if term not in self.watched)


@keras.saving.register_keras_serializable("zdckeras")
class PhaseOptimizers(keras.optimizers.Optimizer):
    """One optimizer for each phase, kept, saved and restored as one.

    `learning_rate` is that of the first phase; setting it multiplies those of all phases by the same factor, so that
    callbacks such as `ReduceLROnPlateau` keep their ratio.

    Arguments:
        optimizers: phase name -> `keras.optimizers.Optimizer`.

    Raises:
        ValueError: for no optimizers, or one that averages weights itself (`use_ema`): see `PhasedModel.averages`.

    Example:
        >>> both = PhaseOptimizers({"critic": keras.optimizers.Adam(4e-4), "generator": keras.optimizers.Adam(1e-4)})
        >>> both.learning_rate = 2e-4
        >>> [round(float(o.learning_rate), 6) for o in both.by_phase.values()]
        [0.0002, 5e-05]
    """

    def __init__(self, optimizers, name="phases"):
        super().__init__(learning_rate=1.0, name=name)
        if not optimizers:
            raise ValueError("Expected at least one optimizer, received none.")
        for phase, optimizer in optimizers.items():
            if optimizer.use_ema:
                raise ValueError(f"{phase}: use_ema is not supported; a phased model averages weights itself.")
        self.by_phase = dict(optimizers)

    def build(self, variables):
        """Nothing of its own: `PhasedModel.compile` builds each optimizer on the variables of its phase."""
        self._trainable_variables = list(variables)
        self.built = True

    @property
    def variables(self):
        return [*self._variables, *(v for optimizer in self.by_phase.values() for v in optimizer.variables)]

    @property
    def iterations(self):
        return next(iter(self.by_phase.values())).iterations

    @property
    def learning_rate(self):
        return next(iter(self.by_phase.values())).learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        factor = float(value) / float(ops.convert_to_numpy(self.learning_rate))
        for optimizer in self.by_phase.values():
            optimizer.learning_rate = factor * float(ops.convert_to_numpy(optimizer.learning_rate))

    def finalize_variable_values(self, var_list):
        """Nothing to finish."""

    def save_own_variables(self, store):
        for index, variable in enumerate(self._variables):
            store[str(index)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        for index, variable in enumerate(self._variables):
            variable.assign(store[str(index)])

    def get_config(self):
        inner = {name: keras.saving.serialize_keras_object(o) for name, o in self.by_phase.items()}
        return {"optimizers": inner, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        inner = {name: keras.saving.deserialize_keras_object(o) for name, o in config["optimizers"].items()}
        return cls(inner, config["name"])


class PhasedModel(_steps.Steps, keras.Model):
    """A `keras.Model` whose train step runs named phases in order, each with its own loss, variables and optimizer.

    Subclasses define `phases()`, `call` for prediction, and are built when constructed. `fit`, `evaluate`, callbacks,
    `save` and `load_model` are Keras's own. The log has `loss` (sum over phases) and `<phase>_<term>` for every term;
    `evaluate` computes the same without training; means over batches count their rows. Losses take their noise from the
    batch, so that all backends train on the same numbers.

    Arguments:
        momentum: m of the weight averages, w' <- m' w' + (1 - m') w after every step, with
            m' = min(m, (1 + t) / (10 + t)) so that the first steps are soon forgotten.

    Attributes:
        device_noise: `DeviceNoise` that adds the noise to batches, None where it comes with them.
    """

    def __init__(self, momentum=0.999, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.momentum, self.device_noise = momentum, None

    def phases(self):
        """Phase name -> `Phase`, in the order of the step."""
        raise NotImplementedError

    def averages(self):
        """Pairs (trained layer, its twin), the twin keeping the moving average of the weights."""
        return ()

    def compile(self, optimizer, **kwargs):
        """As `keras.Model.compile`, with one optimizer for each phase.

        Arguments:
            optimizer: phase name -> optimizer, or `PhaseOptimizers`.
            kwargs: `jit_compile`, `run_eagerly`, ...

        Raises:
            ValueError: unless there is exactly one optimizer for each phase, and every phase has variables.
        """
        if not isinstance(optimizer, PhaseOptimizers):
            optimizer = PhaseOptimizers(optimizer)
        self._phases = self.phases()
        if set(optimizer.by_phase) != set(self._phases):
            raise ValueError(f"Expected one optimizer for each of the phases {', '.join(self._phases)}; "
                             f"received optimizers for {', '.join(optimizer.by_phase)}.")
        super().compile(optimizer=optimizer, **{**kwargs, "auto_scale_loss": False})
        for name, phase in self._phases.items():
            if not phase.variables:
                raise ValueError(f"{name}: expected layers with trainable variables, found none.")
            if not optimizer.by_phase[name].built:
                optimizer.by_phase[name].build(phase.variables)
        optimizer.build(self.trainable_variables)
        getattr(self, "_terms", {}).clear()  # of an earlier call, which Keras would go on reporting
        self._terms = {f"{name}_{term}": keras.metrics.Mean(name=f"{name}_{term}")
                       for name, phase in self._phases.items() for term in (*phase.terms, *phase.watched)}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    def train_on(self, data):
        """All phases on one batch; returns the logs."""
        batch = self._batch(data)
        parts = _cut(batch, max(phase.repeats for phase in self._phases.values()))
        total = 0.0
        for name, phase in self._phases.items():
            values = [self._minimise(name, phase, part) for part in parts[: phase.repeats]]
            total = total + sum(values) / len(values)
        self._average()
        return self._logs(total, batch)

    def test_on(self, data):
        """The losses of all phases on one batch, nothing trained; returns the logs."""
        batch = self._batch(data)
        return self._logs(sum(self._value(name, phase, batch, False) for name, phase in self._phases.items()), batch)

    def _batch(self, data):
        batch = _tensors(data)
        return batch if self.device_noise is None else self.device_noise(batch)

    def _value(self, name, phase, batch, training):
        """Sum of a phase's terms, each recorded."""
        terms = phase.loss(batch, training)
        self._record(name, terms, batch)
        return phase.total(terms)

    def _minimise(self, name, phase, batch):
        """One gradient step of one phase; returns the loss before it."""
        optimizer, variables = self.optimizer.by_phase[name], phase.variables

        def loss():
            terms = {term: ops.cast(value, "float32") for term, value in phase.loss(batch, True).items()}
            return optimizer.scale_loss(backend.per_replica(phase.total(terms))), terms

        _, terms, gradients = _steps.value_and_grad(loss, variables)
        _steps.apply(optimizer, gradients, variables)
        self._record(name, terms, batch)
        return phase.total(terms)

    def _record(self, name, terms, batch):
        for term, value in terms.items():
            self._terms[f"{name}_{term}"].update_state(value, _rows(batch))

    def _average(self):
        for trained, twin in self.averages():
            steps = ops.cast(self.optimizer.iterations, "float32") / next(iter(self._phases.values())).repeats
            momentum = ops.minimum(self.momentum, (1.0 + steps) / (10.0 + steps))
            for source, target in zip(trained.variables, twin.variables, strict=True):
                target.assign(target + (1.0 - momentum) * (source - target))

    def _logs(self, total, batch):
        self._loss_tracker.update_state(total, _rows(batch))
        return self.get_metrics_result()


def _tensors(data):
    """The batch in what `fit` hands over; uncompiled JAX and torch would see its NumPy arrays."""
    return keras.tree.map_structure(ops.convert_to_tensor, keras.utils.unpack_x_y_sample_weight(data)[0])


def _rows(batch):
    """How many rows a batch has; a tensor in a graph for batches of any size."""
    first = next(iter(batch.values()))
    return first.shape[0] or ops.shape(first)[0]


def _cut(batch, parts):
    """The rows of a batch in equal parts, a list of batches."""
    if parts == 1:
        return [batch]
    rows = _rows(batch)
    if isinstance(rows, int) and rows < parts:
        raise ValueError(f"Expected a batch of at least {parts} rows, one for each repetition of a phase, received "
                         f"{rows}.")
    rows = rows // parts
    return [{name: values[k * rows : (k + 1) * rows] for name, values in batch.items()} for k in range(parts)]
