import keras
import numpy as np
import pytest

from zdckeras.data.detectors import channel_sums
from zdckeras.flow_distill.generator import ShowerGenerator

ROWS = 4


@pytest.fixture(scope="module")
def noise(generator):
    return np.random.default_rng(0).standard_normal((ROWS, generator.noise_width)).astype("float32")


@pytest.fixture(scope="module")
def inputs(noise, showers):
    return {"conditions": showers.particles[:ROWS].astype("float32"), "noise": noise}


@pytest.fixture(scope="module")
def counts(generator, inputs, evaluate):
    return evaluate(generator.generate, inputs["noise"], inputs["conditions"])


def test_counts_are_photons(counts):
    assert counts.shape == (ROWS, 30, 30)
    assert counts.min() >= 0 and np.array_equal(counts, np.rint(counts)) and counts.sum() > 0


def test_channel_sums_are_those_of_the_sum_model(generator, counts, inputs, evaluate):
    sums = evaluate(generator.sums.generate, inputs["noise"][:, :5], inputs["conditions"])
    assert np.array_equal(channel_sums(counts), sums)


def test_photon_number_alone_can_be_imposed(generator, counts, inputs, evaluate):
    other = ShowerGenerator(generator.sums, generator.shape, impose="total")
    total = evaluate(other.generate, inputs["noise"], inputs["conditions"])
    assert np.array_equal(total.sum(axis=(1, 2)), counts.sum(axis=(1, 2)))
    assert not np.array_equal(channel_sums(total), channel_sums(counts))


def test_saved_generator_gives_the_same(generator, counts, inputs, evaluate, tmp_path):
    generator.save(tmp_path / "generator.keras")
    again = keras.saving.load_model(tmp_path / "generator.keras")
    assert (again.impose, again.noise_width, again.detectors) == ("channels", 5 + 30 * 30, generator.detectors)
    assert np.array_equal(evaluate(again.generate, inputs["noise"], inputs["conditions"]), counts)


def test_sample_repeats_and_blocks_are_independent(generator, showers):
    particles = showers.particles[:6]
    first = generator.sample(particles, seed=3, batch_size=ROWS)
    assert first.shape == (6, 30, 30) and np.array_equal(first, np.rint(first)) and first.sum() > 0
    assert np.array_equal(first, generator.sample(particles, seed=3, batch_size=ROWS))
    assert not np.array_equal(first, generator.sample(particles, seed=4, batch_size=ROWS))
    assert np.array_equal(first[:ROWS], generator.sample(particles[:ROWS], seed=3, batch_size=ROWS))
    same = generator.sample(np.repeat(particles[:1], 8, axis=0), seed=3, batch_size=ROWS)
    assert len(np.unique(same, axis=0)) == 8


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (np.ones((3, 8)), r"finite conditions of shape \(N, 9\), received shape \(3, 8\)"),
        (np.ones(9), r"received shape \(9,\)"),
        (np.full((1, 9), np.nan), "9 values that are not finite"),
    ],
)
def test_bad_conditions_are_refused(generator, conditions, message):
    with pytest.raises(ValueError, match=message):
        generator.sample(conditions)


def test_unknown_imposition_is_refused(generator):
    with pytest.raises(ValueError, match="impose='channels' or 'total', received 'none'"):
        ShowerGenerator(generator.sums, generator.shape, impose="none")
