"""The study's CorrVAE: sizes of its networks, its loss by hand, a training, and what its generator is asked for."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from zdckeras.corr_vae.generator import properties_of
from zdckeras.corr_vae.model import total_correlation
from zdckeras.corr_vae.published import (
    BEGIN,
    LATER,
    ImageCorrDecoder,
    ImageCorrVAE,
    published_decoder,
    published_encoder,
    published_particle,
)
from zdckeras.loading import load_model
from zdckeras.training.batches import Batches

numpy = ops.convert_to_numpy
SIZES = dict(divide=32, latents=4, objects=3, context=2)
ROWS = 8


@pytest.fixture(scope="module")
def vae(showers):
    return ImageCorrVAE.published(showers, seed=1, **SIZES)


def batch_of(vae, showers, rows=ROWS):
    return Batches({"conditions": showers.particles, "responses": showers.response}, rows, 2, vae.uniform, vae.noise)


@pytest.mark.parametrize(("detector", "grids"), [
    ("zn", [(22, 22), (11, 11), (4, 4)]), ("zp", [(28, 15), (14, 8), (5, 3)])])
def test_grids_there_and_back(detector, grids):
    encoder, decoder = published_encoder(detector, divide=32), published_decoder(detector, divide=32)
    there = [layer.output.shape[1:3] for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    back = [layer.output.shape[1:3] for layer in decoder.layers if isinstance(layer, layers.Cropping2D)]
    assert there == grids and back == [grids[1], grids[0], {"zn": (44, 44), "zp": (56, 30)}[detector]]


@pytest.mark.compiles_long
def test_terms_by_hand(vae, showers, evaluate):
    batch = batch_of(vae, showers)[0][0]
    terms = evaluate(lambda *a: vae.terms(dict(zip(batch, a, strict=True))), *batch.values())
    assert list(terms) == list(vae.WEIGHTS) and {terms[name].shape for name in terms if name != "total"} == {(ROWS,)}
    decoder, image = vae.decoder, np.log1p(batch["responses"])
    known = (batch["conditions"] - decoder.mean) / decoder.scale
    of_image, of_particle = (numpy(net(x)) for net, x in ((vae.encoder, image), (decoder.particle, known)))
    mean = np.concatenate([of_image[:, :7], of_particle[:, :2]], axis=1)
    deviation = np.exp(np.clip(np.concatenate([of_image[:, 7:], of_particle[:, 2:]], axis=1), -6.0, 2.0))
    code = (mean + deviation * batch["code"]).astype("float32")
    w, mask = code[:, :4], numpy(decoder.masked.open(batch["mask"]))
    made, own = numpy(decoder.network(code)), properties_of(batch["responses"])
    low, high = (np.array(vae.ranges[edge]) for edge in ("smallest", "largest"))
    y = ((own - low) / (high - low))[:, 1:3]
    bright = np.stack([image.sum(axis=(1, 2)), image.max(axis=(1, 2))], axis=1) / vae.brightest
    expected = {
        "pixels": ((image - made) ** 2).sum(axis=(1, 2)),
        "properties": ((y - numpy(decoder.masked(w, batch["mask"]))) ** 2).sum(axis=1),
        "brightness": ((bright - numpy(decoder.brightness(code[:, 7:]))) ** 2).sum(axis=1),
        "expected": ((y - numpy(decoder.guess(known))) ** 2).sum(axis=1), "sparsity": mask.sum(axis=(1, 2)),
        "divergence": (0.5 * (mean**2 + deviation**2 - 1.0) - np.log(deviation)).sum(axis=1)}
    for name, values in expected.items():
        np.testing.assert_allclose(terms[name], values, rtol=2e-3, atol=2e-3, err_msg=name)
    parts = [(x.astype("float32") for x in np.split(v, [4, 7], axis=1)) for v in (code, mean, np.log(deviation))]
    w, z, c = zip(*parts, strict=True)
    total = sum(float(total_correlation(*pair)) for pair in ((w, z), (w, c), (z, c)))
    total += float(total_correlation(*([x[:, k : k + 1] for x in w] for k in range(4))))
    assert np.unique(terms["total"]) == pytest.approx([total], rel=1e-2)
    loss = evaluate(lambda *a: vae(dict(zip(batch, a, strict=True))), *batch.values())
    np.testing.assert_allclose(loss, sum(vae.WEIGHTS[name] * terms[name] for name in terms), rtol=1e-4)


@pytest.mark.compiles_long
def test_two_parts_of_a_training_move_all_weights(showers, eager, tmp_path):
    vae = ImageCorrVAE.published(showers, weights=BEGIN, **SIZES)
    vae.compile(keras.optimizers.Adam(3e-3, clipnorm=1.0), run_eagerly=eager)
    before = [numpy(v) for v in vae.trainable_variables]
    history = vae.fit(batch_of(vae, showers, 24), epochs=5, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all() and history[-1] < 0.95 * history[0]
    assert not [v.path for a, v in zip(before, vae.trainable_variables, strict=True) if (a == numpy(v)).all()]
    later = vae.weighing(LATER)
    assert (vae.scale["divergence"], later.scale["divergence"]) == (0.0, 6.4) and later.scale["sparsity"] == 0.0
    assert all(a is b for a, b in zip(later.trainable_variables, vae.trainable_variables, strict=True))
    later.save(tmp_path / "vae.keras")
    again = load_model(tmp_path / "vae.keras")
    assert (again.settings, again.ranges, again.scale) == (later.settings, later.ranges, later.scale)
    assert again.decoder.settings == later.decoder.settings
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), later.get_weights(), strict=True))


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


def test_what_cannot_be_asked_for_is_refused(vae, showers):
    with pytest.raises(ValueError, match="Expected properties of centre_x, centre_y; received photons, width"):
        vae.generate({"photons": 300.0, "width": 2.0}, showers.particles[:3])
    with pytest.raises(ValueError, match="Expected some of the properties photons, .*, width; received tilt"):
        ImageCorrVAE.published(showers, asked=("tilt",), **SIZES)
    with pytest.raises(ValueError, match="Expected weights of at least 0 for pixels, .*received {'sharpness': 1.0}"):
        ImageCorrVAE.published(showers, weights={"sharpness": 1.0}, **SIZES)


def test_networks_of_other_shapes_are_refused(vae):
    low, high = ([0.0] * 4, [1.0] * 4)
    scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
    with pytest.raises(ValueError, match=r"decoder: expected outputs of shapes \[\(None, 30, 30\)\], received"):
        ImageCorrDecoder(published_decoder("zn", divide=32), published_particle(divide=32), "ecal", scaler, low, high)
    with pytest.raises(ValueError, match=r"below a largest value of centre_x, centre_y; received \[0. 0.\]"):
        ImageCorrDecoder(published_decoder("ecal", divide=32), published_particle(8, 32), "ecal", scaler, low, low)
    with pytest.raises(ValueError, match=r"particle: expected outputs of shapes \[\(None, 16\)\], received"):
        ImageCorrDecoder(published_decoder("ecal", divide=32), published_particle(4, 32), "ecal", scaler, low, high)
    with pytest.raises(ValueError, match=r"encoder: expected outputs of shapes \[\(None, 14\)\], received"):
        ImageCorrVAE(published_encoder("ecal", 6, 32), vae.decoder, **vae.ranges, brightest=[1.0, 1.0])
