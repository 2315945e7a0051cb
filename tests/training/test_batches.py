import keras
import numpy as np
import pytest

from zdckeras.training.batches import Batches

ROWS, BATCH = 40, 8


def data(**changes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2))
    settings = {"batch_size": BATCH, "seed": 3, "normal": {"z": (1,)}, "uniform": {"u": (2, 2)}}
    return Batches({"x": x, "y": x @ [[1.0], [-2.0]]}, **{**settings, **changes})


def test_batches_repeat_and_differ_between_epochs():
    def epoch(batches, number):
        batches.start_epoch(number)
        return {name: np.stack([batches[i][0][name] for i in range(len(batches))]) for name in ("x", "u", "z")}

    first, again, later, other = epoch(data(), 1), epoch(data(), 1), epoch(data(), 2), epoch(data(seed=4), 1)
    for name, values in first.items():
        assert np.array_equal(values, again[name])
        assert not np.array_equal(values, later[name])
        assert not np.array_equal(values, other[name])
    assert first["u"].min() >= 0 and first["u"].max() < 1
    assert abs(first["z"].mean()) < 0.7 and first["z"].min() < 0


def test_batches_show_every_row_once_an_epoch():
    batches = data()
    rows = np.concatenate([batches[i][0]["x"] for i in range(len(batches))])
    assert len(batches) == ROWS // BATCH
    assert np.array_equal(np.sort(rows[:, 0]), np.sort(batches.arrays["x"][:, 0].astype("float32")))


def test_lists_are_arrays():
    batches = Batches({"x": [[1, 2], [3, 4]]}, 2, shuffle=False)
    assert batches[0][0]["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]] and batches[0][0]["x"].dtype == "float32"


def test_batches_keep_rows_of_different_arrays_together():
    (batch,) = data()[2]
    np.testing.assert_allclose(batch["y"], batch["x"] @ np.array([[1.0], [-2.0]], "float32"), rtol=1e-5)


@pytest.mark.parametrize(("whole", "sizes"), [(True, [16, 16]), (False, [16, 16, 8])])
def test_last_batch(whole, sizes):
    batches = data(batch_size=16, whole=whole)
    assert [len(batches[i][0]["x"]) for i in range(len(batches))] == sizes


def test_validation_batches_are_the_same_in_every_epoch():
    batches = data(shuffle=False)
    before = batches[0][0]
    batches.start_epoch(5)
    assert np.array_equal(before["z"], batches[0][0]["z"])
    assert np.array_equal(before["x"], batches.arrays["x"][:BATCH].astype("float32"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones(9), "y": np.ones(8)}, "arrays of one length, received {'x': 9, 'y': 8}"),
        ({"x": np.ones(5)}, "at least one batch of 8 rows, received 5"),
        ({}, "arrays of one length, received {}"),
    ],
)
def test_batches_refuse(arrays, message):
    with pytest.raises(ValueError, match=message):
        Batches(arrays, 8)


@pytest.mark.parametrize(("settings", "name"), [
    ({"batch_size": 0}, "batch_size"), ({"batch_size": -4}, "batch_size"), ({"batch_size": 2.5}, "batch_size"),
    ({"batch_size": "8"}, "batch_size"), ({"seed": -1}, "seed"), ({"seed": None}, "seed"), ({"seed": 0.5}, "seed")])
def test_sizes_and_seeds_that_are_none(settings, name):
    with pytest.raises(ValueError, match=f"{name}: expected a whole number of at least [01], received"):
        data(**settings)


class NoiseMean(keras.Model):
    """Its loss is the mean of the noise, which no training changes."""

    def __init__(self):
        super().__init__()
        self.nothing = self.add_weight(shape=(), initializer="zeros")
        self.built = True

    def call(self, inputs):
        return inputs["z"][:, 0] + 0.0 * self.nothing

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(y_pred)


def expected(batches, epoch):
    batches.start_epoch(epoch)
    return float(np.mean([batches[i][0]["z"] for i in range(len(batches))]))


def test_each_epoch_of_a_plain_fit_has_its_own_order_and_noise():
    means = [expected(data(), epoch) for epoch in range(5)]
    assert len(set(means)) == 5
    model, batches = NoiseMean(), data()
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(batches, epochs=3, shuffle=False, verbose=0, validation_data=data(shuffle=False)).history
    np.testing.assert_allclose(history["loss"], means[:3], atol=1e-6)
    np.testing.assert_allclose(history["val_loss"], [expected(data(shuffle=False), 0)] * 3, atol=1e-6)
    again = model.fit(batches, epochs=2, shuffle=False, verbose=0).history  # goes on
    np.testing.assert_allclose(again["loss"], means[3:], atol=1e-6)


def test_looking_at_batches_does_not_begin_an_epoch():
    model, batches = NoiseMean(), data()
    assert len([batches[i] for i in range(len(batches))]) == 5
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(batches, epochs=1, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], [expected(data(), 0)], atol=1e-6)
