import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.sums import PhotonSums
from zdckeras.layers.patches import MixerDecoder, MixerEncoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.vq.generator import TokenGenerator
from zdckeras.vq.prior import TokenPrior
from zdckeras.vq.vq_vae import PhotonVQVAE

ROWS, CODES, TOKENS, LATENT = 4, 8, 4, 10
KINDS = ["alone", "sums"]


def codebook(showers):
    pair = photon_pair(showers, MixerEncoder, MixerDecoder, 8, 8, seed=1, hidden=8, across=4, depth=1, patch=15)
    return PhotonVQVAE(*pair, {"codes": CODES}, seed=1)


def prior_of(showers, sums=0, **settings):
    """A prior: untrained, but not dull."""
    prior = TokenPrior.fit_scales(showers, **{"codes": CODES, "tokens": TOKENS, "width": 8, "heads": 2, "depth": 1,
                                              "sums": sums, "seed": 2, **settings})
    for weight in (prior.vectors, prior.read.kernel):
        weight.assign(4.0 * weight)
    return prior


@pytest.fixture(scope="module")
def parts(showers):
    """A codebook, a prior that knows no sums and one that does, and the model of the sums."""
    sums = PhotonSums.fit_scales("ecal", showers.particles, channel_sums(showers.response), steps=2, hidden=[8],
                                 bins=4, embedding=[8])
    return codebook(showers), prior_of(showers), prior_of(showers, sums=5), sums


def reach(showers):
    return showers.particles.min(axis=0), showers.particles.max(axis=0)


def build(parts, showers, kind, **settings):
    model, alone, knows, sums = parts
    given = (alone, *reach(showers)) if kind == "alone" else (knows, *reach(showers), sums)
    return TokenGenerator(model, *given, **settings)


@pytest.fixture(scope="module")
def generators(parts, showers):
    return {kind: build(parts, showers, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def inputs(showers):
    noise = np.random.default_rng(0).standard_normal((ROWS, 5 + TOKENS + LATENT), "float32")
    return noise, showers.particles[:ROWS].astype("float32")


@pytest.mark.compiles_long
def test_photons_are_those_of_the_parts(parts, generators, inputs, evaluate):
    """Of tokens from the prior with Phi(noise), their light, and what scatters around it."""
    (noise, particles), (model, alone, *_) = inputs, parts
    noise = noise[:, 5:]
    photons = evaluate(generators["alone"].generate, noise, particles)
    assert photons.shape == (ROWS, 30, 30) and photons.min() >= 0 and np.array_equal(photons, np.rint(photons))

    def by_hand(noise, conditions):
        uniform = 0.5 * (1.0 + ops.erf(noise[:, :TOKENS] / np.float32(np.sqrt(2.0))))
        light = model.light(alone.sample(conditions, uniform), conditions)
        return light, model.scatter(light, noise[:, TOKENS:])

    light, expected = evaluate(by_hand, noise, particles)
    assert np.array_equal(photons, expected) and generators["alone"].noise_width == TOKENS + LATENT
    assert np.abs(channel_sums(photons) - channel_sums(light)).max() < 1.01


@pytest.mark.compiles_long
def test_channel_sums_are_those_drawn_first(generators, inputs, evaluate):
    generator, (noise, particles) = generators["sums"], inputs
    photons = evaluate(generator.generate, noise, particles)
    sums = evaluate(generator.sums.generate, noise[:, :5], particles)
    assert photons.shape == (ROWS, 30, 30) and photons.min() >= 0 and np.array_equal(photons, np.rint(photons))
    assert generator.noise_width == 5 + TOKENS + LATENT and sums.sum() > 0
    assert np.array_equal(channel_sums(photons), sums)
    assert (evaluate(generator.generate, np.roll(noise, 1, axis=0), particles) != photons).any(axis=(1, 2)).all()


def test_seeds_repeat(showers):
    """Compiled, as `sample` is."""
    generator = TokenGenerator(codebook(showers), prior_of(showers), *reach(showers))
    particles = showers.particles[:6]
    made = generator.sample(particles, seed=3, batch_size=ROWS)
    assert made.shape == (6, 30, 30) and made.min() >= 0 and np.array_equal(made, np.rint(made)) and made.sum() > 0
    assert np.array_equal(made, generator.sample(particles, seed=3, batch_size=ROWS))
    assert (made != generator.sample(particles, seed=4, batch_size=ROWS)).any(axis=(1, 2)).all()


@pytest.mark.compiles_long
@pytest.mark.parametrize("kind", KINDS)
def test_files_say_the_same(parts, showers, inputs, evaluate, tmp_path, kind):
    generator, (noise, particles) = build(parts, showers, kind, temperature=1.3, top_k=6, top_p=0.99), inputs
    generator.model.scatter.dispersion.assign(0.25)
    generator.save(tmp_path / "generator.keras")
    again = keras.saving.load_model(tmp_path / "generator.keras")
    generator.model.scatter.dispersion.assign(0.0)
    assert again.get_config() == generator.get_config() and again.detectors == generator.detectors
    assert (again.sums is None) == (kind == "alone") and again.draw == dict(temperature=1.3, top_k=6, top_p=0.99)
    assert float(ops.convert_to_numpy(again.model.scatter.dispersion)) == 0.25
    again.model.scatter.dispersion.assign(0.0)
    noise = noise[:, : generator.noise_width]
    assert np.array_equal(*(evaluate(one.generate, noise, particles) for one in (generator, again)))


@pytest.mark.compiles_long
def test_cold_tokens_are_the_likeliest(parts, showers, inputs, evaluate):
    """Whatever their noise, and so are the photons; warm ones differ."""
    (noise, particles), prior = inputs, parts[1]
    noise, other = noise[:, 5:], noise[:, 5:].copy()
    other[:, :TOKENS] = -noise[:, :TOKENS]
    found = {}
    for temperature in (1e-6, 1.0):
        generator = build(parts, showers, "alone", temperature=temperature)
        found[temperature] = [evaluate(generator.generate, one, particles) for one in (noise, other)]
    assert np.array_equal(*found[1e-6]) and (found[1.0][0] != found[1.0][1]).any(axis=(1, 2)).sum() >= 2
    tokens, logits = evaluate(lambda u, c: (lambda k: (k, prior.logits(k, c)))(prior.sample(c, u, temperature=1e-6)),
                              np.full((ROWS, TOKENS), 0.999), particles)
    assert np.array_equal(tokens, logits.argmax(axis=-1)) and len(np.unique(tokens)) > 1


@pytest.mark.compiles_long
def test_parts_that_do_not_fit_are_refused(parts, showers):
    model, alone, knows, sums = parts
    with pytest.raises(ValueError, match="a model of channel sums beside a prior that knows them"):
        TokenGenerator(model, knows, [0.0] * 9, [1.0] * 9)
    with pytest.raises(ValueError, match="no model of channel sums beside a prior that does not know them"):
        TokenGenerator(model, alone, [0.0] * 9, [1.0] * 9, sums)
    for wrong in (dict(codes=CODES - 1, tokens=TOKENS), dict(codes=CODES, tokens=TOKENS + 1)):
        prior = prior_of(showers, **wrong)
        with pytest.raises(ValueError, match=f"4 tokens of 8 codes, received one of {prior.tokens} of {prior.codes}"):
            TokenGenerator(model, prior, [0.0] * 9, [1.0] * 9)


def test_multiplications_of_a_response(parts, generators):
    """Every layer of the prior once for each token, but the first two; scores and sums of attention; the decoder."""
    model, alone, *_ = parts
    dense = [*alone.hidden.layers, alone.prefix]
    expected = sum(int(np.prod(layer.kernel.shape)) for layer in dense if hasattr(layer, "kernel"))
    expected += TOKENS * (12 * 8**2 + 8 * CODES) + 2 * TOKENS**2 * 8 + model.decoder.operations()
    assert generators["alone"].operations() == expected
