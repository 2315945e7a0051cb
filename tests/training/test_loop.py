import json

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.training.batches import Batches
from zdckeras.training.checkpoint import Checkpoint, DivergedError
from zdckeras.training.loop import SampleLoss, annealed, fit_adam, fit_arrays, train
from zdckeras.training.states import StateError, read_state

ROWS, BATCH, EPOCHS = 40, 8, 3


class Line(keras.Model):
    """y = a x + b + noise, with a poison that makes the loss infinite from some epoch on."""

    def __init__(self, width=1, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(width, kernel_initializer=keras.initializers.GlorotUniform(0))
        self.dense.build((None, 2))
        self.built = True

    def call(self, inputs):
        return self.dense(inputs["x"])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y_pred[:, :1] - x["y"] - 0.1 * x["z"])) * ops.mean(x["poison"])


class Interrupted(Batches):
    """Ctrl-C as epoch `stop` begins."""

    stop = 1

    def start_epoch(self, epoch):
        if epoch == self.stop:
            raise KeyboardInterrupt
        super().start_epoch(epoch)


class Poisoned(Batches):
    """The data of the last epoch are not numbers."""

    def __getitem__(self, index):
        (batch,) = super().__getitem__(index)
        batch["poison"] = batch["poison"] * (np.nan if self.epoch == EPOCHS - 1 else 1.0)
        return (batch,)


def data(kind=Batches, **changes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2))
    arrays = {"x": x, "y": x @ [[1.0], [-2.0]], "poison": np.ones((ROWS, 1))}
    return kind(arrays, **{"batch_size": BATCH, "seed": 3, "normal": {"z": (1,)}, "uniform": {"u": (2, 2)}, **changes})


def line(batches, width=1):
    model = Line(width)
    model.compile(keras.optimizers.Adam(annealed(0.05, batches, EPOCHS)))
    return model


def fit(path, kind=Batches, model=None, epochs=EPOCHS, **settings):
    """A fresh model trained on fresh batches, as a new process would."""
    batches = data(kind)
    model = model or line(batches)
    history = train(model, batches, epochs, path, verbose=0, **settings)
    return model, history


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_fit_trains_on_the_batches_of_each_epoch(tmp_path):
    """Keras may peek at batches before it trains; those it trains on are seen in order."""
    seen = []

    class Watched(Batches):
        def __getitem__(self, index):
            seen.append((self.epoch, index))
            return super().__getitem__(index)

    fit(tmp_path / "state.npz", Watched)
    expected = [(epoch, index) for epoch in range(EPOCHS) for index in range(ROWS // BATCH)]
    assert seen[-len(expected):] == expected


@pytest.mark.parametrize("stop", [1, 2])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path, stop):
    whole, history = fit(tmp_path / "whole.npz")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "state.npz", type("Stopped", (Interrupted,), {"stop": stop}))
    resumed, resumed_history = fit(tmp_path / "state.npz")
    assert same(weights(resumed), weights(whole))
    assert resumed_history == history
    assert len(history["loss"]) == EPOCHS and history["loss"][-1] < history["loss"][0]


def test_finished_training_is_loaded_not_repeated(tmp_path):
    model, history = fit(tmp_path / "state.npz")
    batches = data()
    again = line(batches)
    assert train(again, batches, EPOCHS, tmp_path / "state.npz", verbose=0) == history
    assert same(weights(again), weights(model))


def test_unbuilt_model_is_built(tmp_path):
    class Pairs(Batches):
        def __getitem__(self, index):
            (batch,) = super().__getitem__(index)
            return batch["x"], batch["y"]

    batches = data(Pairs)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    history = train(model, batches, 2, tmp_path / "state.npz", verbose=0)
    assert history["loss"][1] < history["loss"][0]


def test_validation_loss_is_in_the_history(tmp_path):
    validation = data(shuffle=False, whole=False)
    _, history = fit(tmp_path / "state.npz", validation=validation)
    assert set(history) == {"loss", "val_loss"}
    assert len(history["val_loss"]) == EPOCHS


def test_diverged_training_keeps_the_last_good_state(tmp_path):
    good, _ = fit(tmp_path / "good.npz", epochs=EPOCHS - 1)
    batches = data(Poisoned)
    with pytest.raises(DivergedError, match=r"loss is nan after epoch 3; .*epoch 2 .*state.npz. Try a smaller"):
        train(line(batches), batches, EPOCHS, tmp_path / "state.npz", verbose=0)
    kept = line(batches)
    assert Checkpoint(tmp_path / "state.npz", batches).restore(kept) == EPOCHS - 1
    assert same(weights(kept), weights(good))


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """Finite losses all the way: the last step of an epoch spoils a weight, or the optimizer's state, afterwards."""
    good, _ = fit(tmp_path / "good.npz", epochs=EPOCHS - 1)
    for spoil in (lambda model: model.dense.bias.assign([np.nan]),
                  lambda model: model.optimizer.variables[-1].assign([np.inf])):
        class Spoilt(Batches):
            def start_epoch(self, epoch):
                super().start_epoch(epoch)
                self.last = epoch == EPOCHS - 1

        class Late(Checkpoint):
            def on_epoch_end(self, epoch, logs=None, spoil=spoil):
                if self.batches.last:
                    spoil(self.model)
                super().on_epoch_end(epoch, logs)

        batches, path = data(Spoilt), tmp_path / "state.npz"
        model = line(batches)
        keeper = Late(path, batches)
        keeper.restore(model)
        with pytest.raises(DivergedError, match="not finite after epoch 3; epoch 2 is saved in .*state.npz"):
            model.fit(batches, epochs=EPOCHS, callbacks=[keeper], verbose=0, shuffle=False)
        kept = line(batches)
        assert Checkpoint(path, batches).restore(kept) == EPOCHS - 1 and same(weights(kept), weights(good))
        path.unlink()


def test_divergence_in_the_first_epoch_saves_nothing(tmp_path):
    batches = data(type("AllPoison", (Batches,), {}))
    batches.arrays["poison"] = np.full((ROWS, 1), np.inf)
    with pytest.raises(DivergedError, match="epoch 1; nothing was saved. Not all values of poison in the data are fin"):
        train(line(batches), batches, EPOCHS, tmp_path / "state.npz", verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_saves_every_few_epochs_and_the_last(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a.npz", Interrupted, every=2)
    assert not (tmp_path / "a.npz").exists()
    fit(tmp_path / "b.npz", every=2)
    assert Checkpoint(tmp_path / "b.npz", data()).saved == EPOCHS


def test_state_of_another_model_is_refused(tmp_path):
    fit(tmp_path / "state.npz")
    batches = data()
    other = line(batches, width=3)
    before = weights(other)
    with pytest.raises(ValueError, match=r"state.npz holds the state of another model: expected \d+ variables"):
        train(other, batches, EPOCHS, tmp_path / "state.npz", verbose=0)
    assert same(weights(other), before)


@pytest.mark.parametrize(("changes", "rate", "told"), [
    ({"seed": 4}, 0.05, "expected seed 4, received 3"), ({"batch_size": 10}, 0.05, "batch size 10, received 8"),
    ({"normal": {"z": (2,)}}, 0.05, r"expected noise 'u \(2, 2\), z \(2,\)'"), ({}, 0.06, "optimizer.learning_rate"),
    ({"arrays": 1e-6}, 0.05, "expected data '[0-9a-f]{16}', received '[0-9a-f]{16}'")])
def test_state_of_other_data_or_settings_is_refused(tmp_path, changes, rate, told):
    fit(tmp_path / "state.npz")
    before = (tmp_path / "state.npz").read_bytes()
    batches = data(**{name: value for name, value in changes.items() if name != "arrays"})
    batches.arrays["x"][-1, 1] += changes.get("arrays", 0.0)
    model = Line()
    model.compile(keras.optimizers.Adam(annealed(rate, data(), EPOCHS)))
    with pytest.raises(StateError, match=f"state.npz is the state of another training: .*{told}"):
        train(model, batches, EPOCHS, tmp_path / "state.npz", verbose=0)
    assert (tmp_path / "state.npz").read_bytes() == before


def test_fewer_epochs_than_the_state_has_are_refused_and_more_go_on(tmp_path):
    def constant(epochs):
        model, batches = Line(), data()
        model.compile(keras.optimizers.Adam(0.01))
        return train(model, batches, epochs, tmp_path / "state.npz", verbose=0)

    three = constant(3)
    with pytest.raises(StateError, match="state.npz holds 3 epochs: expected at most the 2 asked for"):
        constant(2)
    assert constant(4)["loss"][:3] == three["loss"]


def test_state_that_does_not_say_its_data_is_taken_up_with_a_warning(tmp_path):
    """As those of earlier versions."""
    model, history = fit(tmp_path / "state.npz")
    with np.load(tmp_path / "state.npz") as state:
        arrays = dict(state)
    record = json.loads(str(arrays["record"]))
    assert record.pop("training")["batch size"] == BATCH
    np.savez(tmp_path / "state.npz", **{**arrays, "record": np.array(json.dumps(record))})
    batches = data()
    again = line(batches)
    with pytest.warns(UserWarning, match="state.npz does not say which data and settings it belongs to"):
        assert train(again, batches, EPOCHS, tmp_path / "state.npz", verbose=0) == history
    assert same(weights(again), weights(model))


def test_training_begins_where_another_ended(tmp_path):
    """On other data; its own state is then its own."""
    fit(tmp_path / "first.npz", epochs=1)
    batches = data(seed=9)
    model = line(batches)
    history = train(model, batches, 2, tmp_path / "second.npz", verbose=0, start=tmp_path / "first.npz")
    assert history["loss"][0] == read_state(tmp_path / "first.npz")["history"]["loss"][0]
    assert len(history["loss"]) == 2 and read_state(tmp_path / "second.npz")["training"]["seed"] == 9
    (tmp_path / "first.npz").unlink()
    again = line(batches)
    assert train(again, batches, 2, tmp_path / "second.npz", verbose=0, start=tmp_path / "first.npz") == history
    assert same(weights(again), weights(model))


def test_a_file_to_begin_with_is_named(tmp_path):
    batches = data()
    with pytest.raises(FileNotFoundError, match=r"No such file: .*first.npz"):
        train(line(batches), batches, 2, tmp_path / "second.npz", verbose=0, start=tmp_path / "first.npz")
    fit(tmp_path / "first.npz", epochs=2)
    with pytest.raises(StateError, match="first.npz holds 2 epochs: expected at most the 1 asked for"):
        train(line(batches), batches, 1, tmp_path / "second.npz", verbose=0, start=tmp_path / "first.npz")


def test_adam_builds_a_model_that_is_not(tmp_path):
    class Bare(SampleLoss):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return ops.square(self.dense(inputs["x"]) - inputs["y"])[:, 0]

    history = fit_adam(Bare(), data(), tmp_path / "state.npz", 2, 0.05)
    assert history["loss"][1] < history["loss"][0]


def test_damaged_state_is_named_and_left(tmp_path):
    """Cut anywhere, or with bytes changed: one error with the file's name, or none where no weight has changed."""
    path = tmp_path / "state.npz"
    fit(path)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    damaged = [whole[: len(whole) * k // 6] for k in range(6)] + [b"\x80\x04N." + whole[4:]]
    damaged.append(whole.replace(b"PK\x01\x02", b"PK\x01\x09"))  # NumPy would leave the file open
    for _ in range(20):
        damaged.append(bytearray(whole))
        damaged[-1][rng.integers(len(whole))] ^= 0xFF
    for content in damaged:
        path.write_bytes(content)
        try:
            batches = data()
            model = line(batches)
            model.optimizer.build(model.trainable_variables)
            read_state(path, [*model.variables, *model.optimizer.variables])
        except StateError as error:
            assert "state.npz" in str(error) and "pickle" not in str(error) and "\n" not in str(error)
            refused += 1
        assert path.read_bytes() == bytes(content)
    assert refused >= 20


@pytest.mark.parametrize("asks", [True, False])
def test_a_model_may_ask_for_xla_on_a_cpu(tmp_path, asks):
    model, ones = Line(), np.ones((8, 1), "float32")
    model.xla = asks
    rows = {"x": np.ones((8, 2), "float32"), **dict.fromkeys(("y", "z", "poison"), ones)}
    fit_arrays(model, rows, tmp_path / "state.npz", epochs=1, batch=8, rate=1e-3)
    assert model.jit_compile == (backend.jit_compile() or (asks and backend.jit_sampling()))


def test_annealed_rate_rises_and_falls():
    batches = data()  # 5 batches an epoch: 100 steps, of which 5 to warm up
    schedule = annealed(0.1, batches, 20)
    rate = [float(schedule(step)) for step in (0, 2, 5, 6, 50, 90, 100)]
    assert rate[0] == pytest.approx(0.01) and max(rate) == pytest.approx(0.1, rel=1e-3)
    assert rate[0] < rate[1] < rate[2] and rate[3] > rate[4] > rate[5] > rate[6]
    assert rate[-1] == pytest.approx(0.001, rel=0.05)


def test_fitting_arrays_is_fitting_batches_of_them(tmp_path):
    arrays, noise = data().arrays, dict(uniform={"u": (2, 2)}, normal={"z": (1,)})
    first, second = Line(), Line()
    expected = fit_adam(first, Batches(arrays, BATCH, 3, **noise), tmp_path / "a.npz", EPOCHS, 0.05)
    found = fit_arrays(second, arrays, tmp_path / "b.npz", EPOCHS, BATCH, 0.05, 3, **noise)
    assert found == expected and len(found["loss"]) == EPOCHS and found["loss"][-1] < found["loss"][0]
    assert same(weights(first), weights(second))
