import numpy as np
import pytest
from keras import ops

import zdckeras as zdc
from zdckeras import backend
from zdckeras.data.particles import conditions_of
from zdckeras.loading import load_model
from zdckeras.modular.arrivals import respond
from zdckeras.modular.generator import ModularGenerator
from zdckeras.modular.transport import Arrivals, Transport
from zdckeras.simulation.primaries import draw_primaries

numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def particles():
    """Neutrons and photons that hit ZN, a proton that does not, and Lambdas."""
    pdg = np.array([2112, 22, 2212, 3122, 3122, 22])
    momentum = np.array([[0.1, 0, 2000], [0, 0.01, 300], [0, 0, 2680], [0.05, 0, 900], [0, 0.1, -1500], [0, 0, -50.0]])
    return conditions_of(pdg, momentum), pdg


def test_configurations_stay_as_they_are(modular):
    """A model can be made of one configuration as often as one likes."""
    config = modular.get_config()
    made = [ModularGenerator.from_config(config) for _ in range(2)]
    assert [one.prior.settings for one in made] == [modular.prior.settings] * 2


def light_of(generator, rows, codes, evaluate):
    columns = [np.asarray(c, "float32") for c in zip(*rows, strict=True)]

    def light(kind, energy, x, y, codes):
        return generator.light(Arrivals(ops.cast(kind, "int32"), energy, x, y), codes)

    return evaluate(light, *(np.stack(c) for c in columns), codes)


def test_light_of_several_arrivals_is_added(modular, evaluate):
    """Two arrivals of one particle: means add, and so do the variances m^2 / r; absent ones add nothing."""
    one, other = ([0, -1], [300.0, 1.0], [0.5, 0.0], [-1.0, 0.0]), ([1, -1], [900.0, 1.0], [-2.0, 0.0], [1.5, 0.0])
    both = tuple([a[0], b[0]] for a, b in zip(one, other, strict=True))
    dark = ([-1, -1], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0])
    latent = modular.decoder.latent
    codes = np.random.default_rng(0).standard_normal((4, 2 * latent)).astype("float32")
    codes[1, :latent], codes[2, :latent], codes[2, latent:] = codes[1, :latent], codes[0, :latent], codes[1, :latent]
    mean, shape = light_of(modular, (one, other, both, dark), codes, evaluate)
    np.testing.assert_allclose(mean[2], mean[0] + mean[1], rtol=2e-4)
    extra = mean.astype("float64") ** 2 / shape
    np.testing.assert_allclose(extra[2], extra[0] + extra[1], rtol=2e-3)
    assert (mean[3] == 0).all() and mean[0].sum() > 1


def test_arrivals_do_not_depend_on_the_batch_they_come_in(modular, evaluate):
    rows = [([k % 3], [100.0 + 50 * k], [0.1 * k], [-0.2 * k]) for k in range(5)]
    codes = np.random.default_rng(1).standard_normal((5, modular.decoder.latent)).astype("float32")
    together, _ = light_of(modular, rows, codes, evaluate)
    alone, _ = light_of(modular, rows[3:4], codes[3:4], evaluate)
    np.testing.assert_allclose(alone[0], together[3], rtol=1e-4)


def test_samples_repeat_by_seed_and_miss_where_nothing_arrives(modular, particles):
    conditions, pdg = particles
    first, again, other = (modular.sample(conditions, seed, batch_size=6) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and (first != other).any()
    assert first.dtype == np.uint16 and first.shape == (6, 44, 44)
    assert first[2].sum() == 0 and first[0].sum() > 0 and first[1].sum() > 0  # the proton is bent away from ZN


def test_ten_numbers_or_all_give_the_same_mean(vae, modular, particles):
    full = ModularGenerator(Transport("zn"), vae.prior, vae.decoder, modular.low, modular.high, noise=0)
    assert full.noise_width == modular.numbers > 5000 and modular.noise_width == 10
    conditions = np.repeat(particles[0][:1], 256, axis=0)
    sums = [g.sample(conditions, 3).sum(axis=(1, 2)).astype("float64") for g in (modular, full)]
    error = np.sqrt(sum(s.var() / len(s) for s in sums))
    assert abs(sums[0].mean() - sums[1].mean()) < 5 * error + 0.02 * sums[1].mean()


def test_responses_below_the_cut_are_drawn_again(modular, particles):
    conditions = np.repeat(particles[0][3:4], 8, axis=0)
    free, cut = (modular.sample(conditions, 5, 8, at_least=n).sum(axis=(1, 2)) for n in (0, 10))
    assert free.min() < 10 <= cut.min()
    with pytest.warns(UserWarning, match="1 of 1 particles stay below"):
        modular.sample(particles[0][2:3], 1, 8, at_least=1)


def test_ids_tell_kaons(modular):
    kaons = conditions_of(np.full(64, 130), np.tile([0.0, 0.0, 60.0], (64, 1)))
    long, short = (modular.sample(kaons, 2, 64, beside={"pdg": np.full(64, code, "float32")}) for code in (130, 310))
    assert (long.sum(axis=(1, 2)) > 0).mean() > 0.9 > (short.sum(axis=(1, 2)) > 0).mean()


def test_kaons_of_unknown_kind_are_mixed_as_without_ids(modular, tmp_path):
    """A list without ids gives what `sample` gives without them: half the kaons are K0L, which get to ZN."""
    kaons = conditions_of(np.full(64, 130), np.tile([0.0, 0.0, 60.0], (64, 1)))
    np.savez(tmp_path / "kaons.npz", kaons)
    with pytest.warns(UserWarning, match="64 of 64 rows"):
        conditions, pdg = zdc.open_particles(tmp_path / "kaons.npz")
    made = np.concatenate([part.response for part in modular.showers(conditions, pdg, 2, 64)])
    assert np.array_equal(made, modular.sample(kaons, 2, 64))
    assert 0.3 < (made.sum(axis=(1, 2)) > 0).mean() < 0.8


def test_showers_are_what_sample_gives_with_the_ids_beside(modular):
    kaons = conditions_of(np.full(64, 130), np.tile([0.0, 0.0, 60.0], (64, 1)))
    pdg = np.full(64, 130)
    made = np.concatenate([part.response for part in modular.showers(kaons, pdg, 2, 64)])
    assert np.array_equal(made, modular.sample(kaons, 2, 64, beside=modular.beside(pdg)))
    assert not np.array_equal(made, modular.sample(kaons, 2, 64))


def test_single_arrivals_and_generator_from_its_file(modular, particles, tmp_path):
    arrivals = {"kind": np.array([0, 1]), "energy": np.array([200.0, 800.0]), "x": np.zeros(2), "y": np.ones(2)}
    modular.save(tmp_path / "modular.keras")
    again = load_model(tmp_path / "modular.keras")
    assert np.array_equal(modular.respond(arrivals, 1, 2), again.respond(arrivals, 1, 2))
    assert np.array_equal(modular.sample(particles[0], 4, 6), again.sample(particles[0], 4, 6))
    assert modular.respond(arrivals, 1, 2).sum(axis=(1, 2)).min() > 0


@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_light_is_in_proportion_to_energies_that_networks_do_not_know(detector):
    """Below 3.67 GeV and above 6.6 TeV, where the reference simulation is asked, too."""
    generator, rows = zdc.pretrained(detector), 400
    for energy, kind, within in ((0.5, 0, 0.35), (1.0, 0, 0.25), (10_000.0, 0, 0.25), (10_000.0, 1, 0.25)):
        arrivals = dict(kind=np.full(rows, kind), energy=np.full(rows, energy), x=np.zeros(rows), y=np.zeros(rows))
        light = [photons.sum() / rows for photons in (generator.respond(arrivals, 1), respond(detector, arrivals, 1))]
        assert light[0] == pytest.approx(light[1], rel=within), (energy, kind)
    faint = {**arrivals, "energy": np.full(rows, 1e-6), "kind": np.zeros(rows, int)}
    assert generator.respond(faint, 1).sum() <= 2


def test_what_misses_the_face_leaves_nothing(modular):
    x = np.array([0.0, 3.51, 3.53, 5.0, -500.0, 0.0, 0.0])
    y = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 3.53, -3.53])
    arrivals = {"kind": np.zeros(7, int), "energy": np.full(7, 500.0), "x": x, "y": y}
    lit = [photons.sum(axis=(1, 2)) > 0 for photons in (modular.respond(arrivals, 1), respond("zn", arrivals, 1))]
    assert lit[0].tolist() == lit[1].tolist() == [True, True, *[False] * 5]


def test_parts_that_do_not_fit_are_refused(vae):
    with pytest.raises(ValueError, match="one detector and one latent code, received zp and zn"):
        ModularGenerator(Transport("zp"), vae.prior, vae.decoder, np.zeros(9), np.ones(9))


@pytest.mark.skipif(backend.name() != "tensorflow", reason="compact graphs are TensorFlow's")
@pytest.mark.parametrize("noise", [10, 0])
def test_compact_graphs_give_the_same_photons(noise):
    """Arrivals, decays and cells are gathered in place of masked: nothing else changes, whatever is in the batch."""
    known = zdc.pretrained("zn")
    generator = ModularGenerator(known.transport, known.prior, known.decoder, known.low, known.high, noise)
    particles = np.concatenate([zdc.load("zn", "test", 24).particles, draw_primaries(24, np.random.default_rng(1))[0]])
    particles = particles.astype("float32")
    noise = np.random.default_rng(2).standard_normal((48, generator.noise_width), "float32")
    for rows in (slice(None), slice(0, 1), slice(30, 31), slice(0, 0)):
        true = ops.convert_to_numpy(generator.generate(noise[rows], particles[rows]))
        with backend.compact_graphs():
            made = ops.convert_to_numpy(generator.generate(noise[rows], particles[rows]))
        assert made.shape == true.shape
        assert np.abs(made - true).sum() <= 2e-4 * true.sum()


def test_masses_in_gev_are_told(modular, particles):
    conditions = particles[0].copy()
    conditions[0, 7] *= 1e-3
    with pytest.warns(UserWarning, match="1 of 6 particles have the mass and charge of no species here, such as"):
        modular.sample(conditions, seed=1)
