import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.photon_coding import deviance, photon_pair
from zdckeras.training.batches import Batches
from zdckeras.vae.autoencoders import CodeGenerator, NoiseGeneratorAutoencoder, PhotonVAE, SupervisedAutoencoder
from zdckeras.vae.sinkhorn import sinkhorn_divergence

numpy = ops.convert_to_numpy
ROWS, LATENT = 8, 3
KINDS = {"vae": (PhotonVAE, {}), "supervised": (SupervisedAutoencoder, {}),
         "sinkhorn": (NoiseGeneratorAutoencoder, {"match": "sinkhorn"}),
         "mse": (NoiseGeneratorAutoencoder, {"match": "mse"})}


def pair(showers, **settings):
    return photon_pair(showers, CnnEncoder, CnnDecoder, **{"width": 4, "light": 8, "channels": (3, 2, 2), "seed": 1,
                                                          **settings})


def build(showers, name, **settings):
    kind, more = KINDS[name]
    parts = pair(showers, informed=kind is not SupervisedAutoencoder)
    return kind(*parts, **{"latent": LATENT, "hidden": 8, "seed": 2, **more, **settings})


@pytest.fixture(scope="module")
def batch(showers):
    data = {"conditions": showers.particles, "responses": showers.response}
    return Batches(data, ROWS, seed=1, normal={"z": (LATENT,)})[0][0]


@pytest.mark.compiles_long
@pytest.mark.parametrize("name", KINDS)
def test_loss_is_the_sum_of_its_terms(showers, batch, evaluate, name):
    model, scaler = build(showers, name, weight=0.02), None

    def parts(conditions, responses, z):
        inputs = {"conditions": conditions, "responses": responses, "z": z}
        return model(inputs), model.reconstruct(inputs)[0], model.encode(inputs), model.code(z, conditions)

    arrays = [batch[key] for key in ("conditions", "responses", "z")]
    loss, light, found, made = evaluate(parts, *arrays)
    scaler = model.decoder.features
    true = (arrays[0] - scaler.mean) / scaler.scale
    rest = 0.0
    if name in ("vae", "supervised"):
        mean, log_deviation = np.split(found[:, model.EXTRA :], 2, axis=-1)
        rest = 0.07 * np.sum(0.5 * (mean**2 + np.exp(2 * log_deviation) - 1) - log_deviation, axis=-1)
        assert np.array_equal(made, arrays[2])
    if name == "supervised":
        rest = rest + ((found[:, :9] - true) ** 2).mean(axis=-1)
    if name == "mse":
        rest = ((found - made) ** 2).mean(axis=-1)
    if name == "sinkhorn":
        both = (np.concatenate([c, np.clip(true, -5, 5)], axis=-1) for c in (found, made))
        rest = float(sinkhorn_divergence(*both, blur=0.1, iterations=20, relative=True))
        assert rest > 0.0
    np.testing.assert_allclose(loss, 0.02 * numpy(deviance(arrays[1], light)) + rest, rtol=2e-4)


@pytest.mark.compiles_long
def test_supervised_decoder_is_driven_by_what_was_read(showers, batch, evaluate):
    """Its encoder sees photons alone; told of other particles it says the same, and so does every second light."""
    model = build(showers, "supervised")

    def light(conditions, responses, z):
        return model.reconstruct({"conditions": conditions, "responses": responses, "z": z})

    responses, z = batch["responses"], batch["z"]
    (first, loss), (second, other) = (evaluate(light, c, responses, z)
                                      for c in (batch["conditions"], 1.5 * batch["conditions"]))
    assert np.array_equal(first[::2], second[::2]) and (loss != other).all()
    assert (first[1::2] != second[1::2]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("name", KINDS)
def test_training_moves_every_weight_and_lowers_the_loss(showers, eager, name):
    model = build(showers, name)
    eager = eager and name != "sinkhorn"  # one of them compiled as recipes do
    model.compile(keras.optimizers.Adam(2e-2), run_eagerly=eager, jit_compile=not eager and backend.jit_compile())
    data = Batches({"conditions": showers.particles, "responses": showers.response}, 24, seed=1,
                   normal={"z": (LATENT,)})
    before = [numpy(w) for w in model.trainable_weights]
    history = model.fit(data, epochs=3, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]
    assert all((a != numpy(b)).any() for a, b in zip(before, model.trainable_weights, strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_model_and_generator_survive_their_files(showers, batch, tmp_path, name):
    model = build(showers, name)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights(), strict=True))
    model.scatter.dispersion.assign(0.3)
    generator = CodeGenerator.of(model, showers)
    made = generator.sample(showers.particles[:6], seed=5, batch_size=4)
    generator.save(tmp_path / "generator.keras")
    loaded = keras.saving.load_model(tmp_path / "generator.keras")
    assert made.shape == (6, 30, 30) and made.sum() > 0 and np.array_equal(made, np.rint(made))
    assert np.array_equal(loaded.sample(showers.particles[:6], seed=5, batch_size=4), made)
    assert (loaded.sample(showers.particles[:6], seed=6, batch_size=4) != made).any()


def test_multiplications_of_a_response_by_hand(showers):
    """64 tokens of 4 numbers, which 3 numbers of the code become, on 8 x 8, 16 x 16 and 32 x 32 cells."""
    plain, driven = (CodeGenerator.of(build(showers, name), showers) for name in ("vae", "mse"))
    known = plain.decoder.features.width
    spread = (3 + known) * 8 + 8 * 64 * 4
    body = 64 * (9 * 4 * 3) + known * 3 + 64 * (9 * 3 * 4 * 2) + 256 * (9 * 2 * 4 * 2) + 1024 * (9 * 2)
    light = (64 * 4 + known) * 8 + 8 * 8 + 8 * (4 * 8 + 1) + 8 * 900  # dense layers, and eight spots on every cell
    assert plain.operations() == spread + body + light
    assert driven.operations() == plain.operations() + (3 + known) * 8 + 8 * 8 + 8 * 3  # noise to the code


@pytest.mark.compiles_long
def test_generator_draws_from_the_light_of_codes(showers, batch, evaluate):
    """The noise generator's codes, not the noise itself, where there is one."""
    conditions, z = batch["conditions"], batch["z"]
    for name in ("vae", "mse"):
        model = build(showers, name)
        generator = CodeGenerator.of(model, showers)
        photons, light = evaluate(lambda c, z, m=model, g=generator: (g.generate(z, c), m.decode(m.code(z, c), c)),
                                  conditions, z)
        assert (photons == np.rint(photons)).all() and photons.min() >= 0
        np.testing.assert_allclose(photons.sum(axis=(1, 2)), light.sum(axis=(1, 2)), atol=5.0)  # five sums rounded


def test_bad_settings_are_refused(showers):
    with pytest.raises(ValueError, match="not told of the particle"):
        SupervisedAutoencoder(*pair(showers), latent=LATENT)
    with pytest.raises(ValueError, match="match='sinkhorn' or 'mse', received 'l1'"):
        NoiseGeneratorAutoencoder(*pair(showers), match="l1")
    with pytest.raises(ValueError, match="cannot tile"):
        pair(showers, channels=(2,) * 7)
