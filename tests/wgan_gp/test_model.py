import keras
import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.data.particles import conditions_of
from zdckeras.training.batches import Batches
from zdckeras.wgan_gp.model import EnergyGenerator, EnergyScoreFit, ResponseWGAN
from zdckeras.wgan_gp.networks import EnergyNetwork
from zdckeras.wgan_gp.regressor import ParameterRegressor

SCALER = {"mean": [0.0] * 9, "scale": [100.0, 1.0, 1.0, 1.0, 10.0, 10.0, 100.0, 1.0, 1.0]}
BOXCOX = {"power": 0.1, "shift": 0.1}
LATENT, ROWS = 16, 12
SIZES = {"generator": {"latent": LATENT, "hidden": 8, "channels": (3, 2), "spots": 2},
         "critic": {"channels": (3, 2), "hidden": 6}}
WEIGHTS = {"adversarial": 0.5, "energy": 1.0, "centre": 0.1}
WATCHED = "critic_accuracy"
TERMS = {"critic_distance", "critic_penalty", "generator_adversarial", "generator_energy", "generator_centre"}
NOISE = {"normal": {"z": (LATENT,), "z2": (LATENT,)}, "uniform": {"share": (1, 1)}}


@pytest.fixture(scope="module")
def eager_module():
    return backend.name() != "jax"


@pytest.fixture(scope="module")
def regressor(showers):
    return ParameterRegressor.fit_scales(showers.particles, "ecal", channels=(3, 2), hidden=6, seed=2)


def adams(gan, rate=1e-3):
    return {name: keras.optimizers.Adam(rate) for name in gan.phases()}


def build(showers, regressor, **settings):
    return ResponseWGAN.fit_scales(showers, regressor, BOXCOX, **{"weights": WEIGHTS, "critic_steps": 2,
                                                                  "momentum": 0.25, "depth": 10.0, **SIZES, **settings})


@pytest.fixture(scope="module")
def model(showers, regressor, eager_module):
    """One compiled model for all tests here that give it back as it was."""
    gan = build(showers, regressor, critic_steps=2 if eager_module else 1)  # steps are unrolled
    gan.compile(adams(gan), run_eagerly=eager_module, jit_compile=not eager_module)
    return gan


def variables(gan):
    return [*gan.variables, *gan.optimizer.variables]


def everything(gan):
    return [np.array(ops.convert_to_numpy(v.value)) for v in variables(gan)]


@pytest.fixture
def gan(model):
    """The compiled model with its first weights, optimizers included."""
    before = everything(model)
    yield model
    for variable, value in zip(variables(model), before, strict=True):
        variable.assign(value)
    model.reset_metrics()


def batches(showers, rows=ROWS):
    return Batches({"conditions": showers.particles, "responses": showers.response}, rows, seed=1, **NOISE)


@pytest.fixture(scope="module")
def batch(showers):
    return batches(showers)[0][0]


def losses(gan, batch):
    """Terms of one batch, nothing trained."""
    gan.reset_metrics()
    return {name: float(value) for name, value in gan.test_on_batch(batch, return_dict=True).items()}


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("weights", "phases"), [
    ({}, {"critic": ("distance", "penalty"), "generator": ("adversarial",)}),
    (WEIGHTS, {"critic": ("distance", "penalty"), "generator": ("adversarial", "energy", "centre")}),
    ({"adversarial": 0.0, "centre": 1.0}, {"generator": ("centre",)}),
], ids=["study", "all", "no critic"])
def test_phases_and_terms(weights, phases):
    gan = ResponseWGAN("ecal", SCALER, BOXCOX, weights=weights, regressor=SIZES["critic"], **SIZES)
    assert {name: phase.terms for name, phase in gan.phases().items()} == phases
    steps = {name: phase.repeats for name, phase in gan.phases().items()}
    assert steps == {name: {"critic": 5, "generator": 1}[name] for name in phases} and gan.penalty == 10.0


@pytest.mark.parametrize(("wrong", "message"), [
    ({"energy": -1.0}, "at least 0 for adversarial, energy, centre; received {'energy': -1.0}"),
    ({"adversarial": np.nan}, "received {'adversarial': nan}"),
    ({"l2": 1.0}, "received {'l2': 1.0}"),
])
def test_weights_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        ResponseWGAN("ecal", SCALER, BOXCOX, weights=wrong)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"generator": keras.layers.Dense(1)}, "generator: expected Mapping, received Dense"),
    ({"critic": "critic"}, "critic: expected Mapping, received str"),
    ({"critic_steps": 0}, "critic_steps: expected a whole number of at least 1, received 0"),
    ({"penalty": -1.0}, "penalty: expected a finite number of at least 0, received -1.0"),
])
def test_networks_in_place_of_sizes_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ResponseWGAN("ecal", SCALER, BOXCOX, **wrong)


def test_other_kinds_of_networks_are_refused(showers, model):
    with pytest.raises(ValueError, match="regressor: expected ParameterRegressor, received Dense"):
        ResponseWGAN.fit_scales(showers, keras.layers.Dense(5), BOXCOX)
    with pytest.raises(ValueError, match="parts of one detector, received showers of ecal, regressor of zn"):
        ResponseWGAN.fit_scales(showers, ParameterRegressor("zn", **SIZES["critic"]), BOXCOX)
    with pytest.raises(ValueError, match="network: expected EnergyNetwork or ImageNetwork, received Dense"):
        EnergyGenerator(keras.layers.Dense(1), [0.0] * 9, [1.0] * 9)
    with pytest.raises(ValueError, match="gan: expected ResponseWGAN, received EnergyNetwork"):
        EnergyScoreFit(model.generator)


def test_scales_are_those_of_the_training_part(showers, regressor, model):
    fraction = (showers.photon_sums() / (1000.0 * showers.particles[:, 0])).mean()
    assert model.generator.fraction == pytest.approx(fraction)
    assert same(model.regressor.get_weights(), regressor.get_weights())
    assert np.array_equal(model.regressor.mean, regressor.mean)
    np.testing.assert_allclose(model.settings["scaler"]["mean"], showers.particles.mean(axis=0))


@pytest.mark.parametrize("moving", ["critic", "generator"])
def test_a_phase_moves_its_weights_and_no_others(gan, batch, moving):
    """The frozen regressor never moves, nor the bias of a score that only differences matter of."""
    for name, optimizer in gan.optimizer.by_phase.items():
        optimizer.learning_rate = 1e-2 if name == moving else 0.0
    parts = {name: getattr(gan, name) for name in ("critic", "generator", "regressor")}
    before = {name: layer.get_weights() for name, layer in parts.items()}
    gan.train_on_batch(batch)
    changed = [(a != b).any() for a, b in zip(before.pop(moving), parts[moving].get_weights(), strict=True)]
    assert all(changed[:-1]) and len(changed) == len(parts[moving].trainable_variables) > 6
    assert changed[-1] or moving == "critic"
    assert all(same(values, parts[name].get_weights()) for name, values in before.items())
    assert same(gan.average.get_weights(), gan.generator.get_weights()) == (moving == "critic")
    assert not gan.regressor.trainable_variables and not gan.average.trainable_variables
    assert {name: int(o.iterations) for name, o in gan.optimizer.by_phase.items()} == {
        "critic": gan.critic_steps, "generator": 1}


@pytest.mark.compiles_long
def test_five_critic_steps_see_five_parts_of_the_batch(showers, regressor):
    """And the generator the first: logged is the mean over parts, rows beyond equal parts do not matter."""
    gan = build(showers, regressor, critic_steps=5)
    gan.compile(adams(gan, 0.0), run_eagerly=True)
    (data,) = batches(showers, 11)[0]

    def trained(change=()):
        gan.reset_metrics()
        rows = data["responses"].copy()
        rows[list(change)] *= 5.0
        logs = gan.train_on_batch({**data, "responses": rows}, return_dict=True)
        return {name: float(value) for name, value in logs.items()}

    plain = trained()
    parts = [losses(gan, {name: values[2 * k : 2 * k + 2] for name, values in data.items()}) for k in range(5)]
    for term in ("critic_distance", "critic_penalty"):
        assert plain[term] == pytest.approx(np.mean([part[term] for part in parts]), rel=1e-4)
    for term in ("generator_adversarial", "generator_energy", "generator_centre"):
        assert plain[term] == pytest.approx(parts[0][term], rel=1e-4)
    last = trained([8, 10])
    assert last["critic_distance"] != plain["critic_distance"]
    assert {k: v for k, v in last.items() if k.startswith("gen")} == {k: plain[k] for k in last if k.startswith("gen")}
    assert {name: int(o.iterations) for name, o in gan.optimizer.by_phase.items()} == {"critic": 10, "generator": 2}


@pytest.mark.compiles_long
def test_terms_by_hand(gan, batch, evaluate):
    """Weights, the distance as a difference of scores, and the distance of centres of gravity [cells^2]."""
    found = losses(gan, batch)
    assert set(found) == {"loss", WATCHED, *TERMS} and 0.0 <= found[WATCHED] <= 1.0
    assert found["loss"] == pytest.approx(sum(found[term] for term in TERMS), rel=1e-5)
    made = gan.predict_on_batch({"conditions": batch["conditions"], "z": batch["z"]})
    forward = lambda x: gan.critic_scores(gan.boxcox.forward(x), ops.concatenate([both, both]))  # noqa: E731
    both = batch["conditions"]
    real, fake = evaluate(forward, np.concatenate([batch["responses"], made])).reshape(2, ROWS)
    assert found["critic_distance"] == pytest.approx(fake.mean() - real.mean(), rel=1e-3, abs=1e-5)
    assert found["generator_adversarial"] == pytest.approx(-0.5 * fake.mean(), rel=1e-3, abs=1e-5)
    place = np.arange(30) - 14.5
    total = made.sum(axis=(1, 2))
    centre = np.stack([made.sum(axis=2) @ place, made.sum(axis=1) @ place], axis=1) / total[:, None]
    ahead = both[:, 4:6] / np.abs(both[:, 6:7])
    expected = np.clip(1250.0 * ahead, -45.0, 45.0) / 2.0 + 10.0 * ahead / 2.0
    assert found["generator_centre"] == pytest.approx(
        0.1 * ((centre - expected) ** 2).sum(axis=1).mean(), rel=1e-3)


def test_penalty_and_score_use_the_condition_that_a_response_belongs_to(gan, batch):
    """Another order of all columns changes nothing, other particles for the responses change every term."""
    order = np.random.default_rng(0).permutation(ROWS)
    plain = losses(gan, batch)
    assert losses(gan, {name: values[order] for name, values in batch.items()}) == pytest.approx(plain, rel=1e-4)
    swapped = losses(gan, {**batch, "conditions": batch["conditions"][order]})
    for term in TERMS:
        assert abs(swapped[term] - plain[term]) > 1e-4 * abs(plain[term]), term


@pytest.mark.compiles_long
def test_a_blind_critic_learns_from_the_regressor_alone(gan, batch, evaluate):
    """The frozen regressor carries gradient to responses: with the critic's own view cut off it is all there is."""
    def gradient():
        return evaluate(lambda y, c: backend.steps().grad(lambda y: gan.critic_scores(y, c), y),
                        gan.boxcox.forward(batch["responses"]), batch["conditions"])

    gan.critic.body.set_weights([np.zeros_like(w) for w in gan.critic.body.get_weights()])
    assert (np.abs(gradient()).max(axis=(1, 2)) > 0.0).all()
    gan.regressor.set_weights([np.zeros_like(w) for w in gan.regressor.get_weights()])
    assert not gradient().any()


def test_saved_training_goes_on_as_if_it_had_not_been(gan, showers, tmp_path):
    def go_on(gan, epoch):
        data = batches(showers[:ROWS], ROWS)
        data.start_epoch(epoch)
        return gan.fit(data, epochs=1, verbose=0, shuffle=False).history

    go_on(gan, 0)
    gan.save(tmp_path / "gan.keras")
    whole = go_on(gan, 1)
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert loaded.compiled and loaded.get_config()["weights"] == WEIGHTS and loaded.depth == 10.0
    assert loaded.critic_steps == gan.critic_steps
    again = go_on(loaded, 1)
    assert again == {name: pytest.approx(values, rel=1e-5) for name, values in whole.items()}
    assert same(everything(loaded), everything(gan))


def test_responses_of_another_detector_are_refused(gan, batch):
    with pytest.raises(ValueError, match=r"responses: expected shape \(B, 30, 30\), received \(\d+, 30, 29\)"):
        gan.train_on_batch({**batch, "responses": batch["responses"][:, :, :29]})


@pytest.mark.compiles_long
def test_a_warm_start_on_the_score_lowers_it(gan, showers, eager):
    """And the term of the centre with it; nothing but the generator moves."""
    fit = EnergyScoreFit(gan)
    fit.compile(keras.optimizers.Adam(1e-2), run_eagerly=eager)
    kept = [gan.critic.get_weights(), gan.average.get_weights(), gan.regressor.get_weights()]
    first = losses(gan, batches(showers, 48)[0][0])
    history = fit.fit(batches(showers, 48), epochs=5, verbose=0, shuffle=False).history["loss"]
    assert history[0] == pytest.approx(first["generator_energy"] + first["generator_centre"], rel=1e-3)
    assert np.isfinite(history).all() and history[-1] < 0.95 * history[0]
    assert {v.path for v in fit.trainable_variables} == {v.path for v in gan.generator.trainable_variables}
    after = [gan.critic.get_weights(), gan.average.get_weights(), gan.regressor.get_weights()]
    assert all(same(a, b) for a, b in zip(kept, after, strict=True))


@pytest.fixture(scope="module")
def particles():
    pz = np.linspace(10.0, 100.0, 6)
    return conditions_of(np.full(6, 11), np.column_stack([0.01 * pz, -0.005 * pz, pz]))


@pytest.fixture(scope="module")
def generator(particles):
    network = EnergyNetwork("ecal", SCALER, seed=4, **SIZES["generator"])
    return EnergyGenerator(network, particles.min(axis=0), particles.max(axis=0))


@pytest.fixture(scope="module")
def sampled(generator, particles):
    return generator.sample(particles, seed=5, batch_size=4)


def test_generator_gives_energies_that_repeat_by_seed(generator, particles, sampled):
    assert sampled.shape == (6, 30, 30) and sampled.dtype == np.float32
    assert np.isfinite(sampled).all() and sampled.min() == 0.0 and (sampled.sum(axis=(1, 2)) > 0.0).all()
    assert np.array_equal(generator.sample(particles, seed=5, batch_size=4), sampled)
    assert (generator.sample(particles, seed=6, batch_size=4) != sampled).any(axis=(1, 2)).all()


def test_operations_are_those_of_its_network(generator):
    assert generator.operations() == generator.network.operations() > 0


def test_generator_comes_back_from_its_file(generator, particles, sampled, tmp_path):
    network = generator.network
    network.spots.read.bias.assign(network.spots.read.bias + 0.1)  # not what its seed gives
    changed = generator.sample(particles, seed=5, batch_size=4)
    generator.save(tmp_path / "generator.keras")
    network.spots.read.bias.assign(network.spots.read.bias - 0.1)
    again = keras.saving.load_model(tmp_path / "generator.keras")
    assert np.array_equal(again.sample(particles, seed=5, batch_size=4), changed) and (changed != sampled).any()
    assert np.array_equal(again.low, generator.low) and np.array_equal(again.high, generator.high)


def test_particles_outside_the_trained_range_are_named(generator, particles, sampled):
    outside = particles.copy()
    outside[:2, 0] = 500.0
    outside[5, 5] = 2.0
    with pytest.warns(UserWarning) as caught:
        made = generator.sample(outside, seed=5, batch_size=4)
    ((message, place),) = ((str(w.message), w.filename) for w in caught if str(w.message).startswith("Particles"))
    assert message.startswith("Particles outside the trained range: energy (2 of 6 outside 10 to 100 GeV), "
                              "py (1 of 6 outside -0.5 to -0.05 GeV)")
    assert made.shape == sampled.shape and np.array_equal(made[2:5], sampled[2:5])
    assert place == __file__


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: np.where(np.arange(9) == 0, -3.0, p), r"positive energies \[GeV\], received -3.0"),
    (lambda p: 0.0 * p, "positive energies .* received 0.0"),
    (lambda p: p[:, :8], r"shape \(N, 9\), received shape \(6, 8\)"),
    (lambda p: np.where(np.arange(9) == 4, np.nan, p), "6 values that are not finite"),
], ids=["negative", "zero", "columns", "nan"])
def test_impossible_particles_are_refused(generator, particles, change, message):
    with pytest.raises(ValueError, match=message):
        generator.sample(change(particles))


def test_no_particles_no_showers(generator):
    assert generator.sample(np.empty((0, 9))).shape == (0, 30, 30)
