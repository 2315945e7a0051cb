import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.layers.dense import linear
from zdckeras.training.batches import Batches
from zdckeras.training.loop import SampleLoss, train
from zdckeras.training.states import StateError, read_state, write_state

ARRAYS = {"x": np.arange(16.0).reshape(8, 2) / 16.0}


class Square(SampleLoss):
    """(a x + b - z)^2."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.built = linear(2, 1, iter([1])), True

    def call(self, inputs):
        return ops.square(self.dense(inputs["x"])[:, 0] - inputs["z"][:, 0])


class Stop(keras.callbacks.Callback):
    """Ends a training after some epoch."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 == self.after


def batches(**settings):
    return Batches(ARRAYS, **{"batch_size": 4, "seed": 5, "normal": {"z": (1,)}, **settings})


def square(**settings):
    model = Square()
    model.compile(keras.optimizers.Adam(0.05, **settings))
    return model


def fitted(path, epochs, model=None, **settings):
    """Losses and weights, of a fresh model as a new process would have it."""
    model = model or square()
    history = train(model, batches(), epochs, path, verbose=0, **settings)
    return history["loss"], model.get_weights()


def same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def averaged():
    return square(use_ema=True, ema_momentum=0.9)


@pytest.mark.parametrize(("epochs", "callbacks"), [(3, []), (6, [Stop(3)])])
def test_averages_of_an_optimizer_do_not_take_the_place_of_the_weights(tmp_path, epochs, callbacks):
    """Between saves, where the last epoch comes after `fit` has averaged; one at a time is saved before."""
    whole = fitted(tmp_path / "whole.npz", 6, averaged())
    fitted(tmp_path / "a.npz", epochs, averaged(), every=2, callbacks=callbacks)
    same(fitted(tmp_path / "a.npz", 6 + (epochs == 6), averaged(), every=2, callbacks=[Stop(6)]), whole)
    same(fitted(tmp_path / "a.npz", 6, averaged()), whole)
    same(fitted(tmp_path / "whole.npz", 6, averaged()), whole)  # the averages, of a training that is found finished


def test_the_same_model_goes_on_after_its_weights_were_averaged(tmp_path):
    whole, model = fitted(tmp_path / "whole.npz", 4, averaged()), averaged()
    fitted(tmp_path / "a.npz", 2, model)
    same(fitted(tmp_path / "a.npz", 4, model), whole)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_half_precision_are_read_again(tmp_path, dtype):
    """Exactly: bfloat16, too, which NumPy would write as bytes without a type."""
    variables = [keras.Variable(np.array([0.1, -3.0, 2.0**-120]), dtype=dtype) for _ in range(2)]
    written = [variable.numpy() for variable in variables]
    write_state(tmp_path / "a.npz", written, {"epochs": 1, "history": {}})
    for variable in variables:
        variable.assign(np.zeros(3))
    read_state(tmp_path / "a.npz", variables)
    assert all((variable.numpy() == value).all() for variable, value in zip(variables, written, strict=True))
    assert keras.backend.standardize_dtype(variables[0].dtype) == dtype and float(written[0][0]) != 0.1


def halved():
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)


def test_a_training_goes_on_in_one_session_where_a_callback_changed_the_rate(tmp_path):
    whole, model = fitted(tmp_path / "whole.npz", 4, callbacks=[halved()]), square()
    fitted(tmp_path / "a.npz", 2, model, callbacks=[halved()])
    same(fitted(tmp_path / "a.npz", 4, model, callbacks=[halved()]), whole)
    same(fitted(tmp_path / "a.npz", 4, model), whole)  # found finished
    assert read_state(tmp_path / "a.npz")["training"] == read_state(tmp_path / "whole.npz")["training"]
    model.optimizer.learning_rate = 0.01
    with pytest.raises(StateError, match="expected optimizer.learning_rate 0.0[0-9]*, received 0.05"):
        fitted(tmp_path / "a.npz", 6, model)


def test_shuffled_validation_goes_on_with_its_epoch(tmp_path):
    def losses(name, epochs):
        model = square()
        held = batches(batch_size=3, seed=6)  # leaves rows out, others in every epoch
        return train(model, batches(), epochs, tmp_path / name, validation=held, verbose=0)["val_loss"]

    whole = losses("whole.npz", 3)
    losses("a.npz", 1)
    assert losses("a.npz", 3) == pytest.approx(whole, rel=1e-6)


def test_a_training_that_a_callback_ended_is_found_again(tmp_path):
    """With the weights of its best epoch, the first; for more epochs it goes on from the last."""
    def best():
        return [keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=2, restore_best_weights=True)]

    whole, first = fitted(tmp_path / "whole.npz", 6), fitted(tmp_path / "first.npz", 1)
    stopped = fitted(tmp_path / "a.npz", 5, callbacks=best())
    same((stopped[0][:1], stopped[1]), first)
    assert len(stopped[0]) == 3
    for callbacks in (best(), []):
        same(fitted(tmp_path / "a.npz", 5, callbacks=callbacks), stopped)
    same(fitted(tmp_path / "a.npz", 6), whole)
    complete = fitted(tmp_path / "b.npz", 3, callbacks=best())  # as many epochs as were asked for
    same(complete, stopped)
    same(fitted(tmp_path / "b.npz", 3), stopped)
