import os

import numpy as np
import pytest
from keras import ops

from zdckeras import backend
from zdckeras.vae.sinkhorn import sinkhorn_divergence

numpy = ops.convert_to_numpy


@pytest.fixture(scope="module")
def pot():
    """POT with NumPy only: it imports every framework that it finds."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TENSORFLOW", "JAX", "PYTORCH", "CUPY"):
            if f"POT_BACKEND_DISABLE_{name}" not in os.environ:
                patch.setenv(f"POT_BACKEND_DISABLE_{name}", "1")
        yield pytest.importorskip("ot")


def batches(n=12, m=9, features=3, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, features)).astype("float32"),
            (0.5 + 1.5 * rng.normal(size=(m, features))).astype("float32"))


def pot_divergence(pot, x, y, epsilon, p):
    """From POT's plans, in float64."""
    def transport(a, b):
        cost = np.linalg.norm(a[:, None] - b[None], axis=-1).astype(float) ** p
        n, m = cost.shape
        plan = pot.sinkhorn(np.full(n, 1 / n), np.full(m, 1 / m), cost, epsilon, method="sinkhorn_log",
                            numItermax=1000, stopThr=1e-10, warn=False)
        return (plan * cost).sum() + epsilon * (plan * np.log(np.maximum(n * m * plan, 1e-300))).sum()

    return transport(x, y) - 0.5 * (transport(x, x) + transport(y, y))


@pytest.mark.parametrize(("blur", "p", "iterations"), [(1.0, 2, 20), (0.5, 2, 50), (0.5, 1, 30)])
def test_equals_pot(evaluate, pot, blur, p, iterations):
    x, y = batches()
    found = evaluate(lambda x, y: sinkhorn_divergence(x, y, blur, iterations, p), x, y)
    assert float(found) == pytest.approx(pot_divergence(pot, x, y, blur**p, p), rel=1e-3)


def test_small_blur_gives_the_squared_distance_of_the_best_pairing(evaluate, pot):
    x, y = batches(10, 10)
    cost = ((x[:, None] - y[None]) ** 2).sum(axis=-1).astype(float)
    exact = pot.emd2(np.full(10, 0.1), np.full(10, 0.1), cost)
    assert float(evaluate(lambda x, y: sinkhorn_divergence(x, y, 0.1, 50), x, y)) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("p", [1, 2])
def test_gradient_is_that_of_finite_differences(evaluate, p):
    """Along a random direction, of both batches at once."""
    points, direction = np.concatenate(batches(5, 4, 2)), np.random.default_rng(1).normal(size=(9, 2)).astype("float32")

    def value(z):
        return sinkhorn_divergence(z[:5], z[5:], 1.0, 20, p)

    def compared(z):
        along = ops.convert_to_tensor(direction)
        return (ops.sum(backend.steps().grad(value, z) * along), value(z + 0.02 * along),
                value(z - 0.02 * along))

    slope, up, down = map(float, evaluate(compared, points))
    assert slope == pytest.approx((up - down) / 0.04, rel=0.01) and abs(slope) > 0.1


def test_equal_batches_are_at_no_distance(evaluate):
    def compared(x, y):
        return sinkhorn_divergence(x, x, 0.1, 10), backend.steps().grad(lambda z: sinkhorn_divergence(z, y, 1.0, 60), x)

    same, gradient = evaluate(compared, *[batches(8)[0]] * 2)
    assert abs(float(same)) < 1e-5
    assert np.abs(gradient).max() < 1e-3


def test_single_points_are_at_their_distance():
    x, y = np.zeros((1, 4), "float32"), np.full((1, 4), 1.5, "float32")
    assert float(sinkhorn_divergence(x, y, 0.1)) == pytest.approx(9.0, rel=1e-5)
    assert float(sinkhorn_divergence(x, y, 0.1, p=1)) == pytest.approx(3.0, rel=1e-4)


def test_relative_blur_and_far_batches_keep_the_scale(evaluate):
    """In units of the costs, larger features give a divergence larger by the square, wherever they lie."""
    def compared(x, y):
        return [sinkhorn_divergence(f * x + s, f * y + s, 0.3, 20, relative=True)
                for f, s in ((1.0, 0.0), (10.0, 3000.0))]

    first, larger = map(float, evaluate(compared, *batches()))
    assert larger == pytest.approx(100 * first, rel=1e-2)


@pytest.mark.parametrize("wrong", [dict(p=3), dict(blur=0.0), dict(iterations=0)])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected p of 1 or 2, a blur above 0 .*received"):
        sinkhorn_divergence(*batches(), **wrong)


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"one width, received shapes \(12, 3\) and \(9, 2\)"):
        sinkhorn_divergence(batches()[0], batches(features=2)[1])
