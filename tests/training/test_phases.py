import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.training.batches import Batches
from zdckeras.training.checkpoint import Checkpoint, DivergedError
from zdckeras.training.loop import train
from zdckeras.training.phases import Phase, PhasedModel, PhaseOptimizers

ROWS, BATCH = 24, 12
numpy = ops.convert_to_numpy


@keras.saving.register_keras_serializable("tests")
class Pair(PhasedModel):
    """Two slopes: a fits y = a x and is kept small, b follows a. All gradients are known."""

    def __init__(self, repeats=(1, 1), **kwargs):
        super().__init__(**kwargs)
        self.repeats = tuple(repeats)
        start = keras.initializers.Constant
        self.a, self.twin, self.b = (keras.layers.Dense(1, use_bias=False, kernel_initializer=start(value))
                                     for value in (0.5, 0.5, -1.0))
        for layer in (self.a, self.twin, self.b):
            layer.build((None, 1))
        self.twin.trainable = False
        self.built = True

    def phases(self):
        return {"a": Phase(self._fit, (self.a,), ("fit", "size"), self.repeats[0]),
                "b": Phase(self._follow, (self.b,), ("follow",), self.repeats[1])}

    def averages(self):
        return ((self.a, self.twin),)

    def _fit(self, batch, training):
        return {"fit": ops.mean(ops.square(self.a(batch["x"]) - batch["y"])),
                "size": 0.1 * ops.sum(ops.square(self.a.kernel))}

    def _follow(self, batch, training):
        return {"follow": ops.mean(ops.square(self.b(batch["x"]) - self.a(batch["x"])))}

    def call(self, inputs):
        return self.twin(inputs["x"])

    def get_config(self):
        return {"repeats": self.repeats, "momentum": self.momentum, "name": self.name}


class ByHand:
    """The same in NumPy, with plain gradient descent."""

    def __init__(self, repeats, rates, momentum):
        self.repeats, self.rates, self.momentum = repeats, rates, momentum
        self.a, self.twin, self.b, self.iterations = 0.5, 0.5, -1.0, 0

    def terms(self, x, y):
        a, b = self.a, self.b
        return {"a_fit": np.mean((a * x - y) ** 2), "a_size": 0.1 * a**2, "b_follow": np.mean((b * x - a * x) ** 2)}

    def step(self, x, y):
        """Terms as logged: each before its update, the mean over repetitions."""
        rows = len(x) // max(self.repeats)
        parts = [(x[k * rows : (k + 1) * rows], y[k * rows : (k + 1) * rows]) for k in range(max(self.repeats))]
        seen = {"a_fit": [], "a_size": [], "b_follow": []}
        for x, y in parts[: self.repeats[0]]:
            terms = self.terms(x, y)
            seen["a_fit"].append(terms["a_fit"])
            seen["a_size"].append(terms["a_size"])
            self.a -= self.rates[0] * (2.0 * np.mean(x * (self.a * x - y)) + 0.2 * self.a)
        for x, y in parts[: self.repeats[1]]:
            seen["b_follow"].append(self.terms(x, y)["b_follow"])
            self.b -= self.rates[1] * 2.0 * np.mean(x * x) * (self.b - self.a)
        self.iterations += 1
        momentum = min(self.momentum, (1 + self.iterations) / (10 + self.iterations))
        self.twin += (1 - momentum) * (self.a - self.twin)
        return {name: np.mean(values) for name, values in seen.items()}


def arrays(rows=ROWS):
    x = np.random.default_rng(0).normal(size=(rows, 1)).astype("float32")
    return {"x": x, "y": 2.0 * x + np.linspace(-1.0, 1.0, rows, dtype="float32")[:, None]}


def batches(kind=Batches, **settings):
    return kind(arrays(), BATCH, seed=1, **settings)


def sgd(rates=(0.1, 0.05)):
    return {name: keras.optimizers.SGD(rate) for name, rate in zip("ab", rates, strict=True)}


def pair(optimizers=None, repeats=(1, 1), momentum=0.25, **settings):
    model = Pair(repeats, momentum=momentum)
    model.compile(optimizers or sgd(), **{"jit_compile": backend.jit_compile(), **settings})
    return model


def state(of):
    """Every number of an optimizer, or of a model and its optimizers."""
    variables = of.variables if isinstance(of, PhaseOptimizers) else [*of.variables, *of.optimizer.variables]
    return [numpy(v.value) for v in variables]


def slopes(model):
    return [numpy(layer.kernel).item() for layer in (model.a, model.twin, model.b)]


def same(first, second):
    return all(np.array_equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("repeats", [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_steps_by_hand(repeats):
    """Phases in order, the k-th repetition on the k-th part of the batch, then the average."""
    model, reference, data = pair(repeats=repeats), ByHand(repeats, (0.1, 0.05), 0.25), arrays(BATCH)
    for _ in range(4):
        model.reset_metrics()
        logs = model.train_on_batch(data, return_dict=True)
        expected = reference.step(data["x"], data["y"])
        assert set(logs) == {"loss", *expected}
        assert {name: float(logs[name]) for name in expected} == pytest.approx(expected, rel=1e-5)
        assert float(logs["loss"]) == pytest.approx(sum(expected.values()), rel=1e-5)
    assert slopes(model) == pytest.approx([reference.a, reference.twin, reference.b], rel=1e-5)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.skipif(backend.name() == "torch", reason="torch runs eagerly only")
def test_compiled_or_not(jit):
    model, reference, data = pair(jit_compile=jit), ByHand((1, 1), (0.1, 0.05), 0.25), arrays(BATCH)
    for _ in range(2):
        model.train_on_batch(data)
        reference.step(data["x"], data["y"])
    assert slopes(model) == pytest.approx([reference.a, reference.twin, reference.b], rel=1e-5)


def test_rows_beyond_equal_parts_are_left_out():
    model, data = pair(repeats=(3, 1)), arrays(BATCH)
    more = {name: np.concatenate([values, np.full((2, 1), 1e3, "float32")]) for name, values in data.items()}
    reference = ByHand((3, 1), (0.1, 0.05), 0.25)
    reference.step(data["x"], data["y"])
    model.train_on_batch(more)
    assert slopes(model)[0] == pytest.approx(reference.a, rel=1e-5)


def test_batches_smaller_than_the_repetitions_are_refused():
    with pytest.raises(ValueError, match="at least 3 rows, one for each repetition of a phase, received 2"):
        pair(repeats=(3, 1), run_eagerly=True, jit_compile=False).train_on_batch(arrays(2))


@pytest.mark.parametrize("moving", ["a", "b"])
def test_each_phase_moves_its_own_weights_only(moving):
    model = pair(sgd([0.1 if name == moving else 0.0 for name in "ab"]))
    model.train_on_batch(arrays(BATCH))
    a, twin, b = slopes(model)
    assert (a != 0.5, twin != 0.5, b != -1.0) == (moving == "a", moving == "a", moving == "b")


def test_evaluate_gives_the_losses_and_changes_nothing():
    model, reference = pair(repeats=(2, 1)), ByHand((2, 1), (0.1, 0.05), 0.25)
    model.fit(batches(shuffle=False), epochs=1, verbose=0, shuffle=False)
    reference.a, reference.twin, reference.b = slopes(model)
    before, data = (model.get_weights(), state(model.optimizer)), arrays()
    logs = model.evaluate(Batches(data, BATCH, shuffle=False), verbose=0, return_dict=True)
    expected = reference.terms(data["x"], data["y"])
    expected["loss"] = sum(expected.values())
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(expected, rel=1e-5)
    assert same(before[0], model.get_weights()) and same(before[1], state(model.optimizer))


@pytest.mark.parametrize("size", [24, 20, 7])
def test_a_short_last_batch_counts_its_rows(size):
    """In `evaluate`, and in the history of a training that changes nothing."""
    model, data = pair(sgd((0.0, 0.0))), arrays()
    reference = ByHand((1, 1), None, 0.25)
    expected = reference.terms(data["x"], data["y"])
    expected["loss"] = sum(expected.values())
    parts = Batches(data, size, whole=False)
    logs = model.evaluate(parts, verbose=0, return_dict=True)
    history = model.fit(parts, epochs=1, verbose=0, shuffle=False).history
    assert {name: float(value) for name, value in logs.items()} == pytest.approx(expected, rel=1e-5)
    assert {name: values[0] for name, values in history.items()} == pytest.approx(expected, rel=1e-5)


def test_history_with_validation():
    history = pair().fit(batches(), validation_data=batches(shuffle=False), epochs=3, verbose=0).history
    terms = {"loss", "a_fit", "a_size", "b_follow"}
    assert set(history) == terms | {f"val_{term}" for term in terms}
    assert history["val_loss"][2] < history["val_loss"][0]


def adams():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)
    return {"a": keras.optimizers.Adam(0.05), "b": keras.optimizers.Adam(schedule)}


def test_loaded_model_goes_on_as_if_it_had_not_been_saved(tmp_path):
    def go_on(model, epoch):
        data = batches()
        data.start_epoch(epoch)
        model.fit(data, epochs=1, verbose=0, shuffle=False)
        return model

    model = go_on(pair(adams(), repeats=(2, 1)), 0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    whole = go_on(model, 1)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.compiled and loaded.repeats == (2, 1) and loaded.momentum == 0.25
    assert int(loaded.optimizer.iterations) == 4
    assert same(state(go_on(loaded, 1)), state(whole))
    again = pair(adams(), repeats=(2, 1))
    again.load_weights(tmp_path / "model.weights.h5")
    assert same(state(go_on(again, 1)), state(whole))


class Interrupted(Batches):
    """Ctrl-C as the second epoch begins."""

    def start_epoch(self, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        super().start_epoch(epoch)


class Poisoned(Batches):
    """The data of the third epoch are not numbers."""

    def __getitem__(self, index):
        (batch,) = super().__getitem__(index)
        return ({**batch, "y": batch["y"] * (np.nan if self.epoch == 2 else 1.0)},)


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = pair(adams())
    history = train(whole, batches(), 3, tmp_path / "whole.npz", verbose=0)
    with pytest.raises(KeyboardInterrupt):
        train(pair(adams()), batches(Interrupted), 3, tmp_path / "state.npz", verbose=0)
    resumed = pair(adams())
    again = train(resumed, batches(), 3, tmp_path / "state.npz", verbose=0)
    assert same(state(resumed), state(whole))
    assert again == {name: pytest.approx(values, rel=1e-6) for name, values in history.items()}


def test_diverged_training_keeps_the_last_good_state(tmp_path):
    good = pair(adams())
    train(good, batches(), 2, tmp_path / "good.npz", verbose=0)
    with pytest.raises(DivergedError, match=r"loss is nan after epoch 3; .*epoch 2 .*state.npz"):
        train(pair(adams()), batches(Poisoned), 3, tmp_path / "state.npz", verbose=0)
    kept = pair(adams())
    assert Checkpoint(tmp_path / "state.npz", batches()).restore(kept) == 2
    assert slopes(kept) == slopes(good)


def test_learning_rate_keeps_ratios():
    optimizer = pair(sgd((0.1, 0.05))).optimizer
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    optimizer.learning_rate = 0.04
    assert [float(o.learning_rate) for o in optimizer.by_phase.values()] == pytest.approx([0.04, 0.02])


@pytest.mark.parametrize("callback", [
    keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9),
    keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * (0.5 if epoch > 1 else 1.0)),
])
def test_callbacks_reach_all_learning_rates(callback):
    model = pair(sgd((0.1, 0.05)))
    history = model.fit(batches(), epochs=3, callbacks=[callback], verbose=0).history
    rates = [float(o.learning_rate) for o in model.optimizer.by_phase.values()]
    assert rates[0] in (pytest.approx(0.05), pytest.approx(0.025)) and rates[0] / rates[1] == pytest.approx(2.0)
    assert history["learning_rate"][0] == pytest.approx(0.1)


def test_learning_rate_schedules():
    """Rates 0.1 / (1 + t) and 0.05 / (1 + t) at step t, by hand."""
    decays = {name: keras.optimizers.SGD(keras.optimizers.schedules.InverseTimeDecay(rate, 1, 1.0))
              for name, rate in zip("ab", (0.1, 0.05), strict=True)}
    model, reference, data = pair(decays), ByHand((1, 1), None, 0.25), arrays(BATCH)
    for t in range(3):
        reference.rates = (0.1 / (1 + t), 0.05 / (1 + t))
        reference.step(data["x"], data["y"])
        model.train_on_batch(data)
    assert slopes(model) == pytest.approx([reference.a, reference.twin, reference.b], rel=1e-5)


@pytest.mark.parametrize(("optimizers", "message"), [
    ({"a": "sgd"}, "one optimizer for each of the phases a, b; received optimizers for a"),
    ({"a": "sgd", "b": "sgd", "c": "sgd"}, "phases a, b; received optimizers for a, b, c"),
    ({}, "at least one optimizer, received none"),
    ({"a": "sgd", "b": "ema"}, "b: use_ema is not supported"),
])
def test_compile_refuses(optimizers, message):
    made = {"sgd": keras.optimizers.SGD, "ema": lambda: keras.optimizers.SGD(use_ema=True)}
    with pytest.raises(ValueError, match=message):
        Pair().compile({name: made[kind]() for name, kind in optimizers.items()})


def test_compiled_anew_the_terms_are_reported_once():
    model = pair()
    names = [metric.name for metric in model.metrics]
    model.compile(sgd((0.0, 0.0)), jit_compile=backend.jit_compile())
    assert [metric.name for metric in model.metrics] == names and len(set(names)) == len(names) == 4
    logs = model.evaluate(arrays(BATCH), verbose=0, return_dict=True)
    assert logs["a_size"] == pytest.approx(0.025)


def test_phase_without_weights_is_refused():
    model = Pair()
    model.b.trainable = False
    with pytest.raises(ValueError, match="b: expected layers with trainable variables, found none"):
        model.compile(sgd())


def test_optimizers_come_back_from_their_configuration():
    first = PhaseOptimizers({"a": keras.optimizers.SGD(0.1, momentum=0.9), "b": keras.optimizers.Adam(1e-3)})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(first))
    assert list(again.by_phase) == ["a", "b"]
    assert again.by_phase["a"].momentum == 0.9 and float(again.by_phase["b"].learning_rate) == pytest.approx(1e-3)
