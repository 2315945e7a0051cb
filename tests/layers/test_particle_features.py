import keras
import numpy as np
import pytest
from keras import ops

from zdckeras.data.detectors import DETECTORS
from zdckeras.data.impact import expected_impact
from zdckeras.data.particles import conditions_of
from zdckeras.layers.particle_features import ParticleFeatures


def particles(rows=64, seed=0):
    rng = np.random.default_rng(seed)
    pdg = rng.choice([22, 2112, 2212, 3222, 310, -211], rows)
    pz = rng.choice([-1.0, 1.0], rows) * rng.uniform(50.0, 2700.0, rows)
    momentum = np.column_stack([rng.normal(0.0, 2e-4, (rows, 2)) * np.abs(pz)[:, None], pz])
    vertex = rng.normal(size=(rows, 3)) * [1e-3, 1e-3, 5.0]
    return conditions_of(pdg, momentum, vertex)


def features(detector="zn", frequencies=3):
    conditions = particles()
    return ParticleFeatures(detector, conditions.mean(axis=0), conditions.std(axis=0), frequencies)


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_impact_is_cut(detector):
    place, conditions = DETECTORS[detector], particles()
    half = np.array(place.half_size)
    expected = expected_impact(conditions, detector) - [place.centre_x, 0.0]
    found = ops.convert_to_numpy(ParticleFeatures.impact(place, ops.convert_to_tensor(conditions.astype("float32"))))
    np.testing.assert_allclose(found, np.clip(expected, -1.5 * half, 1.5 * half), rtol=1e-5, atol=2e-3)
    assert (np.abs(found) < half).any()


@pytest.mark.parametrize("frequencies", [1, 3])
@pytest.mark.parametrize("detector", ["zn", "zp"])
def test_shape_and_scaled_conditions(detector, frequencies):
    conditions, layer = particles(), features(detector, frequencies)
    found = ops.convert_to_numpy(layer(conditions.astype("float32")))
    assert found.shape == (len(conditions), layer.width) == layer.compute_output_shape(conditions.shape)
    scaled = (conditions - conditions.mean(axis=0)) / conditions.std(axis=0)
    np.testing.assert_allclose(found[:, :9], scaled, atol=2e-3)
    assert np.isfinite(found).all()


def test_species_and_cells_are_told_apart():
    """Lambda and Sigma+ differ by 74 MeV in mass; two impacts half a cell apart are different particles."""
    pz = np.array([[0.0, 0.0, 1000.0]])
    one, other = (ops.convert_to_numpy(features()(conditions_of(np.array([p]), pz).astype("float32")))
                  for p in (3122, 3212))
    assert np.abs(one - other).max() > 0.1
    shifted = pz + [[0.5 * 0.16 / 11260.6 * 1000.0, 0.0, 0.0]]
    here, there = (ops.convert_to_numpy(features()(conditions_of(np.array([22]), p).astype("float32")))
                   for p in (pz, shifted))
    assert np.abs(here - there).max() > 0.5


def test_particles_far_outside_stay_finite():
    conditions = np.array([[1e-6, 0, 0, 0, 1e6, -1e6, 1e-9, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0]], "float32")
    assert np.isfinite(ops.convert_to_numpy(features()(conditions))).all()


def test_survives_its_config():
    layer, conditions = features("zp", 2), particles().astype("float32")
    again = ParticleFeatures.from_config(layer.get_config())
    assert np.array_equal(ops.convert_to_numpy(again(conditions)), ops.convert_to_numpy(layer(conditions)))
    assert keras.saving.get_registered_name(ParticleFeatures) == "zdckeras>ParticleFeatures"


@pytest.mark.parametrize("wrong", [np.ones(8), np.ones((9, 1))])
def test_scaler_of_another_size_is_refused(wrong):
    with pytest.raises(ValueError, match=r"Expected mean and scale of .*received .*\(9,\)"):
        ParticleFeatures("zn", wrong, np.ones(9))
