"""The WGAN-GP of the LHCb study over Box-Cox images: published networks, or a user's own."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import zdckeras as zdc
from zdckeras import backend
from zdckeras.data.transforms import BoxCox
from zdckeras.training.batches import Batches
from zdckeras.training.cost import products_of
from zdckeras.wgan_gp.model import EnergyGenerator
from zdckeras.wgan_gp.published import (
    ImageNetwork,
    ImageRegressor,
    ImageWGAN,
    momenta,
    published_critic,
    published_generator,
    published_reader,
)
from zdckeras.wgan_gp.regression import RegressorFit

BOXCOX, LATENT, EAGER = {"power": 0.1, "shift": 0.1}, 6, backend.name() != "jax"
numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def regressor(showers):
    return ImageRegressor.fit_scales(published_reader(divide=32, seed=1), showers)


@pytest.fixture(scope="module")
def gan(regressor):
    gan = ImageWGAN.published(regressor, BOXCOX, divide=32, latent=LATENT, critic_steps=2)
    gan.compile({name: keras.optimizers.Adam(1e-3, 0.0, 0.9) for name in gan.phases()}, run_eagerly=EAGER,
                jit_compile=not EAGER)
    return gan


@pytest.fixture(scope="module")
def batch(showers):
    return Batches({"conditions": showers.particles, "responses": showers.response}, 12, seed=1,
                   normal={"z": (LATENT,), "z2": (LATENT,)}, uniform={"share": (1, 1)})[0][0]


def test_parameters_are_momentum_and_place(showers, regressor):
    found = numpy(momenta(showers.particles))
    assert np.array_equal(found, showers.particles[:, [4, 5, 6, 1, 2]].astype("float32"))
    truth = numpy(regressor.truth(showers.particles))[:, :3]
    np.testing.assert_allclose([truth.mean(axis=0), truth.std(axis=0)], [[0.0] * 3, [1.0] * 3], atol=1e-4)


@pytest.mark.compiles_long
def test_losses_are_equation_5(gan, batch):
    data = {name: ops.convert_to_tensor(values) for name, values in batch.items()}
    real = BoxCox(**BOXCOX).forward(data["responses"])
    made = gan.generator.image(data["z"], data["conditions"])
    scores = [numpy(gan.scores(image, data["conditions"])) for image in (real, made)]
    found = {name: float(value) for name, value in gan._critic_loss(data, False).items()}
    assert found["distance"] == pytest.approx(scores[1].mean() - scores[0].mean(), rel=1e-4)
    assert found["accuracy"] == pytest.approx((scores[0] > scores[1]).mean())
    between = data["share"] * real + (1.0 - data["share"]) * made
    gradient = backend.steps().grad(lambda y: gan.scores(y, data["conditions"]), between)
    norm = np.sqrt((numpy(gradient) ** 2).sum(axis=(1, 2)))
    assert found["penalty"] == pytest.approx(10.0 * ((norm - 1.0) ** 2).mean(), rel=1e-3)
    assert float(gan._generator_loss(data, False)["adversarial"]) == pytest.approx(-scores[1].mean(), rel=1e-4)


def test_what_the_regressor_reads_reaches_the_score(gan, batch):
    conditions = batch["conditions"].copy()
    image = ops.convert_to_tensor(batch["responses"])
    first = numpy(gan.scores(image, ops.convert_to_tensor(conditions)))
    conditions[:, 6] *= 1.5
    assert (numpy(gan.scores(image, ops.convert_to_tensor(conditions))) != first).all()


def test_a_step_leaves_the_regressor_alone_and_counts_critic_steps(gan, batch):
    before = [gan.regressor.get_weights(), gan.critic.get_weights(), gan.generator.get_weights()]
    logs = gan.train_on_batch(batch, return_dict=True)
    assert set(logs) == {"loss", "critic_distance", "critic_penalty", "critic_accuracy", "generator_adversarial"}
    after = [gan.regressor.get_weights(), gan.critic.get_weights(), gan.generator.get_weights()]
    same = [all(np.array_equal(a, b) for a, b in zip(old, new, strict=True))
            for old, new in zip(before, after, strict=True)]
    assert same == [True, False, False] and gan.regressor.trainable_weights  # elsewhere
    assert {name: int(o.iterations) for name, o in gan.optimizer.by_phase.items()} == {"critic": 2, "generator": 1}


def test_saved_model_and_generator_give_the_same(gan, batch, showers, tmp_path):
    inputs = {"z": batch["z"], "conditions": batch["conditions"]}
    first = gan.predict_on_batch(inputs)
    gan.save(tmp_path / "gan.keras")
    again = zdc.load_model(tmp_path / "gan.keras")
    assert np.array_equal(again.predict_on_batch(inputs), first) and again.critic_steps == 2
    assert first.shape == (12, 30, 30) and first.min() == 0.0
    low, high = showers.particles.min(axis=0), showers.particles.max(axis=0)
    generator = EnergyGenerator(gan.generator, low, high)
    made = generator.sample(showers.particles[:8], seed=1, batch_size=4)
    generator.save(tmp_path / "generator.keras")
    loaded = zdc.load_model(tmp_path / "generator.keras")
    assert np.array_equal(loaded.sample(showers.particles[:8], seed=1, batch_size=4), made) and made.max() > 0
    assert loaded.noise_width == LATENT and np.array_equal(loaded.low, low)
    assert loaded.operations() == generator.operations() == products_of(gan.generator.network) > 0


def test_regressor_learns_by_the_loss_of_ours(showers):
    regressor = ImageRegressor.fit_scales(published_reader(divide=32, seed=1), showers)
    fit = RegressorFit(regressor, BOXCOX)
    fit.compile(keras.optimizers.Adam(1e-2), run_eagerly=EAGER)
    data = {"conditions": showers.particles.astype("float32"), "responses": showers.response.astype("float32")}
    history = [float(fit.train_on_batch(data, return_dict=True)["loss"]) for _ in range(4)]
    assert history[-1] < history[0]


def test_own_networks_are_taken_or_refused_in_one_line(regressor):
    z, t, y = keras.Input((LATENT,)), keras.Input((5,)), keras.Input((30, 30))
    light = layers.Dense(900)(layers.Concatenate()([z, t]))
    scaled = dict(detector="ecal", mean=[0.0] * 5, scale=[1.0] * 5, boxcox=BOXCOX, latent=LATENT)
    own = ImageNetwork(keras.Model([z, t], layers.Reshape((30, 30))(light)), **scaled)
    critic = keras.Model([y, t], layers.Dense(1)(layers.Concatenate()([layers.Flatten()(y), t])))
    assert ImageWGAN(own, critic, regressor).penalty == 10.0
    with pytest.raises(ValueError, match=r"generator: expected outputs of shapes \[\(None, 30, 30\)\], received"):
        ImageNetwork(keras.Model([z, t], light), **scaled)
    with pytest.raises(ValueError, match="critic: expected a model of arrays .* received one that fails"):
        ImageWGAN(own, published_generator(divide=32, latent=LATENT), regressor)
    with pytest.raises(ValueError, match="regressor: expected a Keras model, received NoneType"):
        ImageRegressor(None, "ecal", [0.0] * 5, [1.0] * 5)
    with pytest.raises(ValueError, match="generator: expected ImageNetwork, received Functional"):
        ImageWGAN(own.network, critic, regressor)
    with pytest.raises(ValueError, match="regressor: expected ImageRegressor, received Functional"):
        ImageWGAN.published(regressor.network, BOXCOX, divide=32, latent=LATENT)
    assert published_critic(divide=32).output.shape == (None, 1)


def test_batches_of_something_else_are_refused(gan, batch):
    with pytest.raises(ValueError, match=r"responses: expected shape \(B, 30, 30\), received"):
        gan._critic_loss({**batch, "responses": batch["responses"][:, :20]}, False)


def test_published_networks_leak_a_fifth_below_zero():
    networks = published_critic(divide=32), published_reader(divide=32)
    slopes = [[layer.negative_slope for layer in network.layers if isinstance(layer, layers.LeakyReLU)]
              for network in networks]
    assert any(slopes) and {slope for some in slopes for slope in some} == {0.2}
