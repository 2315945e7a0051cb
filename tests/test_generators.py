from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import concatenate
from zdckeras.generators import Sampler, one_detector

WIDTH = 3


class Flat(Sampler):
    """Each cell holds the particle's first condition plus ten times the rounded size of its first noise number."""

    def __init__(self, names, **kwargs):
        super().__init__(**kwargs)
        self.detectors, self.noise_width = [get_detector(name) for name in names], WIDTH
        self.built = True

    def generate(self, noise, conditions):
        value = conditions[:, :1] + 10.0 * ops.round(ops.abs(noise[:, :1]))
        responses = tuple((k + 1.0) * ops.ones((1, *detector.shape)) * value[:, :, None]
                          for k, detector in enumerate(self.detectors))
        return responses if len(responses) > 1 else responses[0]


def particles(rows):
    conditions = np.zeros((rows, 9))
    conditions[:, 0] = np.arange(rows) + 1
    return conditions


@pytest.fixture(scope="module")
def flat():
    return Flat(["ecal"])


def test_blocks_draw_their_noise_from_seed_and_block(flat):
    counts = flat.sample(particles(5), seed=7, batch_size=2)
    assert counts.shape == (5, 30, 30) and counts.dtype == np.float32
    noise = np.concatenate([np.random.default_rng([7, b]).standard_normal((2, WIDTH), "float32") for b in range(3)])
    expected = np.arange(5) + 1 + 10 * np.rint(np.abs(noise[:5, 0]))
    assert np.array_equal(counts, np.broadcast_to(expected[:, None, None], counts.shape))


def test_seeds(flat):
    first = flat.sample(particles(6), seed=3, batch_size=4)
    assert np.array_equal(first, flat.sample(particles(6), seed=3, batch_size=4))
    assert np.array_equal(first, flat.sample(particles(6), seed=[3], batch_size=4))
    assert np.array_equal(first[:4], flat.sample(particles(4), seed=3, batch_size=4))
    assert not np.array_equal(first, flat.sample(particles(6), seed=[3, 1], batch_size=4))
    assert not np.array_equal(first, flat.sample(particles(6), seed=[3, 0], batch_size=4))
    noise = [flat.sample(np.ones((4, 9)), seed, batch_size=2)[2 * k :][:2] for seed, k in ((3, 1), ((3, 1), 0))]
    assert not np.array_equal(*noise)  # block 1 of 3 is not block 0 of (3, 1)


def test_call_is_generate(flat):
    inputs = {"conditions": particles(2).astype("float32"), "noise": np.zeros((2, WIDTH), "float32")}
    assert np.array_equal(flat.predict_on_batch(inputs)[:, 0, 0], [1.0, 2.0])


def test_several_detectors_by_name(flat):
    both = Flat(["zn", "zp"]).sample(particles(3), seed=7, batch_size=2)
    assert {name: counts.shape for name, counts in both.items()} == {"zn": (3, 44, 44), "zp": (3, 56, 30)}
    assert np.array_equal(both["zn"][:, 0, 0], flat.sample(particles(3), seed=7, batch_size=2)[:, 0, 0])
    assert np.array_equal(both["zp"][:, 0, 0], 2 * both["zn"][:, 0, 0])


def test_blocks_are_what_sample_gives():
    both = Flat(["zn", "ecal"])
    made = list(both.blocks(particles(5), seed=7, batch_size=2))
    assert [len(block["zn"]) for block in made] == [2, 2, 1]
    for name, expected in both.sample(particles(5), seed=7, batch_size=2).items():
        joined = np.concatenate([block[name] for block in made])
        assert np.array_equal(joined, expected) and joined.dtype == expected.dtype


def test_blocks_of_showers_know_their_particles():
    pdg = np.array([22, 12, 22, 22, 12])  # without mass, so that energies are whole numbers
    conditions = conditions_of(pdg, np.tile([0.0, 0.0, 2.0], (5, 1)))
    blocks = list(Flat(["zn"], name="flat").showers(conditions, pdg, seed=3, batch_size=2))
    assert [len(block) for block in blocks] == [2, 2, 1] and blocks[0].metadata == {"source": "flat", "seed": 3}
    whole = concatenate(blocks)
    assert np.array_equal(whole.particles, conditions) and np.array_equal(whole.pdg, pdg)
    assert np.array_equal(whole.response, Flat(["zn"]).sample(conditions, seed=3, batch_size=2))


def test_wrong_conditions_are_told_before_the_first_block(flat):
    for call in (flat.blocks, lambda wrong: flat.showers(wrong, np.full(2, 22))):
        with pytest.raises(ValueError, match=r"received shape \(2, 8\)"):
            call(np.zeros((2, 8)))


@pytest.mark.parametrize(("name", "dtype", "value"), [("zn", "uint16", 3), ("ecal", "float32", 3.75)])
def test_photons_are_counted_and_energies_are_not_rounded(name, dtype, value):
    conditions = np.zeros((1, 9))
    conditions[0, 0] = value
    response = Flat([name]).sample(conditions, seed=7)
    noise = np.random.default_rng([7, 0]).standard_normal((256, WIDTH), "float32")[0, 0]
    assert response.dtype == dtype and (response == value + 10 * np.rint(abs(noise))).all()


def test_no_particles_no_showers(flat):
    assert flat.sample(np.empty((0, 9))).shape == (0, 30, 30)


@pytest.mark.parametrize(("conditions", "message"), [
    (np.zeros((2, 8)), r"shape \(N, 9\), received shape \(2, 8\)"),
    (np.zeros(9), r"received shape \(9,\)"),
    (np.full((1, 9), np.nan), "9 values that are not finite"),
    (np.full((1, 9), 1e39), "9 values that are not finite"),
    (np.zeros((1, 9)), "Expected positive energies .GeV., received 0"),
    (-particles(2), "Expected positive energies .GeV., received -2"),
    ([["a"] * 9], "conditions: expected an array of real numbers, received list"),
    ([[1.0] * 9, [1.0]], "conditions: expected an array of real numbers, received list"),
    (np.ones((1, 9), complex), "conditions: expected an array of real numbers"),
])
def test_bad_conditions_are_refused(flat, conditions, message):
    with pytest.raises(ValueError, match=message):
        flat.sample(conditions)


def test_generate_is_for_subclasses():
    with pytest.raises(NotImplementedError):
        Sampler().generate(None, None)


class Echo(Sampler):
    """Every cell holds one number of the particle: its vertex x."""

    noise_width = 1

    def __init__(self, name="zn", **kwargs):
        super().__init__(**kwargs)
        self.detectors, self.built = [get_detector(name)], True

    def generate(self, noise, conditions):
        return ops.ones((1, *self.detectors[0].shape)) * conditions[:, 1:2, None]


def valued(*values):
    conditions = particles(len(values))
    conditions[:, 1] = values
    return conditions


@pytest.mark.parametrize("value", [70000.0, -3.0, 0.5, 65536.0])
def test_counts_that_cannot_be_kept_are_refused(value, eager):
    generator = Echo()
    generator.compile(run_eagerly=eager)
    assert generator.sample(valued(65535.0, 0.0))[:, 0, 0].tolist() == [65535, 0]
    with pytest.raises(ValueError, match=f"whole photons from 0 to 65535 in zn, made {value:g} .* for particle 1:"):
        generator.sample(valued(7.0, value, 7.0), batch_size=2)


class Broken(Echo):
    """Its only weight is what every cell holds."""

    def __init__(self, value, name="zn", **kwargs):
        super().__init__(name, **kwargs)
        self.value = self.add_weight(shape=(), initializer=keras.initializers.Constant(value), name="value")

    def generate(self, noise, conditions):
        return super().generate(noise, conditions) * 0.0 + self.value


@pytest.mark.parametrize(("name", "value"), [("zn", np.nan), ("ecal", np.nan), ("ecal", np.inf), ("ecal", -1.0)])
def test_broken_weights_make_no_showers(name, value, eager):
    generator = Broken(value, name)
    generator.compile(run_eagerly=eager)
    with pytest.raises(ValueError, match="are weights and particle sound"):
        generator.sample(valued(1.0))
    if not np.isfinite(value):
        with pytest.raises(ValueError, match="expected finite weights, received 1 of 1 arrays with NaN .* value"):
            generator.check_weights()


def test_a_block_is_no_longer_than_the_particles_want(flat, monkeypatch):
    expected = flat.sample(particles(3), seed=5, batch_size=4096)
    rows = []
    monkeypatch.setattr(flat, "made_of", lambda inputs: rows.append(len(inputs["noise"])) or np.ones((4096, 30, 30)))
    flat.sample(particles(2), batch_size=10**9)
    assert rows == [4096]
    monkeypatch.undo()
    assert np.array_equal(flat.sample(particles(3), seed=5, batch_size=10**9), expected)


@pytest.mark.parametrize("batch_size", [0, -5, 2.0, True, "8", None])
def test_batch_sizes_that_are_none(flat, batch_size):
    for call in (flat.sample, flat.blocks):
        with pytest.raises(ValueError, match="batch_size: expected a whole number of at least 1, received"):
            call(particles(2), batch_size=batch_size)


@pytest.mark.parametrize("seed", [[], -1, [3, -1], 1.5, "3", None, True, [[1, 2]], np.ones((2, 2), int)])
def test_seeds_that_are_none(flat, seed):
    with pytest.raises(ValueError, match="Expected a seed of one or more whole numbers of at least 0"):
        flat.sample(particles(2), seed=seed)


def test_only_what_a_generator_takes_stands_beside_particles(flat):
    for name in ("noise", "conditions", "pdg"):
        with pytest.raises(ValueError, match="expected nothing beside 2 particles, a row for each; received .'" + name):
            flat.sample(particles(2), beside={name: np.zeros((2, 9))})
    with pytest.raises(ValueError, match="Expected one PDG id for each of 2 particles, received shape .3,."):
        flat.showers(particles(2), np.full(3, 22))


LOW, HIGH = [1.0, -1, -1, -20, -30, -30, -2000, 0.0, 0.0], [2000.0, 1, 1, 20, 30, 30, 2000, 940.0, 0.0]


def test_the_trained_range_is_kept_and_told():
    generator, inside = Flat(["ecal"], low=LOW, high=HIGH), np.array([[900.0, 0, 0, 0, 0, 0, 900.0, 939.5654, 0.0]])
    generator.sample(inside.astype("float32"), batch_size=2)
    for column, value, said in ((0, 900e3, "energy .1 of 1 outside 1 to 2000 GeV"), (0, 1e25, "energy"), (0, 0.9, "en"),
                                (8, 1.0, "charge .1 of 1 outside 0 to 0 e")):
        outside = inside.copy()
        outside[0, column] = value
        with pytest.warns(UserWarning, match=f"Particles outside the trained range: {said}") as caught:
            generator.sample(outside, batch_size=2)
        assert caught[0].filename == __file__
    Flat(["ecal"]).sample(outside, batch_size=2)  # nothing is known, nothing is said


def test_float32_is_not_outside_a_range_of_one_value():
    value = np.full((1, 9), 938.27208816)
    generator = Flat(["ecal"], low=value[0], high=value[0])
    assert generator.sample(value.astype("float32"), batch_size=1).shape == (1, 30, 30)


@pytest.mark.parametrize(("low", "high"), [(LOW, None), (LOW[:8], HIGH[:8]), (HIGH, LOW), (None, HIGH)])
def test_ranges_that_are_none(low, high):
    with pytest.raises(ValueError, match=r"Expected low and high of shape .9,., low at most high"):
        Flat(["ecal"], low=low, high=high)


def test_parts_of_two_detectors_do_not_go_together():
    assert one_detector(a="zn", b=get_detector("zn")).name == "zn"
    with pytest.raises(ValueError, match="Expected parts of one detector, received sums of zp, shape of zn"):
        one_detector(sums="zp", shape="zn")


class Dim(Echo):
    """One photon in a first cell if the noise is beyond the particle's vertex y."""

    def generate(self, noise, conditions):
        light = ops.cast(noise[:, :1] > conditions[:, 2:3], "float32")
        return ops.pad(light[:, :, None], ((0, 0), (0, 43), (0, 43)))


def test_draws_over_a_cut_are_limited(monkeypatch):
    """Particle 0 is always lit, 1 in one draw of six, 2 never."""
    generator, conditions, drawn = Dim(), particles(3), []
    conditions[:, 2] = -100.0, 1.0, 100.0
    made = generator.made_of
    monkeypatch.setattr(generator, "made_of", lambda inputs: drawn.append(inputs["conditions"]) or made(inputs))
    with pytest.warns(UserWarning, match="1 of 3 particles stay below .'zn': 1. photons"):
        response = generator.sample(conditions, seed=1, at_least=1)
    assert response.sum(axis=(1, 2)).tolist() == [1, 1, 0]
    assert len(np.concatenate(drawn)) < 6000  # 512 draws of the last particle, whole blocks counted
    assert np.array_equal(generator.sample(conditions[:2], seed=1, at_least=1).sum(axis=(1, 2)), [1, 1])


def test_a_cut_of_one_of_two_detectors_is_reached_in_that_one():
    class Two(Dim):
        """ZP always has light."""

        def __init__(self):
            super().__init__()
            self.detectors = [get_detector("zn"), get_detector("zp")]

        def generate(self, noise, conditions):
            return super().generate(noise, conditions), ops.ones((ops.shape(noise)[0], *self.detectors[1].shape))

    conditions = particles(40)
    conditions[:, 2] = 1.0
    free, cut, either = (Two().sample(conditions, seed=1, at_least=n) for n in (0, {"zn": 1}, 1))
    assert free["zn"].sum() < 20 and (cut["zn"].sum(axis=(1, 2)) == 1).all()
    assert np.array_equal(either["zn"], free["zn"])  # ZP's light is enough


@pytest.mark.parametrize("cut", [-1, np.nan, np.inf, "1", True, {"zp": 1}, {"zn": -1}])
def test_cuts_that_are_none(flat, cut):
    with pytest.raises(ValueError, match="at_least: expected photons of at least 0 for ecal, received"):
        flat.sample(particles(2), at_least=cut)


def test_threads_get_what_one_would(flat):
    """On JAX concurrent calls of one Keras model lose its state."""
    conditions = [particles(3) for _ in range(40)]
    alone = [flat.sample(rows, seed=seed, batch_size=4) for seed, rows in enumerate(conditions)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(flat.sample, rows, seed, 4) for seed, rows in enumerate(conditions)]
    assert all(np.array_equal(job.result(), one) for job, one in zip(jobs, alone, strict=True))
