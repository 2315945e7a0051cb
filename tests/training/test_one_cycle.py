"""One cycle of the learning rate, and optimizers with a study's constants."""

import keras
import numpy as np
import pytest

from zdckeras.training.batches import Batches
from zdckeras.training.loop import SampleLoss, fit_adam, fit_arrays
from zdckeras.training.one_cycle import OneCycle, tuned

CYCLE = dict(rise=0.25, start=35.0, end=770.0)


def test_rates_are_two_halves_of_a_cosine():
    """As piecewise interpolation by (1 + cos) / 2 between r / a, r and r / (a b); constant after the end."""
    cycle = OneCycle(3.5e-3, 80, **CYCLE)
    low, last = 3.5e-3 / 35, 3.5e-3 / 35 / 770
    for step in (0, 1, 7, 19, 20, 33, 79, 80, 200):
        share = step / 20 if step < 20 else min((step - 20) / 60, 1.0)
        first, then = (low, 3.5e-3) if step < 20 else (3.5e-3, last)
        assert float(cycle(step)) == pytest.approx(then + (first - then) * (1 + np.cos(np.pi * share)) / 2, rel=1e-4,
                                                   abs=1e-9)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(cycle))
    assert again.get_config() == cycle.get_config() and float(again(33)) == float(cycle(33))


def test_first_step_of_a_tuned_adam_is_the_rate_and_the_decay():
    """Of a weight of 2 with gradient 1: 2 - r (1 + 2 d)."""
    weight = keras.Variable([2.0])
    one = tuned(10, 0.01, beta_1=0.7, beta_2=0.8, epsilon=1e-9, weight_decay=0.5)
    one.apply([keras.ops.ones((1,))], [weight])
    assert float(weight[0]) == pytest.approx(2.0 - 0.01 * (1.0 + 2.0 * 0.5), rel=1e-4)
    assert type(tuned(10, 0.01, nesterov=True)) is keras.optimizers.Nadam
    assert tuned(10, 0.01, nesterov=True, weight_decay=0.5).weight_decay == 0.5


def test_rates_that_warm_up_and_rates_that_fall():
    """A line up and half a cosine down to 0, as diffusers has it; tenths after shares of the steps, as in torch."""
    adam = tuned(100, 2e-3, warmup=0.1, global_clipnorm=1.0)
    for step, rate in ((0, 0.0), (5, 1e-3), (10, 2e-3), (55, 1e-3), (100, 0.0)):
        assert float(adam._learning_rate(step)) == pytest.approx(rate, abs=1e-8)
    assert adam.global_clipnorm == 1.0
    falling = tuned(100, 1e-3, falls=(0.2, 0.5))
    found = [float(falling._learning_rate(step)) for step in (0, 19, 21, 49, 51, 99)]
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    halved = tuned(100, 1e-3, falls=(0.2, 0.5), fall=0.5).get_config()["learning_rate"]["config"]["values"]
    assert halved == [1e-3, 5e-4, 2.5e-4]
    for fall in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match=f"fall: expected a factor between 0 and 1, received {fall}"):
            tuned(100, 1e-3, falls=(0.2,), fall=fall)
    with pytest.raises(ValueError, match="one of cycle, warm-up and falls"):
        tuned(100, 1e-3, cycle=CYCLE, warmup=0.1)
    with pytest.raises(ValueError, match=r"rise between 0 and 1, received \[0.5, 0.2\]"):
        tuned(100, 1e-3, falls=(0.5, 0.2))


class Line(SampleLoss):
    """(a x - 3)^2."""

    def __init__(self):
        super().__init__()
        self.a = self.add_weight(shape=(1,), initializer="zeros")
        self.built = True

    def call(self, inputs):
        return keras.ops.square(self.a[0] * inputs["x"] - 3.0)


def test_a_training_with_them_is_taken_up_where_it_stopped(tmp_path, eager):
    """Nadam keeps a product over all steps, which its state must hold."""
    arrays, how = {"x": np.ones(64, "float32")}, dict(rate=0.1, beta_1=0.8, beta_2=0.7, nesterov=True, cycle=CYCLE)
    found = {}
    for name, stops in {"once": (4,), "twice": (2, 4)}.items():
        for until in stops:
            model = Line()
            fit_adam(model, Batches(arrays, 16), tmp_path / f"{name}.npz", 4, 1.0, until=until, adam=how)
        found[name] = float(model.a[0])
    assert found["once"] == found["twice"] != 0.0
    fit_arrays(model := Line(), arrays, tmp_path / "arrays.npz", 4, 16, 1.0, adam=how)
    assert float(model.a[0]) == found["once"]


@pytest.mark.parametrize("wrong", [dict(rise=1.0), dict(start=0.5), dict(end=0.0)])
def test_wrong_cycles(wrong):
    with pytest.raises(ValueError, match="a rise of 0 to 1, start and end of at least 1"):
        OneCycle(1e-3, 10, **{**CYCLE, **wrong})
    with pytest.raises(ValueError, match="a rate above 0"):
        OneCycle(0.0, 10, **CYCLE)
