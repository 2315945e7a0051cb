import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from zdckeras.data.detectors import get_detector
from zdckeras.data.particles import conditions_of
from zdckeras.wgan_gp import networks as energy
from zdckeras.wgan_gp.networks import EnergyNetwork, gamma_like

numpy = ops.convert_to_numpy
SCALER = {"mean": [0.0] * 9, "scale": [100.0, 1.0, 1.0, 1.0, 10.0, 10.0, 100.0, 1.0, 1.0]}
SIZES = {"latent": 20, "hidden": 8, "channels": (4, 3, 2), "spots": 3}
ROWS = 8


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def electrons(energies, slope=(0.0, 0.0)):
    energies = np.broadcast_to(energies, ROWS)
    pz = energies / np.sqrt(1.0 + slope[0] ** 2 + slope[1] ** 2)
    return conditions_of(np.full(ROWS, 11), np.column_stack([slope[0] * pz, slope[1] * pz, pz])).astype("float32")


@pytest.mark.parametrize(("lumps", "mean", "deviation"), [(0.5, 0.05, 0.08), (1.0, 0.02, 0.05), (4.0, 2e-3, 0.01),
                                                          (100.0, 1e-4, 1e-3)])
def test_gamma_like_has_the_moments_of_a_gamma_distribution(lumps, mean, deviation):
    """Against scipy.stats.gamma of shape k = m / q and scale q, at the quantiles of the normal distribution."""
    p = (np.arange(20_000) + 0.5) / 20_000
    found = numpy(gamma_like(tensor(np.full((1, 20_000), 3.0 * lumps)), tensor([[3.0]]),
                             tensor(stats.norm.ppf(p)[None])))[0].astype("float64")
    exact = stats.gamma(lumps, scale=3.0)
    assert found.mean() == pytest.approx(exact.mean(), rel=mean)
    assert found.std() == pytest.approx(exact.std(), rel=deviation)
    middle = (p > 0.1) & (p < 0.99)
    np.testing.assert_allclose(found[middle], exact.ppf(p[middle]), atol=0.08 * exact.std())
    assert (np.diff(found) >= 0).all()


def test_gamma_like_zeros():
    """Cells that expect nothing, or far less than a lump, are exactly empty; energies scale with their unit."""
    normal = tensor(np.random.default_rng(0).normal(size=(2, 500)))
    assert not numpy(gamma_like(tensor(np.zeros((2, 500))), tensor([[1.0], [5.0]]), normal)).any()
    few, many = (numpy(gamma_like(tensor(np.full((2, 500), m)), tensor([[1.0], [1.0]]), normal)) for m in (0.02, 50.0))
    assert 0.9 < (few == 0.0).mean() < 1.0 and many.min() > 0.0 and min(few.min(), many.min()) >= 0.0
    scaled = numpy(gamma_like(tensor(np.full((2, 500), 200.0)), tensor([[4.0], [4.0]]), normal))
    np.testing.assert_allclose(scaled, 4.0 * many, rtol=1e-4)


def test_a_lump_for_every_cell():
    """A granularity (B, D) is that of each cell: the relative spread is sqrt(q / m)."""
    normal = np.random.default_rng(1).normal(size=(5000, 2))
    found = numpy(gamma_like(tensor(np.full((5000, 2), 100.0)), tensor([[1.0, 9.0]]), tensor(normal)))
    np.testing.assert_allclose(found.std(axis=0), [10.0, 30.0], rtol=0.05)


@pytest.fixture(scope="module")
def network():
    return EnergyNetwork("ecal", SCALER, fraction=0.2, seed=3, **SIZES)


@pytest.fixture(scope="module")
def seen(network, evaluate):
    """One call for all: particles, other noise, moved by (4, -3) cells, ten times the energy, as they were."""
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, ROWS, 20))
    straight, moved = electrons(30.0), electrons(30.0, (8.0 / 1250.0, -6.0 / 1250.0))
    noise = np.concatenate([first, second, first, first, first])
    conditions = np.concatenate([straight, straight, moved, electrons(300.0), straight])
    return noise, conditions, evaluate(network, noise, conditions)


@pytest.mark.compiles_long
def test_energies_are_finite_and_not_negative(seen):
    *_, responses = seen
    assert responses.shape == (5 * ROWS, 30, 30) and responses.dtype == np.float32
    assert np.isfinite(responses).all() and responses.min() == 0.0 < responses.max()


@pytest.mark.compiles_long
def test_responses_follow_the_noise(seen):
    *_, responses = seen
    first, second, *_, again = responses.reshape(5, ROWS, 30, 30)
    np.testing.assert_allclose(first, again, rtol=1e-3, atol=1e-2)
    assert (np.abs(first - second).max(axis=(1, 2)) > 1.0).all()
    assert (np.abs(first[1:] - first[:1]).max(axis=(1, 2)) > 1.0).all()


@pytest.mark.compiles_long
def test_responses_follow_the_impact(seen):
    *_, responses = seen
    first, _, moved, *_ = responses.reshape(5, ROWS, 30, 30)
    place = np.arange(30.0)
    centres = [[(r.sum(axis=(0, other)) * place).sum() / r.sum() for other in (2, 1)] for r in (first, moved)]
    shift = np.subtract(centres[1], centres[0])
    assert 1.0 < shift[0] < 7.0 and -6.0 < shift[1] < -0.7


@pytest.mark.compiles_long
def test_responses_follow_the_energy(seen):
    """S = E f exp(s + ...), both small before training."""
    _, conditions, responses = seen
    total = responses.sum(axis=(1, 2), dtype="float64").reshape(5, ROWS)
    ratio = (total / (200.0 * conditions[:, 0].reshape(5, ROWS))).mean(axis=1)
    assert ((ratio > 0.4) & (ratio < 2.5)).all()


@pytest.mark.compiles_long
def test_sum_without_fluctuations_is_the_mean_response(network, evaluate):
    """s = 0 and z_0 = 0: the sum is E f, whatever cells make of it."""
    before = network.spots.read.get_weights()
    network.spots.read.set_weights([np.zeros_like(w) for w in before])
    conditions = electrons(np.geomspace(20.0, 100.0, ROWS))
    noise = np.random.default_rng(3).normal(size=(ROWS, 20))
    noise[:, 0] = 0.0
    total = evaluate(network, noise, conditions).sum(axis=(1, 2))
    network.spots.read.set_weights(before)
    np.testing.assert_allclose(total, 200.0 * conditions[:, 0], rtol=0.05)


@pytest.mark.compiles_long
@pytest.mark.parametrize("detector", ["ecal", "focalh"])
def test_operations_are_one_for_each_use_of_a_weight(detector):
    network = EnergyNetwork(detector, SCALER, **SIZES)
    cells, grid = get_detector(detector).cells, np.prod(network.texture.grid)
    dense = sum(np.prod(w.shape) for w in network.weights if len(w.shape) == 2)
    kernels = [np.prod(w.shape) for w in network.weights if len(w.shape) == 4]
    assert network.texture.grid == {"ecal": (8, 8), "focalh": (9, 9)}[detector] and len(kernels) == 3
    convolutions = sum(kernel * grid * 4**k for k, kernel in enumerate(kernels))
    assert network.operations() == dense + convolutions + cells * (3 + energy.NOISY)


@pytest.mark.compiles_long
def test_the_study_s_grids():
    """256 x 4 x 4, 128 x 8 x 8, 64 x 16 x 16, 32 x 32 x 32 of 512 numbers."""
    network = EnergyNetwork("ecal", SCALER)
    assert network.latent == 512 and network.texture.grid == (4, 4)
    kernels = [tuple(w.shape) for w in network.texture.weights if len(w.shape) == 4]
    assert kernels == [(3, 3, 256, 4 * 128), (3, 3, 128, 4 * 64), (3, 3, 64, 4 * 32), (3, 3, 32, 1)]


@pytest.mark.compiles_long
def test_other_detectors(evaluate):
    network = EnergyNetwork("focalh", SCALER, **SIZES)
    responses = evaluate(network, np.random.default_rng(4).normal(size=(2, 20)), electrons(30.0)[:2])
    assert responses.shape == (2, 36, 36) and responses.min() >= 0.0 < responses.sum()


@pytest.mark.compiles_long
def test_comes_back_from_its_configuration(network, seen, evaluate):
    noise, conditions, responses = seen
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    assert again.get_config() == network.get_config()
    first = again.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, network.get_weights(), strict=True))  # same seed
    again.set_weights([0.5 * w for w in first])
    again.set_weights(network.get_weights())
    np.testing.assert_allclose(evaluate(again, noise, conditions), responses, rtol=1e-4, atol=1e-3)


@pytest.mark.compiles_long
def test_seeds_differ(network):
    other = EnergyNetwork("ecal", SCALER, seed=4, **SIZES)
    kernels = [[w for w in n.get_weights() if w.ndim > 1] for n in (network, other)]
    assert all((a != b).any() for a, b in zip(*kernels, strict=True))


def test_little_noise_is_refused():
    with pytest.raises(ValueError, match="at least 16 numbers of latent noise, received 12"):
        EnergyNetwork("ecal", SCALER, latent=12)


def test_noise_of_cells_has_unit_variance(monkeypatch):
    """logit(u) sqrt(3) / pi of uniform u, in place of a normal number; the spread of energies depends on it."""
    seen = []
    monkeypatch.setattr(energy, "gamma_like", lambda mean, lump, normal: seen.append(normal) or mean)
    network = EnergyNetwork("ecal", SCALER, **SIZES)
    noise = np.random.default_rng(0).standard_normal((100, 20)).astype("float32")
    network(noise, np.repeat(electrons(20.0)[:1], 100, axis=0))
    normal = numpy(seen[0])
    assert normal.shape == (100, 900) and normal.mean() == pytest.approx(0.0, abs=0.02)
    assert normal.var() == pytest.approx(1.0, rel=0.03) and np.abs(normal).max() > 4.0
