import keras
import numpy as np
import pytest

from zdckeras.corr_vae.generator import properties_of
from zdckeras.corr_vae.model import CorrVAE
from zdckeras.corr_vae.properties import PROPERTIES
from zdckeras.metrics.shapes import SHAPE_OBSERVABLES, shapes

ROWS = 8


@pytest.fixture(scope="module")
def vae(showers):
    return CorrVAE.fit_scales(showers, channels=(4, 2), width=2, latents=6, objects=3, hidden=6, seed=2)


@pytest.fixture(scope="module")
def generator(vae):
    return vae.generator


@pytest.mark.compiles_long
def test_steering(vae, showers, evaluate):
    """What is asked for is what w says afterwards; what is left open stays."""
    decoder, rng = vae.decoder, np.random.default_rng(3)
    w, asked = rng.normal(size=(ROWS, 6)), rng.normal(size=(ROWS, 4))
    asked[:, 1] = np.nan
    asked[0] = np.nan
    before, after, found = evaluate(
        lambda w, a, c: (decoder.maps(decoder.pool(w), c), decoder.maps(decoder.pool(decoder.steer(w, a, c)), c),
                         decoder.steer(w, a, c)), w, asked, showers.particles[:ROWS])
    np.testing.assert_allclose(after, np.where(np.isnan(asked), before, asked), atol=1e-3)
    np.testing.assert_allclose(found[0], w[0], atol=1e-5)
    assert np.abs(found[1:] - w[1:]).max(axis=1).min() > 0.01


def test_properties_of_responses(showers):
    table, names = shapes(showers.response), list(SHAPE_OBSERVABLES)
    np.testing.assert_array_equal(properties_of(showers.response), table[:, [names.index(name) for name in PROPERTIES]])


@pytest.mark.compiles_long
def test_generating_what_is_asked_for(vae, generator, showers):
    """The same as steering by hand; the seed repeats; blocks do not matter beyond the noise they draw."""
    particles = showers.particles[:6]
    asked = {"photons": np.linspace(290.0, 310.0, 6), "centre_y": 0.5}
    made = vae.generate(properties=asked, particle=particles, seed=4)
    assert made.shape == (6, 30, 30) and (made == np.rint(made)).all()
    np.testing.assert_allclose(made.sum(axis=(1, 2)), asked["photons"], atol=0.6)
    assert np.array_equal(made, generator.sample(particles, 4, properties=asked))
    free = generator.sample(particles, 4)
    assert (made != free).any() and np.array_equal(free, generator.sample(particles, 4, properties={}))
    assert (made != vae.generate(asked, particles, seed=5)).any()
    blocks = generator.sample(particles, 4, batch_size=4, properties=asked)
    first = generator.sample(particles[:4], 4, batch_size=4, properties={"photons": asked["photons"][:4],
                                                                          "centre_y": np.full(4, 0.5)})
    assert np.array_equal(blocks[:4], first)


def test_generator_comes_back_from_its_file(generator, showers, tmp_path):
    generator.save(tmp_path / "generator.keras")
    again = keras.saving.load_model(tmp_path / "generator.keras")
    assert (again.noise_width, again.detectors) == (generator.noise_width, generator.detectors)
    asked = {"width": 2.8, "centre_x": np.linspace(-2.0, 2.0, 4)}
    made = [one.sample(showers.particles[:4], 5, 4, properties=asked) for one in (generator, again)]
    assert np.array_equal(*made)
    assert (again.smallest, again.largest) == (pytest.approx(generator.smallest), pytest.approx(generator.largest))


@pytest.mark.parametrize("properties, message", [
    ({"photons": 1e6}, r"photons: asked for 1e\+06 to 1e\+06 photons, but the training data range from [\d.]+ to"),
    ({"centre_x": [0.0, 0.0, -40.0]}, r"centre_x: asked for -40 to 0 cells, but the training data range from -"),
    ({"width": [1.0, 2.0]}, r"width: expected one number or shape \(3,\), received shape \(2,\)"),
    ({"centre_y": [0.0, np.nan, np.inf]}, "centre_y: expected finite values, received 2 that are not"),
    ({"length": 1.0}, "Expected properties of photons, centre_x, centre_y, width; received length"),
])
def test_refused_wishes(generator, showers, properties, message):
    with pytest.raises(ValueError, match=message):
        generator.sample(showers.particles[:3], properties=properties)
