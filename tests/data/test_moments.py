import numpy as np
import pytest
from keras import ops

from zdckeras.data.moments import Moments, cell_places, moment_weights

SHAPE = (7, 5)
MORE = np.random.default_rng(1).normal(size=(2, 35))


def responses(rows=20, seed=0):
    return np.random.default_rng(seed).exponential(2.0, (rows, 35)) ** 3


def as_tensor(flat):
    return ops.convert_to_tensor(flat.astype("float32"))


@pytest.mark.parametrize("flat", [responses(), np.random.default_rng(2).poisson(0.4, (20, 35)) + 0.0])
def test_moments_are_those_of_numpy(flat):
    places = cell_places(SHAPE)
    found = Moments(flat, moment_weights(SHAPE, *MORE))
    np.testing.assert_allclose(found.total[:, 0], flat.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.more, flat @ MORE.T, rtol=1e-9, atol=1e-12)
    for row, values in enumerate(flat):
        np.testing.assert_allclose(found.centre[row], np.average(places, axis=1, weights=values), atol=1e-12)
        matrix = np.cov(places, aweights=values, ddof=0)
        assert found.variance()[row, 0] == pytest.approx(np.trace(matrix), abs=1e-10)
        for angle in (0.0, 0.7, 2.0):
            u = np.array([np.cos(angle), np.sin(angle)])
            assert found.along(*u)[row, 0] == pytest.approx(u @ matrix @ u, abs=1e-10)
            assert found.along(-u[1], u[0])[row, 0] + found.along(*u)[row, 0] == pytest.approx(np.trace(matrix))


def test_a_direction_for_every_response():
    flat, angle = responses(), np.random.default_rng(3).uniform(0, np.pi, (20, 1))
    found = Moments(flat, moment_weights(SHAPE))
    together = found.along(np.cos(angle), np.sin(angle))
    alone = [found.along(np.cos(a), np.sin(a))[row, 0] for row, a in enumerate(angle[:, 0])]
    np.testing.assert_allclose(together[:, 0], alone, rtol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"added": 1e-3}, {"least": 30.0}])
def test_tensors_give_what_arrays_give(settings):
    flat, (ux, uy) = responses(), np.random.default_rng(4).normal(size=(2, 20, 1)).astype("float32")
    known = Moments(flat, moment_weights(SHAPE, *MORE), **settings)
    found = Moments(as_tensor(flat), moment_weights(SHAPE, *MORE, dtype="float32"), **settings, xp=ops)
    for one, other in [(found.total, known.total), (found.some, known.some), (found.centre, known.centre),
                       (found.more, known.more), (found.variance(), known.variance()),
                       (found.along(as_tensor(ux), as_tensor(uy)), known.along(ux, uy))]:
        assert ops.is_tensor(one)
        np.testing.assert_allclose(ops.convert_to_numpy(one), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("xp, tensor, dtype", [(np, np.asarray, "float64"), (ops, as_tensor, "float32")])
@pytest.mark.parametrize("settings", [{}, {"added": 1e-3}, {"least": 1e-6}])
def test_one_cell_and_no_light(settings, xp, tensor, dtype):
    flat = np.zeros((2, 35))
    flat[0, 3 * 5 + 4] = 4096.0
    found = Moments(tensor(flat), moment_weights(SHAPE, dtype=dtype), **settings, xp=xp)
    np.testing.assert_allclose(np.asarray(found.centre), [[0.0, 2.0], [0.0, 0.0]], atol=1e-5)
    for second in (found.variance(), found.along(0.6, 0.8)):
        np.testing.assert_allclose(np.asarray(second), [[0.0], [0.0]], atol=1e-5)


def test_divisors():
    flat = np.array([[0.25] + 34 * [0.0], 35 * [0.0]])
    for settings, some in (({}, [0.25, 1e-12]), ({"added": 0.5}, [0.75, 0.5]), ({"least": 1.0}, [1.0, 1.0])):
        assert Moments(flat, moment_weights(SHAPE), **settings).some[:, 0].tolist() == some
