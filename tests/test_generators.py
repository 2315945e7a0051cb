import time

import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import conditions_of
from zdckeras.data.showers import concatenate
from zdckeras.generators import Sampler, milliseconds

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
    conditions[:, 0] = np.arange(rows)
    return conditions


@pytest.fixture(scope="module")
def flat():
    return Flat(["ecal"])


def test_blocks_draw_their_noise_from_seed_and_block(flat):
    counts = flat.sample(particles(5), seed=7, batch_size=2)
    assert counts.shape == (5, 30, 30) and counts.dtype == np.float32
    noise = np.concatenate([np.random.default_rng([7, b]).standard_normal((2, WIDTH), "float32") for b in range(3)])
    expected = np.arange(5) + 10 * np.rint(np.abs(noise[:5, 0]))
    assert np.array_equal(counts, np.broadcast_to(expected[:, None, None], counts.shape))


def test_seeds(flat):
    first = flat.sample(particles(6), seed=3, batch_size=4)
    assert np.array_equal(first, flat.sample(particles(6), seed=3, batch_size=4))
    assert np.array_equal(first, flat.sample(particles(6), seed=[3], batch_size=4))
    assert np.array_equal(first[:4], flat.sample(particles(4), seed=3, batch_size=4))
    assert not np.array_equal(first, flat.sample(particles(6), seed=[3, 1], batch_size=4))


def test_call_is_generate(flat):
    inputs = {"conditions": particles(2).astype("float32"), "noise": np.zeros((2, WIDTH), "float32")}
    assert np.array_equal(flat.predict_on_batch(inputs)[:, 0, 0], [0.0, 1.0])


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
    pdg = np.array([22, 2112, 22, 22, 2112])
    conditions = conditions_of(pdg, np.full((5, 3), 2.0))
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
])
def test_bad_conditions_are_refused(flat, conditions, message):
    with pytest.raises(ValueError, match=message):
        flat.sample(conditions)


def test_generate_is_for_subclasses():
    with pytest.raises(NotImplementedError):
        Sampler().generate(None, None)


class Clock:
    """Takes so many milliseconds for its first call and for later ones, and keeps account of what it was asked."""

    noise_width = WIDTH

    def __init__(self, first, later, log):
        self.first, self.later, self.log = first, later, log

    def predict_on_batch(self, x):
        time.sleep(1e-3 * (self.later if (self.later,) in [call[:1] for call in self.log] else self.first))
        self.log.append((self.later, x["conditions"].shape, x["noise"].shape))


def test_milliseconds_are_of_groups_that_take_turns():
    log = []
    one, other = Clock(2.0, 2.0, log), Clock(30.0, 30.0, log)
    found = milliseconds({"one": [one], "both": [one, other]}, particles(5), batch=3, repeats=4)
    assert 2.0 <= found["one"] < found["both"] and found["both"] >= 32.0
    assert [later for later, *_ in log] == 5 * [2.0, 2.0, 30.0]
    assert {(rows, noise) for _, rows, noise in log} == {((3, 9), (3, WIDTH))}


def test_milliseconds_leave_out_the_first_call_which_compiles():
    assert milliseconds({"a": [Clock(300.0, 1.0, [])]}, particles(2), batch=2, repeats=1)["a"] < 300.0


def test_milliseconds_of_a_generator_that_computes(flat):
    found = milliseconds({"flat": [flat]}, particles(2), batch=2, repeats=3)
    assert set(found) == {"flat"} and 0.0 < found["flat"] < 1e4
