import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.layers.patches import MixerDecoder, MixerEncoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.vq.generator import fit_prior, reconstruction, token_generators
from zdckeras.vq.vq_vae import PhotonVQVAE, encode

# Codebook and prior themselves run under every backend in test_backends.py.
pytestmark = [pytest.mark.compiles_long,
              pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")]
PRIOR = dict(epochs=4, batch=16, rate=2e-2, width=8, heads=2, depth=1)
SUMS = dict(epochs=2, batch=16, rate=1e-2, steps=1, hidden=(8,), bins=4, embedding=(8,))
SEED = 3


def codebook(showers):
    pair = photon_pair(showers, MixerEncoder, MixerDecoder, 4, 6, seed=1, hidden=8, across=5, depth=1, patch=15)
    return PhotonVQVAE(*pair, {"codes": 8}, seed=1)


@pytest.fixture(scope="module", autouse=True)
def no_graphs():
    """TensorFlow takes longer to make graphs than these trainings take without."""
    if backend.name() != "tensorflow":
        yield
        return
    from tensorflow import config

    config.run_functions_eagerly(True)
    yield
    config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def stages(showers, tmp_path_factory, no_graphs):
    """A codebook, generators from tokens alone and with sums, histories, where states are, and what was encoded."""
    model, states = codebook(showers), tmp_path_factory.mktemp("states")
    sums, encoded = fit_sums(showers, states / "sums.npz", seed=SEED, **SUMS), []

    def count(model, some):
        encoded.append(len(some))
        return encode(model, some)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zdckeras.vq.generator.encode", count)
        made, histories = token_generators(model, showers, showers[:20], states, PRIOR, {"alone": None, "knows": sums},
                                           (1.0, 1.5), SEED)
    assert sorted(path.name for path in states.iterdir()) == ["alone.npz", "knows.npz", "sums.npz"]
    return model, made, histories, states, encoded


def tokens_of(model, some):
    return some, encode(model, some)[0]


def test_prior_learns(stages):
    for history in stages[2].values():
        assert {len(values) for values in history.values()} == {4} and set(history) == {"loss", "val_loss"}
        assert history["loss"][-1] < 0.9 * history["loss"][0] and history["val_loss"][-1] < history["val_loss"][0]


def test_showers_are_encoded_once_for_all_priors(stages, showers):
    assert sorted(stages[4]) == [20, len(showers)]


def test_generators_at_all_temperatures_share_what_was_trained(stages, showers):
    model, made, *_ = stages
    alone, knows = made["alone"], made["knows"]
    assert list(alone) == list(knows) == [1.0, 1.5] and list(stages[2]) == ["alone", "knows"]
    assert alone[1.0].prior is alone[1.5].prior and (alone[1.0].sums, alone[1.0].prior.sums) == (None, 0)
    assert knows[1.0].prior.sums == 5 and knows[1.0].sums is not None
    for temperature, one in [*alone.items(), *knows.items()]:
        assert one.model is model and one.draw["temperature"] == temperature
        np.testing.assert_array_equal(one.low, showers.particles.min(axis=0))
        np.testing.assert_array_equal(one.high, showers.particles.max(axis=0))


def test_spread_is_that_of_the_validation(stages, showers):
    """d = sum ((n - l)^2 - l) / (1 + l) / sum l^2 / (1 + l), cut at 2."""
    model = stages[0]
    light, photons = encode(model, showers[:20])[1].astype("float64"), showers.response[:20]
    found = (((photons - light) ** 2 - light) / (1.0 + light)).sum() / (light**2 / (1.0 + light)).sum()
    assert float(ops.convert_to_numpy(model.scatter.dispersion)) == pytest.approx(min(found, 2.0), rel=1e-4)
    assert found > 0.0


def test_finished_stages_are_taken_up(stages, showers, capsys):
    """Not trained again: the same weights and history; told what they are."""
    model, made, histories, states, _ = stages
    prior, history = fit_prior(model, tokens_of(model, showers), states / "knows.npz", sums=True,
                               validation=tokens_of(model, showers[:20]), seed=SEED, **PRIOR)
    sums = fit_sums(showers, states / "sums.npz", seed=SEED, **SUMS)
    trained = made["knows"][1.0]
    assert history == histories["knows"] and (prior.sums, prior.codes, prior.tokens) == (5, 8, 4)
    for ours, theirs in ((prior, trained.prior), (sums, trained.sums)):
        assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
    told = capsys.readouterr().out
    assert f"sums: {sums.count_params():,} weights, 2 x 3 steps" in told and "knows: " in told


def test_another_model_does_not_take_a_state_up(stages, showers):
    model, _, _, states, _ = stages
    with pytest.raises(ValueError, match="is the state of another training: expected data"):
        fit_prior(model, tokens_of(model, showers), states / "knows.npz", **PRIOR)


def test_what_is_left_after_tokens(stages, showers):
    """Whole photons around the light of each response's own tokens; a seed repeats them."""
    model = stages[0]
    light = encode(model, showers)[1]
    sample = reconstruction(model, light)
    made = sample(showers.particles, 4)
    assert made.shape == light.shape and made.dtype == np.uint16
    assert np.abs(channel_sums(made) - channel_sums(light)).max() < 1.02
    assert np.array_equal(made, sample(showers.particles, [4]))
    assert not np.array_equal(made, sample(showers.particles, [4, 0]))
    assert (made != sample(showers.particles, 5)).any(axis=(1, 2)).all()
