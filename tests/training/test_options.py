import argparse
import csv

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.diffusion.denoiser import fit_averaged
from zdckeras.layers.dense import linear
from zdckeras.recipe import command_line
from zdckeras.training.adversarial import train_adversarially
from zdckeras.training.batches import Batches, silent
from zdckeras.training.loop import SampleLoss, fit_adam, fit_arrays, states_folder, train
from zdckeras.training.options import OPTIONS, DeviceNoise, add_arguments, apply_arguments, set_options
from zdckeras.training.phases import Phase, PhasedModel
from zdckeras.training.states import StateError, read_state

ARRAYS = {"x": np.arange(16.0).reshape(8, 2) / 16.0}


@pytest.fixture(autouse=True)
def options():
    """Those of this process, put back afterwards."""
    yield OPTIONS
    set_options()


class Noisy(SampleLoss):
    """Its loss has the mean of the noise in it, so that what was drawn is seen."""

    def __init__(self):
        super().__init__()
        self.dense, self.built = linear(2, 1, iter([1])), True

    def call(self, inputs):
        return ops.square(self.dense(inputs["x"])[:, 0] - inputs["z"][:, 0]) + ops.sum(inputs["u"], axis=(1, 2))


NOISE = dict(uniform={"u": (2, 2)}, normal={"z": (1,)})


def fitted(path, epochs=3, **settings):
    model = Noisy()
    history = fit_arrays(model, ARRAYS, path, epochs, 4, 0.1, seed=5, **NOISE, **settings)
    return history["loss"], model.get_weights()


class Told(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses = []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])


def test_callbacks_are_called_at_every_epoch(tmp_path):
    told = Told()
    losses, _ = fitted(tmp_path / "a.npz", callbacks=[told])
    np.testing.assert_allclose(told.losses, losses)
    batches = Batches(ARRAYS, 4, 5, **NOISE)
    stopped = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
    assert len(fit_adam(Noisy(), batches, tmp_path / "b.npz", 9, 0.1, callbacks=[stopped])["loss"]) == 2


def test_losses_are_logged_as_csv(tmp_path):
    set_options(log="csv")
    losses, _ = fitted(tmp_path / "sums.npz")
    with open(tmp_path / "logs" / "sums.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    np.testing.assert_allclose([float(row["loss"]) for row in rows], losses, rtol=1e-6)


def test_a_csv_log_has_every_epoch_once(tmp_path):
    """After a training that was ended between saves, and after one that was begun anew."""
    def logged(path, epochs):
        fitted(path, epochs)
        with open(tmp_path / "logs" / f"{path.stem}.csv", newline="") as file:
            return [row["epoch"] for row in csv.DictReader(file)]

    set_options(log="csv")
    paths = [tmp_path / f"{name}.npz" for name in "ab"]
    assert logged(paths[0], 2) == ["0", "1"]
    paths[0].unlink()
    assert logged(paths[0], 2) == ["0", "1"]
    (tmp_path / "logs" / "b.csv").write_text("epoch,loss\n0,2.0\n1,1.0\n2,0.5\n")  # a row that no state has
    model = Noisy()
    model.compile(keras.optimizers.SGD(0.1))
    for epochs in (1, 3):
        train(model, Batches(ARRAYS, 4, 5, **NOISE), epochs, paths[1], verbose=0)
    with open(tmp_path / "logs" / "b.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_losses_are_logged_for_tensorboard(tmp_path):
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorboard")
    set_options(log="tensorboard")
    losses, _ = fitted(tmp_path / "sums.npz")
    (file,) = (tmp_path / "logs" / "sums" / "train").glob("events.*")
    seen = [float(tf.make_ndarray(value.tensor)) for event in tf.compat.v1.train.summary_iterator(str(file))
            for value in event.summary.value if value.tag == "epoch_loss"]
    np.testing.assert_allclose(seen, losses, rtol=1e-6)


def test_losses_are_runs_of_mlflow(tmp_path, monkeypatch):
    """One for each training, the second not within the first."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path / 'mlruns'}")
    set_options(log="mlflow")
    losses = [fitted(tmp_path / "out" / "states" / "a1b2" / f"{name}.npz")[0] for name in ("sums", "shape")]
    client, runs = mlflow.MlflowClient(), mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert mlflow.active_run() is None and len(runs) == 2
    for run in runs:
        own = losses[["out/sums", "out/shape"].index(run.info.run_name)]
        seen = client.get_metric_history(run.info.run_id, "loss")
        assert [one.step for one in seen] == [0, 1, 2] and run.info.status == "FINISHED"
        np.testing.assert_allclose([one.value for one in seen], own, rtol=1e-6)


def test_losses_are_runs_of_weights_and_biases(tmp_path, monkeypatch):
    """Offline, as its own variables say."""
    wandb = pytest.importorskip("wandb")
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    set_options(log="wandb")
    losses, _ = fitted(tmp_path / "out" / "states" / "a1b2" / "sums.npz")
    wandb.teardown()  # its process has written all
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert b"out/sums" in content and b"zdckeras" in content
    assert all(f"{loss:.8g}"[:-1].encode() in content.split(b"epoch/loss", 1)[1] for loss in losses)


def test_unknown_logs_are_refused():
    with pytest.raises(ValueError, match="expected one of csv, tensorboard, mlflow, wandb or None, received 'text'"):
        set_options(log="text")


def test_the_device_draws_fresh_noise_of_the_right_kind():
    noise = DeviceNoise({"u": (3, 2)}, {"z": (4,)}, seed=1)
    first, second = ({name: ops.convert_to_numpy(values) for name, values in noise({"x": np.ones((500, 2))}).items()}
                     for _ in range(2))
    assert first["u"].shape == (500, 3, 2) and first["z"].shape == (500, 4) and (first["x"] == 1).all()
    assert (first["z"] != second["z"]).all() and (first["u"] != second["u"]).mean() > 0.99
    assert first["u"].min() >= 0 and first["u"].max() < 1 and abs(first["u"].mean() - 0.5) < 0.03
    assert abs(first["z"].mean()) < 0.1 and abs(first["z"].std() - 1) < 0.05


def test_every_training_lets_the_device_draw(tmp_path, options):
    """Those that bring batches of their own, too, whose rows then come without noise; validation keeps its own."""
    seen = []

    class Looking(Noisy):
        def call(self, inputs):
            seen.append(sorted(inputs))
            return super().call(inputs)

    set_options(device_noise=True)
    batches, held = (Batches(ARRAYS, 4, seed, **NOISE, shuffle=seed == 5) for seed in (5, 6))
    first = fit_adam(Looking(), batches, tmp_path / "a.npz", 2, 0.1, validation=held)
    assert seen and {tuple(names) for names in seen} == {("u", "x", "z")}
    assert sorted(batches[0][0]) == ["u", "x", "z"] and sorted(silent(batches)[0][0]) == ["x"]
    model = Noisy()
    again = fit_adam(model, batches, tmp_path / "b.npz", 2, 0.1, validation=held)
    np.testing.assert_allclose(again["val_loss"], first["val_loss"], rtol=1e-6)
    kernel, bias = model.get_weights()
    by_hand = [np.square(x @ kernel + bias - z)[:, 0] + u.sum((1, 2)) for x, z, u in (
        [held[k][0][name] for name in "xzu"] for k in (0, 1))]
    assert again["val_loss"][-1] == pytest.approx(np.mean(by_hand), rel=1e-5)
    averaged = fit_averaged(Noisy(), batches, tmp_path / "c.npz", 2, 0.1)
    set_options()
    plain = fit_averaged(Noisy(), batches, tmp_path / "d.npz", 2, 0.1)
    assert not np.allclose(averaged["loss"], plain["loss"])


class Counting(Noisy):
    """Counts the steps of training in a layer inside."""

    class Steps(keras.layers.Layer):
        def build(self, shape):
            self.taken = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x, training=False):
            if training:
                self.taken.assign_add(1.0)
            return x

    def __init__(self):
        super().__init__()
        self.steps = self.Steps()
        self.steps.build((None, 2))

    def call(self, inputs, training=False):
        return super().call(inputs | {"x": self.steps(inputs["x"], training=training)})


def test_what_happens_in_training_alone_happens_with_noise_of_the_device(tmp_path):
    """Two epochs of two batches, with validation, are four steps."""
    for device_noise in (False, True):
        model, (batches, held) = Counting(), (Batches(ARRAYS, 4, seed, **NOISE) for seed in (5, 6))
        fit_adam(model, batches, tmp_path / f"{device_noise}.npz", 2, 0.1, validation=held, device_noise=device_noise)
        assert float(model.steps.taken) == 4.0


def test_a_training_without_its_noise_is_not_taken_up_with_another(tmp_path):
    first = Batches({"x": ARRAYS["x"], "u": np.zeros((8, 2, 2))}, 4, 5, normal={"z": (1,)})
    fit_adam(Noisy(), first, tmp_path / "a.npz", 1, 0.1, device_noise=True)
    with pytest.raises(StateError, match=r"noise of the device 'u \(2, 2\)', received 'z \(1,\)'"):
        second = Batches({"x": ARRAYS["x"], "z": np.zeros((8, 1))}, 4, 5, uniform={"u": (2, 2)})
        second.arrays = first.arrays
        fit_adam(Noisy(), second, tmp_path / "a.npz", 2, 0.1, device_noise=True)


def test_a_compiled_model_keeps_its_optimizer(tmp_path):
    for device_noise in (False, True):
        model = Noisy()
        model.compile(keras.optimizers.SGD(0.0))
        before = model.get_weights()
        fit_adam(model, Batches(ARRAYS, 4, 5, **NOISE), tmp_path / f"{device_noise}.npz", 2, 0.1,
                 device_noise=device_noise)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        fit_adam(model, Batches(ARRAYS, 4, 5, **NOISE), tmp_path / f"{device_noise} adam.npz", 2, 0.1,
                 device_noise=device_noise, adam={"rate": 0.1})  # unless it is given another
        assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    with pytest.raises(ValueError, match="Expected adam or optimizer, received both"):
        fit_adam(Noisy(), Batches(ARRAYS, 4, 5, **NOISE), tmp_path / "a.npz", 2, 0.1, adam={"rate": 0.1},
                 optimizer=keras.optimizers.SGD(0.1))


def test_what_is_stopped_between_saves_is_kept(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 3

    model = Noisy()
    model.compile(keras.optimizers.SGD(0.1))
    history = train(model, Batches(ARRAYS, 4, 5, **NOISE), 9, tmp_path / "a.npz", every=3, callbacks=[Stop()])
    assert len(history["loss"]) == read_state(tmp_path / "a.npz")["epochs"] == 4


def test_minutes_end_a_training_and_without_them_it_goes_on(tmp_path, options):
    """A repeated command trains no further, so that what was made of it stays true."""
    losses, weights = fitted(tmp_path / "a.npz", 4)
    unlimited = states_folder(tmp_path)
    set_options(minutes=1e-9)
    assert len(fitted(tmp_path / "b.npz", 4)[0]) == 1 and len(fitted(tmp_path / "b.npz", 4)[0]) == 1
    assert states_folder(tmp_path) != unlimited
    set_options(minutes=10.0)
    resumed, same = fitted(tmp_path / "b.npz", 4)
    np.testing.assert_allclose(resumed, losses, rtol=1e-6)
    np.testing.assert_allclose(same[0], weights[0], rtol=1e-6)
    with pytest.raises(ValueError, match="minutes: expected a number above 0, received -1"):
        set_options(minutes=-1)
    with pytest.raises(ValueError, match="minutes: expected a number above 0, received '3'"):
        set_options(minutes="3")


def test_device_noise_trains_repeats_and_goes_on(tmp_path):
    losses, weights = fitted(tmp_path / "a.npz", device_noise=True)
    again, same = fitted(tmp_path / "b.npz", device_noise=True)
    plain, other = fitted(tmp_path / "c.npz")
    np.testing.assert_allclose(again, losses, rtol=1e-6)
    assert not np.allclose(losses, plain) and not np.allclose(weights[0], other[0])
    assert len({round(loss, 4) for loss in losses}) == 3

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "d.npz", device_noise=True, callbacks=[Stop()])
    resumed, after = fitted(tmp_path / "d.npz", device_noise=True)
    np.testing.assert_allclose(resumed, losses, rtol=1e-6)
    for one, two, three in zip(weights, same, after, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-6)
        np.testing.assert_allclose(three, one, rtol=1e-6)


class Gan(PhasedModel):
    latent = 2

    def __init__(self):
        super().__init__()
        self.layer, self.built = linear(2, 1, iter([1])), True

    def phases(self):
        return {"generator": Phase(lambda batch, training: {"loss": ops.mean(
            ops.square(self.layer(batch["z"]) - 1.0 + batch["share"]))}, (self.layer,), ("loss",))}


def test_device_noise_of_adversarial_trainings(tmp_path):
    runs = []
    for name, device in (("a", True), ("b", True), ("c", False)):
        gan = Gan()
        history = train_adversarially(gan, ARRAYS, tmp_path / f"{name}.npz", 3, 4, 0.1, 0.1, seed=2,
                                      uniform={"share": (1,)}, device_noise=device)
        runs.append((history["loss"], gan.get_weights()[0]))
    np.testing.assert_allclose(runs[1][0], runs[0][0], rtol=1e-6)
    np.testing.assert_allclose(runs[1][1], runs[0][1], rtol=1e-6)
    assert len(set(runs[0][0])) == 3 and not np.allclose(runs[2][1], runs[0][1])


def test_recipes_take_the_options(tmp_path, options, capsys):
    before = states_folder(tmp_path)
    args = command_line("", ["smoke"], "runs/x").parse_args(["--log", "csv", "--device-noise"])
    assert (args.log, args.device_noise, args.mixed_precision) == ("csv", True, False)
    assert (options.log, options.device_noise) == (None, False)
    apply_arguments(args)
    assert (options.log, options.device_noise) == ("csv", True) and states_folder(tmp_path) != before
    with pytest.raises(SystemExit) as stop:
        command_line("", ["smoke"], "runs/x").parse_args(["--mixed-precision"])
    assert stop.value.code == 2
    assert "--mixed-precision: the models of this recipe compute in float32" in capsys.readouterr().err


def test_mixed_precision_where_it_is_sound(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser, half=True)
    before = keras.config.dtype_policy(), states_folder(tmp_path)
    try:
        apply_arguments(parser.parse_args([]))
        assert keras.config.dtype_policy() == before[0]
        apply_arguments(parser.parse_args(["--mixed-precision"]))
        assert keras.config.dtype_policy().name == "mixed_bfloat16" and states_folder(tmp_path) != before[1]
    finally:
        keras.config.set_dtype_policy(before[0])
