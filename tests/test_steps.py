"""Gradients of the running backend: zdckeras/backend/*_steps.py."""

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.training.phases import Phase, PhasedModel

steps = backend.steps()
numpy = ops.convert_to_numpy


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def test_value_remarks_and_gradients():
    """L = a . a + 3 b has the gradients 2 a and 3, and none by c."""
    a, b, c = (keras.Variable(np.array(v, "float32")) for v in ([1.0, -2.0], 4.0, [[5.0]]))

    def loss():
        value = ops.sum(ops.square(a)) + 3.0 * b
        return value, {"twice": 2.0 * value, "parts": [ops.sum(a)]}

    value, remarks, gradients = steps.value_and_grad(loss, (variable for variable in (a, b, c)))
    assert float(value) == 17.0
    assert float(remarks["twice"]) == 34.0 and float(remarks["parts"][0]) == -1.0
    assert [numpy(g).tolist() for g in gradients] == [[2.0, -4.0], 3.0, [[0.0]]]


def test_variables_that_are_not_asked_for_are_constants():
    a, b = keras.Variable(2.0), keras.Variable(3.0)
    _, _, gradients = steps.value_and_grad(lambda: (a * b, ()), [b])
    assert [float(g) for g in gradients] == [2.0]


def test_gradient_by_inputs():
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(numpy(steps.grad(lambda x: ops.sum(x**3, axis=-1), x)), [[3.0, 12.0], [27.0, 48.0]],
                               rtol=1e-6)
    assert numpy(steps.grad(lambda x: tensor([5.0]), x)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_gradient_can_be_differentiated_by_inputs_and_weights():
    """f = w x^3: grad f = 3 w x^2, whose gradients are 6 w x and 3 x^2."""
    w, x = keras.Variable(np.array(2.0, "float32")), tensor([1.0, -2.0])
    inner = lambda x: steps.grad(lambda x: w * x**3, x)  # noqa: E731
    np.testing.assert_allclose(numpy(steps.grad(inner, x)), [12.0, -24.0], rtol=1e-6)
    _, _, (gradient,) = steps.value_and_grad(lambda: (ops.sum(inner(x)), ()), [w])
    assert float(gradient) == pytest.approx(15.0, rel=1e-6)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "LossScaleOptimizer"])
def test_apply_is_one_update(kind):
    """The first step of each is lr times the gradient (of unit size, for Adam)."""
    inner = keras.optimizers.Adam(0.5) if kind == "Adam" else keras.optimizers.SGD(0.5)
    scaled = kind == "LossScaleOptimizer"
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0) if scaled else inner
    weight, gradient = keras.Variable(np.array([1.0, 2.0], "float32")), np.array([1.0, -1.0], "float32")
    optimizer.build([weight])
    steps.apply(optimizer, [tensor(gradient * (4.0 if scaled else 1.0))], [weight])
    np.testing.assert_allclose(numpy(weight), [0.5, 2.5], rtol=1e-5)
    assert int(optimizer.iterations) == 1


def test_loss_scale_is_halved_where_a_gradient_overflows():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=4.0)
    weight = keras.Variable(np.array([1.0, 2.0], "float32"))
    optimizer.build([weight])
    steps.apply(optimizer, [tensor([np.inf, 1.0])], [weight])
    assert numpy(weight).tolist() == [1.0, 2.0]
    assert float(optimizer.dynamic_scale) == 2.0 and int(optimizer.iterations) == 0


class Normalised(PhasedModel):
    """A trained layer with moving averages, in the loss itself and under the gradient by its inputs."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
        self.body = keras.Sequential([keras.layers.BatchNormalization(momentum=0.5, epsilon=0.0),
                                      keras.layers.Dense(1, kernel_initializer="ones")])
        self.body.build((None, 2))
        self.built = True

    def phases(self):
        return {"only": Phase(self._loss, (self.body,), ("term",))}

    def _loss(self, batch, training):
        def body(x):
            return self.body(x, training=training)

        if not self.inner:
            return {"term": ops.mean(ops.square(body(batch["x"]) - batch["y"]))}
        return {"term": ops.mean(ops.square(steps.grad(lambda x: ops.square(body(x) - batch["y"]), batch["x"])))}


@pytest.mark.parametrize("inner", [False, True])
def test_moving_averages_leave_the_differentiated_function(inner):
    """m <- (m + mean x) / 2 once a step, in a compiled step too, and nothing in evaluation."""
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(2.0, 3.0, (8, 2)).astype("float32"), "y": rng.normal(size=(8, 1)).astype("float32")}
    model = Normalised(inner)
    model.compile({"only": keras.optimizers.SGD(0.01)}, jit_compile=backend.jit_compile())
    before = numpy(model.body.layers[1].kernel)
    losses = [model.train_on_batch(batch, return_dict=True)["loss"] for _ in range(2)]
    normal, dense = model.body.layers
    np.testing.assert_allclose(numpy(normal.moving_mean), 0.75 * batch["x"].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(numpy(normal.moving_variance), 0.25 + 0.75 * batch["x"].var(axis=0), rtol=1e-5)
    assert np.isfinite(losses).all() and losses[1] < losses[0]
    assert (numpy(dense.kernel) != before).all()
    kept = numpy(normal.moving_mean)
    assert np.isfinite(model.test_on_batch(batch, return_dict=True)["loss"])
    assert np.array_equal(numpy(normal.moving_mean), kept)
