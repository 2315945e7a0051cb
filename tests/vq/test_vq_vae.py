import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.showers import Showers
from zdckeras.layers.cnn import CnnDecoder, CnnEncoder
from zdckeras.layers.particle_features import ParticleFeatures
from zdckeras.layers.patches import MixerDecoder, MixerEncoder, VitDecoder, VitEncoder
from zdckeras.layers.photon_coding import deviance, photon_pair
from zdckeras.training.batches import Batches
from zdckeras.vq.vq_vae import MODEL_SIZES, PhotonVQVAE, encode

numpy = ops.convert_to_numpy
BODIES = {"cnn": (CnnEncoder, CnnDecoder, dict(channels=(4, 4, 2, 2))),
          "vit": (VitEncoder, VitDecoder, dict(hidden=8, heads=2, depth=1, patch=15)),
          "mixer": (MixerEncoder, MixerDecoder, dict(hidden=8, across=5, depth=1, patch=15))}
WIDTH, CODES = 4, 8


def build(showers, name="mixer", seed=1, **settings):
    *bodies, sizes = BODIES[name]
    codebook = {"codes": CODES, **settings.pop("codebook", {})}
    return PhotonVQVAE(*photon_pair(showers, *bodies, WIDTH, 6, seed=seed, **sizes), codebook, seed=seed, **settings)


def data(showers, rows):
    return Batches({"conditions": showers.particles, "responses": showers.response}, rows, seed=1)


@pytest.mark.compiles_long
@pytest.mark.parametrize("decay", [None, 0.9])
def test_loss_is_weighted_deviance_and_that_of_the_codebook(showers, evaluate, decay):
    """By hand: tokens of the nearest codes, light of those codes."""
    model = build(showers, weight=0.3, codebook={"decay": decay, "commitment": 0.5})
    photons, particles = showers.response[:6], showers.particles[:6]
    loss, z, (light, tokens, _) = evaluate(
        lambda n, c: (model({"responses": n, "conditions": c}), model.encoder(n, c), model.reconstruct(n, c)),
        photons, particles)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    codes = numpy(model.codebook.table())
    squares = ((z[:, :, None] - codes) ** 2).sum(axis=-1)
    assert np.array_equal(tokens, squares.argmin(axis=-1)) and len(np.unique(tokens)) > 1
    np.testing.assert_allclose(light, evaluate(model.decoder, codes[tokens], particles), rtol=1e-4)
    beyond = (1.5 if decay is None else 0.5) * squares.min(axis=-1).mean(axis=-1)
    expected = 0.3 * numpy(deviance(photons, light)) + beyond
    assert loss.shape == (6,) and beyond.min() > 1e-3
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.compiles_long
@pytest.mark.parametrize(("name", "decay"), [("cnn", None), ("vit", None), ("mixer", 0.9)])
def test_every_weight_learns(showers, eager, name, decay):
    """Straight through the quantisation; codes move by moving averages or gradients."""
    model = build(showers, name, codebook={"decay": decay})
    model.compile(keras.optimizers.Adam(1e-2, clipnorm=1.0), run_eagerly=eager)
    before, codes = [numpy(v) for v in model.trainable_variables], numpy(model.codebook.table())
    history = model.fit(data(showers[:16], 16), epochs=3, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < 0.95 * history["loss"][0]
    assert 1.0 <= min(history["perplexity"]) and max(history["perplexity"]) <= CODES + 1e-3
    still = [v.path for a, v in zip(before, model.trainable_variables, strict=True) if (a == numpy(v)).all()]
    assert len(before) > 15 and still == []
    moved = np.abs(numpy(model.codebook.table()) - codes).max(axis=-1)
    assert (moved > 1e-4).all() and any("codes" in v.path for v in model.trainable_variables) == (decay is None)


@pytest.mark.compiles_long
def test_file_says_the_same(showers, evaluate, tmp_path):
    model = build(showers, weight=0.02, codebook={"decay": 0.9})
    model.codebook(np.random.default_rng(0).normal(size=(9, 4, WIDTH)).astype("float32"), training=True)
    model.scatter.dispersion.assign(0.25)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config() and float(numpy(again.scatter.dispersion)) == 0.25
    answers = [evaluate(one.reconstruct, showers.response[:4], showers.particles[:4]) for one in (model, again)]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*answers, strict=True))


@pytest.mark.compiles_long
def test_tokens_give_the_light_again(showers, evaluate):
    """Of all responses, in blocks of any size."""
    model, some = build(showers), showers[:10]
    tokens, light = encode(model, some, batch_size=4)
    assert tokens.dtype == np.int32 and tokens.shape == (10, model.tokens) and light.dtype == np.float32
    assert 0 <= tokens.min() and tokens.max() < CODES and len(np.unique(tokens)) > 1
    again = evaluate(model.light, tokens, some.particles)
    np.testing.assert_allclose(again, light, rtol=1e-4)


def trained_numbers(tokens, patch, width, context, hidden, depth, light):
    """Weights of encoder and decoder of a vision transformer, counted by hand."""
    core = tokens * hidden + depth * (12 * hidden**2 + 13 * hidden) + 2 * hidden
    around = patch**2 * hidden + hidden * width + (context + 1) * hidden
    encoder, decoder = hidden + width, hidden + patch**2
    spots = (tokens * width + context + 1) * light + (light + 1) * light + (light + 1) * 33
    return 2 * (core + around) + encoder + decoder + spots


@pytest.fixture(scope="module")
def neutrons(showers):
    response = np.zeros((len(showers), 44, 44), "uint16")
    response[:, 7:37, 7:37] = showers.response
    return Showers(showers.particles, showers.pdg, {"zn": response})


@pytest.mark.compiles_long
def test_sizes_are_what_they_are_called(neutrons):
    """Of all by a formula, which is that of the smallest when it is built; 36 tokens."""
    scaler = {"mean": [0.0] * 9, "scale": [1.0] * 9}
    context = ParticleFeatures("zn", **scaler).width
    counts = {}
    for name, size in MODEL_SIZES.items():
        sizes = {key: size[key] for key in ("hidden", "depth", "light")}
        counts[name] = trained_numbers(36, 8, 32, context, **sizes)
        assert counts[name] == pytest.approx(1e6 * float(name[:-1]), rel=0.1)
        assert size["hidden"] % size["heads"] == 0
    model = PhotonVQVAE.of_size(neutrons, "0.25M", seed=3, weight=0.02, codebook={"codes": 16})
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == counts["0.25M"]
    assert (model.tokens, model.detector.name, model.weight, model.codebook.codes) == (36, "zn", 0.02, 16)
    assert model.encoder.body.hidden == MODEL_SIZES["0.25M"]["hidden"]


@pytest.mark.compiles_long
def test_multiplications_of_both_ways_by_hand(showers):
    """4 patches of 225 cells and tokens of 4 numbers, 8 numbers inside; 4 tokens are compared with 8 codes."""
    model = build(showers)
    known = model.decoder.features.width
    body = 4 * (225 * 8 + 8 * 4) + known * 8 + 8 * (2 * 4 * 5) + 4 * (2 * 8 * 32)  # there, and as many back
    light = (4 * 4 + known) * 6 + 6 * 6 + 6 * (4 * 8 + 1) + 8 * 900  # dense layers, and eight spots on every cell
    assert model.operations() == 2 * body + light + 4 * CODES * WIDTH


@pytest.mark.parametrize(("size", "message"), [
    (dict(size="2M"), "one of the sizes 0.25M, 1M, 4M, 13M, 52M, received '2M'"),
    (dict(patch=31), "1 to 30 pixels for an image of 30 x 30; received one of 31 x 31, which cannot tile it")])
def test_sizes_that_cannot_be_are_refused(showers, size, message):
    with pytest.raises(ValueError, match=message):
        PhotonVQVAE.of_size(showers, **{"size": "0.25M", **size})


@pytest.mark.compiles_long
def test_parts_that_do_not_fit_are_refused(showers):
    model, other = build(showers, "mixer"), build(showers, "cnn")
    with pytest.raises(ValueError, match="encoder and decoder of the same tokens, received 4 x 4 and 16 x 4"):
        PhotonVQVAE(model.encoder, other.decoder)
    with pytest.raises(ValueError, match="codebook of at least one code"):
        PhotonVQVAE(model.encoder, model.decoder, {"codes": 0})


@pytest.mark.compiles_long
def test_nothing_to_encode_is_refused(showers):
    """`Showers` are never empty; what looks like them may be."""

    class Empty:
        particles = showers.particles[:0]

        def response_of(self, name):
            return showers.response[:0]

    with pytest.raises(ValueError, match="at least one response to encode, received none"):
        encode(build(showers), Empty())
