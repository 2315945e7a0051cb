"""Gradients and training steps of models with several losses, on JAX, where a step is a pure function of the state.

The whole step runs inside a `keras.StatelessScope` that holds the value of every variable. Each gradient opens another
scope on top, so that what a loss assigns (moving averages, random states) leaves the differentiated function as a
result and not as a leaked tracer; the outer scope takes the new values over.
"""

import jax
import keras


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
