"""Costs counted before a training, and processor time kept after it."""

import time

import keras
import numpy as np
import pytest
from keras import layers

from zdckeras.gan.images import ImageGAN
from zdckeras.gan.published import PLANS, published_critic, published_generator
from zdckeras.layers.patches import VitEncoder
from zdckeras.training.batches import Batches
from zdckeras.training.cost import (
    GPU_RATE,
    Counts,
    Passes,
    activations_of,
    passes_of_loss,
    printed_cost,
    products_of,
    timed,
    training_cost,
)
from zdckeras.training.loop import SampleLoss, fit_adam
from zdckeras.wgan_gp.published import ImageRegressor, ImageWGAN, published_reader

SCALER = {"mean": [0.0] * 9, "scale": [1.0] * 9}


def test_products_and_activations_by_hand():
    x = keras.Input((6, 5, 2))
    y = layers.Conv2D(3, (2, 4))(x)  # 5 x 2 cells, 2 x 4 x 2 x 3 weights
    network = keras.Model(x, layers.Dense(7)(layers.Flatten()(layers.BatchNormalization()(y))))
    assert products_of(network) == 10 * 48 + 30 * 7
    assert activations_of(network) == 30 + 30 + 30 + 7


def test_transposed_convolutions_multiply_where_they_come_from():
    x = keras.Input((4, 3, 2))
    network = keras.Model(x, layers.Conv2DTranspose(5, 4, 3)(x))  # 4 x 4 x 2 x 5 weights at 4 x 3 places
    assert network.output.shape == (None, 13, 10, 5)
    expected = Counts(165, 12 * 160, 13 * 10 * 5)
    assert Counts.of(network) == Counts.of_call(network, np.ones((1, 4, 3, 2), "float32")) == expected


def test_counting_by_a_call_agrees_with_the_sums_of_bodies():
    """Products of a body but for the scores of attention; and the layers are as they were."""
    body = VitEncoder((30, 30), width=4, context=9, patch=15, hidden=8, heads=2, depth=1)
    inputs = np.ones((1, 30, 30), "float32"), np.ones((1, 9), "float32")
    before = keras.ops.convert_to_numpy(body(*inputs))
    found = Counts.of_call(body, *inputs)
    assert found.products == body.operations() - 2 * 4**2 * 8 and found.weights == body.count_params()
    block = 4 * (8 + 3 * 8 + 8 + 8 + 32 + 8)  # norm, queries keys and values, mixed, norm, widened, narrowed
    assert found.activations == 4 * 8 + 8 + block + 4 * 8 + 4 * 4  # patches, particle, and the last norm, read
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(body(*inputs)), before)
    with pytest.raises(ValueError, match="Expected images of shape"):
        Counts.of_call(body, inputs[0][:, :20], inputs[1])
    assert all("call" not in vars(layer) for layer in body._flatten_layers())


class Loss(SampleLoss):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([layers.Dense(3)])
        self.body.build((None, 5))
        self.built = True

    def call(self, inputs):
        return keras.ops.sum(self.body(inputs["x"]), axis=-1)


def test_a_loss_passes_once_there_and_back(capsys):
    printed_cost(passes_of_loss("small", Loss(), x=(5,)), 640, {"epochs": 2, "batch": 64})
    said = capsys.readouterr().out
    assert "small: 18 weights, 0.0 MFLOP a response" in said and "20 steps of 0.0 GFLOP" in said
    (one,) = passes_of_loss("small", Loss(), x=(5,)).values()
    assert (one.forward, one.gradient, one.trained, one.network.products) == (0.0, 1.0, True, 15)


def test_cost_of_a_training_by_hand():
    x = keras.Input((10,))
    networks = [keras.Model(x, layers.Dense(n, use_bias=False)(x)) for n in (5, 2)]
    found = training_cost({"a": Passes(networks[0], 1.0, 2.0), "b": Passes(networks[1], 0.0, 1.0, False)}, 4, 1000)
    assert found.step == 2 * 4 * (50 * 7 + 20 * 3) and found.steps == 1000
    assert found.memory == 4 * (4 * 50 + 4 * 5 * 2 * 2) + 4 * (20 + 4 * 2 * 2)
    assert found.seconds() == pytest.approx(found.step * 1000 / GPU_RATE)


@pytest.mark.parametrize(("detector", "generator", "critic"), [
    ("zn", 2 * (19 * 256 + 256 * 21632 + 24 * 24 * 9 * 128 * 128 + 46 * 46 * 9 * 128 * 64 + 44 * 44 * 9 * 64),
     2 * (42 * 42 * 9 * 32 + 19 * 19 * 9 * 32 * 16 + (9 * 9 * 16 + 9) * 128 + 128 * 64 + 64)),
    ("zp", 2 * (19 * 256 + 256 * 25600 + 59 * 19 * 4 * 128 * 256 + 58 * 37 * 4 * 256 * 128 + 57 * 36 * 4 * 128 * 64
                + 56 * 30 * 14 * 64),
     2 * (54 * 28 * 9 * 32 + 25 * 12 * 9 * 32 * 16 + (12 * 12 * 16 + 9) * 128 + 128 * 64 + 64))])
def test_dry_run_of_the_published_size(detector, generator, critic, capsys):
    gan = ImageGAN.published(detector, SCALER, weights={"diversity": 0.1})
    printed_cost(gan.passes(), 1280, {"epochs": 3, "batch": 128})
    said = capsys.readouterr().out
    assert f"generator: {gan.generator.count_params():,} weights, {generator / 1e6:,.1f} MFLOP a response" in said
    assert f"critic: {gan.critic.count_params():,} weights, {critic / 1e6:,.1f} MFLOP" in said
    step = 128 * (generator * (1 + 3 * 2) + critic * 3 * 3)
    assert f"30 steps of {step / 1e9:,.1f} GFLOP" in said and "memory of a step: " in said


def test_five_critic_steps_share_one_batch():
    regressor = ImageRegressor(published_reader(divide=32), "ecal", [0.0] * 5, [1.0] * 5)
    passes = ImageWGAN.published(regressor, {"power": 0.1, "shift": 0.1}, divide=32, latent=4).passes()
    assert passes["generator"].gradient == pytest.approx(0.2) and not passes["regressor"].trained


@pytest.mark.parametrize("detectors", PLANS)
def test_networks_end_at_the_detectors(detectors):
    """Unpadded kernels bring every head to its detector, at any number of channels."""
    for divide in (16, 64):
        images = published_generator(detectors, divide).outputs
        assert [tuple(image.shape[1:]) for image in images] == [{"zn": (44, 44), "zp": (56, 30)}[d] for d in detectors]
        assert published_critic(detectors, divide).output.shape == (None, len(detectors))


def test_processor_time_is_that_of_all_starts(tmp_path):
    """Interrupted after one epoch of two, taken up, and found finished."""
    class Slow(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            begin = time.process_time()
            while time.process_time() - begin < 0.05:
                np.linalg.norm(np.ones(100))

    def train(epochs):
        batches = Batches({"x": np.ones((8, 5), "float32")}, 4, 0)
        return fit_adam(Loss(), batches, tmp_path / "a.npz", 2, 1e-3, epochs, callbacks=[Slow()])

    history, first = timed(lambda: train(1))
    assert len(history["loss"]) == 1 and first >= 0.05
    history, second = timed(lambda: train(2))
    assert len(history["loss"]) == 2 and second >= first + 0.05
    assert timed(lambda: train(2)) == (history, second)
