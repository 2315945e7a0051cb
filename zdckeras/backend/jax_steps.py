"""Gradients and training steps of models with several losses, on JAX, where a step is a pure function of the state.

The whole step runs inside a `keras.StatelessScope` that holds the value of every variable. Each gradient opens another
scope on top, so that what a loss assigns (moving averages, random states) leaves the differentiated function as a
result and not as a leaked tracer; the outer scope takes the new values over.
"""

from contextlib import contextmanager, suppress

import jax
import keras

_used = []  # names of the devices that share batches; none, or more than one


class _Scope(keras.StatelessScope):
    """A stateless scope that starts from the values of the one around it and knows which of them changed."""

    current = None

    def __init__(self, mapping=()):
        super().__init__(mapping)
        if _Scope.current is not None:
            self.state_mapping = {**_Scope.current.state_mapping, **self.state_mapping}
        self.first = dict(self.state_mapping)

    def __enter__(self):
        self.around, _Scope.current = _Scope.current, self
        return super().__enter__()

    def __exit__(self, *error):
        _Scope.current = self.around
        super().__exit__(*error)

    def updates(self):
        """Variable id -> value, of all that were assigned inside."""
        return {key: value for key, value in self.state_mapping.items() if value is not self.first.get(key)}


def _take(updates):
    """Make the values that an inner scope handed back those of the scope that is open now."""
    if _Scope.current is not None:
        _Scope.current.state_mapping.update(updates)


def value_and_grad(loss, variables):
    """Value, remarks and gradients of a loss: see `zdckeras.backend.steps`."""
    variables = list(variables)

    def stateless(values):
        with _Scope(zip(variables, values, strict=True)) as scope:
            value, remarks = loss()
        return value, (remarks, scope.updates())

    (value, (remarks, updates)), gradients = jax.value_and_grad(stateless, has_aux=True)([v.value for v in variables])
    _take(updates)
    return value, remarks, gradients


def grad(function, x):
    """Gradient of sum(function(x)) by x: see `zdckeras.backend.steps`."""

    def stateless(x):
        with _Scope() as scope:
            value = keras.ops.sum(function(x))
        return value, scope.updates()

    gradient, updates = jax.grad(stateless, has_aux=True)(keras.ops.convert_to_tensor(x))
    _take(updates)
    return gradient


def apply(optimizer, gradients, variables):
    """One update of an optimizer: see `zdckeras.backend.steps`.

    By its stateless form: one that branches (`keras.optimizers.LossScaleOptimizer`) would leave tracers of its branches
    in the scope.
    """
    variables, state = list(variables), optimizer.variables
    values, states = optimizer.stateless_apply([v.value for v in state], gradients, [v.value for v in variables])
    for variable, value in zip([*variables, *state], [*values, *states], strict=True):
        variable.assign(value)


def matmul(a, b):
    """A product in float32 proper: see `zdckeras.backend.exact_matmul`."""
    return jax.numpy.matmul(*map(keras.ops.convert_to_tensor, (a, b)), precision="highest")


def use_devices(number):
    """Names of the devices there are, of which the first are used from now on: see `zdckeras.backend.use_devices`."""
    with suppress(RuntimeError):  # too late once JAX has looked for devices
        jax.config.update("jax_num_cpu_devices", number)
    found = keras.distribution.list_devices()
    _used[:] = found[:number]
    return found


@contextmanager
def shared(model):
    """Batches are shared while it lasts: see `zdckeras.backend.shared`.

    All variables have a layout meanwhile. What is assigned to one without it, as metrics are at every epoch's begin,
    would come to one device alone, and a step whose inputs are placed otherwise is compiled anew.
    """
    if len(_used) < 2:
        yield
        return
    distribution = keras.distribution.DataParallel(devices=_used, auto_shard_dataset=False)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    _place(model, distribution.get_variable_layout)
    try:
        with distribution.scope():
            yield
    finally:
        _place(model, lambda variable: jax.sharding.SingleDeviceSharding(jax.devices()[0]))
        for variable in _variables(model):
            variable._layout = None


def _variables(model):
    """Those of a model, its optimizer and its metrics, each once."""
    every = (*model.variables, *model.optimizer.variables, *model.metrics_variables)
    return list({id(variable): variable for variable in every}.values())


def _place(model, layout_of):
    """Put all values of a model and its optimizer where their layouts say; drop functions compiled before."""
    for variable in _variables(model):
        variable._layout = layout_of(variable)
        variable.assign(variable.value)
    model.train_function = model.test_function = model.predict_function = None


class Steps:
    """`train_step` and `test_step` as JAX's trainer calls them."""

    def train_step(self, state, data):
        return self._stateless(self.train_on, state, data, (
            self.trainable_variables, self.non_trainable_variables, self.optimizer.variables, self.metrics_variables))

    def test_step(self, state, data):
        return self._stateless(self.test_on, state, data, (
            self.trainable_variables, self.non_trainable_variables, self.metrics_variables))

    @staticmethod
    def _stateless(step, state, data, variables):
        mapping = [pair for group, values in zip(variables, state, strict=True)
                   for pair in zip(group, values, strict=True)]
        with _Scope(mapping) as scope:
            logs = step(data)
        return logs, tuple([scope.get_current_value(v) for v in group] for group in variables)
