"""The modular model of calorimeters that are read out in energy: features, networks, training, generator."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.modular.conftest import LATENT, SMALL
from zdckeras import backend
from zdckeras.loading import load_model
from zdckeras.modular.arrivals import ArrivalBatches
from zdckeras.modular.cells import EnergyCells
from zdckeras.modular.energies import EnergyDecoder, EnergyEncoder, TiltedFeatures
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.guns import StraightFlight
from zdckeras.modular.model import ArrivalVAE
from zdckeras.modular.training import encoded_arrivals
from zdckeras.simulation.gun import draw_gun

numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def batches():
    return ArrivalBatches("ecal", 96, epochs=4, batch_size=32, seed=3, latent=LATENT)


@pytest.fixture(scope="module")
def vae(batches):
    """Not trained; shared, so leave its weights alone."""
    return ArrivalVAE("ecal", **SMALL).fit_scales(known(batches), batches.arrays["responses"])


def known(batches):
    return {name: batches.arrays[name] for name in TiltedFeatures.INPUTS}


def electrons(*energies, x=0.5, slope=0.1):
    """Features and cells of electrons that differ in energy alone."""
    rows = len(energies)
    columns = np.zeros(rows), energies, np.full(rows, x), np.zeros(rows), np.full(rows, slope), np.zeros(rows)
    return TiltedFeatures("ecal")(*(np.asarray(c, "float32") for c in columns))


def test_features_are_of_the_axis_at_the_depth_of_the_shower():
    """A slope of 0.1 at 12.7 cm is a shift of 1.27 cm, into the next cell here; slopes stand by themselves too."""
    (upright, here), (tilted, there) = (electrons(10.0, x=x, slope=s) for x, s in ((3.17, 0.0), (1.9, 0.1)))
    assert numpy(here).tolist() == numpy(there).tolist() == [[16, 15]]
    np.testing.assert_allclose(numpy(upright)[:, :-8], numpy(tilted)[:, :-8], atol=1e-5)
    np.testing.assert_allclose(numpy(tilted)[0, -8:-4], [0.4, 0.0, 0.16, 0.0], atol=1e-6)
    assert (numpy(upright)[0, -8:] == 0).all()
    with pytest.raises(ValueError, match="ecal or focalh; received 'zn'"):
        TiltedFeatures("zn")


def test_energies_are_in_proportion_to_that_of_the_particle():
    """With maps of zeros m is the mean map times E; hits too, and the shape grows with them."""
    decoder = EnergyDecoder("ecal", latent=3, hidden=(8, 8), known=8, rim=4)
    for layer in (decoder.inner, decoder.outer, decoder.lumps, decoder.lump_map):
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    features, cell = electrons(5.0, 50.0)
    responses = np.zeros((2, 30, 30))
    responses[:, 15, 14:17] = np.array([[5.0], [50.0]])
    decoder.fit_mean(responses, features, cell)
    log_mean, log_shape, log_hits, *whole = (numpy(v) for v in decoder(np.zeros((2, 3), "float32"), features, cell))
    assert [v.tolist() for v in whole] == [[[0.0]] * 2, [[-1.5]] * 2]  # the sum as the means say, within a fifth
    np.testing.assert_allclose(log_mean[1] - log_mean[0], np.log(10.0), rtol=1e-4)
    np.testing.assert_allclose(np.exp(log_mean[:, 15 * 30 + 15]), [5.0, 50.0], rtol=0.02)
    np.testing.assert_allclose(log_hits[1] - log_hits[0], np.log(10.0), rtol=1e-4)
    np.testing.assert_allclose(log_shape[1] - log_shape[0], 0.5 * np.log(10.0), rtol=1e-4)


def test_encoder_sees_energies_relative_to_the_particle():
    encoder = EnergyEncoder("ecal", latent=3, hidden=(8, 8))
    features, cell = electrons(20.0, 20.0)
    image = np.random.default_rng(0).gamma(0.5, 8.0, (1, 30, 30)).astype("float32")
    scaled = numpy(encoder.scaled(np.concatenate([image, 2 * image]), features))
    np.testing.assert_allclose(scaled[0], image[0] / (20.0 / np.exp(3.5)), rtol=1e-4)
    both = np.concatenate([image, 2 * image])
    encoder.fit_scales(both, features, cell)
    seen = numpy(encoder.seen(both, features, cell))
    np.testing.assert_allclose(seen[0] + seen[1], 0.0, atol=2e-3)
    assert 0.5 < np.abs(seen[0]).max() <= 1.0  # two responses are a deviation from their mean
    mean, deviation = (numpy(v) for v in encoder(both, features, cell))
    assert np.abs(mean[0] - mean[1]).max() > 1e-4 and (deviation >= -6).all() and (deviation <= 3).all()


def test_loss_is_that_of_the_cells_and_the_code(vae, batches, evaluate):
    (batch,) = batches[0]
    names = list(batch)

    def parts(*values):
        inputs = dict(zip(names, values, strict=True))
        code, log_q, features, cell = vae.encode(inputs)
        held = ops.reshape(inputs["responses"], (-1, 900))
        cells = ops.sum(EnergyCells.loss(held, *vae.decoder(code, features, cell)), axis=-1)
        return vae(inputs), cells + inputs["beta"] * (log_q - vae.prior(code, features))

    found, expected = evaluate(parts, *batch.values())
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.isfinite(found).all()


def test_training_moves_every_weight_and_lowers_the_loss(batches, eager):
    model = ArrivalVAE("ecal", **SMALL).fit_scales(known(batches), batches.arrays["responses"])
    before = [numpy(v) for v in model.trainable_variables]
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    losses = [float(model.train_on_batch(batches[0][0])) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert all(np.abs(numpy(v) - b).max() > 0 for v, b in zip(model.trainable_variables, before, strict=True))


def test_codes_of_encoded_arrivals_belong_to_their_sums(vae):
    arrays = encoded_arrivals(vae, 40, seed=2)
    assert arrays["code"].shape == (40, LATENT) and arrays["slope_x"].shape == (40,)
    assert arrays["variability"].mean() == pytest.approx(1.0, rel=1e-3)


def test_generator_answers_and_comes_back_from_its_file(vae, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "jit_sampling", backend.jit_compile)  # compiling takes longer than so few
    generator = ModularGenerator(StraightFlight("ecal"), vae.prior, vae.decoder, np.full(9, -1e5), np.full(9, 1e5))
    conditions, pdg = draw_gun("ecal", 8, 3)
    generator.save(tmp_path / "modular.keras")
    again = load_model(tmp_path / "modular.keras")
    first, same, other = (g.sample(conditions, seed, 8) for g, seed in ((generator, 1), (again, 1), (generator, 2)))
    assert np.array_equal(first, same) and (first != other).any()
    assert first.dtype == np.float32 and first.shape == (8, 30, 30) and (first == 0).mean() > 0.1
    share = first.sum(axis=(1, 2)) / conditions[:, 0] / 1000.0  # of the mean map, untrained
    assert 0.05 < np.median(share) < 0.5
    arrivals = {name: np.asarray(values) for name, values in zip(TiltedFeatures.INPUTS, (
        [0, 0], [5.0, 50.0], [0.0, 3.0], [0.0, 0.0], [0.1, 0.0], [0.0, 0.2]), strict=True)}
    made = generator.respond(arrivals, 1, 2)
    assert made.shape == (2, 30, 30) and made[1].sum() > made[0].sum() > 0
