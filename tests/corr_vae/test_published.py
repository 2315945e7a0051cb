"""The study's CorrVAE: sizes of its networks, its loss by hand, a training, and what its generator is asked for."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from zdckeras.corr_vae.model import total_correlation
from zdckeras.corr_vae.published import (
    ImageCorrDecoder,
    ImageCorrVAE,
    published_decoder,
    published_encoder,
    published_particle,
)
from zdckeras.corr_vae.schedule import shares_at
from zdckeras.loading import load_model
from zdckeras.training.batches import Batches
from zdckeras.training.cost import products_of
from zdckeras.training.loop import fit_adam

numpy = ops.convert_to_numpy
SIZES = dict(divide=16, latents=4, objects=3, context=2)
ROWS = 8


@pytest.fixture(scope="module")
def vae(showers):
    return ImageCorrVAE.published(showers, seed=1, **SIZES)


def batch_of(vae, showers, rows=ROWS):
    return Batches({"conditions": showers.particles, "responses": showers.response}, rows, 2, vae.uniform, vae.noise)


@pytest.mark.parametrize(("detector", "grids"), [
    ("zn", [(22, 22), (11, 11), (4, 4)]), ("zp", [(28, 15), (14, 8), (5, 3)])])
def test_grids_there_and_back(detector, grids):
    encoder, decoder = published_encoder(detector, divide=16), published_decoder(detector, divide=16)
    there = [layer.output.shape[1:3] for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    back = [layer.output.shape[1:3] for layer in decoder.layers if isinstance(layer, layers.Cropping2D)]
    assert there == grids and back == [grids[1], grids[0], {"zn": (44, 44), "zp": (56, 30)}[detector]]


@pytest.mark.compiles_long
def test_terms_by_hand(vae, showers, evaluate):
    batch = batch_of(vae, showers)[0][0]
    terms = evaluate(lambda *a: vae.terms(dict(zip(batch, a, strict=True))), *batch.values())
    scalars = ("total", "sparsity")
    assert list(terms) == list(vae.WEIGHTS)
    assert {terms[name].shape for name in terms if name not in scalars} == {(ROWS,)}
    decoder, image = vae.decoder, np.log1p(batch["responses"])
    known = (batch["conditions"] - decoder.mean) / decoder.scale
    of_image, of_particle = (numpy(net(x)) for net, x in ((vae.encoder, image), (decoder.particle, known)))
    mean = np.concatenate([of_image[:, :7], of_particle[:, :2]], axis=1)
    deviation = np.exp(np.clip(np.concatenate([of_image[:, 7:], of_particle[:, 2:]], axis=1), -6.0, 2.0))
    code = (mean + deviation * batch["code"]).astype("float32")
    w, mask = code[:, :4], numpy(decoder.masked.open(batch["mask"][:1]))
    made, light = numpy(decoder.network(code)), image.sum(axis=(1, 2))
    places = np.arange(30.0) / 30.0
    y = np.stack([image.sum(axis=2) @ places, image.sum(axis=1) @ places], axis=1) / light[:, None]
    photons = showers.response.astype("float64")
    bright = np.stack([light / photons.sum(axis=(1, 2)).max(), image.max(axis=(1, 2)) / photons.max()], axis=1)
    expected = {
        "pixels": ((image - made) ** 2).sum(axis=(1, 2)),
        "properties": ((y - numpy(decoder.masked(w, batch["mask"][:1]))) ** 2).sum(axis=1),
        "brightness": ((bright - numpy(decoder.brightness(code[:, 7:]))) ** 2).sum(axis=1),
        "expected": ((y - numpy(decoder.guess(known))) ** 2).sum(axis=1), "sparsity": mask.sum(),
        "divergence": (0.5 * (mean**2 + deviation**2 - 1.0) - np.log(deviation)).sum(axis=1)}
    for name, values in expected.items():
        np.testing.assert_allclose(terms[name], values, rtol=2e-3, atol=2e-3, err_msg=name)
    parts = [(x.astype("float32") for x in np.split(v, [4, 7], axis=1)) for v in (code, mean, np.log(deviation))]
    w, z, c = zip(*parts, strict=True)
    total = sum(float(total_correlation(*pair)) for pair in ((w, z), (w, c), (z, c)))
    total += float(total_correlation(*([x[:, k : k + 1] for x in w] for k in range(4))))
    assert np.unique(terms["total"]) == pytest.approx([total], rel=1e-2)
    loss = evaluate(lambda *a: vae(dict(zip(batch, a, strict=True))), *batch.values())
    begun = {name: weight for name, weight in vae.WEIGHTS.items() if name != "divergence"}
    np.testing.assert_allclose(loss, sum(weight * terms[name] for name, weight in begun.items()), rtol=1e-4)


def test_losses_follow_the_schedule(vae, showers, tmp_path):
    """Terms of one batch, with the shares of the step that is reached: of 1,000 steps, one of the first and a later."""
    vae, batch = ImageCorrVAE.published(showers, seed=1, steps=1000, **SIZES), batch_of(vae, showers)[0][0]
    terms = {}
    for step in (50, 150, 300):
        vae.step.assign(step)
        loss, terms = numpy(vae(batch)), {name: numpy(term) for name, term in vae.terms(batch).items()}
        shares = {name: float(share) for name, share in shares_at(step, 1000).items()}
        assert (shares["sparsity"], shares["divergence"] > 0.0) == (float(step == 50), step > 50)
        expected = sum(weight * shares.get(name, 1.0) * terms[name] for name, weight in vae.WEIGHTS.items())
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    vae.save(tmp_path / "vae.keras")
    again = load_model(tmp_path / "vae.keras")
    assert (again.settings, again.ranges, again.scale) == (vae.settings, vae.ranges, vae.scale)
    assert again.decoder.settings == vae.decoder.settings and float(again.step) == 300.0
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), vae.get_weights(), strict=True))


def test_a_training_counts_its_steps_and_is_taken_up_in_its_schedule(showers, eager, tmp_path):
    found, rows, steps = {}, 24, 4 * (len(showers) // 24)
    for name, stops in {"once": (4,), "twice": (2, 4)}.items():
        for until in stops:
            vae = ImageCorrVAE.published(showers, steps=steps, **SIZES)
            before = [numpy(v) for v in vae.trainable_variables]
            vae.compile(keras.optimizers.Adam(3e-3), run_eagerly=eager)
            path, batches = tmp_path / f"{name}.npz", batch_of(vae, showers, rows)
            history = fit_adam(vae, batches, path, 4, 3e-3, until=until)["loss"]
            assert float(vae.step) == until * steps // 4
        found[name] = vae.get_weights()
        assert len(history) == 4 and np.isfinite(history).all()
    assert all(np.array_equal(a, b) for a, b in zip(*found.values(), strict=True))
    still = {v.name for a, v in zip(before, vae.trainable_variables, strict=True) if (a == numpy(v)).all()}
    assert still <= {"mask"}  # which turned cold


def test_centres_are_those_of_the_logarithms(vae):
    """Two cells, of e - 1 and e^3 - 1 photons, weigh as 1 to 3; asked for are cells from the detector's centre."""
    image = np.zeros((1, 30, 30), "float32")
    image[0, 3, 6], image[0, 7, 6] = 1.0, 3.0
    assert numpy(vae.decoder.centres(image))[0] == pytest.approx([6.0 / 30.0, 6.0 / 30.0], rel=1e-5)
    assert numpy(vae.decoder.shares(np.array([[-14.5, 14.5]], "float32")))[0] == pytest.approx([0.0, 29.0 / 30.0])


def test_generator_steers_to_what_is_asked_for(vae, showers, eager, tmp_path):
    """Its w states what was asked; the rest is what the particle lets expect; the file answers alike."""
    generator, decoder, particles = vae.generator, vae.decoder, showers.particles[:6]
    decoder.masked.mask_logits.assign([[3.0, -3.0, -3.0, -3.0], [-3.0, 3.0, -3.0, -3.0]])
    generator.save(tmp_path / "generator.keras")
    generator.compile(run_eagerly=eager)
    assert generator.noise_width == 9 and decoder.mask().shape == (2, 4)
    asked = {"centre_x": np.linspace(-2.0, 2.0, 6)}
    made = generator.sample(particles, 4, properties=asked)
    assert made.shape == (6, 30, 30) and (made == np.rint(made)).all()
    assert np.array_equal(made, vae.generate(asked, particles, 4))
    assert (made != generator.sample(particles, 4)).any() and (made != generator.sample(particles, 5)).any()
    again = load_model(tmp_path / "generator.keras")
    again.compile(run_eagerly=eager)
    assert np.array_equal(again.sample(particles, 4, properties=asked), made)


def test_multiplications_of_a_response_are_those_of_its_networks(vae):
    """Of functional models, which say themselves what their layers give."""
    decoder = vae.generator.decoder
    expected = products_of(decoder.network) + products_of(decoder.particle)
    assert vae.generator.operations() == expected > 0


def test_what_cannot_be_asked_for_is_refused(vae, showers):
    with pytest.raises(ValueError, match="Expected properties of centre_x, centre_y; received photons, width"):
        vae.generate({"photons": 300.0, "width": 2.0}, showers.particles[:3])
    with pytest.raises(ValueError, match="steps"):
        ImageCorrVAE.published(showers, steps=0, **SIZES)
    with pytest.raises(ValueError, match="Expected weights of at least 0 for pixels, .*received {'sharpness': 1.0}"):
        ImageCorrVAE.published(showers, weights={"sharpness": 1.0}, **SIZES)


def test_networks_of_other_shapes_are_refused(vae):
    scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
    with pytest.raises(ValueError, match=r"decoder: expected outputs of shapes \[\(None, 30, 30\)\], received"):
        ImageCorrDecoder(published_decoder("zn", divide=16), published_particle(divide=16), "ecal", scaler)
    with pytest.raises(ValueError, match=r"particle: expected outputs of shapes \[\(None, 16\)\], received"):
        ImageCorrDecoder(published_decoder("ecal", divide=16), published_particle(4, 16), "ecal", scaler)
    with pytest.raises(ValueError, match=r"encoder: expected outputs of shapes \[\(None, 14\)\], received"):
        ImageCorrVAE(published_encoder("ecal", 6, 32), vae.decoder, **vae.ranges, brightest=[1.0, 1.0])


@pytest.mark.compiles_long
def test_what_acts_in_training_alone_acts_in_networks_of_your_own(vae, showers, tmp_path):
    """Averages of a normalisation move, on JAX, too, whose trainer calls `call` itself."""
    def own(body):
        return keras.Sequential([keras.Input(body.input_shape[1:]), layers.BatchNormalization(), body])

    encoder, network = own(vae.encoder), own(vae.decoder.network)
    decoder = ImageCorrDecoder(network, vae.decoder.particle, **vae.decoder.settings)
    model = ImageCorrVAE(encoder, decoder, **vae.ranges, brightest=vae.brightest, steps=2)
    fit_adam(model, batch_of(vae, showers), tmp_path / "state.npz", 1, 1e-3)
    assert all(abs(numpy(body.layers[0].moving_mean)).max() > 0.0 for body in (encoder, network))


@pytest.mark.parametrize("none", ["latents", "objects", "context"])
def test_no_numbers_of_a_kind_are_refused(showers, none):
    with pytest.raises(ValueError, match=f"^{none}: expected a whole number of at least 1, received 0"):
        ImageCorrVAE.published(showers, **SIZES | {none: 0})
