import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from zdckeras import backend
from zdckeras.data.detectors import channel_sums
from zdckeras.layers.photon_drawing import (
    QUANTUM,
    CellNoise,
    PhotonDraw,
    log_whole,
    normal_quantile,
    round_up_or_down,
    straight_through,
    uniform_of_normal,
)
from zdckeras.layers.spots import Light

numpy = ops.convert_to_numpy
grad = backend.steps().grad
CELLS = 900


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def test_straight_through_has_the_numbers_of_one_and_the_gradient_of_the_other():
    x = tensor([0.3, 1.7, 1e6 + 0.5])
    assert numpy(straight_through(x, ops.floor(x)))[:2].tolist() == [0.0, 1.0]
    assert numpy(grad(lambda x: straight_through(x**2, ops.floor(x)), x))[:2] == pytest.approx([0.6, 3.4])


def test_rounding_keeps_the_mean():
    values = np.array([0.0, 0.2, 1.0, 2.75], "float32")
    uniform = ((np.arange(1000) + 0.5) / 1000).astype("float32")[:, None]
    whole = numpy(round_up_or_down(tensor(values), tensor(np.broadcast_to(uniform, (1000, 4)))))
    assert np.array_equal(whole, np.rint(whole)) and (np.abs(whole - values) < 1.0).all()
    np.testing.assert_allclose(whole.mean(axis=0), values, atol=1e-6)
    assert numpy(grad(lambda v: round_up_or_down(v, tensor([0.5] * 4)), tensor(values))).tolist() == [1.0] * 4


def test_normal_quantiles_and_back():
    u = np.linspace(1e-4, 1 - 1e-4, 999, dtype="float32")
    np.testing.assert_allclose(numpy(normal_quantile(u)), stats.norm.ppf(u), atol=6e-4)
    z = np.linspace(-4, 4, 101, dtype="float32")
    np.testing.assert_allclose(numpy(uniform_of_normal(z)), stats.norm.cdf(z), atol=1e-6)


def test_cell_noise_is_uniform_and_independent_in_pairs():
    """Kolmogorov-Smirnov in each cell, and the first two circular moments of sums and differences of pairs."""
    rows, cells = 4000, 40
    u = numpy(CellNoise(cells, 10)(np.random.default_rng(0).standard_normal((rows, 10)).astype("float32")))
    assert u.shape == (rows, cells) and 0.0 < u.min() and u.max() < 1.0
    p = [stats.kstest(u[:, j], "uniform").pvalue for j in range(cells)]
    assert min(p) > 0.01 / cells and stats.kstest(p, "uniform").pvalue > 1e-3
    for order in ((1, 1), (1, 2), (2, 1)):
        a, b = (np.exp(2j * np.pi * k * u) for k in order)
        together, apart = (np.abs(a.T @ other / rows) for other in (b, b.conj()))
        off = ~np.eye(cells, dtype=bool)
        assert max(together[off].max(), apart[off].max()) < 5.0 / np.sqrt(rows)


def test_cell_noise_is_the_exact_sum_of_turns():
    """Turns add up without rounding: the numbers of exact rational arithmetic, so the same on every backend."""
    layer, noise = CellNoise(50, 10, seed=3), np.random.default_rng(1).standard_normal((20, 10)).astype("float32")
    turns = np.round(1024.0 * noise.astype("float64")) / 1024.0 @ layer.directions.astype("float64")
    expected = np.clip(turns - np.floor(turns), 1e-4, 1 - 1e-4).astype("float32")
    assert np.array_equal(numpy(layer(noise)), expected)


def test_cell_noise_depends_on_seed_only():
    noise = np.ones((1, 10), "float32") * 0.3
    first = numpy(CellNoise(20, 10, seed=1)(noise))
    again = CellNoise.from_config(CellNoise(20, 10, seed=1).get_config())
    assert np.array_equal(first, numpy(again(noise)))
    assert not np.array_equal(first, numpy(CellNoise(20, 10, seed=2)(noise)))


@pytest.fixture(scope="module")
def spread():
    """Weights, whole sums and uniform numbers of 32 draws."""
    rng = np.random.default_rng(2)
    sums = rng.poisson(rng.choice([0.0, 3.0, 200.0], (32, 5))).astype("float32")
    return rng.exponential(size=(32, CELLS)).astype("float32") ** 3, sums, rng.random((32, 1)).astype("float32")


@pytest.mark.parametrize("convention", ["papers", "proton-paper", "o2"])
def test_drawn_photons_are_whole_with_exact_channel_sums(spread, convention):
    photons = numpy(PhotonDraw("ecal", convention)(*map(tensor, spread)))
    assert photons.shape == (32, 30, 30)
    assert photons.min() >= 0 and np.array_equal(photons, np.rint(photons))
    assert np.array_equal(channel_sums(photons, convention), spread[1])


def light_of(weights, sums, draw):
    """Light S_k w_j / W_k of each cell, in double precision."""
    masks = numpy(draw.masks).astype("float64")
    weights = weights.astype("float64") + 1e-12
    return weights * ((sums / (weights @ masks.T)) @ masks)


def test_drawn_photons_stay_within_one_of_the_light(spread):
    draw = PhotonDraw("ecal")
    photons = numpy(draw(*map(tensor, spread))).reshape(-1, CELLS)
    assert np.abs(photons - light_of(spread[0], spread[1], draw)).max() < 1.0 + 0.2


def test_mean_over_uniform_numbers_is_the_light(spread):
    """All 4096 values of the uniform number, one draw each."""
    draw, steps = PhotonDraw("ecal"), round(1 / QUANTUM)
    weights, sums = (np.repeat(x[:1], steps, axis=0) for x in (spread[0], np.array([[3.0, 0.0, 20.0, 7.0, 150.0]])))
    uniform = (np.arange(steps) / steps).astype("float32")[:, None]
    mean = numpy(draw(*map(tensor, (weights, sums, uniform)))).mean(axis=0, dtype="float64").reshape(CELLS)
    expected = light_of(weights[:1], sums[:1], draw)[0]
    last = numpy(draw.last).any(axis=0)  # these take up the rounding of a whole channel
    np.testing.assert_allclose(mean[~last], expected[~last], atol=0.6 * QUANTUM)
    np.testing.assert_allclose(mean[last], expected[last], atol=0.5 * QUANTUM * 30)


def test_gradient_of_a_draw_is_that_of_its_light(spread):
    """d sum_j r_j n_j / d S_k = sum_{j in k} r_j w_j / W_k."""
    draw, r = PhotonDraw("ecal"), np.random.default_rng(3).normal(size=(30, 30)).astype("float32")
    weights, sums, uniform = map(tensor, spread)
    found = numpy(grad(lambda s: ops.sum(draw(weights, s, uniform) * tensor(r), axis=(1, 2)), sums))
    masks, w = numpy(draw.masks), spread[0]
    np.testing.assert_allclose(found, (w * r.reshape(-1)) @ masks.T / (w @ masks.T), rtol=1e-3, atol=1e-4)


def test_an_empty_channel_stays_empty_and_dark_cells_can_be_filled():
    draw = PhotonDraw("ecal")
    photons = numpy(draw(np.zeros((1, CELLS), "float32"), tensor([[0.0, 9.0, 0.0, 0.0, 0.0]]), tensor([[0.3]])))
    assert channel_sums(photons).tolist() == [[0.0, 9.0, 0.0, 0.0, 0.0]] and photons.max() == 1.0


@pytest.fixture(scope="module")
def light():
    layer = Light("ecal", hidden=6, latent=4, spots=3, seed=1)
    rng = np.random.default_rng(4)
    layer.spots.read.kernel.assign(0.3 * rng.normal(size=layer.spots.read.kernel.shape))
    return layer


@pytest.fixture(scope="module")
def inputs(showers):
    rng = np.random.default_rng(5)
    shapes = {"hidden": (8, 6), "texture": (8, 30, 30)}
    hidden, texture = (rng.normal(size=shape).astype("float32") for shape in shapes.values())
    sums = rng.integers(0, 60, (8, 5)).astype("float32")
    return hidden, texture, sums, rng.normal(size=(8, 4)).astype("float32"), showers.particles[:8].astype("float32")


def test_light_gives_whole_photons_with_the_sums(light, inputs, evaluate):
    photons = evaluate(light, *inputs)
    assert photons.shape == (8, 30, 30) and photons.min() >= 0 and np.array_equal(photons, np.rint(photons))
    assert np.array_equal(channel_sums(photons), inputs[2])


def test_light_follows_noise_impact_and_texture(light, inputs, evaluate):
    hidden, texture, sums, noise, conditions = inputs
    photons = evaluate(light, *inputs)
    assert (evaluate(light, hidden, texture, sums, -noise, conditions) != photons).any(axis=(1, 2)).all()
    assert (evaluate(light, hidden, -texture, sums, noise, conditions) != photons).any()
    moved = conditions.copy()
    moved[:, 1] += 10.0  # cm along x: five cells
    x = np.arange(30.0)[:, None]
    centre = lambda n: (n * x).sum() / n.sum()  # noqa: E731
    assert 1.0 < centre(evaluate(light, hidden, texture, sums, noise, moved)) - centre(photons) < 5.5


def test_log_whole():
    assert numpy(log_whole(tensor([0.0, 19.0]))) == pytest.approx([-np.log(20.0), 0.0], abs=1e-6)


@pytest.mark.parametrize("layer", [PhotonDraw("zp", "o2", seed=3), Light("ecal", 6, 4, 3, seed=1)])
def test_configuration_comes_back(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(("latent", "rows"), [(10, 2000), (100, 200)])
def test_as_many_turns_as_are_promised_are_exact(latent, rows):
    layer = CellNoise(50, latent, seed=3)
    noise = np.random.default_rng(1).standard_normal((rows, latent)).astype("float32")
    turns = np.round(1024.0 * noise.astype("float64")) / 1024.0 @ layer.directions.astype("float64")
    exact = np.abs(turns) < 128.0  # partial sums may be larger
    assert exact.mean() > 0.98
    expected = np.clip(turns - np.floor(turns), 1e-4, 1 - 1e-4).astype("float32")
    assert np.array_equal(numpy(layer(noise))[exact], expected[exact])


@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_bright_responses_keep_their_sums(detector):
    """Up to 4095 photons, as `PhotonDraw` says."""
    draw, rng = PhotonDraw(detector), np.random.default_rng(4)
    sums = rng.multinomial(4095, rng.dirichlet(np.ones(5), 64)).astype("float32")
    weights = rng.exponential(size=(64, draw.detector.cells)).astype("float32") ** 3
    photons = numpy(draw(tensor(weights), tensor(sums), tensor(rng.random((64, 1)).astype("float32"))))
    assert np.array_equal(channel_sums(photons), sums)


def test_light_that_is_rounded_up_passes_no_sum():
    """Cells but the last of a channel round up, and the uniform number is at its edge: still no photon more."""
    draw, sums = PhotonDraw("ecal"), np.array([[7.0, 0.0, 1.0, 300.0, 90.0]], "float32")
    last = numpy(draw.last).any(axis=0)
    weights = np.where(last, 0.0, 1.0 + 0.3 * np.random.default_rng(6).random((200, CELLS))).astype("float32")
    uniform = np.full((200, 1), 1.0 - 1e-4, "float32")
    photons = numpy(draw(tensor(weights), tensor(np.repeat(sums, 200, axis=0)), tensor(uniform)))
    assert photons.min() >= 0.0 and (channel_sums(photons) == sums).all()


def test_uniform_numbers_next_to_one_add_no_photon():
    draw = PhotonDraw("ecal")
    weights, uniform = np.ones((3, CELLS), "float32"), np.array([[1.0 - 1e-4], [1.0 - 2.0**-13], [1.0 - 1e-7]])
    for sums in ([[0.0] * 5] * 3, [[2.0, 0.0, 5.0, 1.0, 3.0]] * 3):
        assert channel_sums(numpy(draw(*map(tensor, (weights, sums, uniform))))).tolist() == sums
