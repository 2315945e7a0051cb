import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.sums import fit_sums
from zdckeras.layers.patches import MixerDecoder, MixerEncoder
from zdckeras.layers.photon_coding import photon_pair
from zdckeras.vq.training import fit_prior, reconstruction, token_generators
from zdckeras.vq.vq_vae import PhotonVQVAE, encode

# Codebook and prior themselves run under every backend in test_backends.py.
pytestmark = [pytest.mark.skipif(backend.name() == "jax", reason="JAX compiles three models for a minute"),
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
    """A codebook, generators without sums (not trained) and with them, their history, and where the states are."""
    model, states = codebook(showers), tmp_path_factory.mktemp("states")
    sums, parts = fit_sums(showers, states / "sums.npz", seed=SEED, **SUMS), (showers, showers[:20], states)
    alone, none = token_generators(model, *parts, {**PRIOR, "epochs": 0}, temperatures=(1.0, 1.5), seed=SEED)
    knows, history = token_generators(model, *parts, PRIOR, sums, seed=SEED)
    assert none == {} and sorted(path.name for path in states.iterdir()) == ["prior with sums.npz", "sums.npz"]
    return model, alone, knows, history, states


def test_prior_learns(stages):
    history = stages[3]
    assert {len(values) for values in history.values()} == {4} and set(history) == {"loss", "val_loss"}
    assert history["loss"][-1] < 0.9 * history["loss"][0] and history["val_loss"][-1] < history["val_loss"][0]


def test_generators_at_all_temperatures_share_what_was_trained(stages, showers):
    model, alone, knows, _, _ = stages
    assert list(alone) == [1.0, 1.5] and list(knows) == [1.0]
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
    model, _, knows, first, states = stages
    prior, history = fit_prior(model, showers, states / "prior with sums.npz", sums=True, validation=showers[:20],
                               seed=SEED, **PRIOR)
    sums = fit_sums(showers, states / "sums.npz", seed=SEED, **SUMS)
    trained = knows[1.0]
    assert history == first and (prior.sums, prior.codes, prior.tokens) == (5, 8, 4)
    for ours, theirs in ((prior, trained.prior), (sums, trained.sums)):
        assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
    told = capsys.readouterr().out
    assert f"sums: {sums.count_params():,} weights, 2 x 3 steps" in told and "prior with sums: " in told


def test_another_model_does_not_take_a_state_up(stages, showers):
    model, *_, states = stages
    with pytest.raises(ValueError, match="holds the state of another model"):
        fit_prior(model, showers, states / "prior with sums.npz", **PRIOR)


def test_what_is_left_after_tokens(stages, showers):
    """Whole photons around the light of each response's own tokens; a seed repeats them."""
    model = stages[0]
    sample, light = reconstruction(model, showers), encode(model, showers)[1]
    made = sample(showers.particles, 4)
    assert made.shape == light.shape and made.dtype == np.uint16
    assert np.abs(channel_sums(made) - channel_sums(light)).max() < 1.02
    assert np.array_equal(made, sample(showers.particles, [4]))
    assert (made != sample(showers.particles, 5)).any(axis=(1, 2)).all()
