import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.data.transforms import BoxCox
from zdckeras.training.batches import Batches
from zdckeras.vae.energy_vae import DecoderGenerator, ImageDecoder, ImageEncoder, ResponseVAE

numpy = ops.convert_to_numpy
BOXCOX = {"power": 0.1, "shift": 0.1}
SCALER = {"mean": [0.0] * 9, "scale": [1000.0, 1.0, 1.0, 1.0, 10.0, 10.0, 1000.0, 1000.0, 1.0]}
LATENT, ROWS = 3, 8
SIZES = {"channels": [3, 2], "hidden": 6}


@pytest.fixture(scope="module")
def batch(showers):
    data = {"conditions": showers.particles, "responses": showers.response}
    return Batches(data, ROWS, seed=1, normal={"z": (LATENT,)})[0][0]


@pytest.fixture(scope="module")
def arrays(batch):
    return [batch[name] for name in ("conditions", "responses", "z")]


def build(showers, **settings):
    return ResponseVAE.fit_scales(showers, BOXCOX, **{"encoder": SIZES, "decoder": SIZES, "latent": LATENT, "seed": 2,
                                                      **settings})


def losses(model, evaluate, arrays):
    return evaluate(lambda c, r, z: model({"conditions": c, "responses": r, "z": z}), *arrays)


def says(vae, mean, log_deviation):
    """Make the encoder say this of every response."""
    kernel, _ = vae.encoder.read.get_weights()
    vae.encoder.read.set_weights([0.0 * kernel, np.concatenate([np.broadcast_to(mean, LATENT),
                                                                np.broadcast_to(log_deviation, LATENT)])])


@pytest.mark.compiles_long
def test_divergence_in_closed_form(showers, arrays, evaluate):
    """0 for N(0, 1), else sum (m^2 + s^2 - 1) / 2 - ln s; the code is m + s z."""
    vae, (conditions, responses, z) = build(showers, kl=2.0), arrays
    image = numpy(vae.boxcox.forward(responses))
    for mean, log_deviation in ((0.0, 0.0), ([0.5, -1.0, 2.0], [-1.0, 0.25, 0.5])):
        says(vae, mean, log_deviation)
        made = evaluate(vae.decoder, np.asarray(mean) + np.exp(log_deviation) * z, conditions)
        wrong = ((image - made) ** 2).sum(axis=(1, 2)) / (2.0 * 0.3**2)
        kl = np.sum(0.5 * (np.square(mean) + np.exp(2.0 * np.asarray(log_deviation)) - 1.0) - log_deviation)
        found = losses(vae, evaluate, arrays)
        assert found.shape == (ROWS,) and (kl == 0.0) == (mean == 0.0)
        np.testing.assert_allclose(found, wrong + 2.0 * kl, rtol=1e-4)


@pytest.mark.compiles_long
def test_weights_and_deviation(showers, arrays, evaluate):
    """At N(0, 1) only the reconstruction is left, in units of 2 s^2; the centre term adds to it."""
    found = {}
    for name, settings in {"plain": {}, "wide": {"deviation": 0.6, "kl": 9.0}, "centre": {"centre": 0.2}}.items():
        vae = build(showers, **settings)
        says(vae, 0.0, 0.0)
        found[name] = losses(vae, evaluate, arrays)
    np.testing.assert_allclose(found["plain"], 4.0 * found["wide"], rtol=1e-4)
    added = found["centre"] - found["plain"]
    assert added.min() > 0.0
    np.testing.assert_allclose(added, added[0], rtol=0.05)  # the mean over the batch


@pytest.mark.compiles_long
def test_centre_term_changes_the_gradient(showers, arrays, evaluate):
    """By the responses that the decoder makes: of two models with the same weights."""
    gradients = []
    for centre in (0.0, 500.0):
        vae = build(showers, centre=centre)
        gradients.append(evaluate(lambda c, r, z, vae=vae: backend.steps().grad(
            lambda z: vae({"conditions": c, "responses": r, "z": z}), z), *arrays))
    assert np.isfinite(gradients).all()
    assert (np.abs(gradients[1] - gradients[0]).max(axis=1) > 1e-3 * np.abs(gradients[0]).max(axis=1)).all()


def test_training_lowers_the_loss_and_survives_its_file(showers, batch, eager, tmp_path):
    vae = build(showers, centre=0.01, depth=10.0)
    vae.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    data = Batches({"conditions": showers.particles, "responses": showers.response}, 48, seed=1,
                   normal={"z": (LATENT,)})
    before = vae.get_weights()
    history = vae.fit(data, epochs=6, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all() and history[-1] < 0.95 * history[0]
    assert all((a != b).any() for a, b in zip(before, vae.get_weights(), strict=True))
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    assert again.get_config() == vae.get_config() and again.depth == 10.0
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), vae.get_weights(), strict=True))


@pytest.mark.parametrize("kind", [ImageEncoder, ImageDecoder])
@pytest.mark.parametrize("detector", ["ecal", "focalh"])
def test_layers_come_back_from_their_configuration(kind, detector):
    layer = kind(detector, SCALER, LATENT, seed=3, **SIZES)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), layer.get_weights(), strict=True))


def test_spread_of_a_code_is_kept_within_bounds(batch):
    encoder = ImageEncoder("ecal", SCALER, LATENT, **SIZES)
    kernel, _ = encoder.read.get_weights()
    encoder.read.set_weights([0.0 * kernel, np.array([0.0, 9.0, -9.0, -99.0, 99.0, 1.0])])
    mean, log_deviation = encoder(batch["responses"], batch["conditions"])
    assert numpy(mean)[0].tolist() == [0.0, 9.0, -9.0] and numpy(log_deviation)[0].tolist() == [-6.0, 2.0, 1.0]


@pytest.fixture(scope="module")
def generator():
    decoder = ImageDecoder("ecal", SCALER, LATENT, seed=4, **SIZES)
    return DecoderGenerator(decoder, BOXCOX, [-1e4] * 9, [1e4] * 9, floor=0.08)


@pytest.fixture(scope="module")
def sampled(generator, showers):
    return generator.sample(showers.particles[:6], seed=5, batch_size=4)


@pytest.mark.compiles_long
def test_generator_is_the_decoder_without_what_is_too_faint(generator, showers, sampled, evaluate):
    """x = BoxCox^-1(y), and exactly 0 below the floor."""
    noise = np.concatenate([np.random.default_rng([5, b]).standard_normal((4, LATENT), "float32") for b in range(2)])
    image = evaluate(generator.decoder, noise[:6], showers.particles[:6])
    energy = numpy(BoxCox(**BOXCOX).inverse(ops.convert_to_tensor(image)))
    assert image.min() >= 0.0 and ((energy > 0.0) & (energy < 0.07)).any() and (energy > 0.09).any()
    clear = np.abs(energy - 0.08) > 1e-5
    np.testing.assert_allclose(sampled[clear], np.where(energy > 0.08, energy, 0.0)[clear], rtol=1e-3)
    assert sampled.dtype == np.float32 and sampled[sampled > 0.0].min() > 0.08 and (sampled == 0.0).any()


def test_generator_comes_back_from_its_file(generator, showers, sampled, tmp_path):
    generator.save(tmp_path / "generator.keras")
    again = keras.saving.load_model(tmp_path / "generator.keras")
    assert again.floor == 0.08 and again.boxcox.get_config() == BOXCOX
    assert np.array_equal(again.sample(showers.particles[:6], seed=5, batch_size=4), sampled)
    assert (again.sample(showers.particles[:6], seed=6, batch_size=4) != sampled).any()
